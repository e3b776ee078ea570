-- One transaction (audit-log entry) a row. The names of the first columns are those that
-- mod_sec_log_parser.py used, so that queries written for it go on working.
create table if not exists logs (
    id integer primary key,
    REQUEST_METHOD text,
    REQUEST_URI text,
    REMOTE_ADDR text,           -- the TCP peer as logged
    ruleId text,                -- the rule fields are those of one alert, the cause
    Host text,
    msg text,
    data text,
    unique_id text,             -- repeats, is no key
    severity text,              -- EMERGENCY to DEBUG
    maturity integer,
    accuracy integer,
    User_Agent text,
    responce_header integer,    -- the numeric status
    Engine_Mode text,           -- ENABLED, DETECTION_ONLY, DISABLED
    Score integer,              -- total inbound anomaly score
    SQLi integer,
    XSS integer,
    phase integer,
    created_at text,            -- UTC, YYYY-MM-DD HH:MM:SS.ffffff
    entry_hash blob unique,     -- first 16 bytes of BLAKE3 over the entry
    sensor text,                -- host that wrote the entry
    account text,               -- owner of the entry's file
    client_ip text,             -- who sent the request, also behind a trusted proxy
    status_line text,
    intercepted integer,        -- 1 if the engine stopped the transaction
    flags text                  -- ambiguous, truncated, unverified, …, with commas between them
);

create index if not exists logs_created_at on logs (created_at);
create index if not exists logs_remote_addr on logs (REMOTE_ADDR);
create index if not exists logs_rule_id on logs (ruleId);
create index if not exists logs_host on logs (Host);

-- One alert a row.
create table if not exists rule_matches (
    log_id integer not null references logs (id) on delete cascade,
    position integer not null,  -- from 0, in the order of the log
    ruleId text,
    msg text,
    data text,
    severity text,
    file text,
    line integer,
    rev text,
    ver text,
    maturity integer,
    accuracy integer,
    tags text,                  -- JSON array of strings
    phase integer,
    verified integer,           -- 1: listed by part K; 0: cut, or not listed; null: unknown
    detail text,                -- what matched where, or the engine's notice
    primary key (log_id, position)
) without rowid;

create index if not exists rule_matches_rule_id on rule_matches (ruleId);

-- Foreign keys work in SQLite only for connections that ask for it; this works for all. Without
-- it a new entry could get the id of a deleted one, and that one's matches.
create trigger if not exists logs_delete after delete on logs begin
    delete from rule_matches where log_id = old.id;
end;

-- The last batch committed under each journal of a merged log.
create table if not exists modsec_batches (
    journal text primary key,
    batch blob not null,
    committed_at text not null
) without rowid;

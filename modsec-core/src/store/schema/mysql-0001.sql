-- One statement at a time, each with a semicolon at the end of its last line. What a database has
-- already is left out, so these statements also upgrade the table of mod_sec_log_parser.py in
-- place, and finish an upgrade that was interrupted. Consecutive additions to one table are put
-- together into one statement, so that a large table is gone through once.

-- The table of mod_sec_log_parser.py, with room for longer values.
create table logs (
    id bigint not null auto_increment primary key,
    REQUEST_METHOD varchar(32) null,
    REQUEST_URI text null,
    REMOTE_ADDR varchar(64) null,
    ruleId varchar(64) null,
    Host varchar(255) null,
    msg text null,
    data text null,
    unique_id varchar(128) null,
    severity varchar(20) null,
    maturity int null,
    accuracy int null,
    User_Agent text null,
    responce_header int null,
    Engine_Mode varchar(20) null,
    Score int null,
    SQLi int null,
    XSS int null,
    phase int null,
    created_at timestamp(6) null default null
) engine=InnoDB default charset=utf8mb4;

-- First 16 bytes of BLAKE3 over the entry. Rows of the old script have none.
alter table logs add column entry_hash binary(16) null;
-- Host that wrote the entry.
alter table logs add column sensor varchar(255) character set utf8mb4 null;
-- Owner of the entry's file.
alter table logs add column account varchar(64) character set utf8mb4 null;
-- Who sent the request, also behind a trusted proxy.
alter table logs add column client_ip varchar(45) character set utf8mb4 null;
alter table logs add column status_line varchar(255) character set utf8mb4 null;
-- 1 if the engine stopped the transaction.
alter table logs add column intercepted tinyint null;
-- ambiguous, truncated, unverified, …, with commas between them.
alter table logs add column flags varchar(255) character set utf8mb4 null;
alter table logs add unique key logs_entry_hash (entry_hash);
alter table logs add key logs_created_at (created_at);
alter table logs add key logs_remote_addr (REMOTE_ADDR);
alter table logs add key logs_rule_id (ruleId);
alter table logs add key logs_host (Host(64));

-- One alert a row. Goes with its row of logs. The type of log_id becomes that of logs.id.
create table rule_matches (
    log_id bigint not null,
    position int not null,
    ruleId varchar(64) null,
    msg text null,
    data text null,
    severity varchar(20) null,
    file varchar(512) null,
    line int unsigned null,
    rev varchar(64) null,
    ver varchar(64) null,
    maturity int null,
    accuracy int null,
    tags text null,
    phase int null,
    verified tinyint null,
    detail text null,
    primary key (log_id, position),
    key rule_matches_rule_id (ruleId),
    constraint rule_matches_log foreign key (log_id) references logs (id) on delete cascade
) engine=InnoDB default charset=utf8mb4;

-- The last batch committed under each journal of a merged log. The key is a hash, because text
-- keys would be compared without regard to case.
create table modsec_batches (
    journal_key binary(16) not null primary key,
    journal varchar(255) null,
    batch binary(16) not null,
    committed_at timestamp not null default current_timestamp
) engine=InnoDB default charset=utf8mb4;

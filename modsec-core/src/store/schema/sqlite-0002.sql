-- What the alerts mean: additions that older programs leave alone. What is there already is left
-- out, so a statement adds one column, or creates one thing.

-- Id of the rule that intercepted, be it bookkeeping or not.
alter table logs add column blocked_by text;
-- blocked or detected.
alter table logs add column outcome text;
-- Of the cause: sqli, xss, ….
alter table logs add column category text;
-- The score at which the rule set blocks.
alter table logs add column threshold integer;
-- 1 if the cause's rule alone reached it.
alter table logs add column sole integer;
-- Path of the URI, with {n}, {hex} and {uuid} for what differs.
alter table logs add column path_template text;
-- client_ip as 16 bytes, IPv4 mapped into IPv6: a network is a range.
alter table logs add column client_key blob;
create index logs_client_key on logs (client_key);
create index logs_unique_id on logs (unique_id);
create index logs_account_time on logs (account, created_at);
-- For hosts in any case; logs_host is for a plain comparison.
create index logs_host_any_case on logs (Host collate nocase);

-- detection, blocking_evaluation, correlation or notice.
alter table rule_matches add column kind text;
-- What of the request the alert is about, and where that was read: sentence or log_data.
alter table rule_matches add column target text;
alter table rule_matches add column target_source text;
-- What it added to the anomaly score: inbound or outbound, known by rule or by severity.
alter table rule_matches add column points integer;
alter table rule_matches add column points_for text;
alter table rule_matches add column points_source text;
alter table rule_matches add column paranoia_level integer;
alter table rule_matches add column category text;

-- What repeats from alert to alert, stored once. The key is a hash of the values. Older programs write
-- the columns of the same names in rule_matches, and no key.
create table modsec_rules (
    rule_key integer primary key,
    ruleId text,
    msg text,
    severity text,
    file text,
    line integer,
    rev text,
    ver text,
    maturity integer,
    accuracy integer,
    tags text,
    detail text,
    kind text,
    target text,
    target_source text,
    points integer,
    points_for text,
    points_source text,
    paranoia_level integer,
    category text
);
alter table rule_matches add column rule_key integer;
create index rule_matches_rule_key on rule_matches (rule_key);
-- Of a row about a name that a client chose: the row that has the texts.
alter table modsec_rules add column text_key integer;

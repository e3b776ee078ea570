-- What the alerts mean: additions that older programs leave alone.

-- Id of the rule that intercepted, be it bookkeeping or not.
alter table logs add column blocked_by varchar(64) character set utf8mb4 null;
-- blocked or detected.
alter table logs add column outcome varchar(20) character set utf8mb4 null;
-- Of the cause: sqli, xss, ….
alter table logs add column category varchar(32) character set utf8mb4 null;
-- The score at which the rule set blocks.
alter table logs add column threshold int null;
-- 1 if the cause's rule alone reached it.
alter table logs add column sole tinyint null;
-- Path of the URI, with {n}, {hex} and {uuid} for what differs.
alter table logs add column path_template text character set utf8mb4 null;
-- client_ip as 16 bytes, IPv4 mapped into IPv6: a network is a range.
alter table logs add column client_key binary(16) null;
alter table logs add key logs_client_key (client_key);
alter table logs add key logs_unique_id (unique_id);
alter table logs add key logs_account_time (account, created_at);

-- detection, blocking_evaluation, correlation or notice.
alter table rule_matches add column kind varchar(20) character set utf8mb4 null;
-- What of the request the alert is about, and where that was read: sentence or log_data.
alter table rule_matches add column target text character set utf8mb4 null;
alter table rule_matches add column target_source varchar(20) character set utf8mb4 null;
-- What it added to the anomaly score: inbound or outbound, known by rule or by severity.
alter table rule_matches add column points int null;
alter table rule_matches add column points_for varchar(20) character set utf8mb4 null;
alter table rule_matches add column points_source varchar(20) character set utf8mb4 null;
alter table rule_matches add column paranoia_level tinyint null;
alter table rule_matches add column category varchar(32) character set utf8mb4 null;

-- What repeats from alert to alert, stored once. The key is a hash of the values. Older programs write
-- the columns of the same names in rule_matches, and no key.
create table modsec_rules (
    rule_key bigint not null primary key,
    ruleId varchar(64) null,
    msg text null,
    severity varchar(20) null,
    file varchar(512) null,
    line int unsigned null,
    rev varchar(64) null,
    ver varchar(64) null,
    maturity int null,
    accuracy int null,
    tags text null,
    detail text null,
    kind varchar(20) null,
    target text null,
    target_source varchar(20) null,
    points int null,
    points_for varchar(20) null,
    points_source varchar(20) null,
    paranoia_level tinyint null,
    category varchar(32) null
) engine=InnoDB default charset=utf8mb4;
alter table rule_matches add column rule_key bigint null;
alter table rule_matches add constraint rule_matches_rule foreign key (rule_key) references modsec_rules (rule_key);
-- Of a row about a name that a client chose: the row that has the texts.
alter table modsec_rules add column text_key bigint null;

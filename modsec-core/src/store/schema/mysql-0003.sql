-- What is said of rows that were stored by an older program.

-- How outcome, cause and what the alerts mean are known. 0: from the entry. 1: computed afterwards,
-- from this row and its alerts. Null: an older program stored the row, and nobody computed it.
alter table logs add column estimated tinyint null;

-- From when on rows are complete: what is older may have been removed. In UTC.
create table modsec_horizons (
    kind varchar(16) not null primary key,
    since datetime(6) not null
) engine=InnoDB default charset=utf8mb4;

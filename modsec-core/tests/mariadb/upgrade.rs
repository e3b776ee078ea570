//! The table of `mod_sec_log_parser.py` goes on serving it, and serves us.

use modsec_core::Record;
use modsec_core::store::contract::{Dumped, Fixture as _, row};
use modsec_core::store::{Batch, LOG_COLUMNS, Origin, Row, StoreError};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

use super::{Database, Server, open_url, run};

/// The old table, with the character set of its time or of ours.
fn old_table(charset: &str) -> String {
    format!(
        "create table logs (
             id int(11) not null auto_increment primary key,
             REQUEST_METHOD varchar(10), REQUEST_URI text, REMOTE_ADDR varchar(45),
             ruleId varchar(10), Host varchar(255), msg text, data text, unique_id varchar(50),
             severity varchar(20), maturity int(11), accuracy int(11), User_Agent text,
             responce_header int(3), Engine_Mode varchar(20), Score int(11), SQLi int(11),
             XSS int(11), phase int(11), created_at timestamp null default null
         ) default charset={charset}"
    )
}

/// What the old script runs for each file.
async fn insert_like_the_old_script(conn: &mut Conn) {
    let statement = format!(
        "insert into logs ({}) values ({})",
        LOG_COLUMNS[..19].join(", "),
        ["?"; 19].join(", ")
    );
    let row = row(0);
    let values = [
        "GET",
        "/old",
        "192.0.2.7",
        "942100",
        "example.org",
        "msg",
        "data",
        "ZxOld",
        "CRITICAL",
        "1",
        "8",
        "curl",
        "403",
        "ENABLED",
        "10",
        "5",
        "0",
        "2",
        "2026-08-22 10:15:00",
    ];
    assert_eq!(row.values()[..19].len(), values.len());
    conn.exec_drop(statement, values.to_vec()).await.unwrap();
}

fn batch(rows: Vec<Row>) -> Batch {
    Batch::new(None, rows)
}

fn upgraded_in_place(charset: &'static str) {
    run(async move {
        let Some(db) = Database::shared().await else {
            return;
        };
        let mut conn = db.connect().await;
        conn.query_drop(old_table(charset)).await.unwrap();
        insert_like_the_old_script(&mut conn).await;

        let mut store = db.try_open().await.unwrap();
        insert_like_the_old_script(&mut conn).await;
        let rows = vec![row(1), row(2)];
        assert_eq!(store.insert(&batch(rows.clone())).await.unwrap().stored, 2);
        insert_like_the_old_script(&mut conn).await;
        assert_eq!(store.insert(&batch(rows.clone())).await.unwrap().known, 2);

        let found = db.dump().await;
        assert_eq!(found.len(), 5);
        for old in [&found[0], &found[1], &found[4]] {
            assert_eq!(old.columns[1].as_deref(), Some("/old"));
            assert!(old.columns[19..].iter().all(Option::is_none) && old.rule_matches.is_empty());
        }
        let mut want: Vec<Dumped> = rows.iter().map(Dumped::from_row).collect();
        for want in &mut want {
            // The old column has no fractions of a second; they are cut, not rounded.
            want.columns[18]
                .as_mut()
                .unwrap()
                .truncate("YYYY-MM-DD HH:MM:SS".len());
        }
        assert_eq!(found[2..4], want);
        let blocked: Option<(String, u32)> = conn
            .query_first(
                "select REMOTE_ADDR, count(*) from logs where responce_header = 403
                 and created_at > '2026-01-01' group by REMOTE_ADDR order by 2 desc limit 1",
            )
            .await
            .unwrap();
        assert_eq!(blocked, Some(("192.0.2.7".to_owned(), 3)));
    });
}

#[test]
fn old_table_in_latin1_is_upgraded_in_place() {
    upgraded_in_place("latin1");
}

#[test]
fn old_table_in_utf8mb4_is_upgraded_in_place() {
    upgraded_in_place("utf8mb4");
}

#[test]
fn values_are_made_to_fit_the_old_columns() {
    run(async {
        let Some(db) = Database::shared().await else {
            return;
        };
        db.run(&old_table("latin1")).await;
        let mut store = db.try_open().await.unwrap();
        let mut long = row(0);
        long.method = Some("PROPFINDPROPFIND".to_owned());
        long.rule_id = Some("9".repeat(300));
        long.host = Some("ü€日\u{1f600}".repeat(100));
        long.msg = Some("кириллица café".to_owned());
        long.uri = Some("日".repeat(21_845));
        long.score = Some(i64::MAX);
        long.sensor = Some("日本\u{1f600}".to_owned());
        store.insert(&batch(vec![long])).await.unwrap();
        let found = db.dump().await.pop().unwrap().columns;
        assert_eq!(found[0].as_deref(), Some("PROPFINDPR"));
        assert_eq!(found[1].as_deref(), Some("?".repeat(21_845).as_str()));
        assert_eq!(found[3].as_deref(), Some("9999999999"));
        let host = found[4].as_deref().unwrap();
        assert!(
            host.starts_with("ü€??ü€??") && host.chars().count() == 255,
            "{host}"
        );
        assert_eq!(found[5].as_deref(), Some("????????? café"));
        assert_eq!(found[14].as_deref(), Some("2147483647"));
        assert_eq!(found[20].as_deref(), Some("日本\u{1f600}"));
    });
}

/// The old table as somebody made it who wants no nulls; `created_at` as the server completes a
/// plain `timestamp`, or used to.
fn strict_old_table(created_at: &str) -> String {
    let columns = [
        ("varchar(255)", &LOG_COLUMNS[..1]),
        ("text", &LOG_COLUMNS[1..2]),
        ("varchar(255)", &LOG_COLUMNS[2..5]),
        ("text", &LOG_COLUMNS[5..7]),
        ("varchar(255)", &LOG_COLUMNS[7..9]),
        ("int", &LOG_COLUMNS[9..11]),
        ("text", &LOG_COLUMNS[11..12]),
        ("int", &LOG_COLUMNS[12..13]),
        ("varchar(20)", &LOG_COLUMNS[13..14]),
        ("int", &LOG_COLUMNS[14..18]),
    ];
    let columns: Vec<String> = columns
        .iter()
        .flat_map(|(kind, names)| {
            names
                .iter()
                .map(move |name| format!("{name} {kind} not null"))
        })
        .collect();
    format!(
        "create table logs (id int not null auto_increment primary key, {}, created_at {created_at})",
        columns.join(", ")
    )
}

/// A row of which nothing but the entry is known.
fn bare(n: usize) -> Row {
    let entry_hash = row(n).entry_hash;
    Row::new(&Record::default(), entry_hash, &Origin::default(), None)
}

/// Stores bare rows, alone and beside others, in a table that takes no nulls.
async fn stored_without_nulls(db: &Database, created_at: &str) {
    db.run(&strict_old_table(created_at)).await;
    let mut conn = db.connect().await;
    insert_like_the_old_script(&mut conn).await;
    let mut store = db.try_open().await.unwrap();
    let batches = [vec![bare(1)], vec![row(2), bare(3), row(4)]];
    for rows in &batches {
        let batch = batch(rows.clone());
        assert_eq!(store.insert(&batch).await.unwrap().stored, rows.len());
        assert_eq!(store.insert(&batch).await.unwrap().known, rows.len());
    }
    insert_like_the_old_script(&mut conn).await;

    let found = db.dump().await;
    let old = found[0].columns[18].as_deref().unwrap();
    assert!(old.starts_with("2026-08-22 10:15:00"), "{old}");
    assert_eq!(found[5].columns[..19], found[0].columns[..19]);
    let mut want: Vec<Option<String>> = vec![Some(String::new()); 18];
    for number in (9..11).chain(12..13).chain(14..18) {
        want[number] = Some("0".to_owned());
    }
    for bare in [&found[1], &found[3]] {
        assert_eq!(bare.columns[..18], want, "{created_at}");
        assert_eq!(bare.columns[20..24], [const { None }; 4]);
    }
    let now: Option<u32> = conn
        .query_first(
            "select count(*) from logs where REQUEST_URI = ''
             and abs(timestampdiff(minute, created_at, utc_timestamp())) < 10",
        )
        .await
        .unwrap();
    assert_eq!(now, Some(2), "{created_at}");
}

#[test]
fn old_columns_that_take_no_null_get_values() {
    run(async {
        for created_at in [
            "timestamp not null default current_timestamp on update current_timestamp",
            "timestamp(3) not null default current_timestamp(3)",
            "datetime not null",
        ] {
            let Some(db) = Database::shared().await else {
                return;
            };
            stored_without_nulls(&db, created_at).await;
        }
    });
}

#[test]
fn plain_timestamp_of_an_old_server_gets_the_time_of_storing() {
    run(async {
        let arguments = ["--explicit-defaults-for-timestamp=OFF"];
        let Some(server) = Server::start(&arguments).await else {
            return;
        };
        let db = Database::on(&server.url()).await;
        stored_without_nulls(&db, "timestamp").await;
        let updated: Option<String> = db
            .connect()
            .await
            .query_first(
                "select extra from information_schema.columns where table_schema = database()
                 and table_name = 'logs' and column_name = 'created_at'",
            )
            .await
            .unwrap();
        assert_eq!(updated.as_deref(), Some("on update current_timestamp()"));
    });
}

#[test]
fn interrupted_upgrade_is_finished() {
    run(async {
        let Some(db) = Database::shared().await else {
            return;
        };
        db.run(&old_table("utf8mb4")).await;
        db.run("alter table logs add column sensor varchar(255), add column entry_hash binary(16)")
            .await;
        db.run("create index mine on logs (created_at)").await;
        let mut store = db.try_open().await.unwrap();
        store.insert(&batch(vec![row(0), row(0)])).await.unwrap();
        let indexes: Vec<String> = db
            .connect()
            .await
            .query(
                "select distinct index_name from information_schema.statistics
                 where table_schema = database() and table_name = 'logs' order by 1",
            )
            .await
            .unwrap();
        let want = [
            "logs_account_time",
            "logs_client_key",
            "logs_entry_hash",
            "logs_host",
            "logs_remote_addr",
            "logs_rule_id",
            "logs_unique_id",
            "mine",
            "PRIMARY",
        ];
        assert_eq!(indexes, want);
    });
}

#[test]
fn account_that_may_not_alter_gets_the_statements_for_the_administrator() {
    run(async {
        let Some(server) = Server::start(&[]).await else {
            return;
        };
        let db = Database::on(&server.url()).await;
        db.run(&old_table("utf8mb4")).await;
        let mut admin = server.admin().await;
        admin
            .query_drop("create user small identified by 'secret'")
            .await
            .unwrap();
        let rights = "select, insert, update, delete";
        admin
            .query_drop(format!("grant {rights} on {}.* to small", db.name))
            .await
            .unwrap();

        let url = db.url().replace("modsec:", "small:");
        let Err(StoreError::MigrationDenied { statements, .. }) = open_url(&url).await else {
            panic!("must be denied");
        };
        assert!(
            statements.contains("alter table logs\n    add column entry_hash"),
            "{statements}"
        );
        admin.query_drop(format!("use {}", db.name)).await.unwrap();
        for statement in statements
            .split(";\n")
            .filter(|statement| !statement.is_empty())
        {
            admin.query_drop(statement).await.unwrap();
        }
        admin
            .query_drop("select log_id from modsec_alerts")
            .await
            .unwrap();
        let mut store = open_url(&url).await.unwrap();
        let batch = Batch::new(Some("j".to_owned()), vec![row(0)]);
        for stored in [1, 0] {
            assert_eq!(store.insert(&batch).await.unwrap().stored, stored);
            assert_eq!(store.last_batch("j").await.unwrap(), Some(batch.id));
        }
    });
}

#[test]
fn account_that_may_not_create_views_stores_nevertheless() {
    run(async {
        let Some(server) = Server::start(&[]).await else {
            return;
        };
        let db = Database::on(&server.url()).await;
        let mut admin = server.admin().await;
        let rights = "select, insert, update, delete, create, alter, index, references";
        for statement in [
            "create user small identified by 'secret'".to_owned(),
            format!("grant {rights} on {}.* to small", db.name),
        ] {
            admin.query_drop(statement).await.unwrap();
        }
        let url = db.url().replace("modsec:", "small:");
        let mut store = open_url(&url).await.unwrap();
        let batch = Batch::new(None, vec![row(0)]);
        assert_eq!(store.insert(&batch).await.unwrap().stored, 1);
        // Who may makes it.
        drop(db.try_open().await.unwrap());
        let views = "select count(*) from information_schema.views where table_schema = database()";
        let count: Option<i64> = db.connect().await.query_first(views).await.unwrap();
        assert_eq!(count, Some(0), "the tables were complete");
        db.run("alter table logs drop key logs_unique_id").await;
        drop(db.try_open().await.unwrap());
        assert_eq!(db.dump().await, [Dumped::from_row(&batch.rows[0])]);
    });
}

#[test]
fn program_without_shared_texts_goes_on_inserting() {
    run(async {
        let Some(db) = Database::shared().await else {
            return;
        };
        let mut store = db.try_open().await.unwrap();
        db.run("insert into logs (id, unique_id) values (1, 'older')")
            .await;
        db.run(
            "insert into rule_matches (log_id, position, ruleId, msg, data, severity, file, line, rev,
                 ver, maturity, accuracy, tags, phase, verified, detail, kind, target, target_source,
                 points, points_for, points_source, paranoia_level, category)
             values (1, 0, '1', 'm', 'd', 'ERROR', 'f', 2, 'r', 'v', 3, 4, '[]', 2, 1,
                 'x', 'detection', 'ARGS', 'sentence', 5, 'inbound', 'rule', 1, 'sqli')",
        )
        .await;
        store.insert(&Batch::new(None, vec![row(0)])).await.unwrap();
        let found = db.dump().await;
        let want = [
            "1",
            "m",
            "d",
            "ERROR",
            "f",
            "2",
            "r",
            "v",
            "3",
            "4",
            "[]",
            "2",
            "1",
            "x",
            "detection",
            "ARGS",
            "sentence",
            "5",
            "inbound",
            "rule",
            "1",
            "sqli",
        ];
        assert_eq!(
            found[0].rule_matches,
            [want.map(|text| Some(text.to_owned()))]
        );
        assert_eq!(found[1], Dumped::from_row(&row(0)));
    });
}

#[test]
fn table_without_transactions_is_refused_before_it_is_changed() {
    run(async {
        let Some(db) = Database::shared().await else {
            return;
        };
        db.run(&format!("{} engine=MyISAM", old_table("latin1")))
            .await;
        let text = db.try_open().await.err().unwrap().to_string();
        assert!(text.contains("alter table logs engine=InnoDB"), "{text}");
        let mut conn = db.connect().await;
        let tables: Vec<String> = conn.query("show tables").await.unwrap();
        assert_eq!(tables, ["logs"]);
    });
}

#[test]
fn newer_tables_are_refused() {
    run(async {
        let Some(db) = Database::shared().await else {
            return;
        };
        db.try_open().await.unwrap();
        db.run("insert into modsec_migrations (version) values (99)")
            .await;
        let error = db.try_open().await.err().unwrap();
        assert!(
            matches!(error, StoreError::SchemaTooNew { found: 99, .. }),
            "{error}"
        );
    });
}

#[test]
fn tables_of_an_older_program_get_the_columns_that_they_lack() {
    run(async {
        let Some(db) = Database::shared().await else {
            return;
        };
        drop(db.try_open().await.unwrap());
        db.run("insert into logs (unique_id) values ('before')")
            .await;
        db.run("alter table logs drop column blocked_by, drop column sole")
            .await;
        db.run("alter table rule_matches drop column target, drop column category")
            .await;
        let mut store = db.try_open().await.unwrap();
        let batch = Batch::new(None, vec![row(0)]);
        assert_eq!(store.insert(&batch).await.unwrap().stored, 1);
        let found = db.dump().await;
        assert_eq!(found[1], Dumped::from_row(&batch.rows[0]));
        assert_eq!(found[0].columns[26..], vec![None; 7]);
    });
}

#[test]
fn many_sensors_may_start_at_once() {
    run(async {
        let Some(db) = Database::shared().await else {
            return;
        };
        let (a, b, c, d) = tokio::join!(db.try_open(), db.try_open(), db.try_open(), db.try_open());
        for opened in [a, b, c, d] {
            opened.unwrap();
        }
    });
}

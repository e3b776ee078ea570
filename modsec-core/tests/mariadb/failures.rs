//! Servers that go away, refuse, or are set up in other ways than ours.

use std::sync::Arc;
use std::time::Duration;

use modsec_core::store::contract::{Dumped, Fixture as _, row};
use modsec_core::store::{Batch, Inserted, Row, StoreError};
use mysql_async::prelude::Queryable as _;

use super::{Database, Server, open_url, run, shared_url};

fn batch(rows: impl IntoIterator<Item = usize>, journal: &str) -> Batch {
    let rows: Vec<Row> = rows.into_iter().map(row).collect();
    Batch::new(Some(journal.to_owned()), rows)
}

#[test]
fn killed_server_loses_nothing_and_is_waited_for() {
    run(async {
        let Some(mut server) = Server::start(&[]).await else {
            return;
        };
        let db = Database::on(&server.url()).await;
        let mut store = db.try_open().await.unwrap();
        let (one, two) = (batch(0..100, "j"), batch(100..200, "j"));
        store.insert(&one).await.unwrap();
        server.kill();
        // The store finds its connection dead, and repeats until the server is back.
        let (inserted, ()) = tokio::join!(store.insert(&two), async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            server.run().await;
        });
        let inserted = match inserted {
            Err(error) if error.is_unavailable() => store.insert(&two).await.unwrap(),
            inserted => inserted.unwrap(),
        };
        assert_eq!(inserted, Inserted::new(100, 0));
        assert_eq!(store.last_batch("j").await.unwrap(), Some(two.id));
        assert_eq!(db.dump().await.len(), 200);
    });
}

#[test]
fn tables_that_were_dropped_are_an_error_first_and_then_made_anew() {
    run(async {
        let Some(db) = Database::shared().await else {
            return;
        };
        let mut store = db.try_open().await.unwrap();
        store.insert(&batch(0..3, "j")).await.unwrap();
        let name = &db.name;
        for (number, statements) in (10..).zip([
            vec![
                format!("drop database {name}"),
                format!("create database {name}"),
            ],
            vec!["drop table rule_matches".to_owned()],
            vec!["drop table modsec_batches".to_owned()],
            vec!["drop table rule_matches, logs, modsec_batches, modsec_migrations".to_owned()],
        ]) {
            let mut conn = db.connect().await;
            for statement in &statements {
                conn.query_drop(statement).await.unwrap();
            }
            let new = batch([number], "j");
            let error = store.insert(&new).await.expect_err("said first");
            assert!(
                error.to_string().contains("database") || error.to_string().contains("missing"),
                "{error}"
            );
            assert_ne!(store.last_batch("j").await.unwrap(), Some(new.id));
            let inserted = store.insert(&new).await.unwrap();
            assert_eq!(inserted.stored, 1, "{statements:?}");
            assert_eq!(store.last_batch("j").await.unwrap(), Some(new.id));
        }
    });
}

#[test]
fn alerts_whose_transactions_were_put_aside_are_not_mixed_with_new_ones() {
    run(async {
        let Some(db) = Database::shared().await else {
            return;
        };
        let mut store = db.try_open().await.unwrap();
        store.insert(&batch(0..3, "j")).await.unwrap();
        db.run("rename table logs to logs_of_last_year").await;
        let new = batch([10], "j");
        store.insert(&new).await.expect_err("no table");
        let error = store.insert(&new).await.expect_err("alerts are there");
        assert!(
            error.to_string().contains("drop rule_matches too"),
            "{error}"
        );
        db.run("drop table rule_matches").await;
        assert_eq!(store.insert(&new).await.unwrap().stored, 1);
        assert_eq!(db.dump().await.len(), 1);
    });
}

#[test]
fn server_that_stays_away_is_something_to_try_again() {
    run(async {
        let Some(mut server) = Server::start(&[]).await else {
            return;
        };
        let db = Database::on(&server.url()).await;
        let mut store = db.try_open().await.unwrap();
        server.kill();
        let error = store.insert(&batch([0], "j")).await.err().unwrap();
        assert!(
            error.is_unavailable() && error.to_string().contains("not there"),
            "{error}"
        );
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    });
}

#[test]
fn connection_that_the_server_closed_is_made_again() {
    run(async {
        let Some(db) = Database::shared().await else {
            return;
        };
        let mut store = db.try_open().await.unwrap();
        for n in 0..3 {
            store.insert(&batch([n], "j")).await.unwrap();
            kill_connections(&db).await;
        }
        assert_eq!(
            store.last_batch("j").await.unwrap(),
            Some(batch([2], "j").id)
        );
        assert_eq!(db.dump().await.len(), 3);
    });
}

async fn kill_connections(db: &Database) {
    let mut conn = db.connect().await;
    let ids: Vec<u64> = loop {
        let asked = conn
            .exec(
                "select id from information_schema.processlist
                 where db = ? and id <> connection_id()",
                (&db.name,),
            )
            .await;
        match asked {
            Ok(ids) => break ids,
            // MySQL cannot show statements with bytes in them that are under way, of other tests.
            Err(mysql_async::Error::Server(error)) if error.code == 3854 => {}
            Err(error) => panic!("{error}"),
        }
    };
    for id in ids {
        // It may be gone by itself.
        let _ = conn.query_drop(format!("kill {id}")).await;
    }
}

#[test]
fn wrong_password_and_missing_database_are_for_somebody_to_correct() {
    run(async {
        let Some(url) = shared_url() else { return };
        let (start, place) = url.rsplit_once('@').unwrap();
        let user = start.split(':').nth(1).unwrap();
        let wrong = format!("mysql:{user}:wrong-password@{place}/mysql");
        for (url, want) in [
            (wrong, "user or password"),
            (format!("{url}/no_such_database"), "create database"),
        ] {
            let error = open_url(&url).await.err().unwrap();
            let text = format!("{error} {error:?}");
            assert!(matches!(error, StoreError::Configuration { .. }), "{text}");
            assert!(
                text.contains(want) && !text.contains("wrong-password"),
                "{text}"
            );
        }
    });
}

#[test]
fn time_zone_and_mode_of_the_server_do_not_matter() {
    run(async {
        let arguments = [
            "--default-time-zone=-09:30",
            "--sql-mode=TRADITIONAL,ANSI_QUOTES",
        ];
        let Some(server) = Server::start(&arguments).await else {
            return;
        };
        let db = Database::on(&server.url()).await;
        let mut store = db.try_open().await.unwrap();
        store.insert(&batch(0..2, "j")).await.unwrap();
        assert_eq!(
            db.dump().await,
            [row(0), row(1)]
                .iter()
                .map(Dumped::from_row)
                .collect::<Vec<_>>()
        );
    });
}

#[test]
fn statements_stay_below_the_largest_packet() {
    run(async {
        let arguments = ["--max-allowed-packet=65536"];
        let Some(server) = Server::start(&arguments).await else {
            return;
        };
        let db = Database::on(&server.url()).await;
        let mut store = db.try_open().await.unwrap();
        let mut batch = batch(0..300, "j");
        let long = &mut Arc::make_mut(&mut batch.rows)[7];
        for field in [&mut long.uri, &mut long.msg, &mut long.data] {
            *field = Some("я".repeat(32_000));
        }
        let inserted = store.insert(&batch).await.unwrap();
        assert_eq!(inserted, Inserted::new(300, 0));
        let found = db.dump().await;
        assert_eq!(found[6], Dumped::from_row(&batch.rows[6]));
        let cut = found[7].columns[1].as_deref().unwrap();
        assert!(batch.rows[7].uri.as_deref().unwrap().starts_with(cut) && cut.len() > 2_000);
    });
}

#[test]
fn deadlock_is_repeated() {
    run(async {
        let Some(db) = Database::shared().await else {
            return;
        };
        let mut store = db.try_open().await.unwrap();
        store.insert(&batch([0], "j")).await.unwrap();
        // The other transaction holds row 9, for which ours waits while it holds row 5, which the
        // other one then wants. The server ends one of the two; ours is done in the end.
        let mut other = db.connect().await;
        other.query_drop("begin").await.unwrap();
        let hash = row(9).entry_hash.as_bytes().to_vec();
        other
            .exec_drop("insert into logs (entry_hash) values (?)", (&hash,))
            .await
            .unwrap();
        let ours = batch(5..10, "j");
        let theirs = async {
            wait_for_lock(&db).await;
            let hash = row(5).entry_hash.as_bytes().to_vec();
            let _ = other
                .exec_drop("insert into logs (entry_hash) values (?)", (&hash,))
                .await;
            other.query_drop("rollback").await.unwrap();
        };
        let (inserted, ()) = tokio::join!(store.insert(&ours), theirs);
        assert_eq!(inserted.unwrap(), Inserted::new(5, 0));
        assert_eq!(store.last_batch("j").await.unwrap(), Some(ours.id));
        assert_eq!(db.dump().await.len(), 6);
    });
}

/// Waits until a transaction waits for another one.
async fn wait_for_lock(db: &Database) {
    let mut conn = db.connect().await;
    let version: String = conn.query_first("select version()").await.unwrap().unwrap();
    let waits = if version.contains("MariaDB") {
        "select 1 from information_schema.innodb_trx where trx_state = 'LOCK WAIT'"
    } else {
        "select 1 from performance_schema.data_locks
         where lock_status = 'WAITING' and object_schema = database()"
    };
    for _ in 0..100 {
        let waiting: Option<u32> = conn.query_first(waits).await.unwrap();
        if waiting.is_some() {
            return;
        }
        // The server shows the same again to whoever asks more often than every 100 ms.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    panic!("nobody waits");
}

#[test]
fn dropped_call_leaves_nothing_behind() {
    run(async {
        let Some(db) = Database::shared().await else {
            return;
        };
        let mut store = db.try_open().await.unwrap();
        let batch = batch(0..500, "j");
        for micros in [100, 1_000, 3_000, 10_000, 20_000] {
            let limit = Duration::from_micros(micros);
            let _ = tokio::time::timeout(limit, store.insert(&batch)).await;
        }
        store.insert(&batch).await.unwrap();
        assert_eq!(store.last_batch("j").await.unwrap(), Some(batch.id));
        let found = db.dump().await;
        assert_eq!(found.len(), 500);
        assert!(found.iter().all(|row| row.rule_matches.len() == 4));
    });
}

/// Lets the server refuse a row with an error that has no class.
async fn fail_with_unknown_error(db: &Database, condition: &str) {
    db.run(&format!(
        "create trigger fail before insert on logs for each row
         begin
             if {condition} then
                 signal sqlstate 'HY000' set mysql_errno = 1105, message_text = 'for no reason';
             end if;
         end"
    ))
    .await;
}

#[test]
fn row_that_alone_meets_an_unknown_error_is_refused() {
    run(async {
        let Some(db) = Database::shared().await else {
            return;
        };
        let mut store = db.try_open().await.unwrap();
        let mut batch = batch(0..20, "j");
        let bad = batch.rows[7].clone();
        let id = bad.unique_id.clone().unwrap();
        fail_with_unknown_error(&db, &format!("new.unique_id = '{id}'")).await;
        let error = store.insert(&batch).await.err().unwrap();
        let [refused] = error.refused() else {
            panic!("{error}");
        };
        assert_eq!(refused.entry, bad.entry_hash);
        assert_eq!(refused.reason, "ERROR 1105 (HY000): for no reason");
        assert!(db.dump().await.is_empty());
        Arc::make_mut(&mut batch.rows).retain(|row| row.entry_hash != bad.entry_hash);
        assert_eq!(store.insert(&batch).await.unwrap().stored, 19);
    });
}

#[test]
fn row_without_neighbours_that_meets_an_unknown_error_is_refused() {
    run(async {
        let Some(db) = Database::shared().await else {
            return;
        };
        let mut store = db.try_open().await.unwrap();
        fail_with_unknown_error(&db, "new.User_Agent like '%Gecko%'").await;
        let error = store.insert(&batch([7], "j")).await.err().unwrap();
        assert_eq!(error.refused().len(), 1, "{error}");
        assert_eq!(error.refused()[0].entry, row(7).entry_hash);
        assert!(db.dump().await.is_empty());
    });
}

#[test]
fn unknown_error_that_all_rows_meet_is_an_outage() {
    run(async {
        let Some(db) = Database::shared().await else {
            return;
        };
        let mut store = db.try_open().await.unwrap();
        fail_with_unknown_error(&db, "true").await;
        let error = store.insert(&batch(0..5, "j")).await.err().unwrap();
        assert!(error.is_unavailable(), "{error}");
        db.run("drop trigger fail").await;
        assert_eq!(store.insert(&batch(0..5, "j")).await.unwrap().stored, 5);
    });
}

#[test]
fn unix_socket_and_option_file_work() {
    run(async {
        let Some(server) = Server::start(&[]).await else {
            return;
        };
        let db = Database::on(&server.url()).await;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("my.cnf");
        let text = format!(
            "[client]\nuser=modsec\npassword='secret' # comment\nsocket={}\n\
             [modsec-parser]\ndatabase={}\n",
            server.socket().display(),
            db.name
        );
        std::fs::write(&file, text).unwrap();
        let mut options = modsec_core::StoreOptions::new("mysql://");
        options.defaults_file = Some(file);
        let mut store = modsec_core::store::open(&options).await.unwrap();
        assert_eq!(store.insert(&batch([0], "j")).await.unwrap().stored, 1);
        assert!(store.name().contains(&db.name) && !store.name().contains("secret"));
    });
}

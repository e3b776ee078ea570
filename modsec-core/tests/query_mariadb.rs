//! Questions to a server that forgets connections, and to tables that others have made.
#![cfg(all(feature = "mysql", feature = "store-contract"))]
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

#[path = "mariadb/server.rs"]
#[expect(dead_code, reason = "the tests of the store itself use the rest")]
mod server;
#[path = "filter/stored.rs"]
mod stored;

use chrono::Utc;
use modsec_core::filter::Filter;
use modsec_core::query::{self, Query, Question, Scope};
use modsec_core::store::{self, StoreError, StoreOptions};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

use self::server::Server;
use self::stored::{insert, runtime};

/// Makes a database, and returns the options that name it.
async fn database(server: &Server, name: &str, how: &str) -> (Conn, StoreOptions) {
    let mut admin = server.admin().await;
    let create = format!("create database {name} {how}");
    admin.query_drop(create).await.unwrap();
    admin.query_drop(format!("use {name}")).await.unwrap();
    let mut options = StoreOptions::new(format!("{}/{name}", server.url()));
    // Not the file of whoever runs the tests.
    options.defaults_file = Some("/dev/null".into());
    (admin, options)
}

/// Asks for the transactions that a filter means.
async fn count(stored: &mut dyn Query, filter: &str) -> Result<usize, StoreError> {
    let mut question = Question::new(Scope::all());
    question.filter = Filter::parse(filter, Utc::now()).unwrap();
    let page = stored.transactions(&question, None, 999).await?;
    Ok(page.value.len())
}

/// Waits until the server has ended the connections of the reader.
async fn until_forgotten(admin: &mut Conn) {
    loop {
        let left: Option<u64> = admin
            .query_first(
                "select count(*) from information_schema.processlist where user = 'modsec'",
            )
            .await
            .unwrap();
        if left == Some(0) {
            return;
        }
        admin.query_drop("do sleep(0.1)").await.unwrap();
    }
}

/// The message and what the server says, of a question that is not answered.
fn text(error: &StoreError) -> String {
    let said = std::error::Error::source(error).map(ToString::to_string);
    format!("{error}: {}", said.unwrap_or_default())
}

#[test]
fn a_connection_that_the_server_forgot_is_made_anew() {
    let runtime = runtime();
    let Some(mut server) = runtime.block_on(Server::start(&[])) else {
        return;
    };
    runtime.block_on(async {
        let (mut admin, options) = database(&server, "forgetful", "").await;
        let mut store = store::open(&options).await.unwrap();
        insert(&mut *store, (0..9).map(store::contract::row).collect()).await;
        drop(store);
        admin
            .query_drop("set global wait_timeout = 1")
            .await
            .unwrap();
        let mut stored = query::open(&options).await.unwrap();
        for _ in 0..2 {
            assert_eq!(count(&mut *stored, "").await.map_err(|e| text(&e)), Ok(9));
            until_forgotten(&mut admin).await;
            assert_eq!(count(&mut *stored, "").await.map_err(|e| text(&e)), Ok(9));
        }
        // Nor does a restart matter.
        server.kill();
        let away = count(&mut *stored, "").await.unwrap_err();
        assert!(away.is_unavailable(), "{away}");
        server.run().await;
        assert_eq!(count(&mut *stored, "").await.map_err(|e| text(&e)), Ok(9));
    });
}

#[test]
fn characters_that_an_old_table_lacks_are_in_no_row() {
    let runtime = runtime();
    let Some(server) = runtime.block_on(Server::start(&[])) else {
        return;
    };
    runtime.block_on(async {
        let (mut admin, options) = database(&server, "latin", "character set latin1").await;
        admin
            .query_drop(
                "create table logs (id int not null auto_increment primary key,
                     REQUEST_METHOD varchar(10), REQUEST_URI varchar(255), REMOTE_ADDR varchar(64),
                     ruleId varchar(10), Host varchar(120), msg varchar(50), data varchar(100),
                     unique_id varchar(50), severity varchar(10), maturity int, accuracy int,
                     User_Agent varchar(50), responce_header int, Engine_Mode varchar(50),
                     Score float, SQLi int, XSS int, phase varchar(20), created_at datetime)
                 engine=InnoDB default charset=latin1",
            )
            .await
            .unwrap();
        let mut store = store::open(&options).await.unwrap();
        insert(&mut *store, (0..9).map(store::contract::row).collect()).await;
        let mut stored = query::open(&options).await.unwrap();
        for name in [
            "cause", "rule", "account", "host", "id", "uri", "path", "agent", "data", "msg",
            "target", "sensor", "method",
        ] {
            for value in ["😀", "😀*", "*😀", "942😀*", "(abcx,😀)", "é*", "日"] {
                let filter = format!("{name}:{value}");
                let found = count(&mut *stored, &filter)
                    .await
                    .map_err(|error| text(&error));
                assert_eq!(found, Ok(0), "{filter}");
            }
        }
        assert_eq!(
            count(&mut *stored, "cause:942* rule:942100").await.unwrap(),
            9
        );
        let question =
            Question::new(Scope::accounts(["😀", "site1"]).with_hosts(["😀", "shop1.example.org"]));
        let page = stored.transactions(&question, None, 99).await.unwrap();
        assert_eq!(page.value.len(), 1);
    });
}

#[test]
fn tables_of_other_programs_and_other_releases_are_named() {
    let runtime = runtime();
    let Some(server) = runtime.block_on(Server::start(&[])) else {
        return;
    };
    runtime.block_on(async {
        for (n, (change, want)) in [
            (
                "create table modsec_rules (id int, pattern text)",
                "the table modsec_rules has no column rule_key",
            ),
            (
                "create table rule_matches (id int)",
                "rule_matches still has the alerts",
            ),
            (
                "create table modsec_batches (id int)",
                "the table modsec_batches has no column journal",
            ),
            (
                "create table modsec_alerts (id int)",
                "modsec_alerts is a table",
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let (mut admin, options) = database(&server, &format!("foreign{n}"), "").await;
            admin.query_drop(change).await.unwrap();
            let refused = [
                store::open(&options).await.err(),
                query::open(&options).await.err(),
            ];
            for error in refused {
                let text = error.unwrap().to_string();
                assert!(text.contains(want), "{change}: {text}");
            }
            let tables: Vec<String> = admin.query("show tables").await.unwrap();
            assert_eq!(tables.len(), 1, "{tables:?}");
        }
        for (n, (change, want)) in [
            ("drop view modsec_alerts", ""),
            (
                "alter table modsec_rules drop column text_key",
                "the first run brings",
            ),
            (
                "alter table logs drop column outcome",
                "the first run brings",
            ),
            ("drop table modsec_batches", "the first run brings"),
            (
                "insert into modsec_migrations (version) values (99)",
                "install the newer program",
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let (mut admin, options) = database(&server, &format!("other{n}"), "").await;
            drop(store::open(&options).await.unwrap());
            admin.query_drop(change).await.unwrap();
            match query::open(&options).await {
                // Only people need the view.
                Ok(mut stored) => {
                    assert_eq!((count(&mut *stored, "").await.unwrap(), want), (0, ""));
                }
                Err(error) => assert!(
                    error.to_string().contains(want) && !want.is_empty(),
                    "{error}"
                ),
            }
        }
    });
}

/// An account that may only read asks as well as any, and one that may not is told so in a reader's words.
#[test]
fn a_reader_needs_select_and_is_told_so() {
    let runtime = runtime();
    let Some(server) = runtime.block_on(Server::start(&[])) else {
        return;
    };
    runtime.block_on(async {
        let (mut admin, options) = database(&server, "readers", "").await;
        let mut store = store::open(&options).await.unwrap();
        insert(&mut *store, (0..9).map(store::contract::row).collect()).await;
        admin
            .query_drop("create user reader identified by 'secret'")
            .await
            .unwrap();
        admin
            .query_drop("grant select on readers.* to reader")
            .await
            .unwrap();
        let mut reader = options.clone();
        reader.url = options.url.replace("modsec:", "reader:");
        assert_ne!(reader.url, options.url);
        let mut stored = query::open(&reader).await.unwrap();
        assert_eq!(count(&mut *stored, "").await.unwrap(), 9);
        admin
            .query_drop("revoke select on readers.* from reader")
            .await
            .unwrap();
        admin
            .query_drop("grant insert on readers.* to reader")
            .await
            .unwrap();
        drop(stored);
        let error = match query::open(&reader).await {
            Ok(mut stored) => count(&mut *stored, "").await.unwrap_err(),
            Err(error) => error,
        };
        let text = text(&error);
        assert!(text.contains("needs select on the database"), "{text}");
        assert!(
            !text.contains("insert,") && !text.contains("write"),
            "{text}"
        );
    });
}

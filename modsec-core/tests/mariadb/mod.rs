//! The stores on `MySQL` and `MariaDB`.
//!
//! The tests start a private `MariaDB` (package mariadb-server). The contract runs on any other
//! server that `MODSEC_TEST_MYSQL_URL` names, with an account that may create databases:
//!
//! ```text
//! docker run -d -p 127.0.0.1:3307:3306 -e MYSQL_ROOT_PASSWORD=secret mysql:8.4
//! MODSEC_TEST_MYSQL_URL=mysql://root:secret@127.0.0.1:3307 \
//!     cargo test -p modsec-core --features mysql,store-contract --test store_contract mariadb
//! ```

mod failures;
mod galera;
mod lost_commit;
mod server;
mod tls;
mod upgrade;
mod zones;

use std::sync::atomic::{AtomicU32, Ordering};

use modsec_core::store::contract::{self, Dumped, Fixture, FixtureFuture};
use modsec_core::store::{LOG_COLUMNS, RULE_COLUMNS, Store, StoreError, StoreOptions, open};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};

use self::server::{Server, shared_url};
use super::run;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// A database of its own on a server.
struct Database {
    server_url: String,
    name: String,
}

impl Database {
    /// On the server that most tests share; `None` if there is none.
    async fn shared() -> Option<Database> {
        Some(Database::on(&shared_url()?).await)
    }

    async fn on(server_url: &str) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("modsec_test_{}_{count}", std::process::id());
        let mut conn = Conn::new(opts(&format!("{server_url}/information_schema")))
            .await
            .unwrap();
        conn.query_drop(format!("create database {name}"))
            .await
            .unwrap();
        Database {
            server_url: server_url.to_owned(),
            name,
        }
    }

    fn url(&self) -> String {
        format!("{}/{}", self.server_url, self.name)
    }

    async fn connect(&self) -> Conn {
        let mut conn = Conn::new(opts(&self.url())).await.unwrap();
        conn.query_drop("set names utf8mb4").await.unwrap();
        conn.query_drop("set time_zone = '+00:00'").await.unwrap();
        conn
    }

    async fn run(&self, statement: &str) {
        self.connect().await.query_drop(statement).await.unwrap();
    }

    async fn try_open(&self) -> Result<Box<dyn Store>, StoreError> {
        open_url(&self.url()).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (url, name) = (self.url(), self.name.clone());
        let dropped = async move {
            if let Ok(mut conn) = Conn::new(opts(&url)).await {
                // Connections of this test may still be open; they end with its runtime.
                let _ = conn.query_drop("set session lock_wait_timeout = 1").await;
                let _ = conn.query_drop(format!("drop database {name}")).await;
                let _ = conn.disconnect().await;
            }
        };
        let _ = std::thread::spawn(|| runtime().block_on(dropped)).join();
    }
}

fn opts(url: &str) -> Opts {
    Opts::from_url(url).unwrap()
}

async fn open_url(url: &str) -> Result<Box<dyn Store>, StoreError> {
    let mut options = StoreOptions::new(url);
    // Not the file of whoever runs the tests.
    options.defaults_file = Some("/dev/null".into());
    open(&options).await
}

impl Fixture for Database {
    fn open(&self) -> FixtureFuture<'_, Box<dyn Store>> {
        Box::pin(async { self.try_open().await.unwrap() })
    }

    fn dump(&self) -> FixtureFuture<'_, Vec<Dumped>> {
        Box::pin(async {
            let mut conn = self.connect().await;
            let ids = select(&mut conn, &["id"], "logs order by id").await;
            let logs = select(&mut conn, &LOG_COLUMNS, "logs order by id").await;
            let mut matches = select(
                &mut conn,
                &[&["log_id"][..], &RULE_COLUMNS].concat(),
                "modsec_alerts order by log_id desc, position desc",
            )
            .await;
            let mut rule_matches = |id: &Option<String>| {
                let mut found = Vec::new();
                while let Some(mut columns) = matches.pop_if(|columns| columns[0] == *id) {
                    columns.remove(0);
                    found.push(columns);
                }
                found
            };
            ids.iter()
                .zip(logs)
                .map(|(id, columns)| Dumped {
                    columns,
                    rule_matches: rule_matches(&id[0]),
                })
                .collect()
        })
    }

    fn refuse<'a>(&'a self, unique_id: &'a str) -> FixtureFuture<'a, ()> {
        Box::pin(async move {
            self.run(&format!(
                "create trigger refuse before insert on logs for each row
                 begin
                     if new.unique_id = '{unique_id}' then
                         signal sqlstate '45000' set message_text = 'refused on request';
                     end if;
                 end"
            ))
            .await;
        })
    }
}

async fn select(conn: &mut Conn, columns: &[&str], from: &str) -> Vec<Vec<Option<String>>> {
    let columns: Vec<String> = columns
        .iter()
        .map(|column| match *column {
            "entry_hash" | "client_key" => format!("lower(nullif(hex({column}), ''))"),
            column => format!("cast({column} as char character set utf8mb4)"),
        })
        .collect();
    let select = format!("select {} from {from}", columns.join(", "));
    let rows: Vec<mysql_async::Row> = conn.query(select).await.unwrap();
    rows.into_iter()
        .map(|row| (0..row.len()).map(|at| row.get(at).unwrap()).collect())
        .collect()
}

whole_contract!(run, Database::shared().await);

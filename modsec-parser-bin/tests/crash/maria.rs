//! A database on a `MariaDB` server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};

use crate::runtime;
use crate::server::shared_url;
use crate::site::Database;

pub(crate) struct Maria {
    server: String,
    name: String,
}

impl Maria {
    /// On the server that the tests share; `None`, after a message, if there is none.
    pub(crate) fn shared() -> Option<Maria> {
        Some(Maria::on(&shared_url()?))
    }

    pub(crate) fn on(server: &str) -> Maria {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("modsec_crash_{}_{count}", std::process::id());
        let maria = Maria {
            server: server.to_owned(),
            name,
        };
        maria.execute("mysql", &format!("create database {}", maria.name));
        maria
    }

    /// Drops the database and makes an empty one of the same name.
    pub(crate) fn make_anew(&self) {
        self.execute("mysql", &format!("drop database {}", self.name));
        self.execute("mysql", &format!("create database {}", self.name));
    }

    /// Runs a statement in this database.
    pub(crate) fn change(&self, statement: &str) {
        self.execute(&self.name, statement);
    }

    /// Returns the number that a statement selects.
    pub(crate) fn count(&self, statement: &str) -> usize {
        let opts = Opts::from_url(&self.url()).unwrap();
        runtime().block_on(async {
            let mut conn = Conn::new(opts).await.unwrap();
            let count: Option<usize> = conn.query_first(statement).await.unwrap();
            conn.disconnect().await.unwrap();
            count.unwrap()
        })
    }

    pub(crate) fn execute(&self, database: &str, statement: &str) {
        let opts = Opts::from_url(&format!("{}/{database}", self.server)).unwrap();
        runtime().block_on(async {
            let mut conn = Conn::new(opts).await.unwrap();
            conn.query_drop(statement).await.unwrap();
            conn.disconnect().await.unwrap();
        });
    }
}

impl Database for Maria {
    fn url(&self) -> String {
        format!("{}/{}", self.server, self.name)
    }

    fn rows(&self) -> BTreeMap<String, i64> {
        let opts = Opts::from_url(&self.url()).unwrap();
        let rows: Result<Vec<(String, i64)>, _> = runtime().block_on(async {
            let mut conn = Conn::new(opts).await?;
            let rows = conn
                .query("select unique_id, count(*) from logs group by unique_id")
                .await?;
            conn.disconnect().await?;
            Ok::<_, mysql_async::Error>(rows)
        });
        // No server, or no table yet.
        rows.unwrap_or_default().into_iter().collect()
    }
}

impl Drop for Maria {
    fn drop(&mut self) {
        let opts = Opts::from_url(&self.url());
        let statement = format!("drop database {}", self.name);
        let dropped = std::thread::spawn(move || {
            runtime().block_on(async {
                if let Ok(mut conn) = Conn::new(opts.unwrap()).await {
                    let _ = conn.query_drop("set session lock_wait_timeout = 5").await;
                    let _ = conn.query_drop(statement).await;
                    let _ = conn.disconnect().await;
                }
            });
        });
        let _ = dropped.join();
    }
}

//! Databases to try something in: SQLite, and a private `MariaDB`.

use modsec_core::store::StoreOptions;
use mysql_async::prelude::Queryable as _;

use crate::server::Server;
use crate::stored::runtime;

/// An empty database.
pub(crate) struct Place {
    pub(crate) options: StoreOptions,
    kind: Kind,
}

enum Kind {
    Sqlite(std::path::PathBuf),
    Mariadb { url: String },
}

impl Place {
    /// Runs a statement of somebody else.
    pub(crate) async fn run(&self, statement: &str) {
        match &self.kind {
            Kind::Sqlite(file) => {
                let connection = rusqlite::Connection::open(file).unwrap();
                connection
                    .busy_timeout(std::time::Duration::from_secs(60))
                    .unwrap();
                connection.execute_batch(statement).unwrap();
            }
            Kind::Mariadb { url } => {
                let opts = mysql_async::Opts::from_url(url).unwrap();
                let mut conn = mysql_async::Conn::new(opts).await.unwrap();
                conn.query_drop("set time_zone = '+00:00'").await.unwrap();
                conn.query_drop(statement).await.unwrap();
                conn.disconnect().await.unwrap();
            }
        }
    }

    /// Returns the number that a statement selects.
    pub(crate) async fn count(&self, statement: &str) -> i64 {
        match &self.kind {
            Kind::Sqlite(file) => {
                let connection = rusqlite::Connection::open(file).unwrap();
                connection
                    .query_row(statement, [], |row| row.get(0))
                    .unwrap()
            }
            Kind::Mariadb { url } => {
                let opts = mysql_async::Opts::from_url(url).unwrap();
                let mut conn = mysql_async::Conn::new(opts).await.unwrap();
                let count = conn.query_first(statement).await.unwrap();
                conn.disconnect().await.unwrap();
                count.unwrap()
            }
        }
    }

    pub(crate) fn is_mariadb(&self) -> bool {
        matches!(self.kind, Kind::Mariadb { .. })
    }
}

/// Calls `test` with a database of each kind.
pub(crate) fn each_place(mut test: impl FnMut(&Place)) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("logs.db");
    test(&Place {
        options: StoreOptions::new(format!("sqlite:{}", file.display())),
        kind: Kind::Sqlite(file),
    });
    let runtime = runtime();
    let Some(server) = runtime.block_on(Server::start(&[])) else {
        return;
    };
    runtime.block_on(async {
        let mut admin = server.admin().await;
        admin.query_drop("create database kept").await.unwrap();
    });
    let url = format!("{}/kept", server.url());
    let mut options = StoreOptions::new(&url);
    // Not the file of whoever runs the tests.
    options.defaults_file = Some("/dev/null".into());
    test(&Place {
        options,
        kind: Kind::Mariadb { url },
    });
}

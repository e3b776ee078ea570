//! The rows that are there in the end.

use std::collections::BTreeMap;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};

use crate::server::Server;
use crate::traffic::Answers;
use crate::truth::{Indexed, number};

const NAME: &str = "modsec_whole";

/// A private `MariaDB` with a database.
pub(crate) struct Database {
    server: Server,
    runtime: tokio::runtime::Runtime,
}

/// A row of `logs` with the rules that belong to it, sorted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) status: Option<u16>,
    pub(crate) host: String,
    pub(crate) unique_id: String,
    pub(crate) client: Option<String>,
    pub(crate) account: Option<String>,
    pub(crate) flags: Option<String>,
    pub(crate) rules: Vec<String>,
}

impl Database {
    pub(crate) fn start() -> Database {
        let runtime = crate::runtime();
        let server = runtime.block_on(Server::start(&[])).unwrap();
        let database = Database { server, runtime };
        database.run(&format!("create database {NAME}"));
        database
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/{NAME}", self.server.url())
    }

    /// Where programs on this machine reach the server, and the database's name.
    pub(crate) fn socket(&self) -> (String, &str) {
        (self.server.socket().display().to_string(), NAME)
    }

    /// Kills the server, and starts it again after `meanwhile`.
    pub(crate) fn restart(&mut self, meanwhile: impl FnOnce()) {
        self.server.kill();
        meanwhile();
        self.runtime.block_on(self.server.run());
    }

    pub(crate) fn run(&self, statement: &str) {
        self.runtime.block_on(async {
            let mut conn = self.server.admin().await;
            conn.query_drop(statement).await.unwrap();
            conn.disconnect().await.unwrap();
        });
    }

    pub(crate) fn query<R>(&self, statement: &str) -> Vec<R>
    where
        R: mysql_async::prelude::FromRow + Send + 'static,
    {
        let opts = Opts::from_url(&self.url()).unwrap();
        self.runtime.block_on(async {
            let mut conn = Conn::new(opts).await.unwrap();
            let rows = conn.query(statement).await.unwrap();
            conn.disconnect().await.unwrap();
            rows
        })
    }

    /// Returns the number of rows.
    pub(crate) fn count(&self) -> usize {
        self.query("select count(*) from logs")[0]
    }

    /// Returns the number of rows of a site.
    pub(crate) fn count_of(&self, host: &str) -> usize {
        self.query(&format!("select count(*) from logs where Host = '{host}'"))[0]
    }

    /// Returns how many rows there are for each request, whoever made the table and the rows.
    pub(crate) fn numbers(&self) -> BTreeMap<u32, usize> {
        let uris: Vec<String> =
            self.query("select REQUEST_URI from logs where REQUEST_URI is not null");
        let mut numbers = BTreeMap::new();
        for number in uris.iter().filter_map(|uri| number(uri)) {
            *numbers.entry(number).or_default() += 1;
        }
        numbers
    }

    /// Returns all rows by the number in their URI.
    pub(crate) fn rows(&self) -> BTreeMap<u32, Vec<Row>> {
        type Columns = (
            u64,
            String,
            String,
            Option<u16>,
            String,
            String,
            Option<String>,
            Option<String>,
            Option<String>,
        );
        let mut rules: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        let matches: Vec<(u64, String)> =
            self.query("select log_id, ruleId from rule_matches where ruleId is not null");
        for (id, rule) in matches {
            rules.entry(id).or_default().push(rule);
        }
        let found: Vec<Columns> = self.query(
            "select id, REQUEST_METHOD, REQUEST_URI, responce_header, Host, unique_id, client_ip, \
             account, flags from logs where entry_hash is not null",
        );
        let mut rows: BTreeMap<u32, Vec<Row>> = BTreeMap::new();
        for (id, method, uri, status, host, unique_id, client, account, flags) in found {
            let mut rules = rules.remove(&id).unwrap_or_default();
            rules.sort_unstable();
            let number = number(&uri).unwrap_or_else(|| panic!("no number: {uri}"));
            rows.entry(number).or_default().push(Row {
                method,
                uri,
                status,
                host,
                unique_id,
                client,
                account,
                flags,
                rules,
            });
        }
        rows
    }
}

/// Asserts that no entry is more than one row, and that the row says what is true.
pub(crate) fn check_rows(
    rows: &BTreeMap<u32, Vec<Row>>,
    index: &BTreeMap<u32, Indexed>,
    answers: &Answers,
    rules: &BTreeMap<u32, Vec<String>>,
) {
    for (number, rows) in rows {
        let [row] = &rows[..] else {
            panic!("more than one row: {rows:?}");
        };
        let (indexed, answer) = (&index[number], &answers[number]);
        let none = Vec::new();
        let said = rules.get(number).unwrap_or(&none);
        assert_eq!(row.method, answer.method, "{row:?}");
        assert_eq!(row.uri, answer.uri, "{row:?}");
        assert_eq!(row.status, Some(answer.status), "{row:?}");
        assert_eq!(row.host, answer.host(), "{row:?}");
        assert_eq!(row.client, Some(answer.client.to_string()), "{row:?}");
        assert_eq!(row.unique_id, indexed.unique_id, "{row:?}");
        assert_eq!(row.account.as_deref(), Some(indexed.account()), "{row:?}");
        assert_eq!(row.flags.as_deref().unwrap_or_default(), "", "{row:?}");
        assert_eq!(&row.rules, said, "{row:?}");
    }
}

//! Every backend keeps the contract of `Query`.
#![cfg(all(feature = "sqlite", feature = "mysql", feature = "store-contract"))]
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

#[path = "mariadb/server.rs"]
#[expect(dead_code, reason = "the tests of the store itself use the rest")]
mod server;
#[path = "filter/stored.rs"]
mod stored;

use std::cell::Cell;

use modsec_core::query::contract::{self, Fixture, FixtureFuture};
use modsec_core::query::{self, MemoryQuery, Query};
use modsec_core::store::{self, Row, StoreOptions};
use mysql_async::prelude::Queryable as _;

use self::server::Server;
use self::stored::{insert, runtime};

struct Memory;

impl Fixture for Memory {
    fn holding(&self, rows: Vec<Row>) -> FixtureFuture<'_, Box<dyn Query>> {
        Box::pin(async { Box::new(MemoryQuery::new(rows)) as Box<dyn Query> })
    }
}

/// Fills the store that the options name, and opens it for questions.
async fn filled(options: StoreOptions, rows: Vec<Row>) -> Box<dyn Query> {
    let mut store = store::open(&options).await.unwrap();
    insert(&mut *store, rows).await;
    query::open(&options).await.unwrap()
}

struct Sqlite(tempfile::TempDir);

impl Fixture for Sqlite {
    fn holding(&self, rows: Vec<Row>) -> FixtureFuture<'_, Box<dyn Query>> {
        let file = self.0.path().join("logs.db");
        let options = StoreOptions::new(format!("sqlite:{}", file.display()));
        Box::pin(filled(options, rows))
    }
}

/// A server, and how many databases were made on it.
struct Mariadb(Server, Cell<usize>);

impl Fixture for Mariadb {
    fn holding(&self, rows: Vec<Row>) -> FixtureFuture<'_, Box<dyn Query>> {
        Box::pin(async {
            self.1.set(self.1.get() + 1);
            let name = format!("query{}", self.1.get());
            let mut admin = self.0.admin().await;
            let create = format!("create database {name}");
            admin.query_drop(create).await.unwrap();
            let mut options = StoreOptions::new(format!("{}/{name}", self.0.url()));
            // Not the file of whoever runs the tests.
            options.defaults_file = Some("/dev/null".into());
            filled(options, rows).await
        })
    }
}

macro_rules! clauses {
    ($($clause:ident),* $(,)?) => {
        mod memory {
            $(#[test]
            fn $clause() {
                super::runtime().block_on(super::contract::$clause(&super::Memory));
            })*
        }

        mod sqlite {
            $(#[test]
            fn $clause() {
                let db = super::Sqlite(tempfile::tempdir().unwrap());
                super::runtime().block_on(super::contract::$clause(&db));
            })*
        }

        /// One server for all of them.
        #[test]
        fn mariadb() {
            let runtime = runtime();
            let Some(server) = runtime.block_on(Server::start(&[])) else {
                return;
            };
            let db = Mariadb(server, Cell::new(0));
            $(runtime.block_on(contract::$clause(&db));)*
        }
    };
}

clauses!(
    answers_are_those_of_memory,
    pages_have_every_transaction_once,
    nothing_is_shown_that_is_not_in_the_scope,
    a_late_answer_says_so,
    a_scope_names_many_and_not_too_many,
    hostile_texts_are_only_texts,
);

//! The contract of the stores, clause by clause, on every backend that is compiled in.
#![cfg(feature = "store-contract")]

use modsec_core::store::contract::{self, Dumped, Fixture, FixtureFuture};
use modsec_core::store::{MemoryStore, Store};

/// Makes one test of each clause of the contract.
macro_rules! contract_tests {
    ($runtime:ident, $fixture:expr; $($clause:ident)*) => {
        $(
            #[test]
            fn $clause() {
                $runtime(async {
                    let Some(fixture) = $fixture else { return };
                    contract::$clause(&fixture).await;
                });
            }
        )*
    };
}

macro_rules! whole_contract {
    ($runtime:ident, $fixture:expr) => {
        contract_tests! { $runtime, $fixture;
            nothing_is_stored_by_an_empty_batch
            rows_are_stored_as_they_are
            same_entry_twice_is_one_row
            same_entry_twice_in_one_batch_is_one_row
            refused_row_fails_its_batch_and_is_named
            last_batch_is_that_of_the_journal
            any_text_is_stored_as_it_is
            invalid_utf8_is_decoded_lossily
            over_long_values_are_cut
            extreme_numbers_do_not_fail
            time_is_the_instant_in_utc
            thousands_of_rows_keep_their_order
            rule_matches_keep_their_order
            reopened_store_has_everything
            two_stores_share_one_database
            name_has_no_password
        }
    };
}

/// The store of the example.
#[path = "../../examples/own_store/lines.rs"]
mod lines;

#[cfg(test)]
#[cfg(feature = "mysql")]
mod mariadb;

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(test);
}

mod own {
    use std::fs;

    use serde_json::Value as Json;
    use tempfile::TempDir;

    use super::lines::Lines;
    use super::*;

    struct Own(TempDir);

    impl Own {
        fn new() -> Own {
            Own(tempfile::tempdir().expect("a directory"))
        }

        fn store(&self) -> Lines {
            Lines(self.0.path().join("store"))
        }
    }

    /// Returns a list of columns.
    fn texts(columns: &Json) -> Vec<Option<String>> {
        let columns = columns.as_array().expect("a list").iter();
        columns
            .map(|text| text.as_str().map(str::to_owned))
            .collect()
    }

    impl Fixture for Own {
        fn open(&self) -> FixtureFuture<'_, Box<dyn Store>> {
            Box::pin(async { Box::new(self.store()) as Box<dyn Store> })
        }

        fn dump(&self) -> FixtureFuture<'_, Vec<Dumped>> {
            Box::pin(async {
                let text = fs::read_to_string(self.store().0).unwrap_or_default();
                let mut rows = Vec::new();
                for line in text.lines() {
                    let batch: Json = serde_json::from_str(line).expect("a line of JSON");
                    for row in batch["rows"].as_array().expect("a list of rows") {
                        let rules = row["rules"].as_array().expect("a list of rules");
                        rows.push(Dumped {
                            columns: texts(&row["columns"]),
                            rule_matches: rules.iter().map(texts).collect(),
                        });
                    }
                }
                rows
            })
        }

        fn refuse<'a>(&'a self, unique_id: &'a str) -> FixtureFuture<'a, ()> {
            let unwanted = self.store().0.with_extension("unwanted");
            fs::write(unwanted, unique_id).expect("a file that is written");
            Box::pin(async {})
        }
    }

    whole_contract!(run, Some(Own::new()));
}

mod memory {
    use super::*;

    struct Memory(MemoryStore);

    impl Fixture for Memory {
        fn open(&self) -> FixtureFuture<'_, Box<dyn Store>> {
            Box::pin(async { Box::new(self.0.clone()) as Box<dyn Store> })
        }

        fn dump(&self) -> FixtureFuture<'_, Vec<Dumped>> {
            Box::pin(async { self.0.rows().iter().map(Dumped::from_row).collect() })
        }

        fn refuse<'a>(&'a self, unique_id: &'a str) -> FixtureFuture<'a, ()> {
            self.0.refuse(unique_id);
            Box::pin(async {})
        }
    }

    whole_contract!(run, Some(Memory(MemoryStore::new())));
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod sqlite {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::process::{Command, Stdio};

    use modsec_core::store::{Batch, LOG_COLUMNS, RULE_COLUMNS, Row, StoreOptions, open};
    use rusqlite::Connection;

    use super::*;

    struct File(tempfile::TempDir);

    impl File {
        fn new() -> File {
            File(tempfile::tempdir().unwrap())
        }

        fn connect(&self) -> Connection {
            Connection::open(self.0.path().join("logs.db")).unwrap()
        }
    }

    impl Fixture for File {
        fn open(&self) -> FixtureFuture<'_, Box<dyn Store>> {
            let url = format!("sqlite:{}", self.0.path().join("logs.db").display());
            let options = StoreOptions::new(url);
            Box::pin(async move { open(&options).await.unwrap() })
        }

        fn dump(&self) -> FixtureFuture<'_, Vec<Dumped>> {
            let connection = self.connect();
            let logs = select(&connection, &LOG_COLUMNS, "logs order by id");
            let ids = select(&connection, &["id"], "logs order by id");
            let matches = |id: &str| {
                let from = format!("modsec_alerts where log_id = {id} order by position");
                select(&connection, &RULE_COLUMNS, &from)
            };
            let dumped = logs
                .into_iter()
                .zip(ids)
                .map(|(columns, id)| Dumped {
                    columns,
                    rule_matches: matches(id[0].as_deref().unwrap()),
                })
                .collect();
            Box::pin(async { dumped })
        }

        fn refuse<'a>(&'a self, unique_id: &'a str) -> FixtureFuture<'a, ()> {
            self.connect()
                .execute_batch(&format!(
                    "create trigger refuse before insert on logs
                     when new.unique_id = '{unique_id}'
                     begin select raise(abort, 'refused on request'); end"
                ))
                .unwrap();
            Box::pin(async {})
        }
    }

    fn select(connection: &Connection, columns: &[&str], from: &str) -> Vec<Vec<Option<String>>> {
        let columns: Vec<String> = columns
            .iter()
            .map(|column| match *column {
                "entry_hash" | "client_key" => format!("lower(nullif(hex({column}), ''))"),
                column => format!("cast({column} as text)"),
            })
            .collect();
        let mut select = connection
            .prepare(&format!("select {} from {from}", columns.join(", ")))
            .unwrap();
        select
            .query_map([], |row| (0..columns.len()).map(|n| row.get(n)).collect())
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap()
    }

    whole_contract!(run, Some(File::new()));

    /// Names the directory in which a copy of this program writes until it is killed.
    const KILL_DIR: &str = "MODSEC_TEST_KILL_DIR";
    const ROWS: usize = 20;

    fn batch(n: usize) -> Batch {
        let rows: Vec<Row> = (n * ROWS..(n + 1) * ROWS).map(contract::row).collect();
        Batch::new(Some("j".to_owned()), rows)
    }

    /// Does nothing, unless started by the test below.
    #[test]
    fn writer_to_be_killed() {
        let Some(dir) = std::env::var_os(KILL_DIR) else {
            return;
        };
        let url = format!("sqlite:{}/logs.db", dir.display());
        run(async {
            let mut store = open(&StoreOptions::new(url)).await.unwrap();
            for n in 0.. {
                store.insert(&batch(n)).await.unwrap();
                writeln!(std::io::stdout(), "stored").unwrap();
            }
        });
    }

    #[test]
    fn killed_writer_leaves_whole_batches_and_all_it_reported() {
        for reported in [1, 4, 17] {
            let file = File::new();
            let mut writer = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "sqlite::writer_to_be_killed", "--nocapture"])
                .env(KILL_DIR, file.0.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
            let stored = lines
                .map(Result::unwrap)
                .filter(|line| line.ends_with("stored"));
            assert_eq!(stored.take(reported).count(), reported);
            writer.kill().unwrap();
            writer.wait().unwrap();

            run(async {
                let mut store = file.open().await;
                let found = file.dump().await;
                let batches = found.len() / ROWS;
                assert!(
                    batches >= reported && found.len() % ROWS == 0,
                    "{}",
                    found.len()
                );
                for (n, found) in found.iter().enumerate() {
                    assert_eq!(*found, Dumped::from_row(&contract::row(n)));
                }
                let last = store.last_batch("j").await.unwrap();
                assert_eq!(last, Some(batch(batches - 1).id));
            });
        }
    }
}

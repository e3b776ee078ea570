//! Runs that start at one moment on one new database.

use std::fs;
use std::process::Stdio;

use super::site::{Ran, Site, entry};

/// Databases that are made, and processes that make each.
const ROUNDS: usize = 8;
const PROCESSES: usize = 8;

#[test]
fn runs_that_meet_at_a_new_database_all_succeed() {
    let site = Site::new();
    let (input, database) = (site.path("entry"), site.path("logs.db"));
    for round in 0..ROUNDS {
        let children: Vec<_> = (0..PROCESSES)
            .map(|number| {
                let input = input.with_extension(number.to_string());
                fs::write(&input, entry(number)).unwrap();
                let mut command = site.program();
                command
                    .arg("--store")
                    .arg(format!("sqlite:{}", database.display()))
                    .arg(input);
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
                command.spawn().unwrap()
            })
            .collect();
        for child in children {
            Ran::from(child.wait_with_output().unwrap()).expect(0, &["1 stored"]);
        }
        assert_eq!(site.stored().len(), PROCESSES, "round {round}");
        for name in ["logs.db", "logs.db-wal", "logs.db-shm"] {
            let _ = fs::remove_file(site.path(name));
        }
    }
}

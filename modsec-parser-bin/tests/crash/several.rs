//! Death while the entries of one file are stored in several batches.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;

use crate::site::{Site, Sqlite};

/// Entries of the file, whose rows are stored in three batches.
const ENTRIES: usize = 50;

fn put_in_one_file(site: &mut Site<Sqlite>) {
    for number in 0..ENTRIES {
        let id = format!("entry{number:07}");
        let text = "x".repeat(8000);
        let alert = format!(
            "ModSecurity: Warning. {text} [file \"/f\"] [line \"1\"] [id \"7\"] [rev \"\"] [msg \"m\"] [data \"\"] [severity \"2\"] [ver \"\"] [maturity \"0\"] [accuracy \"0\"] [hostname \"h\"] [uri \"/\"] [unique_id \"{id}\"] [ref \"v1,1\"]\n"
        );
        let entry = format!(
            "---{number:08}---A--\n[04/Mar/2026:05:06:07 +0000] {id} 192.0.2.7 4242 198.51.100.1 80\n\
             ---{number:08}---B--\nGET / HTTP/1.1\nHost: example.org\n\n\
             ---{number:08}---F--\nHTTP/1.1 200\n\n\
             ---{number:08}---H--\n{}\n---{number:08}---Z--\n\n",
            alert.repeat(25)
        );
        site.entries.insert(id, entry.into_bytes());
    }
    let dir = site.tree().join("site1/20260304/20260304-0506");
    fs::create_dir_all(&dir).unwrap();
    let bytes: Vec<u8> = site.entries.values().flatten().copied().collect();
    fs::write(dir.join("20260304-050607-several"), bytes).unwrap();
}

#[test]
fn death_between_batches_of_one_file_loses_and_doubles_nothing() {
    for place in [
        "log-synced:2",
        "in-transaction:2",
        "committed:2",
        "before-removal:1",
        "before-removal:2",
        "before-removal:3",
        "taken:1",
        "removed:1",
    ] {
        let mut site = Site::with_sqlite();
        put_in_one_file(&mut site);
        let mut command = site.command();
        let output = command.env("MODSEC_CRASH_AT", place).output().unwrap();
        assert_eq!(output.status.signal(), Some(9), "{place}: did not come by");
        // Until the last of them is stored, the file is there.
        if place != "removed:1" {
            assert_eq!(site.left().len(), 1, "{place}");
        }
        let (status, text) = site.run();
        assert!(status.success(), "{place}: {status} {text}");
        site.check(&[&site.log], place);
    }
}

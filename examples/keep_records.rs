//! Reads logs of any dialect, keeps every record, and writes them in the order of time as JSON:
//! `cargo run -p modsec-core --example keep_records --features serde -- FILE...`

#![expect(clippy::print_stdout, reason = "an example prints")]

use std::env;
use std::fs::File;

use modsec_core::Record;
use modsec_core::serial_log::{self, Item};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut records: Vec<Record<'static>> = Vec::new();
    for path in env::args_os().skip(1) {
        for item in serial_log::read(File::open(path)?) {
            match item? {
                // The entry's bytes are gone when the next one is read.
                Item::Entry(entry) => match entry.decode() {
                    Ok(record) => records.push(record.into_owned()),
                    Err(defect) => eprintln!("left out: {defect}"),
                },
                other => eprintln!("passed over: {other:?}"),
            }
        }
    }
    records.sort_by_key(|record| record.time);
    for record in &records {
        eprintln!("{record}");
        println!("{}", serde_json::to_string(record)?);
    }
    Ok(())
}

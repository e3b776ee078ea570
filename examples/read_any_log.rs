//! Counts the rules that matched in a log of any dialect, serial or merged:
//! `cargo run -p modsec-core --example read_any_log -- FILE...`

#![expect(clippy::print_stdout, reason = "an example prints")]

use std::collections::BTreeMap;
use std::env;
use std::fs::File;

use modsec_core::serial_log::{self, Item};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut rules = BTreeMap::new();
    for path in env::args_os().skip(1) {
        for item in serial_log::read(File::open(path)?) {
            match item? {
                Item::Entry(entry) => match entry.decode() {
                    Ok(record) => {
                        for alert in record.alerts {
                            let rule = alert.rule_id.map(|id| id.to_string());
                            *rules.entry(rule.unwrap_or_default()).or_insert(0) += 1;
                        }
                    }
                    Err(defect) => eprintln!("left out: {defect}"),
                },
                other => eprintln!("passed over: {other:?}"),
            }
        }
    }
    for (rule, matches) in rules {
        // `Debug` quotes and escapes: what looks like an id may have been chosen by a stranger.
        println!("{matches:6} {rule:?}");
    }
    Ok(())
}

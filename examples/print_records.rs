//! Prints one line for each audit-log entry in the given files:
//! `cargo run -p modsec-core --example print_records -- FILE...`

#![expect(clippy::print_stdout, reason = "an example prints")]

use std::path::PathBuf;
use std::{env, fs};

use modsec_core::format;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for path in env::args_os().skip(1).map(PathBuf::from) {
        let bytes = fs::read(&path)?;
        match format::decode(&bytes) {
            Ok(record) => println!("{record}"),
            Err(defect) => eprintln!("{}: {defect}", path.display()),
        }
    }
    Ok(())
}

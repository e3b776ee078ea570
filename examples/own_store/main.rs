//! Stores what is in a storage directory in a file of our own format, and removes it there:
//! `cargo run -p modsec-core --example own_store --features jobs -- FILE STORAGE_DIR`

#![expect(clippy::print_stdout, reason = "an example prints")]

mod lines;

use std::path::PathBuf;
use std::time::Duration;

use modsec_core::ingest::{self, Options, Silent};
use modsec_core::program::Stop;
use modsec_core::store::StoreOpener;

use crate::lines::Lines;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(file), Some(storage_dir)) = (args.next(), args.next()) else {
        return Err("usage: own_store FILE STORAGE_DIR".into());
    };
    let mut options = Options::default();
    options.storage_dir = Some(storage_dir);
    options.store = Some(StoreOpener::new(move || {
        let store = Lines(file.clone());
        async { Ok(store) }
    }));
    // Nobody writes to it meanwhile.
    options.min_age = Duration::ZERO;
    let (_handle, stop) = Stop::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tally = runtime.block_on(ingest::run(&options, &stop, &mut Silent))?;
    println!("{} stored, {} removed", tally.stored, tally.removed);
    Ok(())
}

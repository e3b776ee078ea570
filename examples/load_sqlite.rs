//! Stores the given entries in an SQLite file:
//! `cargo run -p modsec-core --example load_sqlite --features sqlite -- DATABASE FILE...`

#![expect(clippy::print_stdout, reason = "an example prints")]

use std::path::PathBuf;
use std::{env, fs};

use modsec_core::record::TrustedProxies;
use modsec_core::store::{self, Batch, Origin, Row, StoreOptions};
use modsec_core::{EntryHash, format};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = env::args_os().skip(1).map(PathBuf::from);
    let database = args.next().ok_or("usage: load_sqlite DATABASE FILE...")?;
    let mut rows = Vec::new();
    for path in args {
        let bytes = fs::read(&path)?;
        let record = format::decode(&bytes)?;
        let client = TrustedProxies::default().client(&record);
        let mut origin = Origin::default();
        origin.path = Some(path);
        rows.push(Row::new(&record, EntryHash::of(&bytes), &origin, client));
    }
    let options = StoreOptions::new(format!("sqlite:{}", database.display()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let inserted = runtime.block_on(async {
        let mut store = store::open(&options).await?;
        store.insert(&Batch::new(None, rows)).await
    })?;
    println!(
        "{} stored, {} known already",
        inserted.stored, inserted.known
    );
    Ok(())
}

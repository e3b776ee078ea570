//! Says once what would have to be changed in a storage directory, and changes it if told to:
//! `cargo run -p modsec-core --example keep_permissions --features fs -- DIR OWNER GROUP`

#![expect(clippy::print_stdout, reason = "an example prints")]

use std::env;
use std::path::{Path, PathBuf};

use modsec_core::accounts::Accounts;
use modsec_core::permissions::{Keeper, Names, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = env::args().skip(1);
    let (Some(dir), Some(owner), Some(group)) = (args.next(), args.next(), args.next()) else {
        return Err("usage: keep_permissions DIR OWNER GROUP".into());
    };
    let mut names = Names::default();
    names.owner = owner;
    names.group = group;
    let policy = names.resolve(&Accounts::below(Path::new("/"))?)?;
    let options = Options::new(PathBuf::from(dir), policy);
    let tally = Keeper::new(options)?.once(|change| println!("{change}"))?;
    println!(
        "{} of {} directories corrected",
        tally.corrected, tally.directories
    );
    Ok(())
}

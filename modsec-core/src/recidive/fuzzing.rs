//! What fuzz targets call and nobody else: the state file as bytes.
//!
//! Only there with `--cfg fuzzing`, and no part of the interface.

use super::Loaded;
use super::state::{self, Marks};
use crate::ledger::Ledger;

/// Reads the bytes of a state file.
pub fn read_state(bytes: &[u8]) -> Loaded {
    // Reading from memory cannot fail.
    state::parse(bytes).unwrap_or_default()
}

/// Writes what `loaded` says beside its clients, and the clients of `ledger`.
pub fn write_state(loaded: &Loaded, ledger: &Ledger) -> Vec<u8> {
    let marks = Marks {
        log: loaded.state.log(),
        jail: loaded.state.jail(),
    };
    let unsent = loaded.state.unsent().iter().copied();
    state::to_bytes(ledger, &loaded.state.seen(), marks, unsent)
}

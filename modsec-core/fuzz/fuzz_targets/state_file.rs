//! Any bytes as the state of `recidive`: no panic, and what is written is read back.
#![no_main]

use chrono::DateTime;
use libfuzzer_sys::fuzz_target;
use modsec_core::recidive::fuzzing::{read_state, write_state};
use modsec_core::ledger::{Ledger, LedgerOptions, Sighting};
use modsec_core::recidive::Loaded;

fn ledger(loaded: &Loaded) -> Ledger {
    let mut options = LedgerOptions::default();
    options.threshold = 3;
    options.max_clients = 16;
    let mut ledger = Ledger::new(options).expect("options within their ranges");
    for sighting in loaded.state.sightings() {
        ledger.restore(sighting);
    }
    ledger
}

fuzz_target!(|bytes: &[u8]| {
    let loaded = read_state(bytes);
    let lines = bytes.split(|byte| *byte == b'\n').count();
    assert!(loaded.bad_lines + loaded.state.sightings().len() <= lines + bytes.len() / 4096);

    let restored = ledger(&loaded);
    assert!(restored.len() <= 16);
    let written = write_state(&loaded, &restored);
    let again = read_state(&written);
    assert_eq!(again.bad_lines, 0, "{}", String::from_utf8_lossy(&written));
    let restored_again = ledger(&again);
    assert_eq!(
        write_state(&again, &restored_again),
        written,
        "reading changes nothing"
    );

    // Work goes on with any state.
    let mut ledger = restored;
    let clients: Vec<Sighting> = ledger.sightings().collect();
    for client in &clients {
        let at = DateTime::from_timestamp_millis(client.last_seen_ms).unwrap_or_default();
        for at in [DateTime::default(), at] {
            ledger.strike(client.network.addr(), at);
        }
        client.in_window_at(at, ledger.options().find_time);
    }
    ledger.forget(ledger.options().find_time, DateTime::default());
    assert!(ledger.len() <= 16);
});

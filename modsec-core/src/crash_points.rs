//! Places between two steps at which a test lets the process die.
//!
//! Only in builds with the feature `crash-points`. `MODSEC_CRASH_AT=NAME:COUNT` names the place and
//! the time it is passed, counted from 1. The process then dies as by a power failure that spares
//! what the kernel has: no destructor runs, nothing is flushed.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// Where to die, and how many more times to come by first.
struct Death {
    place: String,
    left: AtomicU64,
}

/// Ends the process here if the environment says so.
pub(crate) fn pass(place: &str) {
    static DEATH: OnceLock<Option<Death>> = OnceLock::new();
    let read = || {
        let wanted = std::env::var("MODSEC_CRASH_AT").ok()?;
        let (place, count) = wanted.split_once(':')?;
        Some(Death {
            place: place.to_owned(),
            left: AtomicU64::new(count.parse().ok()?),
        })
    };
    if let Some(death) = DEATH.get_or_init(read)
        && death.place == place
        && death.left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        // Nothing to do about a failure: the test then finds that the process lived on.
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

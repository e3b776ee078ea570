//! Places between two steps at which a test lets the process die, or a thread stop or panic.
//!
//! Without the feature `crash-points` nothing happens. `MODSEC_CRASH_AT=NAME:COUNT` names the place and
//! the time it is passed, counted from 1. The process then dies as by a power failure that spares
//! what the kernel has: no destructor runs, nothing is flushed. With `NAME:COUNT:hang` the thread
//! that comes by never goes on, with `NAME:COUNT:panic` it panics.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rustix::process::{Signal, getpid, kill_process};

/// What happens where, and how many more times to come by first.
struct Accident {
    place: String,
    left: AtomicU64,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Death,
    Hang,
    Panic,
}

impl Accident {
    fn from_env() -> Option<Accident> {
        let wanted = std::env::var("MODSEC_CRASH_AT").ok()?;
        let mut words = wanted.split(':');
        Some(Accident {
            place: words.next()?.to_owned(),
            left: AtomicU64::new(words.next()?.parse().ok()?),
            kind: match words.next() {
                None => Kind::Death,
                Some("hang") => Kind::Hang,
                Some("panic") => Kind::Panic,
                Some(_) => return None,
            },
        })
    }
}

/// Ends the process here, or what else the environment says.
pub(crate) fn pass(place: &str) {
    if cfg!(feature = "crash-points") {
        meet(place);
    }
}

fn meet(place: &str) {
    static ACCIDENT: OnceLock<Option<Accident>> = OnceLock::new();
    let Some(accident) = ACCIDENT.get_or_init(Accident::from_env) else {
        return;
    };
    if accident.place != place || accident.left.fetch_sub(1, Ordering::Relaxed) != 1 {
        return;
    }
    match accident.kind {
        // Nothing to do about a failure: the test then finds that the process lived on.
        Kind::Death => drop(kill_process(getpid(), Signal::KILL)),
        Kind::Hang => loop {
            thread::park();
        },
        Kind::Panic => panic!("a test wanted it at {place}"),
    }
}

//! Points between two steps at which a test lets the process die, or a thread stop or panic.
//!
//! Without the feature `crash-points` nothing happens, and the calls are compiled away.
//! `MODSEC_CRASH_AT=NAME:COUNT` names the point and the time it is passed, counted from 1. The
//! process then dies as by a power failure that spares what the kernel has: no destructor runs,
//! nothing is flushed. With `NAME:COUNT:hang` the thread that comes by never goes on, with
//! `NAME:COUNT:panic` it panics.
//!
//! ```text
//! MODSEC_CRASH_AT=in-transaction:2         dies before the second commit
//! MODSEC_CRASH_AT=part-written:1:hang      stands still after the first bytes in the merged log
//! ```
//!
//! A test of exactly-once kills a program at each point once, runs it again, and compares store and
//! merged log with what was to be there.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rustix::process::{Signal, getpid, kill_process};

/// What the variable asks for.
struct CrashPoint {
    /// Name of the point.
    name: String,
    /// How many times it is still passed, the one that counts included.
    left: AtomicU64,
    /// What happens there.
    kind: Kind,
}

/// What happens at the point.
#[derive(Clone, Copy)]
enum Kind {
    /// The process gets SIGKILL.
    Kill,
    /// The thread stops for good; others go on.
    Hang,
    /// The thread panics.
    Panic,
}

impl CrashPoint {
    /// Reads `MODSEC_CRASH_AT`; `None` if it is not set, or cannot be understood.
    fn from_env() -> Option<CrashPoint> {
        let wanted = std::env::var("MODSEC_CRASH_AT").ok()?;
        let mut words = wanted.split(':');
        Some(CrashPoint {
            name: words.next()?.to_owned(),
            left: AtomicU64::new(words.next()?.parse().ok()?),
            kind: match words.next() {
                None => Kind::Kill,
                Some("hang") => Kind::Hang,
                Some("panic") => Kind::Panic,
                Some(_) => return None,
            },
        })
    }
}

/// Passes the point `name`: does nothing, unless the environment says otherwise.
pub(crate) fn pass(name: &str) {
    if cfg!(feature = "crash-points") {
        reach(name);
    }
}

/// Counts that the point was passed, and dies, stops or panics if it is the time for it.
fn reach(name: &str) {
    /// What the environment asks for, read when the first point is passed.
    static CRASH_POINT: OnceLock<Option<CrashPoint>> = OnceLock::new();
    let Some(point) = CRASH_POINT.get_or_init(CrashPoint::from_env) else {
        return;
    };
    if point.name != name || point.left.fetch_sub(1, Ordering::Relaxed) != 1 {
        return;
    }
    match point.kind {
        // Nothing to do about a failure: the test then finds that the process lived on.
        Kind::Kill => drop(kill_process(getpid(), Signal::KILL)),
        Kind::Hang => loop {
            thread::park();
        },
        Kind::Panic => panic!("a test wanted it at {name}"),
    }
}

//! The machine's inotify instances, which all programs of one user share.

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use rustix::fs::inotify::{CreateFlags, init};

/// How many must be free for a test that follows: what its programs use, and those of the tests
/// that begin at the same moment.
const FREE: usize = 8;

/// Returns `true` if a test can start programs that follow; says why not if there are too few
/// inotify instances, because other programs have used them up.
pub(crate) fn can_follow() -> bool {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let tried: Result<Vec<_>, _> = (0..FREE).map(|_| init(CreateFlags::CLOEXEC)).collect();
    if let Err(error) = &tried {
        let thread = std::thread::current();
        let _ = writeln!(
            std::io::stderr(),
            "{}: skipped, not {FREE} inotify instances are free ({error}); end programs that use \
             some, or raise fs.inotify.max_user_instances",
            thread.name().unwrap_or("test"),
        );
    }
    tried.is_ok()
}

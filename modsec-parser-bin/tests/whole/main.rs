//! The whole, as on a server: Apache with MPM-ITK, `ModSecurity` and the Core Rule Set behind nginx,
//! `MariaDB`, Fail2ban, and the three programs; thousands of requests of visitors with addresses
//! of their own. What Apache's index and error log and the visitors say is what must be found.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../../modsec-core/tests/machine/accounts.rs"]
mod accounts;
mod calm;
mod database;
#[path = "../../../modsec-core/tests/machine/inotify.rs"]
mod inotify;
mod migration;
mod programs;
#[path = "../../../modsec-core/tests/mariadb/server.rs"]
#[expect(dead_code, reason = "here nobody shares a server")]
mod server;
mod servers;
mod soak;
mod stage;
mod traffic;
mod trouble;
mod truth;
mod world;

use std::path::Path;
use std::time::{Duration, Instant};

/// How long something may take that normally takes seconds, on a machine with other work.
const LIMIT: Duration = Duration::from_secs(120);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Waits until `done`.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < LIMIT, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

//! Threads that hang or panic, and waits that only look like it.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};

use crate::inotify::can_follow;
use crate::maria::Maria;
use crate::runtime;
use crate::site::{Database, LIMIT, Running, Site, until};

/// The watchdog's period. Looked at four times in each.
const PERIOD: Duration = Duration::from_secs(2);

/// A service manager that listens.
struct Manager(UnixDatagram);

impl Manager {
    fn start<D: Database>(site: &Site<D>, accident: &str) -> (Manager, Running) {
        let path = site.dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut command = site.command();
        command
            .args(["--follow", "--rescan-every", "1"])
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", PERIOD.as_micros().to_string())
            .env("MODSEC_CRASH_AT", accident);
        (Manager(socket), site.start(command))
    }

    /// Waits for a message that begins like this; false if none comes for `patience`.
    fn hears(&self, want: &str, patience: Duration) -> bool {
        let mut bytes = [0; 512];
        self.0.set_read_timeout(Some(patience)).unwrap();
        while let Ok(len) = self.0.recv(&mut bytes) {
            if bytes[..len].starts_with(want.as_bytes()) {
                return true;
            }
        }
        false
    }

    fn hears_it_live(&self, case: &str) {
        for _ in 0..4 {
            assert!(self.hears("WATCHDOG=1", LIMIT), "{case}");
        }
    }

    /// Returns once it has been silent for so long that a watchdog would end it.
    fn hears_it_fall_silent(&self, case: &str) {
        let sent = (0..100).take_while(|_| self.hears("WATCHDOG=1", PERIOD * 2));
        assert!(sent.count() < 100, "{case}: signs of life from the dead");
    }
}

#[test]
fn a_store_a_reader_or_a_claim_that_hangs_is_noticed() {
    if !can_follow() {
        return;
    }
    for accident in [
        "in-transaction:1:hang",
        "before-reading:1:hang",
        "removed:1:hang",
        "claimed:1:hang",
    ] {
        let mut site = Site::with_sqlite();
        let (manager, _running) = Manager::start(&site, accident);
        assert!(manager.hears("READY=1", LIMIT), "{accident}");
        site.put_all(10, 500);
        manager.hears_it_fall_silent(accident);
    }
}

#[test]
fn a_database_that_is_away_is_no_standstill() {
    if !can_follow() {
        return;
    }
    let mut site = Site::new(NoServer);
    site.put_all(10, 500);
    let (manager, running) = Manager::start(&site, "");
    until("the warning", || {
        running.log().contains("nothing can be kept")
    });
    manager.hears_it_live("outage");
    // Nobody reads the pings any more, and a program that cannot get rid of one waits.
    drop(manager);
    running.stop();
}

struct NoServer;

impl Database for NoServer {
    fn url(&self) -> String {
        "mysql://root@127.0.0.1:1/modsec".to_owned()
    }

    fn rows(&self) -> std::collections::BTreeMap<String, i64> {
        std::collections::BTreeMap::new()
    }
}

#[test]
fn a_migration_that_takes_long_is_no_standstill() {
    if !can_follow() {
        return;
    }
    let Some(maria) = Maria::shared() else { return };
    let mut site = Site::new(maria);
    site.put_all(10, 500);
    assert!(site.run().0.success());
    // As an older version would have left it.
    let url = site.database.url();
    let (_, name) = url.rsplit_once('/').unwrap();
    for statement in [
        "alter table logs drop column flags",
        "delete from modsec_migrations",
    ] {
        site.database.execute(name, statement);
    }
    site.put_all(10, 500);
    let opts = Opts::from_url(&url).unwrap();
    let (manager, running) = runtime().block_on(async {
        let mut holder = Conn::new(opts).await.unwrap();
        // As long as somebody reads the table, nobody alters it.
        holder.query_drop("lock tables logs read").await.unwrap();
        let (manager, running) = Manager::start(&site, "");
        manager.hears_it_live("migration");
        holder.disconnect().await.unwrap();
        (manager, running)
    });
    assert!(manager.hears("READY=1", LIMIT));
    site.wait_for_rows();
    until("files removed", || site.left().is_empty());
    // Nobody reads the pings any more, and a program that cannot get rid of one waits.
    drop(manager);
    running.stop();
    site.check(&[&site.log], "migrated");
}

#[test]
fn a_file_whose_reading_panics_is_named_and_the_others_go_on() {
    let mut site = Site::with_sqlite();
    site.put_all(300, 500);
    let mut command = site.command();
    command.env("MODSEC_CRASH_AT", "before-reading:7:panic");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    // The same pass walks once more, and this time it can be read.
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("file could not be read"), "{text}");
    site.check(&[&site.log], "panic in a file");
}

#[test]
fn a_reader_that_panics_ends_the_pass_and_the_next_one_finishes() {
    let mut site = Site::with_sqlite();
    site.put_all(2000, 5000);
    let mut command = site.command();
    command.env("MODSEC_CRASH_AT", "job-taken:7:panic");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("a reading thread failed"), "{text}");
    let (status, text) = site.run();
    assert!(status.success(), "{text}");
    site.check(&[&site.log], "panic of a thread");
}

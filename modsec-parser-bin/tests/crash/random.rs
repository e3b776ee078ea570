//! Death at random instants, and two programs at once.

use std::process::Stdio;
use std::time::{Duration, SystemTime};

use crate::inotify::can_follow;
use crate::maria::Maria;
use crate::site::{Database, Site};

/// Kills `rounds` runs, each at another instant, while entries keep coming.
fn killed_again_and_again<D: Database>(mut site: Site<D>, rounds: u32) {
    let seed = SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    let mut random = u64::from(seed) | 1;
    let mut killed = 0;
    for round in 0..rounds {
        site.put_all(40, 2_000);
        // Xorshift: other instants each time.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let pause = Duration::from_micros(random % 30_000);
        let mut command = site.command();
        if round % 2 == 0 {
            command.arg("--follow");
        }
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(pause);
        site.put_all(20, 2_000);
        std::thread::sleep(pause);
        killed += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        if round % 20 == 19 {
            let (status, text) = site.run();
            assert!(status.success(), "seed {seed}: {text}");
            site.check(&[&site.log], &format!("seed {seed}, round {round}"));
        }
    }
    // Those that follow do not end by themselves.
    assert!(
        killed >= rounds / 2,
        "only {killed} of {rounds} were killed"
    );
}

#[test]
fn two_hundred_deaths_lose_and_double_nothing_in_sqlite() {
    if !can_follow() {
        return;
    }
    killed_again_and_again(Site::with_sqlite(), 200);
}

#[test]
fn a_hundred_deaths_lose_and_double_nothing_in_mariadb() {
    if !can_follow() {
        return;
    }
    if let Some(database) = Maria::shared() {
        killed_again_and_again(Site::new(database), 100);
    }
}

#[test]
fn of_two_programs_started_at_once_one_works_and_the_other_says_why_not() {
    for _ in 0..10 {
        let mut site = Site::with_sqlite();
        site.put_all(200, 1_000);
        let mut other = site
            .command()
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let first = site.run();
        let status = other.wait().unwrap();
        let text = std::io::read_to_string(other.stderr.take().unwrap()).unwrap();
        let mut succeeded = 0;
        for (status, text) in [first, (status, text)] {
            if status.success() {
                succeeded += 1;
            } else {
                assert_eq!(status.code(), Some(1));
                assert!(text.contains("in use by modsec-parser (process"), "{text}");
            }
        }
        assert!(succeeded >= 1);
        site.check(&[&site.log], "two at once");
    }
}

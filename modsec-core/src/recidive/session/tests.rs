use std::fs;

use super::*;
use crate::ledger::{AttackFilter, LedgerOptions};
use crate::recidive::counter::testing::entry;
use crate::recidive::unfinished::MAX_UNFINISHED;
use crate::record::TrustedProxies;

const MINUTE: &str = "audit/site1/20260822/20260822-1015";

fn options(dir: &Path) -> Options {
    fs::create_dir_all(dir.join(MINUTE)).unwrap();
    Options {
        storage_dir: Some(dir.join("audit")),
        log: None,
        attacks: AttackFilter::default(),
        proxies: TrustedProxies::default(),
        ledger: LedgerOptions::default(),
        owners: None,
        jail_file: dir.join("jail"),
        state_file: dir.join("state"),
        stale_after: Duration::ZERO,
        save_every: Duration::from_secs(3600),
        dry_run: false,
    }
}

/// Writes an attack under a name of its own.
fn attack(dir: &Path, n: u32) {
    let path = dir.join(MINUTE).join(format!("20260822-101500-{n}"));
    let entry = entry("192.0.2.7", "", &n.to_string(), "403");
    fs::write(path, entry).unwrap();
}

async fn walk(session: &mut Session<'_>) {
    session.walk();
    while session.work().await {}
}

#[tokio::test]
async fn a_walk_that_is_interrupted_by_another_leaves_nothing_out() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    (0..100).for_each(|n| attack(dir.path(), n));
    let mut session = Session::new(&options).unwrap();
    session.walk();
    session.work().await;
    let part = session.counter.tally.attacks;
    assert!(part > 0 && part < 100, "{part}");
    walk(&mut session).await;
    assert_eq!(session.counter.tally.attacks, 100);
    (100..103).for_each(|n| attack(dir.path(), n));
    walk(&mut session).await;
    assert_eq!(session.counter.tally.attacks, 103);
    assert_eq!(
        session.counter.tally.repeated, 0,
        "known files are not read again"
    );
}

/// A record of libmodsecurity, which appends to a file of the same name.
fn appended(n: u32, status: u16) -> String {
    format!(
        "---{n:08}---A--\n[22/Aug/2026:10:15:00 +0200] 1.1 192.0.2.7 40112 198.51.100.4 80\n\
         ---{n:08}---B--\nGET /{n} HTTP/1.1\nHost: a\n\n---{n:08}---F--\nHTTP/1.1 {status}\n\n\
         ---{n:08}---H--\n\n---{n:08}---Z--\n\n"
    )
}

#[tokio::test]
async fn every_record_in_a_file_counts_once() {
    for (statuses, want) in [
        ([vec![200], vec![403; 30]].concat(), 30),
        ([vec![403], vec![200; 9]].concat(), 1),
        (vec![403; 150], 150),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path());
        let path = dir.path().join(MINUTE).join("20260822-101500-same");
        let mut session = Session::new(&options).unwrap();
        walk(&mut session).await;
        let mut file = String::new();
        for (n, status) in (0..).zip(&statuses) {
            file += &appended(n, *status);
            fs::write(&path, &file).unwrap();
            let relative = path.strip_prefix(dir.path().join("audit")).unwrap();
            session.file(relative, Which::Closed);
        }
        assert_eq!(session.counter.tally.attacks, want, "{statuses:?}");
    }
}

#[tokio::test]
async fn files_that_nobody_finishes_are_read_as_they_are_and_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let half = entry("192.0.2.7", "", "", "403").replace("--3fa0c41b-Z--\n", "");
    for n in 0..MAX_UNFINISHED + 100 {
        let path = dir.path().join(MINUTE).join(format!("20260822-101500-{n}"));
        fs::write(path, if n == 7 { half.as_str() } else { "" }).unwrap();
    }
    let mut session = Session::new(&options).unwrap();
    walk(&mut session).await;
    while !session.unfinished.is_empty() {
        session.tick().await;
    }
    assert_eq!(session.summary.truncated, 1);
    assert_eq!(session.counter.tally.attacks, 1);
}

#[tokio::test]
async fn a_file_of_many_records_waits_for_all_other_files() {
    const RECORDS: u32 = 3000;
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let mut session = Session::new(&options).unwrap();
    walk(&mut session).await;
    let many: String = (0..RECORDS).map(|n| appended(n, 403)).collect();
    let path = |name: &str| {
        let minute = Path::new(MINUTE).strip_prefix("audit").unwrap();
        minute.join(format!("20260822-101500-{name}"))
    };
    let audit = dir.path().join("audit");
    // More than may be begun at a time.
    for n in 0..20 {
        let many = many.replace("192.0.2.7", &format!("192.0.2.{n}"));
        fs::write(audit.join(path(&n.to_string())), many).unwrap();
        session.file(&path(&n.to_string()), Which::Closed);
    }
    attack(dir.path(), 99);
    session.file(&path("99"), Which::Closed);
    let counted = session.counter.tally.attacks;
    assert!(counted < u64::from(RECORDS) * 4, "{counted}");
    while session.work().await {}
    let all = session.counter.tally.attacks;
    assert_eq!(all, u64::from(RECORDS) * 20 + 1);
}

#[tokio::test]
async fn what_the_parser_took_is_read_although_events_never_end() {
    use std::os::unix::fs::PermissionsExt as _;
    if !crate::watch::inotify_instances::can_follow() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let private = dir.path().join("audit").join(PRIVATE);
    fs::create_dir(&private).unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
    let mut session = Session::new(&options).unwrap();
    walk(&mut session).await;
    attack(dir.path(), 1);
    let path = dir.path().join(MINUTE).join("20260822-101500-1");
    fs::rename(path, private.join("1-1.20260822-101500-1")).unwrap();
    // As in the loop of the program, where the next event always comes first.
    session.work().await;
    assert_eq!(session.counter.tally.attacks, 1);
}

#[tokio::test]
async fn files_that_were_removed_before_they_were_read_are_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let mut session = Session::new(&options).unwrap();
    walk(&mut session).await;
    session.file(&Path::new(PRIVATE).join("1-1.x"), Which::Closed);
    session.file(&path_of_nothing(), Which::Closed);
    assert_eq!((session.missed, session.summary.vanished), (1, 2));
    // What was read under its old name is not missed.
    attack(dir.path(), 1);
    let path = Path::new(MINUTE).join("20260822-101500-1");
    session.file(path.strip_prefix("audit").unwrap(), Which::Closed);
    let inode = fs::metadata(dir.path().join(&path));
    let inode = std::os::unix::fs::MetadataExt::ino(&inode.unwrap());
    let claimed = Path::new(PRIVATE).join(format!("{inode:x}-2.20260822-101500-1"));
    session.file(&claimed, Which::Closed);
    assert_eq!((session.missed, session.summary.vanished), (1, 3));
}

#[tokio::test]
async fn what_could_not_be_handed_over_is_handed_over_by_the_next_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.ledger.threshold = 1;
    options.jail_file = dir.path().join("away/jail");
    let away = dir.path().join("away");
    fs::create_dir(&away).unwrap();
    let mut session = Session::new(&options).unwrap();
    fs::rename(&away, dir.path().join("elsewhere")).unwrap();
    for n in 0..3 {
        attack(dir.path(), n);
    }
    walk(&mut session).await;
    session.save_now().await.unwrap();
    // Killed.
    drop(session);
    fs::create_dir(&away).unwrap();
    let mut session = Session::new(&options).unwrap();
    session.save_now().await.unwrap();
    assert!(session.reporter.send());
    // Killed again, before that was saved.
    drop(session);
    let mut session = Session::new(&options).unwrap();
    walk(&mut session).await;
    session.finish().await.unwrap();
    let jail = fs::read_to_string(&options.jail_file).unwrap();
    assert_eq!(jail.lines().count(), 3, "{jail}");
}

fn path_of_nothing() -> std::path::PathBuf {
    let minute = Path::new(MINUTE).strip_prefix("audit").unwrap();
    minute.join("20260822-101500-nothing")
}

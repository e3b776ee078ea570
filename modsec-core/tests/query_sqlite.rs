//! Questions to a file that another process writes, that others have written, or that is damaged.
#![cfg(all(feature = "sqlite", feature = "store-contract"))]
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

#[path = "filter/stored.rs"]
mod stored;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use chrono::{DateTime, Utc};
use modsec_core::filter::Filter;
use modsec_core::query::{self, Question, Scope, Window};
use modsec_core::store::{self, StoreOptions};
use rusqlite::Connection;

use self::stored::{insert, runtime};

/// Names the file that the program of the test is to ask, when it is run as another account.
const ASK: &str = "MODSEC_TEST_ASK";
/// User and group id of an account that is on every system and owns nothing.
const NOBODY: u32 = 65534;
/// Questions that the other process asks.
const QUESTIONS: usize = 25;
/// Rows that are there at every instant.
const ROWS: usize = 2_000;

fn options(file: &Path) -> StoreOptions {
    StoreOptions::new(format!("sqlite:{}", file.display()))
}

/// A database in a directory that everybody may read and enter.
fn database() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let file = dir.path().join("logs.db");
    drop(runtime().block_on(store::open(&options(&file))).unwrap());
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    (dir, file)
}

/// Puts [`ROWS`] rows in the place of those that are there, copies the log back, and leaves.
fn write(file: &Path) {
    let connection = Connection::open(file).unwrap();
    connection.busy_timeout(Duration::from_secs(60)).unwrap();
    connection
        .execute_batch(&format!(
            "pragma synchronous = off;
             begin immediate;
             delete from logs;
             with recursive n(n) as (select 1 union all select n + 1 from n where n < {ROWS})
             insert into logs (REQUEST_URI, created_at)
             select hex(randomblob(2000 + abs(random()) % 2000)), '2026-11-27 12:00:00.000000' from n;
             commit;
             pragma wal_checkpoint(truncate);"
        ))
        .unwrap();
}

/// Asks for long, and says so first.
fn ask(file: &Path) {
    let mut question = Question::new(Scope::all());
    question.filter = Filter::parse("-uri:*G*H*I* -uri:*XX*YY*", Utc::now()).unwrap();
    runtime().block_on(async {
        let mut stored = query::open(&options(file)).await.unwrap();
        std::io::stdout().write_all(b"asking\n").unwrap();
        for _ in 0..QUESTIONS {
            let totals = stored.totals(&question).await.unwrap();
            let shown = format!("{:?}", totals.value);
            assert!(shown.contains(&format!("transactions: {ROWS},")), "{shown}");
            assert!(totals.is_complete);
        }
    });
}

/// Runs `test` of this program in a process of this account, which finds [`ASK`] in its environment.
fn other_process(test: &str, file: &Path, user: Option<u32>) -> Child {
    other_process_from(file.parent().unwrap(), test, file, user)
}

/// As [`other_process`], with the program in `dir`.
fn other_process_from(dir: &Path, test: &str, file: &Path, user: Option<u32>) -> Child {
    let copy = dir.join("program");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(copy);
    command
        .args([test, "--exact", "--nocapture"])
        .env(ASK, file)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    command.spawn().unwrap()
}

/// A writer starts, writes, copies its log back and ends, again and again while another process asks.
fn asked_while_it_is_written(test: &str, user: Option<u32>) {
    if let Some(file) = std::env::var_os(ASK) {
        ask(Path::new(&file));
        return;
    }
    if !rustix::process::geteuid().is_root() {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: only root may run as another account"
        );
        return;
    }
    let (_dir, file) = database();
    write(&file);
    let mut reader = other_process(test, &file, user);
    let mut said = BufReader::new(reader.stdout.take().unwrap());
    let mut line = String::new();
    while said.read_line(&mut line).unwrap() > 0 && !line.contains("asking") {}
    let rest = std::thread::spawn(move || std::io::read_to_string(said).unwrap());
    while reader.try_wait().unwrap().is_none() {
        write(&file);
    }
    let output = reader.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors} {}", rest.join().unwrap());
}

#[test]
fn answers_are_of_one_instant_whoever_writes() {
    asked_while_it_is_written("answers_are_of_one_instant_whoever_writes", None);
}

#[test]
fn answers_are_of_one_instant_also_for_who_may_not_write_in_the_directory() {
    let test = "answers_are_of_one_instant_also_for_who_may_not_write_in_the_directory";
    asked_while_it_is_written(test, Some(NOBODY));
}

/// An account that may read makes no files beside the database: the writer may not be able to write to them.
#[test]
fn who_does_not_own_the_database_leaves_nothing_beside_it() {
    let test = "who_does_not_own_the_database_leaves_nothing_beside_it";
    if let Some(file) = std::env::var_os(ASK) {
        runtime().block_on(async {
            let mut stored = query::open(&options(Path::new(&file))).await.unwrap();
            let totals = stored.totals(&Question::new(Scope::all())).await;
            assert!(totals.unwrap().is_complete);
        });
        return;
    }
    if !rustix::process::geteuid().is_root() {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: only root may run as another account"
        );
        return;
    }
    let (dir, file) = database();
    let output = other_process(test, &file, Some(NOBODY))
        .wait_with_output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let left: BTreeSet<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    assert_eq!(left, ["logs.db", "program"].map(Into::into).into());
    // Nor may it read what it must not.
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    let output = other_process(test, &file, Some(NOBODY))
        .wait_with_output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && errors.contains("usermod -aG root USER"),
        "{errors}"
    );
    assert!(!errors.contains("may not write"), "{errors}");
}

#[test]
fn who_may_not_read_is_told_the_group_that_may() {
    let test = "who_may_not_read_is_told_the_group_that_may";
    if let Some(file) = std::env::var_os(ASK) {
        let opened = runtime().block_on(query::open(&options(Path::new(&file))));
        panic!("{}", opened.err().unwrap());
    }
    if !rustix::process::geteuid().is_root() {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: only root may run as another account"
        );
        return;
    }
    let (dir, file) = database();
    let told = |file: &Path| {
        let process = other_process_from(dir.path(), test, file, Some(NOBODY));
        let errors = process.wait_with_output().unwrap().stderr;
        String::from_utf8_lossy(&errors).into_owned()
    };
    // The group of the process, so root's.
    let group = "usermod -aG root USER";
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    let errors = told(&file);
    assert!(errors.contains(group), "{errors}");
    // As below /var/lib: the directory lets nobody else in.
    let inner = dir.path().join("inner");
    fs::create_dir(&inner).unwrap();
    fs::rename(&file, inner.join("logs.db")).unwrap();
    fs::set_permissions(&inner, Permissions::from_mode(0o2750)).unwrap();
    let errors = told(&inner.join("logs.db"));
    assert!(errors.contains(group), "{errors}");
    fs::set_permissions(&inner, Permissions::from_mode(0o700)).unwrap();
    let errors = told(&inner.join("logs.db"));
    assert!(errors.contains("may not read it; let"), "{errors}");
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Rows that an old tool or somebody's hand has written.
const BY_HAND: &str = "
    insert into logs (id, created_at) values
        (1, '2026-03-04 05:06:07'), (2, '2026-03-04 05:06:07'), (3, '2026-03-04 05:06:07'),
        (4, '2026-03-04 05:06:07.000000'), (5, '2026-03-04 05:06:07.5'), (6, '2026-03-04 05:06:07.500000'),
        (7, '2026-03-04 05:06:08'), (8, 'soon'), (9, 'soon'), (10, '2026-03-04T05:06:07Z'), (11, ''),
        (12, null), (13, null), (14, '2026-03-04 05:06:07')";

#[test]
fn pages_have_each_row_once_however_its_time_is_written() {
    let (_dir, file) = database();
    Connection::open(&file)
        .unwrap()
        .execute_batch(BY_HAND)
        .unwrap();
    runtime().block_on(async {
        let mut stored = query::open(&options(&file)).await.unwrap();
        for most in 1..=4 {
            for deadline in [None, Some(Duration::from_secs(600))] {
                let mut question = Question::new(Scope::all());
                question.deadline = deadline;
                let mut found = Vec::new();
                let mut after = None;
                loop {
                    let page = stored
                        .transactions(&question, after, most)
                        .await
                        .unwrap()
                        .value;
                    let Some(last) = page.last() else { break };
                    after = Some(last.cursor());
                    found.extend(page.iter().map(|one| one.number));
                    assert!(found.len() <= 14, "{most}: {found:?}");
                }
                assert_eq!(found.len(), 14, "{most}: {found:?}");
                let timed: Vec<_> = found.iter().filter(|n| **n <= 7 || **n == 14).collect();
                assert_eq!(timed, [&7, &6, &5, &4, &14, &3, &2, &1], "{most}");
            }
        }
        for (since, until, want) in [
            ("2026-03-04T05:06:07Z", "2026-03-04T05:06:07.5Z", 5),
            ("2026-03-04T05:06:07.5Z", "2026-03-04T05:06:08Z", 2),
            ("2026-03-04T05:06:08Z", "2026-03-04T05:06:09Z", 1),
            (
                "2026-03-04T05:06:07.000001Z",
                "2026-03-04T05:06:08.000001Z",
                3,
            ),
        ] {
            let mut question = Question::new(Scope::all());
            question.window = Window::new(Some(time(since)), Some(time(until)));
            let found = stored
                .transactions(&question, None, 99)
                .await
                .unwrap()
                .value;
            assert_eq!(found.len(), want, "{since} {until}");
        }
    });
}

/// Asks for everything; returns what is wrong with that.
fn error(file: &Path) -> String {
    let asked = runtime().block_on(async {
        let mut stored = query::open(&options(file)).await?;
        stored
            .transactions(&Question::new(Scope::all()), None, 9_999)
            .await
    });
    asked.map_or_else(
        |error| error.to_string(),
        |page| panic!("{} rows", page.value.len()),
    )
}

#[test]
fn a_database_of_an_older_program_says_what_to_run() {
    for change in [
        "drop view modsec_alerts; drop table modsec_rules",
        "drop index logs_client_key; alter table logs drop column client_key",
        "drop table modsec_batches",
        "drop table modsec_migrations",
        "drop view modsec_alerts; drop table logs; drop table rule_matches",
    ] {
        let (_dir, file) = database();
        Connection::open(&file)
            .unwrap()
            .execute_batch(change)
            .unwrap();
        let before = fs::read(&file).unwrap();
        let text = error(&file);
        assert!(
            text.contains("logs.db") && text.contains("the first run"),
            "{change}: {text}"
        );
        assert_eq!(fs::read(&file).unwrap(), before, "{change}");
    }
    // The table of the old script alone.
    let (_dir, file) = database();
    let change = "drop view modsec_alerts; drop trigger logs_delete; drop table rule_matches";
    Connection::open(&file)
        .unwrap()
        .execute_batch(change)
        .unwrap();
    let text = error(&file);
    assert!(text.contains("the first run makes the tables"), "{text}");
}

#[test]
fn a_database_of_a_newer_program_says_so() {
    let (_dir, file) = database();
    let newer = "insert into modsec_migrations values (99, 'later')";
    Connection::open(&file)
        .unwrap()
        .execute_batch(newer)
        .unwrap();
    let text = error(&file);
    assert!(
        text.contains("version 99") && text.contains("install the newer program"),
        "{text}"
    );
}

#[test]
fn what_is_no_database_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("logs.db");
    fs::write(&file, "no database ".repeat(1_000)).unwrap();
    let text = error(&file);
    assert!(
        text.contains("not an SQLite database") && text.contains("logs.db"),
        "{text}"
    );
    fs::write(&file, "").unwrap();
    assert!(error(&file).contains("the first run makes the tables"));
}

/// One page in the middle is damaged: what is asked for is not there, and that is said. Never fewer rows.
#[test]
fn a_damaged_page_is_no_shorter_answer() {
    let (_dir, file) = database();
    runtime().block_on(async {
        let mut store = store::open(&options(&file)).await.unwrap();
        insert(&mut *store, (0..500).map(store::contract::row).collect()).await;
    });
    let connection = Connection::open(&file).unwrap();
    connection
        .execute_batch("pragma wal_checkpoint(truncate)")
        .unwrap();
    let pages =
        "select pageno from dbstat where name = 'logs' and pagetype = 'leaf' order by pageno";
    let mut select = connection.prepare(pages).unwrap();
    let pages: Vec<usize> = select
        .query_map([], |row| row.get::<_, i64>(0))
        .unwrap()
        .map(|page| usize::try_from(page.unwrap()).unwrap())
        .collect();
    drop(select);
    drop(connection);
    let sound = fs::read(&file).unwrap();
    for fill in [0, 0x5a, 0xff] {
        let mut bytes = sound.clone();
        let start = (pages[pages.len() / 2] - 1) * 4096;
        bytes[start..start + 4096].fill(fill);
        fs::write(&file, bytes).unwrap();
        let text = error(&file);
        assert!(
            text.contains("damaged") && text.contains(".recover"),
            "{fill}: {text}"
        );
    }
}

/// The whole way of a filter from the outside: refused before any database is asked.
#[test]
fn filters_that_are_too_large_are_refused_at_once() {
    for (text, want) in [
        ("a ".repeat(50_000), "bytes, and may have 16384"),
        (
            format!("uri:{}", "x".repeat(100_000)),
            "bytes, and may have 16384",
        ),
        ("(".repeat(10_000), "parentheses within each other"),
        (
            format!("{}a{}", "(".repeat(10_000), ")".repeat(10_000)),
            "bytes, and may have 16384",
        ),
        (
            format!("{}a", "-(".repeat(5_000)),
            "parentheses within each other",
        ),
    ] {
        let error = Filter::parse(&text, Utc::now()).unwrap_err().to_string();
        assert!(error.contains(want) && error.len() < 400, "{error}");
    }
}

/// A disk that nobody can write to, with a database that was left in any state.
#[test]
fn a_read_only_file_system_is_no_obstacle() {
    use rustix::mount::{MountFlags, UnmountFlags, mount_bind, mount_remount, unmount};

    let (dir, file) = database();
    runtime().block_on(async {
        let mut store = store::open(&options(&file)).await.unwrap();
        insert(&mut *store, (0..50).map(store::contract::row).collect()).await;
    });
    let place = tempfile::tempdir().unwrap();
    if mount_bind(dir.path(), place.path()).is_err() {
        let _ = writeln!(std::io::stderr(), "skipped: may not mount");
        return;
    }
    let flags = MountFlags::BIND | MountFlags::RDONLY;
    let is_read_only = mount_remount(place.path(), flags, "").is_ok();
    let file = place.path().join("logs.db");
    let asked = runtime().block_on(async {
        let mut stored = query::open(&options(&file)).await?;
        stored
            .transactions(&Question::new(Scope::all()), None, 999)
            .await
    });
    unmount(place.path(), UnmountFlags::DETACH).unwrap();
    assert!(is_read_only);
    assert_eq!(asked.unwrap().value.len(), 50);
}

//! What is wrong is named, with its path and the remedy; what was not stored stays.

use std::fs;
use std::io::{BufRead as _, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::executable::Executable;
use super::site::{Ran, Site, entry, entry_with, hash, run};

const NOBODY: u32 = 65534;

/// Runs as somebody who is not root.
fn run_unprivileged(command: Command) -> Ran {
    if !rustix::process::geteuid().is_root() {
        return run(command);
    }
    let program = Executable::copy_of(command.get_program());
    let mut copy = program.instead_of(&command);
    copy.uid(NOBODY).gid(NOBODY);
    run(copy)
}

#[test]
fn a_storage_directory_that_cannot_be_used_is_named() {
    let site = Site::new();
    for (name, words) in [
        (
            "missing",
            &["missing", "does not exist", "SecAuditLogStorageDir"][..],
        ),
        (
            "file",
            &["file", "is not a directory", "SecAuditLogStorageDir"],
        ),
    ] {
        fs::write(site.path("file"), "x").unwrap();
        let mut command = site.keeping();
        command.arg("--storage-dir").arg(site.path(name));
        run(command).expect(1, words);
        assert!(!site.path("logs.db").exists(), "nothing was begun");
    }
}

#[test]
fn an_unreadable_storage_directory_is_named() {
    let site = Site::new();
    fs::set_permissions(site.spool(), fs::Permissions::from_mode(0o000)).unwrap();
    let ran = run_unprivileged(site.collecting());
    ran.expect(
        1,
        &[
            "may not read storage directory",
            "audit\"",
            "run as root or with CAP_DAC_READ_SEARCH",
        ],
    );
}

#[test]
fn a_storage_directory_that_cannot_be_written_is_named() {
    let site = Site::new();
    let path = site.put(0, "a", &entry(1));
    let ran = run_unprivileged(site.collecting());
    if site.spool().metadata().unwrap().uid() == 0 {
        ran.expect(
            1,
            &[
                ".modsec-parser",
                "must be able to write to the storage directory",
            ],
        );
    }
    assert!(path.exists());
}

#[test]
fn a_store_that_cannot_be_used_is_named_and_nothing_is_removed() {
    let site = Site::new();
    let path = site.put(0, "a", &entry(1));
    fs::create_dir(site.path("directory")).unwrap();
    fs::write(
        site.path("text"),
        "This is no database, whatever its name says. ".repeat(100),
    )
    .unwrap();
    for (store, status, words) in [
        (
            "sqlite:missing/logs.db",
            1,
            &["missing/logs.db", "directory does not exist; make it"][..],
        ),
        (
            "sqlite:directory",
            1,
            &["directory", "cannot open the database"],
        ),
        ("sqlite:text", 1, &["text", "not a database"]),
        // Values that make no sense.
        ("sqlite:", 2, &["write sqlite:/path/to/file"]),
        (
            "redis:x",
            2,
            &["\"redis\"", "this program knows", "sqlite", "mysql"],
        ),
        ("logs.db", 2, &["did you mean sqlite:PATH?"]),
    ] {
        let mut command = site.program();
        command.args([
            "--min-age",
            "0",
            "--merged-log",
            "merged.log",
            "--store",
            store,
            "--storage-dir",
        ]);
        command.arg(site.spool());
        run(command).expect(status, words);
        assert!(path.exists(), "{store}");
        assert!(site.merged().is_empty(), "{store}");
    }
}

#[test]
fn a_merged_log_that_cannot_be_used_is_named_and_nothing_is_stored() {
    let site = Site::new();
    let path = site.put(0, "a", &entry(1));
    fs::create_dir(site.path("directory")).unwrap();
    fs::write(site.path("one"), "").unwrap();
    fs::hard_link(site.path("one"), site.path("two")).unwrap();
    for (log, words) in [
        (
            "missing/merged.log",
            &["missing/merged.log", "does not exist; make it"][..],
        ),
        ("directory", &["directory", "name a file"]),
        ("one", &["one", "other hard links"]),
    ] {
        let mut command = site.program();
        command.args([
            "--min-age",
            "0",
            "--store",
            "sqlite:logs.db",
            "--merged-log",
            log,
            "--storage-dir",
        ]);
        command.arg(site.spool());
        run(command).expect(1, words);
        assert!(path.exists(), "{log}");
        assert_eq!(site.stored().len(), 0, "{log}");
    }
}

#[test]
fn a_store_or_log_of_another_account_is_named_and_nothing_is_removed() {
    for (file, words) in [
        ("logs.db", ["logs.db", "permission"]),
        ("merged.log", ["may not write merged log", "merged.log\""]),
    ] {
        let site = Site::new();
        site.put(0, "a", &entry(1));
        site.collect().expect(0, &["1 stored"]);
        // Everything else is this account's, or open to its group.
        let give = |path: std::path::PathBuf, mode| {
            if rustix::process::geteuid().is_root() {
                chown(&path, None, Some(NOBODY)).unwrap();
            }
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        give(site.path("."), 0o775);
        give(site.spool(), 0o777);
        give(site.path(file), 0o400);
        assert!(!site.spool().join(".modsec-parser").exists());
        for other in ["logs.db", "merged.log", "merged.log.journal"] {
            if other != file {
                give(site.path(other), 0o660);
            }
        }
        let path = site.put(0, "b", &entry(2));
        let ran = run_unprivileged(site.collecting());
        ran.expect(1, &words);
        assert!(path.exists());
        assert_eq!(site.stored().len(), 1, "{file}");
        assert_eq!(site.merged().len(), entry(1).len() + 1, "{file}");
    }
}

#[test]
fn senseless_arguments_are_told_from_failures() {
    let site = Site::new();
    for args in [
        &["--storage-dir", "a", "b"][..],
        &["--bogus"],
        &["--min-age", "soon"],
        &["--threads", "0"],
    ] {
        let mut command = site.program();
        command.args(args);
        run(command).expect(2, &["--help"]);
    }
    let mut command = site.program();
    command.arg("--help");
    let help = run(command);
    help.expect(
        0,
        &[
            "EXIT STATUS",
            "0  done",
            "1  could not do it",
            "2  bad arguments",
            "3  done, but",
        ],
    );
}

#[test]
fn an_input_that_cannot_be_opened_is_named_and_the_others_are_read() {
    let site = Site::new();
    fs::write(site.path("good"), entry(1)).unwrap();
    let mut command = site.keeping();
    command.args(["missing", "good"]);
    run(command).expect(
        1,
        &[
            "missing",
            "No such file",
            "check the path",
            "1 entry, 1 stored",
        ],
    );
}

#[test]
fn links_and_pipes_among_inputs_are_named_and_not_followed() {
    let site = Site::new();
    fs::create_dir(site.path("in")).unwrap();
    fs::write(site.path("in/good"), entry(1)).unwrap();
    fs::write(site.path("outside"), entry(2)).unwrap();
    symlink("../outside", site.path("in/link")).unwrap();
    mknodat(
        CWD,
        site.path("in/fifo"),
        FileType::Fifo,
        Mode::from(0o600),
        0,
    )
    .unwrap();
    let mut command = site.keeping();
    command.arg("in");
    run(command).expect(
        3,
        &[
            "2 left alone",
            "in/link",
            "symbolic link and was not followed; name what it leads to",
            "in/fifo",
            "is not a plain file",
            "1 stored",
        ],
    );
    site.assert_kept(&[entry(1)]);

    // A link that the administrator writes is followed.
    let mut command = site.keeping();
    command.arg("in/link");
    run(command).expect(0, &["1 stored"]);
}

#[test]
fn files_that_are_no_entries_stay_and_are_named() {
    let site = Site::new();
    let text = site.put(0, "text", b"<html>\x1b[2J\n");
    let empty = site.put(0, "empty", b"");
    let good = site.put(0, "good", &entry(1));
    let mut command = site.collecting();
    command.args(["--stale-after", "0"]);
    let ran = run(command);
    ran.expect(
        3,
        &[
            "-text",
            "not an audit log",
            "-empty",
            "the file is empty",
            "remove it",
            "1 stored",
            "2 defective",
        ],
    );
    assert!(!ran.stderr.contains('\x1b'), "{ran:?}");
    assert!(text.exists() && empty.exists() && !good.exists());
    assert_eq!(site.stored().len(), 1);
    assert_eq!(
        ran.stderr.matches("-text").count(),
        1,
        "each is named once: {ran:#?}"
    );
}

#[test]
fn a_half_written_file_waits_until_it_is_stale() {
    let site = Site::new();
    let whole = entry(1);
    let half = site.put(0, "half", &whole[..whole.len() / 2]);
    let empty = site.put(0, "empty", b"");
    site.collect()
        .expect(0, &["0 entries", "0 defective", "2 waiting"]);
    assert!(half.exists() && empty.exists());

    // Its writer goes on.
    fs::write(&half, &whole).unwrap();
    site.collect().expect(0, &["1 stored", "1 waiting"]);
    assert!(!half.exists());

    let other = entry(2);
    let cut = &other[..other.len() - 20];
    let half = site.put(0, "half", cut);
    let mut command = site.collecting();
    command.args(["--stale-after", "0"]);
    run(command).expect(3, &["1 entry, 1 stored", "2 defective"]);
    assert!(!half.exists());
    assert_eq!(site.stored(), [hash(&whole), hash(cut)]);
    assert_eq!(
        site.query::<String>("select flags from logs order by id desc"),
        "truncated"
    );
    assert_eq!(
        site.query::<String>("select ruleId from logs order by id desc"),
        "100100"
    );
}

#[test]
fn hostile_things_in_the_tree_are_left_alone_and_named() {
    let site = Site::new();
    let good = site.put(0, "good", &entry(1));
    let outside = site.path("outside");
    fs::write(&outside, entry(2)).unwrap();
    let dir = good.parent().unwrap();
    symlink(&outside, dir.join("20200101-000000-link")).unwrap();
    fs::hard_link(&outside, dir.join("20200101-000000-hard")).unwrap();
    mknodat(
        CWD,
        dir.join("20200101-000000-fifo"),
        FileType::Fifo,
        Mode::from(0o600),
        0,
    )
    .unwrap();
    fs::create_dir(dir.join("20200101-000000-directory")).unwrap();
    fs::write(dir.join("no\nname"), "x").unwrap();
    symlink("/etc", site.spool().join("20200102")).unwrap();
    let newline = site.put(0, "new\nline", &entry(3));
    let ran = site.collect();
    ran.expect(
        3,
        &[
            "20200101-000000-link",
            "is a symbolic link and was not followed; remove it",
            "20200101-000000-hard",
            "has 2 hard links; remove all but one",
            "20200101-000000-fifo",
            "is a named pipe, not a file; remove it",
            "20200101-000000-directory",
            "is a directory, not a file; remove it",
            "no\\nname",
            "move it elsewhere if it is yours",
            "20200102",
            "2 stored",
            "6 left alone",
        ],
    );
    assert!(!good.exists() && !newline.exists());
    assert_eq!(site.files().len(), 5);
    assert_eq!(fs::read(&outside).unwrap(), entry(2));
    site.assert_kept(&[entry(1), entry(3)]);
}

#[test]
fn nuls_and_bytes_that_are_no_text_are_kept_as_they_are() {
    let site = Site::new();
    let body = b"--1a2b3c4d-C--\na\0b\xff\xfe\r\n\x1b[2J\n";
    let bytes = entry_with("U1", "POST /\0 HTTP/1.1\nHost: a\0b\n", body);
    site.put(0, "a", &bytes);
    site.collect().expect(0, &["1 stored"]);
    assert_eq!(site.query::<String>("select REQUEST_URI from logs"), "/\0");
    assert_eq!(site.query::<String>("select Host from logs"), "a\0b");
    site.assert_kept(&[bytes]);
}

/// Runs to the end and returns what happened and the most memory that was in use, in bytes.
fn run_measured(mut command: Command) -> (Ran, u64) {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(kib) = peak.and_then(|peak| peak.trim().strip_suffix(" kB")) {
            most = most.max(kib.parse::<u64>().unwrap() * 1024);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    (child.wait_with_output().unwrap().into(), most)
}

#[test]
fn a_body_of_a_hundred_megabytes_does_not_fill_the_memory() {
    const BODY: u64 = 100 * 1024 * 1024;
    let site = Site::new();
    let request = format!("POST /upload HTTP/1.1\nHost: shop.example\nContent-Length: {BODY}\n");
    let whole = entry_with("U1", &request, b"--1a2b3c4d-C--\n\n");
    let marker = b"-C--\n";
    let at = whole
        .windows(marker.len())
        .position(|window| window == marker)
        .unwrap()
        + marker.len();
    let path = site.put(0, "large", &whole[..at]);
    let mut file = fs::File::options().write(true).open(&path).unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(BODY), &mut file).unwrap();
    file.write_all(&whole[at..]).unwrap();
    drop(file);

    let (ran, memory) = run_measured(site.collecting());
    ran.expect(0, &["1 entry, 1 stored, 0 already known, 1 removed"]);
    for (column, want) in [
        ("REQUEST_METHOD", "POST"),
        ("REQUEST_URI", "/upload"),
        ("ruleId", "100100"),
        ("responce_header", "403"),
    ] {
        assert_eq!(
            site.query::<String>(&format!("select cast({column} as text) from logs")),
            want
        );
    }
    assert_eq!(site.query::<Option<String>>("select flags from logs"), None);
    assert!(
        memory > 0 && memory < 64 * 1024 * 1024,
        "{memory} bytes of memory"
    );
    let merged = fs::File::open(site.path("merged.log")).unwrap();
    let len = merged.metadata().unwrap().len();
    let mut merged = std::io::BufReader::new(merged);
    let mut line = String::new();
    merged.read_line(&mut line).unwrap();
    let entry = whole.len() as u64 + BODY;
    assert!(line.starts_with(&format!(
        "# modsec-parser: the next {entry} bytes are one entry"
    )));
    assert_eq!(len, line.len() as u64 + entry + 1);
    let mut head = Vec::new();
    merged.take(at as u64).read_to_end(&mut head).unwrap();
    assert!(head == whole[..at]);
    assert!(!path.exists());
}

#[test]
fn a_file_of_holes_stays_and_keeps_nobody_else_waiting() {
    let site = Site::new();
    let whole = entry_with("U1", "GET / HTTP/1.1\n", b"");
    site.put(0, "good", &whole);
    let path = site.put(0, "sparse", &whole);
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(1_000_000_000).unwrap();
    run(site.collecting()).expect(3, &["1 stored", "1 left alone", "has holes of"]);
    assert!(path.exists());
}

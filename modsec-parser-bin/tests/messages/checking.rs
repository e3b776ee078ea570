//! What `--check-config` and `--dry-run` find out, and that they change nothing.

use super::*;

/// Every name below `dir`, with size and time of the last change.
fn listing(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        names.push(format!(
            "{} {} {:?}",
            path.display(),
            meta.len(),
            meta.modified().unwrap()
        ));
        if meta.is_dir() {
            names.extend(listing(&path));
        }
    }
    names.sort();
    names
}

#[test]
fn checking_finds_what_would_keep_the_program_from_starting() {
    let dir = place(1);
    fs::write(
        dir.path().join("text"),
        "no database, and long enough to be seen as none",
    )
    .unwrap();
    fs::write(dir.path().join("url"), "sqlite:no/such/x.db\n").unwrap();
    let cases: [(&[&str], &str); 8] = [
        (
            &["--store", "sqlite:no/such/x.db"],
            "directory no/such is not there",
        ),
        (&["--store-file", "url"], "directory no/such is not there"),
        (&["--store", "sqlite:text"], "sqlite:text: "),
        (
            &["--store", "mysql://u@127.0.0.1:1/d"],
            "the server is not there",
        ),
        (
            &["--store", "mysql://u@h/d", "--defaults-file", "no.cnf"],
            "cannot read the option file no.cnf",
        ),
        (
            &["--storage-dir", "none"],
            "storage directory \"none\" does not exist",
        ),
        (
            &["--merged-log", "no/such.log"],
            "cannot use no/such.log (--merged-log)",
        ),
        (
            &["--log-file", "no/such.log"],
            "cannot use no/such.log (--log-file)",
        ),
    ];
    for (arguments, want) in cases {
        let good: Vec<&str> = TREE.into_iter().chain(STORE).collect();
        let given = |option: &&[&str]| !arguments.contains(&option[0]);
        let is_store = arguments[0].starts_with("--store") && arguments[0] != "--storage-dir";
        let mut line: Vec<&str> = good.chunks(2).filter(given).flatten().copied().collect();
        if is_store {
            line.truncate(2);
        }
        line.extend(arguments);
        line.push("--check-config");
        let (code, out, err) = said(&run(dir.path(), &line));
        assert_eq!(code, Some(1), "{arguments:?}: {err}");
        assert!(err.contains(want), "{arguments:?}: {err}");
        assert_eq!(err.lines().count(), 1, "{arguments:?}: {err}");
        assert!(out.contains("[modsec-parser]\n"), "{out}");
        if arguments.contains(&"mysql://u@127.0.0.1:1/d") {
            continue; // A run tries for longer.
        }
        // What is found is what a run says.
        line.pop();
        assert_eq!(
            run(dir.path(), &line).status.code(),
            Some(1),
            "{arguments:?}"
        );
    }
    fs::remove_file(dir.path().join("x.db")).ok();
    fs::remove_file(dir.path().join("modsec_audit.log")).ok();
    let (code, out, err) = said(&run(
        dir.path(),
        &[&TREE[..], &STORE, &["--check-config"]].concat(),
    ));
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.contains("# note: sqlite:x.db is not there yet; the first run makes it"),
        "{out}"
    );
}

#[test]
fn checking_finds_what_is_not_a_file_and_what_another_process_uses() {
    let dir = place(1);
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("dir")).unwrap();
    fs::write(path("serial.log"), entry(1)).unwrap();
    fs::write(path("one"), "").unwrap();
    fs::hard_link(path("one"), path("two")).unwrap();
    let tree = [&TREE[..], &STORE].concat();
    let cases: [(&[&str], &str); 7] = [
        (
            &["--index", "dir"],
            "it is a directory, and must be a plain file",
        ),
        (
            &["--index", "dir", "--follow"],
            "it is a directory, and must be a plain file",
        ),
        (&["--index", "serial.log"], "is no index"),
        (&["--merged-log", "one"], "has other hard links"),
        (
            &["--merged-log", "dir"],
            "cannot use dir (--merged-log): it is a directory",
        ),
        (
            &["--follow", "dir", "--store", "sqlite:x.db"],
            "it is a directory, and must be a plain",
        ),
        (
            &[
                "--follow",
                "serial.log",
                "--offset-file",
                "dir",
                "--store",
                "sqlite:x.db",
            ],
            "directory",
        ),
    ];
    for (arguments, want) in cases {
        let is_tree = !arguments.contains(&"--store");
        let line = [if is_tree { &tree[..] } else { &[] }, arguments].concat();
        let (code, _, err) = said(&run(dir.path(), &[&line[..], &["--check-config"]].concat()));
        assert_eq!(code, Some(1), "{arguments:?}: {err}");
        assert!(err.contains(want), "{arguments:?}: {err}");
        let (code, _, err) = said(&run(dir.path(), &line));
        assert_eq!(code, Some(1), "{arguments:?}: {err}");
    }
    // A rehearsal cannot be written, and says what could not be.
    for arguments in [["--merged-log", "one"], ["--merged-log", "no/such"]] {
        let line = [&tree[..], &arguments, &["--dry-run"]].concat();
        let (code, out, err) = said(&run(dir.path(), &line));
        assert_eq!((code, out.as_str()), (Some(1), ""), "{arguments:?}: {err}");
        assert!(err.contains(arguments[1]), "{err}");
    }
}

#[test]
fn checking_finds_a_program_that_works_on_the_same_things() {
    let dir = place(0);
    fs::write(dir.path().join("log"), "").unwrap();
    let follow = |line: &[&str]| {
        let mut command = program(dir.path(), &[line, &["--follow"]].concat());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("following")));
        child
    };
    let tree = [&TREE[..], &STORE].concat();
    let alone = [
        "--merged-log",
        "modsec_audit.log",
        "--store",
        "sqlite:y.db",
        "log",
    ];
    let check = |line: &[&str]| said(&run(dir.path(), &[line, &["--check-config"]].concat()));
    for (line, others) in [
        (
            &tree[..],
            &[
                (&tree[..], "is in use by modsec-parser"),
                (&alone, "is in use by"),
            ][..],
        ),
        (
            &alone,
            &[(
                &alone[..],
                "modsec_audit.log\" is in use by another process",
            )],
        ),
    ] {
        assert_eq!(check(line).0, Some(0));
        let mut child = follow(line);
        for (other, want) in others {
            let mut found = check(other);
            for _ in 0..2000 {
                if found.0 == Some(1) {
                    break; // It is there as soon as it has opened everything.
                }
                found = check(other);
            }
            assert_eq!(found.0, Some(1), "{other:?}");
            assert!(found.2.contains(want), "{other:?}: {}", found.2);
        }
        let rehearsal = said(&run(dir.path(), &[line, &["--dry-run"]].concat()));
        assert_ne!(
            rehearsal.0,
            Some(1),
            "a rehearsal takes nothing: {}",
            rehearsal.2
        );
        // Nothing was taken from it.
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        let (code, _, err) = check(line);
        assert_eq!(code, Some(0), "{err}");
    }
}

#[test]
fn checking_waits_for_a_lock_as_a_run_does() {
    let dir = place(0);
    let line = [&TREE[..], &STORE].concat();
    assert_eq!(run(dir.path(), &line).status.code(), Some(0));
    let other = rusqlite::Connection::open(dir.path().join("x.db")).unwrap();
    other.execute_batch("begin immediate").unwrap();
    let before = listing(dir.path());
    let check = || said(&run(dir.path(), &[&line[..], &["--check-config"]].concat()));
    let (code, _, err) = check();
    assert_eq!(code, Some(1));
    assert!(
        err.contains("another process holds the database for too long"),
        "{err}"
    );
    assert_eq!(listing(dir.path()).len(), before.len());
    other.execute_batch("rollback").unwrap();
    assert_eq!(check().0, Some(0));
}

#[test]
fn all_that_is_wrong_on_a_fresh_host_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let line = [
        "--storage-dir",
        "no/audit",
        "--store",
        "sqlite:no/x.db",
        "--log-file",
        "no/x.log",
        "--check-config",
    ];
    let (code, out, err) = said(&run(dir.path(), &line));
    assert_eq!(code, Some(1));
    for want in [
        "no/audit",
        "no/x.log",
        "no/modsec_audit.log",
        "sqlite:no/x.db",
    ] {
        assert!(err.contains(want), "{want}: {err}");
    }
    assert!(out.contains("storage-dir = \"no/audit\""), "{out}");
    assert!(listing(dir.path()).is_empty());
}

#[test]
fn checking_and_rehearsing_change_nothing() {
    let dir = place(5);
    let line = [&TREE[..], &STORE].concat();
    for (entries, known) in [(5, 0), (5, 5)] {
        let before = listing(dir.path());
        let rehearsal = [&line[..], &["--dry-run"]].concat();
        let (code, out, err) = said(&run(dir.path(), &rehearsal));
        assert_eq!(code, Some(0), "{err}");
        let want = format!("{} would be stored, {known} already known", entries - known);
        assert!(out.contains(&want), "{out}");
        let (code, _, err) = said(&run(dir.path(), &[&line[..], &["--check-config"]].concat()));
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert_eq!(listing(dir.path()), before);
        // The same entries once more.
        let (_, _, err) = said(&run(dir.path(), &line));
        assert_eq!(err, "");
        let other = place(5);
        fs::rename(other.path().join("audit"), dir.path().join("audit2")).unwrap();
        fs::remove_dir_all(dir.path().join("audit")).unwrap();
        fs::rename(dir.path().join("audit2"), dir.path().join("audit")).unwrap();
    }
}

#[test]
fn a_rehearsal_looks_into_the_default_database() {
    let dir = place(2);
    fs::write(dir.path().join("twice"), entry(1).repeat(2)).unwrap();
    let rehearsal = ["--dry-run", "twice"];
    let want = "1 would be stored, 1 already known";
    assert!(text(&run(dir.path(), &rehearsal).stdout).contains(want));
    assert!(!dir.path().join("state").exists());
    run(dir.path(), &["twice"]);
    let want = "0 would be stored, 2 already known";
    assert!(text(&run(dir.path(), &rehearsal).stdout).contains(want));
    // One that another process has open.
    let database = dir.path().join("state/modsec.db");
    let open = rusqlite::Connection::open(&database).unwrap();
    open.execute_batch("pragma journal_mode = wal; begin immediate; update logs set Host = 'x'")
        .unwrap();
    assert!(text(&run(dir.path(), &rehearsal).stdout).contains(want));
    drop(open);
    fs::write(&database, "no database, and long enough to be seen as none").unwrap();
    let (code, _, err) = said(&run(dir.path(), &rehearsal));
    assert_eq!(code, Some(1));
    assert!(err.contains("modsec.db"), "{err}");
}

#[test]
fn checking_finds_a_damaged_page_and_changes_nothing() {
    let dir = place(0);
    let line = [&STORE[..], &["all"]].concat();
    fs::write(
        dir.path().join("all"),
        (0..ENTRIES).map(entry).collect::<String>(),
    )
    .unwrap();
    assert_eq!(run(dir.path(), &line).status.code(), Some(0));
    let path = dir.path().join("x.db");
    let sound = fs::read(&path).unwrap();
    let check = || said(&run(dir.path(), &[&line[..], &["--check-config"]].concat()));
    let (code, out, err) = check();
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(!out.contains("note:"), "{out}");
    let pages = sound.len() / 4096;
    for page in [pages / 4, pages / 2, pages - 2] {
        let mut damaged = sound.clone();
        damaged[page * 4096..][..4096].fill(0xa5);
        fs::write(&path, &damaged).unwrap();
        let before = listing(dir.path());
        let (code, _, err) = check();
        assert_eq!(code, Some(1), "page {page}: {err}");
        assert!(err.contains("the file is damaged; put it aside"), "{err}");
        assert_eq!(listing(dir.path()), before);
    }
}

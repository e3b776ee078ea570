//! `--check-config` beside a run, whatever an option names.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::thread;

use super::{End, Place};

/// An ordinary user.
const NOBODY: u32 = 65_534;

/// What an option may name. The last two are not for an ordinary user to open.
const TARGETS: [&str; 17] = [
    "absent",
    "no/such",
    "directory",
    "pipe",
    "/dev/full",
    "/dev/null",
    "dangling",
    "audit.log",
    "index",
    "database",
    "log.gz",
    "empty",
    "utf-16",
    "docker",
    "zeros",
    "private",
    "closed/file",
];

/// What is no storage directory. A service waits for one in its place, and says so.
pub(crate) const NO_DIRECTORY: &[&str] = TARGETS.split_at(3).1;

/// What the last entries of [`TARGETS`] need root for.
const OF_ROOT: [&str; 2] = ["private", "closed/file"];

/// Words of a command line, in which `@` stands for what is named, and targets with which no run is
/// tried: it waits.
pub(crate) type Agreement = (&'static [&'static str], &'static [&'static str]);

/// Asserts that checking ends as a run does, whatever the words name, that it changes nothing, and
/// that a run that ends with 1 or 2 has not changed what was named either.
pub(crate) fn check(program: &str, cases: &[Agreement]) {
    // Where an ordinary user may run it. Copied before anything starts: a child would keep it open.
    let dir = tempfile::tempdir().unwrap();
    chmod(dir.path(), 0o755);
    let public = dir.path().join("program");
    fs::copy(program, &public).unwrap();
    let public = public.display().to_string();
    // Most of the time they wait for the disk.
    thread::scope(|threads| {
        for case in cases {
            let public = &public;
            threads.spawn(move || check_one(public, case));
        }
    });
}

fn check_one(program: &str, (words, skipped): &Agreement) {
    let is_root = rustix::process::geteuid().is_root();
    for target in TARGETS {
        let as_nobody = OF_ROOT.contains(&target);
        if as_nobody && !is_root {
            eprintln!("skipped: only root can make what others may not read");
            continue;
        }
        let place = scene();
        if as_nobody {
            give_away(&place);
        }
        let run = |more: &[&str]| {
            let named = words.iter().map(|word| word.replace('@', target));
            let mut command = place.command(program);
            if as_nobody {
                command.uid(NOBODY).gid(NOBODY);
            }
            place.run(command.args(named).args(more))
        };
        let before = content(&place, target);
        let checked = run(&["--check-config"]);
        let about = format!("{words:?} {target}: {checked:?}");
        assert_eq!(content(&place, target), before, "{about}");
        if skipped.contains(&target) {
            continue;
        }
        let ran = run(&[]);
        let about = format!("{about} {ran:?}");
        assert_eq!(checked.status, without_defects(&ran), "{about}");
        if matches!(ran.status, Some(1 | 2)) {
            assert_eq!(content(&place, target), before, "{about}");
            assert!(!ran.said.is_empty() && !checked.said.is_empty(), "{about}");
        }
    }
}

/// Returns how a run ended. What it finds in the entries is not for checking to know.
fn without_defects(end: &End) -> Option<i32> {
    end.status
        .map(|status| if status == 3 { 0 } else { status })
}

/// Returns what is in a plain file, with `None` for anything else.
fn content(place: &Place, target: &str) -> Option<Vec<u8>> {
    let path = place.path(target);
    let meta = path.symlink_metadata().ok()?;
    meta.is_file().then(|| fs::read(path).unwrap())
}

/// A place with all that [`TARGETS`] names.
fn scene() -> Place {
    let place = Place::new();
    let put = |name: &str, bytes: &[u8]| fs::write(place.path(name), bytes).unwrap();
    let entry = "--3fa0c41b-A--\n[04/Mar/2026:05:06:07 +0000] id1 192.0.2.7 1 192.0.2.1 80\n\
                 --3fa0c41b-B--\nGET / HTTP/1.1\n\n--3fa0c41b-F--\nHTTP/1.1 200\n\n\
                 --3fa0c41b-H--\nStopwatch: 1772600767000000 1234\n\n--3fa0c41b-Z--\n";
    put("audit.log", entry.as_bytes());
    let line = "h 192.0.2.7 - - [22/Aug/2026:10:15:00 +0200] \"GET / HTTP/1.1\" 403 57 \"-\" \"-\" a \
                \"-\" /20260822/20260822-1015/20260822-101500-a 0 1 \
                md5:f4379ec14e40221beb05af5daf25ef7a \n";
    put("index", line.as_bytes());
    let utf16 = line.encode_utf16().flat_map(u16::to_le_bytes);
    put(
        "utf-16",
        &[0xff, 0xfe].into_iter().chain(utf16).collect::<Vec<_>>(),
    );
    let docker = |line: &str| format!("{{\"log\":\"{line}\\n\",\"stream\":\"stdout\"}}\n");
    put(
        "docker",
        entry.lines().map(docker).collect::<String>().as_bytes(),
    );
    put(
        "log.gz",
        &[
            0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
    );
    put("empty", b"");
    put("zeros", &[0; 5000]);
    put("private", entry.as_bytes());
    fs::create_dir(place.path("closed")).unwrap();
    put("closed/file", entry.as_bytes());
    // The first page of a database without tables.
    let mut database = vec![0; 4096];
    database[..24].copy_from_slice(b"SQLite format 3\0\x10\0\x01\x01\0\x40\x20\x20");
    database[28..32].copy_from_slice(&1_u32.to_be_bytes());
    database[100..108].copy_from_slice(&[13, 0, 0, 0, 0, 16, 0, 0]);
    put("database", &database);
    place
}

/// Makes the place one of an ordinary user; what is private stays root's.
fn give_away(place: &Place) {
    for entry in fs::read_dir(place.path(".")).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_symlink() {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    chown(place.path("."), Some(NOBODY), Some(NOBODY)).unwrap();
    chmod(&place.path("."), 0o755);
    for (name, mode) in [("private", 0o600), ("closed", 0o700)] {
        chown(place.path(name), Some(0), Some(0)).unwrap();
        chmod(&place.path(name), mode);
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

//! What the programs make is not open to everybody, also where the umask takes no right away.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../modsec-core/tests/machine/inotify.rs"]
mod inotify;
#[expect(dead_code, reason = "others start programs in other ways")]
mod site;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use self::inotify::can_follow;
use self::site::{Running, Site, Sqlite, entry, until};

/// What there is in the end, and its rights. A directory counts as what it is named here.
const WANTED: [(&str, u32); 19] = [
    ("state", 0o750),
    ("state/modsec.db", 0o640),
    ("state/modsec.db-wal", 0o640),
    ("state/modsec.db-shm", 0o640),
    ("merged.log", 0o640),
    ("merged.log.journal", 0o600),
    ("parser.log", 0o640),
    ("tree/.modsec-parser", 0o700),
    ("state/TREE.lock", 0o600),
    ("state/TREE.index", 0o600),
    ("offsets", 0o750),
    ("offsets/OFFSET", 0o600),
    ("jail.log", 0o640),
    ("strikes", 0o750),
    ("strikes/recidive.dat", 0o640),
    ("recidive.pid", 0o644),
    ("recidive.log", 0o640),
    ("watch.pid", 0o644),
    ("watch.log", 0o640),
];

/// Rights of the directories that `watch-dir` looks after, and of those that it is making.
const MINUTES: [u32; 2] = [0o770, 0o700];

/// A program under umask 000, with nothing of the caller's environment.
fn without_umask(site: &Site<Sqlite>, name: &str, arguments: &[&str]) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_modsec-parser")).with_file_name(name);
    assert!(program.exists(), "{name} is not built: cargo build");
    let mut command = Command::new("sh");
    command
        .args(["-c", "umask 000; exec \"$@\"", "sh"])
        .arg(program)
        .args(arguments)
        .env_clear()
        .env("MODSEC_CONFIG", "none")
        .env("HOME", site.dir.path())
        .current_dir(site.dir.path());
    command
}

/// Everything below a directory that was not there before, with its rights.
fn modes(root: &Path) -> BTreeMap<PathBuf, u32> {
    let (mut found, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().map(Result::unwrap) {
            let Ok(meta) = entry.path().symlink_metadata() else {
                continue;
            };
            if meta.is_dir() {
                open.push(entry.path());
            }
            let path = entry.path().strip_prefix(root).unwrap().to_owned();
            found.insert(path, meta.mode() & 0o7777);
        }
    }
    found
}

/// Returns the path of what is wanted, once it is there. Some names the program makes up.
fn found(site: &Site<Sqlite>, name: &str) -> Option<PathBuf> {
    let (dir, end) = match name {
        "offsets/OFFSET" => ("offsets", "offset"),
        "state/TREE.lock" => ("state", "lock"),
        "state/TREE.index" => ("state", "index"),
        name => {
            let path = PathBuf::from(name);
            return site.dir.path().join(&path).exists().then_some(path);
        }
    };
    let files = fs::read_dir(site.dir.path().join(dir))
        .into_iter()
        .flatten();
    let mut paths = files.map(|file| Path::new(dir).join(file.unwrap().file_name()));
    paths.find(|path| path.extension() == Some(end.as_ref()))
}

fn check(site: &Site<Sqlite>, before: &BTreeMap<PathBuf, u32>) {
    let mut made = modes(site.dir.path());
    // What is about to be renamed comes and goes, and is for nobody else.
    made.retain(|path, mode| path.extension() != Some("new".as_ref()) || *mode & 0o007 != 0);
    let named = WANTED.map(|(name, _)| found(site, name).unwrap_or_else(|| name.into()));
    made.retain(|path, _| {
        !before.contains_key(path) && path.extension() != Some("stderr".as_ref())
    });
    for ((name, mode), path) in WANTED.into_iter().zip(named) {
        let got = made.remove(&path);
        assert_eq!(
            got.map(|mode| format!("{mode:o}")),
            Some(format!("{mode:o}")),
            "{name}"
        );
    }
    for (path, mode) in made {
        assert!(
            path.starts_with("tree") && MINUTES.contains(&mode),
            "{} has mode {mode:o}, and is not in the list",
            path.display()
        );
    }
}

/// Starts all programs as services, `modsec-parser` also as one that follows a log.
fn start_all(site: &Site<Sqlite>) -> Vec<Running> {
    let programs = [
        (
            "modsec-parser",
            "--follow --storage-dir tree --merged-log merged.log --log-file parser.log \
             --min-age 0 --index index",
            &[("STATE_DIRECTORY", "state")][..],
        ),
        (
            "modsec-parser",
            "--follow serial.log --store sqlite:state/modsec.db",
            &[("STATE_DIRECTORY", "offsets")],
        ),
        (
            "recidive",
            "--source merged-log --merged-log merged.log --threshold 1 --log-file recidive.log",
            &[
                ("RECEDIVE_FILE", "jail.log"),
                ("LOG_FILE", "strikes/recidive.dat"),
                ("RECIDIVE_PID_FILE", "recidive.pid"),
            ],
        ),
        (
            "watch-dir",
            "--storage-dir tree --pid-file watch.pid --owner 0 --group 0 --allow-uid-min 0 \
             --log-file watch.log",
            &[],
        ),
    ];
    let mut running = Vec::new();
    for (name, arguments, variables) in programs {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let mut command = without_umask(site, name, &arguments);
        for (variable, value) in variables {
            command.env(variable, site.dir.path().join(value));
        }
        running.push(site.start_logging_to(command, &format!("{}.stderr", running.len())));
        until("the database", || site.log.exists());
    }
    running
}

#[test]
fn nothing_is_open_to_everybody_that_the_programs_make() {
    if !can_follow() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root may set a state directory of the system");
        return;
    }
    let mut site = Site::with_sqlite();
    fs::set_permissions(site.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    site.put_all(1, 10);
    fs::write(site.dir.path().join("index"), "").unwrap();
    fs::write(site.dir.path().join("serial.log"), entry("serial", 10)).unwrap();
    let before = modes(site.dir.path());
    let running = start_all(&site);
    for name in WANTED.map(|(name, _)| name) {
        until(name, || found(&site, name).is_some());
    }
    until("files removed", || site.left().is_empty());
    check(&site, &before);
    for running in running {
        running.stop();
    }
}

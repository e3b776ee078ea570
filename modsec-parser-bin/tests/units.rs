//! The shipped systemd units: what `systemd-analyze` says of them, and which capabilities the
//! programs need of those that they have.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../modsec-core/tests/machine/inotify.rs"]
mod inotify;
#[expect(
    dead_code,
    reason = "each test binary uses another part of this module"
)]
mod site;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use self::inotify::can_follow;
use self::site::{Site, Sqlite, until};

/// A site's user and group.
const SITE: u32 = 64_001;

/// The shipped services and timers, by name.
fn units() -> Vec<(String, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut units = Vec::new();
    for folder in ["modsec-parser-bin", "watch-dir-bin", "recidive-bin"] {
        for file in fs::read_dir(top.join(folder).join("deploy")).unwrap() {
            let path = file.unwrap().path();
            if path
                .extension()
                .is_some_and(|end| end == "service" || end == "timer")
            {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                units.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    assert_eq!(units.len(), 5, "{units:?}");
    units
}

fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Runs `systemd-analyze` where it is installed.
fn analyze(arguments: &[&str], units: &Path) -> Option<Output> {
    let mut command = Command::new("systemd-analyze");
    command.env("SYSTEMD_UNIT_PATH", format!("{}:", units.display()));
    let output = command.args(arguments).output();
    if output.is_err() {
        skip("systemd-analyze is not installed (package systemd)");
    }
    output.ok()
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr]
        .map(String::from_utf8_lossy)
        .concat()
}

#[test]
fn units_are_valid_and_expose_little() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in units() {
        // The programs need not be installed for the rest to be checked.
        let programs = ["modsec-parser", "watch-dir", "recidive"];
        let text = programs.iter().fold(text, |text, program| {
            text.replace(&format!("/usr/bin/{program}"), "/bin/true")
        });
        fs::write(dir.path().join(name), text).unwrap();
    }
    for (name, _) in units() {
        let path = dir.path().join(&name);
        let path = path.to_str().unwrap();
        let Some(output) = analyze(&["verify", "--man=no", path], dir.path()) else {
            return;
        };
        let complaints = said(&output);
        let ours: Vec<&str> = complaints
            .lines()
            .filter(|line| line.contains(&name))
            .collect();
        assert!(ours.is_empty(), "{ours:?}");
        if name.ends_with(".service") {
            let most = ["security", "--offline=true", "--threshold=20", path];
            let output = analyze(&most, dir.path()).unwrap();
            if said(&output).contains("unrecognized option") {
                skip("systemd-analyze cannot look at files, it is older than 250");
                return;
            }
            assert!(output.status.success(), "{}", said(&output));
        }
    }
}

/// Returns the capabilities that a unit gives, as `setpriv` names them.
fn capabilities(unit: &str) -> Vec<String> {
    let (_, text) = units().into_iter().find(|(name, _)| name == unit).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let names = line.unwrap().split(' ');
    names
        .map(|name| name.strip_prefix("CAP_").unwrap().to_lowercase())
        .collect()
}

/// Starts the program as a unit with these capabilities does.
fn with(capabilities: &[String], program: &Command) -> Command {
    let set = capabilities.iter().map(|name| format!(",+{name}"));
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--bounding-set=-all{}", set.collect::<String>()))
        .args(["--inh-caps=-all", "--no-new-privs"])
        .arg(program.get_program())
        .args(program.get_args())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap());
    for (name, value) in program.get_envs() {
        command.env(name, value.unwrap());
    }
    command
}

/// Entries in a directory of the site's own, and in a sticky one that the sites share.
fn entries_of_a_site(site: &mut Site<Sqlite>) {
    let own = site.put(100);
    let user = site.tree().join("site1");
    let (_, shared) = site.announce(100);
    let day = site.tree().join("20260304");
    let minute = day.join("20260304-0500");
    fs::create_dir_all(&minute).unwrap();
    let entry = minute.join("20260304-050607-shared");
    fs::write(&entry, shared).unwrap();
    let give = |path: &Path, mode: u32| {
        chown(path, Some(SITE), Some(SITE)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for directory in own
        .ancestors()
        .skip(1)
        .take_while(|path| *path != site.tree())
    {
        give(directory, 0o700);
    }
    assert!(own.starts_with(user));
    for file in [&own, &entry] {
        give(file, 0o600);
    }
    for directory in [&day, &minute] {
        give(directory, 0o1770);
    }
}

fn can_be_two_users() -> bool {
    let can = rustix::process::geteuid().is_root()
        && Command::new("setpriv").arg("--version").output().is_ok();
    if !can {
        skip("needs root, and setpriv of the package util-linux");
    }
    can
}

#[test]
fn the_parser_needs_each_of_its_capabilities_and_no_other() {
    if !can_follow() {
        return;
    }
    if !can_be_two_users() {
        return;
    }
    let given = capabilities("modsec-parser.service");
    assert_eq!(given, capabilities("modsec-parser-once.service"));
    let mut site = Site::with_sqlite();
    for without in &given {
        entries_of_a_site(&mut site);
        let rest: Vec<String> = given
            .iter()
            .filter(|name| *name != without)
            .cloned()
            .collect();
        let output = with(&rest, &site.command()).output().unwrap();
        assert!(!output.status.success(), "without {without}: {output:?}");
        assert!(!site.left().is_empty(), "without {without}: {output:?}");
        let output = with(&given, &site.command()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(site.left(), Vec::<PathBuf>::new());
    }
    entries_of_a_site(&mut site);
    let mut follow = site.command();
    follow.arg("--follow");
    let running = site.start(with(&given, &follow));
    until("all is stored", || site.left().is_empty());
    assert_eq!(running.stop().matches("ERROR").count(), 0);
}

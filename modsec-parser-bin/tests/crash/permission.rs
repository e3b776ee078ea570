//! What may not be read or written.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use crate::executable::Executable;
use crate::site::{Database as _, Site, Sqlite};

/// An account without rights.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root can become somebody else");
    }
    root
}

/// A site of which everything belongs to `NOBODY`.
fn site() -> Site<Sqlite> {
    let mut site = Site::with_sqlite();
    site.put_all(20, 100);
    let given = Command::new("chown")
        .args(["-R", &NOBODY.to_string()])
        .arg(site.dir.path())
        .status();
    assert!(given.unwrap().success());
    site
}

fn run_as_nobody(site: &Site<Sqlite>) -> (Option<i32>, String) {
    let command = site.command();
    let program = Executable::copy_of(command.get_program());
    let mut copy = program.instead_of(&command);
    let output = copy.uid(NOBODY).gid(NOBODY).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), text)
}

#[test]
fn where_nothing_may_be_written_files_stay_and_the_message_names_the_place() {
    if !is_root() {
        return;
    }
    for place in ["merged.log", "modsec.db", "tree"] {
        let site = site();
        let path = site.dir.path().join(place);
        if place != "tree" {
            fs::write(&path, "").unwrap();
        }
        chown(&path, Some(0), Some(0)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let (status, text) = run_as_nobody(&site);
        assert_eq!(status, Some(1), "{place}: {text}");
        assert!(text.contains(path.to_str().unwrap()), "{place}: {text}");
        assert_eq!(site.left().len(), 20, "{place}");
        chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        let (status, text) = run_as_nobody(&site);
        assert_eq!(status, Some(0), "{place}: {text}");
        site.check(&[&site.log], place);
    }
}

#[test]
fn a_file_that_may_not_be_read_stays_and_the_others_are_stored() {
    if !is_root() {
        return;
    }
    let site = site();
    let locked = site.left().pop().unwrap();
    chown(&locked, Some(0), Some(0)).unwrap();
    fs::set_permissions(&locked, Permissions::from_mode(0o600)).unwrap();
    let (status, text) = run_as_nobody(&site);
    assert_eq!(status, Some(3), "{text}");
    assert_eq!(site.left(), std::slice::from_ref(&locked));
    assert_eq!(site.database.rows().len(), 19);
    chown(&locked, Some(NOBODY), Some(NOBODY)).unwrap();
    let (status, text) = run_as_nobody(&site);
    assert_eq!(status, Some(0), "{text}");
    site.check(&[&site.log], "readable again");
}

#[test]
fn root_with_no_more_than_the_units_capabilities_can_do_it() {
    if !is_root() {
        return;
    }
    let unit = include_str!("../../deploy/modsec-parser.service");
    let set = unit
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="))
        .unwrap();
    let site = site();
    make_sticky(&site);
    let Some(output) = run_with(&site, set) else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    site.check(&[&site.log], "the unit's capabilities");
}

#[test]
fn what_cannot_be_removed_is_not_read_again_and_again() {
    if !is_root() {
        return;
    }
    let site = site();
    make_sticky(&site);
    let Some(output) = run_with(&site, "CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE") else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("CAP_FOWNER"), "{said}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("20 entries, 20 stored"), "{text}");
    assert_eq!(site.left().len(), 20);
}

/// Lets only the owner of a file remove it from its directory.
fn make_sticky(site: &Site<Sqlite>) {
    for file in site.left() {
        let dir = file.parent().unwrap();
        fs::set_permissions(dir, Permissions::from_mode(0o1777)).unwrap();
    }
}

/// Runs the program as root with these capabilities and no others.
fn run_with(site: &Site<Sqlite>, capabilities: &str) -> Option<Output> {
    // Root keeps nothing in a directory that somebody else has made in /tmp.
    chown(site.dir.path(), Some(0), Some(0)).unwrap();
    let names = capabilities.to_ascii_lowercase();
    let set: Vec<String> = names
        .split(' ')
        .map(|name| format!("+{}", name.trim_start_matches("cap_")))
        .collect();
    let program = site.command();
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set", &format!("-all,{}", set.join(","))])
        .arg("--no-new-privs")
        .arg(program.get_program())
        .args(program.get_args())
        .env("HOME", site.dir.path())
        .env("STATE_DIRECTORY", site.state());
    let output = command.output().ok();
    if output.is_none() {
        eprintln!("skipped: setpriv of the package util-linux is not installed");
    }
    output
}

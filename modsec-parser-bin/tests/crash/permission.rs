//! What may not be read or written.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

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
    let output = site.command().uid(NOBODY).gid(NOBODY).output().unwrap();
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
fn root_with_no_more_than_the_units_two_capabilities_can_do_it() {
    if !is_root() {
        return;
    }
    let site = site();
    let program = site.command();
    let mut command = Command::new("setpriv");
    command
        .args([
            "--bounding-set",
            "-all,+dac_read_search,+dac_override",
            "--no-new-privs",
        ])
        .arg(program.get_program())
        .args(program.get_args())
        .env("HOME", site.dir.path());
    let Ok(output) = command.output() else {
        eprintln!("skipped: setpriv of the package util-linux is not installed");
        return;
    };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    site.check(&[&site.log], "two capabilities");
}

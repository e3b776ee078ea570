//! A user who could once open the private directory, and keeps it locked for ever.
//!
//! Alone in its file: a process that is started holds copies of all locks for a moment.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use modsec_core::storage_dir::StorageDir;

const PRIVATE: &str = ".modsec-parser";
/// User and group id of an account that is on every system and owns nothing.
const NOBODY: u32 = 65534;

/// Locks the directory, says so, and waits until nobody wants to know any more.
const SQUAT: &str = "
import fcntl, os, sys
fcntl.flock(os.open('.modsec-parser', os.O_RDONLY), fcntl.LOCK_EX)
os.write(1, b'locked')
sys.stdin.read()
";

#[test]
fn another_user_who_holds_the_lock_keeps_no_parser_from_starting() {
    if !rustix::process::geteuid().is_root() {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: only root may start a process of another user"
        );
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let private = root.path().join(PRIVATE);
    fs::create_dir(&private).unwrap();
    fs::write(private.join("1-0.20260822-101500-a"), "entry").unwrap();
    for path in [root.path(), &private] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(path, mode).unwrap();
    }
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", SQUAT]).current_dir(root.path());
    python.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut squatter = python.uid(NOBODY).gid(NOBODY).spawn().unwrap();
    let mut said = [0; 6];
    std::io::Read::read_exact(squatter.stdout.as_mut().unwrap(), &mut said).unwrap();
    let storage = StorageDir::open(root.path()).unwrap();
    storage.lock().unwrap();
    let [aside] = storage.moved_aside() else {
        panic!("{:?}", storage.moved_aside());
    };
    // What was claimed is not lost.
    let entry = fs::read(aside.join("1-0.20260822-101500-a")).unwrap();
    assert_eq!(entry, b"entry");
    drop(squatter.stdin.take());
    squatter.wait().unwrap();
}

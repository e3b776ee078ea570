//! A serial log on a disk that was full for a while: the engine stops within a line, and goes on there.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "index/apache_server.rs"]
#[expect(dead_code, reason = "other tests send other requests")]
mod server;
#[expect(
    dead_code,
    reason = "each test binary uses another part of this module"
)]
mod site;

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};

use self::server::Apache;
use self::site::{LIMIT, Site, until};

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Client, URI, status, interception, rule and flags of all rows.
const ROWS: &str =
    "select coalesce(REMOTE_ADDR, '-') || ' ' || coalesce(REQUEST_URI, '-') || ' ' ||
    coalesce(responce_header, '-') || ' ' || coalesce(intercepted, '-') || ' ' ||
    coalesce(ruleId, '-') || ' ' || coalesce(flags, '-') from logs order by 1";

fn rows(database: &Path) -> Vec<String> {
    let db = Connection::open(database).unwrap();
    let mut query = db.prepare(ROWS).unwrap();
    let rows = query.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

fn field(name: &str) -> PathBuf {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../modsec-core/tests/data/field");
    data.join(name)
}

/// The program, which stores into `logs.db` of this directory and removes nothing.
fn parser(dir: &Path) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("modsec-parser"));
    command
        .env_clear()
        .env("MODSEC_CONFIG", "none")
        .current_dir(dir)
        .args(["--store", "sqlite:logs.db"]);
    command
}

const INNOCENT: [&str; 2] = [
    "192.0.2.200 /innocent 200 0 920350 truncated",
    "203.0.113.66 /?x=/etc/passwd 403 1 930120 -",
];

#[test]
fn the_cut_entry_is_charged_with_nothing_of_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let output = parser(dir.path()).arg(field("cut/innocent.log")).output();
    let said = String::from_utf8(output.unwrap().stderr).unwrap();
    assert_eq!(rows(&dir.path().join("logs.db")), INNOCENT, "{said}");
}

#[test]
fn nor_is_it_while_the_log_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let text = fs::read(field("cut/innocent.log")).unwrap();
    let place = text
        .windows(6)
        .position(|bytes| bytes == b"--bbbb")
        .unwrap();
    let log = dir.path().join("serial.log");
    fs::write(&log, &text[..place]).unwrap();
    let mut command = parser(dir.path());
    command.args(["--follow", "serial.log", "--offset-file", "place"]);
    let mut running = Running(command.spawn().unwrap());
    until("the offset", || dir.path().join("place").exists());
    let mut log = fs::File::options().append(true).open(&log).unwrap();
    log.write_all(&text[place..]).unwrap();
    let database = dir.path().join("logs.db");
    until("both entries", || rows(&database).len() == 2);
    let pid = Pid::from_child(&running.0);
    kill_process(pid, Signal::TERM).unwrap();
    running.0.wait().unwrap();
    assert_eq!(rows(&database), INNOCENT);
}

/// A small file system in memory, unmounted when the test ends.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf) -> Option<Disk> {
        fs::create_dir(&at).unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "mode=755,size=16k", "tmpfs"])
            .arg(&at);
        let is_mounted = mount.status().is_ok_and(|status| status.success());
        is_mounted.then_some(Disk(at))
    }

    fn enlarge(&self) {
        let mut mount = Command::new("mount");
        mount.args(["-o", "remount,size=1m"]).arg(&self.0);
        assert!(mount.status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

const DIRECTIVES: &str = r#"
User www-data
Group www-data
SecAuditEngine On
SecAuditLogType Serial
SecAuditLogParts ABFHZ
SecAuditLog "@DIR@/small/audit.log"
"#;

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_real_engine_on_a_full_disk_charges_no_innocent_client() {
    if !Apache::is_there() {
        return;
    }
    let site = Site::with_sqlite();
    let dir = site.dir.path();
    fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    let Some(disk) = Disk::mount(dir.join("small")) else {
        eprintln!("skipped: a small disk can be mounted by root only");
        return;
    };
    let sites = [("www-data", "www-data")];
    let apache = Apache::start(dir, Command::new("sh"), &sites, DIRECTIVES);
    let port = apache.ports[0];
    let log = dir.join("small/audit.log");
    let len = || fs::metadata(&log).map_or(0, |meta| meta.len());
    let mut before = None;
    while before != Some(len()) {
        before = Some(len());
        assert!(get(port, "/innocent").contains(" 404 "));
    }
    let text = fs::read(&log).unwrap();
    assert!(!text.ends_with(b"-Z--\n\n"), "cut off");
    disk.enlarge();
    assert!(get(port, "/?attack=1").contains(" 403 "));
    drop(apache);
    let output = parser(dir).arg(&log).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let rows = rows(&dir.join("logs.db"));
    let (attacks, others): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.contains("attack"));
    assert_eq!(
        attacks,
        ["127.0.0.1 /?attack=1 403 1 1 -"],
        "{rows:?} {said}"
    );
    assert!(!others.is_empty());
    for row in &others {
        assert!(row.contains(" 0 - "), "{row}");
    }
    let cut = others.iter().filter(|row| row.contains("truncated"));
    assert_eq!(cut.count(), 1, "{rows:?}");
}

//! A world of its own for a test: processes, network, users and mounts that nobody else sees.
//!
//! The test starts itself again in new namespaces. So clients can have any address, servers any
//! port, sites their users, and when the test ends, in whatever way, the kernel ends all that it
//! has started.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::accounts::Accounts;
use crate::inotify::can_follow;

/// Unix users with a site each.
pub(crate) const SITES: [&str; 3] = ["mswsite1", "mswsite2", "mswsite3"];
/// The web server's user and the group of all directories, called as the programs' defaults are.
pub(crate) const OWNER: &str = "apache";
pub(crate) const GROUP: &str = "fastsecure";
const OWNER_ID: u32 = 64_000;
/// The sites' users are numbered from here.
pub(crate) const FIRST_SITE_ID: u32 = OWNER_ID + 1;
pub(crate) const GROUP_ID: u32 = 64_100;
/// Addresses of this network (RFC 2544), and of `2001:db8::/32`, are clients.
const NETWORKS: &str = "198.18.0.0/15";

/// Set for the test that was started again; names its directory.
const INSIDE: &str = "MODSEC_WHOLE_DIR";
/// Keeps the directory of a test that failed.
const KEEP: &str = "MODSEC_WHOLE_KEEP";

/// What must be there: a program or file, and its package.
const NEEDED: [(&str, &str); 11] = [
    ("apache2", "apache2"),
    ("/usr/lib/apache2/modules/mpm_itk.so", "libapache2-mpm-itk"),
    (
        "/usr/lib/apache2/modules/mod_security2.so",
        "libapache2-mod-security2",
    ),
    (
        "/usr/share/modsecurity-crs/owasp-crs.load",
        "modsecurity-crs",
    ),
    ("nginx", "nginx"),
    ("mariadbd", "mariadb-server"),
    ("fail2ban-server", "fail2ban"),
    ("inotifywait", "inotify-tools"),
    ("ip", "iproute2"),
    ("python3", "python3"),
    ("setpriv", "util-linux"),
];

/// Makes the namespaces' network and users, then becomes the test.
const ENTER: &str = r#"
    ip link set lo up && ip route add local "$1" dev lo || exit 99
    if ip -6 route add local 2001:db8::/32 dev lo; then
        echo 1 > /proc/sys/net/ipv6/ip_nonlocal_bind
    fi
    mount --bind "$2/passwd" /etc/passwd && mount --bind "$2/group" /etc/group || exit 99
    shift 2; exec "$@"
"#;

/// The directory of a test that has its own world.
#[derive(Debug, Clone)]
pub(crate) struct World {
    dir: PathBuf,
}

impl World {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The directory as text, for configurations.
    pub(crate) fn dir(&self) -> &str {
        self.dir.to_str().unwrap()
    }

    pub(crate) fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.path(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Runs `body` in a world of its own; says why not where that is impossible. One after the other.
pub(crate) fn alone(test: &str, body: impl FnOnce(&World)) {
    static TURN: Mutex<()> = Mutex::new(());
    if let Some(dir) = std::env::var_os(INSIDE) {
        return body(&World { dir: dir.into() });
    }
    if let Some(why) = impossible() {
        let _ = writeln!(std::io::stderr(), "{test}: skipped, {why}");
        return;
    }
    if !can_follow() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    add_accounts(dir.path());
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "--net",
            "--ipc",
            "--pid",
            "--fork",
            "--kill-child",
        ])
        .args(["--mount-proc", "sh", "-c", ENTER, "sh", NETWORKS])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env(INSIDE, dir.path())
        .env("TMPDIR", dir.path());
    let status = command.stdout(std::process::Stdio::null()).status();
    let status = status.unwrap();
    if !status.success() && std::env::var_os(KEEP).is_some() {
        let _ = writeln!(std::io::stderr(), "kept: {}", dir.keep().display());
    }
    assert!(status.success(), "{status}");
}

fn add_accounts(dir: &Path) {
    let mut accounts = Accounts::of_this_machine();
    let users = [&[OWNER], &SITES[..]].concat();
    for (id, name) in (OWNER_ID..).zip(&users) {
        accounts.add_user(name, id);
    }
    accounts.add_group(GROUP, GROUP_ID, &users);
    accounts.write(dir);
}

fn impossible() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("run it as root".to_owned());
    }
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(file, _)| !is_there(file))
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        return Some(format!("not installed: {}", missing.join(" ")));
    }
    let absent = ["watch-dir", "recidive"]
        .into_iter()
        .find(|name| !program(name).exists());
    if let Some(name) = absent {
        return Some(format!(
            "{name} is not built, run `cargo build --workspace`"
        ));
    }
    let allowed = Command::new("unshare")
        .args(["--mount", "--net", "--ipc", "--pid", "--fork", "true"])
        .status();
    (!allowed.is_ok_and(|status| status.success()))
        .then(|| "namespaces are not permitted here".to_owned())
}

/// Tells whether a file, or a program somewhere in the usual places, exists.
fn is_there(file: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    dirs.into_iter().any(|dir| dir.join(file).exists())
}

/// Where a program of the workspace was built: beside the one of this package.
pub(crate) fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_modsec-parser")).with_file_name(name)
}

//! The shipped unit gives one capability, to a user of its own; that is needed, and enough.

mod program;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::{Command, Stdio};

use crate::program::inotify::can_follow;
use crate::program::{Place, Running, entry, wait_for};

const UNIT: &str = include_str!("../deploy/recidive.service");
/// Users that the system need not know.
const RECIDIVE: u32 = 64_000;
const SITE: u32 = 64_001;

/// The program as the user of its unit, with these capabilities.
fn with(place: &Place, capabilities: &str) -> Command {
    let program = place.recidive(&["--threshold", "1"]);
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid=64000",
            "--regid=64000",
            "--clear-groups",
            "--no-new-privs",
        ])
        .arg(format!("--bounding-set={capabilities}"))
        .arg(format!("--inh-caps={capabilities}"))
        .arg(format!("--ambient-caps={capabilities}"))
        .arg(program.get_program())
        .args(program.get_args())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let own = ["jail.log", "state/recidive.dat", "recidive.pid"].map(|name| format!("own/{name}"));
    let names = ["RECEDIVE_FILE", "LOG_FILE", "RECIDIVE_PID_FILE"];
    command.envs(names.into_iter().zip(own.map(|name| place.path(&name))));
    command
}

#[test]
fn entries_of_other_users_need_the_capability_of_the_unit() {
    if !can_follow() {
        return;
    }
    let setpriv = Command::new("setpriv").arg("--version").output();
    if !rustix::process::geteuid().is_root() || setpriv.is_err() {
        let text = "skipped: needs root, and setpriv of the package util-linux";
        let _ = writeln!(std::io::stderr(), "{text}");
        return;
    }
    for line in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        assert!(UNIT.contains(&format!("\n{line}=CAP_DAC_READ_SEARCH\n")));
    }
    for (capabilities, is_counted) in [("-all", false), ("-all,+dac_read_search", true)] {
        let mut place = Place::new();
        let open = |path: &str, mode| {
            fs::set_permissions(place.path(path), fs::Permissions::from_mode(mode)).unwrap();
        };
        open("", 0o755);
        open("audit", 0o755);
        fs::create_dir(place.path("own")).unwrap();
        chown(place.path("own"), Some(RECIDIVE), Some(RECIDIVE)).unwrap();
        let file = place.write("site1", &entry("192.0.2.7", 1, "", "403 Forbidden"));
        let own = place.path("audit");
        for path in file.ancestors().take_while(|path| **path != own) {
            chown(path, Some(SITE), Some(SITE)).unwrap();
            let mode = if path.is_dir() { 0o700 } else { 0o600 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let running = Running::of(with(&place, capabilities).spawn().unwrap());
        let jail = || fs::read_to_string(place.path("own/jail.log")).unwrap_or_default();
        // What it can read it has read by the time that it writes its state.
        wait_for("a state", || place.path("own/state/recidive.dat").exists());
        if is_counted {
            wait_for("the attack", || jail().contains("192.0.2.7"));
        }
        running.stop();
        assert_eq!(
            jail().contains("192.0.2.7"),
            is_counted,
            "{capabilities}: {}",
            jail()
        );
    }
}

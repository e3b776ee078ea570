//! With a real Fail2ban: the shipped filter and jail, a private server, an action that does nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod program;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use chrono::{DateTime, Local, TimeDelta};

use crate::program::inotify::can_follow;
use crate::program::{Place, entry, exists, wait_for};

const FILTER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/deploy/filter.d/modsec-recidive.conf"
);
const JAIL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/deploy/jail.d/modsec-recidive.conf"
);

/// What the Debian package puts below `/etc`.
const CONFFILES: &str = include_str!("../../modsec-parser-bin/deploy/debian/conffiles");

/// Tells, also to whoever reads the output, whether Fail2ban is installed.
fn is_installed() -> bool {
    let installed = Command::new("fail2ban-server")
        .arg("--version")
        .output()
        .is_ok();
    if !installed {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: fail2ban-server not found, install the package fail2ban"
        );
    }
    installed
}

/// An attack some seconds ago.
fn attack(client: &str, age: i64) -> String {
    let at: DateTime<Local> = Local::now() - TimeDelta::seconds(age);
    let stamp = at.format("%d/%b/%Y:%H:%M:%S.123456 %z").to_string();
    let second = u32::try_from(age).unwrap();
    let template = entry(client, second, "", "403 Forbidden");
    let old = format!("22/Aug/2026:10:15:{second:02}.123456 +0200");
    template.replace(&old, &stamp)
}

#[test]
fn the_filter_matches_every_line_we_write_and_nothing_else() {
    if !can_follow() {
        return;
    }
    if !is_installed() {
        return;
    }
    let mut place = Place::new();
    let running = place.start(&["--threshold", "1", "--ipv4-prefix", "31"]);
    for (n, client) in [
        "192.0.2.7",
        "2001:db8::7",
        "::1",
        "::ffff:192.0.2.9",
        "fe80::1%eth0",
    ]
    .iter()
    .enumerate()
    {
        place.write("site1", &attack(client, i64::try_from(n).unwrap()));
    }
    let lines = place.reported(5).len();
    assert!(running.stop().success());
    let ours = place.path("jail.log");
    assert_eq!(matched(&ours), (lines, 0));
    // The old script under both of its names, and changed so that it writes fractions.
    let scripts = [
        "203.0.113.9 - 2026-08-22 10:15:00",
        "2001:db8::7 - 2026-08-22 10:15:00",
        "203.0.113.9 - 2026-08-22 10:15:00.123",
        "203.0.113.9 - 2026-08-22 10:15:00,123",
        "203.0.113.9 - 2026-08-22 10:15:00.123456",
        "203.0.113.9 - 2026-08-22 10:15:00.123456789",
        "2001:db8:1:2::/64 - 2026-08-22 10:15:00.5",
    ];
    let written = place.path("scripts.log");
    fs::write(&written, scripts.join("\n") + "\n").unwrap();
    assert_eq!(matched(&written), (scripts.len(), 0));
    let others = [
        "x203.0.113.9 - 2026-08-22 10:15:00",
        "203.0.113.9 - 2026-08-22 10:15:00 x",
        "something 203.0.113.9 - 2026-08-22 10:15:00",
        "203.0.113.9 - 203.0.113.10 - 2026-08-22 10:15:00",
        "2026-08-22 10:15:00 203.0.113.9 - ",
        "localhost - 2026-08-22 10:15:00",
        "203.0.113.9 - 2026",
        "203.0.113.9",
        "203.0.113.9 - 2026-08-22 10:15:00.",
        "203.0.113.9 - 2026-08-22 10:15:00.123 x",
        "203.0.113.9 - 2026-08-22 10:15:00.123 198.51.100.1",
    ];
    let theirs = place.path("others.log");
    fs::write(&theirs, others.join("\n") + "\n").unwrap();
    assert_eq!(matched(&theirs), (0, others.len()));
}

/// Returns how many lines `fail2ban-regex` matched and missed.
fn matched(log: &Path) -> (usize, usize) {
    let output = Command::new("fail2ban-regex").arg(log).arg(FILTER).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let words: Vec<&str> = text
        .lines()
        .find(|line| line.starts_with("Lines: "))
        .unwrap_or_else(|| panic!("{text}"))
        .split_ascii_whitespace()
        .collect();
    // Lines: 5 lines, 0 ignored, 5 matched, 0 missed
    (words[5].parse().unwrap(), words[7].parse().unwrap())
}

/// Puts the files of the Debian package into a configuration of Fail2ban.
fn install_package(dir: &Path) {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let names = CONFFILES.lines();
    for name in names.filter_map(|path| path.strip_prefix("/etc/fail2ban/")) {
        fs::copy(deploy.join(name), dir.join(name)).unwrap();
    }
}

/// Returns what a Fail2ban with these files below `jail.d`, and perhaps the package's, would do:
/// one line for each command.
fn commands(place: &Place, files: &[(&str, &str)], has_package: bool) -> Vec<String> {
    let dir = place.path("dump");
    let _ = fs::remove_dir_all(&dir);
    for part in ["filter.d", "action.d", "jail.d"] {
        fs::create_dir_all(dir.join(part)).unwrap();
    }
    let jail = "[DEFAULT]\nenabled = false\nbackend = polling\nbanaction = harmless\n\
                action = %(banaction)s[name=%(__name__)s]\n";
    fs::write(dir.join("jail.conf"), jail).unwrap();
    for filter in ["modsec-recidive", "modsec_recedive", "modsec_recidive"] {
        fs::copy(FILTER, dir.join(format!("filter.d/{filter}.conf"))).unwrap();
    }
    let text = "[Definition]\nactionban = true\n";
    fs::write(dir.join("action.d/harmless.conf"), text).unwrap();
    if has_package {
        install_package(&dir);
    }
    place.append("jail.log", "");
    for (name, text) in files {
        let log = place.path("jail.log").display().to_string();
        fs::write(dir.join(name), text.replace("LOG", &log)).unwrap();
    }
    let client = Command::new("fail2ban-client")
        .arg("-c")
        .arg(&dir)
        .arg("-d")
        .output()
        .unwrap();
    let text = String::from_utf8(client.stdout).unwrap();
    assert!(
        client.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&client.stderr)
    );
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_package_switches_no_jail_off_and_changes_none() {
    if !is_installed() {
        return;
    }
    let place = Place::new();
    let on = "[modsec-recidive]\nenabled = true\nfilter = modsec-recidive\nlogpath = LOG\n\
              bantime = 86400\n";
    let starts =
        |commands: &[String], jail: &str| commands.contains(&format!("['start', '{jail}']"));
    assert_eq!(
        commands(&place, &[], true),
        commands(&place, &[], false),
        "off by itself"
    );
    let all = "[DEFAULT]\nenabled = true\n";
    let commands_of = |files: &[(&str, &str)]| commands(&place, files, true);
    assert!(
        !starts(&commands_of(&[("jail.local", all)]), "modsec-recidive"),
        "asked for by nobody"
    );
    // What is the administrator's wins, wherever it stands and whatever it is called.
    for file in [
        "jail.d/-.conf",
        "jail.d/00-a.conf",
        "jail.d/custom.conf",
        "jail.d/modsec-recidive.local",
        "jail.d/modsec-recidive.conf",
        "jail.local",
    ] {
        let with = commands_of(&[(file, on)]);
        assert!(starts(&with, "modsec-recidive"), "{file}: {with:#?}");
        let bantime = "['set', 'modsec-recidive', 'bantime', '86400']";
        assert!(
            with.iter().any(|command| command == bantime),
            "{file}: {with:#?}"
        );
        assert_eq!(with, commands(&place, &[(file, on)], false), "{file}");
        let off = on.replace("true", "false");
        let without = commands_of(&[("jail.local", all), (file, &off)]);
        assert!(!starts(&without, "modsec-recidive"), "{file}: {without:#?}");
    }
    // The jail that comes with it is off until somebody copies it.
    let jail = fs::read_to_string(JAIL).unwrap();
    let jail = jail.replace("/var/log/httpd/modsec_recedive.log", "LOG");
    let copied = commands_of(&[("jail.d/modsec-recidive.conf", &jail)]);
    assert!(starts(&copied, "modsec-recidive"), "{copied:#?}");
    // The old script's jails, as they were before.
    for (jail, filter) in [
        ("modsec-recedive", "modsec_recedive"),
        ("ModSec Recedive", "modsec_recedive"),
        ("ModSec Recidive", "modsec_recidive"),
    ] {
        let text = format!(
            "[{jail}]\nenabled = true\nport = http,https\nfilter = {filter}\nlogpath = LOG\n\
             maxretry = 3\nbantime = 3600\nfindtime = 600\n"
        );
        for file in ["jail.d/00-a.conf", "jail.d/custom.conf", "jail.local"] {
            let files = [(file, text.as_str())];
            let with = commands(&place, &files, true);
            assert!(starts(&with, jail), "{with:#?}");
            assert_eq!(with, commands(&place, &files, false), "{jail}");
        }
    }
}

/// A Fail2ban of its own: configuration, socket, PID file and log below one directory.
struct Fail2ban {
    place: std::path::PathBuf,
    server: Child,
}

impl Fail2ban {
    /// Starts with the shipped filter and jail, of which only paths and the action are replaced.
    fn start(place: &Place) -> Fail2ban {
        let jail = fs::read_to_string(JAIL).unwrap();
        let log = place.path("jail.log");
        let jail = jail
            .replace("/var/log/httpd/modsec_recedive.log", log.to_str().unwrap())
            .replace("backend  = auto", "backend  = polling");
        let jail = format!("{jail}\naction = harmless\n");
        Fail2ban::start_with(place, "jail.d/modsec-recidive.conf", &jail)
    }

    /// Starts with the files of the Debian package, and one more with the jail `modsec-recidive`.
    fn start_with(place: &Place, file: &str, jail: &str) -> Fail2ban {
        let dir = place.path("fail2ban");
        for part in ["filter.d", "action.d", "jail.d"] {
            fs::create_dir_all(dir.join(part)).unwrap();
        }
        let shown = dir.display();
        let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
        write(
            "fail2ban.conf",
            &format!(
                "[Definition]\nloglevel = INFO\nlogtarget = {shown}/log\nsyslogsocket = auto\n\
                 socket = {shown}/socket\npidfile = {shown}/pid\ndbfile = None\n"
            ),
        );
        write(
            "jail.conf",
            "[DEFAULT]\nbackend = polling\nignoreself = false\n",
        );
        install_package(&dir);
        write(file, jail);
        write(
            "action.d/harmless.conf",
            &format!("[Definition]\nactionban = echo <ip> >> {shown}/banned\nactionunban = true\n"),
        );
        let server = Command::new("fail2ban-server")
            .arg("-c")
            .arg(&dir)
            .args(["-f", "start"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let fail2ban = Fail2ban { place: dir, server };
        wait_for("Fail2ban", || {
            exists(&fail2ban.place.join("socket")) && fail2ban.client(&["ping"]).status.success()
        });
        wait_for("the jail", || {
            fail2ban
                .client(&["status", "modsec-recidive"])
                .status
                .success()
        });
        fail2ban
    }

    fn client(&self, arguments: &[&str]) -> Output {
        Command::new("fail2ban-client")
            .arg("-c")
            .arg(&self.place)
            .args(arguments)
            .output()
            .unwrap()
    }

    fn banned(&self) -> Vec<String> {
        let text = fs::read_to_string(self.place.join("banned")).unwrap_or_default();
        let mut banned: Vec<String> = text.lines().map(str::to_owned).collect();
        banned.sort();
        banned
    }
}

impl Drop for Fail2ban {
    fn drop(&mut self) {
        self.client(&["stop"]);
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn a_private_server_bans_offenders_and_nobody_before() {
    if !can_follow() {
        return;
    }
    if !is_installed() {
        return;
    }
    let mut place = Place::new();
    place.append("jail.log", "");
    let fail2ban = Fail2ban::start(&place);
    let running = place.start(&["--threshold", "4"]);
    for age in (1..4).rev() {
        for client in ["203.0.113.9", "2001:db8:1:2::7"] {
            place.write("site1", &attack(client, age));
        }
    }
    // Somebody else is banned for certain, so whoever was to be banned before would be by now.
    for age in (1..5).rev() {
        place.write("site2", &attack("198.51.100.1", age));
    }
    wait_for("the first ban", || !fail2ban.banned().is_empty());
    assert_eq!(fail2ban.banned(), ["198.51.100.1"]);
    for client in ["203.0.113.9", "2001:db8:1:2::8"] {
        place.write("site1", &attack(client, 0));
    }
    wait_for("three bans", || fail2ban.banned().len() == 3);
    assert_eq!(
        fail2ban.banned(),
        ["198.51.100.1", "2001:db8:1:2::/64", "203.0.113.9"]
    );
    let status = fail2ban.client(&["status", "modsec-recidive"]).stdout;
    let status = String::from_utf8(status).unwrap();
    assert!(status.contains("2001:db8:1:2::/64"), "{status}");
    assert!(running.stop().success());
}

#[test]
fn the_administrators_jail_runs_beside_the_package_wherever_it_stands() {
    if !is_installed() {
        return;
    }
    let place = Place::new();
    place.append("jail.log", "");
    let jail = format!(
        "[modsec-recidive]\nenabled = true\nfilter = modsec-recidive\naction = harmless\n\
         logpath = {}\nmaxretry = 1\nbantime = 4321\n",
        place.path("jail.log").display()
    );
    for file in ["jail.d/00-a.conf", "jail.d/custom.conf", "jail.local"] {
        // It waits for the jail.
        let fail2ban = Fail2ban::start_with(&place, file, &jail);
        let bantime = fail2ban.client(&["get", "modsec-recidive", "bantime"]);
        assert_eq!(bantime.stdout, b"4321\n", "{file}");
        drop(fail2ban);
        fs::remove_file(place.path("fail2ban").join(file)).unwrap();
    }
}

//! A real Apache with MPM-ITK and `ModSecurity`, and its index as a pipe and as a file.

#[path = "apache_server.rs"]
mod server;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use self::server::{Apache, attack};
use crate::inotify::can_follow;
use crate::site::{Database as _, LIMIT, Site, Sqlite, until};

/// Accounts that every system has.
const USERS: [(&str, &str); 3] = [
    ("www-data", "www-data"),
    ("daemon", "daemon"),
    ("bin", "bin"),
];
/// Requests to each site, over one connection.
const REQUESTS: usize = 300;
/// Connections of a burst.
const BURST: usize = 150;

const DIRECTIVES: &str = r#"
User www-data
Group www-data
SecAuditEngine On
SecAuditLog "@INDEX@"
SecAuditLogStorageDir "@DIR@/tree"
"#;

/// Runs the program as Apache would, and notes how it ended.
const WRAPPER: &str = r#"#!/bin/sh
exec 3<&0
"$@" <&3 3<&- &
child=$!
exec 3<&- </dev/null
trap 'kill -TERM $child' TERM
trap : HUP
echo $child >>@DIR@/started
wait $child
status=$?
while kill -0 $child 2>/dev/null; do wait $child; status=$?; done
echo $child $status >>@DIR@/ended
"#;

/// Starts Apache on a site's tree; `None` if it is not installed or may not be started.
fn start(site: &Site<Sqlite>, index: &str) -> Option<Apache> {
    if !Apache::is_there() {
        return None;
    }
    let dir = site.dir.path();
    fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(site.tree(), Permissions::from_mode(0o1777)).unwrap();
    let directives = DIRECTIVES.replace("@INDEX@", index);
    Some(Apache::start(dir, Command::new("sh"), &USERS, &directives))
}

fn signal(apache: &Apache, signal: Signal) {
    kill_process(Pid::from_child(&apache.child), signal).unwrap();
}

fn stop(mut apache: Apache) {
    signal(&apache, Signal::TERM);
    apache.child.wait().unwrap();
}

/// Attacks all sites at once.
fn attack_all(ports: &[u16]) {
    thread::scope(|scope| {
        for port in ports {
            scope.spawn(|| attack(*port, REQUESTS));
        }
    });
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The program with its options, as it stands in the configuration.
fn piped(site: &Site<Sqlite>) -> String {
    let dir = site.dir.path();
    let wrapper = dir.join("wrapper");
    fs::write(&wrapper, WRAPPER.replace("@DIR@", dir.to_str().unwrap())).unwrap();
    fs::set_permissions(&wrapper, Permissions::from_mode(0o755)).unwrap();
    let command = site.command();
    let mut words = vec![wrapper.into_os_string(), command.get_program().to_owned()];
    words.extend(command.get_args().map(ToOwned::to_owned));
    let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
    let log = dir.join("own.log");
    format!(
        "|{} --index - --log-file {}",
        words.join(" "),
        log.display()
    )
}

#[test]
fn a_pipe_from_a_real_apache_stores_every_request_and_ends_with_it() {
    if !can_follow() {
        return;
    }
    let site = Site::with_sqlite();
    let Some(mut apache) = start(&site, &piped(&site)) else {
        return;
    };
    let dir = site.dir.path().to_owned();
    attack_all(&apache.ports);
    let rows = || -> usize { site.database.rows().len() };
    until("all in the store", || rows() == USERS.len() * REQUESTS);
    // A graceful restart starts the program anew.
    let before = lines(&dir.join("started")).len();
    signal(&apache, Signal::USR1);
    until("another program", || {
        lines(&dir.join("started")).len() > before
    });
    apache.until_started(&dir, 2);
    attack_all(&apache.ports);
    // A child that has answered may still be writing its entry, and would be stopped in the middle.
    until("all in the store again", || {
        rows() == 2 * USERS.len() * REQUESTS
    });
    stop(apache);
    until("its end", || {
        lines(&dir.join("ended")).len() == lines(&dir.join("started")).len()
    });
    let last = lines(&dir.join("started")).pop().unwrap();
    let log = fs::read_to_string(dir.join("own.log")).unwrap();
    let ended = lines(&dir.join("ended"));
    assert!(ended.contains(&format!("{last} 0")), "{ended:?} {log}");
    assert_eq!(rows(), 2 * USERS.len() * REQUESTS, "{log}");
    assert!(site.database.rows().values().all(|count| *count == 1));
    assert!(!log.contains("lost or damaged"), "{log}");
    assert_eq!(site.left(), Vec::<&Path>::new());
}

#[test]
fn of_a_burst_under_mpm_itk_what_is_stored_and_what_is_lost_makes_all_requests() {
    if !can_follow() {
        return;
    }
    let site = Site::with_sqlite();
    let index = site.dir.path().join("index.log");
    let Some(apache) = start(&site, index.to_str().unwrap()) else {
        return;
    };
    // Unique ids, and with them names, repeat with every connection to one child.
    for _ in 0..BURST {
        attack(apache.ports[0], 1);
    }
    until("the index", || lines(&index).len() == BURST);
    stop(apache);
    let output = site.command().arg("--index").arg(&index).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let number = |label: &str| -> usize {
        let words = text
            .split(", ")
            .map(|word| word.trim_start_matches("index: "));
        let mut found = words.filter_map(|word| word.strip_suffix(label));
        found.next().unwrap().parse().unwrap()
    };
    assert_eq!(number(" lines"), BURST, "{text}");
    assert_eq!(
        number(" verified") + number(" overwritten"),
        BURST,
        "{text}"
    );
    assert_eq!(number(" stored"), number(" verified"), "{text}");
    let wanted = if number(" overwritten") > 0 { 3 } else { 0 };
    assert_eq!(output.status.code(), Some(wanted), "{text}");
    eprintln!("{} of {BURST} overwritten", number(" overwritten"));
}

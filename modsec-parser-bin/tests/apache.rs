//! A real Apache with MPM-ITK and `ModSecurity`, and its index as a pipe and as a file.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, reason = "the site is there for other tests too")]

mod site;

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use self::site::{Database as _, LIMIT, Site, Sqlite, until};

const MODULES: &str = "/usr/lib/apache2/modules";
const PACKAGES: &str = "apache2 libapache2-mpm-itk libapache2-mod-security2";
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

const CONFIGURATION: &str = r#"
ServerRoot "@DIR@"
DefaultRuntimeDir "@DIR@"
PidFile "@DIR@/httpd.pid"
ErrorLog "@DIR@/error.log"
ServerName localhost
LoadModule mpm_prefork_module @MODULES@/mod_mpm_prefork.so
LoadModule mpm_itk_module @MODULES@/mpm_itk.so
LoadModule authz_core_module @MODULES@/mod_authz_core.so
LoadModule unique_id_module @MODULES@/mod_unique_id.so
LoadModule security2_module @MODULES@/mod_security2.so
User www-data
Group www-data
KeepAlive On
KeepAliveTimeout 30
MaxKeepAliveRequests 0
DocumentRoot "@DIR@/www"
SecRuleEngine On
SecAuditEngine On
SecAuditLogParts AFHZ
SecAuditLogType Concurrent
SecAuditLogDirMode 0777
SecAuditLogFileMode 0600
SecAuditLog "@INDEX@"
SecAuditLogStorageDir "@DIR@/tree"
SecDataDir "@DIR@"
SecRule ARGS:attack "@streq 1" "id:1,phase:2,deny,status:403,log,msg:'test'"
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

/// A private server, stopped when the test ends however it ends.
struct Apache {
    child: Child,
    ports: Vec<u16>,
}

impl Apache {
    /// Starts it; `None` if it is not installed or may not be started.
    fn start(site: &Site<Sqlite>, index: &str) -> Option<Apache> {
        let there = ["mpm_itk.so", "mod_security2.so"]
            .iter()
            .all(|name| Path::new(MODULES).join(name).exists());
        if !there || !rustix::process::geteuid().is_root() {
            let _ = writeln!(
                std::io::stderr(),
                "skipped: needs root, and Apache with MPM-ITK and ModSecurity ({PACKAGES})"
            );
            return None;
        }
        let dir = site.dir.path();
        fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(site.tree(), Permissions::from_mode(0o1777)).unwrap();
        fs::create_dir(dir.join("www")).unwrap();
        let listeners: Vec<_> = USERS
            .iter()
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let ports: Vec<_> = listeners
            .iter()
            .map(|listener| listener.local_addr().unwrap().port())
            .collect();
        let mut text = CONFIGURATION
            .replace("@DIR@", dir.to_str().unwrap())
            .replace("@MODULES@", MODULES)
            .replace("@INDEX@", index);
        for ((user, group), port) in USERS.iter().zip(&ports) {
            write!(
                text,
                "Listen 127.0.0.1:{port}\n<VirtualHost *:{port}>\nAssignUserId {user} {group}\n\
                 </VirtualHost>\n"
            )
            .unwrap();
        }
        fs::write(dir.join("httpd.conf"), text).unwrap();
        drop(listeners);
        // Apache ends its children by a signal to its process group, which must be its own.
        let child = Command::new("sh")
            .args(["-c", r#"umask 022; exec apache2 -D FOREGROUND -f "$0""#])
            .arg(dir.join("httpd.conf"))
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut apache = Apache { child, ports };
        apache.until_started(dir, 1);
        Some(apache)
    }

    /// Waits until it has started so many times.
    fn until_started(&mut self, dir: &Path, times: usize) {
        // A connection proves nothing: to a port on which nobody listens yet, the kernel may choose
        // the same port for this end and connect it to itself.
        until("Apache answers", || {
            let ended = self.child.try_wait().unwrap();
            let log = fs::read_to_string(dir.join("error.log")).unwrap_or_default();
            assert!(ended.is_none(), "Apache ended: {log}");
            log.matches("resuming normal operations").count() >= times
        });
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn stop(mut self) {
        self.signal(Signal::TERM);
        self.child.wait().unwrap();
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        // Its children end with it only if it is asked to. Refused if it has ended.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

/// Sends requests that are blocked, over one connection.
fn attack(port: u16, requests: usize) {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for _ in 0..requests {
        (&stream)
            .write_all(b"GET /?attack=1 HTTP/1.1\r\nHost: example.org\r\n\r\n")
            .unwrap();
        let mut length = 0;
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.contains(" 403 "), "{line}");
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        reader.read_exact(&mut vec![0; length]).unwrap();
    }
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
    let site = Site::with_sqlite();
    let Some(mut apache) = Apache::start(&site, &piped(&site)) else {
        return;
    };
    let dir = site.dir.path().to_owned();
    attack_all(&apache.ports);
    let rows = || -> usize { site.database.rows().len() };
    until("all in the store", || rows() == USERS.len() * REQUESTS);
    // A graceful restart starts the program anew.
    let before = lines(&dir.join("started")).len();
    apache.signal(Signal::USR1);
    until("another program", || {
        lines(&dir.join("started")).len() > before
    });
    apache.until_started(&dir, 2);
    attack_all(&apache.ports);
    // A child that has answered may still be writing its entry, and would be stopped in the middle.
    until("all in the store again", || {
        rows() == 2 * USERS.len() * REQUESTS
    });
    apache.stop();
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
    let site = Site::with_sqlite();
    let index = site.index();
    let Some(apache) = Apache::start(&site, index.to_str().unwrap()) else {
        return;
    };
    // Unique ids, and with them names, repeat with every connection to one child.
    for _ in 0..BURST {
        attack(apache.ports[0], 1);
    }
    until("the index", || lines(&index).len() == BURST);
    apache.stop();
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

//! A real Apache with MPM-ITK and `ModSecurity`, which writes the layout per user.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use super::super::daemon::{Daemon, LIMIT, attributes, is_installed, until};
use super::{COLLECTOR, GROUP, Stage, USERS, result};

const MODULES: &str = "/usr/lib/apache2/modules";
const PACKAGES: &str = "apache2 libapache2-mpm-itk libapache2-mod-security2";
/// Requests to each of three sites.
const REQUESTS: u64 = 1667;

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
User mswowner
Group mswowner
KeepAlive On
KeepAliveTimeout 30
# Every request of a connection has its own unique id, so every entry its own file.
MaxKeepAliveRequests 0
DocumentRoot "@DIR@/www"
SecRuleEngine On
SecAuditEngine RelevantOnly
SecAuditLogRelevantStatus "^403"
SecAuditLogParts AFHZ
SecAuditLogType Concurrent
SecAuditLogDirMode 0777
SecAuditLogFileMode 0600
SecAuditLog "@DIR@/index.log"
SecAuditLogStorageDir "@DIR@/audit"
SecDataDir "@DIR@"
SecRule ARGS:attack "@streq 1" "id:1,phase:2,deny,status:403,log,msg:'test'"
"#;

/// A private server, stopped when the test ends however it ends.
struct Apache {
    child: Child,
    ports: Vec<u16>,
}

impl Apache {
    fn start(stage: &Stage) -> Self {
        let dir = stage.place.path("");
        fs::create_dir(stage.place.path("www")).unwrap();
        let listeners: Vec<_> = USERS
            .iter()
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let ports: Vec<_> = listeners
            .iter()
            .map(|listener| listener.local_addr().unwrap().port())
            .collect();
        let mut text = CONFIGURATION
            .replace("@DIR@", dir.to_str().unwrap().trim_end_matches('/'))
            .replace("@MODULES@", MODULES);
        for ((user, _), port) in USERS.iter().zip(&ports) {
            writeln!(text, "Listen 127.0.0.1:{port}").unwrap();
            writeln!(
                text,
                "<VirtualHost *:{port}>\nAssignUserId {user} {user}\n</VirtualHost>"
            )
            .unwrap();
        }
        let configuration = stage.place.path("httpd.conf");
        fs::write(&configuration, text).unwrap();
        drop(listeners);
        let mut command = stage.inside("sh");
        command.args(["-c", r#"umask 022; exec apache2 -D FOREGROUND -f "$0""#]);
        // Apache ends its children by a signal to its process group, which must be its own.
        let child = command
            .arg(configuration)
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut apache = Self { child, ports };
        let port = apache.ports[0];
        until("Apache answers", || {
            let ended = apache.child.try_wait().unwrap();
            let log = || fs::read_to_string(stage.place.path("error.log"));
            assert!(ended.is_none(), "Apache ended: {:?}", log());
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        apache
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        // Its children end with it only if it is asked to.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Sends requests that are blocked, over one connection.
fn attack(port: u16) {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for _ in 0..REQUESTS {
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

fn is_apache_there() -> bool {
    let there = is_installed("apache2", PACKAGES)
        && ["mpm_itk.so", "mod_security2.so"]
            .iter()
            .all(|name| Path::new(MODULES).join(name).exists());
    if !there {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: Apache with MPM-ITK and ModSecurity is not installed ({PACKAGES})"
        );
    }
    there
}

fn walk(path: &Path, directories: &mut Vec<PathBuf>, entries: &mut u64) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, directories, entries);
            directories.push(path);
        } else {
            *entries += 1;
        }
    }
}

#[test]
fn no_record_of_a_real_apache_is_lost_and_no_owner_locked_out() {
    let Some(stage) = Stage::new("no_record_of_a_real_apache") else {
        return;
    };
    if !is_apache_there() {
        return;
    }
    // The storage directory belongs to root and only root writes there.
    let mut arguments = vec!["--check-interval", "1"];
    arguments.extend(USERS.iter().flat_map(|(user, _)| ["--site-user", user]));
    let daemon = Daemon::start(&stage.place, &mut stage.watch_dir(&arguments));
    until("the users' directories", || {
        USERS
            .iter()
            .all(|(user, _)| stage.place.tree().join(user).exists())
    });
    let apache = Apache::start(&stage);
    thread::scope(|scope| {
        for port in apache.ports.clone() {
            scope.spawn(move || attack(port));
        }
    });
    // Apache logs a request after its answer, the line of the index last of all.
    let all = REQUESTS * USERS.len() as u64;
    until("a line in the index for each request", || {
        let index = fs::read_to_string(stage.place.path("index.log")).unwrap_or_default();
        index.lines().count() as u64 == all && index.ends_with('\n')
    });
    drop(apache);
    let (status, stderr) = daemon.stop();
    assert!(status.success(), "{stderr}");

    for (user, uid) in USERS {
        let (mut directories, mut entries) = (vec![stage.place.tree().join(user)], 0);
        walk(
            &stage.place.tree().join(user),
            &mut directories,
            &mut entries,
        );
        assert_eq!(entries, REQUESTS, "{user}");
        for directory in directories {
            assert_eq!(
                attributes(&directory),
                (0o2770, uid, GROUP),
                "{}",
                directory.display()
            );
        }
    }
    // The flat directories created before the layout was known are in nobody's way.
    for day in fs::read_dir(stage.place.tree()).unwrap() {
        let day = day.unwrap().path();
        if !USERS.iter().any(|(user, _)| day.ends_with(user)) {
            Command::new("rm").arg("-r").arg(day).status().unwrap();
        }
    }
    assert_eq!(result(stage.act_as(COLLECTOR, "collect", "")), [all]);
}

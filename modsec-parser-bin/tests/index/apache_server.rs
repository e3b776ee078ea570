//! A private Apache with MPM-ITK and `ModSecurity`, which denies `?attack=1`.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{LIMIT, until};

const MODULES: &str = "/usr/lib/apache2/modules";
const PACKAGES: &str = "apache2 libapache2-mpm-itk libapache2-mod-security2";

/// What every site has in common. Every request of a connection has its own unique id, so every
/// entry its own file.
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
KeepAlive On
KeepAliveTimeout 30
MaxKeepAliveRequests 0
DocumentRoot "@DIR@/www"
SecRuleEngine On
SecAuditLogParts AFHZ
SecAuditLogType Concurrent
SecAuditLogDirMode 0777
SecAuditLogFileMode 0600
SecDataDir "@DIR@"
SecRule ARGS:attack "@streq 1" "id:1,phase:2,deny,status:403,log,msg:'test'"
"#;

/// A server, stopped when the test ends however it ends.
pub(crate) struct Apache {
    pub(crate) child: Child,
    /// One for each site.
    pub(crate) ports: Vec<u16>,
}

impl Apache {
    /// Tells whether it can be started here; says so if not.
    pub(crate) fn is_there() -> bool {
        let there = ["mpm_itk.so", "mod_security2.so"]
            .iter()
            .all(|name| Path::new(MODULES).join(name).exists());
        let may = rustix::process::geteuid().is_root();
        if !there || !may {
            let _ = writeln!(
                std::io::stderr(),
                "skipped: needs root, and Apache with MPM-ITK and ModSecurity ({PACKAGES})"
            );
        }
        there && may
    }

    /// Starts it in `dir` by `shell`, with a site for each user and group, and with directives of
    /// the test's own, in which `@DIR@` is `dir`.
    pub(crate) fn start(
        dir: &Path,
        mut shell: Command,
        sites: &[(&str, &str)],
        directives: &str,
    ) -> Apache {
        fs::create_dir(dir.join("www")).unwrap();
        let listeners: Vec<_> = sites
            .iter()
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let ports: Vec<_> = listeners
            .iter()
            .map(|listener| listener.local_addr().unwrap().port())
            .collect();
        let mut text = format!("{CONFIGURATION}{directives}\n")
            .replace("@DIR@", dir.to_str().unwrap())
            .replace("@MODULES@", MODULES);
        for ((user, group), port) in sites.iter().zip(&ports) {
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
        let child = shell
            .args(["-c", r#"umask 022; exec apache2 -D FOREGROUND -f "$0""#])
            .arg(dir.join("httpd.conf"))
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut apache = Apache { child, ports };
        apache.until_started(dir, 1);
        apache
    }

    /// Waits until it has started so many times.
    pub(crate) fn until_started(&mut self, dir: &Path, times: usize) {
        // A connection proves nothing: to a port on which nobody listens yet, the kernel may choose
        // the same port for this end and connect it to itself.
        until("Apache answers", || {
            let ended = self.child.try_wait().unwrap();
            let log = fs::read_to_string(dir.join("error.log")).unwrap_or_default();
            assert!(ended.is_none(), "Apache ended: {log}");
            log.matches("resuming normal operations").count() >= times
        });
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
pub(crate) fn attack(port: u16, requests: usize) {
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

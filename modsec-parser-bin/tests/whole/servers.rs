//! The real servers around the programs: Apache with its modules, nginx before it, Fail2ban.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::world::{SITES, World};
use crate::{exists, until};

const APACHE: &str = include_str!("apache.conf");
const NGINX: &str = include_str!("nginx.conf");
const FILTER: &str = include_str!("../../../recidive-bin/deploy/filter.d/modsec-recidive.conf");
const JAIL: &str = include_str!("../../../recidive-bin/deploy/jail.d/modsec-recidive.conf");
/// The first site's port; the others follow.
const PORT: u16 = 8001;

/// How Apache and nginx treat the connections between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connections {
    /// The first site gets a connection for each request, and Apache's children serve many, so
    /// that transactions share their ids and file names; the other sites keep connections open.
    Mixed,
    /// An Apache process serves one connection, so that every id is its own.
    Own,
}

/// What differs between the runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) connections: Connections,
    /// `SecAuditLogParts`.
    pub(crate) parts: &'static str,
    /// `ErrorLog`.
    pub(crate) error_log: &'static str,
    /// More directives for the last site.
    pub(crate) last_site: &'static str,
    /// Addresses that visitors have; after that many the first comes again.
    pub(crate) clients: u32,
}

/// Apache and the proxy before it.
pub(crate) struct Web {
    apache: Child,
    nginx: Option<Child>,
}

impl Web {
    pub(crate) fn start(world: &World, setting: &Setting) -> Web {
        let www = world.path("www");
        fs::create_dir_all(www.join("private")).unwrap();
        fs::write(www.join("index.html"), "<p>good day</p>\n").unwrap();
        for name in ["data", "nginx"] {
            fs::create_dir_all(world.path(name)).unwrap();
        }
        fs::set_permissions(world.path("data"), PermissionsExt::from_mode(0o1777)).unwrap();
        let web = Web {
            apache: start_apache(world, setting),
            nginx: Some(start_nginx(world, setting)),
        };
        for port in (PORT..).take(SITES.len()).chain([80]) {
            until("the web servers' answer", || {
                TcpStream::connect(("127.0.0.1", port)).is_ok()
            });
        }
        web
    }

    /// Ends the proxy, and with it the connections to Apache, whose processes then log and end.
    pub(crate) fn stop_proxy(&mut self) {
        let ended = self.apache.try_wait().unwrap();
        assert!(ended.is_none(), "Apache ended: {ended:?}");
        if let Some(nginx) = self.nginx.take() {
            end(nginx);
        }
    }
}

fn start_apache(world: &World, setting: &Setting) -> Child {
    let per_child = match setting.connections {
        Connections::Mixed => "0",
        Connections::Own => "1",
    };
    let mut text = APACHE
        .replace("@ERROR_LOG@", setting.error_log)
        .replace("@DIR@", world.dir())
        .replace("@PER_CHILD@", per_child)
        .replace("@PARTS@", setting.parts);
    for (site, port) in SITES.iter().zip(PORT..) {
        let more = if *site == SITES[2] {
            setting.last_site
        } else {
            ""
        };
        writeln!(
            text,
            "Listen 127.0.0.1:{port}\n<VirtualHost *:{port}>\nServerName {site}.example\n\
             AssignUserId {site} {site}\n{more}\n</VirtualHost>"
        )
        .unwrap();
    }
    let configuration = world.path("apache.conf");
    fs::write(&configuration, text).unwrap();
    // The umask of most distributions. Apache signals its process group, which must be its own.
    Command::new("sh")
        .args(["-c", r#"umask 022; exec apache2 -D FOREGROUND -f "$0""#])
        .arg(configuration)
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap()
}

fn start_nginx(world: &World, setting: &Setting) -> Child {
    let mut sites = String::new();
    for (number, (site, port)) in SITES.iter().zip(PORT..).enumerate() {
        let (keepalive, version) = match (setting.connections, number) {
            (Connections::Mixed, 0) => ("", "1.0"),
            _ => ("keepalive 16; keepalive_requests 1000000;", "1.1"),
        };
        writeln!(
            sites,
            "upstream {site} {{ server 127.0.0.1:{port}; {keepalive} }}\n\
             server {{ listen 127.0.0.1:80; @IPV6@ server_name {site}.example;\n\
             location / {{ proxy_pass http://{site}; proxy_http_version {version}; }} }}"
        )
        .unwrap();
    }
    let ipv6 = if has_ipv6() { "listen [::1]:80;" } else { "" };
    let text = NGINX
        .replace("@SITES@", &sites)
        .replace("@IPV6@", ipv6)
        .replace("@DIR@", world.dir());
    let configuration = world.path("nginx.conf");
    fs::write(&configuration, text).unwrap();
    Command::new("nginx")
        .arg("-e")
        .arg(world.path("nginx.log"))
        .arg("-c")
        .arg(configuration)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// Tells whether clients can have IPv6 addresses here.
pub(crate) fn has_ipv6() -> bool {
    std::net::TcpListener::bind("[::1]:0").is_ok()
        && std::net::TcpListener::bind("[2001:db8::1]:0").is_ok()
}

/// Asks a process to end, and waits.
fn end(mut child: Child) {
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    child.wait().unwrap();
}

/// A server of its own, with the shipped filter and jail.
pub(crate) struct Fail2ban {
    world: World,
    server: Child,
}

impl Fail2ban {
    /// Starts it. Of what is shipped, the path of the log is replaced, and the action records.
    pub(crate) fn start(world: &World) -> Fail2ban {
        let dir = world.path("fail2ban");
        for part in ["filter.d", "action.d", "jail.d"] {
            fs::create_dir_all(dir.join(part)).unwrap();
        }
        let own = dir.display();
        let jail = JAIL.replace("/var/log/httpd", &format!("{}/logs", world.dir()));
        let files = [
            ("filter.d/modsec-recidive.conf", FILTER.to_owned()),
            (
                "jail.d/modsec-recidive.conf",
                // Not whichever of its Python modules is installed.
                jail.replace("backend  = auto", "backend  = polling") + "\naction = record\n",
            ),
            ("jail.conf", "[DEFAULT]\nignoreself = false\n".to_owned()),
            (
                "action.d/record.conf",
                format!(
                    "[Definition]\nactionban = echo <ip> >> {own}/banned\nactionunban = true\n"
                ),
            ),
            (
                "fail2ban.conf",
                format!(
                    "[Definition]\nloglevel = INFO\nlogtarget = {own}/log\nsyslogsocket = auto\n\
                     socket = {own}/socket\npidfile = {own}/pid\ndbfile = {own}/database\n"
                ),
            ),
        ];
        for (name, text) in files {
            fs::write(dir.join(name), text).unwrap();
        }
        let server = Command::new("fail2ban-server")
            .arg("-c")
            .arg(&dir)
            .args(["-f", "start"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let fail2ban = Fail2ban {
            world: world.clone(),
            server,
        };
        let jail = ["status", "modsec-recidive"];
        until("Fail2ban", || {
            exists(&dir.join("socket")) && fail2ban.client(&jail).status.success()
        });
        fail2ban
    }

    pub(crate) fn client(&self, arguments: &[&str]) -> Output {
        Command::new("fail2ban-client")
            .arg("-c")
            .arg(self.world.path("fail2ban"))
            .args(arguments)
            .output()
            .unwrap()
    }

    /// Returns those for whom its action was called.
    pub(crate) fn banned(&self) -> BTreeSet<String> {
        let text = self.world.read("fail2ban/banned");
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn check_running(&mut self) {
        let ended = self.server.try_wait().unwrap();
        assert!(ended.is_none(), "Fail2ban ended: {ended:?}");
    }
}

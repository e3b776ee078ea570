//! Two hosts with a cable between them, and a Fail2ban on one of them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::program::{Place, exists, wait_for};

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");

/// Prints who gets through, until it is told to end.
const SERVER: &str = r#"
import selectors, socket
found = selectors.DefaultSelector()
for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    for kind, port in ((socket.SOCK_STREAM, 80), (socket.SOCK_STREAM, 443), (socket.SOCK_DGRAM, 443), (socket.SOCK_DGRAM, 53)):
        s = socket.socket(family, kind)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind((host, port))
        if kind == socket.SOCK_STREAM:
            s.listen()
        found.register(s, selectors.EVENT_READ)
print("ready", flush=True)
ended = False
while True:
    # What came before the end may be in other sockets.
    ready = found.select(0 if ended else None)
    if not ready:
        raise SystemExit
    for key, _ in ready:
        s = key.fileobj
        if s.type == socket.SOCK_STREAM:
            print("tcp", s.getsockname()[1], s.accept()[1][0], flush=True)
            continue
        data, peer = s.recvfrom(100)
        if data == b"end":
            ended = True
            continue
        print("udp", s.getsockname()[1], peer[0], flush=True)
"#;

/// Knocks from each address that is named, waiting for an answer only if it has a plus sign.
const CLIENT: &str = r#"
import socket, sys
held = []
for word in sys.argv[1:]:
    address, passes = word.lstrip("+"), word.startswith("+")
    is_six = ":" in address
    family = socket.AF_INET6 if is_six else socket.AF_INET
    server = "2001:db8:ffff::1" if is_six else "192.0.2.1"
    for port in (80, 443):
        s = socket.socket(family, socket.SOCK_STREAM)
        s.bind((address, 0))
        s.setblocking(passes)
        s.connect_ex((server, port))
        held.append(s)
    for port in (443, 53):
        s = socket.socket(family, socket.SOCK_DGRAM)
        s.bind((address, 0))
        s.sendto(b"x", (server, port))
# From an address that no test bans.
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("192.0.2.254", 0))
s.sendto(b"end", ("192.0.2.1", 53))
"#;

fn run(words: &[&str]) -> Output {
    Command::new(words[0]).args(&words[1..]).output().unwrap()
}

/// Two hosts with a cable between them.
pub(crate) struct Hosts {
    server: String,
    client: String,
}

impl Hosts {
    /// Returns `None`, and says so, where namespaces or programs are missing.
    pub(crate) fn new() -> Option<Hosts> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let hosts = Hosts {
            server: format!("modsec-s{name}"),
            client: format!("modsec-c{name}"),
        };
        let (s, c) = (&*hosts.server, &*hosts.client);
        let programs = [
            &["nft", "-v"][..],
            &["fail2ban-server", "--version"],
            &["python3", "-V"],
        ];
        let is_there = |words: &&[&str]| Command::new(words[0]).args(&words[1..]).output().is_ok();
        let is_ready = programs.iter().all(is_there) && is_there(&&["ip", "-V"][..]) && {
            let made = run(&["ip", "netns", "add", s]).status.success();
            made && run(&["ip", "netns", "exec", s, "nft", "list", "ruleset"])
                .status
                .success()
        };
        if !is_ready {
            let _ = writeln!(
                std::io::stderr(),
                "skipped: needs root, network namespaces, and the packages iproute2, nftables, fail2ban, python3"
            );
            return None;
        }
        for line in [
            format!("netns add {c}"),
            format!("-n {s} link add wire type veth peer name wire netns {c}"),
            format!("-n {s} link set lo up"),
            format!("-n {s} link set wire up"),
            format!("-n {c} link set wire up"),
            format!("-n {s} addr add 192.0.2.1/24 dev wire"),
            format!("-n {s} addr add 2001:db8:ffff::1/32 dev wire nodad"),
            format!("-n {c} addr add 192.0.2.7/24 dev wire"),
            format!("-n {c} addr add 192.0.2.8/24 dev wire"),
            format!("-n {c} addr add 192.0.2.254/24 dev wire"),
            format!("-n {c} addr add 2001:db8:1:2::7/32 dev wire nodad"),
            format!("-n {c} addr add 2001:db8:1:2::8/32 dev wire nodad"),
            format!("-n {c} addr add 2001:db8:1:3::7/32 dev wire nodad"),
        ] {
            let output = run(&std::iter::once("ip")
                .chain(line.split(' '))
                .collect::<Vec<_>>());
            assert!(output.status.success(), "ip {line}: {output:?}");
        }
        Some(hosts)
    }

    pub(crate) fn in_server(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.server, program]);
        command
    }

    pub(crate) fn ruleset(&self) -> String {
        let output = self.in_server("nft").args(["list", "ruleset"]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }

    /// Changes the ruleset beside Fail2ban's back.
    pub(crate) fn nft(&self, words: &str) {
        let output = self.in_server("nft").arg(words).output().unwrap();
        assert!(output.status.success(), "{words}: {output:?}");
    }

    /// Waits until the set has exactly these elements.
    pub(crate) fn wait_for_set(&self, table: &str, set: &str, want: &[&str]) {
        wait_for(&format!("{want:?} in {set}"), || {
            self.elements(table, set) == want
        });
    }

    /// Returns the elements of a set as the kernel has them; none if there is no such set.
    fn elements(&self, table: &str, set: &str) -> Vec<String> {
        let mut command = self.in_server("nft");
        let output = command.args(["-j", "list", "set", "inet", table, set]);
        let said: Value =
            serde_json::from_slice(&output.output().unwrap().stdout).unwrap_or_default();
        let sets = said["nftables"].as_array().into_iter().flatten();
        let elements = sets.filter_map(|object| object["set"]["elem"].as_array());
        let mut found: Vec<String> = elements.flatten().map(shown).collect();
        found.sort();
        found
    }

    /// Returns who got through, of those who knocked.
    pub(crate) fn knock(&self, clients: &[&str]) -> Vec<String> {
        let mut server = self
            .in_server("python3")
            .args(["-c", SERVER])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = server.stdout.take().unwrap();
        let mut ready = [0; 6];
        out.read_exact(&mut ready).unwrap();
        let knocked = run(&[
            &["ip", "netns", "exec", &self.client, "python3", "-c", CLIENT],
            clients,
        ]
        .concat());
        assert!(knocked.status.success(), "{knocked:?}");
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        server.wait().unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

/// An address, or a network as `ADDRESS/LENGTH`.
fn shown(element: &Value) -> String {
    match element {
        Value::String(address) => address.clone(),
        _ => format!(
            "{}/{}",
            element["prefix"]["addr"].as_str().unwrap(),
            element["prefix"]["len"]
        ),
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in [&self.server, &self.client] {
            run(&["ip", "netns", "del", name]);
        }
    }
}

pub(crate) struct Fail2ban<'h> {
    hosts: &'h Hosts,
    dir: PathBuf,
    server: Child,
}

impl<'h> Fail2ban<'h> {
    /// Starts with the system's own configuration, the shipped files and other paths.
    ///
    /// `local` is what the administrator has in a file beside the jail.
    pub(crate) fn start(hosts: &'h Hosts, place: &Place, local: &str) -> Self {
        let dir = place.path("fail2ban");
        let copied = run(&["cp", "-r", "/etc/fail2ban", dir.to_str().unwrap()]);
        assert!(copied.status.success(), "{copied:?}");
        for old in fs::read_dir(dir.join("jail.d")).unwrap() {
            fs::remove_file(old.unwrap().path()).unwrap();
        }
        for file in [
            "action.d/modsec-recidive-nftables.conf",
            "filter.d/modsec-recidive.conf",
            "jail.d/modsec-recidive.conf",
        ] {
            fs::copy(Path::new(DEPLOY).join(file), dir.join(file)).unwrap();
        }
        let shown = dir.display();
        let main = format!(
            "[Definition]\nlogtarget = {shown}/log\nsyslogsocket = auto\nsocket = {shown}/socket\n\
             pidfile = {shown}/pid\ndbfile = {shown}/db\n"
        );
        fs::write(dir.join("fail2ban.local"), main).unwrap();
        let log = place.path("jail.log");
        let jail = format!(
            "[modsec-recidive]\nlogpath = {}\nbackend = polling\nignoreself = false\n{local}\n",
            log.display()
        );
        fs::write(dir.join("jail.d/modsec-recidive.local"), jail).unwrap();
        let server = spawn(hosts, &dir);
        let fail2ban = Fail2ban { hosts, dir, server };
        fail2ban.wait_for_jail();
        fail2ban
    }

    fn wait_for_jail(&self) {
        wait_for("the jail", || {
            exists(&self.dir.join("socket")) && self.client(&["status", "modsec-recidive"])
        });
    }

    /// Ends it as a crash would, and starts it again after `meanwhile`.
    pub(crate) fn crash(&mut self, meanwhile: impl FnOnce()) {
        let pid = fs::read_to_string(self.dir.join("pid")).unwrap();
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        self.server.wait().unwrap();
        meanwhile();
        fs::remove_file(self.dir.join("socket")).unwrap();
        self.server = spawn(self.hosts, &self.dir);
        self.wait_for_jail();
    }

    /// Ends it and starts it again.
    pub(crate) fn restart(&mut self) {
        assert!(self.client(&["stop"]));
        self.server.wait().unwrap();
        self.server = spawn(self.hosts, &self.dir);
        self.wait_for_jail();
    }

    pub(crate) fn client(&self, words: &[&str]) -> bool {
        self.asked(words).status.success()
    }

    /// What the administrator's client says.
    pub(crate) fn asked(&self, words: &[&str]) -> Output {
        let mut command = self.hosts.in_server("fail2ban-client");
        command
            .arg("-c")
            .arg(&self.dir)
            .args(words)
            .output()
            .unwrap()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

fn spawn(hosts: &Hosts, dir: &Path) -> Child {
    let mut command = hosts.in_server("fail2ban-server");
    command.arg("-c").arg(dir).args(["-f", "start"]);
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.spawn().unwrap()
}

impl Drop for Fail2ban<'_> {
    fn drop(&mut self) {
        self.client(&["stop"]);
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

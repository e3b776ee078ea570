//! Bans that reach the kernel: a real Fail2ban with the shipped filter, jail and action, in a
//! network namespace, and packets from another one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod program;

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use chrono::Local;

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
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(b"end", ("192.0.2.1", 53))
"#;

fn run(words: &[&str]) -> Output {
    Command::new(words[0]).args(&words[1..]).output().unwrap()
}

/// Two hosts with a cable between them.
struct Hosts {
    server: String,
    client: String,
}

impl Hosts {
    /// Returns `None`, and says so, where namespaces or programs are missing.
    fn new() -> Option<Hosts> {
        let hosts = Hosts {
            server: format!("modsec-s{}", std::process::id()),
            client: format!("modsec-c{}", std::process::id()),
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

    fn in_server(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.server, program]);
        command
    }

    fn ruleset(&self) -> String {
        let output = self.in_server("nft").args(["list", "ruleset"]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }

    /// Returns who got through, of those who knocked.
    fn knock(&self, clients: &[&str]) -> Vec<String> {
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

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in [&self.server, &self.client] {
            run(&["ip", "netns", "del", name]);
        }
    }
}

struct Fail2ban<'h> {
    hosts: &'h Hosts,
    dir: PathBuf,
    server: Child,
}

impl<'h> Fail2ban<'h> {
    /// Starts with the system's own configuration, the shipped files and other paths.
    fn start(hosts: &'h Hosts, place: &Place) -> Self {
        let dir = place.path("fail2ban");
        assert!(
            run(&["cp", "-r", "/etc/fail2ban", dir.to_str().unwrap()])
                .status
                .success()
        );
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
             pidfile = {shown}/pid\ndbfile = None\n"
        );
        fs::write(dir.join("fail2ban.local"), main).unwrap();
        let log = place.path("jail.log");
        let jail = format!(
            "[modsec-recidive]\nlogpath = {}\nbackend = polling\nignoreself = false\n",
            log.display()
        );
        fs::write(dir.join("jail.d/modsec-recidive.local"), jail).unwrap();
        let server = hosts
            .in_server("fail2ban-server")
            .arg("-c")
            .arg(&dir)
            .args(["-f", "start"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let fail2ban = Fail2ban { hosts, dir, server };
        wait_for("the jail", || {
            exists(&fail2ban.dir.join("socket")) && fail2ban.client(&["status", "modsec-recidive"])
        });
        fail2ban
    }

    fn client(&self, words: &[&str]) -> bool {
        let mut command = self.hosts.in_server("fail2ban-client");
        let output = command.arg("-c").arg(&self.dir).args(words).output();
        output.unwrap().status.success()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Fail2ban<'_> {
    fn drop(&mut self) {
        self.client(&["stop"]);
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

const EVERYBODY: [&str; 5] = [
    "+192.0.2.7",
    "+192.0.2.8",
    "+2001:db8:1:2::7",
    "+2001:db8:1:2::8",
    "+2001:db8:1:3::7",
];

#[test]
fn packets_of_the_banned_are_dropped_and_no_others() {
    let Some(hosts) = Hosts::new() else { return };
    let place = Place::new();
    place.append("jail.log", "");
    assert_eq!(hosts.knock(&EVERYBODY).len(), 5 * 4);
    let fail2ban = Fail2ban::start(&hosts, &place);
    let now = Local::now().format("%Y-%m-%d %H:%M:%S");
    let banned = ["192.0.2.7", "2001:db8:1:2::/64"];
    for ban in banned {
        place.append("jail.log", &format!("{ban} - {now}\n"));
    }
    wait_for("bans in the kernel", || {
        let rules = hosts.ruleset();
        banned
            .iter()
            .all(|ban| rules.contains(&format!("elements = {{ {ban} }}")))
    });
    // What is no web server's port stays open.
    let clients = [
        "192.0.2.7",
        "+192.0.2.8",
        "2001:db8:1:2::7",
        "2001:db8:1:2::8",
        "+2001:db8:1:3::7",
    ];
    let mut want: Vec<String> = ["192.0.2.8", "2001:db8:1:3::7"]
        .iter()
        .flat_map(|client| ["tcp 80", "tcp 443", "udp 443"].map(|port| format!("{port} {client}")))
        .chain(clients.map(|client| format!("udp 53 {}", client.trim_start_matches('+'))))
        .collect();
    want.sort();
    assert_eq!(hosts.knock(&clients), want);
    let dropped = |rule: &str| {
        let rules = hosts.ruleset();
        let line = rules
            .lines()
            .find(|line| line.contains(rule))
            .unwrap_or_default();
        !line.is_empty() && !line.contains("packets 0 ")
    };
    for protocol in ["tcp", "udp"] {
        for rule in ["ip saddr @addr4", "ip6 saddr @net6"] {
            let rules = hosts.ruleset();
            let of = rules
                .lines()
                .filter(|line| line.contains(protocol) && line.contains(rule));
            assert!(of.clone().count() == 1 && dropped(rule), "{rules}");
        }
    }
    // An address in a banned network is a ban of its own.
    assert!(fail2ban.client(&["set", "modsec-recidive", "banip", "2001:db8:1:2::7"]));
    wait_for("an address in a network", || {
        hosts.ruleset().contains("elements = { 2001:db8:1:2::7 }")
    });
    assert!(!fail2ban.log().contains("ERROR"), "{}", fail2ban.log());
    for ban in ["192.0.2.7", "2001:db8:1:2::/64", "2001:db8:1:2::7"] {
        assert!(fail2ban.client(&["set", "modsec-recidive", "unbanip", ban]));
    }
    wait_for("bans lifted", || {
        let rules = hosts.ruleset();
        !rules.contains("2001:db8") && !rules.contains("192.0.2.7")
    });
    assert_eq!(hosts.knock(&EVERYBODY).len(), 5 * 4);
    // A table that somebody has flushed is made again with the next ban.
    let flushed = hosts.in_server("nft").args(["flush", "ruleset"]).status();
    assert!(flushed.unwrap().success());
    assert!(fail2ban.client(&["set", "modsec-recidive", "banip", "2001:db8:1:2::/64"]));
    wait_for("a ban in a new table", || {
        hosts.ruleset().contains("elements = { 2001:db8:1:2::/64 }")
    });
    assert_eq!(
        hosts.knock(&["2001:db8:1:2::7"]),
        ["udp 53 2001:db8:1:2::7"]
    );
}

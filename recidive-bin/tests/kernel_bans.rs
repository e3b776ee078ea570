//! Bans that reach the kernel: a real Fail2ban with the shipped filter, jail and action, in a
//! network namespace, and packets from another one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod program;
#[path = "kernel_bans/scene.rs"]
mod scene;

use chrono::{Local, TimeDelta};

use crate::program::Place;
use crate::scene::{Fail2ban, Hosts};

const EVERYBODY: [&str; 5] = [
    "+192.0.2.7",
    "+192.0.2.8",
    "+2001:db8:1:2::7",
    "+2001:db8:1:2::8",
    "+2001:db8:1:3::7",
];

/// The table of the shipped jail.
const TABLE: &str = "f2b-modsec-recidive";

/// A line of `recidive`, of so many seconds ago.
fn ban(client: &str, age: i64) -> String {
    let at = Local::now() - TimeDelta::seconds(age);
    format!("{client} - {}\n", at.format("%Y-%m-%d %H:%M:%S"))
}

/// Those who get through to the ports of the web server, and everybody to another one.
fn through(open: &[&str], clients: &[&str]) -> Vec<String> {
    let mut want: Vec<String> = open
        .iter()
        .flat_map(|client| ["tcp 80", "tcp 443", "udp 443"].map(|port| format!("{port} {client}")))
        .chain(
            clients
                .iter()
                .map(|client| format!("udp 53 {}", client.trim_start_matches('+'))),
        )
        .collect();
    want.sort();
    want
}

#[test]
fn packets_of_the_banned_are_dropped_and_no_others() {
    let Some(hosts) = Hosts::new() else { return };
    let place = Place::new();
    place.append("jail.log", "");
    assert_eq!(hosts.knock(&EVERYBODY).len(), 5 * 4);
    let fail2ban = Fail2ban::start(&hosts, &place, "");
    for client in ["192.0.2.7", "2001:db8:1:2::/64"] {
        place.append("jail.log", &ban(client, 0));
    }
    hosts.wait_for_set(TABLE, "ip_addr", &["192.0.2.7"]);
    hosts.wait_for_set(TABLE, "ip6_net64", &["2001:db8:1:2::/64"]);
    let clients = [
        "192.0.2.7",
        "+192.0.2.8",
        "2001:db8:1:2::7",
        "2001:db8:1:2::8",
        "+2001:db8:1:3::7",
    ];
    let open = ["192.0.2.8", "2001:db8:1:3::7"];
    assert_eq!(hosts.knock(&clients), through(&open, &clients));
    let rules = hosts.ruleset();
    for protocol in ["tcp dport", "udp dport"] {
        for set in ["ip saddr @ip_addr", "ip6 saddr @ip6_net64"] {
            let of = |line: &&str| line.contains(protocol) && line.contains(set);
            let lines: Vec<&str> = rules.lines().filter(of).collect();
            let is_used = lines.len() == 1 && !lines[0].contains("packets 0 ");
            assert!(is_used, "{protocol} {set}: {rules}");
        }
    }
    assert!(!fail2ban.log().contains("ERROR"), "{}", fail2ban.log());
    for client in ["192.0.2.7", "2001:db8:1:2::/64"] {
        assert!(fail2ban.client(&["set", "modsec-recidive", "unbanip", client]));
    }
    hosts.wait_for_set(TABLE, "ip_addr", &[]);
    hosts.wait_for_set(TABLE, "ip6_net64", &[]);
    assert_eq!(
        hosts.knock(&EVERYBODY),
        through(&EVERYBODY.map(|client| &client[1..]), &EVERYBODY)
    );
}

#[test]
fn bans_within_bans_are_made_and_lifted_each_by_itself() {
    let Some(hosts) = Hosts::new() else { return };
    let place = Place::new();
    place.append("jail.log", "");
    let fail2ban = Fail2ban::start(&hosts, &place, "");
    let bans = [
        ("ip_net25", "192.0.2.0/25"),
        ("ip_net31", "192.0.2.6/31"),
        ("ip_addr", "192.0.2.7"),
        ("ip6_net48", "2001:db8:1::/48"),
        ("ip6_net64", "2001:db8:1:2::/64"),
        ("ip6_addr", "2001:db8:1:2::7"),
    ];
    for (_, client) in bans {
        place.append("jail.log", &ban(client, 0));
    }
    for (set, client) in bans {
        hosts.wait_for_set(TABLE, set, &[client]);
    }
    // A neighbour, which makes no larger network of the two.
    place.append("jail.log", &ban("2001:db8:1:3::/64", 0));
    hosts.wait_for_set(
        TABLE,
        "ip6_net64",
        &["2001:db8:1:2::/64", "2001:db8:1:3::/64"],
    );
    for client in ["192.0.2.0/25", "2001:db8:1::/48", "2001:db8:1:3::/64"] {
        assert!(fail2ban.client(&["set", "modsec-recidive", "unbanip", client]));
    }
    hosts.wait_for_set(TABLE, "ip_net25", &[]);
    hosts.wait_for_set(TABLE, "ip6_net48", &[]);
    hosts.wait_for_set(TABLE, "ip6_net64", &["2001:db8:1:2::/64"]);
    let clients = [
        "192.0.2.7",
        "+192.0.2.8",
        "2001:db8:1:2::8",
        "+2001:db8:1:3::7",
    ];
    let open = ["192.0.2.8", "2001:db8:1:3::7"];
    assert_eq!(hosts.knock(&clients), through(&open, &clients));
    assert!(fail2ban.client(&["unban", "--all"]));
    assert_eq!(hosts.knock(&EVERYBODY).len(), 5 * 4);
    assert!(!fail2ban.log().contains("ERROR"), "{}", fail2ban.log());
}

#[test]
fn the_kernel_has_what_fail2ban_knows_after_reload_restart_and_crash() {
    let Some(hosts) = Hosts::new() else { return };
    let place = Place::new();
    place.append("jail.log", "");
    let mut fail2ban = Fail2ban::start(&hosts, &place, "");
    let network = "2001:db8:1:2::/64";
    place.append("jail.log", &ban(network, 0));
    hosts.wait_for_set(TABLE, "ip6_net64", &[network]);
    assert!(fail2ban.client(&["reload"]));
    hosts.wait_for_set(TABLE, "ip6_net64", &[network]);
    assert!(fail2ban.client(&["reload", "--restart", "modsec-recidive"]));
    hosts.wait_for_set(TABLE, "ip6_net64", &[network]);
    fail2ban.restart();
    hosts.wait_for_set(TABLE, "ip6_net64", &[network]);
    // Of a ban that Fail2ban no longer knows, nobody would ever lift.
    fail2ban.crash(|| {
        hosts.nft(&format!(
            "add element inet {TABLE} ip6_net64 {{ 2001:db8:1:3::/64 }}"
        ));
    });
    hosts.wait_for_set(TABLE, "ip6_net64", &[network]);
    assert!(!fail2ban.log().contains("ERROR"), "{}", fail2ban.log());
    assert!(fail2ban.client(&["stop"]));
    assert!(!hosts.ruleset().contains(TABLE));
}

#[test]
fn bans_come_back_after_the_ruleset_was_flushed() {
    let Some(hosts) = Hosts::new() else { return };
    let place = Place::new();
    place.append("jail.log", "");
    let fail2ban = Fail2ban::start(&hosts, &place, "");
    let network = "2001:db8:1:2::/64";
    place.append("jail.log", &ban(network, 60));
    hosts.wait_for_set(TABLE, "ip6_net64", &[network]);
    // All at once, as recidive(8) says.
    hosts.nft("flush ruleset");
    assert!(fail2ban.client(&["reload", "--restart", "modsec-recidive"]));
    hosts.wait_for_set(TABLE, "ip6_net64", &[network]);
    // With the next ban of another client, or with the next attack of the same.
    hosts.nft("flush ruleset");
    place.append("jail.log", &ban("192.0.2.7", 0));
    hosts.wait_for_set(TABLE, "ip_addr", &["192.0.2.7"]);
    place.append("jail.log", &ban(network, 0));
    hosts.wait_for_set(TABLE, "ip6_net64", &[network]);
    // Its rules alone.
    hosts.nft(&format!("flush chain inet {TABLE} banned"));
    place.append("jail.log", &ban("2001:db8:1:3::/64", 0));
    hosts.wait_for_set(TABLE, "ip6_net64", &[network, "2001:db8:1:3::/64"]);
    assert_eq!(
        hosts.knock(&["2001:db8:1:2::7"]),
        ["udp 53 2001:db8:1:2::7"]
    );
}

#[test]
fn each_jail_has_its_own_bans_ports_and_action() {
    let Some(hosts) = Hosts::new() else { return };
    let place = Place::new();
    for log in ["jail.log", "second.log", "third.log"] {
        place.append(log, "");
    }
    let jails = format!(
        "[second]\nenabled = true\nfilter = modsec-recidive\nlogpath = {}\nbackend = polling\n\
         port = 50:53\nmaxretry = 1\nusedns = no\nignoreself = false\n\
         banaction = modsec-recidive-nftables[blocktype=reject]\n\
         [third]\nenabled = true\nfilter = modsec-recidive\nlogpath = {}\nbackend = polling\n\
         banaction = nftables-multiport\n",
        place.path("second.log").display(),
        place.path("third.log").display()
    );
    let fail2ban = Fail2ban::start(&hosts, &place, &jails);
    let actions =
        |jail: &str| String::from_utf8(fail2ban.asked(&["get", jail, "actions"]).stdout).unwrap();
    assert!(
        actions("third").ends_with("\nnftables-multiport\n"),
        "{}",
        actions("third")
    );
    for log in ["jail.log", "second.log"] {
        place.append(log, &ban("192.0.2.7", 0));
    }
    hosts.wait_for_set(TABLE, "ip_addr", &["192.0.2.7"]);
    hosts.wait_for_set("f2b-second", "ip_addr", &["192.0.2.7"]);
    assert_eq!(hosts.knock(&["192.0.2.7"]), [""; 0]);
    assert!(fail2ban.client(&["set", "modsec-recidive", "unbanip", "192.0.2.7"]));
    hosts.wait_for_set(TABLE, "ip_addr", &[]);
    assert_eq!(
        hosts.knock(&["+192.0.2.7"]),
        ["tcp 443 192.0.2.7", "tcp 80 192.0.2.7", "udp 443 192.0.2.7"]
    );
    assert!(fail2ban.client(&["stop", "second"]));
    assert_eq!(hosts.knock(&["+192.0.2.7"]).len(), 4);
    assert!(!fail2ban.log().contains("ERROR"), "{}", fail2ban.log());
}

#[test]
fn the_administrators_own_banaction_stays() {
    let Some(hosts) = Hosts::new() else { return };
    let place = Place::new();
    place.append("jail.log", "");
    let fail2ban = Fail2ban::start(&hosts, &place, "banaction = iptables-multiport\n");
    let actions = fail2ban
        .asked(&["get", "modsec-recidive", "actions"])
        .stdout;
    let actions = String::from_utf8(actions).unwrap();
    assert!(actions.ends_with("\niptables-multiport\n"), "{actions}");
    assert!(!hosts.ruleset().contains(TABLE));
}

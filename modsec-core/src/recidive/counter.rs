//! From an entry's bytes to a strike.
//!
//! Four questions, in this order, each of which may end the matter: is it an entry (`defects`)? Is
//! it an attack (`AttackFilter`)? Is there an address and a time to count it by (`unplaced`)? Was it
//! counted before (`repeated`)? The address comes from part A, or from the header of a trusted proxy
//! in part B; the time is the transaction's own, so a log that is read late counts as it happened.

use chrono::{DateTime, FixedOffset, Local};
use std::net::IpAddr;

use tracing::warn;

use super::dedup::{EntryKey, Seen};
use crate::format::{self, Among};
use crate::index_line::IndexLine;
use crate::ledger::{AttackFilter, Ledger, Offender};
use crate::record::{Record, TrustedProxies};

/// What came in and what became of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Entries or index lines read.
    pub entries: u64,
    /// Attacks among them, each counted once.
    pub attacks: u64,
    /// Attacks that had been counted before: seen in two places, or again after a restart.
    pub repeated: u64,
    /// What is no entry, or no index line.
    pub defects: u64,
    /// Attacks without a time or an address of the client (part A).
    pub unplaced: u64,
}

/// Decides for each entry whether it counts, and against whom.
#[derive(Debug)]
pub(super) struct Counter {
    /// What counts as an attack.
    pub(super) attacks: AttackFilter,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub(super) proxies: TrustedProxies,
    /// Attacks by client, and who has become an offender.
    pub(super) ledger: Ledger,
    /// Attacks that were counted, by their bytes.
    pub(super) seen: Seen,
    /// What came in since the start.
    pub(super) tally: Tally,
    /// Whether a line that is too long was logged.
    pub(super) told_long: bool,
}

impl Counter {
    /// Counts an entry of a file of its own, or of one to which others were appended; `changed` is that
    /// file's time of change, nanoseconds since the Unix epoch.
    pub(super) fn entry(&mut self, entry: &[u8], changed: i64) -> Option<Offender> {
        match format::decode_among(entry, Among::Nothing) {
            Ok(record) => self.record(&record, || EntryKey::of(entry), changed),
            Err(_) => self.defect(),
        }
    }

    /// Counts an entry that was decoded elsewhere.
    pub(super) fn record(
        &mut self,
        record: &Record<'_>,
        key: impl FnOnce() -> EntryKey,
        changed: i64,
    ) -> Option<Offender> {
        self.tally.entries += 1;
        if !self.attacks.is_attack(record) {
            return None;
        }
        let client = self.proxies.client(record);
        let (client, time) = self.placed(client, record.instant(&Local))?;
        if !self.seen.insert(key(), changed) {
            self.tally.repeated += 1;
            return None;
        }
        self.strike(client, time)
    }

    /// Counts a line of the index, without its line end.
    ///
    /// Only what counts by its status alone can be counted; the options see to that.
    pub(super) fn index_line(&mut self, line: &[u8]) -> Option<Offender> {
        let line = IndexLine::parse(line);
        let Some(line) = line.and_then(|line| line.transaction()) else {
            return self.defect();
        };
        self.tally.entries += 1;
        let attack = self.attacks.is_attack_by_status(Some(line.status));
        (attack == Some(true)).then(|| self.strike(line.client, line.time))?
    }

    /// Counts something that cannot be read.
    pub(super) fn defect(&mut self) -> Option<Offender> {
        self.tally.entries += 1;
        self.tally.defects += 1;
        None
    }

    /// Counts a line of the index that is too long to be one, and says so once.
    pub(super) fn long_line(&mut self) -> Option<Offender> {
        if !std::mem::replace(&mut self.told_long, true) {
            warn!(
                "a line of the index has more than 64 KiB and is left out; further ones are only \
                 counted"
            );
        }
        self.defect()
    }

    /// Returns address and time if both are known, and counts the attack as unplaced if not.
    fn placed(
        &mut self,
        client: Option<IpAddr>,
        time: Option<DateTime<FixedOffset>>,
    ) -> Option<(IpAddr, DateTime<FixedOffset>)> {
        let placed = client.zip(time);
        self.tally.unplaced += u64::from(placed.is_none());
        placed
    }

    /// Counts one attack in the ledger. Returns the client if that makes it an offender.
    fn strike(&mut self, client: IpAddr, time: DateTime<FixedOffset>) -> Option<Offender> {
        self.tally.attacks += 1;
        self.ledger.strike(client, time.to_utc())
    }
}

#[cfg(test)]
pub(super) mod testing {
    /// Writes an entry as the engine does.
    pub(in crate::recidive) fn entry(
        peer: &str,
        headers: &str,
        body: &str,
        status: &str,
    ) -> String {
        let body = if body.is_empty() {
            String::new()
        } else {
            format!("--3fa0c41b-C--\n{body}\n")
        };
        let action = match status {
            "403 Forbidden" => "Action: Intercepted (phase 2)\n",
            _ => "",
        };
        format!(
            "--3fa0c41b-A--\n\
             [22/Aug/2026:10:15:00.123456 +0200] Zb4kQH8AAAEAAB1cR0MAAAAA {peer} 40112 198.51.100.4 80\n\
             --3fa0c41b-B--\nPOST /item HTTP/1.1\nHost: shop.example\n{headers}\n\
             {body}--3fa0c41b-F--\nHTTP/1.1 {status}\nContent-Length: 199\n\n\
             --3fa0c41b-H--\n{action}Stopwatch: 1787386500121700 1830 (- - -)\n\n\
             --3fa0c41b-Z--\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use regex::Regex;

    use super::testing::entry;
    use super::*;
    use crate::ledger::LedgerOptions;

    static GRAMMAR: LazyLock<Regex> = LazyLock::new(|| {
        let line = r"\A[0-9a-f:.]+(/[0-9]+)? - \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\n\z";
        Regex::new(line).unwrap()
    });

    fn counter() -> Counter {
        Counter {
            attacks: AttackFilter::default(),
            proxies: TrustedProxies::default(),
            ledger: Ledger::new(LedgerOptions {
                threshold: 1,
                ..LedgerOptions::default()
            })
            .unwrap(),
            seen: Seen::default(),
            tally: Tally::default(),
            told_long: false,
        }
    }

    fn reported(entry: &str) -> Option<String> {
        counter()
            .entry(entry.as_bytes(), 0)
            .map(|offender| offender.network.addr().to_string())
    }

    #[test]
    fn a_proxy_names_one_address_or_none() {
        for (header, want) in [
            ("x-real-ip:   203.0.113.9  \n", "203.0.113.9"),
            ("X-Real-IP: 203.0.113.9, 203.0.113.8\n", "127.0.0.1"),
            ("X-Real-IP: $(id)\n", "127.0.0.1"),
            ("X-Real-IP: 1.2.3.4/e\n", "127.0.0.1"),
            ("X-Real-IP:\n 203.0.113.9\n", "127.0.0.1"),
        ] {
            let entry = entry("127.0.0.1", header, "", "403");
            assert_eq!(reported(&entry).as_deref(), Some(want), "{entry}");
        }
    }

    #[test]
    fn only_the_right_address_is_ever_counted() {
        let forged = "X-Real-IP: 203.0.113.9\n";
        let whole_entry = entry("203.0.113.9", "", "", "403 Forbidden");
        for (peer, headers, body, status, want) in [
            ("192.0.2.7", "", "", "403 Forbidden", Some("192.0.2.7")),
            ("192.0.2.7", forged, "", "403", Some("192.0.2.7")),
            ("192.0.2.7", "", forged, "403", Some("192.0.2.7")),
            ("127.0.0.1", forged, "", "403", Some("203.0.113.9")),
            ("127.0.0.1", "", forged, "403", Some("127.0.0.1")),
            ("192.0.2.7", "A: HTTP/1.1 403\n", "", "200 OK", None),
            ("192.0.2.7", "A: x[$(id)]HTTP/1.1\n", "", "200 OK", None),
            ("192.0.2.7", "", "HTTP/1.1 403 Forbidden", "200 OK", None),
            (
                "192.0.2.7",
                "",
                "\n--3fa0c41b-F--\nHTTP/1.1 403 Forbidden\n",
                "200 OK",
                None,
            ),
            // Whose status it is cannot be told, but the engine's own words stand last.
            (
                "192.0.2.7",
                "",
                &whole_entry,
                "403 Forbidden",
                Some("192.0.2.7"),
            ),
            ("192.0.2.7", "", &whole_entry, "200 OK", None),
            ("unix:", forged, "", "403", None),
        ] {
            let entry = entry(peer, headers, body, status);
            let got = reported(&entry);
            assert_eq!(got.as_deref(), want, "{entry}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_in_only_an_address_and_a_time_go_out(
            peer in prop_oneof![
                Just("127.0.0.1".to_owned()),
                any::<[u8; 4]>().prop_map(|octets| IpAddr::from(octets).to_string()),
                any::<[u8; 16]>().prop_map(|octets| IpAddr::from(octets).to_string()),
                "[0-9a-f:./%\\[\\] x]{0,40}",
            ],
            name in "([Xx]-[Rr]eal-[Ii][Pp]|X-Forwarded-For|[A-Z]{0,9})",
            value in "([0-9a-f:., /$()]{0,30}|.{0,60})",
            body in "(.|\\n|--3fa0c41b-[A-Z]--|HTTP/1.1 403|X-Real-IP: 1.2.3.4){0,20}",
            forwarded in any::<bool>(),
        ) {
            let entry = entry(&peer, &format!("{name}: {value}\n"), &body, "403 Forbidden");
            let mut counter = counter();
            if forwarded {
                counter.proxies.header = crate::record::ClientHeader::ForwardedFor;
            }
            if let Some(offender) = counter.entry(entry.as_bytes(), 0) {
                let line = crate::ban::jail_line(offender.network, offender.at);
                prop_assert!(GRAMMAR.is_match(&line), "{:?}", line);
                let options = counter.ledger.options();
                // The id before it may hold spaces, so the client is the last word.
                let peer = peer.trim().rsplit(' ').next().unwrap_or_default();
                let peer = crate::record::parse_ip(peer.as_bytes());
                let named = value
                    .split([',', ' '])
                    .filter_map(|word| crate::record::parse_ip(word.trim().as_bytes()))
                    .map(|ip| options.network(ip));
                let mut right = peer.map(|ip| options.network(ip)).into_iter().chain(named);
                prop_assert!(right.any(|network| network == offender.network), "{:?}", line);
            }
        }
    }

    #[test]
    fn an_entry_counts_once_wherever_it_is_seen() {
        let mut counter = counter();
        let entry = entry("192.0.2.7", "", "", "403");
        assert!(counter.entry(entry.as_bytes(), 1).is_some());
        // The merged log puts an empty line behind an entry.
        assert!(counter.entry((entry + "\n").as_bytes(), 2).is_none());
        assert_eq!(counter.tally.attacks, 1);
        assert_eq!(counter.tally.repeated, 1);
    }

    #[test]
    fn what_is_no_entry_is_counted_apart() {
        let mut counter = counter();
        assert!(counter.entry(b"GET / HTTP/1.1\n", 0).is_none());
        assert!(counter.index_line(b"nonsense").is_none());
        let no_time = entry("192.0.2.7", "", "", "403").replace("[22/Aug", "[99/Aug");
        let no_time = no_time.replace("Stopwatch", "Stop");
        assert!(counter.entry(no_time.as_bytes(), 0).is_none());
        assert_eq!((counter.tally.defects, counter.tally.unplaced), (2, 1));
    }
}

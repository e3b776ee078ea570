//! Strikes per client over a sliding window: finding clients that do not stop.
//!
//! A [`Ledger`] is pure: no clock, no disk, no network. A transaction's time is the one the server
//! wrote down, so replaying an old log gives the same answers as having watched it.
//!
//! # What is counted
//! A client becomes an offender with the attack that makes `threshold` of them within `find_time`,
//! both ends included. Every report stands for `threshold` attacks of its own: the next one is due
//! when as many further attacks lie within one find time. So a client that goes on at full speed is
//! reported at each multiple of the threshold, one that slows down below it is not reported again,
//! and none is reported for less.
//!
//! # Disorder
//! Entries arrive nearly in the order of their times, but not quite: a slow request is logged late,
//! several sites finish at once, a start-up scan meets a backlog, and clocks are set.
//! - Entries late by up to one find time are counted as if they had come in order, whatever came
//!   between. The order of equal times does not matter.
//! - Of a client's attacks that are not reported yet, 2 × (threshold − 1) are kept. If an entry is
//!   later than one find time, some that belong to it may be gone: an attack may be missed, never
//!   invented.
//! - While a clock is ahead, entries carry times of the future. They count among themselves, and do
//!   not hide later ones: room is made by dropping what is farthest from the newest arrival.
//! - When a clock is set back, a stretch of time happens twice. Attacks of both passes count as if
//!   at the same time; that is what their entries say.
//!
//! # Memory
//! At most [`LedgerOptions::max_clients`] clients are remembered; the one not seen for the longest
//! time goes first. So an attacker with very many addresses costs no more memory than the bound,
//! but can push clients out ([`LedgerCounts::evicted`]).
//!
//! ```text
//! strike ─► ignored?       counted as ignored
//!        ─► ClientTable    the client, as the most recently seen one
//!        ─► Answered       already reported by an interrupted run? then no more
//!        ─► Window         threshold attacks within the find time? then Offender
//! ```

mod answered;
mod attack;
mod rate;
mod table;
#[cfg(test)]
mod tests;
mod window;

use std::net::IpAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ipnet::IpNet;

use self::answered::Answered;
pub use self::attack::{AttackFilter, Criterion, ParseCriterionError};
use self::rate::Rate;
use self::table::{Client, ClientTable, SLOT_BYTES};
use self::window::{Limit, Window};
use crate::record::{Networks, one_client};

/// Largest threshold: more attacks than that per client are a matter for other tools, and the
/// ledger keeps twice as many times per client.
pub const MAX_THRESHOLD: u32 = 10_000;
/// Longest find time.
pub const MAX_FIND_TIME: Duration = Duration::from_secs(366 * 86_400);
/// Largest bound on clients, 2³¹ − 1: there are no more slot numbers.
pub const MAX_CLIENTS: usize = (u32::MAX / 2) as usize;

/// Who counts as one client, and when it is an offender.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LedgerOptions {
    /// Attacks that make an offender, 1 to [`MAX_THRESHOLD`].
    pub threshold: u32,
    /// Time within which they must lie, one second to [`MAX_FIND_TIME`], whole milliseconds.
    pub find_time: Duration,
    /// Addresses that are never counted.
    pub ignore: Networks,
    /// IPv4 addresses with this many leading bits in common are one client, 8 to 32.
    pub ipv4_prefix: u8,
    /// IPv6 addresses with this many leading bits in common are one client, 16 to 128.
    pub ipv6_prefix: u8,
    /// Clients remembered, 1 to [`MAX_CLIENTS`]. When there are more, the least recently seen is
    /// forgotten. Each takes at most [`LedgerOptions::client_bytes`].
    pub max_clients: usize,
}

impl Default for LedgerOptions {
    /// 10 attacks within 600 seconds, per IPv4 address and IPv6 /64, for a million clients.
    fn default() -> Self {
        LedgerOptions {
            threshold: 10,
            find_time: Duration::from_secs(600),
            ignore: Networks::default(),
            ipv4_prefix: 32,
            ipv6_prefix: 64,
            max_clients: 1_000_000,
        }
    }
}

/// Options that make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The threshold is out of range.
    #[error("threshold {threshold} is not between 1 and {MAX_THRESHOLD}")]
    Threshold {
        /// What was asked for.
        threshold: u32,
    },
    /// The find time is out of range.
    #[error("find time {} s is not between 1 s and {} s", find_time.as_secs(), MAX_FIND_TIME.as_secs())]
    FindTime {
        /// What was asked for.
        find_time: Duration,
    },
    /// A prefix is longer than an address, or so short that a ban would hit everybody.
    #[error("an IPv{version} prefix of {prefix} bits is not between {shortest} and {longest}")]
    Prefix {
        /// 4 or 6.
        version: u8,
        /// What was asked for.
        prefix: u8,
        /// What is possible.
        shortest: u8,
        /// What is possible.
        longest: u8,
    },
    /// The number of clients is out of range.
    #[error("a table of {max_clients} clients is not possible, choose 1 to {MAX_CLIENTS}")]
    MaxClients {
        /// What was asked for.
        max_clients: usize,
    },
}

impl LedgerOptions {
    /// Returns the most memory that one client can take, in bytes.
    ///
    /// Nearly all clients attack a few times and take about 120; the most is for one that attacks
    /// for ever, just seldom enough not to be reported. Includes what the allocator adds on 64-bit
    /// Linux.
    pub fn client_bytes(&self) -> usize {
        let times = window::capacity(self.threshold as usize) + 1;
        SLOT_BYTES + times.max(2) * size_of::<i64>() + 16
    }

    /// Makes sure that every option is in its range.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] for the first that is not.
    pub fn check(&self) -> Result<(), LedgerError> {
        if !(1..=MAX_THRESHOLD).contains(&self.threshold) {
            return Err(LedgerError::Threshold {
                threshold: self.threshold,
            });
        }
        if !(Duration::from_secs(1)..=MAX_FIND_TIME).contains(&self.find_time) {
            return Err(LedgerError::FindTime {
                find_time: self.find_time,
            });
        }
        for (version, prefix, shortest, longest) in
            [(4, self.ipv4_prefix, 8, 32), (6, self.ipv6_prefix, 16, 128)]
        {
            if !(shortest..=longest).contains(&prefix) {
                return Err(LedgerError::Prefix {
                    version,
                    prefix,
                    shortest,
                    longest,
                });
            }
        }
        if !(1..=MAX_CLIENTS).contains(&self.max_clients) {
            return Err(LedgerError::MaxClients {
                max_clients: self.max_clients,
            });
        }
        Ok(())
    }

    /// Returns the network that stands for `address` in the ledger.
    ///
    /// It never holds more than one client: where the addresses of a prefix belong to different
    /// clients, such as the IPv4 addresses behind a translator, each stands for itself.
    pub fn network(&self, address: IpAddr) -> IpNet {
        let address = address.to_canonical();
        let prefix = match address {
            IpAddr::V4(_) => self.ipv4_prefix,
            IpAddr::V6(address) => self.ipv6_prefix.max(one_client(address)),
        };
        IpNet::new(address, prefix)
            .map(|network| network.trunc())
            .ok()
            .filter(|network| !network.addr().is_unspecified())
            .unwrap_or(IpNet::from(address))
    }

    /// Returns the find time in milliseconds, the ledger's unit.
    fn find_time_ms(&self) -> i64 {
        i64::try_from(self.find_time.as_millis()).unwrap_or(i64::MAX)
    }
}

/// A client that has reached the threshold, or a further multiple of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Offender {
    /// The client: an address as a network of one, or a wider network.
    pub network: IpNet,
    /// Time of the last attack of those that made it one (part A), in whole milliseconds.
    pub at: DateTime<Utc>,
    /// Attacks within the find time before that, about; see [`Sighting::in_window`].
    pub attacks: u32,
    /// How often it has been reported since it was first seen, this time included.
    pub reports: u32,
}

/// What a ledger remembers of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sighting {
    /// The client.
    pub network: IpNet,
    /// Attacks in the find time before its last one. Exact until the attacks have gone on for
    /// longer than a find time, an estimate after that.
    pub in_window: u32,
    /// Time of its last attack, milliseconds since the Unix epoch.
    pub last_seen_ms: i64,
    /// How often it has been reported.
    pub reports: u32,
    /// Attacks that no report stands for yet, milliseconds since the Unix epoch, ascending.
    pub unreported_ms: Vec<i64>,
    /// Attacks of late: start of a span of one find time in milliseconds since the Unix epoch,
    /// attacks in it, and in the span before.
    pub rate: (i64, u32, u32),
    /// Attacks that a report of an interrupted run stands for and that have not come in again:
    /// time of the last of them in milliseconds since the Unix epoch, and how many.
    pub answered: Vec<(i64, u32)>,
}

impl Sighting {
    /// Returns about how many attacks lie within `find_time` before `now`.
    pub fn in_window_at(&self, now: DateTime<Utc>, find_time: Duration) -> u32 {
        let find_time = i64::try_from(find_time.as_millis()).unwrap_or(i64::MAX);
        self.rate().in_window(now.timestamp_millis(), find_time)
    }

    /// Returns the counts of [`Sighting::rate`] as the ledger keeps them.
    fn rate(&self) -> Rate {
        let (start, current, before) = self.rate;
        Rate {
            start,
            current,
            before,
        }
    }
}

/// What a ledger has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LedgerCounts {
    /// Attacks counted against a client.
    pub strikes: u64,
    /// Attacks from addresses that are ignored.
    pub ignored: u64,
    /// Offenders returned.
    pub reports: u64,
    /// Clients forgotten because the table was full.
    pub evicted: u64,
}

/// Strikes per client over a sliding window, for a bounded number of clients. See the module.
#[derive(Debug)]
pub struct Ledger {
    /// The options, as they were checked.
    options: LedgerOptions,
    /// What makes an offender, from the options.
    limit: Limit,
    /// The clients, at most [`LedgerOptions::max_clients`].
    table: ClientTable,
    /// Reports of an interrupted run, for attacks that will come in again.
    answered: Answered,
    /// Time of the newest attack, for telling how old the others are.
    newest: i64,
    /// What was counted since the ledger was made. Not restored after a restart.
    counts: LedgerCounts,
}

impl Ledger {
    /// Makes an empty ledger.
    ///
    /// # Errors
    /// [`LedgerError`] if an option is out of its range.
    pub fn new(options: LedgerOptions) -> Result<Ledger, LedgerError> {
        options.check()?;
        let limit = Limit {
            threshold: options.threshold as usize,
            find_time: options.find_time_ms(),
        };
        Ok(Ledger {
            limit,
            table: ClientTable::new(options.max_clients),
            answered: Answered::default(),
            newest: i64::MIN,
            counts: LedgerCounts::default(),
            options,
        })
    }

    /// Counts one strike against `client` and returns it if that makes it an offender.
    ///
    /// `at` is the transaction's own time (part A), not the time of reading. The client is returned
    /// at the threshold and again whenever as many further strikes lie within the find time.
    ///
    /// Does no I/O and cannot fail. Source: `maxretry` and `findtime` in jail.conf(5).
    ///
    /// ```
    /// use modsec_core::ledger::{Ledger, LedgerOptions};
    ///
    /// let mut options = LedgerOptions::default();
    /// options.threshold = 2;
    /// let mut ledger = Ledger::new(options)?;
    /// let at = "2026-08-22T10:15:00Z".parse()?;
    /// assert_eq!(ledger.strike("2001:db8::1".parse()?, at), None);
    /// let offender = ledger.strike("2001:db8::2".parse()?, at).ok_or("not reported")?;
    /// assert_eq!(offender.network.to_string(), "2001:db8::/64");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn strike(&mut self, client: IpAddr, at: DateTime<Utc>) -> Option<Offender> {
        if self.options.ignore.contains(client) {
            self.counts.ignored += 1;
            return None;
        }
        let network = self.options.network(client);
        let ms = at.timestamp_millis();
        let find_time = self.limit.find_time;
        let (known, evicted) = self.table.touch(network, || Client {
            network,
            last_seen: ms,
            reports: 0,
            rate: Rate::default(),
            window: Window::default(),
        });
        self.counts.strikes += 1;
        self.counts.evicted += u64::from(evicted);
        self.newest = self.newest.max(ms);
        // An entry that is a little late is not the last attack; after a clock was set back, it is.
        if ms > known.last_seen || known.last_seen.saturating_sub(ms) > find_time {
            known.last_seen = ms;
        }
        known.rate.add(ms, find_time);
        if self.answered.take(network, ms, find_time) {
            return None;
        }
        let last = known.window.add(ms, self.limit)?;
        known.reports = known.reports.saturating_add(1);
        self.counts.reports += 1;
        Some(Offender {
            network,
            at: DateTime::from_timestamp_millis(last).unwrap_or(at),
            attacks: known.rate.in_window(ms, find_time),
            reports: known.reports,
        })
    }

    /// Forgets clients whose last attack is more than `keep` older than the newest attack of all,
    /// or than `now` if a clock was ahead; returns how many.
    ///
    /// A `keep` of two find times or more changes no report.
    pub fn forget(&mut self, keep: Duration, now: DateTime<Utc>) -> usize {
        let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        let horizon = self.newest.min(now.timestamp_millis()).saturating_sub(keep);
        let before = self.table.len();
        while self
            .table
            .oldest()
            .is_some_and(|client| client.last_seen < horizon)
        {
            self.table.remove_oldest();
        }
        self.answered.forget(horizon);
        before - self.table.len()
    }

    /// Takes a client over from an earlier run, as the most recently seen one. No report follows
    /// from it, even if the threshold is lower than it was. Ignored addresses are left out.
    pub fn restore(&mut self, sighting: &Sighting) {
        if self.options.ignore.contains(sighting.network.addr()) {
            return;
        }
        // The prefix may have changed since.
        let network = self.options.network(sighting.network.addr());
        let window = Window::restore(&sighting.unreported_ms, self.limit);
        self.newest = self.newest.max(sighting.last_seen_ms);
        let (known, _) = self.table.touch(network, || Client {
            network,
            last_seen: sighting.last_seen_ms,
            reports: sighting.reports,
            rate: sighting.rate(),
            window: Window::default(),
        });
        known.window = window;
        for &(until, missing) in &sighting.answered {
            self.answered.add(network, until, missing);
        }
    }

    /// Takes note of a report that was made by a run that counted on from here and was interrupted.
    ///
    /// The report stands for as many attacks as the threshold, the last of them in the second of
    /// `at`, the others in the find time before. They are expected to come in again and then lead
    /// to no report; what this ledger already has of them is taken out. Their order does not
    /// matter. Later attacks are not affected, also if those do not come.
    ///
    /// Call this after [`Ledger::restore`].
    pub fn note_report(&mut self, network: IpNet, at: DateTime<Utc>) {
        if self.options.ignore.contains(network.addr()) {
            return;
        }
        let network = self.options.network(network.addr());
        let until = answered::end_of_second(at);
        self.newest = self.newest.max(at.timestamp_millis());
        let (known, _) = self.table.touch(network, || Client {
            network,
            last_seen: at.timestamp_millis(),
            reports: 0,
            rate: Rate::default(),
            window: Window::default(),
        });
        known.reports = known.reports.saturating_add(1);
        let span = answered::span(until, self.limit.find_time);
        let missing = known.window.take(span, self.options.threshold);
        self.answered.add(network, until, missing);
    }

    /// Returns all clients, the least recently seen first.
    pub fn sightings(&self) -> impl Iterator<Item = Sighting> {
        let find_time = self.limit.find_time;
        self.table.iter().map(move |client| Sighting {
            network: client.network,
            in_window: client.rate.in_window(client.last_seen, find_time),
            last_seen_ms: client.last_seen,
            reports: client.reports,
            unreported_ms: client.window.times().to_vec(),
            rate: (client.rate.start, client.rate.current, client.rate.before),
            answered: self.answered.of(client.network),
        })
    }

    /// Returns the number of clients.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns `true` if there are no clients.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns what has been done so far.
    pub fn counts(&self) -> LedgerCounts {
        self.counts
    }

    /// Returns the options.
    pub fn options(&self) -> &LedgerOptions {
        &self.options
    }
}

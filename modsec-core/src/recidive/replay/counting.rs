//! Attacks through the ledger, in the order of their times.

use std::cmp::Reverse;
use std::net::IpAddr;

use chrono::{DateTime, Local, Utc};
use ipnet::IpNet;

use super::detail::{Attack, Detail, MAX_KINDS, shown};
use super::{Replay, ReplayReport};
use crate::recidive::dedup::EntryKey;
use crate::record::Record;

/// Attacks that are put into the order of their times before they count. History that is not
/// further out of order than that is replayed exactly; about 300 bytes each.
const MAX_WAITING: usize = 1 << 18;
/// Offenders of which rules and URIs are kept.
pub(super) const MAX_OFFENDERS: usize = 1 << 16;
/// Clients not reported yet of which rules and URIs are kept.
const MAX_SUSPECTS: usize = 1 << 15;

impl Replay<'_> {
    /// Counts an attack with the rules and the URI that belong to it, unless it was met before.
    /// Without an address or a time it counts as unplaced.
    ///
    /// Only alerts that are whole and not contradicted by part K name rules.
    pub(super) fn record(&mut self, record: &Record<'_>, key: impl FnOnce() -> EntryKey) {
        if !self.options.attacks.is_attack(record) {
            return;
        }
        let Some((client, time)) = self
            .options
            .proxies
            .client(record)
            .zip(record.instant(&Local))
        else {
            self.report.unplaced += 1;
            return;
        };
        if !self.seen.insert(key(), 0) {
            return;
        }
        let mut rules: Vec<String> = record
            .alerts
            .iter()
            .filter(|alert| alert.is_trusted())
            .filter_map(|alert| alert.rule_id.as_ref())
            .map(|id| shown(&id.to_str_lossy()))
            .take(MAX_KINDS)
            .collect();
        rules.sort_unstable();
        rules.dedup();
        let uri = record.request.uri.as_ref();
        let uri = uri.map(|uri| shown(&uri.to_str_lossy()));
        self.wait(client, time.to_utc(), rules, uri);
    }

    /// Puts an attack into the queue, so that earlier ones count first. Once more than
    /// [`MAX_WAITING`] wait, the earliest counts.
    pub(super) fn wait(
        &mut self,
        client: IpAddr,
        at: DateTime<Utc>,
        rules: Vec<String>,
        uri: Option<String>,
    ) {
        self.arrivals += 1;
        self.waiting.push(Reverse(Attack {
            at,
            arrival: self.arrivals,
            client,
            rules,
            uri,
        }));
        if self.waiting.len() > MAX_WAITING
            && let Some(Reverse(attack)) = self.waiting.pop()
        {
            self.strike(&attack);
        }
    }

    /// Counts an attack in the ledger and notes its details. Attacks that the ledger ignores leave
    /// none.
    pub(super) fn strike(&mut self, attack: &Attack) {
        let ignored = self.ledger.counts().ignored;
        let offender = self.ledger.strike(attack.client, attack.at);
        if self.ledger.counts().ignored > ignored {
            return;
        }
        let network = self.options.ledger.network(attack.client);
        if let Some(detail) = self.offenders.get_mut(&network) {
            detail.add(attack);
            if offender.is_some() {
                detail.report(attack.at);
            }
            return;
        }
        if self.left_out.contains(&network) {
            return;
        }
        let new = || Detail::new(attack.at);
        let detail = self.suspects.entry(network).or_insert_with(new);
        detail.add(attack);
        if offender.is_some() {
            self.move_to_offenders(network, attack.at);
        } else if self.suspects.len() > MAX_SUSPECTS {
            self.drop_suspects(attack.at);
        }
    }

    /// Notes the first report of a client.
    fn move_to_offenders(&mut self, network: IpNet, at: DateTime<Utc>) {
        let Some(mut detail) = self.suspects.remove(&network) else {
            return;
        };
        if self.offenders.len() < MAX_OFFENDERS {
            detail.report(at);
            self.offenders.insert(network, detail);
        } else if self.left_out.len() < self.options.ledger.max_clients {
            // So many offenders that a list of them is of no use: the first ones stay.
            self.left_out.insert(network);
        }
    }

    /// Makes room: first by those who have been quiet. If few have, all go, so that this is rare.
    fn drop_suspects(&mut self, now: DateTime<Utc>) {
        let quiet = self.options.ledger.find_time.saturating_mul(2);
        let is_quiet = |detail: &Detail| (now - detail.last).to_std().is_ok_and(|age| age >= quiet);
        self.suspects.retain(|_, detail| !is_quiet(detail));
        if self.suspects.len() > MAX_SUSPECTS / 2 {
            self.suspects.clear();
        }
    }

    /// Counts what still waits and returns the report, offenders with most attacks first.
    pub(super) fn finish(mut self) -> ReplayReport {
        while let Some(Reverse(attack)) = self.waiting.pop() {
            self.strike(&attack);
        }
        let counts = self.ledger.counts();
        let mut report = self.report;
        report.attacks = counts.strikes;
        report.ignored = counts.ignored;
        report.reports = counts.reports;
        report.offenders_left_out = self.left_out.len() as u64;
        report.offenders = self
            .offenders
            .into_iter()
            .map(|(client, detail)| detail.offender(client))
            .collect();
        report
            .offenders
            .sort_by(|a, b| (b.attacks, &a.client).cmp(&(a.attacks, &b.client)));
        report
    }
}

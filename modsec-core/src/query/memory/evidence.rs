//! Evidence about rows in memory.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;

use super::{MemoryQuery, stored_time};
use crate::cause::{Kind, Outcome};
use crate::filter::Filter;
use crate::query::{Answer, Evidence, Question, Spot};
use crate::store::{Row, RuleRow, client_key};

/// A client's address as the column `client_key` has it.
type Client = [u8; 16];

impl MemoryQuery {
    /// Returns the evidence of the spots that `is_meant`, those with the most clients first, then those
    /// with the most transactions, then in the order of the spots.
    pub(super) fn evidence_of(
        &self,
        question: &Question,
        is_meant: impl Fn(&Spot) -> bool,
    ) -> Answer<Option<Vec<Evidence>>> {
        let found = self.fold(question, |found: &mut BTreeMap<Spot, Group>, row| {
            for spot in spots(row).into_iter().filter(|spot| is_meant(spot)) {
                found.entry(spot.clone()).or_default().add(row, &spot);
            }
        });
        let mut everything = question.clone();
        everything.filter = Filter::default();
        let all = self.fold(&everything, |all: &mut BTreeMap<Client, u64>, row| {
            if let Some(client) = row.client_ip.filter(|_| row.outcome.is_some()) {
                *all.entry(client_key(client)).or_default() += 1;
            }
        });
        let (Some(found), Some(all)) = (found.value, all.value) else {
            return Answer::late(None, None);
        };
        let finish = |(spot, group): (Spot, Group)| group.finish(spot, &all);
        let mut evidence: Vec<Evidence> = found.into_iter().map(finish).collect();
        // Stable, so those that are equal stay in the order of their spots.
        evidence.sort_by_key(|it| Reverse((it.clients, it.transactions)));
        Answer::complete(Some(evidence))
    }
}

/// Returns where rules found something, each spot once.
fn spots(row: &Row) -> BTreeSet<Spot> {
    let spot = |rule: &RuleRow| {
        Some(Spot {
            rule: rule.rule_id.clone()?,
            host: row.host.as_ref().map(|host| host.to_ascii_lowercase()),
            path: row.path_template.clone(),
            target: rule.target.clone(),
        })
    };
    let is_detection = |rule: &&RuleRow| rule.kind == Some(Kind::Detection);
    let detections = row.rule_matches.iter().filter(is_detection);
    detections.filter_map(spot).collect()
}

/// What is counted of one spot.
#[derive(Debug, Default)]
struct Group {
    /// The counts so far, apart from those of sets.
    evidence: Evidence,
    /// Transactions of each client that were blocked or detected.
    clients: BTreeMap<Client, u64>,
    /// Networks, by their first bytes.
    networks: BTreeSet<Vec<u8>>,
    /// Days in UTC.
    days: BTreeSet<NaiveDate>,
}

impl Group {
    /// Adds one transaction. To be called once for each row.
    fn add(&mut self, row: &Row, spot: &Spot) {
        let count = &mut self.evidence;
        count.transactions += 1;
        count.blocked += u64::from(row.outcome == Some(Outcome::Blocked));
        count.detected += u64::from(row.outcome == Some(Outcome::Detected));
        let is_cause = row.rule_id.as_ref() == Some(&spot.rule);
        count.sole += u64::from(is_cause && row.is_sole == Some(true));
        count.sole_unknown += u64::from(row.is_sole.is_none());
        let time = stored_time(row);
        count.first = [count.first, time].into_iter().flatten().min();
        count.last = count.last.max(time);
        self.days.extend(time.map(|time| time.date_naive()));
        if let Some(client) = row.client_ip {
            let key = client_key(client);
            *self.clients.entry(key).or_default() += u64::from(row.outcome.is_some());
            let length = if client.to_canonical().is_ipv4() {
                15
            } else {
                6
            };
            self.networks.insert(key[..length].to_vec());
        }
    }

    /// Returns the evidence; `all` has how many transactions of a client there are anywhere.
    fn finish(self, spot: Spot, all: &BTreeMap<Client, u64>) -> Evidence {
        let is_alone = |(client, here): &(&Client, &u64)| {
            all.get(*client).copied().unwrap_or_default() == **here
        };
        Evidence {
            spot,
            clients: self.clients.len() as u64,
            networks: self.networks.len() as u64,
            days: self.days.len() as u64,
            lone_clients: self.clients.iter().filter(is_alone).count() as u64,
            ..self.evidence
        }
    }
}

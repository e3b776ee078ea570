//! Results for people, and for programs that read JSON.

use std::cmp::Reverse;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Local, Utc};
use serde::Serialize;

use super::replay::{ReplayReport, ReplayedOffender, Tallied};
use super::state::State;
use crate::ledger::Sighting;
use crate::program::counted;
use crate::record::network_text;

/// The ledger as it was saved, those with most attacks first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// Clients.
    pub clients: Vec<StatusRow>,
}

/// One client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StatusRow {
    /// Address or network.
    pub client: String,
    /// Attacks within the find time before now. Exact until they have gone on for longer than
    /// that, an estimate after it.
    pub in_window: u32,
    /// Attacks that no report stands for yet.
    pub unreported: usize,
    /// Time of the last attack.
    pub last_seen: DateTime<Utc>,
    /// How often the client has been reported.
    pub reported: u32,
}

impl Status {
    /// Reads the table out of a saved state, as of `now`.
    pub fn new(state: &State, find_time: Duration, now: DateTime<Utc>) -> Status {
        let row = |sighting: &Sighting| StatusRow {
            client: network_text(sighting.network),
            in_window: sighting.in_window_at(now, find_time),
            unreported: sighting.unreported_ms.len(),
            last_seen: DateTime::from_timestamp_millis(sighting.last_seen_ms).unwrap_or_default(),
            reported: sighting.reports,
        };
        let mut clients: Vec<StatusRow> = state.sightings().iter().map(row).collect();
        clients.sort_by_key(|row| (Reverse(row.in_window), Reverse(row.last_seen)));
        Status { clients }
    }
}

/// Shows a time in the zone of the program, to the second.
fn local(time: DateTime<Utc>) -> impl fmt::Display {
    time.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S")
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<43} {:>10} {:<19} {:>9}",
            "address", "in window", "last seen", "reported"
        )?;
        for row in &self.clients {
            let last_seen = local(row.last_seen).to_string();
            writeln!(
                f,
                "{:<43} {:>10} {:<19} {:>9}",
                row.client, row.in_window, last_seen, row.reported
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for ReplayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for offender in &self.offenders {
            write!(f, "{offender}")?;
        }
        if self.offenders_left_out > 0 {
            let more = counted(self.offenders_left_out, "more offender", "more offenders");
            writeln!(f, "and {more}")?;
        }
        writeln!(
            f,
            "{}, {}, {} in {}; {} ignored, {} without time or address, {} defective",
            counted(self.entries, "entry", "entries"),
            counted(self.attacks, "attack", "attacks"),
            counted(
                self.offenders.len() as u64 + self.offenders_left_out,
                "offender",
                "offenders"
            ),
            counted(self.reports, "report", "reports"),
            self.ignored,
            self.unplaced,
            self.defects,
        )
    }
}

impl fmt::Display for ReplayedOffender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}  {} from {} to {}",
            self.client,
            counted(self.attacks, "attack", "attacks"),
            local(self.first),
            local(self.last)
        )?;
        let mut times: Vec<String> = self
            .reported_at
            .iter()
            .map(|at| local(*at).to_string())
            .collect();
        if self.reports > times.len() as u64 {
            times.push("…".to_owned());
        }
        let often = counted(self.reports, "time", "times");
        writeln!(f, "    reported {often}: {}", times.join(", "))?;
        list(f, "rules", &self.rules)?;
        list(f, "URIs", &self.uris)
    }
}

/// Writes a titled list of counts, indented; nothing if it is empty.
fn list(f: &mut fmt::Formatter<'_>, title: &str, items: &[Tallied]) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(f, "    {title}:")?;
    for Tallied { what, count } in items {
        writeln!(f, "    {count:>8} {what}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_for_each_client() {
        let sighting = |network: &str, ms| Sighting {
            network: network.parse().unwrap(),
            in_window: 12,
            last_seen_ms: ms,
            reports: 1,
            unreported_ms: vec![ms],
            rate: (ms, 12, 0),
            answered: Vec::new(),
        };
        let mut state = State::default();
        state.add(sighting("192.0.2.7/32", 0));
        state.add(sighting("2001:db8::/64", 1_787_393_700_000));
        let now = DateTime::from_timestamp(1_787_393_760, 0).unwrap();
        let status = Status::new(&state, Duration::from_secs(600), now);
        assert_eq!(status.clients[0].client, "2001:db8::/64");
        assert_eq!(status.clients[0].in_window, 12);
        assert_eq!(status.clients[1].in_window, 0, "long ago");
        let text = status.to_string();
        assert_eq!(text.lines().count(), 3);
        assert!(text.contains("2001:db8::/64 "), "{text}");
    }
}

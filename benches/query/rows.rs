//! Rows of a server with 1,600 sites, as many as are asked for, the same in each run.
//!
//! A row is made from its number alone, so memory does not grow with them. Sites, rules, clients and
//! paths are drawn from long tails: a few have most of the transactions, most have a few.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use chrono::{DateTime, TimeDelta, TimeZone as _, Utc};
use modsec_core::EntryHash;
use modsec_core::cause::{Category, Kind, Outcome, TargetSource};
use modsec_core::record::{EngineMode, Record, Severity};
use modsec_core::store::{Batch, Origin, Row, RuleRow, Store};

/// Days that the rows are from.
pub(crate) const DAYS: i64 = 30;
/// Sites, each with an account of its own.
const SITES: u64 = 1_600;
/// Rules that find something.
const RULES: u64 = 120;
/// Clients, a fifth of them by IPv6.
const CLIENTS: u64 = 200_000;
/// Rows in a batch.
const BATCH: u64 = 5_000;

/// Returns the first instant of the rows.
pub(crate) fn start() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 10, 28, 0, 0, 0)
        .single()
        .unwrap_or_default()
}

/// Returns when the rows end.
pub(crate) fn end() -> DateTime<Utc> {
    start() + TimeDelta::days(DAYS)
}

/// Adds `count` rows to an empty store, batch by batch.
pub(crate) async fn fill(store: &mut dyn Store, count: u64) {
    let mut next = 0;
    while next < count {
        let end = count.min(next + BATCH);
        let rows = (next..end).map(|number| row(number, count)).collect();
        let batch = Batch::new(Some("bench".to_owned()), rows);
        store.insert(&batch).await.expect("the batch is stored");
        next = end;
    }
}

/// Numbers that look like chance and follow from a seed: `SplitMix64`.
struct Chance(u64);

impl Chance {
    /// Returns the next number.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Returns a number below `end`, all alike.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Returns a number below `end`; the smaller, the more often.
    fn tail(&mut self, end: u64) -> u64 {
        let within = self.below(end) + 1;
        self.below(within)
    }
}

/// Returns the row of this number, of `count` rows.
fn row(number: u64, count: u64) -> Row {
    let mut chance = Chance(number);
    let hash = EntryHash::of(&number.to_le_bytes());
    let site = chance.tail(SITES);
    let client = client(&mut chance);
    let mut origin = Origin::default();
    origin.sensor = Some(format!("web{}.example.org", site % 4));
    origin.account = Some(format!("site{site}"));
    let mut row = Row::new(&Record::default(), hash, &origin, Some(client));

    let milliseconds = DAYS * 86_400_000 * i64::try_from(number).unwrap_or_default()
        / i64::try_from(count).unwrap_or(1);
    // Several sensors write, so rows come a little out of order.
    let late = i64::try_from(chance.below(2_000_000)).unwrap_or_default();
    row.created_at =
        Some(start() + TimeDelta::milliseconds(milliseconds) + TimeDelta::microseconds(late));
    let path = chance.tail(400);
    row.method = Some(["GET", "POST"][usize::from(chance.below(4) == 0)].to_owned());
    row.uri = Some(format!(
        "/shop/part{path}/item-{}.php?q=1%27%20or%20%271%27=%271&page={}",
        chance.below(10_000),
        chance.below(50)
    ));
    row.path_template = Some(format!("/shop/part{path}/item-{{n}}.php"));
    row.remote_addr = Some(client.to_string());
    row.host = Some(format!("shop{site}.example.org"));
    row.unique_id = Some(format!("Zx{:025x}", u128::from(chance.next())));
    row.user_agent = Some(format!(
        "Mozilla/5.0 (X11; Linux x86_64; rv:{}.0) Gecko/20100101 Firefox/{0}.0",
        100 + chance.tail(60)
    ));
    row.engine_mode = Some(EngineMode::Enabled);
    row.threshold = Some(5);
    judge(&mut row, &mut chance);
    row
}

/// Gives the row its alerts, and what follows from them.
fn judge(row: &mut Row, chance: &mut Chance) {
    let detections = 1 + chance.tail(4);
    for _ in 0..detections {
        row.rule_matches.push(detection(chance));
    }
    let score = 5 * i64::try_from(detections).unwrap_or_default();
    let is_blocked = chance.below(10) < 9;
    let mut bookkeeping = RuleRow::default();
    bookkeeping.rule_id = Some("949110".to_owned());
    bookkeeping.kind = Some(Kind::BlockingEvaluation);
    bookkeeping.msg = Some(format!(
        "Inbound Anomaly Score Exceeded (Total Score: {score})"
    ));
    bookkeeping.severity = Some(Severity::Critical);
    row.rule_matches.push(bookkeeping);

    let cause = row.rule_matches[0].clone();
    row.rule_id = cause.rule_id;
    row.msg = cause.msg;
    row.data = cause.data;
    row.severity = cause.severity;
    row.category = cause.category;
    row.score = Some(score);
    row.is_sole = Some(detections == 1);
    row.status = Some(if is_blocked { 403 } else { 200 });
    row.status_line = Some(
        if is_blocked {
            "HTTP/1.1 403 Forbidden"
        } else {
            "HTTP/1.1 200 OK"
        }
        .to_owned(),
    );
    row.intercepted = is_blocked;
    row.phase = Some(2);
    row.blocked_by = is_blocked.then(|| "949110".to_owned());
    row.outcome = Some(if is_blocked {
        Outcome::Blocked
    } else {
        Outcome::Detected
    });
}

/// Returns an alert about the request.
fn detection(chance: &mut Chance) -> RuleRow {
    let rule = chance.tail(RULES);
    let name = ["q", "id", "search", "comment", "page", "order"]
        [usize::try_from(chance.tail(6)).unwrap_or_default()];
    let mut alert = RuleRow::default();
    alert.rule_id = Some((930_100 + rule * 10).to_string());
    alert.msg = Some(format!("Attack of kind {rule} Detected"));
    alert.data = Some(format!(
        "Matched Data: s&1 found within ARGS:{name}: 1' or 1=1"
    ));
    alert.severity = Some(Severity::Critical);
    alert.file = Some("/usr/share/modsecurity-crs/rules/REQUEST-942-APPLICATION.conf".to_owned());
    alert.line = u32::try_from(rule * 17).ok();
    alert.ver = Some("OWASP_CRS/4.0.0".to_owned());
    alert.tags = Some(r#"["application-multi","attack-sqli","paranoia-level/1"]"#.to_owned());
    alert.phase = Some(2);
    alert.verified = Some(true);
    alert.detail = Some(format!("Pattern match \"(?i)or\" at ARGS:{name}."));
    alert.kind = Some(Kind::Detection);
    alert.target = Some(format!("ARGS:{name}"));
    alert.target_source = Some(TargetSource::Sentence);
    alert.points = Some(5);
    alert.paranoia_level = Some(1);
    alert.category = Some([Category::Sqli, Category::Xss][usize::from(rule % 2 == 1)]);
    alert
}

/// Returns a client's address.
fn client(chance: &mut Chance) -> IpAddr {
    let client = u32::try_from(chance.tail(CLIENTS)).unwrap_or_default();
    if client.is_multiple_of(5) {
        let network = u128::from(client) << 64;
        return Ipv6Addr::from((0x2001_0db8_u128 << 96) + network + 1).into();
    }
    Ipv4Addr::from(0x0a00_0000 + client * 7).into()
}

//! Rows like those of a real server.

use chrono::{TimeDelta, TimeZone as _, Utc};

use crate::cause::{Category, Direction, Kind, Outcome, PointsSource, TargetSource};
use crate::entry_hash::EntryHash;
use crate::record::{EngineMode, Severity};
use crate::store::{Batch, Row, RuleRow};

/// Returns the `n`th row of an endless server: four rule matches, values of usual lengths.
pub fn row(n: usize) -> Row {
    let number = i64::try_from(n).unwrap_or_default();
    let start = Utc.timestamp_opt(1_787_000_000, 123_456_000).single();
    let rules = ["920350", "942100", "949110", "980130"];
    Row {
        entry_hash: EntryHash::of(&n.to_le_bytes()),
        method: Some("GET".to_owned()),
        uri: Some(format!("/catalogue/item.php?id={n}%27%20or%201=1&page=2")),
        remote_addr: Some(format!("192.0.2.{}", n % 256)),
        rule_id: Some(rules[1].to_owned()),
        host: Some(format!("shop{}.example.org", n % 1600)),
        msg: Some("SQL Injection Attack Detected via libinjection".to_owned()),
        data: Some("Matched Data: s&1 found within ARGS:id: 1' or 1=1".to_owned()),
        unique_id: Some(format!("ZxAbCdEfGhIjKlMn{n:08}")),
        severity: Some(Severity::Critical),
        maturity: Some(1),
        accuracy: Some(8),
        user_agent: Some("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101".to_owned()),
        status: Some(403),
        engine_mode: Some(EngineMode::Enabled),
        score: Some(10),
        sqli: Some(5),
        xss: Some(0),
        phase: Some(2),
        created_at: start.map(|start| start + TimeDelta::milliseconds(number)),
        sensor: Some("web1.example.org".to_owned()),
        account: Some(format!("site{}", n % 1600)),
        client_ip: format!("203.0.113.{}", n % 256).parse().ok(),
        status_line: Some("HTTP/1.1 403 Forbidden".to_owned()),
        intercepted: true,
        flags: None,
        blocked_by: Some(rules[2].to_owned()),
        outcome: Some(Outcome::Blocked),
        category: Some(Category::Sqli),
        threshold: Some(5),
        is_sole: Some(true),
        path_template: Some("/catalogue/item.php".to_owned()),
        rule_matches: rules.iter().map(|id| rule(id)).collect(),
        path: None,
    }
}

/// Returns one rule match with values of usual lengths.
fn rule(id: &str) -> RuleRow {
    RuleRow {
        rule_id: Some(id.to_owned()),
        msg: Some("SQL Injection Attack Detected via libinjection".to_owned()),
        data: Some("Matched Data: s&1 found within ARGS:id: 1' or 1=1".to_owned()),
        severity: Some(Severity::Critical),
        file: Some(
            "/usr/share/modsecurity-crs/rules/REQUEST-942-APPLICATION-ATTACK-SQLI.conf".to_owned(),
        ),
        line: Some(65),
        rev: Some("1".to_owned()),
        ver: Some("OWASP_CRS/3.3.4".to_owned()),
        maturity: Some(1),
        accuracy: Some(8),
        tags: Some(
            r#"["application-multi","language-multi","attack-sqli","paranoia-level/1"]"#.to_owned(),
        ),
        phase: Some(2),
        verified: Some(true),
        detail: Some("detected SQLi using libinjection with fingerprint 's&1'".to_owned()),
        kind: Some(Kind::Detection),
        target: Some("ARGS:id".to_owned()),
        target_source: Some(TargetSource::LogData),
        points: Some(5),
        points_for: Some(Direction::Inbound),
        points_source: Some(PointsSource::Rule),
        paranoia_level: Some(1),
        category: Some(Category::Sqli),
    }
}

/// Returns a batch of these rows.
pub(super) fn batch(rows: impl IntoIterator<Item = Row>, journal: Option<&str>) -> Batch {
    let rows: Vec<Row> = rows.into_iter().collect();
    Batch::new(journal.map(str::to_owned), rows)
}

//! Coraza's documents. No server has written these; see the README beside them.

use std::fs;
use std::path::{Path, PathBuf};

use modsec_core::format::{self, Dialect, Format};
use modsec_core::record::{AlertAction, EngineMode, Flag, Flags, Severity};
use modsec_core::{Record, Text};

pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/json-coraza")
        .join(name)
}

fn with<T>(name: &str, look: impl FnOnce(&[u8], &Record<'_>) -> T) -> T {
    let bytes = fs::read(file(name)).unwrap();
    assert!(format::is_complete(&bytes), "{name}");
    look(&bytes, &format::decode(&bytes).unwrap())
}

fn texts(texts: &[Text<'_>]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[test]
fn an_intercepted_request_has_all_its_fields() {
    with("intercepted.json", |bytes, record| {
        assert_eq!(format::detect(bytes), Some(Format::Json(Dialect::Coraza)));
        let time = record.time.map(|time| time.to_rfc3339());
        assert_eq!(time.unwrap(), "2024-02-03T10:11:12.000345+01:00");
        assert_eq!(record.client.as_ref().unwrap().text, "192.0.2.10");
        assert_eq!(record.server.as_ref().unwrap().port, Some(443));
        let request = &record.request;
        assert_eq!(request.uri.as_ref().unwrap(), "/item?id=1%27&x=<b>");
        assert_eq!(request.protocol.as_ref().unwrap(), "HTTP/1.1");
        let names: Vec<_> = request.headers.iter().map(|h| h.name.to_string()).collect();
        let repeated = "x-forwarded-for";
        assert_eq!(names, ["host", "user-agent", repeated, repeated]);
        let body = request.body.as_ref().unwrap();
        assert_eq!(body.kept, "a=\u{1}\"\\\u{fffd}");
        assert_eq!(record.uploads.as_ref().unwrap()[0].name, "a\"b.php");
        assert_eq!(record.response.status, Some(403));
        assert_eq!(record.response.body, None);
        assert_eq!(record.engine.mode, Some(EngineMode::Enabled));
        assert_eq!(record.engine.producer.as_ref().unwrap(), "OWASP_CRS/4.1.0");
        assert!(record.intercepted());
        assert_eq!(record.phase(), Some(2));
        assert_eq!(record.flags, Flags::none());
        assert_eq!(record.scores.inbound, Some(5));
    });
}

#[test]
fn rule_fields_come_from_the_alert_that_intercepted() {
    with("intercepted.json", |_, record| {
        let first = &record.alerts[0];
        assert_eq!(first.action, Some(AlertAction::Warning));
        assert_eq!(first.severity, Some(Severity::Critical));
        assert_eq!(
            (first.maturity, &first.rev, &first.ver),
            (None, &None, &None)
        );
        let is_blocking = |alert: &&modsec_core::record::Alert<'_>| {
            alert.rule_id.as_ref().is_some_and(|id| *id == *"949110")
        };
        let blocking = record.alerts.iter().find(is_blocking).unwrap();
        assert_eq!(blocking.line, Some(12));
        assert_eq!(blocking.data.as_ref().unwrap(), "1'");
        assert_eq!((blocking.maturity, blocking.accuracy), (Some(7), Some(8)));
        // 0 says that the rule has none.
        assert_eq!(blocking.severity, None);
        assert_eq!(texts(&blocking.tags), ["local", "attack-sqli"]);
    });
}

#[test]
fn a_clients_text_in_a_message_is_no_action() {
    with("detection-only.json", |_, record| {
        let time = record.time.map(|time| time.to_rfc3339());
        assert_eq!(time.unwrap(), "2024-02-03T14:56:12.000345+05:45");
        assert_eq!(record.unique_id.as_ref().unwrap(), "[id \"1\"]");
        let alert = &record.alerts[0];
        assert_eq!(alert.rule_id.as_ref().unwrap(), "100100");
        assert_eq!(alert.action, Some(AlertAction::Warning));
        assert_eq!(
            (alert.phase, alert.severity, &alert.data),
            (None, None, &None)
        );
        assert!(!record.intercepted());
        assert_eq!(record.interrupted, Some(false));
        assert_eq!(record.engine.mode, Some(EngineMode::DetectionOnly));
        assert_eq!(record.engine.producer.as_ref().unwrap(), "caddy; 3.7.0");
    });
}

#[test]
fn what_is_null_is_absent() {
    with("without-part-k.json", |_, record| {
        let alert = &record.alerts[0];
        assert_eq!(alert.rule_id, None);
        assert_eq!(alert.msg.as_ref().unwrap(), "quote in id");
        assert_eq!(
            (alert.action, alert.phase),
            (Some(AlertAction::Denied), Some(1))
        );
        assert_eq!(record.response.status, None);
        assert!(record.request.headers.is_empty());
    });
    with("empty.json", |bytes, record| {
        assert_eq!(format::detect(bytes), Some(Format::Json(Dialect::Coraza)));
        let flags: Flags = [Flag::NoPartH].into_iter().collect();
        assert_eq!(record.flags, flags);
        assert_eq!((&record.client, &record.unique_id), (&None, &None));
    });
}

#[test]
fn the_legacy_format_is_read_as_modsecurity_2() {
    with("legacy.json", |bytes, record| {
        assert_eq!(format::detect(bytes), Some(Format::Json(Dialect::V2)));
        assert_eq!(record.time, None);
        let time = record.local_time.map(|time| time.to_string());
        assert_eq!(time.unwrap(), "2024-02-03 10:11:12");
        assert_eq!(record.request.method.as_ref().unwrap(), "GET");
        assert_eq!(record.alerts[0].detail, "quote in id");
        assert_eq!(record.alerts[0].rule_id, None);
        assert!(record.intercepted());
        assert_eq!(record.engine.mode, Some(EngineMode::Enabled));
        assert_eq!(record.flags, Flags::none());
    });
}

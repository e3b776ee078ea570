use chrono::TimeZone as _;

use super::*;
use crate::record::{AlertAction, Header};

fn alert(rule_id: &'static str, action: AlertAction) -> Alert<'static> {
    Alert {
        action: Some(action),
        rule_id: Some(rule_id.into()),
        msg: Some(Text::from(format!("message of {rule_id}"))),
        ..Alert::default()
    }
}

fn row(record: &Record<'_>) -> Row {
    Row::new(record, EntryHash::of(b"x"), &Origin::default(), None)
}

#[test]
fn rule_fields_come_from_one_alert() {
    let record = Record {
        alerts: vec![
            alert("1", AlertAction::Warning),
            Alert {
                severity: Some(Severity::Critical),
                ..alert("2", AlertAction::Denied)
            },
        ],
        ..Record::default()
    };
    let row = row(&record);
    assert_eq!(row.rule_id.as_deref(), Some("2"));
    assert_eq!(row.msg.as_deref(), Some("message of 2"));
    assert_eq!(row.severity, Some(Severity::Critical));
    assert!(row.intercepted);
    assert_eq!(row.rule_matches.len(), 2);
    assert_eq!(row.rule_matches[0].rule_id.as_deref(), Some("1"));
}

#[test]
fn notice_of_the_engine_stands_in_for_a_message() {
    let notice = Alert {
        detail: "Failed to parse request body.".into(),
        ..Alert::default()
    };
    let record = Record {
        alerts: vec![notice],
        ..Record::default()
    };
    let row = row(&record);
    assert_eq!(row.msg.as_deref(), Some("Failed to parse request body."));
    assert_eq!(row.rule_matches[0].msg, None);
}

#[test]
fn what_is_not_known_is_null() {
    let row = row(&Record::default());
    let known: Vec<_> = LOG_COLUMNS
        .iter()
        .zip(row.values())
        .filter(|(_, value)| *value != Value::Null)
        .map(|(column, _)| *column)
        .collect();
    assert_eq!(known, ["entry_hash", "intercepted"]);
    assert_eq!(
        RuleRow::default().values(),
        [const { Value::Null }; RULE_COLUMNS.len()]
    );
}

#[test]
fn text_is_decoded_lossily_and_cut_between_characters() {
    let mut record = Record::default();
    record.request.uri = Some(Text::from("П".repeat(MAX_TEXT)));
    record.request.headers = vec![Header {
        name: "hOST".into(),
        value: Text::from(&b"a\0\xff"[..]),
    }];
    let row = row(&record);
    assert_eq!(row.uri.unwrap().len(), MAX_TEXT - 1);
    assert_eq!(row.host.as_deref(), Some("a\0\u{fffd}"));
}

#[cfg(feature = "jobs")]
#[test]
fn no_row_is_larger_than_the_largest() {
    let long = |bytes: &[u8], len| Some(Text::from(bytes.repeat(len / bytes.len())));
    let share = MAX_ALERT_TEXT / MAX_ALERTS;
    for byte in [&b"x"[..], b"\xff", b"\x01", "я".as_bytes()] {
        let tags = long(byte, share / MAX_TAGS).map(|tag| vec![tag; MAX_TAGS]);
        for alert in [
            Alert {
                tags: tags.unwrap(),
                ..Alert::default()
            },
            Alert {
                msg: long(byte, share / 2),
                data: long(byte, share / 2),
                ..Alert::default()
            },
        ] {
            let mut record = Record {
                alerts: vec![alert; MAX_ALERTS],
                unique_id: long(byte, 2 * MAX_TEXT),
                ..Record::default()
            };
            record.request.uri = long(byte, 2 * MAX_TEXT);
            record.request.method = long(byte, 2 * MAX_TEXT);
            record.response.status_line = long(byte, 2 * MAX_TEXT);
            let size = row(&record).size();
            assert!(size <= Row::MAX_SIZE, "{size} of {byte:?}");
        }
    }
}

#[test]
fn tags_are_a_json_array_of_any_text() {
    let tags: Vec<Text<'_>> = vec!["a,b".into(), "q\"\\".into(), "\x01\n".into()];
    let json = json_array(&tags).unwrap();
    let back: Vec<String> = serde_json::from_str(&json).unwrap();
    assert_eq!(back, ["a,b", "q\"\\", "\x01\n"]);
    assert_eq!(json_array(&[]), None);
}

#[test]
fn too_many_tags_are_still_json() {
    let tags = vec![Text::from("x".repeat(1000)); 100];
    let json = json_array(&tags).unwrap();
    let back: Vec<String> = serde_json::from_str(&json).unwrap();
    assert!(
        json.len() <= MAX_TEXT && back.len() == 65,
        "{} {}",
        json.len(),
        back.len()
    );
}

#[test]
fn time_is_written_in_utc_with_a_fixed_width() {
    for (seconds, nanos, want) in [
        (0, 0, Some("1970-01-01 00:00:00.000000")),
        (-1, 999_999_999, Some("1969-12-31 23:59:59.999999")),
        (253_402_300_799, 0, Some("9999-12-31 23:59:59.000000")),
        (253_402_300_800, 0, None),
        (-62_167_219_201, 0, None),
    ] {
        let time = Utc.timestamp_opt(seconds, nanos).unwrap();
        assert_eq!(sql_time(&time).as_deref(), want, "input {seconds}");
    }
}

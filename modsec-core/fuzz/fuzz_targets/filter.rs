//! Any text as a filter: no panic, bounded, and what is written is read back as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modsec_core::filter::{Dialect, Filter};
use modsec_core::record::Record;
use modsec_core::store::{Origin, Row};
use modsec_core::EntryHash;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let now = chrono::DateTime::from_timestamp(1_787_000_000, 0).expect("a time");
    match Filter::parse(&text, now) {
        Ok(filter) => check(&filter, &text, now),
        Err(error) => {
            assert!(text.get(error.place()).is_some(), "{error:?}");
            let shown = error.to_string();
            assert!(shown.lines().count() <= 3 && !shown.contains(['\u{1b}', '\u{202e}']));
        }
    }
});

fn check(filter: &Filter, text: &str, now: chrono::DateTime<chrono::Utc>) {
    let shown = filter.to_string();
    let again = Filter::parse(&shown, now);
    assert_eq!(again.as_ref(), Ok(filter), "{text:?} became {shown:?}");
    for dialect in [Dialect::Sqlite, Dialect::Mysql] {
        let (sql, params) = filter.to_sql(dialect);
        assert_eq!(sql.matches('?').count(), params.len(), "{sql}");
        assert!(sql.is_ascii() && !sql.contains(['"', ';', '#']), "{sql}");
    }
    let mut row = Row::new(&Record::default(), EntryHash::of(b""), &Origin::default(), None);
    row.host = Some(text.to_owned());
    row.uri = Some(text.to_owned());
    let is_meant = filter.matches(&row);
    // One more parenthesis may be one too many.
    if let Ok(negated) = Filter::parse(&format!("-({shown})"), now) {
        assert!(filter.is_all() || negated.matches(&row) != is_meant, "{shown:?}");
    }
}

//! Lines of an index: no path leads out of the storage directory, no stranger moves a field.
#![no_main]

use std::path::Component;

use libfuzzer_sys::fuzz_target;
use modsec_core::format::Dialect;
use modsec_core::index_line::IndexLine;

const TAILS: [&str; 2] = [
    " /u/20261122/20261122-1436/20261122-143639-a 0 7 md5:00000000000000000000000000000001 \n",
    " /srv/audit//20261122/20261122-1436/20261122-143639-1.2 0 7.000000 md5:00000000000000000000000000000001\n",
];

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    for tail in TAILS {
        let line = [bytes, tail.as_bytes()].concat();
        let read = check(&line).expect("the right end is the engine's");
        assert_eq!((read.size, u128::from_be_bytes(read.md5)), (7, 1));
        assert!(
            tail.contains(&*String::from_utf8_lossy(read.path)),
            "the path is the engine's"
        );
        assert!(read.location().is_some());
    }
    // A request line as ModSecurity 2 escapes it.
    let mut request = String::new();
    for byte in bytes {
        match byte {
            b'"' | b'\\' => request.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => request.push(char::from(*byte)),
            _ => request.push_str(&format!("\\x{byte:02x}")),
        }
    }
    let line = format!(
        "www.example.test 192.0.2.7 - - [22/Nov/2026:14:36:39.026716 +0300] \"{request}\" 403 199 \"-\" \"-\" a \"-\"{}",
        TAILS[0]
    );
    let read = check(line.as_bytes()).expect("an index line");
    let transaction = read.transaction().expect("a line of ModSecurity 2");
    assert_eq!(transaction.client.to_string(), "192.0.2.7");
    assert_eq!(transaction.status, 403);
});

fn check(line: &[u8]) -> Option<IndexLine<'_>> {
    let read = IndexLine::parse(line)?;
    assert!(read.path.starts_with(b"/"));
    assert!(line.windows(read.path.len()).any(|part| part == read.path));
    let transaction = read.transaction();
    assert!(transaction.is_none() || read.dialect == Dialect::V2);
    assert!(transaction.is_none_or(|transaction| (100..1000).contains(&transaction.status)));
    if let Some(location) = read.location() {
        let mut names = location.file.components();
        assert!(
            names.all(|name| matches!(name, Component::Normal(_))),
            "{location:?}"
        );
        assert!((3..=4).contains(&location.file.components().count()));
        assert_eq!(
            location.storage_dir.is_some(),
            read.dialect == Dialect::V3
        );
        let root = location
            .storage_dir
            .map(|root| root.is_absolute() && !root.ends_with(".."));
        assert!(root.unwrap_or(true));
    }
    Some(read)
}

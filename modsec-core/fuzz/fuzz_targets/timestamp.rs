//! Times: what is read is written the same, offset included.
#![no_main]

use chrono::Datelike as _;
use libfuzzer_sys::fuzz_target;
use modsec_core::format::fuzzing::{time, wall_clock};
use modsec_core_fuzz::time_text;

fuzz_target!(|bytes: &[u8]| {
    if let Some(read) = time(bytes) {
        assert!((0..=9999).contains(&read.year()));
        let written = time_text(&read);
        let again = time(written.as_bytes());
        let again = again.unwrap_or_else(|| panic!("{written:?} is no time"));
        assert_eq!(
            (again, again.offset()),
            (read, read.offset()),
            "{written:?}"
        );
    }
    if let Some(read) = wall_clock(bytes) {
        let written = read.format("%Y/%m/%d %H:%M:%S%.6f").to_string();
        let written = written.strip_suffix(".000000").unwrap_or(&written);
        assert_eq!(wall_clock(written.as_bytes()), Some(read), "{written:?}");
    }
});

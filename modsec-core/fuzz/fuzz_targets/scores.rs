//! Messages of rules, one a line: scores come from the beginning of a message only.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modsec_core::format::fuzzing::scores;
use modsec_core::record::{Alert, AnomalyScores};

fn alert(msg: &[u8], verified: Option<bool>) -> Alert<'_> {
    let mut alert = Alert::default();
    alert.msg = Some(msg.into());
    alert.verified = verified;
    alert
}

fuzz_target!(|bytes: &[u8]| {
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let trusted: Vec<_> = lines.iter().map(|line| alert(line, None)).collect();
    let all = scores(&trusted);
    let doubtful: Vec<_> = lines.iter().map(|line| alert(line, Some(false))).collect();
    assert_eq!(scores(&doubtful), AnomalyScores::default());

    for line in &lines {
        let one = scores(&[alert(line, None)]);
        for score in [one.inbound, one.sqli, one.xss].into_iter().flatten() {
            let digits = score.to_string();
            assert!(contains(line, digits.as_bytes()), "{score} is not invented");
        }
        let inbound = line.starts_with(b"Inbound Anomaly Score")
            || line.starts_with(b"Anomaly Scores: (Inbound");
        assert!(inbound || one == AnomalyScores::default());
        if one != AnomalyScores::default() {
            let longer = [
                *line,
                b" (Total Inbound Score: 77 - SQLI=77,XSS=77) - (SQLI=77, XSS=77)",
            ]
            .concat();
            assert_eq!(
                scores(&[alert(&longer, None)]),
                one,
                "what follows changes nothing"
            );
        }
    }
    let each = |get: fn(AnomalyScores) -> Option<i64>| {
        let mut scores = lines.iter().map(|line| get(scores(&[alert(line, None)])));
        get(all).is_none_or(|score| scores.any(|one| one == Some(score)))
    };
    assert!(
        each(|scores| scores.inbound) && each(|scores| scores.sqli) && each(|scores| scores.xss)
    );
});

fn contains(line: &[u8], digits: &[u8]) -> bool {
    // Leading zeros and a sign are allowed for.
    let digits = digits.strip_prefix(b"-").unwrap_or(digits);
    line.windows(digits.len()).any(|window| window == digits)
}

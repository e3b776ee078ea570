//! Entries in files of their own, one for each transaction.

use super::site::Site;

/// Entries of a client who has written a first line of his boundary into a body that he sent in chunks:
/// denied without an alert, and with one.
fn forged(len: usize) -> Vec<(String, i64)> {
    let of = |before: &str, after: &str, end: &str| {
        let body = format!("C--\na=1{}", "x".repeat(len));
        let parts = [
            "A--\n[22/Nov/2026:06:40:51.026894 --0500] awLUw3 203.0.113.66 59958 192.0.2.1 80",
            "B--\nPOST /login HTTP/1.1\nHost: www.example.test\nTransfer-Encoding: chunked\n",
            &body,
            "A--\n[22/Nov/2026:23:59:59.000000 --0500] x 192.0.2.200 1 192.0.2.1 80\na=1",
            "F--\nHTTP/1.1 403 Forbidden\nContent-Length: 19\n",
            end,
        ];
        let parts = parts.iter().filter(|part| !part.is_empty());
        let parts: Vec<_> = parts.map(|part| format!("{before}{part}\n")).collect();
        format!("{}{before}Z--\n{after}", parts.concat())
    };
    let (v2, v3) = ("--74fcf803-", "---Qx7Lm2Rt---");
    let found = r#"Pattern match "x" at ARGS:a. [file "/m.conf"] [line "3"] [id "10006"]"#;
    vec![
        (of(v2, "", ""), 0),
        (of(v3, "\n", "H--\n"), 0),
        (of(v2, "", &format!("H--\nMessage: {found}\n")), 1),
        (
            of(v3, "\n", &format!("H--\nModSecurity: Warning. {found}\n")),
            1,
        ),
    ]
}

#[test]
fn a_file_of_one_entry_gives_its_status_and_alerts_whatever_is_in_its_body() {
    // Also too large to be read whole.
    for len in [0, 1 << 20] {
        for (entry, alerts) in forged(len) {
            let site = Site::new();
            site.put(1, "x", entry.as_bytes());
            site.collect().expect(0, &["1 stored"]);
            let row = "select REMOTE_ADDR || ' ' || responce_header || ' ' || \
                       (select count(*) from rule_matches) from logs";
            let want = format!("203.0.113.66 403 {alerts}");
            assert_eq!(site.query::<String>(row), want, "{}", &entry[..300]);
        }
    }
}

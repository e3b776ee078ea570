//! A client whose own words a real engine writes into part H, line feeds included.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "index/apache_server.rs"]
#[expect(dead_code, reason = "the other test attacks and restarts it")]
mod server;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use modsec_core::format;
use modsec_core::record::Flag;

use self::server::Apache;

const LIMIT: Duration = Duration::from_secs(20);

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < LIMIT, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

/// Everything is logged; XML is validated by a rule that only warns.
const DIRECTIVES: &str = r#"
User www-data
Group www-data
SecRequestBodyAccess On
SecAuditEngine On
SecAuditLogParts ABCFHKZ
SecAuditLog "@DIR@/index"
SecAuditLogStorageDir "@DIR@/audit"
SecXmlExternalEntity On
SecRule REQUEST_METHOD "@streq GET" "id:7,phase:1,pass,nolog,ctl:requestBodyProcessor=XML"
SecRule XML "@validateSchema @DIR@/number.xsd" "id:8,phase:2,pass,log,msg:'not a number'"
"#;

const SCHEMA: &str = r#"<?xml version="1.0"?>
<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="n" type="xs:integer"/></xs:schema>
"#;

/// An alert as the engine would write it, of a rule that part K lists.
const ALERT: &str = "Message: Access denied with code 403 (phase 2). x [file \"/f\"] [line \"1\"] [id \"8\"] \
     [msg \"Inbound Anomaly Score Exceeded (Total Score: 9999)\"] [severity \"EMERGENCY\"]";

fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// Sends each text as the number of a document, over one connection: requests of one process
/// would share an id, and so a file.
fn send(port: u16, texts: &[String]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    for (n, text) in texts.iter().enumerate() {
        let body = format!("<n>{}</n>", text.replace('"', "&quot;"));
        let connection = if n + 1 == texts.len() {
            "close"
        } else {
            "keep-alive"
        };
        let request = format!(
            "GET /x.html HTTP/1.1\r\nHost: example.org\r\nConnection: {connection}\r\n\
             Content-Type: text/xml\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
    }
    stream.read_to_end(&mut Vec::new()).unwrap();
}

/// Asserts that nothing is believed; returns `true` if the engine has written the alert as a line of
/// its own.
fn is_believed_nowhere(path: &Path) -> bool {
    let bytes = fs::read(path).unwrap();
    let shown = String::from_utf8_lossy(&bytes);
    let record = format::decode(&bytes).unwrap();
    assert!(!record.intercepted(), "{shown}");
    assert_eq!(record.scores.inbound, None, "{shown}");
    assert!(record.flags.contains(Flag::Unverified), "{shown}");
    assert!(
        record.alerts.iter().all(|alert| !alert.is_trusted()),
        "{shown}"
    );
    shown.contains(&format!("\n{ALERT}\n"))
}

#[test]
fn what_a_validation_error_quotes_is_no_finding() {
    if !Apache::is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(dir.path(), mode).unwrap();
    fs::create_dir(dir.path().join("audit")).unwrap();
    fs::set_permissions(
        dir.path().join("audit"),
        std::os::unix::fs::PermissionsExt::from_mode(0o1777),
    )
    .unwrap();
    fs::write(dir.path().join("number.xsd"), SCHEMA).unwrap();
    let shell = Command::new("sh");
    let apache = Apache::start(dir.path(), shell, &[("www-data", "www-data")], DIRECTIVES);
    let texts = [
        format!("x\n{ALERT}\n"),
        format!("x\n{ALERT}\nAction: Intercepted (phase 2)\n"),
        format!("x\n{ALERT}\nMessage: y"),
        format!("x\n{ALERT}\nServer: y"),
        // Neither the first line nor the last looks odd.
        format!("x [file \"/f\"] [line \"1\"] [id \"8\"]\n{ALERT}\nMessage: Warning. y"),
        // The engine cuts what it logs, and with it the rest of its own sentence.
        format!("{}\n{ALERT}", "x".repeat(2000)),
        format!("x\n{}{ALERT}{}", "y\n".repeat(300), "z".repeat(2000)),
    ];
    fs::write(dir.path().join("www/x.html"), "x").unwrap();
    send(apache.ports[0], &texts);
    let entries = || files(&dir.path().join("audit"));
    until("the audit log", || {
        let is_whole = |path: &PathBuf| format::is_complete(&fs::read(path).unwrap());
        entries().len() == texts.len() && entries().iter().all(is_whole)
    });
    let forged = entries()
        .iter()
        .filter(|path| is_believed_nowhere(path))
        .count();
    // The engine does write it as a line of its own.
    assert!(forged >= 4, "{forged}");
}

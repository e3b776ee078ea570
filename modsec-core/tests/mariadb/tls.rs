//! Encrypted connections, and certificates that do not fit.

use std::path::Path;
use std::process::{Command, Stdio};

use modsec_core::StoreError;
use mysql_async::prelude::Queryable as _;

use super::server::which;
use super::{Database, Server, open_url, run};

/// Makes an authority, and a certificate of it for 127.0.0.1.
const CERTIFICATES: &str = "
    set -e
    new='openssl req -newkey rsa:2048 -nodes'
    $new -x509 -days 2 -subj /CN=authority -keyout ca.key -out ca.pem
    $new -x509 -days 2 -subj /CN=stranger -keyout stranger.key -out stranger.pem
    $new -subj /CN=server -keyout server.key -out server.csr
    printf 'subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:false\n' > extensions
    openssl x509 -req -days 2 -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial \
        -extfile extensions -out server.pem
    chmod 644 *.key
";

fn certificates(dir: &Path) {
    let made = Command::new("sh")
        .args(["-c", CERTIFICATES])
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
}

#[test]
fn encrypted_connection_checks_the_certificate() {
    run(async {
        if which("openssl").is_none() {
            eprintln!("skipped: the package openssl is not installed");
            return;
        }
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        certificates(dir.path());
        // The server's account must get at the files.
        let chmod = Command::new("chmod")
            .arg("755")
            .arg(dir.path())
            .status()
            .unwrap();
        assert!(chmod.success());
        let file = |name: &str| dir.path().join(name).display().to_string();
        let (cert, key) = (file("server.pem"), file("server.key"));
        let arguments = [format!("--ssl-cert={cert}"), format!("--ssl-key={key}")];
        let Some(server) = Server::start(&arguments.each_ref().map(String::as_str)).await else {
            return;
        };
        let db = Database::on(&server.url()).await;
        let mut admin = server.admin().await;
        admin
            .query_drop("create user strict identified by 'secret' require ssl")
            .await
            .unwrap();
        admin
            .query_drop(format!("grant all on {}.* to strict", db.name))
            .await
            .unwrap();
        let url = db.url().replace("modsec:", "strict:");

        let (ca, stranger) = (file("ca.pem"), file("stranger.pem"));
        let by_name = url.replace("127.0.0.1", "localhost");
        for (url, works) in [
            (format!("{url}?ssl-ca={ca}"), true),
            (format!("{url}?ssl-mode=required"), true),
            (format!("{url}?ssl-mode=verify-ca&ssl-ca={ca}"), true),
            (format!("{by_name}?ssl-mode=verify-ca&ssl-ca={ca}"), false),
            (format!("{by_name}?ssl-ca={ca}"), false),
            (format!("{url}?ssl-ca={stranger}"), false),
            (format!("{url}?ssl-mode=verify-ca&ssl-ca={stranger}"), false),
            (format!("{url}?ssl-mode=verify-identity"), false),
            (format!("{url}?ssl-mode=disabled"), false),
            (url.clone(), false),
        ] {
            match open_url(&url).await {
                Ok(_) => assert!(works, "{url} must not work"),
                Err(error) => {
                    let configuration = matches!(error, StoreError::Configuration { .. });
                    assert!(!works && configuration, "{url}: {error}: {error:?}");
                }
            }
        }
    });
}

//! Encrypted connections, certificates that do not fit, and servers on other hosts.

use std::path::Path;
use std::process::{Command, Stdio};

use modsec_core::StoreError;
use mysql_async::prelude::Queryable as _;

use super::server::which;
use super::{Database, Server, open_url, run};
use modsec_core::store::{StoreOptions, open};

/// Makes an authority, and a certificate of it for 127.0.0.1 and 192.0.2.1.
const CERTIFICATES: &str = "
    set -e
    new='openssl req -newkey rsa:2048 -nodes'
    $new -x509 -days 2 -subj /CN=authority -keyout ca.key -out ca.pem
    $new -x509 -days 2 -subj /CN=stranger -keyout stranger.key -out stranger.pem
    $new -subj /CN=server -keyout server.key -out server.csr
    printf 'subjectAltName=IP:127.0.0.1,IP:192.0.2.1\nbasicConstraints=CA:false\n' > extensions
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

/// Set in the process that runs in a network of its own.
const INSIDE: &str = "MODSEC_TEST_OWN_NETWORK";

/// Runs the test `name` again in a network namespace with the addresses 192.0.2.1 and 192.0.2.2.
/// Returns `true` in there; outside it asserts that the test was passed.
fn in_own_network(name: &str) -> bool {
    const NETWORK: &str = "
        ip link set lo up && ip addr add 192.0.2.1/32 dev lo && ip addr add 192.0.2.2/32 dev lo &&
        exec \"$0\" --exact \"$1\" --nocapture
    ";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let may = Command::new("unshare").args(["-n", "ip", "link"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: a network namespace needs root, and the package iproute2");
        return false;
    }
    let inside = Command::new("unshare")
        .args(["-n", "sh", "-c", NETWORK])
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env(INSIDE, "yes")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inside.stdout);
    let errors = String::from_utf8_lossy(&inside.stderr);
    assert!(inside.status.success(), "{said}{errors}");
    assert!(said.contains("1 passed"), "{said}{errors}");
    false
}

/// What opening a store on a server gave, and the words of the option file.
type Attempt<'a> = (String, &'a str, Result<(), &'a str>);

async fn attempt(dir: &Path, (url, file, want): Attempt<'_>) {
    let path = dir.join("my.cnf");
    std::fs::write(&path, format!("[client]\n{file}\n")).unwrap();
    let mut options = StoreOptions::new(url.clone());
    options.defaults_file = Some(path);
    let about = format!("{url} with {file:?}");
    match (open(&options).await, want) {
        (Ok(_), want) => assert_eq!(want, Ok(()), "{about} works"),
        (Err(error), Ok(())) => panic!("{about}: {error}: {error:?}"),
        (Err(error), Err(words)) => {
            let text = error.to_string();
            let lasts = matches!(error, StoreError::Configuration { .. });
            assert!(lasts && text.contains(words), "{about}: {text}");
        }
    }
}

/// Starts a server with a certificate, and an account that must use it; `None` without a server.
async fn server_with_tls(dir: &Path) -> Option<(Server, Database)> {
    certificates(dir);
    let open_dir = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir, open_dir).unwrap();
    let file = |name: &str| dir.join(name).display().to_string();
    let tls = [
        "--bind-address=0.0.0.0".to_owned(),
        format!("--ssl-cert={}", file("server.pem")),
        format!("--ssl-key={}", file("server.key")),
    ];
    let server = Server::start(&tls.each_ref().map(String::as_str)).await?;
    let db = Database::on(&server.url()).await;
    let mut admin = server.admin().await;
    let strict = "create user strict identified by 'secret' require ssl";
    admin.query_drop(strict).await.unwrap();
    let grant = format!("grant all on {}.* to strict", db.name);
    admin.query_drop(grant).await.unwrap();
    Some((server, db))
}

#[test]
fn a_server_on_another_host_must_prove_who_it_is_unless_told_otherwise() {
    const NAME: &str =
        "mariadb::tls::a_server_on_another_host_must_prove_who_it_is_unless_told_otherwise";
    if which("openssl").is_none() || !in_own_network(NAME) {
        return;
    }
    run(async {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let file = |name: &str| dir.path().join(name).display().to_string();
        let Some((_server, db)) = server_with_tls(dir.path()).await else {
            return;
        };
        let here = db.url();
        let plain = here.replace("127.0.0.1", "192.0.2.1");
        // Only an encrypted connection gets in.
        let strict = plain.replace("modsec:", "strict:");
        let other = strict.replace("192.0.2.1", "192.0.2.2");
        let (ca, stranger, key) = (file("ca.pem"), file("stranger.pem"), file("server.key"));
        let ca_file = format!("ssl-ca={ca}");
        let preferred = format!("ssl-mode=PREFERRED\nssl-ca={ca}");
        let maria = format!("ssl\nssl-verify-server-cert\nssl-ca={ca}");
        let weak = format!("skip-ssl\nssl-ca={ca}");
        let untrusted = Err("of no authority that is trusted; name the authority's certificate");
        let misnamed = Err("is for another name; connect to the name that is in it");
        for case in [
            (here.clone(), "", Ok(())),
            (plain.clone(), "", untrusted),
            (plain.clone(), "ssl-mode=PREFERRED", untrusted),
            (plain.clone(), "ssl", untrusted),
            (plain.clone(), "ssl-mode=DISABLED", Ok(())),
            (plain.clone(), "skip-ssl", Ok(())),
            (strict.clone(), "ssl-mode=DISABLED", Err("user or password")),
            (strict.clone(), "ssl-mode=REQUIRED", Ok(())),
            (strict.clone(), "ssl-verify-server-cert=0", Ok(())),
            (strict.clone(), &ca_file, Ok(())),
            (strict.clone(), &preferred, Ok(())),
            (strict.clone(), &maria, Ok(())),
            (format!("{strict}?ssl-mode=verify_identity"), &weak, Ok(())),
            (format!("{strict}?ssl-ca={ca}"), "", Ok(())),
            (format!("{strict}?ssl-ca={stranger}"), "", untrusted),
            (format!("{strict}?ssl-ca={stranger}"), &ca_file, untrusted),
            (
                format!("{strict}?ssl-ca={key}"),
                "",
                Err("has no certificate in it"),
            ),
            (
                format!("{strict}?ssl-ca={ca}-"),
                "",
                Err("cannot be read, name another"),
            ),
            (other.clone(), &ca_file, misnamed),
            (format!("{other}?ssl-mode=verify_ca"), &ca_file, misnamed),
            (format!("{other}?ssl-mode=required"), "", Ok(())),
        ] {
            attempt(dir.path(), case).await;
        }
    });
}

#[test]
fn a_server_on_another_host_without_tls_gets_nothing_unless_told_so() {
    const NAME: &str =
        "mariadb::tls::a_server_on_another_host_without_tls_gets_nothing_unless_told_so";
    if !in_own_network(NAME) {
        return;
    }
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let arguments = ["--bind-address=0.0.0.0", "--skip-ssl"];
        let Some(server) = Server::start(&arguments).await else {
            return;
        };
        let db = Database::on(&server.url()).await;
        let plain = db.url().replace("127.0.0.1", "192.0.2.1");
        let refused = Err("does not offer TLS, and rows have passwords in them; set TLS up there");
        for case in [
            (plain.clone(), "", refused),
            (plain.clone(), "ssl-mode=PREFERRED", refused),
            (plain.clone(), "ssl-mode=REQUIRED", refused),
            (format!("{plain}?ssl-mode=disabled"), "", Ok(())),
            (db.url(), "", Ok(())),
        ] {
            attempt(dir.path(), case).await;
        }
    });
}

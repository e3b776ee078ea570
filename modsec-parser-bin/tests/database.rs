//! The real program and a database server that does not let it do everything.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../modsec-core/tests/mariadb/server.rs"]
#[expect(dead_code, reason = "one server is enough here")]
mod server;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use mysql_async::prelude::Queryable as _;

use self::server::Server;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// A log of 82 entries.
fn log() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../modsec-core/tests/data/serial/v2-native-serial/modsec_audit.log")
}

/// A server with an account that may neither create nor alter tables of its database, `a-b`.
fn restricted() -> Option<Server> {
    runtime().block_on(async {
        let server = Server::start(&[]).await?;
        let mut admin = server.admin().await;
        for statement in [
            "create database `a-b`",
            "create user small identified by 'secret'",
            "grant select, insert, update, delete on `a-b`.* to small",
        ] {
            admin.query_drop(statement).await.unwrap();
        }
        admin.disconnect().await.unwrap();
        Some(server)
    })
}

fn parse(server: &Server, dir: &Path, arguments: &[&str]) -> Output {
    let url = server.url().replace("modsec:", "small:") + "/a-b";
    Command::new(env!("CARGO_BIN_EXE_modsec-parser"))
        .env_clear()
        .env("HOME", dir)
        .env("STATE_DIRECTORY", dir.join("state"))
        .env("MODSEC_STORE", url)
        .args(arguments)
        .arg("--merged-log")
        .arg(dir.join("merged.log"))
        .arg(log())
        .current_dir(dir)
        .output()
        .unwrap()
}

/// Pipes statements into the server's own client, without naming a database.
fn administer(server: &Server, statements: &str) {
    let mut client = Command::new("mariadb")
        .args(["--no-defaults", "--user=root", "--socket"])
        .arg(server.socket())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = client.stdin.take().unwrap();
    input.write_all(statements.as_bytes()).unwrap();
    drop(input);
    assert!(client.wait().unwrap().success(), "{statements}");
}

#[test]
fn administrator_can_pipe_the_statements_of_the_message() {
    let Some(server) = restricted() else { return };
    let dir = tempfile::tempdir().unwrap();

    let denied = parse(&server, dir.path(), &[]);
    assert_eq!(denied.status.code(), Some(1), "{denied:?}");
    let said = String::from_utf8(denied.stderr).unwrap();
    let (message, statements) = said.split_once("\n\n").unwrap();
    let reason = "ERROR 1142 (42000): CREATE command denied";
    assert_eq!(said.matches(reason).count(), 1, "{said}");
    assert!(
        message.contains(reason) && !message.contains('\n'),
        "{said}"
    );
    assert!(
        statements.starts_with("use `a-b`;\ncreate table "),
        "{said}"
    );
    assert!(
        statements.ends_with(";\n") && !statements.contains('\\'),
        "{said}"
    );

    administer(&server, statements);
    let done = parse(&server, dir.path(), &[]);
    let said = String::from_utf8(done.stdout.clone()).unwrap();
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(said.starts_with("82 entries, 82 stored"), "{said}");
}

#[test]
fn statements_are_one_record_of_a_json_log() {
    let Some(server) = restricted() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("program.log");
    let arguments = ["--log-format", "json", "--log-file", "program.log"];
    let denied = parse(&server, dir.path(), &arguments);
    assert_eq!(denied.status.code(), Some(1), "{denied:?}");

    let log = fs::read_to_string(file).unwrap();
    let records: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let statements: Vec<&str> = records
        .iter()
        .filter_map(|record| record["statements"].as_str())
        .collect();
    let [statements] = statements[..] else {
        panic!("{log}");
    };
    administer(&server, statements);
    let done = parse(&server, dir.path(), &arguments);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
}

#[test]
fn checking_and_rehearsing_ask_the_server_and_change_nothing() {
    let Some(server) = restricted() else { return };
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("wrong.cnf"), "[client]\npassword=wrong\n").unwrap();
    fs::write(dir.path().join("right.cnf"), "[client]\npassword=secret\n").unwrap();
    let place = server.url();
    let (_, place) = place.split_once('@').unwrap();
    let run = |database: &str, more: &[&str]| {
        let url = format!("mysql://modsec@{place}/{database}");
        let output = Command::new(env!("CARGO_BIN_EXE_modsec-parser"))
            .env_clear()
            .env("HOME", dir.path())
            .env("MODSEC_CONFIG", "none")
            .args(["--store", &url])
            .args(more)
            .arg(log())
            .current_dir(dir.path())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let (right, wrong) = (
        ["--defaults-file", "right.cnf"],
        ["--defaults-file", "wrong.cnf"],
    );
    for (database, option_file, want) in [
        ("a-b", wrong, "user or password are not those of an account"),
        ("none", right, "there is no such database"),
        (
            "a-b",
            ["--defaults-file", "no.cnf"],
            "cannot read the option file no.cnf",
        ),
    ] {
        for mode in ["--check-config", "--dry-run"] {
            let (code, _, err) = run(database, &[&option_file[..], &[mode]].concat());
            assert_eq!(code, Some(1), "{want} {mode}: {err}");
            assert!(err.contains(want), "{want} {mode}: {err}");
        }
    }
    let tables = || {
        runtime().block_on(async {
            let mut admin = server.admin().await;
            let count = "select count(*) from information_schema.tables where table_schema = 'a-b'";
            let found: Option<u32> = admin.query_first(count).await.unwrap();
            admin.disconnect().await.unwrap();
            found.unwrap()
        })
    };
    let rehearsal = [&right[..], &["--dry-run"]].concat();
    let check = [&right[..], &["--check-config"]].concat();
    let (code, out, err) = run("a-b", &rehearsal);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("82 would be stored, 0 already known"), "{out}");
    let (code, out, err) = run("a-b", &check);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("the first run makes the tables"), "{out}");
    assert_eq!(tables(), 0);
    assert_eq!(run("a-b", &right).0, Some(0));
    let (code, out, err) = run("a-b", &rehearsal);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("0 would be stored, 82 already known"), "{out}");
    let (code, out, _) = run("a-b", &check);
    assert_eq!(code, Some(0));
    assert!(!out.contains("note:"), "{out}");
}

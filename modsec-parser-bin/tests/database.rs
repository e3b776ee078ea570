//! The real program and a database server that does not let it do everything.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../modsec-core/tests/mariadb/server.rs"]
#[expect(dead_code, reason = "one server is enough here")]
mod server;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use rustix::process::{Pid, Signal, kill_process};

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

/// Waits until the server says that a statement of another account waits in this state.
async fn waiting(admin: &mut Conn, state: &str) {
    let query = format!(
        "select count(*) from information_schema.processlist
         where user = 'modsec' and state like '{state}'"
    );
    let since = std::time::Instant::now();
    while admin.query_first(&query).await.unwrap() != Some(1_u32) {
        assert!(since.elapsed().as_secs() < 60, "waited in vain for {state}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Waits until the server has nothing of another account any more.
async fn gone(admin: &mut Conn) {
    let query = "select count(*) from information_schema.processlist where user = 'modsec'";
    let since = std::time::Instant::now();
    while admin.query_first(query).await.unwrap() != Some(0_u32) {
        assert!(since.elapsed().as_secs() < 60, "waited in vain");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[test]
fn a_lock_of_another_client_is_no_reason_not_to_end() {
    runtime().block_on(async {
        let Some(server) = Server::start(&[]).await else {
            return;
        };
        let mut admin = server.admin().await;
        admin.query_drop("create database waf").await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let run = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_modsec-parser"));
            command
                .env_clear()
                .env("HOME", dir.path())
                .env("MODSEC_CONFIG", "none")
                .env("MODSEC_STORE", server.url() + "/waf")
                .args(["--merged-log", "merged.log"])
                .arg(log())
                .current_dir(dir.path());
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command
        };
        fs::write(dir.path().join("nothing"), "").unwrap();
        let made = run().arg("--check-config").output().unwrap();
        assert_eq!(made.status.code(), Some(0), "{made:?}");
        let mut other = server.admin().await;
        other.query_drop("use waf").await.unwrap();
        // One entry, so that there are tables and a row.
        let text = String::from_utf8_lossy(&fs::read(log()).unwrap()).into_owned();
        let end = text.find("-Z--").unwrap() + 5;
        fs::write(dir.path().join("first"), &text[..end]).unwrap();
        let first = run().arg("first").output().unwrap();
        assert_eq!(first.status.code(), Some(0), "{first:?}");
        for statement in ["delete from logs", "delete from modsec_batches"] {
            other.query_drop(statement).await.unwrap();
        }
        fs::remove_file(dir.path().join("merged.log")).unwrap();
        for (lock, unlock, state) in [
            (
                "lock tables logs write",
                "unlock tables",
                "Waiting for table%",
            ),
            (
                "flush tables with read lock",
                "unlock tables",
                "Waiting for%",
            ),
            (
                // The next key of an index that every new row goes into.
                "begin; select * from logs for update",
                "rollback",
                "Update",
            ),
        ] {
            for statement in lock.split("; ") {
                other.query_drop(statement).await.unwrap();
            }
            for (signal, status) in [(Signal::TERM, 143), (Signal::INT, 130)] {
                let child = run().spawn().unwrap();
                waiting(&mut admin, state).await;
                kill_process(Pid::from_child(&child), signal).unwrap();
                let out = child.wait_with_output().unwrap();
                let said = String::from_utf8_lossy(&out.stderr).into_owned();
                assert_eq!(out.status.code(), Some(status), "{lock}: {said}");
                assert!(said.contains("interrupted: "), "{lock}: {said}");
                // Its statement ends with the lock, or with this.
                let kill = "select id from information_schema.processlist where user = 'modsec'";
                let ids: Vec<u64> = admin.query(kill).await.unwrap();
                for id in ids {
                    let _ = admin.query_drop(format!("kill {id}")).await;
                }
                // The next program must not be taken for this one's statement.
                gone(&mut admin).await;
            }
            other.query_drop(unlock).await.unwrap();
        }
        let done = run().output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert_eq!(done.status.code(), Some(0), "{said}");
        assert!(said.starts_with("82 entries, 82 stored"), "{said}");
        let rows: Option<u32> = other
            .query_first("select count(*) from logs")
            .await
            .unwrap();
        assert_eq!(rows, Some(82));
        let merged = fs::read(dir.path().join("merged.log")).unwrap();
        let first_lines = merged.windows(5).filter(|text| text == b"-A--\n");
        assert_eq!(first_lines.count(), 82);
        drop(other);
    });
}

/// What `--check-config`, a rehearsal and then a run end with, and what each says.
fn check_and_run(dir: &Path, url: &str) -> [(Option<i32>, String); 3] {
    let _ = fs::remove_file(dir.join("merged.log"));
    [&["--check-config"][..], &["--dry-run"], &[]].map(|more| {
        let output = Command::new(env!("CARGO_BIN_EXE_modsec-parser"))
            .env_clear()
            .env("HOME", dir)
            .env("MODSEC_CONFIG", "none")
            .env("MODSEC_STORE", url)
            .args(["--merged-log", "merged.log"])
            .args(more)
            .arg(log())
            .current_dir(dir)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    })
}

#[test]
fn checking_finds_out_which_rights_are_missing() {
    let rights = "select, insert, update, delete";
    runtime().block_on(async {
        let Some(server) = Server::start(&[]).await else {
            return;
        };
        let mut admin = server.admin().await;
        let dir = tempfile::tempdir().unwrap();
        let mut number = 0;
        for (have_tables, granted, denied) in [
            (true, "select", "INSERT command denied"),
            (true, "select, insert", "DELETE command denied"),
            (true, rights, ""),
            (false, "select", "CREATE command denied"),
            (false, rights, "CREATE command denied"),
            (false, &format!("{rights}, create"), "ALTER command denied"),
            (false, &format!("{rights}, create, alter"), ""),
            (
                false,
                "select, create, alter, index, references",
                "INSERT command denied",
            ),
            (
                false,
                &format!("{rights}, create, alter, index, references"),
                "",
            ),
        ] {
            number += 1;
            let (database, account) = (format!("d{number}"), format!("a{number}"));
            for statement in [
                format!("create database {database}"),
                format!("create user {account} identified by 'secret'"),
                format!("grant {granted} on {database}.* to {account}"),
            ] {
                admin.query_drop(statement).await.unwrap();
            }
            if have_tables {
                let url = server.url() + "/" + &database;
                let [.., (code, said)] = check_and_run(dir.path(), &url);
                assert_eq!(code, Some(0), "{said}");
                for table in ["logs", "rule_matches"] {
                    admin
                        .query_drop(format!("delete from {database}.{table}"))
                        .await
                        .unwrap();
                }
            }
            let tables = format!(
                "select count(*) from information_schema.tables where table_schema = '{database}'"
            );
            let before: Option<u32> = admin.query_first(&tables).await.unwrap();
            let url = server.url().replace("modsec:", &format!("{account}:")) + "/" + &database;
            let [check, rehearsal, run] = check_and_run(dir.path(), &url);
            let what = format!("{have_tables} {granted}: {check:?} {rehearsal:?} {run:?}");
            let code = Some(i32::from(!denied.is_empty()));
            assert_eq!((check.0, rehearsal.0, run.0), (code, code, code), "{what}");
            assert!(check.1.contains(denied), "{what}");
            assert!(rehearsal.1.contains(denied), "{what}");
            if denied.is_empty() {
                continue;
            }
            let after: Option<u32> = admin.query_first(&tables).await.unwrap();
            assert!(have_tables || after >= before, "{what}");
            // What an administrator is to run is said by both.
            let statements = |said: &str| said.contains(&format!("\nuse `{database}`;\n"));
            let is_known = !statements(&run.1) || statements(&check.1);
            assert!(is_known || denied.starts_with("INSERT"), "{what}");
        }
        // A replica, for an account with all rights on one of the databases.
        admin.query_drop("delete from d9.logs").await.unwrap();
        admin.query_drop("set global read_only = 1").await.unwrap();
        let url = server.url().replace("modsec:", "a9:") + "/d9";
        let [check, _, run] = check_and_run(dir.path(), &url);
        assert_eq!((check.0, run.0), (Some(1), Some(1)), "{check:?} {run:?}");
        assert!(check.1.contains("read-only option"), "{check:?}");
        admin.query_drop("set global read_only = 0").await.unwrap();
        admin.disconnect().await.unwrap();
    });
}

#[test]
fn a_table_of_another_program_is_named_in_a_line() {
    runtime().block_on(async {
        let Some(server) = Server::start(&[]).await else {
            return;
        };
        let mut admin = server.admin().await;
        for statement in [
            "create database other",
            "create table other.logs (id int primary key, line text)",
        ] {
            admin.query_drop(statement).await.unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let file = rusqlite::Connection::open(dir.path().join("x.db")).unwrap();
        file.execute_batch("create table logs (id integer primary key, line text)")
            .unwrap();
        drop(file);
        for url in [server.url() + "/other", "sqlite:x.db".to_owned()] {
            for (code, said) in check_and_run(dir.path(), &url) {
                assert_eq!(code, Some(1), "{said}");
                let want = "the table logs has no column REQUEST_METHOD and ";
                assert!(
                    said.contains(want) && said.contains("name another database"),
                    "{said}"
                );
                assert!(said.lines().count() == 1 && said.len() < 300, "{said}");
            }
        }
        let columns: Vec<String> = admin
            .query("select column_name from information_schema.columns where table_name = 'logs'")
            .await
            .unwrap();
        assert_eq!(columns, ["id", "line"]);
        admin.disconnect().await.unwrap();
    });
}

/// Debian's `root@localhost` logs in by who it is to the system, through the socket.
#[test]
fn an_account_of_the_system_logs_in_through_the_socket() {
    runtime().block_on(async {
        let Some(server) = Server::start(&[]).await else {
            return;
        };
        let name = Command::new("id").arg("-un").output().unwrap().stdout;
        let name = String::from_utf8(name).unwrap().trim().to_owned();
        let mut admin = server.admin().await;
        for statement in [
            "create database waf".to_owned(),
            "create user other@localhost identified via unix_socket".to_owned(),
            "grant all on waf.* to other@localhost".to_owned(),
            format!(
                "create or replace user `{name}`@localhost identified via mysql_native_password \
                     using 'invalid' or unix_socket"
            ),
            format!("grant all on *.* to `{name}`@localhost"),
        ] {
            admin.query_drop(statement).await.unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let socket = server.socket().display().to_string();
        for user in [format!("{name}@"), String::new()] {
            let url = format!("mysql://{user}localhost/waf?socket={socket}");
            for (code, said) in check_and_run(dir.path(), &url) {
                assert_eq!(code, Some(0), "{url}: {said}");
            }
        }
        let url = format!("mysql://other@localhost/waf?socket={socket}");
        for (code, said) in check_and_run(dir.path(), &url) {
            assert_eq!(code, Some(1), "{said}");
            let want = "an account with unix_socket logs in as the system's user of that name, \
                        through the socket";
            assert!(said.contains(want), "{said}");
        }
    });
}

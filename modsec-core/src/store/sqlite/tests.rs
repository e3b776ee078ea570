use super::*;
use crate::heartbeat::Heartbeat;
use crate::store::StoreOptions;

fn open_file(path: &std::path::Path) -> Result<SqliteStore, StoreError> {
    let url = format!("sqlite:{}", path.display());
    let options = StoreOptions {
        url,
        defaults_file: None,
    };
    runtime().block_on(open(&options, Heartbeat::default()))
}

/// Returns the database at `path`, with a connection that a test has prepared.
fn database(path: &std::path::Path, connection: Connection) -> Database {
    let (_, files) = Files::open(path, rusqlite::OpenFlags::default()).unwrap();
    Database::new("sqlite:test".to_owned(), connection, files)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

fn message(result: Result<SqliteStore, StoreError>) -> String {
    result.err().expect("must not open").to_string()
}

#[test]
fn missing_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("missing/logs.db");
    let text = message(open_file(&path));
    assert!(
        text.contains("missing/logs.db") && text.contains("directory does not exist"),
        "{text}"
    );
}

#[test]
fn file_that_is_no_database_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    let content = "shopping list\n".repeat(100);
    std::fs::write(&path, &content).unwrap();
    let text = message(open_file(&path));
    assert!(text.contains("not an SQLite database"), "{text}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
}

#[test]
fn directory_in_place_of_the_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let text = message(open_file(dir.path()));
    assert!(text.contains("cannot open"), "{text}");
}

#[test]
fn database_that_is_gone_with_the_process_is_refused() {
    for url in ["sqlite:", "sqlite::memory:", "sqlite://"] {
        let options = StoreOptions {
            url: url.to_owned(),
            defaults_file: None,
        };
        let text = message(runtime().block_on(open(&options, Heartbeat::default())));
        assert!(
            text.contains("not the path of a file"),
            "input {url:?}: {text}"
        );
    }
}

#[test]
fn newer_tables_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logs.db");
    drop(open_file(&path).unwrap());
    let connection = Connection::open(&path).unwrap();
    connection
        .execute("insert into modsec_migrations values (99, 'later')", [])
        .unwrap();
    let error = open_file(&path).err().unwrap();
    assert!(
        matches!(error, StoreError::SchemaTooNew { found: 99, .. }),
        "{error}"
    );
}

#[test]
fn tables_of_an_older_program_get_the_columns_that_they_lack() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logs.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(include_str!("../schema/sqlite-0001.sql"))
        .unwrap();
    let insert_as_before = format!(
        "insert into logs ({}) values ({})",
        LOG_COLUMNS[..26].join(", "),
        vec!["null"; 26].join(", ")
    );
    connection.execute_batch(&insert_as_before).unwrap();
    // One column was added before the program died.
    connection
        .execute_batch("alter table logs add column outcome text")
        .unwrap();
    for _ in 0..2 {
        let mut store = open_file(&path).unwrap();
        let batch = Batch::new(None, vec![crate::store::contract::row(0)]);
        runtime().block_on(store.insert(&batch)).unwrap();
    }
    // The older program goes on inserting.
    connection.execute_batch(&insert_as_before).unwrap();
    let outcomes: Vec<Option<String>> = connection
        .prepare("select outcome from logs order by id")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(outcomes, [None, Some("blocked".to_owned()), None]);
}

#[test]
fn table_of_somebody_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute("create table logs (line text)", [])
        .unwrap();
    let text = message(open_file(&path));
    assert!(text.contains("it is another program's"), "{text}");
    assert!(!connection.table_exists(None, "modsec_migrations").unwrap());
}

#[test]
fn full_disk_is_something_to_try_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logs.db");
    drop(open_file(&path).unwrap());
    let connection = Connection::open(&path).unwrap();
    // SQLite gives the error of a full disk at this limit, too.
    connection
        .execute_batch("pragma max_page_count = 20")
        .unwrap();
    let mut database = database(&path, connection);
    let mut row = crate::store::Row::new(
        &crate::Record::default(),
        EntryHash::of(b"a"),
        &crate::store::Origin::default(),
        None,
    );
    row.uri = Some("x".repeat(60_000));
    let rows: Vec<_> = (0..9u8)
        .map(|n| Row {
            entry_hash: EntryHash::of(&[n]),
            ..row.clone()
        })
        .collect();
    let batch = Batch {
        id: BatchId::of([]),
        journal: None,
        rows: rows.into(),
    };
    let error = database.insert(&batch).err().unwrap();
    assert!(
        error.is_unavailable() && error.to_string().contains("disk is full"),
        "{error}"
    );
    assert_eq!(database.known(&[EntryHash::of(&[0])]).unwrap().len(), 0);
}

#[test]
fn locked_database_is_something_to_try_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logs.db");
    drop(open_file(&path).unwrap());
    let other = Connection::open(&path).unwrap();
    other.execute_batch("begin immediate").unwrap();
    let connection = Connection::open(&path).unwrap();
    connection.busy_timeout(std::time::Duration::ZERO).unwrap();
    let mut database = database(&path, connection);
    let batch = Batch {
        id: BatchId::of([]),
        journal: Some("j".to_owned()),
        rows: Vec::new().into(),
    };
    let error = database.insert(&batch).err().unwrap();
    assert!(error.is_unavailable(), "{error}");
    other.execute_batch("rollback").unwrap();
    assert_eq!(database.insert(&batch).unwrap(), Inserted::default());
}

#[test]
fn deleted_entry_takes_its_matches_along_whoever_deletes_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logs.db");
    drop(open_file(&path).unwrap());
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "pragma foreign_keys = off;
             insert into logs (id) values (1), (2);
             insert into rule_matches (log_id, position) values (1, 0), (1, 1), (2, 0);
             delete from logs where id = 1",
        )
        .unwrap();
    let left: i64 = connection
        .query_row("select sum(log_id) from rule_matches", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 2);
}

#[test]
fn program_without_shared_texts_goes_on_inserting() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logs.db");
    drop(open_file(&path).unwrap());
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "insert into logs (id) values (1);
             insert into rule_matches (log_id, position, ruleId, msg, data, severity, file, line, rev,
                 ver, maturity, accuracy, tags, phase, verified, detail, kind, target, target_source,
                 points, points_for, points_source, paranoia_level, category)
             values (1, 0, '1', 'm', 'd', 'ERROR', 'f', 2, 'r', 'v', 3, 4, '[]', 2, 1, 'x',
                 'detection', 'ARGS', 'sentence', 5, 'inbound', 'rule', 1, 'sqli')",
        )
        .unwrap();
    let mut database = database(&path, connection);
    let batch = Batch::new(None, vec![crate::store::contract::row(0)]);
    assert_eq!(database.insert(&batch).unwrap(), Inserted::new(1, 0));
    let shown: Vec<String> = database
        .connection
        .prepare("select concat_ws(' ', ruleId, msg, detail, target, points) from modsec_alerts")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(shown[0], "1 m x ARGS 5");
    assert_eq!(shown.len(), 5);
    // Four alerts of as many rules.
    let rules = "select count(*) from modsec_rules where text_key is null";
    let rules: i64 = database
        .connection
        .query_row(rules, [], |row| row.get(0))
        .unwrap();
    assert_eq!(rules, 4);
}

/// The program of one commit knows `modsec_rules`, but not that a row of it may name another.
#[test]
fn program_that_shares_whole_alerts_goes_on_inserting() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logs.db");
    drop(open_file(&path).unwrap());
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "insert into logs (id) values (1);
             insert into modsec_rules (rule_key, ruleId, msg, detail, target)
             values (7, '1', 'm', 'Pattern match \"{target}\" at ARGS:q.', 'ARGS:q');
             insert into rule_matches (log_id, position, ruleId, rule_key) values (1, 0, '1', 7)",
        )
        .unwrap();
    let shown: String = connection
        .query_row(
            "select concat_ws(' ', ruleId, msg, detail, target) from modsec_alerts",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(shown, "1 m Pattern match \"{target}\" at ARGS:q. ARGS:q");
}

/// Each request of a scanner has a parameter of its own.
#[test]
fn names_that_a_client_chooses_cost_little() {
    const NAMES: usize = 300;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logs.db");
    drop(open_file(&path).unwrap());
    let mut database = database(&path, Connection::open(&path).unwrap());
    let details = |name: &str| {
        [
            format!("Pattern match \"(?i)union.{{1,100}}?select\" at {name}."),
            "detected SQLi using libinjection with fingerprint 's&1c'".to_owned(),
            format!("Found 9 byte(s) in {name} outside range: 1-255."),
            format!("Match of \"rx ^[a-z]$\" against \"{name}\" required."),
        ]
    };
    let rows: Vec<Row> = (0..NAMES)
        .map(|n| {
            let mut row = crate::store::contract::row(n);
            let name = format!("ARGS:x{:08x}", n * 7_654_321);
            for (rule, detail) in row.rule_matches.iter_mut().zip(details(&name)) {
                rule.target = Some(name.clone());
                rule.detail = Some(detail);
            }
            row
        })
        .collect();
    let batch = Batch::new(None, rows.clone());
    assert_eq!(database.insert(&batch).unwrap(), Inserted::new(NAMES, 0));
    let number = |sql: &str| {
        let number = database.connection.query_row(sql, [], |row| row.get(0));
        usize::try_from(number.unwrap_or(-1_i64)).unwrap()
    };
    // One for each rule, however many names.
    let texts = number("select count(*) from modsec_rules where msg is not null");
    assert_eq!(texts, 4);
    let bytes = number("select sum(payload) from dbstat where name = 'modsec_rules'");
    assert!(bytes / NAMES < 4 * 50, "{bytes} bytes for {NAMES} names");
    let shown: Vec<String> = database
        .connection
        .prepare("select detail from modsec_alerts order by log_id, position")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let rules = rows.iter().flat_map(|row| &row.rule_matches);
    assert!(
        rules
            .map(|rule| rule.detail.as_ref())
            .eq(shown.iter().map(Some))
    );
}

#[test]
fn tables_of_other_programs_are_named_before_anything_is_changed() {
    for (table, want) in [
        (
            "table modsec_rules (id integer, pattern text)",
            "the table modsec_rules has no column rule_key",
        ),
        (
            "table modsec_batches (id integer)",
            "the table modsec_batches has no column journal",
        ),
        (
            "table modsec_alerts (id integer)",
            "modsec_alerts is a table",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs.db");
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch(&format!("create {table}"))
            .unwrap();
        let before = std::fs::read(&path).unwrap();
        let text = message(open_file(&path));
        assert!(
            text.contains(want) && text.contains("another program's"),
            "{text}"
        );
        let name: i64 = connection
            .query_row("select count(*) from sqlite_schema", [], |row| row.get(0))
            .unwrap();
        assert_eq!(name, 1, "{table}");
        drop(connection);
        // Only the journal's mode is another one.
        assert_eq!(std::fs::read(&path).unwrap().len(), before.len(), "{table}");
    }
}

/// One instruction of SQLite's machine that works for minutes: no look at the clock is within it.
#[test]
fn who_asks_does_not_wait_for_what_sqlite_does_not_interrupt() {
    use std::time::{Duration, Instant};

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logs.db");
    drop(open_file(&path).unwrap());
    let options = StoreOptions::new(format!("sqlite:{}", path.display()));
    runtime().block_on(async {
        let mut reader = connect_to_read(&options).await.unwrap();
        let sql = "select instr(zeroblob(3000000), cast(zeroblob(1500000) || 'x' as blob))";
        let started = Instant::now();
        let deadline = Some(started + Duration::from_millis(200));
        let answer = reader.run(sql.to_owned(), Vec::new(), deadline).await;
        assert_eq!(answer.unwrap(), None);
        assert!(started.elapsed() < Duration::from_secs(20));
    });
}

#[test]
fn a_reader_is_told_nothing_about_writing() {
    use rusqlite::ffi::{self, Error};

    for code in [
        ffi::SQLITE_BUSY,
        ffi::SQLITE_FULL,
        ffi::SQLITE_IOERR,
        ffi::SQLITE_NOMEM,
        ffi::SQLITE_READONLY,
        ffi::SQLITE_PERM,
        ffi::SQLITE_CANTOPEN,
        ffi::SQLITE_NOTADB,
        ffi::SQLITE_CORRUPT,
        ffi::SQLITE_ERROR,
    ] {
        let error = rusqlite::Error::SqliteFailure(Error::new(code), None);
        let text = read_error("sqlite:x", "cannot read", error).to_string();
        for word in ["write", "own the", "batch", "make files", "stored"] {
            assert!(!text.contains(word), "{code}: {text}");
        }
    }
}

#[test]
fn others_may_not_read_the_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logs.db");
    drop(open_file(&path).unwrap());
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o007,
        0
    );
}

#[test]
fn trigger_that_rolls_back_leaves_no_row_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logs.db");
    drop(open_file(&path).unwrap());
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "create trigger refuse before insert on logs when new.Host = 'bad'
             begin select raise(rollback, 'not here'); end",
        )
        .unwrap();
    let mut database = database(&path, connection);
    let empty = crate::store::Row::new(
        &crate::Record::default(),
        EntryHash::of(b""),
        &crate::store::Origin::default(),
        None,
    );
    let row = |n: u8| Row {
        entry_hash: EntryHash::of(&[n]),
        host: (n == 1).then(|| "bad".to_owned()),
        ..empty.clone()
    };
    let batch = Batch {
        id: BatchId::of([]),
        journal: None,
        rows: (0..3).map(row).collect::<Vec<_>>().into(),
    };
    let error = database.insert(&batch).err().unwrap();
    assert_eq!(error.refused()[0].entry, EntryHash::of(&[1]));
    let hashes = [0, 1, 2].map(|n: u8| EntryHash::of(&[n]));
    assert!(database.known(&hashes).unwrap().is_empty());
}

#[test]
fn damage_is_looked_for_within_bounds_and_what_was_not_looked_at_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logs.db");
    drop(open_file(&path).unwrap());
    let connection = Connection::open(&path).unwrap();
    let rows = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 9999)
                insert into logs (Host) select i from n; pragma wal_checkpoint(truncate)";
    connection.execute_batch(rows).unwrap();
    drop(connection);
    let options = StoreOptions::new(format!("sqlite:{}", path.display()));
    let file = look::DatabaseFile::of(&options).unwrap();
    let all = file.check_pages(std::time::Duration::from_secs(600));
    assert_eq!(all.unwrap(), None);
    let said = file
        .check_pages(std::time::Duration::ZERO)
        .unwrap()
        .unwrap();
    assert!(
        said.contains("not all of its pages were looked at"),
        "{said}"
    );
}

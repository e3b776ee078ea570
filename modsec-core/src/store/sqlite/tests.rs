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
    let rules = "select count(*) from modsec_rules";
    let rules: i64 = database
        .connection
        .query_row(rules, [], |row| row.get(0))
        .unwrap();
    assert_eq!(rules, 4);
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

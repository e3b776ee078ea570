//! The clauses, from the simplest to two stores that write at the same time.
//!
//! Each takes an empty database, and panics with what it found and what it wanted.

use std::collections::HashSet;

use chrono::{DateTime, FixedOffset, Utc};

use super::sample::{batch, row};
use super::{Dumped, Fixture};
use crate::entry_hash::EntryHash;
use crate::record::{Record, Request};
use crate::store::{Inserted, Origin, Row, Store, StoreError};
use crate::text::Text;

/// Inserts rows without a journal, and returns what became of them.
async fn insert(store: &mut Box<dyn Store>, rows: impl IntoIterator<Item = Row>) -> Inserted {
    store
        .insert(&batch(rows, None))
        .await
        .expect("the batch is accepted")
}

/// Returns what a database should hold after these rows were stored, in their order.
fn expected<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Vec<Dumped> {
    rows.into_iter().map(Dumped::from_row).collect()
}

/// An empty database has nothing, and takes a batch of nothing.
pub async fn nothing_is_stored_by_an_empty_batch(db: &dyn Fixture) {
    let mut store = db.open().await;
    assert_eq!(insert(&mut store, []).await, Inserted::default());
    assert!(store.known(&[]).await.expect("reads").is_empty());
    assert!(
        store
            .known(&[EntryHash::of(b"")])
            .await
            .expect("reads")
            .is_empty()
    );
    assert_eq!(db.dump().await, []);
}

/// Every column of a usual row is stored.
pub async fn rows_are_stored_as_they_are(db: &dyn Fixture) {
    let mut store = db.open().await;
    let mut rows = [row(0), row(1), row(2)];
    rows[1].client_ip = "2001:db8::1".parse().ok();
    rows[1].intercepted = false;
    rows[1].flags = Some("ambiguous,truncated".to_owned());
    rows[2] = Row::new(
        &Record::default(),
        EntryHash::of(b"empty"),
        &Origin::default(),
        None,
    );
    assert_eq!(insert(&mut store, rows.clone()).await, Inserted::new(3, 0));
    assert_eq!(db.dump().await, expected(&rows));
}

/// The second insert of an entry changes nothing, whatever it says of the entry.
pub async fn same_entry_twice_is_one_row(db: &dyn Fixture) {
    let mut store = db.open().await;
    let first = [row(0), row(1)];
    insert(&mut store, first.clone()).await;
    let mut again = row(1);
    again.msg = Some("told differently".to_owned());
    again.rule_matches.push(again.rule_matches[0].clone());
    let inserted = insert(&mut store, [again, row(2)]).await;
    assert_eq!(inserted, Inserted::new(1, 1));
    assert_eq!(insert(&mut store, [row(0)]).await, Inserted::new(0, 1));
    assert_eq!(db.dump().await, expected(first.iter().chain(&[row(2)])));
}

/// An entry that is in a batch twice is stored once, as it came first.
pub async fn same_entry_twice_in_one_batch_is_one_row(db: &dyn Fixture) {
    let mut store = db.open().await;
    let mut again = row(0);
    again.msg = None;
    again.rule_matches.clear();
    let inserted = insert(&mut store, [row(0), again, row(1)]).await;
    assert_eq!(inserted, Inserted::new(2, 1));
    assert_eq!(db.dump().await, expected(&[row(0), row(1)]));
}

/// One refused row fails its batch as a whole, and the error names it.
pub async fn refused_row_fails_its_batch_and_is_named(db: &dyn Fixture) {
    let mut store = db.open().await;
    db.refuse("not this one").await;
    let mut rows: Vec<Row> = (0..40).map(row).collect();
    for bad in [7, 31] {
        rows[bad].unique_id = Some("not this one".to_owned());
    }
    let error = store
        .insert(&batch(rows.clone(), Some("j")))
        .await
        .expect_err("must be refused");
    assert!(
        !error.is_unavailable() && matches!(error, StoreError::Refused { .. }),
        "{error}"
    );
    let refused: Vec<_> = error
        .refused()
        .iter()
        .map(|refused| refused.entry)
        .collect();
    assert_eq!(refused, [row(7).entry_hash, row(31).entry_hash]);
    assert_eq!(db.dump().await, []);
    assert_eq!(store.last_batch("j").await.expect("reads"), None);

    rows.retain(|row| !refused.contains(&row.entry_hash));
    assert_eq!(insert(&mut store, rows.clone()).await, Inserted::new(38, 0));
    assert_eq!(db.dump().await, expected(&rows));
}

/// Each journal has its own last batch; keys are compared byte by byte.
pub async fn last_batch_is_that_of_the_journal(db: &dyn Fixture) {
    let mut store = db.open().await;
    let long = "k".repeat(1000);
    let longer = format!("{long}k");
    let keys = ["a", "A", "a ", "é", "e", "", long.as_str(), longer.as_str()];
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(
            store.last_batch(key).await.expect("reads"),
            None,
            "key {key:?}"
        );
        store
            .insert(&batch([row(n)], Some(key)))
            .await
            .expect("is stored");
    }
    insert(&mut store, [row(100)]).await;
    for (n, key) in keys.iter().enumerate() {
        let last = store.last_batch(key).await.expect("reads");
        assert_eq!(last, Some(batch([row(n)], None).id), "key {key:?}");
    }
    for rows in [vec![row(200)], vec![], vec![row(0)]] {
        let batch = batch(rows, Some("a"));
        store.insert(&batch).await.expect("is stored");
        assert_eq!(store.last_batch("a").await.expect("reads"), Some(batch.id));
    }
}

/// No character is replaced, and none ends a text early.
pub async fn any_text_is_stored_as_it_is(db: &dyn Fixture) {
    let mut store = db.open().await;
    let texts = [
        "",
        " ",
        "trailing ",
        "NULL",
        "'; drop table logs; --",
        "\\' \\\" \\0 %_ ` $(id) ${x} ?, (?)",
        "nul \0 within\0",
        "\u{1}\u{1b}[31m\r\n\t\u{7f}\u{80}",
        "кириллица 日本語 \u{1f600}\u{10ffff}",
        "e\u{301} \u{200e}\u{feff}\u{fffd}",
    ];
    let rows: Vec<Row> = texts
        .iter()
        .enumerate()
        .map(|(n, text)| full_of(n, text))
        .collect();
    insert(&mut store, rows.clone()).await;
    for (found, want) in db.dump().await.iter().zip(expected(&rows)) {
        assert_eq!(*found, want);
    }
}

/// Returns a row with this text wherever there can be text.
fn full_of(n: usize, text: &str) -> Row {
    let mut row = row(n);
    for field in [
        &mut row.method,
        &mut row.uri,
        &mut row.remote_addr,
        &mut row.rule_id,
        &mut row.host,
        &mut row.msg,
        &mut row.data,
        &mut row.unique_id,
        &mut row.user_agent,
        &mut row.sensor,
        &mut row.account,
        &mut row.status_line,
        &mut row.flags,
    ] {
        *field = Some(text.to_owned());
    }
    for rule in &mut row.rule_matches {
        for field in [
            &mut rule.rule_id,
            &mut rule.msg,
            &mut rule.data,
            &mut rule.file,
            &mut rule.rev,
            &mut rule.ver,
            &mut rule.tags,
            &mut rule.detail,
        ] {
            *field = Some(text.to_owned());
        }
    }
    row
}

/// Bytes that are not UTF-8 come as U+FFFD.
pub async fn invalid_utf8_is_decoded_lossily(db: &dyn Fixture) {
    let mut store = db.open().await;
    let uri = Text::from(&b"/\xff\xc3(\xed\xa0\x80\0\xf0\x9f\x98"[..]);
    let request = Request {
        uri: Some(uri),
        ..Request::default()
    };
    let record = Record {
        request,
        ..Record::default()
    };
    let row = Row::new(&record, EntryHash::of(b"x"), &Origin::default(), None);
    insert(&mut store, [row]).await;
    let want = "/\u{fffd}\u{fffd}(\u{fffd}\u{fffd}\u{fffd}\0\u{fffd}";
    assert_eq!(db.dump().await[0].columns[1].as_deref(), Some(want));
}

/// A value too long for its column is cut, and fails nothing.
pub async fn over_long_values_are_cut(db: &dyn Fixture) {
    let mut store = db.open().await;
    let ascii = "0123456789".repeat(10_000);
    let rows = [
        full_of(0, &ascii),
        full_of(1, &"é日\u{1f600}".repeat(10_000)),
        row(2),
    ];
    assert_eq!(insert(&mut store, rows.clone()).await.stored, 3);
    let found = db.dump().await;
    for (found, want) in found.iter().zip(expected(&rows)) {
        for (found, want) in found.columns.iter().zip(&want.columns) {
            assert_beginning(found.as_deref(), want.as_deref());
        }
        assert_eq!(found.rule_matches.len(), want.rule_matches.len());
        let matches = found.rule_matches.iter().flatten();
        for (found, want) in matches.zip(want.rule_matches.iter().flatten()) {
            assert_beginning(found.as_deref(), want.as_deref());
        }
    }
    assert_eq!(found[2], Dumped::from_row(&rows[2]));
}

/// Panics unless `found` is a beginning of `want` with at least eight characters, or all of it if
/// it is shorter.
fn assert_beginning(found: Option<&str>, want: Option<&str>) {
    let (found, want) = (found.unwrap_or_default(), want.unwrap_or_default());
    let enough = found.chars().count() >= want.chars().count().min(8);
    assert!(
        want.starts_with(found) && enough,
        "{found:.60?} of {want:.60?}"
    );
}

/// A number outside the column's range becomes the nearest one inside.
pub async fn extreme_numbers_do_not_fail(db: &dyn Fixture) {
    let mut store = db.open().await;
    for (n, number) in [i64::MIN, -1, 0, i64::from(i32::MAX), i64::MAX]
        .into_iter()
        .enumerate()
    {
        let mut row = row(n);
        for field in [
            &mut row.maturity,
            &mut row.accuracy,
            &mut row.score,
            &mut row.sqli,
            &mut row.xss,
        ] {
            *field = Some(number);
        }
        row.status = Some(u16::MAX);
        row.phase = Some(u8::MAX);
        row.rule_matches[0].line = Some(u32::MAX);
        row.rule_matches[0].maturity = Some(number);
        insert(&mut store, [row]).await;
        let found = db.dump().await.pop().expect("is stored");
        let found: i64 = found.columns[14]
            .as_deref()
            .expect("is a number")
            .parse()
            .expect("is one");
        let nearest = found == number
            || (found < number && found >= i64::from(i32::MAX))
            || (found > number && found <= i64::from(i32::MIN));
        assert!(nearest, "{found} for {number}");
    }
}

/// Times are the instant in UTC to the microsecond, whatever the offset in the log. A time that
/// the database does not know is left out.
pub async fn time_is_the_instant_in_utc(db: &dyn Fixture) {
    let mut store = db.open().await;
    for (n, (time, want)) in [
        (
            "2026-08-22T10:15:00.000001+05:45",
            "2026-08-22 04:30:00.000001",
        ),
        (
            "2026-08-22T22:15:00.999999-09:30",
            "2026-08-23 07:45:00.999999",
        ),
        ("2026-03-29T02:30:00Z", "2026-03-29 02:30:00.000000"),
        ("2024-02-29T23:59:59.5-00:30", "2024-03-01 00:29:59.500000"),
        ("2016-12-31T23:59:59.999999Z", "2016-12-31 23:59:59.999999"),
    ]
    .into_iter()
    .enumerate()
    {
        let time: DateTime<FixedOffset> = time.parse().expect("is RFC 3339");
        let record = Record {
            time: Some(time),
            ..Record::default()
        };
        let hash = EntryHash::of(&n.to_le_bytes());
        insert(
            &mut store,
            [Row::new(&record, hash, &Origin::default(), None)],
        )
        .await;
        let found = db.dump().await.pop().expect("is stored");
        assert_eq!(found.columns[18].as_deref(), Some(want));
    }
    let never = [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC];
    for (n, time) in (100..).zip(never) {
        insert(
            &mut store,
            [Row {
                created_at: Some(time),
                ..row(n)
            }],
        )
        .await;
        assert_eq!(db.dump().await.pop().expect("is stored").columns[18], None);
    }
}

/// A batch may be large, and is stored in its order.
pub async fn thousands_of_rows_keep_their_order(db: &dyn Fixture) {
    let mut store = db.open().await;
    let rows: Vec<Row> = (0..2_777).map(row).collect();
    let inserted = insert(&mut store, rows.clone()).await;
    assert_eq!(
        inserted,
        Inserted {
            stored: rows.len(),
            known: 0
        }
    );
    let found = db.dump().await;
    assert_eq!(found.len(), rows.len());
    for (found, want) in found.iter().zip(expected(&rows)) {
        assert_eq!(*found, want);
    }
    let hashes: Vec<_> = (0..5_000).map(|n| row(n).entry_hash).collect();
    let known = store.known(&hashes).await.expect("reads");
    assert_eq!(
        known,
        hashes[..rows.len()].iter().copied().collect::<HashSet<_>>()
    );
}

/// Alerts are stored in the order of the log, however many.
pub async fn rule_matches_keep_their_order(db: &dyn Fixture) {
    let mut store = db.open().await;
    let rows: Vec<Row> = [0, 1, 1024, 3]
        .into_iter()
        .enumerate()
        .map(|(n, matches)| {
            let mut row = row(n);
            row.rule_matches = row
                .rule_matches
                .iter()
                .cycle()
                .take(matches)
                .cloned()
                .collect();
            for (position, rule) in row.rule_matches.iter_mut().enumerate() {
                rule.rule_id = Some(position.to_string());
            }
            row
        })
        .collect();
    insert(&mut store, rows.clone()).await;
    assert_eq!(db.dump().await, expected(&rows));
}

/// What was stored is there after closing and opening again.
pub async fn reopened_store_has_everything(db: &dyn Fixture) {
    let first = batch([row(0)], Some("j"));
    db.open().await.insert(&first).await.expect("is stored");
    let mut store = db.open().await;
    assert_eq!(store.last_batch("j").await.expect("reads"), Some(first.id));
    assert!(
        store
            .known(&[row(0).entry_hash])
            .await
            .expect("reads")
            .contains(&row(0).entry_hash)
    );
    assert_eq!(
        insert(&mut store, [row(0), row(1)]).await,
        Inserted::new(1, 1)
    );
    assert_eq!(db.dump().await, expected(&[row(0), row(1)]));
}

/// Two stores that write overlapping batches at the same time store each entry once.
pub async fn two_stores_share_one_database(db: &dyn Fixture) {
    let mut stores = [db.open().await, db.open().await];
    let [one, two] = &mut stores;
    // The second one has the rows in the opposite order, which is what deadlocks are made of.
    let forward = async {
        let mut sum = 0;
        for start in (0..400).step_by(50) {
            sum += insert(one, (start..start + 100).map(row)).await.stored;
        }
        sum
    };
    let backward = async {
        let mut sum = 0;
        for start in (0..400).step_by(50).rev() {
            sum += insert(two, (start..start + 100).rev().map(row))
                .await
                .stored;
        }
        sum
    };
    let (forward, backward) = tokio::join!(forward, backward);
    assert_eq!(forward + backward, 450);
    let mut found = db.dump().await;
    let mut want = expected(&(0..450).map(row).collect::<Vec<_>>());
    found.sort_by(|a, b| a.columns.cmp(&b.columns));
    want.sort_by(|a, b| a.columns.cmp(&b.columns));
    assert_eq!(found.len(), want.len());
    for (found, want) in found.iter().zip(&want) {
        assert_eq!(found, want);
    }
}

/// A name for messages, without a password.
pub async fn name_has_no_password(db: &dyn Fixture) {
    let name = db.open().await.name();
    assert!(!name.is_empty() && !name.contains("secret"), "{name}");
}

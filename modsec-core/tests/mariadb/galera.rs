//! Sensors that write to different nodes of one cluster, and a node that dies.

use std::path::Path;
use std::time::Duration;

use modsec_core::store::contract::{Dumped, Fixture as _, row};
use modsec_core::store::{Batch, Row, Store, StoreOptions};
use modsec_core::upkeep::Retention;
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

use super::server::{free_port, which};
use super::{Database, Server, open_url, opts, run};

const PROVIDER: &str = "/usr/lib/galera/libgalera_smm.so";
/// Rows in a batch, and batches of a sensor.
const ROWS: usize = 50;
const BATCHES: usize = 12;

/// Starts three nodes; `None`, and a message, if a package is missing.
async fn cluster() -> Option<[Server; 3]> {
    if !Path::new(PROVIDER).exists() || which("rsync").is_none() {
        eprintln!("skipped: the packages galera-4 and rsync are not installed");
        return None;
    }
    let ports = [free_port(), free_port(), free_port()];
    let [one, two, three] = ports.map(|port| node(port, ports));
    // One after the other: each copies the data of one that is there.
    let one = Server::start(&arguments(&one, &["--wsrep-new-cluster"])).await?;
    let two = Server::start(&arguments(&two, &[])).await?;
    let three = Server::start(&arguments(&three, &[])).await?;
    Some([one, two, three])
}

fn arguments<'a>(node: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    node.iter()
        .map(String::as_str)
        .chain(more.iter().copied())
        .collect()
}

fn node(port: u16, ports: [u16; 3]) -> Vec<String> {
    let members = ports.map(|port| format!("127.0.0.1:{port}")).join(",");
    vec![
        "--wsrep-on=ON".to_owned(),
        format!("--wsrep-provider={PROVIDER}"),
        format!("--wsrep-cluster-address=gcomm://{members}"),
        "--wsrep-node-address=127.0.0.1".to_owned(),
        format!("--wsrep-sst-receive-address=127.0.0.1:{}", free_port()),
        "--wsrep-sst-method=rsync".to_owned(),
        "--binlog-format=ROW".to_owned(),
        "--innodb-autoinc-lock-mode=2".to_owned(),
        // The provider's own time limits stay: with shorter ones nodes of a busy machine give each
        // other up while they join.
        format!(
            "--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:{port};\
             ist.recv_addr=127.0.0.1:{};gcache.size=32M",
            free_port()
        ),
    ]
}

fn batch(start: usize, journal: &str) -> Batch {
    let rows: Vec<Row> = (start..start + ROWS).map(row).collect();
    Batch::new(Some(journal.to_owned()), rows)
}

/// Stores the batch as a sensor does, which turns to another node if its own is gone. Returns how
/// many rows were new.
async fn insist(store: &mut Box<dyn Store>, batch: &Batch, other: &str) -> usize {
    loop {
        match store.insert(batch).await {
            Ok(inserted) => return inserted.stored,
            Err(error) if error.is_unavailable() => {
                if let Ok(opened) = open_url(other).await {
                    *store = opened;
                }
            }
            Err(error) => panic!("{error}: {error:?}"),
        }
    }
}

#[test]
fn what_one_node_has_committed_is_known_to_another_that_has_not_applied_it() {
    run(async {
        let Some([one, two, _three]) = cluster().await else {
            return;
        };
        let db = Database::on(&one.url()).await;
        let mut first = open_url(&format!("{}/{}", one.url(), db.name))
            .await
            .unwrap();
        let mut second = open_url(&format!("{}/{}", two.url(), db.name))
            .await
            .unwrap();
        let mut slow = Conn::new(opts(&two.url())).await.unwrap();
        // Who has this lock keeps the node from applying what others commit.
        slow.query_drop("flush tables with read lock")
            .await
            .unwrap();
        let batch = batch(0, "one");
        first.insert(&batch).await.unwrap();
        let hashes: Vec<_> = batch.rows.iter().map(|row| row.entry_hash).collect();
        let ask = async {
            let known = second.known(&hashes).await.unwrap();
            (known.len(), second.last_batch("one").await.unwrap())
        };
        // The question is on its way before the lock goes.
        let unlock = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            slow.query_drop("unlock tables").await.unwrap();
        };
        let (found, ()) = tokio::join!(ask, unlock);
        assert_eq!(found, (ROWS, Some(batch.id)));
    });
}

/// Two nodes remove the same old rows while a third one stores more, with alerts that share their texts.
#[test]
fn old_rows_are_removed_by_two_nodes_while_a_third_one_stores() {
    run(async {
        let Some([one, two, three]) = cluster().await else {
            return;
        };
        let db = Database::on(&one.url()).await;
        let mut store = open_url(&db.url()).await.unwrap();
        let mut retentions = Vec::new();
        for node in [&two, &three] {
            let mut options = StoreOptions::new(format!("{}/{}", node.url(), db.name));
            options.defaults_file = Some("/dev/null".into());
            let hour = Duration::from_secs(3600);
            retentions.push(Retention::open(&options, hour).await.unwrap());
        }
        let later = row(0).created_at.unwrap() + chrono::TimeDelta::days(36_500);
        let writing = async {
            for number in 0..BATCHES {
                let inserted = store.insert(&batch(number * ROWS, "writer")).await;
                assert_eq!(inserted.unwrap().stored, ROWS);
            }
        };
        let [first, second] = &mut retentions[..] else {
            panic!("there are two");
        };
        let removing = async |retention: &mut Retention| {
            loop {
                retention.step(later).await.unwrap();
            }
        };
        tokio::select! {
            () = writing => {}
            () = removing(first) => {}
            () = removing(second) => {}
        }
        while first.step(later).await.unwrap() > 0 {}
        let mut conn = db.connect().await;
        conn.query_drop("set session wsrep_sync_wait = 1")
            .await
            .unwrap();
        for table in ["logs", "rule_matches"] {
            let count = format!("select count(*) from {table}");
            let count: Option<usize> = conn.query_first(count).await.unwrap();
            assert_eq!(count, Some(0), "{table}");
        }
    });
}

#[test]
fn dead_node_loses_nothing_and_doubles_nothing() {
    run(async {
        let Some([one, two, mut three]) = cluster().await else {
            return;
        };
        let db = Database::on(&one.url()).await;
        let urls = [&one, &two, &three].map(|node| format!("{}/{}", node.url(), db.name));
        let mut stores = Vec::new();
        for url in &urls {
            stores.push(open_url(url).await.unwrap());
        }
        let [first, second, third] = stores.as_mut_slice() else {
            unreachable!()
        };

        // The first two have the same entries in opposite order; the third one's node dies.
        let forward = async {
            let mut sum = 0;
            for n in 0..BATCHES {
                sum += insist(first, &batch(n * ROWS, "one"), &urls[1]).await;
            }
            sum
        };
        let backward = async {
            let mut sum = 0;
            for n in (0..BATCHES).rev() {
                sum += insist(second, &batch(n * ROWS, "two"), &urls[0]).await;
            }
            sum
        };
        let dying = async {
            let mut sum = 0;
            for n in 0..BATCHES {
                if n == BATCHES / 2 {
                    three.kill();
                }
                sum += insist(third, &batch((BATCHES + n) * ROWS, "three"), &urls[0]).await;
            }
            sum
        };
        let (forward, backward, dying) = tokio::join!(forward, backward, dying);

        assert_eq!(
            (forward + backward, dying),
            (BATCHES * ROWS, BATCHES * ROWS)
        );
        let mut found = db.dump().await;
        let mut want: Vec<Dumped> = (0..2 * BATCHES * ROWS)
            .map(|n| Dumped::from_row(&row(n)))
            .collect();
        found.sort_by(|a, b| a.columns.cmp(&b.columns));
        want.sort_by(|a, b| a.columns.cmp(&b.columns));
        assert!(found == want, "{} rows of {}", found.len(), want.len());
        let last = second.last_batch("three").await.unwrap();
        assert_eq!(last, Some(batch((2 * BATCHES - 1) * ROWS, "three").id));
    });
}

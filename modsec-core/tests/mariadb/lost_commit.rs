//! A connection that breaks at the worst moment: around the commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use modsec_core::store::contract::{Fixture as _, row};
use modsec_core::store::{Batch, Inserted, Row};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{Database, open_url, run};

#[derive(Clone, Copy)]
enum Cut {
    /// The server never hears of the commit.
    Before,
    /// The server commits, and its answer is lost.
    After,
}

/// Stands between store and server, and cuts the connection at the first commit.
struct Proxy {
    port: u16,
    has_cut: Arc<AtomicBool>,
}

impl Proxy {
    async fn start(server: String, cut: Cut) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let has_cut = Arc::new(AtomicBool::new(false));
        let already = Arc::clone(&has_cut);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(forward(client, server, cut, Arc::clone(&already)));
            }
        });
        Proxy { port, has_cut }
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, cut: Cut, has_cut: Arc<AtomicBool>) {
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(count @ 1..) = read else { return };
                // A packet is four bytes of header, the kind of command, and the statement.
                let commit = asked[..count].ends_with(b"\x03commit");
                if commit && !has_cut.swap(true, Ordering::SeqCst) {
                    if let Cut::After = cut {
                        server.write_all(&asked[..count]).await.unwrap();
                        let _ = server.read(&mut answered).await;
                    }
                    return;
                }
                server.write_all(&asked[..count]).await.unwrap();
            }
            read = server.read(&mut answered) => {
                let Ok(count @ 1..) = read else { return };
                if client.write_all(&answered[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn batch(journal: Option<&str>) -> Batch {
    // One of the rows is in the store already, one comes twice.
    let rows: Vec<Row> = (0..50).chain([7]).map(row).collect();
    Batch::new(journal.map(str::to_owned), rows)
}

fn stored_and_counted_once(cut: Cut) {
    run(async move {
        for journal in [Some("j"), None] {
            let Some(db) = Database::shared().await else {
                return;
            };
            let mut direct = db.try_open().await.unwrap();
            let first = Batch::new(None, vec![row(3)]);
            direct.insert(&first).await.unwrap();

            let url = db.url();
            let (login, place) = url.rsplit_once('@').unwrap();
            let (server, name) = place.split_once('/').unwrap();
            let proxy = Proxy::start(server.to_owned(), cut).await;
            let mut store = open_url(&format!("{login}@127.0.0.1:{}/{name}", proxy.port))
                .await
                .unwrap();
            let batch = batch(journal);
            let inserted = store.insert(&batch).await.unwrap();

            assert!(proxy.has_cut.load(Ordering::SeqCst));
            assert_eq!(inserted, Inserted::new(49, 2));
            assert_eq!(db.dump().await.len(), 50);
            let last = direct.last_batch("j").await.unwrap();
            assert_eq!(last, journal.map(|_| batch.id));
        }
    });
}

#[test]
fn commit_that_never_arrived_is_repeated() {
    stored_and_counted_once(Cut::Before);
}

#[test]
fn commit_whose_answer_was_lost_is_counted_once() {
    stored_and_counted_once(Cut::After);
}

//! Rows on their way into a store.

use modsec_core::store::{Batch, Row, Store};

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Adds rows of which none is there yet.
pub(crate) async fn insert(store: &mut dyn Store, rows: Vec<Row>) {
    let count = rows.len();
    let inserted = store.insert(&Batch::new(None, rows)).await.unwrap();
    assert_eq!(inserted.stored, count);
}

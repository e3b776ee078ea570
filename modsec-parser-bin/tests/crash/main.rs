//! Kills or stops the program between any two steps and at random instants, takes disk, database
//! and permissions away, and then asks: is every entry once in the store, once in the merged log, and
//! no file left or lost?
//!
//! The steps are named in the sources of the library (`crash_points::pass`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod disk_full;
#[path = "../../../modsec-core/tests/machine/executable.rs"]
mod executable;
mod index;
#[path = "../../../modsec-core/tests/machine/inotify.rs"]
mod inotify;
#[path = "../site/index.rs"]
mod lines;
mod maria;
mod outage;
mod permission;
mod random;
mod reindex;
mod replaced;
mod retention;
#[path = "../../../modsec-core/tests/mariadb/server.rs"]
mod server;
mod several;
#[path = "../site/mod.rs"]
mod site;
mod standstill;
mod steps;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

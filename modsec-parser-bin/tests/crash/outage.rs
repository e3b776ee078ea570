//! The database goes away and comes back.

use std::time::Duration;

use crate::inotify::can_follow;
use crate::maria::Maria;
use crate::runtime;
use crate::server::Server;
use crate::site::{Site, until};

#[test]
fn a_database_that_is_away_for_a_while_costs_nothing() {
    if !can_follow() {
        return;
    }
    let Some(mut server) = runtime().block_on(Server::start(&[])) else {
        return;
    };
    let mut site = Site::new(Maria::on(&server.url()));
    site.put_all(50, 500);
    let running = site.follow(&["--rescan-every", "5"]);
    site.wait_for_rows();
    // Otherwise the answer to the commit may be lost, and these files stay for now, too.
    until("files removed", || site.left().is_empty());
    server.kill();
    site.put_all(300, 500);
    until("the warning", || {
        running.log().contains("nothing can be kept")
    });
    assert_eq!(site.left().len(), 300);
    site.put_all(300, 500);
    runtime().block_on(server.run());
    site.wait_for_rows();
    until("the end of the outage", || {
        running.log().contains("entries are kept again")
    });
    until("files removed", || site.left().is_empty());
    let log = running.stop();
    site.check(&[&site.log], &log);
    for once in ["nothing can be kept", "entries are kept again"] {
        assert_eq!(log.matches(once).count(), 1, "{log}");
    }
    assert_eq!(log.matches(" WARN ").count(), 1, "{log}");
}

#[test]
fn a_database_that_comes_after_the_program_is_waited_for() {
    if !can_follow() {
        return;
    }
    let Some(mut server) = runtime().block_on(Server::start(&[])) else {
        return;
    };
    let mut site = Site::new(Maria::on(&server.url()));
    server.kill();
    site.put_all(50, 500);
    let running = site.follow(&[]);
    until("the warning", || {
        running.log().contains("nothing can be kept")
    });
    // One pass has no patience.
    let (status, text) = site.run();
    assert_eq!(status.code(), Some(1), "{text}");
    runtime().block_on(server.run());
    site.wait_for_rows();
    until("files removed", || site.left().is_empty());
    let log = running.stop();
    site.check(&[&site.log], &log);
}

#[test]
fn a_database_that_dies_again_and_again_and_a_program_that_dies_with_it_lose_nothing() {
    if !can_follow() {
        return;
    }
    let Some(mut server) = runtime().block_on(Server::start(&[])) else {
        return;
    };
    let mut site = Site::new(Maria::on(&server.url()));
    for round in 0..6 {
        let running = site.follow(&["--rescan-every", "5"]);
        for _ in 0..10 {
            site.put_all(20, 1000);
            std::thread::sleep(Duration::from_millis(40 + 7 * round));
        }
        server.kill();
        site.put_all(20, 1000);
        if round % 2 == 0 {
            running.signal(rustix::process::Signal::KILL);
        }
        runtime().block_on(server.run());
        if round % 2 == 1 {
            site.wait_for_rows();
            running.stop();
        }
    }
    let (status, text) = site.run();
    assert!(status.success(), "{text}");
    site.check(&[&site.log], "again and again");
}

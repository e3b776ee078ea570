//! Death while the index is followed: nothing is lost, doubled, or wrongly called lost.

use std::process::Output;

use crate::inotify::can_follow;
use crate::site::{Site, Sqlite};

/// Entries of a case: two batches.
const ENTRIES: usize = 1100;

fn run(site: &Site<Sqlite>, crash: Option<&str>) -> Output {
    let mut command = site.command();
    command.arg("--index").arg(site.index());
    if let Some(place) = crash {
        command.env("MODSEC_CRASH_AT", place);
    }
    command.output().unwrap()
}

#[test]
fn death_at_any_step_accuses_nobody() {
    for (step, counts) in [
        ("before-insert", [1, 2]),
        ("committed", [1, 2]),
        ("before-removal", [1, 2]),
        ("before-index-noted", [1, 2]),
        ("index-noted", [1, 2]),
        ("taken", [1, 1050]),
        ("removed", [1, 1050]),
    ] {
        for count in counts {
            let place = format!("{step}:{count}");
            let mut site = Site::with_sqlite();
            site.append_line(b"");
            assert!(run(&site, None).status.success());
            for _ in 0..ENTRIES {
                site.put_listed(300);
            }
            run(&site, Some(&place));
            let output = run(&site, None);
            let text = String::from_utf8_lossy(&output.stdout);
            // Status 3 would be for records that are said to be lost.
            assert!(output.status.success(), "{place}: {output:?}");
            let clean = "0 overwritten, 0 missing, 0 mismatched";
            assert!(
                !text.contains("index:") || text.contains(clean),
                "{place}: {text}"
            );
            site.check(&[&site.log], &place);
        }
    }
}

#[test]
fn death_while_following_accuses_nobody() {
    if !can_follow() {
        return;
    }
    for step in [
        "claimed:7",
        "committed:2",
        "before-index-noted:3",
        "index-noted:3",
        "removed:20",
    ] {
        let mut site = Site::with_sqlite();
        site.append_line(b"");
        assert!(run(&site, None).status.success());
        let mut command = site.command();
        command
            .args(["--quiet", "--follow", "--index"])
            .arg(site.index());
        let mut child = command.env("MODSEC_CRASH_AT", step).spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            for _ in 0..10 {
                site.put_listed(10);
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let output = run(&site, None);
        assert!(output.status.success(), "{step}: {output:?}");
        site.check(&[&site.log], step);
    }
}

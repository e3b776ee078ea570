//! Logs and jail file that were rotated while the program was away, whatever they are called now.

mod program;

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use crate::program::inotify::can_follow;
use crate::program::{Place, entry, exists, wait_for};

/// Gives a file another name, and compresses it if that name says so.
fn rotate(place: &Place, name: &str, new: &str, age: u64) -> std::io::Result<()> {
    let plain = new.strip_suffix(".gz").unwrap_or(new);
    // Long ago, so that nobody waits for a last line.
    let at = SystemTime::now() - Duration::from_secs(age);
    let log = File::options().write(true).open(place.path(name))?;
    log.set_modified(at)?;
    fs::rename(place.path(name), place.path(plain))?;
    if plain != new {
        let mut gzip = std::process::Command::new("gzip");
        assert!(gzip.arg(place.path(plain)).status()?.success());
    }
    Ok(())
}

#[test]
fn whatever_rotation_calls_the_logs_every_attack_counts_once() {
    if !can_follow() {
        return;
    }
    let one = |n: u32| entry("192.0.2.7", n, "", "403") + "\n";
    let line = |n: u32| {
        format!(
            "h 192.0.2.7 - - [22/Aug/2026:10:15:{n:02} +0200] \"GET / HTTP/1.1\" 403 57 \"-\" \"-\" \
             id{n} \"-\" /20260822/20260822-1015/20260822-1015{n:02}-id{n} 0 9 \
             md5:f4379ec14e40221beb05af5daf25ef7a \n"
        )
    };
    let sources: [(&str, &dyn Fn(u32) -> String); 2] =
        [("merged-log", &one), ("index=merged.log", &line)];
    for (source, text) in sources {
        for names in [
            ["merged.log-20261126", "merged.log-20261127"],
            ["merged.log.2.gz", "merged.log.1"],
            ["merged-20261126.log.gz", "merged-20261127.log.gz"],
        ] {
            let place = Place::new();
            let counted = |n: u32| {
                wait_for("the count", || {
                    let state = fs::read_to_string(place.path("state/recidive.dat"));
                    state.is_ok_and(|state| state.contains(&format!("\n192.0.2.7 {n} ")))
                });
            };
            place.append("merged.log", &text(0));
            let arguments = [
                "--threshold",
                "100",
                "--save-interval",
                "1",
                "--source",
                source,
            ];
            let running = place.start(&arguments);
            place.append("merged.log", &text(1));
            counted(2);
            assert!(running.stop().success());
            place.append("merged.log", &text(2));
            rotate(&place, "merged.log", names[0], 2000).unwrap();
            place.append("merged.log", &text(3));
            rotate(&place, "merged.log", names[1], 1000).unwrap();
            place.append("merged.log", &text(4));
            let running = place.start(&arguments);
            counted(5);
            assert!(running.stop().success());
            let state = fs::read_to_string(place.path("state/recidive.dat")).unwrap();
            assert!(state.contains("\n192.0.2.7 5 "), "{names:?} {state}");
        }
    }
}

/// A request whose chunked body ends its own entry and opens one that never ends.
fn without_end() -> String {
    let hostile = entry("192.0.2.66", 59, "Transfer-Encoding: chunked\n", "200");
    let boundary = &hostile[..10];
    let body = format!(
        "{boundary}-C--\na\n{boundary}-F--\nHTTP/1.1 200 OK\n\n{boundary}-H--\n\
         Stopwatch: 1787386500000345 1830 (- - -)\n\n{boundary}-Z--\n\n--deadbeef-A--\n\
         [22/Aug/2026:10:15:59 +0200] open 192.0.2.66 1 192.0.2.2 80\n--deadbeef-B--\n\
         POST / HTTP/1.1\nTransfer-Encoding: chunked\n\n--deadbeef-C--\ny\n\n{boundary}-F--"
    );
    hostile.replace(&format!("{boundary}-F--"), &body)
}

#[test]
fn an_entry_that_never_ends_holds_up_nothing_once_the_log_is_rotated() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    place.append("merged.log", &without_end());
    let attacks: String = (0..10)
        .map(|n| {
            entry("192.0.2.7", n, "", "403").replace("3fa0c41b", &format!("3fa0c4{n:02x}")) + "\n"
        })
        .collect();
    place.append("merged.log", &attacks);
    let running = place.start(&["--threshold", "10", "--source", "merged-log"]);
    rotate(&place, "merged.log", "merged.log.1", 1000).unwrap();
    place.append("merged.log", &(entry("192.0.2.8", 20, "", "403") + "\n"));
    assert_eq!(place.reported(1), ["192.0.2.7"]);
    assert!(running.stop().success());
}

#[test]
fn whatever_rotation_calls_the_jail_file_nobody_is_reported_twice() {
    if !can_follow() {
        return;
    }
    for name in ["jail.log-20261127", "jail.log.1.gz", "jail-20261127.log"] {
        let mut place = Place::new();
        place.write("site1", &entry("192.0.2.7", 0, "", "403"));
        let running = place.start(&["--threshold", "1", "--save-interval", "3600"]);
        assert_eq!(place.reported(1), ["192.0.2.7"]);
        assert!(running.stop().success());
        let running = place.start(&["--threshold", "1", "--save-interval", "3600"]);
        place.write("site1", &entry("192.0.2.8", 1, "", "403"));
        wait_for("the second", || place.jail().len() == 2);
        running.kill();
        rotate(&place, "jail.log", name, 1000).unwrap();
        let running = place.start(&["--threshold", "1"]);
        place.write("site1", &entry("192.0.2.9", 2, "", "403"));
        wait_for("the third", || {
            exists(&place.path("jail.log")) && !place.jail().is_empty()
        });
        assert!(running.stop().success());
        let jail = place.jail();
        assert_eq!(jail.len(), 1, "{name}: {jail:?}");
        assert!(jail[0].starts_with("192.0.2.9 "), "{name}: {jail:?}");
    }
}

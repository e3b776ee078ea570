//! What an administrator sees of the program.

mod program;

use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::process::Signal;

use crate::program::inotify::can_follow;
use crate::program::{Place, Running, bare, entry, exists, is_jail_line, wait_for};

#[test]
fn an_offender_is_reported_once_its_files_are_finished() {
    if !can_follow() {
        return;
    }
    let mut place = Place::new();
    let running = place.start(&["--threshold", "3"]);
    for second in 0..4 {
        for client in ["192.0.2.7", "2001:db8:1:2::7"] {
            place.write("site1", &entry(client, second, "", "403 Forbidden"));
        }
        place.write("site2", &entry("192.0.2.99", second, "", "200 OK"));
    }
    let mut reported = place.reported(2);
    reported.sort();
    assert_eq!(reported, ["192.0.2.7", "2001:db8:1:2::/64"]);
    assert!(running.stop().success());
    let jail = place.jail();
    assert_eq!(jail.len(), 2, "{jail:?}");
    assert!(jail.iter().all(|line| is_jail_line(line)), "{jail:?}");
    assert!(!exists(&place.path("recidive.pid")));
    let mode = fs::metadata(place.path("jail.log"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o007, 0);
}

#[test]
fn further_multiples_are_reported_and_the_transactions_time_is_written() {
    if !can_follow() {
        return;
    }
    let mut place = Place::new();
    // Files in a new directory come in any order.
    place.write("site1", &entry("192.0.2.8", 0, "", "200"));
    let running = place.start(&["--threshold", "2"]);
    for second in 0..7 {
        place.write("site1", &entry("192.0.2.7", second, "", "403"));
    }
    assert_eq!(place.reported(3).len(), 3);
    assert!(running.stop().success());
    let seconds: Vec<String> = place
        .jail()
        .iter()
        .map(|line| line[line.len() - 2..].to_owned())
        .collect();
    assert_eq!(seconds, ["01", "03", "05"]);
}

#[test]
fn a_restart_continues_the_window_and_counts_nothing_twice() {
    if !can_follow() {
        return;
    }
    let mut place = Place::new();
    place.write("site1", &entry("192.0.2.7", 0, "", "403"));
    let running = place.start(&["--threshold", "3"]);
    place.write("site1", &entry("192.0.2.7", 1, "", "403"));
    place.write("site2", &entry("192.0.2.8", 1, "", "403"));
    wait_for("three attacks in the state", || {
        let state = fs::read_to_string(place.path("state/recidive.dat")).unwrap_or_default();
        state.contains("\n192.0.2.7 2 ") && state.contains("\n192.0.2.8 1 ")
    });
    assert!(running.stop().success());
    // The same files are still there.
    let running = place.start(&["--threshold", "3"]);
    let path = place.write("site1", &entry("192.0.2.7", 2, "", "403"));
    assert_eq!(place.reported(1), ["192.0.2.7"]);
    assert!(running.stop().success());
    let running = place.start(&["--threshold", "3"]);
    fs::remove_file(path).unwrap();
    assert!(running.stop().success());
    assert_eq!(place.jail().len(), 1);
}

#[test]
fn being_killed_reports_nobody_twice() {
    if !can_follow() {
        return;
    }
    let mut place = Place::new();
    for second in 0..3 {
        place.write("site1", &entry("192.0.2.7", second, "", "403"));
    }
    for _ in 0..3 {
        let running = place.start(&["--threshold", "3", "--save-interval", "3600"]);
        assert_eq!(place.reported(1), ["192.0.2.7"]);
        running.kill();
    }
    let running = place.start(&["--threshold", "3"]);
    place.write("site1", &entry("192.0.2.8", 9, "", "403"));
    assert!(running.stop().success());
    assert_eq!(place.jail().len(), 1);
}

#[test]
fn a_broken_state_is_set_aside() {
    if !can_follow() {
        return;
    }
    let mut place = Place::new();
    fs::create_dir(place.path("state")).unwrap();
    fs::write(
        place.path("state/recidive.dat"),
        "192.0.2.7 1 1787386500\n\0\0\0",
    )
    .unwrap();
    let running = place.start(&["--threshold", "2"]);
    place.write("site1", &entry("192.0.2.7", 0, "", "403"));
    assert_eq!(
        place.reported(1),
        ["192.0.2.7"],
        "what could be read is used"
    );
    assert!(running.stop().success());
    assert!(exists(&place.path("state/recidive.dat.broken")));
}

#[test]
fn both_programs_together_count_every_attack_once() {
    if !can_follow() {
        return;
    }
    // What modsec-parser does: rename into its directory, append to the log, remove.
    let mut place = Place::new();
    let running = place.start(&["--threshold", "1", "--source", "storage-dir,merged-log"]);
    let private = place.path("audit/.modsec-parser");
    fs::create_dir(&private).unwrap();
    for n in 0..200u8 {
        let entry = entry(&format!("192.0.2.{n}"), 0, "", "403");
        let path = place.write("site1", &entry);
        let claimed = private.join(format!(
            "1-{n}.{}",
            path.file_name().unwrap().to_str().unwrap()
        ));
        fs::rename(&path, &claimed).unwrap();
        if n % 2 == 0 {
            place.append("merged.log", &(entry + "\n"));
            fs::remove_file(&claimed).unwrap();
        }
    }
    let mut reported = place.reported(200);
    assert!(running.stop().success());
    reported.sort();
    reported.dedup();
    assert_eq!(reported.len(), 200);
    assert_eq!(place.jail().len(), 200, "each once");
}

#[test]
fn the_merged_log_alone_is_followed_through_rotation_and_restart() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    let one = |n: u32| entry("192.0.2.7", n, "", "403") + "\n";
    place.append("merged.log", &one(0));
    let arguments = ["--threshold", "2", "--source", "merged-log"];
    let running = place.start(&arguments);
    place.append("merged.log", &one(1));
    assert_eq!(place.reported(1).len(), 1);
    fs::rename(place.path("merged.log"), place.path("merged.log.1")).unwrap();
    place.append("merged.log", &one(2));
    wait_for("the state", || {
        let state = fs::read_to_string(place.path("state/recidive.dat")).unwrap_or_default();
        state.contains("\n192.0.2.7 3 ")
    });
    assert!(running.stop().success());
    place.append("merged.log", &one(3));
    let running = place.start(&arguments);
    assert_eq!(place.reported(2).len(), 2);
    assert!(running.stop().success());
    assert_eq!(place.jail().len(), 2);
}

#[test]
fn a_burst_is_counted_whole_by_the_index() {
    if !can_follow() {
        return;
    }
    for line_end in ["\n", "\r\n"] {
        let place = Place::new();
        let running = place.start(&["--source", "index=index.log"]);
        let line = r#"www.example.test 192.0.2.7 - - [22/Aug/2026:10:15:00.026716 +0200] "GET /?q=\" HTTP/1.1" 403 57 "-" "-" awLTx2NZOYE2v-Kd-3Z8jAAAAAE "-" /site2/20260822/20260822-1015/20260822-101500-awLTx2NZOYE2v-Kd-3Z8jAAAAAE 0 22099 md5:f4379ec14e40221beb05af5daf25ef7a "#;
        for _ in 0..42 {
            place.append("index.log", &format!("{line}{line_end}"));
        }
        assert_eq!(place.reported(4).len(), 4);
        assert!(running.stop().success());
        let state = fs::read_to_string(place.path("state/recidive.dat")).unwrap();
        assert!(
            state.contains("\n192.0.2.7 42 1787386500 reported=4 "),
            "{state}"
        );
    }
}

#[test]
fn the_client_behind_a_proxy_is_told_by_options() {
    if !can_follow() {
        return;
    }
    let header = "X-Real-IP: 203.0.113.9\nX-Forwarded-For: 203.0.113.8, 192.0.2.1\n";
    for (arguments, peer, want) in [
        (&[][..], "127.0.0.1", "203.0.113.9"),
        (&[], "192.0.2.7", "192.0.2.7"),
        (
            &["--trusted-proxy", "192.0.2.0/24"],
            "192.0.2.7",
            "203.0.113.9",
        ),
        (
            &["--trusted-proxy", "192.0.2.0/24"],
            "127.0.0.1",
            "127.0.0.1",
        ),
        (
            &[
                "--trusted-proxy",
                "192.0.2.0/24",
                "--client-header",
                "x-forwarded-for",
            ],
            "192.0.2.7",
            "203.0.113.8",
        ),
        (&["--ipv4-prefix", "24"], "192.0.2.7", "192.0.2.0/24"),
        (
            &["--ipv6-prefix", "48"],
            "2001:db8:1:2::7",
            "2001:db8:1::/48",
        ),
        (
            &["--ipv6-prefix", "128"],
            "2001:db8:1:2::7",
            "2001:db8:1:2::7",
        ),
    ] {
        let mut place = Place::new();
        let running = place.start(&[arguments, &["--threshold", "1"]].concat());
        place.write("site1", &entry(peer, 0, header, "403"));
        assert_eq!(place.reported(1), [want], "{arguments:?} {peer}");
        assert!(running.stop().success());
    }
}

#[test]
fn ignored_clients_and_foreign_owners_are_never_reported() {
    if !can_follow() {
        return;
    }
    let me = rustix::process::geteuid().as_raw();
    let other = (me + 1).to_string();
    for arguments in [
        &["--ignore", "192.0.2.0/24"][..],
        &["--ignore-file", "ignore.txt"],
        &["--require-owner", &other],
    ] {
        let mut place = Place::new();
        fs::write(place.path("ignore.txt"), "# office\n192.0.2.7\n").unwrap();
        place.write("site1", &entry("192.0.2.7", 0, "", "403"));
        let running = place.start(&[arguments, &["--threshold", "1"]].concat());
        place.write("site1", &entry("192.0.2.7", 1, "", "403"));
        place.write("site1", &entry("203.0.113.1", 2, "", "403"));
        if arguments[0] != "--require-owner" {
            assert_eq!(place.reported(1), ["203.0.113.1"], "{arguments:?}");
        }
        assert!(running.stop().success());
        assert!(
            place
                .jail()
                .iter()
                .all(|line| !line.starts_with("192.0.2.7"))
        );
    }
}

#[test]
fn an_entry_forged_by_a_site_user_counts_only_if_he_is_allowed() {
    if !can_follow() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can write files of another owner");
        return;
    }
    let mut place = Place::new();
    let running = place.start(&["--threshold", "1", "--require-owner", "root"]);
    let forged = place.path("forged");
    fs::write(&forged, entry("203.0.113.9", 0, "", "403")).unwrap();
    std::os::unix::fs::chown(&forged, Some(12_345), None).unwrap();
    let minute = place.path("audit/site1/20260822/20260822-1015");
    fs::create_dir_all(&minute).unwrap();
    fs::rename(&forged, minute.join("20260822-101500-forged")).unwrap();
    place.write("site1", &entry("192.0.2.7", 1, "", "403"));
    assert_eq!(place.reported(1), ["192.0.2.7"]);
    assert!(running.stop().success());
    assert_eq!(place.jail().len(), 1);
}

#[test]
fn hostile_entries_lead_to_the_right_address_or_to_none() {
    if !can_follow() {
        return;
    }
    let mut place = Place::new();
    let arguments = ["--threshold", "1", "--ipv6-prefix", "128"];
    let running = place.start(&arguments);
    let whole = entry("203.0.113.66", 0, "", "403");
    for (n, (peer, headers, status)) in [
        ("192.0.2.1", "X-Real-IP: 203.0.113.9\n", "403"),
        (
            "192.0.2.2",
            "x-ReAl-Ip: 203.0.113.9\nX-REAL-IP: 203.0.113.8\n",
            "403",
        ),
        ("192.0.2.3", "A: x[$(id)]HTTP/1.1\n", "403"),
        ("192.0.2.4", &*format!("\n--3fa0c41b-C--\n{whole}"), "403"),
        ("203.0.113.5", "A: HTTP/1.1 403\n", "200"),
        (
            "203.0.113.6",
            "\n--3fa0c41b-C--\nHTTP/1.1 403 Forbidden",
            "200",
        ),
        ("$(id)", "X-Real-IP: 203.0.113.9\n", "403"),
        ("203.0.113.7/e", "", "403"),
        ("203.0.113.7\n203.0.113.7", "", "403"),
    ]
    .into_iter()
    .enumerate()
    {
        let second = u32::try_from(n).unwrap();
        place.write("site1", &entry(peer, second, headers, status));
    }
    place.write("site1", &entry("192.0.2.99", 30, "", "403"));
    wait_for("the last one", || {
        place
            .jail()
            .iter()
            .any(|line| line.starts_with("192.0.2.99 "))
    });
    assert!(running.stop().success());
    let jail = place.jail();
    assert!(jail.iter().all(|line| is_jail_line(line)), "{jail:?}");
    assert!(
        jail.iter().all(|line| line.starts_with("192.0.2.")),
        "{jail:?}"
    );
    for client in ["192.0.2.1 ", "192.0.2.2 ", "192.0.2.3 "] {
        assert!(
            jail.iter().any(|line| line.starts_with(client)),
            "{client}: {jail:?}"
        );
    }
}

#[test]
fn rotation_of_the_jail_file_is_followed_also_by_signal() {
    if !can_follow() {
        return;
    }
    let mut place = Place::new();
    let running = place.start(&["--threshold", "1"]);
    place.write("site1", &entry("192.0.2.1", 0, "", "403"));
    place.reported(1);
    fs::rename(place.path("jail.log"), place.path("jail.log.1")).unwrap();
    running.signal(Signal::HUP);
    wait_for("a new jail file", || exists(&place.path("jail.log")));
    place.write("site1", &entry("192.0.2.2", 0, "", "403"));
    assert_eq!(place.reported(1), ["192.0.2.2"]);
    assert!(running.stop().success());
}

#[test]
fn files_that_are_removed_or_replaced_while_they_are_open_are_made_again() {
    if !can_follow() {
        return;
    }
    let mut place = Place::new();
    let running = place.start(&["--threshold", "1", "--save-interval", "1"]);
    let [jail, state] = ["jail.log", "state/recidive.dat"].map(|name| place.path(name));
    place.write("site1", &entry("192.0.2.1", 0, "", "403"));
    place.reported(1);
    wait_for("the state", || {
        fs::read_to_string(&state).is_ok_and(|text| text.contains("192.0.2.1 "))
    });
    fs::remove_file(&jail).unwrap();
    fs::remove_file(&state).unwrap();
    wait_for("the state without a change", || exists(&state));
    let text = fs::read_to_string(&state).unwrap();
    assert!(text.contains("192.0.2.1 "), "{text}");
    place.write("site1", &entry("192.0.2.2", 0, "", "403"));
    assert_eq!(place.reported(1), ["192.0.2.2"]);
    // An older copy, put there by rename.
    fs::write(place.path("copy"), "192.0.2.9 - 2026-08-22 10:15:00\n").unwrap();
    fs::rename(place.path("copy"), &jail).unwrap();
    place.write("site1", &entry("192.0.2.3", 0, "", "403"));
    assert_eq!(place.reported(2), ["192.0.2.9", "192.0.2.3"]);
    assert!(running.stop().success());
}

#[test]
fn a_second_instance_is_refused() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    let running = place.start(&[]);
    let output = place.recidive(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("already running"), "{text}");
    assert!(running.stop().success());
}

#[test]
fn a_dry_run_writes_lines_to_standard_output_and_no_file() {
    if !can_follow() {
        return;
    }
    let mut place = Place::new();
    place.write("site1", &entry("192.0.2.7", 0, "", "403"));
    let mut child = place
        .recidive(&["--dry-run", "--threshold", "1"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(child.stdout.take().unwrap()),
        &mut line,
    )
    .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        line.starts_with("192.0.2.7 - ") && is_jail_line(line.trim_end()),
        "{line:?}"
    );
    for name in ["jail.log", "state", "recidive.pid"] {
        assert!(!exists(&place.path(name)), "{name}");
    }
}

#[test]
fn history_tells_who_would_have_been_reported() {
    let mut place = Place::new();
    for second in [2, 0, 1] {
        place.write("site1", &entry("192.0.2.7", second, "", "403"));
    }
    let output = place
        .recidive(&["replay", "--threshold", "3", "audit"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("192.0.2.7  3 attacks from "), "{text}");
    assert!(text.contains("/item?id=1%27"), "{text}");
    let output = place
        .recidive(&["replay", "--threshold", "3", "--json", "audit"])
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["offenders"][0]["client"], "192.0.2.7");
    assert_eq!(
        json["offenders"][0]["reported_at"][0],
        "2026-08-22T08:15:02.123456Z"
    );
    for name in ["jail.log", "state", "recidive.pid"] {
        assert!(!exists(&place.path(name)), "{name}");
    }
    place.write("site1", "no entry\n");
    let output = place.recidive(&["replay", "audit"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn the_state_file_is_shown_as_a_table() {
    let place = Place::new();
    fs::create_dir(place.path("state")).unwrap();
    fs::write(place.path("state/recidive.dat"), "192.0.2.7 9 1787386500\n").unwrap();
    let output = place.recidive(&["status"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.lines().nth(1).unwrap().starts_with("192.0.2.7 "),
        "{text}"
    );
    let output = place.recidive(&["status", "--json"]).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["clients"][0]["last_seen"], "2026-08-22T08:15:00Z");
}

#[test]
fn contradictions_are_bad_arguments() {
    let place = Place::new();
    for (arguments, want) in [
        (&["--source", "storage-dir,index=x"][..], "same records"),
        (&["--source", "index=x", "--count", "score>=5"], "no scores"),
        (
            &["--source", "merged-log", "--require-owner", "0"],
            "no owner",
        ),
        (&["--threshold", "0"], "threshold 0"),
        (&["--find-time", "0"], "find time 0"),
        (&["--ipv4-prefix", "64"], "prefix of 64"),
        (&["--count", "rule=("], "regular expression"),
        (&["--ignore", "nowhere"], "not an address"),
        (&["--client-header", "Forwarded"], "X-Forwarded-For"),
        (&["--source", "syslog"], "expected storage-dir"),
    ] {
        let output = place.recidive(arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(want), "{arguments:?}: {text}");
    }
}

#[test]
fn every_option_is_explained() {
    let output = bare().arg("--help").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for word in [
        "--threshold",
        "ATTACK_THRESHOLD",
        "SECONDS",
        "[default: 600]",
        "WATCH_DIR",
        "RECEDIVE_FILE",
    ] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
}

#[test]
fn what_one_site_has_delays_the_attacks_on_another_by_a_turn_and_what_is_empty_not_at_all() {
    const TENANT: u32 = 54_321;
    if !can_follow() {
        return;
    }
    let mut place = Place::new();
    let good = place.write("site9", &entry("192.0.2.7", 0, "", "403"));
    let minute = good.parent().unwrap();
    let hostile = place
        .path("audit/site1")
        .join(minute.strip_prefix(place.path("audit/site9")).unwrap());
    fs::create_dir_all(&hostile).unwrap();
    for number in 0..40 {
        let path = hostile.join(format!("20260822-101500-hostile{number:02}"));
        // Quick to refuse, but who is to know.
        File::create(&path).unwrap().set_len(4 << 20).unwrap();
        chown(&path, Some(TENANT), None).unwrap();
    }
    for number in 0..500 {
        let path = hostile.join(format!("20260822-101500-empty{number}"));
        File::create(&path).unwrap();
        chown(&path, Some(TENANT), None).unwrap();
    }
    let events = inotify::init(CreateFlags::NONBLOCK).unwrap();
    for directory in [minute, &hostile] {
        inotify::add_watch(&events, directory, WatchFlags::OPEN).unwrap();
    }
    let running = place.start(&["--threshold", "1"]);
    assert_eq!(place.reported(1), ["192.0.2.7"]);
    assert!(running.stop().success());
    let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
    let mut reader = Reader::new(&events, &mut buffer);
    let mut opened = Vec::new();
    while let Ok(event) = reader.next() {
        if !event.events().contains(ReadFlags::ISDIR)
            && let Some(name) = event.file_name()
        {
            opened.push(name.to_str().unwrap().to_owned());
        }
    }
    let count = |names: &[String], what| names.iter().filter(|name| name.contains(what)).count();
    assert_eq!(count(&opened, "empty"), 0);
    let name = good.file_name().unwrap().to_str().unwrap();
    let at = opened.iter().position(|opened| opened == name).unwrap();
    let before = count(&opened[..at], "hostile");
    assert!(before <= 17, "{before} of 40: 64 MiB and one");
}

#[test]
fn a_log_of_entries_that_never_end_does_not_silence_the_watchdog() {
    // As in the unit.
    const WATCHDOG: Duration = Duration::from_secs(30);
    if !can_follow() {
        return;
    }
    let place = Place::new();
    let path = place.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let tick = Some(Duration::from_millis(100));
    socket.set_read_timeout(tick).unwrap();
    place.append("merged.log", "");
    let mut command = place.recidive(&["--threshold", "1", "--source", "merged-log"]);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    let running = Running::of(command.spawn().unwrap());
    let heard = |want: &str| {
        let mut bytes = [0; 512];
        let len = socket.recv(&mut bytes).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..len]).contains(want)
    };
    wait_for("the start", || heard("READY=1"));
    let endless = |number: u32| {
        format!(
            "--{number:08x}-A--\n[22/Aug/2026:10:15:00 +0200] u 192.0.2.9 1 198.51.100.4 80\n\
             --{number:08x}-C--\n"
        )
    };
    // 2.1 MB.
    let log: String = (0..25_000).map(endless).collect();
    place.append("merged.log", &log);
    // The first may be taken for the end of what is before it.
    for second in 0..3 {
        place.append(
            "merged.log",
            &(entry("192.0.2.7", second, "", "403") + "\n"),
        );
    }
    let start = Instant::now();
    let mut last = start;
    while !place
        .jail()
        .iter()
        .any(|line| line.starts_with("192.0.2.7 "))
    {
        if heard("WATCHDOG=1") {
            last = Instant::now();
        }
        assert!(last.elapsed() < WATCHDOG, "the service manager kills it");
        assert!(
            start.elapsed() < 4 * WATCHDOG,
            "waited in vain for the attack"
        );
    }
    assert!(running.stop().success());
}

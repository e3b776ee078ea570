//! What the program promises at its edges: arguments, messages, exit statuses, signals, files.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../modsec-core/tests/machine/accounts.rs"]
mod accounts;
mod daemon;
#[path = "../../modsec-core/tests/machine/executable.rs"]
#[expect(dead_code, reason = "the users start it with setpriv")]
mod executable;
#[path = "../../modsec-core/tests/machine/inotify.rs"]
mod inotify;
mod proof;
#[path = "../../modsec-core/tests/tips/mod.rs"]
mod tips;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Output;

use daemon::{Daemon, Place, make, mode, until};
use inotify::can_follow;
use rustix::process::Signal;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run(place: &Place, arguments: &[&str]) -> Output {
    place.command().args(arguments).output().unwrap()
}

#[test]
fn once_corrects_both_layouts_and_touches_nothing_else() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    let tree = place.tree();
    make(&tree.join("20260822/20260822-1015"), 0o755);
    make(&tree.join("site1/20260822/20260822-1015"), 0o755);
    make(&tree.join("site1/other"), 0o755);
    make(&tree.join("lost+found"), 0o700);
    fs::write(tree.join("site1/20260822/20260822-1015/entry"), "").unwrap();
    let entry_mode = mode(&tree.join("site1/20260822/20260822-1015/entry"));
    let output = run(&place, &["--once"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let cases = [
        ("", 0o755),
        ("20260822", 0o770),
        ("20260822/20260822-1015", 0o770),
        ("site1", 0o2770),
        ("site1/20260822", 0o2770),
        ("site1/20260822/20260822-1015", 0o2770),
        ("site1/20260822/20260822-1015/entry", entry_mode),
        ("site1/other", 0o755),
        ("lost+found", 0o700),
    ];
    for (path, want) in cases {
        assert_eq!(mode(&tree.join(path)), want, "{path}");
    }
    assert_eq!(fs::read_dir(&tree).unwrap().count(), 3);
    assert!(!place.path("watch_dir.log").exists() && !place.path("watch.pid").exists());
}

#[test]
fn the_directory_of_modsec_parser_is_left_alone_without_a_word() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    make(&place.tree().join(".modsec-parser"), 0o700);
    make(&place.tree().join("other"), 0o755);
    make(&place.tree().join("other/.modsec-parser"), 0o700);
    let output = run(&place, &["--once"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(mode(&place.tree().join(".modsec-parser")), 0o700);
    let log = text(&output.stderr);
    assert!(!log.contains("left alone path=\".modsec-parser\""), "{log}");
    // Somewhere else the name means nothing.
    assert!(
        log.contains("left alone path=\"other/.modsec-parser\""),
        "{log}"
    );
}

#[test]
fn a_site_that_cannot_enter_a_directory_above_is_named() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    for (mode, want) in [(0o750, true), (0o751, false), (0o705, false), (0o700, true)] {
        fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        let path = place.dir.path().canonicalize().unwrap();
        let said = format!("nobody cannot enter {},", path.display());
        for step in ["--once", "--dry-run", "--check-config"] {
            let output = run(&place, &[step, "--site-user", "nobody"]);
            let log = text(&output.stderr) + &text(&output.stdout);
            assert!(output.status.success(), "{step} {mode:04o}: {log}");
            for said in [&said, "cannot enter"] {
                let count = log.matches(said).count();
                assert_eq!(count, usize::from(want), "{step} {mode:04o}: {log}");
            }
        }
    }
}

#[test]
fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    make(&place.tree().join("20260822"), 0o755);
    for arguments in [&["--dry-run"][..], &["--dry-run", "--once"]] {
        let output = run(&place, arguments);
        let stdout = text(&output.stdout);
        assert!(
            stdout.contains(r#"correct "20260822": 0755 "#),
            "{arguments:?}: {stdout}"
        );
        assert_eq!(
            stdout.contains("create"),
            arguments.len() == 1,
            "{arguments:?}: {stdout}"
        );
        assert_eq!(mode(&place.tree().join("20260822")), 0o755);
        assert_eq!(fs::read_dir(place.tree()).unwrap().count(), 1);
    }
}

#[test]
fn bad_arguments_are_named_and_exit_with_2() {
    let place = Place::new();
    let cases: [&[&str]; 7] = [
        &["--mode", "rwx"],
        &["--mode", "4770"],
        &["--mode", "070"],
        &["--ahead", "x"],
        &["--ahead", "1441"],
        &["--log-format", "xml"],
        &["--no-such-option"],
    ];
    for arguments in cases {
        let output = run(&place, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(arguments[0]), "{arguments:?}");
    }
}

#[test]
fn unknown_users_and_groups_are_explained() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    for (option, want) in [
        ("--owner", "no user"),
        ("--group", "no group"),
        ("--site-user", "no user"),
    ] {
        let output = place
            .command()
            .arg("--once")
            .args([option, "no-such-name"])
            .output()
            .unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{option}: {stderr}");
        assert!(
            stderr.contains(want) && stderr.contains("numeric id"),
            "{option}: {stderr}"
        );
    }
}

#[test]
fn a_world_writable_mode_is_set_with_a_warning_only_on_demand() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    let minute = place.tree().join("20260822");
    make(&minute, 0o777);
    let output = run(&place, &["--once"]);
    assert_eq!(mode(&minute), 0o770, "{}", text(&output.stderr));
    fs::set_permissions(place.tree(), fs::Permissions::from_mode(0o777)).unwrap();
    for (step, want) in [("--check-config", 0o770), ("--once", 0o777)] {
        let output = run(&place, &[step, "--mode", "777"]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(mode(&minute), want);
        let said = text(&output.stdout) + &text(&output.stderr);
        for warning in ["everybody on this machine", "chmod +t"] {
            assert_eq!(said.matches(warning).count(), 1, "{step}: {said}");
        }
    }
}

#[test]
fn links_are_left_alone_and_make_a_single_run_exit_with_3() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    let outside = place.path("outside");
    make(&outside.join("20260822"), 0o755);
    symlink(&outside, place.tree().join("site1")).unwrap();
    make(&place.tree().join("site2"), 0o755);
    symlink(
        outside.join("20260822"),
        place.tree().join("site2/20260822"),
    )
    .unwrap();
    let output = run(&place, &["--once"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert_eq!(
        (mode(&outside), mode(&outside.join("20260822"))),
        (0o755, 0o755)
    );
    assert_eq!(text(&output.stderr).matches("left alone").count(), 2);
}

#[test]
fn without_a_storage_directory_a_single_run_fails_with_the_reason() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    let tree = place.tree();
    fs::remove_dir(&tree).unwrap();
    let fails = |want: &str| {
        let output = run(&place, &["--once"]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains(want) && stderr.lines().count() == 1,
            "{stderr}"
        );
    };
    fails("does not exist");
    symlink("/etc", &tree).unwrap();
    fails("is a symbolic link: name the directory itself, /etc");
    fs::remove_file(&tree).unwrap();
    fs::write(&tree, "").unwrap();
    fails("is not a directory");
}

#[test]
fn a_storage_directory_may_come_go_and_come_back() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    let tree = place.tree();
    fs::remove_dir(&tree).unwrap();
    let daemon = Daemon::start(&place, place.command().args(["--ahead", "0"]));
    until("the message", || place.log().contains("does not exist"));
    make(&tree, 0o755);
    make(&tree.join("20260822"), 0o755);
    until("the first correction", || {
        mode(&tree.join("20260822")) == 0o770
    });
    fs::rename(&tree, place.path("old")).unwrap();
    until("the message", || {
        place.log().contains("has been moved or removed")
    });
    make(&tree.join("20260823/20260823-0000"), 0o755);
    until("the second correction", || {
        mode(&tree.join("20260823/20260823-0000")) == 0o770
    });
    let (status, stderr) = daemon.stop();
    assert!(status.success(), "{stderr}");
}

#[test]
fn one_instance_runs_and_the_next_is_told_who_it_is() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    fs::write(place.path("watch.pid"), "1\n").unwrap();
    let daemon = Daemon::start(&place, &mut place.command());
    let pid = daemon.pid();
    assert_eq!(
        fs::read_to_string(place.path("watch.pid")).unwrap(),
        format!("{pid}\n")
    );
    let second = run(&place, &[]);
    assert_eq!(second.status.code(), Some(1));
    let stderr = text(&second.stderr);
    assert!(
        stderr.contains(&format!("process {pid} (watch-dir)")),
        "{stderr}"
    );
    let (status, stderr) = daemon.stop();
    assert!(status.success(), "{stderr}");
    assert!(!place.path("watch.pid").exists());

    // A killed process leaves its file, which is no obstacle.
    let mut killed = Daemon::start(&place, &mut place.command());
    killed.signal(Signal::KILL);
    killed.ended();
    assert!(place.path("watch.pid").exists());
    let daemon = Daemon::start(&place, &mut place.command());
    daemon.signal(Signal::INT);
    let mut daemon = daemon;
    assert!(daemon.ended().0.success());
    assert!(!place.path("watch.pid").exists());
}

#[test]
fn a_directory_that_somebody_changes_is_corrected_again() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    let directory = place.tree().join("20260822");
    make(&directory, 0o755);
    let daemon = Daemon::start(&place, &mut place.command());
    for mode_of_somebody in [0o700, 0o777, 0o755] {
        fs::set_permissions(&directory, PermissionsExt::from_mode(mode_of_somebody)).unwrap();
        until("the correction", || mode(&directory) == 0o770);
    }
    drop(daemon);
}

#[test]
fn the_log_names_each_directory_and_is_opened_again_on_sighup() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    // With the default mode it would warn of what that leaves open.
    let arguments = ["--ahead", "0", "--layout", "flat", "--mode", "1770"];
    let daemon = Daemon::start(&place, place.command().args(arguments));
    let log = place.path("watch_dir.log");
    make(&place.tree().join("20260822"), 0o755);
    until("the first line", || {
        place.log().contains(r#"path="20260822""#)
    });
    fs::rename(&log, place.path("watch_dir.log.1")).unwrap();
    daemon.signal(Signal::HUP);
    until("the new file", || place.log().contains("log file reopened"));
    make(&place.tree().join("20260823"), 0o755);
    until("the second line", || {
        place.log().contains(r#"path="20260823""#)
    });
    assert!(!place.log().contains("20260822"));
    assert_eq!(mode(&log) & 0o007, 0, "readable by everybody");
    let (status, stderr) = daemon.stop();
    assert!(status.success() && stderr.is_empty(), "{stderr}");
}

#[test]
fn log_lines_can_be_json() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    make(&place.tree().join("20260822"), 0o755);
    let output = run(&place, &["--once", "--log-format", "json"]);
    let stderr = text(&output.stderr);
    let line = stderr
        .lines()
        .find(|line| line.contains("directory corrected"))
        .unwrap();
    assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
    assert!(line.contains(r#""path":"\"20260822\"""#), "{line}");
}

#[test]
fn the_service_manager_hears_of_start_life_and_end() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    let mut command = place.command();
    command.env("WATCHDOG_USEC", "100000");
    let mut daemon = Daemon::start(&place, &mut command);
    daemon.wait_for("WATCHDOG=1");
    daemon.wait_for("WATCHDOG=1");
    daemon.signal(Signal::TERM);
    daemon.wait_for("STOPPING=1");
    assert!(daemon.ended().0.success());
}

#[test]
fn options_can_be_given_as_variables() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    let directory = place.tree().join("20260822");
    make(&directory, 0o755);
    let output = place
        .command()
        .env("WATCH_DIR_ONCE", "yes")
        .env("WATCH_DIR_MODE", "2750")
        .env("WATCH_DIR_QUIET", "3")
        .output()
        .unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(mode(&directory), 0o2750);
}

#[test]
fn coming_minutes_exist_before_they_begin_in_the_layout_in_use() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    // An entry tells which layout it is.
    let used = place.tree().join("20200101/20200101-0000");
    make(&used, 0o755);
    fs::write(used.join("entry"), "").unwrap();
    let daemon = Daemon::start(&place, place.command().args(["--ahead", "5"]));
    let minutes = || -> Vec<_> {
        fs::read_dir(place.tree())
            .unwrap()
            // A directory being made under another name may be gone again.
            .flat_map(|day| fs::read_dir(day.unwrap().path()))
            .flatten()
            .map(|minute| minute.unwrap().path())
            .filter(|minute| *minute != used)
            .collect()
    };
    until("six minutes", || minutes().len() >= 6);
    for minute in minutes() {
        assert_eq!(mode(&minute), 0o770, "{}", minute.display());
        assert_eq!(mode(minute.parent().unwrap()), 0o770);
    }
    drop(daemon);
}

#[test]
fn directories_of_site_users_are_created_and_empty_past_ones_removed() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    let past = place.tree().join("site1/20200101");
    make(&past.join("20200101-0000"), 0o755);
    let used = place.tree().join("site2/20200101/20200101-0001");
    make(&used, 0o755);
    fs::write(used.join("entry"), "").unwrap();
    let old = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    for path in [past.join("20200101-0000"), past.clone(), used.clone()] {
        fs::File::open(path).unwrap().set_times(old).unwrap();
    }
    let uid = rustix::process::geteuid().as_raw().to_string();
    let mut command = place.command();
    command.args([
        "--check-interval",
        "1",
        "--layout",
        "per-user",
        "--site-user",
        &uid,
    ]);
    let daemon = Daemon::start(&place, &mut command);
    until("the past minute to go", || {
        !past.join("20200101-0000").exists()
    });
    assert!(used.join("entry").exists());
    let name = text(
        &std::process::Command::new("id")
            .arg("-un")
            .output()
            .unwrap()
            .stdout,
    );
    let own = place.tree().join(name.trim());
    until("the user's directory", || mode(&own) == 0o2770);
    until("minutes in it", || {
        fs::read_dir(&own).is_ok_and(|mut days| {
            days.any(|day| {
                fs::read_dir(day.unwrap().path()).is_ok_and(|minutes| minutes.count() >= 2)
            })
        })
    });
    drop(daemon);
}

#[test]
fn an_unreadable_storage_directory_is_reported_and_waited_for() {
    if !can_follow() {
        return;
    }
    if rustix::process::geteuid().is_root() {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: root reads everything; the privileged tests have this case"
        );
        return;
    }
    let place = Place::new();
    fs::set_permissions(place.tree(), PermissionsExt::from_mode(0o000)).unwrap();
    let output = run(&place, &["--once"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("CAP_DAC_OVERRIDE"),
        "{}",
        text(&output.stderr)
    );
    let daemon = Daemon::start(&place, &mut place.command());
    fs::set_permissions(place.tree(), PermissionsExt::from_mode(0o755)).unwrap();
    until("today's directory", || {
        fs::read_dir(place.tree()).is_ok_and(|tree| tree.count() > 0)
    });
    drop(daemon);
}

#[test]
fn the_help_is_complete() {
    let output = Place::new().command().arg("--help").output().unwrap();
    let help = text(&output.stdout);
    for section in [
        "LAYOUTS",
        "SIGNALS",
        "EXIT STATUS",
        "PRIVILEGES",
        "EXAMPLES",
        "WATCH_DIR_AHEAD",
    ] {
        assert!(help.contains(section), "{section} missing in {help}");
    }
}

#[test]
fn the_unit_file_is_valid() {
    if !daemon::is_installed("systemd-analyze", "systemd") {
        return;
    }
    // Program, page and group need not be installed here for the rest to be checked.
    let place = Place::new();
    let unit = include_str!("../deploy/watch-dir.service")
        .replace("/usr/bin/watch-dir", env!("CARGO_BIN_EXE_watch-dir"));
    let path = place.path("watch-dir.service");
    fs::write(&path, unit).unwrap();
    let output = std::process::Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&path)
        .output()
        .unwrap();
    let ours = |line: &&str| line.contains("watch-dir.service");
    let complaints: Vec<_> = std::str::from_utf8(&output.stderr)
        .unwrap()
        .lines()
        .filter(ours)
        .collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn a_mistyped_option_is_answered_by_one_that_is_there() {
    tips::check(env!("CARGO_BIN_EXE_watch-dir").as_ref(), &[&[]]);
}

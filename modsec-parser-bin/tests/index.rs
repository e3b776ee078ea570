//! The index as commit records: nothing is waited for, and what is lost is counted.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "index/apache.rs"]
mod apache;
#[path = "../../modsec-core/tests/machine/inotify.rs"]
mod inotify;
#[path = "site/index.rs"]
mod lines;
mod site;

use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use rustix::process::Signal;

use self::inotify::can_follow;
use self::lines::{digest, line};
use self::site::{Database as _, Site, Sqlite, entry, until};

/// Nothing is taken for its age.
const OLD: [&str; 4] = ["--min-age", "100000", "--stale-after", "100000"];

/// A line of libmodsecurity 3 about `bytes` at `path`, which is absolute.
fn v3_line(path: &Path, bytes: &[u8]) -> Vec<u8> {
    let end = format!(" 0 {}.000000 {}\n", bytes.len(), digest(bytes));
    let left =
        br#"h 192.0.2.7 - [04/Mar/2026:05:06:07 +0000] "GET /" 200 57 - "a "b" 0 1 md5:" 1.2 - "#;
    [left, path.as_os_str().as_bytes(), end.as_bytes()].concat()
}

/// Returns the file that says how far the index was read, once there is one.
fn notes(site: &Site<Sqlite>) -> Option<PathBuf> {
    let files = fs::read_dir(site.state()).into_iter().flatten().flatten();
    let mut paths = files.map(|file| file.path());
    paths.find(|path| path.extension() == Some("index".as_ref()))
}

/// The site's command, with these arguments instead of its own if they are the same options.
fn command(site: &Site<Sqlite>, arguments: &[&str]) -> Command {
    let usual = site.command();
    let mut command = Command::new(usual.get_program());
    command.env_clear().env("HOME", site.dir.path());
    command.env("STATE_DIRECTORY", site.state());
    let mut usual = usual.get_args();
    while let (Some(name), Some(value)) = (usual.next(), usual.next()) {
        if !arguments.iter().any(|argument| name == *argument) {
            command.args([name, value]);
        }
    }
    command.args(arguments);
    command
}

fn with_index(site: &Site<Sqlite>, arguments: &[&str]) -> Command {
    let mut command = command(site, arguments);
    command.arg("--index").arg(site.index());
    command
}

/// Runs once and returns the status and what the summary says of the index.
fn run(site: &Site<Sqlite>, arguments: &[&str]) -> (Option<i32>, String) {
    let output = with_index(site, arguments).output().unwrap();
    (output.status.code(), summary(&output))
}

fn summary(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(at) = text.find("index: ") else {
        return String::new();
    };
    let mut numbers = Vec::new();
    for word in text[at + 7..].split(", ").take(5) {
        let (number, label) = word.split_once(' ').unwrap();
        if number != "0" {
            numbers.push(format!("{number} {label}"));
        }
    }
    numbers.join(", ")
}

#[test]
fn what_is_listed_is_taken_at_once_and_nothing_else() {
    let mut site = Site::with_sqlite();
    for _ in 0..1500 {
        site.put_listed(300);
    }
    site.put_listed(600_000);
    let unlisted = site
        .tree()
        .join("site1/20260304/20260304-0500/20260304-050000-z");
    fs::write(&unlisted, entry("z", 10)).unwrap();
    let want = "1501 lines, 1501 verified".to_owned();
    assert_eq!(run(&site, &OLD), (Some(0), want));
    assert_eq!(site.left(), [unlisted.as_path()]);
    fs::remove_file(unlisted).unwrap();
    site.check(&[&site.log], "listed");
    assert_eq!(
        run(&site, &OLD),
        (Some(0), String::new()),
        "lines are read once"
    );
}

#[test]
fn overwritten_records_are_counted_exactly() {
    for (name, burst, shuffle) in [("two", 2, 0), ("fifty", 50, 0), ("out of order", 50, 17)] {
        let mut site = Site::with_sqlite();
        // Account is kept from now on.
        site.append_line(b"");
        assert_eq!(run(&site, &[]).0, Some(0));
        site.put_listed(100);
        let (path, last) = site.announce(200);
        let mut lines: Vec<_> = (1..burst)
            .map(|number| site.line(&path, &entry(&format!("lost{number}"), number)))
            .collect();
        lines.push(site.line(&path, &last));
        lines.rotate_left(shuffle);
        site.append_line(&lines.concat());
        fs::write(&path, &last).unwrap();
        site.put_listed(100);
        let gone = burst - 1;
        let want = format!("{} lines, 3 verified, {gone} overwritten", burst + 2);
        assert_eq!(run(&site, &OLD), (Some(3), want), "{name}");
        site.check(&[&site.log], name);
        assert_eq!(run(&site, &OLD), (Some(0), String::new()), "{name}: once");
    }
}

#[test]
fn what_is_not_as_announced_is_counted_and_left_to_the_usual_rules() {
    let mut site = Site::with_sqlite();
    site.append_line(b"");
    run(&site, &[]);
    // Cut short, as on a full disk.
    let (cut, bytes) = site.announce(2000);
    fs::write(&cut, &bytes[..1000]).unwrap();
    site.append_line(&site.line(&cut, &bytes));
    // Other bytes of the same size.
    let (changed, bytes) = site.announce(2000);
    let mut other = bytes.clone();
    other[700] ^= 1;
    site.append_line(&site.line(&changed, &other));
    fs::write(&changed, &bytes).unwrap();
    // Never written.
    let gone = cut.with_file_name("20260304-050607-gone");
    site.append_line(&site.line(&gone, b"gone"));
    let want = "3 lines, 1 missing, 2 mismatched".to_owned();
    assert_eq!(run(&site, &["--stale-after", "0"]), (Some(3), want));
    let rows = site.database.rows();
    assert_eq!(rows.values().sum::<i64>(), 2, "stored as they are");
    assert_eq!(site.left(), Vec::<&Path>::new());
}

#[test]
fn a_record_that_may_be_followed_by_the_line_of_a_later_one_is_judged_later() {
    let mut site = Site::with_sqlite();
    site.append_line(b"");
    run(&site, &[]);
    let (path, last) = site.announce(200);
    site.append_line(&site.line(&path, b"overwritten"));
    fs::write(&path, &last).unwrap();
    assert_eq!(run(&site, &OLD), (Some(0), "1 line".to_owned()));
    site.append_line(&site.line(&path, &last));
    let want = "1 line, 1 verified, 1 overwritten".to_owned();
    assert_eq!(run(&site, &["--min-age", "0"]), (Some(3), want));
}

#[test]
fn hostile_lines_lead_nowhere() {
    let mut site = Site::with_sqlite();
    site.append_line(b"");
    run(&site, &[]);
    let outside = site.dir.path().join("outside");
    let minute = "20260304/20260304-0506";
    let name = "20260304-050607-victim";
    let victim = entry("victim", 10);
    fs::create_dir_all(outside.join(minute)).unwrap();
    fs::write(outside.join(minute).join(name), &victim).unwrap();
    symlink(&outside, site.tree().join("link")).unwrap();
    let inside = site.tree().join("site1").join(minute);
    fs::create_dir_all(&inside).unwrap();
    let another = "20260304-050607-another";
    for name in [name, another] {
        symlink(
            outside.join(minute).join("20260304-050607-victim"),
            inside.join(name),
        )
        .unwrap();
    }
    let paths = [
        "../../etc/passwd".to_owned(),
        format!("../outside/{minute}/{name}"),
        format!("link/{minute}/{name}"),
        format!("site1/{minute}/{name}"),
        format!("./{minute}/{name}"),
        format!("/{minute}/{name}"),
        format!(".modsec-parser/{minute}/{name}"),
        format!("site1/{minute}/.."),
        format!("site1/{minute}/{name}\r"),
        format!("site1\r/{minute}/{name}"),
        "etc/passwd".to_owned(),
    ];
    for path in &paths {
        site.append_line(&line(path.as_bytes(), &victim));
    }
    site.append_line(&v3_line(&outside.join(minute).join(name), &victim));
    site.append_line(&v3_line(Path::new("/etc/passwd"), &victim));
    site.append_line(b"\n\x00\xff garbage\r\n");
    let crlf = line(format!("site1/{minute}/{another}").as_bytes(), &victim);
    site.append_line(&[&crlf[..crlf.len() - 1], b"\r\n"].concat());
    site.append_line(&[&vec![b'x'; 3_000_000][..], &crlf].concat());
    site.put_listed(100);
    let output = with_index(&site, &OLD).output().unwrap();
    // Three lines lead to links, one of a directory and two of the file, and one to a name that
    // nothing has.
    let want = "18 lines, 1 verified, 1 missing, 3 mismatched";
    assert_eq!(summary(&output), want, "{output:?}");
    assert!(outside.join(minute).join(name).exists());
    assert_eq!(site.database.rows().len(), 1);
}

#[test]
fn an_index_that_was_copied_by_way_of_windows_is_read() {
    let mut site = Site::with_sqlite();
    site.append_line(b"");
    run(&site, &[]);
    for number in 0..20 {
        let (path, bytes) = site.announce(100 + number);
        fs::write(&path, &bytes).unwrap();
        let line = String::from_utf8(site.line(&path, &bytes)).unwrap();
        site.append_line(line.replace('\n', "\r\n").as_bytes());
    }
    let want = "20 lines, 20 verified".to_owned();
    assert_eq!(run(&site, &OLD), (Some(0), want));
    assert_eq!(site.left(), Vec::<&Path>::new());
}

#[test]
fn lines_of_libmodsecurity_are_followed_whatever_path_they_know_the_directory_by() {
    let mut site = Site::with_sqlite();
    let link = site.dir.path().join("other name");
    symlink(site.tree(), &link).unwrap();
    let tree = site.tree();
    for root in [tree.join(""), link, "/nowhere".into()] {
        let (_, bytes) = site.announce(100);
        let name = format!("20260304/20260304-0506/20260304-050607-{}.1", site.count());
        fs::create_dir_all(tree.join("20260304/20260304-0506")).unwrap();
        fs::write(tree.join(&name), &bytes).unwrap();
        let path = format!("{}/{name}", root.display());
        site.append_line(&v3_line(Path::new(&path), &bytes));
    }
    let want = "3 lines, 2 verified".to_owned();
    assert_eq!(run(&site, &OLD), (Some(0), want));
    assert_eq!(site.database.rows().len(), 2);
}

#[test]
fn lines_from_before_the_first_run_accuse_nobody() {
    let mut site = Site::with_sqlite();
    for number in 0..2500 {
        let (path, _) = site.announce(10);
        site.append_line(&site.line(&path, &entry(&format!("old{number}"), 10)));
    }
    let mut site2 = Site::with_sqlite();
    fs::copy(site.index(), site2.index()).unwrap();
    // Of a name whose last record is there, the others are known to be lost.
    let (path, last) = site2.announce(200);
    let path = path.with_file_name("20260304-050607-other");
    site2.append_line(&site2.line(&path, b"overwritten"));
    fs::write(&path, &last).unwrap();
    site2.append_line(&site2.line(&path, &last));
    let want = "2502 lines, 1 verified, 1 overwritten".to_owned();
    assert_eq!(run(&site2, &OLD), (Some(3), want));
    fs::write(notes(&site2).unwrap(), "broken").unwrap();
    let want = "2502 lines".to_owned();
    assert_eq!(run(&site2, &OLD), (Some(0), want), "notes lost");
}

#[test]
fn rotation_between_two_runs_loses_no_line() {
    for (name, is_compressed) in [
        ("index.log.1", false),
        ("index.log-20261127", false),
        ("index-20261127.log", true),
    ] {
        let mut site = Site::with_sqlite();
        site.put_listed(100);
        run(&site, &OLD);
        site.put_listed(100);
        let old = site.dir.path().join(name);
        fs::rename(site.index(), &old).unwrap();
        if is_compressed {
            let gzip = Command::new("gzip").arg(&old).status();
            assert!(gzip.unwrap().success());
        }
        site.put_listed(100);
        let want = "2 lines, 2 verified".to_owned();
        assert_eq!(run(&site, &OLD), (Some(0), want), "{name}");
        site.check(&[&site.log], name);
    }
}

#[test]
fn a_log_that_is_no_index_is_named() {
    let mut site = Site::with_sqlite();
    site.put(100);
    assert!(site.run().0.success());
    for (index, status, word) in [
        (
            site.log.clone(),
            2,
            "--merged-log and --index name the same file",
        ),
        (site.dir.path().join("serial.log"), 1, "is no index"),
        (site.dir.path().to_owned(), 1, "could not read index"),
    ] {
        fs::write(site.dir.path().join("serial.log"), entry("x", 10)).unwrap();
        let mut command = site.command();
        let output = command.arg("--index").arg(&index).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{index:?}: {text}");
        assert!(text.contains(word), "{text}");
    }
    for (arguments, word) in [
        (&["--index", "-", "--follow"][..], "leave out --follow"),
        (&["--index", "x", "--dry-run"], "does not go with --dry-run"),
    ] {
        let output = site.command().args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(word), "{text}");
    }
    let output = site
        .command()
        .args(["--index", "/nowhere/x"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("compare with SecAuditLog"),
        "{text}"
    );
}

fn copy_tree(from: &Path, to: &Path) {
    for found in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(found.file_name());
        if found.file_type().unwrap().is_dir() {
            fs::create_dir_all(&to).unwrap();
            copy_tree(&found.path(), &to);
        } else {
            fs::copy(found.path(), to).unwrap();
        }
    }
}

#[test]
fn every_record_that_a_real_server_listed_is_verified() {
    let data = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../modsec-core/tests/data"
    ));
    let mut corpora = 0;
    for format in fs::read_dir(data).unwrap().map(Result::unwrap) {
        if !format.file_type().unwrap().is_dir() {
            continue;
        }
        for corpus in fs::read_dir(format.path()).unwrap().map(Result::unwrap) {
            let Ok(index) = fs::read(corpus.path().join("index.log")) else {
                continue;
            };
            let site = Site::with_sqlite();
            // Where the server's directory was, this one is now.
            let index = String::from_utf8(index).unwrap();
            let root = format!(" {}/", site.tree().display());
            let moved = index
                .lines()
                .map(|line| match line.find(" /srv/stack/run/") {
                    Some(at) => {
                        let end = line[at..].find("/audit/").unwrap() + at + 7;
                        format!("{}{root}{}\n", &line[..at], &line[end..])
                    }
                    None => format!("{line}\n"),
                });
            fs::write(site.index(), moved.collect::<String>()).unwrap();
            copy_tree(&corpus.path().join("audit"), &site.tree());
            let lines = index.lines().count();
            let want = format!("{lines} lines, {lines} verified");
            let case = corpus.path();
            assert_eq!(run(&site, &OLD), (Some(0), want), "{}", case.display());
            assert_eq!(site.left(), Vec::<&Path>::new(), "{}", case.display());
            corpora += 1;
        }
    }
    assert!(corpora >= 4, "{corpora}");
}

/// A program that reads the index from a pipe, as the server starts it.
struct Piped {
    child: Child,
    pipe: ChildStdin,
    stderr: std::path::PathBuf,
}

impl Piped {
    fn start(site: &Site<Sqlite>, arguments: &[&str]) -> Piped {
        let stderr = site.dir.path().join("stderr");
        let mut command = command(site, arguments);
        let mut child = command
            .args(["--index", "-", "--rescan-every", "86400"])
            .stdin(Stdio::piped())
            .stderr(fs::File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        let pipe = child.stdin.take().unwrap();
        Piped {
            child,
            pipe,
            stderr,
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }

    /// Closes the pipe and returns what it has logged.
    fn end(self) -> String {
        let Piped {
            mut child,
            pipe,
            stderr,
        } = self;
        drop(pipe);
        let status = child.wait().unwrap();
        let log = fs::read_to_string(stderr).unwrap();
        assert!(status.success(), "{status}: {log}");
        log
    }
}

#[test]
fn a_pipe_is_read_to_its_end_and_all_that_it_lists_is_stored() {
    if !can_follow() {
        return;
    }
    let mut site = Site::with_sqlite();
    let mut piped = Piped::start(&site, &OLD);
    for round in 0..3 {
        for _ in 0..400 {
            let path = site.put(200);
            let line = site.line(&path, &fs::read(&path).unwrap_or_else(|_| site.last()));
            piped.pipe.write_all(&line).unwrap();
        }
        if round == 1 {
            site.wait_for_rows();
        }
    }
    let log = piped.end();
    assert!(!log.contains("lost or damaged"), "{log}");
    site.check(&[&site.log], "piped");
}

#[test]
fn an_entry_that_only_the_index_knows_to_be_complete_is_stored_within_seconds() {
    if !can_follow() {
        return;
    }
    let mut site = Site::with_sqlite();
    let mut piped = Piped::start(&site, &[]);
    site.put(10);
    until("the first walk", || site.database.rows().len() == 1);
    // Without its last part no event tells that it is complete.
    let bytes = entry("noz", 100);
    let bytes = &bytes[..bytes.len() - 17];
    let path = site
        .tree()
        .join("site1/20260304/20260304-0500/20260304-050000-noz");
    fs::write(&path, bytes).unwrap();
    piped.pipe.write_all(&site.line(&path, bytes)).unwrap();
    until("the entry", || site.database.rows().contains_key("noz"));
    piped.end();
    assert!(!path.exists());
}

#[test]
fn losses_are_logged_when_the_pipe_ends() {
    if !can_follow() {
        return;
    }
    let mut site = Site::with_sqlite();
    let mut piped = Piped::start(&site, &[]);
    let (path, last) = site.announce(100);
    let first = site.line(&path, b"overwritten");
    fs::write(&path, &last).unwrap();
    piped.pipe.write_all(&first).unwrap();
    piped.pipe.write_all(&site.line(&path, &last)).unwrap();
    let log = piped.end();
    assert!(
        log.contains("overwritten=1 missing=0 mismatched=0"),
        "{log}"
    );
    site.check(&[&site.log], "piped");
}

#[test]
fn signals_of_the_server_end_nothing_before_its_time() {
    if !can_follow() {
        return;
    }
    let mut site = Site::with_sqlite();
    let mut piped = Piped::start(&site, &[]);
    site.put_all(10, 10);
    until("the first walk", || site.database.rows().len() == 10);
    let pid = rustix::process::Pid::from_child(&piped.child);
    for signal in [Signal::HUP, Signal::PIPE, Signal::USR1, Signal::WINCH] {
        rustix::process::kill_process(pid, signal).unwrap();
    }
    site.put(10);
    site.wait_for_rows();
    // Lines that are in the pipe, or come shortly after, are still taken.
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let path = site.put(10);
    let line = site.line(&path, &site.last());
    piped.pipe.write_all(&line).unwrap();
    let Piped { mut child, .. } = piped;
    assert!(child.wait().unwrap().success());
    site.check(&[&site.log], "signals");
}

#[test]
fn a_restarted_server_waits_for_the_program_of_the_old_one() {
    if !can_follow() {
        return;
    }
    let mut site = Site::with_sqlite();
    let old = Piped::start(&site, &[]);
    site.put(10);
    until("the first walk", || site.database.rows().len() == 1);
    let mut new = Piped::start(&site, &[]);
    until("the warning", || {
        new.log().contains("in use by modsec-parser")
    });
    // More than the pipe holds: the server never stands still.
    let (path, bytes) = site.announce(10);
    let line = site.line(&path, &bytes);
    new.pipe.write_all(&line.repeat(20_000)).unwrap();
    fs::write(&path, &bytes).unwrap();
    old.end();
    site.wait_for_rows();
    new.end();
    site.check(&[&site.log], "restarted");
}

#[test]
fn an_index_is_followed_across_rotation() {
    if !can_follow() {
        return;
    }
    let mut site = Site::with_sqlite();
    site.put_listed(100);
    let index = site.index();
    let arguments = ["--rescan-every", "1", "--index", index.to_str().unwrap()];
    let running = site.follow(&arguments);
    site.wait_for_rows();
    for round in 0..3 {
        for _ in 0..50 {
            site.put_listed(100);
        }
        fs::rename(&index, index.with_extension(format!("log.{round}"))).unwrap();
        site.put_listed(100);
        let rows = site.count();
        until("rows", || site.database.rows().len() == rows);
    }
    let gone = site
        .tree()
        .join("site1/20260304/20260304-0500/20260304-050000-gone");
    site.append_line(&site.line(&gone, b"gone"));
    // By its name, in hexadecimal digits; others may be open for a moment.
    let is_open = || {
        let notes = fs::read_to_string(notes(&site).unwrap()).unwrap();
        notes
            .lines()
            .any(|line| line.starts_with("open ") && line.ends_with("676f6e65"))
    };
    until("the line", is_open);
    until("the loss", || !is_open());
    until("files removed", || site.left().is_empty());
    let log = running.stop();
    let told = "overwritten=0 missing=1 mismatched=0";
    assert!(log.contains(told), "{log}");
    site.check(&[&site.log], "followed");
}

//! However the program ends, the next run leaves every entry in the store once and in the merged
//! log once, and no file.

use std::io::Read as _;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::site::{Site, entry};

fn start(site: &Site, args: &[&str]) -> Child {
    let mut command = site.collecting();
    command
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until the merged log is longer than `len` or the program has ended; false if it has.
fn wait_for_log(site: &Site, child: &mut Child, len: u64) -> bool {
    let log = site.path("merged.log");
    loop {
        if log.metadata().is_ok_and(|meta| meta.len() > len) {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        sleep(Duration::from_millis(1));
    }
}

/// Puts entries `from..to` into the tree, one in each minute: batches are short then.
fn put_entries(site: &Site, from: usize, to: usize) {
    for number in from..to {
        let minute = u32::try_from(number % 14_400).unwrap();
        site.put(minute, format!("{number}"), &entry(number));
    }
}

#[test]
fn two_programs_do_not_work_on_one_tree() {
    let site = Site::new();
    put_entries(&site, 0, 1000);
    // The first writes a line when it has the lock, and then has to wait for a reader.
    let mut first = start(&site, &["--jsonl"]);
    let mut lines = [0];
    let mut stdout = first.stdout.take().unwrap();
    stdout.read_exact(&mut lines).unwrap();
    let mut lines = String::from_utf8(lines.to_vec()).unwrap();
    let pid = first.id().to_string();
    site.collect().expect(
        1,
        &[
            "audit\" is in use by modsec-parser",
            &pid,
            "wait for it or stop it",
        ],
    );
    stdout.read_to_string(&mut lines).unwrap();
    assert!(first.wait().unwrap().success());
    assert_eq!(lines.lines().count(), 1000);
    site.collect().expect(0, &["0 entries"]);
    site.assert_kept(&(0..1000).map(entry).collect::<Vec<_>>());
}

#[test]
fn sigterm_ends_it_soon_and_the_next_run_finishes() {
    const ENTRIES: usize = 8000;
    let site = Site::new();
    put_entries(&site, 0, ENTRIES);
    let mut child = start(&site, &["--threads", "1"]);
    assert!(wait_for_log(&site, &mut child, 0));
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143), "{output:?}");
    let (stored, left) = (site.stored().len(), site.files().len());
    assert!(stored > 0 && left > 0, "{stored} stored, {left} left");
    assert_eq!(
        stored + left,
        ENTRIES,
        "a file is gone when its entry is stored"
    );
    site.collect().expect(0, &[]);
    assert_eq!(site.files().len(), 0);
    site.assert_kept(&(0..ENTRIES).map(entry).collect::<Vec<_>>());
}

#[test]
fn sigkill_at_any_instant_loses_and_doubles_nothing() {
    const KILLS: u32 = 50;
    let site = Site::new();
    let mut entries = 2000;
    put_entries(&site, 0, entries);
    let seed = Instant::now();
    let (mut kills, mut settled) = (0, 0);
    while kills < KILLS {
        if site.files().is_empty() {
            put_entries(&site, entries, entries + 500);
            entries += 500;
        }
        let mut child = start(&site, &["-v"]);
        // Every second time near a batch's end, where the order of steps matters.
        if kills % 2 == 0 {
            let len = site
                .path("merged.log")
                .metadata()
                .map_or(0, |meta| meta.len());
            wait_for_log(&site, &mut child, len);
        }
        let most = if kills % 2 == 0 { 20_000 } else { 300_000 };
        sleep(Duration::from_micros(
            u64::from(seed.elapsed().subsec_nanos()) % most,
        ));
        kills += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        settled += u32::from(stderr.contains("interrupted batch settled"));
    }
    let left = site.files().len();
    let ran = site.collect();
    ran.expect(0, &[]);
    eprintln!(
        "{KILLS} kills, {settled} within a batch; {entries} entries, {left} for the last run"
    );
    assert!(settled > 0, "no kill hit a batch on its way");
    assert_eq!(site.files().len(), 0, "{ran:#?}");
    site.assert_kept(&(0..entries).map(entry).collect::<Vec<_>>());
}

//! The whole program: from files to lines in the jail file.
//!
//! `cargo bench -p recidive-bin --bench recidive`
//!
//! 1. Files per second from a full directory to the decision, beside a bash script that does the
//!    same with grep, awk and sed (`benches/recidive.bash`), on files of the same tree.
//! 2. The same while the files are being written.
//! 3. Time from the close of a file to the line in the jail file, at 100 attacks per second.

#![expect(clippy::print_stdout, reason = "the figures are the result")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run may stop")]

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chrono::Local;

const FILES: u32 = 60_000;
const BASH_FILES: u32 = 600;
const THRESHOLD: u32 = 10;
const ATTACKS_PER_SECOND: u32 = 100;
const SECONDS: u32 = 15;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place(dir.path().to_owned());
    let backlog = place.backlog();
    let bash = place.bash();
    println!("backlog:  {backlog:>9.0} files/s");
    println!(
        "bash:     {bash:>9.1} files/s, {:.0} times slower",
        backlog / bash
    );
    println!("live:     {:>9.0} files/s", place.live());
    let mut delays = place.delays();
    delays.sort_unstable();
    let at = |share: usize| delays[(delays.len() - 1) * share / 1000].as_secs_f64() * 1e3;
    println!(
        "from close to line at {ATTACKS_PER_SECOND}/s, {} attacks: median {:.2} ms, \
         99 % {:.2} ms, maximum {:.2} ms",
        delays.len(),
        at(500),
        at(990),
        at(1000)
    );
}

/// A directory for all of it.
struct Place(PathBuf);

impl Place {
    fn tree(&self, name: &str) -> PathBuf {
        let now = Local::now();
        let tree = self.0.join(name);
        fs::create_dir_all(&tree).unwrap();
        for site in 0..8 {
            fs::create_dir_all(minute(&tree, site, now)).unwrap();
        }
        tree
    }

    /// A tree that is full when the program starts.
    fn backlog(&self) -> f64 {
        let tree = self.tree("backlog");
        write_files(&tree, FILES);
        let start = Instant::now();
        let _program = self.start("backlog", THRESHOLD);
        self.wait_for_lines("backlog", FILES / THRESHOLD);
        f64::from(FILES) / start.elapsed().as_secs_f64()
    }

    fn bash(&self) -> f64 {
        let tree = self.0.join("backlog");
        let mut files = Vec::new();
        list(&tree, &mut files);
        files.truncate(BASH_FILES as usize);
        let text = files.join("\n") + "\n";
        let list = self.0.join("list");
        fs::write(&list, text).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/recidive.bash");
        let start = Instant::now();
        let status = Command::new("bash")
            .arg(script)
            .arg(self.0.join("bash.state"))
            .arg(self.0.join("bash.jail"))
            .arg(THRESHOLD.to_string())
            .stdin(fs::File::open(&list).unwrap())
            .status();
        assert!(status.unwrap().success());
        f64::from(BASH_FILES) / start.elapsed().as_secs_f64()
    }

    /// Files written while the program watches, as fast as they can be.
    fn live(&self) -> f64 {
        let tree = self.tree("live");
        let _program = self.start("live", THRESHOLD);
        std::thread::sleep(Duration::from_secs(1));
        let start = Instant::now();
        write_files(&tree, FILES);
        self.wait_for_lines("live", FILES / THRESHOLD);
        f64::from(FILES) / start.elapsed().as_secs_f64()
    }

    fn delays(&self) -> Vec<Duration> {
        let tree = self.tree("delays");
        let _program = self.start("delays", 1);
        std::thread::sleep(Duration::from_secs(1));
        let jail = self.jail("delays");
        let reader = std::thread::spawn(move || first_seen(&jail, ATTACKS_PER_SECOND * SECONDS));
        let mut closed = HashMap::new();
        let start = Instant::now();
        for n in 0..ATTACKS_PER_SECOND * SECONDS {
            std::thread::sleep(
                (start + Duration::from_secs(1) / ATTACKS_PER_SECOND * n) - Instant::now(),
            );
            let client = Ipv4Addr::from_bits(0x0a00_0000 + n).to_string();
            write_file(&tree, n, &client);
            closed.insert(client, Instant::now());
        }
        let seen = reader.join().unwrap();
        seen.iter()
            .map(|(client, at)| at.saturating_duration_since(closed[client]))
            .collect()
    }

    fn jail(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.jail"))
    }

    fn start(&self, name: &str, threshold: u32) -> Program {
        let child = Command::new(env!("CARGO_BIN_EXE_recidive"))
            .arg("--storage-dir")
            .arg(self.0.join(name))
            .arg("--recidive-file")
            .arg(self.jail(name))
            .arg("--state-file")
            .arg(self.0.join(format!("{name}.state")))
            .arg("--pid-file")
            .arg(self.0.join(format!("{name}.pid")))
            .args(["--threshold", &threshold.to_string(), "-q"])
            .stdout(Stdio::null())
            .spawn();
        Program(child.unwrap())
    }

    fn wait_for_lines(&self, name: &str, count: u32) {
        let jail = self.jail(name);
        let enough = || {
            let text = fs::read(&jail).unwrap_or_default();
            text.split(|&byte| byte == b'\n').count() > count as usize
        };
        while !enough() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Ends with the benchmark.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns when each client's line was first seen in the jail file.
fn first_seen(jail: &Path, count: u32) -> Vec<(String, Instant)> {
    let mut seen = Vec::new();
    let mut known = 0;
    while seen.len() < count as usize {
        let text = fs::read(jail).unwrap_or_default();
        let now = Instant::now();
        for line in text[known..].split_inclusive(|&byte| byte == b'\n') {
            let line = String::from_utf8_lossy(line);
            let (client, _) = line.split_once(" - ").unwrap();
            seen.push((client.to_owned(), now));
        }
        known = text.len();
        std::thread::sleep(Duration::from_micros(200));
    }
    seen
}

fn list(dir: &Path, files: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, files);
        } else {
            files.push(path.to_str().unwrap().to_owned());
        }
    }
}

fn minute(tree: &Path, site: u32, now: chrono::DateTime<Local>) -> PathBuf {
    tree.join(format!(
        "site{site}/{}/{}",
        now.format("%Y%m%d"),
        now.format("%Y%m%d-%H%M")
    ))
}

/// Writes `count` attacks, `THRESHOLD` by each client.
fn write_files(tree: &Path, count: u32) {
    for n in 0..count {
        let client = Ipv4Addr::from_bits(0x0a00_0000 + n / THRESHOLD);
        write_file(tree, n, &client.to_string());
    }
}

/// Writes an entry of about five kilobytes, as it is typical of the Core Rule Set.
fn write_file(tree: &Path, n: u32, client: &str) {
    let now = Local::now();
    let dir = minute(tree, n % 8, now);
    let stamp = now.format("%d/%b/%Y:%H:%M:%S.%6f %z");
    let alert = "Message: Warning. Pattern match \"(?i:union select)\" at ARGS:id. \
        [file \"/etc/crs/rules/REQUEST-942.conf\"] [line \"66\"] [id \"942100\"] \
        [msg \"SQL Injection Attack Detected\"] [data \"Matched Data: s&1 found\"] \
        [severity \"CRITICAL\"] [ver \"OWASP_CRS/3.3.4\"] [tag \"attack-sqli\"] [tag \"paranoia-level/1\"]\n";
    let entry = format!(
        "--3fa0c41b-A--\n[{stamp}] Zb4kQH8AAAEAAB1c{n:08} {client} 40112 198.51.100.4 80\n\
         --3fa0c41b-B--\nGET /item?id={n} HTTP/1.1\nHost: shop.example\nUser-Agent: {}\n\n\
         --3fa0c41b-F--\nHTTP/1.1 403 Forbidden\nContent-Length: 199\n\n\
         --3fa0c41b-H--\n{}Action: Intercepted (phase 2)\n\
         Stopwatch: 1787386500000345 1830 (- - -)\nEngine-Mode: \"ENABLED\"\n\n--3fa0c41b-Z--\n",
        "x".repeat(600),
        alert.repeat(10),
    );
    let path = dir.join(format!(
        "{}-Zb4kQH8AAAEAAB1c{n:08}",
        now.format("%Y%m%d-%H%M%S")
    ));
    let file = fs::File::create(&path).or_else(|_| {
        fs::create_dir_all(&dir)?;
        fs::File::create(&path)
    });
    file.unwrap().write_all(entry.as_bytes()).unwrap();
}

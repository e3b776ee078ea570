//! A storage directory with a store and a merged log, and the question whether all of it is true.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long something may take that normally takes a second, on a machine with other work.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Where rows go.
pub(crate) trait Database {
    /// Names the database on the command line.
    fn url(&self) -> String;

    /// Returns how often each transaction id is in the table.
    fn rows(&self) -> BTreeMap<String, i64>;
}

/// A file in the site's directory.
pub(crate) struct Sqlite(PathBuf);

impl Sqlite {
    pub(crate) fn at(path: PathBuf) -> Sqlite {
        Sqlite(path)
    }
}

impl Database for Sqlite {
    fn url(&self) -> String {
        format!("sqlite:{}", self.0.display())
    }

    fn rows(&self) -> BTreeMap<String, i64> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
        let Ok(connection) = rusqlite::Connection::open_with_flags(&self.0, flags) else {
            return BTreeMap::new();
        };
        connection.busy_timeout(LIMIT).unwrap();
        let rows = connection.prepare("select unique_id, count(*) from logs group by unique_id");
        let Ok(mut rows) = rows else {
            return BTreeMap::new();
        };
        rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap()
    }
}

/// All that one sensor has.
pub(crate) struct Site<D> {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) database: D,
    /// Where the merged log is.
    pub(crate) log: PathBuf,
    /// The entries by transaction id.
    pub(crate) entries: BTreeMap<String, Vec<u8>>,
}

impl Site<Sqlite> {
    pub(crate) fn with_sqlite() -> Site<Sqlite> {
        let site = Site::new(());
        let database = Sqlite::at(site.dir.path().join("modsec.db"));
        Site {
            dir: site.dir,
            database,
            log: site.log,
            entries: site.entries,
        }
    }
}

impl<D> Site<D> {
    pub(crate) fn new(database: D) -> Site<D> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        Site {
            log: dir.path().join("merged.log"),
            dir,
            database,
            entries: BTreeMap::new(),
        }
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    /// What the program keeps outside of the tree.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn count(&self) -> usize {
        self.entries.len()
    }

    /// Writes one more entry of about `size` bytes, as a web server does, and returns its file.
    pub(crate) fn put(&mut self, size: usize) -> PathBuf {
        let (path, bytes) = self.announce(size);
        // The minute is long over, so an empty directory may be removed at any moment.
        while let Err(error) = fs::write(&path, &bytes) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
            make_dir(path.parent().unwrap());
        }
        path
    }

    /// Counts on one more entry and says where and what it is to be; does not write it.
    pub(crate) fn announce(&mut self, size: usize) -> (PathBuf, Vec<u8>) {
        let number = self.entries.len();
        let id = format!("entry{number:07}");
        let minute = format!("20260304/20260304-05{:02}", number / 100 % 60);
        let dir = self.tree().join("site1").join(minute);
        make_dir(&dir);
        let path = dir.join(format!("20260304-050607-{id}"));
        let bytes = entry(&id, size);
        self.entries.insert(id, bytes.clone());
        (path, bytes)
    }

    pub(crate) fn put_all(&mut self, number: usize, size: usize) {
        for _ in 0..number {
            self.put(size);
        }
    }

    /// Returns all files that are left in the tree.
    pub(crate) fn left(&self) -> Vec<PathBuf> {
        let mut left = Vec::new();
        let mut dirs = vec![self.tree()];
        while let Some(dir) = dirs.pop() {
            // A directory may be pruned between one look and the next.
            for found in fs::read_dir(dir).into_iter().flatten().flatten() {
                if found.file_type().unwrap().is_dir() {
                    dirs.push(found.path());
                } else {
                    left.push(found.path());
                }
            }
        }
        left
    }
}

impl<D: Database> Site<D> {
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_modsec-parser"));
        command
            .env_clear()
            .env("MODSEC_CONFIG", "none")
            .env("HOME", self.dir.path())
            .env("STATE_DIRECTORY", self.state())
            .arg("--storage-dir")
            .arg(self.tree())
            .arg("--merged-log")
            .arg(&self.log)
            .args(["--store", &self.database.url()])
            .args(["--min-age", "0", "--sensor", "test", "--threads", "2"]);
        command
    }

    /// Runs one pass.
    pub(crate) fn run(&self) -> (ExitStatus, String) {
        let output = self.command().output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status, text)
    }

    /// Starts following.
    pub(crate) fn follow(&self, arguments: &[&str]) -> Running {
        let mut command = self.command();
        command.arg("--follow").args(arguments);
        self.start(command)
    }

    /// Starts a program whose standard error goes to a file.
    pub(crate) fn start(&self, command: Command) -> Running {
        self.start_logging_to(command, "stderr")
    }

    pub(crate) fn start_logging_to(&self, mut command: Command, name: &str) -> Running {
        let path = self.dir.path().join(name);
        let child = command
            .stdout(Stdio::null())
            .stderr(fs::File::create(&path).unwrap())
            .spawn()
            .unwrap();
        Running { child, path }
    }

    /// Asserts that every entry is once in the store, once in one of the logs, and in no file.
    pub(crate) fn check(&self, logs: &[&Path], case: &str) {
        let want: BTreeMap<String, i64> = self.entries.keys().map(|id| (id.clone(), 1)).collect();
        assert_eq!(self.database.rows(), want, "{case}: rows");
        assert_eq!(self.left(), Vec::<PathBuf>::new(), "{case}: files left");
        let mut merged: Vec<Vec<u8>> = logs.iter().flat_map(|log| entries_of(log)).collect();
        merged.sort_unstable();
        let mut want: Vec<&[u8]> = self.entries.values().map(Vec::as_slice).collect();
        want.sort_unstable();
        let show =
            |entry: &[u8]| String::from_utf8_lossy(&entry[..80.min(entry.len())]).into_owned();
        assert_eq!(
            merged.iter().map(|entry| show(entry)).collect::<Vec<_>>(),
            want.iter().map(|entry| show(entry)).collect::<Vec<_>>(),
            "{case}: merged log"
        );
        assert!(merged.iter().eq(want.iter()), "{case}: merged log");
    }

    /// Waits until every entry is in the store.
    pub(crate) fn wait_for_rows(&self) {
        until("rows in the store", || {
            self.database.rows().len() >= self.count()
        });
    }
}

/// Splits a merged log into its entries, without the lines that announce them.
pub(crate) fn entries_of(log: &Path) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let is_entrys = |line: &&str| !line.starts_with("# modsec-parser: the next ");
    let text: String = text.split_inclusive('\n').filter(is_entrys).collect();
    text.split_inclusive("-Z--\n\n")
        .map(|entry| entry.as_bytes().to_vec())
        .collect()
}

/// Makes an entry.
pub(crate) fn entry(id: &str, size: usize) -> Vec<u8> {
    let body = "x".repeat(size);
    format!(
        "--1a2b3c4d-A--\n[04/Mar/2026:05:06:07 +0000] {id} 192.0.2.7 4242 198.51.100.1 80\n\
         --1a2b3c4d-B--\nGET /{id} HTTP/1.1\nHost: example.org\n\n\
         --1a2b3c4d-C--\n{body}\n\
         --1a2b3c4d-F--\nHTTP/1.1 403 Forbidden\n\n\
         --1a2b3c4d-H--\nMessage: Access denied with code 403 (phase 2). Pattern match \"x\" at \
         ARGS:a. [file \"/etc/modsecurity/a.conf\"] [line \"7\"] [id \"949110\"] [msg \"found\"] \
         [severity \"CRITICAL\"]\nAction: Intercepted (phase 2)\n\n--1a2b3c4d-Z--\n\n"
    )
    .into_bytes()
}

/// Waits until `done`.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < LIMIT, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A program that follows. Killed at the end of a test that fails.
pub(crate) struct Running {
    child: Child,
    path: PathBuf,
}

impl Running {
    /// Returns what it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Asks it to end, and returns what it has logged.
    pub(crate) fn stop(mut self) -> String {
        self.signal(rustix::process::Signal::TERM);
        let status = self.wait();
        assert!(status.success(), "{status}: {}", self.log());
        self.log()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Refused if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes a directory and those above it, which the program may remove meanwhile.
fn make_dir(dir: &Path) {
    while let Err(error) = fs::create_dir_all(dir) {
        let kind = error.kind();
        let removed = [
            std::io::ErrorKind::NotFound,
            std::io::ErrorKind::AlreadyExists,
        ];
        assert!(removed.contains(&kind), "{}: {error}", dir.display());
    }
}

//! A storage directory, a store and a merged log for one test.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use modsec_core::EntryHash;
use rusqlite::Connection;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_modsec-parser");

/// Long enough for the slowest machine; a program that hangs fails its test.
const HANGS: Duration = Duration::from_secs(300);

pub(crate) struct Site {
    dir: TempDir,
}

/// What a run did, as a person sees it.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// Fails unless the program ended with `status` and its messages have all `words`.
    pub(crate) fn expect(&self, status: i32, words: &[&str]) -> &Ran {
        assert_eq!(self.status, Some(status), "{self:#?}");
        for word in words {
            let said = self.stderr.contains(word) || self.stdout.contains(word);
            assert!(said, "no word of {word:?} in {self:#?}");
        }
        self
    }
}

impl Site {
    pub(crate) fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("audit")).unwrap();
        Site { dir }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.path("audit")
    }

    /// Puts a file into minute `minute` of 1 January 2020 and the following days.
    pub(crate) fn put(&self, minute: u32, name: impl AsRef<OsStr>, bytes: &[u8]) -> PathBuf {
        let day = format!("202001{:02}", 1 + minute / 1440);
        let clock = format!("{:02}{:02}", minute / 60 % 24, minute % 60);
        let dir = self.spool().join(&day).join(format!("{day}-{clock}"));
        fs::create_dir_all(&dir).unwrap();
        let mut file = std::ffi::OsString::from(format!("{day}-{clock}00-"));
        file.push(name);
        let path = dir.join(file);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// The program, with nothing of the caller's environment.
    pub(crate) fn program(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        let ours = |name: &OsStr| {
            let name = name.to_string_lossy();
            name.starts_with("MODSEC_") || matches!(&*name, "WATCH_DIR" | "MERGED_LOG_FILE")
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
            command.env_remove(name);
        }
        command.env("MODSEC_CONFIG", "none");
        command
            .current_dir(self.dir.path())
            .env("HOME", self.dir.path())
            .env("STATE_DIRECTORY", self.dir.path().join("state"));
        command
    }

    /// The program with this site's store and merged log.
    pub(crate) fn keeping(&self) -> Command {
        let mut command = self.program();
        command
            .arg("--store")
            .arg(format!("sqlite:{}", self.path("logs.db").display()))
            .arg("--merged-log")
            .arg(self.path("merged.log"));
        command
    }

    /// The program at its main job, without waiting for files to age.
    pub(crate) fn collecting(&self) -> Command {
        let mut command = self.keeping();
        command
            .args(["--min-age", "0", "--storage-dir"])
            .arg(self.spool());
        command
    }

    /// Collects once.
    pub(crate) fn collect(&self) -> Ran {
        run(self.collecting())
    }

    pub(crate) fn merged(&self) -> Vec<u8> {
        fs::read(self.path("merged.log")).unwrap_or_default()
    }

    /// The merged log without the lines that announce entries.
    pub(crate) fn merged_entries(&self) -> Vec<u8> {
        let log = self.merged();
        let lines = log.split_inclusive(|byte| *byte == b'\n');
        let is_entrys = |line: &&[u8]| !line.starts_with(b"# modsec-parser: the next ");
        lines.filter(is_entrys).flatten().copied().collect()
    }

    /// The value of one SQL query.
    pub(crate) fn query<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        let db = Connection::open(self.path("logs.db")).unwrap();
        db.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// The hashes of the entries in the store, in the order in which they came.
    pub(crate) fn stored(&self) -> Vec<String> {
        let db = Connection::open(self.path("logs.db")).unwrap();
        let mut query = db
            .prepare("select lower(hex(entry_hash)) from logs order by id")
            .unwrap();
        query
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect()
    }

    /// Every file below the storage directory.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        files(&self.spool()).into_keys().collect()
    }

    /// Fails unless exactly `entries` are in the store, and in the same order in the merged log.
    pub(crate) fn assert_kept(&self, entries: &[Vec<u8>]) {
        let by_hash: BTreeMap<String, &Vec<u8>> =
            entries.iter().map(|entry| (hash(entry), entry)).collect();
        assert_eq!(by_hash.len(), entries.len(), "entries of a test differ");
        let stored = self.stored();
        assert_eq!(stored.len(), entries.len(), "rows");
        let mut merged = Vec::new();
        for hash in &stored {
            merged.extend_from_slice(by_hash.get(hash).expect("an entry of this test"));
            merged.push(b'\n');
        }
        assert!(
            self.merged_entries() == merged,
            "the merged log is not the entries in the order of the store"
        );
    }
}

pub(crate) fn run(command: Command) -> Ran {
    assert_cmd::Command::from_std(command)
        .timeout(HANGS)
        .output()
        .unwrap()
        .into()
}

pub(crate) fn hash(entry: &[u8]) -> String {
    EntryHash::of(entry).to_string()
}

/// All files below `dir`, with their bytes; links and pipes are empty.
pub(crate) fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                open.push(entry.path());
            } else {
                let bytes = if kind.is_file() {
                    fs::read(entry.path()).unwrap()
                } else {
                    Vec::new()
                };
                found.insert(entry.path(), bytes);
            }
        }
    }
    found
}

/// A small entry that is like no other.
pub(crate) fn entry(number: usize) -> Vec<u8> {
    entry_with(
        &format!("U{number:09}"),
        "GET /item?id=1%27 HTTP/1.1\nHost: shop.example\n",
        b"",
    )
}

/// An entry of this transaction id, head of the request, and further parts before part H.
pub(crate) fn entry_with(id: &str, request: &str, parts: &[u8]) -> Vec<u8> {
    [
        format!(
            "--1a2b3c4d-A--\n[01/Jan/2020:10:11:12.000345 +0100] {id} 192.0.2.1 4711 198.51.100.4 80\n--1a2b3c4d-B--\n{request}\n"
        )
        .as_bytes(),
        parts,
        b"--1a2b3c4d-F--\nHTTP/1.1 403 Forbidden\n\n--1a2b3c4d-H--\nMessage: Access denied with code 403 (phase 2). Pattern match \"'\" at ARGS:id. [file \"/f\"] [line \"1\"] [id \"100100\"] [msg \"quote\"] [severity \"CRITICAL\"] [tag \"a\"]\nAction: Intercepted (phase 2)\nEngine-Mode: \"ENABLED\"\n\n--1a2b3c4d-Z--\n",
    ]
    .concat()
}

//! The lines that a server writes to its index.

use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use md5::{Digest as _, Md5};

use crate::site::Site;

/// A line of `ModSecurity` 2 about `bytes` at `path`, which is relative to the storage directory.
pub(crate) fn line(path: &[u8], bytes: &[u8]) -> Vec<u8> {
    let end = format!(" 0 {} {} \n", bytes.len(), digest(bytes));
    let left = br#"www.example.test 192.0.2.7 - - [04/Mar/2026:05:06:07 +0000] "GET / HTTP/1.1" 403 9 "-" "-" x "-" /"#;
    [left, path, end.as_bytes()].concat()
}

/// The digest of an entry, as a line has it.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let md5 = Md5::digest(bytes);
    let hex: Vec<String> = md5.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("md5:{}", hex.concat())
}

impl<D> Site<D> {
    pub(crate) fn index(&self) -> PathBuf {
        self.dir.path().join("index.log")
    }

    /// Returns the line of the server about `bytes` at `path`.
    pub(crate) fn line(&self, path: &Path, bytes: &[u8]) -> Vec<u8> {
        let below = path.strip_prefix(self.tree()).unwrap();
        line(below.as_os_str().as_bytes(), bytes)
    }

    pub(crate) fn append_line(&self, line: &[u8]) {
        let mut index = fs::File::options()
            .append(true)
            .create(true)
            .open(self.index())
            .unwrap();
        index.write_all(line).unwrap();
    }

    /// Returns the bytes of the last entry that was put.
    pub(crate) fn last(&self) -> Vec<u8> {
        self.entries.values().next_back().unwrap().clone()
    }

    /// Writes one more entry and its line.
    pub(crate) fn put_listed(&mut self, size: usize) -> PathBuf {
        let path = self.put(size);
        let bytes = self.last();
        self.append_line(&self.line(&path, &bytes));
        path
    }
}

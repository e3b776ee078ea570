//! The file that a Fail2ban jail reads.
//!
//! ```text
//! 203.0.113.9 - 2026-08-22 10:15:00
//! 2001:db8::/64 - 2026-08-22 10:15:01
//! ```
//!
//! Local time, because Fail2ban takes a time without a zone for local.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Local, NaiveDateTime, TimeDelta, Utc};
use ipnet::IpNet;

use crate::logfile::{self, Checkpoint, Segment};
use crate::named_file;
use crate::record::{network_text, parse_network};

/// Owner may write, group may read: logs name people's addresses.
const MODE: u32 = 0o640;
/// How often a line is written again because another file has come to the path meanwhile.
const ATTEMPTS: u32 = 5;
/// How a time is written.
const TIME: &str = "%Y-%m-%d %H:%M:%S";
/// Bytes that are read back at most: lines of one interval between two saves of the state.
const MAX_READ_BACK: usize = 1 << 20;

/// Why a line did not get into the jail file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JailLogError {
    /// The file cannot be opened or created.
    #[error(
        "cannot open jail file {path:?} for appending, its directory must exist and be writable"
    )]
    Open {
        /// The jail file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is at the path is a link, a pipe, a device or the like.
    #[error("cannot use jail file {path:?}, remove it or choose another --recidive-file")]
    NotAFile {
        /// The jail file.
        path: PathBuf,
        /// What it is.
        source: io::Error,
    },
    /// The line could not be written, or only in part; the part was taken back.
    #[error("cannot append to jail file {path:?}")]
    Write {
        /// The jail file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Returns the line for a client, with its line end: `ADDRESS - YYYY-MM-DD HH:MM:SS` in local time.
///
/// A network of one is written as the address alone. Built from a network and a time and nothing
/// else, so there is nothing in it that somebody else wrote.
pub fn jail_line(network: IpNet, at: DateTime<Utc>) -> String {
    line_in_zone(network, &at.with_timezone(&Local))
}

fn line_in_zone<Z: chrono::TimeZone<Offset: std::fmt::Display>>(
    network: IpNet,
    at: &DateTime<Z>,
) -> String {
    let time = at.format(TIME);
    format!("{} - {time}\n", network_text(network))
}

/// A jail file, held open for appending.
///
/// Every line is one `write(2)` to a file opened with `O_APPEND`, so a reader sees whole lines.
/// The file is opened again when another is at its path (rotation by rename), or none.
#[derive(Debug)]
pub struct JailLog {
    path: PathBuf,
    file: File,
    /// The file ends inside a line, left by a crash or a full disk.
    torn: bool,
    /// Clients and times of lines that an interrupted run wrote and does not know of.
    written_before: HashMap<IpNet, Vec<NaiveDateTime>>,
    /// Where those lines begin.
    known_until: Option<JailMark>,
}

/// A place in a jail file, to tell later what was written behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JailMark(pub(crate) Checkpoint);

impl JailLog {
    /// Opens the jail file, or makes it with mode 0640. Follows no link at the path itself.
    ///
    /// # Errors
    /// [`JailLogError::Open`] or [`JailLogError::NotAFile`].
    pub fn open(path: impl Into<PathBuf>) -> Result<JailLog, JailLogError> {
        let path = path.into();
        let (file, torn) = open_file(&path)?;
        Ok(JailLog {
            path,
            file,
            torn,
            written_before: HashMap::new(),
            known_until: None,
        })
    }

    /// Takes note of the lines behind `mark`, so that those are not written again.
    ///
    /// For a run that continues one that was killed: attacks it has counted since its state was
    /// saved are counted again, and lead to the same reports. Each such line answers for one
    /// report of its client that is not later than it. Lines behind the mark are found wherever
    /// rotation has put them beside the file.
    ///
    /// # Errors
    /// [`JailLogError::Open`] if the file cannot be read.
    pub fn skip_written_since(&mut self, mark: &JailMark) -> Result<(), JailLogError> {
        let failed = |source| JailLogError::Open {
            path: self.path.clone(),
            source,
        };
        let mut lines = Vec::new();
        let segments = logfile::unread(&self.path, &mark.0).map_err(failed)?;
        for segment in segments.unwrap_or_default() {
            read_back(segment, &mut lines).map_err(failed)?;
        }
        if lines.is_empty() {
            return Ok(());
        }
        for (network, at) in lines {
            self.written_before.entry(network).or_default().push(at);
        }
        self.known_until = Some(*mark);
        Ok(())
    }

    /// Forgets the lines that an interrupted run wrote, once its attacks have been counted again.
    pub fn forget_written_before(&mut self) {
        self.written_before.clear();
        self.known_until = None;
    }

    /// Returns the place behind which there may be lines for attacks that nobody has counted: the
    /// end of the file, or an earlier one while lines of an interrupted run are waited for.
    ///
    /// # Errors
    /// What the system said.
    pub fn mark(&self) -> io::Result<JailMark> {
        self.known_until.map_or_else(|| self.end(), Ok)
    }

    fn end(&self) -> io::Result<JailMark> {
        Checkpoint::at_end(&self.file).map(JailMark)
    }

    /// Opens the file at the path anew, as after SIGHUP. On failure the old one stays in use.
    ///
    /// # Errors
    /// As for [`JailLog::open`].
    pub fn reopen(&mut self) -> Result<(), JailLogError> {
        (self.file, self.torn) = open_file(&self.path)?;
        Ok(())
    }

    /// Appends the line for a client, see [`jail_line`].
    ///
    /// # Errors
    /// After an error the file is as it was, as far as the system allowed; try again later.
    pub fn report(&mut self, network: IpNet, at: DateTime<Utc>) -> Result<(), JailLogError> {
        if self.is_written_before(network, at) {
            return Ok(());
        }
        let line = jail_line(network, at);
        for _ in 0..ATTEMPTS {
            if !self.is_in_place()? {
                self.reopen()?;
            }
            self.append(&line)?;
            // Of a file that is no longer at its path Fail2ban reads nothing more. A client that
            // is reported twice is banned once.
            if self.is_in_place()? {
                return Ok(());
            }
        }
        Err(self.failed(io::Error::other("it is replaced again and again")))
    }

    fn append(&mut self, line: &str) -> Result<(), JailLogError> {
        let line_end = if self.torn { "\n" } else { "" };
        let line = format!("{line_end}{line}");
        let failed = |source| JailLogError::Write {
            path: self.path.clone(),
            source,
        };
        let before = self.file.metadata().map_err(failed)?.len();
        let written = write_once(&mut self.file, line.as_bytes()).map_err(failed)?;
        if written < line.len() {
            let part = u64::try_from(written).unwrap_or(u64::MAX);
            self.torn = !take_back(&self.file, before, part);
            return Err(failed(io::ErrorKind::WriteZero.into()));
        }
        self.torn = false;
        Ok(())
    }

    fn is_written_before(&mut self, network: IpNet, at: DateTime<Utc>) -> bool {
        let at = at.with_timezone(&Local).naive_local();
        let Some(times) = self.written_before.get_mut(&network) else {
            return false;
        };
        // Lines have whole seconds.
        let place = times
            .iter()
            .position(|&written| at < written + TimeDelta::seconds(1));
        place.map(|place| times.swap_remove(place)).is_some()
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn is_in_place(&self) -> Result<bool, JailLogError> {
        named_file::is_at(&self.path, &self.file).map_err(|error| self.failed(error))
    }

    fn failed(&self, source: io::Error) -> JailLogError {
        JailLogError::Write {
            path: self.path.clone(),
            source,
        }
    }
}

/// Reads the last [`MAX_READ_BACK`] bytes of what was not read, into lines.
fn read_back(mut segment: Segment, lines: &mut Vec<(IpNet, NaiveDateTime)>) -> io::Result<()> {
    let text = segment.last_bytes(MAX_READ_BACK)?;
    lines.extend(String::from_utf8_lossy(&text).lines().filter_map(read_line));
    Ok(())
}

/// Reads a line of ours back.
fn read_line(line: &str) -> Option<(IpNet, NaiveDateTime)> {
    let (client, time) = line.split_once(" - ")?;
    let at = NaiveDateTime::parse_from_str(time, TIME).ok()?;
    Some((parse_network(client).ok()?, at))
}

fn open_file(path: &Path) -> Result<(File, bool), JailLogError> {
    let failed = |source| JailLogError::Open {
        path: path.to_owned(),
        source,
    };
    let mut options = File::options();
    options.read(true).append(true).create(true).mode(MODE);
    let opened = named_file::open_own(path, &options);
    let mut file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => JailLogError::NotAFile {
            path: path.to_owned(),
            source: error,
        },
        _ => failed(error),
    })?;
    let torn = ends_inside_a_line(&mut file).map_err(failed)?;
    Ok((file, torn))
}

fn ends_inside_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn write_once(file: &mut File, line: &[u8]) -> io::Result<usize> {
    loop {
        match file.write(line) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Cuts off the `part` bytes of a line that were written; not if somebody else wrote meanwhile.
fn take_back(file: &File, before: u64, part: u64) -> bool {
    let unchanged = file
        .metadata()
        .is_ok_and(|meta| meta.len() == before + part);
    unchanged && file.set_len(before).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn net(text: &str) -> IpNet {
        crate::record::parse_network(text).unwrap()
    }

    #[test]
    fn a_line_is_address_and_local_time() {
        let zone = chrono::FixedOffset::west_opt(5 * 3600).unwrap();
        let local = at("2026-08-22T10:15:00.999Z").with_timezone(&zone);
        for (network, want) in [
            ("203.0.113.9", "203.0.113.9 - 2026-08-22 05:15:00\n"),
            ("203.0.113.0/24", "203.0.113.0/24 - 2026-08-22 05:15:00\n"),
            ("2001:db8::/64", "2001:db8::/64 - 2026-08-22 05:15:00\n"),
            ("2001:db8::1", "2001:db8::1 - 2026-08-22 05:15:00\n"),
        ] {
            assert_eq!(line_in_zone(net(network), &local), want);
        }
    }

    proptest! {
        #[test]
        fn any_client_at_any_time_gives_a_line_of_the_grammar(
            v4 in any::<[u8; 4]>(), v6 in any::<[u8; 16]>(),
            prefix in 0u8..=128, seconds in 0i64..4_102_444_800,
        ) {
            let line = Regex::new(
                r"\A[0-9a-f:.]+(?:/[0-9]{1,3})? - [0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\n\z",
            ).unwrap();
            let at = DateTime::from_timestamp(seconds, 0).unwrap();
            for network in [
                IpNet::new(v4.into(), prefix.min(32)).unwrap(),
                IpNet::new(v6.into(), prefix).unwrap(),
            ] {
                let got = jail_line(network, at);
                prop_assert!(line.is_match(&got), "{:?}", got);
                let address = got.split(" - ").next().unwrap();
                prop_assert_eq!(net(address), network.trunc());
            }
        }
    }

    #[test]
    fn lines_are_appended_to_a_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jail.log");
        let mut jail = JailLog::open(&path).unwrap();
        jail.report(net("192.0.2.1"), at("2026-08-22T10:15:00Z"))
            .unwrap();
        jail.report(net("2001:db8::/64"), at("2026-08-22T10:15:01Z"))
            .unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.starts_with("192.0.2.1 - 2026-08-22 "), "{text}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o007, 0);
    }

    #[test]
    fn rotation_is_noticed_without_a_signal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jail.log");
        let mut jail = JailLog::open(&path).unwrap();
        let time = at("2026-08-22T10:15:00Z");
        jail.report(net("192.0.2.1"), time).unwrap();
        fs::rename(&path, dir.path().join("jail.log.1")).unwrap();
        jail.report(net("192.0.2.2"), time).unwrap();
        fs::remove_file(&path).unwrap();
        jail.report(net("192.0.2.3"), time).unwrap();
        fs::File::create(&path).unwrap().set_len(0).unwrap();
        jail.report(net("192.0.2.4"), time).unwrap();
        assert!(fs::read_to_string(&path).unwrap().starts_with("192.0.2.4 "));
    }

    #[test]
    fn what_a_killed_run_wrote_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jail.log");
        let mut jail = JailLog::open(&path).unwrap();
        jail.report(net("192.0.2.1"), at("2026-08-22T10:15:00Z"))
            .unwrap();
        let mark = jail.mark().unwrap();
        jail.report(net("192.0.2.2"), at("2026-08-22T10:15:01Z"))
            .unwrap();
        jail.report(net("2001:db8::/64"), at("2026-08-22T10:15:01Z"))
            .unwrap();
        let mut jail = JailLog::open(&path).unwrap();
        jail.skip_written_since(&mark).unwrap();
        for (client, time, want) in [
            ("192.0.2.1", "2026-08-22T10:15:00Z", 4),
            ("192.0.2.2", "2026-08-22T10:15:01.999Z", 4),
            ("192.0.2.2", "2026-08-22T10:15:01.999Z", 5),
            ("2001:db8::/64", "2026-08-22T10:15:02Z", 6),
            ("2001:db8::/64", "2026-08-22T10:15:00Z", 6),
            ("2001:db8::/64", "2026-08-22T10:15:00Z", 7),
        ] {
            jail.report(net(client), at(time)).unwrap();
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            assert_eq!(lines, want, "{client} {time}");
        }
        assert_eq!(
            jail.mark().unwrap(),
            mark,
            "another interruption finds the same"
        );
        jail.forget_written_before();
        assert_ne!(jail.mark().unwrap(), mark);
    }

    #[test]
    fn what_a_killed_run_wrote_is_known_also_after_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jail.log");
        let time = at("2026-08-22T10:15:00Z");
        let mut jail = JailLog::open(&path).unwrap();
        jail.report(net("192.0.2.1"), time).unwrap();
        let mark = jail.mark().unwrap();
        jail.report(net("192.0.2.2"), time).unwrap();
        fs::rename(&path, dir.path().join("jail.log.1")).unwrap();
        jail.report(net("192.0.2.3"), time).unwrap();
        let mut jail = JailLog::open(&path).unwrap();
        jail.skip_written_since(&mark).unwrap();
        for client in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
            jail.report(net(client), time).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        let clients: Vec<&str> = text
            .lines()
            .map(|line| line.split(' ').next().unwrap())
            .collect();
        assert_eq!(clients, ["192.0.2.3", "192.0.2.1"]);
    }

    #[test]
    fn a_torn_line_stays_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jail.log");
        fs::write(&path, "192.0.2.1 - 2026").unwrap();
        let mut jail = JailLog::open(&path).unwrap();
        jail.report(net("192.0.2.2"), at("2026-08-22T10:15:00Z"))
            .unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("192.0.2.1 - 2026\n192.0.2.2 - 2026"),
            "{text}"
        );
    }

    #[test]
    fn part_of_a_line_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jail.log");
        fs::write(&path, "one\ntw").unwrap();
        let file = File::options().append(true).open(&path).unwrap();
        assert!(!take_back(&file, 4, 1), "somebody else wrote");
        assert!(take_back(&file, 4, 2));
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\n");
    }

    #[test]
    fn nothing_but_a_plain_file_is_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        let link = dir.path().join("link");
        symlink(&target, &link).unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        for path in [link, pipe, dir.path().to_owned()] {
            let error = JailLog::open(&path).unwrap_err();
            assert!(matches!(error, JailLogError::NotAFile { .. }), "{error}");
        }
        assert!(!target.exists());
        let missing = JailLog::open(dir.path().join("no/jail.log")).unwrap_err();
        assert!(matches!(missing, JailLogError::Open { .. }));
    }
}

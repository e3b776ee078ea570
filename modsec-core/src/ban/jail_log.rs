//! The file that a Fail2ban jail reads.
//!
//! ```text
//! 203.0.113.9 - 2026-08-22 10:15:00
//! 2001:db8::/64 - 2026-08-22 10:15:01
//! ```
//!
//! Local time, because Fail2ban takes a time without a zone for local. One line is one report.
//!
//! # Whole lines, at the right place
//!
//! - A line is one write(2) to a file opened with `O_APPEND`, so a reader sees all of it or
//!   nothing. If the disk is full, the part that was written is cut off again; if that fails too,
//!   the next line begins with a line end.
//! - Rotation renames the file. Before and after each line it is checked that the file is still at
//!   its path; if not, the line is written once more to the new one. Fail2ban may then see a client
//!   twice, and bans it once.
//! - A program that is killed may have written lines that it has not saved as written. They are
//!   read back from the last [`JailMark`] on ([`JailLog::lines_since`]).

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Local, NaiveDateTime, TimeZone as _, Utc};
use ipnet::IpNet;

use crate::crash_points;
use crate::logfile::{self, Checkpoint};
use crate::named_file;
use crate::record::{network_text, parse_network};

/// Owner may write, group may read: logs name people's addresses.
const MODE: u32 = 0o640;
/// How often a line is written again because another file has come to the path meanwhile.
const ATTEMPTS: u32 = 5;
/// How a time is written.
const TIME: &str = "%Y-%m-%d %H:%M:%S";
/// Lines written at most before the program takes another mark, so that what must be read back
/// after an interruption stays small.
pub(crate) const LINES_PER_MARK: usize = 1 << 14;
/// Bytes that are read back at most of each file: more than [`LINES_PER_MARK`] lines have.
const MAX_READ_BACK: usize = LINES_PER_MARK * 128;

/// Why a line did not get into the jail file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JailLogError {
    /// The file cannot be opened or created.
    #[error(
        "cannot open jail file {path:?} for appending, its directory must exist and be writable"
    )]
    Open {
        /// Path of the jail file.
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
/// A network of a single address is written as the address alone. Made of a network and a time and
/// nothing else, so no text from a log can be in it.
pub fn jail_line(network: IpNet, at: DateTime<Utc>) -> String {
    line_in_zone(network, &at.with_timezone(&Local))
}

/// Writes the line in the time zone of `at`.
fn line_in_zone<Z: chrono::TimeZone<Offset: std::fmt::Display>>(
    network: IpNet,
    at: &DateTime<Z>,
) -> String {
    let time = at.format(TIME);
    format!("{} - {time}\n", network_text(network))
}

/// A jail file, held open for appending.
///
/// The file is opened again when another is at its path (rotation by rename), or none.
#[derive(Debug)]
pub struct JailLog {
    /// Where the file should be.
    path: PathBuf,
    /// The open file, which may have been renamed since.
    file: File,
    /// Whether the file ends inside a line, left by a crash or a full disk.
    torn: bool,
}

/// A place in a jail file. What was written behind it can be found later, also after rotation.
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
        Ok(JailLog { path, file, torn })
    }

    /// Returns client and time of each line behind `mark`, in the order of the file: what a run
    /// that was killed has written since.
    ///
    /// Lines are found wherever rotation has put them beside the file. There are none if the file
    /// with the mark is gone. A line that is not whole does not count, Fail2ban does not read it.
    /// A time that the clock showed twice, at the end of summer time, is the later one.
    ///
    /// # Errors
    /// [`JailLogError::Open`] if the file cannot be read.
    pub fn lines_since(
        &self,
        mark: &JailMark,
    ) -> Result<Vec<(IpNet, DateTime<Utc>)>, JailLogError> {
        let failed = |source| JailLogError::Open {
            path: self.path.clone(),
            source,
        };
        let mut lines = Vec::new();
        let segments = logfile::unread(&self.path, &mark.0).map_err(failed)?;
        for mut segment in segments.unwrap_or_default() {
            let text = segment.last_bytes(MAX_READ_BACK).map_err(failed)?;
            // The first of them is only part of a line if there were more.
            let is_cut = text.len() == MAX_READ_BACK;
            let text = String::from_utf8_lossy(&text);
            let whole = text
                .split_inclusive('\n')
                .filter_map(|line| line.strip_suffix('\n'));
            lines.extend(whole.skip(usize::from(is_cut)).filter_map(read_line));
        }
        Ok(lines)
    }

    /// Returns the end of the file as it is now, for [`JailLog::lines_since`].
    ///
    /// # Errors
    /// What the system said.
    pub fn mark(&self) -> io::Result<JailMark> {
        Checkpoint::at_end(&self.file).map(JailMark)
    }

    /// Returns the open file, to sync it before a state is saved that relies on its lines.
    ///
    /// # Errors
    /// What dup(2) said.
    pub(crate) fn try_clone_file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Opens the file at the path anew, as after SIGHUP. On failure the old one stays in use.
    ///
    /// # Errors
    /// As for [`JailLog::open`].
    pub fn reopen(&mut self) -> Result<(), JailLogError> {
        let new = open_file(&self.path)?;
        // The old file is not synced later. If this fails, lines are lost only if the power fails.
        let _ = self.file.sync_data();
        (self.file, self.torn) = new;
        Ok(())
    }

    /// Appends the line for a client, see [`jail_line`]. Does not sync.
    ///
    /// # Errors
    /// [`JailLogError`]. The file is as it was, as far as the system allowed; try again later.
    pub fn report(&mut self, network: IpNet, at: DateTime<Utc>) -> Result<(), JailLogError> {
        let line = jail_line(network, at);
        for _ in 0..ATTEMPTS {
            if !self.is_in_place()? {
                self.reopen()?;
            }
            crash_points::pass("before-jail-line");
            self.append(&line)?;
            crash_points::pass("jail-line-written");
            // Of a file that is no longer at its path Fail2ban reads nothing more. A client that
            // is reported twice is banned once.
            if self.is_in_place()? {
                return Ok(());
            }
        }
        Err(self.failed(io::Error::other("it is replaced again and again")))
    }

    /// Writes one line, or takes back the part of it that was written.
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

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns `true` if the open file is still the one at the path.
    fn is_in_place(&self) -> Result<bool, JailLogError> {
        named_file::is_at(&self.path, &self.file).map_err(|error| self.failed(error))
    }

    /// Says that writing failed, and why.
    fn failed(&self, source: io::Error) -> JailLogError {
        JailLogError::Write {
            path: self.path.clone(),
            source,
        }
    }
}

/// Reads a line of ours back, without its end. `None` for anything that [`jail_line`] would not
/// write in just that way, so part of a line (`10:15:0`) is not taken for a whole one.
fn read_line(line: &str) -> Option<(IpNet, DateTime<Utc>)> {
    let (client, time) = line.split_once(" - ")?;
    let at = NaiveDateTime::parse_from_str(time, TIME).ok()?;
    let at = Local.from_local_datetime(&at).latest()?.to_utc();
    let network = parse_network(client).ok()?;
    // Part of a line may look like one: `10:15:0`.
    (jail_line(network, at).strip_suffix('\n') == Some(line)).then_some((network, at))
}

/// Opens the jail file at `path`, or makes it with mode 0640; the second value is whether it ends
/// inside a line. Follows no link at the path itself.
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

/// Returns `true` if the file has bytes, and the last is no line end.
fn ends_inside_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// Writes with one write(2), again only after a signal; returns how many bytes were written.
fn write_once(file: &mut File, line: &[u8]) -> io::Result<usize> {
    loop {
        match file.write(line) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Cuts off the `part` bytes of a line that were written behind `before`, unless the file has grown
/// meanwhile; returns `true` if it did.
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
    fn lines_behind_a_mark_are_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jail.log");
        let mut jail = JailLog::open(&path).unwrap();
        let time = at("2026-08-22T10:15:00Z");
        for rotated in ["jail.log.1", "jail.log-20261127"] {
            jail.report(net("192.0.2.1"), time).unwrap();
            let mark = jail.mark().unwrap();
            assert_eq!(jail.lines_since(&mark).unwrap(), []);
            jail.report(net("192.0.2.2"), time).unwrap();
            let want = (net("192.0.2.2"), time);
            assert_eq!(jail.lines_since(&mark).unwrap(), [want]);
            fs::rename(&path, dir.path().join(rotated)).unwrap();
            jail.report(net("2001:db8::/64"), time).unwrap();
            let more = (net("2001:db8::/64"), time);
            assert_eq!(jail.lines_since(&mark).unwrap(), [want, more]);
            fs::remove_file(dir.path().join(rotated)).unwrap();
            assert_eq!(jail.lines_since(&mark).unwrap(), []);
        }
    }

    #[test]
    fn only_whole_lines_are_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jail.log");
        let jail = JailLog::open(&path).unwrap();
        let mark = jail.mark().unwrap();
        let whole = jail_line(net("192.0.2.1"), at("2026-08-22T10:15:00Z"));
        let cut = &whole[..whole.len() - 2];
        for (text, want) in [
            (whole.clone(), 1),
            (whole.trim_end().to_owned(), 0),
            (format!("{cut}\n{whole}\n"), 1),
            (format!("x{whole}\u{0}\n{whole}"), 1),
            (format!("192.0.2.1/33{}", &whole["192.0.2.1".len()..]), 0),
        ] {
            fs::write(&path, &text).unwrap();
            assert_eq!(jail.lines_since(&mark).unwrap().len(), want, "{text:?}");
        }
        fs::write(&path, whole.repeat(MAX_READ_BACK / whole.len() + 9)).unwrap();
        let lines = jail.lines_since(&mark).unwrap().len();
        assert_eq!(lines, MAX_READ_BACK / whole.len() - 1);
        assert!(LINES_PER_MARK < lines);
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

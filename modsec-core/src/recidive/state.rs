//! The ledger on disk.
//!
//! ```text
//! # modsec-recidive 1: ADDRESS COUNT EPOCH reported=N pace=START:ATTACKS:BEFORE unreported=TIME,…
//! 203.0.113.9 12 1787393700 reported=1 pace=1787393640000:12:0 unreported=1787393698000,1787393700250
//! 2001:db8::/64 3 1787393702 reported=0 pace=1787393701000:3:0 unreported=1787393701000,…
//! ```
//!
//! The first three words are those of the shell script that this replaces, whose files are read
//! too: client, attacks in the window, time of the last one in seconds since the Unix epoch. What
//! follows continues the window exactly; its times are milliseconds. `answered=TIME:ATTACKS,…` is
//! there after an interruption, see [`Sighting::answered`]. Lines that start with `#` hold how far
//! the sources have been read, which entries were counted, and what could not be handed over.
//!
//! # Each report once
//! A report goes into the jail file first, and into the state with its next save. The state says
//! how far the jail file had been written. A run that is killed in between leaves lines behind that
//! mark: the next run takes them for reports that were made ([`Ledger::note_report`]), saves that at
//! once, and then counts the attacks again. So each report is in the jail file once, with these
//! exceptions, in which one too many is better than none:
//! - The line is all that is left of a report: client and time of the last attack. Which others it
//!   stands for is certain if they come in again in the order of their times, or if all of them lie
//!   within one find time. A long backlog in disorder is neither.
//! - The time says nothing if the clock was set back before (an attack of the future is written
//!   with the time of writing), or if the time zone of the program was changed.
//! - The jail file, or the log that it was rotated to, was removed or emptied after the kill.
//! - A line that is written while the jail file is being rotated goes into the new file too, since
//!   Fail2ban may not read the old one any more.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use ipnet::IpNet;

use super::dedup::{EntryKey, Seen};
use crate::ban::JailMark;
use crate::crash_points;
use crate::ledger::{Ledger, MAX_THRESHOLD, Sighting};
use crate::logfile::Checkpoint;
use crate::named_file::{open_own_to_read, replace};
use crate::record::{network_text, parse_network};

/// First words of a state file.
const HEADER: &str = "# modsec-recidive 1: ADDRESS COUNT EPOCH reported=N \
                      pace=START:ATTACKS:BEFORE unreported=TIME,...";
/// Owner may write, group may read: the file names people's addresses.
const MODE: u32 = 0o640;
/// Longest line that is read, in bytes: as many times as the largest threshold keeps, and room.
const MAX_LINE: u64 = 2 * 16 * MAX_THRESHOLD as u64 + 4096;
/// Lines that are looked at for one of a state.
const FOREIGN_LINES: usize = 1000;
/// Keys in one `# counted` line.
const KEYS_PER_LINE: usize = 16;

/// Why the state cannot be read or saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The file is there and cannot be read.
    #[error("cannot read state file {path:?}, remove it or choose another --state-file")]
    Read {
        /// The state file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is somebody else's. It is left as it is: the state would take its place.
    #[error(
        "{path:?} is no state file of this program, and is left as it is; name another file with \
         --state-file"
    )]
    Foreign {
        /// What should be the state file.
        path: PathBuf,
    },
    /// The file is broken and cannot be set aside.
    #[error("state file {path:?} is broken and cannot be renamed to {aside:?}")]
    SetAside {
        /// The state file.
        path: PathBuf,
        /// Where it should go.
        aside: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was written to the jail file is perhaps not on the disk, so the state must not say it.
    #[error("cannot bring jail file {path:?} to the disk, the last saved state stays")]
    Jail {
        /// The jail file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The new state cannot be written; the old file stays as it was.
    #[error("cannot save state file {path:?}, the last saved state stays")]
    Save {
        /// The state file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What was saved.
#[derive(Debug, Default)]
pub struct State {
    /// Clients, the least recently seen first.
    sightings: Vec<Sighting>,
    /// How far the log was read.
    log: Option<Checkpoint>,
    /// How far the jail file was written.
    jail: Option<JailMark>,
    /// Offenders that were not written yet, oldest first.
    unsent: Vec<Report>,
    /// Attacks that were counted, oldest first, with the time of change of each one's file in
    /// nanoseconds.
    counted: Vec<(EntryKey, i64)>,
    /// The latest time of change of a file that was counted and forgotten, in nanoseconds since the
    /// Unix epoch.
    forgotten_until: i64,
}

/// A state as read from its file.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Loaded {
    /// All that could be read.
    pub state: State,
    /// Lines that could not be read; the file was set aside if there are any.
    pub bad_lines: usize,
    /// Where the broken file is now.
    pub set_aside: Option<PathBuf>,
}

impl State {
    /// Reads the state file; there being none is an empty state.
    ///
    /// # Errors
    /// [`StateError::Read`] if the system does not let it be read. What is in it is never an
    /// error: lines that make no sense are left out and counted.
    pub fn read(path: &Path) -> Result<Loaded, StateError> {
        let failed = |source| StateError::Read {
            path: path.to_owned(),
            source,
        };
        match open_own_to_read(path) {
            Ok(file) => parse(BufReader::with_capacity(1 << 16, file)).map_err(failed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Loaded::default()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Finds out whether the file may be replaced by a state: it is one, or broken, or empty, or not
    /// there yet.
    ///
    /// # Errors
    /// As for [`State::read`], and [`StateError::Foreign`] if there is something in it, and no
    /// line of a state.
    pub fn check(path: &Path) -> Result<(), StateError> {
        let path = || path.to_owned();
        let failed = |source| StateError::Read {
            path: path(),
            source,
        };
        let file = match open_own_to_read(&path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(failed)?,
        };
        if is_foreign(BufReader::new(file)).map_err(failed)? {
            return Err(StateError::Foreign { path: path() });
        }
        Ok(())
    }

    /// Reads the state file and, if it is broken, renames it to `NAME.broken`.
    ///
    /// # Errors
    /// As for [`State::check`], and [`StateError::SetAside`].
    pub fn take_over(path: &Path) -> Result<Loaded, StateError> {
        State::check(path)?;
        let mut loaded = State::read(path)?;
        if loaded.bad_lines > 0 {
            let mut aside = path.as_os_str().to_owned();
            aside.push(".broken");
            let aside = PathBuf::from(aside);
            fs::rename(path, &aside).map_err(|source| StateError::SetAside {
                path: path.to_owned(),
                aside: aside.clone(),
                source,
            })?;
            loaded.set_aside = Some(aside);
        }
        Ok(loaded)
    }

    /// Returns the clients, the least recently seen first.
    pub fn sightings(&self) -> &[Sighting] {
        &self.sightings
    }

    #[cfg(test)]
    pub(super) fn add(&mut self, sighting: Sighting) {
        self.sightings.push(sighting);
    }

    /// Returns how far the log was read; `None` if the state does not say.
    pub(super) fn log(&self) -> Option<Checkpoint> {
        self.log
    }

    /// Returns how far the jail file was written; `None` if the state does not say.
    pub(super) fn jail(&self) -> Option<JailMark> {
        self.jail
    }

    /// Returns the offenders that were not written to the jail file, oldest first.
    pub(super) fn unsent(&self) -> &[Report] {
        &self.unsent
    }

    /// Returns the attacks that were counted, so that none counts twice.
    pub(super) fn seen(&self) -> Seen {
        Seen::restore(self.counted.iter().copied(), self.forgotten_until)
    }
}

/// Reads a state. Lines that make no sense, are too long or have no end are counted and left out.
///
/// # Errors
///
/// What the system said.
pub(super) fn parse(mut input: impl BufRead) -> io::Result<Loaded> {
    let mut loaded = Loaded::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(loaded);
        }
        // Also the rest of a line that is too long, and a last line without its end.
        let whole = line.pop() == Some(b'\n');
        let text = std::str::from_utf8(&line).ok().filter(|_| whole);
        if text.and_then(|text| loaded.state.add_line(text)).is_none() {
            loaded.bad_lines += 1;
        }
    }
}

/// Returns `true` if none of the first lines is one of a state, and there are others. Zeros are no
/// lines: files have them after a loss of power.
fn is_foreign(mut input: impl BufRead) -> io::Result<bool> {
    let mut line = Vec::new();
    let mut is_foreign = false;
    for _ in 0..FOREIGN_LINES {
        line.clear();
        if input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if is_of_state(&line) {
            return Ok(false);
        }
        is_foreign |= line.iter().any(|byte| !matches!(byte, 0 | b'\r' | b'\n'));
    }
    Ok(is_foreign)
}

/// Returns `true` for the first line of a state, and for three words of which the second and third
/// are numbers: a client, whether it makes sense or not, but not `Stopwatch:` and the like, with which part
/// H of an audit log has such lines.
fn is_of_state(line: &[u8]) -> bool {
    if line.starts_with(b"# modsec-recidive ") {
        return true;
    }
    let mut words = line.trim_ascii_end().split(|byte| *byte == b' ');
    let client = words.next().unwrap_or_default();
    let is_of_address = |byte: &u8| byte.is_ascii_hexdigit() || b".:/".contains(byte);
    if client.contains(&b':') && !client.iter().all(is_of_address) {
        return false;
    }
    let mut is_number = || {
        let word = words.next().unwrap_or_default();
        !word.is_empty() && word.iter().all(u8::is_ascii_digit)
    };
    is_number() && is_number()
}

impl State {
    /// Takes over what one line says; `None` if it says nothing that makes sense.
    fn add_line(&mut self, line: &str) -> Option<()> {
        let mut words = line.split(' ');
        match line.strip_prefix("# ") {
            Some(comment) => self.add_comment(comment),
            None if line.is_empty() => Some(()),
            None => {
                let sighting = read_sighting(&mut words)?;
                self.sightings.push(sighting);
                Some(())
            }
        }
    }

    /// Takes over what stands behind `# `; `None` if a known keyword has an argument that makes no
    /// sense. Unknown keywords are passed over.
    fn add_comment(&mut self, comment: &str) -> Option<()> {
        let (keyword, rest) = comment.split_once(' ')?;
        match keyword {
            "log" => self.log = Some(rest.parse().ok()?),
            "jail" => self.jail = Some(JailMark(rest.parse().ok()?)),
            "unsent" => {
                let (network, ms) = rest.split_once(' ')?;
                let at = DateTime::from_timestamp_millis(ms.parse().ok()?)?;
                self.unsent.push((parse_network(network).ok()?, at));
            }
            "forgotten" => self.forgotten_until = rest.parse().ok()?,
            "counted" => {
                for word in rest.split(' ') {
                    let (key, changed) = word.split_once('@')?;
                    let key = EntryKey(u64::from_str_radix(key, 16).ok()?);
                    self.counted.push((key, changed.parse().ok()?));
                }
            }
            // The header, and what a later version may add.
            _ => {}
        }
        Some(())
    }
}

/// Reads a line about a client, see the description of this file; `None` if a word makes no sense.
/// Words with unknown names are passed over.
fn read_sighting<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Sighting> {
    let network = parse_network(words.next()?).ok()?;
    let in_window: u32 = words.next()?.parse().ok()?;
    let epoch: i64 = words.next()?.parse().ok()?;
    let last_seen_ms = epoch.checked_mul(1000)?;
    // Without the further words it is a line of the shell script. It does not say when the attacks
    // before the last one were, so only that one is sure to lie in the window.
    let mut sighting = Sighting {
        network,
        in_window,
        last_seen_ms,
        reports: 0,
        unreported_ms: vec![last_seen_ms],
        rate: (last_seen_ms, in_window, 0),
        answered: Vec::new(),
    };
    for word in words {
        let (key, value) = word.split_once('=')?;
        match key {
            "reported" => sighting.reports = value.parse().ok()?,
            "pace" => {
                let mut numbers = value.split(':');
                sighting.rate = (
                    numbers.next()?.parse().ok()?,
                    numbers.next()?.parse().ok()?,
                    numbers.next()?.parse().ok()?,
                );
            }
            "unreported" => {
                let times = value.split(',').filter(|time| !time.is_empty());
                sighting.unreported_ms =
                    times.map(|time| time.parse().ok()).collect::<Option<_>>()?;
                sighting.unreported_ms.sort_unstable();
            }
            "answered" => {
                let report = |report: &str| {
                    let (until, missing) = report.split_once(':')?;
                    Some((until.parse().ok()?, missing.parse().ok()?))
                };
                sighting.answered = value.split(',').map(report).collect::<Option<_>>()?;
            }
            _ => {}
        }
    }
    Some(sighting)
}

/// Places in files, as they belong to a state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// How far the log has been read.
    pub(super) log: Option<Checkpoint>,
    /// How far the jail file has been written.
    pub(super) jail: Option<JailMark>,
}

/// Returns the bytes of a state file.
pub(super) fn to_bytes(
    ledger: &Ledger,
    seen: &Seen,
    marks: Marks,
    unsent: impl Iterator<Item = Report>,
) -> Vec<u8> {
    let mut text = format!("{HEADER}\n");
    // Writing to a string cannot fail.
    if let Some(log) = marks.log {
        let _ = writeln!(text, "# log {log}");
    }
    if let Some(JailMark(jail)) = marks.jail {
        let _ = writeln!(text, "# jail {jail}");
    }
    for (network, at) in unsent {
        let network = network_text(network);
        let _ = writeln!(text, "# unsent {network} {}", at.timestamp_millis());
    }
    if seen.forgotten_until() != 0 {
        let _ = writeln!(text, "# forgotten {}", seen.forgotten_until());
    }
    for (n, (EntryKey(key), changed)) in seen.iter().enumerate() {
        let start = match n % KEYS_PER_LINE {
            0 if n == 0 => "# counted",
            0 => "\n# counted",
            _ => "",
        };
        let _ = write!(text, "{start} {key:016x}@{changed}");
    }
    if seen.iter().next().is_some() {
        text.push('\n');
    }
    for sighting in ledger.sightings() {
        write_sighting(&mut text, &sighting);
    }
    text.into_bytes()
}

/// Appends the line about a client.
fn write_sighting(text: &mut String, sighting: &Sighting) {
    let (start, attacks, before) = sighting.rate;
    let _ = write!(
        text,
        "{} {} {} reported={} pace={start}:{attacks}:{before} unreported=",
        network_text(sighting.network),
        sighting.in_window,
        sighting.last_seen_ms.div_euclid(1000),
        sighting.reports,
    );
    for (n, time) in sighting.unreported_ms.iter().enumerate() {
        let _ = write!(text, "{}{time}", if n == 0 { "" } else { "," });
    }
    for (n, (until, missing)) in sighting.answered.iter().enumerate() {
        let start = if n == 0 { " answered=" } else { "," };
        let _ = write!(text, "{start}{until}:{missing}");
    }
    text.push('\n');
}

/// A client and the time of its last attack.
pub(super) type Report = (IpNet, DateTime<Utc>);

/// The jail file that a state speaks of.
#[derive(Debug)]
pub(super) struct JailFile {
    /// Its path, for messages.
    pub(super) path: PathBuf,
    /// Another handle of the file that was written, to be synced; or why there is none.
    pub(super) file: io::Result<File>,
}

/// Replaces the state file: at any moment, also after a loss of power, it is the old or the new.
///
/// # Errors
/// [`StateError::Jail`] or [`StateError::Save`]; the old file is then untouched.
pub(super) fn save(path: &Path, jail: Option<JailFile>, bytes: &[u8]) -> Result<(), StateError> {
    if let Some(JailFile { path, file }) = jail {
        let synced = file.and_then(|file| file.sync_data());
        synced.map_err(|source| StateError::Jail { path, source })?;
    }
    crash_points::pass("before-state-saved");
    replace(path, bytes, MODE).map_err(|source| StateError::Save {
        path: path.to_owned(),
        source,
    })?;
    crash_points::pass("state-saved");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::iter;

    use proptest::prelude::*;

    use super::*;
    use crate::ledger::LedgerOptions;

    fn ledger() -> Ledger {
        Ledger::new(LedgerOptions {
            threshold: 3,
            ..LedgerOptions::default()
        })
        .unwrap()
    }

    fn read(bytes: &[u8]) -> Loaded {
        parse(bytes).unwrap()
    }

    #[test]
    fn what_is_saved_is_read_back() {
        let mut ledger = ledger();
        for (ms, client) in (0i64..).zip([
            "192.0.2.1",
            "2001:db8::1",
            "192.0.2.1",
            "192.0.2.1",
            "192.0.2.1",
        ]) {
            let at = DateTime::from_timestamp_millis(1_787_393_700_250 + ms).unwrap();
            ledger.strike(client.parse().unwrap(), at);
        }
        let mut seen = Seen::default();
        for n in 0u32..40 {
            assert!(seen.insert(EntryKey(n.into()), n.into()));
        }
        let mark = |offset: u64| {
            let text = format!("1 2 {offset} {:032x} {:032x}", offset + 1, offset + 2);
            text.parse::<Checkpoint>().unwrap()
        };
        let log = Some(mark(3));
        let jail = Some(JailMark(mark(6)));
        let networks = ["192.0.2.9", "2001:db8::/64"].map(|text| parse_network(text).unwrap());
        let unsent = networks.map(|network| (network, DateTime::UNIX_EPOCH));
        ledger.note_report(networks[1], DateTime::UNIX_EPOCH);
        let bytes = to_bytes(&ledger, &seen, Marks { log, jail }, unsent.into_iter());
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(
            text.contains("\n192.0.2.1 4 1787393700 reported=1 "),
            "{text}"
        );
        assert!(
            text.contains("\n2001:db8::/64 1 1787393700 reported=1 "),
            "{text}"
        );
        let loaded = read(&bytes);
        assert_eq!(loaded.bad_lines, 0);
        let want: Vec<Sighting> = ledger.sightings().collect();
        for (got, want) in loaded.state.sightings.iter().zip(&want) {
            let second = want.last_seen_ms / 1000 * 1000;
            assert_eq!(
                got,
                &Sighting {
                    last_seen_ms: second,
                    ..want.clone()
                }
            );
        }
        assert_eq!(loaded.state.sightings.len(), want.len());
        assert_eq!(loaded.state.log, log);
        assert_eq!(loaded.state.jail, jail);
        assert_eq!(loaded.state.unsent(), unsent);
        assert_eq!(loaded.state.counted, seen.iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_line_of_the_shell_script_counts_for_its_last_attack() {
        let loaded = read(b"192.0.2.1 9 1787393700\n");
        let [sighting] = loaded.state.sightings() else {
            panic!("{loaded:?}");
        };
        assert_eq!(sighting.in_window, 9);
        assert_eq!(sighting.unreported_ms, [1_787_393_700_000]);
    }

    #[test]
    fn bad_lines_are_left_out_and_counted() {
        for (text, good, bad) in [
            ("192.0.2.1 9 1787393700\nwho 1 2\n192.0.2.2 1 5\n", 2, 1),
            ("192.0.2.1 9\n", 0, 1),
            ("192.0.2.1 -9 1787393700\n", 0, 1),
            ("192.0.2.1 1 9223372036854775807\n", 0, 1),
            ("192.0.2.1 1 1787393700 reported=x\n", 0, 1),
            ("192.0.2.1 1 1787393700 reported\n", 0, 1),
            ("192.0.2.1 1 1787393700 later=x\n\n# later x\n", 1, 0),
            ("192.0.2.1 1 1787393700", 0, 1),
            ("\u{0}\u{0}\u{0}\n", 0, 1),
        ] {
            let loaded = read(text.as_bytes());
            assert_eq!(loaded.state.sightings.len(), good, "{text:?}");
            assert_eq!(loaded.bad_lines, bad, "{text:?}");
        }
        let endless = vec![b'1'; usize::try_from(3 * MAX_LINE).unwrap()];
        assert_eq!(read(&endless).bad_lines, 3);
    }

    #[test]
    fn what_never_was_a_state_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let long = "--3fa0c41b-A--\n[x] y 192.0.2.7 1 192.0.2.1 80\n\n".repeat(100_000);
        for (text, is_state) in [
            ("", true),
            ("\n\n", true),
            ("\0\0\0\0", true),
            ("192.0.2.7 1 1787386500\n\0\0\0", true),
            ("who 1 1787386500\n", true),
            ("192.0.2.7 1 1787", true),
            ("nonsense\n192.0.2.7 1 1787386500\n", true),
            ("# modsec-recidive 1: ADDRESS\nnonsense\n", true),
            ("192.0.2.7 - 2026-08-22 10:15:00\n", false),
            ("192.0.2.0/24\n", false),
            ("# a comment\n\n# log of the backup\n", false),
            ("[recidive]\nthreshold = 3\n", false),
            ("\u{1f}\u{8b}\u{8}", false),
            ("SQLite format 3\0\u{10}\0", false),
            ("--3fa0c41b-H--\nStopwatch: 1787386500000000 12\n", false),
            (&long, false),
        ] {
            fs::write(&path, text).unwrap();
            let shown = &text[..text.len().min(40)];
            let taken = State::check(&path).and_then(|()| State::take_over(&path));
            let foreign = matches!(taken, Err(StateError::Foreign { .. }));
            assert_eq!(!foreign, is_state, "{shown:?}");
            assert!(is_state || fs::read_to_string(&path).unwrap() == text);
        }
    }

    #[test]
    fn a_broken_file_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        assert_eq!(State::take_over(&path).unwrap().bad_lines, 0, "none yet");
        fs::write(&path, "192.0.2.1 9 1787393700\nnonsense\n").unwrap();
        let loaded = State::take_over(&path).unwrap();
        assert_eq!(loaded.state.sightings.len(), 1);
        let aside = loaded.set_aside.unwrap();
        assert!(!path.exists() && aside.exists());
        save(&path, None, b"new\n").unwrap();
        save(&path, None, b"newer\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"newer\n");
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            2,
            "nothing left over"
        );
        assert!(State::read(dir.path()).is_err(), "a directory is no state");
        assert!(save(&dir.path().join("no/state"), None, b"").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let loaded = read(&bytes);
            let mut ledger = ledger();
            loaded.state.sightings().iter().for_each(|sighting| ledger.restore(sighting));
        }

        #[test]
        fn any_line_that_is_read_can_be_continued(
            times in prop::collection::vec(any::<i64>(), 0..9),
            epoch in any::<i64>(), rate in any::<(i64, u32, u32)>(),
        ) {
            let times: Vec<String> = times.iter().map(i64::to_string).collect();
            let (start, current, before) = rate;
            let line = format!(
                "192.0.2.1 1 {epoch} pace={start}:{current}:{before} unreported={}\n",
                times.join(","),
            );
            let mut ledger = ledger();
            read(line.as_bytes()).state.sightings().iter().for_each(|s| ledger.restore(s));
            ledger.strike("192.0.2.1".parse().unwrap(), DateTime::from_timestamp(0, 0).unwrap());
            to_bytes(&ledger, &Seen::default(), Marks::default(), iter::empty());
        }
    }
}

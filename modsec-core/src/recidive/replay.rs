//! What would have happened: history through the ledger, without a jail.

mod counting;
mod detail;
mod report;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use rustix::fs::FileType;
use tracing::warn;

use self::detail::{Attack, Detail};
pub use self::report::{ReplayReport, ReplayedOffender, Tallied};
use super::dedup::{EntryKey, Seen};
use super::entry_reader::{Contents, EntryReader, Look, OneOf, Which};
use super::follow::HELD;
use crate::format::{self, Among, Defect};
use crate::index_line::IndexLine;
use crate::ledger::AttackFilter;
use crate::ledger::{Ledger, LedgerError, LedgerOptions};
use crate::log_once::LogOnce;
use crate::log_reader::{BrokenOff, LogReader, Taken};
use crate::logfile::{GZIP, Line, Lines, Unpacked, is_trailing_garbage};
use crate::named_file;
use crate::names::EntryName;
use crate::read_steps::ReadSteps;
use crate::record::{Flag, TrustedProxies};
use crate::spool::Listing;

/// Directories in directories that are entered.
const MAX_DEPTH: usize = 8;
/// Lines by which an index is told from entries.
const FIRST_LINES: usize = 100;
/// Messages about single files.
const MESSAGES: usize = 20;
/// Bytes of a log read at a time.
const CHUNK: u64 = 1 << 20;
/// Says why an index is not read, as libmodsecurity writes it, or as clients can make one look.
const NO_CLIENTS: &str = "an index in whose first lines a client can have written any address: none of \
                          them counts; replay the storage directory";

/// Rules of a replay.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ReplayOptions {
    /// What counts.
    pub attacks: AttackFilter,
    /// Whose word is taken for a client's address.
    pub proxies: TrustedProxies,
    /// Who becomes an offender.
    pub ledger: LedgerOptions,
    /// User ids whose files count; all if `None`. For directories.
    pub owners: Option<Vec<u32>>,
}

/// Why history cannot be replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// An option is out of its range.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A file or directory cannot be read.
    #[error("cannot read {path:?}")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Counts what is in `paths` by the transactions' own times, and writes nothing.
///
/// A path is a merged or serial log, an index, one entry, or a directory of entries in any depth; `-`
/// is standard input.
/// An entry that is in several of them counts once.
///
/// # Errors
/// [`ReplayError::Read`] for a path that cannot be read; what is in it is never an error.
pub fn replay(options: &ReplayOptions, paths: &[PathBuf]) -> Result<ReplayReport, ReplayError> {
    let mut replay = Replay::new(options)?;
    for path in paths {
        replay.path(path).map_err(|source| ReplayError::Read {
            path: path.clone(),
            source,
        })?;
    }
    Ok(replay.finish())
}

/// Returns directory and name of an entry's own file, told by its name: what a body in it looks like
/// is no second entry.
fn entry_file(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let real = path.canonicalize().ok().filter(|real| real.is_file())?;
    let name = real.file_name()?;
    EntryName::parse(name.as_bytes())?;
    Some((real.parent()?.to_owned(), name.into()))
}

/// A replay at work.
struct Replay<'o> {
    /// What counts, and who becomes an offender.
    options: &'o ReplayOptions,
    /// The same ledger as that of a run, without a jail.
    ledger: Ledger,
    /// Attacks that were counted, by their bytes: the same entry may be in several of the paths.
    seen: Seen,
    /// Attacks that wait for earlier ones, the earliest first.
    waiting: BinaryHeap<Reverse<Attack>>,
    /// What is kept of each client that was reported.
    offenders: HashMap<IpNet, Detail>,
    /// Clients that were not reported yet.
    suspects: HashMap<IpNet, Detail>,
    /// Offenders for which there was no room, as many as the ledger has clients.
    left_out: HashSet<IpNet>,
    /// Attacks so far: those of the same time keep their order.
    arrivals: u64,
    /// Limits the messages about single files to [`MESSAGES`].
    log_once: LogOnce,
    /// The counts; the offenders are added at the end.
    report: ReplayReport,
}

impl<'o> Replay<'o> {
    /// Begins with an empty ledger.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] for a rule out of its range.
    fn new(options: &'o ReplayOptions) -> Result<Replay<'o>, LedgerError> {
        Ok(Replay {
            options,
            ledger: Ledger::new(options.ledger.clone())?,
            seen: Seen::default(),
            waiting: BinaryHeap::new(),
            offenders: HashMap::new(),
            suspects: HashMap::new(),
            left_out: HashSet::new(),
            arrivals: 0,
            log_once: LogOnce::new(
                MESSAGES,
                "more that is not read, counted only",
                Duration::MAX,
            ),
            report: ReplayReport::default(),
        })
    }
}

impl Replay<'_> {
    /// Reads what is at `path`: standard input for `-`, a directory, a single entry, or a log.
    ///
    /// # Errors
    ///
    /// What the system said about the path itself; that it is neither a file, a pipe nor a
    /// directory; or that the log is one that is not read.
    fn path(&mut self, path: &Path) -> io::Result<()> {
        if path == Path::new("-") {
            let input = io::stdin().as_fd().try_clone_to_owned()?;
            self.log(File::from(input))
        } else if path.is_dir() {
            // The administrator's own path may lead through a link; below it none is followed.
            let real = path.canonicalize()?;
            let mut tree =
                EntryReader::open(&real, self.options.owners.clone(), ReadSteps::default())
                    .map_err(io::Error::other)?;
            self.directory(&mut tree, Path::new(""), 0)
        } else if let Some((dir, name)) = entry_file(path) {
            let mut tree =
                EntryReader::open(&dir, self.options.owners.clone(), ReadSteps::default())
                    .map_err(io::Error::other)?;
            self.file(&mut tree, &name);
            Ok(())
        } else {
            let file = named_file::open_input(path)?;
            let kind = file.metadata()?.file_type();
            if kind.is_file() || kind.is_fifo() {
                self.log(file)
            } else {
                Err(named_file::wrong_kind(kind))
            }
        }
    }

    /// Reads the files of a directory, then enters its directories; both by name, which is by
    /// time in the directories of one site.
    fn directory(
        &mut self,
        tree: &mut EntryReader,
        relative: &Path,
        depth: usize,
    ) -> io::Result<()> {
        let mut directories = Vec::new();
        let mut files = Vec::new();
        for (name, kind) in list(tree, relative)? {
            match kind {
                FileType::Directory if depth < MAX_DEPTH => directories.push(name),
                FileType::RegularFile => files.push(name),
                _ => {}
            }
        }
        files.sort_unstable();
        directories.sort_unstable();
        for path in files {
            self.file(tree, &path);
        }
        for path in directories {
            // One that is not to be entered is no reason to stop.
            if let Err(error) = self.directory(tree, &path, depth + 1) {
                self.refused(&tree.root().path().join(path), &error.to_string());
            }
        }
        Ok(())
    }

    /// Counts the file at `path`, relative to `tree`, finished or not.
    fn file(&mut self, tree: &mut EntryReader, path: &Path) {
        match tree.look(path, Which::EvenUnfinished) {
            Look::Entry {
                contents: Contents::Whole(entry),
                ..
            } => {
                let refusal = self.entry(entry, Among::Nothing).err();
                if let Some(defect @ (Defect::Wrapped { .. } | Defect::Ocsf)) = refusal
                    && self.log_once.is_new(path)
                {
                    let path = tree.root().path().join(path);
                    warn!(?path, reason = %defect, "not read");
                }
            }
            Look::Entry {
                contents: Contents::Parts(excerpts, key),
                ..
            } => {
                self.report.entries += 1;
                self.record(&excerpts.record(), || key);
            }
            Look::Entry {
                contents: Contents::Several(records),
                ..
            } => records.for_each(|record| self.one_of(record)),
            Look::Foreign | Look::Gone => {}
            Look::Refused(reason) => self.refused(&tree.root().path().join(path), &reason),
            _ => self.report.defects += 1,
        }
    }

    /// Counts and names what cannot be read.
    fn refused(&mut self, path: &Path, reason: &str) {
        self.report.defects += 1;
        if self.log_once.is_new(path) {
            warn!(?path, reason, "not read");
        }
    }

    /// Counts one of several records in a file. One that cannot be read counts as a defect.
    fn one_of(&mut self, record: io::Result<OneOf>) {
        match record {
            Ok(OneOf::Whole(entry)) => drop(self.entry(&entry, Among::Nothing)),
            Ok(OneOf::Parts(excerpts, key)) => {
                self.report.entries += 1;
                self.record(&excerpts.record(), || key);
            }
            Err(_) => self.report.defects += 1,
        }
    }

    /// Reads a log: an index, or entries.
    fn log(&mut self, file: File) -> io::Result<()> {
        if file.metadata()?.is_file() {
            let mut buffer = Vec::new();
            (&file).take(CHUNK).read_to_end(&mut buffer)?;
            if is_index(&buffer) {
                return self.index(file, &buffer, None);
            }
            (&file).rewind()?;
            if buffer.starts_with(&GZIP) {
                let mut unpacked = Unpacked::new(file.try_clone()?);
                buffer.clear();
                let begun = unpacked.by_ref().take(CHUNK).read_to_end(&mut buffer);
                if is_index(&buffer) {
                    return self.index(unpacked, &buffer, begun.err());
                }
                (&file).rewind()?;
            }
        }
        let mut log = LogReader::holding(file, HELD, None)?;
        let (mut is_read, mut refusal) = (false, None);
        while let Some(taken) = log.next().or_else(|error| self.unless_whole(error))? {
            match taken {
                Taken::Whole(bytes, flags) if flags.is_empty() => {
                    match self.entry(&bytes, Among::Others) {
                        Ok(()) => is_read = true,
                        Err(defect) => refusal = refusal.or(Some(defect)),
                    }
                }
                Taken::Whole(..) | Taken::Large(_) => {
                    is_read = true;
                    self.report.entries += 1;
                    self.report.defects += 1;
                }
                Taken::Unrecognized { line, .. } => {
                    refusal = refusal.or_else(|| Some(log.refusal(line)));
                    self.report.defects += 1;
                }
            }
        }
        match refusal {
            // An audit log that is not read is no history without attacks.
            Some(defect @ (Defect::Wrapped { .. } | Defect::Ocsf)) if !is_read => {
                Err(io::Error::other(defect))
            }
            Some(Defect::Index) if !is_read => Err(io::Error::other(NO_CLIENTS)),
            _ => Ok(()),
        }
    }

    /// Passes over what stands behind the end of a compressed file: all of it was read.
    fn unless_whole<T>(&mut self, error: io::Error) -> io::Result<Option<T>> {
        if !is_trailing_garbage(&error) {
            return Err(error);
        }
        warn!(%error, "history read to its end");
        self.report.defects += 1;
        Ok(None)
    }

    /// Reads an index of which `first` was read already, up to an error if there was one.
    fn index(
        &mut self,
        mut file: impl Read,
        first: &[u8],
        mut failed: Option<io::Error>,
    ) -> io::Result<()> {
        let mut lines = Lines::default();
        lines.buffer().extend_from_slice(first);
        let before = self.report.entries;
        let mut is_over = false;
        loop {
            while let Some(line) = lines.next() {
                self.index_line(&line);
            }
            if let Some(error) = failed.take() {
                let lines = self.report.entries - before;
                return match self.unless_whole::<()>(error) {
                    Ok(_) => Ok(()),
                    Err(error) => Err(BrokenOff::after(lines, &error)),
                };
            }
            if is_over {
                break;
            }
            let read = file.by_ref().take(CHUNK).read_to_end(lines.buffer());
            is_over = matches!(read, Ok(0));
            failed = read.err();
        }
        if let Some(line) = lines.rest() {
            self.index_line(&line);
        }
        Ok(())
    }

    /// Counts a line of an index if its status alone makes it an attack. An empty line counts for
    /// nothing.
    fn index_line(&mut self, line: &Line<'_>) {
        let line = match line {
            Line::Whole([] | b"\r") => return,
            Line::Whole(line) => IndexLine::parse(line),
            Line::TooLong => None,
        };
        self.report.entries += 1;
        let Some(line) = line.and_then(|line| line.transaction()) else {
            self.report.defects += 1;
            return;
        };
        if self.options.attacks.is_attack_by_status(Some(line.status)) == Some(true) {
            self.wait(line.client, line.time.to_utc(), Vec::new(), None);
        }
    }

    /// Counts an entry that is in memory. One that is cut short counts as a defect and may be an
    /// attack nevertheless.
    ///
    /// # Errors
    ///
    /// What is wrong if it is no entry; that is counted already.
    fn entry(&mut self, entry: &[u8], among: Among) -> Result<(), Defect> {
        self.report.entries += 1;
        let record = format::decode_among(entry, among);
        let record = record.inspect_err(|_| self.report.defects += 1)?;
        self.report.defects += u64::from(record.flags.contains(Flag::Truncated));
        self.record(&record, || EntryKey::of(entry));
        Ok(())
    }
}

/// Returns what is in a directory of `tree`, with paths relative to its root, in no order.
///
/// # Errors
///
/// [`io::ErrorKind::PermissionDenied`] if the directory may not be entered, whatever the reason;
/// what the system said if listing fails.
fn list(tree: &EntryReader, relative: &Path) -> io::Result<Vec<(PathBuf, FileType)>> {
    let opened = tree.root().open_below(relative);
    let (handle, _) = opened.map_err(|_| io::Error::from(io::ErrorKind::PermissionDenied))?;
    Listing::new(handle)
        .map(|found| found.map(|found| (relative.join(found.name), found.kind)))
        .collect()
}

/// Returns `true` if one of the first lines is one of an index, and none begins an entry. A single
/// line proves nothing: a client can write into it what makes its address doubtful.
fn is_index(first: &[u8]) -> bool {
    let lines = || first.split(|byte| *byte == b'\n').take(FIRST_LINES);
    let is_of_index =
        |line| IndexLine::parse(line).is_some_and(|line| line.transaction().is_some());
    let is_of_entry = |line| format::detect(line).is_some();
    lines().any(is_of_index) && !lines().any(is_of_entry)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::IpAddr;

    use chrono::DateTime;

    use super::counting::MAX_OFFENDERS;
    use super::*;
    use crate::recidive::counter::testing::entry;

    fn options(threshold: u32) -> ReplayOptions {
        ReplayOptions {
            attacks: AttackFilter::default(),
            proxies: TrustedProxies::default(),
            ledger: LedgerOptions {
                threshold,
                ..LedgerOptions::default()
            },
            owners: None,
        }
    }

    /// An attack at a second of one minute.
    fn attack(client: &str, second: u32) -> String {
        entry(client, "", "", "403 Forbidden").replace("10:15:00", &format!("10:15:{second:02}"))
    }

    #[test]
    fn offenders_without_room_are_counted_once_however_often_they_attack() {
        let all = u32::try_from(MAX_OFFENDERS).unwrap() + 5000;
        let options = options(1);
        let mut replay = Replay::new(&options).unwrap();
        for round in 0..3 {
            for number in 0..all {
                replay.strike(&Attack {
                    at: DateTime::from_timestamp(1_787_386_500 + round * 3600, 0).unwrap(),
                    arrival: 0,
                    client: IpAddr::from((0x0a00_0000 + number).to_be_bytes()),
                    rules: Vec::new(),
                    uri: None,
                });
            }
        }
        let report = replay.finish();
        assert_eq!(report.offenders.len(), MAX_OFFENDERS);
        assert_eq!(report.offenders_left_out, 5000);
        assert!(
            report
                .offenders
                .iter()
                .all(|one| one.reports == 3 && one.attacks == 3)
        );
    }

    #[test]
    fn a_log_and_a_tree_give_the_same_report() {
        let dir = tempfile::tempdir().unwrap();
        let minute = dir.path().join("audit/site1/20260822/20260822-1015");
        fs::create_dir_all(&minute).unwrap();
        let mut log = String::new();
        for second in [3, 0, 2, 1] {
            for client in ["192.0.2.7", "2001:db8::1"] {
                let entry = attack(client, second);
                log.extend([&*entry, "\n"]);
                let name = format!("20260822-10150{second}-{}", client.len());
                fs::write(minute.join(name), entry).unwrap();
            }
        }
        log += &attack("192.0.2.8", 0);
        let path = dir.path().join("merged.log");
        fs::write(&path, log).unwrap();
        let audit = dir.path().join("audit");
        for paths in [vec![path.clone()], vec![audit.clone()], vec![audit, path]] {
            let report = replay(&options(3), &paths).unwrap();
            let offenders: Vec<String> = report
                .offenders
                .iter()
                .map(|o| {
                    format!(
                        "{} {} {}",
                        o.client,
                        o.attacks,
                        o.reported_at[0].format("%S")
                    )
                })
                .collect();
            assert_eq!(
                offenders,
                ["192.0.2.7 4 02", "2001:db8::/64 4 02"],
                "{paths:?}"
            );
            assert_eq!(report.reports, 2);
            let [uri] = &*report.offenders[0].uris else {
                panic!("{report:?}");
            };
            assert_eq!((&*uri.what, uri.count), ("/item", 4));
        }
    }

    #[test]
    fn an_index_is_replayed_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.log");
        let line = r#"www 192.0.2.7 - - [22/Nov/2026:14:36:39 +0300] "GET / HTTP/1.1" 403 5 "-" "-" x "-" /a 0 5 md5:f4379ec14e40221beb05af5daf25ef7a "#;
        fs::write(&path, format!("{line}\n{line}\nbad\n")).unwrap();
        let report = replay(&options(2), &[path]).unwrap();
        assert_eq!((report.entries, report.defects, report.reports), (3, 1, 1));
    }

    #[test]
    fn no_client_makes_an_index_look_like_another_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.log");
        let line = |user: &str| {
            format!(
                r#"www 192.0.2.7 - {user} [22/Nov/2026:14:36:39 +0300] "GET / HTTP/1.1" 403 5 "-" "-" x "-" /a 0 5 md5:f4379ec14e40221beb05af5daf25ef7a "#
            )
        };
        fs::write(&path, format!("{}\n{}\n", line("1.1.1.1"), line("-"))).unwrap();
        let report = replay(&options(1), &[path]).unwrap();
        assert_eq!((report.entries, report.defects, report.reports), (2, 1, 1));
    }

    #[test]
    fn a_cut_log_is_a_defect_and_a_missing_one_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("merged.log");
        let log = attack("192.0.2.7", 0) + "\n" + &attack("192.0.2.7", 1);
        fs::write(&path, &log[..log.len() - 3]).unwrap();
        let report = replay(&options(2), std::slice::from_ref(&path)).unwrap();
        assert_eq!((report.entries, report.defects), (2, 1));
        fs::remove_file(&path).unwrap();
        assert!(replay(&options(2), &[path]).is_err());
    }
}

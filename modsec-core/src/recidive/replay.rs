//! What would have happened: history through the ledger, without a jail.

mod detail;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Local, Utc};
use ipnet::IpNet;
use rustix::fs::FileType;
use serde::Serialize;
use tracing::warn;

use self::detail::{Attack, Detail, MAX_KINDS, shown};
use super::dedup::{EntryKey, Seen};
use super::entry_reader::{Contents, EntryReader, Look, OneOf, Which};
use super::follow::HELD;
use crate::format::{self, Defect};
use crate::index_line::IndexLine;
use crate::ledger::AttackFilter;
use crate::ledger::{Ledger, LedgerError, LedgerOptions};
use crate::log_once::LogOnce;
use crate::log_reader::{BrokenOff, LogReader, Taken};
use crate::logfile::{GZIP, Line, Lines, Unpacked, is_trailing_garbage};
use crate::named_file;
use crate::names::EntryName;
use crate::read_steps::ReadSteps;
use crate::record::{Flag, Record, TrustedProxies};
use crate::spool::Listing;

/// Attacks that are put into the order of their times before they count. History that is not
/// further out of order than that is replayed exactly; about 300 bytes each.
const MAX_WAITING: usize = 1 << 18;
/// Offenders of which rules and URIs are kept.
const MAX_OFFENDERS: usize = 1 << 16;
/// Clients not reported yet of which rules and URIs are kept.
const MAX_SUSPECTS: usize = 1 << 15;
/// Directories in directories that are entered.
const MAX_DEPTH: usize = 8;
/// Lines by which an index is told from entries.
const FIRST_LINES: usize = 100;
/// Messages about single files.
const MESSAGES: usize = 20;
/// Bytes of a log read at a time.
const CHUNK: u64 = 1 << 20;

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

/// Who would have been reported.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ReplayReport {
    /// Entries read.
    pub entries: u64,
    /// What was no entry, or was cut off.
    pub defects: u64,
    /// Attacks counted.
    pub attacks: u64,
    /// Attacks from addresses that are ignored.
    pub ignored: u64,
    /// Attacks without a time or an address.
    pub unplaced: u64,
    /// Lines that would have been written to the jail file.
    pub reports: u64,
    /// The clients in them, those with most attacks first.
    pub offenders: Vec<ReplayedOffender>,
    /// Offenders left out of the list because there are too many.
    pub offenders_left_out: u64,
}

/// A client that would have been reported.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ReplayedOffender {
    /// The client.
    pub client: String,
    /// Its attacks in all history.
    pub attacks: u64,
    /// Time of the first.
    pub first: DateTime<Utc>,
    /// Time of the last.
    pub last: DateTime<Utc>,
    /// How often it would have been reported.
    pub reports: u64,
    /// When, as far as kept.
    pub reported_at: Vec<DateTime<Utc>>,
    /// Ids of the rules that matched, most frequent first.
    pub rules: Vec<Tallied>,
    /// What was asked for, most frequent first.
    pub uris: Vec<Tallied>,
}

/// Something and how often it occurred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Tallied {
    /// The thing; control characters are escaped, long ones cut. `…` stands for all others.
    pub what: String,
    /// How often.
    pub count: u64,
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
            } => drop(self.entry(entry)),
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
            Ok(OneOf::Whole(entry)) => drop(self.entry(&entry)),
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
                Taken::Whole(bytes, flags) if flags.is_empty() => match self.entry(&bytes) {
                    Ok(()) => is_read = true,
                    Err(defect) => refusal = refusal.or(Some(defect)),
                },
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
    fn entry(&mut self, entry: &[u8]) -> Result<(), Defect> {
        self.report.entries += 1;
        let record = format::decode(entry).inspect_err(|_| self.report.defects += 1)?;
        self.report.defects += u64::from(record.flags.contains(Flag::Truncated));
        self.record(&record, || EntryKey::of(entry));
        Ok(())
    }

    /// Counts an attack with the rules and the URI that belong to it, unless it was met before.
    /// Without an address or a time it counts as unplaced.
    ///
    /// Only alerts that are whole and not contradicted by part K name rules.
    fn record(&mut self, record: &Record<'_>, key: impl FnOnce() -> EntryKey) {
        if !self.options.attacks.is_attack(record) {
            return;
        }
        let Some((client, time)) = self
            .options
            .proxies
            .client(record)
            .zip(record.instant(&Local))
        else {
            self.report.unplaced += 1;
            return;
        };
        if !self.seen.insert(key(), 0) {
            return;
        }
        let mut rules: Vec<String> = record
            .alerts
            .iter()
            .filter(|alert| alert.is_trusted())
            .filter_map(|alert| alert.rule_id.as_ref())
            .map(|id| shown(&id.to_str_lossy()))
            .take(MAX_KINDS)
            .collect();
        rules.sort_unstable();
        rules.dedup();
        let uri = record.request.uri.as_ref();
        let uri = uri.map(|uri| shown(&uri.to_str_lossy()));
        self.wait(client, time.to_utc(), rules, uri);
    }

    /// Puts an attack into the queue, so that earlier ones count first. Once more than
    /// [`MAX_WAITING`] wait, the earliest counts.
    fn wait(&mut self, client: IpAddr, at: DateTime<Utc>, rules: Vec<String>, uri: Option<String>) {
        self.arrivals += 1;
        self.waiting.push(Reverse(Attack {
            at,
            arrival: self.arrivals,
            client,
            rules,
            uri,
        }));
        if self.waiting.len() > MAX_WAITING
            && let Some(Reverse(attack)) = self.waiting.pop()
        {
            self.strike(&attack);
        }
    }

    /// Counts an attack in the ledger and notes its details. Attacks that the ledger ignores leave
    /// none.
    fn strike(&mut self, attack: &Attack) {
        let ignored = self.ledger.counts().ignored;
        let offender = self.ledger.strike(attack.client, attack.at);
        if self.ledger.counts().ignored > ignored {
            return;
        }
        let network = self.options.ledger.network(attack.client);
        if let Some(detail) = self.offenders.get_mut(&network) {
            detail.add(attack);
            if offender.is_some() {
                detail.report(attack.at);
            }
            return;
        }
        if self.left_out.contains(&network) {
            return;
        }
        let new = || Detail::new(attack.at);
        let detail = self.suspects.entry(network).or_insert_with(new);
        detail.add(attack);
        if offender.is_some() {
            self.move_to_offenders(network, attack.at);
        } else if self.suspects.len() > MAX_SUSPECTS {
            self.drop_suspects(attack.at);
        }
    }

    /// Notes the first report of a client.
    fn move_to_offenders(&mut self, network: IpNet, at: DateTime<Utc>) {
        let Some(mut detail) = self.suspects.remove(&network) else {
            return;
        };
        if self.offenders.len() < MAX_OFFENDERS {
            detail.report(at);
            self.offenders.insert(network, detail);
        } else if self.left_out.len() < self.options.ledger.max_clients {
            // So many offenders that a list of them is of no use: the first ones stay.
            self.left_out.insert(network);
        }
    }

    /// Makes room: first by those who have been quiet. If few have, all go, so that this is rare.
    fn drop_suspects(&mut self, now: DateTime<Utc>) {
        let quiet = self.options.ledger.find_time.saturating_mul(2);
        let is_quiet = |detail: &Detail| (now - detail.last).to_std().is_ok_and(|age| age >= quiet);
        self.suspects.retain(|_, detail| !is_quiet(detail));
        if self.suspects.len() > MAX_SUSPECTS / 2 {
            self.suspects.clear();
        }
    }

    /// Counts what still waits and returns the report, offenders with most attacks first.
    fn finish(mut self) -> ReplayReport {
        while let Some(Reverse(attack)) = self.waiting.pop() {
            self.strike(&attack);
        }
        let counts = self.ledger.counts();
        let mut report = self.report;
        report.attacks = counts.strikes;
        report.ignored = counts.ignored;
        report.reports = counts.reports;
        report.offenders_left_out = self.left_out.len() as u64;
        report.offenders = self
            .offenders
            .into_iter()
            .map(|(client, detail)| detail.offender(client))
            .collect();
        report
            .offenders
            .sort_by(|a, b| (b.attacks, &a.client).cmp(&(a.attacks, &b.client)));
        report
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

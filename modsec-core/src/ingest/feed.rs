//! Turning files into rows on several threads, in order and within bounds.
//!
//! ```text
//! jobs ◄── reader 1..n ──outcomes──► keeper (one task: batches, store, removal)
//! ```
//!
//! A reader takes a job, opens the file and reserves memory for it while it holds the jobs, so
//! reservations are granted in the order of the walk and the keeper, which waits for outcomes in
//! that order, can always go on. Everything else runs side by side.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::mpsc;

use super::index::{Digest, Fate, Wanted};
pub(super) use super::jobs::{From, OpenDir};
use super::jobs::{Job, Jobs, Rest, Source, Uid};
use super::read::{self, CutEntries, Extent, IN_MEMORY, NoRow};
use super::rows::Rows;
use super::several::LeftOff;
use super::turn::{GiveWay, OwnersTurn};
use super::unopened::{Memory, Met};
use super::{IngestError, Options, Stop, digest};
use crate::crash_points;
use crate::format::FirstBytes;
use crate::heartbeat::Heartbeat;
use crate::log_reader::Taken;
use crate::record::Flags;
use crate::storage_dir::{EntryFile, MAX_ENTRY_BYTES, OpenEntry, ReadEntry, Reason, Refusal};
use crate::store::Origin;

/// Outcomes that may wait for the keeper.
const OUTCOMES: usize = 128;
/// Memory for entries and their rows between reading and storing, in bytes. What the keeper's batch
/// may hold, and the most that one reader waits for, so that nobody waits for ever; and some more,
/// so that reading goes on while a batch is stored.
const BUDGET: usize = 9 * 1024 * 1024;

/// What a row may take at the most besides the texts: those of many alerts without any.
const ROW_WITHOUT_TEXTS: u64 = 384 * 1024;
/// What the row of an entry too large for memory may take.
const LARGE_ROW: u64 = 2 * 1024 * 1024;

/// What becomes of one file.
#[derive(Debug)]
pub(super) struct Outcome {
    seq: u64,
    /// Bytes reserved for it.
    pub(super) reserved: usize,
    /// Its directory, if it stands in the storage directory.
    pub(super) dir: Option<Arc<OpenDir>>,
    pub(super) path: PathBuf,
    /// What it was before it was opened.
    pub(super) met: Option<Met>,
    pub(super) result: Result<Found, Skipped>,
}

/// An entry.
#[derive(Debug)]
pub(super) struct Found {
    /// Its entries; nearly always one.
    pub(super) read: read::Rows,
    /// How to remove it; `None` for an input.
    pub(super) file: Option<ReadEntry>,
    /// Whether it was there before the pass began.
    pub(super) is_old: bool,
    /// Size and MD5 of the file, if there is an index to compare them with.
    pub(super) digests: Vec<Digest>,
    /// The path by which the index led to it.
    pub(super) indexed: Option<Arc<Path>>,
    /// Whose turn it is; `None` in a log.
    pub(super) turn: Option<OwnersTurn>,
}

/// No entry.
#[derive(Debug)]
pub(super) enum Skipped {
    /// Too young.
    Young,
    Refused(Refusal),
    Unusable(io::Error),
    NoRow(NoRow),
    /// Not what the index says. Whatever it is, the walk will find it.
    Unlike(Arc<Path>, Fate),
    /// Bytes between the entries of a log.
    Unrecognized {
        at: u64,
        line: FirstBytes,
    },
}

/// Hands out memory.
#[derive(Debug, Default)]
pub(super) struct Budget {
    used: Mutex<Option<usize>>,
    freed: Condvar,
}

impl Budget {
    pub(super) fn new() -> Self {
        Budget {
            used: Mutex::new(Some(0)),
            freed: Condvar::new(),
        }
    }

    /// Waits until `bytes` are free; false if the pass is over.
    fn reserve(&self, bytes: usize) -> bool {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let full =
            |used: &mut Option<usize>| used.is_some_and(|used| used > 0 && used + bytes > BUDGET);
        let mut used = self
            .freed
            .wait_while(used, full)
            .unwrap_or_else(PoisonError::into_inner);
        *used = used.map(|used| used + bytes);
        used.is_some()
    }

    /// Changes a reservation. More is granted at once: what waited here could be what the keeper
    /// waits for.
    fn change(&self, from: usize, to: usize) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        *used = used.map(|used| used.saturating_sub(from).saturating_add(to));
        self.freed.notify_all();
    }

    pub(super) fn free(&self, bytes: usize) {
        self.change(bytes, 0);
    }

    fn is_closed(&self) -> bool {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.is_none()
    }

    fn close(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.freed.notify_all();
    }
}

/// The threads of one pass. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Feed {
    outcomes: mpsc::Receiver<Outcome>,
    /// Outcomes that came before their turn.
    early: BTreeMap<u64, Outcome>,
    next: u64,
    pub(super) budget: Arc<Budget>,
    jobs: Arc<Mutex<Jobs>>,
    readers: Vec<JoinHandle<()>>,
}

impl Feed {
    /// Starts the threads.
    pub(super) fn start(
        from: From,
        options: &Options,
        (memory, left_off): (&Memory, &LeftOff),
        stop: &Stop,
        heartbeat: &Heartbeat,
    ) -> io::Result<Feed> {
        let way = GiveWay::new(&from, stop);
        let now = Utc::now();
        let rules = options.prune_rules(now);
        let ages = Ages {
            now,
            min: options.min_age,
            stale: options.stale_after,
        };
        let known = (ages, Arc::clone(memory));
        let jobs = Jobs::new(from, options, rules, known, stop, heartbeat.clone())?;
        let (sender, outcomes) = mpsc::channel(OUTCOMES);
        let mut feed = Feed {
            outcomes,
            early: BTreeMap::new(),
            next: 0,
            budget: Arc::new(Budget::new()),
            jobs: Arc::new(Mutex::new(jobs)),
            readers: Vec::new(),
        };
        for n in 0..options.threads.max(1) {
            let reader = Reader {
                jobs: Arc::clone(&feed.jobs),
                outcomes: sender.clone(),
                budget: Arc::clone(&feed.budget),
                rows: Rows::new(options),
                digests: options.index.is_some(),
                heartbeat: heartbeat.clone(),
                ages,
                left_off: left_off.clone(),
                way: way.clone(),
            };
            let thread = thread::Builder::new().name(format!("read-{n}"));
            feed.readers.push(thread.spawn(move || reader.run())?);
        }
        Ok(feed)
    }

    /// Returns the next outcome in the order of the walk; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`IngestError::Reader`] if a thread ended before its time.
    pub(super) async fn next(&mut self) -> Result<Option<Outcome>, IngestError> {
        loop {
            let next = self.next;
            if let Some(outcome) = self.early.remove(&next) {
                self.next += 1;
                return Ok(Some(outcome));
            }
            match self.outcomes.recv().await {
                Some(outcome) => {
                    self.early.insert(outcome.seq, outcome);
                }
                None if self.budget.is_closed() => return Err(IngestError::Reader),
                None => return Ok(None),
            }
        }
    }

    /// Returns what the pass leaves. Waits for the threads.
    pub(super) fn finish(mut self) -> Rest {
        self.outcomes.close();
        self.budget.close();
        for reader in self.readers.drain(..) {
            // A reader that panicked has left its mark on standard error.
            let _ = reader.join();
        }
        self.jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .rest()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.budget.close();
    }
}

/// From which age on a file is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ages {
    pub(super) now: DateTime<Utc>,
    pub(super) min: Duration,
    /// Incomplete ones.
    pub(super) stale: Duration,
}

impl Ages {
    /// Returns how long ago a file was touched last.
    pub(super) fn of(&self, changed: DateTime<Utc>) -> Duration {
        let age = self.now.signed_duration_since(changed);
        age.to_std().unwrap_or_default()
    }
}

struct Reader {
    jobs: Arc<Mutex<Jobs>>,
    outcomes: mpsc::Sender<Outcome>,
    budget: Arc<Budget>,
    rows: Rows,
    /// Whether size and MD5 are wanted.
    digests: bool,
    heartbeat: Heartbeat,
    ages: Ages,
    left_off: LeftOff,
    way: GiveWay,
}

impl Drop for Reader {
    /// Ends the pass if this thread panicked: the outcome it owes would be waited for for ever.
    fn drop(&mut self) {
        if thread::panicking() {
            self.budget.close();
        }
    }
}

/// A file that was opened and may be read.
struct Ready {
    file: File,
    size: u64,
    origin: Origin,
    if_cut: CutEntries,
    entry: Option<ReadEntry>,
    is_old: bool,
    wanted: Option<Wanted>,
    uid: Uid,
}

/// What is left to do without the other readers.
enum Work {
    File(Ready),
    /// An entry of a log.
    Entry(Vec<u8>, Flags, Origin),
    LargeEntry(Extent, Origin),
}

impl Work {
    /// Bytes that it may take in memory until its rows are made: an entry, its record and its row.
    fn size(&self) -> u64 {
        let size = match self {
            Work::File(ready) => ready.size,
            Work::Entry(bytes, ..) => bytes.len() as u64,
            Work::LargeEntry(..) => u64::MAX,
        };
        if size > IN_MEMORY {
            return LARGE_ROW;
        }
        // An alert is hardly shorter than a tenth of what it takes in a row.
        4 * size + ROW_WITHOUT_TEXTS.min(32 * size)
    }
}

impl Reader {
    fn run(self) {
        while let Some((mut outcome, ready)) = self.take() {
            if let Some(ready) = ready {
                outcome.result = unless_it_panics(|| self.read(ready));
                let found = outcome.result.as_ref();
                let size = found.map_or(0, |found| found.read.size());
                self.budget.change(outcome.reserved, size);
                outcome.reserved = size;
            }
            if self.outcomes.blocking_send(outcome).is_err() {
                return;
            }
        }
    }

    /// Takes the next job, opens its file and reserves memory, all in the order of the walk.
    fn take(&self) -> Option<(Outcome, Option<Work>)> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let Job { seq, source } = jobs.next()?;
        crash_points::pass("job-taken");
        let mut met = None;
        let (dir, path, ready) = match source {
            Source::Entry(entry, dir, seen) => {
                met = seen;
                let path = entry.path();
                let ready = unless_it_panics(|| self.open(entry, path.clone()));
                (Some(dir), path, ready.map(Work::File))
            }
            Source::Indexed(wanted, found) => {
                let dir = found.as_ref().ok().map(|(_, dir)| Arc::clone(dir));
                let path = wanted.file.to_path_buf();
                let ready = unless_it_panics(|| self.open_indexed(wanted, found));
                (dir, path, ready.map(Work::File))
            }
            Source::Input(path, file) => {
                let open = || file.and_then(|file| self.input(&path, file));
                let ready = unless_it_panics(|| open().map_err(Skipped::Unusable));
                (None, path, ready.map(Work::File))
            }
            Source::Taken(path, uid, taken) => (None, path.clone(), self.taken(path, uid, taken)),
            Source::NoLog(path, defect) => (None, path, Err(Skipped::NoRow(NoRow::Defect(defect)))),
        };
        let mut outcome = Outcome {
            seq,
            reserved: 0,
            dir,
            path,
            met,
            result: Err(Skipped::Young),
        };
        let ready = match ready {
            Ok(ready) => ready,
            Err(skipped) => {
                outcome.result = Err(skipped);
                return Some((outcome, None));
            }
        };
        outcome.reserved = usize::try_from(ready.size()).unwrap_or(0);
        self.budget
            .reserve(outcome.reserved)
            .then_some((outcome, Some(ready)))
    }

    fn open(&self, entry: EntryFile, path: PathBuf) -> Result<Ready, Skipped> {
        let claimed = entry.is_claimed();
        let open = entry.open(MAX_ENTRY_BYTES).map_err(Skipped::Refused)?;
        let age = self.ages.of(open.changed());
        if age < self.ages.min && !claimed {
            return Err(Skipped::Young);
        }
        let if_cut = if age < self.ages.stale {
            CutEntries::Wait
        } else {
            CutEntries::Take
        };
        let file = open.file().try_clone().map_err(Skipped::Unusable)?;
        let (size, uid) = (open.size(), open.uid());
        let is_old = open.changed() < self.ages.now;
        let entry = Some(OpenEntry::close(open));
        Ok(Ready {
            file,
            size,
            origin: self.rows.origin(uid, path),
            if_cut,
            entry,
            is_old,
            wanted: None,
            uid,
        })
    }

    /// Opens a file that the index names, if it has the size that it should have.
    fn open_indexed(
        &self,
        wanted: Wanted,
        found: Result<(EntryFile, Arc<OpenDir>), Refusal>,
    ) -> Result<Ready, Skipped> {
        let refused = |refusal: Refusal| match refusal.reason {
            Reason::Vanished => unlike(&wanted, Fate::Gone),
            _ => unlike(&wanted, Fate::Differs),
        };
        let (entry, _) = found.map_err(refused)?;
        let path = entry.path();
        let open = entry.open(MAX_ENTRY_BYTES).map_err(refused)?;
        let differs = if self.ages.of(open.changed()) < self.ages.min {
            Fate::Changing
        } else {
            Fate::Differs
        };
        if !wanted
            .digests
            .iter()
            .any(|digest| digest.size == open.size())
        {
            return Err(unlike(&wanted, differs));
        }
        let file = open.file().try_clone().map_err(Skipped::Unusable)?;
        let (size, uid) = (open.size(), open.uid());
        Ok(Ready {
            file,
            size,
            origin: self.rows.origin(uid, path),
            // The index says that it is complete, whatever it looks like.
            if_cut: CutEntries::Take,
            entry: Some(OpenEntry::close(open)),
            is_old: true,
            wanted: Some(wanted),
            uid,
        })
    }

    fn input(&self, path: &std::path::Path, file: File) -> io::Result<Ready> {
        let meta = file.metadata()?;
        let uid = meta.uid();
        let origin = self.rows.origin(uid, path.to_owned());
        let if_cut = CutEntries::Take;
        Ok(Ready {
            file,
            size: meta.len(),
            origin,
            if_cut,
            entry: None,
            is_old: true,
            wanted: None,
            uid,
        })
    }

    fn taken(&self, path: PathBuf, uid: Uid, taken: Taken) -> Result<Work, Skipped> {
        let origin = self.rows.origin(uid, path);
        match taken {
            Taken::Whole(bytes, flags) => Ok(Work::Entry(bytes, flags, origin)),
            Taken::Large(extent) => Ok(Work::LargeEntry(extent, origin)),
            Taken::Unrecognized { at, line } => Err(Skipped::Unrecognized { at, line }),
        }
    }

    fn read(&self, work: Work) -> Result<Found, Skipped> {
        let read = match work {
            Work::File(ready) => return self.read_file(ready),
            Work::Entry(bytes, flags, origin) => {
                read::row(bytes, flags, origin, CutEntries::Take, &self.rows)
            }
            Work::LargeEntry(extent, origin) => read::large_row(
                extent,
                origin,
                CutEntries::Take,
                &self.rows,
                &self.heartbeat,
            ),
        };
        Ok(Found {
            read: read.map_err(Skipped::NoRow)?.into(),
            file: None,
            is_old: true,
            digests: Vec::new(),
            indexed: None,
            turn: None,
        })
    }

    fn read_file(&self, ready: Ready) -> Result<Found, Skipped> {
        let Ready {
            file,
            size,
            origin,
            if_cut,
            entry,
            is_old,
            wanted,
            uid,
        } = ready;
        crash_points::pass("before-reading");
        let (turn, begun) = (self.way.of(uid), Instant::now());
        let identity = entry.as_ref().map(ReadEntry::identity);
        let left_off = identity.and_then(|identity| self.left_off.recall(uid, identity));
        let whole = match &wanted {
            Some(wanted) => Some(self.expect(&file, size, wanted)?),
            // What cannot be read is told by what follows.
            None if self.digests && left_off.is_none() => {
                digest::of_file(&file, size, &self.heartbeat).ok()
            }
            None => None,
        };
        let read = read::read(
            file,
            size,
            origin,
            if_cut,
            &self.rows,
            &self.heartbeat,
            left_off,
        );
        turn.add_time(begun.elapsed());
        let read = match (read, wanted.as_ref().zip(whole)) {
            (Ok(read), _) => read,
            (Err(_), Some((wanted, whole))) => return Err(unlike(wanted, Fate::Unusable(whole))),
            (Err(reason), None) => return Err(Skipped::NoRow(reason)),
        };
        if read.are_several() {
            turn.count_records(size);
        }
        Ok(Found {
            read,
            file: entry,
            is_old,
            digests: whole.into_iter().collect(),
            indexed: wanted.map(|wanted| wanted.file),
            turn: Some(turn),
        })
    }

    /// Makes sure that the file has the bytes that the index announces, and returns by what they
    /// are known.
    fn expect(&self, file: &File, size: u64, wanted: &Wanted) -> Result<Digest, Skipped> {
        match digest::of_file(file, size, &self.heartbeat) {
            Ok(found) if wanted.digests.contains(&found) => Ok(found),
            _ => Err(unlike(wanted, Fate::Differs)),
        }
    }
}

/// What is at the place that the index names is not what it says.
fn unlike(wanted: &Wanted, fate: Fate) -> Skipped {
    Skipped::Unlike(Arc::clone(&wanted.file), fate)
}

/// Runs `work` on one file. If it panics, that file counts as unreadable, and the others go on; the
/// panic itself is on standard error.
pub(super) fn unless_it_panics<T>(work: impl FnOnce() -> Result<T, Skipped>) -> Result<T, Skipped> {
    // What `work` borrows is not changed by it.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let error = io::Error::other("a defect of this program; please report it with the file");
        Err(Skipped::NoRow(NoRow::Io(error)))
    })
}

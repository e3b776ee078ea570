//! Turning files into rows on several threads, in order and within bounds.
//!
//! ```text
//! jobs ◄── decode 1..n ── outcomes ──► batch writer (one task: batches, store, removal)
//! ```
//!
//! A thread takes a job, opens the file, waits for memory and promises an outcome while it holds the
//! jobs. So the order of promises is that of the walk, and whoever waits for memory waits only for
//! outcomes that were promised before: they will be kept and taken. Everything else runs side by
//! side.

mod opening;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use self::opening::{OpenFile, Opener, unlike};
use super::budget::GiveWay;
use super::decoder::EntryDecoder;
use super::entry::{IN_MEMORY, MAX_HELD, NoEntry, Skipped, unless_it_panics};
use super::index::Fate;
use super::known_files::KnownFiles;
use super::multi_entry::{self, FileEntries};
use super::outcome::{DecodedFile, FileOutcome, FilePlace};
use super::progress::LeftOff;
use super::source::{Job, Jobs, PassSource, Rest};
use super::unopened::Ages;
use super::{IngestError, Options, Stop, digest};
use crate::crash_points;
use crate::log_reader::Taken;
use crate::read_steps::{ReadSteps, is_left};
use crate::storage_dir::ReadEntry;
use crate::store::{Origin, Row};

/// Memory for entries and their rows from before they are read until they are in a batch, in bytes:
/// so that reading goes on while a batch is stored.
pub(super) const CAPACITY: usize = 9 << 20;
/// Files that may be on their way there, each with a path and perhaps a descriptor.
const OUTCOMES: usize = 128;

// Every entry gets what it may hold. One that is too large for memory gets all: no two are decoded
// at a time, for what is kept of one meanwhile may have several megabytes.
const _: () = assert!(MAX_HELD <= CAPACITY);

/// Returns the most that an entry of `size` bytes and its row hold.
const fn expected(size: usize) -> usize {
    if size > IN_MEMORY {
        CAPACITY
    } else {
        size + Row::max_size(size)
    }
}

/// An outcome to wait for, with the memory that it holds.
type Promise = oneshot::Receiver<(FileOutcome, OwnedSemaphorePermit)>;

/// The threads of one pass. Dropping it ends them.
#[derive(Debug)]
pub(super) struct DecodePool {
    /// What the threads promise, in the order of the walk.
    outcomes: mpsc::Receiver<Promise>,
    /// Bytes of memory that are free, of [`CAPACITY`].
    memory: Arc<Semaphore>,
    /// What is still to be read. Held while a job is begun, which fixes the order of the outcomes.
    jobs: Arc<Mutex<Jobs>>,
    /// Joined at the end, so that a panic is seen.
    threads: Vec<JoinHandle<()>>,
}

impl DecodePool {
    /// Starts the threads. What is known of files, and where they were left in the middle, is taken
    /// from earlier passes.
    ///
    /// # Errors
    ///
    /// What the system said if a thread could not be started.
    pub(super) fn start(
        source: PassSource,
        options: &Options,
        (known, left_off): (&KnownFiles, &LeftOff),
        stop: &Stop,
        steps: &ReadSteps,
    ) -> io::Result<DecodePool> {
        let way = GiveWay::new(source.budgets(), stop);
        let ages = Ages::new(options);
        let jobs = Jobs::new(source, options, ages, known, stop, steps.heartbeat())?;
        let (promises, outcomes) = mpsc::channel(OUTCOMES);
        let mut pool = DecodePool {
            outcomes,
            memory: Arc::new(Semaphore::new(CAPACITY)),
            jobs: Arc::new(Mutex::new(jobs)),
            threads: Vec::new(),
        };
        let decoder = Arc::new(EntryDecoder::new(options, steps.clone()));
        for n in 0..options.threads.max(1) {
            let thread = DecodeThread {
                jobs: Arc::clone(&pool.jobs),
                promises: promises.clone(),
                memory: Arc::clone(&pool.memory),
                runtime: Handle::current(),
                opener: Opener {
                    ages,
                    decoder: Arc::clone(&decoder),
                },
                digests: options.index.is_some(),
                left_off: left_off.clone(),
                way: way.clone(),
            };
            let builder = thread::Builder::new().name(format!("read-{n}"));
            pool.threads.push(builder.spawn(move || thread.run())?);
        }
        Ok(pool)
    }

    /// Returns the next outcome in the order of the walk; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`IngestError::Reader`] if a thread ended before its time.
    pub(super) async fn next(&mut self) -> Result<Option<FileOutcome>, IngestError> {
        if let Some(promise) = self.outcomes.recv().await {
            let kept = promise.await.map_err(|_broken| IngestError::Reader)?;
            return Ok(Some(kept.0));
        }
        // A thread that panicked has left its mark on standard error.
        let mut ended = self.threads.drain(..).map(JoinHandle::join);
        ended.try_for_each(|end| end.map_err(|_panic| IngestError::Reader))?;
        Ok(None)
    }

    /// Returns what the pass leaves. Waits for the threads.
    pub(super) fn finish(mut self) -> Rest {
        self.outcomes.close();
        self.memory.close();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.rest()
    }
}

impl Drop for DecodePool {
    fn drop(&mut self) {
        self.memory.close();
    }
}

/// What one thread of the pool owns or shares with the others.
struct DecodeThread {
    /// What is still to be read, common to all threads.
    jobs: Arc<Mutex<Jobs>>,
    /// Where to promise outcomes; at most [`OUTCOMES`] of them wait.
    promises: mpsc::Sender<Promise>,
    /// Bytes of memory that are free, common to all threads.
    memory: Arc<Semaphore>,
    /// Waits for memory on behalf of this thread, which is none of the runtime's.
    runtime: Handle,
    /// Opens files, and decodes what is in them.
    opener: Opener,
    /// Whether size and MD5 are wanted.
    digests: bool,
    /// Where earlier passes left files of several entries.
    left_off: LeftOff,
    /// Ends files of several entries in the middle.
    way: GiveWay,
}

/// A job that was begun.
struct Begun {
    /// Receives the outcome, together with the memory that it holds.
    promise: oneshot::Sender<(FileOutcome, OwnedSemaphorePermit)>,
    /// At first for all that may be held; reduced to what the outcome holds once it is known.
    memory: OwnedSemaphorePermit,
    /// Where the job was found.
    place: FilePlace,
    /// The opened file or the entry; or why the file cannot be read, which becomes the outcome.
    work: Result<Work, Skipped>,
}

/// What is left to do without the other threads.
enum Work {
    /// A file that holds one entry or several.
    File(OpenFile),
    /// An entry of a log.
    Taken(Taken, Origin),
}

impl Work {
    /// Returns the most that is held of it.
    fn expected(&self) -> usize {
        match self {
            Work::File(file) => expected(usize::try_from(file.size).unwrap_or(usize::MAX)),
            Work::Taken(Taken::Whole(bytes, _), _) => expected(bytes.len()),
            Work::Taken(Taken::Large(_), _) => CAPACITY,
            Work::Taken(Taken::Unrecognized { .. }, _) => 0,
        }
    }
}

impl DecodeThread {
    /// Takes jobs until there are none, until another thread has panicked, or until nobody waits
    /// for outcomes any more.
    fn run(self) {
        while let Some(Begun {
            promise,
            mut memory,
            place,
            work,
        }) = self.begin()
        {
            let result = work.and_then(|work| unless_it_panics(|| self.decode(work)));
            let outcome = FileOutcome { place, result };
            // It holds no more than was expected, or a JSON line besides.
            drop(memory.split(memory.num_permits().saturating_sub(outcome.held())));
            if promise.send((outcome, memory)).is_err() {
                return;
            }
        }
    }

    /// Takes the next job, opens its file and waits for memory, all in the order of the walk.
    fn begin(&self) -> Option<Begun> {
        // Poisoned if another thread has panicked here; the pass is over then.
        let mut jobs = self.jobs.lock().ok()?;
        let job = jobs.next()?;
        crash_points::pass("job-taken");
        let (mut dir, mut met) = (None, None);
        let (path, work) = match job {
            Job::Entry(entry, its_dir, seen) => {
                (dir, met) = (Some(its_dir), seen);
                let path = entry.path();
                let open = unless_it_panics(|| self.opener.entry(entry, path.clone()));
                (path, open.map(Work::File))
            }
            Job::Indexed(wanted, found) => {
                dir = found.as_ref().ok().map(|(_, dir)| Arc::clone(dir));
                let path = wanted.file.to_path_buf();
                let open = unless_it_panics(|| self.opener.indexed(wanted, found));
                (path, open.map(Work::File))
            }
            Job::Input(path, file) => {
                let open = || file.and_then(|file| self.opener.input(&path, file));
                let open = unless_it_panics(|| open().map_err(Skipped::Unusable));
                (path, open.map(Work::File))
            }
            Job::Taken(path, uid, taken) => {
                let origin = self.opener.decoder.origin(uid, path.clone());
                (path, Ok(Work::Taken(taken, origin)))
            }
            Job::NoLog(path, defect) => (path, Err(NoEntry::Defect(defect).into())),
        };
        // A line of JSON says once more what is in the row.
        let times = if self.opener.decoder.json { 2 } else { 1 };
        let expected = work.as_ref().map_or(0, Work::expected);
        let expected = CAPACITY.min(times * expected);
        let memory = Arc::clone(&self.memory).acquire_many_owned(u32::try_from(expected).ok()?);
        let memory = self.runtime.block_on(memory).ok()?;
        let (promise, outcome) = oneshot::channel();
        self.promises.blocking_send(outcome).ok()?;
        Some(Begun {
            promise,
            memory,
            place: FilePlace { path, dir, met },
            work,
        })
    }

    /// Decodes an entry of a log, or all that is needed of a file. An entry of a log has no file
    /// that could be removed.
    fn decode(&self, work: Work) -> Result<DecodedFile, Skipped> {
        let entry = match work {
            Work::File(file) => return self.decode_file(file),
            Work::Taken(taken, origin) => self.opener.decoder.decode_taken(taken, &origin)?,
        };
        Ok(DecodedFile {
            entries: FileEntries::One(Box::new(entry)),
            file: None,
            is_old: true,
            digests: Vec::new(),
            indexed: None,
            budget: None,
        })
    }

    /// Decodes the only entry of a file, or prepares to decode several one at a time.
    ///
    /// A file that the index names is first compared with its line: if size and MD5 differ, the
    /// result is [`Skipped::Unlike`], and nothing is decoded. The time is charged to the owner of
    /// the file.
    fn decode_file(&self, open: OpenFile) -> Result<DecodedFile, Skipped> {
        crash_points::pass("before-reading");
        let OpenFile {
            file,
            size,
            uid,
            wanted,
            ..
        } = open;
        let (budget, begun) = (self.way.of(uid), Instant::now());
        let identity = open.entry.as_ref().map(ReadEntry::identity);
        let left_off = identity.and_then(|identity| self.left_off.recall(uid, identity));
        let digest = || match digest::of_file(&file, size, &self.opener.decoder.steps) {
            Err(error) if is_left(&error) => Err(NoEntry::Io(error)),
            // What cannot be read is told by what follows.
            digest => Ok(digest.ok()),
        };
        let whole = match &wanted {
            Some(wanted) => {
                let found = digest()?.filter(|found| wanted.digests.contains(found));
                Some(found.ok_or_else(|| unlike(wanted, Fate::Differs))?)
            }
            None if self.digests && left_off.is_none() => digest()?,
            None => None,
        };
        let entries = multi_entry::read(
            file,
            size,
            open.origin,
            open.if_cut,
            &self.opener.decoder,
            left_off,
        );
        budget.add_time(begun.elapsed());
        let entries = entries.map_err(|reason| match (&wanted, whole) {
            _ if matches!(&reason, NoEntry::Io(error) if is_left(error)) => reason.into(),
            (Some(wanted), Some(whole)) => unlike(wanted, Fate::Unusable(whole)),
            _ => reason.into(),
        })?;
        if matches!(entries, FileEntries::Several(_)) {
            budget.count_records(size);
        }
        Ok(DecodedFile {
            entries,
            file: open.entry,
            is_old: open.is_old,
            digests: whole.into_iter().collect(),
            indexed: wanted.map(|wanted| wanted.file),
            budget: Some(budget),
        })
    }
}

#[cfg(test)]
mod tests;

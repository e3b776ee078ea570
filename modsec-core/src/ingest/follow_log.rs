//! Going on for ever with a serial log: what is appended to it is stored soon.
//!
//! ```text
//! log ─► tail (over rotation) ─► splitter ─► batch ─► store ─► place on disk
//! ```
//!
//! The place is behind the last entry that is safe, so a restart reads again what may not be. What
//! is in the store already is known there by its hash.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::batch_writer::BatchWriter;
use super::decoder::EntryDecoder;
use super::entry::{Extent, IN_MEMORY, NoEntry, Skipped};
use super::offset_file;
use super::tally::DefectReason;
use super::{IngestError, Observer, Options, Tally, note_outage, note_success};
use crate::format::{self, Defect};
use crate::heartbeat::Heartbeat;
use crate::log_reader::Taken;
use crate::logfile::{Aside, Content, EntryTimeout, Growth, Recognition, Tail};
use crate::program::{Backoff, Lifecycle, Stop, Wake};
use crate::read_steps::ReadSteps;
use crate::serial_log::{InputState, Piece, Splitter};
use crate::store::Origin;

/// How often the log is looked at while it is quiet.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long the old log must be quiet after a rotation: the server goes on with it until it is told
/// to reopen its logs.
const ROTATION: Duration = Duration::from_secs(5);
/// How long to go on without saving the place, and without looking whether to stop.
const TURN: Duration = Duration::from_secs(1);
/// Bytes at the beginning of the log that tell what stands around it.
const HEAD: usize = 4096;
/// How often counts are logged, if there is anything to tell.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Why a log cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FollowLogError {
    /// The log cannot be read.
    #[error("could not read {path:?}, the log to --follow; name another")]
    Read {
        /// The log.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is an audit log that is not read.
    #[error("{path:?}, the log to --follow, is {defect}")]
    Foreign {
        /// The log.
        path: PathBuf,
        /// What it is.
        defect: Defect,
    },
    /// The place in it cannot be kept.
    #[error("could not keep in {path:?} how far the log was read; give another --offset-file")]
    Place {
        /// The file for it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A large entry cannot be put aside.
    #[error("could not write a temporary file; make room beside the file that --offset-file names")]
    Spool(#[source] io::Error),
}

/// Stores what is in `log` and what is appended to it from now on, until a stop is requested; then
/// finishes the batch at hand and returns the counts.
///
/// `offset_file` keeps how far the log was stored, over restarts. Rotation is followed, by renaming
/// and by copying, also over a restart: what was not read is looked for beside the log,
/// whatever its name, and compressed by gzip too. An entry that stays without its
/// end for `options.stale_after` is taken as it is. While the store is away or a disk is full, this
/// goes on and tries again after 1 to 60 seconds. A hangup reopens the merged log.
///
/// # Errors
///
/// [`IngestError`] for what is wrong at the start and does not pass by itself.
pub async fn follow_log(
    options: &Options,
    log: &Path,
    offset_file: &Path,
    lifecycle: &mut Lifecycle<'_>,
    observer: &mut dyn Observer,
) -> Result<Tally, IngestError> {
    let heartbeat = Heartbeat::default();
    lifecycle
        .watch(vec![heartbeat.clone()])
        .map_err(IngestError::Thread)?;
    let steps = ReadSteps::new(&heartbeat, Some(lifecycle.stop()));
    let mut follower = Follower {
        options,
        log,
        offset_file,
        decoder: EntryDecoder::new(options, steps.clone()),
        steps,
        writer: None,
        reading: None,
        recognition: Recognition::new(Content::Entries, 0),
        backoff: Backoff::default(),
        has_read: false,
        all: Tally::default(),
    };
    let mut logged = Instant::now();
    loop {
        let pause = follower.turn(lifecycle.stop(), observer).await?;
        lifecycle.ready();
        if logged.elapsed() >= LOG_EVERY {
            logged = Instant::now();
            follower.log_totals(lifecycle);
        }
        match lifecycle.until(heartbeat.wait_for(sleep(pause))).await {
            Wake::Stop => break,
            Wake::Hangup => follower.writer.iter_mut().for_each(BatchWriter::reopen),
            Wake::Done(()) => {}
        }
    }
    lifecycle.stopping();
    Ok(follower.all)
}

/// Finds out whether [`follow_log`] could begin with these files; changes nothing. The log may come
/// later.
///
/// # Errors
///
/// As for [`follow_log`], as far as they concern log and offset file.
pub fn check_log_to_follow(log: &Path, offset_file: &Path) -> Result<(), FollowLogError> {
    Reading::open(log, offset_file, Duration::ZERO).map(drop)
}

/// The service between two turns.
struct Follower<'o> {
    /// What the administrator asked for.
    options: &'o Options,
    /// The path of the log, as given to `--follow`.
    log: &'o Path,
    /// Where the place is kept, as given to `--offset-file`.
    offset_file: &'o Path,
    /// Makes rows of entries.
    decoder: EntryDecoder,
    /// Reports signs of life, and ends the reading of large entries at a stop.
    steps: ReadSteps,
    /// `None` until store and merged log could be opened.
    writer: Option<BatchWriter>,
    /// `None` before the first attempt, and after an outage: then reading begins at the saved
    /// place.
    reading: Option<Reading>,
    /// Finds out whether the log is one of entries, and says so if it is not.
    recognition: Recognition,
    /// When to try again after an outage.
    backoff: Backoff,
    /// Whether the log could be read before: what was right once is not the configuration's fault.
    has_read: bool,
    /// Counts since the start.
    all: Tally,
}

/// The log, as far as it was read.
struct Reading {
    /// Reads the log over rotations.
    tail: Tail,
    /// Cuts what was read into entries.
    splitter: Splitter,
    /// The large entry at hand. Not in memory, as the directory for temporary files may be.
    aside: Aside,
    /// Whether what was read last was the end of a log.
    is_over: bool,
    /// Since when an entry has been without its end.
    timeout: EntryTimeout,
    /// The offset that the offset file has; `None` if that is to be written in any case.
    saved: Option<u64>,
    /// Where the first large entry begins that was handed out since the place was saved. It may be
    /// left, and is read again from there at the next start.
    large_at: Option<u64>,
}

impl Follower<'_> {
    /// Stores what is there; returns how long to wait then.
    async fn turn(
        &mut self,
        stop: &Stop,
        observer: &mut dyn Observer,
    ) -> Result<Duration, IngestError> {
        let error = match self.work(stop, observer).await {
            Ok(is_done) => {
                note_success(&mut self.backoff);
                return Ok(if is_done { LOOK_EVERY } else { Duration::ZERO });
            }
            Err(error) => error,
        };
        let passes = match &error {
            IngestError::Output(_) => false,
            // The loop ends now.
            IngestError::Interrupted => return Ok(Duration::ZERO),
            IngestError::Log(_) => self.has_read,
            IngestError::Store(error) => error.is_unavailable() || self.writer.is_some(),
            _ => self.writer.is_some(),
        };
        if !passes {
            return Err(error);
        }
        // What was read and not stored is read again.
        self.reading = None;
        self.writer.iter_mut().for_each(BatchWriter::forget_batch);
        note_outage(&mut self.backoff, &error);
        let until = self.backoff.until().unwrap_or_else(Instant::now);
        Ok(until - Instant::now())
    }

    /// Returns `true` if the end of the log was reached.
    async fn work(
        &mut self,
        stop: &Stop,
        observer: &mut dyn Observer,
    ) -> Result<bool, IngestError> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let now = Instant::now().into_std();
                none.insert(BatchWriter::open(self.options, now, self.steps.clone()).await?)
            }
        };
        writer.settle().await?;
        let mut reading = if let Some(reading) = self.reading.take() {
            reading
        } else {
            let reading = Reading::open(self.log, self.offset_file, self.options.stale_after)?;
            if !self.has_read {
                reading.tail.say_if_absent();
            }
            self.recognition.resume(reading.tail.offset());
            reading
        };
        let is_done = self.read_on(&mut reading, stop, observer).await?;
        self.has_read = true;
        self.reading = Some(reading);
        Ok(is_done)
    }

    /// Stores what is read within a turn; returns `true` if the end of the log was reached.
    async fn read_on(
        &mut self,
        reading: &mut Reading,
        stop: &Stop,
        observer: &mut dyn Observer,
    ) -> Result<bool, IngestError> {
        let started = Instant::now();
        loop {
            let growth = reading.read(self.log)?;
            let goes_on = self.take_entries(reading, growth, observer).await?;
            let is_restarted = growth == Growth::Restarted;
            let is_done = growth == Growth::End;
            let is_over = !goes_on || started.elapsed() >= TURN || stop.requested();
            if !(is_restarted || is_done || is_over) {
                continue;
            }
            let is_left = self.flush(observer).await?;
            if is_restarted && is_left {
                // The entry is to be found by the place that was saved last.
                return Ok(false);
            }
            if is_restarted {
                reading.restart();
                self.recognition.restart(reading.tail.offset());
                continue;
            }
            reading.save(self.offset_file, is_left)?;
            return Ok(is_done);
        }
    }

    /// Hands over what was read; returns `false` if a large entry was left, as a stop is requested.
    async fn take_entries(
        &mut self,
        reading: &mut Reading,
        growth: Growth,
        observer: &mut dyn Observer,
    ) -> Result<bool, IngestError> {
        let input = reading.input(growth);
        let is_last = input == InputState::End && growth != Growth::Restarted;
        let origin = reading.origin(&self.decoder, self.log);
        let Some(writer) = &mut self.writer else {
            return Ok(true);
        };
        while let Some((at, taken)) = reading.next(input)? {
            match self.decoder.decode_taken(taken, &origin) {
                Ok(entry) => {
                    self.recognition.found();
                    writer.take_entry(entry, observer).await?;
                }
                Err(Skipped::NoEntry(NoEntry::Defect(defect))) => {
                    self.recognition.defect(self.log, at, defect);
                    writer.findings.tally.defect(DefectReason::NotAnAuditLog);
                }
                Err(Skipped::Unrecognized { .. })
                    if is_last && self.recognition.ended(at, &mut reading.tail) =>
                {
                    writer.findings.tally.defect(DefectReason::Foreign);
                }
                Err(skipped) => {
                    let is_left = skipped.is_left();
                    writer.skip(self.log, None, skipped);
                    if is_left {
                        return Ok(false);
                    }
                }
            }
        }
        let from = reading.splitter.unrecognized_from();
        self.recognition.look(from, &mut reading.tail, growth);
        Ok(true)
    }

    /// Keeps the batch at hand; returns `true` if a large entry was left, as a stop is requested.
    async fn flush(&mut self, observer: &mut dyn Observer) -> Result<bool, IngestError> {
        let Some(writer) = &mut self.writer else {
            return Ok(false);
        };
        writer.flush(observer).await?;
        let tally = writer.take_tally();
        let is_left = tally.interrupted;
        self.add(tally);
        Ok(is_left)
    }

    /// Adds the counts of a batch to those since the start.
    fn add(&mut self, tally: Tally) {
        self.all.entries += tally.stored + tally.known;
        self.all.stored += tally.stored;
        self.all.known += tally.known;
        for (reason, count) in tally.defects {
            *self.all.defects.entry(reason).or_default() += count;
        }
    }

    /// Reports the entries stored so far to the service manager, and logs them if there are any.
    fn log_totals(&self, lifecycle: &Lifecycle<'_>) {
        let all = &self.all;
        lifecycle.status(&format!("{} entries stored so far", all.entries));
        if all.entries > 0 {
            info!(
                total = all.entries,
                defects = all.defective(),
                "entries stored"
            );
        }
    }
}

impl Reading {
    /// Opens the log at the place that `offset_path` keeps, or at its beginning.
    ///
    /// # Errors
    ///
    /// [`FollowLogError::Place`] if that file cannot be read; [`FollowLogError::Read`] if the log
    /// cannot; [`FollowLogError::Foreign`] if something stands around its entries.
    fn open(
        log: &Path,
        offset_path: &Path,
        stale_after: Duration,
    ) -> Result<Reading, FollowLogError> {
        let mark = offset_file::load(offset_path).map_err(|source| FollowLogError::Place {
            path: offset_path.to_owned(),
            source,
        })?;
        let tail = Tail::new(log.to_owned(), mark.as_ref());
        let tail = tail.map_err(|source| FollowLogError::Read {
            path: log.to_owned(),
            source,
        })?;
        if mark.is_some() && !tail.is_continued() {
            warn!(
                path = ?log,
                "neither the log that was read before, nor beside it: starting at its beginning; \
                 give logs that were moved elsewhere as INPUT to another run, which stores what \
                 is missing"
            );
        }
        let mut tail = tail.with_patience(ROTATION);
        if let Some(defect) = refusal(&mut tail) {
            return Err(FollowLogError::Foreign {
                path: log.to_owned(),
                defect,
            });
        }
        Ok(Reading {
            splitter: Splitter::new(tail.offset(), IN_MEMORY),
            saved: None,
            large_at: None,
            tail,
            aside: Aside::in_dir(
                offset_path
                    .parent()
                    .filter(|dir| !dir.as_os_str().is_empty())
                    .unwrap_or(Path::new("."))
                    .to_owned(),
            ),
            is_over: false,
            timeout: EntryTimeout::after(stale_after),
        })
    }

    /// Appends more of the log to what the splitter has. Notes whether another file begins behind
    /// it.
    ///
    /// # Errors
    ///
    /// [`FollowLogError::Read`] with what the system said.
    fn read(&mut self, log: &Path) -> Result<Growth, FollowLogError> {
        let growth = self.tail.read(self.splitter.buffer());
        self.is_over = matches!(growth, Ok(Growth::Restarted));
        growth.map_err(|source| FollowLogError::Read {
            path: log.to_owned(),
            source,
        })
    }

    /// Says what is to be expected. The end of an entry that has been missing for long will not
    /// come any more.
    fn input(&mut self, growth: Growth) -> InputState {
        match growth {
            Growth::Grown => InputState::More,
            Growth::Over | Growth::Restarted => InputState::End,
            Growth::End if self.timeout.is_given_up(&self.splitter, growth) => InputState::End,
            Growth::End => InputState::Quiet,
        }
    }

    /// The owner of the log stands for the account.
    fn origin(&self, decoder: &EntryDecoder, log: &Path) -> Origin {
        use std::os::unix::fs::MetadataExt as _;
        let meta = self.tail.file().and_then(|file| file.metadata().ok());
        decoder.origin(meta.map_or(0, |meta| meta.uid()), log.to_owned())
    }

    /// Returns what comes next, and at which offset it begins.
    fn next(&mut self, input: InputState) -> Result<Option<(u64, Taken)>, FollowLogError> {
        loop {
            let input = if self.aside.has_more() {
                InputState::More
            } else {
                input
            };
            let Some(piece) = self.splitter.next(input) else {
                if !self.aside.has_more() {
                    return Ok(None);
                }
                let read = self.aside.read_again(self.splitter.buffer());
                read.map_err(FollowLogError::Spool)?;
                continue;
            };
            match piece {
                Piece::Entry { at, bytes, flags } => {
                    return Ok(Some((at, Taken::Whole(bytes.to_vec(), flags))));
                }
                Piece::Part(bytes) => self.aside.keep(bytes).map_err(FollowLogError::Spool)?,
                Piece::End {
                    at,
                    len,
                    overrun,
                    flags,
                } => {
                    let file = self.end(at + len, len, overrun)?;
                    if len > 0 {
                        self.large_at.get_or_insert(at);
                        let extent = Extent {
                            file: Arc::new(file),
                            start: 0,
                            len,
                            flags,
                        };
                        return Ok(Some((at, Taken::Large(extent))));
                    }
                    // Announced in vain; it is read again.
                }
                Piece::Unrecognized { at, line, .. } => {
                    return Ok(Some((at, Taken::Unrecognized { at, line })));
                }
            }
        }
    }

    /// Returns the file with the large entry of `len` bytes that ends at `end` of the log. If too
    /// much was handed out, it is read again from there: from what was put aside, if the log itself
    /// is another one by now.
    fn end(&mut self, end: u64, len: u64, overrun: bool) -> Result<File, FollowLogError> {
        let rest = overrun.then(|| self.splitter.rewind(end));
        if overrun && !self.is_over {
            self.tail.seek(end);
        }
        let rest = rest.filter(|_| self.is_over);
        let file = self.aside.take(len, rest.as_deref());
        file.map_err(FollowLogError::Spool)
    }

    /// Another file is at the path, or the file was emptied.
    fn restart(&mut self) {
        self.splitter = Splitter::new(self.tail.offset(), IN_MEMORY);
        self.aside.clear();
        (self.saved, self.large_at) = (None, None);
    }

    /// Keeps the place behind the last entry that was handed out, or before the first large one if
    /// one was left.
    fn save(&mut self, path: &Path, is_left: bool) -> Result<(), FollowLogError> {
        let large_at = self.large_at.take().filter(|_| is_left);
        let offset = large_at.unwrap_or_else(|| self.splitter.position());
        // Somebody may have removed the file.
        if self.saved == Some(offset) && path.exists() {
            return Ok(());
        }
        let unread = self.tail.offset().saturating_sub(offset);
        let saved = self.tail.checkpoint(unread).and_then(|mark| match mark {
            Some(mark) => offset_file::save(path, &mark).map(|()| true),
            // The log was emptied a moment ago; the next look will tell.
            None => Ok(false),
        });
        let is_saved = saved.map_err(|source| FollowLogError::Place {
            path: path.to_owned(),
            source,
        })?;
        if is_saved {
            self.saved = Some(offset);
        }
        Ok(())
    }
}

/// Returns why a log is not read, if its beginning shows that something stands around it. What it was
/// rotated to may be compressed with gzip: that is unpacked, as it is where the log is read.
fn refusal(tail: &mut Tail) -> Option<Defect> {
    let head = tail.peek(0, HEAD);
    let defect = match format::detect(&head) {
        Some(_) => return None,
        None => format::decode(&head).err()?,
    };
    matches!(defect, Defect::Wrapped { .. } | Defect::Ocsf).then_some(defect)
}

//! The files of one pass, handed out one at a time in the order of the walk.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::feed::Ages;
use super::index::Wanted;
use super::unopened::{Glance, Memory, Met, Unopened};
use super::{Options, Stop, inputs};
use crate::crash_points;
use crate::format::native::Boundary;
use crate::format::{self, Defect, Format};
use crate::heartbeat::Heartbeat;
use crate::log_reader::{LogReader, Taken};
use crate::names::EntryName;
use crate::storage_dir::turns::{Turn, Turns};
use crate::storage_dir::{
    EntryDir, EntryFile, Files, LeftAlone, Name, PruneRules, Refusal, StorageDir, Walk,
};

/// How often to see whether to stop, while no input is found.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Inputs that may wait for a reader, each held open.
const INPUTS: usize = 64;

/// Directories that may be open when one more file is looked for by its path. Each such file
/// holds up to three, and the usual limit is 1024 descriptors.
const OPEN_DIRECTORIES: usize = 300;

/// What a pass goes through.
#[derive(Debug)]
pub(super) enum From {
    /// The whole tree, from where the walk is.
    Tree(Box<Cursor>, Option<Pause>),
    /// What was claimed in there, after the file of this number, and how long a turn is.
    Claimed(Arc<StorageDir>, Option<u64>, Turns),
    /// Files that the index names. The pass may end before the last of them.
    Indexed(Arc<StorageDir>, Vec<Wanted>),
    Inputs(Vec<PathBuf>),
}

/// A walk through the tree. It may pause between two files and go on in another pass.
#[derive(Debug)]
pub(super) struct Cursor {
    walk: Walk,
    open: Option<(Arc<OpenDir>, Files)>,
    turns: Turns,
    pruned: Arc<AtomicU64>,
}

impl Cursor {
    pub(super) fn new(storage: &StorageDir, turns: Turns) -> Cursor {
        Cursor {
            walk: storage.walk(),
            open: None,
            turns,
            pruned: Arc::default(),
        }
    }

    pub(super) fn turns(&self) -> Turns {
        self.turns.clone()
    }
}

/// Says whether something else goes first.
#[derive(Clone)]
pub(super) struct Pause(pub(super) Arc<dyn Fn() -> bool + Send + Sync>);

impl fmt::Debug for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pause")
    }
}

/// What a pass leaves.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// Directories that were removed.
    pub(super) pruned: u64,
    /// What the walk left alone, once it is at its end.
    pub(super) left_alone: LeftAlone,
    pub(super) unopened: Unopened,
    /// Where the walk goes on, if it paused.
    pub(super) cursor: Option<Box<Cursor>>,
    /// Whether files were left because their owners' turns were over.
    pub(super) turns_over: bool,
    /// How long the names of claimed files were looked at.
    pub(super) looking: Duration,
}

/// A directory whose files are on their way. It is pruned when the last one is done.
#[derive(Debug)]
pub(super) struct OpenDir {
    dir: EntryDir,
    /// Files on their way, and one for the listing itself.
    pending: AtomicUsize,
    prune: Option<PruneRules>,
    pruned: Arc<AtomicU64>,
}

impl OpenDir {
    /// A directory of which only single files are taken; it is never pruned.
    fn unlisted(dir: EntryDir) -> OpenDir {
        OpenDir {
            dir,
            pending: AtomicUsize::new(1),
            prune: None,
            pruned: Arc::default(),
        }
    }

    fn owner(&self) -> Option<u32> {
        self.dir.owner()
    }

    /// One file less. Returns why the directory could not be removed, if it should have been.
    pub(super) fn done(&self) -> Option<Refusal> {
        if self.pending.fetch_sub(1, Ordering::AcqRel) != 1 {
            return None;
        }
        let rules = self.prune.as_ref()?;
        crash_points::pass("before-prune");
        match self.dir.prune(rules) {
            Ok(removed) => {
                self.pruned.fetch_add(u64::from(removed), Ordering::Relaxed);
                None
            }
            Err(refusal) => Some(refusal),
        }
    }
}

/// One file to read.
pub(super) struct Job {
    /// Its place in the walk.
    pub(super) seq: u64,
    pub(super) source: Source,
}

pub(super) enum Source {
    Entry(EntryFile, Arc<OpenDir>, Option<Met>),
    Indexed(Wanted, Result<(EntryFile, Arc<OpenDir>), Refusal>),
    /// An input that is one entry, or cannot be read.
    Input(PathBuf, io::Result<File>),
    /// What was found in a log.
    Taken(PathBuf, Uid, Taken),
    /// A log that ended without an entry.
    NoLog(PathBuf, Defect),
}

/// Owner of a log.
pub(super) type Uid = u32;

/// Finds one file after the other. The readers share it, so that walking takes no thread of its
/// own and nobody is woken for a single file.
#[derive(Debug)]
pub(super) struct Jobs {
    seq: u64,
    stop: Stop,
    prune: Option<PruneRules>,
    heartbeat: Heartbeat,
    ages: Ages,
    memory: Memory,
    unopened: Unopened,
    from: Finder,
    looking: Duration,
}

#[derive(Debug)]
enum Finder {
    Tree {
        cursor: Box<Cursor>,
        pause: Option<Pause>,
        paused: bool,
    },
    Claimed {
        after: Option<u64>,
        open: Option<(Arc<OpenDir>, Files)>,
        turns: Turns,
    },
    Indexed {
        storage: Arc<StorageDir>,
        wanted: std::vec::IntoIter<Wanted>,
        open: Option<(PathBuf, Arc<OpenDir>)>,
    },
    Inputs {
        found: Receiver<(PathBuf, io::Result<File>)>,
        log: Option<OpenLog>,
    },
}

/// A log of which entries are taken.
#[derive(Debug)]
struct OpenLog {
    path: PathBuf,
    uid: Uid,
    reader: Box<LogReader>,
    /// What its first bytes say against it, until an entry was found.
    defect: Option<Defect>,
    /// What comes behind the first lines, which belong to no entry.
    held: Option<Taken>,
}

impl Jobs {
    pub(super) fn new(
        from: From,
        options: &Options,
        prune: Option<PruneRules>,
        (ages, memory): (Ages, Memory),
        stop: &Stop,
        heartbeat: Heartbeat,
    ) -> io::Result<Jobs> {
        let from = match from {
            From::Tree(cursor, pause) => Finder::Tree {
                cursor,
                pause,
                paused: false,
            },
            From::Claimed(storage, after, turns) => Finder::Claimed {
                after,
                // Never pruned.
                open: storage.claimed().map(|dir| {
                    let files = dir.files();
                    (Arc::new(OpenDir::unlisted(dir)), files)
                }),
                turns,
            },
            From::Indexed(storage, wanted) => Finder::Indexed {
                storage,
                wanted: wanted.into_iter(),
                open: None,
            },
            From::Inputs(paths) => Finder::Inputs {
                found: find_inputs(paths, options)?,
                log: None,
            },
        };
        Ok(Jobs {
            seq: 0,
            stop: stop.clone(),
            prune,
            heartbeat,
            ages,
            memory,
            unopened: Unopened::default(),
            from,
            looking: Duration::ZERO,
        })
    }

    /// Returns the next file; `None` at the end, or if the pass is to end.
    pub(super) fn next(&mut self) -> Option<Job> {
        if self.stop.requested() {
            return None;
        }
        let source = match &mut self.from {
            Finder::Tree { .. } => self.next_in_tree()?,
            Finder::Claimed { .. } => {
                let begun = Instant::now();
                let next = self.next_claimed();
                self.looking += begun.elapsed();
                next?
            }
            Finder::Indexed { .. } => self.next_indexed()?,
            Finder::Inputs { found, log } => next_in_logs(found, log, &self.stop)?,
        };
        let job = Job {
            seq: self.seq,
            source,
        };
        self.seq += 1;
        Some(job)
    }

    fn next_in_tree(&mut self) -> Option<Source> {
        let Finder::Tree {
            cursor,
            pause,
            paused,
        } = &mut self.from
        else {
            return None;
        };
        let mut looker = Looker {
            unopened: &mut self.unopened,
            ages: &self.ages,
            memory: &self.memory,
        };
        let Cursor {
            walk,
            open,
            turns,
            pruned,
        } = &mut **cursor;
        while !self.stop.requested() {
            // There may be very many files that are only looked at.
            self.heartbeat.beat();
            *paused |= pause.as_ref().is_some_and(|pause| pause.0());
            if *paused {
                return None;
            }
            match looker.step(open, turns) {
                Step::Take(source) => return Some(source),
                Step::On => continue,
                Step::End => {}
            }
            let dir = walk.next()?;
            if turns.directory(dir.owner()) != Turn::His {
                continue;
            }
            let files = dir.files();
            let dir = OpenDir {
                dir,
                pending: AtomicUsize::new(1),
                prune: self.prune.clone(),
                pruned: Arc::clone(pruned),
            };
            *open = Some((Arc::new(dir), files));
        }
        None
    }

    fn next_claimed(&mut self) -> Option<Source> {
        let Finder::Claimed { after, open, turns } = &mut self.from else {
            return None;
        };
        let mut looker = Looker {
            unopened: &mut self.unopened,
            ages: &self.ages,
            memory: &self.memory,
        };
        while !self.stop.requested() {
            // Perhaps very many, if they could not be stored for long.
            self.heartbeat.beat();
            let (dir, files) = open.as_mut()?;
            match files.step() {
                None => *open = None,
                Some(Name::Entry(file)) if after.is_none() || file.claim_number() > *after => {
                    if let Step::Take(source) = looker.file(file, dir, turns) {
                        return Some(source);
                    }
                }
                Some(_) => {}
            }
        }
        None
    }

    fn next_indexed(&mut self) -> Option<Source> {
        let Finder::Indexed {
            storage,
            wanted,
            open,
        } = &mut self.from
        else {
            return None;
        };
        if storage.open_directories() > OPEN_DIRECTORIES {
            return None;
        }
        let wanted = wanted.next()?;
        let parent = wanted.file.parent().unwrap_or(Path::new(""));
        let dir = match open {
            Some((path, dir)) if path == parent => Ok(Arc::clone(dir)),
            _ => storage.entry_dir_at(parent).map(|dir| {
                let dir = Arc::new(OpenDir::unlisted(dir));
                *open = Some((parent.to_owned(), Arc::clone(&dir)));
                dir
            }),
        };
        let name = wanted.file.file_name().unwrap_or_default();
        let file = dir.and_then(|dir| {
            let file = dir.dir.file_named(name)?;
            dir.pending.fetch_add(1, Ordering::AcqRel);
            Ok((file, dir))
        });
        Some(Source::Indexed(wanted, file))
    }

    /// Returns what is left. To be called once, when nobody asks for files any more.
    pub(super) fn rest(&mut self) -> Rest {
        let mut rest = Rest {
            unopened: std::mem::take(&mut self.unopened),
            looking: self.looking,
            ..Rest::default()
        };
        let nothing = Finder::Claimed {
            after: None,
            open: None,
            turns: Turns::new(0),
        };
        match std::mem::replace(&mut self.from, nothing) {
            Finder::Tree { cursor, paused, .. } => {
                rest.pruned = cursor.pruned.swap(0, Ordering::Relaxed);
                rest.turns_over = cursor.turns.left();
                if paused && !self.stop.requested() {
                    rest.cursor = Some(cursor);
                } else {
                    rest.left_alone = cursor.walk.left_alone();
                }
            }
            Finder::Claimed { turns, .. } => rest.turns_over = turns.left(),
            Finder::Indexed { .. } | Finder::Inputs { .. } => {}
        }
        rest
    }
}

/// Goes through directories and looks at files.
struct Looker<'j> {
    unopened: &'j mut Unopened,
    ages: &'j Ages,
    memory: &'j Memory,
}

enum Step {
    Take(Source),
    /// Nothing to take here, but perhaps further on.
    On,
    /// The directory is done with.
    End,
}

impl Looker<'_> {
    /// Goes on to the next name in the directory at hand. At its end the listing itself is done.
    fn step(&mut self, open: &mut Option<(Arc<OpenDir>, Files)>, turns: &Turns) -> Step {
        let Some((dir, files)) = open else {
            return Step::End;
        };
        let step = match files.step() {
            Some(Name::Entry(file)) => self.file(file, dir, turns),
            Some(Name::Other) => on(turns.look(dir.owner())),
            None => Step::End,
        };
        if matches!(step, Step::End) {
            // An empty directory that cannot be removed is tried again by the next pass.
            dir.done();
            *open = None;
        }
        step
    }

    fn file(&mut self, file: EntryFile, dir: &Arc<OpenDir>, turns: &Turns) -> Step {
        let met = match self.unopened.look(&file, self.ages, self.memory) {
            Glance::Gone => return Step::On,
            Glance::Left(uid) => return on(turns.look(Some(uid))),
            Glance::Open(met) => met,
        };
        let turn = met.map_or(Turn::His, |Met { look, .. }| {
            turns.file(look.uid, look.size())
        });
        if turn != Turn::His {
            return on(turn);
        }
        dir.pending.fetch_add(1, Ordering::AcqRel);
        Step::Take(Source::Entry(file, Arc::clone(dir), met))
    }
}

fn on(turn: Turn) -> Step {
    if turn == Turn::Hopeless {
        Step::End
    } else {
        Step::On
    }
}

/// Returns what comes next in the log at hand, or begins with the next input.
fn next_in_logs(
    found: &Receiver<(PathBuf, io::Result<File>)>,
    log: &mut Option<OpenLog>,
    stop: &Stop,
) -> Option<Source> {
    loop {
        let Some(open) = log else {
            let (path, file) = receive(found, stop)?;
            match file.and_then(|file| begin(&path, file, stop)) {
                _ if stop.requested() => return None,
                Ok(Begun::Entry(file)) => return Some(Source::Input(path, Ok(file))),
                Ok(Begun::Log(reader, uid)) => {
                    *log = Some(OpenLog {
                        path,
                        uid,
                        reader,
                        defect: Some(Defect::Empty),
                        held: None,
                    });
                }
                Err(error) => return Some(Source::Input(path, Err(error))),
            }
            continue;
        };
        let path = open.path.clone();
        let taken = match open.held.take() {
            Some(taken) => Ok(Some(taken)),
            None => open.reader.next(),
        };
        match taken {
            // What a pipe has given so far may be half an entry.
            _ if stop.requested() => return None,
            Ok(Some(Taken::Unrecognized { at: 0, line })) => {
                open.defect = Some(Defect::NotAnAuditLog { found: line });
            }
            Ok(Some(mut taken)) => {
                if let Some(Defect::NotAnAuditLog { found: line }) = open.defect.take() {
                    let first = Taken::Unrecognized { at: 0, line };
                    open.held = Some(std::mem::replace(&mut taken, first));
                }
                return Some(Source::Taken(path, open.uid, taken));
            }
            Ok(None) => {
                let defect = open.defect;
                *log = None;
                if let Some(defect) = defect {
                    return Some(Source::NoLog(path, defect));
                }
            }
            Err(error) => {
                *log = None;
                return Some(Source::Input(path, Err(error)));
            }
        }
    }
}

/// Waits for the next input; `None` at the end, or if the pass is to end. Directories may have very
/// many names that are no input.
fn receive<T>(found: &Receiver<T>, stop: &Stop) -> Option<T> {
    loop {
        match found.recv_timeout(LOOK_EVERY) {
            Ok(found) => return Some(found),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) if stop.requested() => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

enum Begun {
    Entry(File),
    Log(Box<LogReader>, Uid),
}

/// Tells a log from an entry's own file. In that, by its name, whatever a body in it looks like is
/// no second entry; what an engine has appended to it is.
fn begin(path: &Path, file: File, stop: &Stop) -> io::Result<Begun> {
    let name = path.file_name().unwrap_or_default();
    let meta = file.metadata()?;
    if meta.is_file() && EntryName::parse(name.as_bytes()).is_some() {
        let mut head = vec![0; Boundary::MAX_LINE + 1];
        let got = file.read_at(&mut head, 0)?;
        head.truncate(got);
        if let Some(Format::Native(_)) = format::detect(&head) {
            return Ok(Begun::Entry(file));
        }
    }
    Ok(Begun::Log(
        Box::new(LogReader::open(file, stop)?),
        meta.uid(),
    ))
}

/// Walks inputs in a thread of its own: they nest as deep as they like.
fn find_inputs(
    paths: Vec<PathBuf>,
    options: &Options,
) -> io::Result<Receiver<(PathBuf, io::Result<File>)>> {
    let (found, inputs) = sync_channel(INPUTS.max(options.threads));
    thread::Builder::new()
        .name("walk".to_owned())
        .spawn(move || {
            for path in paths {
                if !inputs::walk(&path, &mut |path, file| found.send((path, file)).is_ok()) {
                    return;
                }
            }
        })?;
    Ok(inputs)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use chrono::Utc;

    use super::*;
    use crate::ingest::Directories;

    fn options() -> Options {
        Options {
            directories: Directories::Keep,
            min_age: Duration::ZERO,
            stale_after: Duration::ZERO,
            ..Options::default()
        }
    }

    #[test]
    fn a_walk_that_pauses_between_all_files_meets_each_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut want = BTreeSet::new();
        for number in 0..60 {
            let minute = format!("site{}/20260304/20260304-050{}", number % 3, number % 4);
            let path = dir
                .path()
                .join(minute)
                .join(format!("20260304-050607-{number}"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "x").unwrap();
            want.insert(path);
        }
        let storage = StorageDir::open(dir.path()).unwrap();
        let mut cursor = Some(Box::new(Cursor::new(&storage, Turns::new(u64::MAX))));
        let (_handle, stop) = Stop::new();
        let ages = Ages {
            now: Utc::now(),
            min: Duration::ZERO,
            stale: Duration::ZERO,
        };
        let options = options();
        let (mut found, mut pauses) = (Vec::new(), 0);
        while let Some(at) = cursor {
            let asked = AtomicU64::new(0);
            let pause = Pause(Arc::new(move || asked.fetch_add(1, Ordering::Relaxed) >= 3));
            let known = (ages, Memory::default());
            let from = From::Tree(at, Some(pause));
            let mut jobs =
                Jobs::new(from, &options, None, known, &stop, Heartbeat::default()).unwrap();
            while let Some(job) = jobs.next() {
                if let Source::Entry(file, ..) = job.source {
                    found.push(file.path());
                }
            }
            cursor = jobs.rest().cursor;
            pauses += 1;
        }
        assert!(pauses > 20, "{pauses}");
        assert_eq!(found.len(), want.len());
        assert_eq!(BTreeSet::from_iter(found), want);
    }
}

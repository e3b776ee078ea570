//! The files of one pass, handed out one at a time in the order of the walk.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use super::index::Wanted;
use super::{Options, Stop, inputs};
use crate::crash_points;
use crate::format::native::Boundary;
use crate::format::{self, Defect, Format};
use crate::heart::Heart;
use crate::log_reader::{LogReader, Taken};
use crate::storage_dir::{
    EntryDir, EntryFile, EntryName, Files, LeftAlone, PruneRules, Refusal, StorageDir, Walk,
};

/// Inputs that may wait for a reader, each held open.
const INPUTS: usize = 64;

/// Directories that may be open when one more file is looked for by its path. Each such file
/// holds up to three, and the usual limit is 1024 descriptors.
const OPEN_DIRECTORIES: usize = 300;

/// What a pass goes through.
#[derive(Debug)]
pub(super) enum From {
    StorageDir(Arc<StorageDir>),
    /// What was claimed in there, after the file of this number.
    Claimed(Arc<StorageDir>, Option<u64>),
    /// Files that the index names. The pass may end before the last of them.
    Indexed(Arc<StorageDir>, Vec<Wanted>),
    Inputs(Vec<PathBuf>),
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
    Entry(EntryFile, Arc<OpenDir>),
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
    pruned: Arc<AtomicU64>,
    heart: Heart,
    from: Finder,
}

#[derive(Debug)]
enum Finder {
    Tree {
        walk: Walk,
        open: Option<(Arc<OpenDir>, Files)>,
    },
    Claimed {
        after: Option<u64>,
        open: Option<(Arc<OpenDir>, Files)>,
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
        stop: &Stop,
        heart: Heart,
    ) -> io::Result<Jobs> {
        let mut jobs = Jobs {
            seq: 0,
            stop: stop.clone(),
            prune,
            pruned: Arc::default(),
            heart,
            from: Finder::Claimed {
                after: None,
                open: None,
            },
        };
        jobs.from = match from {
            From::StorageDir(storage) => Finder::Tree {
                walk: storage.walk(),
                open: None,
            },
            From::Claimed(storage, after) => Finder::Claimed {
                after,
                open: storage.claimed().map(|dir| jobs.open(dir)),
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
        Ok(jobs)
    }

    fn open(&self, dir: EntryDir) -> (Arc<OpenDir>, Files) {
        let files = dir.files();
        let open = OpenDir {
            dir,
            pending: AtomicUsize::new(1),
            prune: self.prune.clone(),
            pruned: Arc::clone(&self.pruned),
        };
        (Arc::new(open), files)
    }

    /// Returns the next file; `None` at the end, or if the pass is to end.
    pub(super) fn next(&mut self) -> Option<Job> {
        if self.stop.requested() {
            return None;
        }
        let source = match &mut self.from {
            Finder::Tree { .. } => self.next_in_tree()?,
            Finder::Claimed { after, open } => {
                let after = *after;
                let heart = &self.heart;
                // Perhaps very many, if they could not be stored for long.
                let wanted = |file: &EntryFile| {
                    heart.beat();
                    after.is_none() || file.claim_number() > after
                };
                next_file(open, wanted)?
            }
            Finder::Indexed { .. } => self.next_indexed()?,
            Finder::Inputs { found, log } => next_in_logs(found, log)?,
        };
        let job = Job {
            seq: self.seq,
            source,
        };
        self.seq += 1;
        Some(job)
    }

    fn next_in_tree(&mut self) -> Option<Source> {
        loop {
            let Finder::Tree { walk, open } = &mut self.from else {
                return None;
            };
            if let Some(source) = next_file(open, |_| true) {
                return Some(source);
            }
            self.heart.beat();
            let dir = walk.next()?;
            let opened = self.open(dir);
            if let Finder::Tree { open, .. } = &mut self.from {
                *open = Some(opened);
            }
        }
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

    /// Returns how many directories were removed, and what the walk left alone.
    pub(super) fn result(&self) -> (u64, LeftAlone) {
        let left = match &self.from {
            Finder::Tree { walk, .. } => walk.left_alone(),
            Finder::Claimed { .. } | Finder::Indexed { .. } | Finder::Inputs { .. } => {
                LeftAlone::default()
            }
        };
        (self.pruned.load(Ordering::Relaxed), left)
    }
}

/// Returns the next wanted file of the directory at hand. At its end the listing itself is done.
fn next_file(
    open: &mut Option<(Arc<OpenDir>, Files)>,
    wanted: impl Fn(&EntryFile) -> bool,
) -> Option<Source> {
    let (dir, files) = open.as_mut()?;
    if let Some(file) = files.find(wanted) {
        dir.pending.fetch_add(1, Ordering::AcqRel);
        return Some(Source::Entry(file, Arc::clone(dir)));
    }
    // An empty directory that cannot be removed is tried again by the next pass.
    dir.done();
    *open = None;
    None
}

/// Returns what comes next in the log at hand, or begins with the next input.
fn next_in_logs(
    found: &Receiver<(PathBuf, io::Result<File>)>,
    log: &mut Option<OpenLog>,
) -> Option<Source> {
    loop {
        let Some(open) = log else {
            let (path, file) = found.recv().ok()?;
            match file.and_then(|file| begin(&path, file)) {
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
            Ok(Some(Taken::Foreign { at: 0, line })) => {
                open.defect = Some(Defect::NotAnAuditLog { found: line });
            }
            Ok(Some(mut taken)) => {
                if let Some(Defect::NotAnAuditLog { found: line }) = open.defect.take() {
                    let first = Taken::Foreign { at: 0, line };
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

enum Begun {
    Entry(File),
    Log(Box<LogReader>, Uid),
}

/// Tells a log from an entry's own file. In that, by its name, whatever a body in it looks like is
/// no second entry.
fn begin(path: &Path, file: File) -> io::Result<Begun> {
    let name = path.file_name().unwrap_or_default();
    let meta = file.metadata()?;
    if meta.is_file() && EntryName::parse(name.as_bytes()).is_some() {
        let mut head = vec![0; Boundary::MAX_LINE + 1];
        let got = file.read_at(&mut head, 0)?;
        head.truncate(got);
        if format::detect(&head) == Some(Format::NativeV2) {
            return Ok(Begun::Entry(file));
        }
    }
    Ok(Begun::Log(Box::new(LogReader::open(file)?), meta.uid()))
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

//! Inputs: single entries, and logs of many.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use super::selector::{Job, Uid};
use crate::format::native::Boundary;
use crate::format::{self, Defect, FirstBytes, Format};
use crate::ingest::inputs;
use crate::log_reader::{LogReader, Taken};
use crate::names::EntryName;
use crate::program::Stop;

/// How often to see whether to stop, while no input is found.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Inputs that may wait for a reader, each held open.
const INPUTS: usize = 64;

/// Finds the entries of inputs, one after the other.
#[derive(Debug)]
pub(super) struct Logs {
    /// Inputs and what opening them gave, from the thread that walks them.
    found: Receiver<(PathBuf, io::Result<File>)>,
    /// The log at hand; `None` between two inputs.
    log: Option<OpenLog>,
}

/// A log of which entries are taken.
#[derive(Debug)]
struct OpenLog {
    /// As the administrator named it, or below that.
    path: PathBuf,
    /// Its owner, whose name is the account of its entries.
    uid: Uid,
    /// Cuts the log into entries.
    reader: Box<LogReader>,
    /// What its first bytes say against it, until an entry was found.
    defect: Option<Defect>,
    /// What its first line begins with, if that belongs to no entry.
    first_line: Option<FirstBytes>,
    /// What comes behind the first lines, which belong to no entry.
    held: Option<Taken>,
}

impl Logs {
    /// Walks inputs in a thread of its own: they nest as deep as they like.
    ///
    /// # Errors
    ///
    /// What the system said if the thread could not be started.
    pub(super) fn start(paths: Vec<PathBuf>, threads: usize) -> io::Result<Logs> {
        let (send, found) = sync_channel(INPUTS.max(threads));
        thread::Builder::new()
            .name("walk".to_owned())
            .spawn(move || {
                for path in paths {
                    if !inputs::walk(&path, &mut |path, file| send.send((path, file)).is_ok()) {
                        return;
                    }
                }
            })?;
        Ok(Logs { found, log: None })
    }

    /// Returns what comes next in the log at hand, or begins with the next input.
    pub(super) fn next(&mut self, stop: &Stop) -> Option<Job> {
        loop {
            let Some(log) = &mut self.log else {
                let (path, file) = receive(&self.found, stop)?;
                match file.and_then(|file| begin(&path, file, stop)) {
                    _ if stop.requested() => return None,
                    Ok(Begun::Entry(file)) => return Some(Job::Input(path, Ok(file))),
                    Ok(Begun::Log(reader, uid)) => {
                        self.log = Some(OpenLog {
                            path,
                            uid,
                            reader,
                            defect: Some(Defect::Empty),
                            first_line: None,
                            held: None,
                        });
                    }
                    Err(error) => return Some(Job::Input(path, Err(error))),
                }
                continue;
            };
            let path = log.path.clone();
            match log.next() {
                // What a pipe has given so far may be half an entry.
                _ if stop.requested() => return None,
                Ok(Some(taken)) => return Some(Job::Taken(path, log.uid, taken)),
                Ok(None) => {
                    if let Some(defect) = self.log.take()?.defect {
                        return Some(Job::NoLog(path, defect));
                    }
                }
                Err(error) => {
                    self.log = None;
                    return Some(Job::Input(path, Err(error)));
                }
            }
        }
    }
}

impl OpenLog {
    /// Returns what comes next. Lines at the beginning that belong to no entry are kept back until
    /// there is one: without any, this is no log.
    fn next(&mut self) -> io::Result<Option<Taken>> {
        if let Some(held) = self.held.take() {
            return Ok(Some(held));
        }
        let mut taken = self.reader.next()?;
        if let Some(Taken::Unrecognized { at: 0, line }) = taken {
            self.defect = Some(self.reader.refusal(line));
            self.first_line = Some(line);
            taken = self.reader.next()?;
        }
        let Some(taken) = taken else {
            return Ok(None);
        };
        self.defect = None;
        Ok(Some(match self.first_line.take() {
            Some(line) => {
                self.held = Some(taken);
                Taken::Unrecognized { at: 0, line }
            }
            None => taken,
        }))
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

/// What an input is.
enum Begun {
    /// A file of one entry, or of several that an engine has appended.
    Entry(File),
    /// A log of entries and its owner, an user id.
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

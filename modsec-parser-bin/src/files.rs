//! Which files a run reads and writes: none of them for two purposes.

use std::path::Path;

use clap::CommandFactory as _;
use clap::error::ErrorKind;
use modsec_core::command_line;
use modsec_core::ingest::IndexSource;
use modsec_core::named_file::is_within;
use modsec_core::store;

use crate::args::{Args, Follow, Request};

/// Where standard output goes, if that is a file. The summary may be appended to the log file.
const OUTPUT: (&str, &str) = ("standard output", "/dev/stdout");

/// Refuses a request that would read what it writes, or write two things into one file.
///
/// # Errors
///
/// Which two name the same file, or that the merged log lies where entries are.
pub(crate) fn check(request: Request, config: Option<&Path>) -> Result<Request, clap::Error> {
    let options = &request.options;
    let database = request.store.as_ref().and_then(store::file);
    let mut written: Vec<(&str, &Path)> = Vec::new();
    let merged_log = options.merged_log.as_deref();
    let merged_log = merged_log.filter(|_| request.store.is_some());
    written.extend(merged_log.map(|log| ("merged-log", log)));
    written.extend(database.as_deref().map(|file| ("store", file)));
    let mut read: Vec<(&str, &Path)> = Vec::new();
    if let Follow::Log { offset_file, .. } = &request.follow {
        written.push(("offset-file", offset_file));
    }
    if let Some(IndexSource::File(index)) = &options.index {
        read.push(("index", index));
    }
    read.extend(options.inputs.iter().map(|path| ("INPUT", path.as_path())));
    read.extend(
        request
            .settings
            .iter()
            .map(|(name, path)| (*name, path.as_path())),
    );
    read.extend(config.map(|path| ("config", path)));
    let command = &mut Args::command();
    // Standard output first: what it destroys is gone already when the program starts.
    written.push((OUTPUT.0, Path::new(OUTPUT.1)));
    command_line::check_files(command, &written, &read)?;
    written.pop();
    written.extend(request.log.file.as_deref().map(|log| ("log-file", log)));
    command_line::check_files(command, &written, &read)?;
    let dirs = options.storage_dir.iter().chain(&options.inputs);
    for dir in dirs.filter(|dir| dir.is_dir()) {
        if let Some(log) = merged_log.filter(|log| is_within(log, dir)) {
            let problem = format!(
                "the merged log {} lies in {}, where entries are read from: it would be read as one \
                 of them; name a file elsewhere with --merged-log",
                log.display(),
                dir.display()
            );
            return Err(command.error(ErrorKind::ArgumentConflict, problem));
        }
    }
    Ok(request)
}

//! `--check-config`: looks at all that a run would open, and changes nothing.

use std::path::Path;

use modsec_core::command_line::{CommandLine, Findings};
use modsec_core::ingest::IndexSource;
use modsec_core::program;
use modsec_core::storage_dir::StorageDir;
use modsec_core::store;

use crate::args::{Follow, Request};

/// Shows settings and findings, and ends the process.
pub(crate) async fn end(line: &CommandLine, request: &Request) -> ! {
    // What the store warns of; the log file is only looked at.
    let mut log = request.log.clone();
    log.file = None;
    let _log = program::log_to(&log);
    let mut findings = Findings::default();
    look(request, &mut findings).await;
    line.end_check(&request.chosen(), &findings)
}

async fn look(request: &Request, findings: &mut Findings) {
    let options = &request.options;
    if let Some(file) = &request.log.file {
        findings.file_to_write("log-file", file);
    }
    if let Some(dir) = &options.storage_dir {
        findings.tried(StorageDir::open(dir));
    }
    let follows = !matches!(request.follow, Follow::No);
    let logs = options.inputs.iter().map(|path| ("INPUT", path));
    let index = match &options.index {
        Some(IndexSource::File(index)) => Some(("index", index)),
        _ => None,
    };
    for (name, path) in logs.chain(index) {
        if follows {
            findings.log_to_follow(name, path);
        } else if path != Path::new("-") {
            findings.file_to_read(name, path);
        }
    }
    // Of the lock, too.
    if let Some(dir) = request.state_dir.as_ref().or(options.state_dir.as_ref()) {
        findings.made_directory("store", dir, true);
    }
    if let Follow::Log { offset_file, .. } = &request.follow {
        findings.file_to_write("offset-file", offset_file);
    }
    let Some(store) = &request.store else {
        return;
    };
    if let Some(log) = &options.merged_log {
        findings.file_to_write("merged-log", log);
    }
    let is_made = request.state_dir.as_deref();
    if is_made.is_some_and(|dir| request.uses_default_store() && findings.is_made(dir)) {
        findings.remark(format!(
            "{} is not there yet; the first run makes it",
            store.url
        ));
    } else if let Some(found) = findings.tried(store::look(store).await) {
        found
            .remark
            .into_iter()
            .for_each(|text| findings.remark(text));
    }
}

//! `--check-config`: looks at all that a run would open, and changes nothing.

use std::path::Path;

use modsec_core::command_line::{CommandLine, Findings};
use modsec_core::ingest::{self, IndexSource};
use modsec_core::merged_log::{MergedLog, MergedLogError};
use modsec_core::storage_dir::StorageDir;
use modsec_core::store;
use modsec_core::{named_file, program};

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

/// Finds out whether a run could append to the merged log. A rehearsal may go on beside the program
/// that does.
pub(crate) fn look_at_merged_log(request: &Request, findings: &mut Findings) {
    let Some(log) = &request.options.merged_log else {
        return;
    };
    if !findings.file_to_write("merged-log", log) || !named_file::parent(log).is_dir() {
        return;
    }
    match MergedLog::check(log) {
        Err(MergedLogError::Locked { .. }) if request.is_rehearsal() => {}
        checked => {
            findings.tried(checked);
        }
    }
}

async fn look(request: &Request, findings: &mut Findings) {
    let options = &request.options;
    if let Some(file) = &request.log.file {
        findings.log_file(file);
    }
    let opened = options.storage_dir.as_ref().map(StorageDir::open);
    let tree = opened.and_then(|opened| findings.tried(opened));
    if let Some(tree) = tree.filter(|_| options.store.is_some()) {
        findings.tried(tree.check_lock(options.state_dir.as_deref()));
    }
    if let Some(IndexSource::File(index)) = &options.index {
        let merged_log = options.merged_log.as_deref();
        findings.tried(ingest::check_index(index, merged_log));
    }
    // Of the lock, too.
    if let Some(dir) = request.state_dir.as_ref().or(options.state_dir.as_ref()) {
        findings.made_directory("store", dir, true);
    }
    if let Follow::Log { log, offset_file } = &request.follow {
        let is_read = findings.log_to_follow("INPUT", log);
        let is_kept = findings.file_to_replace("offset-file", offset_file);
        if is_read && is_kept {
            findings.tried(ingest::check_log_to_follow(log, offset_file));
        }
    } else {
        let inputs = options.inputs.iter().filter(|path| *path != Path::new("-"));
        inputs.for_each(|path| findings.file_to_read("INPUT", path));
    }
    let Some(store) = &request.store else {
        return;
    };
    look_at_merged_log(request, findings);
    let is_made = request.state_dir.as_deref();
    if is_made.is_some_and(|dir| request.uses_default_store() && findings.is_made(dir)) {
        findings.remark(format!(
            "{} is not there yet; the first run makes it",
            store.url
        ));
        return;
    }
    match store::look_to_write(store).await {
        Ok(found) => found
            .remark
            .into_iter()
            .for_each(|text| findings.remark(text)),
        Err(error) => {
            findings.problem(&error);
            error
                .statements()
                .iter()
                .for_each(|text| findings.detail(text));
        }
    }
}

//! What is no entry, or stays where it is: counted, and named once.

use std::hash::Hash;
use std::io;
use std::path::Path;
use std::sync::PoisonError;

use tracing::{debug, error, warn};

use super::Keeper;
use crate::format::Defect;
use crate::ingest::DefectReason;
use crate::ingest::feed::Skipped;
use crate::ingest::read::NoRow;
use crate::ingest::refused::Verdict;
use crate::ingest::unopened::{Files, Memory, Met, Unopened};
use crate::storage_dir::{LeftAlone, Reason, Refusal};

impl Keeper {
    pub(in crate::ingest) fn skip(&mut self, path: &Path, met: Option<Met>, skipped: Skipped) {
        let reason = match skipped {
            Skipped::Young | Skipped::NoRow(NoRow::Incomplete) => {
                debug!(?path, "entry not complete or too young, waiting");
                self.tally.waiting += 1;
                if matches!(skipped, Skipped::NoRow(_)) {
                    remember(&self.memory, met, Verdict::Incomplete);
                }
                return;
            }
            Skipped::Refused(refusal) => {
                if matches!(refusal.reason, Reason::Sparse { .. }) {
                    remember(&self.memory, met, Verdict::Sparse);
                }
                return match met {
                    Some(met) => self.refuse_of(met.look.uid, refusal),
                    None => self.refuse(refusal),
                };
            }
            Skipped::Unlike(file, fate) => {
                debug!(?path, ?fate, "not what the index says");
                if let Some(index) = &mut self.index {
                    index.tried(&file, fate);
                }
                return;
            }
            Skipped::Unusable(error) => return self.unusable(path, &error),
            Skipped::Unrecognized { at, line } => {
                if self.is_new((path, at)) {
                    warn!(?path, offset = at, line = %line, "lines that belong to no entry, left out");
                }
                DefectReason::Foreign
            }
            Skipped::NoRow(NoRow::Defect(defect)) => {
                if defect != Defect::Empty {
                    remember(&self.memory, met, Verdict::NotAnAuditLog);
                }
                return self.name_defect(path, met, &defect);
            }
            Skipped::NoRow(NoRow::Io(error)) => {
                if self.is_new((path, error.to_string())) {
                    warn!(?path, %error, "file could not be read, file kept");
                }
                DefectReason::Unreadable
            }
        };
        self.tally.defect(reason);
    }

    /// Counts a file that is no entry, and names it if it is the first of its owner.
    pub(super) fn name_defect(&mut self, path: &Path, met: Option<Met>, defect: &Defect) {
        let reason = match defect {
            Defect::Empty => DefectReason::Empty,
            Defect::NotAnAuditLog { .. }
            | Defect::UnknownJson { .. }
            | Defect::BuiltWithoutJson => DefectReason::NotAnAuditLog,
        };
        let is_new = match met {
            Some(met) => {
                self.no_entries.add(met.look.uid, 1, || path.to_owned());
                self.is_new((met.look.uid, reason))
            }
            None => self.is_new((path, defect.to_string())),
        };
        if is_new {
            warn!(?path, error = %defect, "no entry, file kept; remove it if nobody needs it");
        }
        self.tally.defect(reason);
    }

    /// Counts what was left without being opened.
    pub(in crate::ingest) fn unopened(&mut self, unopened: Unopened) {
        self.tally.waiting += unopened.waiting;
        for (reason, owners) in unopened.defects {
            for (uid, files) in owners.iter() {
                *self.tally.defects.entry(reason).or_default() += files.count;
                if self.is_new((uid, reason)) {
                    let path = &files.example;
                    let error = match reason {
                        DefectReason::Empty => Defect::Empty.to_string(),
                        _ => reason.label().to_owned(),
                    };
                    warn!(
                        ?path,
                        error, "no entry, file kept; remove it if nobody needs it"
                    );
                }
            }
            self.no_entries.merge(owners);
        }
        self.no_entries.merge(unopened.refused_of);
        self.left_alone(unopened.refused);
        let Files { count, example } = unopened.renewed;
        if count > 0 {
            warn!(
                count,
                ?example,
                "files from the future: the clock was set back; they are taken like new ones"
            );
        }
        let Files { count, example } = unopened.ahead;
        if count > 0 && self.is_new(("ahead", count.ilog2())) {
            warn!(
                count,
                ?example,
                "files from the future are left until it has come; compare the clocks of this host \
                 and of the file system"
            );
        }
    }

    /// Says at the end of a walk whose files are no entries: a line for each owner who has several,
    /// again only if they have doubled.
    pub(in crate::ingest) fn name_owners(&mut self) {
        let owners = std::mem::take(&mut self.no_entries);
        for (uid, files) in owners.iter().filter(|(_, files)| files.count > 1) {
            if !self.log_once.is_new((uid, files.count.ilog2())) {
                continue;
            }
            let owner = uid.map_or("several".to_owned(), |uid| (self.accounts.0)(uid));
            // The files themselves, or the first of them, were named before.
            let directory = files.example.parent().unwrap_or(&files.example);
            warn!(
                owner,
                count = files.count,
                ?directory,
                "files that are no entries are kept; remove them if nobody needs them"
            );
        }
    }

    /// Counts and names an input that could not be opened, or something below one.
    fn unusable(&mut self, path: &Path, error: &io::Error) {
        let is_named = self.inputs.iter().any(|input| input == path);
        if is_named {
            self.tally.unusable_inputs += 1;
        } else {
            self.tally.skipped_inputs += 1;
        }
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "check the path; nothing has this name",
            io::ErrorKind::PermissionDenied => {
                "let this account read it, or run as root or with CAP_DAC_READ_SEARCH"
            }
            _ => "the others are read",
        };
        if !self.is_new((path, error.to_string())) {
            return;
        }
        if is_named {
            error!(?path, %error, remedy, "input could not be opened");
        } else {
            warn!(?path, %error, remedy, "skipped below an input");
        }
    }

    /// Returns `true` if a message about a single file is to be written: not twice the same.
    pub(super) fn is_new(&mut self, what: impl Hash) -> bool {
        !self.is_again && self.log_once.is_new(what)
    }

    /// Counts and names what is left alone.
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        let mut left = LeftAlone::default();
        left.add(refusal);
        self.left_alone(left);
    }

    /// Counts a file that is left alone, and names it if it is the first of its kind and owner.
    fn refuse_of(&mut self, uid: u32, refusal: Refusal) {
        let kind = refusal.reason.label();
        if self.is_new((uid, kind)) {
            warn!(path = ?refusal.path, reason = %refusal.reason, "left alone");
        }
        self.no_entries.add(uid, 1, || refusal.path.clone());
        let mut left = LeftAlone::default();
        left.add(refusal);
        self.tally.left_alone.merge(left);
    }

    /// Counts and names what a walk left alone.
    pub(in crate::ingest) fn left_alone(&mut self, left: LeftAlone) {
        for (kind, count, examples) in left.kinds() {
            if self.is_new((kind, count, examples)) {
                let reason = left.reason(kind).unwrap_or(kind);
                warn!(count, paths = ?examples, reason, "left alone");
            }
        }
        self.tally.left_alone.merge(left);
    }
}

/// Remembers what the file turned out to be.
pub(super) fn remember(memory: &Memory, met: Option<Met>, verdict: Verdict) {
    if let Some(met) = met.filter(|met| met.is_settled) {
        let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.remember(&met.look, verdict);
    }
}

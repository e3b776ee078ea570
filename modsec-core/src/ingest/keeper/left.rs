//! What is no entry, or stays where it is: counted, and named once.

use std::hash::Hash;
use std::io;
use std::path::Path;

use tracing::{debug, error, warn};

use super::Keeper;
use crate::format::Defect;
use crate::ingest::DefectReason;
use crate::ingest::feed::Skipped;
use crate::ingest::read::NoRow;
use crate::storage_dir::{LeftAlone, Refusal};

impl Keeper {
    pub(in crate::ingest) fn skip(&mut self, path: &Path, skipped: Skipped) {
        let reason = match skipped {
            Skipped::Young | Skipped::NoRow(NoRow::Incomplete) => {
                debug!(?path, "entry not complete or too young, waiting");
                self.tally.waiting += 1;
                return;
            }
            Skipped::Refused(refusal) => {
                self.refuse(refusal);
                return;
            }
            Skipped::Unlike(file, fate) => {
                debug!(?path, ?fate, "not what the index says");
                if let Some(index) = &mut self.index {
                    index.tried(&file, fate);
                }
                return;
            }
            Skipped::Unusable(error) => return self.unusable(path, &error),
            Skipped::Foreign { at, line } => {
                if self.may_say((path, at)) {
                    warn!(?path, offset = at, line = %line, "lines that belong to no entry, left out");
                }
                DefectReason::Foreign
            }
            Skipped::NoRow(NoRow::Defect(defect)) => {
                if self.may_say((path, defect.to_string())) {
                    warn!(?path, error = %defect, "no entry, file kept; remove it if nobody needs it");
                }
                match defect {
                    Defect::Empty => DefectReason::Empty,
                    Defect::NotAnAuditLog { .. }
                    | Defect::UnknownJson { .. }
                    | Defect::BuiltWithoutJson => DefectReason::NotAnAuditLog,
                }
            }
            Skipped::NoRow(NoRow::Io(error)) => {
                if self.may_say((path, error.to_string())) {
                    warn!(?path, %error, "file could not be read, file kept");
                }
                DefectReason::Unreadable
            }
        };
        self.tally.defect(reason);
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
        if !self.may_say((path, error.to_string())) {
            return;
        }
        if is_named {
            error!(?path, %error, remedy, "input could not be opened");
        } else {
            warn!(?path, %error, remedy, "skipped below an input");
        }
    }

    /// Tells whether a message about a single file may be written: not twice the same.
    pub(super) fn may_say(&mut self, what: impl Hash) -> bool {
        !self.is_again && self.spoken.may_say(what)
    }

    /// Counts and names what is left alone.
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        let mut left = LeftAlone::default();
        left.add(refusal);
        self.left_alone(left);
    }

    /// Counts and names what a walk left alone.
    pub(in crate::ingest) fn left_alone(&mut self, left: LeftAlone) {
        for (kind, count, examples) in left.kinds() {
            if self.may_say((kind, count, examples)) {
                let reason = left.reason(kind).unwrap_or(kind);
                warn!(count, paths = ?examples, reason, "left alone");
            }
        }
        self.tally.left_alone.merge(left);
    }
}

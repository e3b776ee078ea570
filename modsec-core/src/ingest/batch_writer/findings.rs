//! What is no entry, or stays where it is: counted, and named once.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{debug, error, warn};

use super::destination::LeftOut;
use crate::format::Defect;
use crate::ingest::entry::{NoEntry, Skipped};
use crate::ingest::known_files::{FileVerdict, KnownFiles, Met, NotRead};
use crate::ingest::tally::{DefectReason, Tally};
use crate::ingest::unopened::{ByOwner, FileCount, Unopened};
use crate::ingest::{AccountNames, Options};
use crate::log_once::LogOnce;
use crate::log_reader::BrokenOff;
use crate::logfile::is_trailing_garbage;
use crate::read_steps::is_left;
use crate::storage_dir::{LeftAlone, Reason, Refusal};

/// Messages about single files at a time; the rest is only counted.
const MESSAGES: usize = 20;
/// Stands in the log for messages beyond [`MESSAGES`].
const FURTHER: &str = "more files like these, counted in the summary";
/// After this time everything may be said again.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// Counts what passes find, and says in the log what stays where it is.
pub(in crate::ingest) struct Findings {
    /// The counts of the pass at hand.
    pub(in crate::ingest) tally: Tally,
    /// What was said within [`FORGET_AFTER`].
    log_once: LogOnce,
    /// Whether what stays in place was named by an earlier walk.
    is_again: bool,
    /// Files that are no entries, as the running walk has met them.
    no_entries: ByOwner,
    /// Files that are audit logs in a form that is not read.
    not_read: BTreeMap<NotRead, ByOwner>,
    /// Translates user ids to names, for messages.
    accounts: AccountNames,
    /// As the administrator wrote them.
    inputs: Vec<PathBuf>,
    /// What is remembered of files that stay.
    pub(in crate::ingest) known: KnownFiles,
}

impl Findings {
    /// Begins with empty counts and nothing remembered.
    pub(super) fn new(options: &Options) -> Findings {
        Findings {
            tally: Tally::default(),
            log_once: LogOnce::new(MESSAGES, FURTHER, FORGET_AFTER),
            is_again: false,
            no_entries: ByOwner::default(),
            not_read: BTreeMap::new(),
            accounts: options.accounts.clone(),
            inputs: options.inputs.clone(),
            known: KnownFiles::default(),
        }
    }

    /// Allows further messages about single files, though none twice.
    pub(in crate::ingest) fn log_more(&mut self) {
        self.log_once.allow_more();
    }

    /// Returns the counts so far and starts anew.
    pub(super) fn take_tally(&mut self) -> Tally {
        self.is_again = false;
        std::mem::take(&mut self.tally)
    }

    /// Begins a walk over the whole tree.
    pub(in crate::ingest) fn begin_walk(&mut self) {
        self.no_entries = ByOwner::default();
        self.not_read.clear();
    }

    /// Begins another walk over the same directory, which finds again what this one left in place:
    /// it is counted and named once.
    pub(in crate::ingest) fn walk_again(&mut self) {
        self.is_again = true;
        self.begin_walk();
        self.tally.forget_what_stays();
    }

    /// Counts and names a file without an entry, or what is no entry in a log.
    pub(super) fn skip(&mut self, path: &Path, met: Option<Met>, skipped: Skipped) {
        let reason = match skipped {
            Skipped::Young | Skipped::NoEntry(NoEntry::Incomplete) => {
                debug!(?path, "entry not complete or too young, waiting");
                self.tally.waiting += 1;
                if matches!(skipped, Skipped::NoEntry(_)) {
                    self.known.remember(met, FileVerdict::Incomplete);
                }
                return;
            }
            Skipped::Refused(refusal) => {
                if matches!(refusal.reason, Reason::Sparse { .. }) {
                    self.known.remember(met, FileVerdict::Sparse);
                }
                return match met {
                    Some(met) => self.refuse_of(met.look.uid, refusal),
                    None => self.refuse(refusal),
                };
            }
            Skipped::Unlike(_, fate) => return debug!(?path, ?fate, "not what the index says"),
            Skipped::Unusable(error) => return self.unusable(path, &error),
            Skipped::Unrecognized { at, line } => {
                if self.is_new((path, at)) {
                    warn!(?path, offset = at, line = %line, "lines that belong to no entry, left out");
                }
                DefectReason::Foreign
            }
            Skipped::NoEntry(NoEntry::Defect(defect)) => {
                if defect != Defect::Empty {
                    let form = NotRead::of(&defect);
                    let verdict = form.map_or(FileVerdict::NotAnAuditLog, FileVerdict::NotRead);
                    self.known.remember(met, verdict);
                }
                return self.name_defect(path, met, &defect);
            }
            Skipped::NoEntry(NoEntry::Io(error)) if is_left(&error) => {
                debug!(
                    ?path,
                    "a stop is requested, large entry left for the next start"
                );
                self.tally.waiting += 1;
                self.tally.interrupted = true;
                return;
            }
            Skipped::NoEntry(NoEntry::Io(error)) => {
                if self.is_new((path, error.to_string())) {
                    warn!(?path, %error, "file could not be read, file kept");
                }
                DefectReason::Unreadable
            }
        };
        self.tally.defect(reason);
    }

    /// Counts a file that is no entry, and names it if it is the first of its kind and owner.
    pub(super) fn name_defect(&mut self, path: &Path, met: Option<Met>, defect: &Defect) {
        let reason = match defect {
            Defect::Empty => DefectReason::Empty,
            Defect::NotAnAuditLog { .. }
            | Defect::UnknownJson { .. }
            | Defect::Zeros
            | Defect::Wrapped { .. }
            | Defect::Ocsf
            | Defect::Index
            | Defect::BuiltWithoutJson => DefectReason::NotAnAuditLog,
        };
        let form = NotRead::of(defect);
        let is_new = match met {
            Some(met) => {
                let of = match form {
                    Some(form) => self.not_read.entry(form).or_default(),
                    None => &mut self.no_entries,
                };
                of.add(met.look.uid, 1, || path.to_owned());
                self.is_new((Some(met.look.uid), reason, form, *defect == Defect::Zeros))
            }
            None => self.is_new((path, defect.to_string())),
        };
        if is_new {
            self.say_no_entry(path, form, &defect.to_string());
        }
        self.tally.defect(reason);
    }

    /// Counts what was left without being opened.
    pub(in crate::ingest) fn unopened(&mut self, unopened: Unopened) {
        self.tally.waiting += unopened.waiting;
        for (reason, owners) in unopened.defects {
            for (uid, files) in owners.iter() {
                *self.tally.defects.entry(reason).or_default() += files.count;
                if self.is_new((uid, reason, None::<NotRead>, false)) {
                    let error = match reason {
                        DefectReason::Empty => Defect::Empty.to_string(),
                        _ => reason.label().to_owned(),
                    };
                    self.say_no_entry(&files.example, None, &error);
                }
            }
            self.no_entries.merge(owners);
        }
        for (form, owners) in unopened.not_read {
            let reason = DefectReason::NotAnAuditLog;
            for (uid, files) in owners.iter() {
                *self.tally.defects.entry(reason).or_default() += files.count;
                if self.is_new((uid, reason, Some(form), false)) {
                    self.say_no_entry(&files.example, Some(form), &form.defect().to_string());
                }
            }
            self.not_read.entry(form).or_default().merge(owners);
        }
        self.no_entries.merge(unopened.refused_of);
        self.left_alone(unopened.refused);
        let FileCount { count, example } = unopened.renewed;
        if count > 0 {
            warn!(
                count,
                ?example,
                "files from the future: the clock was set back; they are taken like new ones"
            );
        }
        let FileCount { count, example } = unopened.ahead;
        if count > 0 && self.is_new(("ahead", count.ilog2())) {
            warn!(
                count,
                ?example,
                "files from the future are left until it has come; compare the clocks of this host \
                 and of the file system"
            );
        }
    }

    /// Ends a walk over the whole tree: what it has not met is forgotten. Says whose files are no
    /// entries: a line for each owner who has several, again only if they have doubled.
    pub(in crate::ingest) fn end_of_walk(&mut self) {
        self.known.end_of_walk();
        let no_entries = std::mem::take(&mut self.no_entries);
        let message = if self.inputs.is_empty() {
            "files that are no entries are kept; remove them if nobody needs them"
        } else {
            "files that are no entries were passed over"
        };
        self.say_owners(&no_entries, None, message);
        for (form, owners) in std::mem::take(&mut self.not_read) {
            let message = if self.inputs.is_empty() {
                "entries that are not read are kept"
            } else {
                "entries that are not read were passed over"
            };
            self.say_owners(&owners, Some(form), message);
        }
    }

    /// Says who has several of such files. They, or the first of them, were named before.
    fn say_owners(&mut self, owners: &ByOwner, form: Option<NotRead>, message: &str) {
        for (uid, files) in owners.iter().filter(|(_, files)| files.count > 1) {
            if !self.log_once.is_new((uid, form, files.count.ilog2())) {
                continue;
            }
            let owner = uid.map_or("several".to_owned(), |uid| (self.accounts.0)(uid));
            let directory = files.example.parent().unwrap_or(&files.example);
            let error = form.map(|form| form.defect().to_string());
            let count = files.count;
            warn!(owner, count, ?directory, error, "{message}");
        }
    }

    /// Counts and names an input that could not be opened or read to its end, or something below one.
    fn unusable(&mut self, path: &Path, error: &io::Error) {
        let is_named = self.inputs.iter().any(|input| input == path);
        if is_trailing_garbage(error) {
            self.tally.skipped_inputs += 1;
            if self.is_new((path, error.to_string())) {
                warn!(?path, %error, "input read to its end");
            }
            return;
        }
        if is_named {
            self.tally.unusable_inputs += 1;
        } else {
            self.tally.skipped_inputs += 1;
        }
        let inner = error.get_ref();
        let is_broken_off = inner
            .and_then(|it| it.downcast_ref::<BrokenOff>())
            .is_some();
        let remedy = match error.kind() {
            _ if is_broken_off => "read another copy of it: what was read is known by then",
            io::ErrorKind::NotFound => "check the path; nothing has this name",
            io::ErrorKind::PermissionDenied => {
                "let this account read it, or run as root or with CAP_DAC_READ_SEARCH"
            }
            _ => "the others are read",
        };
        if !self.is_new((path, error.to_string())) {
            return;
        }
        if is_broken_off {
            error!(?path, %error, remedy, "input was not read to its end");
        } else if is_named {
            error!(?path, %error, remedy, "input could not be opened");
        } else {
            warn!(?path, %error, remedy, "skipped below an input");
        }
    }

    /// Says that there is no entry in a file. Only in the storage directory may one be in the way: an
    /// input belongs to whoever named it, and what is below it to the system.
    fn say_no_entry(&self, path: &Path, form: Option<NotRead>, error: &str) {
        if self.inputs.is_empty() && form.is_some() {
            warn!(?path, %error, "entry not read, file kept");
        } else if self.inputs.is_empty() {
            warn!(?path, %error, "no entry, file kept; remove it if nobody needs it");
        } else if self.inputs.iter().any(|input| input == path) {
            warn!(?path, %error, "no entry in this input; name an audit log, or a directory with entries");
        } else {
            warn!(?path, %error, "no entry in a file below an input, passed over");
        }
    }

    /// Returns `true` if a message about a single file is to be written: not twice the same.
    fn is_new(&mut self, what: impl Hash) -> bool {
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
        self.tally.left_alone.add(refusal);
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

    /// Counts and names an entry that could not be stored.
    pub(super) fn leave_out(&mut self, left: &LeftOut) {
        let Some(reason) = &left.refusal else {
            self.tally.waiting += 1;
            return;
        };
        self.tally.defect(DefectReason::Refused);
        if self.is_new((&left.path, reason)) {
            let path = left.path.as_ref().map(tracing::field::debug);
            error!(path, error = ?reason, "entry refused by the database, file kept");
        }
    }
}

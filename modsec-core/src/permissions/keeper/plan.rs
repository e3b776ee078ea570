//! The coming directories: which are planned when a minute begins, and how each is created.

use std::path::Path;
use std::time::Instant;

use chrono::{Local, Timelike as _};
use tracing::{debug, info};

use super::{Effect, Keeper, Observer};
use crate::permissions::ahead::{self, Outcome, PlannedDir};
use crate::permissions::apply::{Change, ChangeKind};
use crate::permissions::policy::Attributes;
use crate::permissions::{Layout, Options};
use crate::spool::Reason;
use crate::watch::Place;

/// In which layouts another process has made or used directories. Those that this program has made
/// ahead and that stayed empty do not count.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct UsedLayouts {
    /// Days in the root.
    flat: bool,
    /// Days in a directory of each user, as ModSecurity 2 makes them since 2.9.3.
    per_user: bool,
}

/// Logs that a directory was created. A line per minute and user would be all that the log consists
/// of.
fn log_created(path: &Path, place: Place, to: Attributes) {
    if matches!(place, Place::UserDay | Place::UserMinute) {
        debug!(?path, %to, "directory created");
    } else {
        info!(?path, %to, "directory created");
    }
}

impl Keeper {
    /// Creates one directory ahead of time, if it is missing.
    pub(super) fn create(&mut self, next: &PlannedDir, each: Observer<'_>) {
        let PlannedDir { path, place, uid } = next;
        let policy = &self.options.policy;
        let wanted = policy.created(*place, *uid);
        let may_hold = |parent| policy.may_hold(parent, *uid);
        let missing = ahead::is_missing(&self.watcher, path, may_hold);
        let outcome = match (missing, self.effect) {
            (Ok(false), _) => return,
            (Ok(true), Effect::DryRun) => Outcome::Done,
            (Ok(true), Effect::Real) => ahead::create(&self.watcher, path, wanted, may_hold),
            (Err(outcome), _) => outcome,
        };
        if self.count(outcome) {
            self.tally.created += 1;
            if self.effect == Effect::Real {
                log_created(path, *place, wanted);
            }
            each(&Change {
                path: path.clone(),
                kind: ChangeKind::Created(wanted),
            });
        }
    }

    /// Gives up what was planned at or below `path`, where something else is. The walk has counted and
    /// named that already, unless it has just come.
    pub(super) fn refuse_planned(&mut self, path: &Path, reason: &Reason) {
        self.ahead.retain(|next| !next.path.starts_with(path));
        if !self.refusals.is_known(path) {
            self.leave_alone(path, reason);
        }
    }

    /// Notes that another process has made or used a directory of the layout of `place`.
    pub(super) fn note_use(&mut self, place: Place) {
        match place {
            Place::FlatDay | Place::FlatMinute => self.used.flat = true,
            Place::UserDay | Place::UserMinute => self.used.per_user = true,
            Place::Root | Place::User => {}
        }
    }

    /// Reads the clock, and plans the coming directories when a minute has begun.
    pub(super) fn check_clock(&mut self) {
        self.named.look(Instant::now());
        self.clock = Local::now();
        let minute = self
            .clock
            .naive_utc()
            .with_second(0)
            .and_then(|time| time.with_nanosecond(0));
        if self.planned != minute && self.watcher.has_root() {
            self.planned = minute;
            self.plan();
        }
    }

    /// Lists the directories that should exist now and in the coming minutes.
    ///
    /// With [`Layout::Auto`] these are the flat ones unless only the per-user layout was seen in
    /// use, and those of the users unless only the flat layout was; those of users that the
    /// administrator has named in any case.
    pub(super) fn plan(&mut self) {
        self.ahead.clear();
        let Options {
            policy,
            ahead,
            layout,
            ..
        } = &self.options;
        let UsedLayouts { flat, per_user } = self.used;
        let (flat, per_user) = match layout {
            Layout::Auto => (
                flat || !per_user,
                per_user || !flat || policy.site_users_named,
            ),
            Layout::Flat => (true, false),
            Layout::PerUser => (false, true),
        };
        if flat {
            self.ahead.extend(ahead::plan(&self.clock, *ahead, None));
        }
        for user in policy.site_users.iter().filter(|_| per_user) {
            self.ahead
                .extend(ahead::plan(&self.clock, *ahead, Some(user)));
        }
    }
}

//! What is known of the log ahead of the entry at hand, when its bytes are not held any more.
//!
//! Whether an entry without an end was cut off, or holds what follows in its body, shows only when
//! the rest of the log has been read: a line of its own boundary may still come. If none does, the
//! log is read again from where the next entry begins, and that one may lack its end too. What
//! the first look found out about all boundaries is kept, so that nobody has to look again.

use std::collections::HashMap;

use crate::format::native::Boundary;

/// Boundaries that are kept in mind at the most, about 32 bytes each.
const MAX_BOUNDARIES: usize = 100_000;

/// The last line of each boundary in a stretch of the log. A line of part A is no part of an entry
/// that has begun, so it only makes the boundary known.
#[derive(Debug, Default)]
pub(super) struct Lookahead {
    /// Offset of the last line of each boundary; at most [`MAX_BOUNDARIES`].
    last: HashMap<Boundary, u64>,
    /// The stretch. While it is being recorded, it has no end.
    from: u64,
    /// Offset of its end; `None` while it is being recorded.
    to: Option<u64>,
    /// Whether lines are being recorded.
    is_recording: bool,
    /// Whether the log ends with it.
    is_all: bool,
    /// Offset of the first line whose boundary was not recorded for want of room.
    full_at: Option<u64>,
}

impl Lookahead {
    /// Begins to record a stretch that starts at `from`, unless that is done already; true if the
    /// lines behind `from` are to be recorded.
    pub(super) fn begin(&mut self, from: u64) -> bool {
        if self.is_recording && self.from <= from {
            return false;
        }
        *self = Lookahead {
            from,
            is_recording: true,
            ..Lookahead::default()
        };
        true
    }

    /// Records the line of part `letter` at `at`.
    pub(super) fn record(&mut self, boundary: Boundary, letter: u8, at: u64) {
        if !self.is_recording || at < self.from {
            return;
        }
        let is_full = self.last.len() >= MAX_BOUNDARIES;
        match self.last.get_mut(&boundary) {
            Some(_) if letter == b'A' => {}
            Some(last) => *last = at,
            None if is_full => {
                self.full_at.get_or_insert(at);
            }
            None => {
                self.last.insert(boundary, at);
            }
        }
    }

    /// Forgets what is being recorded.
    pub(super) fn stop(&mut self) {
        if self.is_recording {
            *self = Lookahead::default();
        }
    }

    /// Ends the recording at `to`.
    pub(super) fn finish(&mut self, to: u64, is_all: bool) {
        if self.is_recording {
            self.is_recording = false;
            self.to = Some(to);
            self.is_all = is_all;
        }
    }

    /// Forgets the stretch once `at` has passed it.
    pub(super) fn drop_before(&mut self, at: u64) {
        if self.to.is_some_and(|to| to <= at) {
            *self = Lookahead::default();
        }
    }

    /// Returns `true` if the log is known to have no line of `boundary`, but of part A, behind
    /// `after` and up to `until` at least. `start` is where the entry with this boundary begins.
    pub(super) fn has_none(&self, boundary: Boundary, start: u64, after: u64, until: u64) -> bool {
        let Some(to) = self.to else {
            return false;
        };
        let is_recorded = self.from <= start && self.full_at.is_none_or(|full| start < full);
        is_recorded
            && (self.is_all || until <= to)
            && self.last.get(&boundary).is_none_or(|last| *last <= after)
    }
}

//! Where a native entry ends.
//!
//! The lines of its own boundary are looked at in their order, and between two of them the lines
//! with which other entries may begin. Where the answer depends on whether another line of its own
//! comes, the entry waits with a [fallback](Entry::fallback): the end that it has if none does.
//! That is always behind its last own line, so what was looked at is not looked at again.

use std::ops::Range;

use super::lines::{Line, Lines};
use super::view::{Follows, View};
use super::{InputState, LOOKAHEAD, MAX_ENTRY, Verdict};
use crate::format::native::{Boundary, Owner, content_length};
use crate::record::{Flag, Flags};

/// How far the log must be known to have no line of an entry's own behind the beginning of another
/// one, to end it there: the largest body that `ModSecurity` accepts (`SecRequestBodyLimit`).
const MAX_BODY: u64 = 1 << 30;

/// Headers up to this size are held until the body begins, whose length may be in them: more than
/// Apache takes by default (`LimitRequestFields` times `LimitRequestFieldSize`, 819,000 bytes).
const MAX_HEADERS: u64 = 1 << 20;

/// Response bodies of one entry whose announced lengths are tried.
const MAX_RESPONSES: u8 = 8;

/// What stands where a body should end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// That takes more bytes.
    Undecided,
    /// No own line: there is less of the body.
    Short,
}

/// An entry of which the end is looked for; offsets in the log.
#[derive(Debug)]
pub(super) struct Entry {
    /// Offset of its first dash.
    pub(super) start: u64,
    /// Offset up to which its bytes were handed out. Equal to `start` while it may be handed
    /// out whole.
    pub(super) handed: u64,
    /// The boundary of its first line: lines of any other are not its own.
    boundary: Boundary,
    /// Letter of its first line.
    first: u8,
    /// The own line that was looked at last.
    own: Own,
    /// The own line that began the part at hand, and where its content starts.
    part: Own,
    /// Offset behind the own line that began the part at hand.
    content: u64,
    /// Where the body at hand should end by the headers before it.
    announced: Option<u64>,
    /// Whether an own line stands there.
    is_confirmed: bool,
    /// Whether a length of the request's body was believed, and how many of response bodies.
    lengths: (bool, u8),
    /// Own lines before this offset stand in a body of known length.
    body_end: u64,
    /// Whether a body of unknown length went before: what follows it may be part of it.
    doubtful: bool,
    /// An end behind a body of unknown length, followed by what is no entry: the end, if no
    /// further own line comes.
    perhaps: Option<u64>,
    /// What else was found in the body of announced length at hand.
    in_body: InBody,
    /// Index of the next line that may begin another entry.
    looked: u64,
    /// Another entry's first line within a body: begins the next entry if this one has no end.
    resync: Option<u64>,
    /// Another entry's first line where no client's bytes can be.
    pub(super) interleaved: Option<u64>,
    /// Whether bytes may be handed out both with this entry and with one that was written into it.
    may_share: bool,
    /// Up to here the log was read already, in search of the end of an entry before this one.
    read_to: u64,
    /// A decision that is carried out once the log is known up to an offset.
    decided: Option<(u64, u64)>,
    /// Whether its boundary opens another entry, which makes its own end uncertain.
    pub(super) opened: Opened,
}

/// Which first lines of the entry's own boundary there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    /// Its own.
    Once,
    /// Another one.
    Again,
    /// The same, and it ends here, with an end of this owner; where it goes on is to be seen.
    Ended(u64, Owner),
}

/// A line of the entry's own boundary.
#[derive(Debug, Clone, Copy)]
struct Own {
    /// Index among [`Lines`].
    index: u64,
    /// Offset of its first dash.
    at: u64,
    /// Letter of the part that it begins.
    letter: u8,
}

/// What was found in a body within the length that was announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InBody {
    /// No part Z that another entry, or the end of the log, follows.
    Nothing,
    /// The first end that another entry, or the end of the log, follows.
    End(u64),
    /// The same, and behind it parts of another entry with the same boundary: A, and B.
    Another {
        /// Offset of the first end.
        end: u64,
        /// Whether part B of the other entry was there, too: with part Z it is whole.
        has_request: bool,
    },
}

impl InBody {
    /// Returns the first end in the body, if there is one.
    fn end(self) -> Option<u64> {
        match self {
            InBody::Nothing => None,
            InBody::End(end) | InBody::Another { end, .. } => Some(end),
        }
    }
}

impl Entry {
    /// Begins with the delimiter line at `start`. `may_share` says whether another entry that was
    /// written into it may be handed out with it. Up to `read_to`, the log was read already in
    /// search of the end of an entry.
    pub(super) fn open(
        boundary: Boundary,
        letter: char,
        start: u64,
        may_share: bool,
        read_to: u64,
    ) -> Entry {
        let own = Own {
            // The first of its boundary that is held.
            index: 0,
            at: start,
            letter: letter as u8,
        };
        Entry {
            start,
            handed: start,
            boundary,
            first: own.letter,
            own,
            part: own,
            content: start + boundary.line_len() as u64 + 1,
            announced: None,
            is_confirmed: false,
            lengths: (false, 0),
            body_end: 0,
            doubtful: false,
            perhaps: None,
            in_body: InBody::Nothing,
            looked: 0,
            resync: None,
            interleaved: None,
            may_share,
            read_to,
            decided: None,
            opened: Opened::Once,
        }
    }

    /// Returns where the entry ends if no further line of its own comes.
    pub(super) fn fallback(&self) -> Option<u64> {
        let decided = self.decided.map(|(end, _)| end);
        let in_body = self.in_body.end();
        decided.or(in_body).or(self.perhaps).or(self.resync)
    }

    /// Returns where the entry ends, or up to which offset bytes need not be kept any longer.
    /// `is_large` says whether bytes are about to be let go.
    pub(super) fn advance(&mut self, view: &View<'_>, lines: &Lines, is_large: bool) -> Verdict {
        // Each stretch of the log is read ahead once.
        let has_waited = is_large && self.start < self.read_to;
        let verdict = self.look(view, lines, is_large, has_waited);
        match (verdict, self.fallback()) {
            (Verdict::Wait(_), Some(end)) if has_waited => self.give_up(end),
            (Verdict::Wait(done), _) => Verdict::Wait(self.keep_headers(view, done)),
            (verdict, _) => verdict,
        }
    }

    /// Returns up to where bytes may be let go of those before `done`.
    fn keep_headers(&self, view: &View<'_>, done: u64) -> u64 {
        let may_describe = matches!(self.part.letter, b'B' | b'F');
        if may_describe && view.end().saturating_sub(self.content) <= MAX_HEADERS {
            done.min(self.content)
        } else {
            done
        }
    }

    /// Returns where the entry ends, or from which offset on more bytes are needed.
    ///
    /// `is_large` says that its bytes are about to be let go, so that what cannot be seen now
    /// cannot be waited for. `has_waited` says that the log was read ahead before, so that a
    /// possible end is taken without another look.
    fn look(
        &mut self,
        view: &View<'_>,
        lines: &Lines,
        is_large: bool,
        has_waited: bool,
    ) -> Verdict {
        if let Opened::Ended(end, _) = self.opened {
            return Verdict::ends(end);
        }
        if let Some((end, until)) = self.decided {
            return if view.is_all() || lines.scanned() >= until {
                Verdict::ends(end)
            } else {
                self.wait_for_more(lines)
            };
        }
        if self.own.at == self.start
            && let Some(line) = lines.find(self.start)
        {
            self.own.index = line.index;
            self.part = self.own;
            self.looked = self.looked.max(line.index + 1);
        }
        loop {
            match self.check_body(view, lines) {
                Some(Check::Undecided) if !is_large => return Verdict::Wait(self.start),
                Some(Check::Short) => {
                    if let Some(verdict) = self.shorten_body(view, lines) {
                        return verdict;
                    }
                }
                _ => {}
            }
            let next = lines.next_of(self.boundary, self.own.index);
            self.leave_body(next);
            if let Some(verdict) = self.look_for_others(view, lines, next) {
                return verdict;
            }
            let Some(next) = next else {
                return self.run_out(view, lines);
            };
            if let Some(verdict) = self.meet(view, lines, next) {
                return verdict;
            }
            if let Some(end) = self.in_body.end().filter(|_| has_waited) {
                return self.give_up(end);
            }
        }
    }

    /// Returns `true` if the part at hand holds bytes as they were sent, and nothing says how many.
    fn is_raw(&self) -> bool {
        let dialect = self.boundary.dialect();
        dialect.is_raw(self.part.letter) && self.body_end < self.content
    }

    /// Looks whether an own line stands where the body at hand should end, before anything in that
    /// body is looked at: if none does, nothing is to be found out from what is in there.
    fn check_body(&mut self, view: &View<'_>, lines: &Lines) -> Option<Check> {
        let end = self.announced.filter(|_| !self.is_confirmed)?;
        let rest = view.from(end);
        let most = 2 + self.boundary.prefix().len();
        if rest.len() < most && view.input == InputState::More {
            let ahead = &lines.ahead;
            let is_known = ahead.has_none(self.boundary, self.start, self.own.at, end + 2);
            return Some(if is_known {
                Check::Short
            } else {
                Check::Undecided
            });
        }
        let blank = rest.iter().take(2).take_while(|b| **b == b'\n').count();
        let next = rest.get(blank..).unwrap_or_default();
        if blank == 0 || !next.starts_with(self.boundary.prefix()) {
            return Some(Check::Short);
        }
        self.is_confirmed = true;
        None
    }

    /// Gives up the announced end of a body, of which the engine kept less. Its lines are
    /// looked at again, as those of a body of unknown length: `None`. If its first bytes are
    /// gone, the entry ends at the end that was found in the body, if there is one.
    fn shorten_body(&mut self, view: &View<'_>, lines: &Lines) -> Option<Verdict> {
        let announced = self.announced.take()?;
        let in_body = std::mem::replace(&mut self.in_body, InBody::Nothing);
        if self.content >= view.before {
            self.own = self.part;
            self.looked = self.part.index + 1;
            self.resync = None;
            return None;
        }
        let end = in_body.end()?;
        if self.handed <= end {
            return Some(Verdict::ends(end));
        }
        // The log is read again from there. Others like this one should not have to look so far
        // ahead again.
        self.decided = Some((end, announced + (announced - self.start) / 2));
        Some(self.advance(view, lines, true))
    }

    /// Leaves a body of announced length once `next`, the next own line, is behind it.
    fn leave_body(&mut self, next: Option<&Line>) {
        let Some(end) = self.announced.filter(|_| self.is_confirmed) else {
            return;
        };
        if next.is_none_or(|next| next.at >= end) {
            (self.announced, self.is_confirmed) = (None, false);
            self.in_body = InBody::Nothing;
            self.body_end = end + 1;
            self.resync = None;
        }
    }

    /// Looks for first lines of other entries in front of `next`, the next own line.
    fn look_for_others(
        &mut self,
        view: &View<'_>,
        lines: &Lines,
        next: Option<&Line>,
    ) -> Option<Verdict> {
        let limit = next.map_or(lines.end(), |next| next.index);
        while self.interleaved.is_none()
            && let Some(line) = lines.get(self.looked).filter(|line| line.index < limit)
        {
            // In a body, the first is enough.
            let in_body = self.announced.is_some() || self.is_raw();
            if in_body && self.resync.is_some() {
                break;
            }
            if self.may_begin_another(line)
                && let Some(verdict) = self.meet_other(view, lines, line.at, next)
            {
                return Some(verdict);
            }
            self.looked = line.index + 1;
        }
        self.looked = self.looked.max(limit);
        None
    }

    /// Returns `true` if the line may open another entry: it has the same dialect, another
    /// boundary, and the letter that entries of this log begin with.
    fn may_begin_another(&self, line: &Line) -> bool {
        line.opens
            && line.boundary != self.boundary
            && line.boundary.dialect() == self.boundary.dialect()
            && line.letter == self.opening_letter()
    }

    /// Returns the letter with which other entries of the log may begin. Coraza leaves out part
    /// A unless it is asked for, so there it is the letter of this entry's own first line.
    fn opening_letter(&self) -> u8 {
        if self.boundary.dialect().traits().may_lack_a {
            self.first
        } else {
            b'A'
        }
    }

    /// Decides what another entry's first line at `at` means. This entry ends there; or the
    /// line stands in a body; or, if an own line follows soon, one entry was written into the
    /// other. `None` if this one goes on.
    fn meet_other(
        &mut self,
        view: &View<'_>,
        lines: &Lines,
        at: u64,
        next: Option<&Line>,
    ) -> Option<Verdict> {
        if at < self.body_end {
            return None;
        }
        let near = next.filter(|own| own.at - at <= LOOKAHEAD as u64);
        if self.first != b'A' && self.opening_letter() == self.first {
            // Without part Z, an entry ends where the next one begins, unless more of it follows:
            // then the other one's first line stands in a body.
            return match near {
                _ if self.announced.is_some() => None,
                Some(_) => None,
                None if next.is_none() && needs_more(view, lines, at) => {
                    Some(Verdict::Wait(self.start))
                }
                None => Some(Verdict::ends(at)),
            };
        }
        if self.announced.is_some() || self.is_raw() {
            self.resync.get_or_insert(at);
            return None;
        }
        if let Some(end) = self.perhaps {
            return Some(Verdict::ends(end));
        }
        if self.handed > self.start {
            return Some(Verdict::ends(at));
        }
        match near {
            Some(own) if own.letter != b'A' => {
                if !self.may_share {
                    return Some(interleaved(at, at, at));
                }
                self.interleaved = Some(at);
                None
            }
            None if next.is_none() && needs_more(view, lines, at) => {
                Some(Verdict::Wait(self.start))
            }
            _ => Some(Verdict::ends(at)),
        }
    }

    /// Looks at `found`, the next line of its own boundary. `None` if the entry goes on behind
    /// it.
    fn meet(&mut self, view: &View<'_>, lines: &Lines, found: &Line) -> Option<Verdict> {
        if found.letter == b'A' && found.opens {
            self.opened = Opened::Again;
        }
        let verdict = if self.announced.is_some() || found.at < self.body_end {
            self.meet_in_body(view, found)
        } else if found.at <= self.content && !(found.letter == b'A' && found.opens) {
            // A delimiter brings its own LF: what directly follows another one is content. A request
            // line may look like a first line, but no header like part A.
            None
        } else {
            match found.letter {
                b'A' if self.is_raw() => {
                    self.resync.get_or_insert(found.at);
                    None
                }
                // Behind its end may stand what belongs to no entry, such as the zeros of a crash.
                b'A' => Some(match self.perhaps {
                    Some(end) => self.ended(end),
                    None => self.torn(found.at),
                }),
                b'Z' => self.meet_end(view, lines, found),
                _ => {
                    self.enter(view, found);
                    None
                }
            }
        };
        if !matches!(verdict, Some(Verdict::Wait(_))) {
            self.own = own(found);
        }
        verdict
    }

    /// Looks at an own line in a body of known length, in case there is less of the body.
    ///
    /// Under MPM-ITK entries of different connections share a boundary, so the line at the end of
    /// the body may be another's, if a whole entry of theirs stands before it. Nobody can tell, and
    /// of a body that is too large to be held nobody can wait for its end.
    fn meet_in_body(&mut self, view: &View<'_>, found: &Line) -> Option<Verdict> {
        let announced = self.announced?;
        match (found.letter, self.in_body) {
            (b'A', InBody::End(end)) if found.opens => {
                let has_request = false;
                self.in_body = InBody::Another { end, has_request };
                None
            }
            (b'B', InBody::Another { end, .. }) => {
                let has_request = true;
                self.in_body = InBody::Another { end, has_request };
                None
            }
            (b'Z', InBody::Another { end, has_request }) if has_request => {
                Some(interleaved(end, end, announced))
            }
            (b'Z', InBody::Nothing) => match view.follows(found.behind) {
                Follows::EntryOrEnd => {
                    self.in_body = InBody::End(self.own_end(view, found));
                    None
                }
                Follows::Undecided => Some(Verdict::Wait(self.start.max(found.at - 1))),
                Follows::Other => None,
            },
            _ => None,
        }
    }

    /// Begins the part of an own line. Headers that end here (part B before C, part F before E)
    /// may give the length of the body that begins.
    fn enter(&mut self, view: &View<'_>, found: &Line) {
        self.perhaps = None;
        // An own line behind them: they stood in the body.
        self.resync = None;
        self.doubtful |= self.is_raw();
        let headers = self.content..found.at;
        let is_believed = self.may_describe(found.letter);
        self.part = own(found);
        self.content = found.behind;
        self.body_end = 0;
        if is_believed && self.is_raw() {
            self.announced = announced(view, headers, found.behind);
        }
    }

    /// Returns `true` if the part at hand may have the length of the body that `letter` begins.
    ///
    /// An entry has one request. Responses that a client has written into his body may come before
    /// the genuine one, but not so many that looking for the end of each takes long.
    fn may_describe(&mut self, letter: u8) -> bool {
        let (request, responses) = &mut self.lengths;
        match (self.part.letter, letter) {
            (b'B', b'C') => !std::mem::replace(request, true),
            (b'F', b'E') if *responses < MAX_RESPONSES => {
                *responses += 1;
                true
            }
            _ => false,
        }
    }

    /// Meets an own part Z outside a body of known length; `None` if the entry goes on.
    ///
    /// Behind a body of unknown length, a client may have written the line. Then another entry
    /// or the end of the log must follow, and no further own line but an A within [`LOOKAHEAD`]
    /// bytes. If something else follows, the place is kept as a possible end.
    fn meet_end(&mut self, view: &View<'_>, lines: &Lines, found: &Line) -> Option<Verdict> {
        let doubtful = self.doubtful || self.is_raw();
        let wait = || Some(Verdict::Wait(self.start.max(found.at - 1)));
        match view.follows(found.behind) {
            Follows::Undecided => return wait(),
            Follows::Other if doubtful => {
                self.perhaps = Some(self.perhaps.unwrap_or(self.own_end(view, found)));
                return None;
            }
            Follows::Other | Follows::EntryOrEnd => {}
        }
        if doubtful {
            match lines.next_of(self.boundary, found.index) {
                Some(own) if own.at - found.behind <= LOOKAHEAD as u64 && own.letter != b'A' => {
                    return None;
                }
                None if needs_more(view, lines, found.behind) => return wait(),
                _ => {}
            }
        }
        Some(self.ended(self.own_end(view, found)))
    }

    /// Returns the offset behind part Z as it stands in a file of its own: the others write an
    /// empty line behind it also there.
    fn own_end(&self, view: &View<'_>, found: &Line) -> u64 {
        let blank = view.from(found.behind).first() == Some(&b'\n');
        let is_own = self.boundary.dialect().traits().has_empty_lines;
        found.behind + u64::from(blank && is_own)
    }

    /// Ends without part Z: at `end`, or where another entry was written into this one.
    pub(super) fn torn(&self, end: u64) -> Verdict {
        self.ended(self.interleaved.unwrap_or(end))
    }

    /// Ends at `end`, though its own end may stand behind that, and what follows be its content.
    fn give_up(&self, end: u64) -> Verdict {
        let shared = self.read_to.max(self.announced.unwrap_or(end));
        interleaved(end, end, shared)
    }

    /// Ends at `end`; an entry that was written into this one is next.
    fn ended(&self, end: u64) -> Verdict {
        match self.interleaved {
            Some(next) => interleaved(end, next, end),
            None => Verdict::ends(end),
        }
    }

    /// Decides without a further own line at hand. The entry ends if the log does, if it has
    /// more than [`MAX_ENTRY`] bytes, or if it has a fallback and is known to have no own line
    /// in [`MAX_BODY`] bytes behind that. Otherwise it waits.
    fn run_out(&mut self, view: &View<'_>, lines: &Lines) -> Verdict {
        let is_known = |fallback| {
            let until = fallback + MAX_BODY;
            let ahead = &lines.ahead;
            ahead.has_none(self.boundary, self.start, self.own.at, until)
        };
        let at = view.end();
        if view.is_all() || at - self.start > MAX_ENTRY || self.fallback().is_some_and(is_known) {
            return match self.perhaps {
                Some(end) => self.ended(end),
                None => self.torn(self.resync.unwrap_or(at)),
            };
        }
        self.wait_for_more(lines)
    }

    /// Waits for the lines behind those that were looked at. Bytes before them need not be
    /// kept.
    fn wait_for_more(&self, lines: &Lines) -> Verdict {
        // One byte more, to see that a line starts.
        Verdict::Wait(self.start.max(lines.scanned().saturating_sub(1)))
    }
}

/// Returns what is remembered of an own line.
fn own(line: &Line) -> Own {
    Own {
        index: line.index,
        at: line.at,
        letter: line.letter,
    }
}

/// Returns where the body that starts at `body` ends by the headers before it.
fn announced(view: &View<'_>, headers: Range<u64>, body: u64) -> Option<u64> {
    let len = content_length(view.slice(headers)).filter(|len| *len <= MAX_ENTRY)?;
    Some(body + len)
}

/// Returns the end of an entry whose lines stand between those of others, up to `shared`. It is
/// flagged [`Flag::Interleaved`], and the next look begins at `next`.
fn interleaved(end: u64, next: u64, shared: u64) -> Verdict {
    Verdict::Ends {
        end,
        next,
        flags: Flags::from_iter([Flag::Interleaved]),
        shared,
    }
}

/// Returns `true` if less than the lookahead is known behind `at`, and more is to come.
fn needs_more(view: &View<'_>, lines: &Lines, at: u64) -> bool {
    view.input == InputState::More && lines.scanned().saturating_sub(at) < LOOKAHEAD as u64
}

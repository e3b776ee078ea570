//! The native formats: lettered parts, held together by a boundary.
//!
//! ```text
//! --3fa0c41b-A--                                      delimiter of part A
//! [03/Feb/2024:10:11:12 +0100] Zb4k… 192.0.2.10 …     its content
//! --3fa0c41b-B--                                      the LF before a delimiter belongs to it
//! GET /item?id=1%27 HTTP/1.1
//! Host: shop.example
//!                                                     (so headers seem to end with an empty line)
//! --3fa0c41b-F--
//! …
//! --3fa0c41b-Z--
//! ```
//!
//! Three engines write it, each with delimiter lines of its own ([`Dialect`]). They differ in the
//! order of the parts, in the LFs between them, in what stands in part H, and in who can put raw
//! bytes where.
//!
//! | | `ModSecurity` 2 | libmodsecurity 3 | Coraza |
//! | --- | --- | --- | --- |
//! | order | A B C I F E H J K Z | alphabetical | as configured, A first |
//! | raw bytes of others in | C, E | C | C, E, messages in H |
//! | LFs behind a body | one | two | two |
//! | E | raw | `\xhh` for control and 8-bit bytes, kept as logged | raw |
//! | D, G, I, J, K | I, J, K | empty, not kept | J, K |
//! | time in A | with offset | with offset | wall clock without offset |
//! | engine mode, stopwatch, producer | in H | – | – |
//!
//! # Bytes
//!
//! LF ends lines, and nothing else: a CR is content. What the engines write between the parts
//! (`⏎` is an LF of their own):
//!
//! ```text
//! ModSecurity 2                libmodsecurity 3               Coraza
//! --3fa0c41b-C--⏎              ---Qx7Lm2Rt---C--⏎             --QxaLmbRtcd-C--⏎
//! body                         body⏎                          body⏎
//! ⏎--3fa0c41b-F--⏎             ⏎---Qx7Lm2Rt---F--⏎            ⏎--QxaLmbRtcd-F--⏎
//! HTTP/1.1 403 Forbidden⏎      HTTP/2.0 403⏎                  HTTP/1.1 403 Forbidden⏎
//! Server: x⏎                   Server: x⏎                     server: x⏎
//! ⏎--3fa0c41b-Z--⏎             ⏎---Qx7Lm2Rt---Z--⏎⏎           ⏎--QxaLmbRtcd-Z--⏎⏎
//! ```
//!
//! `ModSecurity` 2 puts one LF in front of each delimiter; the line of part A has none of its own,
//! headers have, so that an empty line seems to follow them. In a serial log (`SecAuditLogType
//! Serial`) it adds one behind Z. libmodsecurity ends part F with an empty line that is there
//! without part F too.
//!
//! # Parts
//!
//! | part | holds | written |
//! | --- | --- | --- |
//! | A | time, id, connection | always, but by Coraza |
//! | B | request line and headers | if configured |
//! | C | request body | if it was read; for `I` alone too, if the request is no `multipart/form-data` |
//! | E | response body | if `SecResponseBodyAccess` is on |
//! | F | status line and headers | if configured; empty for HTTP/0.9 |
//! | H | alerts, and what the engine says of itself | if configured |
//! | I | form without its files | `ModSecurity` 2, for `multipart/form-data` |
//! | J | uploaded files | the same, and Coraza |
//! | K | rules that matched | if configured |
//! | Z | nothing | always, but by Coraza |
//!
//! # Who writes what
//!
//! | part | client | application | engine |
//! | --- | --- | --- | --- |
//! | A | the id, if the server takes it from a header | | all else |
//! | B | any bytes but LF and NUL | | |
//! | C | any bytes | | |
//! | E | what the application repeats | any bytes | escapes (libmodsecurity) |
//! | F | | names, values, reason phrase | status |
//! | H | quoted in alerts | | all else |
//! | I, J | escaped | | |
//! | K | | | the configuration |
//!
//! # Layers
//!
//! Two layers. An [`Entry`] knows where each part stands and nothing else; its parts joined are the
//! input, byte for byte. [`Entry::record`] gives the parts their meaning.
//!
//! The boundary is no secret: under MPM-ITK the first request of every connection has the same
//! one, so a client can put delimiters with the right boundary into a body. `framing` has the
//! rules by which the genuine ones are told; they follow from the order in which the engine writes
//! and from who controls which bytes.
//!
//! An entry too large to hold is read in two steps: the outline takes the bytes in windows and
//! remembers only the delimiters, and the framing names the ranges worth reading. That is
//! [`Large`](super::large::Large).

mod boundary;
mod coraza;
mod engine_lines;
mod framing;
mod lines;
pub(super) mod matched_rules;
mod outline;
mod part_a;
mod parts;
mod v3;

use std::borrow::Cow;
use std::ops::Range;

pub use self::boundary::Boundary;
pub(crate) use self::framing::Owner;
use self::framing::PartLayout;
pub(crate) use self::lines::content_length;
pub(super) use self::outline::Outline;
use super::{Defect, Dialect};
use crate::record::{Flags, MAX_BODY_KEPT, Record};

/// An entry, split into its parts.
///
/// ```
/// use modsec_core::format::native::Entry;
///
/// let bytes = b"--3fa0c41b-A--\n[x] id\n--3fa0c41b-C--\na=1\n--3fa0c41b-Z--\n";
/// let entry = Entry::parse(bytes)?;
/// let letters: String = entry.parts().map(|part| part.letter).collect();
/// assert_eq!(letters, "ACZ");
/// assert_eq!(entry.parts().nth(1).unwrap().content, b"a=1");
/// # Ok::<(), modsec_core::format::Defect>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// All bytes of the entry, from its first delimiter line.
    bytes: &'a [u8],
    /// Where its parts are, as far as that is certain.
    layout: PartLayout,
}

/// One part of an [`Entry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// Letter of the part, `A` to `Z`.
    pub letter: char,
    /// Offset of [`bytes`](Part::bytes) in the entry.
    pub offset: usize,
    /// The whole part: delimiter line, content, and what separates it from the next part.
    pub bytes: &'a [u8],
    /// The content alone.
    pub content: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Splits an entry into its parts, in time in proportion to its length.
    ///
    /// # Errors
    ///
    /// [`Defect`] if the bytes do not start with a delimiter line.
    pub fn parse(bytes: &'a [u8]) -> Result<Entry<'a>, Defect> {
        Ok(Entry::split(bytes, Outline::open(bytes)?))
    }

    /// Splits an entry that has a file of its own: no other one can have been written behind it.
    #[cfg(feature = "jobs")]
    pub(super) fn parse_alone(bytes: &'a [u8]) -> Result<Entry<'a>, Defect> {
        let mut outline = Outline::open(bytes)?;
        outline.is_alone = true;
        Ok(Entry::split(bytes, outline))
    }

    /// Splits an entry with an outline that was opened.
    fn split(bytes: &'a [u8], mut outline: Outline) -> Entry<'a> {
        outline.scan(bytes, 0, true);
        let layout = outline.layout(|range| Cow::Borrowed(slice(bytes, &range)));
        Entry { bytes, layout }
    }

    /// Returns the boundary of the first line.
    pub fn boundary(&self) -> Boundary {
        self.layout.boundary
    }

    /// Returns the parts in the order of the bytes. Joined, they are the entry: what was found to be
    /// forged is in the [`bytes`](Part::bytes) of the part before it.
    pub fn parts(&self) -> impl Iterator<Item = Part<'a>> + '_ {
        self.layout.parts.iter().map(|part| Part {
            letter: char::from(part.letter),
            offset: usize::try_from(part.span.start).unwrap_or(usize::MAX),
            bytes: slice(self.bytes, &part.span),
            content: slice(self.bytes, &part.content),
        })
    }

    /// Returns what the framing alone has to say against the entry:
    /// [`Truncated`](crate::record::Flag::Truncated), [`Ambiguous`](crate::record::Flag::Ambiguous),
    /// [`OutOfOrder`](crate::record::Flag::OutOfOrder).
    pub fn flags(&self) -> Flags {
        self.layout.flags
    }

    /// Gives the parts their meaning.
    pub fn record(&self) -> Record<'a> {
        let contents = self.parts().map(|part| part.content);
        parts::record(&self.layout, sections(&self.layout, contents))
    }
}

/// Returns whose end stands at the end of `entry`: another one with the same boundary may begin in a
/// body of it.
pub(crate) fn end_owner(entry: &[u8]) -> Owner {
    Entry::parse(entry).map_or(Owner::This, |entry| entry.layout.owner)
}

/// Returns how many of the bytes `behind` an entry, which seems to have another's end, belong to it all
/// the same.
pub(crate) fn reach(entry: &[u8], behind: &[u8]) -> Option<u64> {
    Outline::reach(entry, behind)
}

/// Joins the parts of a layout with their contents, which may be beginnings only.
fn sections<'a>(layout: &PartLayout, contents: impl Iterator<Item = &'a [u8]>) -> Vec<Section<'a>> {
    let parts = layout.parts.iter().zip(contents);
    parts
        .map(|(part, content)| Section {
            letter: part.letter,
            content,
            len: part.content.end - part.content.start,
        })
        .collect()
}

/// Returns the bytes of a range, as far as there are any.
fn slice<'a>(bytes: &'a [u8], range: &Range<u64>) -> &'a [u8] {
    let start = usize::try_from(range.start).unwrap_or(usize::MAX);
    let end = usize::try_from(range.end).unwrap_or(usize::MAX);
    bytes.get(start..end.min(bytes.len())).unwrap_or_default()
}

/// The content of one part, or its beginning.
struct Section<'a> {
    /// Letter of the part.
    letter: u8,
    /// The content, without the delimiter lines around it.
    content: &'a [u8],
    /// Length of the whole content.
    len: u64,
}

/// The parts of an entry of which only the beginning of long parts was read.
#[derive(Debug, Clone)]
pub(super) struct PartExcerpts {
    /// Where the parts are in the whole entry.
    layout: PartLayout,
    /// What was read of each part's content, in the order of the layout.
    contents: Vec<Vec<u8>>,
}

impl PartExcerpts {
    /// Bytes kept of a part that is no body. Part H of a real entry has a few hundred kilobytes
    /// at the most; part K with the whole Core Rule Set has less than two megabytes.
    const MAX_PART: u64 = 4 * 1024 * 1024;

    /// Bytes kept of the parts with the connection and the headers, A, B and F. A web server takes
    /// a hundred headers of 8 KiB.
    const MAX_HEADERS: u64 = 1024 * 1024;

    /// Bytes kept of all parts together.
    const MAX_KEPT: u64 = 6 * 1024 * 1024;

    /// Reads the parts that `outline` has found through `read`: at most [`PartExcerpts::MAX_HEADERS`] or
    /// [`PartExcerpts::MAX_PART`] bytes of a part that the record is made of, [`MAX_BODY_KEPT`] of a
    /// body or any other part, and [`PartExcerpts::MAX_KEPT`] of all.
    ///
    /// # Errors
    ///
    /// What `read` fails with.
    pub(super) fn read<E>(
        outline: &Outline,
        read: impl Fn(Range<u64>) -> Result<Vec<u8>, E>,
    ) -> Result<PartExcerpts, E> {
        let first = |range: Range<u64>, most| {
            read(range.start..range.end.min(range.start.saturating_add(most)))
        };
        // What cannot be read now cannot be read below either.
        let layout = outline.layout(|range| {
            first(range, PartExcerpts::MAX_PART)
                .unwrap_or_default()
                .into()
        });
        let mut left = PartExcerpts::MAX_KEPT;
        let contents = layout
            .parts
            .iter()
            .map(|part| {
                let most = match part.letter {
                    b'A' | b'B' | b'F' => PartExcerpts::MAX_HEADERS,
                    b'H' | b'J' | b'K' => PartExcerpts::MAX_PART,
                    _ => MAX_BODY_KEPT as u64,
                };
                let content = first(part.content.clone(), most.min(left))?;
                left = left.saturating_sub(content.len() as u64);
                Ok(content)
            })
            .collect::<Result<_, _>>()?;
        Ok(PartExcerpts { layout, contents })
    }

    /// Gives the parts their meaning; [`Flag::Capped`](crate::record::Flag::Capped) is set if a
    /// part other than a body was cut.
    pub(super) fn record(&self) -> Record<'_> {
        let contents = self.contents.iter().map(Vec::as_slice);
        parts::record(&self.layout, sections(&self.layout, contents))
    }
}

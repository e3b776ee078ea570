//! What distinguishes the engines: one table.
//!
//! The grammar asks this table and no other place, so that a fact about an engine is found, and
//! mended, in one line. Two questions have more than a value for an answer, and are modules:
//! which delimiters are genuine (`native/framing`), and what part H says (`native/parts`).

use std::borrow::Cow;
use std::ops::RangeInclusive;

use super::escape::{unescape, unescape_go};

/// The engine that wrote an entry.
///
/// The three write the same facts with different framing, order and escapes. A dialect is
/// recognised by the first bytes of an entry ([`detect`](super::detect)); nothing has to be
/// configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// `ModSecurity` 2, the module for Apache, IIS and nginx. Delimiter lines like
    /// `--3fa0c41b-A--`: eight lower-case hexadecimal digits.
    V2,
    /// libmodsecurity 3 with a connector. Delimiter lines like `---Qx7Lm2Rt---A--`: eight letters
    /// or digits.
    V3,
    /// Coraza, the engine in Go. Delimiter lines like `--QxaLmbRtcd-A--`: ten letters.
    Coraza,
}

/// A row of the table. Sources are files of `ModSecurity` 2 (`*.c`), of libmodsecurity (`*.cc`) and
/// of Coraza (`*.go`).
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "columns of a table, each a fact of its own"
)]
pub(crate) struct Traits {
    /// What stands before the id of a boundary, and between it and the letter.
    /// (`msc_logging.c: create_auditlog_boundary`, `transaction.cc: toOldAuditLogFormat`,
    /// `formats.go`)
    pub dashes: (&'static [u8], &'static [u8]),
    /// Bytes of that id. (`msc_util.c: bytes2hex` of four random bytes,
    /// `writer.cc: generateBoundary`, `formats.go`)
    pub id_len: usize,
    /// Bytes that the id may have. (the same)
    pub id_bytes: AsciiSet,
    /// Whether the time in part A has an offset from UTC. Coraza writes a wall clock.
    /// (`msc_util.c: current_logtime`, `transaction.cc`, `transaction.go: AuditLog`)
    pub has_offset: bool,
    /// Whether an entry may begin with another part than A, and end without part Z: without
    /// `SecAuditLogParts`, Coraza writes B, C, F and H. (`formats.go`)
    pub may_lack_a: bool,
    /// Parts that hold bytes of others as they were sent, so that a client or an application can
    /// put delimiter lines into them. libmodsecurity escapes part E (`toHexIfNeeded`); Coraza copies
    /// the message of a rule into H, macros expanded.
    pub raw: &'static [u8],
    /// LFs between the last byte of a body and the next delimiter line. Two or three of
    /// libmodsecurity: the empty line of part F is written without part F too. One of Coraza
    /// before 3.4. (`msc_logging.c: sec_audit_logger_native`, `transaction.cc`, `formats.go`)
    pub lfs_behind_body: RangeInclusive<u64>,
    /// Whether an empty line follows a body and the line of part Z, in a file of its own too.
    /// (the same)
    pub has_empty_lines: bool,
    /// Whether the empty line that ends part F is there without part F. (`transaction.cc`)
    pub has_line_of_f: bool,
    /// Whether parts C and E are written for a message without a body. (`formats.go`)
    pub writes_empty_bodies: bool,
    /// What stands for a method that the request does not have. (`transaction.cc`)
    pub no_method: Option<&'static [u8]>,
    /// Which of parts I, J and K have content; libmodsecurity writes them to be empty.
    pub filled: &'static [u8],
    /// Undoes the escapes of names in part J. (`msc_logging.c: log_escape`, `%q` in `formats.go`)
    pub unescape: fn(&[u8]) -> Cow<'_, [u8]>,
    /// Whether part K names each rule that matched, with an id that can be compared. Coraza quotes
    /// the directives as they were typed.
    pub lists_rules: bool,
    /// Whether the text of an alert may be what a Lua script returned, as it is. (`msc_lua.c`)
    pub has_scripts: bool,
    /// Whether the engine appends to a file that exists, so that it has several records. The
    /// others truncate it first. (`msc_logging.c`: `APR_TRUNCATE`, `writer/parallel.cc`: `O_APPEND`,
    /// `concurrent_writer.go`: `os.WriteFile`)
    pub appends: bool,
    /// How it writes a line of the index, as far as that can be read.
    pub index: Option<IndexForm>,
}

/// A set of ASCII characters.
#[derive(Debug)]
pub(crate) struct AsciiSet(u128);

impl AsciiSet {
    /// Returns the set of these characters.
    const fn of(mut members: &[u8]) -> AsciiSet {
        let mut set = 0;
        while let Some((byte, rest)) = members.split_first() {
            set |= 1 << *byte;
            members = rest;
        }
        AsciiSet(set)
    }

    /// Returns `true` if `byte` is in the set.
    pub(crate) const fn contains(&self, byte: u8) -> bool {
        byte < 128 && self.0 >> byte & 1 == 1
    }
}

/// How an engine writes the index that `SecAuditLog` becomes in concurrent mode.
/// (`msc_logging.c: construct_log_vcombinedus_limited`, `transaction.cc: toOldAuditLogFormatIndex`)
#[derive(Debug)]
pub(crate) struct IndexForm {
    /// What follows the digits of the size: libmodsecurity prints a `double`.
    pub size_suffix: &'static [u8],
    /// Whether the paths begin with the storage directory.
    pub has_root: bool,
    /// Whether quotes in client text are escaped, so that the left part of a line can be read.
    pub is_escaped: bool,
}

/// ModSecurity 2 for any server. Part J is there since 2.6.
const V2: Traits = Traits {
    dashes: (b"--", b"-"),
    id_len: 8,
    id_bytes: AsciiSet::of(b"0123456789abcdef"),
    has_offset: true,
    may_lack_a: false,
    raw: b"CE",
    lfs_behind_body: 1..=1,
    has_empty_lines: false,
    has_line_of_f: false,
    writes_empty_bodies: false,
    no_method: None,
    filled: b"IJK",
    unescape,
    lists_rules: true,
    has_scripts: true,
    appends: false,
    index: Some(IndexForm {
        size_suffix: b"",
        has_root: false,
        is_escaped: true,
    }),
};

/// libmodsecurity 3, through any connector: the library writes the log.
const V3: Traits = Traits {
    dashes: (b"---", b"---"),
    id_len: 8,
    id_bytes: AsciiSet::of(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    has_offset: true,
    may_lack_a: false,
    raw: b"C",
    lfs_behind_body: 2..=3,
    has_empty_lines: true,
    has_line_of_f: true,
    writes_empty_bodies: false,
    no_method: Some(b"-"),
    filled: b"",
    unescape,
    lists_rules: false,
    has_scripts: false,
    appends: true,
    index: Some(IndexForm {
        size_suffix: b".000000",
        has_root: true,
        is_escaped: false,
    }),
};

/// Coraza 3. What releases before 3.4 do differently is in `native/coraza`.
const CORAZA: Traits = Traits {
    dashes: (b"--", b"-"),
    id_len: 10,
    id_bytes: AsciiSet::of(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    has_offset: false,
    may_lack_a: true,
    raw: b"CEH",
    lfs_behind_body: 1..=2,
    has_empty_lines: true,
    has_line_of_f: false,
    writes_empty_bodies: true,
    no_method: None,
    filled: b"JK",
    unescape: unescape_go,
    lists_rules: false,
    has_scripts: false,
    appends: false,
    // Spread over several lines, without size and MD5.
    index: None,
};

impl Dialect {
    /// All dialects, in the order in which delimiter lines are tried: no line is one of two
    /// dialects.
    pub(crate) const ALL: [Dialect; 3] = [Dialect::V2, Dialect::V3, Dialect::Coraza];

    /// Returns the row of this engine.
    pub(crate) const fn traits(self) -> &'static Traits {
        match self {
            Dialect::V2 => &V2,
            Dialect::V3 => &V3,
            Dialect::Coraza => &CORAZA,
        }
    }

    /// Returns `true` if the engine appends to a file that exists, so that one file may have
    /// several records. Only libmodsecurity does.
    pub fn appends(self) -> bool {
        self.traits().appends
    }

    /// Returns `true` if bytes of others stand in part `letter` as they were sent.
    pub(crate) fn is_raw(self, letter: u8) -> bool {
        self.traits().raw.contains(&letter)
    }
}

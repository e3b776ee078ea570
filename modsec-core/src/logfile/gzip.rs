//! Unpacking a compressed log, and what it means if that goes wrong, in words.
//!
//! A file of gzip is one member, or several behind each other. Zeros behind the last one fill up a
//! block and say nothing. Anything else there is no part of the log: what stands before it is whole.

use std::io::{self, BufRead as _, BufReader, Read};

use flate2::bufread::GzDecoder;

/// What a gzip file starts with, RFC 1952. An audit log starts with `-` or `{`, an index with a
/// host name.
pub(crate) const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Unpacks all members of a file of gzip.
pub(crate) struct Unpacked<R> {
    /// The member at hand; `None` behind the last one.
    member: Option<GzDecoder<BufReader<R>>>,
    /// Whether a member was read to its end, and nothing of the one at hand came out.
    is_behind: bool,
}

/// Something stands behind the last member. All of the log was read.
#[derive(Debug, thiserror::Error)]
#[error("the compressed file is whole, trailing garbage ignored")]
struct TrailingGarbage;

/// Returns `true` if an error says that all was read, and that something stands behind it.
pub(crate) fn is_trailing_garbage(error: &io::Error) -> bool {
    matches!(error.get_ref(), Some(cause) if cause.is::<TrailingGarbage>())
}

impl<R: Read> Unpacked<R> {
    /// Begins at the first byte of a compressed file.
    pub(crate) fn new(packed: R) -> Unpacked<R> {
        Unpacked {
            member: Some(GzDecoder::new(BufReader::new(packed))),
            is_behind: false,
        }
    }

    /// Goes on with the next member; returns `false` if there is none.
    fn next_member(&mut self) -> io::Result<bool> {
        let Some(member) = &mut self.member else {
            return Ok(false);
        };
        let packed = member.get_mut();
        let next = loop {
            match packed.fill_buf() {
                Ok([0, ..]) => packed.consume(1),
                Ok(bytes) => break bytes.first().copied(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        let packed = self.member.take().map(GzDecoder::into_inner);
        let Some(next) = next else {
            return Ok(false);
        };
        if next != GZIP[0] {
            return Err(io::Error::other(TrailingGarbage));
        }
        self.member = packed.map(GzDecoder::new);
        self.is_behind = true;
        Ok(true)
    }
}

/// Says what went wrong. `is_behind`: a member is whole, and what follows is none.
fn in_words(error: io::Error, is_behind: bool) -> io::Error {
    let kind = error.kind();
    match kind {
        io::ErrorKind::InvalidInput if is_behind => io::Error::other(TrailingGarbage),
        io::ErrorKind::UnexpectedEof => io::Error::new(
            kind,
            "the end of the compressed file is missing, it was cut off or is being written",
        ),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            io::Error::new(kind, format!("the compressed file is damaged ({error})"))
        }
        _ => error,
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let got = member.read(buffer);
            let got = got.map_err(|error| in_words(error, self.is_behind))?;
            if got > 0 || buffer.is_empty() {
                self.is_behind = false;
                return Ok(got);
            }
            self.next_member()?;
        }
        Ok(0)
    }
}

impl<R> std::fmt::Debug for Unpacked<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unpacked")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    /// Unpacks bytes; returns what came out, and what was said.
    fn unpack(packed: &[u8]) -> (String, String) {
        let mut text = String::new();
        let said = Unpacked::new(packed).read_to_string(&mut text);
        (
            text,
            said.err().map_or(String::new(), |error| error.to_string()),
        )
    }

    #[test]
    fn what_stands_behind_the_end_is_told_from_a_missing_end() {
        let (one, two) = (packed("one\n"), packed("two\n"));
        let whole = [&one[..], &two].concat();
        for (behind, want) in [
            (&b""[..], ""),
            (&[0; 700], ""),
            (b"g", "trailing garbage ignored"),
            (
                b"\0garbage that is longer than a header",
                "trailing garbage ignored",
            ),
            (
                b"\x1fgarbage that is longer than a header",
                "trailing garbage ignored",
            ),
            (
                &one[..one.len() - 3],
                "the end of the compressed file is missing",
            ),
            (&one[..5], "the end of the compressed file is missing"),
        ] {
            let (text, said) = unpack(&[&whole[..], behind].concat());
            assert!(text.starts_with("one\ntwo\n"), "{behind:?}: {text}");
            assert!(
                said.contains(want) && said.is_empty() == want.is_empty(),
                "{behind:?}: {said}"
            );
        }
        let (text, said) = unpack(b"\x1f\x8bnothing of gzip");
        assert!(
            text.is_empty() && said.contains("the compressed file is damaged"),
            "{said}"
        );
    }
}

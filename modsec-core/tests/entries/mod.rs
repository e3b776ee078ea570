//! The entries below `tests/data`.

use std::fs;
use std::path::{Path, PathBuf};

use modsec_core::format::native::Boundary;

/// Families of dialects that real servers wrote, and the dialects with a directory of their own.
pub(crate) const FAMILIES: [(&str, &[&str]); 2] = [
    (
        "native-v2",
        &[
            "v2-native-concurrent",
            "v2-native-concurrent-http2",
            "v2.9.2-native-concurrent",
            "v2.9.2-native-concurrent-dbm",
        ],
    ),
    ("native-v3", &["v3-native-concurrent", "v3-native-serial"]),
];

/// Written for these tests after the engine's sources: no server's own entries were at hand.
pub(crate) const SYNTHETIC: (&str, &[&str]) = ("native-coraza", &["coraza-native"]);

/// One entry as a server wrote it.
pub(crate) struct RealEntry {
    pub(crate) case: String,
    /// Where it stands: a file, or a range of one.
    pub(crate) place: String,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn data(family: &str, dialect: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(family)
        .join(dialect)
}

/// Reads the entries that `cases.tsv` names.
pub(crate) fn read(dir: &Path) -> Vec<RealEntry> {
    let cases = fs::read_to_string(dir.join("cases.tsv")).unwrap();
    let mut entries = Vec::new();
    for case in cases.lines().skip(1) {
        let mut fields = case.split('\t');
        let (name, place) = (fields.next().unwrap(), fields.next().unwrap());
        if place == "-" {
            continue; // the server logged nothing
        }
        let bytes = at(dir, place);
        let entry = |place: String, bytes: &[u8]| RealEntry {
            case: name.to_owned(),
            place,
            bytes: bytes.to_vec(),
        };
        if let Some((file, range)) = place.split_once('@') {
            let start: usize = range.split_once('+').unwrap().0.parse().unwrap();
            let cuts = openings(&bytes);
            let ends = cuts.iter().skip(1).copied().chain([bytes.len()]);
            for (cut, end) in cuts.iter().zip(ends) {
                let place = format!("{file}@{:06}", start + cut);
                entries.push(entry(place, &bytes[*cut..end]));
            }
        } else {
            entries.push(entry(place.to_owned(), &bytes));
        }
    }
    entries
}

/// Reads `name` or `name@offset+length`.
fn at(dir: &Path, place: &str) -> Vec<u8> {
    let Some((name, range)) = place.split_once('@') else {
        return fs::read(dir.join(place)).unwrap();
    };
    let (start, len) = range.split_once('+').unwrap();
    let (start, len): (usize, usize) = (start.parse().unwrap(), len.parse().unwrap());
    fs::read(dir.join(name)).unwrap()[start..start + len].to_vec()
}

/// Where an entry begins. The real bodies hold no line that looks like it.
fn openings(bytes: &[u8]) -> Vec<usize> {
    let lines = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let starts = [0].into_iter().chain(lines.map(|(at, _)| at + 1));
    starts
        .filter(|start| matches!(Boundary::open(&bytes[*start..]), Some((_, 'A'))))
        .collect()
}

//! The documents of real servers below `tests/data`.

use std::fs;
use std::path::{Path, PathBuf};

/// What one server wrote.
pub(crate) struct Dialect {
    pub(crate) name: &'static str,
    /// Directory below `tests/data`.
    format: &'static str,
}

/// One document and the request that it is about.
pub(crate) struct Document {
    /// Name of the case; some have several requests.
    pub(crate) case: String,
    /// Path, or `name@offset+length` in a serial log.
    pub(crate) place: String,
    pub(crate) bytes: Vec<u8>,
}

impl Dialect {
    pub(crate) const fn new(name: &'static str, format: &'static str) -> Dialect {
        Dialect { name, format }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data")
            .join(self.format)
            .join(self.name)
    }

    /// Reads the document at a path, or at `name@offset+length`.
    pub(crate) fn bytes(&self, place: &str) -> Vec<u8> {
        let Some((name, range)) = place.split_once('@') else {
            return fs::read(self.dir().join(place)).unwrap();
        };
        let (offset, len) = range.split_once('+').unwrap();
        let (offset, len): (usize, usize) = (offset.parse().unwrap(), len.parse().unwrap());
        fs::read(self.dir().join(name)).unwrap()[offset..offset + len].to_vec()
    }

    /// Returns the documents in the order of `cases.tsv`.
    pub(crate) fn documents(&self) -> Vec<Document> {
        let cases = fs::read_to_string(self.dir().join("cases.tsv")).unwrap();
        let places = cases.lines().skip(1).map(|line| {
            let mut fields = line.split('\t');
            (fields.next().unwrap(), fields.next().unwrap())
        });
        places
            .filter(|(_, place)| *place != "-") // the server logged nothing
            .map(|(case, place)| Document {
                case: case.to_owned(),
                place: place.to_owned(),
                bytes: self.bytes(place),
            })
            .collect()
    }
}

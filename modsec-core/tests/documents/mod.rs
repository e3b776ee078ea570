//! The documents of real servers below `tests/data`.

use std::fs;
use std::path::{Path, PathBuf};

/// What one server wrote.
pub(crate) struct Dialect {
    pub(crate) name: &'static str,
    /// Directory below `tests/data`.
    format: &'static str,
}

pub(crate) const DIALECTS: [Dialect; 4] = [
    Dialect::new("v2-json-concurrent", "json-v2"),
    Dialect::new("v2-json-serial", "json-v2"),
    Dialect::new("v3-json-concurrent", "json-v3"),
    Dialect::new("v3-json-serial", "json-v3"),
];

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

    /// Reads the document that the truth speaks of. In a serial log several requests of one case
    /// may share a place; the id tells them apart.
    pub(crate) fn bytes_of(&self, place: &str, unique_id: &str) -> Vec<u8> {
        let Some((name, _)) = place.split_once('@') else {
            return self.bytes(place);
        };
        let log = fs::read(self.dir().join(name)).unwrap();
        log.split_inclusive(|byte| *byte == b'\n')
            .find(|line| memchr::memmem::find(line, unique_id.as_bytes()).is_some())
            .unwrap()
            .to_vec()
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

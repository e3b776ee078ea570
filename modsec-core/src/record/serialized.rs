//! Records in a serialized form, which keeps every byte.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Flag, Flags};
use crate::text::Text;

/// A string, or a sequence of bytes if the text is not UTF-8.
impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => serializer.serialize_bytes(self.as_bytes()),
        }
    }
}

/// From a format that says which of the two forms it has, as JSON does.
impl<'de> Deserialize<'de> for Text<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Bytes).map(Text::from)
    }
}

/// Accepts text and bytes.
struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or bytes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
        Ok(text.into())
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<u8>, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = sequence.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes)
    }
}

/// A sequence of names.
impl Serialize for Flags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Flags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<Flag>::deserialize(deserializer).map(Flags::from_iter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    #[test]
    fn a_record_comes_back_with_every_byte() {
        let entry = b"--3fa0c41b-A--
[03/Feb/2024:10:11:12 +0100] Zb4kQH8AAAEAAB1cR0MAAAAA 192.0.2.10 40112 198.51.100.4 80
--3fa0c41b-B--
GET /item?id=\xff\x00 HTTP/1.1
Host: shop.example.org

--3fa0c41b-H--
Message: Access denied with code 403 (phase 2). Pattern match \"'\" at ARGS:id. [file \"/etc/waf.conf\"] [line \"12\"] [id \"100100\"] [severity \"CRITICAL\"] [tag \"a\"]
Stopwatch: 1706951472000000 1234 (- - -)
Engine-Mode: \"ENABLED\"

";
        let record = crate::format::decode(entry).unwrap();
        assert!(record.flags.contains(Flag::Truncated));
        let json = serde_json::to_string(&record).unwrap();
        assert!(json.contains(r#""flags":["truncated"]"#), "{json}");
        assert!(json.contains(r#""severity":"CRITICAL""#), "{json}");
        let back: Record<'static> = serde_json::from_str(&json).unwrap();
        assert_eq!(back, record);
        assert_eq!(back.request.uri.unwrap().as_bytes(), b"/item?id=\xff\x00");
    }

    #[test]
    fn what_a_later_version_adds_is_absent_in_what_was_kept() {
        let record: Record<'static> = serde_json::from_str("{}").unwrap();
        assert_eq!(record, Record::default());
    }
}

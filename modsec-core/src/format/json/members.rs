//! Members that several dialects have, under their own names or under the same.
//!
//! Each function reads the value at hand to its end, whatever it is, and fails only where the document
//! does ([`Malformed`]). What is not of the expected kind leaves the field as it is.

use super::Draft;
use super::reader::{JsonReader, Malformed};
use crate::record::{Alert, Body, EngineMode, Flag, Header, MAX_HEADERS, MAX_TAGS, Severity};
use crate::text::Text;

/// Sets `slot` to the first value given; `repeated` is set by a second one. No engine writes a member
/// twice, but two documents that were torn into one line do.
pub(super) fn once<T>(slot: &mut Option<T>, value: Option<T>, repeated: &mut bool) {
    match (&slot, value) {
        (None, value) => *slot = value,
        (Some(_), Some(_)) => *repeated = true,
        (Some(_), None) => {}
    }
}

/// Reads an object of headers. A value is a string or, in Coraza, an array of strings.
pub(super) fn headers<'a>(
    reader: &mut JsonReader<'a>,
    headers: &mut Vec<Header<'a>>,
    capped: &mut bool,
) -> Result<(), Malformed> {
    reader.object(|reader, name| {
        let name = Text::from(name);
        reader.texts(|value| {
            if headers.len() == MAX_HEADERS {
                *capped = true;
                return;
            }
            headers.push(Header {
                name: name.clone(),
                value,
            });
        })
    })
}

/// Reads a status code, 100 to 999; another number is as good as none.
pub(super) fn status(reader: &mut JsonReader<'_>) -> Result<Option<u16>, Malformed> {
    Ok(reader
        .number()?
        .filter(|status| (100..1000).contains(status)))
}

/// Returns the mode that the engine names, in the words of any of them.
pub(super) fn mode(name: &[u8]) -> Option<EngineMode> {
    match name {
        b"ENABLED" | b"Enabled" | b"On" => Some(EngineMode::Enabled),
        b"DETECTION_ONLY" | b"DetectionOnly" | b"PropertyNotSet/DetectionOnly" => {
            Some(EngineMode::DetectionOnly)
        }
        b"DISABLED" | b"Disabled" | b"Off" => Some(EngineMode::Disabled),
        _ => None,
    }
}

/// Reads a body, which the engines write also where there was none.
pub(super) fn body<'a>(
    reader: &mut JsonReader<'a>,
    body: &mut Option<Body<'a>>,
) -> Result<(), Malformed> {
    reader.body(body)?;
    body.take_if(|body| body.len == 0);
    Ok(())
}

/// Reads a member of an alert that libmodsecurity and Coraza name alike. 0 and an empty text stand for
/// what the rule does not set.
pub(super) fn rule_field<'a>(
    reader: &mut JsonReader<'a>,
    key: &[u8],
    alert: &mut Alert<'a>,
    capped: &mut bool,
) -> Result<(), Malformed> {
    match key {
        b"file" => alert.file = reader.filled()?,
        b"data" => alert.data = reader.filled()?,
        b"severity" => {
            let number = reader.number()?.filter(|number| *number > 0);
            alert.severity = number.and_then(Severity::from_number);
        }
        b"ver" => alert.ver = reader.filled()?,
        b"rev" => alert.rev = reader.filled()?,
        b"maturity" => alert.maturity = reader.number()?.filter(|number| *number != 0),
        b"accuracy" => alert.accuracy = reader.number()?.filter(|number| *number != 0),
        b"tags" => reader.texts(|tag| {
            if alert.tags.len() < MAX_TAGS {
                alert.tags.push(tag);
            } else {
                *capped = true;
            }
        })?,
        _ => reader.skip()?,
    }
    Ok(())
}

/// Names of the members of `producer`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProducerKeys {
    /// Name or version of the engine; the connector is `connector` everywhere.
    pub(super) engine: &'static [u8],
    /// The list of rule sets.
    pub(super) rule_sets: &'static [u8],
    pub(super) mode: &'static [u8],
}

/// Reads the mode and the server, and the other names as one line of part H would have them.
pub(super) fn producer<'a>(
    reader: &mut JsonReader<'a>,
    draft: &mut Draft<'a>,
    keys: ProducerKeys,
) -> Result<(), Malformed> {
    let mut names: Vec<Text<'a>> = Vec::new();
    let engine = &mut draft.record.engine;
    let read = reader.object(|reader, key| {
        draft.record.flags.remove(Flag::NoPartH);
        let key = key.as_ref();
        if key == keys.engine || key == b"connector" {
            names.extend(reader.filled()?);
        } else if key == keys.rule_sets {
            reader.texts(|name| names.push(name))?;
        } else if key == keys.mode {
            let word = reader.text()?;
            let mode = word.and_then(|word| mode(word.as_bytes()));
            once(&mut engine.mode, mode, &mut draft.repeated);
        } else if key == b"server" {
            once(&mut engine.server, reader.filled()?, &mut draft.repeated);
        } else {
            reader.skip()?;
        }
        Ok(())
    });
    let names: Vec<&[u8]> = names.iter().map(Text::as_bytes).collect();
    let line = Some(names.join(&b"; "[..])).filter(|line| !line.is_empty());
    once(
        &mut engine.producer,
        line.map(Text::from),
        &mut draft.repeated,
    );
    read
}

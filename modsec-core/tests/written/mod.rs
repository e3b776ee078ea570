//! A record written as a native entry of ModSecurity 2: what tests and fuzz targets read back.

use std::borrow::Cow;

use chrono::{DateTime, FixedOffset};
use modsec_core::Text;
use modsec_core::format::Dialect;
use modsec_core::format::native::Boundary;
use modsec_core::record::{Body, Engine, Flag, Header, Record, Request, Response, Upload};

/// Keys of part H in the engine's order.
const KEYS: [&[u8]; 16] = [
    b"Message",
    b"Apache-Error",
    b"Action",
    b"Apache-Handler",
    b"Stopwatch",
    b"Stopwatch2",
    b"Response-Body-Transformed",
    b"Producer",
    b"Server",
    b"Sanitised-Args",
    b"Sanitised-Request-Headers",
    b"Sanitised-Response-Headers",
    b"WebApp-Info",
    b"Sensor-Id",
    b"Engine-Mode",
    b"Rules-Performance-Info",
];
/// The rank of `Stopwatch`.
const STOPWATCH: usize = 4;

/// Writes `record` as a ModSecurity 2 native entry with the given boundary.
///
/// Decoding the result gives the same record. Returns `None` for a record of which parts are
/// missing, uncertain or cut (flags `ambiguous`, `truncated`, `out_of_order`, `capped`, a body
/// longer than what was kept, no time or addresses): what is not known cannot be written. The
/// other dialects have no writer: `None` for their boundaries.
pub(crate) fn entry(record: &Record<'_>, boundary: Boundary) -> Option<Vec<u8>> {
    let lost = [
        Flag::Ambiguous,
        Flag::Truncated,
        Flag::OutOfOrder,
        Flag::Capped,
    ];
    let certain = !lost.into_iter().any(|flag| record.flags.contains(flag));
    if !certain || boundary.dialect() != Dialect::V2 {
        return None;
    }
    let mut out = Writer {
        out: Vec::new(),
        boundary,
    };
    out.part('A');
    out.opening(record)?;
    out.request(&record.request);
    out.body('C', record.request.body.as_ref())?;
    out.body('I', record.request.form.as_ref())?;
    out.response(&record.response);
    out.body('E', record.response.body.as_ref())?;
    if !record.flags.contains(Flag::NoPartH) {
        out.part('H');
        for alert in &record.alerts {
            out.line(&[b"Message: ", alert.raw.as_bytes()]);
        }
        out.engine(&record.engine);
    }
    if let Some(uploads) = &record.uploads {
        out.part('J');
        for upload in uploads {
            out.upload(upload);
        }
        let total: u64 = uploads
            .iter()
            .map(|upload| upload.size)
            .fold(0, u64::saturating_add);
        out.line(&[format!("Total,{total}").as_bytes()]);
    }
    if let Some(rules) = &record.matched_rules {
        out.part('K');
        for rule in rules {
            out.line(&[rule.directive.as_bytes(), b"\n"]);
        }
    }
    out.part('Z');
    Some(out.out)
}

/// Rank, key and value of a keyed line.
type Line<'a> = (usize, &'a [u8], Cow<'a, [u8]>);

struct Writer {
    out: Vec<u8>,
    boundary: Boundary,
}

impl Writer {
    fn line(&mut self, pieces: &[&[u8]]) {
        for piece in pieces {
            self.out.extend_from_slice(piece);
        }
        self.out.push(b'\n');
    }

    fn part(&mut self, letter: char) {
        if letter != 'A' {
            self.out.push(b'\n');
        }
        let delimiter = self.boundary.line(letter);
        self.line(&[delimiter.as_bytes()]);
    }

    fn opening(&mut self, record: &Record<'_>) -> Option<()> {
        let (client, server) = (record.client.as_ref()?, record.server.as_ref()?);
        let time = time(record.time.as_ref()?);
        self.out.extend_from_slice(format!("[{time}] ").as_bytes());
        self.out
            .extend_from_slice(record.unique_id.as_ref()?.as_bytes());
        for end in [client, server] {
            self.out.push(b' ');
            self.out.extend_from_slice(end.text.as_bytes());
            self.out
                .extend_from_slice(format!(" {}", end.port?).as_bytes());
        }
        Some(())
    }

    fn request(&mut self, request: &Request<'_>) {
        if request.line.is_some() || !request.headers.is_empty() {
            self.part('B');
            self.head(request.line.as_ref(), &request.headers);
        }
    }

    fn response(&mut self, response: &Response<'_>) {
        if response.status_line.is_some() || !response.headers.is_empty() {
            self.part('F');
            self.head(response.status_line.as_ref(), &response.headers);
        }
    }

    fn head(&mut self, line: Option<&Text<'_>>, headers: &[Header<'_>]) {
        self.line(&[line.map(Text::as_bytes).unwrap_or_default()]);
        for header in headers {
            self.line(&[header.name.as_bytes(), b": ", header.value.as_bytes()]);
        }
    }

    fn body(&mut self, letter: char, body: Option<&Body<'_>>) -> Option<()> {
        if let Some(body) = body {
            (body.len == body.kept.len() as u64).then_some(())?;
            self.part(letter);
            self.out.extend_from_slice(body.kept.as_bytes());
        }
        Some(())
    }

    /// Writes the keyed lines in the engine's order. A line with a key that no engine writes
    /// follows the line behind which it stood, as far as that is known.
    fn engine(&mut self, engine: &Engine<'_>) {
        for error in &engine.apache_errors {
            self.line(&[b"Apache-Error: ", error.as_bytes()]);
        }
        let rank = |key: &[u8]| KEYS.iter().position(|known| *known == key);
        let mut lines: Vec<Line<'_>> = KEYS
            .iter()
            .enumerate()
            .filter_map(|(rank, key)| Some((rank, *key, known(engine, key)?.into())))
            .collect();
        let others = engine
            .other
            .iter()
            .filter_map(|(key, _)| rank(key.as_bytes()));
        // In front of it, a line without a known key is part of the text of an alert.
        let first = lines
            .iter()
            .map(|(rank, ..)| *rank)
            .chain(others)
            .filter(|rank| *rank > STOPWATCH)
            .min()
            .unwrap_or(STOPWATCH);
        let mut last = first;
        for (key, value) in &engine.other {
            last = rank(key.as_bytes()).unwrap_or(last.max(first));
            lines.push((last, key.as_bytes(), value.as_bytes().into()));
        }
        lines.sort_by_key(|(rank, ..)| *rank);
        for (_, key, value) in lines {
            self.line(&[key, b": ", &value]);
        }
    }

    fn upload(&mut self, upload: &Upload<'_>) {
        let start = format!("{},{},\"", upload.index, upload.size);
        let (name, kind) = (escape(&upload.name), escape(&upload.content_type));
        self.line(&[start.as_bytes(), &name, b"\",\"", &kind, b"\""]);
    }
}

/// Returns the value of a line that the record keeps in a field of its own.
fn known(engine: &Engine<'_>, key: &[u8]) -> Option<Vec<u8>> {
    let text = |text: &Option<Text<'_>>| text.as_ref().map(|text| text.as_bytes().to_vec());
    let quoted = |text: &[u8]| [b"\"", text, b"\""].concat();
    match key {
        b"Action" => engine
            .intercepted_phase
            .map(|phase| format!("Intercepted (phase {phase})").into()),
        b"Apache-Handler" => text(&engine.handler),
        b"Stopwatch" => engine.stopwatch.map(|stopwatch| {
            format!("{} {} (- - -)", stopwatch.start_us, stopwatch.duration_us).into()
        }),
        b"Stopwatch2" => text(&engine.stopwatch2),
        b"Producer" => text(&engine.producer).map(|producer| [&producer[..], b"."].concat()),
        b"Server" => text(&engine.server),
        b"WebApp-Info" => text(&engine.webapp_info),
        b"Sensor-Id" => engine.sensor_id.as_ref().map(|id| quoted(id.as_bytes())),
        b"Engine-Mode" => engine.mode.map(|mode| quoted(mode.name().as_bytes())),
        _ => None,
    }
}

/// `log_escape` of the engine.
fn escape(text: &Text<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text.as_bytes() {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            0x08 => out.extend(b"\\b"),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            0x0b => out.extend(b"\\v"),
            0x20..0x7f => out.push(*byte),
            _ => out.extend(format!("\\x{byte:02x}").bytes()),
        }
    }
    out
}

/// Writes a time as ModSecurity 2.9.6 and later does, the double minus included.
pub(crate) fn time(time: &DateTime<FixedOffset>) -> String {
    let seconds = time.offset().local_minus_utc();
    let (hours, minutes) = (seconds.abs() / 3600, seconds.abs() % 3600 / 60);
    let zone = match (seconds < 0, hours, minutes) {
        (false, ..) => format!("+{hours:02}{minutes:02}"),
        (true, 0, _) => format!("-00-{minutes:02}"),
        (true, _, 0) => format!("--{hours:02}00"),
        (true, ..) => format!("--{hours:02}-{minutes:02}"),
    };
    format!("{} {zone}", time.format("%d/%b/%Y:%H:%M:%S%.6f"))
}

//! Records and their parts as a person reads them, on one line and without control characters.

use std::fmt;

use chrono::SecondsFormat;

use super::{Endpoint, EngineMode, Flag, Record, Severity};
use crate::cause::Analysis;
use crate::text::visible;

/// Writes time, client, request line, status, rule of the [cause](Analysis::cause) and flags; `-` for what is not known.
///
/// ```text
/// 2024-02-03T10:11:12+01:00 192.0.2.10 "GET /item?id=1%27 HTTP/1.1" 403 rule 100100
/// 2024-02-03T10:11:12 - "POST / HTTP/1.1" - (truncated,no_part_h)
/// ```
impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.time, self.local_time) {
            (Some(time), _) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::Secs, false))?,
            (None, Some(time)) => write!(f, "{}", time.format("%Y-%m-%dT%H:%M:%S"))?,
            (None, None) => f.write_str("-")?,
        }
        match &self.client {
            Some(client) => write!(f, " {client}")?,
            None => f.write_str(" -")?,
        }
        match &self.request.line {
            Some(line) => write!(f, " {line:?}")?,
            None => f.write_str(" -")?,
        }
        match self.response.status {
            Some(status) => write!(f, " {status}")?,
            None => f.write_str(" -")?,
        }
        let cause = Analysis::of(self).cause.and_then(|at| self.alerts.get(at));
        if let Some(id) = cause.and_then(|alert| alert.rule_id.as_ref()) {
            write!(f, " rule {}", visible(&id.to_str_lossy()))?;
        }
        if self.flags.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.flags)
    }
}

/// Writes the address alone, as it was logged.
impl fmt::Display for Endpoint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&visible(&self.text.to_str_lossy()))
    }
}

/// Writes the upper-case name that ModSecurity 2 logs.
impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Writes the spelling of ModSecurity 2.
impl fmt::Display for EngineMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Writes the name used in databases and JSON.
impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Alert;

    #[test]
    fn a_record_is_one_line_that_a_terminal_shows_as_it_is() {
        assert_eq!(Record::default().to_string(), "- - - -");
        let mut record = Record {
            time: Some("2024-02-03T10:11:12+01:00".parse().unwrap()),
            client: Some(Endpoint {
                text: "192.0.2.10\x1b[2J".into(),
                ..Endpoint::default()
            }),
            alerts: vec![Alert {
                rule_id: Some("1\n2\u{202e}".into()),
                ..Alert::default()
            }],
            ..Record::default()
        };
        record.request.line = Some("GET /\"\r\n HTTP/1.1".into());
        record.response.status = Some(403);
        record.flags.insert(Flag::Ambiguous);
        assert_eq!(
            record.to_string(),
            r#"2024-02-03T10:11:12+01:00 192.0.2.10\u{1b}[2J "GET /\"\r\n HTTP/1.1" 403 rule 1\n2\u{202e} (ambiguous)"#
        );
    }
}

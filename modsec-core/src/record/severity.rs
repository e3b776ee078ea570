//! Severities 0 to 7, as in syslog.

/// How bad a rule's author takes a match to be (action `severity`). Smaller is worse, also in comparisons.
///
/// The Core Rule Set uses `Critical`, `Error`, `Warning` and `Notice`, worth 5, 4, 3 and 2 points of the
/// anomaly score. libmodsecurity writes 0 for a rule without severity, so of it `Emergency` is never read.
///
/// ```
/// use modsec_core::record::Severity;
///
/// assert_eq!(Severity::parse(b"CRITICAL"), Severity::from_number(2));
/// assert!(Severity::Critical < Severity::Notice);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "UPPERCASE")
)]
#[repr(u8)]
pub enum Severity {
    /// 0
    Emergency,
    /// 1
    Alert,
    /// 2
    Critical,
    /// 3
    Error,
    /// 4
    Warning,
    /// 5
    Notice,
    /// 6
    Info,
    /// 7
    Debug,
}

impl Severity {
    /// All of them, so that the index is the number.
    pub(crate) const ALL: [Severity; 8] = [
        Severity::Emergency,
        Severity::Alert,
        Severity::Critical,
        Severity::Error,
        Severity::Warning,
        Severity::Notice,
        Severity::Info,
        Severity::Debug,
    ];

    /// Returns the number, 0 to 7, as libmodsecurity and Coraza log it.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Returns the severity with this number.
    pub fn from_number(number: u8) -> Option<Severity> {
        Severity::ALL.get(usize::from(number)).copied()
    }

    /// Returns the upper-case name that ModSecurity 2 logs.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Emergency => "EMERGENCY",
            Severity::Alert => "ALERT",
            Severity::Critical => "CRITICAL",
            Severity::Error => "ERROR",
            Severity::Warning => "WARNING",
            Severity::Notice => "NOTICE",
            Severity::Info => "INFO",
            Severity::Debug => "DEBUG",
        }
    }

    /// Returns the severity with this name, in any case, or with this number, one digit. `None` for
    /// anything else: `PARANOIA` or 8.
    pub fn parse(text: &[u8]) -> Option<Severity> {
        Severity::ALL
            .into_iter()
            .find(|severity| severity.name().as_bytes().eq_ignore_ascii_case(text))
            .or_else(|| match text {
                [digit @ b'0'..=b'7'] => Severity::from_number(digit - b'0'),
                _ => None,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for number in 0..=7u8 {
            let severity = Severity::from_number(number).unwrap();
            assert_eq!(severity.number(), number);
            assert_eq!(Severity::parse(severity.name().as_bytes()), Some(severity));
            assert_eq!(
                Severity::parse(number.to_string().as_bytes()),
                Some(severity)
            );
        }
        assert_eq!(Severity::parse(b"critical"), Some(Severity::Critical));
        for bad in ["", "8", "-1", "22", "FATAL"] {
            assert_eq!(Severity::parse(bad.as_bytes()), None, "input {bad:?}");
        }
    }
}

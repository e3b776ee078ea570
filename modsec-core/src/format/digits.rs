//! Numbers as the engines print them: ASCII digits and nothing else.
//!
//! Neither a plus sign nor spaces, which Rust's own parser and C's would take: an engine writes none, so
//! where one stands, something else is written.

/// Reads a decimal number without sign; leading zeros count for nothing.
///
/// `None` if there is no digit, if another byte stands among them, or if the number does not fit.
pub(crate) fn number<N: TryFrom<u64>>(digits: &[u8]) -> Option<N> {
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })?;
    N::try_from(value).ok()
}

/// Reads a number that may be negative, as a rule's author may make any of its own: maturity,
/// accuracy, scores.
pub(super) fn signed(text: &[u8]) -> Option<i64> {
    match text.strip_prefix(b"-") {
        Some(digits) => 0_i64.checked_sub_unsigned(number(digits)?),
        None => number(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_all_digits() {
        for (text, want) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("255", Some(255)),
            ("256", None),
            ("99999999999999999999", None),
            ("+1", None),
            ("-1", None),
            ("1 ", None),
            ("1a", None),
            ("", None),
        ] {
            assert_eq!(number::<u8>(text.as_bytes()), want, "{text:?}");
        }
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(number::<u64>(b"18446744073709551616"), None);
        assert_eq!(number(b"0000000000000000000000012"), Some(12_u64));
        for (text, want) in [
            ("-5", Some(-5)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("5", Some(5)),
            ("--5", None),
            ("-", None),
        ] {
            assert_eq!(signed(text.as_bytes()), want, "{text:?}");
        }
    }
}

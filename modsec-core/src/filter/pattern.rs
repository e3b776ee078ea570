//! Texts with `*` in them.

/// A text in which `*` stands for any text: the parts between the stars, at least one.
///
/// `["a"]` is exactly `a`; `["", "a", ""]` is `*a*`; `["", ""]` is `*`. Only the first and the last
/// part may be empty, unless there is only one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<String>);

impl Pattern {
    /// Returns the pattern with these parts; two stars side by side are one.
    pub(super) fn new(mut parts: Vec<String>) -> Pattern {
        let last = parts.len().saturating_sub(1);
        let mut at = 0..;
        parts.retain(|part| {
            let at = at.next().unwrap_or_default();
            at == 0 || at == last || !part.is_empty()
        });
        if parts.is_empty() {
            parts.push(String::new());
        }
        Pattern(parts)
    }

    /// Returns the pattern that is true wherever this one is within a text.
    pub(super) fn anywhere(self) -> Pattern {
        let mut parts = self.0;
        parts.insert(0, String::new());
        parts.push(String::new());
        Pattern::new(parts)
    }

    /// Returns how often `*` stands in it: one less than it has parts.
    pub(super) fn stars(&self) -> usize {
        self.0.len() - 1
    }

    /// Returns the parts between the stars.
    pub(super) fn parts(&self) -> &[String] {
        &self.0
    }

    /// Returns the text that it describes exactly; `None` if there is a star.
    pub(super) fn exact(&self) -> Option<&str> {
        match self.0.as_slice() {
            [text] => Some(text),
            _ => None,
        }
    }

    /// Returns what a text begins with, what it has in the middle, in this order, and how it ends.
    /// `None` if there is no star.
    pub(super) fn split(&self) -> Option<(&str, &[String], &str)> {
        match self.0.as_slice() {
            [first, middle @ .., last] => Some((first, middle, last)),
            _ => None,
        }
    }

    /// Returns the same pattern with A to Z in lower case.
    pub(super) fn to_lower_case(&self) -> Pattern {
        Pattern(
            self.0
                .iter()
                .map(|part| part.to_ascii_lowercase())
                .collect(),
        )
    }

    /// Returns `true` if it describes the whole text, byte by byte. Takes time in proportion to
    /// the text's length for each part.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        let Some((first, middle, last)) = self.split() else {
            return self.exact().is_some_and(|exact| exact.as_bytes() == text);
        };
        let rest = text.strip_prefix(first.as_bytes());
        let rest = rest.and_then(|rest| rest.strip_suffix(last.as_bytes()));
        let Some(mut rest) = rest else { return false };
        // The first place of each part is as good as any later one.
        for part in middle {
            let Some(at) = memchr::memmem::find(rest, part.as_bytes()) else {
                return false;
            };
            rest = rest.get(at + part.len()..).unwrap_or_default();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text.split('*').map(str::to_owned).collect())
    }

    #[test]
    fn a_star_is_any_text() {
        for (text, yes, no) in [
            ("a", &["a"][..], &["", "A", "aa", "ba"][..]),
            ("", &[""], &["a"]),
            ("*", &["", "a"], &[]),
            ("a*", &["a", "ab"], &["ba", ""]),
            ("*a", &["a", "ba"], &["ab", ""]),
            ("*a*", &["a", "bab"], &["", "b"]),
            ("a*a", &["aa", "aba"], &["a", "ab"]),
            ("ab*ba", &["abba", "abxba"], &["aba"]),
            ("*ab*bc*", &["abbc", "xabybcz"], &["abc", "bcab"]),
            ("a**b", &["ab", "axb"], &["a"]),
            ("*aa*aa*aa*", &["aaaaaa"], &["aaaaa"]),
        ] {
            let pattern = pattern(text);
            for yes in yes {
                assert!(pattern.matches(yes.as_bytes()), "{text} {yes}");
            }
            for no in no {
                assert!(!pattern.matches(no.as_bytes()), "{text} {no}");
            }
        }
        assert_eq!(pattern("a**b"), pattern("a*b"));
        assert_eq!(pattern("***"), pattern("*"));
        assert_eq!(pattern("a*b").anywhere(), pattern("*a*b*"));
        assert_eq!(pattern("*a").anywhere(), pattern("*a*"));
    }
}

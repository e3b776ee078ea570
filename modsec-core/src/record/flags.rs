//! What is odd about an entry.

use std::fmt;

/// One oddity of an entry. The record is still stored; the flag says how far to trust it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
#[repr(u8)]
pub enum Flag {
    /// Somebody embedded a delimiter of the entry's own boundary, or entries were run together.
    /// Fields that could not be told for certain are absent.
    Ambiguous,
    /// The entry does not end with its part Z, or its JSON is cut off or broken.
    Truncated,
    /// At least one alert was cut, or contradicts part K.
    Unverified,
    /// The parts are not in the order in which an engine writes them: written by hand.
    OutOfOrder,
    /// There is no usable part H (nor, in JSON, what stands for it), so nothing is known of alerts. Not the same as no alerts.
    NoPartH,
    /// More headers, alerts, rules or files than a record keeps; the rest was left out.
    Capped,
    /// Lines of another entry stand between its own, as in a serial log whose lock failed: none of
    /// its alerts is certain to be its own.
    Interleaved,
}

impl Flag {
    /// All of them, in the order in which they are written.
    pub(crate) const ALL: [Flag; 7] = [
        Flag::Ambiguous,
        Flag::Truncated,
        Flag::Unverified,
        Flag::OutOfOrder,
        Flag::NoPartH,
        Flag::Capped,
        Flag::Interleaved,
    ];

    /// Returns the name used in databases and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Flag::Ambiguous => "ambiguous",
            Flag::Truncated => "truncated",
            Flag::Unverified => "unverified",
            Flag::OutOfOrder => "out_of_order",
            Flag::NoPartH => "no_part_h",
            Flag::Capped => "capped",
            Flag::Interleaved => "interleaved",
        }
    }
}

/// A set of [`Flag`]s.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u16);

impl Flags {
    /// Returns the empty set.
    pub fn none() -> Flags {
        Flags(0)
    }

    /// Adds `flag`.
    pub fn insert(&mut self, flag: Flag) {
        self.0 |= 1 << flag as u8;
    }

    /// Removes `flag`.
    pub fn remove(&mut self, flag: Flag) {
        self.0 &= !(1 << flag as u8);
    }

    /// Returns `true` if `flag` is in the set.
    pub fn contains(self, flag: Flag) -> bool {
        self.0 & (1 << flag as u8) != 0
    }

    /// Returns `true` if the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the flags in the set, in a fixed order.
    pub fn iter(self) -> impl Iterator<Item = Flag> {
        Flag::ALL
            .into_iter()
            .filter(move |flag| self.contains(*flag))
    }
}

impl fmt::Display for Flags {
    /// Writes the names with commas between them; nothing for the empty set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, flag) in self.iter().enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            f.write_str(flag.name())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<Flag> for Flags {
    fn from_iter<I: IntoIterator<Item = Flag>>(flags: I) -> Self {
        let mut set = Flags::none();
        flags.into_iter().for_each(|flag| set.insert(flag));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_written_in_a_fixed_order() {
        let flags: Flags = [Flag::Truncated, Flag::Ambiguous].into_iter().collect();
        assert_eq!(flags.to_string(), "ambiguous,truncated");
        assert!(flags.contains(Flag::Truncated) && !flags.contains(Flag::Capped));
        assert_eq!(Flags::none().to_string(), "");
    }
}

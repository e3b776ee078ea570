//! Names that were meant by what somebody typed.

/// Returns the name most like `word`, if one is clearly alike (Jaro similarity above 0.8).
///
/// `min_age` finds `min-age`; `zzzz` finds nothing.
pub(crate) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    names
        .into_iter()
        .map(|name| (strsim::jaro(word, name), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}

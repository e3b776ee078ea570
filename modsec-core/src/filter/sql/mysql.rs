//! Comparing texts in MySQL and MariaDB: as bytes.

use super::super::pattern::Pattern;
use super::{Column, Sql, one_of};

/// A collation in which two texts that differ in case only are the same. It takes more for the same: that
/// is for the exact condition to see.
const ANY_CASE: &str = "utf8mb4_general_ci";

/// Writes that the column is one of these texts. Where there may be an index, a condition on
/// the bare column stands first; the one on bytes decides.
pub(super) fn is_one_of(column: &Column<'_>, texts: &[&str]) -> Sql {
    let served = texts.iter().map(|text| value(column, text)).collect();
    let exact = texts.iter().map(|text| bytes_of_value(text)).collect();
    let exact = one_of(&bytes(column), exact);
    let is_served = texts.iter().all(|text| is_served(column, text));
    let served = is_served.then(|| one_of(column.name, served));
    Sql::joined(served.into_iter().chain([exact]).collect(), " and ")
}

/// Writes that the column fits a pattern that has a star, by `like`: a star is `%`, and `!`
/// escapes `%`, `_` and itself. An index serves only a pattern that begins with a text.
pub(super) fn is_like(column: &Column<'_>, pattern: &Pattern) -> Sql {
    let escaped = pattern.parts().iter().map(|part| {
        let mut out = String::with_capacity(part.len());
        for char in part.chars() {
            if matches!(char, '%' | '_' | '!') {
                out.push('!');
            }
            out.push(char);
        }
        out
    });
    let text = escaped.collect::<Vec<_>>().join("%");
    let like = |expression: &str, value: &Sql| {
        Sql::format(&format!("{expression} like {{}} escape '!'"), &[value])
    };
    let begins = pattern
        .parts()
        .first()
        .is_some_and(|first| !first.is_empty());
    let is_served = begins && is_served(column, &text);
    let served = is_served.then(|| like(column.name, &value(column, &text)));
    let exact = like(&bytes(column), &bytes_of_value(&text));
    Sql::joined(served.into_iter().chain([exact]).collect(), " and ")
}

/// Returns `true` if a condition on the bare column, which an index serves, can stand before the exact
/// one. The column of an old table may have a character set that lacks the text's characters, and the
/// server then refuses to compare them unless a collation is named.
fn is_served(column: &Column<'_>, text: &str) -> bool {
    column.is_indexed && (column.is_any_case || text.is_ascii())
}

/// Writes that a list with commas in a column has an item. Its place takes the item between commas.
pub(super) fn has_item(column: &str) -> String {
    format!(
        "locate(cast({{}} as binary), cast(concat(',', convert({column} using utf8mb4), ',') as binary)) > 0"
    )
}

/// Writes the bytes of the column's text, in lower case if case is of no account.
fn bytes(column: &Column<'_>) -> String {
    let bytes = format!("cast(convert({} using utf8mb4) as binary)", column.name);
    if column.is_any_case {
        // No byte but A to Z has a lower case in this character set.
        format!("lower(convert({bytes} using tis620))")
    } else {
        bytes
    }
}

/// Writes a value that the column itself is compared with.
fn value(column: &Column<'_>, text: &str) -> Sql {
    let value = Sql::text(text);
    if column.is_any_case {
        Sql::format(
            &format!("convert({{}} using utf8mb4) collate {ANY_CASE}"),
            &[&value],
        )
    } else {
        value
    }
}

/// Writes a value's bytes, which no collation applies to.
fn bytes_of_value(text: &str) -> Sql {
    Sql::format("cast({} as binary)", &[&Sql::text(text)])
}

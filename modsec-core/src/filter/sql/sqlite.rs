//! Comparing texts in SQLite.
//!
//! Patterns are compared on blobs, as `substr` and `instr` do not stop at NUL there:
//!
//! ```text
//! ab*cd*ef     substr(b, 1, 2) = 'ab'  and  substr(b, -2) = 'ef'  and  instr(middle, 'cd') > 0
//!              where middle is b without its first and its last two bytes
//! ```

use super::super::pattern::Pattern;
use super::{Column, Param, Sql, behind, one_of};

/// Writes that the column is one of these texts, which are in lower case if case is of no
/// account. Where there may be an index, a condition stands first that it serves: the collation
/// `nocase` stops at NUL, so it may take more for equal, and the exact condition decides.
pub(super) fn is_one_of(column: &Column<'_>, texts: &[&str]) -> Sql {
    let name = column.name;
    let values = || texts.iter().map(|text| Sql::text(*text)).collect();
    if !column.is_any_case {
        return one_of(name, values());
    }
    let exact = one_of(&format!("lower({name})"), values());
    if !column.is_indexed {
        return exact;
    }
    let served = one_of(&format!("{name} collate nocase"), values());
    Sql::joined(vec![served, exact], " and ")
}

/// Writes that the column fits a pattern that has a star and more than stars.
pub(super) fn is_like(column: &Column<'_>, pattern: &Pattern) -> Sql {
    let Some((first, middle, last)) = pattern.split() else {
        return Sql::new("(1 = 0)");
    };
    let mut pieces: Vec<Sql> = beginning(column, first).into_iter().collect();
    let is_exact_range = !column.is_any_case && middle.is_empty() && last.is_empty();
    if is_exact_range && !pieces.is_empty() {
        return Sql::joined(pieces, " and ");
    }
    let bytes = Sql::new(if column.is_any_case {
        format!("cast(lower({}) as blob)", column.name)
    } else {
        format!("cast({} as blob)", column.name)
    });
    if !first.is_empty() {
        let len = Sql::number(first.len());
        pieces.push(Sql::format(
            "substr({}, 1, {}) = {}",
            &[&bytes, &len, &blob(first)],
        ));
    }
    if !last.is_empty() {
        let len = Sql::number(last.len());
        pieces.push(Sql::format(
            "substr({}, -{}) = {}",
            &[&bytes, &len, &blob(last)],
        ));
    }
    let ends = first.len() + last.len();
    match middle {
        [] if first.is_empty() || last.is_empty() => {}
        [] => pieces.push(Sql::format(
            "length({}) >= {}",
            &[&bytes, &Sql::number(ends)],
        )),
        middle => {
            let rest = if ends == 0 {
                bytes
            } else {
                let (start, ends) = (Sql::number(first.len() + 1), Sql::number(ends));
                let form = "substr({}, {}, max(length({}) - {}, 0))";
                Sql::format(form, &[&bytes, &start, &bytes, &ends])
            };
            pieces.push(in_order(rest, middle));
        }
    }
    Sql::joined(pieces, " and ")
}

/// Writes that all parts stand in `text`, one behind the other. Doubles in length with each part, of
/// which there are few.
fn in_order(mut text: Sql, parts: &[String]) -> Sql {
    let mut condition = Sql::new("1");
    for part in parts {
        let (len, part) = (Sql::number(part.len()), blob(part));
        condition = Sql::format("instr({}, {}) > 0", &[&text, &part]);
        // Null, if it is not there.
        let form = "substr({}, nullif(instr({}, {}), 0) + {})";
        text = Sql::format(form, &[&text, &text, &part, &len]);
    }
    condition
}

/// Writes, as an index serves it, that the column begins with a text: as a range up to the
/// first text that no longer does. `None` if there is no such range, or no index in any case.
fn beginning(column: &Column<'_>, text: &str) -> Option<Sql> {
    let name = column.name;
    let collate = if column.is_any_case {
        " collate nocase"
    } else {
        ""
    };
    // The collation stops at NUL.
    let is_served = !column.is_any_case || (column.is_indexed && !text.contains('\0'));
    if text.is_empty() || !is_served {
        return None;
    }
    let end = Sql::text(behind(text)?);
    let form = format!("({name} >= {{}}{collate} and {name} < {{}}{collate})");
    Some(Sql::format(&form, &[&Sql::text(text), &end]))
}

/// Writes that a list with commas in a column has an item. Its place takes the item between commas.
pub(super) fn has_item(column: &str) -> String {
    format!("instr(',' || {column} || ',', {{}}) > 0")
}

/// Returns a text's bytes as a value, to be compared with a blob.
fn blob(text: &str) -> Sql {
    Sql::param(Param::Blob(text.as_bytes().to_vec()))
}

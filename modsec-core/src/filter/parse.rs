//! From text to tree.

use chrono::{DateTime, Utc};

use super::error::FilterError;
use super::field::{FIELDS, Field, Kind, TEXT_COLUMNS, meant, named};
use super::lexer::{Ends, Lexer, Word};
use super::tree::{Node, Value};
use super::value::{self, Operator};
use super::{MAX_DEPTH, MAX_STARS, MAX_VALUES};
use crate::cause::Outcome;

/// Words that join terms.
const KEYWORDS: [&str; 3] = ["AND", "OR", "NOT"];

/// Operators that compare, the longer ones first.
const OPERATORS: [(&str, Operator); 4] = [
    (">=", Operator::AtLeast),
    ("<=", Operator::AtMost),
    (">", Operator::Above),
    ("<", Operator::Below),
];

/// Reads a whole filter. An empty one, or one of spaces, is true for every transaction.
///
/// Time and memory grow with the length of the text, which [`Lexer::new`] bounds.
pub(super) fn parse(text: &str, now: DateTime<Utc>) -> Result<Node, FilterError> {
    let mut parser = Parser {
        lexer: Lexer::new(text)?,
        now,
        depth: 0,
        values: 0,
    };
    if parser.lexer.skip_spaces().is_none() {
        return Ok(Node::default());
    }
    let node = parser.any()?;
    match parser.lexer.skip_spaces() {
        None => Ok(node),
        Some(_) => Err(parser.lexer.error_here(1, "nothing opens this parenthesis")),
    }
}

/// A recursive descent, no deeper than [`MAX_DEPTH`].
struct Parser<'t> {
    /// What is left of the text.
    lexer: Lexer<'t>,
    /// The time from which spans such as `since:2h` are counted back.
    now: DateTime<Utc>,
    /// Parentheses that are open.
    depth: usize,
    /// Values so far.
    values: usize,
}

impl Parser<'_> {
    /// Reads terms joined by `OR`, which binds less than `AND`.
    fn any(&mut self) -> Result<Node, FilterError> {
        let mut nodes = vec![self.all()?];
        while self.keyword()? == Some("OR") {
            self.lexer.take("OR");
            nodes.push(self.all()?);
        }
        Ok(Node::any(nodes))
    }

    /// Reads terms joined by `AND`, or by nothing.
    fn all(&mut self) -> Result<Node, FilterError> {
        let mut nodes = vec![self.negation()?];
        loop {
            match self.keyword()? {
                Some("AND") => {
                    self.lexer.take("AND");
                }
                Some("OR") => break,
                _ if matches!(self.lexer.skip_spaces(), None | Some(')')) => break,
                _ => {}
            }
            nodes.push(self.negation()?);
        }
        Ok(Node::all(nodes))
    }

    /// Reads a term, negated or not. `NOT` and `-` mean the same, and two of them cancel each
    /// other.
    fn negation(&mut self) -> Result<Node, FilterError> {
        let mut is_negated = false;
        loop {
            self.lexer.skip_spaces();
            let is_word = self.keyword()? == Some("NOT") && self.lexer.take("NOT");
            if !is_word && !self.lexer.take("-") {
                break;
            }
            is_negated = !is_negated;
        }
        let node = self.term()?;
        Ok(if is_negated { node.negated() } else { node })
    }

    /// Reads what stands between the words that join.
    fn term(&mut self) -> Result<Node, FilterError> {
        if let Some(keyword) = self.keyword()? {
            let message = format!("expected a term before {keyword}");
            return Err(self.lexer.error_here(keyword.len(), message));
        }
        match self.lexer.skip_spaces() {
            Some('(') => return self.parentheses(),
            None | Some(')') => {
                let message = "expected a test such as host:shop.example.org, or a text";
                return Err(self.lexer.error_here(0, message));
            }
            _ => {}
        }
        let name = self.lexer.peek_name();
        let behind = self.lexer.rest().get(name.len()..).unwrap_or_default();
        if !name.is_empty() && behind.starts_with([':', '=', '<', '>']) {
            return self.test(name);
        }
        if !name.is_empty() && behind.starts_with("!=") {
            let message = format!("unknown operator !=: expected -{name}:VALUE");
            return Err(self.lexer.error_here(name.len() + 2, message));
        }
        self.text()
    }

    /// Reads a filter in parentheses. An error is a level beyond [`MAX_DEPTH`], or no closing
    /// parenthesis.
    fn parentheses(&mut self) -> Result<Node, FilterError> {
        let open = self.lexer.at();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let message = format!("more than {MAX_DEPTH} parentheses within each other");
            return Err(self.lexer.error_here(1, message));
        }
        self.lexer.take("(");
        let node = self.any()?;
        self.lexer.skip_spaces();
        if !self.lexer.take(")") {
            let message = "expected a closing parenthesis: this one is never closed";
            return Err(self.lexer.error(open..open + 1, message));
        }
        self.depth -= 1;
        Ok(node)
    }

    /// Returns the keyword that is next behind spaces, without taking it.
    ///
    /// # Errors
    ///
    /// One that is not in capitals: what was meant is not clear.
    fn keyword(&mut self) -> Result<Option<&'static str>, FilterError> {
        self.lexer.skip_spaces();
        let name = self.lexer.peek_name();
        let behind = self.lexer.rest().get(name.len()..).unwrap_or_default();
        let ends = |char: char| char.is_whitespace() || matches!(char, '(' | ')');
        let keyword = KEYWORDS
            .into_iter()
            .find(|keyword| keyword.eq_ignore_ascii_case(name));
        match keyword {
            Some(keyword) if behind.is_empty() || behind.starts_with(ends) => {
                if keyword == name {
                    return Ok(Some(keyword));
                }
                let message =
                    format!("expected {keyword} in capitals, or \"{name}\" in quotes for the text");
                Err(self.lexer.error_here(name.len(), message))
            }
            _ => Ok(None),
        }
    }

    /// Reads a name, an operator, and one value or a list of them, of which one must fit.
    ///
    /// `blocked:yes` and `blocked:no` become tests of the outcome, so that a filter is written
    /// down in one way only.
    fn test(&mut self, name: &str) -> Result<Node, FilterError> {
        let Some(field) = named(name) else {
            return Err(self.lexer.error_here(name.len(), unknown(name)));
        };
        self.lexer.take(name);
        // `=` is another way to write `:`, and `:` may stand before the others.
        let operator = if self.lexer.take("=") {
            Operator::Is
        } else {
            self.lexer.take(":");
            self.comparison()
        };
        let values = if self.lexer.peek() == Some('(') {
            self.list(field, operator)?
        } else {
            vec![self.value(field, operator, Ends::Space)?]
        };
        let test = |values| Node::Test {
            field: value::compared(field),
            values,
        };
        if field.kind != Kind::Blocked {
            return Ok(test(values));
        }
        let blocked = || test(vec![Value::Name(Outcome::Blocked.name())]);
        let nodes = values.into_iter().map(|value| match value {
            Value::Name(value::NO) => blocked().negated(),
            _ => blocked(),
        });
        Ok(Node::any(nodes.collect()))
    }

    /// Reads values in parentheses, each with an operator of its own if there is none before them.
    fn list(
        &mut self,
        field: &'static Field,
        operator: Operator,
    ) -> Result<Vec<Value>, FilterError> {
        let open = self.lexer.at();
        self.lexer.take("(");
        let mut values = Vec::new();
        loop {
            self.lexer.skip_spaces();
            let own = match operator {
                Operator::Is => self.comparison(),
                operator => operator,
            };
            values.push(self.value(field, own, Ends::Comma)?);
            self.lexer.skip_spaces();
            if self.lexer.take(")") {
                return Ok(values);
            }
            if !self.lexer.take(",") {
                let (place, message) = match self.lexer.peek() {
                    None => (
                        open,
                        "expected a closing parenthesis: this list is never closed",
                    ),
                    Some(_) => (self.lexer.at(), "expected a comma or a closing parenthesis"),
                };
                return Err(self.lexer.error(place..place + 1, message));
            }
        }
    }

    /// Takes the operator that is next, if it is one that compares.
    fn comparison(&mut self) -> Operator {
        let operator = OPERATORS
            .into_iter()
            .find(|(text, _)| self.lexer.take(text));
        operator.map_or(Operator::Is, |(_, operator)| operator)
    }

    /// Reads one value up to what `ends` says. It must stand right behind the operator.
    fn value(
        &mut self,
        field: &'static Field,
        operator: Operator,
        ends: Ends,
    ) -> Result<Value, FilterError> {
        let word = self.lexer.word(ends)?;
        if word.place.is_empty() {
            let message = format!(
                "expected {} right behind {}",
                value::expected(field.kind),
                field.name
            );
            return Err(self.lexer.error(word.place, message));
        }
        self.count(&word)?;
        let place = word.place.clone();
        value::read(field, operator, word, self.now)
            .map_err(|message| self.lexer.error(place, message))
    }

    /// Counts a value; an error if it is one more than [`MAX_VALUES`].
    fn count(&mut self, word: &Word) -> Result<(), FilterError> {
        self.values += 1;
        if self.values > MAX_VALUES {
            let message = format!("more than {MAX_VALUES} values");
            return Err(self.lexer.error(word.place.clone(), message));
        }
        Ok(())
    }

    /// Reads a text without a name: it is looked for anywhere in [`TEXT_COLUMNS`], in any case.
    fn text(&mut self) -> Result<Node, FilterError> {
        let word = self.lexer.word(Ends::Space)?;
        self.count(&word)?;
        let place = word.place.clone();
        let pattern = word.into_pattern().anywhere().to_lower_case();
        if pattern.parts().iter().all(String::is_empty) {
            let columns = TEXT_COLUMNS.join(", ");
            let message = format!("expected a text to look for in {columns}");
            return Err(self.lexer.error(place, message));
        }
        if pattern.stars() > MAX_STARS {
            let message = format!("more than {} * within a text", MAX_STARS - 2);
            return Err(self.lexer.error(place, message));
        }
        Ok(Node::Text(pattern))
    }
}

/// Returns the message for a name that does not exist: the one that was probably meant, or all
/// names.
fn unknown(name: &str) -> String {
    if let Some(meant) = meant(name) {
        return format!("unknown name {name:?}: did you mean {meant}?");
    }
    let names: Vec<_> = FIELDS.iter().map(|field| field.name).collect();
    format!(
        "unknown name {name:?}: the names are {}; for a text with this sign in it, write quotes around it",
        names.join(", ")
    )
}

//! A filter as a tree.
//!
//! Each filter has one tree: what stands in it is what counts, not how it was written. `AND` within `AND`
//! is one, two negations are none, spans are times, and numbers and times are ranges.

use ipnet::IpNet;

use super::field::Field;
use super::pattern::Pattern;

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// True if all are; of none, always. None of them is an `All`.
    All(Vec<Node>),
    /// True if one is. At least two, none of which is an `Any`.
    Any(Vec<Node>),
    /// True if the other is not. The other is no `Not`.
    Not(Box<Node>),
    /// True if one of the values fits the field.
    Test {
        /// What is compared.
        field: &'static Field,
        /// With what; at least one.
        values: Vec<Value>,
    },
    /// True if the text is somewhere in one of [`TEXT_COLUMNS`](super::field::TEXT_COLUMNS). Begins and
    /// ends with a star.
    Text(Pattern),
}

/// What a field is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// An address is in the network.
    Network(IpNet),
    /// A text fits the pattern.
    Pattern(Pattern),
    /// A number, or the number of a severity, or a whole second since 1970, lies within.
    Range(Range),
    /// A column has, or contains, this name.
    Name(&'static str),
    /// Bytes begin with these digits, which are hexadecimal and in lower case: 1 to 32.
    Digits(String),
}

/// Whole numbers between two, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Range {
    /// The least; `None` for no limit.
    pub(super) least: Option<i64>,
    /// The greatest; `None` for no limit.
    pub(super) most: Option<i64>,
}

impl Default for Node {
    /// Returns the condition that is always true.
    fn default() -> Self {
        Node::All(Vec::new())
    }
}

impl Node {
    /// Returns the condition that all of these are true.
    pub(super) fn all(nodes: Vec<Node>) -> Node {
        let within = |node| match node {
            Node::All(inner) => inner,
            node => vec![node],
        };
        Node::joined(nodes, within, Node::All)
    }

    /// Returns the condition that one of these, at least one in number, is true.
    pub(super) fn any(nodes: Vec<Node>) -> Node {
        let within = |node| match node {
            Node::Any(inner) => inner,
            node => vec![node],
        };
        Node::joined(nodes, within, Node::Any)
    }

    /// Joins conditions by a word, those within them that the same word joins as well. One alone needs no
    /// word.
    fn joined(
        nodes: Vec<Node>,
        within: impl Fn(Node) -> Vec<Node>,
        by: impl Fn(Vec<Node>) -> Node,
    ) -> Node {
        let mut nodes: Vec<Node> = nodes.into_iter().flat_map(within).collect();
        match nodes.pop() {
            Some(only) if nodes.is_empty() => only,
            last => {
                nodes.extend(last);
                by(nodes)
            }
        }
    }

    /// Returns the condition that this one is not true.
    pub(super) fn negated(self) -> Node {
        match self {
            Node::Not(inner) => *inner,
            node => Node::Not(Box::new(node)),
        }
    }
}

impl Range {
    /// Returns the range of one number.
    pub(super) fn one(number: i64) -> Range {
        Range::of(number, number)
    }

    /// Returns the range from `least` to `most`, both included.
    pub(super) fn of(least: i64, most: i64) -> Range {
        Range {
            least: Some(least),
            most: Some(most),
        }
    }

    /// Returns `true` if `number` lies within. An end that is `None` has no limit.
    pub(super) fn contains(self, number: i64) -> bool {
        self.least.is_none_or(|least| least <= number)
            && self.most.is_none_or(|most| number <= most)
    }
}

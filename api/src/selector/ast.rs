//! The syntax tree and its canonical text.

use std::collections::BTreeSet;
use std::fmt;

/// A node of the syntax tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// `all()`.
    All,
    /// `global()`: what is in no namespace.
    Global,
    /// `has(label)`.
    Has(String),
    /// `label == "value"`.
    Equal(String, String),
    /// `label != "value"`; also without the label.
    NotEqual(String, String),
    /// `label contains "value"`.
    Contains(String, String),
    /// `label starts with "value"`.
    StartsWith(String, String),
    /// `label ends with "value"`.
    EndsWith(String, String),
    /// `label in {"value", …}`.
    In(String, BTreeSet<String>),
    /// `label not in {"value", …}`; also without the label.
    NotIn(String, BTreeSet<String>),
    /// `!operand`.
    Not(Box<Self>),
    /// `(operand && …)`; at least two.
    And(Vec<Self>),
    /// `(operand || …)`; at least two.
    Or(Vec<Self>),
}

impl Node {
    /// The tree with `rename` applied to every label.
    #[must_use]
    pub fn map_labels(self, rename: &impl Fn(String) -> String) -> Self {
        match self {
            Self::All => Self::All,
            Self::Global => Self::Global,
            Self::Has(label) => Self::Has(rename(label)),
            Self::Equal(label, value) => Self::Equal(rename(label), value),
            Self::NotEqual(label, value) => Self::NotEqual(rename(label), value),
            Self::Contains(label, value) => Self::Contains(rename(label), value),
            Self::StartsWith(label, value) => Self::StartsWith(rename(label), value),
            Self::EndsWith(label, value) => Self::EndsWith(rename(label), value),
            Self::In(label, values) => Self::In(rename(label), values),
            Self::NotIn(label, values) => Self::NotIn(rename(label), values),
            Self::Not(operand) => Self::Not(Box::new(operand.map_labels(rename))),
            Self::And(operands) => Self::And(
                operands
                    .into_iter()
                    .map(|operand| operand.map_labels(rename))
                    .collect(),
            ),
            Self::Or(operands) => Self::Or(
                operands
                    .into_iter()
                    .map(|operand| operand.map_labels(rename))
                    .collect(),
            ),
        }
    }

    /// The tree with every leaf replaced by what `replace` makes of it; `None` keeps the leaf.
    #[must_use]
    pub fn map_leaves(self, replace: &impl Fn(&Self) -> Option<Self>) -> Self {
        match self {
            Self::Not(operand) => Self::Not(Box::new(operand.map_leaves(replace))),
            Self::And(operands) => Self::And(
                operands
                    .into_iter()
                    .map(|operand| operand.map_leaves(replace))
                    .collect(),
            ),
            Self::Or(operands) => Self::Or(
                operands
                    .into_iter()
                    .map(|operand| operand.map_leaves(replace))
                    .collect(),
            ),
            leaf => replace(&leaf).unwrap_or(leaf),
        }
    }
}

/// A value in quotes: double ones, unless the value has one itself. The language has no escapes.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains('"') { '\'' } else { '"' };
        write!(f, "{quote}{}{quote}", self.0)
    }
}

fn write_set(f: &mut fmt::Formatter<'_>, label: &str, operator: &str, set: &BTreeSet<String>) -> fmt::Result {
    write!(f, "{label} {operator} {{")?;
    for (index, value) in set.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        write!(f, "{separator}{}", Quoted(value))?;
    }
    f.write_str("}")
}

fn write_list(f: &mut fmt::Formatter<'_>, operator: &str, operands: &[Node]) -> fmt::Result {
    f.write_str("(")?;
    for (index, operand) in operands.iter().enumerate() {
        if index > 0 {
            write!(f, " {operator} ")?;
        }
        write!(f, "{operand}")?;
    }
    f.write_str(")")
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all()"),
            Self::Global => f.write_str("global()"),
            Self::Has(label) => write!(f, "has({label})"),
            Self::Equal(label, value) => write!(f, "{label} == {}", Quoted(value)),
            Self::NotEqual(label, value) => write!(f, "{label} != {}", Quoted(value)),
            Self::Contains(label, value) => write!(f, "{label} contains {}", Quoted(value)),
            Self::StartsWith(label, value) => write!(f, "{label} starts with {}", Quoted(value)),
            Self::EndsWith(label, value) => write!(f, "{label} ends with {}", Quoted(value)),
            Self::In(label, set) => write_set(f, label, "in", set),
            Self::NotIn(label, set) => write_set(f, label, "not in", set),
            Self::Not(operand) => write!(f, "!{operand}"),
            Self::And(operands) => write_list(f, "&&", operands),
            Self::Or(operands) => write_list(f, "||", operands),
        }
    }
}

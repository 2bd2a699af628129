//! The selector language: which labelled things a policy, pool or peer means.
//!
//! `a == "b" && (has(c) || !d in {"e", "f"})`. The canonical text identifies a selector: two selectors with the same
//! text match the same things, and the ids of IP sets are hashes of it. Grammar and canonical form are those of
//! Calico (`libcalico-go/lib/selector`).

mod ast;
mod eval;
mod lexer;
mod parser;

use std::fmt;
use std::str::FromStr;

pub use ast::Node;
pub use eval::Labels;
pub use parser::ParseError;

use crate::names;

/// A parsed selector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    canonical: String,
    root: Node,
}

impl Selector {
    /// Reads a selector; the empty text means `all()`.
    ///
    /// # Errors
    /// When the text is no selector: what was expected, and at which column.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parser::parse(text).map(Self::from_node)
    }

    /// The selector of a syntax tree.
    #[must_use]
    pub fn from_node(root: Node) -> Self {
        Self {
            canonical: root.to_string(),
            root,
        }
    }

    /// True when things with these labels are selected.
    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        self.root.matches(labels)
    }

    /// The canonical text.
    #[must_use]
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// Id of the selector, also that of its IP set: `s:` and a hash of the canonical text.
    #[must_use]
    pub fn unique_id(&self) -> String {
        names::selector_ip_set_id(&self.canonical)
    }

    /// The syntax tree.
    #[must_use]
    pub const fn root(&self) -> &Node {
        &self.root
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical)
    }
}

impl FromStr for Selector {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests;

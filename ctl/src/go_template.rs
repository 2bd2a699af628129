//! Templates in the language of Go's `text/template`, as `-o go-template=` takes them. Pure.
//!
//! All actions and comparison functions are there: text and trim markers, comments, pipelines, variables, `if`, `with`,
//! `range`, `else`, `break`, `continue`, `define`, `template`, `block`, and calicoctl's `join`, `joinAndTruncate` and
//! `config`. Fields are found by their JSON name or by the name that Calico's Go types give them (`.ObjectMeta.Name`,
//! `.Spec.CIDR`), in any case. Known limits: no methods and no `call`; an absent number prints `<nil>` where Go would
//! print 0 for fields that are no pointers; values are not escaped for YAML, and nothing is refused for its content.

mod exec;
pub(crate) mod format;
mod functions;
mod item;
mod lexer;
mod parser;

use std::collections::BTreeMap;

use serde_json::Value;

pub(crate) use lexer::unescaped;

/// Nested blocks, calls and parentheses that a template may have.
const DEPTH_MAX: usize = 100;
/// Longest text that a template may make, in bytes.
const OUTPUT_LEN_MAX: usize = 256 * 1024 * 1024;

/// What is wrong with a template, or with its use on the data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("template: line {line}: {problem}")]
pub(crate) struct TemplateError {
    /// Line of the template, from 1.
    pub(crate) line: usize,
    /// What is wrong.
    pub(crate) problem: String,
}

/// A template that was read.
#[derive(Debug)]
pub(crate) struct Template {
    blocks: parser::Blocks,
}

impl Template {
    /// Reads a template.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        Ok(Self {
            blocks: parser::parse(text)?,
        })
    }

    /// The text that the template makes of data. `configuration` is what the function `config` knows.
    pub(crate) fn render(
        &self,
        data: &Value,
        configuration: &BTreeMap<String, String>,
    ) -> Result<String, TemplateError> {
        exec::render(&self.blocks, data, configuration)
    }
}

#[cfg(test)]
mod tests;

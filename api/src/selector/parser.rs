//! Words to a syntax tree: a recursive descent with one function for each level of the grammar.

use std::collections::BTreeSet;

use super::ast::Node;
use super::lexer::{LABEL_LENGTH_MAX, Lexer, Literal};

/// Deepest nesting of parentheses; deeper text is refused rather than exhausting the stack.
const DEPTH_MAX: usize = 600;

/// Why a text is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at column {column}")]
pub struct ParseError {
    reason: String,
    column: usize,
}

impl ParseError {
    /// Column of the text, counted in characters from 1.
    #[must_use]
    pub const fn column(&self) -> usize {
        self.column
    }

    /// What is wrong there.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

pub(super) fn parse(text: &str) -> Result<Node, ParseError> {
    let mut parser = Parser {
        lexer: Lexer::new(text),
        depth: 0,
    };
    if parser.lexer.at_end() {
        return Ok(Node::All);
    }
    let node = parser.or()?;
    if !parser.lexer.at_end() {
        return parser.fail("unexpected content at end of selector");
    }
    Ok(node)
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    depth: usize,
}

impl Parser<'_> {
    fn fail<T>(&mut self, reason: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError {
            reason: reason.into(),
            column: self.lexer.column(),
        })
    }

    fn or(&mut self) -> Result<Node, ParseError> {
        let mut operands = vec![self.and()?];
        while self.lexer.take("||") {
            operands.push(self.and()?);
        }
        Ok(single_or(operands, Node::Or))
    }

    fn and(&mut self) -> Result<Node, ParseError> {
        let mut operands = vec![self.operation()?];
        while self.lexer.take("&&") {
            operands.push(self.operation()?);
        }
        Ok(single_or(operands, Node::And))
    }

    fn operation(&mut self) -> Result<Node, ParseError> {
        let mut negated = false;
        while self.lexer.take("!") {
            negated = !negated;
        }
        let node = self.operand()?;
        Ok(if negated { Node::Not(Box::new(node)) } else { node })
    }

    fn operand(&mut self) -> Result<Node, ParseError> {
        if self.lexer.take("(") {
            return self.parenthesised();
        }
        if self.lexer.take_function("all") {
            return self.closed(Node::All, "no closing ')' after all(");
        }
        if self.lexer.take_function("global") {
            return self.closed(Node::Global, "no closing ')' after global(");
        }
        if self.lexer.take_function("has") {
            let label = self.label("expected a label after has(")?;
            return self.closed(Node::Has(label), "no closing ')' after has(");
        }
        let label = self.label("expected a label, has(, all(), global(), ! or (")?;
        self.relation(label)
    }

    fn parenthesised(&mut self) -> Result<Node, ParseError> {
        if self.depth == DEPTH_MAX {
            return self.fail(format!("parentheses nested deeper than {DEPTH_MAX}"));
        }
        self.depth += 1;
        let node = self.or()?;
        self.depth -= 1;
        self.closed(node, "expected )")
    }

    fn closed(&mut self, node: Node, reason: &str) -> Result<Node, ParseError> {
        if self.lexer.take(")") {
            Ok(node)
        } else {
            self.fail(reason)
        }
    }

    fn label(&mut self, reason: &str) -> Result<String, ParseError> {
        match self.lexer.take_label() {
            Some(label) if label.len() > LABEL_LENGTH_MAX => self.fail(format!(
                "label too long: {} characters, at most {LABEL_LENGTH_MAX}",
                label.len()
            )),
            Some(label) => Ok(label.to_owned()),
            None => self.fail(reason),
        }
    }

    fn relation(&mut self, label: String) -> Result<Node, ParseError> {
        if self.lexer.take("==") {
            return Ok(Node::Equal(label, self.string()?));
        }
        if self.lexer.take("!=") {
            return Ok(Node::NotEqual(label, self.string()?));
        }
        if self.lexer.take_words("contains", None) {
            return Ok(Node::Contains(label, self.string()?));
        }
        if self.lexer.take_words("starts", Some("with")) {
            return Ok(Node::StartsWith(label, self.string()?));
        }
        if self.lexer.take_words("ends", Some("with")) {
            return Ok(Node::EndsWith(label, self.string()?));
        }
        if self.lexer.take_words("not", Some("in")) {
            return Ok(Node::NotIn(label, self.set()?));
        }
        if self.lexer.take_words("in", None) {
            return Ok(Node::In(label, self.set()?));
        }
        if self.lexer.is_next("=") {
            return self.fail("expected ==");
        }
        self.fail(format!("expected operator after label {label:?}"))
    }

    fn string(&mut self) -> Result<String, ParseError> {
        match self.lexer.take_literal() {
            Literal::Value(value) => Ok(value.to_owned()),
            Literal::Unterminated => self.fail("unterminated string"),
            Literal::Absent => self.fail("expected string"),
        }
    }

    /// A set: strings between braces, separated by commas; one comma may follow the last string.
    fn set(&mut self) -> Result<BTreeSet<String>, ParseError> {
        if !self.lexer.take("{") {
            return self.fail("expected set literal");
        }
        let mut values = BTreeSet::new();
        loop {
            match self.lexer.take_literal() {
                Literal::Value(value) => values.insert(value.to_owned()),
                Literal::Unterminated => return self.fail("unterminated string"),
                Literal::Absent => break,
            };
            if !self.lexer.take(",") {
                break;
            }
        }
        if self.lexer.take("}") {
            Ok(values)
        } else {
            self.fail("expected }")
        }
    }
}

fn single_or(mut operands: Vec<Node>, list: impl FnOnce(Vec<Node>) -> Node) -> Node {
    match operands.pop() {
        Some(single) if operands.is_empty() => single,
        Some(last) => {
            operands.push(last);
            list(operands)
        }
        None => Node::All,
    }
}

//! From tokens to a tree of nodes.

use std::collections::BTreeMap;

use serde_json::{Number, Value};

use super::lexer::{Placed, Token, tokens};
use super::{DEPTH_MAX, TemplateError};

/// Named lists of nodes; the template itself has the empty name.
pub(super) type Blocks = BTreeMap<String, Vec<Node>>;

/// A part of a template.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// Text as it is.
    Text(String),
    /// A pipeline whose value is printed, unless it sets a variable.
    Action(Pipeline),
    /// A choice by the truth of a pipeline.
    If(Branch),
    /// The same, with the value as dot.
    With(Branch),
    /// Once for each element.
    Range(Branch),
    /// Another block, with a value as dot.
    Template {
        line: usize,
        name: String,
        argument: Option<Pipeline>,
    },
    /// The end of a range.
    Break,
    /// The next element of a range.
    Continue,
}

/// A pipeline with what is done for it and otherwise.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    pub(super) pipeline: Pipeline,
    pub(super) then: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

/// Commands, each given the value of the one before.
#[derive(Clone, Debug)]
pub(super) struct Pipeline {
    pub(super) line: usize,
    /// Variables that take the value.
    pub(super) variables: Vec<String>,
    /// They are new.
    pub(super) declares: bool,
    pub(super) commands: Vec<Vec<Operand>>,
}

/// A word of a command.
#[derive(Clone, Debug)]
pub(super) enum Operand {
    /// `.` and a path from it.
    Dot(Vec<String>),
    /// A variable and a path from it.
    Variable(String, Vec<String>),
    /// A function.
    Function(String),
    /// A value.
    Constant(Value),
    /// A pipeline in parentheses and a path from its value.
    Parentheses(Box<Pipeline>, Vec<String>),
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Placed>>,
    line: usize,
    blocks: Blocks,
    depth: usize,
    ranges: usize,
}

/// What ended a list of nodes.
#[derive(Debug, PartialEq)]
enum Ended {
    Text,
    End,
    /// `else`, perhaps with `if` or `with` behind it.
    Else(Option<String>),
}

/// Reads a template.
pub(super) fn parse(text: &str) -> Result<Blocks, TemplateError> {
    let mut parser = Parser {
        tokens: tokens(text)?.into_iter().peekable(),
        line: 1,
        blocks: Blocks::new(),
        depth: 0,
        ranges: 0,
    };
    let (nodes, ended) = parser.nodes()?;
    if ended != Ended::Text {
        return Err(parser.fail("an end or else without a begin"));
    }
    parser.blocks.insert(String::new(), nodes);
    Ok(parser.blocks)
}

impl Parser {
    fn fail(&self, problem: impl Into<String>) -> TemplateError {
        TemplateError {
            line: self.line,
            problem: problem.into(),
        }
    }

    fn next(&mut self) -> Option<Token> {
        let (line, token) = self.tokens.next()?;
        self.line = line;
        Some(token)
    }

    fn peek(&mut self) -> Option<&Token> {
        self.tokens.peek().map(|(_, token)| token)
    }

    fn take(&mut self, wanted: &Token) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.next();
        }
        found
    }

    fn close(&mut self) -> Result<(), TemplateError> {
        match self.next() {
            Some(Token::Close) => Ok(()),
            other => Err(self.fail(format!("{} where the action should end", shown(other.as_ref())))),
        }
    }

    fn nested<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, TemplateError>,
    ) -> Result<T, TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.fail(format!("more than {DEPTH_MAX} levels; write it flatter")));
        }
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn nodes(&mut self) -> Result<(Vec<Node>, Ended), TemplateError> {
        let mut nodes = Vec::new();
        loop {
            match self.next() {
                None => return Ok((nodes, Ended::Text)),
                Some(Token::Text(text)) => nodes.push(Node::Text(text)),
                Some(_) => {
                    if let Some(ended) = self.action(&mut nodes)? {
                        return Ok((nodes, ended));
                    }
                }
            }
        }
    }

    /// Reads what follows the begin of an action.
    fn action(&mut self, nodes: &mut Vec<Node>) -> Result<Option<Ended>, TemplateError> {
        let keyword = match self.peek() {
            Some(Token::Word(word)) => word.clone(),
            _ => String::new(),
        };
        match keyword.as_str() {
            "end" => {
                self.next();
                self.close()?;
                return Ok(Some(Ended::End));
            }
            "else" => {
                self.next();
                let chained = match self.peek() {
                    Some(Token::Word(word)) if word == "if" || word == "with" => Some(word.clone()),
                    _ => None,
                };
                if chained.is_some() {
                    self.next();
                } else {
                    self.close()?;
                }
                return Ok(Some(Ended::Else(chained)));
            }
            "if" | "with" | "range" => {
                self.next();
                let branch = self.nested(|parser| parser.branch(&keyword))?;
                nodes.push(node(&keyword, branch));
            }
            "break" | "continue" => {
                self.next();
                if self.ranges == 0 {
                    return Err(self.fail(format!("{keyword} outside of a range")));
                }
                self.close()?;
                nodes.push(if keyword == "break" {
                    Node::Break
                } else {
                    Node::Continue
                });
            }
            "define" => {
                self.next();
                self.define()?;
            }
            "template" | "block" => {
                self.next();
                nodes.push(self.call(&keyword)?);
            }
            _ => {
                let pipeline = self.pipeline(false)?;
                self.close()?;
                nodes.push(Node::Action(pipeline));
            }
        }
        Ok(None)
    }

    fn branch(&mut self, keyword: &str) -> Result<Branch, TemplateError> {
        let is_range = keyword == "range";
        let pipeline = self.pipeline(is_range)?;
        self.close()?;
        self.ranges += usize::from(is_range);
        let (then, ended) = self.nodes()?;
        self.ranges -= usize::from(is_range);
        let otherwise = match ended {
            Ended::End => Vec::new(),
            Ended::Text => return Err(self.fail(format!("a {keyword} without its end"))),
            Ended::Else(None) => {
                let (otherwise, ended) = self.nodes()?;
                if ended != Ended::End {
                    return Err(self.fail(format!("an else of a {keyword} without its end")));
                }
                otherwise
            }
            Ended::Else(Some(chained)) => {
                let branch = self.nested(|parser| parser.branch(&chained))?;
                vec![node(&chained, branch)]
            }
        };
        Ok(Branch {
            pipeline,
            then,
            otherwise,
        })
    }

    fn name(&mut self, keyword: &str) -> Result<String, TemplateError> {
        match self.next() {
            Some(Token::Quoted(name)) => Ok(name),
            other => Err(self.fail(format!(
                "{} where the name of the {keyword} should be, in quotes",
                shown(other.as_ref())
            ))),
        }
    }

    fn define(&mut self) -> Result<(), TemplateError> {
        let name = self.name("define")?;
        self.close()?;
        self.body("define", name)
    }

    fn body(&mut self, keyword: &str, name: String) -> Result<(), TemplateError> {
        let (nodes, ended) = self.nested(Self::nodes)?;
        if ended != Ended::End {
            return Err(self.fail(format!("a {keyword} without its end")));
        }
        self.blocks.insert(name, nodes);
        Ok(())
    }

    fn call(&mut self, keyword: &str) -> Result<Node, TemplateError> {
        let name = self.name(keyword)?;
        let line = self.line;
        let argument = match self.peek() {
            Some(Token::Close) | None => None,
            Some(_) => Some(self.pipeline(false)?),
        };
        self.close()?;
        if keyword == "block" {
            self.body("block", name.clone())?;
        }
        Ok(Node::Template { line, name, argument })
    }

    fn pipeline(&mut self, is_range: bool) -> Result<Pipeline, TemplateError> {
        self.nested(|parser| parser.pipeline_of(is_range))
    }

    fn pipeline_of(&mut self, is_range: bool) -> Result<Pipeline, TemplateError> {
        let line = self.line;
        let (variables, declares) = self.variables(is_range)?;
        let mut commands = Vec::new();
        loop {
            let command = self.command()?;
            if command.is_empty() {
                let found = self.peek().cloned();
                return Err(self.fail(format!("{} where a value should be", shown(found.as_ref()))));
            }
            commands.push(command);
            if !self.take(&Token::Pipe) {
                break;
            }
        }
        Ok(Pipeline {
            line,
            variables,
            declares,
            commands,
        })
    }

    /// The variables in front of a pipeline, if there are any.
    fn variables(&mut self, is_range: bool) -> Result<(Vec<String>, bool), TemplateError> {
        let mut ahead = self.tokens.clone();
        let mut names = Vec::new();
        while let Some((_, Token::Variable(name))) = ahead.next() {
            names.push(name);
            match ahead.next() {
                Some((_, Token::Comma)) if is_range && names.len() < 2 => {}
                Some((_, token @ (Token::Declare | Token::Assign))) => {
                    self.tokens = ahead;
                    return Ok((names, token == Token::Declare));
                }
                Some((_, Token::Comma)) => return Err(self.fail("too many variables")),
                _ => break,
            }
        }
        Ok((Vec::new(), false))
    }

    fn command(&mut self) -> Result<Vec<Operand>, TemplateError> {
        let mut operands: Vec<Operand> = Vec::new();
        loop {
            let operand = match self.peek() {
                Some(Token::Dot) => Operand::Dot(Vec::new()),
                Some(Token::Field { name, glued }) => {
                    let (name, glued) = (name.clone(), *glued);
                    if glued && let Some(path) = operands.last_mut().and_then(path_of) {
                        path.push(name);
                        self.next();
                        continue;
                    }
                    Operand::Dot(vec![name])
                }
                Some(Token::Variable(name)) => Operand::Variable(name.clone(), Vec::new()),
                Some(Token::Quoted(text)) => Operand::Constant(Value::String(text.clone())),
                Some(Token::Number(number)) => Operand::Constant(Value::Number(Number::clone(number))),
                Some(Token::Word(word)) => match word.as_str() {
                    "true" => Operand::Constant(Value::Bool(true)),
                    "false" => Operand::Constant(Value::Bool(false)),
                    "nil" => Operand::Constant(Value::Null),
                    word => Operand::Function(word.to_owned()),
                },
                Some(Token::Left) => {
                    self.next();
                    let pipeline = self.pipeline(false)?;
                    if self.peek() != Some(&Token::Right) {
                        return Err(self.fail("a parenthesis is not closed"));
                    }
                    Operand::Parentheses(Box::new(pipeline), Vec::new())
                }
                _ => return Ok(operands),
            };
            self.next();
            operands.push(operand);
        }
    }
}

fn node(keyword: &str, branch: Branch) -> Node {
    match keyword {
        "range" => Node::Range(branch),
        "with" => Node::With(branch),
        _ => Node::If(branch),
    }
}

fn path_of(operand: &mut Operand) -> Option<&mut Vec<String>> {
    match operand {
        Operand::Dot(path) | Operand::Variable(_, path) | Operand::Parentheses(_, path) => Some(path),
        Operand::Function(_) | Operand::Constant(_) => None,
    }
}

fn shown(token: Option<&Token>) -> String {
    match token {
        None => "the end of the template".to_owned(),
        Some(Token::Close) => "the end of the action".to_owned(),
        Some(Token::Word(word)) => format!("{word:?}"),
        Some(other) => format!("{other:?}"),
    }
}

//! A template carried out on data.

use std::collections::BTreeMap;

use serde_json::Value;

use super::format::display;
use super::functions::{self, truth};
use super::item::Item;
use super::parser::{Blocks, Branch, Node, Operand, Pipeline};
use super::{DEPTH_MAX, OUTPUT_LEN_MAX, TemplateError};

/// How a list of nodes ended.
#[derive(Clone, Copy, PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Run<'a> {
    blocks: &'a Blocks,
    configuration: &'a BTreeMap<String, String>,
    out: String,
    variables: Vec<(String, Item<'a>)>,
    depth: usize,
}

/// The text that blocks make of data.
pub(super) fn render(
    blocks: &Blocks,
    data: &Value,
    configuration: &BTreeMap<String, String>,
) -> Result<String, TemplateError> {
    let root = Item::of(data, None);
    let mut run = Run {
        blocks,
        configuration,
        out: String::new(),
        variables: vec![(String::new(), root.clone())],
        depth: 0,
    };
    if let Some(nodes) = blocks.get("") {
        run.nodes(nodes, &root)?;
    }
    Ok(run.out)
}

impl<'a> Run<'a> {
    fn nodes(&mut self, nodes: &'a [Node], dot: &Item<'a>) -> Result<Flow, TemplateError> {
        let scope = self.variables.len();
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::On {
                self.variables.truncate(scope);
                return Ok(flow);
            }
        }
        self.variables.truncate(scope);
        Ok(Flow::On)
    }

    fn node(&mut self, node: &'a Node, dot: &Item<'a>) -> Result<Flow, TemplateError> {
        match node {
            Node::Text(text) => self.write(text, 0)?,
            Node::Action(pipeline) => {
                let item = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.write(&display(&item.value), pipeline.line)?;
                } else {
                    self.set(pipeline, item)?;
                }
            }
            Node::If(branch) | Node::With(branch) => {
                let scope = self.variables.len();
                let item = self.pipeline(&branch.pipeline, dot)?;
                let is_true = truth(&item.value);
                self.set(&branch.pipeline, item.clone())?;
                let dot = if matches!(node, Node::With(_)) && is_true {
                    &item
                } else {
                    dot
                };
                let flow = self.nodes(if is_true { &branch.then } else { &branch.otherwise }, dot)?;
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::Range(branch) => return self.range(branch, dot),
            Node::Template { line, name, argument } => {
                let argument = match argument {
                    Some(pipeline) => self.pipeline(pipeline, dot)?,
                    None => Item::made(Value::Null),
                };
                self.call(*line, name, argument)?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn range(&mut self, branch: &'a Branch, dot: &Item<'a>) -> Result<Flow, TemplateError> {
        let pipeline = &branch.pipeline;
        let item = self.pipeline(pipeline, dot)?;
        let elements = item.elements().map_err(|problem| fail(pipeline.line, problem))?;
        if elements.is_empty() {
            return self.nodes(&branch.otherwise, dot);
        }
        for (key, element) in elements {
            let scope = self.variables.len();
            let values = match pipeline.variables.len() {
                2 => vec![Item::made(key), element.clone()],
                _ => vec![element.clone()],
            };
            for (name, value) in pipeline.variables.iter().zip(values) {
                self.assign(pipeline, name, value)?;
            }
            let flow = self.nodes(&branch.then, &element)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn call(&mut self, line: usize, name: &str, argument: Item<'a>) -> Result<(), TemplateError> {
        let Some(nodes) = self.blocks.get(name) else {
            return Err(fail(line, format!("no template {name:?} is defined")));
        };
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(fail(line, format!("template {name:?} calls itself without end")));
        }
        let outer = std::mem::replace(&mut self.variables, vec![(String::new(), argument.clone())]);
        self.nodes(nodes, &argument)?;
        self.variables = outer;
        self.depth -= 1;
        Ok(())
    }

    fn write(&mut self, text: &str, line: usize) -> Result<(), TemplateError> {
        if self.out.len() + text.len() > OUTPUT_LEN_MAX {
            return Err(fail(line, "the text becomes too long".to_owned()));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn set(&mut self, pipeline: &Pipeline, item: Item<'a>) -> Result<(), TemplateError> {
        match pipeline.variables.first() {
            Some(name) => self.assign(pipeline, name, item),
            None => Ok(()),
        }
    }

    fn assign(&mut self, pipeline: &Pipeline, name: &str, item: Item<'a>) -> Result<(), TemplateError> {
        if pipeline.declares {
            self.variables.push((name.to_owned(), item));
            return Ok(());
        }
        let known = self.variables.iter_mut().rev().find(|(known, _)| known == name);
        let Some((_, value)) = known else {
            return Err(fail(
                pipeline.line,
                format!("no variable ${name} is declared; use :="),
            ));
        };
        *value = item;
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &'a Pipeline, dot: &Item<'a>) -> Result<Item<'a>, TemplateError> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, last, pipeline.line, dot)?);
        }
        Ok(last.unwrap_or_else(|| Item::made(Value::Null)))
    }

    fn command(
        &mut self,
        command: &'a [Operand],
        last: Option<Item<'a>>,
        line: usize,
        dot: &Item<'a>,
    ) -> Result<Item<'a>, TemplateError> {
        let Some((first, rest)) = command.split_first() else {
            return Ok(Item::made(Value::Null));
        };
        let Operand::Function(name) = first else {
            if !rest.is_empty() || last.is_some() {
                return Err(fail(
                    line,
                    "a value takes no arguments; begin with a function".to_owned(),
                ));
            }
            return self.operand(first, line, dot);
        };
        if matches!(name.as_str(), "and" | "or") {
            return self.choice(name == "or", rest, last, line, dot);
        }
        let mut arguments = Vec::new();
        for operand in rest {
            arguments.push(self.operand(operand, line, dot)?);
        }
        arguments.extend(last);
        functions::call(name, &arguments, self.configuration).map_err(|problem| fail(line, problem))
    }

    /// `and` and `or` stop at the first argument that decides.
    fn choice(
        &mut self,
        stop_at: bool,
        rest: &'a [Operand],
        last: Option<Item<'a>>,
        line: usize,
        dot: &Item<'a>,
    ) -> Result<Item<'a>, TemplateError> {
        let mut value = None;
        for operand in rest {
            let item = self.operand(operand, line, dot)?;
            if truth(&item.value) == stop_at {
                return Ok(item);
            }
            value = Some(item);
        }
        last.or(value)
            .ok_or_else(|| fail(line, "and, or need an argument".to_owned()))
    }

    fn operand(
        &mut self,
        operand: &'a Operand,
        line: usize,
        dot: &Item<'a>,
    ) -> Result<Item<'a>, TemplateError> {
        let (start, path) = match operand {
            Operand::Dot(path) => (dot.clone(), path.as_slice()),
            Operand::Variable(name, path) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                let Some((_, item)) = known else {
                    return Err(fail(line, format!("no variable ${name} is declared")));
                };
                (item.clone(), path.as_slice())
            }
            Operand::Constant(value) => (Item::of(value, None), [].as_slice()),
            Operand::Function(name) => {
                let item =
                    functions::call(name, &[], self.configuration).map_err(|problem| fail(line, problem))?;
                (item, [].as_slice())
            }
            Operand::Parentheses(pipeline, path) => (self.pipeline(pipeline, dot)?, path.as_slice()),
        };
        path.iter().try_fold(start, |item, name| {
            item.field(name).map_err(|problem| fail(line, problem))
        })
    }
}

fn fail(line: usize, problem: String) -> TemplateError {
    TemplateError { line, problem }
}

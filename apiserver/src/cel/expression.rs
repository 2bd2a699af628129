//! Expressions: parsed once for the whole process, run within bounds.

use std::cell::LazyCell;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use kube_cel::KubeCelExt as _;
use kube_cel::cel::common::ast::Expr;
use kube_cel::cel::extractors::Arguments;
use kube_cel::cel::parser::{Expression as Parsed, Parser};
use kube_cel::cel::{Context, ExecutionError, ResolveResult, Value as CelValue};
use serde_json::Value;

/// Rounds of loops that one rule may take, as the limit of one rule in Kubernetes.
const ROUNDS_MAX: usize = 1_000_000;
/// Parsed expressions that are kept; rules of definitions are few.
const KEPT: usize = 8192;
/// Longer texts of rules are refused: their parse tree would outgrow the stack.
const TEXT_MAX: usize = 32 << 10;

/// A parsed expression.
#[derive(Debug)]
pub(crate) struct Expression {
    pub(super) parsed: Parsed,
    /// How many loops are within each other.
    loops: u32,
}

/// Parses, or takes what was parsed before.
pub(super) fn compile(text: &str) -> Result<Arc<Expression>, String> {
    type Known = HashMap<String, Result<Arc<Expression>, String>>;
    static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known().get(text) {
        return found.clone();
    }
    let result = parse(text);
    let mut known = known();
    if known.len() >= KEPT {
        known.clear();
    }
    known.insert(text.to_owned(), result.clone());
    result
}

fn parse(text: &str) -> Result<Arc<Expression>, String> {
    if text.trim().is_empty() {
        return Err("rule is not specified".to_owned());
    }
    if text.len() > TEXT_MAX {
        return Err(format!("the rule is longer than {TEXT_MAX} bytes"));
    }
    let parsed = Parser::new()
        .enable_optional_syntax(true)
        .parse(text)
        .map_err(|errors| {
            let lines: Vec<String> = errors
                .errors
                .iter()
                .map(|error| located(text, error.pos, &error.msg))
                .collect();
            format!("compilation failed: {}", lines.join("\n"))
        })?;
    Ok(Arc::new(Expression {
        loops: loops(&parsed),
        parsed,
    }))
}

/// A message about a place in a text, as CEL prints it.
pub(super) fn located(text: &str, (line, column): (isize, isize), message: &str) -> String {
    let index = usize::try_from(line - 1).unwrap_or(0);
    let source = text.lines().nth(index).unwrap_or_default();
    let dots = ".".repeat(usize::try_from(column - 1).unwrap_or(0).min(source.len()));
    format!("ERROR: <input>:{line}:{column}: {message}\n | {source}\n | {dots}^")
}

fn loops(parsed: &Parsed) -> u32 {
    let deepest = |all: &mut dyn Iterator<Item = &Parsed>| all.map(loops).max().unwrap_or(0);
    match &parsed.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => 0,
        Expr::Call(call) => deepest(&mut call.args.iter().chain(call.target.as_deref())),
        Expr::List(list) => deepest(&mut list.elements.iter()),
        Expr::Select(select) => loops(&select.operand),
        Expr::Map(_) | Expr::Struct(_) => 0,
        Expr::Comprehension(all) => {
            let body = loops(&all.loop_step).max(loops(&all.loop_cond));
            (body + 1).max(loops(&all.iter_range)).max(loops(&all.result))
        }
    }
}

/// The length of the longest list or map within a value.
pub(super) fn widest(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(widest).max().unwrap_or(0).max(items.len()),
        Value::Object(fields) => fields.values().map(widest).max().unwrap_or(0).max(fields.len()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

thread_local! {
    /// The functions of Kubernetes. They are many: a context of them is made once for each thread.
    static FUNCTIONS: LazyCell<Context<'static>> = LazyCell::new(functions);
}

/// The language, the libraries of Kubernetes, and types as values.
fn functions() -> Context<'static> {
    let mut context = Context::default().with_all();
    context.add_function("dyn", only);
    context.add_function("type", type_of);
    context.add_function("bool", to_bool);
    for name in [
        "int",
        "uint",
        "double",
        "bool",
        "string",
        "bytes",
        "list",
        "map",
        "null_type",
    ] {
        context.add_variable_from_value(name, type_value(name));
    }
    context
}

fn type_value(name: &str) -> CelValue {
    CelValue::String(Arc::new(format!("type({name})")))
}

fn only(Arguments(arguments): Arguments) -> ResolveResult {
    match arguments.as_slice() {
        [one] => Ok(one.clone()),
        all => Err(ExecutionError::invalid_argument_count(1, all.len())),
    }
}

fn type_of(arguments: Arguments) -> ResolveResult {
    let value = only(arguments)?;
    Ok(type_value(match value {
        CelValue::List(_) => "list",
        CelValue::Map(_) => "map",
        CelValue::Int(_) => "int",
        CelValue::UInt(_) => "uint",
        CelValue::Float(_) => "double",
        CelValue::String(_) => "string",
        CelValue::Bytes(_) => "bytes",
        CelValue::Bool(_) => "bool",
        CelValue::Duration(_) => "google.protobuf.Duration",
        CelValue::Timestamp(_) => "google.protobuf.Timestamp",
        CelValue::Opaque(_) | CelValue::Function(..) => "opaque",
        CelValue::Null => "null_type",
    }))
}

fn to_bool(arguments: Arguments) -> ResolveResult {
    let value = only(arguments)?;
    match &value {
        CelValue::Bool(_) => Ok(value),
        CelValue::String(text) if matches!(text.as_str(), "true" | "True" | "TRUE" | "t" | "1") => {
            Ok(CelValue::Bool(true))
        }
        CelValue::String(text) if matches!(text.as_str(), "false" | "False" | "FALSE" | "f" | "0") => {
            Ok(CelValue::Bool(false))
        }
        _ => Err(ExecutionError::function_error("bool", "type conversion error")),
    }
}

/// A value that a function makes of a text.
pub(super) fn constant(function: &str, text: &str) -> Option<CelValue> {
    let call = compile(&format!("{function}(self)")).ok()?;
    let text = CelValue::String(Arc::new(text.to_owned()));
    call.run(&text, None, 1).ok()
}

impl Expression {
    pub(super) fn mentions(&self, variable: &str) -> bool {
        self.parsed.references().has_variable(variable)
    }

    /// Runs it; `widest` bounds how often its loops go round.
    pub(super) fn run(
        &self,
        own: &CelValue,
        old: Option<&CelValue>,
        widest: usize,
    ) -> Result<CelValue, String> {
        if widest
            .checked_pow(self.loops)
            .is_none_or(|rounds| rounds > ROUNDS_MAX)
        {
            return Err("operation cancelled: actual cost limit exceeded".to_owned());
        }
        FUNCTIONS.with(|functions| {
            let mut context = functions.new_inner_scope();
            context.add_variable_from_value("self", own.clone());
            if let Some(old) = old {
                context.add_variable_from_value("oldSelf", old.clone());
            }
            CelValue::resolve(&self.parsed, &context).map_err(|error| worded(&error))
        })
    }
}

fn worded(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        ExecutionError::UndeclaredReference(name) => format!("undeclared reference to '{name}'"),
        ExecutionError::DivisionByZero(_) => "division by zero".to_owned(),
        ExecutionError::RemainderByZero(_) => "modulus by zero".to_owned(),
        ExecutionError::FunctionError { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

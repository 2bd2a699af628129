//! Whether rules fit their schema: they parse, and name fields, variables and functions that there are.
//!
//! Types are followed along fields, lists and loops. What is not followed is not judged.

use std::collections::BTreeMap;

use kube_cel::cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr};
use serde_json::Value;

use super::expression::{compile, located};
use super::value::escaped;
use super::{DEPTH_MAX, RULES, text};
use crate::status::FieldError;

/// What CEL and its libraries in Kubernetes define.
const FUNCTIONS: &str = " size contains startsWith endsWith matches has all exists exists_one map filter int uint double \
 string bytes bool dyn type timestamp duration getFullYear getMonth getDate getDayOfMonth getDayOfWeek getDayOfYear \
 getHours getMinutes getSeconds getMilliseconds optional.of optional.none optional.ofNonZeroValue of none \
 ofNonZeroValue hasValue value or orValue optMap optFlatMap charAt indexOf lastIndexOf lowerAscii upperAscii replace \
 split substring trim join reverse quote strings.quote isSorted sum min max sets.contains sets.equivalent \
 sets.intersects equivalent intersects find findAll url isURL getScheme getHost getHostname getPort getEscapedPath \
 getQuery ip isIP ip.isCanonical isCanonical family isUnspecified isLoopback isLinkLocalMulticast \
 isLinkLocalUnicast isGlobalUnicast cidr isCIDR containsIP containsCIDR prefixLength masked quantity isQuantity \
 isInteger asInteger asApproximateFloat sign add sub isGreaterThan isLessThan compareTo semver isSemver major minor \
 patch format format.named named validate flatten range distinct sort sortBy slice first last transformList \
 transformMap transformMapEntry existsOne math.greatest math.least math.ceil math.floor math.round math.trunc \
 math.abs math.sign math.isNaN math.isInf math.isFinite greatest least ceil floor round trunc abs isNaN isInf \
 isFinite bitAnd bitOr bitXor bitNot bitShiftLeft bitShiftRight sqrt base64.encode base64.decode encode decode \
 jsonpatch.escapeKey escapeKey cel.bind bind cel.block block dns1123Label dns1123Subdomain dns1035Label \
 qualifiedName labelValue uri uuid byte date datetime dns1123LabelPrefix dns1123SubdomainPrefix dns1035LabelPrefix ";
/// Names that are no variables: types and the name spaces of functions.
const NAMES: &str = " int uint double bool string bytes list map null_type type dyn timestamp duration optional \
 sets math strings ip cidr base64 format jsonpatch cel google ";

/// What is known of a value.
#[derive(Clone, Copy)]
enum Type<'a> {
    Unknown,
    /// A plain value, by the name of its type.
    Plain(&'static str),
    Of(&'a Value),
    /// The object that a definition defines.
    Root(&'a Value),
    /// Its metadata.
    Names,
}

impl Type<'_> {
    /// The name of the type, where it is known for sure.
    fn name(self) -> Option<&'static str> {
        match self {
            Type::Unknown => None,
            Type::Plain(name) => Some(name),
            Type::Root(_) | Type::Names => Some("object"),
            Type::Of(schema) if is_open(schema) => None,
            Type::Of(schema) => match (text(schema, "type"), text(schema, "format")) {
                ("string", "date-time" | "datetime" | "duration" | "byte") => None,
                ("string", _) => Some("string"),
                ("integer", _) => Some("int"),
                ("number", _) => Some("double"),
                ("boolean", _) => Some("bool"),
                ("array", _) => Some("list"),
                ("object", _) => Some("object"),
                _ => None,
            },
        }
    }
}

/// Operators whose operands have one type and whose result is a truth.
const COMPARING: [&str; 6] = ["_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_"];

struct Scope<'a> {
    variables: BTreeMap<String, Type<'a>>,
    text: &'a str,
    faults: Vec<String>,
}

/// Finds the faults of all rules below.
pub(super) fn faults(schema: &Value, path: &str, found: &mut Vec<FieldError>) {
    let at = At {
        root: true,
        uncorrelatable: None,
        depth: 0,
    };
    walk(schema, path, &at, found);
}

/// Where a schema is.
struct At {
    root: bool,
    /// The list above whose items have no counterpart in the old object.
    uncorrelatable: Option<String>,
    depth: usize,
}

fn walk(schema: &Value, path: &str, at: &At, found: &mut Vec<FieldError>) {
    if at.depth > DEPTH_MAX {
        return;
    }
    let rules = schema.get(RULES).and_then(Value::as_array);
    for (index, rule) in rules.into_iter().flatten().enumerate() {
        let path = format!("{path}.{RULES}[{index}]");
        for key in ["rule", "messageExpression"] {
            found.extend(judge(schema, rule, key, &format!("{path}.{key}"), at));
        }
    }
    let below = |uncorrelatable| At {
        root: false,
        uncorrelatable,
        depth: at.depth + 1,
    };
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, schema) in properties.into_iter().flatten() {
        let path = format!("{path}.properties[{name}]");
        walk(schema, &path, &below(at.uncorrelatable.clone()), found);
    }
    if let Some(items) = schema.get("items") {
        let by_key = text(schema, "x-kubernetes-list-type") == "map";
        let list = at
            .uncorrelatable
            .clone()
            .or_else(|| (!by_key).then(|| path.to_owned()));
        walk(items, &format!("{path}.items"), &below(list), found);
    }
    if let Some(values) = schema
        .get("additionalProperties")
        .filter(|below| below.is_object())
    {
        let path = format!("{path}.additionalProperties");
        walk(values, &path, &below(at.uncorrelatable.clone()), found);
    }
}

fn judge(schema: &Value, rule: &Value, key: &str, path: &str, at: &At) -> Option<FieldError> {
    let source = text(rule, key);
    let is_rule = key == "rule";
    if source.trim().is_empty() {
        return is_rule.then(|| FieldError::required(path, "rule is not specified"));
    }
    let refused = |why: &str| Some(FieldError::invalid_shown(path, &shown(rule), why));
    let expression = match compile(source) {
        Ok(expression) => expression,
        Err(why) => return refused(&why),
    };
    if let Some(list) = at
        .uncorrelatable
        .as_ref()
        .filter(|_| is_rule && expression.mentions("oldSelf"))
    {
        let why = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {list}");
        return Some(FieldError::invalid(path, &source.into(), why));
    }
    let own = if at.root {
        Type::Root(schema)
    } else {
        Type::Of(schema)
    };
    let old = match rule.get("optionalOldSelf") {
        Some(Value::Bool(true)) => Type::Unknown,
        _ => own,
    };
    let mut scope = Scope {
        variables: [("self".to_owned(), own), ("oldSelf".to_owned(), old)].into(),
        text: source,
        faults: Vec::new(),
    };
    let result = scope.type_of(&expression.parsed);
    if !scope.faults.is_empty() {
        return refused(&format!("compilation failed: {}", scope.faults.join("\n")));
    }
    match result.name() {
        Some(name) if is_rule && name != "bool" => refused("cel expression must evaluate to a bool"),
        Some(name) if !is_rule && name != "string" => refused("messageExpression must evaluate to a string"),
        _ => None,
    }
}

/// A rule as refusals show it.
fn shown(rule: &Value) -> String {
    let quoted = |key: &str| crate::json::shown(&Value::from(text(rule, key)));
    let or_null = |key: &str| rule.get(key).cloned().unwrap_or_default();
    format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{},\"FieldPath\":{},\"OptionalOldSelf\":{}}}",
        quoted("rule"),
        quoted("message"),
        quoted("messageExpression"),
        or_null("reason"),
        quoted("fieldPath"),
        or_null("optionalOldSelf")
    )
}

fn is_open(schema: &Value) -> bool {
    [
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-int-or-string",
        "x-kubernetes-embedded-resource",
    ]
    .iter()
    .any(|key| schema.get(*key).is_some_and(|set| set == true))
}

fn is_one_of(list: &str, name: &str) -> bool {
    list.split_whitespace().any(|known| known == name)
}

/// Operators are functions with names that no user can write.
fn is_operator(name: &str) -> bool {
    !name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
        || name.starts_with('@')
}

impl<'a> Scope<'a> {
    fn fault(&mut self, needle: &str, after: usize, message: &str) {
        let at = self.text.find(needle).map_or(0, |at| at + after);
        let before = self.text.get(..at).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = at - before.rfind('\n').map_or(0, |newline| newline + 1) + 1;
        let place = (
            isize::try_from(line).unwrap_or(1),
            isize::try_from(column).unwrap_or(1),
        );
        let line = located(self.text, place, message);
        self.faults.push(line);
    }

    fn type_of(&mut self, parsed: &IdedExpr) -> Type<'a> {
        match &parsed.expr {
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => {
                if !is_operator(&call.func_name) && !is_one_of(FUNCTIONS, &call.func_name) {
                    let message = format!("undeclared reference to '{}' (in container '')", call.func_name);
                    // The place of a call is its parenthesis.
                    self.fault(&format!("{}(", call.func_name), call.func_name.len(), &message);
                }
                let target = call.target.as_deref().map(|target| self.type_of(target));
                let arguments: Vec<Type<'a>> = call.args.iter().map(|one| self.type_of(one)).collect();
                self.call(&call.func_name, target, &arguments)
            }
            Expr::Comprehension(all) => {
                let range = self.type_of(&all.iter_range);
                let item = match range {
                    Type::Of(schema) if text(schema, "type") == "array" => element(schema),
                    _ => Type::Unknown,
                };
                let saved = self.variables.clone();
                self.type_of(&all.accu_init);
                self.variables.insert(all.iter_var.clone(), item);
                self.variables
                    .extend(all.iter_var2.clone().map(|second| (second, Type::Unknown)));
                self.variables.insert(all.accu_var.clone(), Type::Unknown);
                for part in [&all.loop_cond, &all.loop_step, &all.result] {
                    self.type_of(part);
                }
                self.variables = saved;
                Type::Unknown
            }
            Expr::List(list) => {
                for one in &list.elements {
                    self.type_of(one);
                }
                Type::Unknown
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.type_of(&entry.key);
                        self.type_of(&entry.value);
                    }
                }
                Type::Unknown
            }
            Expr::Literal(literal) => literal_type(literal),
            Expr::Unspecified | Expr::Struct(_) => Type::Unknown,
        }
    }

    fn call(&mut self, name: &str, target: Option<Type<'a>>, arguments: &[Type<'a>]) -> Type<'a> {
        match (name, target, arguments) {
            ("_[_]", _, [Type::Of(schema), ..]) => element(schema),
            (name, _, [left, right]) if COMPARING.contains(&name) => {
                self.compare(name, *left, *right);
                Type::Plain("bool")
            }
            ("_&&_" | "_||_" | "!_" | "@in" | "has", _, _) => Type::Plain("bool"),
            ("startsWith" | "endsWith" | "matches" | "isURL" | "isIP" | "isCIDR", _, _) => {
                Type::Plain("bool")
            }
            ("size", _, _) => Type::Plain("int"),
            ("_?_:_", _, [_, then, _]) => *then,
            _ => Type::Unknown,
        }
    }

    /// Numbers compare with each other by order; everything else with its own type only.
    fn compare(&mut self, operator: &str, left: Type<'a>, right: Type<'a>) {
        let (Some(left), Some(right)) = (left.name(), right.name()) else {
            return;
        };
        let number = |name: &str| matches!(name, "int" | "uint" | "double");
        let by_order = !matches!(operator, "_==_" | "_!=_");
        if left == right || by_order && number(left) && number(right) || [left, right].contains(&"null") {
            return;
        }
        let sign = operator.trim_matches('_');
        let message = format!("found no matching overload for '{operator}' applied to '({left}, {right})'");
        self.fault(sign, 0, &message);
    }

    fn variable(&mut self, name: &str) -> Type<'a> {
        if let Some(known) = self.variables.get(name) {
            return *known;
        }
        if !name.starts_with('@') && !name.starts_with("__") && !is_one_of(NAMES, name) {
            self.fault(
                name,
                0,
                &format!("undeclared reference to '{name}' (in container '')"),
            );
        }
        Type::Unknown
    }

    fn select(&mut self, select: &SelectExpr) -> Type<'a> {
        let of = self.type_of(&select.operand);
        let found = match of {
            Type::Unknown | Type::Plain(_) => return Type::Unknown,
            Type::Names => match select.field.as_str() {
                "name" | "generateName" => return Type::Unknown,
                _ => None,
            },
            Type::Root(schema) => match select.field.as_str() {
                "apiVersion" | "kind" => return Type::Unknown,
                "metadata" => return Type::Names,
                field => property(schema, field),
            },
            Type::Of(schema) => {
                let Some(kind) = of.name() else {
                    return Type::Unknown;
                };
                if kind != "object" {
                    let message = format!("type '{kind}' does not support field selection");
                    self.fault(&format!(".{}", select.field), 0, &message);
                    return Type::Unknown;
                }
                property(schema, &select.field)
            }
        };
        if let Some(schema) = found {
            // Whether a field is there is a truth, whatever the field holds.
            return if select.test {
                Type::Unknown
            } else {
                Type::Of(schema)
            };
        }
        self.fault(
            &format!(".{}", select.field),
            0,
            &format!("undefined field '{}'", select.field),
        );
        Type::Unknown
    }
}

fn literal_type(literal: &LiteralValue) -> Type<'static> {
    Type::Plain(match literal {
        LiteralValue::Boolean(_) => "bool",
        LiteralValue::Bytes(_) => "bytes",
        LiteralValue::Double(_) => "double",
        LiteralValue::Int(_) => "int",
        LiteralValue::Null => "null",
        LiteralValue::String(_) => "string",
        LiteralValue::UInt(_) => "uint",
    })
}

fn element(schema: &Value) -> Type<'_> {
    let below = schema.get("items").or_else(|| schema.get("additionalProperties"));
    below
        .filter(|below| below.is_object())
        .map_or(Type::Unknown, Type::Of)
}

fn property<'a>(schema: &'a Value, field: &str) -> Option<&'a Value> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let named = properties
        .into_iter()
        .flatten()
        .find(|(name, _)| escaped(name) == field);
    named
        .map(|(_, below)| below)
        .or_else(|| schema.get("additionalProperties"))
        .or_else(|| schema.get("x-kubernetes-preserve-unknown-fields").map(|_| schema))
}

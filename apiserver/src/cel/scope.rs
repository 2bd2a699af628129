//! Whether rules fit their schema: they parse, and name fields, variables and functions that there are.
//!
//! Types are followed along fields, lists and loops. What is not followed is not judged.

use std::collections::BTreeMap;

use kube_cel::cel::common::ast::{EntryExpr, Expr, IdedExpr, SelectExpr};
use serde_json::Value;

use super::expression::{compile, located};
use super::value::escaped;
use super::{DEPTH_MAX, RULES, text};

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
    Of(&'a Value),
    /// The object that a definition defines.
    Root(&'a Value),
    /// Its metadata.
    Names,
}

struct Scope<'a> {
    variables: BTreeMap<String, Type<'a>>,
    text: &'a str,
    faults: Vec<String>,
}

/// Finds the faults of all rules below.
pub(super) fn faults(schema: &Value, path: &str, found: &mut Vec<(String, Value, String)>) {
    walk(schema, path, true, true, 0, found);
}

fn walk(
    schema: &Value,
    path: &str,
    root: bool,
    correlatable: bool,
    depth: usize,
    found: &mut Vec<(String, Value, String)>,
) {
    if depth > DEPTH_MAX {
        return;
    }
    let rules = schema.get(RULES).and_then(Value::as_array);
    for (index, rule) in rules.into_iter().flatten().enumerate() {
        let at = format!("{path}.{RULES}[{index}]");
        judge(schema, rule, &at, root, correlatable, found);
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, below) in properties.into_iter().flatten() {
        let path = format!("{path}.properties[{name}]");
        walk(below, &path, false, correlatable, depth + 1, found);
    }
    if let Some(below) = schema.get("items") {
        let by_key = text(schema, "x-kubernetes-list-type") == "map";
        walk(
            below,
            &format!("{path}.items"),
            false,
            correlatable && by_key,
            depth + 1,
            found,
        );
    }
    if let Some(below) = schema
        .get("additionalProperties")
        .filter(|below| below.is_object())
    {
        walk(
            below,
            &format!("{path}.additionalProperties"),
            false,
            correlatable,
            depth + 1,
            found,
        );
    }
}

fn judge(
    schema: &Value,
    rule: &Value,
    at: &str,
    root: bool,
    correlatable: bool,
    found: &mut Vec<(String, Value, String)>,
) {
    for key in ["rule", "messageExpression"] {
        let source = text(rule, key);
        if key == "messageExpression" && source.is_empty() {
            continue;
        }
        let (field, shown) = match key {
            "rule" => (format!("{at}.rule"), shown(rule)),
            key => (format!("{at}.{key}"), Value::from(source)),
        };
        let expression = match compile(source) {
            Ok(expression) => expression,
            Err(why) => {
                found.push((field, shown, why));
                continue;
            }
        };
        let own = if root {
            Type::Root(schema)
        } else {
            Type::Of(schema)
        };
        let old = match rule.get("optionalOldSelf") {
            Some(Value::Bool(true)) => Type::Unknown,
            _ => own,
        };
        if key == "rule" && !correlatable && expression.mentions("oldSelf") {
            let why = "oldSelf cannot be used on the uncorrelatable portion of the schema";
            found.push((field, shown, why.to_owned()));
            continue;
        }
        let mut scope = Scope {
            variables: [("self".to_owned(), own), ("oldSelf".to_owned(), old)].into(),
            text: source,
            faults: Vec::new(),
        };
        let result = scope.type_of(&expression.parsed);
        if scope.faults.is_empty() && key == "rule" && !may_be_bool(result, &expression.parsed) {
            found.push((field, shown, "must evaluate to a bool".to_owned()));
        } else if !scope.faults.is_empty() {
            found.push((
                field,
                shown,
                format!("compilation failed: {}", scope.faults.join("\n")),
            ));
        }
    }
}

/// A rule as refusals show it.
fn shown(rule: &Value) -> Value {
    let or_null = |key: &str| rule.get(key).cloned().unwrap_or_default();
    serde_json::json!({"Rule": text(rule, "rule"), "Message": text(rule, "message"),
        "MessageExpression": text(rule, "messageExpression"), "Reason": or_null("reason"),
        "FieldPath": text(rule, "fieldPath"), "OptionalOldSelf": or_null("optionalOldSelf")})
}

fn may_be_bool(result: Type<'_>, parsed: &IdedExpr) -> bool {
    use kube_cel::cel::common::ast::LiteralValue;
    match (&parsed.expr, result) {
        (Expr::Literal(literal), _) => matches!(literal, LiteralValue::Boolean(_)),
        (Expr::List(_) | Expr::Map(_), _) => false,
        (_, Type::Of(schema)) => {
            let open = schema.get("x-kubernetes-preserve-unknown-fields").is_some()
                || schema.get("x-kubernetes-int-or-string").is_some();
            open || matches!(text(schema, "type"), "boolean" | "")
        }
        (_, Type::Root(_) | Type::Names) => false,
        (_, Type::Unknown) => true,
    }
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
    fn fault(&mut self, needle: &str, message: &str) {
        let at = self.text.find(needle).unwrap_or(0);
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
                    self.fault(&call.func_name, &message);
                }
                let target = call.target.as_deref().map(|target| self.type_of(target));
                let arguments: Vec<Type<'a>> = call.args.iter().map(|one| self.type_of(one)).collect();
                match (call.func_name.as_str(), arguments.first().copied().or(target)) {
                    ("_[_]", Some(Type::Of(schema))) => element(schema),
                    _ => Type::Unknown,
                }
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
            Expr::Unspecified | Expr::Literal(_) | Expr::Struct(_) => Type::Unknown,
        }
    }

    fn variable(&mut self, name: &str) -> Type<'a> {
        if let Some(known) = self.variables.get(name) {
            return *known;
        }
        if !name.starts_with('@') && !name.starts_with("__") && !is_one_of(NAMES, name) {
            self.fault(
                name,
                &format!("undeclared reference to '{name}' (in container '')"),
            );
        }
        Type::Unknown
    }

    fn select(&mut self, select: &SelectExpr) -> Type<'a> {
        let of = self.type_of(&select.operand);
        let found = match of {
            Type::Unknown => return Type::Unknown,
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
                let kind = text(schema, "type");
                let embedded = schema.get("x-kubernetes-embedded-resource").is_some();
                let open = schema.get("x-kubernetes-preserve-unknown-fields").is_some()
                    || schema.get("x-kubernetes-int-or-string").is_some();
                if embedded || open || kind.is_empty() {
                    return Type::Unknown;
                }
                if kind != "object" {
                    let kind = if kind == "array" { "list" } else { kind };
                    let message = format!("type '{kind}' does not support field selection");
                    self.fault(&format!(".{}", select.field), &message);
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
            &format!("undefined field '{}'", select.field),
        );
        Type::Unknown
    }
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

//! Validation rules of definitions (`x-kubernetes-validations`): compiled once, run on every object of the kind.
//!
//! Owns which rule sees which value, and the wording of what they find. Never decides about types and limits, which
//! are the schema's. Source: the CEL rules of CustomResourceDefinitions in Kubernetes (KEP-2876, KEP-4008).

mod expression;
mod scope;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

use kube_cel::cel::Value as CelValue;
use kube_cel::cel::objects::OptionalValue;
use serde_json::Value;

use crate::status::FieldError;
use expression::Expression;

const RULES: &str = "x-kubernetes-validations";
/// Deeper schemas have no rules that are run; definitions that deep are refused by their size long before.
const DEPTH_MAX: usize = 64;

/// The rules of a schema, at the nodes that have some or lead to some.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    own: Vec<Rule>,
    fields: BTreeMap<String, Self>,
    items: Option<Box<Self>>,
    values: Option<Box<Self>>,
}

#[derive(Debug)]
struct Rule {
    text: String,
    expression: Arc<Expression>,
    message: String,
    message_expression: Option<Arc<Expression>>,
    reason: String,
    field_path: String,
    /// It compares with `oldSelf`.
    transition: bool,
    optional_old_self: bool,
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

impl Rule {
    fn of(rule: &Value) -> Option<Self> {
        let expression = expression::compile(text(rule, "rule")).ok()?;
        let message_expression = match text(rule, "messageExpression") {
            "" => None,
            message => expression::compile(message).ok(),
        };
        Some(Self {
            text: text(rule, "rule").trim().to_owned(),
            transition: expression.mentions("oldSelf"),
            expression,
            message: text(rule, "message").trim().to_owned(),
            message_expression,
            reason: text(rule, "reason").to_owned(),
            field_path: text(rule, "fieldPath").trim_start_matches('.').to_owned(),
            optional_old_self: rule.get("optionalOldSelf").is_some_and(|set| set == true),
        })
    }

    fn shown(&self) -> &str {
        if self.message.is_empty() {
            &self.text
        } else {
            &self.message
        }
    }
}

/// What is looked at: the value, what it replaces, and where it is.
struct Place<'a> {
    schema: &'a Value,
    new: &'a Value,
    old: Option<&'a Value>,
    path: &'a str,
    root: bool,
}

impl Rules {
    /// The rules of a schema. One that does not compile is left out: definitions with such rules are refused.
    pub(crate) fn of(schema: &Value) -> Self {
        Self::below(schema, 0).unwrap_or_default()
    }

    fn below(schema: &Value, depth: usize) -> Option<Self> {
        if depth > DEPTH_MAX {
            return None;
        }
        let rules = schema.get(RULES).and_then(Value::as_array);
        let child = |key: &str| {
            let schema = schema.get(key).filter(|schema| schema.is_object())?;
            Self::below(schema, depth + 1).map(Box::new)
        };
        let properties = schema.get("properties").and_then(Value::as_object);
        let field = |(name, schema): (&String, &Value)| Some((name.clone(), Self::below(schema, depth + 1)?));
        let node = Self {
            own: rules.into_iter().flatten().filter_map(Rule::of).collect(),
            fields: properties.into_iter().flatten().filter_map(field).collect(),
            items: child("items"),
            values: child("additionalProperties"),
        };
        (!node.is_empty()).then_some(node)
    }

    /// There is no rule at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.fields.is_empty() && self.items.is_none() && self.values.is_none()
    }

    /// Runs the rules; `old` is the object that `new` replaces.
    pub(crate) fn check(
        &self,
        schema: &Value,
        new: &Value,
        old: Option<&Value>,
        errors: &mut Vec<FieldError>,
    ) {
        let place = Place {
            schema,
            new,
            old,
            path: "",
            root: true,
        };
        self.walk(&place, errors);
    }

    fn walk(&self, at: &Place<'_>, errors: &mut Vec<FieldError>) {
        // What did not change was judged when it came.
        let unchanged = at.old == Some(at.new);
        if !self.own.is_empty() && !unchanged && !at.new.is_null() {
            self.run(at, errors);
        }
        match at.new {
            Value::Object(fields) => {
                let properties = at.schema.get("properties");
                for (name, value) in fields {
                    let path = crate::schema::join(at.path, name);
                    let old = at.old.and_then(|old| old.get(name));
                    let known = properties.and_then(|all| all.get(name));
                    match (self.fields.get(name), known, &self.values) {
                        (Some(rules), Some(schema), _) => {
                            rules.walk(&below(schema, value, old, &path), errors);
                        }
                        (None, None, Some(rules)) => {
                            let path = format!("{}[{name}]", at.path);
                            if let Some(schema) = at.schema.get("additionalProperties") {
                                rules.walk(&below(schema, value, old, &path), errors);
                            }
                        }
                        _ => {}
                    }
                }
            }
            Value::Array(items) => {
                let (Some(rules), Some(schema)) = (&self.items, at.schema.get("items")) else {
                    return;
                };
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{}[{index}]", at.path);
                    let old = at
                        .old
                        .and_then(|old| crate::schema::counterpart(at.schema, item, old));
                    rules.walk(&below(schema, item, old, &path), errors);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn run(&self, at: &Place<'_>, errors: &mut Vec<FieldError>) {
        let own = value::of(at.new, Some(at.schema), at.root);
        let old = at.old.map(|old| value::of(old, Some(at.schema), at.root));
        let widest = expression::widest(at.new).max(at.old.map_or(0, expression::widest));
        for rule in &self.own {
            let old = match (&old, rule.optional_old_self) {
                (None, false) if rule.transition => continue,
                (None, false) => None,
                (Some(old), false) => Some(old.clone()),
                (None, true) => Some(CelValue::Opaque(Arc::new(OptionalValue::none()))),
                (Some(old), true) => Some(CelValue::Opaque(Arc::new(OptionalValue::of(old.clone())))),
            };
            errors.extend(Self::judge(rule, at, &own, old.as_ref(), widest));
        }
    }

    fn judge(
        rule: &Rule,
        at: &Place<'_>,
        own: &CelValue,
        old: Option<&CelValue>,
        widest: usize,
    ) -> Option<FieldError> {
        let path = if at.path.is_empty() { "<nil>" } else { at.path };
        let detail = match rule.expression.run(own, old, widest) {
            Ok(CelValue::Bool(true)) => return None,
            Ok(CelValue::Bool(false)) => {
                let told = rule.message_expression.as_ref().and_then(|message| {
                    match message.run(own, old, widest) {
                        Ok(CelValue::String(text)) => {
                            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
                        }
                        _ => None,
                    }
                });
                told.unwrap_or_else(|| match rule.message.as_str() {
                    "" => format!("failed rule: {}", rule.text),
                    message => message.to_owned(),
                })
            }
            Ok(_) => format!("rule must evaluate to a bool: {}", rule.shown()),
            Err(why) => {
                let detail = format!("{why} evaluating rule: {}", rule.shown());
                return Some(invalid(path, at.new, &detail));
            }
        };
        let path = match rule.field_path.as_str() {
            "" => path.to_owned(),
            below if at.path.is_empty() => below.to_owned(),
            below => format!("{}.{below}", at.path),
        };
        Some(match rule.reason.as_str() {
            "FieldValueRequired" => FieldError::required(&path, &detail),
            "FieldValueForbidden" => FieldError::forbidden(&path, &detail),
            "FieldValueDuplicate" => FieldError::duplicate(&path, at.new),
            _ => invalid(&path, at.new, &detail),
        })
    }
}

/// Scalars are shown, what holds others is not.
fn invalid(path: &str, value: &Value, detail: &str) -> FieldError {
    match value {
        Value::Array(_) | Value::Object(_) => FieldError::invalid_somehow(path, detail),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            FieldError::invalid(path, value, detail)
        }
    }
}

fn below<'a>(schema: &'a Value, new: &'a Value, old: Option<&'a Value>, path: &'a str) -> Place<'a> {
    Place {
        schema,
        new,
        old,
        path,
        root: false,
    }
}

/// What is wrong with the rules of a schema.
pub(crate) fn faults(schema: &Value, path: &str) -> Vec<FieldError> {
    let mut found = Vec::new();
    scope::faults(schema, path, &mut found);
    found
}

#[cfg(test)]
mod tests;

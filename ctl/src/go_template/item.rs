//! A value with what is known of its type.

use std::borrow::Cow;

use serde_json::Value;

use crate::judge::schema_of;

/// A value; its schema, when known, gives absent fields their zero value.
#[derive(Clone, Debug)]
pub(super) struct Item<'a> {
    pub(super) value: Cow<'a, Value>,
    schema: Option<&'static Value>,
}

impl<'a> Item<'a> {
    /// A value of the data.
    pub(super) fn of(value: &'a Value, schema: Option<&'static Value>) -> Self {
        let kind = value.get("kind").and_then(Value::as_str);
        let own = kind
            .filter(|_| value.get("apiVersion").is_some())
            .and_then(schema_of);
        Self {
            value: Cow::Borrowed(value),
            schema: own.or(schema),
        }
    }

    /// A value that was made.
    pub(super) const fn made(value: Value) -> Self {
        Self {
            value: Cow::Owned(value),
            schema: None,
        }
    }

    /// A field: by its JSON name, or by the name that Calico's types have for it.
    pub(super) fn field(&self, name: &str) -> Result<Self, String> {
        if self.value.is_null() {
            return Ok(Self::made(Value::Null));
        }
        if !self.value.is_object() {
            return Err(format!("{} has no field {name}", kind_of(&self.value)));
        }
        match name {
            // Go's structs embed these; their fields are fields of the object too.
            "TypeMeta" => return Ok(self.clone()),
            "ObjectMeta" | "ListMeta" => return self.field("metadata"),
            _ => {}
        }
        let schema = self.schema_of_field(name);
        let found = match &self.value {
            Cow::Borrowed(value) => find(value, name).map(|value| Item::of(value, schema)),
            Cow::Owned(value) => find(value, name).map(|value| Item {
                value: Cow::Owned(value.clone()),
                schema,
            }),
        };
        match found {
            Some(item) => Ok(item),
            None if self.is_top() && name.starts_with(char::is_uppercase) && name != "Metadata" => {
                let promoted = self.field("metadata")?;
                promoted.field(name)
            }
            None => Ok(Self::made(zero(schema))),
        }
    }

    fn is_top(&self) -> bool {
        self.value.get("metadata").is_some() && self.value.get("kind").is_some()
    }

    fn schema_of_field(&self, name: &str) -> Option<&'static Value> {
        let schema = self.schema?;
        match schema.get("properties").and_then(Value::as_object) {
            Some(properties) => properties
                .iter()
                .find(|(known, _)| *known == name || known.eq_ignore_ascii_case(name))
                .map(|(_, schema)| schema),
            None => schema.get("additionalProperties"),
        }
    }

    /// The elements, each with its key.
    pub(super) fn elements(&self) -> Result<Vec<(Value, Self)>, String> {
        let schema = self.schema.and_then(|schema| schema.get("items"));
        let numbered = |count: usize| (0..count).map(Value::from);
        Ok(match &self.value {
            Cow::Borrowed(Value::Array(items)) => numbered(items.len())
                .zip(items.iter().map(|item| Item::of(item, schema)))
                .collect(),
            Cow::Owned(Value::Array(items)) => numbered(items.len())
                .zip(items.iter().cloned().map(Item::made))
                .collect(),
            Cow::Borrowed(Value::Object(fields)) => {
                let mut all: Vec<_> = fields.iter().collect();
                all.sort_by_key(|(key, _)| *key);
                all.into_iter()
                    .map(|(key, value)| (Value::from(key.as_str()), Item::of(value, None)))
                    .collect()
            }
            Cow::Owned(Value::Object(fields)) => {
                let mut all: Vec<_> = fields.iter().collect();
                all.sort_by_key(|(key, _)| *key);
                all.into_iter()
                    .map(|(key, value)| (Value::from(key.as_str()), Item::made(value.clone())))
                    .collect()
            }
            value => match value.as_ref() {
                Value::Null => Vec::new(),
                Value::Number(number) => {
                    let count = number.as_u64().unwrap_or_default().min(1 << 20);
                    (0..count)
                        .map(|index| (Value::from(index), Item::made(Value::from(index))))
                        .collect()
                }
                other => return Err(format!("range cannot go over {}", kind_of(other))),
            },
        })
    }
}

/// A field of an object: exactly, else in any case.
fn find<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    let fields = value.as_object()?;
    fields.get(name).or_else(|| {
        fields
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    })
}

/// What an absent field of a type prints in Go.
fn zero(schema: Option<&Value>) -> Value {
    match schema
        .and_then(|schema| schema.get("type"))
        .and_then(Value::as_str)
    {
        Some("string") => Value::String(String::new()),
        Some("boolean") => Value::Bool(false),
        Some("array") => Value::Array(Vec::new()),
        _ => Value::Null,
    }
}

/// What a value is, for messages.
pub(super) const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

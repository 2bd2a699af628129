//! Macros and serde helpers that give all kinds the same reading and writing rules.
//!
//! `model!` makes a plain struct of the model, `resource!` one that is the `spec` of a kind, `string_enum!` an
//! enumeration that keeps values it does not know.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Says whether a value is left out of the output (Go's `omitempty`).
pub(crate) trait Unset {
    /// True for an absent, empty, zero or false value.
    fn is_unset(&self) -> bool;
}

/// Function form of [`Unset::is_unset`], for `skip_serializing_if`.
pub(crate) fn is_unset<T: Unset>(value: &T) -> bool {
    value.is_unset()
}

impl<T> Unset for Option<T> {
    fn is_unset(&self) -> bool {
        self.is_none()
    }
}

impl<T> Unset for Vec<T> {
    fn is_unset(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Unset for BTreeMap<K, V> {
    fn is_unset(&self) -> bool {
        self.is_empty()
    }
}

impl Unset for String {
    fn is_unset(&self) -> bool {
        self.is_empty()
    }
}

impl Unset for bool {
    fn is_unset(&self) -> bool {
        !*self
    }
}

/// Reads `null` as the default value, as Go's decoder does for every type.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Largest magnitude at which every integer is exact in a 64-bit float.
const EXACT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// Writes an order as Go does: without a fraction when it has none.
pub(crate) fn serialize_order<S: Serializer>(order: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match order {
        Some(value) if value.fract() == 0.0 && value.abs() < EXACT_INTEGER_MAX => {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "integral and below 2^53 in magnitude"
            )]
            let integer = *value as i64;
            integer.serialize(serializer)
        }
        other => other.serialize(serializer),
    }
}

/// Defines a struct of the model with the common derives and reading and writing rules.
macro_rules! model {
    ($(#[$meta:meta])* pub struct $name:ident {
        $($(#[$field_meta:meta])* pub $field:ident: $type:ty),* $(,)?
    }) => {
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "camelCase", default)]
        $(#[$meta])*
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(
                    skip_serializing_if = "crate::v3::model::is_unset",
                    deserialize_with = "crate::v3::model::null_as_default"
                )]
                pub $field: $type,
            )*
        }
    };
}

/// Defines the spec of a kind: `model!` plus the derived top-level object.
macro_rules! resource {
    ($(#[$meta:meta])* pub struct $name:ident { $($body:tt)* }) => {
        model! {
            #[derive(kube_derive::CustomResource)]
            #[kube(
                group = "projectcalico.org",
                version = "v3",
                derive = "PartialEq",
                derive = "Default",
                crates(kube_core = "::kube_core")
            )]
            $(#[$meta])*
            pub struct $name { $($body)* }
        }
    };
}

/// Defines an enumeration of strings. Values outside the list are kept in `Other`.
macro_rules! string_enum {
    ($(#[$meta:meta])* pub enum $name:ident {
        $($(#[$variant_meta:meta])* $variant:ident = $text:literal),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)*
            /// A value this build does not know, kept as it was read.
            Other(String),
        }

        impl $name {
            /// The values that are known, in the order of the reference.
            pub const KNOWN: &'static [&'static str] = &[$($text),*];

            /// The value as it is written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other(text) => text,
                }
            }

            /// True when the value is one of [`Self::KNOWN`].
            #[must_use]
            pub const fn is_known(&self) -> bool {
                !matches!(self, Self::Other(_))
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)*
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(Self::from(<String as serde::Deserialize>::deserialize(deserializer)?.as_str()))
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "enum": [$($text),*]})
            }
        }
    };
}

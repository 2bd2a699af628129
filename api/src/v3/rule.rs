//! One rule of a policy or profile: action, packet criteria and the two ends. All criteria of a rule are ANDed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

string_enum! {
    /// What a rule does with a packet that matches.
    pub enum Action {
        /// Accept.
        Allow = "Allow",
        /// Drop.
        Deny = "Deny",
        /// Log and go on with the next rule.
        Log = "Log",
        /// Go to the next tier, or from the last tier to the profiles.
        Pass = "Pass",
    }
}

impl super::model::Unset for Action {
    fn is_unset(&self) -> bool {
        false
    }
}

impl Default for Action {
    /// The empty value, which no API accepts: a rule without an action is not an Allow.
    fn default() -> Self {
        Self::Other(String::new())
    }
}

model! {
    /// One rule.
    pub struct Rule {
        /// What to do with a packet that matches all of the rule.
        pub action: Action,
        /// Match packets of this IP version only: 4 or 6.
        #[schemars(extend("enum" = [4, 6]))]
        pub ip_version: Option<i32>,
        /// Protocol to match: a name or a number 1-255.
        pub protocol: Option<Protocol>,
        /// ICMP type and code to match; needs protocol ICMP or ICMPv6.
        pub icmp: Option<Icmp>,
        /// Protocol not to match.
        pub not_protocol: Option<Protocol>,
        /// ICMP type and code not to match.
        #[serde(rename = "notICMP")]
        pub not_icmp: Option<Icmp>,
        /// Where the packet comes from.
        pub source: Option<EntityRule>,
        /// Where the packet goes to.
        pub destination: Option<EntityRule>,
        /// HTTP criteria; enforced by an application layer proxy only.
        pub http: Option<HttpMatch>,
        /// Annotations of the rule.
        pub metadata: Option<RuleMetadata>,
    }
}

model! {
    /// Criteria for one end of a packet.
    pub struct EntityRule {
        /// CIDRs to match; all of one IP version.
        #[schemars(length(max = 256))]
        pub nets: Vec<String>,
        /// Labels of endpoints and network sets to match.
        #[schemars(length(max = 1024))]
        pub selector: String,
        /// Labels of the namespace to match; `global()` selects what is in no namespace.
        #[schemars(length(max = 1024))]
        pub namespace_selector: String,
        /// Service whose endpoints are matched.
        pub services: Option<ServiceMatch>,
        /// Ports to match: numbers, `"min:max"` ranges, or names.
        #[schemars(length(max = 50))]
        pub ports: Vec<Port>,
        /// CIDRs not to match.
        #[schemars(length(max = 256))]
        pub not_nets: Vec<String>,
        /// Labels of endpoints and network sets not to match.
        #[schemars(length(max = 1024))]
        pub not_selector: String,
        /// Ports not to match.
        #[schemars(length(max = 50))]
        pub not_ports: Vec<Port>,
        /// Service accounts of the endpoints to match.
        pub service_accounts: Option<ServiceAccountMatch>,
    }
}

model! {
    /// A Kubernetes Service.
    pub struct ServiceMatch {
        /// Name of the Service.
        #[schemars(length(max = 253))]
        pub name: String,
        /// Namespace of the Service; the policy's own when empty, required in global policies.
        #[schemars(length(max = 253))]
        pub namespace: String,
    }
}

model! {
    /// Service accounts; both criteria must hold.
    pub struct ServiceAccountMatch {
        /// Names of service accounts; empty = any.
        pub names: Vec<String>,
        /// Labels of service accounts.
        #[schemars(length(max = 1024))]
        pub selector: String,
    }
}

model! {
    /// ICMP type and code. Zero is a value; absent means any.
    pub struct Icmp {
        /// ICMP type, 0-254.
        #[serde(rename = "type")]
        #[schemars(range(min = 0, max = 254))]
        pub type_: Option<i32>,
        /// ICMP code, 0-255; needs a type.
        #[schemars(range(min = 0, max = 255))]
        pub code: Option<i32>,
    }
}

model! {
    /// HTTP criteria.
    pub struct HttpMatch {
        /// Methods, such as `GET`.
        #[schemars(length(max = 20))]
        pub methods: Vec<String>,
        /// Paths.
        #[schemars(length(max = 20))]
        pub paths: Vec<HttpPath>,
    }
}

model! {
    /// An HTTP path: one of both fields.
    pub struct HttpPath {
        /// The whole path.
        #[schemars(length(max = 1024))]
        pub exact: String,
        /// The beginning of the path.
        #[schemars(length(max = 1024))]
        pub prefix: String,
    }
}

model! {
    /// Metadata of a rule.
    pub struct RuleMetadata {
        /// Annotations, copied to the comments of what is programmed.
        pub annotations: BTreeMap<String, String>,
    }
}

/// A protocol: by number, or by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// IP protocol number.
    Number(u8),
    /// Name as written; known are those of [`Protocol::NAMES`].
    Name(String),
    /// A number that is no IP protocol, kept as it was read.
    Invalid(i64),
}

impl Protocol {
    /// Names with their numbers. Names are case-sensitive.
    pub const NAMES: [(&'static str, u8); 6] = [
        ("TCP", 6),
        ("UDP", 17),
        ("ICMP", 1),
        ("ICMPv6", 58),
        ("SCTP", 132),
        ("UDPLite", 136),
    ];

    /// The protocol of that name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::Name(name.to_owned())
    }

    /// The IP protocol number, if this is a protocol at all.
    #[must_use]
    pub fn number(&self) -> Option<u8> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Name(name) => Self::NAMES
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, number)| *number),
            Self::Invalid(_) => None,
        }
    }

    /// True for the protocols whose ports can be matched: TCP, UDP and SCTP.
    #[must_use]
    pub fn supports_ports(&self) -> bool {
        matches!(self.number(), Some(6 | 17 | 132))
    }
}

impl From<&str> for Protocol {
    fn from(text: &str) -> Self {
        text.parse()
            .map_or_else(|_| Self::Name(text.to_owned()), Self::Number)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => f.write_str(name),
            Self::Invalid(number) => number.fmt(f),
        }
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_u8(*number),
            Self::Name(name) => serializer.serialize_str(name),
            Self::Invalid(number) => serializer.serialize_i64(*number),
        }
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match deserializer.deserialize_any(IntOrText)? {
            IntOrTextValue::Int(number) => u8::try_from(number).map_or(Self::Invalid(number), Self::Number),
            IntOrTextValue::Text(text) => Self::from(text.as_str()),
        })
    }
}

impl JsonSchema for Protocol {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Protocol".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]})
    }
}

/// A port criterion: a range of numbers (often of one), or the name of a port of the endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// Port numbers, both ends included.
    Range {
        /// First port.
        min: u16,
        /// Last port.
        max: u16,
    },
    /// A named port.
    Named(String),
    /// Text that is neither, kept as it was read. A rule that has one must not be programmed.
    Invalid(String),
}

impl Port {
    /// One port number.
    #[must_use]
    pub const fn single(port: u16) -> Self {
        Self::Range { min: port, max: port }
    }
}

/// Text that is no port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a port: write a number 0-65535, a range \"min:max\", or a name of up to 128 letters, digits, '_', '.' and '-'"
)]
pub struct PortError(String);

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

impl FromStr for Port {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || PortError(text.to_owned());
        let number = |text: &str| text.parse::<u16>().map_err(|_| bad());
        if is_digits(text) {
            return number(text).map(Self::single);
        }
        if let Some((min, max)) = text.split_once(':') {
            if !is_digits(min) || !is_digits(max) {
                return Err(bad());
            }
            let (min, max) = (number(min)?, number(max)?);
            return if min <= max {
                Ok(Self::Range { min, max })
            } else {
                Err(bad())
            };
        }
        let name_length_max = 128;
        let is_name_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if text.is_empty() || text.len() > name_length_max || !text.bytes().all(is_name_byte) {
            return Err(bad());
        }
        Ok(Self::Named(text.to_owned()))
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range { min, max } if min == max => min.fmt(f),
            Self::Range { min, max } => write!(f, "{min}:{max}"),
            Self::Named(text) | Self::Invalid(text) => f.write_str(text),
        }
    }
}

impl Serialize for Port {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Range { min, max } if min == max => serializer.serialize_u16(*min),
            // A number that was refused for its value goes back as a number.
            Self::Invalid(text) => match text.parse::<i64>() {
                Ok(number) => serializer.serialize_i64(number),
                Err(_) => serializer.serialize_str(text),
            },
            Self::Range { .. } | Self::Named(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match deserializer.deserialize_any(IntOrText)? {
            // A negative number would read as a name, which may have dashes.
            IntOrTextValue::Int(number) if number < 0 => return Ok(Self::Invalid(number.to_string())),
            IntOrTextValue::Int(number) => number.to_string(),
            IntOrTextValue::Text(text) => text,
        };
        Ok(text.parse().unwrap_or(Self::Invalid(text)))
    }
}

impl JsonSchema for Port {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Port".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]})
    }
}

enum IntOrTextValue {
    Int(i64),
    Text(String),
}

/// Reads Kubernetes' int-or-string.
struct IntOrText;

impl de::Visitor<'_> for IntOrText {
    type Value = IntOrTextValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer or a string")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(IntOrTextValue::Int(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(IntOrTextValue::Int(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(IntOrTextValue::Text(value.to_owned()))
    }
}

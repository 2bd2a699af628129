//! Single values with a text form of their own: durations, AS numbers, log levels.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

string_enum! {
    /// Log level of a component, as BGPConfiguration and KubeControllersConfiguration write it.
    pub enum LogLevel {
        /// Everything.
        Trace = "Trace",
        /// Decisions.
        Debug = "Debug",
        /// State changes.
        Info = "Info",
        /// Degraded.
        Warning = "Warning",
        /// Failed.
        Error = "Error",
        /// Cannot go on.
        Fatal = "Fatal",
    }
}

/// A duration in Go's text form (`1m30s`). Text that does not parse is kept and written back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GoDuration {
    /// A duration in nanoseconds.
    Nanoseconds(i64),
    /// Text that is no duration.
    Invalid(String),
}

impl GoDuration {
    /// The duration, or `None` when it is negative or did not parse.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        match self {
            Self::Nanoseconds(nanos) => u64::try_from(*nanos).ok().map(Duration::from_nanos),
            Self::Invalid(_) => None,
        }
    }
}

impl Default for GoDuration {
    fn default() -> Self {
        Self::Nanoseconds(0)
    }
}

impl From<Duration> for GoDuration {
    fn from(duration: Duration) -> Self {
        Self::Nanoseconds(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// Units of Go's `time.ParseDuration`, longest name first so that `ms` is not read as `m`.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("\u{b5}s", 1e3),
    ("\u{3bc}s", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];

fn parse_go_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0i128;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let (unit, scale) = UNITS.iter().find(|(unit, _)| {
            tail.strip_prefix(unit)
                .is_some_and(|after| !after.starts_with(|c: char| c.is_alphabetic()))
        })?;
        total = total.checked_add(scaled(number, *scale)?)?;
        rest = tail.strip_prefix(unit)?;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// `number` (digits with at most one dot) times `scale`, in whole nanoseconds.
fn scaled(number: &str, scale: f64) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "scales are whole numbers of nanoseconds up to an hour"
    )]
    let scale = scale as i128;
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(scale)?;
    let mut unit = scale;
    for digit in fraction.bytes() {
        unit /= 10;
        total = total.checked_add(i128::from(digit - b'0') * unit)?;
    }
    Some(total)
}

impl FromStr for GoDuration {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(parse_go_duration(text).map_or_else(|| Self::Invalid(text.to_owned()), Self::Nanoseconds))
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) => f.write_str(text),
            Self::Nanoseconds(0) => f.write_str("0s"),
            Self::Nanoseconds(nanos) => {
                if *nanos < 0 {
                    f.write_str("-")?;
                }
                write_positive(f, nanos.unsigned_abs())
            }
        }
    }
}

/// Go's form: below a second one unit with a fraction, above it hours, minutes and seconds.
fn write_positive(f: &mut fmt::Formatter<'_>, nanos: u64) -> fmt::Result {
    match nanos {
        0..1_000 => write!(f, "{nanos}ns"),
        1_000..1_000_000 => write!(f, "{}\u{b5}s", decimal(nanos, 1_000)),
        1_000_000..1_000_000_000 => write!(f, "{}ms", decimal(nanos, 1_000_000)),
        _ => {
            let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
            if minutes >= 60 {
                write!(f, "{}h{}m", minutes / 60, minutes % 60)?;
            } else if minutes > 0 {
                write!(f, "{minutes}m")?;
            }
            write!(f, "{}s", decimal(rest, 1_000_000_000))
        }
    }
}

fn decimal(value: u64, scale: u64) -> String {
    let (whole, fraction) = (value / scale, value % scale);
    if fraction == 0 {
        return whole.to_string();
    }
    let digits = scale.ilog10() as usize;
    let fraction = format!("{fraction:0digits$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(parse_go_duration(&text).map_or(Self::Invalid(text), Self::Nanoseconds))
    }
}

impl JsonSchema for GoDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "GoDuration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))*$"})
    }
}

/// An autonomous system number. Read as an integer, as text, or as `"high.low"`; written as an integer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AsNumber(pub u32);

/// Text that is no AS number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an AS number: write 0-4294967295 or \"high.low\" with both parts 0-65535")]
pub struct AsNumberError(String);

impl FromStr for AsNumber {
    type Err = AsNumberError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || AsNumberError(text.to_owned());
        match text.split_once('.') {
            None => text.parse().map(Self).map_err(|_| bad()),
            Some((high, low)) => {
                let high: u16 = high.parse().map_err(|_| bad())?;
                let low: u16 = low.parse().map_err(|_| bad())?;
                Ok(Self(u32::from(high) << 16 | u32::from(low)))
            }
        }
    }
}

impl fmt::Display for AsNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for AsNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de> Deserialize<'de> for AsNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = AsNumber;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an AS number, 0-4294967295 or \"high.low\"")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<AsNumber, E> {
                let unexpected = de::Unexpected::Unsigned(value);
                u32::try_from(value)
                    .map(AsNumber)
                    .map_err(|_| E::invalid_value(unexpected, &self))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<AsNumber, E> {
                let unexpected = de::Unexpected::Signed(value);
                u32::try_from(value)
                    .map(AsNumber)
                    .map_err(|_| E::invalid_value(unexpected, &self))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<AsNumber, E> {
                value.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for AsNumber {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AsNumber".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "format": "int64", "minimum": 0, "maximum": 4_294_967_295u32})
    }
}

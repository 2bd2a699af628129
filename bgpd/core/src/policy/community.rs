//! Communities as people write them: `65000:1` (RFC 1997) and `65000:1:2` (RFC 8092).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// A standard or a large community.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Community {
    /// RFC 1997: two octets of AS, two of value.
    Standard(u32),
    /// RFC 8092: three numbers of four octets.
    Large(u32, u32, u32),
}

impl Community {
    /// Not to any peer (RFC 1997).
    pub const NO_ADVERTISE: u32 = 0xffff_ff02;
    /// Not outside the AS (RFC 1997).
    pub const NO_EXPORT: u32 = 0xffff_ff01;
    /// Not outside the member AS, which is the AS here (RFC 1997).
    pub const NO_EXPORT_SUBCONFED: u32 = 0xffff_ff03;
    /// Planned shutdown of the link (RFC 8326).
    pub const GRACEFUL_SHUTDOWN: u32 = 0xffff_0000;
    /// Kept for long after its session ended (RFC 9494 §3.2).
    pub const LLGR_STALE: u32 = 0xffff_0006;
    /// Not to be kept so long (RFC 9494 §3.3).
    pub const NO_LLGR: u32 = 0xffff_0007;
}

/// A text that is no community.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "community {text:?} is neither AS:VALUE with both up to 65535 nor AS:VALUE:VALUE with each up to 4294967295"
)]
pub struct CommunityParseError {
    text: String,
}

impl FromStr for Community {
    type Err = CommunityParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || CommunityParseError {
            text: text.to_owned(),
        };
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            [high, low] => {
                let high: u16 = high.parse().map_err(|_| error())?;
                let low: u16 = low.parse().map_err(|_| error())?;
                Ok(Self::Standard(u32::from(high) << 16 | u32::from(low)))
            }
            [a, b, c] => {
                let number = |part: &str| part.parse::<u32>().map_err(|_| error());
                Ok(Self::Large(number(a)?, number(b)?, number(c)?))
            }
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard(value) => write!(f, "{}:{}", value >> 16, value & 0xffff),
            Self::Large(a, b, c) => write!(f, "{a}:{b}:{c}"),
        }
    }
}

impl Serialize for Community {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Community {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

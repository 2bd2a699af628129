//! The versions of the CNI protocol, and what each has.
//!
//! Source: CNI specification, "Released versions" of its SPEC.md and the version log of its result types.

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::error::{Code, Error};

/// A protocol version, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Results with `ip4` and `ip6`.
    V0_1_0,
    /// Adds the command VERSION.
    V0_2_0,
    /// Results with lists of interfaces and addresses.
    V0_3_0,
    /// The same with a corrected key.
    V0_3_1,
    /// Adds the command CHECK.
    V0_4_0,
    /// Addresses without their family.
    V1_0_0,
    /// Adds the commands GC and STATUS, MTUs and more route fields.
    V1_1_0,
}

impl Version {
    /// All that are spoken here.
    pub const ALL: [Self; 7] = [
        Self::V0_1_0,
        Self::V0_2_0,
        Self::V0_3_0,
        Self::V0_3_1,
        Self::V0_4_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];

    /// The newest.
    pub const NEWEST: Self = Self::V1_1_0;

    /// What a configuration without `cniVersion` speaks, as in Calico.
    pub const DEFAULT: Self = Self::V0_2_0;

    /// The text on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The answer to the command VERSION. The specification wants the version of the request back, whatever it is.
    #[must_use]
    pub fn answer(requested: Option<&str>) -> Value {
        json!({
            "cniVersion": requested.unwrap_or(Self::NEWEST.as_str()),
            "supportedVersions": Self::ALL.map(Self::as_str),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|version| version.as_str() == text);
        known.ok_or_else(|| {
            Error::new(
                Code::IncompatibleVersion,
                format!("unsupported CNI version {text}"),
            )
            .hint(format!(
                "set cniVersion to one of {}",
                Self::ALL.map(Self::as_str).join(", ")
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_round_trip_and_are_in_order() {
        for version in Version::ALL {
            assert_eq!(version.as_str().parse::<Version>().unwrap(), version);
        }
        assert!(Version::ALL.is_sorted());
        for bad in ["", "1", "1.2.0", "0.5.0", "1.1.0 ", "v1.0.0"] {
            let error = bad.parse::<Version>().unwrap_err();
            assert_eq!(error.code, Code::IncompatibleVersion, "{bad:?}");
            assert!(error.details.contains("1.1.0"), "{error:?}");
        }
    }

    #[test]
    fn the_answer_repeats_the_version_of_the_request() {
        assert_eq!(Version::answer(Some("0.4.0"))["cniVersion"], "0.4.0");
        assert_eq!(Version::answer(None)["cniVersion"], "1.1.0");
        assert_eq!(
            Version::answer(None)["supportedVersions"],
            json!(["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
        );
    }
}

//! Errors as the CNI protocol has them: a code that the runtime acts on, a message, and what to do.
//!
//! Codes below 100 have the specification's meaning; 100 is "this plugin", as Calico uses it; 999 is a fault of the
//! program itself. Source: CNI specification 1.1.0, "Error"; Calico's `cni-plugin/pkg/plugin/plugin.go`.

use std::error::Error as StdError;
use std::fmt;

use serde_json::{Value, json};

/// Result of everything a plugin does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it is, as the runtime understands it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The configuration's `cniVersion` is not spoken here, or does not have the command.
    IncompatibleVersion,
    /// A field of the configuration is not supported.
    UnsupportedField,
    /// The container is not known; the runtime need not clean up.
    UnknownContainer,
    /// An environment variable is missing or wrong.
    InvalidEnvironment,
    /// Reading or writing failed.
    Io,
    /// What was read is not what it should be.
    Decode,
    /// The network configuration is wrong.
    InvalidConfig,
    /// A passing condition; the same call may succeed later.
    TryAgainLater,
    /// STATUS: no pod can be plugged in at present.
    NotAvailable,
    /// STATUS: no pod can be plugged in, and existing ones may be cut off.
    LimitedConnectivity,
    /// A failure of this plugin's own work.
    Plugin,
    /// A fault of the program.
    Internal,
    /// A code that another plugin returned.
    Other(u32),
}

impl Code {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::IncompatibleVersion => 1,
            Self::UnsupportedField => 2,
            Self::UnknownContainer => 3,
            Self::InvalidEnvironment => 4,
            Self::Io => 5,
            Self::Decode => 6,
            Self::InvalidConfig => 7,
            Self::TryAgainLater => 11,
            Self::NotAvailable => 50,
            Self::LimitedConnectivity => 51,
            Self::Plugin => 100,
            Self::Internal => 999,
            Self::Other(number) => number,
        }
    }

    /// The code of a number on the wire.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::IncompatibleVersion,
            2 => Self::UnsupportedField,
            3 => Self::UnknownContainer,
            4 => Self::InvalidEnvironment,
            5 => Self::Io,
            6 => Self::Decode,
            7 => Self::InvalidConfig,
            11 => Self::TryAgainLater,
            50 => Self::NotAvailable,
            51 => Self::LimitedConnectivity,
            100 => Self::Plugin,
            999 => Self::Internal,
            other => Self::Other(other),
        }
    }
}

/// A failed call: what the runtime gets to see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What kind of failure.
    pub code: Code,
    /// What was attempted on what, and why it failed.
    pub message: String,
    /// What to do about it, and further facts.
    pub details: String,
}

impl Error {
    /// An error without a remedy yet; see [`Error::hint`].
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: String::new(),
        }
    }

    /// With a remedy (or further facts), after those that are there.
    #[must_use]
    pub fn hint(mut self, text: impl fmt::Display) -> Self {
        if !self.details.is_empty() {
            self.details.push_str("; ");
        }
        self.details.push_str(&text.to_string());
        self
    }

    /// With what was being done, before the message.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// The document that goes to standard output.
    #[must_use]
    pub fn to_json(&self, version: &str) -> Value {
        let mut document = json!({
            "cniVersion": version,
            "code": self.code.number(),
            "msg": self.message,
        });
        if !self.details.is_empty()
            && let Some(map) = document.as_object_mut()
        {
            map.insert("details".to_owned(), Value::from(self.details.clone()));
        }
        document
    }

    /// Reads the document of another plugin; `None` when it is not one.
    #[must_use]
    pub fn from_json(document: &Value) -> Option<Self> {
        let number = u32::try_from(document.get("code")?.as_u64()?).ok()?;
        let text = |key| {
            document
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        Some(Self {
            code: Code::from_number(number),
            message: text("msg"),
            details: text("details"),
        })
    }
}

/// The whole chain of causes in one line.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some libraries repeat the cause in their own text.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

impl From<caracal_linux::Error> for Error {
    fn from(error: caracal_linux::Error) -> Self {
        let wrapped = Self::new(Code::Plugin, chain(&error));
        if error.is_permission() {
            return wrapped.hint("the plugin needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN)");
        }
        wrapped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip() {
        for number in [1, 2, 3, 4, 5, 6, 7, 11, 50, 51, 100, 101, 999] {
            assert_eq!(Code::from_number(number).number(), number);
        }
    }

    #[test]
    fn documents_round_trip() {
        let error = Error::new(Code::InvalidConfig, "mtu is 70000")
            .hint("write 68 to 65535")
            .hint("or 0")
            .context("configuration");
        let document = error.to_json("1.0.0");
        assert_eq!(
            document,
            json!({
                "cniVersion": "1.0.0", "code": 7,
                "msg": "configuration: mtu is 70000", "details": "write 68 to 65535; or 0",
            })
        );
        assert_eq!(Error::from_json(&document), Some(error));
        for bad in [json!({}), json!([]), json!({"code": "7"}), json!({"code": -1})] {
            assert_eq!(Error::from_json(&bad), None, "{bad}");
        }
    }
}

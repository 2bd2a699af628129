//! What could not be used, where it stands, and what would be right.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A value of an object that was left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Kind and name of the object, as in `BGPPeer tor`.
    pub object: String,
    /// Path of the field, as in `spec.peerIP`.
    pub field: String,
    /// The value that was found.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            object,
            field,
            value,
            problem,
            remedy,
        } = self;
        write!(f, "{object}: {field} {value:?} {problem}; {remedy}")
    }
}

/// Problems as they are found. The same one is reported once.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    pub(crate) fn add(
        &mut self,
        object: &str,
        field: &str,
        value: impl fmt::Display,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let found = Problem {
            object: object.to_owned(),
            field: field.to_owned(),
            value: value.to_string(),
            problem: problem.into(),
            remedy: remedy.into(),
        };
        if !self.0.contains(&found) {
            self.0.push(found);
        }
    }

    pub(crate) fn into_vec(self) -> Vec<Problem> {
        self.0
    }
}

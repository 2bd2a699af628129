//! Asking a node whether it still has addresses, before they are freed: two annotations of the Node.
//!
//! The controllers write a [`Question`]; the node looks into its kernel and writes an [`Answer`] with the question's id.
//! The id is new each time, so an answer is always newer than its question, whatever clocks say. A node that does not
//! answer keeps its addresses. When the question is taken away, the node takes its answer away.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Annotation of a Node with the question, JSON.
pub const QUESTION_ANNOTATION: &str = "caracal.dev/address-question";
/// Annotation of a Node with the answer, JSON.
pub const ANSWER_ANNOTATION: &str = "caracal.dev/address-answer";
/// Most addresses of a question: with a name each it stays far below the limit of an object's annotations.
pub const ADDRESSES_MAX: usize = 256;

/// Which addresses does the node still have?
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Unlike all earlier ones.
    pub id: String,
    /// The addresses, each with the name that the host's end of its pod's interface had; empty if there was none.
    pub addresses: BTreeMap<IpAddr, String>,
}

/// These it still has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The question's id.
    pub id: String,
    /// Addresses of the question that the node has; all others it has not.
    #[serde(default)]
    pub held: Vec<IpAddr>,
}

impl Question {
    /// The question in a Node's annotations; `None` without one, or with one that cannot be read.
    #[must_use]
    pub fn of(annotations: Option<&BTreeMap<String, String>>) -> Option<Self> {
        serde_json::from_str(annotations?.get(QUESTION_ANNOTATION)?).ok()
    }
}

impl Answer {
    /// The answer in a Node's annotations; `None` without one, or with one that cannot be read.
    #[must_use]
    pub fn of(annotations: Option<&BTreeMap<String, String>>) -> Option<Self> {
        serde_json::from_str(annotations?.get(ANSWER_ANNOTATION)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_read_back_and_garbage_is_no_answer() {
        let question = Question {
            id: "1".to_owned(),
            addresses: [("10.0.0.1".parse().unwrap(), "cali1".to_owned())].into(),
        };
        let text = serde_json::to_string(&question).unwrap();
        assert_eq!(text, r#"{"id":"1","addresses":{"10.0.0.1":"cali1"}}"#);
        let annotations: BTreeMap<String, String> = [
            (QUESTION_ANNOTATION.to_owned(), text),
            (
                ANSWER_ANNOTATION.to_owned(),
                r#"{"id":"1","held":["10.0.0.1"]}"#.to_owned(),
            ),
        ]
        .into();
        assert_eq!(Question::of(Some(&annotations)), Some(question));
        assert_eq!(Answer::of(Some(&annotations)).unwrap().held.len(), 1);
        for garbage in ["", "{", "{}", r#"{"id":"1","held":["x"]}"#, "[]", "null"] {
            let annotations: BTreeMap<String, String> =
                [(ANSWER_ANNOTATION.to_owned(), garbage.to_owned())].into();
            assert_eq!(Answer::of(Some(&annotations)), None, "{garbage}");
        }
    }
}

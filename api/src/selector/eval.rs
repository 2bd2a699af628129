//! Whether a selector selects something with given labels.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;

use super::ast::Node;
use crate::meta;

/// Something that has labels.
pub trait Labels {
    /// The value of a label, if it is there.
    fn label(&self, name: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

impl<S: BuildHasher> Labels for HashMap<String, String, S> {
    fn label(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

impl Labels for [(&str, &str)] {
    fn label(&self, name: &str) -> Option<&str> {
        self.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }
}

impl<L: Labels + ?Sized> Labels for &L {
    fn label(&self, name: &str) -> Option<&str> {
        (**self).label(name)
    }
}

impl<L: Labels> Labels for Option<L> {
    fn label(&self, name: &str) -> Option<&str> {
        self.as_ref().and_then(|labels| labels.label(name))
    }
}

impl Node {
    /// True when things with these labels are selected. The negative operators hold without the label, the positive
    /// ones need it.
    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        match self {
            Self::All => true,
            Self::Global => labels.label(meta::LABEL_NAMESPACE).is_none(),
            Self::Has(label) => labels.label(label).is_some(),
            Self::Equal(label, value) => labels.label(label) == Some(value),
            Self::NotEqual(label, value) => labels.label(label) != Some(value),
            Self::Contains(label, value) => labels
                .label(label)
                .is_some_and(|own| own.contains(value.as_str())),
            Self::StartsWith(label, value) => labels
                .label(label)
                .is_some_and(|own| own.starts_with(value.as_str())),
            Self::EndsWith(label, value) => labels
                .label(label)
                .is_some_and(|own| own.ends_with(value.as_str())),
            Self::In(label, set) => labels.label(label).is_some_and(|own| set.contains(own)),
            Self::NotIn(label, set) => !labels.label(label).is_some_and(|own| set.contains(own)),
            Self::Not(operand) => !operand.matches(labels),
            Self::And(operands) => operands.iter().all(|operand| operand.matches(labels)),
            Self::Or(operands) => operands.iter().any(|operand| operand.matches(labels)),
        }
    }
}

//! The verbs on resources. Source of their texts: calicoctl's CRUD commands.

pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod write;

#[cfg(test)]
mod tests;

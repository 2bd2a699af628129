//! The verbs on resources. Source of their texts: calicoctl's CRUD commands.

pub(crate) mod convert;
pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod label;
pub(crate) mod patch;
mod patching;
pub(crate) mod print;
mod report;
mod trial;
pub(crate) mod validate;
pub(crate) mod write;

//! From cluster state to the wanted kernel state of one node: policy, sets, routes. Pure.
//!
//! [`Core`] is the whole surface: feed it [`Update`]s, tell it once when all lists are complete, call
//! [`Core::flush`], and carry out what [`Dirty`] names of [`Desired`]. The output is a function of the present
//! input alone; neither the order of updates nor their history shows in it.

pub mod calc;
pub mod config;
mod core;
pub mod cover;
pub mod desired;
pub mod eval;
pub mod interpret;
pub mod render;
pub mod report;
pub mod rules;
pub mod update;
pub mod way;

pub use crate::core::{Core, Options};
pub use config::Config;
pub use desired::{Desired, Dirty};
pub use update::Update;

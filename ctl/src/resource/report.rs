//! How calicoctl says what became of the resources of its input.

use crate::error::Failure;
use crate::input::Resource;
use crate::terminal::Terminal;

/// A verb in the two forms that messages have.
#[derive(Clone, Copy)]
pub(super) struct Verb {
    pub(super) name: &'static str,
    pub(super) past: &'static str,
}

impl Verb {
    pub(super) const CREATE: Self = Self {
        name: "create",
        past: "created",
    };
    pub(super) const APPLY: Self = Self {
        name: "apply",
        past: "applied",
    };
    pub(super) const REPLACE: Self = Self {
        name: "replace",
        past: "replaced",
    };
    pub(super) const VALIDATE: Self = Self {
        name: "validate",
        past: "validated",
    };
}

/// `'IPPool' ` when all resources are of one kind, nothing otherwise.
pub(super) fn of_kind(resources: &[Resource]) -> String {
    match resources.first() {
        Some(first) if resources.iter().all(|resource| resource.kind == first.kind) => {
            format!("'{}' ", first.kind.kind)
        }
        _ => String::new(),
    }
}

/// Says how a verb went: `errors` has one entry for each resource that failed, in the order of the input.
pub(super) fn say(
    terminal: &Terminal,
    verb: Verb,
    resources: &[Resource],
    errors: &[String],
    suffix: &str,
) -> Result<(), Failure> {
    let total = resources.len();
    let what = of_kind(resources);
    let Some(last) = errors.last() else {
        terminal.line(&format!(
            "Successfully {} {total} {what}resource(s){suffix}",
            verb.past
        ));
        return Ok(());
    };
    // calicoctl counts resources that it failed to replace as handled.
    if verb.name == Verb::REPLACE.name {
        terminal.line(&format!(
            "Partial success: replaced the first {total} out of {total} {what}resources:"
        ));
        return Err(Failure::new(format!("hit error: {last}")));
    }
    let list = errors.join(" ");
    let handled = total - errors.len();
    if handled == 0 {
        let (any, plural) = if total == 1 {
            ("", "resource")
        } else {
            ("any ", "resources")
        };
        return Err(Failure::new(format!(
            "failed to {} {any}{what}{plural}: [{list}]",
            verb.name
        )));
    }
    if handled > errors.len() {
        terminal.line(&format!(
            "Partial success: {} the first {handled} out of {total} {what}resources:",
            verb.past
        ));
    }
    Err(Failure::new(format!("hit error: [{list}]")))
}

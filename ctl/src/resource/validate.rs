//! `validate`: what a file says, judged without a cluster.

use super::report::{self, Verb};
use crate::args::Validate;
use crate::error::Failure;
use crate::input;
use crate::judge;
use crate::terminal::Terminal;

/// Carries out `validate`.
pub(crate) fn run(terminal: &Terminal, arguments: &Validate) -> Result<(), Failure> {
    let source = &arguments.source;
    let Some(resources) = input::read(terminal, source)? else {
        return Ok(());
    };
    let flag = source.namespace.as_deref();
    let errors: Vec<String> = resources
        .iter()
        .filter_map(|resource| {
            let namespace = input::namespace(resource.kind, resource.namespace(), flag, false);
            match namespace {
                Err(failure) => Some(format!(
                    "{}: {failure}",
                    resource.origin.of_field("metadata.namespace")
                )),
                Ok(_) => judge::refusal_with_places(resource),
            }
        })
        .collect();
    report::say(terminal, Verb::VALIDATE, &resources, &errors, "")
}

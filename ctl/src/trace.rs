//! `trace`: would a connection pass, by which rule, and what would allow it.
//!
//! Asks felix's own evaluator about the cluster as the API has it. The parts: [`ends`] finds the ends, [`path`] goes the
//! way, [`hint`] says how to allow what is denied, [`text`] prints.

pub(crate) mod ends;
mod hint;
pub(crate) mod path;
mod text;

use caracal_felix_core::eval::Verdict;
use serde_json::{Value, json};

use crate::args::{Global, Trace};
use crate::connect::Access;
use crate::error::Failure;
use crate::form;
use crate::snapshot::Snapshot;
use crate::terminal::Terminal;
use ends::Query;

/// Carries out `trace`. The exit code says what was found: 0 it passes, 1 it does not, 4 it could not be told for sure.
pub(crate) async fn run(
    terminal: &Terminal,
    access: &Access,
    global: &Global,
    arguments: &Trace,
) -> Result<(), Failure> {
    let (to, port) = match (&arguments.to, arguments.target.as_slice()) {
        (Some(to), []) => (to.clone(), arguments.port.clone()),
        (None, [to]) => (to.clone(), arguments.port.clone()),
        (None, [to, port]) if arguments.port.is_none() => (to.clone(), Some(port.clone())),
        _ => {
            let text =
                "name the target once: `trace POD TARGET PORT`, or `trace POD --to TARGET --port PORT`";
            return Err(Failure::new(text).with_code(2));
        }
    };
    let query = Query {
        from: arguments.source.clone(),
        to,
        port,
        protocol: arguments.protocol.clone(),
        namespace: arguments.namespace.clone(),
        icmp: arguments.icmp.map(|icmp| (icmp, arguments.icmp_code)),
        is_v6: arguments.ipv6,
    };
    let snapshot = Snapshot::of_cluster(&access.client(global).await?).await?;
    let flows = ends::flows(&snapshot, &query)?;
    let answers: Vec<text::Answer> = flows
        .into_iter()
        .map(|flow| text::Answer::new(&snapshot, flow))
        .collect();
    let denied = answers
        .iter()
        .filter(|answer| answer.path.verdict == Verdict::Deny)
        .count();
    let verdict = match denied {
        0 => "allowed",
        count if count == answers.len() => "denied",
        _ => "partly denied",
    };
    let data = json!({
        "verdict": verdict,
        "paths": answers.iter().map(text::Answer::json).collect::<Vec<Value>>(),
        "unread": snapshot.unread,
    });
    form::print(terminal, &arguments.output, data, || {
        let mut text: String = answers.iter().map(text::Answer::text).collect();
        if answers.len() > 1 {
            text.push_str(&format!(
                "{verdict}: {denied} of {} endpoints do not answer\n",
                answers.len()
            ));
        }
        Ok(text)
    })?;
    if !snapshot.unread.is_empty() {
        let kinds = snapshot.unread.join(", ");
        terminal.message(&format!(
            "not for sure: you may not list {kinds}; ask for the right to list them"
        ));
        return Err(Failure::new("").with_code(4));
    }
    if denied > 0 {
        return Err(Failure::new(""));
    }
    Ok(())
}

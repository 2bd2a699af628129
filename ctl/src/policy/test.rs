//! `policy test`: cases against policies of files, without a cluster.

use caracal_felix_core::eval::{Reason, Verdict};
use serde_json::{Value, json};

use super::cases::{self, Case, Expectation, Port};
use crate::args::PolicyTest;
use crate::error::Failure;
use crate::form;
use crate::snapshot::Snapshot;
use crate::terminal::Terminal;
use crate::trace::ends::{self, Query};
use crate::trace::path::{self, Hop, Path};

/// What became of a case.
struct Outcome {
    place: String,
    title: String,
    /// Why it failed; none when it holds.
    failure: Option<String>,
}

/// Carries out `policy test`.
pub(crate) fn run(terminal: &Terminal, arguments: &PolicyTest) -> Result<(), Failure> {
    let namespace = &arguments.namespace;
    let mut manifests = super::manifests(terminal, &arguments.files, arguments.recursive, namespace)?;
    let file = &arguments.cases;
    let text = if file == "-" {
        terminal.input()
    } else {
        std::fs::read_to_string(file)
    };
    let text = text.map_err(|error| Failure::new(format!("--cases {file}: {error}")).with_code(2))?;
    let cases = cases::read(file, &text, namespace, &mut manifests)?;
    let snapshot = manifests.into_snapshot();
    if let Some((object, problem)) = snapshot.core.problems().iter().next() {
        return Err(Failure::new(format!("{object}: {problem}")).with_code(2));
    }
    let mut outcomes = Vec::new();
    for (place, case) in cases.cases {
        let failure = judge(&snapshot, &case, namespace)
            .map_err(|failure| Failure::new(format!("{place}: {failure}")).with_code(2))?;
        outcomes.push(Outcome {
            place,
            title: case.title(),
            failure,
        });
    }
    let failed = outcomes
        .iter()
        .filter(|outcome| outcome.failure.is_some())
        .count();
    if arguments.output == "junit" {
        terminal.text(&junit(&outcomes, failed));
    } else {
        form::print(terminal, &arguments.output, data(&outcomes, failed), || {
            Ok(shown(&outcomes, failed))
        })
        .map_err(|failure| failure.with_code(2))?;
    }
    if failed > 0 {
        return Err(Failure::new(""));
    }
    Ok(())
}

/// Why a case does not hold.
fn judge(snapshot: &Snapshot, case: &Case, namespace: &str) -> Result<Option<String>, Failure> {
    let query = Query {
        from: case.from.clone(),
        to: case.to.clone(),
        port: case.port.as_ref().map(|port| match port {
            Port::Number(number) => number.to_string(),
            Port::Name(name) => name.clone(),
        }),
        protocol: case.protocol.clone(),
        namespace: namespace.to_owned(),
        icmp: case
            .icmp_type
            .map(|type_| (type_, case.icmp_code.unwrap_or_default())),
        is_v6: false,
    };
    for flow in ends::flows(snapshot, &query)? {
        let path = path::go(snapshot, &flow);
        let is_as_expected = match case.expect {
            Expectation::Allow => path.verdict == Verdict::Allow,
            Expectation::Deny => path.verdict == Verdict::Deny,
        };
        if !is_as_expected {
            let expected = if path.verdict == Verdict::Allow {
                "deny"
            } else {
                "allow"
            };
            let reasons = reasons(&path).join("; ");
            return Ok(Some(format!(
                "expected {expected}, got {}: {reasons}",
                path.verdict
            )));
        }
        if let Some(by) = &case.by {
            let deciders: Vec<String> = path.hops.iter().filter_map(decider).collect();
            if !deciders.iter().any(|decider| names(decider, by)) {
                let found = if deciders.is_empty() {
                    "nothing".to_owned()
                } else {
                    deciders.join(" and ")
                };
                return Ok(Some(format!("expected {by} to decide, found {found}")));
            }
        }
    }
    Ok(None)
}

/// Kubernetes' policies are named by the kind of their manifests too.
fn names(decider: &str, by: &str) -> bool {
    decider == by || decider.strip_prefix("Kubernetes") == Some(by)
}

fn reasons(path: &Path) -> Vec<String> {
    let hops = path.hops.iter().filter(|hop| hop.verdict() == path.verdict);
    let reasons = hops.filter_map(|hop| match hop {
        Hop::Asked { evaluation, .. } => Some(format!(
            "{}: {}",
            evaluation.direction.as_str(),
            evaluation.reason
        )),
        Hop::ToHost { action, .. } => Some(format!("defaultEndpointToHostAction is {action}")),
        Hop::Routed { .. } if path.verdict == Verdict::Deny => Some("no workload has the address".to_owned()),
        Hop::Free { .. } | Hop::Routed { .. } => None,
    });
    reasons.collect()
}

fn decider(hop: &Hop) -> Option<String> {
    let Hop::Asked { evaluation, .. } = hop else {
        return None;
    };
    match &evaluation.reason {
        Reason::Policy { policy, .. } => Some(policy.shown()),
        Reason::Profile { profile, .. } => Some(format!("profile {profile}")),
        Reason::EndOfTier { tier } => Some(format!("end of tier {tier}")),
        Reason::NoProfile | Reason::Failsafe | Reason::Encapsulated | Reason::NotConcerned => None,
    }
}

fn shown(outcomes: &[Outcome], failed: usize) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        match &outcome.failure {
            None => text.push_str(&format!("ok    {}\n", outcome.title)),
            Some(why) => {
                text.push_str(&format!(
                    "FAIL  {}\n      {}: {why}\n",
                    outcome.title, outcome.place
                ));
            }
        }
    }
    text.push_str(&format!("{} cases, {failed} failed\n", outcomes.len()));
    text
}

fn data(outcomes: &[Outcome], failed: usize) -> Value {
    let cases: Vec<Value> = outcomes
        .iter()
        .map(|outcome| {
            json!({"name": outcome.title, "place": outcome.place, "ok": outcome.failure.is_none(),
                "failure": outcome.failure})
        })
        .collect();
    json!({"cases": cases, "failed": failed})
}

fn junit(outcomes: &[Outcome], failed: usize) -> String {
    let count = outcomes.len();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"policy\" tests=\"{count}\" failures=\"{failed}\">\n"
    );
    for outcome in outcomes {
        let name = escaped(&outcome.title);
        match &outcome.failure {
            None => text.push_str(&format!("  <testcase name=\"{name}\"/>\n")),
            Some(why) => {
                let why = escaped(&format!("{}: {why}", outcome.place));
                text.push_str(&format!(
                    "  <testcase name=\"{name}\"><failure message=\"{why}\"/></testcase>\n"
                ));
            }
        }
    }
    text.push_str("</testsuite>\n");
    text
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            letter if letter.is_control() => out.push(' '),
            letter => out.push(letter),
        }
    }
    out
}

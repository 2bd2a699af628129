//! `policy report`: whom policies select, and what of them does nothing.

use caracal_felix_core::calc::model::Direction;
use caracal_felix_core::eval::Criterion;
use caracal_felix_core::report::{Finding, PolicyReport as Entry, Report};
use serde_json::{Value, json};

use crate::args::{Global, PolicyReport};
use crate::connect::Access;
use crate::error::Failure;
use crate::snapshot::Snapshot;
use crate::terminal::Terminal;
use crate::trace::ends::shown;
use crate::{form, table};

/// Carries out `policy report`.
pub(crate) async fn run(
    terminal: &Terminal,
    access: &Access,
    global: &Global,
    arguments: &PolicyReport,
) -> Result<(), Failure> {
    let snapshot = if arguments.filename.is_empty() {
        Snapshot::of_cluster(&access.client(global).await?).await?
    } else {
        let recursive = arguments.recursive;
        super::manifests(terminal, &arguments.filename, recursive, "default")?.into_snapshot()
    };
    let mut report = snapshot.core.report();
    if let Some(namespace) = &arguments.namespace {
        report
            .policies
            .retain(|entry| entry.id.key.namespace == *namespace);
        report
            .unselected
            .retain(|(item, _)| shown(item).starts_with(&format!("{namespace}/")));
    }
    let problems = snapshot.core.problems();
    let data = json!({
        "policies": report.policies.iter().map(entry_json).collect::<Vec<Value>>(),
        "unselected": report.unselected.iter().map(|(item, direction)| {
            json!({"endpoint": shown(item), "direction": direction.as_str()})
        }).collect::<Vec<Value>>(),
        "notUnderstood": problems,
    });
    form::print(terminal, &arguments.output, data, || {
        let mut text = text(&report);
        for (object, problem) in problems {
            text.push_str(&format!(
                "{object}: not understood, what it concerns is closed: {problem}\n"
            ));
        }
        Ok(text)
    })?;
    if !snapshot.unread.is_empty() {
        let kinds = snapshot.unread.join(", ");
        terminal.message(&format!(
            "incomplete: you may not list {kinds}; ask for the right to list them"
        ));
        return Err(Failure::new("").with_code(4));
    }
    if report.policies.iter().any(|entry| !entry.findings.is_empty()) || !problems.is_empty() {
        return Err(Failure::new(""));
    }
    Ok(())
}

fn text(report: &Report) -> String {
    let rows: Vec<Vec<String>> = report.policies.iter().map(row).collect();
    let mut text = table::plain(
        &["TIER", "ORDER", "POLICY", "TYPES", "ENDPOINTS", "FINDINGS"],
        &rows,
    );
    for entry in &report.policies {
        for finding in &entry.findings {
            text.push_str(&format!(
                "{}: {}\n",
                entry.id.shown(),
                finding_text(entry, finding)
            ));
        }
    }
    for direction in Direction::ALL {
        let open = report.unselected.iter().filter(|(_, own)| *own == direction);
        let names: Vec<String> = open.map(|(item, _)| shown(item)).collect();
        if !names.is_empty() {
            let word = direction.as_str();
            text.push_str(&format!(
                "no {word} policy selects {}: {}\n",
                names.len(),
                some(&names)
            ));
        }
    }
    text
}

fn some(names: &[String]) -> String {
    const SHOWN_MAX: usize = 10;
    let shown = names
        .iter()
        .take(SHOWN_MAX)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().saturating_sub(SHOWN_MAX) {
        0 => shown,
        rest => format!("{shown} and {rest} more"),
    }
}

fn row(entry: &Entry) -> Vec<String> {
    let types: Vec<&str> = entry
        .directions
        .iter()
        .map(|direction| direction.as_str())
        .collect();
    vec![
        entry.tier.clone(),
        entry
            .order
            .map_or_else(|| "-".to_owned(), |order| order.to_string()),
        entry.id.shown(),
        types.join(","),
        entry.endpoints.len().to_string(),
        entry.findings.len().to_string(),
    ]
}

const fn end_text(end: Criterion) -> &'static str {
    match end {
        Criterion::Source => "source",
        Criterion::SourcePort => "source port",
        Criterion::DestinationPort => "port",
        Criterion::Version | Criterion::Protocol | Criterion::Icmp | Criterion::Destination => "destination",
    }
}

fn finding_text(entry: &Entry, finding: &Finding) -> String {
    match finding {
        Finding::Unused => format!("selects no endpoint: {}", entry.selector),
        Finding::Shadowed {
            direction,
            rule,
            by,
            by_rule,
        } => {
            let whose = if *by == entry.id {
                String::new()
            } else {
                format!(" of {}", by.shown())
            };
            let direction = direction.as_str();
            format!(
                "{direction} rule {rule} decides nothing: rule {by_rule}{whose} before it matches all that it does"
            )
        }
        Finding::Empty {
            direction,
            rule,
            end,
            wanted,
        } => {
            let (direction, end) = (direction.as_str(), end_text(*end));
            format!("{direction} rule {rule} matches nothing: no {end} is {wanted}")
        }
    }
}

fn entry_json(entry: &Entry) -> Value {
    let findings = entry.findings.iter().map(|finding| {
        let kind = match finding {
            Finding::Unused => "unused",
            Finding::Shadowed { .. } => "shadowed",
            Finding::Empty { .. } => "empty",
        };
        json!({"kind": kind, "text": finding_text(entry, finding)})
    });
    json!({
        "policy": entry.id.shown(),
        "kind": entry.id.kind.as_str(),
        "namespace": entry.id.key.namespace,
        "name": entry.id.key.name,
        "tier": entry.tier,
        "order": entry.order,
        "selector": entry.selector,
        "types": entry.directions.iter().map(|direction| direction.as_str()).collect::<Vec<_>>(),
        "endpoints": entry.endpoints.iter().map(shown).collect::<Vec<_>>(),
        "findings": findings.collect::<Vec<Value>>(),
    })
}

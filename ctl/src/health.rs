//! `status` and `doctor`: how the cluster's network is, from the API alone, so from a laptop as well as from a node.
//!
//! Owns what is looked at ([`seen`]) and what follows from it ([`findings`], pure). Never asks a node, never changes
//! anything: each finding names the command that looks further or mends it.

mod catalogue;
mod findings;
mod seen;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use caracal_datastore::Client;
use serde_json::{Value, json};

use crate::args::{Doctor, Status};
use crate::error::Failure;
use crate::terminal::Terminal;
use crate::{form, table};

use catalogue::Severity;
use findings::{Finding, findings};
use seen::Seen;

/// Exit codes of these commands.
const FINDINGS: u8 = 1;
const UNREACHABLE: u8 = 3;
const PARTIAL: u8 = 4;

/// Carries out `doctor`.
pub(crate) async fn doctor(terminal: &Terminal, client: &Client, arguments: &Doctor) -> Result<(), Failure> {
    let seen = look(client).await?;
    let of_node = |finding: &Finding| {
        let wanted = arguments.node.as_deref();
        wanted.is_none_or(|node| finding.node.as_deref().is_none_or(|of| of == node))
    };
    let found: Vec<Finding> = findings(&seen).into_iter().filter(of_node).collect();
    let data: Value = found.iter().map(Finding::to_json).collect();
    form::print(
        terminal,
        &arguments.output,
        json!({"findings": data, "notSeen": seen.not_seen}),
        || Ok(text(&found, &seen)),
    )?;
    end(&found, &seen)
}

/// Carries out `status`.
pub(crate) async fn status(terminal: &Terminal, client: &Client, arguments: &Status) -> Result<(), Failure> {
    let seen = look(client).await?;
    let found = findings(&seen);
    let rows = rows(&seen, &found);
    let data: Value = rows.iter().map(Row::to_json).collect();
    form::print(terminal, &arguments.output, json!({"nodes": data}), || {
        Ok(overview(&rows, &found))
    })?;
    end(&found, &seen)
}

async fn look(client: &Client) -> Result<Seen, Failure> {
    Seen::load(client).await.map_err(|error| {
        Failure::new(format!("the cluster cannot be looked at: {error}")).with_code(UNREACHABLE)
    })
}

fn end(found: &[Finding], seen: &Seen) -> Result<(), Failure> {
    let code = if !found.is_empty() {
        FINDINGS
    } else if !seen.not_seen.is_empty() {
        PARTIAL
    } else {
        return Ok(());
    };
    Err(Failure::new("").with_code(code))
}

fn text(found: &[Finding], seen: &Seen) -> String {
    let mut text = String::new();
    for finding in found {
        let word = match finding.severity {
            Severity::Fail => "FAIL",
            Severity::Warn => "WARN",
        };
        text.push_str(&format!(
            "{word} {}  {}: {}\n",
            finding.id, finding.subject, finding.reason
        ));
        text.push_str(&format!("     next: {}\n", finding.next));
    }
    for kind in &seen.not_seen {
        text.push_str(&format!("     not looked at: {kind}\n"));
    }
    if found.is_empty() {
        let nodes = seen.nodes.len();
        text.push_str(&format!(
            " ok  {nodes} nodes, {} pools: nothing found\n",
            seen.pools.len()
        ));
    }
    text
}

/// A node's line.
struct Row {
    node: String,
    ready: bool,
    agent: &'static str,
    bgp: Option<(usize, usize)>,
    blocks: usize,
    reason: Option<String>,
}

impl Row {
    fn to_json(&self) -> Value {
        json!({
            "node": self.node,
            "ready": self.ready,
            "agent": self.agent,
            "bgpEstablished": self.bgp.map(|(up, _)| up),
            "bgpSessions": self.bgp.map(|(_, all)| all),
            "blocks": self.blocks,
            "reason": self.reason,
        })
    }
}

fn rows(seen: &Seen, found: &[Finding]) -> Vec<Row> {
    let mut blocks: BTreeMap<&str, usize> = BTreeMap::new();
    for affinity in &seen.affinities {
        *blocks.entry(affinity.spec.node.as_str()).or_default() += 1;
    }
    let row = |name: &str| {
        let agent = match seen.agent(name) {
            None => "none",
            Some(pod) if seen::is_ready(pod) => "ok",
            Some(_) => "not ready",
        };
        let mine = found.iter().find(|finding| finding.node.as_deref() == Some(name));
        Row {
            node: name.to_owned(),
            ready: seen.is_node_ready(name),
            agent,
            bgp: seen.sessions(name).map(|(up, down)| (up, up + down.len())),
            blocks: blocks.get(name).copied().unwrap_or_default(),
            reason: mine.map(|finding| format!("{} ({})", finding.reason, finding.id)),
        }
    };
    seen.node_names().map(row).collect()
}

fn overview(rows: &[Row], found: &[Finding]) -> String {
    let is_ok = |row: &&Row| row.ready && row.agent == "ok" && row.reason.is_none();
    let ok = rows.iter().filter(is_ok).count();
    let mut text = format!("{} nodes: {ok} ok, {} degraded\n", rows.len(), rows.len() - ok);
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.node.clone(),
                if row.ready { "yes" } else { "no" }.to_owned(),
                row.agent.to_owned(),
                row.bgp
                    .map_or_else(|| "-".to_owned(), |(up, all)| format!("{up}/{all}")),
                row.blocks.to_string(),
                row.reason.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect();
    text.push_str(&table::plain(
        &["NODE", "READY", "AGENT", "BGP", "BLOCKS", "REASON"],
        &cells,
    ));
    let of_cluster = found.iter().filter(|finding| finding.node.is_none()).count();
    if of_cluster > 0 {
        text.push_str(&format!(
            "{of_cluster} findings concern the whole cluster: caracalctl doctor\n"
        ));
    }
    text
}

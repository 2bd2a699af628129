//! `ipam check`: what is stored about addresses against what is in use, in calicoctl's words; `--fix` mends it.

mod text;

use std::collections::BTreeSet;
use std::time::Duration;

use caracal_api::v3::{ClusterInformation, KubeControllersConfiguration};
use caracal_datastore::Client;
use caracal_ipam::Ipam;
use caracal_ipam::check::{Finding, Outcome, Report, Snapshot, check};

use super::report::ReportFile;
use crate::args::{IpamCheck, ReportForm};
use crate::error::Failure;
use crate::table;
use crate::terminal::Terminal;

/// What is under way looks wrong for less time than this.
const SECOND_LOOK: Duration = Duration::from_millis(500);
/// A mended block may show the next thing that is wrong; after so many rounds a person has to look.
const ROUNDS_MAX: usize = 5;

/// Carries out `ipam check`.
pub(crate) async fn run(terminal: &Terminal, client: &Client, arguments: &IpamCheck) -> Result<(), Failure> {
    let information: Option<ClusterInformation> = client.get(None, "default").await?;
    let controllers: Option<KubeControllersConfiguration> = client.get(None, "default").await?;
    let has_services = controllers
        .and_then(|one| one.spec.controllers)
        .is_some_and(|controllers| controllers.load_balancer.is_some());
    let is_text = arguments.format == ReportForm::Text;
    let (snapshot, report) = look(client).await?;
    if is_text {
        let details = text::Details {
            problems: arguments.show_problem_ips || arguments.show_all_ips,
            all: arguments.show_all_ips,
            has_services,
        };
        terminal.text(&text::text(&snapshot, &report, details));
    }
    if let Some(path) = &arguments.output {
        ReportFile::new(&report, information.as_ref()).write(path)?;
        if is_text {
            terminal.line(&format!("Wrote the report to {}.", path.display()));
        }
    }
    let (report, outcomes) = if arguments.fix {
        fix(terminal, client, report, is_text).await?
    } else {
        (report, Vec::new())
    };
    if !is_text {
        let file = ReportFile::new(&report, information.as_ref());
        let mut value = serde_json::to_value(file).map_err(|error| Failure::new(error.to_string()))?;
        value["fixes"] = outcomes
            .iter()
            .map(|(id, outcome)| {
                let mut value = serde_json::to_value(outcome).unwrap_or_default();
                value["finding"] = id.as_str().into();
                value
            })
            .collect();
        super::structured(terminal, arguments.format, &value)?;
    }
    Ok(())
}

/// Looks at everything; what seems wrong is looked at a second time.
async fn look(client: &Client) -> Result<(Snapshot, Report), Failure> {
    let snapshot = Snapshot::load(client).await?;
    let first = check(&snapshot);
    if first.findings.is_empty() {
        return Ok((snapshot, first));
    }
    tokio::time::sleep(SECOND_LOOK).await;
    let snapshot = Snapshot::load(client).await?;
    let mut second = check(&snapshot);
    let seen: BTreeSet<String> = first.findings.iter().map(Finding::id).collect();
    second.findings.retain(|finding| seen.contains(&finding.id()));
    Ok((snapshot, second))
}

/// Mends what can be mended until nothing changes any more; returns what is left, and what was done.
async fn fix(
    terminal: &Terminal,
    client: &Client,
    mut report: Report,
    is_text: bool,
) -> Result<(Report, Vec<(String, Outcome)>), Failure> {
    let ipam = Ipam::new(client.clone());
    let mut all = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let outcomes = ipam.fix(&report.findings).await?;
        let progress = outcomes.iter().any(|(_, outcome)| *outcome == Outcome::Done);
        all.extend(outcomes);
        if !progress {
            break;
        }
        report = ipam.check().await?;
        if report.findings.is_empty() {
            break;
        }
    }
    if is_text {
        terminal.text(&fixed(&all, &report));
    }
    Ok((report, all))
}

/// What was done about findings, and what is left.
fn fixed(outcomes: &[(String, Outcome)], left: &Report) -> String {
    let word = |outcome: &Outcome| match outcome {
        Outcome::Done => "fixed".to_owned(),
        Outcome::Gone => "gone by itself".to_owned(),
        Outcome::ByHand => "needs a person".to_owned(),
        Outcome::Failed { problem } => format!("failed: {problem}"),
    };
    let mut shown = BTreeSet::new();
    let rows: Vec<Vec<String>> = outcomes
        .iter()
        .map(|(id, outcome)| vec![id.clone(), word(outcome)])
        // A finding that nobody can mend comes again in every round.
        .filter(|row| shown.insert(row.clone()))
        .collect();
    if rows.is_empty() {
        return "Nothing to fix.\n".to_owned();
    }
    let mut text = table::boxed(&["Finding", "Outcome"], &rows, &[]);
    let problems = left.problems().count();
    text.push_str(&format!("Problems left: {problems}\n"));
    for finding in left.problems() {
        text.push_str(&text::line(finding));
    }
    text
}

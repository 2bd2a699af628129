//! `ipam release`: one address, or what reports of `ipam check` agree on.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use caracal_api::names::handle_name;
use caracal_api::v3::{ClusterInformation, IPAMHandle};
use caracal_datastore::{Client, Preconditions};
use caracal_ipam::check::LeakedHandle;
use caracal_ipam::{Ipam, Release};

use super::report::ReportFile;
use crate::args::IpamRelease;
use crate::error::Failure;
use crate::terminal::Terminal;
use crate::version::VERSION;

/// Carries out `ipam release`.
pub(crate) async fn run(
    terminal: &Terminal,
    client: &Client,
    arguments: &IpamRelease,
) -> Result<(), Failure> {
    if let Some(ip) = &arguments.ip {
        return one(terminal, client, ip).await;
    }
    if arguments.from_report.is_empty() {
        return Ok(());
    }
    let reports: Vec<(&Path, ReportFile)> = arguments
        .from_report
        .iter()
        .map(|path| Ok((path.as_path(), ReportFile::read(path)?)))
        .collect::<Result<_, Failure>>()?;
    let information: Option<ClusterInformation> = client.get(None, "default").await?;
    let information = information.ok_or_else(|| {
        Failure::new(
            "the cluster has no ClusterInformation named default, so reports cannot be compared with it",
        )
    })?;
    judge(terminal, &reports, &information, arguments.force)?;
    let files: Vec<&ReportFile> = reports.iter().map(|(_, report)| report).collect();
    addresses(terminal, client, &files).await?;
    handles(terminal, client, &files).await?;
    terminal.line("You may now unlock the data store.");
    Ok(())
}

async fn one(terminal: &Terminal, client: &Client, ip: &str) -> Result<(), Failure> {
    let address = super::address(ip)?;
    let release = Release {
        address,
        handle: None,
        sequence_number: None,
    };
    let outcome = Ipam::new(client.clone()).release_ips(&[release]).await?;
    if !outcome.not_allocated.is_empty() {
        return Err(Failure::new(format!("IP address {address} is not assigned")));
    }
    terminal.line(&format!("Successfully released IP address {address}"));
    Ok(())
}

/// Whether reports may be acted on.
fn judge(
    terminal: &Terminal,
    reports: &[(&Path, ReportFile)],
    information: &ClusterInformation,
    force: bool,
) -> Result<(), Failure> {
    for (path, report) in reports {
        let path = path.display();
        if report.cluster_guid != information.spec.cluster_guid {
            return Err(Failure::new(format!(
                "cluster does not match the provided report ({path}): mismatched cluster GUID. Refusing to release"
            )));
        }
        if report.version != VERSION {
            let text = format!(
                "the provided report ({path}) was produced using a different version ({}) of calicoctl",
                report.version
            );
            if !force {
                return Err(Failure::new(format!("{text}. Refusing to release")));
            }
            terminal.message(&format!("WARNING: {text}"));
        }
    }
    let revision = information
        .metadata
        .resource_version
        .as_deref()
        .unwrap_or_default();
    if !reports
        .iter()
        .any(|(_, report)| report.cluster_information_revision == revision)
    {
        return Err(Failure::new(
            "the provided reports are all stale - at least one should be up-to-date. Please generate a new report \
             while the data store is locked and try again",
        ));
    }
    if information.spec.datastore_ready != Some(false) {
        let text = "data store is not locked. Either lock the data store, or re-run with --force";
        if !force {
            return Err(Failure::new(text));
        }
        terminal.message(&format!("WARNING: {text}"));
    }
    Ok(())
}

/// The allocations that all reports have and that none of them sees in use.
fn leaked(reports: &[&ReportFile]) -> Vec<Release> {
    // By address, handle and sequence number: in how many reports it is a leak.
    let mut seen: BTreeMap<(IpAddr, String, Option<u64>), usize> = BTreeMap::new();
    for report in reports {
        for (address, allocations) in &report.allocations {
            for one in allocations.iter().filter(|one| !one.in_use && !one.cooling_down) {
                *seen
                    .entry((*address, one.handle.clone(), one.sequence_number))
                    .or_default() += 1;
            }
        }
    }
    seen.into_iter()
        .filter(|(_, count)| *count == reports.len())
        .map(|((address, handle, sequence_number), _)| Release {
            address,
            handle: Some(handle).filter(|handle| !handle.is_empty()),
            sequence_number,
        })
        .collect()
}

async fn addresses(terminal: &Terminal, client: &Client, reports: &[&ReportFile]) -> Result<(), Failure> {
    let leaked = leaked(reports);
    terminal.line(&format!("Releasing {} old IPs...", leaked.len()));
    let ipam = Ipam::new(client.clone());
    let mut released = 0;
    let mut problems = Vec::new();
    for release in leaked {
        // One at a time: an address that is held anew must not keep its block's others.
        match ipam.release_ips(std::slice::from_ref(&release)).await {
            Ok(outcome) => released += outcome.released.len(),
            Err(error) => problems.push(format!("{}: {error}", release.address)),
        }
    }
    for problem in &problems {
        terminal.message(&format!("not released: {problem}"));
    }
    terminal.line(&format!("Released {released} IPs successfully"));
    Ok(())
}

/// The handles that all reports have in the same state.
fn leaked_handles(reports: &[&ReportFile]) -> Vec<LeakedHandle> {
    let Some((first, others)) = reports.split_first() else {
        return Vec::new();
    };
    let everywhere =
        |handle: &&LeakedHandle| others.iter().all(|report| report.leaked_handles.contains(handle));
    first.leaked_handles.iter().filter(everywhere).cloned().collect()
}

async fn handles(terminal: &Terminal, client: &Client, reports: &[&ReportFile]) -> Result<(), Failure> {
    let leaked = leaked_handles(reports);
    terminal.line(&format!("Deleting {} handles...", leaked.len()));
    let (mut released, mut skipped, mut failed) = (0, 0, 0);
    let mut progress = String::new();
    for handle in &leaked {
        match delete_handle(client, handle).await {
            Ok(true) => released += 1,
            Ok(false) => skipped += 1,
            Err(error) => {
                failed += 1;
                terminal.message(&format!("handle {}: {error}", handle.id));
                progress.push('x');
                continue;
            }
        }
        progress.push('.');
    }
    if !progress.is_empty() {
        terminal.line(&progress);
    }
    terminal.line(&format!(
        "Released {released} handles; {skipped} skipped; {failed} errors."
    ));
    Ok(())
}

/// True when the handle is still as it was reported and could be deleted.
async fn delete_handle(client: &Client, handle: &LeakedHandle) -> caracal_datastore::Result<bool> {
    let name = handle_name(&handle.id);
    let stored: Option<IPAMHandle> = client.get(None, &name).await?;
    let is_same = stored.is_some_and(|stored| {
        stored.metadata.resource_version.as_deref() == Some(handle.revision.as_str())
            && stored.metadata.uid.as_deref() == Some(handle.uid.as_str())
    });
    if !is_same {
        return Ok(false);
    }
    let preconditions = Preconditions {
        resource_version: Some(handle.revision.clone()),
        uid: Some(handle.uid.clone()),
    };
    client.delete::<IPAMHandle>(None, &name, preconditions).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(value: serde_json::Value) -> ReportFile {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_what_all_reports_agree_on_is_released() {
        let allocation = |ip: &str, handle: &str, number: u64, in_use: bool| json!([{"ip": ip, "handle": handle, "sequenceNumber": number, "inUse": in_use, "owners": []}]);
        let first = report(json!({"allocations": {
            "10.0.0.1": allocation("10.0.0.1", "a", 1, false),
            "10.0.0.2": allocation("10.0.0.2", "b", 1, false),
            "10.0.0.3": allocation("10.0.0.3", "c", 1, false),
            "10.0.0.4": allocation("10.0.0.4", "d", 1, true),
        }, "leakedHandles": [{"ID": "x", "UID": "1", "Revision": "5"}, {"ID": "y", "UID": "2", "Revision": "5"}]}));
        let second = report(json!({"allocations": {
            "10.0.0.1": allocation("10.0.0.1", "a", 1, false),
            "10.0.0.2": allocation("10.0.0.2", "b", 2, false),
            "10.0.0.3": allocation("10.0.0.3", "c", 1, true),
            "10.0.0.4": allocation("10.0.0.4", "d", 1, true),
        }, "leakedHandles": [{"ID": "x", "UID": "1", "Revision": "5"}, {"ID": "y", "UID": "2", "Revision": "6"}]}));
        let addresses: Vec<String> = leaked(&[&first, &second])
            .iter()
            .map(|release| release.address.to_string())
            .collect();
        assert_eq!(addresses, ["10.0.0.1"]);
        let handles = leaked_handles(&[&first, &second]);
        assert_eq!(
            handles
                .iter()
                .map(|handle| handle.id.as_str())
                .collect::<Vec<_>>(),
            ["x"]
        );
        assert_eq!(leaked(&[&first]).len(), 3);
    }
}

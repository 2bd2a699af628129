//! The report that `ipam check` writes and `ipam release` reads: calicoctl's keys, and the findings beside them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use caracal_api::v3::ClusterInformation;
use caracal_ipam::check::{Allocation, Finding, LeakedHandle, Report};
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::version::VERSION;

/// Longest report that is read, in bytes.
const FILE_LEN_MAX: u64 = 1 << 30;

/// A report as a file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ReportFile {
    /// Version of the program that wrote it.
    pub(super) version: String,
    /// The cluster.
    #[serde(rename = "clusterGUID")]
    pub(super) cluster_guid: String,
    /// What runs the cluster.
    pub(super) cluster_type: String,
    /// The datastore was locked.
    pub(super) datastore_locked: bool,
    /// resourceVersion of the ClusterInformation.
    pub(super) cluster_information_revision: String,
    /// All allocations by address.
    pub(super) allocations: BTreeMap<IpAddr, Vec<Allocation>>,
    /// Handles that count addresses and have none.
    pub(super) leaked_handles: Vec<LeakedHandle>,
    /// What is wrong.
    pub(super) findings: Vec<Finding>,
}

impl ReportFile {
    /// A report about a cluster.
    pub(super) fn new(report: &Report, information: Option<&ClusterInformation>) -> Self {
        let spec = information.map(|information| &information.spec);
        Self {
            version: VERSION.to_owned(),
            cluster_guid: spec.map(|spec| spec.cluster_guid.clone()).unwrap_or_default(),
            cluster_type: spec.map(|spec| spec.cluster_type.clone()).unwrap_or_default(),
            datastore_locked: spec.is_some_and(|spec| spec.datastore_ready == Some(false)),
            cluster_information_revision: information
                .and_then(|information| information.metadata.resource_version.clone())
                .unwrap_or_default(),
            allocations: report.allocations.clone(),
            leaked_handles: report.leaked_handles.clone(),
            findings: report.findings.clone(),
        }
    }

    /// Writes the report to a file.
    pub(super) fn write(&self, path: &Path) -> Result<(), Failure> {
        let failed = |error: String| {
            Failure::new(format!(
                "cannot write the report to {}: {error}; name another file with --output",
                path.display()
            ))
        };
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(error.to_string()))?;
        std::fs::write(path, text).map_err(|error| failed(error.to_string()))
    }

    /// Reads a report from a file.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |error: String| {
            Failure::new(format!(
                "failed to read report {}: {error}; make a new one with `caracalctl ipam check -o FILE`",
                path.display()
            ))
        };
        let length = std::fs::metadata(path)
            .map_err(|error| failed(error.to_string()))?
            .len();
        if length > FILE_LEN_MAX {
            return Err(failed(format!(
                "it has {length} bytes, more than a report can have"
            )));
        }
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
    }
}

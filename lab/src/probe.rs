//! Probes: does a packet of ours get an answer?

use std::path::PathBuf;
use std::process::ExitCode;

use crate::error::{Error, Result};
use crate::state::Layout;
use crate::topology::Plan;

/// What the user asked to be probed.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// Where the probe starts: NS/POD, node:NAME, outside, or outside:ADDRESS.
    #[arg(required_unless_present = "batch")]
    pub from: Option<String>,
    /// What is probed: NS/POD, node:NAME, outside, outside:ADDRESS, or an address.
    #[arg(required_unless_present = "batch")]
    pub to: Option<String>,
    /// Port, 1 to 65535.
    #[arg(required_unless_present = "batch")]
    pub port: Option<u16>,
    /// Probe UDP instead of TCP.
    #[arg(long, conflicts_with = "batch")]
    pub udp: bool,
    /// Probe what a file lists, one JSON object a line (from, to, protocol, port), all sources at once; "-" is
    /// standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "to", "port"])]
    pub batch: Option<PathBuf>,
    /// Print JSON.
    #[arg(skip)]
    pub json: bool,
}

/// Probes and prints. 0 is allowed (a batch: all could be made), 1 dropped, 2 refused, 3 could not be made.
///
/// # Errors
/// Standard output cannot be written.
pub async fn run(layout: &Layout, plan: &Plan, args: &Args) -> Result<ExitCode> {
    tokio::task::yield_now().await;
    Err(Error::refused(format!(
        "probe of {:?} in {}: not in this version",
        args.to,
        layout.dir().join(&plan.id).display()
    )))
}

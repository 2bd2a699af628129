//! Flags of the commands about addresses.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportForm {
    /// As calicoctl prints it.
    Text,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Commands about addresses.
#[derive(Debug, Subcommand)]
pub enum IpamCommand {
    /// Show how full pools and blocks are, or who has an address
    Show(IpamShow),
    /// Find addresses that leaked, are given twice or contradict pods and nodes
    Check(IpamCheck),
    /// Release one address, or the leaked ones of reports
    Release(IpamRelease),
    /// Split a pool into smaller ones
    Split(IpamSplit),
    /// Change the settings of address management
    Configure(IpamConfigure),
    /// Take over addresses of another address manager
    Migrate(IpamMigrate),
}

/// Flags of `ipam show`.
#[derive(Debug, Args)]
pub struct IpamShow {
    /// Show who has this address
    #[arg(long)]
    pub ip: Option<String>,
    /// Show blocks below their pools
    #[arg(long)]
    pub show_blocks: bool,
    /// Show addresses that nodes use from blocks of others
    #[arg(long)]
    pub show_borrowed: bool,
    /// Show the settings of address management
    #[arg(long)]
    pub show_configuration: bool,
    /// text, json or yaml
    #[arg(short, long, default_value = "text", value_name = "FORM")]
    pub output: ReportForm,
}

/// Flags of `ipam check`.
#[derive(Debug, Args)]
pub struct IpamCheck {
    /// Print every address that is checked
    #[arg(long)]
    pub show_all_ips: bool,
    /// Print every address that has a problem
    #[arg(long)]
    pub show_problem_ips: bool,
    /// Write the report to this file, for `ipam release --from-report`
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print the findings as text, json or yaml
    #[arg(long, default_value = "text", value_name = "FORM")]
    pub format: ReportForm,
    /// Mend what can be mended; each object is looked at again first and written only as it was found
    #[arg(long)]
    pub fix: bool,
}

/// Flags of `ipam release`.
#[derive(Debug, Args)]
pub struct IpamRelease {
    /// The address to release
    #[arg(long)]
    pub ip: Option<String>,
    /// Release what leaked according to this report of `ipam check`; give several to release what all agree on
    #[arg(long, value_name = "FILE")]
    pub from_report: Vec<PathBuf>,
    /// Release although the datastore is not locked or the report is of another version
    #[arg(long)]
    pub force: bool,
}

/// Flags of `ipam split`.
#[derive(Debug, Args)]
pub struct IpamSplit {
    /// Number of pools to make: a power of two
    pub number: String,
    /// CIDR of the pool
    #[arg(long)]
    pub cidr: Option<String>,
    /// Name of the pool
    #[arg(long)]
    pub name: Option<String>,
}

/// Flags of `ipam configure`.
#[derive(Debug, Args)]
pub struct IpamConfigure {
    /// Never use addresses of another node's block (true or false)
    #[arg(long, value_name = "BOOL")]
    pub strictaffinity: Option<String>,
    /// Most blocks that a node may have; 0 = no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub max_blocks_per_host: Option<String>,
    /// Keep addresses of virtual machines (Enabled or Disabled)
    #[arg(long, value_name = "STATE")]
    pub kubevirt_ip_persistence: Option<String>,
    /// Seconds for which a released address is not given again
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub ip_cooldown_seconds: Option<String>,
}

/// Flags of `ipam migrate`.
#[derive(Debug, Args)]
pub struct IpamMigrate {
    /// Address manager whose state is read
    #[arg(long, default_value = "host-local", value_parser = ["host-local"], value_name = "NAME")]
    pub from: String,
    /// Directory with one directory a network
    #[arg(long, default_value = "/var/lib/cni/networks", value_name = "DIR")]
    pub state: PathBuf,
    /// Network of host-local whose addresses are taken over
    #[arg(long, default_value = "k8s-pod-network", value_name = "NAME")]
    pub network: String,
    /// This node's name, as its Node object has it; by default the host name
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Show what would be taken over and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

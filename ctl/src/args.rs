//! The command line: calicoctl's verbs and flags.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Reads and writes resources, and shows what a node does.
#[derive(Debug, Parser)]
#[command(name = "caracalctl", version, about, propagate_version = true)]
pub struct Arguments {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// File with connection settings (kind CalicoAPIConfig); without it the environment decides
    #[arg(
        short = 'c',
        long,
        global = true,
        default_value = "/etc/calico/calicoctl.cfg",
        value_name = "FILE"
    )]
    pub config: PathBuf,
    /// Kubeconfig to use instead of KUBECONFIG or ~/.kube/config
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// Accepted for compatibility: versions are never compared
    #[arg(long, global = true, hide = true)]
    pub allow_version_mismatch: bool,
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show resources
    Get(Get),
    /// Create resources from a file, a directory or stdin; fail for what exists
    Create(Create),
    /// Create or replace resources from a file, a directory or stdin
    Apply(Crud),
    /// Replace resources that exist
    Replace(Crud),
    /// Delete resources by name or as listed in a file
    Delete(Delete),
    /// What concerns this node
    #[command(subcommand)]
    Node(NodeCommand),
    /// Address management
    #[command(subcommand)]
    Ipam(IpamCommand),
    /// Show the version
    Version,
}

/// Commands about this node.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Show the BGP sessions of this node
    Status(NodeStatus),
}

/// Flags of `node status`.
#[derive(Debug, Args)]
pub struct NodeStatus {
    /// Socket of the BGP speaker
    #[arg(long, default_value = "/run/caracal/bgpd.sock", value_name = "PATH")]
    pub control: PathBuf,
    /// text, json or yaml
    #[arg(short, long, default_value = "text")]
    pub output: String,
}

/// Commands about addresses.
#[derive(Debug, Subcommand)]
pub enum IpamCommand {
    /// Show how full pools and blocks are, or who has an address
    Show(IpamShow),
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
    /// Show the settings of address management
    #[arg(long)]
    pub show_configuration: bool,
}

/// Where resources come from.
#[derive(Clone, Debug, Args)]
pub struct Source {
    /// File, directory or - for stdin, with YAML or JSON
    #[arg(short, long, value_name = "PATH")]
    pub filename: Option<String>,
    /// Go into sub-directories
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// An empty file or directory is no error
    #[arg(long)]
    pub skip_empty: bool,
    /// Namespace of namespaced resources that name none
    #[arg(short, long)]
    pub namespace: Option<String>,
}

/// Flags of `apply` and `replace`.
#[derive(Debug, Args)]
pub struct Crud {
    /// Where resources come from.
    #[command(flatten)]
    pub source: Source,
}

/// Flags of `create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Where resources come from.
    #[command(flatten)]
    pub source: Source,
    /// What exists is no error
    #[arg(long)]
    pub skip_exists: bool,
}

/// Flags of `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// Kind, as `ippool`
    pub kind: Option<String>,
    /// Names
    pub names: Vec<String>,
    /// Where resources come from.
    #[command(flatten)]
    pub source: Source,
    /// What does not exist is no error
    #[arg(short, long)]
    pub skip_not_exists: bool,
}

/// Flags of `get`.
#[derive(Debug, Args)]
pub struct Get {
    /// Kind, as `ippool`
    pub kind: Option<String>,
    /// Names; all without any
    pub names: Vec<String>,
    /// Where resources come from.
    #[command(flatten)]
    pub source: Source,
    /// ps, wide, yaml, json or custom-columns=HEADING,…
    #[arg(short, long, default_value = "ps")]
    pub output: String,
    /// All namespaces
    #[arg(short = 'A', long, visible_short_alias = 'a')]
    pub all_namespaces: bool,
    /// Leave out what belongs to this cluster
    #[arg(long)]
    pub export: bool,
}

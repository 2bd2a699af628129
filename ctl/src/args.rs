//! The command line: calicoctl's verbs and flags, and those that are ours.

mod ipam;
mod node;
mod policy;
mod resource;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use ipam::{
    IpamCheck, IpamCommand, IpamConfigure, IpamMigrate, IpamRelease, IpamShow, IpamSplit, ReportForm,
};
pub use node::{
    BgpCommand, BgpDrain, BgpNeighbor, BgpPeers, BgpPlan, BgpRoutes, BgpTable, BgpWhyNot, ClusterCommand,
    ClusterDiags, DatastoreCommand, Doctor, Import, MigrateCommand, NodeChecksystem, NodeCommand, NodeDiags,
    NodeStatus, Status,
};
pub use policy::{PolicyCommand, PolicyDenials, PolicyReport, PolicyTest, Trace};
pub use resource::{
    Apply, Convert, Create, Crud, Delete, DryRun, Get, Label, Patch, PatchType, Replace, Source, Validate,
};

/// Reads and writes Calico resources, manages addresses, and shows what nodes do
///
/// Commands, flags and outputs of calicoctl, and more. Results go to stdout, messages to stderr. Exit codes: 0 done,
/// 1 failed, 2 wrong usage of a command that calicoctl does not have.
#[derive(Debug, Parser)]
#[command(name = "caracalctl", version, propagate_version = true)]
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
    /// What is logged to stderr
    #[arg(
        short = 'l',
        long,
        global = true,
        default_value = "panic",
        value_name = "LEVEL"
    )]
    pub log_level: LogLevel,
    /// Accepted for compatibility: versions are never compared
    #[arg(long, global = true, hide = true)]
    pub allow_version_mismatch: bool,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Nothing.
    Panic,
    /// Nothing but the end of the program.
    Fatal,
    /// Errors.
    Error,
    /// Warnings too.
    Warn,
    /// Changes too.
    Info,
    /// Decisions too.
    Debug,
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show resources
    Get(Get),
    /// Create resources from a file, a directory or stdin; fail for what exists
    Create(Create),
    /// Create or replace resources from a file, a directory or stdin
    Apply(Apply),
    /// Replace resources that exist
    Replace(Replace),
    /// Delete resources by name or as listed in a file
    Delete(Delete),
    /// Change fields of a resource
    Patch(Patch),
    /// Set, change or remove a label of a resource
    Label(Label),
    /// Check resources of a file, a directory or stdin without a cluster
    Validate(Validate),
    /// Turn manifests of older versions, and Kubernetes policies, into projectcalico.org/v3
    Convert(Convert),
    /// Address management
    #[command(subcommand)]
    Ipam(IpamCommand),
    /// How nodes, their agents and their BGP sessions are
    Status(Status),
    /// What is wrong with the cluster's network, each with the next command
    Doctor(Doctor),
    /// What concerns this node
    #[command(subcommand)]
    Node(NodeCommand),
    /// BGP sessions and routes of nodes
    #[command(subcommand)]
    Bgp(BgpCommand),
    /// Would a connection pass, by which rule, and what would allow it
    Trace(Trace),
    /// Try policies, and find those that do nothing
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// What concerns the cluster
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Lock, unlock, export and import the datastore
    #[command(subcommand)]
    Datastore(DatastoreCommand),
    /// Show the versions of this program and of the cluster
    Version(Version),
    /// Print the completion script of a shell
    Completion(Completion),
    /// Print the man page, or write the pages of all commands into a directory
    Man(Man),
    /// Print the reference of all commands as Markdown
    #[command(hide = true)]
    Reference,
}

/// Flags of `completion`.
#[derive(Debug, Args)]
pub struct Completion {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Flags of `man`.
#[derive(Debug, Args)]
pub struct Man {
    /// Directory for one page a command
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Flags of `version`.
#[derive(Debug, Args)]
pub struct Version {
    /// Show the version of this program only
    #[arg(long)]
    pub client: bool,
    /// Ask again after this time, for ever, and print what changed (`10s`, `1m`)
    #[arg(long, value_name = "DURATION")]
    pub poll: Option<String>,
}

//! Flags of the commands about nodes, the cluster, BGP and the datastore.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Commands about this node.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Show the BGP sessions of this node
    Status(NodeStatus),
    /// Check that the kernel has what is needed
    Checksystem(NodeChecksystem),
    /// Collect what helps to find a fault of this node
    Diags(NodeDiags),
}

/// Flags of `node status`.
#[derive(Debug, Args)]
pub struct NodeStatus {
    /// Socket of the BGP speaker
    #[arg(long, default_value = "/run/caracal/bgpd.sock", value_name = "PATH")]
    pub control: PathBuf,
    /// text, json or yaml
    #[arg(short, long, default_value = "text", value_name = "FORM")]
    pub output: String,
}

/// Flags of `node checksystem`.
#[derive(Debug, Args)]
pub struct NodeChecksystem {
    /// Configuration of the kernel, where the modules cannot tell
    #[arg(short = 'f', long, value_name = "FILE")]
    pub kernel_config: Option<PathBuf>,
}

/// Flags of `node diags`.
#[derive(Debug, Args)]
pub struct NodeDiags {
    /// Directory with log files
    #[arg(long, default_value = "/var/log/calico", value_name = "DIR")]
    pub log_dir: PathBuf,
}

/// Flags of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// text, json or yaml
    #[arg(short, long, default_value = "text", value_name = "FORM")]
    pub output: String,
}

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Only what concerns this node, or the whole cluster
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// text, json or yaml
    #[arg(short, long, default_value = "text", value_name = "FORM")]
    pub output: String,
}

/// Commands about BGP.
#[derive(Debug, Subcommand)]
pub enum BgpCommand {
    /// Show sessions: of this node, or with --node of any
    Peers(BgpPeers),
    /// Show routes: of this node, or with --node of any
    Routes(BgpRoutes),
    /// Show everything about one session of this node
    Neighbor(BgpNeighbor),
    /// Say why a session of this node does not get a prefix
    WhyNot(BgpWhyNot),
    /// Show the sessions that the resources make, and what a file would change
    Plan(BgpPlan),
    /// Have peers go other ways before this node goes (RFC 8326)
    Drain(BgpDrain),
}

/// Flags of `bgp why-not`.
#[derive(Debug, Args)]
pub struct BgpWhyNot {
    /// The prefix
    pub prefix: ipnet::IpNet,
    /// Name or address of the session
    #[arg(long)]
    pub peer: String,
    /// Socket of this node's BGP speaker
    #[arg(long, default_value = "/run/caracal/bgpd.sock", value_name = "PATH")]
    pub control: PathBuf,
    /// text, json or yaml
    #[arg(short, long, default_value = "text", value_name = "FORM")]
    pub output: String,
}

/// Flags of `bgp plan`.
#[derive(Debug, Args)]
pub struct BgpPlan {
    /// Resources to be applied: what they would change is shown, and nothing is changed
    #[command(flatten)]
    pub source: super::Source,
    /// Only this node
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// text, json or yaml
    #[arg(short, long, default_value = "text", value_name = "FORM")]
    pub output: String,
}

/// Flags of `bgp drain`.
#[derive(Debug, Args)]
pub struct BgpDrain {
    /// Take it back
    #[arg(long)]
    pub off: bool,
    /// Socket of this node's BGP speaker
    #[arg(long, default_value = "/run/caracal/bgpd.sock", value_name = "PATH")]
    pub control: PathBuf,
}

/// Where the state of BGP is asked for.
#[derive(Debug, Args)]
pub struct BgpPlace {
    /// Ask this node through its CalicoNodeStatus; `all` = all nodes that have one
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Socket of this node's BGP speaker
    #[arg(long, default_value = "/run/caracal/bgpd.sock", value_name = "PATH")]
    pub control: PathBuf,
    /// text, json or yaml
    #[arg(short, long, default_value = "text", value_name = "FORM")]
    pub output: String,
}

/// Flags of `bgp peers`.
#[derive(Debug, Args)]
pub struct BgpPeers {
    /// Where to ask.
    #[command(flatten)]
    pub place: BgpPlace,
}

/// A table of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BgpTable {
    /// All usable paths.
    Loc,
    /// What a peer sent.
    In,
    /// What a peer was sent.
    Out,
}

/// Flags of `bgp routes`.
#[derive(Debug, Args)]
pub struct BgpRoutes {
    /// Prefixes; those inside of them are shown too
    pub prefixes: Vec<ipnet::IpNet>,
    /// Where to ask.
    #[command(flatten)]
    pub place: BgpPlace,
    /// loc, in or out (in and out need --peer)
    #[arg(long, default_value = "loc")]
    pub table: BgpTable,
    /// Name or address of a session
    #[arg(long)]
    pub peer: Option<String>,
}

/// Flags of `bgp neighbor`.
#[derive(Debug, Args)]
pub struct BgpNeighbor {
    /// Name or address of the session
    pub peer: String,
    /// Socket of this node's BGP speaker
    #[arg(long, default_value = "/run/caracal/bgpd.sock", value_name = "PATH")]
    pub control: PathBuf,
    /// text, json or yaml
    #[arg(short, long, default_value = "text", value_name = "FORM")]
    pub output: String,
}

/// Commands about the cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Collect what helps to find a fault of the cluster
    Diags(ClusterDiags),
}

/// Flags of `cluster diags`.
#[derive(Debug, Args)]
pub struct ClusterDiags {
    /// Logs younger than this (`30s`, `5m`, `2h`); all without it
    #[arg(long, default_value = "", value_name = "DURATION")]
    pub since: String,
    /// Most pods of a DaemonSet or Deployment whose logs are taken
    #[arg(long, default_value_t = 5, value_name = "NUMBER")]
    pub max_logs: usize,
    /// Most commands at once
    #[arg(long, default_value_t = 10, value_name = "NUMBER")]
    pub max_parallelism: usize,
    /// Nodes whose pods come first, separated by commas
    #[arg(long, default_value = "", value_name = "NODES")]
    pub focus_nodes: String,
    /// Keep the directory that the bundle is made from
    #[arg(long)]
    pub skip_temp_dir_cleanup: bool,
}

/// Commands about the datastore.
#[derive(Debug, Subcommand)]
pub enum DatastoreCommand {
    /// Move a datastore
    #[command(subcommand)]
    Migrate(MigrateCommand),
}

/// Steps of moving a datastore.
#[derive(Debug, Subcommand)]
pub enum MigrateCommand {
    /// Print everything of the locked datastore
    Export,
    /// Fill an empty datastore with what was exported
    Import(Import),
    /// Stop everything that would change the datastore or follow it
    Lock,
    /// End the lock
    Unlock,
}

/// Flags of `datastore migrate import`.
#[derive(Debug, Args)]
pub struct Import {
    /// File with an export, or - for stdin
    #[arg(short, long, value_name = "FILE")]
    pub filename: String,
}

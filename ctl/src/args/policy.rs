//! Flags of the commands that explain policy.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Flags of `trace`.
#[derive(Debug, Args)]
#[command(
    after_help = "Ends are [pod/][NAMESPACE/]NAME, service/[NAMESPACE/]NAME, node/NAME, or an address.\n\
Exit codes: 0 it passes, 1 it is denied, 2 wrong usage, 3 the cluster cannot be reached, 4 not all kinds may be read."
)]
pub struct Trace {
    /// Where the connection comes from: a pod, a node or an address
    #[arg(value_name = "POD")]
    pub source: String,
    /// Where it goes to, and the port
    #[arg(value_name = "TARGET [PORT]", num_args = 0..=2)]
    pub target: Vec<String>,
    /// Where it goes to, as a flag
    #[arg(long, value_name = "TARGET")]
    pub to: Option<String>,
    /// Number or name of the port, as a flag
    #[arg(long, value_name = "PORT")]
    pub port: Option<String>,
    /// TCP, UDP, SCTP, ICMP, ICMPv6 or a number
    #[arg(short, long, default_value = "TCP", value_name = "PROTOCOL")]
    pub protocol: String,
    /// Namespace of names without one
    #[arg(short, long, default_value = "default", value_name = "NAMESPACE")]
    pub namespace: String,
    /// ICMP type [default: echo request]
    #[arg(long, value_name = "TYPE")]
    pub icmp: Option<u8>,
    /// ICMP code
    #[arg(long, default_value_t = 0, value_name = "CODE", requires = "icmp")]
    pub icmp_code: u8,
    /// Prefer IPv6 where both ends have both families
    #[arg(short = '6', long)]
    pub ipv6: bool,
    /// text, json or yaml
    #[arg(short, long, default_value = "text", value_name = "FORM")]
    pub output: String,
}

/// Commands about policy.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Try packets on policies of files, without a cluster
    Test(PolicyTest),
    /// Show whom each policy selects, and policies and rules that do nothing
    Report(PolicyReport),
    /// Show which packets this node denies, and by which policy
    Denials(PolicyDenials),
}

/// Flags of `policy test`.
#[derive(Debug, Args)]
#[command(after_help = "A cases file:\n\n\
  namespaces:\n  - {name: shop, labels: {team: red}}\n\
  pods:                       # beside those of FILES\n  - {name: shop/web, labels: {app: web}}\n  - {name: shop/db, labels: {app: db}, address: 10.0.0.7}\n\
  cases:\n  - {name: web reaches db, from: shop/web, to: shop/db, port: 5432, expect: allow}\n  \
- {from: 192.0.2.1, to: shop/db, port: 5432, protocol: TCP, expect: deny, by: NetworkPolicy shop/db}\n\n\
Exit codes: 0 all cases hold, 1 some do not, 2 a file cannot be understood.")]
pub struct PolicyTest {
    /// Files or directories with policies, namespaces, pods, Deployments, network sets; - for stdin
    #[arg(value_name = "FILES", required = true)]
    pub files: Vec<String>,
    /// What must pass and what must not
    #[arg(long, value_name = "FILE")]
    pub cases: String,
    /// Directories below directories too
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Namespace of objects and names without one
    #[arg(short, long, default_value = "default", value_name = "NAMESPACE")]
    pub namespace: String,
    /// text, json, yaml or junit
    #[arg(short, long, default_value = "text", value_name = "FORM")]
    pub output: String,
}

/// Flags of `policy report`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 nothing odd, 1 findings, 2 a file cannot be understood, 3 the cluster cannot be reached."
)]
pub struct PolicyReport {
    /// Look at files or directories instead of the cluster; - for stdin
    #[arg(short, long, value_name = "FILE")]
    pub filename: Vec<String>,
    /// Directories below directories too
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Only policies of this namespace
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// text, json or yaml
    #[arg(short, long, default_value = "text", value_name = "FORM")]
    pub output: String,
}

/// Flags of `policy denials`.
#[derive(Debug, Args)]
#[command(
    after_help = "felix tells of denied packets when flowLogsLocalReporter of its FelixConfiguration is Enabled:\n  \
caracalctl patch felixconfiguration default -p '{\"spec\":{\"flowLogsLocalReporter\":\"Enabled\"}}'\n\
Exit codes: 0 done, 2 wrong usage, 3 felix is not there."
)]
pub struct PolicyDenials {
    /// Socket of this node's felix
    #[arg(long, default_value = "/run/caracal/denials.sock", value_name = "PATH")]
    pub socket: PathBuf,
    /// Read records of a file instead; - for stdin
    #[arg(short, long, value_name = "FILE", conflicts_with = "follow")]
    pub filename: Option<String>,
    /// Go on with those that come
    #[arg(long)]
    pub follow: bool,
    /// Only those with an end in this namespace
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Only those of the last time, for example 10m
    #[arg(long, value_name = "DURATION")]
    pub since: Option<String>,
    /// text or json (one object a line)
    #[arg(short, long, default_value = "text", value_name = "FORM")]
    pub output: String,
}

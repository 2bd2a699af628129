//! The command line: verbs, their options, and nothing of what they do.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::state::DEFAULT_DIR;
use crate::topology::{Backend, Component, Families, Kube, Options, Tor};

/// A data centre on one machine: nodes, a top-of-rack router, a host behind it, a Kubernetes API and pods.
#[derive(Debug, Parser)]
#[command(name = "caracal-lab", version)]
pub struct Cli {
    /// Directory that holds all of the lab's state; labs with different directories stand side by side
    #[arg(long, global = true, default_value = DEFAULT_DIR, value_name = "DIR")]
    pub dir: PathBuf,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Bring a lab up and wait until it is ready
    Up(UpArgs),
    /// Take the lab down and leave nothing behind
    Down,
    /// Run a command on a node
    Node(NodeArgs),
    /// Run a command on the top-of-rack router
    Tor(CommandArgs),
    /// Run a command on the host behind the router
    Outside(CommandArgs),
    /// Run a command in a pod's network
    Exec(ExecArgs),
    /// Print the path of the lab's kubeconfig
    Kubeconfig,
    /// Create or change the objects of manifests, for machines without kubectl
    Apply(ApplyArgs),
    /// Show what runs
    Status,
    /// Try whether traffic passes: allowed (exit 0), dropped (1), refused (2), not made (3)
    Probe(crate::probe::Args),
    /// Keep a machine's namespaces
    #[command(name = crate::anchor::VERB, hide = true)]
    Anchor {
        /// The machine, for the process list
        machine: String,
    },
    /// Become a program that inherits listening sockets
    #[command(name = crate::listen::VERB, hide = true)]
    Listen(CommandArgs),
    /// Run the lab that `up` has laid out
    #[command(name = crate::supervisor::VERB, hide = true)]
    Supervise,
}

/// Options of `up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Number of nodes
    #[arg(long, default_value_t = 3)]
    pub nodes: u16,
    /// Top-of-rack router
    #[arg(long, value_enum, default_value = "bird")]
    pub tor: Tor,
    /// What felix programs policy with
    #[arg(long, value_enum, default_value = "iptables")]
    pub backend: Backend,
    /// Address families of pods
    #[arg(long, value_enum, default_value = "ipv4")]
    pub families: Families,
    /// API server
    #[arg(long, value_enum, default_value = "embedded")]
    pub kube: Kube,
    /// Port of the API server on the host's loopback [default: a free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub api_port: Option<u16>,
    /// Leave a node's daemon out (for development)
    #[arg(long, value_enum, value_name = "DAEMON")]
    pub without: Vec<Component>,
    /// Seconds to wait for everything to be ready
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
}

/// Options of `node`.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// The node (node-1, node-2, ...)
    pub name: String,
    /// The command
    #[command(flatten)]
    pub command: CommandArgs,
}

/// Options of `exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// The pod
    #[arg(value_name = "NAMESPACE/POD")]
    pub pod: String,
    /// The command
    #[command(flatten)]
    pub command: CommandArgs,
}

/// A command to run somewhere.
#[derive(Debug, Args)]
pub struct CommandArgs {
    /// The command and its arguments, after `--`
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub command: Vec<String>,
}

/// Options of `apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// A file, a folder of .yaml, .yml and .json files, or - for standard input (repeatable)
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

impl UpArgs {
    /// As the plan keeps them.
    #[must_use]
    pub fn options(&self) -> Options {
        let mut without = self.without.clone();
        without.sort_unstable();
        without.dedup();
        Options {
            nodes: self.nodes,
            tor: self.tor,
            backend: self.backend,
            families: self.families,
            kube: self.kube,
            api_port: self.api_port,
            without,
            timeout_seconds: self.timeout,
        }
    }
}

/// The choices as clap shows and reads them, from the same names that the plan stores.
macro_rules! choices {
    ($type:ty: $($variant:ident = $name:literal),+) => {
        impl ValueEnum for $type {
            fn value_variants<'a>() -> &'a [Self] {
                &[$(Self::$variant),+]
            }

            fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
                Some(clap::builder::PossibleValue::new(match self {
                    $(Self::$variant => $name),+
                }))
            }
        }
    };
}

choices!(Tor: Bird = "bird", Frr = "frr", None = "none");
choices!(Backend: Iptables = "iptables", Nftables = "nftables");
choices!(Families: Ipv4 = "ipv4", Ipv6 = "ipv6", Dual = "dual");
choices!(Kube: Embedded = "embedded", Real = "real");
choices!(Component: Felix = "felix", Bgpd = "bgpd");

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_keep_their_own_options() {
        let cli =
            Cli::try_parse_from(["caracal-lab", "node", "node-1", "--", "ip", "--json", "route"]).unwrap();
        let Verb::Node(node) = cli.verb else {
            panic!("{cli:?}")
        };
        assert_eq!(node.command.command, ["ip", "--json", "route"]);
        assert!(!cli.json);
        let cli = Cli::try_parse_from(["caracal-lab", "exec", "a/b", "--dir", "/x", "--", "true"]).unwrap();
        assert_eq!(cli.dir, PathBuf::from("/x"));
    }

    #[test]
    fn up_without_options_is_the_default_lab() {
        let cli = Cli::try_parse_from(["caracal-lab", "up"]).unwrap();
        let Verb::Up(up) = cli.verb else { panic!("{cli:?}") };
        assert_eq!(up.options(), Options::default());
        assert!(Cli::try_parse_from(["caracal-lab", "up", "--api-port", "0"]).is_err());
    }

    #[test]
    fn a_probe_is_one_or_a_batch() {
        assert!(Cli::try_parse_from(["caracal-lab", "probe", "a/b", "outside", "80", "--udp"]).is_ok());
        assert!(Cli::try_parse_from(["caracal-lab", "probe", "--batch", "-"]).is_ok());
        assert!(Cli::try_parse_from(["caracal-lab", "probe", "a/b", "outside"]).is_err());
        assert!(
            Cli::try_parse_from(["caracal-lab", "probe", "a/b", "outside", "80", "--batch", "-"]).is_err()
        );
    }
}

//! The command line, in our spelling and in those that Calico's manifests use.

use std::net::SocketAddr;
use std::path::PathBuf;

use caracal_daemon::logging::Format;
use clap::{Args as ClapArgs, Parser, Subcommand};

/// Keeps felix and bgpd running on this node, after the start-up steps; with a command, does that alone.
///
/// The environment variables are those of calico/node; docs/node.md lists them.
#[derive(Clone, Debug, Parser)]
#[command(name = "caracal-node", version, max_term_width = 100)]
pub struct Args {
    /// What to do; without it, everything.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings that hold for all commands.
    #[command(flatten)]
    pub common: Common,
}

/// Settings that hold for all commands.
#[derive(Clone, Debug, ClapArgs)]
pub struct Common {
    /// How to reach the Kubernetes API; without it the pod's service account, then KUBECONFIG.
    #[arg(long, value_name = "FILE", global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// Folder with caracal-felix and caracal-bgpd [default: where this program is]
    #[arg(long, value_name = "DIR", global = true)]
    pub bin_dir: Option<PathBuf>,
    /// Address of this program's own probes; none = no probes
    #[arg(
        long,
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:9097",
        global = true
    )]
    pub health: String,
    /// Address of bgpd's probes
    #[arg(
        long,
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:9098",
        global = true
    )]
    pub bgpd_health: SocketAddr,
    /// bgpd's control socket
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/run/caracal/bgpd.sock",
        global = true
    )]
    pub bgpd_control: PathBuf,
    /// File in which the CNI plugins read this node's name
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/lib/calico/nodename",
        global = true
    )]
    pub nodename_file: PathBuf,
    /// The host's folder of network configurations, as it is mounted here
    #[arg(long, value_name = "DIR", default_value = crate::install::HOST_NET_DIR, global = true)]
    pub cni_net_dir: PathBuf,
    /// Form of log lines: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", global = true)]
    pub log_format: Format,
}

/// A single thing to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Do the start-up steps, and end.
    Startup,
    /// Install the CNI plugins and their configuration on the host, and end.
    InstallCni,
    /// Ask the daemons of this node how they are; ends with 1 when one is not as asked for.
    Health(HealthArgs),
    /// Mark this node as without network, as before its shutdown.
    Shutdown,
    /// Take this node out of other nodes' and routers' paths, before it ends (RFC 8326).
    Drain {
        /// How long to wait for others to choose other paths before this command ends.
        #[arg(long, value_name = "SECONDS", default_value_t = 5)]
        wait: u16,
        /// Put this node back.
        #[arg(long)]
        undo: bool,
    },
    /// What Calico's init container mounts is not needed here: does nothing.
    Init {
        /// Calico's flag; without meaning.
        #[arg(long)]
        best_effort: bool,
    },
}

/// Which probes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, ClapArgs)]
#[expect(clippy::struct_excessive_bools, reason = "they are Calico's flags")]
pub struct HealthArgs {
    /// felix works
    #[arg(long)]
    pub felix_live: bool,
    /// policy and routes are in the kernel
    #[arg(long)]
    pub felix_ready: bool,
    /// bgpd works
    #[arg(long, alias = "bird6-live")]
    pub bird_live: bool,
    /// at least one peer exchanges routes, if there are peers
    #[arg(long, alias = "bird6-ready")]
    pub bird_ready: bool,
    /// Calico's flag; without meaning
    #[arg(long, value_name = "TIME")]
    pub threshold_time: Option<CalicoTime>,
}

/// A value that is taken and not looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CalicoTime;

impl std::str::FromStr for CalicoTime {
    type Err = std::convert::Infallible;

    fn from_str(_: &str) -> Result<Self, Self::Err> {
        Ok(Self)
    }
}

/// Calico's flags that are commands here.
const COMMANDS: &[(&str, &str)] = &[
    ("-startup", "startup"),
    ("-shutdown", "shutdown"),
    ("-init", "init"),
    ("-v", "--version"),
];
/// Calico's flags of probes.
const PROBES: &[&str] = &[
    "-felix-live",
    "-felix-ready",
    "-bird-live",
    "-bird-ready",
    "-bird6-live",
    "-bird6-ready",
];

/// The command line as it is meant: `-felix-live -bird-live` is `health --felix-live --bird-live`, and a program that
/// is called `install` installs.
#[must_use]
pub fn spelled_out(arguments: Vec<String>) -> Vec<String> {
    let mut arguments = arguments.into_iter();
    let program = arguments.next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default().to_owned();
    let mut out = vec![program];
    if name == "install" {
        out.push("install-cni".to_owned());
    }
    let rest: Vec<String> = arguments.collect();
    let single = |argument: &String| {
        argument
            .strip_prefix('-')
            .is_some_and(|rest| rest.starts_with('-'))
    };
    let is_probe = |argument: &String| {
        let short = if single(argument) {
            argument.get(1..)
        } else {
            Some(argument.as_str())
        };
        short.is_some_and(|short| PROBES.contains(&short))
    };
    if rest.iter().any(is_probe) && rest.first().is_none_or(|first| first != "health") {
        out.push("health".to_owned());
    }
    for argument in rest {
        let command = COMMANDS.iter().find(|(flag, _)| *flag == argument);
        match command {
            Some((_, word)) => out.push((*word).to_owned()),
            None if is_probe(&argument) && !single(&argument) => out.push(format!("-{argument}")),
            None if argument == "-best-effort" || argument.starts_with("-threshold-time") => {
                out.push(format!("-{argument}"));
            }
            None => out.push(argument),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Args {
        let arguments = line.split_whitespace().map(ToOwned::to_owned).collect();
        Args::try_parse_from(spelled_out(arguments)).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    fn health(line: &str) -> HealthArgs {
        match parse(line).command {
            Some(Command::Health(args)) => args,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn calicos_spellings_are_understood() {
        let both = HealthArgs {
            felix_live: true,
            bird_live: true,
            ..HealthArgs::default()
        };
        assert_eq!(health("caracal-node health --felix-live --bird-live"), both);
        assert_eq!(health("/usr/bin/calico-node -felix-live -bird-live"), both);
        assert_eq!(health("caracal-node --felix-live --bird-live"), both);
        assert!(health("calico-node -felix-ready -bird-ready").felix_ready);
        assert!(health("calico-node -bird6-ready -threshold-time=30s").bird_ready);
        assert!(matches!(
            parse("calico-node -startup").command,
            Some(Command::Startup)
        ));
        assert!(matches!(
            parse("calico-node -shutdown").command,
            Some(Command::Shutdown)
        ));
        assert!(matches!(
            parse("calico-node -init -best-effort").command,
            Some(Command::Init { best_effort: true })
        ));
        assert!(matches!(
            parse("/opt/cni/bin/install").command,
            Some(Command::InstallCni)
        ));
        assert!(parse("caracal-node --log-format json").command.is_none());
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let arguments = vec!["calico-node".to_owned(), "-confd".to_owned()];
        assert!(Args::try_parse_from(spelled_out(arguments)).is_err());
    }
}

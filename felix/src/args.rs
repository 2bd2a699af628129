//! The command line.

use std::path::PathBuf;

use caracal_daemon::logging::Format;
use clap::Parser;

/// Programs this node's kernel: policy, IP sets and routes of its pods.
///
/// Parameters come from FelixConfiguration resources, from the file, and from variables FELIX_NAME of the environment;
/// the environment has the highest precedence.
#[derive(Clone, Debug, Parser)]
#[command(name = "caracal-felix", version, max_term_width = 100)]
pub struct Args {
    /// How to reach the Kubernetes API; without it the pod's service account, then KUBECONFIG.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Name of this node's Node object [default: the host name in lower case]
    #[arg(long, value_name = "NAME", env = "NODENAME")]
    pub node_name: Option<String>,
    /// File with parameters, one "Name = value" a line [default: /etc/calico/felix.cfg, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Unix socket on which CNI plugins hand their work over; none = they work themselves
    #[arg(long, value_name = "PATH", env = "CNI_SOCKET", default_value = caracal_cni::talk::SOCKET)]
    pub cni_socket: PathBuf,
    /// Addresses set aside on this node, for pods that start while the API server is away
    #[arg(long, value_name = "N", env = "CNI_RESERVE", default_value_t = 4)]
    pub cni_reserve: u8,
    /// Folder in which they are noted, on a disk that outlives felix
    #[arg(
        long,
        value_name = "DIR",
        env = "CNI_RESERVE_DIR",
        default_value = "/var/lib/calico/caracal-reserve"
    )]
    pub cni_reserve_dir: PathBuf,
    /// Unix socket on which denied packets are told, one JSON object a line, when flowLogsLocalReporter is Enabled; none
    /// = they are told nowhere
    #[arg(
        long,
        value_name = "PATH",
        env = "DENIALS_SOCKET",
        default_value = "/run/caracal/denials.sock"
    )]
    pub denials_socket: PathBuf,
    /// Form of log lines: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: Format,
}

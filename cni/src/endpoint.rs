//! Who is plugged in: node, orchestrator, workload, and the name of the host's interface.
//!
//! Source: Calico's `cni-plugin/internal/pkg/utils/utils.go` (GetIdentifiers).

use caracal_api::names;

use crate::error::Result;
use crate::node;
use crate::skel::Call;

/// Prefix of the host's interfaces.
const INTERFACE_PREFIX: &str = "cali";
/// How much of a container id fits into an interface name after the prefix.
const CONTAINER_ID_PART: usize = 11;

/// The workload of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The node.
    pub node: String,
    /// Namespace and name of the Pod; `None` when the runtime is not Kubernetes'.
    pub pod: Option<(String, String)>,
    /// The host's end of the pair.
    pub host_interface: String,
}

impl Endpoint {
    /// The endpoint of a call.
    ///
    /// # Errors
    /// When the node's name is not known.
    pub fn of(call: &Call) -> Result<Self> {
        Ok(Self {
            node: node::name(&call.conf.node)?,
            pod: call
                .args
                .pod()
                .map(|(namespace, name)| (namespace.to_owned(), name.to_owned())),
            host_interface: host_interface(call),
        })
    }

    /// Attributes of the addresses, as garbage collectors read them.
    #[must_use]
    pub fn handle_of_workload(&self, container_id: &str) -> String {
        match &self.pod {
            Some((namespace, name)) => format!("{namespace}.{name}"),
            None => container_id.to_owned(),
        }
    }
}

/// The host's end of the pair of a call.
#[must_use]
pub fn host_interface(call: &Call) -> String {
    interface_of(&call.interface_prefix, call.args.pod(), &call.container_id)
}

/// The host's end of the pair of a pod, or of a container without one. `prefixes` is felix's list; its first counts.
pub(crate) fn interface_of(prefixes: &str, pod: Option<(&str, &str)>, container_id: &str) -> String {
    let first = prefixes.split(',').next().map(str::trim);
    let prefix = first
        .filter(|prefix| !prefix.is_empty())
        .unwrap_or(INTERFACE_PREFIX);
    if let Some((namespace, name)) = pod {
        return names::veth_name_with_prefix(prefix, namespace, name);
    }
    let part: String = container_id.chars().take(CONTAINER_ID_PART).collect();
    format!("{prefix}{part}")
}

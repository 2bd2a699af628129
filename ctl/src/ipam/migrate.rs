//! `ipam migrate`: the addresses that host-local gave out on this node, taken over as they are.
//!
//! host-local keeps a file for each address, named by it, with the container id and the interface on two lines
//! (`plugins/ipam/host-local/backend/disk` of containernetworking/plugins). Each becomes an allocation under the handle
//! that our CNI plugin releases it by. Nothing of host-local's is changed; running the command again completes it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use caracal_api::names::handle_id;
use caracal_datastore::{Client, ListOptions};
use caracal_ipam::{AssignIp, Ipam};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::args::IpamMigrate;
use crate::error::Failure;
use crate::table;
use crate::terminal::Terminal;

/// Longest file of host-local that is read.
const FILE_LEN_MAX: u64 = 4096;

/// An address that host-local gave out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lease {
    address: IpAddr,
    container: String,
    interface: String,
}

/// Carries out `ipam migrate`.
pub(crate) async fn run(
    terminal: &Terminal,
    client: &Client,
    arguments: &IpamMigrate,
) -> Result<(), Failure> {
    let folder = arguments.state.join(&arguments.network);
    let (leases, problems) = leases(&folder)?;
    for problem in &problems {
        terminal.message(problem);
    }
    let node = node(client, arguments.node.as_deref()).await?;
    let pods = pods_by_address(client, &node).await?;
    let ipam = Ipam::new(client.clone());
    let mut rows = Vec::new();
    let mut failed = problems.len();
    for lease in &leases {
        let handle = handle_id(&arguments.network, &lease.container);
        let pod = pods.get(&lease.address);
        let outcome = take(&ipam, lease, &handle, &node, pod, arguments.dry_run).await;
        failed += usize::from(outcome.is_err());
        rows.push(vec![
            lease.address.to_string(),
            lease.container.chars().take(12).collect(),
            pod.map_or_else(
                || "-".to_owned(),
                |(namespace, name)| format!("{namespace}/{name}"),
            ),
            outcome.unwrap_or_else(|problem| problem),
        ]);
    }
    terminal.text(&table::boxed(&["IP", "Container", "Pod", "Outcome"], &rows, &[]));
    if failed > 0 {
        return Err(Failure::new(format!(
            "{failed} of {} addresses were not taken over; correct what the table says and run this again",
            leases.len() + problems.len()
        )));
    }
    let said = if arguments.dry_run {
        "would be taken"
    } else {
        "taken"
    };
    terminal.line(&format!(
        "{} addresses {said} over from host-local for node {node}. Set \"ipam\": {{\"type\": \"calico-ipam\"}} in the \
         node's CNI configuration, and then remove {}.",
        leases.len(),
        folder.display()
    ));
    Ok(())
}

/// Allocates one address, and says what became of it.
async fn take(
    ipam: &Ipam,
    lease: &Lease,
    handle: &str,
    node: &str,
    pod: Option<&(String, String)>,
    dry_run: bool,
) -> Result<String, String> {
    if let Some(owner) = ipam
        .assignment_of(lease.address)
        .await
        .map_err(|error| error.to_string())?
    {
        return match owner.handle {
            Some(holder) if holder == handle => Ok("allocated already".to_owned()),
            holder => Err(format!(
                "held under {}; see `caracalctl ipam show --ip={}`",
                holder.unwrap_or_else(|| "no handle".to_owned()),
                lease.address
            )),
        };
    }
    if dry_run {
        return Ok("would be allocated".to_owned());
    }
    let mut attributes = BTreeMap::from([
        ("node".to_owned(), node.to_owned()),
        (
            "timestamp".to_owned(),
            Timestamp::now()
                .strftime("%Y-%m-%d %H:%M:%S.%9f +0000 UTC")
                .to_string(),
        ),
    ]);
    if let Some((namespace, name)) = pod {
        attributes.insert("namespace".to_owned(), namespace.clone());
        attributes.insert("pod".to_owned(), name.clone());
    }
    let request = AssignIp {
        address: lease.address,
        host: node.to_owned(),
        handle: Some(handle.to_owned()),
        attributes,
        use_: None,
    };
    ipam.assign_ip(&request)
        .await
        .map_err(|error| error.to_string())?;
    Ok("allocated".to_owned())
}

/// What host-local gave out, and files that cannot be read.
fn leases(folder: &Path) -> Result<(Vec<Lease>, Vec<String>), Failure> {
    let entries = std::fs::read_dir(folder).map_err(|error| {
        Failure::new(format!(
            "cannot read host-local's state in {}: {error}; name its directory with --state and the network with --network",
            folder.display()
        ))
    })?;
    let (mut leases, mut problems) = (Vec::new(), Vec::new());
    for entry in entries {
        let path = entry
            .map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?
            .path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        // host-local writes the colons of IPv6 addresses as dashes where files may not have them.
        let Ok(address) = name.parse().or_else(|_| name.replace('-', ":").parse()) else {
            continue;
        };
        match lease(&path, address) {
            Ok(lease) => leases.push(lease),
            Err(problem) => problems.push(format!("{}: {problem}", path.display())),
        }
    }
    leases.sort_by_key(|lease| lease.address);
    Ok((leases, problems))
}

fn lease(path: &Path, address: IpAddr) -> Result<Lease, String> {
    let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > FILE_LEN_MAX {
        return Err(format!("it has {length} bytes, more than host-local writes"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let mut lines = text.lines().map(str::trim);
    let container = lines.next().unwrap_or_default();
    if container.is_empty() {
        return Err("it names no container; remove it if no pod has the address".to_owned());
    }
    Ok(Lease {
        address,
        container: container.to_owned(),
        interface: lines
            .next()
            .filter(|name| !name.is_empty())
            .unwrap_or("eth0")
            .to_owned(),
    })
}

/// The node that this is.
async fn node(client: &Client, given: Option<&str>) -> Result<String, Failure> {
    let name = match given {
        Some(name) => name.to_owned(),
        None => std::fs::read_to_string("/proc/sys/kernel/hostname")
            .map_err(|error| Failure::new(format!("the host name cannot be read: {error}; give --node")))?
            .trim()
            .to_ascii_lowercase(),
    };
    let stored: Option<Node> = client.get(None, &name).await?;
    match stored {
        Some(_) => Ok(name),
        None => Err(Failure::new(format!(
            "there is no node {name:?}; name this node with --node, as `kubectl get nodes` shows it"
        ))),
    }
}

/// The pods of a node by their addresses.
async fn pods_by_address(client: &Client, node: &str) -> Result<BTreeMap<IpAddr, (String, String)>, Failure> {
    let options = ListOptions {
        fields: Some(format!("spec.nodeName={node}")),
        ..ListOptions::default()
    };
    let pods: Vec<Pod> = client.list(None, &options).await?;
    let mut found = BTreeMap::new();
    for pod in pods {
        let is_host = pod
            .spec
            .as_ref()
            .is_some_and(|spec| spec.host_network == Some(true));
        let (Some(namespace), Some(name)) = (&pod.metadata.namespace, &pod.metadata.name) else {
            continue;
        };
        let status = pod.status.as_ref().filter(|_| !is_host);
        let addresses = status.into_iter().flat_map(|status| {
            status
                .pod_ips
                .iter()
                .flatten()
                .map(|ip| ip.ip.as_str())
                .chain(status.pod_ip.as_deref())
        });
        for address in addresses.filter_map(|text| text.parse().ok()) {
            found.insert(address, (namespace.clone(), name.clone()));
        }
    }
    Ok(found)
}

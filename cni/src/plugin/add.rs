//! ADD: addresses, the pair of devices, the Pod's annotations; all of it or nothing.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use caracal_api::{meta, names};
use caracal_datastore::Client;
use caracal_linux::netns::NetNs;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;

use super::{Calico, Step, connect, gates, ipam_conf, routes};
use crate::conf::DeviceConf;
use crate::delegate::{Changes, Delegate};
use crate::endpoint::Endpoint;
use crate::error::{Code, Error, Result};
use crate::ipam_plugin::CONTAINER_IN_USE;
use crate::pod::{self, Workload};
use crate::result::{AddResult, Interface, IpConfig};
use crate::rollback::Rollback;
use crate::skel::{Call, Command};
use crate::turn::Turn;
use crate::veth::{self, Plan};
use crate::wishes::{Source, Wishes};

/// Where the node agent leaves the MTU of pods.
const MTU_FILE: &str = "/var/lib/calico/mtu";

/// How long the pod's policy is waited for where felix itself answers, unless configured.
const POLICY_TIMEOUT: Duration = Duration::from_secs(5);

/// What is known before anything is changed.
struct Job<'a> {
    call: &'a Call,
    endpoint: Endpoint,
    client: Option<Client>,
    workload: Option<Workload>,
    wishes: Wishes,
    netns: Arc<NetNs>,
    mtu: Option<u32>,
}

pub(super) async fn add(plugin: &Calico, call: &Call) -> Result<AddResult> {
    let endpoint = Endpoint::of(call)?;
    let _turn = Turn::take(&endpoint.host_interface).await?;
    let job = Box::pin(prepare(call, endpoint)).await?;
    let mut rollback = Rollback::default();
    match work(plugin, &job, &mut rollback).await {
        Ok(result) => {
            wait_for_policy(&job).await;
            Ok(result)
        }
        Err(error) => Err(rollback.run(error).await),
    }
}

/// felix derives a pod's endpoint from the Pod, where the interface is always called eth0.
async fn wait_for_policy(job: &Job<'_>) {
    let call = job.call;
    if let Some(workload) = &job.workload {
        let limit = match call.conf.policy_setup_timeout_seconds {
            0 => POLICY_TIMEOUT,
            seconds => Duration::from_secs(seconds),
        };
        match call.cluster.wait_for_policy(&workload.pod, limit).await {
            Some(true) => return,
            Some(false) => {
                // Until then the host drops what comes from and goes to it.
                tracing::warn!(
                    interface = job.endpoint.host_interface,
                    "the pod's policy is not in the kernel in time"
                );
                return;
            }
            None => {}
        }
    }
    let (workload, orchestrator, endpoint) = match &job.endpoint.pod {
        Some((namespace, name)) => (format!("{namespace}/{name}"), meta::ORCHESTRATOR_K8S, "eth0"),
        None => (call.container_id.clone(), "cni", call.ifname.as_str()),
    };
    gates::wait_for_felix(&call.conf, &workload, orchestrator, endpoint).await;
}

async fn prepare(call: &Call, endpoint: Endpoint) -> Result<Job<'_>> {
    let mtu = mtu(&call.conf.device, Path::new(MTU_FILE))?;
    let netns = call.open_netns().map_err(|error| {
        Error::from(error).hint(format_args!(
            "CNI_NETNS is {:?}: give a network namespace",
            call.netns
        ))
    })?;
    if call.conf.device.netkit {
        tracing::warn!("device_type netkit is not built: using veth");
    }
    let client = connect(call).await?;
    let workload = match &client {
        Some(client) => read(call, client, &endpoint).await?,
        None => None,
    };
    gates::wait_for_gates(&call.conf).await?;
    let wishes = match &workload {
        Some(workload) => Wishes::read(workload, &call.conf)?,
        None => Wishes::default(),
    };
    Ok(Job {
        call,
        endpoint,
        client,
        workload,
        wishes,
        netns,
        mtu,
    })
}

/// Everything that is asked of the API before a change, at once.
async fn read(call: &Call, client: &Client, endpoint: &Endpoint) -> Result<Option<Workload>> {
    let cluster = &call.cluster;
    let Some((namespace, name)) = &endpoint.pod else {
        pod::check_ready(cluster, client).await?;
        return Ok(None);
    };
    let uid = call.args.get("K8S_POD_UID");
    let (ready, workload) = futures::join!(
        pod::check_ready(cluster, client),
        Workload::read(cluster, client, namespace, name, uid),
    );
    ready?;
    let workload = workload?;
    check_node(&workload, &endpoint.node, namespace, name)?;
    Ok(Some(workload))
}

/// felix ignores pods of other nodes: such a pod would never get a packet through.
fn check_node(workload: &Workload, node: &str, namespace: &str, name: &str) -> Result<()> {
    let scheduled = workload
        .pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref());
    match scheduled.filter(|scheduled| !scheduled.is_empty() && *scheduled != node) {
        None => Ok(()),
        Some(scheduled) => Err(Error::new(
            Code::InvalidConfig,
            format!("Pod {namespace}/{name} is scheduled to node {scheduled}, but this node is {node}"),
        )
        .hint("set nodename (or the node agent's nodename file) to the Node's name")),
    }
}

fn mtu(conf: &DeviceConf, file: &Path) -> Result<Option<u32>> {
    if conf.mtu.is_some() {
        return Ok(conf.mtu);
    }
    let shown = file.display();
    match std::fs::read_to_string(file) {
        Ok(text) => {
            let mtu = text
                .trim()
                .parse::<u32>()
                .ok()
                .filter(|mtu| (68..=65535).contains(mtu));
            mtu.map(Some).ok_or_else(|| {
                Error::new(Code::Decode, format!("{shown} has {:?}", text.trim()))
                    .hint("it must have a number from 68 to 65535; restart the node agent, or set mtu")
            })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !conf.require_mtu_file => Ok(None),
        Err(error) => Err(Error::new(Code::TryAgainLater, format!("read {shown}: {error}"))
            .hint("the node agent writes it when it starts; or set mtu")),
    }
}

async fn work<'a>(plugin: &Calico, job: &'a Job<'a>, rollback: &mut Rollback<'a>) -> Result<AddResult> {
    let assigned = assign(job, rollback).await?;
    let addresses: Vec<IpNet> = assigned
        .ips
        .iter()
        .map(|ip| IpNet::from(ip.address.addr()))
        .collect();
    if addresses.is_empty() {
        return Err(Error::new(Code::Plugin, "the address plugin gave no address")
            .hint("check assign_ipv4, assign_ipv6 and the ipFamilies annotation"));
    }
    (plugin.after)(Step::Assigned)?;
    let host_name = job.endpoint.host_interface.as_str();
    rollback.push("remove the interface", async move {
        veth::remove_host_end(host_name).await.map(drop)
    });
    if let (Some(client), Some(workload)) = (&job.client, &job.workload) {
        let pod = &workload.pod;
        // A lost answer leaves open whether the Pod has been written.
        rollback.push("take the addresses from the pod", async move {
            pod::forget_addresses(client, pod, &job.call.container_id).await
        });
    }
    // The kernel and the API server work at the same time; success means that both have succeeded.
    let attaching = async {
        let mac = attach(job, &addresses, &assigned).await?;
        (plugin.after)(Step::Attached).map(|()| mac)
    };
    let recording = async {
        if let (Some(client), Some(workload)) = (&job.client, &job.workload) {
            record(job, client, &workload.pod, &addresses).await?;
        }
        (plugin.after)(Step::Recorded)
    };
    let (mac, recorded) = futures::join!(attaching, recording);
    let mac = mac?;
    recorded?;
    Ok(result(job, &addresses, assigned, mac))
}

/// Writes the addresses to the Pod; later, when they were given because the API server is away.
async fn record(job: &Job<'_>, client: &Client, pod: &Pod, addresses: &[IpNet]) -> Result<()> {
    let container = &job.call.container_id;
    let handle = names::handle_id(&job.call.conf.name, container);
    match job.call.cluster.set_aside() {
        Some(store) if store.held(&handle).is_some() => {
            store.write_later(client, pod, addresses, container);
            Ok(())
        }
        Some(_) | None => Ok(pod::write_addresses(client, pod, addresses, container).await?),
    }
}

async fn assign<'a>(job: &'a Job<'a>, rollback: &mut Rollback<'a>) -> Result<AddResult> {
    if let Source::Unmanaged(addresses) = &job.wishes.source {
        return Ok(unmanaged(addresses));
    }
    let call = job.call;
    let conf = ipam_conf(call, &job.endpoint.node, |ipam| job.wishes.apply(ipam)).await?;
    let delegate = Delegate::find(call, conf)?;
    let undo = delegate.clone();
    rollback.push("release the addresses", async move {
        undo.tell(call, Command::Del, &Changes::default()).await
    });
    let Source::Given(addresses) = &job.wishes.source else {
        let added = delegate.add(call, &Changes::default()).await;
        if added.as_ref().is_err_and(|error| error.code == CONTAINER_IN_USE) {
            rollback.forget_last();
        }
        return added;
    };
    release_older(job, &delegate).await?;
    let mut all = AddResult::default();
    for address in addresses {
        let changes = Changes {
            args: Some(call.args.with("IP", &address.to_string())),
            ..Changes::default()
        };
        let one = delegate.add(call, &changes).await?;
        all.ips.extend(one.ips);
        all.routes.extend(one.routes);
    }
    Ok(all)
}

/// A given address may still be held by the pod's earlier container.
async fn release_older(job: &Job<'_>, delegate: &Delegate) -> Result<()> {
    let older = job.workload.as_ref().and_then(|workload| {
        workload.annotation(meta::POD_IPS)?;
        workload.annotation(meta::POD_CONTAINER_ID)
    });
    let Some(older) = older.filter(|older| *older != job.call.container_id) else {
        return Ok(());
    };
    let changes = Changes {
        container_id: Some(older.to_owned()),
        ..Changes::default()
    };
    delegate.tell(job.call, Command::Del, &changes).await
}

fn unmanaged(addresses: &[IpAddr]) -> AddResult {
    AddResult {
        ips: addresses
            .iter()
            .map(|address| IpConfig {
                interface: None,
                address: IpNet::from(*address),
                gateway: None,
            })
            .collect(),
        ..AddResult::default()
    }
}

async fn attach(job: &Job<'_>, addresses: &[IpNet], assigned: &AddResult) -> Result<String> {
    let device = &job.call.conf.device;
    let plan = Plan {
        netns: Arc::clone(&job.netns),
        ifname: job.call.ifname.clone(),
        host_name: job.endpoint.host_interface.clone(),
        addresses: addresses.to_vec(),
        routes: routes(job.call, addresses),
        mtu: job.mtu,
        queues: device.queues,
        mac: job.wishes.mac,
        allow_ip_forwarding: device.allow_ip_forwarding,
        // calico-ipam gives no route to a pod whose address another node still serves.
        host_routes: !job.call.conf.is_calico_ipam()
            || !assigned.routes.is_empty()
            || matches!(job.wishes.source, Source::Unmanaged(_)),
    };
    let link = veth::attach(plan).await?;
    Ok(link.mac.map(|mac| mac.to_string()).unwrap_or_default())
}

fn result(job: &Job<'_>, addresses: &[IpNet], assigned: AddResult, mac: String) -> AddResult {
    let host = Interface {
        name: job.endpoint.host_interface.clone(),
        ..Interface::default()
    };
    let container = Interface {
        name: job.call.ifname.clone(),
        mac,
        mtu: job.call.conf.device.mtu.unwrap_or(0),
        sandbox: job.call.netns.clone(),
        ..Interface::default()
    };
    let ips = addresses.iter().map(|address| IpConfig {
        interface: Some(1),
        address: *address,
        gateway: None,
    });
    AddResult {
        interfaces: vec![host, container],
        ips: ips.collect(),
        routes: assigned.routes,
        dns: assigned.dns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_mtu_beats_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "1440\n").unwrap();
        let mut conf = DeviceConf {
            mtu: Some(1400),
            ..DeviceConf::default()
        };
        assert_eq!(mtu(&conf, file.path()).unwrap(), Some(1400));
        conf.mtu = None;
        assert_eq!(mtu(&conf, file.path()).unwrap(), Some(1440));
        std::fs::write(file.path(), "big").unwrap();
        assert!(mtu(&conf, file.path()).unwrap_err().message.contains("big"));
        let missing = Path::new("/nonexistent/mtu");
        assert_eq!(mtu(&conf, missing).unwrap(), None);
        conf.require_mtu_file = true;
        assert_eq!(mtu(&conf, missing).unwrap_err().code, Code::TryAgainLater);
    }
}

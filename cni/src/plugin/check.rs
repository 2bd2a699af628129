//! CHECK: whether the container still has what ADD promised. All differences are told, not only the first.
//!
//! Source: CNI specification 1.1.0, "CHECK". Calico's own plugin always answers yes.

use caracal_api::meta;
use caracal_linux::netlink::{Link, Netlink, Route};
use caracal_linux::netns::NetNs;
use caracal_linux::sysctl;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;

use super::{connect, ipam_conf, routes};
use crate::delegate::{Changes, Delegate};
use crate::endpoint::Endpoint;
use crate::error::{Code, Error, Result};
use crate::pod;
use crate::result::AddResult;
use crate::skel::{Call, Command};
use crate::veth;

pub(super) async fn check(call: &Call) -> Result<()> {
    let endpoint = Endpoint::of(call)?;
    let document = call.conf.prev_result.as_ref().ok_or_else(|| {
        Error::new(
            Code::InvalidConfig,
            "network configuration: prevResult is missing",
        )
        .hint("the runtime gives the result of ADD to CHECK")
    })?;
    let promised = AddResult::from_json(document, call.conf.version)?;
    let mut differences = Vec::new();
    compare_container(call, &endpoint, &promised, &mut differences).await?;
    compare_host(&endpoint, &promised, &mut differences).await?;
    if let Some(client) = connect(call).await? {
        pod::check_ready(&call.cluster, &client).await?;
        if let Some((namespace, name)) = &endpoint.pod {
            let pod = client.get::<Pod>(Some(namespace), name).await?;
            compare_pod(call, pod.as_ref(), &promised, &mut differences);
        }
    }
    compare_allocation(call, &endpoint, &mut differences).await?;
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Code::Plugin,
        format!(
            "container {} is not as it was made: {}",
            call.container_id,
            differences.join("; ")
        ),
    )
    .hint("DEL and ADD make it anew"))
}

fn own_addresses(call: &Call, promised: &AddResult) -> Vec<IpNet> {
    let is_own = |index: u32| {
        let interface = usize::try_from(index)
            .ok()
            .and_then(|index| promised.interfaces.get(index));
        interface.is_none_or(|interface| interface.name == call.ifname)
    };
    let own = promised.ips.iter().filter(|ip| ip.interface.is_none_or(is_own));
    own.map(|ip| ip.address).collect()
}

async fn compare_container(
    call: &Call,
    endpoint: &Endpoint,
    promised: &AddResult,
    differences: &mut Vec<String>,
) -> Result<()> {
    let netns = match call.open_netns() {
        Ok(netns) => netns,
        Err(error) => {
            differences.push(format!("its namespace {} is gone: {error}", call.netns));
            return Ok(());
        }
    };
    let netlink = Netlink::open_in(&netns)?;
    let name = &call.ifname;
    let link = match netlink.link_by_name(name).await {
        Ok(link) => link,
        Err(error) if error.is_not_found() => {
            differences.push(format!("it has no interface {name}"));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    compare_link(call, &link, promised, differences);
    compare_pair(endpoint, &link, differences).await?;
    compare_forwarding(call, &netns, promised, differences)?;
    let addresses = netlink.addresses_of(link.index).await?;
    let own = own_addresses(call, promised);
    for wanted in &own {
        if !addresses.iter().any(|address| address.address == *wanted) {
            differences.push(format!("{name} has no address {wanted}"));
        }
    }
    let present = netlink.routes().await?;
    for destination in routes(call, &own) {
        if !has_route(&present, destination, link.index) {
            differences.push(format!("it has no route to {destination} through {name}"));
        }
    }
    Ok(())
}

/// Both ends must be of one pair, not of two that happen to have the right names.
async fn compare_pair(endpoint: &Endpoint, far: &Link, differences: &mut Vec<String>) -> Result<()> {
    match Netlink::open()?.link_by_name(&endpoint.host_interface).await {
        Ok(near) if far.peer.is_some_and(|peer| peer != near.index) => {
            differences.push(format!("{} is not the other end of {}", near.name, far.name));
            Ok(())
        }
        Ok(_) => Ok(()),
        // Said where the host is looked at.
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A container that forwards could send for others.
fn compare_forwarding(
    call: &Call,
    netns: &NetNs,
    promised: &AddResult,
    differences: &mut Vec<String>,
) -> Result<()> {
    let wanted = if call.conf.device.allow_ip_forwarding {
        "1"
    } else {
        "0"
    };
    let has = |v6: bool| promised.ips.iter().any(|ip| ip.address.addr().is_ipv6() == v6);
    for (v6, parts) in [
        (false, ["net", "ipv4", "ip_forward"].as_slice()),
        (true, ["net", "ipv6", "conf", "all", "forwarding"].as_slice()),
    ] {
        if !has(v6) {
            continue;
        }
        let value = netns.run(|| sysctl::read(parts))??;
        if value != wanted {
            differences.push(format!(
                "{} in the container is {value}, not {wanted}",
                parts.join(".")
            ));
        }
    }
    Ok(())
}

fn compare_link(call: &Call, link: &Link, promised: &AddResult, differences: &mut Vec<String>) {
    let name = &call.ifname;
    if link.kind.as_deref() != Some("veth") {
        differences.push(format!("{name} is not a veth"));
    }
    if !link.up {
        differences.push(format!("{name} is down"));
    }
    let own = promised
        .interfaces
        .iter()
        .find(|interface| interface.name == *name && !interface.sandbox.is_empty());
    let Some(own) = own else {
        differences.push(format!("prevResult has no interface {name} in the container"));
        return;
    };
    let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    if !own.mac.is_empty() && !own.mac.eq_ignore_ascii_case(&mac) {
        differences.push(format!("{name} has hardware address {mac}, not {}", own.mac));
    }
    if own.mtu != 0 && own.mtu != link.mtu {
        differences.push(format!("{name} has MTU {}, not {}", link.mtu, own.mtu));
    }
}

fn has_route(routes: &[Route], destination: IpNet, index: u32) -> bool {
    routes
        .iter()
        .any(|route| route.destination == destination && route.oif == Some(index))
}

async fn compare_host(
    endpoint: &Endpoint,
    promised: &AddResult,
    differences: &mut Vec<String>,
) -> Result<()> {
    let netlink = Netlink::open()?;
    let name = endpoint.host_interface.as_str();
    let link = match netlink.link_by_name(name).await {
        Ok(link) => link,
        Err(error) if error.is_not_found() => {
            differences.push(format!("the host has no interface {name}"));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    if !link.up {
        differences.push(format!("{name} is down"));
    }
    if link.mac != Some(veth::HOST_MAC) {
        differences.push(format!("{name} has not the hardware address {}", veth::HOST_MAC));
    }
    let present = netlink.routes().await?;
    let has = |v6: bool| promised.ips.iter().any(|ip| ip.address.addr().is_ipv6() == v6);
    for ip in &promised.ips {
        let destination = IpNet::from(ip.address.addr());
        // A result without routes is a live migration's: the address is another node's for now.
        if !promised.routes.is_empty() && !has_route(&present, destination, link.index) {
            differences.push(format!("the host has no route to {destination} through {name}"));
        }
    }
    let mut parameters = Vec::new();
    if has(false) {
        parameters.extend([
            ("ipv4", "route_localnet", "1"),
            ("ipv4", "proxy_arp", "1"),
            ("ipv4", "forwarding", "1"),
        ]);
    }
    if has(true) {
        parameters.extend([
            ("ipv6", "disable_ipv6", "0"),
            ("ipv6", "proxy_ndp", "1"),
            ("ipv6", "forwarding", "1"),
            ("ipv6", "accept_ra", "0"),
        ]);
    }
    for (family, key, wanted) in parameters {
        let value = sysctl::read(&["net", family, "conf", name, key])?;
        if value != wanted {
            differences.push(format!("net.{family}.conf.{name}.{key} is {value}, not {wanted}"));
        }
    }
    Ok(())
}

fn compare_pod(call: &Call, pod: Option<&Pod>, promised: &AddResult, differences: &mut Vec<String>) {
    let Some(pod) = pod else {
        differences.push("its Pod does not exist".to_owned());
        return;
    };
    let owner = pod::annotation(pod, meta::POD_CONTAINER_ID);
    if owner != Some(call.container_id.as_str()) {
        differences.push(format!(
            "the Pod belongs to container {}",
            owner.unwrap_or("none")
        ));
    }
    let texts: Vec<String> = own_addresses(call, promised)
        .iter()
        .map(ToString::to_string)
        .collect();
    let written = pod::annotation(pod, meta::POD_IPS).unwrap_or_default();
    if written != texts.join(",") {
        differences.push(format!(
            "the Pod has the addresses {written:?}, not {:?}",
            texts.join(",")
        ));
    }
}

/// The address plugin compares its own part. One that does not know CHECK cannot be asked.
async fn compare_allocation(call: &Call, endpoint: &Endpoint, differences: &mut Vec<String>) -> Result<()> {
    if call.conf.ipam.kind.is_empty() {
        return Ok(());
    }
    let raw = ipam_conf(call, &endpoint.node, |_| {}).await?;
    let delegate = Delegate::find(call, raw)?;
    match delegate.tell(call, Command::Check, &Changes::default()).await {
        Ok(()) => Ok(()),
        Err(error) if error.code == Code::TryAgainLater => Err(error),
        Err(error) => {
            differences.push(format!("addresses: {error}"));
            Ok(())
        }
    }
}

//! The wires: network namespaces of the machines, the rack's bridge, the link to the outside host, and forwarding.
//!
//! ```text
//!   node-1 eth0 ─┐
//!   node-2 eth0 ─┼─ rack (bridge, 172.30.0.1 and .254) tor  outside (172.31.0.1) ── eth0 (172.31.0.10) outside
//!   node-3 eth0 ─┘
//! ```
//!
//! Owns devices, addresses and static routes of machines; pods and BGP routes belong to others.

use std::net::{IpAddr, Ipv4Addr};

use caracal_linux::netlink::{Netlink, Route, VethEnd};
use caracal_linux::netns::NetNs;
use caracal_linux::sysctl;
use ipnet::{IpNet, Ipv4Net};

use crate::error::{Error, Result};
use crate::topology::{
    Machine, Plan, Role, api_address, behind, outside_address, rack, tor_address, tor_outside_address,
};

/// Static routes, in the kernel's list of protocols.
const PROTOCOL_STATIC: u8 = 4;
const BRIDGE: &str = "rack";
/// The router's device toward the outside host; BIRD's configuration names it.
const TOR_OUTSIDE: &str = "outside";
const ETH: &str = "eth0";

/// Makes every machine's network namespace and all wires. What exists under those names must have been swept before.
///
/// # Errors
/// The first thing the kernel refuses.
pub async fn build(plan: &Plan) -> Result<()> {
    for machine in &plan.machines {
        let netns =
            NetNs::create_named(&machine.netns).map_err(|e| failed("make the network of", machine, e))?;
        netns
            .run(|| forwarding(machine.role))
            .and_then(|result| result)
            .map_err(|e| failed("set kernel parameters of", machine, e))?;
        let netlink = Netlink::open_in(&netns).map_err(|e| failed("configure", machine, e))?;
        up(&netlink, "lo")
            .await
            .map_err(|e| failed("configure", machine, e))?;
    }
    let tor = role(plan, Role::Tor)?;
    let outside = role(plan, Role::Outside)?;
    wire_tor(tor).await.map_err(|e| failed("wire", tor, e))?;
    for node in plan.nodes() {
        wire_node(tor, node).await.map_err(|e| failed("wire", node, e))?;
    }
    wire_outside(tor, outside)
        .await
        .map_err(|e| failed("wire", outside, e))
}

/// Gives the outside host a further address, and the router a route to it. Done before is done.
///
/// # Errors
/// The lab is not up.
pub async fn add_outside_address(plan: &Plan, address: Ipv4Addr) -> Result<()> {
    if address == outside_address() {
        return Ok(());
    }
    let outside = role(plan, Role::Outside)?;
    let tor = role(plan, Role::Tor)?;
    further_address(tor, outside, address)
        .await
        .map_err(|e| failed(&format!("give {address} to"), outside, e))
}

async fn further_address(tor: &Machine, outside: &Machine, address: Ipv4Addr) -> caracal_linux::Result<()> {
    let (_, netlink) = open(outside)?;
    let lo = netlink.link_by_name("lo").await?;
    match netlink.add_address(lo.index, host(address)).await {
        Err(error) if !error.is_exists() => return Err(error),
        _ => {}
    }
    let (_, netlink) = open(tor)?;
    let route = Route::unicast(host(address))
        .via(IpAddr::V4(outside_address()))
        .protocol(PROTOCOL_STATIC);
    netlink.replace_route(&route).await
}

async fn wire_tor(tor: &Machine) -> caracal_linux::Result<()> {
    let (_, netlink) = open(tor)?;
    netlink.create_bridge(BRIDGE).await?;
    let bridge = netlink.link_by_name(BRIDGE).await?;
    netlink
        .add_address(bridge.index, within(tor_address(), rack()))
        .await?;
    netlink
        .add_address(bridge.index, within(api_address(), rack()))
        .await?;
    netlink.set_up(bridge.index).await
}

async fn wire_node(tor: &Machine, node: &Machine) -> caracal_linux::Result<()> {
    let (_, at_tor) = open(tor)?;
    let (netns, at_node) = open(node)?;
    let far = VethEnd {
        netns: Some(&netns),
        ..VethEnd::named(ETH)
    };
    at_tor.create_veth(VethEnd::named(&node.name), far).await?;
    let bridge = at_tor.link_by_name(BRIDGE).await?;
    let port = at_tor.link_by_name(&node.name).await?;
    at_tor.set_master(port.index, Some(bridge.index)).await?;
    at_tor.set_up(port.index).await?;
    plug(&at_node, within(node.address, rack()), tor_address()).await
}

async fn wire_outside(tor: &Machine, outside: &Machine) -> caracal_linux::Result<()> {
    let (_, at_tor) = open(tor)?;
    let (netns, at_outside) = open(outside)?;
    let far = VethEnd {
        netns: Some(&netns),
        ..VethEnd::named(ETH)
    };
    at_tor.create_veth(VethEnd::named(TOR_OUTSIDE), far).await?;
    let near = at_tor.link_by_name(TOR_OUTSIDE).await?;
    at_tor
        .add_address(near.index, within(tor_outside_address(), behind()))
        .await?;
    at_tor.set_up(near.index).await?;
    plug(
        &at_outside,
        within(outside.address, behind()),
        tor_outside_address(),
    )
    .await
}

/// Address, up, default route.
async fn plug(netlink: &Netlink, address: IpNet, gateway: Ipv4Addr) -> caracal_linux::Result<()> {
    let eth = netlink.link_by_name(ETH).await?;
    netlink.add_address(eth.index, address).await?;
    netlink.set_up(eth.index).await?;
    let default = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));
    let route = Route::unicast(default)
        .via(IpAddr::V4(gateway))
        .dev(eth.index)
        .protocol(PROTOCOL_STATIC);
    netlink.add_route(&route).await
}

async fn up(netlink: &Netlink, name: &str) -> caracal_linux::Result<()> {
    let link = netlink.link_by_name(name).await?;
    netlink.set_up(link.index).await
}

/// Kernel parameters of a machine. New namespaces copy the host's values, so what matters is written.
fn forwarding(role: Role) -> caracal_linux::Result<()> {
    let forward = match role {
        Role::Node | Role::Tor => "1",
        Role::Outside => "0",
    };
    sysctl::write(&["net", "ipv4", "ip_forward"], forward)?;
    for scope in ["all", "default"] {
        sysctl::write(&["net", "ipv4", "conf", scope, "rp_filter"], "0")?;
        // The router sends traffic between nodes back out of the rack; redirects would only confuse the nodes.
        sysctl::write(&["net", "ipv4", "conf", scope, "send_redirects"], "0")?;
    }
    Ok(())
}

fn role(plan: &Plan, role: Role) -> Result<&Machine> {
    plan.machines
        .iter()
        .find(|machine| machine.role == role)
        .ok_or_else(|| {
            Error::refused(format!(
                "the lab's plan has no {role:?}; run `caracal-lab down` and `up` again"
            ))
        })
}

fn open(machine: &Machine) -> caracal_linux::Result<(NetNs, Netlink)> {
    let netns = NetNs::open_named(&machine.netns)?;
    let netlink = Netlink::open_in(&netns)?;
    Ok((netns, netlink))
}

fn within(address: Ipv4Addr, network: Ipv4Net) -> IpNet {
    // The prefix length comes from a valid network, so the assertion holds.
    IpNet::V4(Ipv4Net::new_assert(address, network.prefix_len()))
}

fn host(address: Ipv4Addr) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(address, 32))
}

fn failed(what: &str, machine: &Machine, source: caracal_linux::Error) -> Error {
    Error::kernel(format!("{what} {}", machine.name), source)
}

//! The kernel's part of plugging in: the pair of devices, addresses, routes, neighbours and parameters.
//!
//! Ownership: the host's end is ours by its name, which follows from the pod; its route carries felix's protocol
//! number, so felix adopts it. Source: Calico's `cni-plugin/pkg/dataplane/linux/dataplane_linux.go`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use caracal_linux::netlink::{Link, MacAddr, Netlink, Route, SCOPE_LINK, TABLE_LOCAL, VethEnd};
use caracal_linux::netns::NetNs;
use caracal_linux::sysctl;
use ipnet::IpNet;

use crate::error::{Code, Error, Result};

/// Hardware address of every host end. Running pods have it in their neighbour tables.
pub const HOST_MAC: MacAddr = MacAddr([0xee; 6]);
/// Next hop of pods for IPv4. Nobody has this address: the host end answers for it.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// Next hop of pods for IPv6: the link-local address that follows from [`HOST_MAC`].
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);
/// Protocol number of felix's routes.
const PROTOCOL_FELIX: u8 = 80;
/// `RTPROT_BOOT`, what a container's own configuration carries.
const PROTOCOL_BOOT: u8 = 3;

/// How often, and how far apart, the host end's link-local address is looked for.
const LINK_LOCAL_TRIES: u32 = 20;
const LINK_LOCAL_PAUSE: Duration = Duration::from_millis(50);

/// How often, and how far apart, it is looked whether a device can send.
const RUNNING_TRIES: u32 = 2000;
const RUNNING_PAUSE: Duration = Duration::from_millis(1);

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// The container's namespace.
    pub netns: &'a NetNs,
    /// Device in the container.
    pub ifname: &'a str,
    /// Device on the host.
    pub host_name: &'a str,
    /// Addresses, of full length.
    pub addresses: &'a [IpNet],
    /// Destinations through the host.
    pub routes: &'a [IpNet],
    /// MTU of both; the kernel's if absent.
    pub mtu: Option<u32>,
    /// Queues of both.
    pub queues: u32,
    /// Hardware address in the container; drawn if absent.
    pub mac: Option<MacAddr>,
    /// The container may forward.
    pub allow_ip_forwarding: bool,
    /// Route the addresses to the container from the host.
    pub host_routes: bool,
}

impl Plan<'_> {
    fn has(&self, v6: bool) -> bool {
        self.addresses.iter().any(|net| net.addr().is_ipv6() == v6)
    }
}

/// Makes the pair and everything on it; an old pair of the same name goes first. Returns the container end.
///
/// # Errors
/// Whatever the kernel refuses. The pair may be left: the caller deletes the host end by its name.
pub async fn attach(plan: &Plan<'_>) -> Result<Link> {
    let host = Netlink::open()?;
    remove(&host, plan.host_name).await?;
    create(&host, plan).await?;
    let pod = enter(plan)?;
    let near = host.link_by_name(plan.host_name).await?;
    let far = pod.link_by_name(plan.ifname).await?;
    set_host_parameters(plan)?;
    host.set_up(near.index).await?;
    pod.set_up(far.index).await?;
    set_container(&pod, far.index, plan).await?;
    if plan.has(true) {
        wait_for_link_local(&host, near.index).await?;
        wait_for_own_addresses(&pod, plan).await?;
    }
    if plan.host_routes {
        add_host_routes(&host, near.index, plan).await?;
    }
    // Last: the kernel activates them meanwhile.
    wait_until_running(&host, near.index).await?;
    wait_until_running(&pod, far.index).await?;
    Ok(far)
}

/// Sets the container's parameters and connects to its namespace, with one visit: each is a thread.
fn enter(plan: &Plan<'_>) -> Result<Netlink> {
    let runtime = tokio::runtime::Handle::current();
    plan.netns.run(move || {
        let _guard = runtime.enter();
        set_container_parameters(plan)?;
        Ok(Netlink::open()?)
    })?
}

async fn create(host: &Netlink, plan: &Plan<'_>) -> Result<()> {
    let queues = Some(plan.queues).filter(|queues| *queues > 1);
    let near = VethEnd {
        mac: Some(HOST_MAC),
        mtu: plan.mtu,
        queues,
        ..VethEnd::named(plan.host_name)
    };
    let far = VethEnd {
        mac: plan.mac,
        mtu: plan.mtu,
        netns: Some(plan.netns),
        queues,
        ..VethEnd::named(plan.ifname)
    };
    host.create_veth(near, far).await.map_err(|error| {
        let exists = error.is_exists();
        let error = Error::from(error);
        if exists {
            return error.hint(format_args!(
                "the container has an interface {} already: call DEL for it first",
                plan.ifname
            ));
        }
        error
    })
}

/// The host end answers for every address that the pod asks for, and forwards.
fn set_host_parameters(plan: &Plan<'_>) -> Result<()> {
    let name = plan.host_name;
    if plan.has(false) {
        let conf = |key| ["net", "ipv4", "conf", name, key];
        sysctl::write(&conf("route_localnet"), "1")?;
        sysctl::write(&conf("proxy_arp"), "1")?;
        sysctl::write(&conf("forwarding"), "1")?;
        // felix sets it too, or clears it where the pod may send from other addresses.
        try_write(&conf("rp_filter"), "1");
        // The kernel's default makes the first packet of every pod wait up to a second.
        try_write(&["net", "ipv4", "neigh", name, "proxy_delay"], "0");
    }
    let conf = |key| ["net", "ipv6", "conf", name, key];
    if plan.has(true) {
        sysctl::write(&conf("accept_dad"), "0")?;
        sysctl::write(&conf("disable_ipv6"), "0")?;
        sysctl::write(&conf("proxy_ndp"), "1")?;
        sysctl::write(&conf("forwarding"), "1")?;
        // The pod's gateway follows from the hardware address, whatever the host prefers for its own devices.
        try_write(&conf("addr_gen_mode"), "0");
    }
    try_write(&conf("accept_ra"), "0");
    Ok(())
}

fn try_write(parts: &[&str], value: &str) {
    if let Err(error) = sysctl::write(parts, value) {
        tracing::warn!(parameter = parts.join("/"), error = %error, "cannot set kernel parameter");
    }
}

/// Runs in the container's namespace.
fn set_container_parameters(plan: &Plan<'_>) -> Result<()> {
    let forwarding = if plan.allow_ip_forwarding { "1" } else { "0" };
    if plan.has(false) {
        sysctl::write(&["net", "ipv4", "ip_forward"], forwarding)?;
    }
    if plan.has(true) {
        for device in ["all", "default", "lo", plan.ifname] {
            sysctl::write(&["net", "ipv6", "conf", device, "disable_ipv6"], "0")?;
        }
        sysctl::write(&["net", "ipv6", "conf", plan.ifname, "accept_dad"], "0")?;
        sysctl::write(&["net", "ipv6", "conf", "all", "forwarding"], forwarding)?;
    }
    Ok(())
}

async fn set_container(pod: &Netlink, index: u32, plan: &Plan<'_>) -> Result<()> {
    for address in plan.addresses {
        pod.add_address(index, *address).await?;
    }
    for gateway in gateways(plan) {
        // Without a default route on the host nothing would answer for the gateway.
        pod.set_neighbour(index, gateway, HOST_MAC).await?;
        if gateway.is_ipv4() {
            let on_link = Route::unicast(gateway.into()).dev(index);
            pod.replace_route(&on_link.scope(SCOPE_LINK).protocol(PROTOCOL_BOOT))
                .await?;
        }
        let same_family = |net: &&IpNet| net.addr().is_ipv6() == gateway.is_ipv6();
        for destination in plan.routes.iter().filter(same_family) {
            let route = Route::unicast(*destination).via(gateway).dev(index);
            pod.replace_route(&route.protocol(PROTOCOL_BOOT)).await?;
        }
    }
    Ok(())
}

fn gateways(plan: &Plan<'_>) -> Vec<IpAddr> {
    let v4 = plan.has(false).then_some(IpAddr::V4(GATEWAY_V4));
    let v6 = plan.has(true).then_some(IpAddr::V6(GATEWAY_V6));
    v4.into_iter().chain(v6).collect()
}

/// The pod's IPv6 gateway exists when the host end has its link-local address.
async fn wait_for_link_local(host: &Netlink, index: u32) -> Result<()> {
    let has_it = async || -> Result<bool> {
        let addresses = host.addresses_of(index).await?;
        let gateway = IpAddr::V6(GATEWAY_V6);
        Ok(addresses
            .iter()
            .any(|own| own.address.addr() == gateway && !own.tentative))
    };
    for attempt in 1..=LINK_LOCAL_TRIES {
        if has_it().await? {
            return Ok(());
        }
        if attempt == LINK_LOCAL_TRIES / 2 {
            // An address made before the parameters were set does not change by itself.
            host.set_down(index).await?;
            host.set_up(index).await?;
        }
        tokio::time::sleep(LINK_LOCAL_PAUSE).await;
    }
    Err(Error::new(
        Code::Plugin,
        format!("the host's interface has not got {GATEWAY_V6}"),
    )
    .hint("check net.ipv6.conf.all.disable_ipv6 on the host"))
}

/// The kernel makes an IPv6 address deliverable in the background; until then it drops what comes for it.
async fn wait_for_own_addresses(pod: &Netlink, plan: &Plan<'_>) -> Result<()> {
    for _ in 0..RUNNING_TRIES {
        let routes = pod.routes_of(true).await?;
        let is_there = |address: &IpNet| {
            routes
                .iter()
                .any(|route| route.table == TABLE_LOCAL && route.destination == *address)
        };
        let mut own = plan.addresses.iter().filter(|address| address.addr().is_ipv6());
        if own.all(is_there) {
            return Ok(());
        }
        tokio::time::sleep(RUNNING_PAUSE).await;
    }
    tracing::warn!(iface = plan.ifname, "an IPv6 address is still not usable");
    Ok(())
}

/// What the container sends first would be lost while the kernel still activates the device.
async fn wait_until_running(netlink: &Netlink, index: u32) -> Result<()> {
    for _ in 0..RUNNING_TRIES {
        if netlink.link_by_index(index).await?.running {
            return Ok(());
        }
        tokio::time::sleep(RUNNING_PAUSE).await;
    }
    tracing::warn!(ifindex = index, "interface is still not running");
    Ok(())
}

async fn add_host_routes(host: &Netlink, index: u32, plan: &Plan<'_>) -> Result<()> {
    for address in plan.addresses {
        let mut route = Route::unicast(*address).dev(index).protocol(PROTOCOL_FELIX);
        if address.addr().is_ipv4() {
            route = route.scope(SCOPE_LINK);
        }
        match host.add_route(&route).await {
            Ok(()) => {}
            Err(error) if error.is_exists() => check_same_route(host, index, &route, plan.host_name).await?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn check_same_route(host: &Netlink, index: u32, wanted: &Route, name: &str) -> Result<()> {
    let routes = host.routes_of(wanted.destination.addr().is_ipv6()).await?;
    let conflict = routes.iter().find(|route| {
        route.destination == wanted.destination && route.table == wanted.table && route.oif != Some(index)
    });
    let Some(conflict) = conflict else {
        return Ok(());
    };
    Err(Error::new(
        Code::Plugin,
        format!(
            "route {} already exists for an interface other than '{name}' (interface index {})",
            wanted.destination,
            conflict
                .oif
                .map_or_else(|| "none".to_owned(), |oif| oif.to_string())
        ),
    )
    .hint("another workload uses the address, or a route was left behind: see `ip route`"))
}

async fn remove(netlink: &Netlink, name: &str) -> Result<bool> {
    let link = match netlink.link_by_name(name).await {
        Ok(link) => link,
        Err(error) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    match netlink.delete_link(link.index).await {
        Ok(()) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Deletes a device of the host, and so its other end. Returns whether there was one.
///
/// # Errors
/// When the kernel refuses.
pub async fn remove_host_end(name: &str) -> Result<bool> {
    remove(&Netlink::open()?, name).await
}

/// Deletes a device in a container. A namespace or device that is gone is success.
///
/// # Errors
/// When the namespace cannot be entered or the kernel refuses.
pub async fn remove_container_end(netns: caracal_linux::Result<Arc<NetNs>>, ifname: &str) -> Result<bool> {
    match netns {
        Ok(netns) => remove(&Netlink::open_in(&netns)?, ifname).await,
        Err(error) if error.is_not_found() => Ok(false),
        // The path of a namespace that ended stays behind as a plain file.
        Err(caracal_linux::Error::Invalid { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

//! The kernel's part of plugging in: the pair of devices, addresses, routes, neighbours and parameters.
//!
//! Ownership: the host's end is ours by its name, which follows from the pod; its route carries felix's protocol
//! number, so felix adopts it. Source: Calico's `cni-plugin/pkg/dataplane/linux/dataplane_linux.go`.

mod unplug;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use caracal_linux::netlink::{
    Direct, Link, MacAddr, Netlink, Request, Route, SCOPE_LINK, TABLE_LOCAL, VethEnd,
};
use caracal_linux::netns::NetNs;
use caracal_linux::sysctl;
use ipnet::IpNet;

use crate::error::{Code, Error, Result};

pub use unplug::{remove_container_end, remove_host_end};

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

/// How long, and how far apart at first and at most, it is looked whether a device can send.
const RUNNING_TIMEOUT: Duration = Duration::from_secs(3);
const RUNNING_PAUSE: Duration = Duration::from_micros(50);
const RUNNING_PAUSE_MAX: Duration = Duration::from_millis(2);
/// How often, and how far apart, it is looked whether an IPv6 address can be reached.
const OWN_TRIES: u32 = 2000;
const OWN_PAUSE: Duration = Duration::from_millis(1);

/// What to make.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The container's namespace.
    pub netns: Arc<NetNs>,
    /// Device in the container.
    pub ifname: String,
    /// Device on the host.
    pub host_name: String,
    /// Addresses, of full length.
    pub addresses: Vec<IpNet>,
    /// Destinations through the host.
    pub routes: Vec<IpNet>,
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

impl Plan {
    fn has(&self, v6: bool) -> bool {
        self.addresses.iter().any(|net| net.addr().is_ipv6() == v6)
    }
}

/// Makes the pair and everything on it; an old pair of the same name goes first. Returns the container end.
///
/// # Errors
/// Whatever the kernel refuses. The pair may be left: the caller deletes the host end by its name.
pub async fn attach(plan: Plan) -> Result<Link> {
    let plan = Arc::new(plan);
    let (near, far) = in_kernel({
        let plan = Arc::clone(&plan);
        move || make(&plan)
    })
    .await?;
    if plan.has(true) {
        let pod = Netlink::open_in(&plan.netns)?;
        wait_for_link_local(&Netlink::open()?, near.index).await?;
        wait_for_own_addresses(&pod, &plan).await?;
    }
    Ok(far)
}

/// Runs work that waits for the kernel on a thread of its own.
async fn in_kernel<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(Error::new(
            Code::Internal,
            format!("the kernel's part ended early: {error}"),
        ))
    })
}

/// Returns both ends.
fn make(plan: &Plan) -> Result<(Link, Link)> {
    let mut host = Direct::open()?;
    let near = create(&mut host, plan)?;
    set_host_parameters(plan)?;
    host.one(Request::Up(near.index))?;
    // One visit of the container's namespace: each is a thread. The socket stays there.
    let (mut pod, far) = plan.netns.run(|| -> Result<(Direct, Link)> {
        set_container_parameters(plan)?;
        let mut pod = Direct::open()?;
        let far = set_container(&mut pod, near.peer, plan)?;
        Ok((pod, far))
    })??;
    if plan.host_routes {
        add_host_routes(&mut host, near.index, plan)?;
    }
    // Last: the kernel activates them meanwhile.
    wait_until_running(&mut host, &plan.host_name)?;
    wait_until_running(&mut pod, &plan.ifname)?;
    Ok((near, far))
}

fn create(host: &mut Direct, plan: &Plan) -> Result<Link> {
    let queues = Some(plan.queues).filter(|queues| *queues > 1);
    let near = VethEnd {
        mac: Some(HOST_MAC),
        mtu: plan.mtu,
        queues,
        ..VethEnd::named(&plan.host_name)
    };
    let far = VethEnd {
        mac: plan.mac,
        mtu: plan.mtu,
        netns: Some(&plan.netns),
        queues,
        ..VethEnd::named(&plan.ifname)
    };
    unplug::remove(&plan.host_name)?;
    let mut answers = host
        .ask(&[Request::Veth(near, far), Request::Link(&plan.host_name)])
        .into_iter();
    if let Some(Err(error)) = answers.next() {
        let exists = error.is_exists();
        let error = Error::from(error);
        if exists {
            return Err(error.hint(format_args!(
                "the container has an interface {} already: call DEL for it first",
                plan.ifname
            )));
        }
        return Err(error);
    }
    match answers.next() {
        Some(Ok(Some(near))) => Ok(near),
        Some(Err(error)) => Err(error.into()),
        Some(Ok(None)) | None => Err(Error::new(
            Code::Internal,
            format!("the kernel does not describe {}", plan.host_name),
        )),
    }
}

/// The host end answers for every address that the pod asks for, and forwards.
fn set_host_parameters(plan: &Plan) -> Result<()> {
    let name = plan.host_name.as_str();
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
fn set_container_parameters(plan: &Plan) -> Result<()> {
    let forwarding = if plan.allow_ip_forwarding { "1" } else { "0" };
    if plan.has(false) {
        sysctl::write(&["net", "ipv4", "ip_forward"], forwarding)?;
    }
    if plan.has(true) {
        for device in ["all", "default", "lo", &plan.ifname] {
            sysctl::write(&["net", "ipv6", "conf", device, "disable_ipv6"], "0")?;
        }
        sysctl::write(&["net", "ipv6", "conf", &plan.ifname, "accept_dad"], "0")?;
        sysctl::write(&["net", "ipv6", "conf", "all", "forwarding"], forwarding)?;
    }
    Ok(())
}

/// Takes the container's end up with everything on it, and returns it.
fn set_container(pod: &mut Direct, index: Option<u32>, plan: &Plan) -> Result<Link> {
    let index = match index {
        Some(index) => index,
        None => pod.link(&plan.ifname)?.index,
    };
    let mut routes = Vec::new();
    let gateways = gateways(plan);
    for gateway in &gateways {
        if gateway.is_ipv4() {
            let on_link = Route::unicast((*gateway).into()).dev(index);
            routes.push(on_link.scope(SCOPE_LINK).protocol(PROTOCOL_BOOT));
        }
        let same_family = |net: &&IpNet| net.addr().is_ipv6() == gateway.is_ipv6();
        for destination in plan.routes.iter().filter(same_family) {
            let route = Route::unicast(*destination).via(*gateway).dev(index);
            routes.push(route.protocol(PROTOCOL_BOOT));
        }
    }
    let mut requests = vec![Request::Up(index)];
    requests.extend(plan.addresses.iter().map(|one| Request::Address(index, *one)));
    // Without a default route on the host nothing would answer for the gateway.
    let neighbours = gateways
        .iter()
        .map(|gateway| Request::Neighbour(index, *gateway, HOST_MAC));
    requests.extend(neighbours);
    requests.extend(routes.iter().map(Request::ReplaceRoute));
    requests.push(Request::Link(&plan.ifname));
    let mut far = None;
    for answer in pod.ask(&requests) {
        far = answer?;
    }
    far.ok_or_else(|| {
        Error::new(
            Code::Internal,
            format!("the kernel does not describe {}", plan.ifname),
        )
    })
}

fn gateways(plan: &Plan) -> Vec<IpAddr> {
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
async fn wait_for_own_addresses(pod: &Netlink, plan: &Plan) -> Result<()> {
    for _ in 0..OWN_TRIES {
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
        tokio::time::sleep(OWN_PAUSE).await;
    }
    tracing::warn!(iface = plan.ifname, "an IPv6 address is still not usable");
    Ok(())
}

/// What the container sends first would be lost while the kernel still activates the device.
fn wait_until_running(socket: &mut Direct, name: &str) -> Result<()> {
    let start = Instant::now();
    let mut pause = RUNNING_PAUSE;
    while start.elapsed() < RUNNING_TIMEOUT {
        if socket.link(name)?.running {
            return Ok(());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(RUNNING_PAUSE_MAX);
    }
    tracing::warn!(iface = name, "interface is still not running");
    Ok(())
}

fn add_host_routes(host: &mut Direct, index: u32, plan: &Plan) -> Result<()> {
    let routes: Vec<Route> = plan
        .addresses
        .iter()
        .map(|address| {
            let route = Route::unicast(*address).dev(index).protocol(PROTOCOL_FELIX);
            if address.addr().is_ipv4() {
                route.scope(SCOPE_LINK)
            } else {
                route
            }
        })
        .collect();
    let requests: Vec<Request<'_>> = routes.iter().map(Request::AddRoute).collect();
    for (route, answer) in routes.iter().zip(host.ask(&requests)) {
        match answer {
            Ok(_) => {}
            Err(error) if error.is_exists() => check_same_route(index, route, &plan.host_name)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Somebody has a route to the address: felix may have been faster, with the same one.
fn check_same_route(index: u32, wanted: &Route, name: &str) -> Result<()> {
    let runtime = tokio::runtime::Handle::current();
    let v6 = wanted.destination.addr().is_ipv6();
    let routes = runtime.block_on(async { Netlink::open()?.routes_of(v6).await })?;
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

//! A node in a namespace with pods in namespaces of their own.

use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Output};
use std::time::Duration;

use caracal_api::names::veth_name;
use caracal_linux::netlink::{Netlink, Route, SCOPE_LINK, VethEnd};
use caracal_linux::netns::NetNs;
use ipnet::IpNet;

pub(crate) const GATEWAY: &str = "169.254.1.1";

pub(crate) struct Pod {
    pub(crate) netns: NetNs,
    pub(crate) address: IpAddr,
    pub(crate) interface: String,
}

/// Runs a program in the calling thread's namespace.
pub(crate) fn sh(script: &str) -> Output {
    Command::new("sh").args(["-c", script]).output().unwrap()
}

pub(crate) fn text(script: &str) -> String {
    let output = sh(script);
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn run(netns: &NetNs, script: &str) -> String {
    netns.run(|| text(script)).unwrap()
}

/// Makes what a CNI plugin makes for a pod, but leaves the route on the node to felix.
pub(crate) async fn plug(namespace: &str, name: &str, address: &str) -> Pod {
    let netns = NetNs::create_anonymous().unwrap();
    let interface = veth_name(namespace, name);
    let netlink = Netlink::open().unwrap();
    let far = VethEnd {
        netns: Some(&netns),
        ..VethEnd::named("eth0")
    };
    netlink
        .create_veth(VethEnd::named(&interface), far)
        .await
        .unwrap();
    let link = netlink.link_by_name(&interface).await.unwrap();
    netlink.set_up(link.index).await.unwrap();
    let inside = Netlink::open_in(&netns).unwrap();
    for name in ["lo", "eth0"] {
        let link = inside.link_by_name(name).await.unwrap();
        inside.set_up(link.index).await.unwrap();
    }
    let link = inside.link_by_name("eth0").await.unwrap();
    let address: IpAddr = address.parse().unwrap();
    inside
        .add_address(link.index, IpNet::from(address))
        .await
        .unwrap();
    let gateway: IpAddr = GATEWAY.parse().unwrap();
    let to_gateway = Route::unicast(IpNet::from(gateway))
        .dev(link.index)
        .scope(SCOPE_LINK);
    inside.add_route(&to_gateway).await.unwrap();
    let default = Route::unicast("0.0.0.0/0".parse().unwrap())
        .via(gateway)
        .dev(link.index);
    inside.add_route(&default).await.unwrap();
    Pod {
        netns,
        address,
        interface,
    }
}

/// Answers every connection to a port with its greeting, for as long as it lives.
pub(crate) struct Server {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Server {
    pub(crate) fn start(pod: &Pod, port: u16) -> Self {
        let listener = pod
            .netns
            .run(|| std::net::TcpListener::bind(SocketAddr::new(pod.address, port)).unwrap())
            .unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = stop.clone();
        std::thread::spawn(move || {
            while !seen.load(std::sync::atomic::Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => drop(stream),
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Self { stop }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Whether a TCP connection from a pod comes about within a short time.
pub(crate) fn connects(from: &Pod, to: &Pod, port: u16) -> bool {
    let target = SocketAddr::new(to.address, port);
    from.netns
        .run(|| std::net::TcpStream::connect_timeout(&target, Duration::from_millis(400)).is_ok())
        .unwrap()
}

/// Runs a test in a namespace of its own, on a runtime of one thread, as felix runs.
pub(crate) fn in_node<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    let node = NetNs::create_anonymous().unwrap();
    node.run(|| {
        // The kernel answers for the pods' gateway only where it has a route itself, as every node has.
        text(
            "ip link set lo up; ip link add up0 type bridge; ip link set up0 up; \
             ip addr add 172.30.0.11/24 dev up0; ip route add default via 172.30.0.254",
        );
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
    })
    .unwrap();
}

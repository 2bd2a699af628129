//! The picture of this machine that detection looks at: interfaces from the kernel, the way to a destination.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};

use caracal_linux::Result;
use caracal_linux::netlink::Netlink;

use crate::detect::{Family, Interface, Machine, Method};

/// Any port does: nothing is sent.
const PORT: u16 = 80;

/// Looks at the interfaces of this network namespace.
///
/// # Errors
/// When the kernel does not list them.
pub async fn interfaces(netlink: &Netlink) -> Result<Vec<Interface>> {
    let mut all: BTreeMap<u32, Interface> = netlink
        .links()
        .await?
        .into_iter()
        .map(|link| {
            let interface = Interface {
                index: link.index,
                name: link.name,
                up: link.up,
                addresses: Vec::new(),
            };
            (link.index, interface)
        })
        .collect();
    for address in netlink.addresses().await? {
        if let Some(interface) = all.get_mut(&address.index) {
            interface.addresses.push(address.address);
        }
    }
    Ok(all.into_values().collect())
}

/// The picture for one method and family. Looks names up, so it may wait.
#[must_use]
pub fn machine(
    interfaces: &[Interface],
    internal_ips: &[IpAddr],
    method: &Method,
    family: Family,
) -> Machine {
    let towards = match method {
        Method::CanReach(destination) => Some(towards(destination, family)),
        _ => None,
    };
    Machine {
        interfaces: interfaces.to_vec(),
        internal_ips: internal_ips.to_vec(),
        towards,
    }
}

/// The own address that the kernel would send from. Connecting a datagram socket sends nothing.
fn towards(destination: &str, family: Family) -> std::result::Result<IpAddr, String> {
    let destination = destination.trim_start_matches('[').trim_end_matches(']');
    let any: IpAddr = match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    let addresses = (destination, PORT)
        .to_socket_addrs()
        .map_err(|error| format!("its name cannot be looked up: {error}"))?;
    let target: SocketAddr = addresses
        .into_iter()
        .find(|address| family.has(address.ip()))
        .ok_or_else(|| format!("it has no {family} address"))?;
    let own = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(target)?;
        socket.local_addr()
    });
    own.map(|own| own.ip()).map_err(|error| error.to_string())
}

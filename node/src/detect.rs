//! Which address of a machine is the node's: Calico's methods over a picture of the machine, pure.
//!
//! Every address that was looked at is told with the reason why it was taken or not, so that a person sees why the
//! choice fell. Interfaces are looked at from the youngest to the oldest, as Calico does.
//! Source: Calico's `node/pkg/lifecycle/startup/autodetection`.

mod method;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

pub use method::{Method, Names, is_internal};

/// An IP version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// True for an address of this version.
    #[must_use]
    pub const fn has(self, address: IpAddr) -> bool {
        matches!(
            (self, address),
            (Self::V4, IpAddr::V4(_)) | (Self::V6, IpAddr::V6(_))
        )
    }

    /// 4 or 6.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }

    /// Length of an address.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    pub(crate) const fn example(self) -> &'static str {
        match self {
            Self::V4 => "10.1.1.11/24",
            Self::V6 => "fd00:1::11/64",
        }
    }

    pub(crate) const fn example_range(self) -> &'static str {
        match self {
            Self::V4 => "10.244.0.0/16",
            Self::V6 => "fd00:244::/48",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IPv{}", self.number())
    }
}

/// A network interface with its addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Administratively up.
    pub up: bool,
    /// Addresses with the prefix length of their network.
    pub addresses: Vec<IpNet>,
}

/// What is known of the machine.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Its interfaces.
    pub interfaces: Vec<Interface>,
    /// The Node's InternalIP addresses, in their order.
    pub internal_ips: Vec<IpAddr>,
    /// Own address towards the destination of `can-reach=`, or why there is none.
    pub towards: Option<Result<IpAddr, String>>,
}

impl Machine {
    /// An own address with its interface and the prefix length of its network.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Option<(&Interface, IpNet)> {
        self.interfaces.iter().find_map(|interface| {
            let net = interface.addresses.iter().find(|net| net.addr() == address)?;
            Some((interface, *net))
        })
    }

    /// Interfaces from the youngest to the oldest.
    fn youngest_first(&self) -> Vec<&Interface> {
        let mut all: Vec<&Interface> = self.interfaces.iter().collect();
        all.sort_by_key(|interface| std::cmp::Reverse(interface.index));
        all
    }
}

/// An address that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Where it is.
    pub interface: String,
    /// The address.
    pub address: IpNet,
    /// Why it cannot be taken; `None` if it could.
    pub refused: Option<String>,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = self.refused.as_deref().unwrap_or("fits");
        write!(f, "{} {}: {verdict}", self.interface, self.address)
    }
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Detection {
    /// The address, and where it is.
    pub chosen: Option<(IpNet, String)>,
    /// Why this one, or why none.
    pub because: String,
    /// Every address that was looked at, those that fit in the order of preference.
    pub candidates: Vec<Candidate>,
}

impl Detection {
    /// The candidate with an address, if it fits.
    #[must_use]
    pub fn fits(&self, address: IpAddr) -> Option<&Candidate> {
        self.candidates
            .iter()
            .find(|candidate| candidate.refused.is_none() && candidate.address.addr() == address)
    }
}

/// Looks for the node's address.
#[must_use]
pub fn detect(method: &Method, family: Family, machine: &Machine) -> Detection {
    match method {
        Method::Default => by_default(family, machine),
        Method::FirstFound => {
            let refuse = |interface: &Interface, _: &IpNet| {
                is_internal(&interface.name).then(|| "the interface is one that programs make".to_owned())
            };
            first(family, machine, "the first address found", refuse)
        }
        Method::Interface(names) => {
            let refuse = |interface: &Interface, _: &IpNet| {
                (!names.matches(&interface.name)).then(|| format!("the interface does not match {names}"))
            };
            first(
                family,
                machine,
                &format!("an interface that matches {names}"),
                refuse,
            )
        }
        Method::SkipInterface(names) => {
            let refuse = |interface: &Interface, _: &IpNet| {
                if names.matches(&interface.name) {
                    Some(format!("the interface is skipped ({names})"))
                } else {
                    is_internal(&interface.name).then(|| "the interface is one that programs make".to_owned())
                }
            };
            first(
                family,
                machine,
                "the first address on an interface that is not skipped",
                refuse,
            )
        }
        Method::Cidr(ranges) => {
            let refuse = |_: &Interface, net: &IpNet| {
                let within = ranges.iter().any(|range| range.contains(&net.addr()));
                (!within).then(|| "not in the ranges".to_owned())
            };
            first(family, machine, "an address in the ranges", refuse)
        }
        Method::CanReach(destination) => can_reach(destination, family, machine),
        Method::KubernetesInternalIp => internal_ip(family, machine),
    }
}

/// InternalIP is what the cluster calls the node already; the first address found is a guess.
fn by_default(family: Family, machine: &Machine) -> Detection {
    let own = internal_ip(family, machine);
    let found = own.chosen.as_ref();
    if found.is_some_and(|(address, _)| machine.find(address.addr()).is_some()) {
        return own;
    }
    let mut guess = detect(&Method::FirstFound, family, machine);
    guess.because = format!("{}; {}", guess.because, own.because);
    guess
}

fn first(
    family: Family,
    machine: &Machine,
    what: &str,
    refuse: impl Fn(&Interface, &IpNet) -> Option<String>,
) -> Detection {
    let mut candidates = Vec::new();
    for interface in machine.youngest_first() {
        for net in interface.addresses.iter().filter(|net| family.has(net.addr())) {
            let refused = if interface.up {
                useless(net.addr()).map(ToOwned::to_owned)
            } else {
                Some("the interface is down".to_owned())
            };
            candidates.push(Candidate {
                interface: interface.name.clone(),
                address: *net,
                refused: refused.or_else(|| refuse(interface, net)),
            });
        }
    }
    let chosen = candidates
        .iter()
        .find(|candidate| candidate.refused.is_none())
        .map(|candidate| (candidate.address, candidate.interface.clone()));
    let because = match &chosen {
        Some((address, interface)) => format!("{what} ({address} on {interface})"),
        None => format!("no {family} address fits: looked for {what}"),
    };
    Detection {
        chosen,
        because,
        candidates,
    }
}

/// Why other nodes cannot send to an address, whatever the method.
pub(crate) fn useless(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => is_link_local_v6(address),
    };
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    match () {
        () if address.is_loopback() => Some("a loopback address"),
        () if link_local => Some("a link-local address"),
        () if address.is_multicast() || address.is_unspecified() || broadcast => {
            Some("not the address of one machine")
        }
        () => None,
    }
}

const fn is_link_local_v6(address: Ipv6Addr) -> bool {
    matches!(address.segments(), [first, ..] if first & 0xffc0 == 0xfe80)
}

fn can_reach(destination: &str, family: Family, machine: &Machine) -> Detection {
    let nothing = |because: String| Detection {
        chosen: None,
        because,
        candidates: Vec::new(),
    };
    match &machine.towards {
        None => nothing(format!("the way to {destination} was not looked up")),
        Some(Err(problem)) => nothing(format!(
            "{destination} cannot be reached over {family}: {problem}"
        )),
        Some(Ok(address)) if !family.has(*address) => {
            nothing(format!("{destination} has no {family} address"))
        }
        Some(Ok(address)) => only(
            *address,
            machine,
            &format!("the own address towards {destination}"),
        ),
    }
}

fn internal_ip(family: Family, machine: &Machine) -> Detection {
    let own = machine.internal_ips.iter().find(|address| family.has(**address));
    match own {
        Some(address) => only(*address, machine, "the Node's InternalIP"),
        None => Detection {
            chosen: None,
            because: format!("the Node has no InternalIP of {family}"),
            candidates: Vec::new(),
        },
    }
}

/// An address that somebody else named: taken as it is, with the prefix length of the own interface that has it.
fn only(address: IpAddr, machine: &Machine, what: &str) -> Detection {
    let found = machine.find(address);
    let (net, interface, because) = match found {
        Some((interface, net)) => (
            net,
            interface.name.clone(),
            format!("{what} ({net} on {})", interface.name),
        ),
        None => (
            IpNet::from(address),
            "-".to_owned(),
            format!("{what} ({address}, which is on no interface of this machine)"),
        ),
    };
    Detection {
        chosen: Some((net, interface.clone())),
        because,
        candidates: vec![Candidate {
            interface,
            address: net,
            refused: None,
        }],
    }
}

#[cfg(test)]
mod tests;

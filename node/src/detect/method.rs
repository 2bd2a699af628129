//! The methods of detection, as `IP_AUTODETECTION_METHOD` names them.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use regex::RegexSet;

/// Interfaces that container engines, hypervisors and networks make (Calico's list); their addresses are not the
/// node's. `lo` stands for every name that begins so.
const INTERNAL: &[&str] = &[
    "docker",
    "cbr",
    "dummy",
    "podman",
    "virbr",
    "lxcbr",
    "veth",
    "lo",
    "cali",
    "tunl",
    "flannel",
    "kube-ipvs",
    "cni",
    "vxlan.calico",
    "vxlan-v6.calico",
    "wireguard.cali",
    "wg-v6.cali",
];

/// True for an interface that is not one of the machine itself.
#[must_use]
pub fn is_internal(name: &str) -> bool {
    INTERNAL.iter().any(|prefix| name.starts_with(prefix))
}

/// How the node's address is found.
#[derive(Clone, Debug)]
pub enum Method {
    /// Not said: the InternalIP, if this machine has it, else the first address found.
    Default,
    /// `first-found`: the first on an interface of the machine itself.
    FirstFound,
    /// `can-reach=HOST`: the own address towards a destination.
    CanReach(String),
    /// `interface=REGEX,...`: on an interface with such a name.
    Interface(Names),
    /// `skip-interface=REGEX,...`: as first-found, without these interfaces.
    SkipInterface(Names),
    /// `cidr=CIDR,...`: in a range.
    Cidr(Vec<IpNet>),
    /// `kubernetes-internal-ip`: the Node's InternalIP.
    KubernetesInternalIp,
}

/// Patterns of interface names. A pattern need not match the whole name.
#[derive(Clone, Debug)]
pub struct Names(RegexSet);

impl Names {
    fn parse(text: &str) -> Result<Self, String> {
        let patterns = items(text);
        if patterns.is_empty() {
            return Err("names no interface; write a regular expression behind the '='".to_owned());
        }
        RegexSet::new(patterns)
            .map(Self)
            .map_err(|error| format!("is no regular expression: {error}"))
    }

    /// True for a name that one of the patterns matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.patterns().join(","))
    }
}

impl FromStr for Method {
    /// What to write in place.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, value) = match text.split_once('=') {
            Some((word, value)) => (word, Some(value)),
            None => (text, None),
        };
        match (word, value) {
            ("first-found", None) => Ok(Self::FirstFound),
            ("kubernetes-internal-ip", None) => Ok(Self::KubernetesInternalIp),
            ("can-reach", Some(host)) if !host.trim().is_empty() => Ok(Self::CanReach(host.trim().to_owned())),
            ("interface", Some(names)) => Names::parse(names).map(Self::Interface),
            ("skip-interface", Some(names)) => Names::parse(names).map(Self::SkipInterface),
            ("cidr", Some(ranges)) => items(ranges)
                .into_iter()
                .map(|range| {
                    range
                        .parse()
                        .map_err(|_| format!("{range:?} is no range; use one as 10.1.0.0/16"))
                })
                .collect::<Result<Vec<IpNet>, _>>()
                .and_then(|ranges| match ranges.is_empty() {
                    false => Ok(Self::Cidr(ranges)),
                    true => Err("names no range; use one as cidr=10.1.0.0/16".to_owned()),
                }),
            _ => Err(
                "is no method; use first-found, can-reach=HOST, interface=REGEX, skip-interface=REGEX, cidr=CIDR or \
                 kubernetes-internal-ip"
                    .to_owned(),
            ),
        }
    }
}

/// The parts between commas.
fn items(text: &str) -> Vec<&str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .collect()
}

//! The environment variables, as Calico's manifests set them: read once, every bad value named with what to do.
//!
//! [`VARIABLES`] is the list that the documentation shows.

mod pools;
mod table;
mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use caracal_api::v3::AsNumber;

use crate::detect::{Family, Method};
use values::Reader;

pub use pools::{PoolWish, PoolWishes, Range};
pub use table::{VARIABLES, Variable, markdown};

/// Where bgpd routes, or who else does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    /// BGP.
    Bird,
    /// VXLAN alone: no BGP speaker.
    Vxlan,
    /// Another network routes; only policy is ours.
    None,
}

/// Where an address comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// Not said: IPv4 is kept, or detected when there is none; IPv6 is kept.
    Unset,
    /// Detected at each start.
    Detect,
    /// Not looked for; one that is stored stays.
    Off,
    /// This one, with the prefix length of its network if one was given.
    Fixed(std::net::IpAddr, Option<u8>),
}

/// The address wanted of a family.
#[derive(Clone, Debug)]
pub struct AddressWish {
    /// Where it comes from.
    pub source: Source,
    /// How it is detected.
    pub method: Method,
}

/// Everything that the environment says.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Name of this node.
    pub node: String,
    /// Name of its Kubernetes Node, where that differs.
    pub kubernetes_node: String,
    /// Who routes.
    pub backend: Backend,
    /// The IPv4 address.
    pub v4: AddressWish,
    /// The IPv6 address.
    pub v6: AddressWish,
    /// The node's own AS number.
    pub as_number: Option<AsNumber>,
    /// How often addresses are looked at again.
    pub poll: Duration,
    /// Two nodes with one address are an error.
    pub check_conflicts: bool,
    /// Pools made when there are none.
    pub pools: PoolWishes,
    /// Words added to the cluster's type.
    pub cluster_type: String,
    /// The kubeconfig of the CNI plugins is kept fresh.
    pub manage_cni: bool,
    /// Service account whose tokens the CNI plugins get.
    pub cni_account: String,
    /// Where bgpd serves its metrics: an address, or `none`; its own default if not set.
    pub bgpd_metrics: Option<String>,
    /// How long a token is kept; a quarter of its life if not set.
    pub cni_token_refresh: Option<Duration>,
}

/// A variable that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Its name.
    pub variable: &'static str,
    /// Its value.
    pub value: String,
    /// What is wrong, and what to write.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?}: {}", self.variable, self.value, self.remedy)
    }
}

/// All variables that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&all.join("; "))
    }
}

impl std::error::Error for Problems {}

impl Environment {
    /// Reads the variables. `host_name` is the machine's, for want of `NODENAME`.
    ///
    /// # Errors
    /// With every variable that cannot be used.
    pub fn read(variables: &BTreeMap<String, String>, host_name: &str) -> Result<Self, Problems> {
        let mut reader = Reader::new(variables);
        let node = node_name(&mut reader, host_name);
        let kubernetes_node = reader.text("CALICO_K8S_NODE_REF").unwrap_or(&node).to_owned();
        let backend = backend(&mut reader);
        let v4 = AddressWish {
            source: source(&mut reader, "IP", Family::V4),
            method: method(&mut reader, "IP_AUTODETECTION_METHOD"),
        };
        let v6 = AddressWish {
            source: source(&mut reader, "IP6", Family::V6),
            method: method(&mut reader, "IP6_AUTODETECTION_METHOD"),
        };
        let environment = Self {
            node,
            kubernetes_node,
            backend,
            v4,
            v6,
            as_number: reader.parsed(
                "AS",
                "is no AS number; use 1 to 4294967294, or two numbers as 64.512",
            ),
            poll: reader
                .duration("AUTODETECT_POLL_INTERVAL")
                .unwrap_or(Duration::from_secs(60)),
            check_conflicts: !reader.switch("DISABLE_NODE_IP_CHECK", false),
            pools: pools::read(&mut reader),
            cluster_type: reader.text("CLUSTER_TYPE").unwrap_or_default().to_owned(),
            manage_cni: reader.switch("CALICO_MANAGE_CNI", true),
            cni_account: reader
                .text("CALICO_CNI_SERVICE_ACCOUNT")
                .unwrap_or("calico-cni-plugin")
                .to_owned(),
            bgpd_metrics: bgpd_metrics(&mut reader),
            cni_token_refresh: reader.duration("CNI_TOKEN_REFRESH_INTERVAL"),
        };
        reader.finish(environment)
    }

    /// The wish for a family.
    #[must_use]
    pub const fn wish(&self, family: Family) -> &AddressWish {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}

fn node_name(reader: &mut Reader<'_>, host_name: &str) -> String {
    let given = reader
        .text("NODENAME")
        .map(|name| ("NODENAME", name.to_owned()))
        .or_else(|| Some(("HOSTNAME", reader.text("HOSTNAME")?.to_ascii_lowercase())));
    let (variable, name) = given.unwrap_or_else(|| ("HOSTNAME", host_name.trim().to_ascii_lowercase()));
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if name.is_empty() || name.len() > 253 || !name.chars().all(fits) {
        reader.refuse(
            variable,
            &name,
            "is no name of a node; set NODENAME to the name of this machine's Node object",
        );
    }
    name
}

fn backend(reader: &mut Reader<'_>) -> Backend {
    match reader.text("CALICO_NETWORKING_BACKEND") {
        None | Some("bird") => Backend::Bird,
        Some("vxlan") => Backend::Vxlan,
        Some("none") => Backend::None,
        Some(other) => {
            let other = other.to_owned();
            reader.refuse(
                "CALICO_NETWORKING_BACKEND",
                &other,
                "is not known; use bird, vxlan or none",
            );
            Backend::Bird
        }
    }
}

fn bgpd_metrics(reader: &mut Reader<'_>) -> Option<String> {
    let text = reader.text("BGPD_METRICS")?;
    if text != "none" && text.parse::<std::net::SocketAddr>().is_err() {
        reader.refuse(
            "BGPD_METRICS",
            text,
            "is no address; use one as 127.0.0.1:9900, or none",
        );
    }
    Some(text.to_owned())
}

fn source(reader: &mut Reader<'_>, variable: &'static str, family: Family) -> Source {
    let Some(text) = reader.text(variable).map(ToOwned::to_owned) else {
        return Source::Unset;
    };
    match text.as_str() {
        "autodetect" => return Source::Detect,
        "none" => return Source::Off,
        _ => {}
    }
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text.as_str(), None),
    };
    let address = address.parse().ok().filter(|address| family.has(*address));
    let length = length.map(|length| {
        length
            .parse::<u8>()
            .ok()
            .filter(|length| *length <= family.bits())
    });
    match (address, length) {
        (Some(address), None) => Source::Fixed(address, None),
        (Some(address), Some(Some(length))) => Source::Fixed(address, Some(length)),
        _ => {
            let remedy = format!(
                "is no IPv{} address; use one as {}, autodetect, or none",
                family.number(),
                family.example()
            );
            reader.refuse(variable, &text, &remedy);
            Source::Unset
        }
    }
}

fn method(reader: &mut Reader<'_>, variable: &'static str) -> Method {
    let Some(text) = reader.text(variable).map(ToOwned::to_owned) else {
        return Method::Default;
    };
    match text.parse() {
        Ok(method) => method,
        Err(remedy) => {
            reader.refuse(variable, &text, &remedy);
            Method::Default
        }
    }
}

#[cfg(test)]
mod tests;

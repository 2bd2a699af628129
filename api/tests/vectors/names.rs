//! Names, ids and hashes.

use caracal_api::names::{self, IpVersion, PolicyKind};
use caracal_api::net::MacAddress;
use caracal_api::selector::Selector;
use caracal_api::v3::Port;
use serde_json::{Value, json};

use super::{check, text};

#[test]
fn veth_vectors() {
    check(
        "veth",
        |input| json!({"name": names::veth_name(text(input, "namespace"), text(input, "pod"))}),
    );
}

#[test]
fn workload_endpoint_name_vectors() {
    check(
        "wepname",
        |input| json!({"name": names::workload_endpoint_name(text(input, "node"), text(input, "pod"))}),
    );
}

#[test]
fn block_and_affinity_name_vectors() {
    check("ipamnames", |input| {
        let cidr = text(input, "cidr").parse().unwrap();
        json!({"block": names::block_name(&cidr), "affinity": names::affinity_name(text(input, "host"), &cidr)})
    });
}

#[test]
fn handle_vectors() {
    check("handle", |input| {
        let id = names::handle_id(text(input, "network"), text(input, "containerID"));
        json!({"name": names::handle_name(&id), "handleID": id})
    });
}

#[test]
fn uid_vectors() {
    check("uid", |input| {
        names::convert_uid(text(input, "uid"))
            .map_or_else(|| json!({"error": true}), |uid| json!({"uid": uid}))
    });
}

#[test]
fn length_limit_vectors() {
    check("lenlimit", |input| {
        let max = usize::try_from(input["max"].as_u64().unwrap()).unwrap();
        json!({"id": names::limit_length(text(input, "prefix"), text(input, "suffix"), max)})
    });
}

#[test]
fn policy_chain_vectors() {
    check("policychain", |input| {
        let kind = PolicyKind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text(input, "kind"))
            .unwrap();
        let id = names::policy_id(kind, text(input, "namespace"), text(input, "name"));
        json!({
            "iptables_in": names::chain_name("cali-pi-", &id),
            "iptables_out": names::chain_name("cali-po-", &id),
            "nft_in": names::nft_chain_name("cali-pi-", &id),
            "id": id,
        })
    });
}

#[test]
fn profile_chain_vectors() {
    check("profilechain", |input| {
        let name = text(input, "name");
        json!({
            "iptables_in": names::chain_name("cali-pri-", name),
            "iptables_out": names::chain_name("cali-pro-", name),
            "nft_in": names::nft_chain_name("cali-pri-", name),
        })
    });
}

#[test]
fn endpoint_chain_vectors() {
    check("epchain", |input| {
        let iface = text(input, "iface");
        let chain = |prefix: &str| names::chain_name(prefix, iface);
        json!({
            "cali-tw-": chain("cali-tw-"),
            "cali-fw-": chain("cali-fw-"),
            "cali-th-": chain("cali-th-"),
            "cali-sm-": chain("cali-sm-"),
            "cali-thfw-": chain("cali-thfw-"),
            "nft:cali-tw-": names::nft_chain_name("cali-tw-", iface),
        })
    });
}

#[test]
fn ip_set_vectors() {
    check("ipset", |input| {
        let selector = Selector::parse(text(input, "expr")).unwrap();
        let id = match text(input, "namedPort") {
            "" => selector.unique_id(),
            port => {
                let protocol = text(input, "protocol").to_lowercase();
                names::named_port_ip_set_id(selector.canonical(), &protocol, port)
            }
        };
        json!({
            "v4": names::ip_set_name(IpVersion::V4, &id),
            "v6": names::ip_set_name(IpVersion::V6, &id),
            "id": id,
        })
    });
}

#[test]
fn service_ip_set_vectors() {
    check("svcipset", |input| {
        let (namespace, name) = text(input, "service").split_once('/').unwrap();
        json!({"id": names::service_ip_set_id(namespace, name, input["ports"] == true)})
    });
}

#[test]
fn tunnel_mac_vectors() {
    check("vtepmac", |input| {
        let mac = |version| MacAddress(names::vtep_mac(text(input, "node"), version)).to_string();
        json!({"v4": mac(IpVersion::V4), "v6": mac(IpVersion::V6)})
    });
}

#[test]
fn port_vectors() {
    check("port", |input| {
        let Ok(port) = text(input, "text").parse::<Port>() else {
            return json!({"error": true});
        };
        let (min, max, name) = match &port {
            Port::Range { min, max } => (*min, *max, ""),
            Port::Named(name) => (0, 0, name.as_str()),
            Port::Invalid(_) => return Value::Null,
        };
        json!({"min": min, "max": max, "name": name, "string": port.to_string()})
    });
}

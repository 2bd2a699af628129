//! Addresses of Services: which node advertises which.

use caracal_bgpd_compile::{Endpoint, Service};
use serde_json::json;

use super::*;

fn service(type_: &str, is_local: bool, nodes: &[&str]) -> Service {
    let endpoints = nodes.iter().map(|node| Endpoint {
        node: Some((*node).to_owned()),
        is_ipv4: true,
    });
    Service {
        type_: type_.to_owned(),
        cluster_ips: vec!["10.96.0.10".parse().unwrap()],
        external_ips: vec!["192.0.2.10".parse().unwrap()],
        load_balancer_ips: vec!["198.51.100.10".parse().unwrap()],
        is_local,
        endpoints: endpoints.collect(),
    }
}

fn routes(configuration: Value, service: Service, labels: &[(&str, &str)]) -> Vec<String> {
    let mut snapshot = snapshot();
    configure(&mut snapshot, "default", configuration);
    assert!(snapshot.advertises_services());
    let node = snapshot.nodes.get_mut("node-1").unwrap();
    let labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    node.metadata.labels.as_mut().unwrap().extend(labels);
    snapshot.services.insert("default/web".to_owned(), service);
    config(&snapshot)
        .routes
        .iter()
        .map(|route| route.prefix.to_string())
        .collect()
}

#[test]
fn ranges_are_advertised_by_every_node_and_addresses_where_traffic_is_wanted() {
    let cluster = || json!({"serviceClusterIPs": [{"cidr": "10.96.0.0/12"}]});
    let all = || {
        json!({
            "serviceClusterIPs": [{"cidr": "10.96.0.0/12"}],
            "serviceExternalIPs": [{"cidr": "192.0.2.0/24"}],
            "serviceLoadBalancerIPs": [{"cidr": "198.51.100.0/24"}],
        })
    };
    let single = || json!({"serviceLoadBalancerIPs": [{"cidr": "198.51.100.10/32"}]});
    let split = || {
        json!({
            "serviceLoadBalancerIPs": [{"cidr": "198.51.100.0/24"}],
            "serviceLoadBalancerAggregation": "Disabled",
        })
    };
    let ranges = ["10.96.0.0/12", "192.0.2.0/24", "198.51.100.0/24"];
    let everything = [
        "10.96.0.0/12",
        "10.96.0.10/32",
        "192.0.2.0/24",
        "192.0.2.10/32",
        "198.51.100.0/24",
        "198.51.100.10/32",
    ];
    let elsewhere: &[&str] = &["node-2"];
    let here: &[&str] = &["node-2", "node-1"];
    for (what, configuration, service, expected) in [
        (
            "cluster policy",
            cluster(),
            service("ClusterIP", false, here),
            &["10.96.0.0/12"][..],
        ),
        (
            "local, endpoint here",
            all(),
            service("LoadBalancer", true, here),
            &everything[..],
        ),
        (
            "local, endpoint elsewhere",
            all(),
            service("LoadBalancer", true, elsewhere),
            &ranges[..],
        ),
        (
            "local, no endpoint",
            all(),
            service("NodePort", true, &[]),
            &ranges[..],
        ),
        (
            "a range of one address",
            single(),
            service("LoadBalancer", false, &[]),
            &["198.51.100.10/32"][..],
        ),
        (
            "one by one",
            split(),
            service("LoadBalancer", false, elsewhere),
            &["198.51.100.10/32"][..],
        ),
        (
            "one by one, nobody ready",
            split(),
            service("LoadBalancer", false, &[]),
            &[][..],
        ),
        ("by name", all(), service("ExternalName", true, here), &ranges[..]),
    ] {
        assert_eq!(routes(configuration, service, &[]), expected, "{what}");
    }
}

#[test]
fn only_the_label_with_the_value_true_excludes_a_node() {
    const LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
    let advertised = |value: &str| {
        let configuration = json!({"serviceClusterIPs": [{"cidr": "10.96.0.0/12"}]});
        routes(
            configuration,
            service("ClusterIP", true, &["node-1"]),
            &[(LABEL, value)],
        )
    };
    assert!(advertised("true").is_empty());
    assert_eq!(advertised("false").len(), 2);
}

#[test]
fn endpoints_are_ready_unless_they_say_otherwise() {
    let slice = serde_json::from_value(json!({
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": ["10.1.0.1"], "nodeName": "a"},
            {"addresses": ["10.1.0.2"], "nodeName": "b", "conditions": {"ready": false}},
            {"addresses": ["10.1.0.3"], "nodeName": "c", "conditions": {"ready": true}},
        ],
    }))
    .unwrap();
    let nodes: Vec<Option<String>> = Service::endpoints_of(&slice)
        .into_iter()
        .map(|endpoint| endpoint.node)
        .collect();
    assert_eq!(nodes, [Some("a".to_owned()), Some("c".to_owned())]);
}

#[test]
fn the_environment_overrides_ranges_of_cluster_addresses() {
    let mut snapshot = snapshot();
    snapshot.cluster_ips_override = Some(vec!["10.100.0.0/16".to_owned()]);
    assert!(snapshot.advertises_services());
    let config = config(&snapshot);
    assert_eq!(config.routes[0].prefix.to_string(), "10.100.0.0/16");
}

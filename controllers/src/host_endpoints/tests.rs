use super::*;
use serde_json::json;

fn cluster() -> Cluster {
    let node = |name: &str, ip: &str| {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"rack": "a", "kubernetes.io/hostname": name}, "annotations": {
                "projectcalico.org/IPv4Address": format!("{ip}/24"),
                "projectcalico.org/IPv4VXLANTunnelAddr": "10.244.0.1",
                "projectcalico.org/IPv4IPIPTunnelAddr": "10.244.0.2",
                "projectcalico.org/IPv4WireguardInterfaceAddr": "10.244.0.3",
                "projectcalico.org/Interfaces":
                    r#"[{"name":"eth0","addresses":["172.16.0.1"]},{"name":"eth1.100","addresses":["192.168.0.1/24","fd00::1"]}]"#,
            }},
            "status": {"addresses": [
                {"type": "InternalIP", "address": ip}, {"type": "ExternalIP", "address": "203.0.113.1"},
                {"type": "Hostname", "address": name},
            ]},
        }))
        .unwrap()
    };
    let mut cluster = Cluster::default();
    cluster.nodes.insert("n1".to_owned(), node("n1", "172.16.0.1"));
    cluster
}

fn settings(templates: serde_json::Value) -> HostEndpointSettings {
    HostEndpointSettings {
        default: true,
        templates: serde_json::from_value(templates).unwrap(),
    }
}

fn made(actions: &[Action]) -> BTreeMap<String, HostEndpoint> {
    actions
        .iter()
        .map(|action| match action {
            Action::Create(object) | Action::Update(object) => {
                (object.metadata.name.clone().unwrap(), (**object).clone())
            }
            Action::Delete { name, .. } => panic!("{name} deleted"),
        })
        .collect()
}

/// The cluster with everything made.
fn settle(cluster: &mut Cluster, settings: &HostEndpointSettings) {
    let (actions, _) = plan(cluster, Some(settings));
    cluster.host_endpoints.extend(made(&actions));
    assert_eq!(
        plan(cluster, Some(settings)).0,
        [],
        "a second plan has nothing to do"
    );
}

#[test]
fn each_node_gets_one_for_all_interfaces() {
    let mut cluster = cluster();
    let settings = settings(json!([]));
    let (actions, problems) = plan(&cluster, Some(&settings));
    assert_eq!(problems, Vec::<String>::new());
    let endpoint = &made(&actions)["n1-auto-hep"];
    assert_eq!(endpoint.spec.node, "n1");
    assert_eq!(endpoint.spec.interface_name, "*");
    assert_eq!(
        endpoint.spec.expected_ips,
        [
            "172.16.0.1",
            "10.244.0.2",
            "203.0.113.1",
            "10.244.0.1",
            "10.244.0.3"
        ]
    );
    assert_eq!(endpoint.spec.profiles, ["projectcalico-default-allow"]);
    let labels = endpoint.metadata.labels.as_ref().unwrap();
    assert_eq!(labels["rack"], "a");
    assert_eq!(labels["projectcalico.org/created-by"], "calico-kube-controllers");
    settle(&mut cluster, &settings);
    // Labels follow the node.
    let node = cluster.nodes.get_mut("n1").unwrap();
    node.metadata
        .labels
        .as_mut()
        .unwrap()
        .insert("rack".to_owned(), "b".to_owned());
    let (actions, _) = plan(&cluster, Some(&settings));
    assert!(matches!(&actions[..], [Action::Update(object)]
        if object.metadata.labels.as_ref().unwrap()["rack"] == "b"));
    settle(&mut cluster, &settings);
    // It goes with its node, and when they are turned off.
    for (cluster, settings) in [
        (
            &Cluster {
                nodes: BTreeMap::new(),
                ..cluster.clone()
            },
            Some(&settings),
        ),
        (&cluster, None),
    ] {
        let (actions, _) = plan(cluster, settings);
        assert!(matches!(&actions[..], [Action::Delete { name, .. }] if name == "n1-auto-hep"));
    }
}

#[test]
fn what_others_made_is_left_alone() {
    let mut cluster = cluster();
    let own = HostEndpoint::new("mine", HostEndpointSpec::default());
    let in_the_way = HostEndpoint::new("n1-auto-hep", HostEndpointSpec::default());
    cluster.host_endpoints.insert("mine".to_owned(), own);
    cluster
        .host_endpoints
        .insert("n1-auto-hep".to_owned(), in_the_way);
    let (actions, problems) = plan(&cluster, Some(&settings(json!([]))));
    assert_eq!(actions, []);
    assert!(problems[0].contains("n1-auto-hep"), "{problems:?}");
    assert_eq!(plan(&cluster, None).0, []);
}

#[test]
fn templates_choose_nodes_interfaces_and_addresses() {
    let cluster = cluster();
    let mut settings = settings(json!([
        {"generateName": "lan", "interfaceCIDRs": ["192.168.0.0/16", "172.16.0.0/12"], "nodeSelector": "rack == 'a'",
         "labels": {"net": "lan", "rack": "over"}, "annotations": {"why": "test"}},
        {"generateName": "if", "interfacePattern": "^eth1"},
        {"generateName": "eth0", "interfacePattern": "eth0", "interfaceCIDRs": ["192.168.0.0/16"]},
        {"generateName": "other", "interfaceCIDRs": ["0.0.0.0/0"], "nodeSelector": "rack == 'b'"},
    ]));
    settings.default = false;
    let (actions, problems) = plan(&cluster, Some(&settings));
    assert_eq!(problems, Vec::<String>::new());
    let made = made(&actions);
    assert_eq!(
        made.keys().collect::<Vec<_>>(),
        ["n1-if-eth1.100-auto-hep", "n1-lan-auto-hep"]
    );
    let lan = &made["n1-lan-auto-hep"];
    assert_eq!(
        (lan.spec.interface_name.as_str(), &lan.spec.expected_ips[..]),
        ("", &["172.16.0.1".to_owned()][..])
    );
    let labels = lan.metadata.labels.as_ref().unwrap();
    assert_eq!((labels["net"].as_str(), labels["rack"].as_str()), ("lan", "over"));
    assert_eq!(lan.metadata.annotations.as_ref().unwrap()["why"], "test");
    let interface = &made["n1-if-eth1.100-auto-hep"];
    assert_eq!(interface.spec.interface_name, "eth1.100");
    assert_eq!(interface.spec.expected_ips, ["192.168.0.1", "fd00::1"]);
}

#[test]
fn a_template_that_cannot_be_used_is_named_and_the_others_hold() {
    let (actions, problems) = plan(
        &cluster(),
        Some(&settings(json!([
            {"interfaceCIDRs": ["10.0.0.0/8"]},
            {"generateName": "a"},
            {"generateName": "a", "interfaceCIDRs": ["ten"]},
            {"generateName": "a", "interfacePattern": "("},
            {"generateName": "a", "interfacePattern": "x", "nodeSelector": "=="},
        ]))),
    );
    assert_eq!(made(&actions).len(), 1);
    for (index, part) in [
        "generateName is empty",
        "interfaceCIDRs and interfacePattern are empty",
        "\"ten\" is no CIDR",
        "\"(\" is no regular expression",
        "nodeSelector \"==\" is no selector",
    ]
    .iter()
    .enumerate()
    {
        assert!(problems[index].contains(part), "{part}: {problems:?}");
        assert!(
            problems[index].contains(&format!("templates[{index}]")),
            "{problems:?}"
        );
    }
}

#[test]
fn names_that_no_object_may_have_become_hashes() {
    assert_eq!(name("n1", &["a", "eth0"]), "n1-a-eth0-auto-hep");
    let long = name(&"n".repeat(250), &[]);
    assert!(long.ends_with("-auto-hep") && long.len() < 64, "{long}");
    assert_ne!(name(&"n".repeat(250), &[]), name(&"n".repeat(251), &[]));
    let odd = name("n1", &["a", "eth0_1"]);
    assert!(!odd.contains('_'), "{odd}");
}

//! What goes to peers and into the kernel: the vectors of a cluster with two pools, blocks and a top-of-rack router.

use caracal_bgpd_core::policy::{Community, PeerType, Source};
use serde_json::json;

use super::model::{Route, route, run};
use super::*;

const BASE: u32 = 2_147_483_647;

fn cluster() -> Snapshot {
    let mut snapshot = snapshot();
    configure(
        &mut snapshot,
        "default",
        json!({"serviceClusterIPs": [{"cidr": "10.96.0.0/12"}]}),
    );
    let pool = |value: Value| spec::<v3::IPPoolSpec>(value);
    snapshot.pools = BTreeMap::from([
        ("pods".to_owned(), pool(json!({"cidr": "10.65.0.0/16"}))),
        (
            "hidden".to_owned(),
            pool(json!({"cidr": "10.70.0.0/16", "disableBGPExport": true})),
        ),
    ]);
    let affinity = |cidr: &str, state: &str, node: &str| -> v3::BlockAffinitySpec {
        spec(json!({"cidr": cidr, "state": state, "node": node, "deleted": false}))
    };
    snapshot.affinities = BTreeMap::from([
        ("a".to_owned(), affinity("10.65.0.0/26", "confirmed", "node-1")),
        ("b".to_owned(), affinity("10.65.1.0/26", "pending", "node-1")),
        ("c".to_owned(), affinity("10.65.2.0/26", "confirmed", "node-2")),
        ("d".to_owned(), affinity("10.65.3.7/32", "confirmed", "node-1")),
        ("e".to_owned(), affinity("10.70.3.0/26", "confirmed", "node-1")),
    ]);
    snapshot.peers.insert(
        "tor".to_owned(),
        spec(json!({"peerIP": "192.0.2.1", "asNumber": 65001})),
    );
    snapshot
}

fn sent(config: &Config, to: &str, route: &Route) -> Option<Route> {
    let session = peer(config, to);
    let kind = if session.remote_as == config.local_as {
        PeerType::Ibgp
    } else {
        PeerType::Ebgp
    };
    run(config, &session.export, Some(kind), route.clone())
}

fn installed(config: &Config, route: Route) -> Option<Route> {
    run(config, &config.kernel_export, None, route)
}

#[test]
fn confirmed_blocks_and_service_ranges_are_originated() {
    let config = config(&cluster());
    let routes: Vec<(String, bool)> = config
        .routes
        .iter()
        .map(|route| (route.prefix.to_string(), route.blackhole))
        .collect();
    assert_eq!(
        routes,
        [
            ("10.65.0.0/26".to_owned(), true),
            ("10.70.3.0/26".to_owned(), true),
            ("10.96.0.0/12".to_owned(), false)
        ]
    );
}

#[test]
fn blackholes_belong_to_whoever_programs_the_pool() {
    for (pool, bgp, felix, expected) in [
        (json!({"cidr": "10.65.0.0/16"}), json!({}), json!({}), true),
        (
            json!({"cidr": "10.65.0.0/16", "vxlanMode": "Always"}),
            json!({}),
            json!({}),
            false,
        ),
        (
            json!({"cidr": "10.65.0.0/16", "ipipMode": "Always"}),
            json!({}),
            json!({}),
            false,
        ),
        (
            json!({"cidr": "10.65.0.0/16", "ipipMode": "Always"}),
            json!({"programClusterRoutes": "Enabled"}),
            json!({"programClusterRoutes": "Disabled"}),
            true,
        ),
    ] {
        let mut snapshot = cluster();
        snapshot.pools.insert("pods".to_owned(), spec(pool.clone()));
        configure(&mut snapshot, "default", bgp);
        snapshot.felix.insert("default".to_owned(), spec(felix));
        let config = config(&snapshot);
        assert_eq!(config.routes[0].blackhole, expected, "{pool}");
    }
}

#[test]
fn own_blocks_and_borrowed_addresses_go_out_and_nothing_else() {
    let config = config(&cluster());
    for (what, route, to_mesh, to_tor) in [
        (
            "own block",
            route("10.65.0.0/26", Source::Static),
            Some(BASE - 1024),
            true,
        ),
        (
            "own pod",
            route("10.65.0.5/32", Source::Kernel).dev("cali1").metric(1024),
            None,
            false,
        ),
        (
            "own pod without a metric",
            route("10.65.0.5/32", Source::Kernel).dev("cali1"),
            None,
            false,
        ),
        (
            "migrating pod",
            route("10.65.0.5/32", Source::Kernel).dev("cali1").metric(512),
            Some(BASE - 512),
            true,
        ),
        (
            "borrowed address",
            route("10.65.9.7/32", Source::Kernel).dev("cali1"),
            Some(BASE - 1024),
            true,
        ),
        (
            "pending block's pod",
            route("10.65.1.9/32", Source::Kernel).dev("cali1"),
            Some(BASE - 1024),
            true,
        ),
        (
            "block of one address",
            route("10.65.3.7/32", Source::Kernel).dev("cali1"),
            Some(BASE - 1024),
            true,
        ),
        ("hidden pool", route("10.70.3.0/26", Source::Static), None, false),
        (
            "over VXLAN",
            route("10.65.4.0/26", Source::Kernel).dev("vxlan.calico"),
            None,
            true,
        ),
        (
            "over IP-in-IP of felix",
            route("10.65.4.0/26", Source::Kernel).dev("tunl0"),
            None,
            true,
        ),
        (
            "over eBPF",
            route("10.65.4.0/26", Source::Kernel).dev("bpfin.cali"),
            None,
            false,
        ),
        (
            "remote block",
            route("10.65.4.0/26", Source::Bgp).local_pref(BASE - 1024),
            Some(BASE - 1024),
            true,
        ),
        (
            "block from the router",
            route("10.65.4.0/26", Source::Bgp).local_pref(100),
            Some(100),
            true,
        ),
        (
            "service range",
            route("10.96.0.0/12", Source::Static),
            Some(BASE - 1024),
            true,
        ),
        (
            "service address",
            route("10.96.7.1/32", Source::Static),
            Some(BASE - 1024),
            true,
        ),
        (
            "default route",
            route("0.0.0.0/0", Source::Bgp).local_pref(100),
            None,
            false,
        ),
        (
            "connected network",
            route("192.168.10.0/24", Source::Direct).dev("eth0"),
            None,
            false,
        ),
    ] {
        let mesh = sent(&config, "Mesh_10_0_0_9", &route);
        assert_eq!(
            mesh.and_then(|route| route.local_pref),
            to_mesh,
            "{what} to the mesh"
        );
        assert_eq!(
            sent(&config, "Global_192_0_2_1", &route).is_some(),
            to_tor,
            "{what} to the router"
        );
    }
}

#[test]
fn what_others_program_and_service_addresses_stay_out_of_the_kernel() {
    let learned = |prefix: &str| route(prefix, Source::Bgp).via("10.0.0.9").local_pref(BASE - 1024);
    let pool = |value: Value| {
        let mut snapshot = cluster();
        snapshot.pools.insert("pods".to_owned(), spec(value));
        snapshot
    };
    let plain = config(&cluster());
    assert_eq!(
        installed(&plain, learned("10.65.4.0/26")).unwrap().metric,
        Some(1024)
    );
    assert!(installed(&plain, learned("10.96.0.0/12")).is_none());
    assert!(installed(&plain, learned("10.96.7.1/32")).is_none());
    assert!(installed(&plain, route("10.65.0.0/26", Source::Static)).is_some());
    let default = route("0.0.0.0/0", Source::Bgp).local_pref(100);
    assert_eq!(installed(&plain, default).unwrap().metric, Some(BASE - 100));
    let elevated = route("10.65.4.9/32", Source::Bgp).local_pref(BASE - 512);
    assert_eq!(installed(&plain, elevated).unwrap().metric, Some(512));
    let vxlan = config(&pool(json!({"cidr": "10.65.0.0/16", "vxlanMode": "CrossSubnet"})));
    assert!(installed(&vxlan, learned("10.65.4.0/26")).is_none());
    let ipip = pool(json!({"cidr": "10.65.0.0/16", "ipipMode": "CrossSubnet"}));
    assert!(
        installed(&config(&ipip), learned("10.65.4.0/26")).is_none(),
        "felix owns IP-in-IP"
    );
    let mut ours = ipip;
    ours.configurations
        .get_mut("default")
        .unwrap()
        .program_cluster_routes = Some(v3::ProgramClusterRoutes::Enabled);
    ours.felix.insert(
        "default".to_owned(),
        spec(json!({"programClusterRoutes": "Disabled"})),
    );
    let ours = config(&ours);
    assert_eq!(
        installed(&ours, learned("10.65.4.0/26")).unwrap().device,
        None,
        "same subnet"
    );
    let far = installed(&ours, learned("10.65.4.0/26").via("10.9.0.1")).unwrap();
    assert_eq!(far.device.as_deref(), Some("tunl0"));
}

#[test]
fn import_prefers_better_than_ordinary_and_gives_routers_a_local_pref() {
    let config = config(&cluster());
    let import = |from: &str, route: Route| run(&config, &peer(&config, from).import, None, route).unwrap();
    let learned = |value: u32| route("10.65.4.9/32", Source::Bgp).local_pref(value);
    assert_eq!(import("Mesh_10_0_0_9", learned(BASE - 512)).preference, Some(200));
    assert_eq!(import("Mesh_10_0_0_9", learned(BASE - 1024)).preference, None);
    assert_eq!(
        import("Global_192_0_2_1", route("0.0.0.0/0", Source::Bgp)).local_pref,
        Some(100)
    );
}

#[test]
fn communities_are_attached_by_prefix_and_a_nodes_list_replaces_the_clusters() {
    let mut snapshot = cluster();
    let block = route("10.65.0.0/26", Source::Static);
    let list = |communities: Value| json!([{"cidr": "10.65.0.0/16", "communities": communities}]);
    configure(
        &mut snapshot,
        "default",
        json!({
            "communities": [{"name": "pods", "value": "65000:1"}],
            "prefixAdvertisements": list(json!(["pods", "65000:2:3"])),
        }),
    );
    let attached = |snapshot: &Snapshot| {
        sent(&config(snapshot), "Global_192_0_2_1", &block)
            .unwrap()
            .communities
    };
    assert_eq!(
        attached(&snapshot),
        [
            Community::Standard(65000 << 16 | 1),
            Community::Large(65000, 2, 3)
        ]
    );
    configure(
        &mut snapshot,
        "node.node-1",
        json!({"prefixAdvertisements": list(json!(["65000:9"]))}),
    );
    assert_eq!(attached(&snapshot), [Community::Standard(65000 << 16 | 9)]);
    configure(
        &mut snapshot,
        "node.node-1",
        json!({"prefixAdvertisements": list(json!(["none"]))}),
    );
    let compiled = compiled(&snapshot);
    assert_eq!(compiled.problems[0].object, "BGPConfiguration node.node-1");
    assert_eq!(
        compiled.problems[0].field,
        "spec.prefixAdvertisements[0].communities"
    );
}

#[test]
fn filters_come_before_what_is_built_in() {
    let mut snapshot = cluster();
    let filter = json!({
        "exportV4": [
            {"action": "Accept", "matchOperator": "Equal", "cidr": "192.168.10.0/24", "peerType": "eBGP",
             "operations": [{"addCommunity": {"value": "1:2"}}, {"prependASPath": {"prefix": [7, 8]}}]},
            {"action": "Reject", "matchOperator": "In", "cidr": "10.65.0.0/16", "prefixLength": {"min": 32}},
        ],
        "importV4": [{"action": "Accept", "priority": 512, "operations": [{"setPriority": {"value": 100}}]},
                     {"action": "Reject", "source": "RemotePeers", "interface": "eth*"}],
    });
    snapshot.filters.insert("f".to_owned(), spec(filter));
    snapshot.peers.get_mut("tor").unwrap().filters = vec!["f".to_owned()];
    let config = config(&snapshot);
    let direct = route("192.168.10.0/24", Source::Direct);
    let passed = sent(&config, "Global_192_0_2_1", &direct).unwrap();
    assert_eq!(
        (passed.communities, passed.as_path),
        (vec![Community::Standard(1 << 16 | 2)], vec![7, 8])
    );
    let borrowed = route("10.65.9.7/32", Source::Kernel);
    assert!(sent(&config, "Global_192_0_2_1", &borrowed).is_none());
    assert!(
        sent(&config, "Mesh_10_0_0_9", &borrowed).is_some(),
        "the mesh has no filters"
    );
    assert!(
        sent(
            &config,
            "Global_192_0_2_1",
            &route("10.65.0.0/26", Source::Static)
        )
        .is_some()
    );
    let import = |route: Route| run(&config, &peer(&config, "Global_192_0_2_1").import, None, route);
    assert!(import(route("10.1.0.0/16", Source::Bgp).dev("eth0")).is_none());
    assert!(import(route("10.1.0.0/16", Source::Bgp)).is_some());
}

#[test]
fn half_a_filter_rule_is_no_rule() {
    for (rule, field) in [
        (json!({"cidr": "10.0.0.0/8", "matchOperator": "In"}), "action"),
        (
            json!({"action": "Accept", "cidr": "fd00::/8", "matchOperator": "In"}),
            "cidr",
        ),
        (json!({"action": "Accept", "cidr": "10.0.0.0/8"}), "matchOperator"),
        (
            json!({"action": "Accept", "cidr": "10.0.0.0/8", "matchOperator": "In", "prefixLength": {"min": 33}}),
            "prefixLength.min",
        ),
        (
            json!({"action": "Accept", "communities": {"values": ["x"]}}),
            "communities.values",
        ),
        (json!({"action": "Accept", "source": "Moon"}), "source"),
        (json!({"action": "Accept", "peerType": "xBGP"}), "peerType"),
        (
            json!({"action": "Accept", "operations": [{"setPriority": {"value": 0}}]}),
            "operations.setPriority.value",
        ),
    ] {
        let mut snapshot = cluster();
        snapshot
            .filters
            .insert("f".to_owned(), spec(json!({"exportV4": [rule]})));
        snapshot.peers.get_mut("tor").unwrap().filters = vec!["f".to_owned()];
        let compiled = compiled(&snapshot);
        assert_eq!(compiled.problems.len(), 1, "{rule}");
        assert_eq!(compiled.problems[0].object, "BGPFilter f");
        assert_eq!(compiled.problems[0].field, format!("spec.exportV4[0].{field}"));
        assert!(
            compiled.config.unwrap().policies["filter-f-export"]
                .terms
                .is_empty(),
            "{rule}"
        );
    }
}

//! Pool choice and candidate order.

use caracal_api::v3::IPPoolSpec;
use serde_json::json;

use super::*;

fn pool(name: &str, spec: serde_json::Value) -> IPPool {
    let spec: IPPoolSpec = serde_json::from_value(spec).unwrap();
    IPPool::new(name, spec)
}

fn labels(pairs: &[(&str, &str)]) -> LabelMap {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn some_pools() -> Vec<IPPool> {
    vec![
        pool(
            "b-rack",
            json!({"cidr": "10.2.0.0/16", "nodeSelector": "rack == 'a'"}),
        ),
        pool("a-all", json!({"cidr": "10.1.0.0/16"})),
        pool(
            "c-team",
            json!({"cidr": "10.3.0.0/16", "namespaceSelector": "team == 'x'"}),
        ),
        pool(
            "d-manual",
            json!({"cidr": "10.4.0.0/16", "assignmentMode": "Manual"}),
        ),
        pool("e-off", json!({"cidr": "10.5.0.0/16", "disabled": true})),
        pool(
            "f-lb",
            json!({"cidr": "10.6.0.0/16", "allowedUses": ["LoadBalancer"]}),
        ),
        pool("g-v6", json!({"cidr": "fd00::/48"})),
        pool("h-bad", json!({"cidr": "10.7.0.0"})),
        pool("i-small", json!({"cidr": "10.8.0.0/27", "blockSize": 26})),
    ]
}

fn check(
    node: &[(&str, &str)],
    namespace: &[(&str, &str)],
    requested: &[&str],
    family: Family,
) -> Result<Vec<String>> {
    let requested: Vec<String> = requested.iter().map(|text| (*text).to_owned()).collect();
    let chosen = choose(
        &enabled(&some_pools()),
        &Wanted {
            family,
            use_: &IPPoolAllowedUse::Workload,
            node: "node-1",
            node_labels: &labels(node),
            namespace_labels: &labels(namespace),
            requested: &requested,
        },
    )?;
    Ok(chosen.into_iter().map(|pool| pool.name).collect())
}

#[test]
fn selectors_mode_and_use_choose_pools_in_the_order_of_names() {
    assert_eq!(check(&[], &[], &[], Family::V4).unwrap(), ["a-all"]);
    assert_eq!(
        check(&[("rack", "a")], &[("team", "x")], &[], Family::V4).unwrap(),
        ["a-all", "b-rack", "c-team"]
    );
    assert_eq!(check(&[], &[], &[], Family::V6).unwrap(), ["g-v6"]);
}

#[test]
fn pools_asked_for_by_name_or_cidr_need_no_selector() {
    assert_eq!(
        check(&[], &[], &["d-manual", "10.2.0.0/16", "b-rack"], Family::V4).unwrap(),
        ["d-manual", "b-rack"]
    );
    for (asked, family, part) in [
        (
            "e-off",
            Family::V4,
            "the given pool (e-off) does not exist, or is not enabled",
        ),
        ("10.9.0.0/16", Family::V4, "the given pool (10.9.0.0/16)"),
        (
            "g-v6",
            Family::V4,
            "provided IPv4 IPPools list contains one or more IPv6 IPPools",
        ),
        (
            "a-all",
            Family::V6,
            "provided IPv6 IPPools list contains one or more IPv4 IPPools",
        ),
        ("f-lb", Family::V4, "no pools match the required use (Workload)"),
    ] {
        let error = check(&[], &[], &[asked], family).unwrap_err().to_string();
        assert!(error.contains(part), "{asked}: {error}");
    }
}

#[test]
fn a_selector_that_cannot_be_read_names_pool_and_field() {
    let pools = enabled(&[pool("p", json!({"cidr": "10.0.0.0/16", "nodeSelector": "a ="}))]);
    let error = selects_node(&pools[0], &LabelMap::new()).unwrap_err().to_string();
    assert!(error.contains("IPPool p: spec.nodeSelector \"a =\""), "{error}");
}

#[test]
fn candidates_are_all_blocks_once_and_start_depends_on_the_host() {
    let pools = enabled(&[pool("p", json!({"cidr": "10.0.0.0/20", "blockSize": 26}))]);
    let mut starts = std::collections::BTreeSet::new();
    for host in 0..50 {
        let blocks: Vec<IpNet> = candidates(&pools[0], seed_of(&format!("node-{host}")), &[]).collect();
        assert_eq!(blocks.len(), 64);
        assert_eq!(blocks.iter().collect::<std::collections::BTreeSet<_>>().len(), 64);
        assert!(
            blocks
                .iter()
                .all(|block| pools[0].net.contains(block) && block.prefix_len() == 26)
        );
        starts.insert(blocks[0]);
    }
    assert!(starts.len() > 20, "{} starts of 50 hosts", starts.len());
}

#[test]
fn reserved_blocks_are_no_candidates_and_large_reservations_cost_nothing() {
    let pools = enabled(&[pool("p", json!({"cidr": "fd00::/48"}))]);
    let reserved: Vec<IpNet> = ["fd00::/49", "fd00:0:0:8000::/50"]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    for seed in 0..20 {
        let first: Vec<IpNet> = candidates(&pools[0], seed, &reserved).take(3).collect();
        assert_eq!(first.len(), 3);
        assert!(
            first.iter().all(|block| covers(&reserved, block).is_none()),
            "{first:?}"
        );
    }
    let all: Vec<IpNet> = vec!["fd00::/47".parse().unwrap()];
    assert_eq!(candidates(&pools[0], 7, &all).count(), 0);
}

#[test]
fn the_seed_is_fnv_1() {
    assert_eq!(seed_of(""), 0x811c_9dc5);
    assert_eq!(seed_of("a"), 0x050c_5d7e);
    assert_eq!(seed_of("foobar"), 0x31f0_b262);
}

use super::*;
use crate::cluster::PodView;
use crate::gc::allocations;
use caracal_api::confirmation::{ANSWER_ANNOTATION, QUESTION_ANNOTATION};
use caracal_api::v3::{AffinityState, AllocationAttribute, BlockAffinity, BlockAffinitySpec, IPAMBlock};
use caracal_datastore::Key;
use caracal_ipam::{Assignment, Owner};
use k8s_openapi::api::core::v1::Node;

const GRACE: Duration = Duration::from_secs(900);

fn wall() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

/// A cluster, its blocks, and the memory over looks at chosen times.
struct World {
    cluster: Cluster,
    memory: Memory,
    start: Instant,
}

impl World {
    fn new(nodes: &[&str]) -> Self {
        let mut cluster = Cluster::default();
        for name in nodes {
            cluster.nodes.insert((*name).to_owned(), Node::default());
        }
        Self {
            cluster,
            memory: Memory::default(),
            start: Instant::now(),
        }
    }

    fn block(&mut self, node: &str, cidr: &str) {
        let cidr: IpNet = cidr.parse().unwrap();
        let block = Block::new(cidr, Some(&Owner::host(node)), wall()).unwrap();
        let object = IPAMBlock::new(&cidr.to_string(), block.into_spec());
        self.cluster.blocks.insert(cidr.to_string(), object);
        let spec = BlockAffinitySpec {
            state: AffinityState::Confirmed,
            node: node.to_owned(),
            type_: "host".to_owned(),
            cidr: cidr.to_string(),
            deleted: false,
        };
        let mut affinity = BlockAffinity::new(&cidr.to_string(), spec);
        affinity.metadata.labels = Some([(LABEL_AFFINITY_TYPE.to_owned(), "host".to_owned())].into());
        self.cluster.affinities.insert(cidr.to_string(), affinity);
    }

    /// Assigns the next address of a block.
    fn assign(&mut self, cidr: &str, handle: &str, attributes: &[(&str, &str)]) -> IpAddr {
        let object = self.cluster.blocks.get_mut(cidr).unwrap();
        let mut block = Block::from_spec(object.spec.clone()).unwrap();
        let attributes = attributes
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let owner = Owner(object.spec.affinity.clone().unwrap());
        let want = Assignment {
            owner: &owner,
            handle: Some(handle),
            attributes: &attributes,
            strict: false,
        };
        let reserved: &[IpNet] = &[];
        let address = block.auto_assign(1, &want, reserved).unwrap()[0];
        block.bump();
        object.spec = block.into_spec();
        address
    }

    fn pod(&mut self, name: &str, node: &str, addresses: &[IpAddr]) {
        let view = PodView {
            node: node.to_owned(),
            has_address: !addresses.is_empty(),
            evicted: false,
            addresses: Some(addresses.iter().copied().collect()),
        };
        self.cluster.pods.insert(Key::namespaced("web", name), view);
    }

    fn look(&mut self, seconds: u64, grace: Option<Duration>) -> Plan {
        let all = allocations(&self.cluster);
        let now = self.start + Duration::from_secs(seconds);
        self.memory.plan(&self.cluster, &all, grace, now, wall())
    }

    /// Puts the question of a plan, as `apply` does.
    fn put(&mut self, plan: &Plan, seconds: u64, id: &str) {
        let [ask] = &plan.ask[..] else {
            panic!("one question expected: {plan:?}")
        };
        let question = Question {
            id: id.to_owned(),
            addresses: ask.addresses.clone(),
        };
        self.annotate(
            &ask.node,
            QUESTION_ANNOTATION,
            serde_json::to_string(&question).unwrap(),
        );
        self.memory
            .was_asked(ask, id, self.start + Duration::from_secs(seconds));
    }

    fn answer(&mut self, node: &str, id: &str, held: &[IpAddr]) {
        let answer = Answer {
            id: id.to_owned(),
            held: held.to_vec(),
        };
        self.annotate(node, ANSWER_ANNOTATION, serde_json::to_string(&answer).unwrap());
    }

    fn annotate(&mut self, node: &str, key: &str, value: String) {
        let annotations = &mut self.cluster.nodes.get_mut(node).unwrap().metadata.annotations;
        annotations.get_or_insert_default().insert(key.to_owned(), value);
    }
}

const OF_POD: &[(&str, &str)] = &[("namespace", "web"), ("pod", "a"), ("node", "n1")];

fn freed(plan: &Plan) -> Vec<IpAddr> {
    plan.reclaim
        .iter()
        .flat_map(|reclaim| reclaim.allocations.iter().map(|allocation| allocation.id.address))
        .collect()
}

#[test]
fn a_leak_is_asked_about_after_the_grace_period_and_freed_on_the_nodes_word() {
    let mut world = World::new(&["n1"]);
    world.block("n1", "10.0.0.0/26");
    let address = world.assign("10.0.0.0/26", "net.1", OF_POD);
    world.pod("a", "n1", &[address]);
    assert_eq!(world.look(0, Some(GRACE)), Plan::default(), "the pod has it");
    world.cluster.pods.clear();
    let plan = world.look(10, Some(GRACE));
    assert!(plan.ask.is_empty() && plan.reclaim.is_empty());
    assert_eq!(
        plan.again,
        Some(GRACE),
        "it looks again when the grace period is over"
    );
    let plan = world.look(909, Some(GRACE));
    assert!(plan.ask.is_empty());
    let plan = world.look(910, Some(GRACE));
    assert_eq!(plan.ask[0].addresses[&address], veth_name("web", "a"));
    assert!(freed(&plan).is_empty(), "not without the node's word");
    world.put(&plan, 910, "q1");
    // Silence keeps it, and the question is put again only after a while.
    let plan = world.look(911, Some(GRACE));
    assert!(plan.ask.is_empty() && freed(&plan).is_empty());
    assert_eq!(plan.again, Some(Duration::from_secs(59)));
    let plan = world.look(971, Some(GRACE));
    assert_eq!(plan.ask.len(), 1);
    world.put(&plan, 971, "q2");
    // An answer to the earlier question is none to this one.
    world.answer("n1", "q1", &[]);
    assert!(freed(&world.look(972, Some(GRACE))).is_empty());
    world.answer("n1", "q2", &[]);
    assert_eq!(freed(&world.look(973, Some(GRACE))), [address]);
}

#[test]
fn an_address_that_its_node_still_has_is_kept_and_asked_about_later() {
    let mut world = World::new(&["n1"]);
    world.block("n1", "10.0.0.0/26");
    let held = world.assign("10.0.0.0/26", "net.1", OF_POD);
    let other = world.assign("10.0.0.0/26", "net.2", OF_POD);
    world.look(0, Some(GRACE));
    let plan = world.look(900, Some(GRACE));
    world.put(&plan, 900, "q1");
    world.answer("n1", "q1", &[held]);
    assert_eq!(freed(&world.look(901, Some(GRACE))), [other]);
    assert!(
        freed(&world.look(1700, Some(GRACE)))
            .iter()
            .all(|freed| *freed != held)
    );
    let plan = world.look(1801, Some(GRACE));
    assert!(plan.ask[0].addresses.contains_key(&held));
}

#[test]
fn an_old_answer_does_not_free_what_leaked_after_it() {
    let mut world = World::new(&["n1"]);
    world.block("n1", "10.0.0.0/26");
    let first = world.assign("10.0.0.0/26", "net.1", OF_POD);
    world.look(0, Some(GRACE));
    let plan = world.look(900, Some(GRACE));
    world.put(&plan, 900, "q1");
    world.answer("n1", "q1", &[]);
    // It was freed, assigned anew under another handle, and leaks again.
    world.cluster.blocks.clear();
    world.block("n1", "10.0.0.0/26");
    assert_eq!(world.assign("10.0.0.0/26", "net.2", OF_POD), first);
    world.look(901, Some(GRACE));
    let plan = world.look(1801, Some(GRACE));
    assert!(freed(&plan).is_empty());
    assert_eq!(plan.ask.len(), 1);
}

#[test]
fn everything_of_a_node_that_is_gone_is_freed_at_once_tunnels_last() {
    let mut world = World::new(&["n2"]);
    world.block("n1", "10.0.0.0/26");
    world.block("n2", "10.0.1.0/26");
    let tunnel = world.assign(
        "10.0.0.0/26",
        "ipip-tunnel-addr-n1",
        &[("type", "ipipTunnelAddress"), ("node", "n1")],
    );
    let pod = world.assign("10.0.0.0/26", "net.1", OF_POD);
    world.pod("a", "n1", &[pod]);
    let plan = world.look(0, Some(GRACE));
    assert!(
        freed(&plan).is_empty() && plan.nodes.is_empty(),
        "its pod is still in the API"
    );
    world.cluster.pods.clear();
    // Also without a grace period.
    for grace in [Some(GRACE), None] {
        let plan = world.look(1, grace);
        let mut all = freed(&plan);
        all.sort();
        assert_eq!(all, [tunnel, pod]);
        assert_eq!(plan.nodes, ["n1"]);
    }
    // A tunnel of a node that is there is nobody's business.
    world.cluster.nodes.insert("n1".to_owned(), Node::default());
    world.cluster.blocks.remove("10.0.0.0/26");
    world.block("n1", "10.0.0.0/26");
    world.assign(
        "10.0.0.0/26",
        "ipip-tunnel-addr-n1",
        &[("type", "ipipTunnelAddress"), ("node", "n1")],
    );
    assert!(freed(&world.look(2, Some(GRACE))).is_empty());
}

#[test]
fn what_names_no_pod_is_never_touched_and_keeps_its_node() {
    let mut world = World::new(&[]);
    world.block("n1", "10.0.0.0/26");
    world.assign("10.0.0.0/26", "mine", &[("node", "n1")]);
    world.assign(
        "10.0.0.0/26",
        "vm",
        &[
            ("node", "n1"),
            ("vmi-name", "vm"),
            ("namespace", "web"),
            ("pod", "a"),
        ],
    );
    world.look(0, Some(GRACE));
    let plan = world.look(100_000, Some(GRACE));
    assert!(freed(&plan).is_empty());
    assert!(plan.nodes.is_empty());
}

#[test]
fn a_handle_goes_as_a_whole_or_not_at_all() {
    let mut world = World::new(&["n2"]);
    world.block("n1", "10.0.0.0/26");
    let four = world.assign("10.0.0.0/26", "net.1", OF_POD);
    world.block("n1", "fd00::/122");
    let attributes = [("namespace", "web"), ("pod", "b"), ("node", "n2")];
    world.assign("fd00::/122", "net.1", &attributes);
    world.pod("b", "n2", &[]);
    // One of its addresses is a pod's that is being plugged in.
    assert!(freed(&world.look(0, Some(GRACE))).is_empty());
    world.cluster.blocks.remove("fd00::/122");
    assert_eq!(freed(&world.look(1, Some(GRACE))), [four]);
}

#[test]
fn of_empty_blocks_one_of_each_family_stays() {
    let mut world = World::new(&["n1", "n2"]);
    for cidr in ["10.0.0.0/26", "10.0.0.64/26", "10.0.0.128/26", "fd00::/122"] {
        world.block("n1", cidr);
    }
    world.block("n2", "10.0.1.0/26");
    assert!(world.look(0, Some(GRACE)).empty.is_empty());
    assert!(world.look(899, Some(GRACE)).empty.is_empty());
    let plan = world.look(900, Some(GRACE));
    let blocks: Vec<String> = plan.empty.iter().map(|(cidr, _)| cidr.to_string()).collect();
    assert_eq!(blocks, ["10.0.0.0/26", "10.0.0.64/26"]);
    assert!(
        world.look(901, None).empty.is_empty(),
        "off without a grace period"
    );
    // One that was used in between begins anew.
    let mut world = World::new(&["n1"]);
    world.block("n1", "10.0.0.0/26");
    world.block("n1", "10.0.0.64/26");
    world.look(0, Some(GRACE));
    world.assign("10.0.0.0/26", "net.1", OF_POD);
    world.pod("a", "n1", &[]);
    world.look(500, Some(GRACE));
    world.cluster.blocks.remove("10.0.0.0/26");
    world.block("n1", "10.0.0.0/26");
    world.look(600, Some(GRACE));
    let plan = world.look(1000, Some(GRACE));
    assert_eq!(plan.empty, [("10.0.0.64/26".parse().unwrap(), "n1".to_owned())]);
}

#[test]
fn addresses_come_back_after_their_cooldown() {
    let mut world = World::new(&["n1"]);
    world.block("n1", "10.0.0.0/26");
    let spec = &mut world.cluster.blocks.get_mut("10.0.0.0/26").unwrap().spec;
    spec.allocations[0] = Some(0);
    spec.unallocated.retain(|ordinal| *ordinal != 0);
    spec.attributes.push(AllocationAttribute {
        released_at: Some(Timestamp::from_second(999_990).unwrap().to_string()),
        ..AllocationAttribute::default()
    });
    let configure = |world: &mut World, seconds| {
        let mut configuration = caracal_api::v3::IPAMConfiguration::default();
        configuration.spec.ip_cooldown_seconds = seconds;
        world.cluster.ipam_configuration = Some(configuration);
    };
    configure(&mut world, 30);
    let plan = world.look(0, Some(GRACE));
    assert!(plan.cooled.is_empty());
    assert_eq!(plan.again, Some(Duration::from_secs(21)));
    configure(&mut world, 5);
    assert_eq!(
        world.look(0, Some(GRACE)).cooled,
        ["10.0.0.0/26".parse().unwrap()]
    );
}

#[test]
fn a_question_without_need_is_taken_away_and_unlabelled_claims_are_found() {
    let mut world = World::new(&["n1"]);
    world.annotate(
        "n1",
        QUESTION_ANNOTATION,
        r#"{"id":"old","addresses":{}}"#.to_owned(),
    );
    let plan = world.look(0, Some(GRACE));
    assert_eq!(plan.ask.len(), 1);
    assert!(plan.ask[0].addresses.is_empty());
    world.block("n1", "10.0.0.0/26");
    world
        .cluster
        .affinities
        .get_mut("10.0.0.0/26")
        .unwrap()
        .metadata
        .labels = None;
    assert!(world.look(1, Some(GRACE)).unlabelled.contains("n1"));
}

#[test]
fn a_pod_is_judged_by_what_is_certain() {
    let address: IpAddr = "10.0.0.1".parse().unwrap();
    let other: IpAddr = "10.0.0.2".parse().unwrap();
    let view = |addresses: Option<&[IpAddr]>, has_address, evicted| PodView {
        node: "n1".to_owned(),
        has_address,
        evicted,
        addresses: addresses.map(|list| list.iter().copied().collect()),
    };
    let judge = |pod: Option<&PodView>, node: &str| {
        matches!(
            super::super::verdict::of_pod(pod, node, address),
            Verdict::Leaked(_)
        )
    };
    assert!(judge(None, "n1"));
    assert!(!judge(Some(&view(Some(&[address]), true, false)), "n1"));
    assert!(
        !judge(Some(&view(Some(&[]), false, false)), "n1"),
        "being plugged in"
    );
    assert!(!judge(Some(&view(None, true, false)), "n1"), "cannot be read");
    assert!(judge(Some(&view(Some(&[other]), true, false)), "n1"));
    assert!(judge(Some(&view(Some(&[]), true, false)), "n1"), "ended");
    assert!(judge(Some(&view(Some(&[address]), true, true)), "n1"), "evicted");
    assert!(
        judge(Some(&view(Some(&[address]), true, false)), "n2"),
        "elsewhere"
    );
    assert!(!judge(Some(&view(Some(&[address]), true, false)), ""));
}

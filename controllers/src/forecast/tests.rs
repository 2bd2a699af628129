use super::*;
use caracal_api::v3::{IPAMBlock, IPAMConfiguration, IPPoolSpec};
use caracal_ipam::{Assignment, Block, Owner};

fn cluster(nodes: &[&str], pool: &str, block_size: i32) -> Cluster {
    let mut cluster = Cluster::default();
    for name in nodes {
        let mut node = Node::default();
        node.metadata.name = Some((*name).to_owned());
        cluster.nodes.insert((*name).to_owned(), node);
    }
    let spec = IPPoolSpec {
        cidr: pool.to_owned(),
        block_size: Some(block_size),
        ..IPPoolSpec::default()
    };
    cluster.pools.insert("p".to_owned(), IPPool::new("p", spec));
    cluster
}

/// A block of a node with so many addresses in use.
fn block(cluster: &mut Cluster, node: &str, cidr: &str, in_use: usize) {
    let owner = Owner::host(node);
    let mut block = Block::new(cidr.parse().unwrap(), Some(&owner), jiff::Timestamp::UNIX_EPOCH).unwrap();
    let attributes = [("node".to_owned(), node.to_owned())].into();
    let want = Assignment {
        owner: &owner,
        handle: Some("h"),
        attributes: &attributes,
        strict: false,
    };
    let reserved: &[ipnet::IpNet] = &[];
    block.auto_assign(in_use, &want, reserved).unwrap();
    cluster
        .blocks
        .insert(cidr.to_owned(), IPAMBlock::new(cidr, block.into_spec()));
}

fn configure(cluster: &mut Cluster, strict: bool, limit: i32) {
    let mut configuration = IPAMConfiguration::default();
    configuration.spec.strict_affinity = strict;
    configuration.spec.max_blocks_per_host = limit;
    configuration.spec.auto_allocate_blocks = true;
    cluster.ipam_configuration = Some(configuration);
}

fn room_of(cluster: &Cluster, subject: &Subject) -> Room {
    rooms(cluster)
        .into_iter()
        .find(|(found, _)| found == subject)
        .unwrap()
        .1
}

const fn room(capacity: u128, in_use: u128) -> Room {
    Room {
        capacity,
        in_use,
        free: capacity - in_use,
    }
}

#[test]
fn steady_growth_is_told_an_hour_ahead_and_not_before() {
    let mut trend = Trend::default();
    // One address every 10 s.
    for minute in 0..60u64 {
        trend.add(minute * 60, u128::from(minute) * 6);
    }
    assert!((trend.rate() - 0.1).abs() < 1e-9, "{}", trend.rate());
    assert_eq!(trend.outlook(room(10_000, 354)), Outlook::Lasts(96_460));
    assert_eq!(trend.outlook(room(714, 354)), Outlook::RunsOut(3600));
    assert_eq!(trend.outlook(room(715, 354)), Outlook::Lasts(3610));
    assert_eq!(trend.outlook(room(354, 354)), Outlook::Empty);
}

#[test]
fn a_rollout_is_no_trend_and_shrinking_is_no_shortage() {
    let mut trend = Trend::default();
    trend.add(0, 0);
    trend.add(30, 100);
    assert_eq!(trend.outlook(room(1000, 100)), Outlook::Enough);
    assert_eq!(trend.outlook(room(1000, 951)), Outlook::Low);
    let mut trend = Trend::default();
    for minute in 0..60u64 {
        trend.add(minute * 60, 1000 - u128::from(minute));
    }
    assert_eq!(trend.outlook(room(2000, 941)), Outlook::Enough);
}

#[test]
fn old_growth_is_forgotten_and_samples_stay_few() {
    let mut trend = Trend::default();
    for second in 0..3600u64 {
        trend.add(second, u128::from(second));
    }
    for second in 3600..7400u64 {
        trend.add(second, 3600);
    }
    assert!(trend.rate().abs() < 1e-6, "{}", trend.rate());
    let text = format!("{trend:?}");
    assert!(text.matches("), (").count() < 130, "bounded");
}

#[test]
fn a_pool_that_assigns_nothing_is_not_forecast() {
    let mut cluster = cluster(&[], "10.0.0.0/24", 26);
    assert_eq!(rooms(&cluster), [(Subject::Pool("p".to_owned()), room(256, 0))]);
    cluster.pools.get_mut("p").unwrap().spec.disabled = true;
    assert_eq!(rooms(&cluster), []);
}

#[test]
fn a_node_can_get_what_its_limit_and_its_pools_leave() {
    let node = Subject::Node("n1".to_owned());
    let mut cluster = cluster(&["n1", "n2"], "10.0.0.0/24", 28);
    assert!(
        rooms(&cluster).iter().all(|(subject, _)| *subject != node),
        "no block, no word"
    );
    block(&mut cluster, "n1", "10.0.0.0/28", 10);
    configure(&mut cluster, true, 2);
    assert_eq!(room_of(&cluster, &node), room(32, 10));
    configure(&mut cluster, true, 1);
    assert_eq!(room_of(&cluster, &node), room(16, 10));
    // At its limit it does not borrow either.
    configure(&mut cluster, false, 1);
    assert_eq!(room_of(&cluster, &node), room(16, 10));
    configure(&mut cluster, false, 0);
    assert_eq!(
        room_of(&cluster, &node).free,
        246,
        "below its limit it has the whole pool"
    );
    // Everything claimed by others: strict affinity leaves it with its own.
    for index in 1..16 {
        block(&mut cluster, "n2", &format!("10.0.0.{}/28", index * 16), 0);
    }
    configure(&mut cluster, true, 0);
    assert_eq!(room_of(&cluster, &node), room(16, 10));
    configure(&mut cluster, false, 0);
    assert_eq!(room_of(&cluster, &node).free, 246, "it borrows");
    // A pool that does not select the node gives it nothing.
    cluster.pools.get_mut("p").unwrap().spec.node_selector = "rack == 'b'".to_owned();
    assert!(rooms(&cluster).iter().all(|(subject, _)| *subject != node));
}

#[test]
fn the_word_is_plain_and_does_not_change_with_each_pod() {
    let say = |subject: &Subject, outlook| {
        condition(&Forecast {
            subject: subject.clone(),
            room: room(256, 250),
            outlook,
        })
    };
    let pool = Subject::Pool("p".to_owned());
    assert_eq!(
        say(&pool, Outlook::RunsOut(10)),
        say(&pool, Outlook::RunsOut(3000))
    );
    let empty = say(&pool, Outlook::Empty);
    assert_eq!((empty.holds, empty.reason), (true, "Exhausted"));
    assert!(
        empty
            .message
            .starts_with("the pool has no free address of 256; add an IPPool"),
        "{}",
        empty.message
    );
    let node = say(&Subject::Node("n".to_owned()), Outlook::Low);
    assert!(node.message.contains("maxBlocksPerHost"), "{}", node.message);
    assert!(!say(&pool, Outlook::Lasts(100_000)).holds);
}

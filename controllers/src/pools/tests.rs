use super::*;
use caracal_api::v3::{IPPoolSpec, IPPoolStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

struct Builder(Cluster);

impl Builder {
    fn pool(mut self, name: &str, cidr: &str, change: impl FnOnce(&mut IPPool)) -> Self {
        let spec = IPPoolSpec {
            cidr: cidr.to_owned(),
            ..IPPoolSpec::default()
        };
        let mut pool = IPPool::new(name, spec);
        pool.metadata.creation_timestamp = Some(Time(now()));
        change(&mut pool);
        self.0.pools.insert(name.to_owned(), pool);
        self
    }
}

fn cluster() -> Builder {
    Builder(Cluster::default())
}

fn in_use(pool: &mut IPPool) {
    let wanted = Wanted {
        type_: ALLOCATABLE,
        holds: true,
        reason: "OK",
        message: "addresses are assigned from the pool".to_owned(),
    };
    pool.status = Some(IPPoolStatus {
        conditions: conditions::with(&[], &wanted, None, now()).unwrap(),
    });
}

fn reasons(cluster: &Cluster) -> Vec<(String, &'static str)> {
    let mut reasons: Vec<_> = verdicts(cluster)
        .into_iter()
        .map(|(pool, wanted)| (pool.metadata.name.clone().unwrap(), wanted.reason))
        .collect();
    reasons.sort();
    reasons
}

fn expect(cluster: &Cluster, wanted: &[(&str, &str)]) {
    let found = reasons(cluster);
    let found: Vec<(&str, &str)> = found
        .iter()
        .map(|(name, reason)| (name.as_str(), *reason))
        .collect();
    assert_eq!(found, wanted);
}

#[test]
fn of_pools_that_overlap_the_one_in_use_wins_then_the_older_then_by_name() {
    let older = |pool: &mut IPPool| {
        pool.metadata.creation_timestamp = Some(Time(Timestamp::from_second(1).unwrap()));
    };
    let Builder(cluster) = cluster()
        .pool("a", "10.0.0.0/16", older)
        .pool("b", "10.0.1.0/24", in_use)
        .pool("c", "10.9.0.0/24", |_| {})
        .pool("d", "10.9.0.0/25", older)
        .pool("e", "10.8.0.0/24", |_| {})
        .pool("f", "10.8.0.0/24", |_| {});
    expect(
        &cluster,
        &[
            ("a", "CIDROverlap"),
            ("b", "OK"),
            ("c", "CIDROverlap"),
            ("d", "OK"),
            ("e", "OK"),
            ("f", "CIDROverlap"),
        ],
    );
    let verdicts = verdicts(&cluster);
    let (_, loser) = verdicts
        .iter()
        .find(|(pool, _)| pool.metadata.name.as_deref() == Some("a"))
        .unwrap();
    assert!(
        loser.message.contains("10.0.1.0/24 of IPPool b"),
        "{}",
        loser.message
    );
}

#[test]
fn a_terminating_or_disabled_pool_keeps_its_addresses_from_new_ones() {
    let Builder(cluster) = cluster()
        .pool("new", "10.0.0.0/24", |_| {})
        .pool("old", "10.0.0.0/16", |pool| {
            pool.metadata.deletion_timestamp = Some(Time(now()));
        })
        .pool("off", "10.1.0.0/16", |pool| pool.spec.disabled = true)
        .pool("over-off", "10.1.0.0/24", |_| {});
    expect(
        &cluster,
        &[
            ("new", "CIDROverlap"),
            ("off", "PoolDisabled"),
            ("old", "Terminating"),
            ("over-off", "CIDROverlap"),
        ],
    );
}

#[test]
fn a_pool_gets_its_condition_then_its_finalizer_then_nothing() {
    let Builder(mut cluster) = cluster().pool("a", "10.0.0.0/16", |_| {});
    let [Action::SetConditions { conditions, .. }] = &plan(&cluster, now())[..] else {
        panic!("{:?}", plan(&cluster, now()))
    };
    assert_eq!(conditions[0].status, "True");
    cluster.pools.get_mut("a").unwrap().status = Some(IPPoolStatus {
        conditions: conditions.clone(),
    });
    let [Action::SetFinalizers { finalizers, .. }] = &plan(&cluster, now())[..] else {
        panic!()
    };
    assert_eq!(finalizers, &[FINALIZER_IP_POOL.to_owned()]);
    cluster.pools.get_mut("a").unwrap().metadata.finalizers = Some(finalizers.clone());
    assert_eq!(plan(&cluster, now()), []);
}

#[test]
fn a_pool_being_deleted_is_disabled_first_and_wound_down_then() {
    let Builder(mut cluster) = cluster().pool("a", "10.0.0.0/16", |pool| {
        in_use(pool);
        pool.metadata.deletion_timestamp = Some(Time(now()));
        pool.metadata.finalizers = Some(vec!["other".to_owned(), FINALIZER_IP_POOL.to_owned()]);
    });
    let [Action::SetConditions { conditions, .. }] = &plan(&cluster, now())[..] else {
        panic!()
    };
    assert_eq!(
        (conditions[0].status.as_str(), conditions[0].reason.as_str()),
        ("False", "Terminating")
    );
    cluster.pools.get_mut("a").unwrap().status = Some(IPPoolStatus {
        conditions: conditions.clone(),
    });
    let [Action::WindDown { cidr, finalizers, .. }] = &plan(&cluster, now())[..] else {
        panic!()
    };
    assert_eq!(cidr.unwrap().to_string(), "10.0.0.0/16");
    assert_eq!(finalizers, &["other".to_owned()]);
}

#[test]
fn a_loser_that_is_deleted_takes_no_blocks_from_the_winner() {
    let Builder(cluster) =
        cluster()
            .pool("winner", "10.0.0.0/16", in_use)
            .pool("loser", "10.0.0.0/24", |pool| {
                let wanted = Wanted {
                    type_: ALLOCATABLE,
                    holds: false,
                    reason: "Terminating",
                    message: "the pool is being deleted; it goes when its last address is released"
                        .to_owned(),
                };
                pool.status = Some(IPPoolStatus {
                    conditions: conditions::with(&[], &wanted, None, now()).unwrap(),
                });
                pool.metadata.deletion_timestamp = Some(Time(now()));
                pool.metadata.finalizers = Some(vec![FINALIZER_IP_POOL.to_owned()]);
            });
    let wound = plan(&cluster, now()).into_iter().find_map(|action| match action {
        Action::WindDown { cidr, .. } => Some(cidr),
        Action::SetFinalizers { .. } | Action::SetConditions { .. } => None,
    });
    assert_eq!(wound, Some(None));
}

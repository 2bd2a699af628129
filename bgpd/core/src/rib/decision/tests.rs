use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::policy::Source;
use crate::rib::attrs::Interner;
use crate::rib::rewrite::{Change, Rewrite};
use crate::rib::way::{Extra, PeerId, PeerInfo};

/// What a path is made of; the numbers are small so that ties are many.
#[derive(Clone, Debug)]
struct Spec {
    id: u8,
    ebgp: bool,
    local_pref: u32,
    as_path: Vec<u32>,
    origin: u8,
    med: Option<u32>,
    originator: Option<u8>,
    clusters: u8,
    cost: Option<u32>,
}

const PLAIN: Spec = Spec {
    id: 1,
    ebgp: true,
    local_pref: 100,
    as_path: Vec::new(),
    origin: 0,
    med: None,
    originator: None,
    clusters: 0,
    cost: Some(0),
};

fn path(spec: &Spec) -> Path {
    let block = [0x40, 1, 1, spec.origin, 0x40, 2, 0];
    let mut rewrite = Rewrite {
        prepend: spec.as_path.clone(),
        local_pref: Change::Set(spec.local_pref),
        med: spec.med.into(),
        originator: spec.originator.map(|id| Ipv4Addr::new(9, 9, 9, id)).into(),
        ..Rewrite::default()
    };
    let mut block = {
        let first = rewrite.apply(&block);
        rewrite = Rewrite::default();
        first
    };
    for _ in 0..spec.clusters {
        rewrite.cluster = Change::Set(Ipv4Addr::LOCALHOST);
        block = rewrite.apply(&block);
    }
    let attrs = Interner::default().intern(&block);
    Path::own(Way {
        peer: Some(Arc::new(PeerInfo {
            remote_as: 0,
            role: None,
            id: PeerId(u32::from(spec.id)),
            name: spec.id.to_string(),
            address: Ipv4Addr::new(10, 0, 0, spec.id).into(),
            local: Ipv4Addr::LOCALHOST.into(),
            router_id: Ipv4Addr::new(9, 9, 9, spec.id / 2),
            ebgp: spec.ebgp,
            cluster: None,
        })),
        source: Source::Bgp,
        blackhole: false,
        attrs,
        next_hop: None,
        preference: 100,
        unusable: None,
        extra: Some(Box::new(Extra {
            metric: spec.cost,
            ..Extra::default()
        })),
    })
}

const RULES: Rules = Rules {
    always_compare_med: false,
    multipath_max: 16,
};

fn chosen(specs: &[Spec], rules: Rules) -> Option<(u8, Vec<u8>)> {
    let paths: Vec<Path> = specs.iter().map(path).collect();
    let selection = select(&paths, rules, Way::metric)?;
    let mut equals: Vec<u8> = selection.equals.iter().map(|index| specs[*index].id).collect();
    equals.sort_unstable();
    Some((specs[selection.best].id, equals))
}

#[test]
fn each_step_decides_in_its_turn() {
    let better = |id, change: &dyn Fn(&mut Spec)| {
        let mut spec = Spec { id, ..PLAIN };
        change(&mut spec);
        spec
    };
    let worse: [&dyn Fn(&mut Spec); 8] = [
        &|spec| spec.local_pref = 90,
        &|spec| spec.as_path = vec![1],
        &|spec| spec.origin = 2,
        &|spec| spec.med = Some(1),
        &|spec| spec.ebgp = false,
        &|spec| spec.cost = Some(7),
        &|spec| spec.originator = Some(200),
        &|spec| spec.clusters = 2,
    ];
    for (step, change) in worse.iter().enumerate() {
        // The identifier would decide for the worse one; two and three share it where CLUSTER_LIST is to decide.
        let (good, bad) = if step == 7 { (3, 2) } else { (8, 2) };
        let mut specs = vec![better(bad, change), better(good, &|_| {})];
        assert_eq!(chosen(&specs, RULES).unwrap().0, good, "step {step}");
        specs.reverse();
        assert_eq!(chosen(&specs, RULES).unwrap().0, good, "step {step}");
    }
    // g: the lower address.
    let last = [Spec { id: 3, ..PLAIN }, Spec { id: 2, ..PLAIN }];
    assert_eq!(chosen(&last, RULES).unwrap(), (2, vec![2, 3]));
}

// RFC 4271 §9.1.2.2 c: the classic trap, where comparing in pairs depends on the order.
#[test]
fn med_counts_inside_one_neighbouring_as_only() {
    let spec = |id, neighbor: u32, med, cost| Spec {
        id,
        as_path: vec![neighbor],
        med: Some(med),
        cost: Some(cost),
        ..PLAIN
    };
    let specs = [spec(2, 1, 10, 1), spec(4, 2, 5, 2), spec(6, 1, 0, 3)];
    assert_eq!(chosen(&specs, RULES).unwrap().0, 4);
    let always = Rules {
        always_compare_med: true,
        ..RULES
    };
    assert_eq!(chosen(&specs, always).unwrap().0, 6);
}

#[test]
fn multipath_is_bounded_and_keeps_the_best() {
    let specs: Vec<Spec> = (1..=6).rev().map(|id| Spec { id, ..PLAIN }).collect();
    let rules = Rules {
        multipath_max: 2,
        ..RULES
    };
    assert_eq!(chosen(&specs, rules).unwrap(), (1, vec![1, 2]));
}

#[test]
fn path_without_a_way_to_its_next_hop_is_not_chosen() {
    let lost = Spec { cost: None, ..PLAIN };
    assert_eq!(chosen(std::slice::from_ref(&lost), RULES), None);
    assert_eq!(
        chosen(
            &[
                lost,
                Spec {
                    id: 9,
                    local_pref: 1,
                    ..PLAIN
                }
            ],
            RULES
        )
        .unwrap()
        .0,
        9
    );
}

fn specs() -> impl Strategy<Value = Vec<Spec>> {
    let spec = (
        (
            any::<bool>(),
            99..101_u32,
            prop::collection::vec(1..3_u32, 0..3),
            0..2_u8,
        ),
        (
            prop::option::of(0..2_u32),
            prop::option::of(0..3_u8),
            0..2_u8,
            prop::option::weighted(0.9, 0..2_u32),
        ),
    );
    let spec = spec.prop_map(
        |((ebgp, local_pref, as_path, origin), (med, originator, clusters, cost))| Spec {
            id: 0,
            ebgp,
            local_pref,
            as_path,
            origin,
            med,
            originator,
            clusters,
            cost,
        },
    );
    prop::collection::vec(spec, 1..7).prop_map(|mut specs| {
        (1..).zip(&mut specs).for_each(|(id, spec)| spec.id = id);
        specs
    })
}

/// Whether the first path is better than the second in one step.
type Beats<'a> = &'a dyn Fn(&Spec, &Spec) -> bool;

/// The text of RFC 4271 §9.1.2.2, step by step over the whole list, as slowly as it can be written.
fn model(specs: &[Spec]) -> Option<u8> {
    let mut left: Vec<&Spec> = specs.iter().filter(|spec| spec.cost.is_some()).collect();
    let none_better = |left: Vec<&Spec>, beats: Beats<'_>| -> Vec<Spec> {
        let survives = |one: &&&Spec| !left.iter().any(|other| beats(other, one));
        left.iter()
            .filter(survives)
            .map(|spec| (**spec).clone())
            .collect()
    };
    let steps: [Beats<'_>; 9] = [
        &|a, b| a.local_pref > b.local_pref,
        &|a, b| a.as_path.len() < b.as_path.len(),
        &|a, b| a.origin < b.origin,
        &|a, b| a.as_path.first() == b.as_path.first() && a.med.unwrap_or(0) < b.med.unwrap_or(0),
        &|a, b| a.ebgp && !b.ebgp,
        &|a, b| a.cost < b.cost,
        &|a, b| a.originator.unwrap_or(a.id / 2) < b.originator.unwrap_or(b.id / 2),
        &|a, b| a.clusters < b.clusters,
        &|a, b| a.id < b.id,
    ];
    let mut owned: Vec<Spec>;
    for step in steps {
        owned = none_better(left, step);
        left = specs
            .iter()
            .filter(|spec| owned.iter().any(|one| one.id == spec.id))
            .collect();
    }
    left.first().map(|spec| spec.id)
}

proptest! {
    #[test]
    fn decision_agrees_with_the_text_in_any_order(specs in specs(), rotation in 0..7_usize) {
        let best = chosen(&specs, RULES);
        prop_assert_eq!(best.as_ref().map(|(id, _)| *id), model(&specs));
        let mut turned = specs.clone();
        turned.rotate_left(rotation % specs.len());
        prop_assert_eq!(chosen(&turned, RULES), best);
    }
}

use proptest::prelude::*;

use super::super::message::Message;
use super::super::{canonical, encode};
use super::*;

const IBGP: UpdateContext = UpdateContext {
    ebgp: false,
    as4: true,
    mp: MpContext {
        extended_next_hop: false,
        add_path: [false; 2],
    },
};
const EBGP: UpdateContext = UpdateContext { ebgp: true, ..IBGP };

/// ORIGIN, AS_PATH 65001, NEXT_HOP, LOCAL_PREF.
const GOOD: [&[u8]; 4] = [
    &[0x40, 1, 1, 0],
    &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9],
    &[0x40, 3, 4, 10, 0, 0, 1],
    &[0x40, 5, 4, 0, 0, 0, 100],
];
const ROUTE: [u8; 4] = [24, 10, 1, 0];

fn body(attributes: &[&[u8]], routes: &[u8]) -> Vec<u8> {
    let block = attributes.concat();
    let mut body = vec![0, 0];
    body.extend(u16::try_from(block.len()).unwrap().to_be_bytes());
    body.extend(block);
    body.extend(routes);
    body
}

fn with(extra: &[u8]) -> Vec<u8> {
    let mut attributes: Vec<&[u8]> = GOOD.into_iter().filter(|good| good[1] != extra[1]).collect();
    attributes.push(extra);
    body(&attributes, &ROUTE)
}

#[test]
fn a_good_update_is_kept_whole() {
    let bytes = body(&GOOD, &ROUTE);
    let view = UpdateView::parse(&bytes, &IBGP).unwrap();
    assert_eq!((view.fault, view.discarded), (None, 0));
    assert_eq!(view.announced.count(), 1);
    let mut form = Vec::new();
    canonical::write(&view, &IBGP, &mut form);
    assert_eq!(form, [GOOD[0], GOOD[1], GOOD[3]].concat());
}

// RFC 7606 §7.
#[test]
fn errors_that_cost_the_routes() {
    let cases: [&[u8]; 15] = [
        &[0x40, 1, 1, 3],
        &[0x40, 1, 2, 0, 0],
        &[0xc0, 1, 1, 0],
        &[0x40, 2, 5, 2, 1, 0, 0, 0],
        &[0x40, 2, 2, 2, 0],
        &[0x40, 2, 6, 3, 1, 0, 0, 0, 1],
        &[0x40, 3, 3, 10, 0, 0],
        &[0x80, 4, 3, 0, 0, 0],
        &[0x40, 5, 0],
        &[0xc0, 8, 3, 0, 0, 0],
        &[0xc0, 8, 0],
        &[0x80, 9, 5, 0, 0, 0, 0, 0],
        &[0x80, 10, 0],
        &[0xc0, 16, 4, 0, 0, 0, 0],
        &[0xc0, 32, 8, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    for extra in cases {
        let bytes = with(extra);
        let view = UpdateView::parse(&bytes, &IBGP).unwrap();
        assert!(view.fault.is_some(), "{extra:?}");
    }
    for missing in 0..GOOD.len() {
        let mut attributes = GOOD.to_vec();
        attributes.remove(missing);
        let bytes = body(&attributes, &ROUTE);
        let fault = UpdateView::parse(&bytes, &IBGP).unwrap().fault;
        assert_eq!(fault.map(|fault| fault.subcode), Some(3), "{missing}");
    }
}

#[test]
fn errors_that_cost_the_attribute() {
    let cases: [&[u8]; 3] = [&[0x40, 6, 1, 0], &[0xc0, 7, 6, 0, 1, 1, 1, 1, 1], &[0x80, 7, 0]];
    for extra in cases {
        let bytes = with(extra);
        let view = UpdateView::parse(&bytes, &IBGP).unwrap();
        assert_eq!((view.fault, view.discarded), (None, 1), "{extra:?}");
    }
    let bytes = body(&[GOOD[0], GOOD[1], GOOD[2], GOOD[3], GOOD[0]], &ROUTE);
    assert_eq!(UpdateView::parse(&bytes, &IBGP).unwrap().discarded, 1);
}

// RFC 7606 §7.5, §7.9, §7.10.
#[test]
fn internal_attributes_from_outside_are_ignored_and_local_pref_is_ours() {
    for extra in [&[0x40, 5, 1, 9][..], &[0x80, 9, 1, 9], &[0x80, 10, 1, 9]] {
        let bytes = with(extra);
        let view = UpdateView::parse(&bytes, &EBGP).unwrap();
        assert_eq!((view.fault, view.discarded), (None, 0), "{extra:?}");
        let mut form = Vec::new();
        canonical::write(&view, &EBGP, &mut form);
        assert_eq!(form, [GOOD[0], GOOD[1], GOOD[3]].concat());
    }
}

// RFC 7606 §3 f, §3 g, §5.2, §5.3; RFC 4271 §6.3.
#[test]
fn errors_that_end_the_session() {
    let reach = [&[0x80, 14, 26, 0, 2, 1, 16][..], &[1; 16], &[0, 32, 1, 2, 3, 4]].concat();
    let cut = &reach[..10]
        .iter()
        .copied()
        .enumerate()
        .map(|(at, octet)| if at == 2 { 7 } else { octet });
    let cut: Vec<u8> = cut.clone().collect();
    let cases: Vec<(Vec<u8>, u8)> = vec![
        (vec![0, 9, 0, 0], 1),
        (vec![0, 0, 0, 9], 1),
        (body(&GOOD, &[33, 1, 2, 3, 4, 5]), 10),
        (with(&[0x40, 99, 0]), 2),
        (body(&[&reach, &reach], &[]), 1),
        (with(&cut), 5),
        (body(&[&[0x40, 1, 1, 9]], &[]), 6),
    ];
    for (bytes, subcode) in cases {
        let error = UpdateView::parse(&bytes, &IBGP).unwrap_err();
        assert_eq!((error.code, error.subcode), (3, subcode), "{bytes:?}");
    }
}

// RFC 4271 §5, RFC 6793 §4.2.3.
#[test]
fn unknown_attributes_pass_as_partial_and_short_paths_are_merged() {
    let two = UpdateContext { as4: false, ..IBGP };
    let attributes: [&[u8]; 6] = [
        GOOD[0],
        &[0x40, 2, 6, 2, 2, 0, 9, 0x5b, 0xa0],
        GOOD[2],
        GOOD[3],
        &[0xc0, 17, 6, 2, 1, 0xfa, 0x56, 0xea, 1],
        &[0xc0, 99, 1, 7],
    ];
    let bytes = body(&attributes, &ROUTE);
    let view = UpdateView::parse(&bytes, &two).unwrap();
    let mut form = Vec::new();
    canonical::write(&view, &two, &mut form);
    let path: &[u8] = &[0x40, 2, 12, 2, 1, 0, 0, 0, 9, 2, 1, 0xfa, 0x56, 0xea, 1];
    assert_eq!(form, [GOOD[0], path, GOOD[3], &[0xe0, 99, 1, 7]].concat());
}

#[test]
fn end_of_rib_is_recognised() {
    for family in Family::ALL {
        let mut bytes = Vec::new();
        encode::end_of_rib(family, &mut bytes);
        let view = UpdateView::parse(&bytes[19..], &IBGP).unwrap();
        assert_eq!(view.end_of_rib(), Some(family));
    }
    let bytes = body(&GOOD, &ROUTE);
    assert_eq!(UpdateView::parse(&bytes, &IBGP).unwrap().end_of_rib(), None);
}

/// Everything a session does with octets before routes come into it.
fn digest(bytes: &[u8], context: &UpdateContext) {
    if let Ok(view) = UpdateView::parse(bytes, context) {
        let mut form = Vec::new();
        canonical::write(&view, context, &mut form);
        assert!(form.len() <= 2 * bytes.len() + 16, "grows");
        assert!(view.announced.count() + view.withdrawn.count() <= bytes.len());
    }
}

fn contexts() -> impl Strategy<Value = UpdateContext> {
    any::<[bool; 5]>().prop_map(|[ebgp, as4, extended_next_hop, v4, v6]| UpdateContext {
        ebgp,
        as4,
        mp: MpContext {
            extended_next_hop,
            add_path: [v4, v6],
        },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_octets_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), context in contexts()) {
        digest(&bytes, &context);
        let mut message = vec![0xff; 16];
        message.extend(u16::try_from(bytes.len() + 18).unwrap_or(0).to_be_bytes());
        message.extend(&bytes);
        let _ = Message::parse(&message, true);
    }

    #[test]
    fn mutated_and_cut_updates_do_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        context in contexts(),
    ) {
        let communities: &[u8] = &[0xc0, 8, 4, 0xff, 0xff, 0xff, 1];
        let reach = [&[0x80, 14, 26, 0, 2, 1, 16][..], &[1; 16], &[0, 32, 1, 2, 3, 4]].concat();
        let mut bytes = body(&[GOOD[0], GOOD[1], GOOD[2], GOOD[3], communities, &reach], &ROUTE);
        for (at, octet) in changes {
            let at = at.index(bytes.len());
            bytes[at] = octet;
        }
        digest(&bytes, &context);
        digest(&bytes[..cut.index(bytes.len())], &context);
    }
}

use super::super::capability::{GracefulRestart, LongLived};
use super::*;
use crate::family::Family;

/// An OPEN as BIRD 2 sends it: version 4, AS 65001, hold 90, id 10.99.255.1, one parameter per OPEN.
const BIRD: [u8; 43] = [
    0x04, 0xfd, 0xe9, 0x00, 0x5a, 0x0a, 0x63, 0xff, 0x01, 0x21, 0x02, 0x1f, 0x01, 0x04, 0x00, 0x01, 0x00,
    0x01, 0x02, 0x00, 0x06, 0x00, 0x40, 0x06, 0x40, 0x78, 0x00, 0x01, 0x01, 0x80, 0x41, 0x04, 0x00, 0x00,
    0xfd, 0xe9, 0x46, 0x00, 0x47, 0x03, 0x01, 0x02, 0x03,
];

fn sample() -> Open {
    Open {
        as_number: 4_200_000_001,
        hold_seconds: 90,
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        capabilities: Capabilities {
            families: vec![Family::Ipv4, Family::Ipv6],
            route_refresh: true,
            enhanced_refresh: true,
            extended_message: true,
            extended_next_hop: true,
            as4: Some(4_200_000_001),
            graceful_restart: Some(GracefulRestart {
                restarting: true,
                notification: true,
                restart_seconds: 120,
                families: vec![(Family::Ipv4, true), (Family::Ipv6, false)],
            }),
            long_lived: Some(vec![LongLived {
                family: Family::Ipv6,
                forwarding: true,
                stale_seconds: 70_000,
            }]),
            role: Some(3),
            role_conflict: false,
            add_path: vec![(Family::Ipv4, 1)],
            ..Capabilities::default()
        },
    }
}

fn parse_parameters(form: &[u8]) -> Result<Open, Notification> {
    let mut body = vec![4, 0xfd, 0xe9, 0, 90, 10, 0, 0, 2];
    body.extend(form);
    Open::parse(&body)
}

#[test]
fn reads_what_bird_sends() {
    let open = Open::parse(&BIRD).unwrap();
    assert_eq!((open.as_number, open.hold_seconds), (65001, 90));
    assert_eq!(open.capabilities.families, [Family::Ipv4]);
    let restart = open.capabilities.graceful_restart.unwrap();
    assert!(restart.notification && !restart.restarting);
    assert_eq!(
        (restart.restart_seconds, restart.families),
        (120, vec![(Family::Ipv4, true)])
    );
    // LLGR with a wrong length is as good as none.
    // It knows of long-lived stale routes, and asks for none to be kept.
    assert_eq!(open.capabilities.long_lived, Some(Vec::new()));
}

#[test]
fn what_is_encoded_is_parsed_again() {
    let open = sample();
    let mut bytes = Vec::new();
    open.encode(&mut bytes);
    // RFC 6793 §4.1: AS_TRANS in the short field.
    assert_eq!(&bytes[16..24], [0, 93, 1, 4, 0x5b, 0xa0, 0, 90]);
    assert_eq!(usize::from(bytes[17]), bytes.len());
    assert_eq!(Open::parse(&bytes[19..]), Ok(open));
}

// RFC 5492 §4: one capability each or several in a parameter; unknown ones and repetitions are no error.
#[test]
fn capabilities_may_be_packed_in_any_way() {
    let together = parse_parameters(&[14, 2, 12, 1, 4, 0, 1, 0, 1, 2, 0, 2, 0, 73, 0]).unwrap();
    let apart = parse_parameters(&[18, 2, 6, 1, 4, 0, 1, 0, 1, 2, 2, 2, 0, 2, 4, 2, 0, 73, 0]).unwrap();
    assert_eq!(together, apart);
    assert_eq!(together.capabilities.unknown, [73]);
}

// RFC 9072 §2.
#[test]
fn extended_parameters_are_read_and_written() {
    let short = parse_parameters(&[8, 2, 6, 1, 4, 0, 1, 0, 1]).unwrap();
    let long = parse_parameters(&[255, 255, 0, 9, 2, 0, 6, 1, 4, 0, 1, 0, 1]).unwrap();
    assert_eq!(short, long);
    let mut form = vec![255, 255, 1, 47, 2, 1, 44];
    form.extend([73, 148].into_iter().chain([b'x'; 148]));
    form.extend([75, 148].into_iter().chain([b'x'; 148]));
    assert_eq!(parse_parameters(&form).unwrap().capabilities.unknown, [73, 75]);
}

// RFC 4271 §6.2, RFC 6286 §2.2, RFC 7607 §2.
#[test]
fn errors_have_their_subcodes() {
    let base = BIRD.to_vec();
    let cases: [(usize, Vec<u8>, u8, u8); 6] = [
        (0, vec![3], 2, 1),
        (1, vec![0, 0], 2, 2),
        (3, vec![0, 1], 2, 6),
        (3, vec![0, 2], 2, 6),
        (5, vec![0, 0, 0, 0], 2, 3),
        (10, vec![1], 2, 4),
    ];
    for (at, octets, code, subcode) in cases {
        let mut body = base.clone();
        body[at..at + octets.len()].copy_from_slice(&octets);
        let error = Open::parse(&body).unwrap_err();
        assert_eq!((error.code, error.subcode), (code, subcode), "{at}");
    }
    let mut contradicting = base;
    contradicting[34] = 1;
    assert_eq!(Open::parse(&contradicting).unwrap_err().subcode, 2);
}

#[test]
fn cut_anywhere_is_an_error_and_no_panic() {
    for end in 0..BIRD.len() {
        assert!(Open::parse(&BIRD[..end]).is_err(), "{end}");
    }
}

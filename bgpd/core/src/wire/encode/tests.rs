use std::net::Ipv6Addr;

use super::*;

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

const BLOCK: [u8; 11] = [0x40, 1, 1, 0, 0x40, 2, 0, 0x80, 4, 0, 0];

// RFC 4271 §4.3, octet by octet.
#[test]
fn ipv4_announcement_is_the_classic_form() {
    let next_hop = IpAddr::from([10, 0, 0, 1]).into();
    let mut sent = Vec::new();
    let prefixes = nets(&["10.1.0.0/26", "0.0.0.0/0"]);
    assert!(announce(
        Family::Ipv4,
        &BLOCK[..7],
        next_hop,
        &prefixes,
        4096,
        |bytes, count| {
            sent.push((bytes.to_vec(), count));
        }
    ));
    let (bytes, count) = sent.pop().unwrap();
    assert_eq!((count, sent.len()), (2, 0));
    let expected = [
        0, 43, 2, 0, 0, 0, 14, 0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4, 10, 0, 0, 1, 26, 10, 1, 0, 0, 0,
    ];
    assert_eq!(bytes[16..], expected);
}

// RFC 4760 §3, and RFC 7606 §5.1: MP_REACH_NLRI stands first.
#[test]
fn ipv6_announcement_starts_with_mp_reach() {
    let next_hop = IpAddr::V6(Ipv6Addr::LOCALHOST).into();
    let mut sent: Vec<u8> = Vec::new();
    let prefixes = nets(&["2001:db8::/32"]);
    announce(
        Family::Ipv6,
        &BLOCK[..7],
        next_hop,
        &prefixes,
        4096,
        |bytes, _| {
            sent.extend(bytes);
        },
    );
    let mut expected = vec![0, 60, 2, 0, 0, 0, 37, 0x90, 14, 0, 26, 0, 2, 1, 16];
    expected.extend(Ipv6Addr::LOCALHOST.octets());
    expected.extend([0, 32, 0x20, 1, 0x0d, 0xb8, 0x40, 1, 1, 0, 0x40, 2, 0]);
    assert_eq!(sent[16..], expected);
}

// RFC 4271 §4, RFC 8654.
#[test]
fn messages_are_filled_and_never_longer_than_the_limit() {
    let prefixes: Vec<IpNet> = (0..3000_u32)
        .map(|number| {
            let [_, _, high, low] = number.to_be_bytes();
            format!("10.{high}.{low}.0/24").parse().unwrap()
        })
        .collect();
    let next_hop = IpAddr::from([10, 0, 0, 1]).into();
    let mut counts = Vec::new();
    announce(
        Family::Ipv4,
        &BLOCK[..7],
        next_hop,
        &prefixes,
        4096,
        |bytes, count| {
            assert!(bytes.len() <= 4096 && bytes.len() > 4092 || counts.len() == 2);
            counts.push(count);
        },
    );
    assert_eq!(counts.iter().sum::<usize>(), 3000);
    let mut withdrawn = 0;
    withdraw(Family::Ipv4, &prefixes, 4096, |bytes, count| {
        assert!(bytes.len() <= 4096);
        withdrawn += count;
    });
    assert_eq!(withdrawn, 3000);
    assert!(!announce(
        Family::Ipv4,
        &BLOCK[..7],
        next_hop,
        &prefixes,
        40,
        |_, _| {
            panic!("no room for a prefix");
        }
    ));
}

// RFC 4724 §2.
#[test]
fn end_of_rib_markers_are_the_shortest_updates() {
    let mut bytes = Vec::new();
    end_of_rib(Family::Ipv4, &mut bytes);
    assert_eq!(bytes[16..], [0, 23, 2, 0, 0, 0, 0]);
    bytes.clear();
    end_of_rib(Family::Ipv6, &mut bytes);
    assert_eq!(bytes[16..], [0, 30, 2, 0, 0, 0, 7, 0x90, 15, 0, 3, 0, 2, 1]);
}

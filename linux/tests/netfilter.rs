//! Sets and tracked connections in the real kernel, in throw-away namespaces. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::process::Command;

use caracal_linux::conntrack::Conntrack;
use caracal_linux::ipset::{IpSets, Member, SetSpec, SetType};
use caracal_linux::netns::NetNs;

fn spec(set_type: SetType, v6: bool) -> SetSpec {
    SetSpec {
        set_type,
        v6,
        max_elements: 200_000,
    }
}

fn net(text: &str) -> Member {
    Member::Net(text.parse().unwrap())
}

#[test]
fn sets_of_every_type_hold_what_was_added() {
    let netns = NetNs::create_anonymous().unwrap();
    let mut sets = IpSets::open_in(&netns).unwrap();
    sets.check_support(SetType::HashNet).unwrap();
    let cases = [
        (
            "a",
            SetType::HashIp,
            false,
            vec![Member::Ip("10.0.0.1".parse().unwrap())],
        ),
        (
            "b",
            SetType::HashNet,
            false,
            vec![net("10.0.0.0/8"), net("10.0.0.1/32"), net("0.0.0.0/1")],
        ),
        (
            "c",
            SetType::HashIpPort,
            false,
            vec![Member::IpPort("10.0.0.1".parse().unwrap(), 17, 53)],
        ),
        (
            "d",
            SetType::HashNet,
            true,
            vec![net("fd00::/64"), net("fd00::1/128")],
        ),
        (
            "e",
            SetType::HashIpPort,
            true,
            vec![Member::IpPort("fd00::1".parse().unwrap(), 132, 9)],
        ),
        (
            "f",
            SetType::HashNetPort,
            false,
            vec![
                Member::NetPort("10.0.0.0/8".parse().unwrap(), 6, 80),
                Member::NetPort("10.0.0.1/32".parse().unwrap(), 6, 80),
                Member::NetPort("10.0.0.1/32".parse().unwrap(), 17, 80),
            ],
        ),
        (
            "g",
            SetType::HashNetPort,
            true,
            vec![Member::NetPort("fd00::/64".parse().unwrap(), 132, 9)],
        ),
    ];
    for (name, set_type, v6, members) in &cases {
        sets.create(name, &spec(*set_type, *v6)).unwrap();
        assert!(sets.create(name, &spec(*set_type, *v6)).unwrap_err().is_exists());
        sets.add(name, members).unwrap();
        sets.add(name, members).unwrap();
        let listed: BTreeSet<_> = sets.members(name).unwrap().into_iter().collect();
        assert_eq!(listed, members.iter().copied().collect(), "{name}");
    }
    let headers = sets.headers().unwrap();
    assert_eq!(headers.len(), cases.len());
    for (header, (name, set_type, v6, members)) in headers.iter().zip(&cases) {
        assert_eq!(&header.name, name);
        assert!(header.matches(&spec(*set_type, *v6)), "{header:?}");
        assert_eq!(header.elements as usize, members.len());
    }
    let (name, _, _, members) = &cases[1];
    sets.delete(name, &members[..1]).unwrap();
    sets.delete(name, &members[..1]).unwrap();
    assert_eq!(sets.members(name).unwrap().len(), 2);
    sets.flush(name).unwrap();
    assert!(sets.members(name).unwrap().is_empty());
    sets.destroy(name).unwrap();
    assert!(sets.destroy(name).unwrap_err().is_not_found());
    assert!(sets.members(name).unwrap_err().is_not_found());
}

#[test]
fn a_hundred_thousand_members_go_in_and_a_full_set_says_so() {
    let netns = NetNs::create_anonymous().unwrap();
    let mut sets = IpSets::open_in(&netns).unwrap();
    sets.create("big", &spec(SetType::HashIp, false)).unwrap();
    let members: Vec<Member> = (0u32..100_000)
        .map(|n| Member::Ip(std::net::Ipv4Addr::from(0x0a00_0000 + n).into()))
        .collect();
    sets.add("big", &members).unwrap();
    assert_eq!(sets.headers().unwrap()[0].elements, 100_000);
    assert_eq!(sets.members("big").unwrap().len(), 100_000);
    let small = SetSpec {
        max_elements: 1,
        ..spec(SetType::HashIp, false)
    };
    sets.create("small", &small).unwrap();
    let error = sets.add("small", &members[..100]).unwrap_err();
    assert_eq!(error.errno(), Some(28), "{error}");
}

#[test]
fn a_set_in_use_is_swapped_but_not_destroyed() {
    let netns = NetNs::create_anonymous().unwrap();
    let mut sets = IpSets::open_in(&netns).unwrap();
    for name in ["used", "other"] {
        sets.create(name, &spec(SetType::HashNet, false)).unwrap();
    }
    sets.add("other", &[net("10.0.0.0/8")]).unwrap();
    let rule = [
        "-A",
        "OUTPUT",
        "-m",
        "set",
        "--match-set",
        "used",
        "dst",
        "-j",
        "DROP",
    ];
    assert!(
        netns
            .output(Command::new("iptables").args(rule))
            .unwrap()
            .status
            .success()
    );
    assert_eq!(
        sets.headers()
            .unwrap()
            .iter()
            .find(|h| h.name == "used")
            .unwrap()
            .references,
        1
    );
    sets.swap("used", "other").unwrap();
    assert_eq!(sets.members("used").unwrap(), [net("10.0.0.0/8")]);
    assert!(sets.destroy("used").unwrap_err().is_busy());
    assert!(sets.rename("used", "third").unwrap_err().is_busy());
    sets.rename("other", "third").unwrap();
}

#[test]
fn what_the_kernel_cannot_hold_is_refused() {
    let netns = NetNs::create_anonymous().unwrap();
    let mut sets = IpSets::open_in(&netns).unwrap();
    sets.create("s", &spec(SetType::HashNet, false)).unwrap();
    assert!(sets.add("s", &[net("0.0.0.0/0")]).is_err());
    assert!(sets.add("s", &[net("fd00::/64")]).is_err());
    assert!(
        sets.create(&"x".repeat(32), &spec(SetType::HashNet, false))
            .is_err()
    );
    assert!(
        sets.add("missing", &[net("10.0.0.0/8")])
            .unwrap_err()
            .is_not_found()
    );
}

#[test]
fn flows_of_an_address_are_deleted_and_others_stay() {
    let netns = NetNs::create_anonymous().unwrap();
    let mut conntrack = Conntrack::open_in(&netns).unwrap();
    for (source, port) in [("10.0.0.1", "1000"), ("10.0.0.2", "1001")] {
        let args = [
            "-I",
            "-p",
            "udp",
            "-s",
            source,
            "-d",
            "10.9.9.9",
            "--sport",
            port,
            "--dport",
            "53",
            "--timeout",
            "100",
        ];
        assert!(
            netns
                .output(Command::new("conntrack").args(args))
                .unwrap()
                .status
                .success()
        );
    }
    assert_eq!(conntrack.flows(false).unwrap().len(), 2);
    assert_eq!(
        conntrack.delete_by_address("10.0.0.1".parse().unwrap()).unwrap(),
        1
    );
    let left = conntrack.flows(false).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(
        (left[0].original.source_port, left[0].original.destination_port),
        (1001, 53)
    );
    conntrack.delete(&left[0]).unwrap();
    conntrack.delete(&left[0]).unwrap();
    assert!(conntrack.flows(false).unwrap().is_empty());
}

//! Every expression and every kind of set in the real kernel, read back by the `nft` program and by ourselves. Needs
//! root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test"
)]

use std::process::Command;

use caracal_linux::netns::NetNs;
use caracal_linux::nftables::*;

const TABLE: TableId<'static> = TableId {
    family: Family::Ip,
    name: "test",
};
const R0: Register = Register(0);

fn nft(netns: &NetNs, script: &str) -> String {
    let output = netns.output(Command::new("nft").args(script.split(' '))).unwrap();
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn commit(kernel: &mut Nftables, write: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    write(&mut batch);
    assert_eq!(kernel.commit(batch).unwrap(), []);
}

fn base(hook: u32) -> Base {
    Base {
        kind: "filter".to_owned(),
        hook,
        priority: 0,
    }
}

fn meta(key: MetaKey) -> Expression {
    Expression::Meta { key, into: R0 }
}

fn payload(base: PayloadBase, offset: u32, len: u32, into: u8) -> Expression {
    let into = Register(into);
    Expression::Payload {
        base,
        offset,
        len,
        into,
    }
}

fn compare(value: &[u8], is_not: bool) -> Expression {
    Expression::Compare {
        register: R0,
        is_not,
        value: value.to_vec(),
    }
}

fn bitwise(mask: u32, xor: u32) -> Expression {
    Expression::Bitwise {
        register: R0,
        mask: mask.to_ne_bytes().to_vec(),
        xor: xor.to_ne_bytes().to_vec(),
    }
}

/// Rules, and what the program reads in them.
fn rules() -> Vec<(Vec<Expression>, &'static str)> {
    use Expression::*;
    let number = |value: u32| value.to_ne_bytes();
    let mut name = b"eth0".to_vec();
    name.resize(16, 0);
    vec![
        (
            vec![
                meta(MetaKey::Mark),
                bitwise(0x10000, 0),
                compare(&number(0x10000), false),
                Verdict(caracal_linux::nftables::Verdict::Return),
            ],
            "meta mark & 0x00010000 == 0x00010000 return",
        ),
        (
            vec![meta(MetaKey::InInterfaceName), compare(b"cali", false), Counter],
            "iifname \"cali*\" counter",
        ),
        (
            vec![meta(MetaKey::OutInterfaceName), compare(&name, true), Counter],
            "oifname != \"eth0\" counter",
        ),
        (
            vec![
                meta(MetaKey::Mark),
                bitwise(!0x30000, 0x20000),
                SetMark { from: R0 },
            ],
            "meta mark set meta mark & 0xfffeffff | 0x00020000",
        ),
        (
            vec![
                Ct {
                    key: CtKey::State,
                    into: R0,
                },
                bitwise(6, 0),
                compare(&number(0), true),
                Verdict(caracal_linux::nftables::Verdict::Accept),
            ],
            "ct state established,related accept",
        ),
        (
            vec![
                Ct {
                    key: CtKey::Status,
                    into: R0,
                },
                bitwise(0x20, 0),
                compare(&number(0), true),
                Verdict(caracal_linux::nftables::Verdict::Drop),
            ],
            "ct status dnat drop",
        ),
        (
            vec![
                Fib {
                    result: FibResult::AddressType,
                    flags: 2,
                    into: R0,
                },
                compare(&number(2), false),
                Counter,
            ],
            "fib daddr type local counter",
        ),
        (
            vec![
                payload(PayloadBase::Network, 12, 4, 0),
                bitwise(u32::from_ne_bytes([255, 255, 255, 128]), 0),
                compare(&[10, 0, 0, 0], true),
                Counter,
            ],
            "ip saddr != 10.0.0.0/25 counter",
        ),
        (
            vec![
                meta(MetaKey::TransportProtocol),
                compare(&[6], false),
                payload(PayloadBase::Transport, 2, 2, 0),
                Range {
                    register: R0,
                    is_not: false,
                    from: vec![0, 80],
                    to: vec![0, 90],
                },
                Counter,
            ],
            "tcp dport 80-90 counter",
        ),
        (
            vec![
                meta(MetaKey::TransportProtocol),
                compare(&[1], false),
                payload(PayloadBase::Transport, 0, 1, 0),
                compare(&[8], false),
                Counter,
            ],
            "icmp type echo-request counter",
        ),
        (
            vec![
                payload(PayloadBase::Network, 16, 4, 0),
                Meta {
                    key: MetaKey::TransportProtocol,
                    into: Register(1),
                },
                payload(PayloadBase::Transport, 2, 2, 2),
                Lookup {
                    set: "hosts".to_owned(),
                    register: R0,
                    is_not: true,
                },
                Counter,
            ],
            "ip daddr . meta l4proto . th dport != @hosts counter",
        ),
        (
            vec![
                payload(PayloadBase::Network, 12, 4, 0),
                Lookup {
                    set: "nets".to_owned(),
                    register: R0,
                    is_not: false,
                },
                Counter,
            ],
            "ip saddr @nets counter",
        ),
        (
            vec![
                meta(MetaKey::InInterfaceName),
                VerdictMap {
                    map: "ways".to_owned(),
                    register: R0,
                },
            ],
            "iifname vmap @ways",
        ),
        (
            vec![
                Limit {
                    packets: 10,
                    per_seconds: 60,
                    burst: 5,
                    is_above: true,
                },
                Counter,
            ],
            "limit rate over 10/minute",
        ),
        (
            vec![ConnectionsAbove { count: 7 }, Counter],
            "ct count over 7 counter",
        ),
        (
            vec![Log {
                prefix: "calico-packet: ".to_owned(),
                level: 5,
            }],
            "log prefix \"calico-packet: \" level notice",
        ),
        (
            vec![NetlinkLog {
                group: 1,
                prefix: "x".to_owned(),
            }],
            "log prefix \"x\" group 1",
        ),
        (vec![Reject(RejectWith::Unreachable(3))], "reject"),
        (
            vec![
                meta(MetaKey::TransportProtocol),
                compare(&[6], false),
                Reject(RejectWith::Reset),
            ],
            "reject with tcp reset",
        ),
        (
            vec![Verdict(caracal_linux::nftables::Verdict::Jump(
                "other".to_owned(),
            ))],
            "jump other",
        ),
        (
            vec![Verdict(caracal_linux::nftables::Verdict::Goto(
                "other".to_owned(),
            ))],
            "goto other",
        ),
    ]
}

fn spec(key_type: u32, key_len: u32, fields: &[u32], is_interval: bool, is_verdict_map: bool) -> SetSpec {
    SetSpec {
        key_type,
        key_len,
        fields: fields.to_vec(),
        is_interval,
        is_verdict_map,
    }
}

fn key(bytes: &[u8]) -> Element {
    Element::of(Key::new(bytes).unwrap())
}

fn end(bytes: &[u8]) -> Element {
    Element {
        is_end: true,
        ..key(bytes)
    }
}

const SERVICE: u32 = (7 << 6 | 12) << 6 | 13;

fn sets(batch: &mut Batch) -> Vec<(&'static str, SetSpec, Vec<Element>, &'static str)> {
    let host = [10, 0, 0, 1, 6, 0, 0, 0, 0, 80, 0, 0];
    let (first, last) = (
        [10, 0, 0, 0, 6, 0, 0, 0, 0, 80, 0, 0],
        [10, 0, 0, 255, 6, 0, 0, 0, 0, 80, 0, 0],
    );
    let mut name = b"cali1".to_vec();
    name.resize(16, 0);
    let interval = Element {
        key_end: Key::new(&last),
        ..key(&first)
    };
    let way = Element {
        verdict: Some(Verdict::Goto("other".to_owned())),
        ..key(&name)
    };
    let sets = vec![
        (
            "addresses",
            spec(7, 4, &[], false, false),
            vec![key(&[10, 0, 0, 1]), key(&[10, 0, 0, 2])],
            "10.0.0.1, 10.0.0.2",
        ),
        (
            "nets",
            spec(7, 4, &[], true, false),
            // Two that touch, and one up to the last address.
            vec![
                key(&[10, 0, 0, 0]),
                end(&[10, 0, 1, 0]),
                key(&[10, 0, 1, 0]),
                end(&[10, 0, 2, 0]),
                key(&[255, 255, 255, 0]),
            ],
            "10.0.0.0/24, 10.0.1.0/24,\n\t\t\t     255.255.255.0/24",
        ),
        (
            "hosts",
            spec(SERVICE, 12, &[4, 1, 2], false, false),
            vec![key(&host)],
            "10.0.0.1 . tcp . 80",
        ),
        (
            "net-ports",
            spec(SERVICE, 12, &[4, 1, 2], true, false),
            vec![interval],
            "10.0.0.0/24 . tcp . 80",
        ),
        (
            "ports",
            spec(13, 2, &[], true, false),
            vec![key(&[0, 80]), end(&[0, 81]), key(&[0xff, 0])],
            "80, 65280-65535",
        ),
        (
            "ways",
            spec(41, 16, &[], false, true),
            vec![way],
            "\"cali1\" : goto other",
        ),
    ];
    batch.add_chain(TABLE, "other", None);
    for (name, spec, elements, _) in &sets {
        batch.add_set(TABLE, name, spec);
        batch.add_elements(TABLE, name, elements);
    }
    sets
}

#[test]
fn every_expression_and_set_reads_as_meant() {
    let netns = NetNs::create_anonymous().unwrap();
    let mut kernel = Nftables::open_in(&netns).unwrap();
    assert!(!kernel.has_table(TABLE).unwrap());
    assert!(kernel.rules(TABLE, None).unwrap().is_empty() && kernel.sets(TABLE).unwrap().is_empty());
    let mut written = Vec::new();
    commit(&mut kernel, |batch| {
        batch.add_table(TABLE);
        written = sets(batch);
        batch.add_chain(TABLE, "in", Some(&base(1)));
        for (number, (expressions, _)) in rules().iter().enumerate() {
            let userdata = comment(&format!("cali:{number};"));
            batch.add_rule(TABLE, "in", Place::End, expressions, &userdata);
        }
    });
    let listed = nft(&netns, "list table ip test");
    for (number, (_, text)) in rules().iter().enumerate() {
        let line = listed
            .lines()
            .find(|line| line.contains(&format!("cali:{number};")));
        let line = line.unwrap_or_else(|| panic!("rule {number} is missing\n{listed}"));
        let line = line.replace(" packets 0 bytes 0", "");
        assert!(line.trim().starts_with(text), "{line}\ninstead of {text}");
    }
    for (name, spec, elements, text) in &written {
        let set = listed
            .split(&format!(" {name} {{\n"))
            .nth(1)
            .unwrap()
            .split('}')
            .next()
            .unwrap();
        assert!(set.contains(text), "{name}: {set}\ninstead of {text}");
        assert!(kernel.set(TABLE, name).unwrap().unwrap().matches(spec), "{name}");
        let mut found = kernel.elements(TABLE, name).unwrap();
        let mut elements = elements.clone();
        found.sort();
        elements.sort();
        assert_eq!(found, elements, "{name}");
    }
    assert_eq!(kernel.sets(TABLE).unwrap().len(), written.len());
    assert_eq!(kernel.chain(TABLE, "in").unwrap().unwrap().base, Some(base(1)));
    assert_eq!(kernel.chain(TABLE, "none").unwrap(), None);
    let found = kernel.rules(TABLE, Some("in")).unwrap();
    assert_eq!(found.len(), rules().len());
    assert_eq!(comment_of(&found[3].userdata), Some("cali:3;"));
}

#[test]
fn translation_and_what_is_not_tracked() {
    use Expression::*;
    let netns = NetNs::create_anonymous().unwrap();
    let mut kernel = Nftables::open_in(&netns).unwrap();
    let immediate = |value: &[u8], into| Immediate {
        value: value.to_vec(),
        into: Register(into),
    };
    let (ports, random) = (Some((Register(4), Register(5))), 0x10);
    commit(&mut kernel, |batch| {
        batch.add_table(TABLE);
        let kind = "nat".to_owned();
        let post = Base {
            kind,
            hook: 4,
            priority: 110,
        };
        let pre = Base {
            hook: 0,
            priority: -100,
            ..post.clone()
        };
        batch.add_chain(TABLE, "post", Some(&post));
        batch.add_chain(TABLE, "pre", Some(&pre));
        let raw = Base {
            priority: -300,
            ..base(0)
        };
        batch.add_chain(TABLE, "raw", Some(&raw));
        let tcp = [meta(MetaKey::TransportProtocol), compare(&[6], false)];
        let range = [immediate(&[0x10, 0], 4), immediate(&[0x20, 0], 5)];
        let masquerade = tcp
            .iter()
            .chain(&range)
            .cloned()
            .chain([Masquerade { flags: random, ports }]);
        batch.add_rule(TABLE, "post", Place::End, &masquerade.collect::<Vec<_>>(), &[]);
        batch.add_rule(
            TABLE,
            "post",
            Place::End,
            &[Masquerade {
                flags: 0,
                ports: None,
            }],
            &[],
        );
        let (family, address) = (Family::Ip, R0);
        let to = immediate(&[192, 0, 2, 1], 0);
        let source = Nat {
            kind: NatKind::Source,
            family,
            address,
            ports,
            flags: random,
        };
        let rule = tcp.iter().chain([&to]).chain(&range).cloned().chain([source]);
        batch.add_rule(TABLE, "post", Place::End, &rule.collect::<Vec<_>>(), &[]);
        let destination = Nat {
            kind: NatKind::Destination,
            family,
            address,
            ports: None,
            flags: 0,
        };
        batch.add_rule(
            TABLE,
            "pre",
            Place::End,
            &[immediate(&[192, 0, 2, 2], 0), destination],
            &[],
        );
        batch.add_rule(
            TABLE,
            "raw",
            Place::End,
            &[
                Fib {
                    result: FibResult::Interface,
                    flags: 13,
                    into: R0,
                },
                compare(&[0; 4], false),
                NoTrack,
            ],
            &[],
        );
    });
    let listed = nft(&netns, "list table ip test");
    for text in [
        "meta l4proto tcp masquerade to :4096-8192 fully-random",
        "masquerade\n",
        "meta l4proto tcp snat to 192.0.2.1:4096-8192 fully-random",
        "dnat to 192.0.2.2",
        "fib saddr . mark . iif oif",
        "notrack",
    ] {
        assert!(listed.contains(text), "{text} is missing\n{listed}");
    }
}

#[test]
fn rules_go_where_they_are_told_and_a_refusal_names_its_culprits() {
    let netns = NetNs::create_anonymous().unwrap();
    let mut kernel = Nftables::open_in(&netns).unwrap();
    let accept = [Expression::Verdict(Verdict::Accept)];
    let rule =
        |batch: &mut Batch, place, name: &str| batch.add_rule(TABLE, "c", place, &accept, &comment(name));
    commit(&mut kernel, |batch| {
        batch.add_table(TABLE);
        batch.add_chain(TABLE, "c", None);
        rule(batch, Place::End, "a");
        rule(batch, Place::End, "d");
    });
    let names = |kernel: &mut Nftables| -> Vec<String> {
        let rules = kernel.rules(TABLE, Some("c")).unwrap();
        rules
            .iter()
            .map(|rule| comment_of(&rule.userdata).unwrap().to_owned())
            .collect()
    };
    let handles: Vec<u64> = kernel
        .rules(TABLE, None)
        .unwrap()
        .iter()
        .map(|rule| rule.handle)
        .collect();
    commit(&mut kernel, |batch| {
        rule(batch, Place::Before(handles[1]), "b");
        rule(batch, Place::Before(handles[1]), "c");
        rule(batch, Place::End, "e");
        rule(batch, Place::Replace(handles[0]), "A");
    });
    assert_eq!(names(&mut kernel), ["A", "b", "c", "d", "e"]);

    let mut batch = Batch::new();
    batch.add_chain(TABLE, "x", None);
    let lookup = Expression::Lookup {
        set: "absent".to_owned(),
        register: R0,
        is_not: false,
    };
    let first = batch.add_rule(
        TABLE,
        "x",
        Place::End,
        &[payload(PayloadBase::Network, 12, 4, 0), lookup],
        &[],
    );
    batch.add_chain(TABLE, "y", None);
    let second = batch.delete_chain(TABLE, "nowhere");
    batch.delete_rule(TABLE, "c", handles[1]);
    let refused = kernel.commit(batch).unwrap();
    let named: Vec<(Option<usize>, i32)> = refused.iter().map(|one| (one.message, one.errno)).collect();
    assert_eq!(named, [(Some(first), 2), (Some(second), 2)]);
    assert_eq!(names(&mut kernel).len(), 5);
    assert_eq!(kernel.chain(TABLE, "x").unwrap(), None);
}

#[test]
fn a_hundred_thousand_prefixes_in_one_transaction_and_one_more() {
    let netns = NetNs::create_anonymous().unwrap();
    let mut kernel = Nftables::open_in(&netns).unwrap();
    let nets = spec(7, 4, &[], true, false);
    let pair = |n: u32| {
        let first = 0x0a00_0000 + 2 * n;
        [key(&first.to_be_bytes()), end(&(first + 1).to_be_bytes())]
    };
    let elements: Vec<Element> = (0..100_000).flat_map(pair).collect();
    commit(&mut kernel, |batch| {
        batch.add_table(TABLE);
        batch.add_set(TABLE, "big", &nets);
        batch.add_elements(TABLE, "big", &elements);
    });
    commit(&mut kernel, |batch| {
        batch.add_elements(TABLE, "big", &pair(100_000));
        batch.delete_elements(TABLE, "big", &pair(7));
    });
    assert_eq!(kernel.elements(TABLE, "big").unwrap().len(), 200_000);
}

/// What is heard up to a change, and what is there to read behind it.
async fn until(watch: &mut Watch, touched: &Touched) -> Vec<Notice> {
    let mut heard = Vec::new();
    while !heard.iter().any(|notice: &Notice| notice.touched == *touched) {
        let Heard::Notices(more) = watch.next().await.unwrap() else {
            panic!("lost")
        };
        heard.extend(more);
    }
    let Heard::Notices(more) = watch.read() else {
        panic!("lost")
    };
    heard.extend(more);
    heard
}

#[test]
fn changes_of_others_are_heard() {
    let netns = NetNs::create_anonymous().unwrap();
    netns
        .run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut kernel = Nftables::open().unwrap();
                let mut watch = Watch::open().unwrap();
                commit(&mut kernel, |batch| {
                    batch.add_table(TABLE);
                    batch.add_chain(TABLE, "c", None);
                    sets(batch);
                });
                let Heard::Notices(own) = watch.read() else {
                    panic!("lost")
                };
                assert!(
                    own.iter()
                        .all(|notice| notice.port == kernel.port() && notice.table == "test")
                );
                assert!(own.len() > 5 && own[0].touched == Touched::Table, "{own:?}");
                for (script, touched) in [
                    ("add rule ip test c drop", Touched::Chain("c".to_owned())),
                    ("flush chain ip test c", Touched::Chain("c".to_owned())),
                    (
                        "flush set ip test addresses",
                        Touched::Set("addresses".to_owned()),
                    ),
                    ("delete chain ip test c", Touched::Chain("c".to_owned())),
                ] {
                    Command::new("nft").args(script.split(' ')).status().unwrap();
                    let heard = until(&mut watch, &touched).await;
                    assert!(
                        heard
                            .iter()
                            .all(|notice| notice.touched == touched && notice.port != kernel.port()),
                        "{script}: {heard:?}"
                    );
                }
                Command::new("nft")
                    .args(["delete", "table", "ip", "test"])
                    .status()
                    .unwrap();
                until(&mut watch, &Touched::Table).await;
            });
        })
        .unwrap();
}

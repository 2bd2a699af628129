use super::*;

/// `eth0=10.0.0.1/24,fd00::1/64 down:eth1=...`: interfaces from the oldest to the youngest.
fn machine(text: &str) -> Machine {
    let interfaces = text
        .split_whitespace()
        .zip(1..)
        .map(|(text, index)| {
            let (name, addresses) = text.split_once('=').unwrap();
            Interface {
                index,
                name: name.trim_start_matches("down:").to_owned(),
                up: !name.starts_with("down:"),
                addresses: addresses.split(',').map(|net| net.parse().unwrap()).collect(),
            }
        })
        .collect();
    Machine {
        interfaces,
        ..Machine::default()
    }
}

const HOST: &str = "lo=127.0.0.1/8,::1/128 eth0=192.0.2.5/24,2001:db8::5/64,fe80::5/64 bond0=10.1.1.11/24,fd00:1::11/64 \
                    down:eth7=10.9.9.9/24 docker0=172.17.0.1/16 cali123=169.254.1.1/32 vxlan.calico=10.244.0.0/32";

fn chosen(method: &str, family: Family, machine: &Machine) -> String {
    let detection = detect(&method.parse().unwrap(), family, machine);
    match detection.chosen {
        Some((address, interface)) => format!("{address} {interface}"),
        None => detection.because,
    }
}

#[test]
fn first_found_is_the_youngest_interface_of_the_machine_itself() {
    let host = machine(HOST);
    assert_eq!(chosen("first-found", Family::V4, &host), "10.1.1.11/24 bond0");
    assert_eq!(chosen("first-found", Family::V6, &host), "fd00:1::11/64 bond0");
    let detection = detect(&Method::FirstFound, Family::V4, &host);
    let told: Vec<String> = detection.candidates.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "vxlan.calico 10.244.0.0/32: the interface is one that programs make",
            "cali123 169.254.1.1/32: a link-local address",
            "docker0 172.17.0.1/16: the interface is one that programs make",
            "eth7 10.9.9.9/24: the interface is down",
            "bond0 10.1.1.11/24: fits",
            "eth0 192.0.2.5/24: fits",
            "lo 127.0.0.1/8: a loopback address",
        ]
    );
    assert_eq!(
        chosen(
            "first-found",
            Family::V4,
            &machine("lo=127.0.0.1/8 docker0=172.17.0.1/16")
        ),
        "no IPv4 address fits: looked for the first address found"
    );
}

#[test]
fn interfaces_are_taken_and_skipped_by_patterns_that_match_a_part() {
    let host = machine(HOST);
    assert_eq!(chosen("interface=eth", Family::V4, &host), "192.0.2.5/24 eth0");
    assert_eq!(
        chosen("interface=docker.*", Family::V4, &host),
        "172.17.0.1/16 docker0"
    );
    assert_eq!(
        chosen("interface=^h0$, eth0", Family::V6, &host),
        "2001:db8::5/64 eth0"
    );
    assert_eq!(
        chosen("skip-interface=bond.*", Family::V4, &host),
        "192.0.2.5/24 eth0"
    );
    assert!(chosen("interface=wlan", Family::V4, &host).contains("matches wlan"));
}

#[test]
fn ranges_choose_among_all_interfaces() {
    let host = machine(HOST);
    assert_eq!(
        chosen("cidr=192.0.2.0/24,198.51.100.0/24", Family::V4, &host),
        "192.0.2.5/24 eth0"
    );
    assert_eq!(
        chosen("cidr=172.16.0.0/12", Family::V4, &host),
        "172.17.0.1/16 docker0"
    );
    assert!(chosen("cidr=172.16.0.0/12", Family::V6, &host).contains("no IPv6"));
}

#[test]
fn the_own_address_towards_a_destination_gets_its_networks_length() {
    let mut host = machine(HOST);
    host.towards = Some(Ok("192.0.2.5".parse().unwrap()));
    assert_eq!(
        chosen("can-reach=198.51.100.1", Family::V4, &host),
        "192.0.2.5/24 eth0"
    );
    assert!(chosen("can-reach=198.51.100.1", Family::V6, &host).contains("no IPv6 address"));
    host.towards = Some(Err("network is unreachable".to_owned()));
    assert_eq!(
        chosen("can-reach=tor.example", Family::V4, &host),
        "tor.example cannot be reached over IPv4: network is unreachable"
    );
}

#[test]
fn the_internal_ip_counts_unless_another_method_is_named() {
    let mut host = machine(HOST);
    host.internal_ips = vec!["2001:db8::5".parse().unwrap(), "192.0.2.5".parse().unwrap()];
    assert_eq!(
        chosen("kubernetes-internal-ip", Family::V4, &host),
        "192.0.2.5/24 eth0"
    );
    let found = detect(&Method::Default, Family::V4, &host);
    assert_eq!(found.chosen.unwrap().0.to_string(), "192.0.2.5/24");
    assert_eq!(chosen("first-found", Family::V4, &host), "10.1.1.11/24 bond0");
    // An address that this machine does not have is no good guess, and is taken when it was asked for.
    host.internal_ips = vec!["203.0.113.9".parse().unwrap()];
    let found = detect(&Method::Default, Family::V4, &host);
    assert_eq!(found.chosen.unwrap().0.to_string(), "10.1.1.11/24");
    assert!(found.because.contains("203.0.113.9"), "{}", found.because);
    assert_eq!(
        chosen("kubernetes-internal-ip", Family::V4, &host),
        "203.0.113.9/32 -"
    );
}

#[test]
fn methods_that_cannot_be_read_say_what_to_write() {
    for (text, expected) in [
        ("second-found", "use first-found"),
        ("interface=", "regular expression"),
        ("interface=a(", "no regular expression"),
        ("cidr=10.0.0.0", "no range"),
        ("cidr=", "names no range"),
        ("can-reach=", "can-reach=HOST"),
        ("first-found=1", "use first-found"),
    ] {
        let error = text.parse::<Method>().unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

use caracal_api::v3::EncapsulationMode;

use super::*;

fn read(text: &str) -> Result<Environment, Problems> {
    let variables = text
        .split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.replace('_', " ").replace('~', "_")))
        .collect();
    Environment::read(&variables, "Host-1\n")
}

#[test]
fn the_name_comes_from_the_first_that_says_it() {
    let check = |text, node, kubernetes| {
        let environment = read(text).unwrap();
        assert_eq!(
            (environment.node.as_str(), environment.kubernetes_node.as_str()),
            (node, kubernetes)
        );
    };
    check("", "host-1", "host-1");
    check("HOSTNAME=Pod-7", "pod-7", "pod-7");
    check("NODENAME=n1 HOSTNAME=Pod-7", "n1", "n1");
    check("NODENAME=n1 CALICO_K8S_NODE_REF=k1", "n1", "k1");
    let variables = BTreeMap::new();
    let error = Environment::read(&variables, "").unwrap_err().to_string();
    assert!(error.contains("set NODENAME"), "{error}");
}

#[test]
fn addresses_are_fixed_detected_or_none() {
    let environment = read("IP=10.0.0.5/24 IP6=autodetect").unwrap();
    assert_eq!(
        environment.v4.source,
        Source::Fixed("10.0.0.5".parse().unwrap(), Some(24))
    );
    assert_eq!(environment.v6.source, Source::Detect);
    let environment = read("IP=none IP6=fd00::5").unwrap();
    assert_eq!(environment.v4.source, Source::Off);
    assert_eq!(
        environment.v6.source,
        Source::Fixed("fd00::5".parse().unwrap(), None)
    );
    assert_eq!(read("").unwrap().v4.source, Source::Unset);
}

#[test]
fn every_bad_value_is_named_with_its_remedy() {
    let problems = read(
        "IP=10.0.0.300 IP6=10.0.0.1 AS=x IP_AUTODETECTION_METHOD=cidr=10.0.0.0 CALICO_NETWORKING_BACKEND=gobgp \
         AUTODETECT_POLL_INTERVAL=fast CALICO_IPV4POOL_BLOCK_SIZE=12 CALICO_IPV4POOL_CIDR=fd00::/48 \
         CALICO_IPV6POOL_VXLAN=sometimes CALICO_IPV4POOL_NODE_SELECTOR=a==",
    )
    .unwrap_err();
    let named: Vec<&str> = problems.0.iter().map(|problem| problem.variable).collect();
    let expected = [
        "CALICO_NETWORKING_BACKEND",
        "IP",
        "IP_AUTODETECTION_METHOD",
        "IP6",
        "AS",
        "AUTODETECT_POLL_INTERVAL",
        "CALICO_IPV4POOL_CIDR",
        "CALICO_IPV4POOL_BLOCK_SIZE",
        "CALICO_IPV4POOL_NODE_SELECTOR",
        "CALICO_IPV6POOL_VXLAN",
    ];
    assert_eq!(named, expected, "{problems}");
    assert!(
        problems
            .to_string()
            .contains("IP6=\"10.0.0.1\": is no IPv6 address")
    );
}

#[test]
fn pools_are_as_calico_makes_them() {
    let pools = read("").unwrap().pools;
    assert_eq!(pools.v4.range, Range::Choose);
    assert!(pools.v4.nat_outgoing && !pools.v6.nat_outgoing);
    assert_eq!((pools.v4.block_size, pools.v6.block_size), (26, 122));
    let pools = read(
        "CALICO_IPV4POOL_CIDR=10.244.0.1/16 CALICO_IPV4POOL_IPIP=CrossSubnet CALICO_IPV6POOL_CIDR=none \
         CALICO_IPV4POOL_NAT_OUTGOING=No CALICO_IPV4POOL_NODE_SELECTOR=has(rack)",
    )
    .unwrap()
    .pools;
    assert_eq!(pools.v4.range, Range::Given("10.244.0.0/16".parse().unwrap()));
    assert_eq!(pools.v4.ipip, EncapsulationMode::CrossSubnet);
    assert!(!pools.v4.nat_outgoing);
    assert_eq!(pools.v4.node_selector, "has(rack)");
    assert_eq!(pools.v6.range, Range::None);
    assert!(read("NO_DEFAULT_POOLS=true CALICO_IPV4POOL_CIDR=10.0.0.0/8").is_err());
    assert!(read("CALICO_IPV4POOL_IPIP=Always CALICO_IPV4POOL_VXLAN=Always").is_err());
    assert_eq!(read("NO_DEFAULT_POOLS=True").unwrap().pools.v4.range, Range::None);
}

#[test]
fn times_are_written_as_in_go() {
    assert_eq!(read("").unwrap().poll.as_secs(), 60);
    assert_eq!(read("AUTODETECT_POLL_INTERVAL=1m30s").unwrap().poll.as_secs(), 90);
    assert!(read("AUTODETECT_POLL_INTERVAL=0s").is_err());
    assert!(read("AUTODETECT_POLL_INTERVAL=-5s").is_err());
}

#[test]
fn every_variable_that_is_read_is_in_the_table() {
    let sources = [include_str!("../environment.rs"), include_str!("pools.rs")];
    for source in sources {
        for name in source.split('"').filter(|text| {
            text.len() > 1
                && text
                    .chars()
                    .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        }) {
            assert!(VARIABLES.iter().any(|variable| variable.name == name), "{name}");
        }
    }
}

/// `CARACAL_WRITE_REFERENCE=1` (`make reference`) writes the table anew.
#[test]
fn the_documentation_has_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/node.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (start, end) = ("<!-- variables -->\n", "<!-- end of variables -->");
    let (before, rest) = text.split_once(start).unwrap();
    let (table, after) = rest.split_once(end).unwrap();
    let wanted = markdown();
    if std::env::var_os("CARACAL_WRITE_REFERENCE").is_some() {
        std::fs::write(path, format!("{before}{start}{wanted}{end}{after}")).unwrap();
    } else {
        assert_eq!(table, wanted, "run `make reference`");
    }
}

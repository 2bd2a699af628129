use super::*;

fn sample() -> AddResult {
    AddResult {
        interfaces: vec![
            Interface {
                name: "cali0123456789a".into(),
                ..Interface::default()
            },
            Interface {
                name: "eth0".into(),
                mac: "02:00:00:00:00:01".into(),
                mtu: 1450,
                sandbox: "/run/netns/a".into(),
                ..Interface::default()
            },
        ],
        ips: ["10.244.0.5/32", "fd00::5/128"]
            .into_iter()
            .map(|address| IpConfig {
                interface: Some(1),
                address: address.parse().unwrap(),
                gateway: None,
            })
            .collect(),
        routes: vec![Route {
            mtu: Some(1400),
            ..Route::to("10.244.0.5/32".parse().unwrap())
        }],
        dns: Dns::default(),
    }
}

#[test]
fn each_version_gets_its_own_form() {
    assert_eq!(
        sample().to_json(Version::V1_1_0),
        json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": "cali0123456789a"},
                {"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1450, "sandbox": "/run/netns/a"},
            ],
            "ips": [
                {"interface": 1, "address": "10.244.0.5/32"},
                {"interface": 1, "address": "fd00::5/128"},
            ],
            "routes": [{"dst": "10.244.0.5/32", "mtu": 1400}],
            "dns": {},
        })
    );
    let v100 = sample().to_json(Version::V1_0_0);
    assert_eq!(
        v100["ips"][0],
        json!({"interface": 1, "address": "10.244.0.5/32"})
    );
    assert_eq!(v100["interfaces"][1].get("mtu"), None);
    assert_eq!(v100["routes"][0], json!({"dst": "10.244.0.5/32"}));
    for version in [Version::V0_3_0, Version::V0_3_1, Version::V0_4_0] {
        let document = sample().to_json(version);
        assert_eq!(document["cniVersion"], version.as_str());
        assert_eq!(document["ips"][0]["version"], "4");
        assert_eq!(document["ips"][1]["version"], "6");
        assert_eq!(document["interfaces"][1].get("mtu"), None);
    }
    for version in [Version::V0_1_0, Version::V0_2_0] {
        assert_eq!(
            sample().to_json(version),
            json!({
                "cniVersion": version.as_str(),
                "ip4": {"ip": "10.244.0.5/32", "routes": [{"dst": "10.244.0.5/32"}]},
                "ip6": {"ip": "fd00::5/128"},
                "dns": {},
            })
        );
    }
}

#[test]
fn what_is_written_is_read_back() {
    let newest = sample();
    assert_eq!(
        AddResult::from_json(&newest.to_json(Version::V1_1_0), Version::DEFAULT).unwrap(),
        newest
    );
    for version in Version::ALL {
        let document = newest.to_json(version);
        let again = AddResult::from_json(&document, Version::NEWEST).unwrap();
        assert_eq!(again.to_json(version), document);
        assert_eq!(again.ips.len(), 2, "{version}");
    }
}

#[test]
fn a_result_without_version_has_the_one_of_the_request() {
    let document = json!({"ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1"}], "dns": {}});
    let result = AddResult::from_json(&document, Version::V1_0_0).unwrap();
    assert_eq!(result.ips.len(), 1);
    assert_eq!(result.ips[0].gateway, Some("10.1.0.1".parse().unwrap()));
}

#[test]
fn wrong_results_are_refused_with_their_path() {
    for (bad, path) in [
        (json!([]), "not a JSON object"),
        (json!({"cniVersion": "1.0.0", "ips": [{}]}), "ips[0].address"),
        (
            json!({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.1"}]}),
            "ips[0].address",
        ),
        (
            json!({"cniVersion": "1.0.0", "ips": {"address": "10.0.0.1/8"}}),
            "ips is",
        ),
        (json!({"cniVersion": "0.2.0", "ip4": {"ip": "x"}}), "ip4.ip"),
        (
            json!({"cniVersion": "1.0.0", "routes": [{"dst": "0/0"}]}),
            "routes[0].dst",
        ),
        (
            json!({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.1/8", "interface": -1}]}),
            "interface",
        ),
        (json!({"cniVersion": "9.0.0"}), "9.0.0"),
    ] {
        let error = AddResult::from_json(&bad, Version::V1_0_0).unwrap_err();
        assert!(error.message.contains(path), "{bad}: {error}");
    }
}

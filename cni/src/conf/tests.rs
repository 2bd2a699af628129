use serde_json::json;

use super::*;

fn parse(document: &Value) -> Result<Conf> {
    Conf::parse(document.to_string().as_bytes())
}

#[test]
fn the_installed_configuration_is_read() {
    let conf = parse(&json!({
        "cniVersion": "1.0.0", "name": "k8s-pod-network", "type": "calico",
        "log_level": "info", "log_file_path": "/var/log/calico/cni/cni.log",
        "datastore_type": "kubernetes", "nodename": "node-1", "mtu": 1450,
        "ipam": {"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true", "ipv4_pools": ["blue"]},
        "policy": {"type": "k8s"},
        "kubernetes": {"kubeconfig": "/etc/cni/net.d/calico-kubeconfig"},
    }))
    .unwrap();
    assert_eq!(conf.version, Version::V1_0_0);
    assert!(conf.is_calico_ipam());
    assert!(conf.ipam.assign_ipv4 && conf.ipam.assign_ipv6);
    assert_eq!(conf.ipam.ipv4_pools, ["blue"]);
    assert_eq!(conf.device.mtu, Some(1450));
    assert_eq!(conf.device.queues, 1);
    assert_eq!(conf.node.name, "node-1");
    assert_eq!(conf.log.max_size_bytes, 100 << 20);
    assert_eq!(conf.valid_attachments, None);
}

#[test]
fn defaults_are_calicos() {
    let conf = parse(&json!({"name": "n"})).unwrap();
    assert_eq!(conf.version, Version::V0_2_0);
    assert!(conf.ipam.assign_ipv4 && !conf.ipam.assign_ipv6);
    assert_eq!(conf.node.file, PathBuf::from("/var/lib/calico/nodename"));
    assert_eq!(conf.ipam.lock_file, PathBuf::from("/var/run/calico/ipam.lock"));
    assert_eq!(conf.device.mtu, None);
}

#[test]
fn wrong_fields_are_refused_by_name() {
    for (document, part, code) in [
        (json!({}), "name is missing", Code::InvalidConfig),
        (json!({"name": "a b"}), "name is \"a b\"", Code::InvalidConfig),
        (
            json!({"name": "n", "cniVersion": "9.9.9"}),
            "9.9.9",
            Code::IncompatibleVersion,
        ),
        (
            json!({"name": "n", "mtu": "1500"}),
            "mtu is \"1500\"",
            Code::InvalidConfig,
        ),
        (json!({"name": "n", "mtu": 20}), "mtu is 20", Code::InvalidConfig),
        (
            json!({"name": "n", "device_type": "tap"}),
            "device_type",
            Code::InvalidConfig,
        ),
        (
            json!({"name": "n", "datastore_type": "etcdv3"}),
            "datastore_type",
            Code::InvalidConfig,
        ),
        (
            json!({"name": "n", "policy_setup_timeout_seconds": -1}),
            "policy_setup",
            Code::InvalidConfig,
        ),
        (
            json!({"name": "n", "ipam": []}),
            "ipam is []",
            Code::InvalidConfig,
        ),
        (
            json!({"name": "n", "ipam": {"assign_ipv4": "no"}}),
            "ipam.assign_ipv4",
            Code::InvalidConfig,
        ),
        (
            json!({"name": "n", "kubernetes": {"kubeconfig": 1}}),
            "kubernetes.kubeconfig",
            Code::InvalidConfig,
        ),
    ] {
        let error = parse(&document).unwrap_err();
        assert!(error.message.contains(part), "{document}: {error}");
        assert_eq!(error.code, code, "{document}");
        assert!(!error.details.is_empty(), "{document}");
    }
    for text in ["", "[]", "{\"name\":", "null"] {
        assert_eq!(
            Conf::parse(text.as_bytes()).unwrap_err().code,
            Code::Decode,
            "{text:?}"
        );
    }
}

#[test]
fn the_document_goes_on_with_its_ipam_changed() {
    let conf = parse(&json!({"name": "n", "ipam": {"type": "x", "own": 1}, "other": [1]})).unwrap();
    let changed = conf.with_ipam(|ipam| {
        ipam.insert("subnet".into(), json!("10.0.0.0/24"));
    });
    assert_eq!(
        Value::Object(changed),
        json!({"name": "n", "ipam": {"type": "x", "own": 1, "subnet": "10.0.0.0/24"}, "other": [1]})
    );
}

#[test]
fn an_empty_list_of_attachments_is_not_a_missing_one() {
    let conf = parse(&json!({"name": "n", "cni.dev/valid-attachments": []})).unwrap();
    assert_eq!(conf.valid_attachments, Some(vec![]));
    let conf = parse(&json!({
        "name": "n", "cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}],
    }))
    .unwrap();
    assert_eq!(conf.valid_attachments.unwrap()[0].container_id, "a");
}

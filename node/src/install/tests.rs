use serde_json::Value;

use super::*;

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// A host with folders for programs and configurations, and an image with programs.
fn host() -> (tempfile::TempDir, Places) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let places = Places {
        programs: at("image"),
        bin_dirs: vec![at("bin"), at("secondary")],
        net_dir: at("net.d"),
        account_dir: at("account"),
    };
    for name in ["image", "bin", "net.d", "account"] {
        fs::create_dir(at(name)).unwrap();
    }
    for name in PLUGINS {
        fs::write(places.programs.join(name), format!("program {name}")).unwrap();
    }
    fs::write(places.account_dir.join("namespace"), "caracal-system").unwrap();
    fs::write(places.account_dir.join("ca.crt"), "PEM").unwrap();
    (folder, places)
}

#[test]
fn programs_go_to_every_folder_that_is_mounted() {
    let (_folder, places) = host();
    assert_eq!(programs(&places, &variables(&[])).unwrap(), places.bin_dirs[0]);
    assert_eq!(
        fs::read_to_string(places.bin_dirs[0].join("calico-ipam")).unwrap(),
        "program calico-ipam"
    );
    assert!(!places.bin_dirs[1].exists());
    fs::create_dir(&places.bin_dirs[1]).unwrap();
    fs::write(places.programs.join("calico"), "newer").unwrap();
    programs(
        &places,
        &variables(&[
            ("UPDATE_CNI_BINARIES", "false"),
            ("SKIP_CNI_BINARIES", "calico-ipam, x"),
        ]),
    )
    .unwrap();
    let read = |folder: usize, name: &str| fs::read_to_string(places.bin_dirs[folder].join(name)).ok();
    assert_eq!(
        read(0, "calico").as_deref(),
        Some("program calico"),
        "not updated"
    );
    assert_eq!(read(1, "calico").as_deref(), Some("newer"));
    assert_eq!(read(1, "calico-ipam"), None, "skipped");
    let nowhere = Places {
        bin_dirs: vec!["/nonexistent/bin".into()],
        ..places
    };
    let error = programs(&nowhere, &variables(&[])).unwrap_err().to_string();
    assert!(
        error.contains("/nonexistent/bin") && error.contains("mount"),
        "{error}"
    );
}

#[test]
fn the_configuration_is_calicos_and_replaces_the_old_one() {
    let (_folder, places) = host();
    let old = places.net_dir.join("10-old.conflist");
    fs::write(&old, "{}").unwrap();
    let pairs = [("CNI_OLD_CONF_NAME", "10-old.conflist"), ("CNI_MTU", "1450")];
    for _ in 0..2 {
        configuration(&places, &variables(&pairs), "n1", &places.bin_dirs[0]).unwrap();
    }
    assert!(!old.exists());
    let read = || -> Value {
        let text = fs::read_to_string(places.net_dir.join("10-calico.conflist")).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let conflist = read();
    assert_eq!(conflist["name"], "k8s-pod-network");
    let calico = &conflist["plugins"][0];
    assert_eq!(calico["nodename"], "n1");
    assert_eq!(calico["mtu"], 1450);
    assert_eq!(
        calico["kubernetes"]["kubeconfig"],
        "/etc/cni/net.d/calico-kubeconfig"
    );
    assert_eq!(conflist["plugins"][1], Value::Null, "portmap is not installed");
    fs::write(places.bin_dirs[0].join("portmap"), "").unwrap();
    configuration(&places, &variables(&[]), "n1", &places.bin_dirs[0]).unwrap();
    assert_eq!(read()["plugins"][1]["type"], "portmap");
}

#[test]
fn a_template_loses_plugins_that_are_not_installed() {
    let (_folder, places) = host();
    let text = r#"{"name":"n","plugins":[{"type":"calico"},{"type":"bandwidth"},{"type":"tuning"}]}"#;
    let pairs = variables(&[("CNI_NETWORK_CONFIG", text)]);
    configuration(&places, &pairs, "n1", &places.bin_dirs[0]).unwrap();
    let written = fs::read_to_string(places.net_dir.join("10-calico.conflist")).unwrap();
    let value: Value = serde_json::from_str(&written).unwrap();
    let kinds: Vec<&Value> = value["plugins"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["type"])
        .collect();
    assert_eq!(kinds, ["calico", "tuning"], "only what a node can do without");
    fs::write(places.bin_dirs[0].join("bandwidth"), "").unwrap();
    configuration(&places, &pairs, "n1", &places.bin_dirs[0]).unwrap();
    let written = fs::read_to_string(places.net_dir.join("10-calico.conflist")).unwrap();
    assert_eq!(written, text, "otherwise it is as given");
}

#[test]
fn templates_are_filled_in_and_checked() {
    let fill = |text: &str| {
        let pairs = [("CNI_NETWORK_CONFIG", text), ("CNI_NET_DIR", "/etc/k3s/net.d")];
        conflist(&Template::read(&variables(&pairs), "n1", Vec::new()).unwrap())
            .map_err(|error| error.to_string())
    };
    let filled = fill(
        r#"{"nodename":"__KUBERNETES_NODE_NAME__","mtu":__CNI_MTU__,"kubeconfig":"__KUBECONFIG_FILEPATH__"}"#,
    )
    .unwrap();
    assert_eq!(
        filled,
        r#"{"nodename":"n1","mtu":0,"kubeconfig":"/etc/k3s/net.d/calico-kubeconfig"}"#
    );
    for (text, expected) in [
        ("{", "no JSON"),
        (r#"{"a":"__ETCD_ENDPOINTS__"}"#, "__ETCD_ENDPOINTS__"),
        (r#"{"a":"__SERVICEACCOUNT_TOKEN__"}"#, "expires"),
    ] {
        let error = fill(text).unwrap_err();
        assert!(
            error.contains("CNI_NETWORK_CONFIG") && error.contains(expected),
            "{error}"
        );
    }
    let file = variables(&[("CNI_NETWORK_CONFIG_FILE", "/nonexistent.conflist")]);
    let error = Template::read(&file, "n1", Vec::new()).unwrap_err().to_string();
    assert!(error.contains("/nonexistent.conflist"), "{error}");
    let name = variables(&[("CNI_CONF_NAME", "../evil")]);
    assert!(Template::read(&name, "n1", Vec::new()).is_err());
}

#[test]
fn the_kubeconfig_names_the_api_as_this_pod_sees_it() {
    let (_folder, places) = host();
    let account = Account::read(&places.account_dir, "calico-cni-plugin").unwrap();
    assert_eq!(account.namespace, "caracal-system");
    let pairs = [
        ("KUBERNETES_SERVICE_HOST", "fd00::1"),
        ("KUBERNETES_SERVICE_PORT", "6443"),
    ];
    let text = kubeconfig(&variables(&pairs), &account, "secret").unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let cluster = &value["clusters"][0]["cluster"];
    assert_eq!(cluster["server"], "https://[fd00::1]:6443");
    assert_eq!(cluster["certificate-authority-data"], "UEVN");
    assert_eq!(value["users"][0]["user"]["token"], "secret");
    let error = kubeconfig(&variables(&[]), &account, "secret")
        .unwrap_err()
        .to_string();
    assert!(error.contains("KUBERNETES_SERVICE_HOST"), "{error}");
    fs::remove_file(places.account_dir.join("ca.crt")).unwrap();
    let error = Account::read(&places.account_dir, "x").unwrap_err().to_string();
    assert!(error.contains("ca.crt"), "{error}");
}

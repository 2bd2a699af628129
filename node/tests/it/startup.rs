//! The start-up steps against the embedded API, on a machine that is a network namespace.

use std::collections::BTreeMap;
use std::path::PathBuf;

use caracal_api::v3::{ClusterInformation, FelixConfiguration, IPPool};
use caracal_apiserver::ApiServer;
use caracal_datastore::{Client, ListOptions};
use caracal_ipam::Ipam;
use caracal_linux::netlink::{Netlink, VethEnd};
use caracal_linux::netns::NetNs;
use caracal_node::condition::{self, Condition};
use caracal_node::detect::{Family, detect};
use caracal_node::environment::Environment;
use caracal_node::host;
use caracal_node::install::{self, Places};
use caracal_node::startup::{Error, Startup};
use caracal_node::tunnels::Tunnels;
use k8s_openapi::api::core::v1::{ConfigMap, Node, ServiceAccount};
use serde_json::{Value, json};

struct Machine {
    netns: NetNs,
    netlink: Netlink,
    client: Client,
    folder: tempfile::TempDir,
    _server: ApiServer,
}

impl Machine {
    /// A cluster with a Node `n1`, and its machine with `eth0`.
    async fn new() -> Self {
        let server = ApiServer::in_memory();
        let client = Client::from_service(server.service(), "default");
        let netns = NetNs::create_anonymous().unwrap();
        let netlink = Netlink::open_in(&netns).unwrap();
        let machine = Self {
            netns,
            netlink,
            client,
            folder: tempfile::tempdir().unwrap(),
            _server: server,
        };
        machine.node("n1", json!({}), &["10.1.1.11"]).await;
        machine
            .interface("eth0", &["10.1.1.11/24", "fd00:1::11/64"])
            .await;
        machine
    }

    async fn node(&self, name: &str, annotations: Value, internal_ips: &[&str]) {
        let addresses: Vec<Value> = internal_ips
            .iter()
            .map(|address| json!({"type": "InternalIP", "address": address}))
            .collect();
        let node = json!({"metadata": {"name": name, "annotations": annotations}});
        let node: Node = serde_json::from_value(node).unwrap();
        self.client.create(&node).await.unwrap();
        let ready = json!({"type": "Ready", "status": "True"});
        let status = json!({"status": {"addresses": addresses, "conditions": [ready]}});
        self.client
            .patch_status::<Node>(None, name, &status)
            .await
            .unwrap();
    }

    async fn interface(&self, name: &str, addresses: &[&str]) {
        let far = format!("{name}-far");
        self.netlink
            .create_veth(VethEnd::named(name), VethEnd::named(&far))
            .await
            .unwrap();
        for end in [name, far.as_str()] {
            let link = self.netlink.link_by_name(end).await.unwrap();
            self.netlink.set_up(link.index).await.unwrap();
        }
        let link = self.netlink.link_by_name(name).await.unwrap();
        for address in addresses {
            self.netlink
                .add_address(link.index, address.parse().unwrap())
                .await
                .unwrap();
        }
    }

    fn startup(&self, variables: &[(&str, &str)]) -> Startup {
        let variables: BTreeMap<String, String> = variables
            .iter()
            .chain(&[("NODENAME", "n1")])
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Startup {
            client: self.client.clone(),
            netlink: self.netlink.clone(),
            environment: Environment::read(&variables, "").unwrap(),
            nodename_file: self.nodename_file(),
        }
    }

    fn nodename_file(&self) -> PathBuf {
        self.folder.path().join("lib/nodename")
    }

    async fn annotation(&self, key: &str) -> Option<String> {
        let node: Node = self.client.get(None, "n1").await.unwrap().unwrap();
        let annotations = node.metadata.annotations.unwrap_or_default();
        annotations.get(&format!("projectcalico.org/{key}")).cloned()
    }
}

#[tokio::test]
async fn a_new_cluster_gets_everything_once() {
    let machine = Machine::new().await;
    let kubeadm = json!({
        "metadata": {"name": "kubeadm-config", "namespace": "kube-system"},
        "data": {"ClusterConfiguration": "networking:\n  podSubnet: 10.244.0.0/16\n"},
    });
    let kubeadm: ConfigMap = serde_json::from_value(kubeadm).unwrap();
    machine.client.create(&kubeadm).await.unwrap();
    let startup = machine.startup(&[
        ("IP", "autodetect"),
        ("IP6", "autodetect"),
        ("AS", "64513"),
        ("CLUSTER_TYPE", "k8s,bgp"),
        ("CALICO_IPV6POOL_CIDR", "none"),
    ]);
    startup.run().await.unwrap();
    assert_eq!(machine.annotation("IPv4Address").await.unwrap(), "10.1.1.11/24");
    assert_eq!(machine.annotation("IPv6Address").await.unwrap(), "fd00:1::11/64");
    assert_eq!(machine.annotation("ASNumber").await.unwrap(), "64513");
    let pools: Vec<IPPool> = machine.client.list(None, &ListOptions::default()).await.unwrap();
    assert_eq!(pools.len(), 1);
    assert_eq!(pools[0].spec.cidr, "10.244.0.0/16");
    let information: Option<ClusterInformation> = machine.client.get(None, "default").await.unwrap();
    let information = information.unwrap().spec;
    assert_eq!(information.datastore_ready, Some(true));
    assert_eq!(information.cluster_type, "k8s,kdd,bgp,kubeadm");
    let felix: Option<FelixConfiguration> = machine.client.get(None, "default").await.unwrap();
    assert_eq!(
        felix.unwrap().spec.default_endpoint_to_host_action.as_deref(),
        Some("Return")
    );
    assert_eq!(std::fs::read_to_string(machine.nodename_file()).unwrap(), "n1");
    let before: Node = machine.client.get(None, "n1").await.unwrap().unwrap();
    startup.run().await.unwrap();
    let after: Node = machine.client.get(None, "n1").await.unwrap().unwrap();
    assert_eq!(
        before.metadata.resource_version, after.metadata.resource_version,
        "a second time writes nothing"
    );
}

#[tokio::test]
async fn an_interface_that_comes_later_does_not_move_the_node() {
    let machine = Machine::new().await;
    let variables = [("IP", "autodetect"), ("IP_AUTODETECTION_METHOD", "first-found")];
    machine.startup(&variables).addresses().await.unwrap();
    machine.interface("eth1", &["10.2.2.22/24"]).await;
    machine.startup(&variables).addresses().await.unwrap();
    assert_eq!(machine.annotation("IPv4Address").await.unwrap(), "10.1.1.11/24");
    let eth0 = machine.netlink.link_by_name("eth0").await.unwrap();
    machine
        .netlink
        .delete_address(eth0.index, "10.1.1.11/24".parse().unwrap())
        .await
        .unwrap();
    machine.startup(&variables).addresses().await.unwrap();
    assert_eq!(
        machine.annotation("IPv4Address").await.unwrap(),
        "10.2.2.22/24",
        "an address that is gone is replaced"
    );
    let interfaces = machine.annotation("Interfaces").await.unwrap();
    let interfaces: Value = serde_json::from_str(&interfaces).unwrap();
    assert_eq!(interfaces[1], json!({"name": "eth0-far"}));
    assert_eq!(interfaces[2], json!({"name": "eth1", "addresses": ["10.2.2.22"]}));
}

#[tokio::test]
async fn an_address_of_another_node_is_not_taken() {
    let machine = Machine::new().await;
    machine
        .node(
            "n2",
            json!({"projectcalico.org/IPv4Address": "10.1.1.11/16"}),
            &[],
        )
        .await;
    let error = machine.startup(&[]).run().await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    assert!(error.to_string().contains("n2") && error.to_string().contains("DISABLE_NODE_IP_CHECK"));
    assert_eq!(machine.annotation("IPv4Address").await, None);
    machine
        .startup(&[("DISABLE_NODE_IP_CHECK", "true")])
        .run()
        .await
        .unwrap();
    assert_eq!(machine.annotation("IPv4Address").await.unwrap(), "10.1.1.11/24");
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let machine = Machine::new().await;
    let error = machine
        .startup(&[("CALICO_K8S_NODE_REF", "elsewhere")])
        .run()
        .await;
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("no Node named \"elsewhere\"")
    );
    let error = machine
        .startup(&[
            ("IP", "autodetect"),
            ("IP_AUTODETECTION_METHOD", "interface=wlan"),
        ])
        .run()
        .await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("matches wlan") && error.contains("IP_AUTODETECTION_METHOD"),
        "{error}"
    );
    let error = machine.startup(&[("IP", "none")]).run().await.unwrap_err();
    assert!(matches!(error, Error::NoAddress), "{error}");
    machine
        .startup(&[("IP", "none"), ("CALICO_NETWORKING_BACKEND", "none")])
        .run()
        .await
        .unwrap();
    assert_eq!(
        machine.annotation("IPv4Address").await,
        None,
        "policy only: no address"
    );
}

#[tokio::test]
async fn the_kernel_is_asked_for_the_way_to_a_destination() {
    let machine = Machine::new().await;
    machine.interface("eth1", &["10.2.2.22/24"]).await;
    let interfaces = host::interfaces(&machine.netlink).await.unwrap();
    let chosen = |text: &str, family: Family| {
        let method = text.parse().unwrap();
        let interfaces = interfaces.clone();
        machine
            .netns
            .run(move || {
                let picture = host::machine(&interfaces, &[], &method, family);
                let detection = detect(&method, family, &picture);
                match detection.chosen {
                    Some((address, interface)) => format!("{address} {interface}"),
                    None => detection.because,
                }
            })
            .unwrap()
    };
    assert_eq!(chosen("can-reach=10.1.1.1", Family::V4), "10.1.1.11/24 eth0");
    assert_eq!(chosen("can-reach=10.2.2.1", Family::V4), "10.2.2.22/24 eth1");
    let nowhere = chosen("can-reach=198.51.100.1", Family::V4);
    assert!(
        nowhere.contains("cannot be reached") && nowhere.contains("unreachable"),
        "{nowhere}"
    );
    assert!(chosen("can-reach=10.1.1.1", Family::V6).contains("it has no IPv6 address"));
}

#[tokio::test]
async fn conditions_are_written_beside_those_of_others() {
    let machine = Machine::new().await;
    let down = condition::shutting_down();
    condition::write(&machine.client, "n1", std::slice::from_ref(&down))
        .await
        .unwrap();
    let up = Condition {
        status: false,
        reason: "CalicoIsUp",
        ..down
    };
    condition::write(&machine.client, "n1", &[up]).await.unwrap();
    let node: Node = machine.client.get(None, "n1").await.unwrap().unwrap();
    let mut told: Vec<String> = node
        .status
        .unwrap()
        .conditions
        .unwrap()
        .iter()
        .map(|condition| format!("{}={}", condition.type_, condition.status))
        .collect();
    told.sort();
    assert_eq!(told, ["NetworkUnavailable=False", "Ready=True"]);
}

#[tokio::test]
async fn tunnel_addresses_follow_the_pools() {
    let machine = Machine::new().await;
    let tunnels = Tunnels::new(machine.client.clone(), "n1", "n1");
    assert!(!tunnels.ensure().await.unwrap(), "without pools nothing is done");
    let pool = |ipip: &str| {
        let spec = json!({"cidr": "10.5.0.0/24", "blockSize": 26, "ipipMode": ipip, "nodeSelector": "all()"});
        IPPool::new("p", serde_json::from_value(spec).unwrap())
    };
    machine.client.create(&pool("Always")).await.unwrap();
    assert!(tunnels.ensure().await.unwrap());
    let address = machine.annotation("IPv4IPIPTunnelAddr").await.unwrap();
    let ipam = Ipam::new(machine.client.clone());
    let owner = ipam
        .assignment_of(address.parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(owner.handle.as_deref(), Some("ipip-tunnel-addr-n1"));
    assert_eq!(owner.attributes["type"], "ipipTunnelAddress");
    assert_eq!(owner.affinity.as_deref(), Some("host:n1"));
    assert!(!tunnels.ensure().await.unwrap(), "it is kept");
    // A crash between assignment and annotation: the address is found by its handle, and nothing leaks.
    let forget = json!({"metadata": {"annotations": {"projectcalico.org/IPv4IPIPTunnelAddr": null}}});
    machine
        .client
        .patch_status::<Node>(None, "n1", &forget)
        .await
        .unwrap();
    assert!(tunnels.ensure().await.unwrap());
    let handle = ipam.ips_by_handle("ipip-tunnel-addr-n1").await.unwrap();
    assert_eq!(handle.len(), 1);
    assert_eq!(
        machine.annotation("IPv4IPIPTunnelAddr").await.unwrap(),
        handle[0].to_string()
    );
    let never = json!({"spec": {"ipipMode": "Never"}});
    machine
        .client
        .patch_merge::<IPPool>(None, "p", &never)
        .await
        .unwrap();
    assert!(tunnels.ensure().await.unwrap());
    assert_eq!(machine.annotation("IPv4IPIPTunnelAddr").await, None);
    assert!(
        ipam.ips_by_handle("ipip-tunnel-addr-n1").await.is_err(),
        "it was given back"
    );
}

#[tokio::test]
async fn the_plugins_get_tokens_of_their_own_account() {
    let machine = Machine::new().await;
    let at = |name: &str| machine.folder.path().join(name);
    for name in ["account", "net.d"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    std::fs::write(at("account/namespace"), "default\n").unwrap();
    std::fs::write(at("account/ca.crt"), "PEM").unwrap();
    let places = Places {
        account_dir: at("account"),
        net_dir: at("net.d"),
        ..Places::default()
    };
    let variables = BTreeMap::from([("KUBERNETES_SERVICE_HOST".to_owned(), "10.96.0.1".to_owned())]);
    let write = || install::credentials(&machine.client, &places, &variables, "calico-cni-plugin");
    let error = write().await.unwrap_err().to_string();
    assert!(error.contains("default/calico-cni-plugin"), "{error}");
    assert!(
        !at("net.d/calico-kubeconfig").exists(),
        "nothing is written without a token"
    );
    let account = json!({"metadata": {"name": "calico-cni-plugin", "namespace": "default"}});
    let account: ServiceAccount = serde_json::from_value(account).unwrap();
    machine.client.create(&account).await.unwrap();
    let token = write().await.unwrap();
    assert!(token.validity.as_secs() > 3000, "{token:?}");
    let path = at("net.d/calico-kubeconfig");
    let text = std::fs::read_to_string(&path).unwrap();
    let kubeconfig: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(kubeconfig["users"][0]["user"]["token"], token.token);
    assert_eq!(
        kubeconfig["clusters"][0]["cluster"]["server"],
        "https://10.96.0.1:443"
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "nobody else reads it");
}

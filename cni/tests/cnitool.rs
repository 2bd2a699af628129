//! The plugins driven by `cnitool`, the reference runtime: conflists, chains, other address plugins, other main plugins.
//!
//! `cnitool` is taken from PATH, or built with `go install`; without both, and without the reference plugins, the tests
//! say loudly that they were skipped.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs,
    reason = "a test"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use caracal_api::v3::IPAMBlock;
use caracal_datastore::ListOptions;
use serde_json::{Value, json};
use support::{Container, Node};

/// Where the reference plugins are.
fn reference() -> String {
    std::env::var("CARACAL_REFERENCE_CNI").unwrap_or_else(|_| "/usr/lib/cni".to_owned())
}
const MODULE: &str = "github.com/containernetworking/cni/cnitool@v1.3.1";

fn cnitool() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(find_cnitool).as_deref()
}

fn find_cnitool() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&folders)
        .map(|folder| folder.join("cnitool"))
        .find(|path| path.is_file());
    if in_path.is_some() {
        return in_path;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-bin");
    let built = folder.join("cnitool");
    if !built.is_file() {
        let installed = Command::new("go")
            .args(["install", MODULE])
            .env("GOBIN", &folder)
            .status();
        if !installed.is_ok_and(|status| status.success()) {
            return None;
        }
    }
    Some(built)
}

/// What is needed for a test, or a loud word.
fn ready(plugins: &[&str]) -> Option<&'static Path> {
    let tool = cnitool();
    let missing = plugins
        .iter()
        .find(|name| !Path::new(&reference()).join(name).is_file());
    if tool.is_none() || missing.is_some() {
        eprintln!(
            "SKIPPED: cnitool ({tool:?}) or a reference plugin ({missing:?}) is missing: run make deps, install Go"
        );
        return None;
    }
    tool
}

async fn start() -> Node {
    let node = Node::start().await;
    node.create(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "blue"},
        "spec": {"cidr": "10.244.0.0/24", "blockSize": 26, "ipipMode": "Never", "vxlanMode": "Never",
            "nodeSelector": "all()", "allowedUses": ["Workload", "Tunnel"]},
    }))
    .await;
    std::fs::create_dir(node.path("net.d")).unwrap();
    node
}

/// A network of these plugins, with the newest version that `cnitool` speaks.
fn network(node: &Node, version: &str, plugins: Vec<Value>) {
    let plugins: Vec<Value> = plugins
        .into_iter()
        .map(|mut plugin| {
            let map = plugin.as_object_mut().unwrap();
            map.remove("name");
            map.remove("cniVersion");
            plugin
        })
        .collect();
    let conflist = json!({"cniVersion": version, "name": "net", "plugins": plugins});
    std::fs::write(node.path("net.d/10-net.conflist"), conflist.to_string()).unwrap();
}

struct Said {
    success: bool,
    document: Value,
    text: String,
}

fn run(
    tool: &Path,
    node: &Node,
    verb: &str,
    container: &Container,
    pod: Option<&str>,
    env: &[(&str, &str)],
) -> Said {
    let own = Path::new(env!("CARGO_BIN_EXE_calico")).parent().unwrap();
    let args = pod.map_or_else(String::new, |pod| {
        format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod}")
    });
    let mut command = Command::new(tool);
    command.args([verb, "net"]).arg(&container.netns);
    command.env_clear().env("PATH", std::env::var("PATH").unwrap());
    command.env(
        "CNI_PATH",
        format!(
            "{}:{}:{}",
            own.display(),
            reference(),
            node.folder.path().display()
        ),
    );
    command
        .env("NETCONFPATH", node.path("net.d"))
        .env("CNI_ARGS", args);
    command.envs(env.iter().copied());
    let output = node.netns.output(&mut command).unwrap();
    Said {
        success: output.status.success(),
        document: serde_json::from_slice(&output.stdout).unwrap_or(Value::Null),
        text: format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}

async fn allocated(node: &Node) -> usize {
    let blocks: Vec<IPAMBlock> = node.client.list(None, &ListOptions::default()).await.unwrap();
    blocks
        .iter()
        .map(|block| block.spec.allocations.iter().flatten().count())
        .sum()
}

fn calico(node: &Node) -> Value {
    node.conf(&json!({"type": "calico-ipam"}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_with_reference_plugins_is_added_checked_and_removed() {
    let Some(tool) = ready(&["portmap", "bandwidth", "tuning"]) else {
        return;
    };
    let node = start().await;
    node.create_pod("web-0", &json!({})).await;
    let shaped = json!({"type": "bandwidth", "ingressRate": 1_000_000, "ingressBurst": 1_000_000,
        "egressRate": 1_000_000, "egressBurst": 1_000_000});
    let tuned = json!({"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.accept_redirects": "0"}});
    for version in ["0.4.0", "1.0.0"] {
        network(
            &node,
            version,
            vec![
                calico(&node),
                json!({"type": "portmap", "snat": true, "capabilities": {"portMappings": true}}),
                tuned.clone(),
                shaped.clone(),
            ],
        );
        let ports = [(
            "CAP_ARGS",
            r#"{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}"#,
        )];
        let container = Container::new("cnitool");
        let added = run(tool, &node, "add", &container, Some("web-0"), &ports);
        assert!(added.success, "{version}: {}", added.text);
        assert_eq!(added.document["cniVersion"], version);
        // portmap of some versions looks for IPv6 rules that it never made.
        let checked = [calico(&node), tuned.clone(), shaped.clone()];
        network(&node, version, checked.to_vec());
        let check = run(tool, &node, "check", &container, Some("web-0"), &ports);
        assert!(check.success, "{version}: {}", check.text);
        let device = caracal_api::names::veth_name("default", "web-0");
        node.netns
            .output(Command::new("ip").args(["link", "set", &device, "down"]))
            .unwrap();
        let check = run(tool, &node, "check", &container, Some("web-0"), &ports);
        assert!(
            !check.success && check.text.contains("is down"),
            "{version}: {}",
            check.text
        );
        for _ in 0..2 {
            let removed = run(tool, &node, "del", &container, Some("web-0"), &ports);
            assert!(removed.success, "{version}: {}", removed.text);
        }
        assert_eq!(allocated(&node).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_address_plugins_are_asked() {
    let Some(tool) = ready(&["host-local", "static", "dhcp"]) else {
        return;
    };
    let node = start().await;
    node.create_pod("web-0", &json!({})).await;
    let state = node.path("host-local");
    let with = |ipam: Value| vec![node.conf(&ipam)];
    let own_range = json!({"type": "host-local", "subnet": "usePodCidr", "dataDir": state});
    let fixed = json!({"type": "static", "addresses": [{"address": "10.50.7.7/24"}]});
    for (ipam, expected) in [(own_range, "10.50.1."), (fixed, "10.50.7.7/32")] {
        network(&node, "1.0.0", with(ipam));
        let container = Container::new("cnitool");
        let added = run(tool, &node, "add", &container, Some("web-0"), &[]);
        let address = added.document["ips"][0]["address"].as_str().unwrap_or_default();
        assert!(added.success && address.starts_with(expected), "{}", added.text);
        assert!(address.ends_with("/32"), "{address}");
        let check = run(tool, &node, "check", &container, Some("web-0"), &[]);
        assert!(check.success, "{}", check.text);
        let removed = run(tool, &node, "del", &container, Some("web-0"), &[]);
        assert!(removed.success, "{}", removed.text);
        assert_eq!(node.pod_devices().await, Vec::<String>::new());
    }
    // No dhcp daemon runs here: its own words must come through, and nothing may be left.
    network(&node, "1.0.0", with(json!({"type": "dhcp"})));
    let container = Container::new("cnitool");
    let added = run(tool, &node, "add", &container, Some("web-0"), &[]);
    assert!(!added.success && added.text.contains("dhcp"), "{}", added.text);
    assert_eq!(node.pod_devices().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn our_addresses_serve_other_main_plugins() {
    let Some(tool) = ready(&["bridge", "macvlan", "ptp"]) else {
        return;
    };
    let node = start().await;
    let ip = |args: &str| {
        let output = node
            .netns
            .output(Command::new("ip").args(args.split(' ')))
            .unwrap();
        output.status.success()
    };
    assert!(ip("link add up0 type veth peer name up1") && ip("link set up0 up"));
    let has_macvlan = ip("link add link up0 name probe type macvlan mode bridge") && ip("link del probe");
    if !has_macvlan {
        eprintln!("SKIPPED in part: this kernel has no macvlan");
    }
    for main in [
        json!({"type": "bridge", "bridge": "br0"}),
        json!({"type": "macvlan", "master": "up0"}),
        // Last: it wants a next hop, which the node keeps.
        json!({"type": "ptp"}),
    ] {
        if main["type"] == "macvlan" && !has_macvlan {
            continue;
        }
        let mut plugin = calico(&node);
        let map = plugin.as_object_mut().unwrap();
        map.extend(main.as_object().unwrap().clone());
        map.remove("policy");
        network(&node, "1.0.0", vec![plugin]);
        let container = Container::new("cnitool");
        let added = run(tool, &node, "add", &container, None, &[]);
        assert!(added.success, "{main}: {}", added.text);
        let kept = usize::from(main["type"] == "ptp");
        assert_eq!(allocated(&node).await, 1 + kept, "{main}");
        if main["type"] == "ptp" {
            // The node answers by the default route and the next hop: ptp has put it on the host's end.
            let mut ping = Command::new("ping");
            ping.args(["-c", "1", "-W", "5", "172.30.0.11"]);
            let output = container.open().output(&mut ping).unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        let removed = run(tool, &node, "del", &container, None, &[]);
        assert!(removed.success, "{main}: {}", removed.text);
        assert_eq!(allocated(&node).await, kept, "{main}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_without_kubernetes_is_plugged_in() {
    let Some(tool) = ready(&[]) else {
        return;
    };
    let node = start().await;
    let mut plugin = calico(&node);
    plugin.as_object_mut().unwrap().remove("policy");
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        network(&node, version, vec![plugin.clone()]);
        let container = Container::new("cnitool");
        let added = run(tool, &node, "add", &container, None, &[]);
        assert!(added.success, "{version}: {}", added.text);
        let host = added.document["interfaces"][0]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        // Named after the container's id, which cnitool makes of the namespace's path.
        assert!(host.starts_with("calicnitool-") && host.len() == 15, "{host}");
        let mut ping = Command::new("ping");
        let address = added.document["ips"][0]["address"].as_str().unwrap_or_default();
        let ping = node
            .netns
            .output(ping.args(["-c1", "-W2", "-n", address.trim_end_matches("/32")]))
            .unwrap();
        assert!(ping.status.success(), "{version}: {ping:?}");
        let removed = run(tool, &node, "del", &container, None, &[]);
        assert!(removed.success, "{version}: {}", removed.text);
        assert_eq!((allocated(&node).await, node.pod_devices().await.len()), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflist_without_name_or_with_an_unknown_version_is_refused() {
    let node = start().await;
    let container = Container::new("c1");
    let mut nameless = calico(&node);
    nameless.as_object_mut().unwrap().remove("name");
    let mut ahead = calico(&node);
    ahead["cniVersion"] = json!("1.9.0");
    let mut badly_named = calico(&node);
    badly_named["name"] = json!("a/b");
    for (conf, code, part) in [
        (nameless, 7, "name"),
        (ahead, 1, "1.9.0"),
        (badly_named, 7, "a/b"),
    ] {
        let outcome = node.calico("ADD", &container, None, &conf).await;
        assert_eq!(outcome.document["code"], code, "{outcome:?}");
        assert!(
            outcome.document["msg"].as_str().unwrap().contains(part),
            "{outcome:?}"
        );
        assert!(
            outcome.document["details"]
                .as_str()
                .is_some_and(|hint| !hint.is_empty()),
            "{outcome:?}"
        );
        assert_eq!(node.pod_devices().await, Vec::<String>::new());
    }
}

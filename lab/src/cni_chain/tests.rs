//! The chain against scripted plugins, in namespaces of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use nix::mount::{MsFlags, mount};
use serde_json::json;

use super::*;
use crate::enter::{Namespaces, on_own_thread, own_file_system_and_name};

/// A machine whose CNI folders are a temporary directory's, kept by a sleeping process.
struct Node {
    dir: tempfile::TempDir,
    anchor: std::process::Child,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.anchor.kill();
        let _ = self.anchor.wait();
    }
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folders = [
            ("conf", "/etc/cni/net.d"),
            ("bin", "/opt/cni/bin"),
            ("cache", "/var/lib/cni"),
        ];
        let anchor = on_own_thread(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
            own_file_system_and_name("cni-test").unwrap();
            for (name, target) in folders {
                let source = dir.path().join(name);
                fs::create_dir_all(&source).unwrap();
                fs::create_dir_all(target).unwrap();
                mount(
                    Some(&source),
                    target,
                    None::<&str>,
                    MsFlags::MS_BIND,
                    None::<&str>,
                )
                .unwrap();
            }
            std::process::Command::new("sleep").arg("60").spawn().unwrap()
        })
        .unwrap();
        Self { dir, anchor }
    }

    fn runtime(&self) -> Runtime {
        let place = Place::Machine(Namespaces::of_process(self.anchor.id()).unwrap());
        Runtime::new(Arc::new(place), "cni-test")
    }

    /// A plugin that records what it is given, then does what the script says.
    fn plugin(&self, name: &str, script: &str) {
        let path = self.dir.path().join("bin").join(name);
        let log = self.dir.path().display();
        let text = format!(
            "#!/bin/sh\ncat > {log}/stdin-{name}-$CNI_COMMAND\nenv > {log}/env-{name}-$CNI_COMMAND\n\
             echo {name} $CNI_COMMAND >> {log}/calls\n{script}\n"
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    fn chain(&self) {
        let list = json!({"cniVersion": "1.0.0", "name": "net", "plugins": [
            {"type": "first"}, {"type": "second", "capabilities": {"portMappings": true}}]});
        fs::write(self.dir.path().join("conf/10-net.conflist"), list.to_string()).unwrap();
    }
}

fn attachment() -> Attachment {
    Attachment {
        container_id: "c1".to_owned(),
        netns: PathBuf::from("/run/netns/cni-1"),
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        uid: "u1".to_owned(),
        capabilities: BTreeMap::from([("portMappings".to_owned(), json!([{"hostPort": 8080}]))]),
    }
}

const RESULT: &str = r#"[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.7/32"}]}'
exit 0"#;

#[tokio::test]
async fn a_chain_is_run_forward_and_taken_down_backward_with_its_cached_result() {
    let node = Node::new();
    node.chain();
    node.plugin("first", RESULT);
    node.plugin("second", RESULT);
    let runtime = node.runtime();
    let added = runtime.add(&attachment()).await.unwrap();
    assert_eq!(added.addresses, ["10.0.0.7".parse::<IpAddr>().unwrap()]);
    let stdin = node.json("stdin-second-ADD");
    assert_eq!(stdin["prevResult"], added.result);
    assert_eq!(
        stdin["runtimeConfig"],
        json!({"portMappings": [{"hostPort": 8080}]})
    );
    let env = node.read("env-first-ADD");
    for line in [
        "CNI_CONTAINERID=c1",
        "CNI_NETNS=/run/netns/cni-1",
        "CNI_IFNAME=eth0",
        "CNI_PATH=/opt/cni/bin",
        "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u1",
    ] {
        assert!(env.lines().any(|found| found == line), "{line} in {env}");
    }
    let cache = node.json("cache/results/net-c1-eth0");
    assert_eq!(cache["kind"], "cniCacheV1");
    runtime.check(&attachment()).await.unwrap();
    // The configuration that counts is the one of the ADD.
    fs::remove_file(node.dir.path().join("conf/10-net.conflist")).unwrap();
    runtime.delete(&attachment()).await.unwrap();
    assert_eq!(node.json("stdin-first-DEL")["prevResult"], added.result);
    assert_eq!(
        node.read("calls"),
        "first ADD\nsecond ADD\nfirst CHECK\nsecond CHECK\nsecond DEL\nfirst DEL\n"
    );
    assert_eq!(node.read("cache/results/net-c1-eth0"), "");
}

#[tokio::test]
async fn a_failing_plugin_says_why_and_leaves_no_result() {
    let node = Node::new();
    node.chain();
    node.plugin("first", RESULT);
    node.plugin(
        "second",
        r#"echo '{"code": 11, "msg": "try again", "details": "pool is full"}'; exit 1"#,
    );
    let runtime = node.runtime();
    let message = runtime.add(&attachment()).await.unwrap_err().to_string();
    assert_eq!(
        message,
        "CNI plugin second, ADD: try again; pool is full (code 11)"
    );
    assert_eq!(node.read("cache/results/net-c1-eth0"), "");
    // The first plugin is asked to delete although the second fails again.
    assert!(runtime.delete(&attachment()).await.is_err());
    assert!(node.read("calls").ends_with("second DEL\nfirst DEL\n"));
    assert!(node.json("stdin-first-DEL").get("prevResult").is_none());
}

#[tokio::test]
async fn broken_plugins_are_named() {
    let node = Node::new();
    let runtime = node.runtime();
    let add = async || runtime.add(&attachment()).await.unwrap_err().to_string();
    assert!(add().await.contains("no CNI configuration in /etc/cni/net.d"));
    node.chain();
    assert!(
        add()
            .await
            .starts_with("CNI plugin first, ADD: start it from /opt/cni/bin")
    );
    node.plugin("first", "echo nonsense");
    assert!(add().await.contains("its answer is not a result"));
    node.plugin("first", "echo out of luck >&2; exit 3");
    assert!(add().await.contains("out of luck"));
    node.plugin("first", r#"echo '{"ips": [{"address": "10.0.0.7"}]}'"#);
    node.plugin("second", r#"echo '{"ips": [{"address": "10.0.0.7"}]}'"#);
    assert!(add().await.contains("ips[0].address: \"10.0.0.7\""));
}

//! The runner against the in-process API server, with a scripted CNI plugin, in namespaces of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use caracal_apiserver::ApiServer;
use caracal_datastore::Preconditions;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use super::*;
use crate::enter::{on_own_thread, own_file_system_and_name};
use crate::topology::Options;

/// A node's namespaces with CNI folders of its own, kept by a sleeping process.
struct Node {
    dir: tempfile::TempDir,
    anchor: Child,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = crate::sweep::end(|| crate::sweep::with_variable(crate::state::MARK, &self.plan().id));
        let _ = self.anchor.kill();
        let _ = self.anchor.wait();
    }
}

/// Gives the pod an address on its loopback: enough to be reached from within.
const PLUGIN: &str = r#"#!/bin/sh
cat > /dev/null
echo $CNI_COMMAND $CNI_CONTAINERID >> DIR/calls
[ -e DIR/broken ] && { echo '{"code": 11, "msg": "pool is full"}'; exit 1; }
[ $CNI_COMMAND = ADD ] || exit 0
nsenter --net=$CNI_NETNS ip address add 10.99.0.1/32 dev lo || exit 1
echo '{"cniVersion":"1.0.0","ips":[{"address":"10.99.0.1/32"}]}'
"#;

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folders = [
            ("run", "/run"),
            ("conf", "/etc/cni/net.d"),
            ("bin", "/opt/cni/bin"),
            ("cache", "/var/lib/cni"),
        ];
        let anchor = on_own_thread(|| {
            unshare(CloneFlags::CLONE_FS).unwrap();
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            own_file_system_and_name("node-1").unwrap();
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
            Command::new("sleep").arg("120").spawn().unwrap()
        })
        .unwrap();
        let list = json!({"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "fake"}]});
        fs::write(dir.path().join("conf/10-net.conflist"), list.to_string()).unwrap();
        let plugin = dir.path().join("bin/fake");
        fs::write(&plugin, PLUGIN.replace("DIR", &dir.path().display().to_string())).unwrap();
        fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir, anchor }
    }

    fn plan(&self) -> Plan {
        Plan::new(self.dir.path(), &Options::default()).unwrap()
    }

    fn layout(&self) -> Layout {
        Layout::new(self.dir.path()).unwrap()
    }

    fn runner(&self, client: &Client) -> PodRunner {
        let plan = self.plan();
        PodRunner::start(Config {
            layout: self.layout(),
            node: plan.machine("node-1").unwrap().clone(),
            plan: Arc::new(plan),
            anchor: self.anchor.id(),
            client: client.clone(),
        })
        .unwrap()
    }

    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn netns(&self) -> usize {
        fs::read_dir(self.dir.path().join("run/netns")).map_or(0, Iterator::count)
    }
}

fn api() -> Client {
    Client::from_service(ApiServer::in_memory().service(), "default")
}

fn pod(name: &str, spec: Value) -> Pod {
    let mut spec = spec;
    spec["nodeName"] = json!("node-1");
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec})).unwrap()
}

fn condition(pod: &Pod, kind: &str) -> (String, String) {
    pod.status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .find(|condition| condition.type_ == kind)
        .map(|found| (found.status.clone(), found.message.clone().unwrap_or_default()))
        .unwrap_or_default()
}

/// Waits until the pod looks right.
async fn until(client: &Client, name: &str, right: impl Fn(&Pod) -> bool) -> Pod {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let pod = client.get::<Pod>(Some("default"), name).await.unwrap();
        match pod {
            Some(pod) if right(&pod) => return pod,
            other => assert!(Instant::now() < deadline, "{name}: {other:#?}"),
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

async fn settled(what: &str, right: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !right() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").0 == "True"
}

fn phase_of(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

async fn delete(client: &Client, name: &str) {
    assert!(
        client
            .delete::<Pod>(Some("default"), name, Preconditions::default())
            .await
            .unwrap()
    );
}

/// Waits until the API has no pod of that name.
async fn gone(client: &Client, name: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while client.get::<Pod>(Some("default"), name).await.unwrap().is_some() {
        assert!(Instant::now() < deadline, "the object of {name} stays");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

#[tokio::test]
async fn a_pod_is_plugged_in_answers_on_its_ports_and_leaves_nothing() {
    let node = Node::new();
    let client = api();
    let runner = node.runner(&client);
    let ports = json!([{"containerPort": 80}]);
    client
        .create(&pod(
            "web",
            json!({"containers": [{"name": "c", "image": "none", "ports": ports}]}),
        ))
        .await
        .unwrap();
    let web = until(&client, "web", is_ready).await;
    let status = web.status.unwrap();
    assert_eq!(status.pod_ip.as_deref(), Some("10.99.0.1"));
    assert_eq!(status.host_ip.as_deref(), Some("172.30.0.11"));
    assert_eq!(status.phase.as_deref(), Some("Running"));
    let place = find(&node.layout(), &node.plan(), "default", "web")
        .unwrap()
        .place()
        .unwrap();
    let answer = place.run(|| {
        let output = Command::new("sh")
            .args(["-c", "hostname; cat /proc/net/tcp6 | grep -c :0050"])
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    });
    assert_eq!(answer.unwrap(), "web\n1\n");
    assert_eq!(node.netns(), 1);
    delete(&client, "web").await;
    settled("the namespace goes", || node.netns() == 0).await;
    settled("the record goes", || {
        all(&node.layout(), &node.plan()).unwrap().is_empty()
    })
    .await;
    gone(&client, "web").await;
    let calls = node.calls();
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert_eq!(calls[0].replace("ADD", "DEL"), calls[1]);
    runner.stop().await;
}

#[tokio::test]
async fn commands_run_with_their_variables_and_end_as_the_policy_says() {
    let node = Node::new();
    let client = api();
    let runner = node.runner(&client);
    let out = node.dir.path().join("out");
    let script = format!("echo $IP $(pwd) $(hostname) >> {}; exit $CODE", out.display());
    let spec = |policy: &str, code: &str| {
        json!({"restartPolicy": policy, "containers": [{"name": "c", "image": "none", "workingDir": "/tmp",
            "command": ["sh", "-c", script], "env": [{"name": "CODE", "value": code},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]}]})
    };
    client.create(&pod("good", spec("OnFailure", "0"))).await.unwrap();
    until(&client, "good", |pod| phase_of(pod) == "Succeeded").await;
    assert_eq!(fs::read_to_string(&out).unwrap(), "10.99.0.1 /tmp good\n");
    settled("a finished pod leaves its namespace", || node.netns() == 0).await;
    client.create(&pod("bad", spec("Never", "3"))).await.unwrap();
    let bad = until(&client, "bad", |pod| phase_of(pod) == "Failed").await;
    let bad = serde_json::to_value(bad.status).unwrap();
    assert_eq!(bad["containerStatuses"][0]["state"]["terminated"]["exitCode"], 3);
    client.create(&pod("again", spec("Always", "1"))).await.unwrap();
    until(&client, "again", |pod| {
        let status = serde_json::to_value(&pod.status).unwrap();
        status["containerStatuses"][0]["restartCount"]
            .as_u64()
            .unwrap_or(0)
            >= 1
    })
    .await;
    // Finished pods are not run a second time.
    assert_eq!(
        node.calls().iter().filter(|call| call.starts_with("ADD")).count(),
        3
    );
    runner.stop().await;
    assert_eq!(node.netns(), 0);
}

#[tokio::test]
async fn a_network_that_fails_is_told_and_tried_again_with_another_id() {
    let node = Node::new();
    let client = api();
    fs::write(node.dir.path().join("broken"), "").unwrap();
    let runner = node.runner(&client);
    let spec = json!({"containers": [{"name": "c", "image": "none", "command": ["sleep", "1000"]}]});
    client.create(&pod("web", spec.clone())).await.unwrap();
    let web = until(&client, "web", |pod| {
        condition(pod, "Ready").1.contains("pool is full")
    })
    .await;
    assert_eq!(condition(&web, "Ready").0, "False");
    let events = client
        .list::<k8s_openapi::api::core::v1::Event>(Some("default"), &Default::default())
        .await
        .unwrap();
    assert!(
        events
            .iter()
            .any(|event| event.involved_object.uid == web.metadata.uid)
    );
    fs::remove_file(node.dir.path().join("broken")).unwrap();
    let first = until(&client, "web", is_ready).await;
    let mut ids: Vec<String> = node.calls();
    ids.retain(|call| call.starts_with("ADD"));
    assert!(
        ids.len() >= 2
            && ids
                .iter()
                .all(|id| ids.iter().filter(|other| *other == id).count() == 1)
    );
    // Another pod under the same name is another pod.
    delete(&client, "web").await;
    gone(&client, "web").await;
    client.create(&pod("web", spec)).await.unwrap();
    let second = until(&client, "web", is_ready).await;
    assert_ne!(first.metadata.uid, second.metadata.uid);
    let record = find(&node.layout(), &node.plan(), "default", "web").unwrap();
    assert_eq!(Some(record.uid), second.metadata.uid);
    assert_eq!(node.netns(), 1);
    runner.stop().await;
}

#[tokio::test]
async fn a_pod_in_the_nodes_network_has_its_address_and_no_sandbox() {
    let node = Node::new();
    let client = api();
    let runner = node.runner(&client);
    let ports = json!([{"containerPort": 9, "protocol": "UDP"}]);
    let spec = json!({"hostNetwork": true, "containers": [{"name": "c", "image": "none", "ports": ports}]});
    client.create(&pod("agent", spec)).await.unwrap();
    let agent = until(&client, "agent", is_ready).await;
    assert_eq!(agent.status.unwrap().pod_ip.as_deref(), Some("172.30.0.11"));
    assert!(node.calls().is_empty());
    find(&node.layout(), &node.plan(), "default", "agent")
        .unwrap()
        .place()
        .unwrap();
    runner.stop().await;
    assert!(all(&node.layout(), &node.plan()).unwrap().is_empty());
}

#[tokio::test]
async fn a_program_is_asked_to_end_and_one_that_cannot_start_says_why() {
    let node = Node::new();
    let client = api();
    let runner = node.runner(&client);
    let out = node.dir.path().join("out");
    let script = format!(
        "trap 'echo bye >> {0}; exit' TERM; echo up > {0}; while :; do sleep 0.05; done",
        out.display()
    );
    let spec = |command: Value| json!({"containers": [{"name": "c", "image": "none", "command": command}]});
    client
        .create(&pod("polite", spec(json!(["sh", "-c", script]))))
        .await
        .unwrap();
    client
        .create(&pod("wrong", spec(json!(["/no/such/program"]))))
        .await
        .unwrap();
    settled("the program starts", || out.exists()).await;
    delete(&client, "polite").await;
    settled("the program ends", || {
        fs::read_to_string(&out).unwrap() == "up\nbye\n"
    })
    .await;
    until(&client, "wrong", |pod| {
        let status = serde_json::to_value(&pod.status).unwrap();
        let waiting = &status["containerStatuses"][0]["state"]["waiting"];
        let message = waiting["message"].as_str().unwrap_or_default();
        waiting["reason"] == "CrashLoopBackOff" && message.contains("/no/such/program")
    })
    .await;
    runner.stop().await;
}

#[tokio::test]
async fn a_pod_that_is_marked_as_deleted_is_taken_down_before_its_object_goes() {
    let node = Node::new();
    let client = api();
    let runner = node.runner(&client);
    let mut held = pod("held", json!({"containers": [{"name": "c", "image": "none"}]}));
    held.metadata.finalizers = Some(vec!["example.com/hold".to_owned()]);
    client.create(&held).await.unwrap();
    until(&client, "held", is_ready).await;
    delete(&client, "held").await;
    settled("the namespace goes", || node.netns() == 0).await;
    let marked = client.get::<Pod>(Some("default"), "held").await.unwrap().unwrap();
    assert!(marked.metadata.deletion_timestamp.is_some());
    let release = json!({"metadata": {"finalizers": null}});
    client
        .patch_merge::<Pod>(Some("default"), "held", &release)
        .await
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while client
        .get::<Pod>(Some("default"), "held")
        .await
        .unwrap()
        .is_some()
    {
        assert!(Instant::now() < deadline, "the object stays");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    runner.stop().await;
}

#[tokio::test]
async fn what_an_earlier_runner_left_is_unplugged() {
    let node = Node::new();
    let client = api();
    let plan = node.plan();
    let left = PodRecord {
        namespace: "default".to_owned(),
        name: "old".to_owned(),
        uid: "u-old".to_owned(),
        node: "node-1".to_owned(),
        container_id: "c-old".to_owned(),
        netns: Some("/run/netns/cni-old".into()),
        // The inode of a namespace that lives: nothing in it may be ended.
        netns_inode: caracal_linux::netns::NetNs::current().unwrap().id().unwrap().1,
        anchor: node.anchor.id(),
        addresses: Vec::new(),
        hostname: "old".to_owned(),
    };
    record::store(&node.layout(), plan.machine("node-1").unwrap(), &left).unwrap();
    let runner = node.runner(&client);
    settled("the record goes", || {
        all(&node.layout(), &plan).unwrap().is_empty()
    })
    .await;
    assert_eq!(node.calls(), ["DEL c-old"]);
    runner.stop().await;
}

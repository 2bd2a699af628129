//! Pods are plugged in by a real felix: its service does the work, the first act of a container meets its policy, and
//! neither the API nor felix needs to be there for a pod to get its address. Drives the built programs (`make build`, or
//! the folder that CARACAL_BIN_DIR names).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of a test fail the test"
)]

mod support;

use std::path::Path;

use nix::sys::signal::{Signal, kill as send};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::{Lab, kill, wait_for};

/// What plugins say at level debug when they work themselves.
const BY_ITSELF: &str = "does not take the call";
const LOG: &str = "/var/log/calico/cni/cni.log";
const CONFLIST: &str = "/etc/cni/net.d/10-calico.conflist";

const BASE: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shut, namespace: default}
spec:
  podSelector: {matchLabels: {role: shut}}
  policyTypes: [Egress]
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: default}
spec:
  nodeName: node-1
  containers:
  - {name: c, image: none, ports: [{containerPort: 8080}]}
";

/// A process that stands still until this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: i32) -> Self {
        send(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        Self(Pid::from_raw(pid))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have been ended meanwhile.
        let _ = send(self.0, Signal::SIGCONT);
    }
}

/// A pod whose first act is to connect to the server; what became of it is in a file.
fn client(name: &str, role: &str, server: &str, folder: &Path) -> String {
    let file = folder.join(name);
    let script = format!(
        "if timeout 5 bash -c 'exec 3<>/dev/tcp/{server}/8080'; then echo open; else echo shut; fi > {0}.new; mv {0}.new {0}; exec sleep 86402",
        file.display()
    );
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"role": role}},
        "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "none", "command": ["bash", "-c", script]}]},
    });
    format!("{pod}\n---\n")
}

fn said(folder: &Path, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(folder.join(name)).ok()?;
    Some(text.trim().to_owned())
}

fn address(lab: &Lab, name: &str) -> Option<String> {
    let status = lab.status();
    let pods = status["pods"].as_array().unwrap();
    let pod = pods.iter().find(|pod| pod["name"] == name)?;
    Some(pod["addresses"][0].as_str()?.to_owned())
}

/// What plugins logged on the node since the last call.
fn take_log(lab: &Lab) -> String {
    let script = format!("cat {LOG} 2>/dev/null; : > {LOG}");
    lab.must(&["node", "node-1", "--", "sh", "-c", &script])
}

/// Calls the plugin as a runtime that starts another container of a pod.
fn plugin(lab: &Lab, command: &str, container: &str, pod: &str) -> Result<Value, String> {
    let script = format!(
        "CNI_COMMAND={command} CNI_CONTAINERID={container} CNI_NETNS=/run/netns/{container} CNI_IFNAME=eth0 \
         CNI_PATH=/opt/cni/bin CNI_ARGS='IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod}' \
         /opt/cni/bin/calico < /run/calico.conf"
    );
    let output = lab.run(&["node", "node-1", "--", "sh", "-c", &script]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(format!("{text}{}", support::error(&output)));
    }
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// Lets plugins say who works, and leaves the plugin's own configuration where [`plugin`] finds it.
fn prepare(lab: &Lab) {
    let level = format!("sed -i 's/\"log_level\": \"info\"/\"log_level\": \"debug\"/' {CONFLIST}");
    lab.must(&["node", "node-1", "--", "sh", "-c", &level]);
    let list: Value = serde_json::from_str(&lab.must(&["node", "node-1", "--", "cat", CONFLIST])).unwrap();
    let mut conf = list["plugins"][0].clone();
    conf["cniVersion"] = list["cniVersion"].clone();
    conf["name"] = list["name"].clone();
    let write = format!("mkdir -p /run/netns; cat > /run/calico.conf <<'END'\n{conf}\nEND");
    lab.must(&["node", "node-1", "--", "sh", "-c", &write]);
}

#[test]
fn pods_are_plugged_in_through_felix_and_without_it_and_meet_their_policy_at_once() {
    let lab = Lab::new("plug");
    lab.must(&["up", "--nodes", "1"]);
    prepare(&lab);
    lab.apply(BASE);
    wait_for("the server has an address", || address(&lab, "server").is_some());
    let server = address(&lab, "server").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let clients = |prefix: &str, roles: &[&str], count: usize| {
        let of = |role: &&str| -> String {
            (0..count)
                .map(|index| client(&format!("{prefix}{role}-{index}"), role, &server, folder))
                .collect()
        };
        roles.iter().map(of).collect::<String>()
    };

    // The first act of a container meets its policy: all of one role come through, none of the other.
    wait_for("felix takes calls", || {
        lab.must(&["node", "node-1", "--", "ls", "/run/caracal"])
            .contains("cni.sock")
    });
    take_log(&lab);
    lab.apply(&clients("", &["open", "shut"], 4));
    for role in ["open", "shut"] {
        for index in 0..4 {
            let name = format!("{role}-{index}");
            wait_for("a client has acted", || said(folder, &name).is_some());
            assert_eq!(said(folder, &name).unwrap(), role, "{name}");
        }
    }
    let log = take_log(&lab);
    assert!(!log.contains(BY_ITSELF), "felix did the work: {log}");

    // The API away: another container of a pod that felix knows starts from what was set aside.
    lab.must(&["node", "node-1", "--", "ip", "netns", "add", "again"]);
    wait_for("addresses are set aside", || {
        let journal = "cat /var/lib/calico/caracal-reserve/* 2>/dev/null";
        let output = lab.run(&["node", "node-1", "--", "sh", "-c", journal]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.matches("address").count() >= 4
    });
    {
        let _away = Stopped::new(lab.pid("apiserver"));
        let added = plugin(&lab, "ADD", "again", "open-0").unwrap_or_else(|error| panic!("{error}"));
        let given = added["ips"][0]["address"].as_str().unwrap();
        assert_ne!(
            Some(given.trim_end_matches("/32")),
            address(&lab, "open-0").as_deref()
        );
        // It reaches its neighbour on the node, as its pod's policy says.
        let mut reached = || {
            let act = format!("exec 3<>/dev/tcp/{server}/8080");
            let enter = [
                "node", "node-1", "--", "ip", "netns", "exec", "again", "bash", "-c",
            ];
            lab.run(&[&enter[..], &[&act]].concat()).status.success()
        };
        wait_for("a container plugged in meanwhile reaches others", &mut reached);
    }
    wait_for("it is unplugged when the API answers again", || {
        plugin(&lab, "DEL", "again", "open-0").is_ok()
    });

    // felix away: the plugin waits a moment and does the work itself.
    take_log(&lab);
    {
        let _away = Stopped::new(lab.pid("node-1/felix"));
        lab.apply(&client("alone", "open", &server, folder));
        wait_for("a pod gets its address without felix", || {
            address(&lab, "alone").is_some()
        });
    }
    let log = take_log(&lab);
    assert!(log.contains(BY_ITSELF), "the plugin worked itself: {log}");

    // felix restarts while pods are plugged in: all of them come up, with their policy.
    lab.apply(&clients("late-", &["open", "shut"], 3));
    kill(lab.pid("node-1/felix"));
    for index in 0..3 {
        for role in ["open", "shut"] {
            let name = format!("late-{role}-{index}");
            wait_for("a client has acted", || said(folder, &name).is_some());
            if role == "shut" {
                assert_eq!(said(folder, &name).unwrap(), role, "{name}");
            }
            wait_for("it is plugged in", || address(&lab, &name).is_some());
        }
        let name = format!("default/late-open-{index}");
        wait_for("a pod plugged in meanwhile reaches others", || {
            lab.run(&["probe", &name, "default/server", "8080"])
                .status
                .success()
        });
    }
}

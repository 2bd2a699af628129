//! A whole lab as its user has it: up, used, crashed, up again, down. Drives the built programs (`make build`, or the
//! folder that CARACAL_BIN_DIR names).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of a test fail the test"
)]
mod support;

use std::path::Path;
use std::process::Command;

use caracal_lab::topology::{Options, Plan, short_id};
use caracal_lab::{preflight, programs, sweep};
use support::{Lab, error, kill, wait_for};

const PODS: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  nodeName: node-1
  containers:
  - {name: c, image: none, command: [env, -i, sleep, '86401']}
---
apiVersion: v1
kind: Pod
metadata: {name: b}
spec:
  nodeName: node-2
  containers:
  - {name: c, image: none, ports: [{containerPort: 8080}]}
";

#[test]
fn a_lab_comes_up_carries_pods_survives_kills_and_goes_without_a_trace() {
    let lab = Lab::new("life");
    lab.must(&["up", "--nodes", "2"]);
    let second = lab.run(&["up"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(error(&second).contains("already"), "{}", error(&second));
    assert_eq!(error(&second).lines().count(), 1);

    assert_eq!(lab.must(&["node", "node-2", "--", "hostname"]), "node-2\n");
    assert_eq!(
        lab.run(&["node", "node-1", "--", "sh", "-c", "exit 7"])
            .status
            .code(),
        Some(7)
    );
    assert!(Path::new(lab.must(&["kubeconfig"]).trim_end()).exists());

    assert_eq!(lab.apply(PODS), "pod/a created\npod/b created\n");
    let reaches = || {
        lab.run(&["probe", "default/a", "default/b", "8080"])
            .status
            .success()
    };
    wait_for("pod a reaches pod b", reaches);
    assert_eq!(lab.apply(PODS), "pod/a unchanged\npod/b unchanged\n");

    for component in ["apiserver", "node-1/bgpd", "node-2/felix"] {
        let pid = lab.pid(component);
        kill(pid);
        assert!(reaches(), "pods keep talking without {component}");
        wait_for("it is started again", || ![0, pid].contains(&lab.pid(component)));
    }
    // What came back works: a new pod gets an address, routes and policy.
    wait_for("the API answers again", || {
        lab.run(&["apply", "-f", "/dev/null"]).status.code() == Some(1) && lab.status()["state"] == "up"
    });
    lab.apply(&PODS.replace("name: b", "name: d").replace("name: a}", "name: e}"));
    wait_for("a pod made after the kills is reached", || {
        lab.run(&["probe", "default/a", "default/d", "8080"])
            .status
            .success()
    });

    kill(i32::try_from(lab.status()["supervisor"].as_i64().unwrap()).unwrap());
    wait_for("the crash shows", || lab.status()["state"] == "crashed");
    lab.must(&["up", "--nodes", "1"]);
    assert_eq!(lab.status()["pods"], serde_json::json!([]), "a new lab");
    let left = Command::new("pgrep")
        .args(["-f", "^sleep 86401$"])
        .output()
        .unwrap();
    assert_eq!(
        left.status.code(),
        Some(1),
        "a pod's process without the lab's mark is gone too"
    );

    let id = short_id(&lab.dir);
    lab.must(&["down"]);
    lab.must(&["down"]);
    assert!(!lab.dir.exists());
    assert!(sweep::namespaces(&id).unwrap().is_empty());
    assert!(sweep::processes(&id).unwrap().is_empty());
}

#[test]
fn a_lab_that_cannot_become_ready_says_why_and_leaves_nothing() {
    let lab = Lab::new("stuck");
    // Programs of which one ends at once.
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(programs::own_folder().unwrap()).unwrap() {
        let path = std::fs::canonicalize(entry.unwrap().path()).unwrap();
        let name = path.file_name().unwrap().to_owned();
        let is_ours = name
            .to_str()
            .is_some_and(|name| name.starts_with("cal") || name.starts_with("caracal"));
        if is_ours && path.is_file() && name != "caracal-bgpd" {
            std::os::unix::fs::symlink(&path, folder.path().join(&name)).unwrap();
        }
    }
    std::os::unix::fs::symlink("/bin/false", folder.path().join("caracal-bgpd")).unwrap();
    let output = Command::new(&lab.program)
        .env(programs::FOLDER, folder.path())
        .arg("--dir")
        .arg(&lab.dir)
        .args(["up", "--nodes", "1", "--timeout", "15"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = error(&output);
    let last = text.lines().last().unwrap();
    assert!(
        last.contains("not ready after 15 s") && last.contains("node-1/bgpd"),
        "{text}"
    );
    assert!(text.contains("==> supervisor.log <=="), "{text}");
    assert!(!lab.dir.exists());
    assert!(sweep::namespaces(&short_id(&lab.dir)).unwrap().is_empty());
}

#[tokio::test]
async fn this_kernel_serves() {
    let plan = Plan::new(Path::new("/run/x"), &Options::default()).unwrap();
    preflight::check_kernel(&plan).await.unwrap();
}

//! A whole lab as its user has it: up, used, crashed, up again, down. Drives the built programs (`make build`, or the
//! folder that CARACAL_BIN_DIR names).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of a test fail the test"
)]
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use caracal_lab::topology::{Options, Plan, short_id};
use caracal_lab::{preflight, programs, sweep};
use serde_json::Value;

/// One lab in a directory of its own; taken away however the test ends.
struct Lab {
    dir: PathBuf,
    program: PathBuf,
}

impl Lab {
    fn new(name: &str) -> Self {
        let program = programs::own_folder().unwrap().join("caracal-lab");
        assert!(
            program.exists(),
            "{} is not built: run `make build` first, or name the folder of the programs in CARACAL_BIN_DIR",
            program.display()
        );
        let dir = PathBuf::from(format!("/run/caracal-test-{name}"));
        let lab = Self { dir, program };
        lab.run(&["down"]);
        lab
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(&self.program)
            .arg("--dir")
            .arg(&self.dir)
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs a verb that must succeed and gives its output.
    fn must(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", error(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn status(&self) -> Value {
        let output = self.run(&["status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", error(&output)))
    }

    fn pid(&self, component: &str) -> i32 {
        let status = self.status();
        let components = status["components"].as_array().unwrap();
        let found = components.iter().find(|one| one["name"] == component).unwrap();
        i32::try_from(found["pid"].as_i64().unwrap_or_default()).unwrap()
    }

    /// Applies a manifest from a file of the test's own.
    fn apply(&self, manifest: &str) -> String {
        let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        std::fs::write(file.path(), manifest).unwrap();
        self.must(&["apply", "-f", file.path().to_str().unwrap()])
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.run(&["down"]);
    }
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

fn wait_for(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !check() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

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

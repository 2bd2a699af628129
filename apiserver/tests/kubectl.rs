//! The real kubectl against the real program. Says so and does nothing where there is no kubectl.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail the test"
)]

mod support;

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use support::Program;

const OBJECTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: team}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: team, labels: {app: web}}
spec:
  containers:
  - {name: main, image: "one", ports: [{containerPort: 80}], env: [{name: A, value: "1"}]}
  - {name: side, image: "one"}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: team}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pool}
spec: {cidr: 10.244.0.0/16, ipipMode: Never}
"#;

struct Kubectl {
    program: Program,
    home: tempfile::TempDir,
}

impl Kubectl {
    /// A server and kubectl, if there is a kubectl.
    fn start(test: &str) -> Option<Self> {
        let found = Command::new("kubectl")
            .args(["version", "--client"])
            .stdout(Stdio::null())
            .status();
        if !found.is_ok_and(|status| status.success()) {
            eprintln!("{test} DID NOT RUN: there is no kubectl");
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        let program = Program::start(home.path(), &["--memory"]);
        Some(Self { program, home })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command
            .args(arguments)
            .env("KUBECONFIG", &self.program.kubeconfig)
            .env("HOME", self.home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Success, and both outputs.
    fn try_run(&self, arguments: &[&str], input: &str) -> (bool, String) {
        let mut child = self.command(arguments).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text.into_owned())
    }

    #[track_caller]
    fn run(&self, arguments: &[&str], input: &str) -> String {
        let (good, text) = self.try_run(arguments, input);
        assert!(good, "kubectl {arguments:?}: {text}");
        text
    }

    #[track_caller]
    fn says(&self, arguments: &[&str], input: &str, wanted: &[&str]) {
        let text = self.run(arguments, input);
        for wanted in wanted {
            assert!(
                text.contains(wanted),
                "kubectl {arguments:?} without {wanted:?}: {text}"
            );
        }
    }

    #[track_caller]
    fn refuses(&self, arguments: &[&str], input: &str, wanted: &str) {
        let (good, text) = self.try_run(arguments, input);
        assert!(
            !good && text.contains(wanted),
            "kubectl {arguments:?} without {wanted:?}: {text}"
        );
    }
}

fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .map(|line| line.split_whitespace().collect())
        .collect()
}

#[test]
fn apply_knows_what_changed_and_refuses_what_is_wrong() {
    let Some(kubectl) = Kubectl::start("apply_knows_what_changed_and_refuses_what_is_wrong") else {
        return;
    };
    let apply = ["apply", "-f", "-"];
    let names = [
        "namespace/team",
        "pod/web",
        "networkpolicy.networking.k8s.io/deny",
        "ippool.projectcalico.org/pool",
    ];
    let all = |what: &str| names.map(|name| format!("{name} {what}"));
    let first = kubectl.run(&apply, OBJECTS);
    assert_eq!(first.lines().collect::<Vec<_>>(), all("created"));
    assert_eq!(
        kubectl.run(&apply, OBJECTS).lines().collect::<Vec<_>>(),
        all("unchanged")
    );
    let changed = OBJECTS
        .replace(r#"image: "one""#, r#"image: "two""#)
        .replace("Never", "Always");
    let (same, difference) = kubectl.try_run(&["diff", "-f", "-"], &changed);
    assert!(
        !same && difference.contains("+    image: two") && difference.contains("+  ipipMode: Always"),
        "{difference}"
    );
    // Looking at the difference changed nothing.
    assert_eq!(
        kubectl.run(&apply, OBJECTS).lines().collect::<Vec<_>>(),
        all("unchanged")
    );
    kubectl.says(
        &apply,
        &changed,
        &["pod/web configured", "deny unchanged", "pool configured"],
    );
    let ports = kubectl.run(
        &[
            "get",
            "pod",
            "web",
            "-n",
            "team",
            "-o",
            "jsonpath={.spec.containers[*].image} {.spec.containers[0].ports[0].protocol}",
        ],
        "",
    );
    assert_eq!(ports, "two two TCP");
    let typo = OBJECTS.replace("ports:", "prots:");
    kubectl.refuses(
        &apply,
        &typo,
        "strict decoding error: unknown field \"spec.containers[0].prots\"",
    );
    kubectl.refuses(
        &apply,
        &OBJECTS.replace("cidr:", "cider:"),
        "unknown field \"spec.cider\"",
    );
    kubectl.refuses(
        &["create", "-f", "-"],
        OBJECTS,
        "namespaces \"team\" already exists",
    );
    let other = r#"{"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "other"}, "spec": {"cidr": "10.9.0.0/16"}}"#;
    kubectl.says(
        &["create", "--dry-run=server", "-f", "-"],
        other,
        &["created (server dry run)"],
    );
    kubectl.refuses(&["get", "ippool", "other"], "", "not found");
}

#[test]
fn get_prints_the_columns_of_each_kind() {
    let Some(kubectl) = Kubectl::start("get_prints_the_columns_of_each_kind") else {
        return;
    };
    kubectl.run(&["apply", "-f", "-"], OBJECTS);
    kubectl.run(
        &["create", "-f", "-"],
        r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"node-1"}}"#,
    );
    let status = r#"{"status":{"conditions":[{"type":"Ready","status":"True"}],"addresses":[{"type":"InternalIP","address":"172.30.0.11"}]}}"#;
    kubectl.run(
        &["patch", "node", "node-1", "--subresource=status", "-p", status],
        "",
    );
    let pods = kubectl.run(&["get", "pods", "-A", "-o", "wide"], "");
    let lines = words(&pods);
    assert_eq!(
        lines[0][..9].join(" "),
        "NAMESPACE NAME READY STATUS RESTARTS AGE IP NODE NOMINATED"
    );
    assert_eq!(lines[1][..5].join(" "), "team web 0/2 Pending 0");
    let nodes = kubectl.run(&["get", "nodes", "-o", "wide"], "");
    assert!(
        words(&nodes)[1].starts_with(&["node-1", "Ready", "<none>"]) && nodes.contains("172.30.0.11"),
        "{nodes}"
    );
    let policies = kubectl.run(&["get", "netpol", "-n", "team"], "");
    assert_eq!(words(&policies)[1][..2].join(" "), "deny app=web");
    assert_eq!(
        words(&kubectl.run(&["get", "ns", "team"], ""))[1][..2].join(" "),
        "team Active"
    );
    assert_eq!(
        words(&kubectl.run(&["get", "ippools"], ""))[0],
        ["NAME", "CIDR", "VXLAN", "IPIP", "NAT", "ALLOCATABLE", "AGE"]
    );
    kubectl.says(
        &["get", "crd", "--chunk-size=4"],
        "",
        &["bgppeers.projectcalico.org", "tiers.projectcalico.org"],
    );
    kubectl.says(&["api-resources"], "", &["ippools", "networking.k8s.io/v1"]);
    kubectl.says(
        &["explain", "pod.spec.nodeName"],
        "",
        &["FIELD: nodeName <string>"],
    );
    kubectl.says(
        &["describe", "pod", "web", "-n", "team"],
        "",
        &["Name:             web", "Image:        one"],
    );
    kubectl.says(&["describe", "ippool", "pool"], "", &["Cidr:", "10.244.0.0/16"]);
    kubectl.says(&["get", "all", "-A"], "", &["pod/web"]);
}

#[test]
fn every_way_of_writing_works() {
    let Some(kubectl) = Kubectl::start("every_way_of_writing_works") else {
        return;
    };
    kubectl.run(&["apply", "-f", "-"], OBJECTS);
    let get = |path: &str| {
        kubectl.run(
            &[
                "get",
                "pod",
                "web",
                "-n",
                "team",
                "-o",
                &format!("jsonpath={path}"),
            ],
            "",
        )
    };
    let patch = |kind: &str, body: &str| {
        kubectl.run(
            &["patch", "pod", "web", "-n", "team", "--type", kind, "-p", body],
            "",
        )
    };
    patch(
        "strategic",
        r#"{"spec":{"containers":[{"name":"side","image":"three"}]}}"#,
    );
    assert_eq!(get("{.spec.containers[*].image}"), "one three");
    patch(
        "json",
        r#"[{"op":"replace","path":"/spec/containers/0/image","value":"four"}]"#,
    );
    assert_eq!(get("{.spec.containers[*].image}"), "four three");
    patch("merge", r#"{"metadata":{"annotations":{"a":"b"}}}"#);
    assert_eq!(get("{.metadata.annotations.a}"), "b");
    kubectl.says(
        &[
            "label",
            "pod",
            "web",
            "-n",
            "team",
            "tier=x",
            "app=new",
            "--overwrite",
        ],
        "",
        &["pod/web labeled"],
    );
    assert_eq!(get("{.metadata.labels}"), r#"{"app":"new","tier":"x"}"#);
    let moved = [
        "patch",
        "pod",
        "web",
        "-n",
        "team",
        "-p",
        r#"{"spec":{"hostNetwork":true}}"#,
    ];
    kubectl.refuses(&moved, "", "spec: Forbidden: pod updates may not change fields");
    let pool = kubectl.run(&["get", "ippool", "pool", "-o", "yaml"], "");
    kubectl.says(
        &["replace", "-f", "-"],
        &pool.replace("ipipMode: Never", "ipipMode: Always"),
        &["pool replaced"],
    );
    kubectl.refuses(&["replace", "-f", "-"], &pool, "the object has been modified");
    kubectl.run(
        &[
            "patch",
            "pod",
            "web",
            "-n",
            "team",
            "--subresource=status",
            "--type=merge",
            "-p",
            r#"{"status":{"phase":"Running"}}"#,
        ],
        "",
    );
    kubectl.says(
        &[
            "wait",
            "pod/web",
            "-n",
            "team",
            "--for=jsonpath={.status.phase}=Running",
            "--timeout=10s",
        ],
        "",
        &["condition met"],
    );
    kubectl.says(
        &["delete", "pod", "web", "-n", "team", "--timeout=10s"],
        "",
        &["pod \"web\" deleted"],
    );
    kubectl.says(&["delete", "ns", "team", "--timeout=10s"], "", &["deleted"]);
    kubectl.refuses(&["get", "netpol", "deny", "-n", "team"], "", "not found");
}

struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_watch_prints_rows_and_a_pod_on_a_node_ends_gracefully() {
    let Some(kubectl) = Kubectl::start("a_watch_prints_rows_and_a_pod_on_a_node_ends_gracefully") else {
        return;
    };
    kubectl.run(
        &["apply", "-f", "-"],
        &OBJECTS.replace("spec:\n", "spec:\n  nodeName: node-1\n"),
    );
    let mut watching = Watching(
        kubectl
            .command(&["get", "pods", "-n", "team", "-w", "--output-watch-events"])
            .spawn()
            .unwrap(),
    );
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(watching.0.stdout.take().unwrap()));
    let mut next = || {
        lines
            .next()
            .unwrap()
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(next(), "EVENT NAME READY STATUS RESTARTS AGE");
    assert!(next().starts_with("ADDED web 0/2 Pending"));
    kubectl.run(&["delete", "pod", "web", "-n", "team", "--wait=false"], "");
    assert!(next().starts_with("MODIFIED web 0/2 Terminating"));
    let grace = "jsonpath={.metadata.deletionGracePeriodSeconds}";
    assert_eq!(
        kubectl.run(&["get", "pod", "web", "-n", "team", "-o", grace], ""),
        "30"
    );
    kubectl.run(
        &[
            "delete",
            "pod",
            "web",
            "-n",
            "team",
            "--grace-period=0",
            "--force",
        ],
        "",
    );
    assert!(next().starts_with("DELETED web 0/2 Terminating"));
}

#[test]
fn server_side_apply_knows_its_managers() {
    let Some(kubectl) = Kubectl::start("server_side_apply_knows_its_managers") else {
        return;
    };
    let apply = ["apply", "--server-side", "-f", "-"];
    kubectl.says(
        &apply,
        OBJECTS,
        &[
            "pod/web serverside-applied",
            "ippool.projectcalico.org/pool serverside-applied",
        ],
    );
    let version = || {
        kubectl.run(
            &[
                "get",
                "ippool",
                "pool",
                "-o",
                "jsonpath={.metadata.resourceVersion}",
            ],
            "",
        )
    };
    let before = version();
    kubectl.run(&apply, OBJECTS);
    assert_eq!(version(), before);
    let other = r#"{"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "pool"}, "spec": {"ipipMode": "Always", "cidr": "10.244.0.0/16"}}"#;
    let as_other = ["apply", "--server-side", "--field-manager=other", "-f", "-"];
    kubectl.refuses(&as_other, other, "conflict with \"kubectl\": .spec.ipipMode");
    kubectl.run(
        &[
            "apply",
            "--server-side",
            "--field-manager=other",
            "--force-conflicts",
            "-f",
            "-",
        ],
        other,
    );
    let mode = kubectl.run(&["get", "ippool", "pool", "-o", "jsonpath={.spec.ipipMode}"], "");
    assert_eq!(mode, "Always");
    kubectl.refuses(&apply, OBJECTS, "conflict with \"other\"");
    // From client-side to server-side, without conflicts.
    let map = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "one", "b": "two"}}"#;
    kubectl.run(&["apply", "-f", "-"], map);
    kubectl.says(&apply, map, &["configmap/m serverside-applied"]);
    kubectl.run(
        &apply,
        r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "one"}}"#,
    );
}

#[test]
fn typed_commands_work() {
    let Some(kubectl) = Kubectl::start("typed_commands_work") else {
        return;
    };
    kubectl.says(&["create", "ns", "team"], "", &["namespace/team created"]);
    kubectl.says(
        &["create", "configmap", "c", "-n", "team", "--from-literal=a=b"],
        "",
        &["created"],
    );
    kubectl.says(
        &["create", "secret", "generic", "s", "--from-literal=a=b"],
        "",
        &["created"],
    );
    kubectl.says(&["create", "sa", "robot"], "", &["created"]);
    kubectl.says(
        &["create", "deployment", "d", "--image=one", "--replicas=0"],
        "",
        &["created"],
    );
    kubectl.says(
        &["create", "service", "clusterip", "q", "--tcp=80:web"],
        "",
        &["created"],
    );
    kubectl.says(&["run", "p", "--image=one", "--port=80"], "", &["pod/p created"]);
    let get = |kind: &str, path: &str| kubectl.run(&["get", kind, "-o", &format!("jsonpath={path}")], "");
    assert_eq!(get("secret/s", "{.data.a} {.type}"), "Yg== Opaque");
    assert_eq!(
        get(
            "svc/q",
            "{.spec.ports[0].port} {.spec.ports[0].targetPort} {.spec.selector.app}"
        ),
        "80 web q"
    );
    assert_eq!(
        get(
            "deploy/d",
            "{.spec.selector.matchLabels.app} {.spec.template.spec.containers[0].image}"
        ),
        "d one"
    );
}

//! `cluster diags`: what helps to find a fault of the cluster, in one archive. kubectl fetches it, as the user's own
//! rights and ways to the cluster are kubectl's.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use caracal_api::kinds::{self, Storage};
use caracal_datastore::{Client, ListOptions};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod};

use crate::args::{ClusterDiags, Global};
use crate::bundle::Bundle;
use crate::error::Failure;
use crate::terminal::Terminal;

/// Folder within the archive.
const FOLDER: &str = "calico-diagnostics";
/// Parts of the names of namespaces whose pods are of interest.
const NAMESPACES: &[&str] = &["calico", "tigera", "caracal"];
/// Label and container of the pods that run on every node.
const NODE_POD: (&str, &str) = ("k8s-app", "calico-node");

/// What a node's pod is asked, by file.
const NODE_COMMANDS: &[(&str, &[&str])] = &[
    ("iptables-legacy-save.txt", &["iptables-legacy-save", "-c"]),
    ("iptables-nft-save.txt", &["iptables-nft-save", "-c"]),
    ("nft-ruleset.txt", &["nft", "-n", "-a", "list", "ruleset"]),
    ("ip-route.txt", &["ip", "route", "show", "table", "all"]),
    ("ip-route-v6.txt", &["ip", "-6", "route", "show", "table", "all"]),
    ("ip-rule.txt", &["ip", "rule"]),
    ("ip-addr.txt", &["ip", "addr"]),
    ("ip-link.txt", &["ip", "-d", "link"]),
    ("ip-neigh.txt", &["ip", "neigh"]),
    ("ipset-list.txt", &["ipset", "list"]),
    ("conntrack-list.txt", &["conntrack", "-L"]),
    ("tc-qdisc.txt", &["tc", "qdisc"]),
];

/// Kubernetes' own resources that are taken.
const CORE: &[&str] = &[
    "nodes",
    "namespaces",
    "pods",
    "services",
    "endpointslices.discovery.k8s.io",
    "networkpolicies.networking.k8s.io",
    "daemonsets.apps",
    "deployments.apps",
    "statefulsets.apps",
    "customresourcedefinitions.apiextensions.k8s.io",
    "events",
];

/// One run of kubectl.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    info: String,
    file: String,
    words: Vec<String>,
}

fn step(info: impl Into<String>, file: String, words: &[&str]) -> Step {
    Step {
        info: info.into(),
        file,
        words: words.iter().map(|word| (*word).to_owned()).collect(),
    }
}

/// Carries out `cluster diags`.
pub(crate) async fn run(
    terminal: &Terminal,
    client: &Client,
    global: &Global,
    arguments: &ClusterDiags,
) -> Result<(), Failure> {
    let since = since(&arguments.since)?;
    let version = Command::new("kubectl")
        .args(["version", "--client"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if version.is_err() {
        return Err(Failure::new(
            "missing dependency: unable to locate kubectl in PATH; install it, or add its directory to PATH",
        ));
    }
    let all = ListOptions::default();
    let namespaces: Vec<Namespace> = client.list(None, &all).await?;
    let mut pods: Vec<Pod> = Vec::new();
    for namespace in namespaces
        .iter()
        .filter_map(|namespace| namespace.metadata.name.as_deref())
    {
        if NAMESPACES.iter().any(|part| namespace.contains(part)) {
            pods.extend(client.list::<Pod>(Some(namespace), &all).await?);
        }
    }
    let focus: Vec<&str> = arguments
        .focus_nodes
        .split(',')
        .filter(|node| !node.is_empty())
        .collect();
    let chosen = chosen(pods, &focus, arguments.max_logs);
    let mut steps = cluster_steps();
    chosen.iter().for_each(|pod| pod_steps(pod, &since, &mut steps));
    let bundle = Bundle::new("calico-diagnostics-")?;
    terminal.line(&format!("Collecting {} files with kubectl", steps.len()));
    let failed =
        carry_out(terminal, &bundle, global, &steps, arguments.max_parallelism).map_err(|error| {
            Failure::new(format!(
                "{}: {error}; set TMPDIR to a directory with space",
                bundle.root().display()
            ))
        })?;
    let file = format!(
        "calico-diagnostics-{}.tar.gz",
        Timestamp::now().strftime("%Y%m%d_%H%M%S")
    );
    bundle.pack(FOLDER, &PathBuf::from(&file))?;
    if arguments.skip_temp_dir_cleanup {
        terminal.line(&format!("The files are in {}", bundle.root().display()));
    } else {
        bundle.remove();
    }
    if failed > 0 {
        terminal.message(&format!(
            "{failed} of {} commands failed; their files say why",
            steps.len()
        ));
    }
    terminal.line(&format!("Diagnostic bundle created at ./{file}"));
    Ok(())
}

/// The flag of kubectl for the age of logs.
fn since(text: &str) -> Result<String, Failure> {
    let digits = text.trim_end_matches(['s', 'm', 'h']);
    let is_valid = !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && digits.len() + 1 == text.len();
    match text {
        "" => Ok("--since=0s".to_owned()),
        _ if is_valid => Ok(format!("--since={text}")),
        _ => Err(Failure::new(format!(
            "invalid --since {text:?}; write it as 30s, 5m or 2h"
        ))),
    }
}

/// At most some pods of each owner, those of nodes in focus first.
fn chosen(mut pods: Vec<Pod>, focus: &[&str], max: usize) -> Vec<Pod> {
    let node = |pod: &Pod| {
        pod.spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone())
            .unwrap_or_default()
    };
    pods.sort_by_key(|pod| (!focus.contains(&node(pod).as_str()), pod.metadata.name.clone()));
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    pods.retain(|pod| {
        let owner = pod.metadata.owner_references.iter().flatten().next();
        let owner = owner.map_or_else(String::new, |owner| owner.uid.clone());
        let count = taken.entry(owner).or_default();
        *count += 1;
        *count <= max
    });
    pods
}

fn cluster_steps() -> Vec<Step> {
    let stored = kinds::ALL
        .iter()
        .filter(|kind| kind.storage == Storage::CustomResource);
    let mut steps = Vec::new();
    let names = stored
        .map(|kind| format!("{}.projectcalico.org", kind.plural))
        .chain(CORE.iter().map(|name| (*name).to_owned()));
    for name in names {
        for form in ["yaml", "wide"] {
            let file = format!("cluster/{name}.{}", if form == "yaml" { "yaml" } else { "txt" });
            steps.push(step(
                format!("Collect {name} ({form})"),
                file,
                &["get", &name, "-A", "-o", form],
            ));
        }
    }
    steps.push(step(
        "Collect versions",
        "cluster/version.txt".to_owned(),
        &["version"],
    ));
    steps
}

fn pod_steps(pod: &Pod, since: &str, steps: &mut Vec<Step>) {
    let (Some(namespace), Some(name)) = (&pod.metadata.namespace, &pod.metadata.name) else {
        return;
    };
    let node = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or("unscheduled");
    let folder = format!("nodes/{node}/{namespace}");
    let info = format!("Collect logs of {namespace}/{name}");
    let file = |ending: &str| format!("{folder}/{name}.{ending}");
    steps.push(step(
        info,
        file("log"),
        &["logs", "-n", namespace, name, "--all-containers", since],
    ));
    let info = format!("Describe {namespace}/{name}");
    steps.push(step(
        info,
        file("txt"),
        &["describe", "-n", namespace, "pod", name],
    ));
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    for container in statuses
        .filter(|container| container.restart_count > 0)
        .map(|status| &status.name)
    {
        let info = format!("Collect earlier logs of {namespace}/{name} {container}");
        let words = ["logs", "-n", namespace, name, "-c", container, "--previous"];
        steps.push(step(info, file(&format!("{container}.previous.log")), &words));
    }
    let labels = pod.metadata.labels.as_ref();
    if labels
        .and_then(|labels| labels.get(NODE_POD.0))
        .map(String::as_str)
        == Some(NODE_POD.1)
    {
        for (name_of_file, command) in NODE_COMMANDS {
            let mut words = vec![
                "exec",
                "-n",
                namespace.as_str(),
                name.as_str(),
                "-c",
                NODE_POD.1,
                "--",
            ];
            words.extend_from_slice(command);
            let info = format!("Run {} on {node}", command.join(" "));
            steps.push(step(info, format!("nodes/{node}/{name_of_file}"), &words));
        }
    }
}

/// Runs all steps, some at once; returns how many failed.
fn carry_out(
    terminal: &Terminal,
    bundle: &Bundle,
    global: &Global,
    steps: &[Step],
    together: usize,
) -> io::Result<usize> {
    let mut access = Vec::new();
    if let Some(context) = &global.context {
        access.extend(["--context".to_owned(), context.clone()]);
    }
    if let Some(path) = &global.kubeconfig {
        access.extend(["--kubeconfig".to_owned(), path.display().to_string()]);
    }
    for (number, step) in steps.iter().enumerate() {
        terminal.line(&format!("[{}] {}", number + 1, step.info));
    }
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    let work = || -> io::Result<()> {
        while let Some(step) = steps.get(next.fetch_add(1, Ordering::Relaxed)) {
            let words: Vec<&str> = access.iter().chain(&step.words).map(String::as_str).collect();
            if !bundle.output(&format!("{FOLDER}/{}", step.file), "kubectl", &words)? {
                failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..together.clamp(1, 64)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a worker ended early")))
        })
    })?;
    Ok(failed.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, owner: &str, node: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "calico-system",
            "labels": {"k8s-app": "calico-node"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": owner, "uid": owner}]},
            "spec": {"nodeName": node, "containers": []},
            "status": {"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 1}]}}))
        .unwrap()
    }

    #[test]
    fn pods_are_bounded_by_owner_and_those_in_focus_come_first() {
        let pods = vec![
            pod("a", "x", "n1"),
            pod("b", "x", "n2"),
            pod("c", "x", "n3"),
            pod("d", "y", "n1"),
        ];
        let names: Vec<String> = chosen(pods, &["n3"], 2)
            .iter()
            .map(|pod| pod.metadata.name.clone().unwrap())
            .collect();
        assert_eq!(names, ["c", "a", "d"]);
    }

    #[test]
    fn a_pod_of_a_node_is_asked_for_logs_and_dataplane() {
        let mut steps = Vec::new();
        pod_steps(&pod("a", "x", "n1"), "--since=5m", &mut steps);
        let files: Vec<&str> = steps.iter().map(|step| step.file.as_str()).take(4).collect();
        assert_eq!(
            files,
            [
                "nodes/n1/calico-system/a.log",
                "nodes/n1/calico-system/a.txt",
                "nodes/n1/calico-system/a.c.previous.log",
                "nodes/n1/iptables-legacy-save.txt"
            ]
        );
        assert_eq!(steps.len(), 3 + NODE_COMMANDS.len());
        assert!(steps[0].words.contains(&"--since=5m".to_owned()));
    }

    #[test]
    fn ages_are_checked() {
        assert_eq!(since("").unwrap(), "--since=0s");
        assert_eq!(since("5m").unwrap(), "--since=5m");
        for text in ["5", "m", "5d", "5mm", "-5m"] {
            assert!(since(text).is_err(), "{text}");
        }
    }
}

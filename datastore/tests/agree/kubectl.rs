//! Scripts of commands: blocks that begin with `$ `, run by bash with kubectl in its path, and what they print.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::answers::{self, Answer};
use crate::mask;
use crate::target::Target;

/// The minor version whose output is recorded.
const MINOR: &str = "37";
/// Seconds after which a command counts as hanging.
const LIMIT: &str = "60";

/// kubectl of that version: named by `CARACAL_KUBECTL`, built by `scripts/kubernetes/build.sh`, or in the path.
pub(crate) fn program(test: &str) -> Option<PathBuf> {
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
    let cache = std::env::var("CARACAL_K8S_CACHE").unwrap_or_else(|_| format!("{home}/.cache/caracal-k8s"));
    let built = std::fs::read_dir(cache)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin/kubectl")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).map(|folder| folder.join("kubectl"));
    let named = std::env::var_os("CARACAL_KUBECTL").map(PathBuf::from);
    let found = named
        .into_iter()
        .chain(built)
        .chain(installed)
        .find(|program| fits(program));
    if found.is_none() {
        eprintln!(
            "{test} DID NOT RUN: no kubectl 1.{MINOR}; build it with scripts/kubernetes/build.sh kubectl, or name it in CARACAL_KUBECTL"
        );
    }
    found
}

fn fits(program: &Path) -> bool {
    let output = Command::new(program)
        .args(["version", "--client", "-o", "json"])
        .output();
    output.is_ok_and(|output| {
        let version: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        version["clientVersion"]["minor"] == MINOR
    })
}

/// Runs all commands of a script and compares what they print.
pub(crate) async fn check(target: &Target, kubectl: &Path, name: &str) {
    let text = std::fs::read_to_string(answers::file("kubectl", name, "script")).unwrap();
    let home = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(kubectl, home.path().join("kubectl")).unwrap();
    let kubeconfig = target.kubeconfig(home.path()).await;
    let folder = answers::file("kubectl", "data", "").with_extension("");
    let got = tokio::task::block_in_place(|| {
        blocks(&text)
            .into_iter()
            .map(|block| run(&block, home.path(), &kubeconfig, &folder))
            .collect()
    });
    answers::check(target, "kubectl", name, got);
}

fn blocks(text: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            blocks.push(command.to_owned());
        } else if line.starts_with('#') || line.is_empty() {
        } else if let Some(block) = blocks.last_mut() {
            block.push('\n');
            block.push_str(line);
        }
    }
    blocks
}

fn run(block: &str, home: &Path, kubeconfig: &Path, folder: &Path) -> Answer {
    let path = format!("{}:{}", home.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("timeout")
        .args([LIMIT, "bash", "-c", &format!("exec 2>&1\n{block}")])
        .current_dir(folder)
        .env("PATH", path)
        .env("HOME", home)
        .env("KUBECONFIG", kubeconfig)
        .env("KUBECTL_EXTERNAL_DIFF", "diff -u -N")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = mask::output(&String::from_utf8_lossy(&output.stdout));
    Answer {
        title: block.lines().next().unwrap_or_default().to_owned(),
        outcome: format!("-> {}", output.status.code().unwrap_or(-1)),
        body: text.lines().map(Value::from).collect(),
        text: true,
    }
}

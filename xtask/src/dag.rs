//! The shape of the workspace: which package may use which, and through which package an external crate enters.
//!
//! ARCHITECTURE.md draws this; the tables below are what is checked. A new arrow is a decision: it is made here,
//! in a commit of its own that says why.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Which of our packages a package may use in production (dev-dependencies are free, `tests` and `xtask` too).
const ARROWS: &[(&str, &[&str])] = &[
    ("caracal-api", &[]),
    ("caracal-reconcile", &[]),
    ("caracal-linux", &[]),
    ("caracal-daemon", &[]),
    ("caracal-bgpd-core", &[]),
    ("caracal-datastore", &["caracal-api"]),
    ("caracal-apiserver", &["caracal-api", "caracal-daemon"]),
    ("caracal-ipam", &["caracal-api", "caracal-datastore"]),
    ("caracal-felix-core", &["caracal-api"]),
    ("caracal-bgpd-compile", &["caracal-api", "caracal-bgpd-core"]),
    (
        "caracal-cni",
        &[
            "caracal-api",
            "caracal-datastore",
            "caracal-ipam",
            "caracal-linux",
        ],
    ),
    (
        "caracal-felix",
        &[
            "caracal-api",
            "caracal-felix-core",
            "caracal-datastore",
            "caracal-linux",
            "caracal-reconcile",
            "caracal-daemon",
            "caracal-cni",
        ],
    ),
    (
        "caracal-bgpd",
        &[
            "caracal-api",
            "caracal-bgpd-core",
            "caracal-bgpd-compile",
            "caracal-datastore",
            "caracal-linux",
            "caracal-reconcile",
            "caracal-daemon",
        ],
    ),
    (
        "caracal-controllers",
        &[
            "caracal-api",
            "caracal-datastore",
            "caracal-ipam",
            "caracal-reconcile",
            "caracal-daemon",
        ],
    ),
    (
        "caracal-node",
        &[
            "caracal-api",
            "caracal-datastore",
            "caracal-ipam",
            "caracal-linux",
            "caracal-daemon",
        ],
    ),
    (
        "caracal-ctl",
        &[
            "caracal-api",
            "caracal-datastore",
            "caracal-ipam",
            "caracal-felix-core",
            "caracal-bgpd-core",
            "caracal-bgpd-compile",
        ],
    ),
    (
        "caracal-lab",
        &[
            "caracal-api",
            "caracal-datastore",
            "caracal-linux",
            "caracal-apiserver",
            "caracal-daemon",
        ],
    ),
];

/// External crates that enter through the named packages only. `deny.toml` holds the doors that nobody outside the
/// workspace uses; these have other users in the tree, so only our own edges are looked at.
const DOORS: &[(&str, &[&str])] = &[
    ("rtnetlink", &["caracal-linux"]),
    ("netlink-packet-route", &["caracal-linux"]),
    ("netlink-packet-core", &["caracal-linux"]),
    ("netlink-sys", &["caracal-linux"]),
    ("zettabgp", &["caracal-bgpd-core"]),
    ("redb", &["caracal-apiserver"]),
    ("axum", &[]),
    ("serde_yaml", &["caracal-api"]),
    ("serde-saphyr", &["caracal-api"]),
    ("prometheus", &["caracal-daemon", "caracal-felix", "caracal-bgpd"]),
    ("iptables", &["caracal-felix"]),
];

/// What a pure core must never be able to reach, however indirectly.
const IMPURE: &[&str] = &[
    "tokio",
    "kube-client",
    "kube-runtime",
    "rtnetlink",
    "hyper",
    "nix",
    "socket2",
];

/// The packages that promise purity.
const CORES: &[&str] = &[
    "caracal-api",
    "caracal-felix-core",
    "caracal-bgpd-core",
    "caracal-bgpd-compile",
];

/// Checks every rule and reports all violations at once.
///
/// # Errors
/// When `cargo metadata` cannot be run, or with one line a violation.
pub(crate) fn check() -> Result<()> {
    let metadata = metadata()?;
    let mut findings = Vec::new();
    for package in members(&metadata) {
        check_arrows(&package, &mut findings);
        check_doors(&package, &mut findings);
    }
    check_purity(&metadata, &mut findings)?;
    if findings.is_empty() {
        Ok(())
    } else {
        bail!("{}", findings.join("\n"))
    }
}

/// One workspace member and what it uses in production.
struct Member {
    name: String,
    uses: BTreeSet<String>,
}

fn metadata() -> Result<Value> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()
        .context("running cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    serde_json::from_slice(&output.stdout).context("reading the output of cargo metadata")
}

fn text(value: &Value, key: &str) -> String {
    value
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn members(metadata: &Value) -> Vec<Member> {
    let ids: BTreeSet<&str> = list(metadata, "workspace_members")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    list(metadata, "packages")
        .iter()
        .filter(|package| ids.contains(text(package, "id").as_str()))
        .map(|package| Member {
            name: text(package, "name"),
            uses: list(package, "dependencies")
                .iter()
                .filter(|dependency| dependency.get("kind").is_none_or(Value::is_null))
                .map(|dependency| {
                    let rename = text(dependency, "rename");
                    if rename.is_empty() {
                        text(dependency, "name")
                    } else {
                        rename
                    }
                })
                .collect(),
        })
        .collect()
}

fn check_arrows(package: &Member, findings: &mut Vec<String>) {
    if matches!(package.name.as_str(), "xtask" | "caracal-tests") {
        return;
    }
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
        findings.push(format!(
            "{}: a package without a row in xtask/src/dag.rs",
            package.name
        ));
        return;
    };
    for used in package.uses.iter().filter(|used| used.starts_with("caracal-")) {
        if !allowed.contains(&used.as_str()) {
            findings.push(format!(
                "{} -> {used}: this arrow is not drawn in ARCHITECTURE.md",
                package.name
            ));
        }
    }
}

fn check_doors(package: &Member, findings: &mut Vec<String>) {
    for (external, doors) in DOORS {
        if package.uses.contains(*external) && !doors.contains(&package.name.as_str()) {
            findings.push(format!(
                "{} -> {external}: this crate enters through {doors:?} only",
                package.name
            ));
        }
    }
}

fn check_purity(metadata: &Value, findings: &mut Vec<String>) -> Result<()> {
    let resolve = metadata
        .get("resolve")
        .context("cargo metadata without a resolved graph")?;
    let names: BTreeMap<String, String> = list(metadata, "packages")
        .iter()
        .map(|package| (text(package, "id"), text(package, "name")))
        .collect();
    let edges: BTreeMap<String, Vec<String>> = list(resolve, "nodes")
        .iter()
        .map(|node| (text(node, "id"), normal_edges(node)))
        .collect();
    for (id, name) in names.iter().filter(|(_, name)| CORES.contains(&name.as_str())) {
        let mut seen = BTreeSet::new();
        let mut stack = vec![id.clone()];
        while let Some(next) = stack.pop() {
            if !seen.insert(next.clone()) {
                continue;
            }
            if let Some(reached) = names.get(&next)
                && IMPURE.contains(&reached.as_str())
            {
                findings.push(format!("{name} reaches {reached}: a core does no I/O"));
            }
            stack.extend(edges.get(&next).into_iter().flatten().cloned());
        }
    }
    Ok(())
}

/// The packages that a resolved node needs in production: build- and dev-dependencies left out.
fn normal_edges(node: &Value) -> Vec<String> {
    list(node, "deps")
        .iter()
        .filter(|dep| {
            list(dep, "dep_kinds")
                .iter()
                .any(|kind| kind.get("kind").is_none_or(Value::is_null))
        })
        .map(|dep| text(dep, "pkg"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_has_only_the_arrows_that_are_drawn() {
        check().unwrap();
    }

    #[test]
    fn an_arrow_that_is_not_drawn_is_found() {
        let package = Member {
            name: "caracal-bgpd-core".to_owned(),
            uses: ["caracal-api", "rtnetlink"]
                .into_iter()
                .map(str::to_owned)
                .collect(),
        };
        let mut findings = Vec::new();
        check_arrows(&package, &mut findings);
        check_doors(&package, &mut findings);
        assert_eq!(findings.len(), 2, "{findings:?}");
    }
}

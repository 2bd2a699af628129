//! The files a node has: kubeconfig, CNI configuration and plugins, and its name.
//!
//! They are what calico-node's installer leaves on a real node, with the names it uses, so that the plugins and the
//! tools find them where they would there. Source: reference of the installed conflist (`cni-plugin/pkg/install`).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use caracal_api::yaml;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::state::{Layout, write_file};
use crate::topology::{API_FABRIC_PORT, Machine, Plan, api_address};

/// Where a node finds its kubeconfig.
pub const KUBECONFIG: &str = "/etc/cni/net.d/calico-kubeconfig";
/// Where a node finds the CNI plugins.
pub const PLUGINS: &str = "/opt/cni/bin";
/// File name of the CNI configuration.
pub const CONFLIST: &str = "10-calico.conflist";
/// What a link in a node's plugin folder cannot point into: the node sees folders of its own there.
const HIDDEN: &[&str] = &[
    "/run",
    "/var/run",
    "/opt/cni/bin",
    "/etc/cni/net.d",
    "/var/lib/cni",
];

/// Writes a node's files. The user's kubeconfig must be there.
///
/// # Errors
/// A file that cannot be read or written.
pub fn write(layout: &Layout, plan: &Plan, node: &Machine) -> Result<()> {
    let own = layout.machine(node);
    let net_d = own.join("etc-cni-net.d");
    let user = layout.kubeconfig();
    let text = fs::read_to_string(&user).map_err(|e| Error::io(format!("read {}", user.display()), e))?;
    let kubeconfig = kubeconfig(&text)?;
    write_file(&net_d.join("calico-kubeconfig"), kubeconfig.as_bytes(), 0o600)?;
    let conflist = format!("{:#}\n", conflist(node));
    write_file(&net_d.join(CONFLIST), conflist.as_bytes(), 0o600)?;
    // Read verbatim by the plugin: no line end.
    write_file(&own.join("var-lib-calico/nodename"), node.name.as_bytes(), 0o644)?;
    for name in ["calico", "calico-ipam", "portmap"] {
        if let Some(program) = plan.programs.get(name) {
            install(program, &own.join("opt-cni-bin").join(name))?;
        }
    }
    Ok(())
}

/// The user's kubeconfig with the server's address in the fabric.
fn kubeconfig(user: &str) -> Result<String> {
    let failed = |problem: String| Error::refused(format!("the API server's kubeconfig: {problem}"));
    let mut value = yaml::document(user).map_err(|e| failed(e.to_string()))?;
    let clusters = value
        .get_mut("clusters")
        .and_then(Value::as_array_mut)
        .filter(|clusters| !clusters.is_empty())
        .ok_or_else(|| failed("clusters: none there".to_owned()))?;
    for cluster in clusters {
        let cluster = cluster
            .get_mut("cluster")
            .and_then(Value::as_object_mut)
            .ok_or_else(|| failed("clusters[].cluster: missing".to_owned()))?;
        let server = format!("https://{}:{API_FABRIC_PORT}", api_address());
        cluster.insert("server".to_owned(), Value::String(server));
    }
    yaml::to_string(&value).map_err(|e| failed(e.to_string()))
}

fn conflist(node: &Machine) -> Value {
    json!({
        "name": "k8s-pod-network",
        "cniVersion": "1.0.0",
        "plugins": [
            {
                "type": "calico",
                "log_level": "info",
                "log_file_path": "/var/log/calico/cni/cni.log",
                "datastore_type": "kubernetes",
                "nodename": node.name,
                "mtu": 1500,
                "ipam": {"type": "calico-ipam"},
                "policy": {"type": "k8s"},
                "kubernetes": {"kubeconfig": KUBECONFIG},
            },
            {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}},
        ],
    })
}

/// A link where the node can follow it, else a copy.
fn install(program: &Path, target: &Path) -> Result<()> {
    let failed = |e| Error::io(format!("install {}", target.display()), e);
    match fs::remove_file(target) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let program = fs::canonicalize(program).map_err(failed)?;
    if HIDDEN.iter().any(|folder| program.starts_with(folder)) {
        fs::copy(&program, target).map(drop).map_err(failed)
    } else {
        symlink(&program, target).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Options;

    const USER: &str = "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster:\n    server: https://127.0.0.1:4000\n    certificate-authority-data: QQ==\n";

    #[test]
    fn only_the_server_differs_between_the_users_and_the_nodes_kubeconfig() {
        let value = yaml::document(&kubeconfig(USER).unwrap()).unwrap();
        assert_eq!(
            value["clusters"][0]["cluster"]["server"],
            "https://172.30.0.254:6443"
        );
        assert_eq!(
            value["clusters"][0]["cluster"]["certificate-authority-data"],
            "QQ=="
        );
        assert_eq!(value["kind"], "Config");
    }

    #[test]
    fn a_kubeconfig_without_clusters_is_refused() {
        let message = kubeconfig("apiVersion: v1\nkind: Config\nclusters: []\n")
            .unwrap_err()
            .to_string();
        assert!(message.contains("clusters"), "{message}");
    }

    #[test]
    fn a_node_gets_what_the_installer_would_leave() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path()).unwrap();
        let mut plan = Plan::new(dir.path(), &Options::default()).unwrap();
        let program = fs::canonicalize("/bin/true").unwrap();
        plan.programs.insert("calico".to_owned(), program.clone());
        fs::write(layout.kubeconfig(), USER).unwrap();
        let node = plan.machine("node-3").unwrap();
        let own = layout.machine(node);
        for folder in ["etc-cni-net.d", "var-lib-calico", "opt-cni-bin"] {
            fs::create_dir_all(own.join(folder)).unwrap();
        }
        for _ in 0..2 {
            write(&layout, &plan, node).unwrap();
        }
        assert_eq!(
            fs::read_to_string(own.join("var-lib-calico/nodename")).unwrap(),
            "node-3"
        );
        assert_eq!(fs::read_link(own.join("opt-cni-bin/calico")).unwrap(), program);
        let text = fs::read_to_string(own.join("etc-cni-net.d").join(CONFLIST)).unwrap();
        let conflist: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(conflist["plugins"][0]["ipam"]["type"], "calico-ipam");
        assert_eq!(conflist["plugins"][1]["type"], "portmap");
    }
}

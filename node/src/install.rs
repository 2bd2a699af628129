//! Installation of the CNI plugins on the host: programs, network configuration, kubeconfig.
//!
//! Owns the files that it writes there by name. Programs come first and the configuration last, so that a runtime never
//! finds a configuration without its program. Source: Calico's `cni-plugin/pkg/install` and `node/pkg/cni`.

mod conflist;
mod kubeconfig;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use caracal_datastore::Client;

use crate::files;

pub use conflist::{Template, conflist};
pub use kubeconfig::{Account, Token, kubeconfig, request_token};

/// Plugins that are installed.
const PLUGINS: [&str; 2] = ["calico", "calico-ipam"];
/// Plugins of others that a configuration may name and a node can do without: host ports, bandwidth.
const OPTIONAL: [&str; 2] = ["portmap", "bandwidth"];
/// Name of the kubeconfig beside the network configuration.
pub const KUBECONFIG: &str = "calico-kubeconfig";
/// Where Calico's manifests mount the host's folders.
pub const HOST_NET_DIR: &str = "/host/etc/cni/net.d";
const HOST_BIN_DIRS: [&str; 2] = ["/host/opt/cni/bin", "/host/secondary-bin-dir"];

/// Why the plugins are not installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] files::Error),
    /// No folder takes the programs.
    #[error("no folder for the CNI plugins is mounted: {0}; mount the host's /opt/cni/bin there")]
    NoFolder(String),
    /// The network configuration cannot be used.
    #[error("{variable}: {problem}")]
    Configuration {
        /// Where it is from.
        variable: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The account of this pod cannot be read.
    #[error(
        "the service account of this pod cannot be read ({path}: {problem}); is automountServiceAccountToken on?"
    )]
    Account {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The API did not give a token.
    #[error("a token for {account}: {problem}")]
    Token {
        /// The service account.
        account: String,
        /// What is wrong.
        problem: String,
    },
}

/// Where things are, in this container and on the host.
#[derive(Clone, Debug)]
pub struct Places {
    /// Programs of this image.
    pub programs: PathBuf,
    /// Folders of the host for them.
    pub bin_dirs: Vec<PathBuf>,
    /// The host's folder of network configurations, as it is mounted here.
    pub net_dir: PathBuf,
    /// The service account of this pod.
    pub account_dir: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            programs: "/opt/cni/bin".into(),
            bin_dirs: HOST_BIN_DIRS.map(PathBuf::from).to_vec(),
            net_dir: HOST_NET_DIR.into(),
            account_dir: "/var/run/secrets/kubernetes.io/serviceaccount".into(),
        }
    }
}

/// Copies the programs into every folder that is mounted, and gives the first of them.
///
/// # Errors
/// When no folder is mounted, or a program cannot be written.
pub fn programs(places: &Places, variables: &BTreeMap<String, String>) -> Result<PathBuf, Error> {
    let text = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
    let update = text("UPDATE_CNI_BINARIES") != "false";
    let skipped: Vec<&str> = text("SKIP_CNI_BINARIES").split(',').map(str::trim).collect();
    let mut first = None;
    for folder in places.bin_dirs.iter().filter(|folder| folder.is_dir()) {
        for name in PLUGINS.into_iter().filter(|name| !skipped.contains(name)) {
            let target = folder.join(name);
            if !update && target.exists() {
                continue;
            }
            if files::copy(&places.programs.join(name), &target, 0o755)? {
                tracing::info!(path = %target.display(), "CNI plugin installed");
            }
        }
        first.get_or_insert_with(|| folder.clone());
    }
    first.ok_or_else(|| {
        let folders: Vec<String> = places
            .bin_dirs
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        Error::NoFolder(folders.join(", "))
    })
}

/// Writes the network configuration, and removes the one that it replaces.
///
/// # Errors
/// When it cannot be made or written.
pub fn configuration(
    places: &Places,
    variables: &BTreeMap<String, String>,
    node: &str,
    bin_dir: &Path,
) -> Result<(), Error> {
    let missing = OPTIONAL.into_iter().filter(|name| !bin_dir.join(name).exists());
    let template = Template::read(variables, node, missing.collect())?;
    let path = places.net_dir.join(&template.file_name);
    if files::replace(&path, conflist(&template)?.as_bytes(), 0o600)? {
        tracing::info!(path = %path.display(), "network configuration installed");
    }
    if let Some(old) = template
        .replaces
        .as_ref()
        .filter(|old| **old != template.file_name)
    {
        let old = places.net_dir.join(old);
        match fs::remove_file(&old) {
            Ok(()) => tracing::info!(path = %old.display(), "old network configuration removed"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(files::Error { path: old, source }.into()),
        }
    }
    Ok(())
}

/// Writes the plugins' kubeconfig with a new token, and gives the token.
///
/// # Errors
/// When the account cannot be read, the API gives no token, or the file cannot be written.
pub async fn credentials(
    client: &Client,
    places: &Places,
    variables: &BTreeMap<String, String>,
    service_account: &str,
) -> Result<Token, Error> {
    let account = Account::read(&places.account_dir, service_account)?;
    let token = request_token(client, &account).await?;
    let text = kubeconfig(variables, &account, &token.token)?;
    files::replace(&places.net_dir.join(KUBECONFIG), text.as_bytes(), 0o600)?;
    Ok(token)
}

#[cfg(test)]
mod tests;

//! The node's CNI chain, run as a container runtime runs it: configuration, environment, standard input, cached
//! results, and deletion in reverse order.
//!
//! Owns the protocol between runtime and plugins; what the plugins do is theirs. They run inside the node's
//! namespaces. Source: CNI specification 1.0.0, §2 to §5, and the cache of its reference library (`libcni/api.go`).

mod cache;
mod conf;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

pub use cache::Cached;
pub use conf::{ConfError, Conflist};

use crate::enter::Place;
use crate::error::Error;
use crate::process::spawn_at;
use crate::programs;
use crate::state::MARK;

/// Where a node keeps its network configuration.
pub const CONF_DIR: &str = "/etc/cni/net.d";
/// Where a node keeps its plugins.
pub const BIN_DIR: &str = "/opt/cni/bin";
/// Where a node keeps the results of its plugins.
pub const CACHE_DIR: &str = "/var/lib/cni/results";
/// The device that a chain makes in a pod.
pub const IFNAME: &str = "eth0";
/// A plugin that takes longer is ended.
const PLUGIN_TIMEOUT: Duration = Duration::from_secs(90);

/// Why a chain failed.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Conf(#[from] ConfError),
    /// A plugin could not be run.
    #[error("CNI plugin {plugin}, {command}: {source}")]
    Run {
        /// Its type.
        plugin: String,
        /// ADD, DEL or CHECK.
        command: &'static str,
        /// Why.
        source: Error,
    },
    /// A plugin reported an error.
    #[error("CNI plugin {plugin}, {command}: {message} (code {code})")]
    Plugin {
        /// Its type.
        plugin: String,
        /// ADD, DEL or CHECK.
        command: &'static str,
        /// The specification's number for the error.
        code: u64,
        /// What the plugin said.
        message: String,
    },
    /// A plugin's answer is not what the specification says.
    #[error("CNI plugin {plugin}, {command}: its answer is not a result: {problem}")]
    Answer {
        /// Its type.
        plugin: String,
        /// ADD, DEL or CHECK.
        command: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The node's file system could not be used.
    #[error(transparent)]
    Node(#[from] Error),
}

/// A container that is plugged in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// The sandbox's id.
    pub container_id: String,
    /// Path of its network namespace within the node's mount namespace.
    pub netns: PathBuf,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Identity of the pod object.
    pub uid: String,
    /// Values for what plugins declare as capabilities: `portMappings`.
    pub capabilities: BTreeMap<String, Value>,
}

/// What a chain gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Added {
    /// The last plugin's result.
    pub result: Value,
    /// The addresses in it.
    pub addresses: Vec<IpAddr>,
}

/// Runs a node's chain.
#[derive(Clone, Debug)]
pub struct Runtime {
    place: Arc<Place>,
    mark: String,
}

impl Runtime {
    /// For the node at a place; what it starts carries the lab's id.
    #[must_use]
    pub fn new(place: Arc<Place>, lab_id: &str) -> Self {
        Self {
            place,
            mark: lab_id.to_owned(),
        }
    }

    /// Plugs a container in. After a failure [`Runtime::delete`] must be called, with the same attachment.
    ///
    /// # Errors
    /// No usable configuration, or the first plugin that fails.
    pub async fn add(&self, attachment: &Attachment) -> Result<Added, ChainError> {
        let list = self.place.run(|| Conflist::load(Path::new(CONF_DIR)))??;
        let mut result = None;
        for plugin in list.plugins() {
            let stdin = list.stdin(plugin, result.as_ref(), &attachment.capabilities);
            let output = self.run(attachment, &plugin.kind, "ADD", stdin).await?;
            result = Some(parse_result(&plugin.kind, &output)?);
        }
        // `Conflist` has at least one plugin, so this is never null.
        let result = result.unwrap_or_default();
        let last = list.plugins().last().map_or("", |plugin| plugin.kind.as_str());
        let addresses = addresses(&result).map_err(|problem| ChainError::Answer {
            plugin: last.to_owned(),
            command: "ADD",
            problem,
        })?;
        let cached = Cached::new(&list, attachment, result.clone());
        self.place.run(|| cached.store(Path::new(CACHE_DIR)))??;
        Ok(Added { result, addresses })
    }

    /// Lets every plugin look whether things are as ADD made them.
    ///
    /// # Errors
    /// The container was never plugged in, or the first plugin that is not content.
    pub async fn check(&self, attachment: &Attachment) -> Result<(), ChainError> {
        let (list, cached) = self.configuration(attachment)?;
        let cached = cached.ok_or_else(|| {
            Error::refused(format!(
                "container {}: no cached CNI result; plug it in (ADD) before checking it",
                attachment.container_id
            ))
        })?;
        if !list.checks() {
            return Ok(());
        }
        for plugin in list.plugins() {
            let stdin = list.stdin(plugin, Some(&cached.result), &cached.capabilities);
            self.run(attachment, &plugin.kind, "CHECK", stdin).await?;
        }
        Ok(())
    }

    /// Unplugs a container: every plugin in reverse order, also after one has failed. What is gone is success.
    ///
    /// # Errors
    /// No usable configuration, or the first failure; the cached result then stays for the next attempt.
    pub async fn delete(&self, attachment: &Attachment) -> Result<(), ChainError> {
        let (list, cached) = self.configuration(attachment)?;
        let capabilities = cached
            .as_ref()
            .map_or(&attachment.capabilities, |cached| &cached.capabilities);
        // Plugins before version 0.4.0 do not expect a result here.
        let result = cached
            .as_ref()
            .map(|c| &c.result)
            .filter(|_| list.version_at_least(0, 4));
        let mut first = Ok(());
        for plugin in list.plugins().iter().rev() {
            let stdin = list.stdin(plugin, result, capabilities);
            let outcome = self.run(attachment, &plugin.kind, "DEL", stdin).await;
            if let (Ok(()), Err(error)) = (&first, outcome) {
                first = Err(error);
            }
        }
        first?;
        let file = Cached::file(Path::new(CACHE_DIR), list.name(), &attachment.container_id);
        Ok(self.place.run(|| cache::remove(&file))??)
    }

    /// The configuration that a container was plugged in with, else the present one.
    fn configuration(&self, attachment: &Attachment) -> Result<(Conflist, Option<Cached>), ChainError> {
        let id = &attachment.container_id;
        let found = self.place.run(|| Cached::find(Path::new(CACHE_DIR), id))??;
        if let Some(cached) = found
            && let Ok(list) = cached.conflist()
        {
            return Ok((list, Some(cached)));
        }
        let list = self.place.run(|| Conflist::load(Path::new(CONF_DIR)))??;
        Ok((list, None))
    }

    async fn run(
        &self,
        attachment: &Attachment,
        plugin: &str,
        command: &'static str,
        stdin: Vec<u8>,
    ) -> Result<Vec<u8>, ChainError> {
        let failed = |source| ChainError::Run {
            plugin: plugin.to_owned(),
            command,
            source,
        };
        let mut program = Command::new(Path::new(BIN_DIR).join(plugin));
        program
            .env_clear()
            .envs(environment(attachment, command))
            .env("PATH", programs::search_path())
            .env(MARK, &self.mark)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let output = self.communicate(&mut program, stdin).await.map_err(failed)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(plugin_error(plugin, command, &output))
    }

    async fn communicate(&self, program: &mut Command, stdin: Vec<u8>) -> Result<Output, Error> {
        let mut child = spawn_at(Some(&self.place), program)?
            .map_err(|e| Error::io(format!("start it from {BIN_DIR}"), e))?;
        let mut pipe = child.stdin.take();
        let exchange = async {
            let feed = async {
                // A plugin that ends without reading tells why by its exit status; a broken pipe adds nothing.
                if let Some(pipe) = &mut pipe {
                    let _ = pipe.write_all(&stdin).await;
                }
                drop(pipe);
            };
            let (output, ()) = tokio::join!(child.wait_with_output(), feed);
            output
        };
        match timeout(PLUGIN_TIMEOUT, exchange).await {
            Ok(output) => output.map_err(|e| Error::io("wait for it", e)),
            Err(_) => Err(Error::refused(format!(
                "no answer within {} s; it was ended",
                PLUGIN_TIMEOUT.as_secs()
            ))),
        }
    }
}

/// What a runtime tells a plugin in its environment.
fn environment(attachment: &Attachment, command: &str) -> Vec<(&'static str, String)> {
    let args = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
        attachment.namespace, attachment.name, attachment.container_id, attachment.uid
    );
    vec![
        ("CNI_COMMAND", command.to_owned()),
        ("CNI_CONTAINERID", attachment.container_id.clone()),
        ("CNI_NETNS", attachment.netns.display().to_string()),
        ("CNI_IFNAME", IFNAME.to_owned()),
        ("CNI_ARGS", args),
        ("CNI_PATH", BIN_DIR.to_owned()),
    ]
}

/// The error a plugin printed; a plugin that printed none is quoted.
fn plugin_error(plugin: &str, command: &'static str, output: &Output) -> ChainError {
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let text = |key: &str| said.get(key).and_then(Value::as_str).unwrap_or_default();
    let mut message = text("msg").to_owned();
    if !text("details").is_empty() {
        message = format!("{message}; {}", text("details"));
    }
    if message.is_empty() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.trim().lines().last().unwrap_or("no message");
        message = format!("{}: {last}", output.status);
    }
    ChainError::Plugin {
        plugin: plugin.to_owned(),
        command,
        code: said.get("code").and_then(Value::as_u64).unwrap_or(999),
        message,
    }
}

fn parse_result(plugin: &str, output: &[u8]) -> Result<Value, ChainError> {
    let problem = match serde_json::from_slice::<Value>(output) {
        Ok(value) if value.is_object() => return Ok(value),
        Ok(_) => "not a JSON object".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(ChainError::Answer {
        plugin: plugin.to_owned(),
        command: "ADD",
        problem,
    })
}

/// The addresses of a result, in its order.
fn addresses(result: &Value) -> Result<Vec<IpAddr>, String> {
    let ips = result
        .get("ips")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    ips.iter()
        .enumerate()
        .map(|(index, ip)| {
            let text = ip.get("address").and_then(Value::as_str).unwrap_or_default();
            let network: Result<ipnet::IpNet, _> = text.parse();
            network
                .map(|network| network.addr())
                .map_err(|_| format!("ips[{index}].address: {text:?} is not an address with a prefix length"))
        })
        .collect()
}

#[cfg(test)]
mod tests;

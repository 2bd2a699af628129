//! Calling another plugin, the one for addresses, as the CNI specification says: by executing it.
//!
//! Source: CNI specification 1.1.0, "Plugin Delegation".

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::io::AsyncWriteExt;

use crate::error::{Code, Error, Result};
use crate::result::AddResult;
use crate::skel::{Call, Command};

/// Longest time that an address plugin may take: calico-ipam gives itself 90 s after it has the host's lock.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Differences between the own call and the delegated one.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Another `CNI_ARGS`.
    pub args: Option<String>,
    /// Another container.
    pub container_id: Option<String>,
}

/// Where an address plugin is, and what it gets.
#[derive(Clone, Debug)]
pub struct Delegate {
    program: PathBuf,
    name: String,
    conf: Map<String, Value>,
}

impl Delegate {
    /// Looks the plugin up in the folders of the call.
    ///
    /// # Errors
    /// Code 7 when the configuration names none, or one that is not there.
    pub fn find(call: &Call, conf: Map<String, Value>) -> Result<Self> {
        let name = call.conf.ipam.kind.clone();
        if name.is_empty() || name.contains('/') {
            return Err(Error::new(
                Code::InvalidConfig,
                format!("network configuration: ipam.type is {name:?}"),
            )
            .hint("write the name of an address plugin, as \"calico-ipam\""));
        }
        let found = call
            .path
            .iter()
            .map(|folder| folder.join(&name))
            .find(|path| path.is_file());
        let program = found.ok_or_else(|| {
            let folders: Vec<String> = call.path.iter().map(|path| path.display().to_string()).collect();
            Error::new(
                Code::InvalidConfig,
                format!("failed to find plugin {name:?} in path [{}]", folders.join(" ")),
            )
            .hint("install it there, or correct ipam.type or CNI_PATH")
        })?;
        Ok(Self { program, name, conf })
    }

    /// ADD.
    ///
    /// # Errors
    /// What the plugin reports, or that it could not be run.
    pub async fn add(&self, call: &Call, changes: &Changes) -> Result<AddResult> {
        let output = self.run(call, Command::Add, changes).await?;
        let document: Value = serde_json::from_slice(&output)
            .map_err(|error| Error::new(Code::Decode, format!("result of plugin {}: {error}", self.name)))?;
        AddResult::from_json(&document, call.conf.version)
            .map_err(|error| error.context(format_args!("plugin {}", self.name)))
    }

    /// Any command without a result.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub async fn tell(&self, call: &Call, command: Command, changes: &Changes) -> Result<()> {
        self.run(call, command, changes).await.map(drop)
    }

    async fn run(&self, call: &Call, command: Command, changes: &Changes) -> Result<Vec<u8>> {
        let failed = |what: &str, error: std::io::Error| {
            Error::new(
                Code::Io,
                format!("{what} plugin {}: {error}", self.program.display()),
            )
        };
        let mut process = tokio::process::Command::new(&self.program);
        process
            .env("CNI_COMMAND", command.as_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        set_call(&mut process, call, changes);
        let mut child = process.spawn().map_err(|error| failed("start", error))?;
        let document = Value::Object(self.conf.clone()).to_string();
        let talk = async {
            if let Some(mut stdin) = child.stdin.take() {
                // A plugin that ends without reading says why in its output.
                let _ = stdin.write_all(document.as_bytes()).await;
            }
            child
                .wait_with_output()
                .await
                .map_err(|error| failed("run", error))
        };
        let output = tokio::time::timeout(TIMEOUT, talk).await.map_err(|_| {
            Error::new(
                Code::TryAgainLater,
                format!("plugin {} did not end within {} s", self.name, TIMEOUT.as_secs()),
            )
        })??;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let reported: Option<Error> = serde_json::from_slice(&output.stdout)
            .ok()
            .and_then(|document| Error::from_json(&document));
        Err(reported.unwrap_or_else(|| {
            Error::new(
                Code::Plugin,
                format!("plugin {} failed without a reason: {}", self.name, output.status),
            )
        }))
    }
}

/// The environment of the delegated call. It is set in full: a library's caller need not have it in its own.
fn set_call(process: &mut tokio::process::Command, call: &Call, changes: &Changes) {
    let container_id = changes.container_id.as_ref().unwrap_or(&call.container_id);
    process.env("CNI_CONTAINERID", container_id);
    process
        .env("CNI_NETNS", &call.netns)
        .env("CNI_IFNAME", &call.ifname);
    let args = changes.args.clone().unwrap_or_else(|| call.args.to_string());
    process.env("CNI_ARGS", args);
    if let Ok(path) = std::env::join_paths(&call.path) {
        process.env("CNI_PATH", path);
    }
}

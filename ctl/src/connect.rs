//! Which API server to speak to: a CalicoAPIConfig file, flags, or what kubectl would use.

use std::path::PathBuf;

use caracal_api::yaml;
use caracal_datastore::{Client, ConnectOptions};
use serde_json::Value;

use crate::args::Global;
use crate::error::Failure;
use crate::store::Store;

const DEFAULT_CONFIG: &str = "/etc/calico/calicoctl.cfg";

/// How a command comes to the API server.
#[derive(Clone, Debug)]
pub enum Access {
    /// As the arguments, the configuration file and the environment say.
    Environment,
    /// This client.
    Client(Client),
}

impl Access {
    /// The client.
    pub(crate) async fn client(&self, global: &Global) -> Result<Client, Failure> {
        match self {
            Self::Environment => client(global).await,
            Self::Client(client) => Ok(client.clone()),
        }
    }

    /// The client, for objects of all kinds.
    pub(crate) async fn store(&self, global: &Global) -> Result<Store, Failure> {
        self.client(global).await.map(Store::new)
    }
}

/// A client as the arguments, the configuration file and the environment say.
async fn client(global: &Global) -> Result<Client, Failure> {
    let file = configuration(global)?;
    let spec = |key: &str| {
        file.pointer(&format!("/spec/{key}"))
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    if let Some(kind) = spec("datastoreType")
        && kind != "kubernetes"
    {
        return Err(Failure::new(format!(
            "{}: spec.datastoreType {kind:?} is not supported; use kubernetes",
            global.config.display()
        )));
    }
    let options = ConnectOptions {
        kubeconfig: global
            .kubeconfig
            .clone()
            .or_else(|| spec("kubeconfig").map(PathBuf::from))
            .or_else(|| {
                std::env::var_os("KUBECONFIG")
                    .filter(|path| !path.is_empty())
                    .map(PathBuf::from)
            }),
        context: global.context.clone().or_else(|| spec("k8sCurrentContext")),
        server: spec("k8sAPIEndpoint"),
        user_agent: "caracalctl".to_owned(),
    };
    Client::connect(&options)
        .await
        .map_err(|error| Failure::new(format!("Failed to create Calico API client: {error}")).on_stdout())
}

fn configuration(global: &Global) -> Result<Value, Failure> {
    let path = &global.config;
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && path.as_os_str() == DEFAULT_CONFIG => {
            return Ok(Value::Null);
        }
        Err(error) => {
            return Err(
                Failure::new(format!("Error reading config file: {}: {error}", path.display())).on_stdout(),
            );
        }
    };
    let value = yaml::document(&text).map_err(|error| {
        Failure::new(format!(
            "syntax error in {}: failed to parse config as YAML/JSON: {error}",
            path.display()
        ))
    })?;
    let word = |key: &str| {
        value
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    if word("apiVersion") != "projectcalico.org/v3" {
        return Err(Failure::new(format!(
            "invalid config file: unknown APIVersion '{}'",
            word("apiVersion")
        )));
    }
    if word("kind") != "CalicoAPIConfig" {
        return Err(Failure::new(format!(
            "invalid config file: expected kind 'CalicoAPIConfig', got '{}'",
            word("kind")
        )));
    }
    Ok(value)
}

//! Which API server to speak to: a CalicoAPIConfig file, flags, or what kubectl would use.

mod settings;

pub(crate) use settings::markdown as settings_as_markdown;

use std::path::PathBuf;

use caracal_api::yaml;
use caracal_datastore::Client;
use serde_json::Value;

use crate::args::Global;
use crate::error::Failure;
use crate::store::Store;
use settings::Source;

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
    let (name, read) = (global.config.display().to_string(), |name: &str| {
        std::env::var(name).ok()
    });
    let source = match &file {
        Some(content) => Source::File(&name, content),
        None => Source::Variables(&read),
    };
    let mut options = settings::options(&source, default_kubeconfig()).map_err(Failure::new)?;
    options.user_agent = "caracalctl".to_owned();
    // What the arguments say comes before everything else.
    if let Some(path) = &global.kubeconfig {
        options.kubeconfig = Some(path.clone());
        (options.kubeconfig_inline, options.only_server) = (None, false);
    }
    if let Some(context) = &global.context {
        options.context = Some(context.clone());
    }
    Client::connect(&options)
        .await
        .map_err(|error| Failure::new(format!("Failed to create Calico API client: {error}")).on_stdout())
}

/// kubectl's file, if it is there.
fn default_kubeconfig() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("HOME")?).join(".kube/config");
    path.is_file().then_some(path)
}

/// The configuration file; nothing where the default one is absent.
fn configuration(global: &Global) -> Result<Option<Value>, Failure> {
    let path = &global.config;
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && path.as_os_str() == DEFAULT_CONFIG => {
            return Ok(None);
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
    Ok(Some(value))
}

//! The network configuration: Calico's own, or a template with its placeholders filled in.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use super::{Error, KUBECONFIG};

const FILE_NAME: &str = "10-calico.conflist";
/// Where the host has its network configurations, unless told otherwise.
const NET_DIR: &str = "/etc/cni/net.d";

/// What the configuration is made of.
#[derive(Clone, Debug)]
pub struct Template {
    /// Its file name.
    pub file_name: String,
    /// File name of a configuration that it replaces.
    pub replaces: Option<String>,
    text: Option<(&'static str, String)>,
    values: Vec<(&'static str, String)>,
    api_group: Option<String>,
    missing: Vec<&'static str>,
}

impl Template {
    /// Reads the installer's variables. `missing` are plugins that this machine does not have.
    ///
    /// # Errors
    /// When the file with a template cannot be read, or a file name is none.
    pub fn read(
        variables: &BTreeMap<String, String>,
        node: &str,
        missing: Vec<&'static str>,
    ) -> Result<Self, Error> {
        let text = |name: &str| {
            variables
                .get(name)
                .map(|value| value.trim())
                .filter(|value| !value.is_empty())
        };
        let or = |name: &str, default: &str| text(name).unwrap_or(default).to_owned();
        let file_name = or("CNI_CONF_NAME", FILE_NAME);
        let replaces = text("CNI_OLD_CONF_NAME").map(ToOwned::to_owned);
        for (variable, name) in [
            ("CNI_CONF_NAME", Some(&file_name)),
            ("CNI_OLD_CONF_NAME", replaces.as_ref()),
        ] {
            if name.is_some_and(|name| name.contains('/') || name.starts_with('.')) {
                return Err(Error::Configuration {
                    variable,
                    problem: format!("{name:?} is no file name; use one as {FILE_NAME}"),
                });
            }
        }
        let net_dir = or("CNI_NET_DIR", NET_DIR);
        let file = text("CNI_NETWORK_CONFIG_FILE");
        let template = match (file, text("CNI_NETWORK_CONFIG")) {
            (Some(path), _) => Some((
                "CNI_NETWORK_CONFIG_FILE",
                fs::read_to_string(path).map_err(|error| Error::Configuration {
                    variable: "CNI_NETWORK_CONFIG_FILE",
                    problem: format!("{path}: {error}"),
                })?,
            )),
            (None, Some(text)) => Some(("CNI_NETWORK_CONFIG", text.to_owned())),
            (None, None) => None,
        };
        let node = text("KUBERNETES_NODE_NAME").unwrap_or(node).to_owned();
        let values = vec![
            ("__LOG_LEVEL__", or("LOG_LEVEL", "info")),
            (
                "__LOG_FILE_PATH__",
                or("LOG_FILE_PATH", "/var/log/calico/cni/cni.log"),
            ),
            ("__LOG_FILE_MAX_SIZE__", or("LOG_FILE_MAX_SIZE", "100")),
            ("__LOG_FILE_MAX_AGE__", or("LOG_FILE_MAX_AGE", "30")),
            ("__LOG_FILE_MAX_COUNT__", or("LOG_FILE_MAX_COUNT", "10")),
            ("__DATASTORE_TYPE__", or("DATASTORE_TYPE", "kubernetes")),
            ("__KUBERNETES_NODE_NAME__", node),
            ("__KUBECONFIG_FILEPATH__", format!("{net_dir}/{KUBECONFIG}")),
            ("__KUBECONFIG_FILENAME__", KUBECONFIG.to_owned()),
            ("__CNI_MTU__", or("CNI_MTU", "0")),
            ("__KUBERNETES_SERVICE_HOST__", or("KUBERNETES_SERVICE_HOST", "")),
            ("__KUBERNETES_SERVICE_PORT__", or("KUBERNETES_SERVICE_PORT", "")),
            ("__CALICO_API_GROUP__", or("CALICO_API_GROUP", "")),
            ("__REQUIRE_MTU_FILE__", or("REQUIRE_MTU_FILE", "false")),
        ];
        Ok(Self {
            file_name,
            replaces,
            text: template,
            values,
            api_group: text("CALICO_API_GROUP").map(ToOwned::to_owned),
            missing,
        })
    }

    fn value(&self, placeholder: &str) -> &str {
        self.values
            .iter()
            .find(|(name, _)| *name == placeholder)
            .map_or("", |(_, value)| value)
    }
}

/// The text of the configuration.
///
/// # Errors
/// When it is no JSON once filled in, or has placeholders that are not known.
pub fn conflist(template: &Template) -> Result<String, Error> {
    let Some((variable, text)) = &template.text else {
        let own = own(template);
        let text = format!("{own:#}\n");
        return Ok(without_missing(own, &template.missing).unwrap_or(text));
    };
    let mut text = text.clone();
    for (placeholder, value) in &template.values {
        text = text.replace(placeholder, value);
    }
    let refused = |problem: String| Error::Configuration { variable, problem };
    if text.contains("__SERVICEACCOUNT_TOKEN__") {
        return Err(refused(
            "__SERVICEACCOUNT_TOKEN__ would put a token that expires into the configuration; name the kubeconfig instead: \
             \"kubernetes\": {\"kubeconfig\": \"__KUBECONFIG_FILEPATH__\"}"
                .to_owned(),
        ));
    }
    if let Some(place) = text.find("\"__") {
        let rest: String = text.chars().skip(place).take(40).collect();
        return Err(refused(format!("{rest} is no placeholder that is known here")));
    }
    let document = serde_json::from_str::<Value>(&text)
        .map_err(|error| refused(format!("is no JSON once filled in: {error}")))?;
    Ok(without_missing(document, &template.missing).unwrap_or(text))
}

/// The configuration without plugins that are not installed; `None` when it names none of them.
fn without_missing(mut document: Value, missing: &[&'static str]) -> Option<String> {
    let plugins = document.get_mut("plugins")?.as_array_mut()?;
    let before = plugins.len();
    plugins.retain(|plugin| {
        let kind = plugin.get("type").and_then(Value::as_str).unwrap_or_default();
        let lacks = missing.contains(&kind);
        if lacks {
            // Named and missing, it would keep every pod of this node from starting.
            tracing::warn!(
                plugin = kind,
                "is not installed on this machine and is left out; pods do without it"
            );
        }
        !lacks
    });
    (plugins.len() < before).then(|| format!("{document:#}\n"))
}

fn own(template: &Template) -> Value {
    let mut calico = json!({
        "type": "calico",
        "log_level": template.value("__LOG_LEVEL__"),
        "log_file_path": template.value("__LOG_FILE_PATH__"),
        "datastore_type": template.value("__DATASTORE_TYPE__"),
        "nodename": template.value("__KUBERNETES_NODE_NAME__"),
        "mtu": template.value("__CNI_MTU__").parse::<u32>().unwrap_or(0),
        "ipam": {"type": "calico-ipam"},
        "policy": {"type": "k8s"},
        "kubernetes": {"kubeconfig": template.value("__KUBECONFIG_FILEPATH__")},
    });
    if let (Some(calico), Some(group)) = (calico.as_object_mut(), &template.api_group) {
        calico.insert("calico_api_group".to_owned(), json!(group));
    }
    let portmap = json!({"type": "portmap", "snat": true, "capabilities": {"portMappings": true}});
    let plugins = [calico, portmap];
    json!({"name": "k8s-pod-network", "cniVersion": "1.0.0", "plugins": plugins})
}

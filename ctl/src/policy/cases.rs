//! The file with cases: which packets must pass, and which must not.

use std::collections::BTreeMap;
use std::net::IpAddr;

use caracal_api::yaml;
use caracal_felix_core::update::Key;
use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod, PodIP, PodSpec, PodStatus};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Failure;
use crate::snapshot::files::Manifests;

/// Keys of the file.
const KEYS: [&str; 3] = ["namespaces", "pods", "cases"];

/// What must become of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Expectation {
    Allow,
    Deny,
}

/// A number or a name.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Port {
    Number(u16),
    Name(String),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseNamespace {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CasePod {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    address: Option<IpAddr>,
    #[serde(default)]
    addresses: Vec<IpAddr>,
    #[serde(default)]
    node: Option<String>,
    #[serde(default)]
    service_account: Option<String>,
    #[serde(default)]
    host_network: bool,
    /// Name to number, TCP unless written as `53/UDP`.
    #[serde(default)]
    ports: BTreeMap<String, PortText>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum PortText {
    Number(u16),
    Text(String),
}

/// A case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Case {
    #[serde(default)]
    pub(super) name: Option<String>,
    pub(super) from: String,
    pub(super) to: String,
    #[serde(default)]
    pub(super) port: Option<Port>,
    #[serde(default = "tcp")]
    pub(super) protocol: String,
    #[serde(default)]
    pub(super) icmp_type: Option<u8>,
    #[serde(default)]
    pub(super) icmp_code: Option<u8>,
    pub(super) expect: Expectation,
    /// What must decide: a policy (`NetworkPolicy shop/db`) or a profile.
    #[serde(default)]
    pub(super) by: Option<String>,
}

fn tcp() -> String {
    "TCP".to_owned()
}

impl Case {
    /// Its name, or what it asks.
    pub(super) fn title(&self) -> String {
        let port = match &self.port {
            Some(Port::Number(number)) => format!(" {number}"),
            Some(Port::Name(name)) => format!(" {name}"),
            None => String::new(),
        };
        let own = self.name.clone().filter(|name| !name.is_empty());
        own.unwrap_or_else(|| format!("{} -> {} {}{port}", self.from, self.to, self.protocol))
    }
}

/// Cases with their places in the file.
#[derive(Debug)]
pub(super) struct Cases {
    pub(super) cases: Vec<(String, Case)>,
}

/// Reads the file; its namespaces and pods join those of the manifests.
pub(super) fn read(
    name: &str,
    text: &str,
    namespace: &str,
    manifests: &mut Manifests,
) -> Result<Cases, Failure> {
    let bad = |text: String| Failure::new(text).with_code(2);
    let documents = yaml::documents(text).map_err(|error| bad(format!("{name}: {error}")))?;
    let mut cases = Vec::new();
    let mut errors = Vec::new();
    for (document, value) in documents.into_iter().enumerate() {
        let place = |path: &str| {
            let line = yaml::line_of(text, document, path);
            let line = line.map(|line| format!(":{line}")).unwrap_or_default();
            format!("{name}{line}: {}", path.trim_start_matches('.'))
        };
        let Value::Object(fields) = value else {
            return Err(bad(format!(
                "{name}: no cases: write `cases:` and a list below it"
            )));
        };
        if let Some(key) = fields.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let text = format!(
                "{} is unknown; write one of {}",
                place(&format!(".{key}")),
                KEYS.join(", ")
            );
            return Err(bad(text));
        }
        let namespaces: Vec<(String, CaseNamespace)> = entries(&fields, "namespaces", &place, &mut errors);
        for (_, namespace) in namespaces {
            manifests.label_namespace(&namespace.name, namespace.labels);
        }
        let pods: Vec<(String, CasePod)> = entries(&fields, "pods", &place, &mut errors);
        for (at, pod) in pods {
            match pod_of(pod, namespace) {
                Ok((key, pod)) => manifests.add_pod(key, pod),
                Err(text) => errors.push(format!("{at}: {text}")),
            }
        }
        cases.extend(entries(&fields, "cases", &place, &mut errors));
    }
    if !errors.is_empty() {
        return Err(bad(errors.join("\n")));
    }
    if cases.is_empty() {
        return Err(bad(format!(
            "{name}: no cases: a test without any cannot fail; write them below `cases:`"
        )));
    }
    Ok(Cases { cases })
}

fn entries<T: DeserializeOwned>(
    fields: &serde_json::Map<String, Value>,
    key: &str,
    place: &impl Fn(&str) -> String,
    errors: &mut Vec<String>,
) -> Vec<(String, T)> {
    let list = match fields.get(key) {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Array(list)) => list,
        Some(_) => {
            errors.push(format!(
                "{} is no list: begin its lines with `- `",
                place(&format!(".{key}"))
            ));
            return Vec::new();
        }
    };
    let mut read = Vec::new();
    for (index, entry) in list.iter().enumerate() {
        let at = place(&format!(".{key}[{index}]"));
        match serde_json::from_value(entry.clone()) {
            Ok(entry) => read.push((at, entry)),
            Err(error) => errors.push(format!("{at}: {error}")),
        }
    }
    read
}

fn pod_of(pod: CasePod, namespace: &str) -> Result<(Key, Pod), String> {
    let key = match pod.name.split('/').collect::<Vec<_>>().as_slice() {
        [name] if !name.is_empty() => Key::new(namespace, *name),
        [own, name] if !own.is_empty() && !name.is_empty() => Key::new(*own, *name),
        _ => return Err(format!("name {:?}: write NAMESPACE/NAME", pod.name)),
    };
    let mut ports = Vec::new();
    for (name, text) in pod.ports {
        let (number, protocol) = match text {
            PortText::Number(number) => (Some(number), "TCP".to_owned()),
            PortText::Text(text) => {
                let (number, protocol) = text.split_once('/').unwrap_or((&text, "TCP"));
                (number.parse().ok(), protocol.to_owned())
            }
        };
        let Some(number) = number else {
            return Err(format!(
                "ports.{name}: write a number, or a number and a protocol: 53/UDP"
            ));
        };
        ports.push(ContainerPort {
            name: Some(name),
            container_port: i32::from(number),
            protocol: Some(protocol),
            ..ContainerPort::default()
        });
    }
    let addresses: Vec<IpAddr> = pod.address.into_iter().chain(pod.addresses).collect();
    let ips: Vec<PodIP> = addresses.iter().map(|ip| PodIP { ip: ip.to_string() }).collect();
    let mut object = Pod::default();
    object.metadata.labels = Some(pod.labels);
    object.spec = Some(PodSpec {
        node_name: pod.node,
        service_account_name: pod.service_account,
        host_network: Some(pod.host_network).filter(|host| *host),
        containers: vec![Container {
            ports: Some(ports),
            ..Container::default()
        }],
        ..PodSpec::default()
    });
    if let Some(first) = ips.first().cloned() {
        object.status = Some(PodStatus {
            pod_ip: Some(first.ip),
            pod_ips: Some(ips),
            ..PodStatus::default()
        });
    }
    Ok((key, object))
}

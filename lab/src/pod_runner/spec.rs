//! What a Pod asks the runner to run: pure, from the Pod object to commands, variables and ports.
//!
//! Source: Kubernetes' API reference (PodSpec, Container, EnvVar) and, for `$(NAME)`,
//! `third_party/forked/golang/expansion`: `$$(NAME)` is a way to write `$(NAME)`, an unknown name stays as it is.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, ObjectFieldSelector, Pod};
use serde_json::{Value, json};

use crate::pod_server::Transport;

/// What happens when a container ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restart {
    Always,
    OnFailure,
    Never,
}

impl Restart {
    pub(super) fn of(pod: &Pod) -> Self {
        let policy = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        match policy {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    /// Whether a container that ended with this code is started again.
    pub(super) const fn again(self, exit_code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit_code != 0,
            Self::Never => false,
        }
    }
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Runs a program.
    Program {
        command: Vec<String>,
        env: BTreeMap<String, String>,
        dir: String,
    },
    /// Answers on ports with the pod's name.
    Server { ports: Vec<(Transport, u16)> },
}

/// Facts about the pod that variables may refer to.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) node: String,
    pub(super) host_ip: String,
    pub(super) pod_ips: Vec<String>,
}

/// A container's work, or why it cannot be done.
pub(super) fn work(pod: &Pod, container: &Container, facts: &Facts) -> Result<Work, String> {
    let command = container.command.clone().unwrap_or_default();
    if command.is_empty() {
        return Ok(Work::Server {
            ports: ports(container)?,
        });
    }
    let env = environment(pod, container, facts)?;
    let words = command.iter().chain(container.args.iter().flatten());
    Ok(Work::Program {
        command: words.map(|word| expand(word, &env)).collect(),
        dir: container
            .working_dir
            .clone()
            .filter(|dir| !dir.is_empty())
            .unwrap_or_else(|| "/".to_owned()),
        env,
    })
}

fn ports(container: &Container) -> Result<Vec<(Transport, u16)>, String> {
    let mut ports = Vec::new();
    for port in container.ports.iter().flatten() {
        let number = u16::try_from(port.container_port)
            .ok()
            .filter(|number| *number > 0);
        let number =
            number.ok_or_else(|| format!("containerPort {}: a port is 1 to 65535", port.container_port))?;
        let transport = match port.protocol.as_deref().unwrap_or("TCP") {
            "TCP" => Transport::Tcp,
            "UDP" => Transport::Udp,
            other => {
                return Err(format!(
                    "protocol {other} of port {number}: the built-in server speaks TCP and UDP; give the container a command"
                ));
            }
        };
        if !ports.contains(&(transport, number)) {
            ports.push((transport, number));
        }
    }
    Ok(ports)
}

fn environment(pod: &Pod, container: &Container, facts: &Facts) -> Result<BTreeMap<String, String>, String> {
    if container.env_from.as_ref().is_some_and(|list| !list.is_empty()) {
        return Err(
            "envFrom: the lab has no ConfigMaps and Secrets in pods; write the values into env".to_owned(),
        );
    }
    let mut env = BTreeMap::new();
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (_, None) => expand(variable.value.as_deref().unwrap_or_default(), &env),
            (_, Some(source)) => match &source.field_ref {
                Some(field) => field_value(pod, field, facts)?,
                None => return Err(no_source(variable)),
            },
        };
        env.insert(variable.name.clone(), value);
    }
    Ok(env)
}

fn no_source(variable: &EnvVar) -> String {
    format!(
        "env {}: valueFrom without fieldRef is not served in the lab; write the value",
        variable.name
    )
}

fn field_value(pod: &Pod, field: &ObjectFieldSelector, facts: &Facts) -> Result<String, String> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let path = field.field_path.as_str();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => return Err(unknown_field(path)),
        };
        return Ok(map.and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "spec.nodeName" => facts.node.clone(),
        "spec.serviceAccountName" => spec
            .and_then(|spec| spec.service_account_name.clone())
            .unwrap_or_else(|| "default".to_owned()),
        "status.hostIP" | "status.hostIPs" => facts.host_ip.clone(),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => return Err(unknown_field(path)),
    })
}

fn unknown_field(path: &str) -> String {
    format!(
        "fieldRef {path}: no field that a variable can have; use metadata.name, status.podIP and the like"
    )
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        rest = if let Some(escaped) = after.strip_prefix('$') {
            result.push('$');
            escaped
        } else if let Some((name, behind)) = after.strip_prefix('(').and_then(|name| name.split_once(')')) {
            match env.get(name) {
                Some(value) => result.push_str(value),
                None => {
                    result.push_str("$(");
                    result.push_str(name);
                    result.push(')');
                }
            }
            behind
        } else {
            result.push('$');
            after
        };
    }
    result.push_str(rest);
    result
}

/// The capability `portMappings` for a pod's host ports; none when it has none.
pub(super) fn port_mappings(pod: &Pod) -> Option<Value> {
    let containers = pod.spec.as_ref().map(|spec| &spec.containers)?;
    let mappings: Vec<Value> = containers
        .iter()
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let host_port = port.host_port.filter(|host_port| *host_port > 0)?;
            Some(json!({
                "hostPort": host_port,
                "containerPort": port.container_port,
                "protocol": port.protocol.as_deref().unwrap_or("TCP").to_lowercase(),
                "hostIP": port.host_ip.clone().unwrap_or_default(),
            }))
        })
        .collect();
    (!mappings.is_empty()).then_some(Value::Array(mappings))
}

/// Whether the pod lives in its node's network.
pub(super) fn host_network(pod: &Pod) -> bool {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.host_network)
        .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(container: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "labels": {"app": "x"}},
            "spec": {"nodeName": "node-1", "containers": [container]},
        }))
        .unwrap()
    }

    fn work_of(container: Value) -> Result<Work, String> {
        let pod = pod(container);
        let facts = Facts {
            node: "node-1".to_owned(),
            host_ip: "172.30.0.11".to_owned(),
            pod_ips: vec!["10.244.0.1".to_owned()],
        };
        work(&pod, &pod.spec.as_ref().unwrap().containers[0], &facts)
    }

    #[test]
    fn without_a_command_the_declared_ports_are_served() {
        let ports =
            json!([{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}, {"containerPort": 80}]);
        assert_eq!(
            work_of(json!({"name": "c", "args": ["x"], "ports": ports})).unwrap(),
            Work::Server {
                ports: vec![(Transport::Tcp, 80), (Transport::Udp, 53)]
            }
        );
        let message = work_of(json!({"name": "c", "ports": [{"containerPort": 0}]})).unwrap_err();
        assert_eq!(message, "containerPort 0: a port is 1 to 65535");
        assert!(work_of(json!({"name": "c", "ports": [{"containerPort": 9, "protocol": "SCTP"}]})).is_err());
    }

    #[test]
    fn variables_are_filled_in_and_expanded() {
        let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
        let env = json!([
            {"name": "NAME", "valueFrom": field("metadata.name")},
            {"name": "IP", "valueFrom": field("status.podIP")},
            {"name": "APP", "valueFrom": field("metadata.labels['app']")},
            {"name": "URL", "value": "http://$(IP)/$(NAME)"},
        ]);
        let work = work_of(
            json!({"name": "c", "command": ["echo", "$(URL)", "$$(URL) $(NONE) $5"], "args": ["$(APP)"],
            "env": env, "workingDir": "/tmp"}),
        );
        let Ok(Work::Program { command, env, dir }) = work else {
            panic!("{work:?}");
        };
        assert_eq!(
            command,
            ["echo", "http://10.244.0.1/web", "$(URL) $(NONE) $5", "x"]
        );
        assert_eq!(
            (env["URL"].as_str(), dir.as_str()),
            ("http://10.244.0.1/web", "/tmp")
        );
    }

    #[test]
    fn variables_that_cannot_be_filled_in_are_refused() {
        for env in [
            json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
            json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}}]),
        ] {
            assert!(work_of(json!({"name": "c", "command": ["x"], "env": env})).is_err());
        }
    }

    #[test]
    fn host_ports_become_port_mappings() {
        let ports = json!([{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81}]);
        assert_eq!(
            port_mappings(&pod(json!({"name": "c", "ports": ports}))).unwrap(),
            json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}])
        );
        assert_eq!(port_mappings(&pod(json!({"name": "c"}))), None);
    }
}

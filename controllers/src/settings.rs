//! What the controllers run with: the KubeControllersConfiguration, overridden by environment variables. Pure.
//!
//! Source: Calico's `kube-controllers/pkg/config`. A value that cannot be used is reported and its default taken, so
//! that a slip in one field does not stop the rest.

use std::collections::BTreeMap;
use std::time::Duration;

use caracal_api::v3::{
    AssignIPs, AutoHostEndpointConfig, ControllersConfig, GoDuration, HostEndpointTemplate,
    KubeControllersConfigurationSpec, KubeControllersConfigurationStatus, LoadBalancerControllerConfig,
    LogLevel, MigrationControllerConfig, NodeControllerConfig, PeriodicControllerConfig, Toggle,
};

/// The environment variables that override the resource.
pub const VARIABLES: &[&str] = &[
    "ENABLED_CONTROLLERS",
    "LOG_LEVEL",
    "RECONCILER_PERIOD",
    "COMPACTION_PERIOD",
    "HEALTH_ENABLED",
    "SYNC_NODE_LABELS",
    "AUTO_HOST_ENDPOINTS",
];

const PERIOD: Duration = Duration::from_secs(5 * 60);
const LEAK_GRACE: Duration = Duration::from_secs(15 * 60);
const COMPACTION: Duration = Duration::from_secs(10 * 60);
const METRICS_PORT: u16 = 9094;

/// What the controllers run with.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Log level.
    pub log_level: LogLevel,
    /// Port of the metrics; `None` for none.
    pub metrics_port: Option<u16>,
    /// Probes are answered.
    pub health: bool,
    /// Collection of leaked addresses, release of what nodes that are gone had, host endpoints; `None` = off.
    pub node: Option<NodeSettings>,
    /// Renaming of policies that older versions stored.
    pub rename_policies: bool,
}

impl Default for Settings {
    fn default() -> Self {
        effective(None, &BTreeMap::new()).settings
    }
}

/// The node controller's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSettings {
    /// Period of full reconciliation.
    pub period: Duration,
    /// How long an address without an owner is kept; `None` = for ever, as long as its node is there.
    pub leak_grace: Option<Duration>,
    /// Automatic host endpoints; `None` = none, and those that were made are taken away.
    pub host_endpoints: Option<HostEndpointSettings>,
}

/// Automatic host endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct HostEndpointSettings {
    /// One for all interfaces of each node.
    pub default: bool,
    /// Further ones.
    pub templates: Vec<HostEndpointTemplate>,
}

/// Settings, and what is to be said of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    /// What is run with.
    pub settings: Settings,
    /// The resource's status.
    pub status: KubeControllersConfigurationStatus,
    /// Values that cannot be used: field, value and remedy.
    pub problems: Vec<String>,
}

/// The spec of the resource as it is made when there is none.
#[must_use]
pub fn default_spec() -> KubeControllersConfigurationSpec {
    let periodic = || {
        Some(PeriodicControllerConfig {
            reconciler_period: Some(PERIOD.into()),
        })
    };
    KubeControllersConfigurationSpec {
        log_severity_screen: Some(LogLevel::Info),
        health_checks: Some(Toggle::Enabled),
        etcd_v3_compaction_period: Some(COMPACTION.into()),
        prometheus_metrics_port: Some(i32::from(METRICS_PORT)),
        debug_profile_port: None,
        controllers: Some(ControllersConfig {
            node: Some(node_defaults()),
            policy: periodic(),
            workload_endpoint: periodic(),
            service_account: periodic(),
            namespace: periodic(),
            load_balancer: Some(LoadBalancerControllerConfig {
                assign_ips: Some(AssignIPs::AllServices),
            }),
            migration: Some(MigrationControllerConfig {
                policy_name_migrator: Some(Toggle::Enabled),
            }),
        }),
    }
}

fn node_defaults() -> NodeControllerConfig {
    NodeControllerConfig {
        reconciler_period: Some(PERIOD.into()),
        sync_labels: Some(Toggle::Enabled),
        host_endpoint: Some(AutoHostEndpointConfig {
            auto_create: Some(Toggle::Disabled),
            create_default_host_endpoint: Some(Toggle::Enabled),
            templates: Vec::new(),
        }),
        leak_grace_period: Some(LEAK_GRACE.into()),
    }
}

/// The settings from the resource and the environment.
#[must_use]
pub fn effective(
    spec: Option<&KubeControllersConfigurationSpec>,
    environment: &BTreeMap<String, String>,
) -> Effective {
    let mut reader = Reader::default();
    let mut running = spec.cloned().unwrap_or_else(default_spec);
    reader.fill(&mut running);
    reader.override_by(environment, &mut running);
    let settings = reader.settings(&running);
    Effective {
        settings,
        status: KubeControllersConfigurationStatus {
            running_config: Some(running),
            environment_vars: reader.used,
        },
        problems: reader.problems,
    }
}

/// Reads values, and notes what is wrong with them.
#[derive(Default)]
struct Reader {
    used: BTreeMap<String, String>,
    problems: Vec<String>,
}

impl Reader {
    /// Puts defaults where the resource says nothing or nothing usable. Controllers that are absent stay so.
    fn fill(&mut self, spec: &mut KubeControllersConfigurationSpec) {
        let defaults = default_spec();
        self.known(
            "logSeverityScreen",
            &mut spec.log_severity_screen,
            LogLevel::Info,
            LogLevel::is_known,
            LogLevel::KNOWN,
        );
        self.toggle("healthChecks", &mut spec.health_checks, Toggle::Enabled);
        self.duration(
            "etcdV3CompactionPeriod",
            &mut spec.etcd_v3_compaction_period,
            COMPACTION,
        );
        spec.prometheus_metrics_port = spec.prometheus_metrics_port.or(defaults.prometheus_metrics_port);
        let controllers = spec
            .controllers
            .get_or_insert_with(|| defaults.controllers.unwrap_or_default());
        if let Some(node) = &mut controllers.node {
            self.fill_node(node);
        }
        for (field, periodic) in [
            ("controllers.policy.reconcilerPeriod", &mut controllers.policy),
            (
                "controllers.workloadEndpoint.reconcilerPeriod",
                &mut controllers.workload_endpoint,
            ),
            (
                "controllers.serviceAccount.reconcilerPeriod",
                &mut controllers.service_account,
            ),
            (
                "controllers.namespace.reconcilerPeriod",
                &mut controllers.namespace,
            ),
        ] {
            if let Some(periodic) = periodic {
                self.duration(field, &mut periodic.reconciler_period, PERIOD);
            }
        }
        let migration = controllers.migration.get_or_insert_default();
        self.toggle(
            "controllers.migration.policyNameMigrator",
            &mut migration.policy_name_migrator,
            Toggle::Enabled,
        );
    }

    fn fill_node(&mut self, node: &mut NodeControllerConfig) {
        self.duration(
            "controllers.node.reconcilerPeriod",
            &mut node.reconciler_period,
            PERIOD,
        );
        self.toggle(
            "controllers.node.syncLabels",
            &mut node.sync_labels,
            Toggle::Enabled,
        );
        self.duration(
            "controllers.node.leakGracePeriod",
            &mut node.leak_grace_period,
            LEAK_GRACE,
        );
        let endpoints = node.host_endpoint.get_or_insert_default();
        self.toggle(
            "controllers.node.hostEndpoint.autoCreate",
            &mut endpoints.auto_create,
            Toggle::Disabled,
        );
        self.toggle(
            "controllers.node.hostEndpoint.createDefaultHostEndpoint",
            &mut endpoints.create_default_host_endpoint,
            Toggle::Enabled,
        );
    }

    fn override_by(
        &mut self,
        environment: &BTreeMap<String, String>,
        spec: &mut KubeControllersConfigurationSpec,
    ) {
        let set: Vec<(&str, &String)> = VARIABLES
            .iter()
            .filter_map(|name| Some((*name, environment.get(*name).filter(|value| !value.is_empty())?)))
            .collect();
        for (name, value) in set {
            self.used.insert(name.to_owned(), value.clone());
            let mut controllers = spec.controllers.take().unwrap_or_default();
            let outcome = match name {
                "ENABLED_CONTROLLERS" => enable(value, &mut controllers),
                "LOG_LEVEL" => log_level(value).map(|level| spec.log_severity_screen = Some(level)),
                "RECONCILER_PERIOD" => duration(value).map(|period| set_periods(&mut controllers, &period)),
                "COMPACTION_PERIOD" => {
                    duration(value).map(|period| spec.etcd_v3_compaction_period = Some(period))
                }
                "HEALTH_ENABLED" => switch(value)
                    .map(|on| spec.health_checks = Some(if on { Toggle::Enabled } else { Toggle::Disabled })),
                "SYNC_NODE_LABELS" => switch(value).map(|on| {
                    if let Some(node) = &mut controllers.node {
                        node.sync_labels = Some(if on { Toggle::Enabled } else { Toggle::Disabled });
                    }
                }),
                _ => switch(value).map(|on| {
                    if let Some(node) = &mut controllers.node {
                        let endpoints = node.host_endpoint.get_or_insert_default();
                        endpoints.auto_create = Some(if on { Toggle::Enabled } else { Toggle::Disabled });
                    }
                }),
            };
            spec.controllers = Some(controllers);
            if let Err(remedy) = outcome {
                self.problems.push(format!(
                    "environment variable {name}={value:?} is not used: {remedy}"
                ));
            }
        }
    }

    fn settings(&mut self, spec: &KubeControllersConfigurationSpec) -> Settings {
        let controllers = spec.controllers.clone().unwrap_or_default();
        let migration = controllers.migration.unwrap_or_default();
        Settings {
            log_level: spec.log_severity_screen.clone().unwrap_or(LogLevel::Info),
            metrics_port: self.port(spec.prometheus_metrics_port),
            health: spec.health_checks != Some(Toggle::Disabled),
            node: controllers.node.map(|node| node_settings(&node)),
            rename_policies: migration.policy_name_migrator != Some(Toggle::Disabled),
        }
    }

    fn port(&mut self, port: Option<i32>) -> Option<u16> {
        let Some(port) = port else {
            return Some(METRICS_PORT);
        };
        match u16::try_from(port) {
            Ok(0) => None,
            Ok(port) => Some(port),
            Err(_) => {
                self.problems.push(format!(
                    "prometheusMetricsPort {port} is no port: use 1 to 65535, or 0 for none; {METRICS_PORT} is used"
                ));
                Some(METRICS_PORT)
            }
        }
    }

    fn toggle(&mut self, field: &str, value: &mut Option<Toggle>, default: Toggle) {
        self.known(field, value, default, Toggle::is_known, Toggle::KNOWN);
    }

    fn known<T: std::fmt::Display>(
        &mut self,
        field: &str,
        value: &mut Option<T>,
        default: T,
        is_known: impl Fn(&T) -> bool,
        known: &[&str],
    ) {
        match value {
            Some(given) if is_known(given) => {}
            Some(given) => {
                self.problems.push(format!(
                    "{field} {:?} is not known: use {}; {default} is used",
                    given.to_string(),
                    known.join(", ")
                ));
                *value = Some(default);
            }
            None => *value = Some(default),
        }
    }

    fn duration(&mut self, field: &str, value: &mut Option<GoDuration>, default: Duration) {
        match value {
            Some(given) if given.duration().is_some() => {}
            Some(given) => {
                let text = serde_json::to_value(&*given).unwrap_or_default();
                let default_text = serde_json::to_value(GoDuration::from(default)).unwrap_or_default();
                self.problems.push(format!(
                    "{field} {text} is no duration: write one as 5m or 90s; {default_text} is used"
                ));
                *value = Some(default.into());
            }
            None => *value = Some(default.into()),
        }
    }
}

fn node_settings(node: &NodeControllerConfig) -> NodeSettings {
    let duration = |value: &Option<GoDuration>| value.as_ref().and_then(GoDuration::duration);
    let endpoints = node.host_endpoint.clone().unwrap_or_default();
    let on = endpoints.auto_create == Some(Toggle::Enabled);
    NodeSettings {
        period: duration(&node.reconciler_period)
            .filter(|period| !period.is_zero())
            .unwrap_or(PERIOD),
        leak_grace: duration(&node.leak_grace_period).filter(|grace| !grace.is_zero()),
        host_endpoints: on.then(|| HostEndpointSettings {
            default: endpoints.create_default_host_endpoint != Some(Toggle::Disabled),
            templates: endpoints.templates,
        }),
    }
}

/// Leaves exactly the named controllers; each keeps what the resource says of it.
fn enable(value: &str, controllers: &mut ControllersConfig) -> Result<(), String> {
    const NAMES: &[&str] = &[
        "node",
        "policy",
        "namespace",
        "serviceaccount",
        "workloadendpoint",
        "loadbalancer",
        "flannelmigration",
    ];
    let names: Vec<&str> = value
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    if let Some(name) = names.iter().find(|name| !NAMES.contains(name)) {
        return Err(format!(
            "{name:?} is no controller; name some of {}",
            NAMES.join(", ")
        ));
    }
    let has = |name: &str| names.contains(&name);
    let defaults = default_spec().controllers.unwrap_or_default();
    let chosen =
        |on: bool, given: Option<PeriodicControllerConfig>, default| on.then(|| given.or(default)).flatten();
    let given = std::mem::take(controllers);
    *controllers = ControllersConfig {
        node: has("node").then(|| given.node.unwrap_or_else(node_defaults)),
        policy: chosen(has("policy"), given.policy, defaults.policy),
        namespace: chosen(has("namespace"), given.namespace, defaults.namespace),
        service_account: chosen(
            has("serviceaccount"),
            given.service_account,
            defaults.service_account,
        ),
        workload_endpoint: chosen(
            has("workloadendpoint"),
            given.workload_endpoint,
            defaults.workload_endpoint,
        ),
        load_balancer: has("loadbalancer")
            .then(|| given.load_balancer.or(defaults.load_balancer))
            .flatten(),
        migration: given.migration,
    };
    Ok(())
}

fn set_periods(controllers: &mut ControllersConfig, period: &GoDuration) {
    if let Some(node) = &mut controllers.node {
        node.reconciler_period = Some(period.clone());
    }
    for periodic in [
        &mut controllers.policy,
        &mut controllers.namespace,
        &mut controllers.service_account,
        &mut controllers.workload_endpoint,
    ]
    .into_iter()
    .flatten()
    {
        periodic.reconciler_period = Some(period.clone());
    }
}

fn duration(value: &str) -> Result<GoDuration, String> {
    serde_json::from_value::<GoDuration>(value.into())
        .ok()
        .filter(|value| value.duration().is_some())
        .ok_or_else(|| "it is no duration; write one as 5m or 90s".to_owned())
}

/// A level in any case; the environment writes them in lower case.
fn log_level(value: &str) -> Result<LogLevel, String> {
    let text = if value.eq_ignore_ascii_case("warn") {
        "warning"
    } else {
        value
    };
    LogLevel::KNOWN
        .iter()
        .find(|known| known.eq_ignore_ascii_case(text))
        .map(|known| LogLevel::from(*known))
        .ok_or_else(|| format!("use one of {}", LogLevel::KNOWN.join(", ").to_lowercase()))
}

fn switch(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "t" | "yes" | "y" | "enabled" => Ok(true),
        "false" | "0" | "f" | "no" | "n" | "disabled" => Ok(false),
        _ => Err("use enabled or disabled".to_owned()),
    }
}

#[cfg(test)]
mod tests;

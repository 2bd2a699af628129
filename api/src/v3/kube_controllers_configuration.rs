//! KubeControllersConfiguration: settings of the cluster controllers, one object named `default`.

use std::collections::BTreeMap;

use super::scalar::{GoDuration, LogLevel};

string_enum! {
    /// A switch.
    pub enum Toggle {
        /// On.
        Enabled = "Enabled",
        /// Off.
        Disabled = "Disabled",
    }
}

string_enum! {
    /// Which Services of type LoadBalancer get addresses.
    pub enum AssignIPs {
        /// All.
        AllServices = "AllServices",
        /// Those that ask for it by annotation.
        RequestedServicesOnly = "RequestedServicesOnly",
    }
}

model! {
    /// A pattern for host endpoints made automatically.
    pub struct HostEndpointTemplate {
        /// Part of the names of what is made.
        pub generate_name: String,
        /// Addresses of the interfaces that become endpoints.
        #[serde(rename = "interfaceCIDRs")]
        pub interface_cidrs: Vec<String>,
        /// Names of the interfaces that become endpoints, a regular expression.
        pub interface_pattern: String,
        /// Labels of what is made.
        pub labels: BTreeMap<String, String>,
        /// Annotations of what is made.
        pub annotations: BTreeMap<String, String>,
        /// Nodes that get endpoints.
        pub node_selector: String,
    }
}

model! {
    /// Automatic host endpoints.
    pub struct AutoHostEndpointConfig {
        /// Make them (default Disabled).
        pub auto_create: Option<Toggle>,
        /// Make the one for all interfaces (default Enabled).
        pub create_default_host_endpoint: Option<Toggle>,
        /// Further ones.
        pub templates: Vec<HostEndpointTemplate>,
    }
}

model! {
    /// The node controller.
    pub struct NodeControllerConfig {
        /// Period of full reconciliation (default 5m).
        pub reconciler_period: Option<GoDuration>,
        /// Copy labels of Kubernetes nodes (default Enabled).
        pub sync_labels: Option<Toggle>,
        /// Automatic host endpoints.
        pub host_endpoint: Option<AutoHostEndpointConfig>,
        /// How long an address without an owner is kept (default 15m).
        pub leak_grace_period: Option<GoDuration>,
    }
}

model! {
    /// A controller with nothing but a period.
    pub struct PeriodicControllerConfig {
        /// Period of full reconciliation (default 5m).
        pub reconciler_period: Option<GoDuration>,
    }
}

model! {
    /// The load balancer controller.
    pub struct LoadBalancerControllerConfig {
        /// Which Services get addresses (default AllServices).
        #[serde(rename = "assignIPs")]
        pub assign_ips: Option<AssignIPs>,
    }
}

model! {
    /// Migration of stored objects.
    pub struct MigrationControllerConfig {
        /// Rename policies stored by older versions (default Enabled).
        pub policy_name_migrator: Option<Toggle>,
    }
}

model! {
    /// The controllers; an absent one does not run.
    pub struct ControllersConfig {
        /// The node controller.
        pub node: Option<NodeControllerConfig>,
        /// The policy controller; for etcd only.
        pub policy: Option<PeriodicControllerConfig>,
        /// The workload endpoint controller; for etcd only.
        pub workload_endpoint: Option<PeriodicControllerConfig>,
        /// The service account controller; for etcd only.
        pub service_account: Option<PeriodicControllerConfig>,
        /// The namespace controller; for etcd only.
        pub namespace: Option<PeriodicControllerConfig>,
        /// The load balancer controller.
        pub load_balancer: Option<LoadBalancerControllerConfig>,
        /// Migration of stored objects.
        pub migration: Option<MigrationControllerConfig>,
    }
}

model! {
    /// What the controllers run with.
    pub struct KubeControllersConfigurationStatus {
        /// The configuration in force.
        pub running_config: Option<KubeControllersConfigurationSpec>,
        /// Environment variables that override the resource.
        pub environment_vars: BTreeMap<String, String>,
    }
}

resource! {
    #[kube(
        kind = "KubeControllersConfiguration",
        plural = "kubecontrollersconfigurations",
        shortname = "kcconfig",
        status = "KubeControllersConfigurationStatus",
        doc = "Settings of the cluster controllers; one object, named default."
    )]
    /// Spec of the KubeControllersConfiguration.
    pub struct KubeControllersConfigurationSpec {
        /// Log level (default Info).
        pub log_severity_screen: Option<LogLevel>,
        /// Health checks (default Enabled).
        pub health_checks: Option<Toggle>,
        /// Period of etcd compaction (default 10m).
        pub etcd_v3_compaction_period: Option<GoDuration>,
        /// Port of metrics (default 9094, 0 is off).
        #[schemars(range(min = 0, max = 65535))]
        pub prometheus_metrics_port: Option<i32>,
        /// Port of profiling (default off).
        #[schemars(range(min = 0, max = 65535))]
        pub debug_profile_port: Option<i32>,
        /// The controllers.
        pub controllers: Option<ControllersConfig>,
    }
}

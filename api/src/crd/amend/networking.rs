//! Pools, reservations, host endpoints, address management, controllers, status of nodes.

use serde_json::{Value, json};

use super::{Amendment, amend, is_set, is_unset, rules};

const IP_POOL: &[&str] = &["IPPool"];
const HOST_ENDPOINT: &[&str] = &["HostEndpoint"];
const SINGLE: &[&str] = &[
    "ClusterInformation",
    "KubeControllersConfiguration",
    "IPAMConfiguration",
];

pub(super) fn all() -> Vec<Amendment> {
    let mut all = pool();
    all.extend(host_endpoint());
    all.extend(address_management());
    all.extend(controllers());
    all.extend(node_status());
    all.push(amend(
        SINGLE,
        "",
        rules([(
            "self.metadata.name == 'default'",
            "the one object of this kind is named default",
        )]),
    ));
    all.push(amend(
        &["IPReservation"],
        "spec.reservedCIDRs",
        json!({
            "maxItems": 10_000,
            "x-kubernetes-validations": [{
                "rule": "self.all(n, isCIDR(n) || isIP(n))",
                "message": "reservedCIDRs are CIDRs and addresses",
            }],
        }),
    ));
    all.push(amend(
        &["IPReservation"],
        "spec.reservedCIDRs[]",
        json!({"maxLength": 49}),
    ));
    all
}

fn pool() -> Vec<Amendment> {
    vec![
        amend(IP_POOL, "spec", pool_rules()),
        amend(IP_POOL, "spec.cidr", json!({"format": "cidr"})),
        amend(IP_POOL, "spec.ipipMode", json!({"default": "Never"})),
        amend(IP_POOL, "spec.vxlanMode", json!({"default": "Never"})),
        amend(IP_POOL, "spec.blockSize", json!({"minimum": 0, "maximum": 128})),
        amend(
            IP_POOL,
            "spec.allowedUses",
            json!({"default": ["Workload", "Tunnel"]}),
        ),
    ]
}

fn pool_rules() -> Value {
    let size = |of: &str| {
        format!(
            "(has({of}.blockSize) && {of}.blockSize != 0 ? {of}.blockSize : ({of}.cidr.contains(':') ? 122 : 26))"
        )
    };
    let is_balancer = |of: &str| format!("(has({of}.allowedUses) && 'LoadBalancer' in {of}.allowedUses)");
    let is_on = |mode: &str| format!("(has(self.{mode}) && self.{mode} != 'Never')");
    let (ipip, vxlan, balancer) = (is_on("ipipMode"), is_on("vxlanMode"), is_balancer("self"));
    let link_local = |net: &str| {
        format!(
            "!cidr('{net}').containsCIDR(cidr(self.cidr)) && !cidr(self.cidr).containsCIDR(cidr('{net}'))"
        )
    };
    rules([
        ("self.cidr == oldSelf.cidr".to_owned(), "cidr cannot be changed"),
        (
            format!("{} == {}", size("self"), size("oldSelf")),
            "blockSize cannot be changed",
        ),
        (
            "!isCIDR(self.cidr) || cidr(self.cidr) == cidr(self.cidr).masked()".to_owned(),
            "cidr cannot have host bits set",
        ),
        (
            format!(
                "!isCIDR(self.cidr) || {} && {}",
                link_local("169.254.0.0/16"),
                link_local("fe80::/10")
            ),
            "cidr cannot overlap the link-local ranges 169.254.0.0/16 and fe80::/10",
        ),
        (
            format!(
                "self.cidr.contains(':') ? {0} >= 116 && {0} <= 128 : {0} >= 20 && {0} <= 32",
                size("self")
            ),
            "blockSize must be from 20 to 32 for IPv4 and from 116 to 128 for IPv6",
        ),
        (
            format!(
                "has(self.disabled) && self.disabled || !isCIDR(self.cidr) || cidr(self.cidr).prefixLength() <= {}",
                size("self")
            ),
            "cidr must have room for a block",
        ),
        (
            format!("!{ipip} || !self.cidr.contains(':')"),
            "IPIP is not supported on IPv6 pools",
        ),
        (
            format!("!({ipip} && {vxlan})"),
            "ipipMode and vxlanMode cannot both be enabled",
        ),
        (
            format!("!{balancer} || !{ipip} && !{vxlan}"),
            "LoadBalancer IP pool cannot have IPIP or VXLAN enabled",
        ),
        (
            format!("!{balancer} || size(self.allowedUses) == 1"),
            "LoadBalancer cannot be combined with Workload or Tunnel allowed uses",
        ),
        (
            format!("!{balancer} || !has(self.disableBGPExport) || !self.disableBGPExport"),
            "LoadBalancer IP pool cannot disable BGP export",
        ),
        (
            format!(
                "!{balancer} || {} || self.nodeSelector == 'all()'",
                is_unset("nodeSelector")
            ),
            "LoadBalancer IP pool must have nodeSelector all()",
        ),
        (
            format!(
                "{} || !has(self.allowedUses) || !('Tunnel' in self.allowedUses)",
                is_unset("namespaceSelector")
            ),
            "a pool with namespaceSelector cannot be used for tunnels",
        ),
        (
            format!("!{} || {balancer}", is_balancer("oldSelf")),
            "allowedUses cannot be changed from LoadBalancer",
        ),
        (
            "!has(self.nodeSelector) || !self.nodeSelector.contains('global(')".to_owned(),
            "nodeSelector cannot use global()",
        ),
    ])
}

fn host_endpoint() -> Vec<Amendment> {
    vec![
        amend(
            HOST_ENDPOINT,
            "spec",
            rules([
                (
                    format!("{} || {}", is_set("interfaceName"), is_set("expectedIPs")),
                    "at least one of interfaceName or expectedIPs must be specified",
                ),
                (is_set("node"), "node must be specified"),
            ]),
        ),
        amend(
            HOST_ENDPOINT,
            "spec.interfaceName",
            json!({"pattern": r"^(\*|[a-zA-Z0-9_.-]{1,15})?$"}),
        ),
        amend(
            HOST_ENDPOINT,
            "spec.expectedIPs",
            json!({
                "maxItems": 4096,
                "x-kubernetes-list-type": "set",
                "x-kubernetes-validations": [{"rule": "self.all(ip, isIP(ip))", "message": "expectedIPs are addresses"}],
            }),
        ),
        amend(HOST_ENDPOINT, "spec.expectedIPs[]", json!({"maxLength": 45})),
        amend(
            HOST_ENDPOINT,
            "spec.profiles",
            json!({"x-kubernetes-list-type": "set"}),
        ),
        amend(
            HOST_ENDPOINT,
            "spec.ports[]",
            json!({"required": ["name", "port", "protocol"]}),
        ),
        amend(
            HOST_ENDPOINT,
            "spec.ports[].name",
            json!({"pattern": "^[a-zA-Z0-9_.-]{1,128}$"}),
        ),
        amend(
            HOST_ENDPOINT,
            "spec.ports[].port",
            json!({"default": null, "minimum": 1, "maximum": 65535}),
        ),
        amend(
            HOST_ENDPOINT,
            "spec.ports[].protocol",
            json!({"pattern": "^(TCP|UDP|SCTP|UDPLite|6|17|132|136)$"}),
        ),
    ]
}

fn address_management() -> Vec<Amendment> {
    vec![
        amend(&["BlockAffinity"], "spec", json!({"required": ["deleted"]})),
        amend(&["BlockAffinity"], "spec.deleted", json!({"default": false})),
        amend(
            &["BlockAffinity"],
            "spec.state",
            json!({"enum": ["", "confirmed", "pending", "pendingDeletion"]}),
        ),
        amend(
            &["BlockAffinity", "IPAMBlock"],
            "spec.cidr",
            json!({"format": "cidr"}),
        ),
        amend(&["IPAMBlock"], "spec", json!({"required": ["strictAffinity"]})),
        amend(
            &["IPAMBlock"],
            "spec.affinity",
            json!({"pattern": r"^(host|virtual):[a-zA-Z0-9._-]+$"}),
        ),
        amend(
            &["IPAMConfiguration"],
            "spec.strictAffinity",
            json!({"default": false}),
        ),
        amend(
            &["IPAMConfiguration"],
            "spec.maxBlocksPerHost",
            json!({"default": 0}),
        ),
    ]
}

/// Both what is wanted and what runs.
fn controllers() -> Vec<Amendment> {
    const KIND: &[&str] = &["KubeControllersConfiguration"];
    let mut all = Vec::new();
    for at in ["spec", "status.runningConfig"] {
        all.extend([
            amend(
                KIND,
                format!("{at}.logSeverityScreen"),
                json!({"enum": ["None", "Trace", "Debug", "Info", "Warning", "Error", "Fatal", "Panic"]}),
            ),
            amend(KIND, format!("{at}.healthChecks"), json!({"default": "Enabled"})),
            amend(
                KIND,
                format!("{at}.controllers.loadBalancer.assignIPs"),
                json!({"default": "AllServices"}),
            ),
            amend(
                KIND,
                format!("{at}.controllers.migration.policyNameMigrator"),
                json!({"default": "Enabled"}),
            ),
            amend(
                KIND,
                format!("{at}.controllers.node.hostEndpoint.templates[].generateName"),
                json!({"maxLength": 253}),
            ),
            amend(
                KIND,
                format!("{at}.controllers.node.hostEndpoint.templates[].interfaceCIDRs"),
                json!({"x-kubernetes-list-type": "set"}),
            ),
        ]);
    }
    all
}

fn node_status() -> Vec<Amendment> {
    const KIND: &[&str] = &["CalicoNodeStatus"];
    vec![
        amend(
            KIND,
            "spec",
            json!({"required": ["node", "classes", "updatePeriodSeconds"]}),
        ),
        amend(KIND, "spec.updatePeriodSeconds", json!({"default": 10})),
        amend(
            KIND,
            "status.lastUpdated",
            json!({"format": "date-time", "nullable": true}),
        ),
    ]
}

//! FelixConfiguration: values of its parameters, and parameters that only a node with the real Calico reads.
//!
//! The latter (`bpf…`, most of `flowLogs…`) are in the schema so that an object shared with such nodes keeps them;
//! nothing here reads them.

use serde_json::{Map, Value, json};

use super::{Amendment, amend, rules};

const KIND: &[&str] = &["FelixConfiguration"];

/// Words of a field, in any case.
const WORDS: &[(&str, &str)] = &[
    ("iptablesBackend", "Legacy|NFT|Auto"),
    ("chainInsertMode", "Insert|Append"),
    ("defaultEndpointToHostAction", "Drop|Accept|Return"),
    ("iptablesFilterAllowAction", "Accept|Return"),
    ("iptablesMangleAllowAction", "Accept|Return"),
    ("iptablesFilterDenyAction", "Drop|Reject"),
    ("nftablesFilterAllowAction", "Accept|Return"),
    ("nftablesMangleAllowAction", "Accept|Return"),
    ("nftablesFilterDenyAction", "Drop|Reject"),
    ("logSeverityFile", "Trace|Debug|Info|Warning|Error|Fatal"),
    ("logSeverityScreen", "Trace|Debug|Info|Warning|Error|Fatal"),
    ("logSeveritySys", "Trace|Debug|Info|Warning|Error|Fatal"),
    ("routeSource", "WorkloadIPs|CalicoIPAM"),
    ("serviceLoopPrevention", "Drop|Reject|Disabled"),
    ("workloadSourceSpoofing", "Disabled|Any"),
];

/// Values of a field, exactly.
const VALUES: &[(&str, &[&str])] = &[
    (
        "prometheusMetricsClientAuth",
        &[
            "RequireAndVerifyClientCert",
            "RequireAnyClientCert",
            "VerifyClientCertIfGiven",
            "NoClientCert",
        ],
    ),
    ("natOutgoingExclusions", &["IPPoolsOnly", "IPPoolsAndHostIPs"]),
    (
        "programClusterRoutes",
        &["Enabled", "Disabled", "EnabledIPIPOnly", "EnabledNoEncapOnly"],
    ),
    ("ipForwarding", SWITCH),
    ("nftablesMode", &["Disabled", "Enabled", "Auto"]),
    ("nftablesFlowTableOffload", &["All", "Disabled"]),
    ("istioAmbientMode", SWITCH),
    ("awsSrcDstCheck", &["DoNothing", "Enable", "Disable"]),
    ("floatingIPs", SWITCH),
    ("localSubnetL2Reachability", &["Disabled", "PodsAndLoadBalancers"]),
    ("windowsManageFirewallRules", SWITCH),
];

const SWITCH: &[&str] = &["Enabled", "Disabled"];

/// Bounds of a number.
const BOUNDS: &[(&str, i64, i64)] = &[
    ("metadataPort", 0, 65535),
    ("healthPort", 0, 65535),
    ("prometheusMetricsPort", 0, 65535),
    ("debugPort", 0, 65535),
    ("logActionRateLimitBurst", 0, 9999),
    ("ipv4NormalRoutePriority", 1, 2_147_483_646),
    ("ipv4ElevatedRoutePriority", 1, 2_147_483_646),
    ("ipv6NormalRoutePriority", 1, 2_147_483_646),
    ("ipv6ElevatedRoutePriority", 1, 2_147_483_646),
];

/// Patterns of a text.
const PATTERNS: &[(&str, &str)] = &[
    (
        "featureDetectOverride",
        "^([a-zA-Z0-9-_]+=(true|false|),)*([a-zA-Z0-9-_]+=(true|false|))?$",
    ),
    (
        "featureGates",
        "^([a-zA-Z0-9-_]+=([^=]+),)*([a-zA-Z0-9-_]+=([^=]+))?$",
    ),
    ("logActionRateLimit", "^[1-9][0-9]{0,3}/(second|minute|hour|day)$"),
    ("logPrefix", "^([a-zA-Z0-9%: /_-])*$"),
];

pub(super) fn all() -> Vec<Amendment> {
    let field = |name: &str, with: Value| amend(KIND, format!("spec.{name}"), with);
    let mut all = vec![
        amend(KIND, "", names()),
        amend(
            KIND,
            "spec",
            rules([(
                "!has(self.routeTableRange) || !has(self.routeTableRanges)",
                "routeTableRange and routeTableRanges cannot both be set",
            )]),
        ),
        amend(KIND, "spec", json!({"properties": others()})),
        field("nodeSelector", json!({"maxLength": 1024})),
        field("nftablesMode", json!({"default": "Auto"})),
    ];
    all.extend(
        WORDS
            .iter()
            .map(|(name, words)| field(name, json!({"pattern": format!("^(?i)({words})?$")}))),
    );
    all.extend(
        VALUES
            .iter()
            .map(|(name, values)| field(name, json!({"enum": values}))),
    );
    all.extend(
        BOUNDS
            .iter()
            .map(|(name, min, max)| field(name, json!({"minimum": min, "maximum": max}))),
    );
    all.extend(
        PATTERNS
            .iter()
            .map(|(name, pattern)| field(name, json!({"pattern": pattern}))),
    );
    for list in ["failsafeInboundHostPorts", "failsafeOutboundHostPorts"] {
        all.push(field(&format!("{list}[]"), json!({"required": ["port"]})));
        all.push(field(
            &format!("{list}[].port"),
            json!({"minimum": 0, "maximum": 65535}),
        ));
        all.push(field(
            &format!("{list}[].protocol"),
            json!({"pattern": "^(?i)(tcp|udp|sctp)?$"}),
        ));
    }
    for range in ["routeTableRange", "routeTableRanges[]"] {
        all.push(field(range, json!({"required": ["min", "max"]})));
    }
    let range = json!({"pattern": "^[0-9]{1,5}(:[0-9]{1,5})?$", "minimum": 0, "maximum": 65535});
    all.push(field("kubeNodePortRanges[]", range.clone()));
    all.push(field("natPortRange", range));
    all.push(field(
        "healthTimeoutOverrides[]",
        json!({"required": ["name", "timeout"]}),
    ));
    all
}

fn names() -> Value {
    rules([(
        "(self.metadata.name != 'default' && !self.metadata.name.startsWith('node.')) || \
         !has(self.spec.nodeSelector) || size(self.spec.nodeSelector) == 0",
        "nodeSelector is not for the FelixConfiguration of all nodes or of one node",
    )])
}

/// Parameters that nothing here reads.
fn others() -> Value {
    let mut fields = Map::new();
    let mut add = |names: &[&str], schema: Value| {
        for name in names {
            fields.insert((*name).to_owned(), schema.clone());
        }
    };
    add(
        &[
            "bpfConnectTimeLoadBalancingEnabled",
            "bpfDisableUnprivileged",
            "bpfEnabled",
            "bpfHostConntrackBypass",
            "bpfIPFragmentReassemblyEnabled",
            "bpfKubeProxyIptablesCleanupEnabled",
            "bpfPolicyDebugEnabled",
            "flowLogsCollectorDebugTrace",
        ],
        json!({"type": "boolean"}),
    );
    add(
        &[
            "bpfExportBufferSizeMB",
            "bpfExtToServiceConnmark",
            "bpfKubeProxyHealthzPort",
            "bpfMaglevMaxEndpointsPerService",
            "bpfMaglevMaxServices",
            "bpfMapSizeConntrack",
            "bpfMapSizeConntrackCleanupQueue",
            "bpfMapSizeIPSets",
            "bpfMapSizeIfState",
            "bpfMapSizeNATAffinity",
            "bpfMapSizeNATBackend",
            "bpfMapSizeNATFrontend",
            "bpfMapSizePerCpuConntrack",
            "bpfMapSizeRoute",
        ],
        json!({"type": "integer"}),
    );
    add(
        &[
            "bpfAttachType",
            "bpfCTLBLogFilter",
            "bpfConnectTimeLoadBalancing",
            "bpfConntrackLogLevel",
            "bpfConntrackMode",
            "bpfDataIfacePattern",
            "bpfDisableGROForIfaces",
            "bpfEnforceRPF",
            "bpfExternalServiceMode",
            "bpfHostNetworkedNATWithoutCTLB",
            "bpfJITHardening",
            "bpfKubeProxyMinSyncPeriod",
            "bpfL3IfacePattern",
            "bpfLogLevel",
            "bpfMapSizeConntrackScaling",
            "bpfOverlayHostSourceIP",
            "bpfProfiling",
            "bpfRedirectToPeer",
            "flowLogsFlushInterval",
            "flowLogsGoldmaneServer",
            "flowLogsPolicyEvaluationMode",
        ],
        json!({"type": "string"}),
    );
    add(
        &[
            "bpfDSROptoutCIDRs",
            "bpfExcludeCIDRsFromNAT",
            "bpfForceTrackPacketsFromIfaces",
        ],
        json!({"type": "array", "items": {"type": "string"}}),
    );
    add(
        &["bpfLogFilters", "bpfConntrackTimeouts"],
        json!({"type": "object", "additionalProperties": {"type": "string"}}),
    );
    add(&["bpfPSNATPorts"], json!({"x-kubernetes-int-or-string": true}));
    Value::Object(fields)
}

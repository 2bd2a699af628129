//! All parameters that the agent knows: names, kinds, defaults, and when a change takes effect.
//!
//! Owns the table that reading the environment and the reference of parameters stand on. Source: Calico
//! `felix/config/config_params.go`; defaults that differ from Calico's are said in the reference.

/// How text of the environment or a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`, in any case; also 1, yes, t, y and their opposites.
    Bool,
    /// A number, also hexadecimal after `0x`.
    Number,
    /// As it is.
    Text,
    /// Seconds, or a duration such as `1m30s`.
    Seconds,
    /// Milliseconds, or a duration such as `50ms`.
    Millis,
    /// `protocol:port` or `protocol:net:port`, with commas between them; `none` for none.
    Ports,
    /// Texts with commas between them; `none` for none.
    List,
    /// `min-max`, with commas between them.
    RouteTables,
    /// `name=seconds`, with commas between them.
    Timeouts,
    /// JSON or text, as the field takes it.
    Other,
}

/// When a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// At once.
    Live,
    /// At the next start of the agent.
    Restart,
    /// Never: the value is kept for others and has no effect here.
    Kept,
}

/// A parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Name of the field of FelixConfiguration.
    pub field: &'static str,
    /// Name in the environment after `FELIX_` where it is not that of the field.
    pub other_name: &'static str,
    /// How its text is read.
    pub kind: Kind,
    /// What counts when it is absent; empty = nothing.
    pub default: &'static str,
    /// Words that it may have, with commas between them; empty = see the kind.
    pub values: &'static str,
    /// When a change takes effect.
    pub effect: Effect,
}

impl Parameter {
    /// Name in the environment, without `FELIX_`.
    #[must_use]
    pub fn environment_name(&self) -> String {
        if self.other_name.is_empty() {
            self.field.to_uppercase()
        } else {
            self.other_name.to_owned()
        }
    }
}

const fn row(
    field: &'static str,
    other_name: &'static str,
    kind: Kind,
    default: &'static str,
    values: &'static str,
    effect: Effect,
) -> Parameter {
    Parameter {
        field,
        other_name,
        kind,
        default,
        values,
        effect,
    }
}

/// The parameter with a name of the environment (without `FELIX_`, in any case) or of a field.
#[must_use]
pub fn find(name: &str) -> Option<&'static Parameter> {
    let is_named = |parameter: &&Parameter| {
        parameter.field.eq_ignore_ascii_case(name) || parameter.other_name.eq_ignore_ascii_case(name)
    };
    ALL.iter().filter(|_| !name.is_empty()).find(is_named)
}

/// All parameters, in the order of the API type.
#[rustfmt::skip]
pub const ALL: &[Parameter] = &[
    row("nodeSelector", "", Kind::Text, "", "", Effect::Live),
    row("useInternalDataplaneDriver", "", Kind::Bool, "true", "", Effect::Kept),
    row("dataplaneDriver", "", Kind::Text, "calico-iptables-plugin", "", Effect::Kept),
    row("dataplaneWatchdogTimeout", "", Kind::Seconds, "90 s", "", Effect::Kept),
    row("ipv6Support", "", Kind::Bool, "true", "", Effect::Live),
    row("routeRefreshInterval", "", Kind::Seconds, "90 s", "", Effect::Kept),
    row("interfaceRefreshInterval", "", Kind::Seconds, "90 s", "", Effect::Kept),
    row("iptablesRefreshInterval", "", Kind::Seconds, "180 s", "", Effect::Kept),
    row("iptablesPostWriteCheckInterval", "IPTABLESPOSTWRITECHECKINTERVALSECS", Kind::Seconds, "5 s", "", Effect::Kept),
    row("iptablesLockProbeInterval", "IPTABLESLOCKPROBEINTERVALMILLIS", Kind::Millis, "50 ms", "", Effect::Kept),
    row("featureDetectOverride", "", Kind::Text, "", "", Effect::Kept),
    row("featureGates", "", Kind::Text, "", "", Effect::Live),
    row("ipsetsRefreshInterval", "", Kind::Seconds, "90 s", "", Effect::Kept),
    row("maxIpsetSize", "", Kind::Number, "1048576", "", Effect::Live),
    row("iptablesBackend", "", Kind::Text, "auto", "legacy,nft,auto", Effect::Live),
    row("xdpRefreshInterval", "", Kind::Seconds, "90 s", "", Effect::Kept),
    row("netlinkTimeout", "NETLINKTIMEOUTSECS", Kind::Seconds, "10 s", "", Effect::Kept),
    row("metadataAddr", "", Kind::Text, "127.0.0.1", "", Effect::Kept),
    row("metadataPort", "", Kind::Number, "8775", "", Effect::Kept),
    row("openstackRegion", "", Kind::Text, "", "", Effect::Kept),
    row("interfacePrefix", "", Kind::Text, "cali", "", Effect::Live),
    row("interfaceExclude", "", Kind::Text, "kube-ipvs0", "", Effect::Kept),
    row("chainInsertMode", "", Kind::Text, "insert", "insert,append", Effect::Live),
    row("defaultEndpointToHostAction", "", Kind::Text, "DROP", "DROP,RETURN,ACCEPT", Effect::Live),
    row("iptablesFilterAllowAction", "", Kind::Text, "ACCEPT", "ACCEPT,RETURN", Effect::Live),
    row("iptablesMangleAllowAction", "", Kind::Text, "ACCEPT", "ACCEPT,RETURN", Effect::Live),
    row("iptablesFilterDenyAction", "", Kind::Text, "DROP", "DROP,REJECT", Effect::Live),
    row("logPrefix", "", Kind::Text, "calico-packet", "", Effect::Live),
    row("logActionRateLimit", "", Kind::Text, "", "", Effect::Live),
    row("logActionRateLimitBurst", "", Kind::Number, "5", "", Effect::Live),
    row("logFilePath", "", Kind::Text, "/var/log/calico/felix.log", "", Effect::Kept),
    row("logSeverityFile", "", Kind::Text, "INFO", "TRACE,DEBUG,INFO,WARNING,ERROR,FATAL", Effect::Kept),
    row("logSeverityScreen", "", Kind::Text, "INFO", "TRACE,DEBUG,INFO,WARNING,ERROR,FATAL", Effect::Kept),
    row("logSeveritySys", "", Kind::Text, "INFO", "TRACE,DEBUG,INFO,WARNING,ERROR,FATAL", Effect::Kept),
    row("logDebugFilenameRegex", "", Kind::Text, "", "", Effect::Kept),
    row("ipipEnabled", "IPINIPENABLED", Kind::Bool, "", "", Effect::Live),
    row("ipipMTU", "IPINIPMTU", Kind::Number, "0", "", Effect::Kept),
    row("vxlanEnabled", "", Kind::Bool, "", "", Effect::Live),
    row("vxlanMTU", "", Kind::Number, "0", "", Effect::Kept),
    row("vxlanMTUV6", "", Kind::Number, "0", "", Effect::Kept),
    row("vxlanPort", "", Kind::Number, "4789", "", Effect::Live),
    row("vxlanVNI", "", Kind::Number, "4096", "", Effect::Kept),
    row("allowVXLANPacketsFromWorkloads", "", Kind::Bool, "false", "", Effect::Live),
    row("allowIPIPPacketsFromWorkloads", "", Kind::Bool, "false", "", Effect::Live),
    row("reportingInterval", "REPORTINGINTERVALSECS", Kind::Seconds, "30 s", "", Effect::Kept),
    row("reportingTTL", "REPORTINGTTLSECS", Kind::Seconds, "90 s", "", Effect::Kept),
    row("endpointReportingEnabled", "", Kind::Bool, "false", "", Effect::Kept),
    row("endpointReportingDelay", "ENDPOINTREPORTINGDELAYSECS", Kind::Seconds, "1 s", "", Effect::Kept),
    row("endpointStatusPathPrefix", "", Kind::Text, "/var/run/calico", "", Effect::Restart),
    row("iptablesMarkMask", "", Kind::Number, "0xffff0000", "", Effect::Live),
    row("disableConntrackInvalidCheck", "", Kind::Bool, "false", "", Effect::Live),
    row("healthEnabled", "", Kind::Bool, "true", "", Effect::Live),
    row("healthHost", "", Kind::Text, "localhost", "", Effect::Live),
    row("healthPort", "", Kind::Number, "9099", "", Effect::Live),
    row("healthTimeoutOverrides", "", Kind::Timeouts, "", "", Effect::Kept),
    row("prometheusMetricsEnabled", "", Kind::Bool, "true", "", Effect::Live),
    row("prometheusMetricsHost", "", Kind::Text, "localhost", "", Effect::Live),
    row("prometheusMetricsPort", "", Kind::Number, "9091", "", Effect::Live),
    row("prometheusGoMetricsEnabled", "", Kind::Bool, "true", "", Effect::Kept),
    row("prometheusProcessMetricsEnabled", "", Kind::Bool, "true", "", Effect::Kept),
    row("prometheusWireGuardMetricsEnabled", "", Kind::Bool, "true", "", Effect::Kept),
    row("prometheusMetricsCAFile", "", Kind::Text, "", "", Effect::Kept),
    row("prometheusMetricsCertFile", "", Kind::Text, "", "", Effect::Kept),
    row("prometheusMetricsKeyFile", "", Kind::Text, "", "", Effect::Kept),
    row("prometheusMetricsClientAuth", "", Kind::Text, "NoClientCert", "RequireAndVerifyClientCert,RequireAnyClientCert,VerifyClientCertIfGiven,NoClientCert", Effect::Kept),
    row("failsafeInboundHostPorts", "", Kind::Ports, "tcp:22,udp:68,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667", "", Effect::Live),
    row("failsafeOutboundHostPorts", "", Kind::Ports, "udp:53,udp:67,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667", "", Effect::Live),
    row("kubeNodePortRanges", "", Kind::List, "30000:32767", "", Effect::Kept),
    row("policySyncPathPrefix", "", Kind::Text, "", "", Effect::Kept),
    row("usageReportingEnabled", "", Kind::Bool, "true", "", Effect::Kept),
    row("usageReportingInitialDelay", "USAGEREPORTINGINITIALDELAYSECS", Kind::Seconds, "300 s", "", Effect::Kept),
    row("usageReportingInterval", "USAGEREPORTINGINTERVALSECS", Kind::Seconds, "86400 s", "", Effect::Kept),
    row("natPortRange", "", Kind::Text, "", "", Effect::Live),
    row("natOutgoingAddress", "", Kind::Text, "", "", Effect::Live),
    row("natOutgoingExclusions", "", Kind::Text, "IPPoolsOnly", "IPPoolsOnly,IPPoolsAndHostIPs", Effect::Live),
    row("deviceRouteSourceAddress", "", Kind::Text, "", "", Effect::Live),
    row("deviceRouteSourceAddressIPv6", "", Kind::Text, "", "", Effect::Live),
    row("deviceRouteProtocol", "", Kind::Number, "80", "", Effect::Live),
    row("removeExternalRoutes", "", Kind::Bool, "true", "", Effect::Kept),
    row("programClusterRoutes", "", Kind::Text, "EnabledIPIPOnly", "Enabled,Disabled,EnabledIPIPOnly,EnabledNoEncapOnly", Effect::Live),
    row("ipForwarding", "", Kind::Text, "Enabled", "Enabled,Disabled", Effect::Live),
    row("externalNodesList", "", Kind::List, "", "", Effect::Live),
    row("debugMemoryProfilePath", "", Kind::Text, "", "", Effect::Kept),
    row("debugDisableLogDropping", "", Kind::Bool, "false", "", Effect::Kept),
    row("debugSimulateCalcGraphHangAfter", "", Kind::Seconds, "0 s", "", Effect::Kept),
    row("debugSimulateDataplaneHangAfter", "", Kind::Seconds, "0 s", "", Effect::Kept),
    row("debugSimulateDataplaneApplyDelay", "", Kind::Seconds, "0 s", "", Effect::Kept),
    row("debugHost", "", Kind::Text, "localhost", "", Effect::Kept),
    row("debugPort", "", Kind::Number, "", "", Effect::Kept),
    row("iptablesNATOutgoingInterfaceFilter", "", Kind::Text, "", "", Effect::Live),
    row("sidecarAccelerationEnabled", "", Kind::Bool, "false", "", Effect::Kept),
    row("xdpEnabled", "", Kind::Bool, "true", "", Effect::Kept),
    row("genericXDPEnabled", "", Kind::Bool, "false", "", Effect::Kept),
    row("flowLogsLocalReporter", "", Kind::Text, "Disabled", "Enabled,Disabled", Effect::Live),
    row("nftablesMode", "", Kind::Text, "Auto", "Enabled,Disabled,Auto", Effect::Live),
    row("nftablesFlowTableOffload", "", Kind::Text, "Disabled", "All,Disabled", Effect::Kept),
    row("nftablesFlowTableDataIfacePattern", "", Kind::Text, "", "", Effect::Kept),
    row("nftablesRefreshInterval", "", Kind::Seconds, "180 s", "", Effect::Live),
    row("nftablesFilterAllowAction", "", Kind::Text, "ACCEPT", "ACCEPT,RETURN", Effect::Live),
    row("nftablesMangleAllowAction", "", Kind::Text, "ACCEPT", "ACCEPT,RETURN", Effect::Live),
    row("nftablesFilterDenyAction", "", Kind::Text, "DROP", "DROP,REJECT", Effect::Live),
    row("nftablesMarkMask", "", Kind::Number, "0xffff0000", "", Effect::Live),
    row("istioAmbientMode", "", Kind::Text, "Disabled", "Disabled,Enabled", Effect::Kept),
    row("istioDSCPMark", "", Kind::Other, "23", "", Effect::Kept),
    row("cgroupV2Path", "", Kind::Text, "", "", Effect::Kept),
    row("routeSource", "", Kind::Text, "CalicoIPAM", "WorkloadIPs,CalicoIPAM", Effect::Kept),
    row("routeTableRanges", "", Kind::RouteTables, "", "", Effect::Kept),
    row("routeTableRange", "", Kind::Other, "", "", Effect::Kept),
    row("routeSyncDisabled", "", Kind::Bool, "false", "", Effect::Kept),
    row("ipv4NormalRoutePriority", "", Kind::Number, "1024", "", Effect::Live),
    row("ipv4ElevatedRoutePriority", "", Kind::Number, "512", "", Effect::Kept),
    row("ipv6NormalRoutePriority", "", Kind::Number, "1024", "", Effect::Live),
    row("ipv6ElevatedRoutePriority", "", Kind::Number, "512", "", Effect::Kept),
    row("liveMigrationRouteConvergenceTime", "", Kind::Seconds, "30 s", "", Effect::Kept),
    row("wireguardEnabled", "", Kind::Bool, "false", "", Effect::Kept),
    row("wireguardEnabledV6", "", Kind::Bool, "false", "", Effect::Kept),
    row("wireguardThreadingEnabled", "", Kind::Bool, "false", "", Effect::Kept),
    row("wireguardListeningPort", "", Kind::Number, "51820", "", Effect::Kept),
    row("wireguardListeningPortV6", "", Kind::Number, "51821", "", Effect::Kept),
    row("wireguardRoutingRulePriority", "", Kind::Number, "99", "", Effect::Kept),
    row("wireguardInterfaceName", "", Kind::Text, "wireguard.cali", "", Effect::Kept),
    row("wireguardInterfaceNameV6", "", Kind::Text, "wg-v6.cali", "", Effect::Kept),
    row("wireguardMTU", "", Kind::Number, "0", "", Effect::Kept),
    row("wireguardMTUV6", "", Kind::Number, "0", "", Effect::Kept),
    row("wireguardHostEncryptionEnabled", "", Kind::Bool, "false", "", Effect::Kept),
    row("wireguardKeepAlive", "", Kind::Seconds, "0 s", "", Effect::Kept),
    row("awsSrcDstCheck", "", Kind::Text, "DoNothing", "DoNothing,Enable,Disable", Effect::Kept),
    row("serviceLoopPrevention", "", Kind::Text, "Drop", "Drop,Reject,Disabled", Effect::Live),
    row("workloadSourceSpoofing", "", Kind::Text, "Disabled", "Disabled,Any", Effect::Live),
    row("mtuIfacePattern", "", Kind::Text, "^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)", "", Effect::Kept),
    row("floatingIPs", "", Kind::Text, "Disabled", "Enabled,Disabled", Effect::Live),
    row("localSubnetL2Reachability", "", Kind::Text, "Disabled", "Disabled,PodsAndLoadBalancers", Effect::Kept),
    row("localSubnetL2ReachabilityRefreshInterval", "", Kind::Seconds, "120 s", "", Effect::Kept),
    row("windowsManageFirewallRules", "", Kind::Text, "Disabled", "Enabled,Disabled", Effect::Kept),
    row("goGCThreshold", "", Kind::Number, "40", "", Effect::Kept),
    row("goMemoryLimitMB", "", Kind::Number, "-1", "", Effect::Kept),
    row("goMaxProcs", "", Kind::Number, "-1", "", Effect::Kept),
    row("requireMTUFile", "", Kind::Bool, "false", "", Effect::Kept),
];

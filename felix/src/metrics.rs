//! The metrics of felix. Names are a promise: they are those that Calico's users know.

use caracal_daemon::metrics::{
    Error, Gauge, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};

/// All metrics. Cheap to clone.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each has its help text where it is registered")]
pub struct Metrics {
    pub active_endpoints: IntGauge,
    pub updates: IntCounter,
    pub resync_state: IntGauge,
    pub apply_time: Histogram,
    pub initial_resync_time: Gauge,
    pub failures: IntCounterVec,
    pub chains: IntGaugeVec,
    pub rules: IntGaugeVec,
    pub lines_executed: IntCounterVec,
    pub save_calls: IntCounter,
    pub restore_calls: IntCounter,
    pub restore_errors: IntCounter,
    pub nft_calls: IntCounter,
    pub nft_errors: IntCounter,
    pub nft_list_calls: IntCounter,
    pub nft_messages: IntCounter,
    pub nft_chains: IntGaugeVec,
    pub nft_rules: IntGaugeVec,
    pub nft_maps: IntGaugeVec,
    pub nft_sets: IntGaugeVec,
    pub ipsets: IntGaugeVec,
    pub ipset_calls: IntCounter,
    pub ipset_errors: IntCounter,
    pub ipset_lines: IntCounter,
    pub route_changes: IntCounter,
    pub problems: IntGauge,
    pub nflog_messages: IntCounter,
    pub nflog_logs: IntCounterVec,
    pub nflog_overruns: IntCounter,
    pub nflog_unreadable: IntCounter,
}

impl Metrics {
    /// Registers all.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn new(registry: &Registry) -> Result<Self, Error> {
        let table = ["ip_version", "table"];
        Ok(Self {
            active_endpoints: registry
                .int_gauge("felix_active_local_endpoints", "Endpoints of this node.")?,
            updates: registry.int_counter(
                "felix_calc_graph_updates_processed",
                "Changes of objects taken in.",
            )?,
            resync_state: registry
                .int_gauge("felix_resync_state", "1 before all kinds are listed, 3 after.")?,
            apply_time: registry.histogram(
                "felix_int_dataplane_apply_time_seconds",
                "Time that one round of programming took.",
                &[0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0],
            )?,
            initial_resync_time: registry.gauge(
                "felix_int_dataplane_initial_resync_time_seconds",
                "Time from the start to the end of the first round of programming.",
            )?,
            failures: registry.int_counter_vec(
                "felix_int_dataplane_failures",
                "Parts that could not be programmed and were tried again.",
                &["type"],
            )?,
            chains: registry.int_gauge_vec("felix_iptables_chains", "Chains of ours.", &table)?,
            rules: registry.int_gauge_vec("felix_iptables_rules", "Rules in chains of ours.", &table)?,
            lines_executed: registry.int_counter_vec(
                "felix_iptables_lines_executed",
                "Lines given to iptables-restore.",
                &table,
            )?,
            save_calls: registry.int_counter("felix_iptables_save_calls", "Starts of iptables-save.")?,
            restore_calls: registry
                .int_counter("felix_iptables_restore_calls", "Starts of iptables-restore.")?,
            restore_errors: registry.int_counter(
                "felix_iptables_restore_errors",
                "Starts of iptables-restore that failed.",
            )?,
            nft_calls: registry.int_counter("felix_nft_calls", "Rounds of nftables.")?,
            nft_errors: registry.int_counter(
                "felix_nft_errors",
                "Transactions of nftables that the kernel refused.",
            )?,
            nft_list_calls: registry.int_counter(
                "felix_nft_list_calls",
                "Rounds of nftables in which the whole table was read.",
            )?,
            nft_messages: registry.int_counter("felix_nft_messages", "Messages of nftables carried out.")?,
            nft_chains: registry.int_gauge_vec("felix_nft_chains", "Chains of ours.", &["ip_version"])?,
            nft_rules: registry.int_gauge_vec("felix_nft_rules", "Rules of ours.", &["ip_version"])?,
            nft_maps: registry.int_gauge_vec("felix_nft_maps", "Maps of ours.", &["ip_version"])?,
            nft_sets: registry.int_gauge_vec("felix_nft_sets", "Sets of ours.", &["ip_version"])?,
            ipsets: registry.int_gauge_vec("felix_ipsets_calico", "IP sets of ours.", &["ip_version"])?,
            ipset_calls: registry.int_counter("felix_ipset_calls", "Changes of one IP set.")?,
            ipset_errors: registry.int_counter("felix_ipset_errors", "Changes of an IP set that failed.")?,
            ipset_lines: registry.int_counter("felix_ipset_lines_executed", "Members written.")?,
            route_changes: registry.int_counter("felix_route_changes", "Routes written or removed.")?,
            problems: registry.int_gauge(
                "felix_objects_not_understood",
                "Objects and parameters that could not be understood; what they concern is closed.",
            )?,
            nflog_messages: registry.int_counter(
                "felix_nflog_netlink_messages_received",
                "Messages with denied packets.",
            )?,
            nflog_logs: registry.int_counter_vec(
                "felix_nflog_logs_received",
                "Denied packets that rules showed.",
                &["groupNum"],
            )?,
            nflog_overruns: registry.int_counter(
                "felix_nflog_buffer_overruns",
                "Times that denied packets came faster than they were read.",
            )?,
            nflog_unreadable: registry.int_counter(
                "felix_nflog_parse_errors",
                "Denied packets that could not be read.",
            )?,
        })
    }
}

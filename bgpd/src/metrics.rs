//! The speaker's metrics. Names and labels of the first three are those of Calico's BGP metrics.

use caracal_bgpd_core::snapshot::{SessionState, SpeakerStatus};
use caracal_daemon::metrics::{Error, IntCounter, IntGauge, IntGaugeVec, Registry};

/// The states of a session.
const STATES: [SessionState; 6] = [
    SessionState::Idle,
    SessionState::Connect,
    SessionState::Active,
    SessionState::OpenSent,
    SessionState::OpenConfirm,
    SessionState::Established,
];

/// All metrics of the speaker.
#[derive(Clone, Debug)]
pub struct Metrics {
    peers: IntGaugeVec,
    routes_imported: IntGaugeVec,
    route_updates_received: IntGaugeVec,
    prefixes: IntGauge,
    kernel_routes: IntGaugeVec,
    /// Configurations applied.
    pub configurations: IntCounter,
    /// Sessions that went down.
    pub sessions_lost: IntCounter,
    /// UPDATEs with errors that did not end their session.
    pub update_errors: IntCounter,
    problems: IntGauge,
    bfd_sessions: IntGaugeVec,
    /// Peers that BFD found gone.
    pub bfd_lost: IntCounter,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// Never in practice: the names are fixed.
    pub fn new(registry: &Registry) -> Result<Self, Error> {
        Ok(Self {
            peers: registry.int_gauge_vec(
                "bgp_peers",
                "Peers by state of their session.",
                &["ip_version", "status"],
            )?,
            routes_imported: registry.int_gauge_vec(
                "bgp_routes_imported",
                "Routes accepted from peers.",
                &["ip_version"],
            )?,
            route_updates_received: registry.int_gauge_vec(
                "bgp_route_updates_received",
                "UPDATE messages received from the present peers.",
                &["ip_version"],
            )?,
            prefixes: registry.int_gauge("caracal_bgp_prefixes", "Prefixes with at least one path.")?,
            kernel_routes: registry.int_gauge_vec(
                "caracal_bgp_kernel_routes",
                "Routes for the kernel: wanted, installed, failed.",
                &["state"],
            )?,
            configurations: registry.int_counter(
                "caracal_bgp_configurations_total",
                "Configurations that were applied.",
            )?,
            sessions_lost: registry
                .int_counter("caracal_bgp_sessions_lost_total", "Sessions that went down.")?,
            update_errors: registry.int_counter(
                "caracal_bgp_update_errors_total",
                "UPDATE messages with errors that did not end the session.",
            )?,
            problems: registry.int_gauge(
                "caracal_bgp_problems",
                "Values of resources that could not be used.",
            )?,
            bfd_sessions: registry.int_gauge_vec(
                "caracal_bfd_sessions",
                "BFD sessions of peers: up, down.",
                &["status"],
            )?,
            bfd_lost: registry
                .int_counter("caracal_bfd_sessions_lost_total", "Peers that BFD found gone.")?,
        })
    }

    /// Takes over what a status says.
    pub fn set_status(&self, status: &SpeakerStatus) {
        for (version, v4) in [("IPv4", true), ("IPv6", false)] {
            let peers = || {
                status
                    .peers
                    .iter()
                    .filter(move |peer| peer.address.is_ipv4() == v4)
            };
            // Every state is there, so that a missing one never reads as unknown.
            for state in STATES {
                let count = peers().filter(|peer| peer.state == state).count();
                self.peers
                    .with_label_values(&[version, state_name(state)])
                    .set(gauge(count));
            }
            let imported: usize = peers().map(|peer| peer.prefixes_accepted).sum();
            let updates: u64 = peers().map(|peer| peer.counters.updates_in).sum();
            self.routes_imported
                .with_label_values(&[version])
                .set(gauge(imported));
            self.route_updates_received
                .with_label_values(&[version])
                .set(i64::try_from(updates).unwrap_or(i64::MAX));
        }
        self.prefixes.set(gauge(status.prefixes));
    }

    /// Takes over counts of kernel routes.
    pub fn set_kernel(&self, wanted: usize, installed: usize, failed: usize) {
        for (state, count) in [("wanted", wanted), ("installed", installed), ("failed", failed)] {
            self.kernel_routes.with_label_values(&[state]).set(gauge(count));
        }
    }

    /// Takes over how many BFD sessions are up and not.
    pub fn set_bfd(&self, [up, down]: [usize; 2]) {
        for (status, count) in [("up", up), ("down", down)] {
            self.bfd_sessions.with_label_values(&[status]).set(gauge(count));
        }
    }

    /// Takes over how many values could not be used.
    pub fn set_problems(&self, count: usize) {
        self.problems.set(gauge(count));
    }
}

/// Name of a session's state, in RFC 4271's spelling.
pub(crate) fn state_name(state: SessionState) -> &'static str {
    match state {
        SessionState::Idle => "Idle",
        SessionState::Connect => "Connect",
        SessionState::Active => "Active",
        SessionState::OpenSent => "OpenSent",
        SessionState::OpenConfirm => "OpenConfirm",
        SessionState::Established => "Established",
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

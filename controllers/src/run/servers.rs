//! Where metrics and probes are served, as the configuration says at the moment.

use std::net::{IpAddr, SocketAddr};

use caracal_daemon::health::Health;
use caracal_daemon::http::{Routes, Server, serve};
use caracal_daemon::metrics::Registry;

use crate::settings::Settings;

/// Where to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Address of the metrics; their port is the configuration's. `None` = never serve them.
    pub metrics: Option<IpAddr>,
    /// Address and port of the probes. `None` = never answer them.
    pub health: Option<SocketAddr>,
}

/// The running servers.
#[derive(Debug)]
pub struct Servers {
    addresses: Addresses,
    registry: Registry,
    health: Health,
    metrics_server: Option<(SocketAddr, Option<Server>)>,
    health_server: Option<(SocketAddr, Option<Server>)>,
}

impl Servers {
    /// None runs yet.
    #[must_use]
    pub const fn new(addresses: Addresses, registry: Registry, health: Health) -> Self {
        Self {
            addresses,
            registry,
            health,
            metrics_server: None,
            health_server: None,
        }
    }

    /// Starts, moves or stops what the settings say. A port that is taken does not keep the controllers from working.
    pub async fn ensure(&mut self, settings: &Settings) {
        let metrics = self
            .addresses
            .metrics
            .and_then(|address| Some(SocketAddr::new(address, settings.metrics_port?)));
        let routes = Routes::new().metrics(self.registry.clone());
        ensure(&mut self.metrics_server, metrics, "metrics", routes).await;
        let health = self.addresses.health.filter(|_| settings.health);
        let routes = Routes::new().health(self.health.clone());
        ensure(&mut self.health_server, health, "health", routes).await;
    }
}

async fn ensure(
    place: &mut Option<(SocketAddr, Option<Server>)>,
    wanted: Option<SocketAddr>,
    name: &'static str,
    routes: Routes,
) {
    if place.as_ref().map(|(address, _)| *address) == wanted {
        return;
    }
    // The old one first: it may be the same port on another address.
    *place = None;
    let Some(address) = wanted else { return };
    let server = match serve(address, routes).await {
        Ok(server) => Some(server),
        Err(error) => {
            tracing::error!(server = name, error = %error, "not served");
            None
        }
    };
    *place = Some((address, server));
}

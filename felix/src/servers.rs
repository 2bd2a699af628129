//! The ports on which felix answers: probes and metrics, on localhost unless configured.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use caracal_api::v3::FelixConfigurationSpec;
use caracal_daemon::health::Health;
use caracal_daemon::http::{self, Routes, Server};
use caracal_daemon::metrics::Registry;

const HEALTH_PORT: u16 = 9099;
const METRICS_PORT: u16 = 9091;

/// One port: off, or open.
#[derive(Debug, Default)]
struct Port {
    addr: Option<SocketAddr>,
    server: Option<Server>,
}

/// Both ports.
#[derive(Debug)]
pub struct Servers {
    health: Health,
    registry: Registry,
    health_port: Port,
    metrics_port: Port,
}

impl Servers {
    /// Nothing open yet.
    #[must_use]
    pub fn new(health: Health, registry: Registry) -> Self {
        Self {
            health,
            registry,
            health_port: Port::default(),
            metrics_port: Port::default(),
        }
    }

    /// Opens and closes ports as configured. What is open and stays is not touched.
    ///
    /// # Errors
    /// When a port cannot be opened; the other one is open.
    pub async fn ensure(&mut self, spec: &FelixConfigurationSpec) -> Result<(), http::Error> {
        let health = spec.health_enabled.unwrap_or(true);
        let health = health.then(|| address(spec.health_host.as_deref(), spec.health_port, HEALTH_PORT));
        let metrics = spec.prometheus_metrics_enabled.unwrap_or(true);
        let metrics = metrics.then(|| {
            let host = spec.prometheus_metrics_host.as_deref().or(Some("localhost"));
            address(host, spec.prometheus_metrics_port, METRICS_PORT)
        });
        let first = self
            .health_port
            .set(health, Routes::new().health(self.health.clone()))
            .await;
        let second = self
            .metrics_port
            .set(metrics, Routes::new().metrics(self.registry.clone()))
            .await;
        first.and(second)
    }
}

impl Port {
    async fn set(&mut self, wanted: Option<SocketAddr>, routes: Routes) -> Result<(), http::Error> {
        if self.addr == wanted && self.server.is_some() == wanted.is_some() {
            return Ok(());
        }
        self.server = None;
        self.addr = wanted;
        if let Some(addr) = wanted {
            self.server = Some(http::serve(addr, routes).await?);
        }
        Ok(())
    }
}

/// The address of a port. A host that is neither `localhost` nor an address counts as `localhost`.
fn address(host: Option<&str>, port: Option<i32>, default: u16) -> SocketAddr {
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let ip = host.and_then(|host| host.parse().ok()).unwrap_or(localhost);
    let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or(default);
    SocketAddr::new(ip, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_on_localhost_unless_set() {
        assert_eq!(address(None, None, 9099).to_string(), "127.0.0.1:9099");
        assert_eq!(
            address(Some("localhost"), Some(1), 9099).to_string(),
            "127.0.0.1:1"
        );
        assert_eq!(address(Some("::"), Some(-1), 9099).to_string(), "[::]:9099");
    }
}

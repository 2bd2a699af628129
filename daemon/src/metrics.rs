//! Metrics in Prometheus' text format. Each crate registers its own in one file; the names are its promise.

use prometheus::{Encoder, Opts, TextEncoder};

pub use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};

use crate::process;

/// Why a metric could not be registered.
#[derive(Debug, thiserror::Error)]
#[error("register metric {name}")]
pub struct Error {
    /// Name of the metric.
    name: String,
    /// Duplicate or invalid name.
    #[source]
    source: prometheus::Error,
}

/// The metrics of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    inner: prometheus::Registry,
}

impl Registry {
    /// A registry with `caracal_build_info` and the process metrics.
    ///
    /// # Errors
    /// Never in practice: the names are fixed.
    pub fn new(component: &str) -> Result<Self, Error> {
        let registry = Self {
            inner: prometheus::Registry::new(),
        };
        let info = registry.int_gauge_vec(
            "caracal_build_info",
            "Version of the running program; always 1.",
            &["component", "version"],
        )?;
        info.with_label_values(&[component, env!("CARGO_PKG_VERSION")])
            .set(1);
        registry.register("process_", process::Collector::new()?)?;
        Ok(registry)
    }

    /// A counter.
    ///
    /// # Errors
    /// When the name is taken or invalid.
    pub fn int_counter(&self, name: &str, help: &str) -> Result<IntCounter, Error> {
        let metric = IntCounter::new(name, help).map_err(|source| failed(name, source))?;
        self.register(name, metric.clone())?;
        Ok(metric)
    }

    /// A counter with labels.
    ///
    /// # Errors
    /// When the name is taken or invalid.
    pub fn int_counter_vec(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
        let metric =
            IntCounterVec::new(Opts::new(name, help), labels).map_err(|source| failed(name, source))?;
        self.register(name, metric.clone())?;
        Ok(metric)
    }

    /// A gauge of whole numbers.
    ///
    /// # Errors
    /// When the name is taken or invalid.
    pub fn int_gauge(&self, name: &str, help: &str) -> Result<IntGauge, Error> {
        let metric = IntGauge::new(name, help).map_err(|source| failed(name, source))?;
        self.register(name, metric.clone())?;
        Ok(metric)
    }

    /// A gauge of whole numbers with labels.
    ///
    /// # Errors
    /// When the name is taken or invalid.
    pub fn int_gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
        let metric =
            IntGaugeVec::new(Opts::new(name, help), labels).map_err(|source| failed(name, source))?;
        self.register(name, metric.clone())?;
        Ok(metric)
    }

    /// A gauge.
    ///
    /// # Errors
    /// When the name is taken or invalid.
    pub fn gauge(&self, name: &str, help: &str) -> Result<Gauge, Error> {
        let metric = Gauge::new(name, help).map_err(|source| failed(name, source))?;
        self.register(name, metric.clone())?;
        Ok(metric)
    }

    /// A histogram with given bucket limits.
    ///
    /// # Errors
    /// When the name is taken or invalid, or the limits do not rise.
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, Error> {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let metric = Histogram::with_opts(opts).map_err(|source| failed(name, source))?;
        self.register(name, metric.clone())?;
        Ok(metric)
    }

    /// All metrics as text, in name order.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        // Writing to memory fails only for a metric family without metrics, which the registry leaves out.
        if let Err(error) = TextEncoder::new().encode(&self.inner.gather(), &mut text) {
            tracing::error!(error = %error, "metrics could not be rendered");
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    fn register(&self, name: &str, metric: impl prometheus::core::Collector + 'static) -> Result<(), Error> {
        self.inner
            .register(Box::new(metric))
            .map_err(|source| failed(name, source))
    }
}

pub(crate) fn failed(name: &str, source: prometheus::Error) -> Error {
    Error {
        name: name.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_what_was_registered_and_the_process() {
        let registry = Registry::new("felix").unwrap();
        registry.int_counter("felix_test_total", "A test.").unwrap().inc();
        assert!(registry.int_counter("felix_test_total", "Twice.").is_err());
        let text = registry.render();
        assert!(text.contains("felix_test_total 1"), "{text}");
        assert!(
            text.contains("caracal_build_info{component=\"felix\",version="),
            "{text}"
        );
        let rss = text
            .lines()
            .find_map(|line| line.strip_prefix("process_resident_memory_bytes "))
            .unwrap();
        assert!(rss.parse::<f64>().unwrap() > 100_000.0, "{rss}");
    }
}

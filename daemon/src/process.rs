//! Metrics of the process itself, read from `/proc/self` when asked.

use std::fs;

use prometheus::core::Desc;
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntGauge};

use crate::metrics::{Error, failed};

/// The kernel reports CPU time in these units on every architecture Linux has.
const CLOCK_TICKS_PER_SECOND: f64 = 100.0;
const KIBIBYTE: i64 = 1024;

pub(crate) struct Collector {
    resident: IntGauge,
    cpu: Gauge,
    descriptors: IntGauge,
    threads: IntGauge,
}

impl Collector {
    pub(crate) fn new() -> Result<Self, Error> {
        let int = |name: &str, help: &str| IntGauge::new(name, help).map_err(|source| failed(name, source));
        let cpu = "process_cpu_seconds_total";
        Ok(Self {
            resident: int("process_resident_memory_bytes", "Resident memory size in bytes.")?,
            cpu: Gauge::new(cpu, "Total user and system CPU time spent in seconds.")
                .map_err(|source| failed(cpu, source))?,
            descriptors: int("process_open_fds", "Number of open file descriptors.")?,
            threads: int("process_threads", "Number of threads.")?,
        })
    }

    fn refresh(&self) {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        self.resident
            .set(status_number(&status, "VmRSS:").unwrap_or(0) * KIBIBYTE);
        self.threads.set(status_number(&status, "Threads:").unwrap_or(0));
        if let Some(ticks) = cpu_ticks(&fs::read_to_string("/proc/self/stat").unwrap_or_default()) {
            self.cpu.set(ticks / CLOCK_TICKS_PER_SECOND);
        }
        let descriptors = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        self.descriptors
            .set(i64::try_from(descriptors).unwrap_or(i64::MAX));
    }
}

impl prometheus::core::Collector for Collector {
    fn desc(&self) -> Vec<&Desc> {
        [
            self.resident.desc(),
            self.cpu.desc(),
            self.descriptors.desc(),
            self.threads.desc(),
        ]
        .concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.refresh();
        [
            self.resident.collect(),
            self.cpu.collect(),
            self.descriptors.collect(),
            self.threads.collect(),
        ]
        .concat()
    }
}

fn status_number(status: &str, key: &str) -> Option<i64> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(key))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// Fields 14 and 15 of `/proc/self/stat`; the name in field 2 may contain spaces and parentheses.
fn cpu_ticks(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_an_odd_name() {
        let stat = "7 (a) b) R 1 2 3 4 5 6 7 8 9 10 40 2 0 0 20 0 1";
        assert_eq!(cpu_ticks(stat), Some(42.0));
        assert_eq!(cpu_ticks("garbage"), None);
    }
}

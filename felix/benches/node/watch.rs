//! When a change is in the kernel: its generation of rules moved on, or the members of its sets.

use std::time::{Duration, Instant};

use caracal_linux::ipset::IpSets;
use caracal_linux::nftables::Generation;

use crate::Backend;

const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Kernel {
    generation: Generation,
    /// Only where sets are apart from rules.
    sets: Option<IpSets>,
}

impl Kernel {
    pub(crate) fn new(backend: Backend) -> Self {
        Self {
            generation: Generation::open().unwrap(),
            sets: (backend == Backend::Iptables).then(|| IpSets::open().unwrap()),
        }
    }

    fn state(&mut self) -> (u32, u64) {
        let members = self.sets.as_mut().map_or(0, |sets| {
            let headers = sets.headers().unwrap();
            headers.iter().map(|header| u64::from(header.elements)).sum()
        });
        (self.generation.current().unwrap(), members)
    }

    /// Time from the beginning of a change to the moment when the kernel has it.
    pub(crate) async fn after<F: Future<Output = ()>>(&mut self, change: impl FnOnce() -> F) -> Duration {
        let before = self.state();
        let started = Instant::now();
        change().await;
        while self.state() == before {
            assert!(
                started.elapsed() < LIMIT,
                "the change does not come to the kernel"
            );
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        started.elapsed()
    }

    /// Waits until nothing changes for a time.
    pub(crate) async fn settle(&mut self, quiet: Duration) {
        let mut last = (self.state(), Instant::now());
        let limit = Instant::now() + LIMIT * 2;
        while last.1.elapsed() < quiet {
            assert!(Instant::now() < limit, "the kernel does not come to rest");
            tokio::time::sleep(Duration::from_millis(10)).await;
            let state = self.state();
            if state != last.0 {
                last = (state, Instant::now());
            }
        }
    }
}

//! What the backend that is not used may have left in the kernel: removed once the one that is used holds.
//!
//! Both may be there for a moment, and a packet must then pass both; nothing opens in between.

use std::time::Instant;

use caracal_felix_core::desired::IpVersion;
use caracal_felix_core::render::nftables::TABLE;
use caracal_linux::ipset::IpSets;
use caracal_linux::nftables::{Family, Nftables, TableId};

use super::filter::Filter;
use super::tables;
use crate::drivers::ipsets::Driver;
use crate::drivers::nftables::lower::family;
use crate::drivers::nftables::round::remove_table;
use crate::drivers::nftables::writer::Failure;
use crate::exec::CommandRunner;
use crate::features::{Variant, leftover_commands};
use crate::retry::Retry;

/// Removes what is left over.
#[derive(Debug)]
pub(super) struct Leftovers {
    retry: Retry,
}

impl Leftovers {
    /// There may be something.
    #[must_use]
    pub(super) fn new() -> Self {
        let mut retry = Retry::new(u64::from(std::process::id()));
        retry.request();
        Self { retry }
    }

    /// The backend is another one: there may be something again.
    pub(super) fn request(&mut self) {
        self.retry.request();
    }

    /// True when something may be there.
    #[must_use]
    pub(super) const fn is_pending(&self) -> bool {
        self.retry.is_pending()
    }

    /// When something is to be done next.
    #[must_use]
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        self.retry.at(now)
    }

    /// Removes what the used backend does not own. To be called when it holds.
    pub(super) async fn apply(&mut self, used: &Filter, runner: &impl CommandRunner) {
        if !self.retry.is_due(Instant::now()) {
            return;
        }
        let mut problems = Vec::new();
        for variant in [Variant::Nft, Variant::Legacy] {
            if used.variant() != Some(variant) {
                for commands in leftover_commands(variant) {
                    problems.extend(tables::remove_ours(runner, &commands).await.err());
                }
            }
        }
        if used.variant().is_none() {
            problems.extend(remove_sets().err());
        }
        problems.extend(remove_tables(used).err());
        for problem in &problems {
            tracing::warn!(problem, "left-overs of another backend not removed, tried again");
        }
        self.retry.done(problems.is_empty(), Instant::now());
    }
}

fn remove_sets() -> Result<(), String> {
    let Ok(sets) = IpSets::open() else {
        return Ok(());
    };
    let mut driver = Driver::new(sets);
    // A kernel without IP sets has none of ours.
    let Ok(headers) = driver.headers() else {
        return Ok(());
    };
    let mut result = Ok(());
    for name in headers.keys() {
        if let Err(error) = driver.destroy(name) {
            result = Err(error.to_string());
        }
    }
    result
}

fn remove_tables(used: &Filter) -> Result<(), String> {
    let mut kernel = Nftables::open().map_err(|error| error.to_string())?;
    let own = [IpVersion::V4, IpVersion::V6].map(|version| (family(version), used.has_nftables(version)));
    // Calico's agent has a table for address resolution too.
    for (family, is_used) in own.into_iter().chain([(Family::Arp, false)]) {
        if is_used {
            continue;
        }
        let table = TableId { family, name: TABLE };
        match remove_table(&mut kernel, table) {
            Ok(true) => {
                tracing::info!(table = TABLE, family = ?table.family, "left-over nftables table removed")
            }
            Ok(false) => {}
            // A kernel without nftables has none of ours.
            Err(Failure::Kernel(error)) if error.is_unsupported() => {}
            Err(Failure::Kernel(error)) => return Err(error.to_string()),
            Err(Failure::Refused(_)) => return Err("the table calico was not removed".to_owned()),
        }
    }
    Ok(())
}

//! The kinds of findings. Identifiers never change their meaning; each is a heading of `docs/findings.md`, and a test holds
//! the page to this list.

use Severity::{Fail, Warn};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// Traffic is lost, or pods do not start.
    Fail,
    /// It will be, or something is without effect.
    Warn,
}

/// A kind of finding.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: &'static str,
    pub(super) severity: Severity,
    /// What it means, for the documentation.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the test that holds the page to the list reads it")
    )]
    pub(super) title: &'static str,
}

const fn known(id: &'static str, severity: Severity, title: &'static str) -> Known {
    Known { id, severity, title }
}

/// All kinds of findings.
pub(super) const CATALOGUE: &[Known] = &[
    known("CRC-API-001", Fail, "the definitions are not installed"),
    known("CRC-API-002", Warn, "the datastore is locked"),
    known("CRC-NODE-001", Fail, "a node without agent"),
    known("CRC-NODE-002", Fail, "an agent that is not ready"),
    known("CRC-NODE-003", Fail, "a node without address"),
    known("CRC-NODE-004", Fail, "two nodes with one address"),
    known("CRC-NODE-005", Fail, "a node whose network is unavailable"),
    known("CRC-NODE-006", Fail, "a node that is not ready"),
    known("CRC-NODE-007", Warn, "a node that is degraded"),
    known("CRC-IPAM-001", Fail, "no pool gives addresses"),
    known("CRC-IPAM-002", Warn, "a pool gives no addresses"),
    known("CRC-IPAM-003", Warn, "addresses run out"),
    known("CRC-IPAM-004", Warn, "addresses do not agree with pods"),
    known("CRC-BGP-001", Warn, "a peer that no node has"),
    known("CRC-BGP-002", Fail, "a node without session"),
    known("CRC-BGP-003", Warn, "a session is down"),
    known("CRC-BGP-004", Fail, "nothing carries routes"),
    known("CRC-POL-001", Warn, "a policy in a tier that is not there"),
];

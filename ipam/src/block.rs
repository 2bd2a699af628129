//! One block: assigning, releasing, cooldown and sequence numbers, on the stored form. Pure.
//!
//! Source: `libcalico-go/lib/ipam/ipam_block.go`. The free list is a queue and is never reordered: addresses are
//! taken from its head and come back to its tail.

mod assign;
mod cooldown;
mod release;
mod request;

use std::net::IpAddr;

use caracal_api::net::{address_at, ordinal, size};
use caracal_api::v3::{AllocationAttribute, IPAMBlockSpec};
use ipnet::IpNet;
use jiff::Timestamp;

pub(crate) use cooldown::COOLDOWN_SECONDS_MAX;
pub use request::{Assignment, Owner, Release, Reserved};

use crate::error::{Error, Result};

/// Handle of the addresses that Windows nodes keep of each block.
const WINDOWS_HANDLE: &str = "windows-reserved-ipam-handle";
/// Largest block: a /20 of IPv4 (a /116 of IPv6).
pub(crate) const ADDRESSES_MAX: u128 = 1 << 12;

/// Arithmetic on a stored block whose consistency was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    spec: IPAMBlockSpec,
    cidr: IpNet,
}

impl Block {
    /// A new block with all addresses free. The sequence number starts at the time in nanoseconds.
    ///
    /// # Errors
    ///
    /// When the prefix has more addresses than a block may.
    pub fn new(cidr: IpNet, owner: Option<&Owner>, now: Timestamp) -> Result<Self> {
        let cidr = cidr.trunc();
        let count = address_count(&cidr)?;
        let spec = IPAMBlockSpec {
            cidr: cidr.to_string(),
            affinity: owner.map(|owner| owner.0.clone()),
            affinity_claim_time: owner.map(|_| seconds(now)),
            allocations: vec![None; count],
            unallocated: (0..).take(count).collect(),
            sequence_number: u64::try_from(now.as_nanosecond()).unwrap_or_default(),
            ..IPAMBlockSpec::default()
        };
        Ok(Self { spec, cidr })
    }

    /// A stored block.
    ///
    /// # Errors
    ///
    /// When lists and indexes of the block contradict each other: assigning from it could give an address twice.
    pub fn from_spec(spec: IPAMBlockSpec) -> Result<Self> {
        let damaged = |problem: String| Error::DamagedBlock {
            cidr: spec.cidr.clone(),
            problem,
        };
        let cidr = spec
            .cidr
            .parse::<IpNet>()
            .map_err(|error| damaged(error.to_string()))?
            .trunc();
        let count = address_count(&cidr)?;
        if spec.allocations.len() != count {
            return Err(damaged(format!(
                "{} allocations for {count} addresses",
                spec.allocations.len()
            )));
        }
        let bad_index = spec.allocations.iter().flatten().find(|index| {
            usize::try_from(**index)
                .ok()
                .is_none_or(|index| index >= spec.attributes.len())
        });
        if let Some(index) = bad_index {
            return Err(damaged(format!("no attribute {index}")));
        }
        let mut seen = vec![false; count];
        for free in &spec.unallocated {
            let position = usize::try_from(*free).ok();
            let allocation = position.and_then(|position| spec.allocations.get(position));
            let repeated = position
                .and_then(|position| seen.get_mut(position))
                .is_none_or(|seen| std::mem::replace(seen, true));
            if allocation != Some(&None) || repeated {
                return Err(damaged(format!(
                    "address {free} is in the free list twice or is assigned"
                )));
            }
        }
        Ok(Self { spec, cidr })
    }

    /// The stored form.
    #[must_use]
    pub const fn spec(&self) -> &IPAMBlockSpec {
        &self.spec
    }

    /// The stored form, given away.
    #[must_use]
    pub fn into_spec(self) -> IPAMBlockSpec {
        self.spec
    }

    /// The block's prefix.
    #[must_use]
    pub const fn cidr(&self) -> IpNet {
        self.cidr
    }

    /// Number of free addresses.
    #[must_use]
    pub const fn free(&self) -> usize {
        self.spec.unallocated.len()
    }

    /// True when no address is assigned or cooling down. Those that a Windows node keeps of each block do not count.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.assignments().all(|(_, attribute)| is_windows(attribute))
    }

    /// True when the block is of this owner.
    #[must_use]
    pub fn is_of(&self, owner: &Owner) -> bool {
        self.spec.affinity.as_ref() == Some(&owner.0)
    }

    /// To be called before each write of a block that exists.
    pub const fn bump(&mut self) {
        self.spec.sequence_number = self.spec.sequence_number.wrapping_add(1);
    }

    /// True when all these addresses were assigned for `want` when the block had this sequence number.
    #[must_use]
    pub fn has_assigned(&self, addresses: &[IpAddr], want: &Assignment<'_>, sequence_number: u64) -> bool {
        addresses.iter().all(|address| {
            let Ok(ordinal) = self.ordinal(*address) else {
                return false;
            };
            let number = self.sequence_number_of(ordinal);
            self.held(ordinal).is_some_and(|held| {
                number == sequence_number
                    && held.released_at.is_none()
                    && handle_of(held) == want.handle
                    && held.secondary == *want.attributes
            })
        })
    }

    /// The sequence number that an address was assigned with; `None` when nobody holds it.
    #[must_use]
    pub fn assigned_at(&self, address: IpAddr) -> Option<u64> {
        let ordinal = self.ordinal(address).ok()?;
        self.held(ordinal).filter(|held| held.released_at.is_none())?;
        Some(self.sequence_number_of(ordinal))
    }

    /// What is stored with an address, and the sequence number that it was assigned with; `None` when it is free.
    #[must_use]
    pub fn assignment(&self, address: IpAddr) -> Option<(&AllocationAttribute, u64)> {
        let ordinal = self.ordinal(address).ok()?;
        Some((self.held(ordinal)?, self.sequence_number_of(ordinal)))
    }

    /// All addresses that are not free, with what is stored with them.
    pub fn assignments(&self) -> impl Iterator<Item = (IpAddr, &AllocationAttribute)> {
        (0..)
            .take(self.spec.allocations.len())
            .filter_map(|ordinal: i32| {
                let address = address_at(&self.cidr, u128::try_from(ordinal).ok()?)?;
                Some((address, self.held(ordinal)?))
            })
    }

    fn sequence_number_of(&self, ordinal: i32) -> u64 {
        let numbers = &self.spec.sequence_number_for_allocation;
        numbers.get(&ordinal.to_string()).copied().unwrap_or_default()
    }

    /// Addresses of a handle.
    #[must_use]
    pub fn addresses_of(&self, handle: &str) -> Vec<IpAddr> {
        (0..)
            .take(self.spec.allocations.len())
            .filter(|ordinal| {
                self.held(*ordinal)
                    .is_some_and(|held| handle_of(held) == Some(handle))
            })
            .filter_map(|ordinal| address_at(&self.cidr, u128::try_from(ordinal).ok()?))
            .collect()
    }

    fn ordinal(&self, address: IpAddr) -> Result<i32> {
        ordinal(&self.cidr, address)
            .and_then(|ordinal| i32::try_from(ordinal).ok())
            .ok_or(Error::OutsideBlock {
                address,
                cidr: self.cidr,
            })
    }

    fn held(&self, ordinal: i32) -> Option<&AllocationAttribute> {
        let index = (*self.spec.allocations.get(usize::try_from(ordinal).ok()?)?)?;
        self.spec.attributes.get(usize::try_from(index).ok()?)
    }

    fn set(&mut self, ordinal: i32, value: Option<i32>) {
        let slot = usize::try_from(ordinal)
            .ok()
            .and_then(|ordinal| self.spec.allocations.get_mut(ordinal));
        if let Some(slot) = slot {
            *slot = value;
        }
    }
}

/// The handle of an attribute. Old Windows nodes stored it with a trailing carriage return.
pub(crate) fn handle_of(attribute: &AllocationAttribute) -> Option<&str> {
    let handle = attribute.handle_id.as_deref()?;
    handle.split('\r').next()
}

/// True for what a Windows node keeps of a block for itself.
pub(crate) fn is_windows(attribute: &AllocationAttribute) -> bool {
    handle_of(attribute).is_some_and(|handle| handle.eq_ignore_ascii_case(WINDOWS_HANDLE))
}

fn address_count(cidr: &IpNet) -> Result<usize> {
    size(cidr)
        .filter(|size| *size <= ADDRESSES_MAX)
        .and_then(|size| usize::try_from(size).ok())
        .ok_or_else(|| Error::DamagedBlock {
            cidr: cidr.to_string(),
            problem: format!("it has more than {ADDRESSES_MAX} addresses"),
        })
}

/// A time as stored: RFC 3339 in whole seconds.
pub(crate) fn seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

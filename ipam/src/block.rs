//! One block: assigning, releasing, cooldown and sequence numbers, on the stored form.
//!
//! Source: `libcalico-go/lib/ipam/ipam_block.go`. The free list is a queue and is never reordered: addresses are
//! taken from its head and come back to its tail.

use std::collections::BTreeMap;
use std::net::IpAddr;

use caracal_api::net::{address_at, ordinal, size};
use caracal_api::v3::{AllocationAttribute, IPAMBlockSpec};
use ipnet::IpNet;
use jiff::Timestamp;

use crate::error::{Error, Result};

/// Largest block: a /20 of IPv4 (a /116 of IPv6).
const ADDRESSES_MAX: u128 = 1 << 12;

/// Addresses that may not be assigned although they are free.
pub trait Reserved {
    /// True when the address is reserved.
    fn is_reserved(&self, address: IpAddr) -> bool;
}

impl Reserved for [IpNet] {
    fn is_reserved(&self, address: IpAddr) -> bool {
        self.iter().any(|net| net.contains(&address))
    }
}

/// Who takes addresses, as blocks name their owners: `host:<node>` or `virtual:<name>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner(pub String);

impl Owner {
    /// A node.
    #[must_use]
    pub fn host(node: &str) -> Self {
        Self(format!("host:{node}"))
    }

    /// An owner that is no node, such as `load-balancer`.
    #[must_use]
    pub fn virtual_(name: &str) -> Self {
        Self(format!("virtual:{name}"))
    }

    /// Kind of owner and its name.
    #[must_use]
    pub fn parts(&self) -> (&str, &str) {
        self.0.split_once(':').unwrap_or(("host", &self.0))
    }
}

/// For whom addresses are taken.
#[derive(Clone, Debug)]
pub struct Assignment<'a> {
    /// The owner that asks.
    pub owner: &'a Owner,
    /// The handle.
    pub handle: Option<&'a str>,
    /// Attributes stored with the addresses.
    pub attributes: &'a BTreeMap<String, String>,
    /// Refuse blocks of other owners.
    pub strict: bool,
}

/// An address to release, and what must hold for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The address.
    pub address: IpAddr,
    /// The handle that must hold it.
    pub handle: Option<String>,
    /// The sequence number that it must have been assigned with.
    pub sequence_number: Option<u64>,
}

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

    /// True when no address is assigned or cooling down.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spec.allocations.iter().all(Option::is_none)
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

    fn check_affinity(&self, want: &Assignment<'_>) -> Result<()> {
        if !want.strict || self.is_of(want.owner) {
            return Ok(());
        }
        Err(Error::WrongAffinity {
            cidr: self.cidr,
            affinity: self.spec.affinity.clone().unwrap_or_else(|| "none".to_owned()),
            owner: want.owner.0.clone(),
        })
    }

    /// Assigns up to `count` free addresses, in the order of the free list. Reserved ones keep their place.
    ///
    /// # Errors
    ///
    /// With strict affinity, when the block is of another owner.
    pub fn auto_assign(
        &mut self,
        count: usize,
        want: &Assignment<'_>,
        reserved: &[IpNet],
    ) -> Result<Vec<IpAddr>> {
        self.check_affinity(want)?;
        let mut taken = Vec::new();
        let mut addresses = Vec::new();
        for free in &self.spec.unallocated {
            if taken.len() == count {
                break;
            }
            let address = u128::try_from(*free)
                .ok()
                .and_then(|free| address_at(&self.cidr, free));
            if let Some(address) = address.filter(|address| !reserved.is_reserved(*address)) {
                taken.push(*free);
                addresses.push(address);
            }
        }
        self.take(&taken, want);
        Ok(addresses)
    }

    /// Assigns one address.
    ///
    /// # Errors
    ///
    /// With strict affinity, when the block is of another owner; when the address is taken or of another block.
    pub fn assign(&mut self, address: IpAddr, want: &Assignment<'_>) -> Result<()> {
        self.check_affinity(want)?;
        let ordinal = self.ordinal(address)?;
        if !self.spec.unallocated.contains(&ordinal) {
            return Err(Error::AlreadyAssigned {
                address,
                cidr: self.cidr,
            });
        }
        self.take(&[ordinal], want);
        Ok(())
    }

    fn take(&mut self, ordinals: &[i32], want: &Assignment<'_>) {
        if ordinals.is_empty() {
            return;
        }
        let attribute = self.attribute_index(AllocationAttribute {
            handle_id: want.handle.map(ToOwned::to_owned),
            secondary: want.attributes.clone(),
            ..AllocationAttribute::default()
        });
        self.spec.unallocated.retain(|free| !ordinals.contains(free));
        let number = self.spec.sequence_number;
        for ordinal in ordinals {
            self.set(*ordinal, Some(attribute));
            self.spec
                .sequence_number_for_allocation
                .insert(ordinal.to_string(), number);
        }
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

    /// Releases addresses, all or none. Returns the released attributes' handles with counts, and the addresses that
    /// nobody held.
    ///
    /// # Errors
    ///
    /// When one of them is held under another handle, was assigned anew, or is of another block.
    pub fn release(
        &mut self,
        releases: &[Release],
        now: Timestamp,
    ) -> Result<(BTreeMap<String, i32>, Vec<IpAddr>)> {
        let mut ordinals = Vec::new();
        let mut not_allocated = Vec::new();
        for release in releases {
            let ordinal = self.ordinal(release.address)?;
            let held = self.held(ordinal);
            let Some(held) = held.filter(|held| held.released_at.is_none()) else {
                not_allocated.push(release.address);
                continue;
            };
            self.check_release(release, ordinal, held)?;
            if !ordinals.contains(&ordinal) {
                ordinals.push(ordinal);
            }
        }
        Ok((self.let_go(&ordinals, now), not_allocated))
    }

    /// Releases all addresses of a handle; returns how many.
    pub fn release_by_handle(&mut self, handle: &str, now: Timestamp) -> i32 {
        let ordinals: Vec<i32> = (0..)
            .take(self.spec.allocations.len())
            .filter(|ordinal| {
                self.held(*ordinal)
                    .is_some_and(|held| handle_of(held) == Some(handle))
            })
            .collect();
        self.let_go(&ordinals, now).values().sum()
    }

    /// Frees what was released more than the cooldown ago (marks have whole seconds), and drops attributes that nothing refers to.
    pub fn collect(&mut self, cooldown_seconds: i32, now: Timestamp) {
        let limit = now.as_second().saturating_sub(i64::from(cooldown_seconds));
        for ordinal in (0..).take(self.spec.allocations.len()) {
            let over = self
                .held(ordinal)
                .and_then(|held| held.released_at.as_deref())
                // A mark that cannot be read would keep its address for ever.
                .is_some_and(|at| {
                    at.parse::<Timestamp>()
                        .map_or(true, |at| cooldown_seconds <= 0 || at.as_second() < limit)
                });
            if over {
                self.set(ordinal, None);
                self.spec.unallocated.push(ordinal);
                self.spec
                    .sequence_number_for_allocation
                    .remove(&ordinal.to_string());
            }
        }
        self.drop_unused_attributes();
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

    fn check_release(&self, release: &Release, ordinal: i32, held: &AllocationAttribute) -> Result<()> {
        let address = release.address;
        if let Some(wanted) = release.sequence_number {
            let held = self.sequence_number_of(ordinal);
            if held != wanted {
                return Err(Error::BadSequenceNumber {
                    address,
                    held,
                    wanted,
                });
            }
        }
        let wanted = release.handle.as_deref().filter(|handle| !handle.is_empty());
        let held = handle_of(held);
        if wanted.is_some() && wanted != held {
            return Err(Error::BadHandle {
                address,
                held: held.unwrap_or_default().to_owned(),
                wanted: wanted.unwrap_or_default().to_owned(),
            });
        }
        Ok(())
    }

    /// Marks addresses as released; returns the handles that held them, with counts.
    fn let_go(&mut self, ordinals: &[i32], now: Timestamp) -> BTreeMap<String, i32> {
        let mut handles = BTreeMap::new();
        if ordinals.is_empty() {
            return handles;
        }
        for ordinal in ordinals {
            if let Some(handle) = self.held(*ordinal).and_then(handle_of) {
                *handles.entry(handle.to_owned()).or_default() += 1;
            }
        }
        let mark = self.attribute_index(AllocationAttribute {
            released_at: Some(seconds(now)),
            ..AllocationAttribute::default()
        });
        for ordinal in ordinals {
            self.set(*ordinal, Some(mark));
        }
        handles
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

    /// The index of an attribute, shared with allocations that have the same.
    fn attribute_index(&mut self, attribute: AllocationAttribute) -> i32 {
        let attributes = &mut self.spec.attributes;
        let found = attributes.iter().position(|existing| *existing == attribute);
        let index = found.unwrap_or_else(|| {
            attributes.push(attribute);
            attributes.len() - 1
        });
        i32::try_from(index).unwrap_or(i32::MAX)
    }

    fn drop_unused_attributes(&mut self) {
        let mut renumbered: BTreeMap<i32, i32> = self
            .spec
            .allocations
            .iter()
            .flatten()
            .map(|index| (*index, 0))
            .collect();
        for (new, (_, target)) in (0..).zip(&mut renumbered) {
            *target = new;
        }
        let mut old = 0..;
        self.spec
            .attributes
            .retain(|_| old.next().is_some_and(|old: i32| renumbered.contains_key(&old)));
        for index in self.spec.allocations.iter_mut().flatten() {
            *index = renumbered.get(index).copied().unwrap_or(*index);
        }
    }
}

/// The handle of an attribute. Old Windows nodes stored it with a trailing carriage return.
fn handle_of(attribute: &AllocationAttribute) -> Option<&str> {
    let handle = attribute.handle_id.as_deref()?;
    handle.split('\r').next()
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
fn seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

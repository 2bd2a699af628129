//! Taking addresses of a block: from the head of its free list, or one by name.

use std::collections::BTreeMap;
use std::net::IpAddr;

use caracal_api::net::address_at;
use caracal_api::v3::AllocationAttribute;
use ipnet::IpNet;

use super::Block;
use super::request::{Assignment, Reserved as _};
use crate::error::{Error, Result};

impl Block {
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

    /// Changes one attribute of an allocation; others that share its attributes keep theirs.
    pub(crate) fn set_attribute(&mut self, address: IpAddr, name: &str, value: &str) {
        let Ok(ordinal) = self.ordinal(address) else {
            return;
        };
        let Some(mut attribute) = self.held(ordinal).cloned() else {
            return;
        };
        attribute.secondary.insert(name.to_owned(), value.to_owned());
        let index = self.attribute_index(attribute);
        self.set(ordinal, Some(index));
        self.drop_unused_attributes();
    }

    /// Rewrites an allocation to another handle. It counts as assigned anew.
    pub(crate) fn reassign(&mut self, address: IpAddr, handle: &str, attributes: &BTreeMap<String, String>) {
        let Ok(ordinal) = self.ordinal(address) else {
            return;
        };
        if self.held(ordinal).is_none() {
            return;
        }
        let index = self.attribute_index(AllocationAttribute {
            handle_id: Some(handle.to_owned()),
            secondary: attributes.clone(),
            ..AllocationAttribute::default()
        });
        self.set(ordinal, Some(index));
        let number = self.spec.sequence_number;
        self.spec
            .sequence_number_for_allocation
            .insert(ordinal.to_string(), number);
        self.drop_unused_attributes();
    }

    /// The index of an attribute, shared with allocations that have the same.
    pub(super) fn attribute_index(&mut self, attribute: AllocationAttribute) -> i32 {
        let attributes = &mut self.spec.attributes;
        let found = attributes.iter().position(|existing| *existing == attribute);
        let index = found.unwrap_or_else(|| {
            attributes.push(attribute);
            attributes.len() - 1
        });
        i32::try_from(index).unwrap_or(i32::MAX)
    }
}

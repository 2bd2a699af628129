//! Letting addresses of a block go. They cool down first, if only for the length of one write.

use std::collections::BTreeMap;
use std::net::IpAddr;

use caracal_api::v3::AllocationAttribute;
use jiff::Timestamp;

use super::request::Release;
use super::{Block, handle_of, seconds};
use crate::error::{Error, Result};
use crate::reserve::NOTE;

impl Block {
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
        let is_set_aside = held
            .secondary
            .get("note")
            .is_some_and(|note| note.starts_with(NOTE));
        if is_set_aside && release.handle.is_none() {
            let node = held.secondary.get("node").cloned().unwrap_or_default();
            return Err(Error::SetAside { address, node });
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
}

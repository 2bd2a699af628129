//! The addresses of one handle, counted by block.

use caracal_api::v3::IPAMHandleSpec;
use ipnet::IpNet;

use crate::error::{Error, Result};

/// Arithmetic on a stored handle.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Handle(pub IPAMHandleSpec);

impl Handle {
    /// A handle without addresses.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self(IPAMHandleSpec {
            handle_id: id.to_owned(),
            ..IPAMHandleSpec::default()
        })
    }

    /// Counts `count` further addresses of a block.
    pub fn increment(&mut self, block: &IpNet, count: i32) {
        let entry = self.0.block.entry(block.to_string()).or_default();
        *entry = entry.saturating_add(count);
    }

    /// Takes `count` addresses of a block off; the block's entry goes with its last address.
    ///
    /// # Errors
    ///
    /// When fewer are counted; nothing changes then.
    pub fn decrement(&mut self, block: &IpNet, count: i32) -> Result<()> {
        let key = block.to_string();
        let held = self.0.block.get(&key).copied().unwrap_or_default();
        if held < count {
            return Err(Error::HandleUnderflow {
                handle: self.0.handle_id.clone(),
                block: *block,
                held,
                wanted: count,
            });
        }
        if held == count {
            self.0.block.remove(&key);
        } else {
            self.0.block.insert(key, held - count);
        }
        Ok(())
    }

    /// True when no address is left: the object is to be deleted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.block.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_up_and_down_and_never_below_zero() {
        let block: IpNet = "10.65.0.0/26".parse().unwrap();
        let mut handle = Handle::new("net.ABC");
        handle.increment(&block, 2);
        assert!(handle.decrement(&block, 3).is_err());
        assert_eq!(handle.0.block["10.65.0.0/26"], 2);
        handle.decrement(&block, 1).unwrap();
        assert!(!handle.is_empty());
        handle.decrement(&block, 1).unwrap();
        assert!(handle.is_empty());
    }
}

//! Addresses of services: given out when they are created, as Kubernetes does, from its usual range.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::server::ApiServer;
use crate::status::ApiError;

/// The first address of the range, and how many there are: 10.96.0.0/16.
const FIRST: u32 = 0x0a60_0000;
const COUNT: u32 = 1 << 16;
/// The first ones are for services with fixed addresses.
const FIXED: u32 = 256;

impl ApiServer {
    /// Gives a service an address unless it has one or wants none.
    pub(super) fn give_address(&self, service: &mut Value) -> Result<(), ApiError> {
        let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) else {
            return Ok(());
        };
        let has = spec
            .get("clusterIP")
            .and_then(Value::as_str)
            .is_some_and(|address| !address.is_empty());
        if has || spec.get("type").is_some_and(|kind| kind == "ExternalName") {
            return Ok(());
        }
        let services = self.store().list(&"services".into(), None).objects;
        let taken: HashSet<&str> = services
            .iter()
            .map(|one| one.attributes.field("spec.clusterIP"))
            .collect();
        let start: u32 = rand::random::<u32>() % (COUNT - FIXED);
        let free = (0..COUNT - FIXED - 1)
            .map(|step| FIXED + (start + step) % (COUNT - FIXED - 1))
            .map(|number| Ipv4Addr::from(FIRST + number).to_string())
            .find(|address| !taken.contains(address.as_str()));
        let address = free.ok_or_else(|| {
            ApiError::internal(
                "failed to allocate a serviceIP: range is full; delete services that nobody uses",
            )
        })?;
        spec.insert("clusterIPs".to_owned(), json!([address]));
        spec.insert("clusterIP".to_owned(), address.into());
        Ok(())
    }
}

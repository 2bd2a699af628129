//! EndpointSlices: which Service they are of, and which of their endpoints are ready.

use caracal_bgpd_compile::{Endpoint, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// Label of a slice: the name of its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The Service of a slice (`namespace/name`) with the ready endpoints; `None` for a slice of no Service.
pub(super) fn endpoints(slice: &EndpointSlice) -> Option<(String, Vec<Endpoint>)> {
    let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    let namespace = slice.metadata.namespace.as_deref().unwrap_or("default");
    Some((format!("{namespace}/{service}"), Service::endpoints_of(slice)))
}

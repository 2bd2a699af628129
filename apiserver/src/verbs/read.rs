//! Get and list.

use http::Response;
use serde_json::json;

use crate::request::Query;
use crate::resource::Resource;
use crate::selector::Selector;
use crate::server::ApiServer;
use crate::service::{ResponseBody, encoded};
use crate::status::ApiError;
use crate::store::ObjectKey;

/// Checks that the kind can be selected by the fields of a selector.
pub(crate) fn check_fields(resource: &Resource, selector: &Selector) -> Result<(), ApiError> {
    match selector
        .field_names()
        .find(|name| !resource.paths.iter().any(|path| path == name))
    {
        None => Ok(()),
        Some(name) => Err(ApiError::bad_request(format!(
            "field label not supported: {name}"
        ))),
    }
}

impl ApiServer {
    pub(crate) fn get(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Response<ResponseBody>, ApiError> {
        match self
            .store()
            .get(&resource.storage, &ObjectKey::new(namespace, name))
        {
            Some(object) => Ok(encoded(200, object.json.clone())),
            None => Err(ApiError::not_found(&resource.group, &resource.plural, name)),
        }
    }

    pub(crate) fn list(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        query: &Query,
    ) -> Result<Response<ResponseBody>, ApiError> {
        let selector = Selector::parse(query.get("labelSelector"), query.get("fieldSelector"))?;
        check_fields(resource, &selector)?;
        let listing = self.store().list(&resource.storage, namespace);
        let wanted = query.number("resourceVersion")?.unwrap_or(0);
        if wanted > listing.revision {
            let message = format!(
                "Too large resource version: {wanted}, current: {}",
                listing.revision
            );
            let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
            return Err(ApiError::new(504, "Timeout", message).causes(vec![cause]));
        }
        if query.get("resourceVersionMatch") == "Exact" && wanted != listing.revision {
            return Err(ApiError::expired(
                "The resourceVersion for the provided list is too old.",
            ));
        }
        let everything = selector.is_everything();
        let chosen = listing
            .objects
            .iter()
            .filter(|object| everything || selector.matches(&object.attributes));
        let mut body = Vec::new();
        let (kind, version) = (format!("{}List", resource.kind), resource.api_version());
        let head = json!({"kind": kind, "apiVersion": version,
            "metadata": {"resourceVersion": listing.revision.to_string()}});
        let head = head.to_string();
        // The head without its closing brace, then the objects as the store encoded them.
        body.extend_from_slice(head.as_bytes().split_last().map_or(&[][..], |(_, head)| head));
        body.extend_from_slice(b",\"items\":[");
        for (index, object) in chosen.enumerate() {
            if index > 0 {
                body.push(b',');
            }
            body.extend_from_slice(&object.json);
        }
        body.extend_from_slice(b"]}");
        Ok(encoded(200, body.into()))
    }
}

//! Get and list.

use std::sync::Arc;

use http::Response;
use serde_json::json;

use crate::pages::Chosen;
use crate::request::Query;
use crate::resource::Resource;
use crate::selector::Selector;
use crate::server::ApiServer;
use crate::service::{ResponseBody, encoded};
use crate::status::ApiError;
use crate::store::{Listing, ObjectKey};
use crate::view::{ListHead, View};

/// Checks that the kind can be selected by the fields of a selector.
pub(crate) fn check_fields(resource: &Resource, selector: &Selector) -> Result<(), ApiError> {
    match selector
        .field_names()
        .find(|name| !resource.paths.iter().any(|path| path == name))
    {
        None => Ok(()),
        // Kinds with fields of their own say it in their own way.
        Some(name) if resource.is_custom() || resource.paths.len() > 2 => Err(ApiError::bad_request(
            format!("field label not supported: {name}"),
        )),
        Some(name) => Err(ApiError::bad_request(format!(
            "\"{name}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        ))),
    }
}

/// Checks what a request says about the version of a list.
fn check_version(listing: &Listing, query: &Query) -> Result<(), ApiError> {
    let wanted = query.number("resourceVersion")?.unwrap_or(0);
    not_of_the_future(wanted, listing.revision)?;
    if query.get("resourceVersionMatch") == "Exact" && wanted != listing.revision {
        return Err(ApiError::expired(
            "The resourceVersion for the provided list is too old.",
        ));
    }
    Ok(())
}

/// Refuses a version that there is not yet.
fn not_of_the_future(wanted: u64, current: u64) -> Result<(), ApiError> {
    if wanted <= current {
        return Ok(());
    }
    let message = format!("Timeout: Too large resource version: {wanted}, current: {current}");
    let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
    Err(ApiError::new(504, "Timeout", message)
        .causes(vec![cause])
        .retry_after(1))
}

impl ApiServer {
    pub(crate) fn get(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        query: &Query,
        view: &View,
    ) -> Result<Response<ResponseBody>, ApiError> {
        let wanted = query.number("resourceVersion")?.unwrap_or(0);
        not_of_the_future(wanted, self.store().revision())?;
        match self
            .store()
            .get(&resource.storage, &ObjectKey::new(namespace, name))
        {
            Some(object) => Ok(encoded(200, view.one(&object, true))),
            None => Err(ApiError::not_found(&resource.group, &resource.plural, name)),
        }
    }

    pub(crate) fn list(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        query: &Query,
        view: &View,
    ) -> Result<Response<ResponseBody>, ApiError> {
        super::options::reading(query, false)?;
        let token = query.get("continue");
        let (labels, fields) = (query.get("labelSelector"), query.get("fieldSelector"));
        let selector = Selector::parse(labels, fields)?;
        check_fields(resource, &selector)?;
        let request = format!(
            "{} {} {labels} {fields}",
            resource.storage,
            namespace.unwrap_or_default()
        );
        let (chosen, start) = if token.is_empty() {
            let mut listing = self.store().list(&resource.storage, namespace);
            check_version(&listing, query)?;
            if !selector.is_everything() {
                listing
                    .objects
                    .retain(|object| selector.matches(&object.attributes));
            }
            let chosen = Chosen {
                revision: listing.revision,
                objects: listing.objects,
                request,
            };
            (Arc::new(chosen), 0)
        } else {
            self.shared.pages.find(token, &request)?
        };
        let limit = query.limit()?;
        let count = chosen.objects.len().saturating_sub(start);
        let limit = limit.filter(|limit| *limit > 0).unwrap_or(count);
        let more = (count > limit).then(|| {
            let token = self.shared.pages.keep(&chosen, start + limit, token);
            (token, selector.is_everything().then_some(count - limit))
        });
        let head = ListHead {
            revision: chosen.revision,
            more,
        };
        let page = chosen.objects.iter().skip(start).take(limit).cloned().collect();
        Ok(crate::service::of_json(200, view.list(resource, &head, page)))
    }
}

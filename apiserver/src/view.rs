//! In which form a reader wants objects: whole, as rows of a table, or their metadata only.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde_json::{Value, json};

use crate::request::Query;
use crate::resource::Resource;
use crate::service::ResponseBody;
use crate::status::ApiError;
use crate::store::Object;
use crate::table::{Printer, partial};

const YAML: &str = "application/yaml";

fn accepted(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::ACCEPT).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
}

/// A form of answers.
pub(crate) enum View {
    Whole,
    /// Events in the form that is not stored.
    Events,
    Table(Printer),
    Metadata,
}

/// What a list says of itself.
pub(crate) struct ListHead {
    pub(crate) revision: u64,
    /// How to get the rest, and how much that is (if known).
    pub(crate) more: Option<(String, Option<usize>)>,
}

impl ListHead {
    fn to_value(&self) -> Value {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if let Some((token, left)) = &self.more {
            metadata["continue"] = token.as_str().into();
            if let Some(left) = left {
                metadata["remainingItemCount"] = (*left).into();
            }
        }
        metadata
    }
}

impl View {
    /// The first form that the reader accepts and that is known. `list` says that it gets a list.
    pub(crate) fn of(
        resource: &Resource,
        headers: &HeaderMap,
        query: &Query,
        list: bool,
    ) -> Result<Self, ApiError> {
        let mut asked = false;
        for media in accepted(headers) {
            asked = true;
            let mut parts = media.split(';').map(str::trim);
            match parts.next() {
                Some("application/json" | "application/*" | "*/*" | YAML) => {}
                // Who reads protobuf reads JSON when the answer says that it is.
                Some("application/vnd.kubernetes.protobuf") => {
                    asked = false;
                    continue;
                }
                _ => continue,
            }
            let parameter = |key: &str| {
                let mut parameters = media
                    .split(';')
                    .skip(1)
                    .filter_map(|part| part.trim().split_once('='));
                parameters.find(|(name, _)| *name == key).map(|(_, value)| value)
            };
            match (parameter("as"), parameter("g"), parameter("v")) {
                (None, _, _) => return Ok(Self::whole(resource)),
                (Some("Table"), Some("meta.k8s.io"), Some("v1")) => {
                    return Ok(Self::Table(Printer::of(resource, query.get("includeObject"))));
                }
                (Some("PartialObjectMetadata"), Some("meta.k8s.io"), Some("v1")) if list => {
                    return Err(ApiError::not_acceptable(
                        "you requested PartialObjectMetadata, but the requested object is a list (*unstructured.UnstructuredList)",
                    ));
                }
                (
                    Some("PartialObjectMetadata" | "PartialObjectMetadataList"),
                    Some("meta.k8s.io"),
                    Some("v1"),
                ) => {
                    return Ok(Self::Metadata);
                }
                _ => {}
            }
        }
        if asked && !resource.is_custom() {
            let message = "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
            return Err(ApiError::not_acceptable(message).with_details());
        }
        if asked {
            return Err(ApiError::not_acceptable(
                "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf",
            ));
        }
        Ok(Self::whole(resource))
    }

    fn whole(resource: &Resource) -> Self {
        if crate::events::is_other_form(resource) {
            Self::Events
        } else {
            Self::Whole
        }
    }

    /// Is the first form that the reader accepts YAML?
    pub(crate) fn wants_yaml(headers: &HeaderMap) -> bool {
        let known = ["application/json", "application/*", "*/*", YAML];
        let mut accepted = accepted(headers).map(|media| media.split(';').next().unwrap_or_default().trim());
        accepted.find(|media| known.contains(media)) == Some(YAML)
    }

    /// One object. `first` says that nothing was told before in this answer.
    pub(crate) fn one(&self, object: &Object, first: bool) -> Bytes {
        match self {
            Self::Whole => object.json.clone(),
            Self::Table(_) | Self::Metadata | Self::Events => {
                self.value(&object.value(), first).to_string().into()
            }
        }
    }

    pub(crate) fn value(&self, object: &Value, first: bool) -> Value {
        match self {
            Self::Whole => object.clone(),
            Self::Events => {
                let mut event = object.clone();
                crate::events::from_stored(&mut event);
                event
            }
            Self::Metadata => partial(object),
            Self::Table(printer) => {
                let metadata = json!({"resourceVersion": object.pointer("/metadata/resourceVersion")});
                printer.table([object], &metadata, first)
            }
        }
    }

    /// A list of objects. Whole objects come in parts, so that no answer holds a second copy of all of them.
    pub(crate) fn list(
        &self,
        resource: &Resource,
        head: &ListHead,
        objects: Vec<Arc<Object>>,
    ) -> ResponseBody {
        match self {
            Self::Whole => whole_list(resource, head, objects),
            Self::Table(_) | Self::Metadata | Self::Events => {
                let list = self.short_list(head, objects.iter().map(AsRef::as_ref));
                Full::new(list).boxed_unsync()
            }
        }
    }

    fn short_list<'a>(&self, head: &ListHead, objects: impl Iterator<Item = &'a Object>) -> Bytes {
        let metadata = head.to_value();
        match self {
            Self::Table(printer) => {
                let values: Vec<Value> = objects.map(Object::value).collect();
                printer.table(&values, &metadata, true).to_string().into()
            }
            Self::Metadata => {
                let items: Vec<Value> = objects.map(|object| partial(&object.value())).collect();
                let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                    "metadata": metadata, "items": items});
                list.to_string().into()
            }
            Self::Events => {
                let items: Vec<Value> = objects.map(|object| self.value(&object.value(), true)).collect();
                let list = json!({"kind": "EventList", "apiVersion": "events.k8s.io/v1",
                    "metadata": metadata, "items": items});
                list.to_string().into()
            }
            Self::Whole => Bytes::new(),
        }
    }
}

/// Parts of a list have about this size.
const PART: usize = 256 << 10;

/// The list of whole objects, as the store encoded them.
fn whole_list(resource: &Resource, head: &ListHead, objects: Vec<Arc<Object>>) -> ResponseBody {
    let mut metadata = head.to_value();
    // Lists of custom resources say that there is no more.
    if resource.is_custom() && head.more.is_none() {
        metadata["continue"] = "".into();
    }
    let head = json!({"kind": format!("{}List", resource.kind), "apiVersion": resource.api_version(),
        "metadata": metadata});
    let head = head.to_string();
    // The head without its closing brace, then the objects.
    let mut begun = head
        .as_bytes()
        .split_last()
        .map_or_else(Vec::new, |(_, head)| head.to_vec());
    begun.extend_from_slice(b",\"items\":[");
    let mut objects = objects.into_iter().enumerate();
    let mut part = Some(begun);
    let mut next = move || {
        let mut text = part.take()?;
        for (index, object) in objects.by_ref() {
            if index > 0 {
                text.push(b',');
            }
            text.extend_from_slice(&object.json);
            if text.len() >= PART {
                part = Some(Vec::new());
                return Some(Bytes::from(text));
            }
        }
        text.extend_from_slice(b"]}\n");
        Some(Bytes::from(text))
    };
    let first = next().unwrap_or_default();
    let Some(second) = next() else {
        return Full::new(first).boxed_unsync();
    };
    let rest = std::iter::from_fn(next);
    let parts = [first, second]
        .into_iter()
        .chain(rest)
        .map(|part| Ok(Frame::data(part)));
    StreamBody::new(futures::stream::iter(parts)).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_known_form_is_taken() {
        let resource = &crate::resource::built_in()[0];
        let form = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            match View::of(resource, &headers, &Query::default(), true).unwrap() {
                View::Whole | View::Events => "whole",
                View::Table(_) => "table",
                View::Metadata => "metadata",
            }
        };
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!(form(table), "table");
        assert_eq!(form(&format!("application/json, {table}")), "whole");
        assert_eq!(
            form("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"),
            "whole"
        );
        assert_eq!(
            form("application/json;g=meta.k8s.io;v=v1;as=PartialObjectMetadataList"),
            "metadata"
        );
        assert_eq!(form("application/vnd.kubernetes.protobuf"), "whole");
    }
}

//! What a request asks for: its path and its query, taken apart. Decides nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::status::ApiError;

/// More warnings than this help nobody.
const WARNINGS_MAX: usize = 32;

/// The path of a resource request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ResourcePath {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: Option<String>,
    pub(crate) resource: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    /// The old form of a watch, whose path says so: `/api/v1/watch/…`.
    pub(crate) watch: bool,
}

impl ResourcePath {
    /// Takes `/api/v1/…` or `/apis/GROUP/VERSION/…` apart; `None` for anything else or when it ends before a resource.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let group = match parts.next()? {
            "api" => String::new(),
            "apis" => parts.next()?.to_owned(),
            _ => return None,
        };
        let version = parts.next()?.to_owned();
        let rest: Vec<String> = parts.map(decode).collect();
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        let (watch, rest) = match rest.as_slice() {
            ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
            rest => (false, rest),
        };
        let own = |text: &&str| Some((*text).to_owned());
        let (namespace, rest) = match rest {
            // `namespaces/x/status` and `/finalize` are about the namespace itself.
            ["namespaces", name, sub @ ("status" | "finalize")] => {
                let (name, subresource) = (own(name), own(sub));
                let resource = "namespaces".to_owned();
                return Some(Self {
                    group,
                    version,
                    namespace: None,
                    resource,
                    name,
                    subresource,
                    watch,
                });
            }
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (own(namespace), rest),
            rest => (None, rest),
        };
        let (resource, name, subresource) = match rest {
            [resource] => (resource, None, None),
            [resource, name] => (resource, own(name), None),
            [resource, name, subresource] => (resource, own(name), own(subresource)),
            _ => return None,
        };
        Some(Self {
            group,
            version,
            namespace,
            resource: (*resource).to_owned(),
            name,
            subresource,
            watch,
        })
    }
}

/// Undoes percent encoding.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) if byte == b'%' => {
                bytes.push(value);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The query of a request, and what is noticed on the way to its answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pairs: BTreeMap<String, String>,
    /// Fields that the body holds more than once.
    pub(crate) twice: Vec<String>,
    warnings: Arc<Mutex<Vec<String>>>,
}

impl Query {
    pub(crate) fn parse(text: Option<&str>) -> Self {
        let pairs = text
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(&key.replace('+', " ")), decode(&value.replace('+', " ")))
            });
        Self {
            pairs: pairs.collect(),
            ..Self::default()
        }
    }

    pub(crate) fn get(&self, key: &str) -> &str {
        self.pairs.get(key).map_or("", String::as_str)
    }

    /// Sets what the request does not say.
    pub(crate) fn set_default(&mut self, key: &str, value: &str) {
        self.pairs
            .entry(key.to_owned())
            .or_insert_with(|| value.to_owned());
    }

    pub(crate) fn set(&mut self, key: &str, value: String) {
        self.pairs.insert(key.to_owned(), value);
    }

    pub(crate) fn is_true(&self, key: &str) -> bool {
        self.pairs
            .get(key)
            .is_some_and(|value| !matches!(value.as_str(), "false" | "0"))
    }

    /// Tells the client something that is no refusal.
    pub(crate) fn warn(&self, warning: String) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if warnings.len() < WARNINGS_MAX && !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The most that a list may hold; below one it is as good as none.
    pub(crate) fn limit(&self) -> Result<Option<usize>, ApiError> {
        match self.get("limit").strip_prefix('-') {
            Some(digits) if digits.parse::<u64>().is_ok() => Ok(None),
            _ => Ok(self
                .number("limit")?
                .and_then(|limit| usize::try_from(limit).ok())),
        }
    }

    /// A number that must be one when given.
    pub(crate) fn number(&self, key: &str) -> Result<Option<u64>, ApiError> {
        match self.get(key) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                let why = format!("parsing \"{text}\": invalid syntax");
                ApiError::bad_request(match key {
                    "resourceVersion" => format!(
                        "invalid resource version: {key}: Invalid value: \"{text}\": strconv.ParseUint: {why}"
                    ),
                    _ => format!("strconv.ParseInt: {why}"),
                })
            }),
        }
    }

    pub(crate) fn dry_run(&self) -> Result<bool, ApiError> {
        match self.get("dryRun") {
            "" => Ok(false),
            "All" => Ok(true),
            other => {
                let message = format!("dryRun: Unsupported value: \"{other}\": supported values: \"All\"");
                Err(ApiError::new(422, "Invalid", message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        let path = |text| ResourcePath::parse(text).unwrap();
        let pod = path("/api/v1/namespaces/a/pods/b/status");
        assert_eq!(
            (pod.namespace.as_deref(), pod.resource.as_str()),
            (Some("a"), "pods")
        );
        assert_eq!(
            (pod.name.as_deref(), pod.subresource.as_deref()),
            (Some("b"), Some("status"))
        );
        let namespace = path("/api/v1/namespaces/a");
        assert_eq!(
            (namespace.resource.as_str(), namespace.name.as_deref()),
            ("namespaces", Some("a"))
        );
        assert_eq!(path("/apis/g/v/x/a%2fb").name.as_deref(), Some("a/b"));
        let watch = path("/api/v1/watch/namespaces/a/pods/b");
        assert!(watch.watch && watch.name.as_deref() == Some("b") && watch.resource == "pods");
        assert_eq!(ResourcePath::parse("/apis/g/v"), None);
        assert_eq!(ResourcePath::parse("/metrics"), None);
        assert_eq!(decode("%zz%4"), "%zz%4");
    }
}

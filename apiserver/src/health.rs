//! Health and figures: `/livez`, `/readyz`, `/healthz` and `/metrics`, in the forms that probes and dashboards know.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use http::{Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};

use crate::request::Query;
use crate::server::ApiServer;
use crate::service::ResponseBody;

/// Kinds of requests that are counted apart; more are counted together.
const COUNTED_MAX: usize = 2048;

/// How many requests were answered how.
#[derive(Default)]
pub(crate) struct Counts {
    requests: Mutex<BTreeMap<(String, String, u16), u64>>,
}

impl Counts {
    pub(crate) fn answered(&self, verb: &str, resource: &str, code: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (verb.to_owned(), resource.to_owned(), code);
        if requests.len() >= COUNTED_MAX && !requests.contains_key(&key) {
            key = ("other".to_owned(), String::new(), code);
        }
        *requests.entry(key).or_insert(0) += 1;
    }
}

fn plain(code: StatusCode, text: String) -> Response<ResponseBody> {
    let mut response = Response::new(Full::from(text).boxed_unsync());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        header::HeaderValue::from_static("nosniff"),
    );
    response
}

/// Answers `/livez` and the like: `parts` is the path, of which the second names one check.
pub(crate) fn answer(server: &ApiServer, parts: &[&str], query: &Query) -> Option<Response<ResponseBody>> {
    let which = *parts.first()?;
    let failing = server.store().failing();
    let checks: [(&str, Option<&str>); 2] = [
        ("ping", None),
        ("etcd", failing.as_deref().filter(|_| which != "livez")),
    ];
    if let [_, name] = parts {
        let (_, fault) = checks.iter().find(|(known, _)| known == name)?;
        return Some(match fault {
            None => plain(StatusCode::OK, "ok".to_owned()),
            Some(why) => plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("internal server error: {why}\n"),
            ),
        });
    }
    let failed = checks.iter().any(|(_, fault)| fault.is_some());
    if !failed && !query.is_true("verbose") {
        return Some(plain(StatusCode::OK, "ok".to_owned()));
    }
    let mut text = String::new();
    for (name, fault) in checks {
        // Writing to a string does not fail.
        let _ = match fault {
            None => writeln!(text, "[+]{name} ok"),
            Some(why) => writeln!(text, "[-]{name} failed: {why}"),
        };
    }
    let (code, verdict) = if failed {
        (StatusCode::INTERNAL_SERVER_ERROR, "failed")
    } else {
        (StatusCode::OK, "passed")
    };
    Some(plain(code, format!("{text}{which} check {verdict}\n")))
}

/// The figures of a server.
pub(crate) fn metrics(server: &ApiServer) -> Response<ResponseBody> {
    let mut text = String::new();
    let head = |text: &mut String, name: &str, kind: &str, help: &str| {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    };
    head(
        &mut text,
        "apiserver_storage_objects",
        "gauge",
        "Objects that are stored, by resource.",
    );
    let mut counts = server.store().counts();
    counts.sort();
    for (resource, objects, _) in &counts {
        let _ = writeln!(
            text,
            "apiserver_storage_objects{{resource=\"{resource}\"}} {objects}"
        );
    }
    head(
        &mut text,
        "apiserver_registered_watchers",
        "gauge",
        "Watches that are open, by resource.",
    );
    for (resource, _, watchers) in &counts {
        let _ = writeln!(
            text,
            "apiserver_registered_watchers{{resource=\"{resource}\"}} {watchers}"
        );
    }
    head(
        &mut text,
        "apiserver_storage_revision",
        "counter",
        "The newest durable revision.",
    );
    let _ = writeln!(text, "apiserver_storage_revision {}", server.store().revision());
    head(
        &mut text,
        "apiserver_storage_failing",
        "gauge",
        "1 while the store cannot be written.",
    );
    let _ = writeln!(
        text,
        "apiserver_storage_failing {}",
        u8::from(server.store().failing().is_some())
    );
    head(
        &mut text,
        "apiserver_request_total",
        "counter",
        "Requests, by verb, resource and code.",
    );
    let requests = server
        .shared
        .counts
        .requests
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    for ((verb, resource, code), count) in requests.iter() {
        let _ = writeln!(
            text,
            "apiserver_request_total{{verb=\"{verb}\",resource=\"{resource}\",code=\"{code}\"}} {count}"
        );
    }
    drop(requests);
    plain(StatusCode::OK, text)
}

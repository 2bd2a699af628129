//! What there is: versions, groups and resources, in the plain and the aggregated form, and the health paths.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Response, header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::request::Query;
use crate::resource::Resource;
use crate::reviews::REVIEWS;
use crate::server::ApiServer;
use crate::service::{ResponseBody, json as answer_json};

const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
/// The order that Kubernetes has for custom resources.
const CUSTOM_VERBS: [&str; 8] = [
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "create",
    "update",
    "watch",
];
const PARTS: [&str; 3] = ["get", "patch", "update"];

fn verbs(resource: &Resource) -> Vec<&'static str> {
    let all = if resource.is_custom() { CUSTOM_VERBS } else { VERBS };
    let possible = |verb: &&str| *verb != "deletecollection" || resource.deletes_collections();
    all.into_iter().filter(possible).collect()
}

/// Parts of resources with paths of their own: name, verbs, and the group, version and kind when it is another one.
type Part = (&'static str, &'static [&'static str], Option<[&'static str; 3]>);

fn parts_of(resource: &Resource) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    match (&*resource.storage, resource.is_custom()) {
        ("pods", false) => parts.push(("binding", &["create"], Some(["", "", "Binding"]))),
        ("serviceaccounts", false) => {
            parts.push((
                "token",
                &["create"],
                Some(["authentication.k8s.io", "v1", "TokenRequest"]),
            ));
        }
        _ => {}
    }
    if crate::verbs::scale::has_scale(resource) {
        parts.push(("scale", &PARTS, Some(["autoscaling", "v1", "Scale"])));
    }
    if resource.has_status {
        parts.push(("status", &PARTS, None));
    }
    parts
}

pub(crate) fn answer(
    server: &ApiServer,
    path: &str,
    headers: &HeaderMap,
    query: &Query,
) -> Option<Response<ResponseBody>> {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["healthz" | "livez" | "readyz", ..] => crate::health::answer(server, &parts, query),
        ["metrics"] => Some(crate::health::metrics(server)),
        ["openapi", "v3", rest @ ..] => crate::openapi::answer(server, rest),
        ["version"] => Some(answer_json(200, &version())),
        ["api" | "apis"] if accept.contains("as=APIGroupDiscoveryList") => {
            Some(aggregated(server, parts.first() == Some(&"api")))
        }
        ["api"] => Some(answer_json(
            200,
            &json!({"kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": addresses(headers)}),
        )),
        ["apis"] => {
            let groups: Vec<Value> = groups(server)
                .iter()
                .filter(|(name, _)| !name.is_empty())
                .map(group)
                .collect();
            Some(answer_json(
                200,
                &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}),
            ))
        }
        ["apis", name] => groups(server)
            .iter()
            .find(|(group, _)| group == name)
            .map(|entry| {
                let mut value = group(entry);
                value["kind"] = "APIGroup".into();
                value["apiVersion"] = "v1".into();
                answer_json(200, &value)
            }),
        ["api", version] => resource_list(server, "", version),
        ["apis", group, version] => resource_list(server, group, version),
        _ => None,
    }
}

/// Where the server is, as the client has called it.
fn addresses(headers: &HeaderMap) -> Value {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    match host {
        Some(host) => json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": host}]),
        None => json!([]),
    }
}

fn version() -> Value {
    json!({"major": "1", "minor": "37", "gitVersion": concat!("v1.37.1+caracal-", env!("CARGO_PKG_VERSION")),
        "emulationMajor": "1", "emulationMinor": "37", "minCompatibilityMajor": "1", "minCompatibilityMinor": "36",
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none",
        "compiler": "rustc", "platform": "linux/amd64"})
}

/// Groups with their versions.
fn groups(server: &ApiServer) -> Vec<(String, Vec<String>)> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |group: &str, version: &str| {
        let versions = groups.entry(group.to_owned()).or_default();
        if !versions.iter().any(|known| known == version) {
            versions.push(version.to_owned());
        }
    };
    server
        .resources()
        .iter()
        .for_each(|resource| add(&resource.group, &resource.version));
    REVIEWS.iter().for_each(|(group, ..)| add(group, "v1"));
    groups.into_iter().collect()
}

fn group((name, versions): &(String, Vec<String>)) -> Value {
    let version = |version: &String| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    let versions: Vec<Value> = versions.iter().map(version).collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions.first()})
}

/// Clients compare it to learn that what is stored changed its form.
fn storage_hash(resource: &Resource) -> String {
    // Events are stored in their first form.
    let group = if crate::events::is_other_form(resource) {
        ""
    } else {
        &resource.group
    };
    let digest = Sha256::digest(format!("{group}/{}/{}", resource.version, resource.kind));
    STANDARD.encode(digest.get(..8).unwrap_or_default())
}

fn listed(resource: &Resource) -> Vec<Value> {
    let mut whole = json!({"name": resource.plural, "singularName": resource.singular,
        "namespaced": resource.namespaced, "kind": resource.kind, "verbs": verbs(resource),
        "storageVersionHash": storage_hash(resource)});
    for (key, names) in [
        ("shortNames", &resource.short_names),
        ("categories", &resource.categories),
    ] {
        if !names.is_empty() {
            whole[key] = names.as_slice().into();
        }
    }
    let part = |(name, verbs, other): Part| {
        let mut part = json!({"name": format!("{}/{name}", resource.plural), "singularName": "",
            "namespaced": resource.namespaced, "kind": resource.kind, "verbs": verbs});
        if let Some([group, version, kind]) = other {
            part["kind"] = kind.into();
            if !group.is_empty() {
                part["group"] = group.into();
                part["version"] = version.into();
            }
        }
        part
    };
    std::iter::once(whole)
        .chain(parts_of(resource).into_iter().map(part))
        .collect()
}

fn resource_list(server: &ApiServer, group: &str, version: &str) -> Option<Response<ResponseBody>> {
    let resources = server.resources();
    let served = resources
        .iter()
        .filter(|r| r.group == group && r.version == version);
    let mut all: Vec<Value> = served.flat_map(|resource| listed(resource)).collect();
    let reviews = REVIEWS
        .iter()
        .filter(|review| review.0 == group && version == "v1");
    all.extend(reviews.map(|(_, plural, kind, namespaced)| {
        json!({"name": plural, "singularName": kind.to_lowercase(), "namespaced": namespaced, "kind": kind,
            "verbs": ["create"]})
    }));
    all.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
        "resources": all});
    (!all.is_empty()).then(|| answer_json(200, &list))
}

fn aggregated(server: &ApiServer, core: bool) -> Response<ResponseBody> {
    let resources = server.resources();
    let items: Vec<Value> = groups(server)
        .into_iter()
        .filter(|(name, _)| name.is_empty() == core)
        .map(|(name, versions)| {
            let version = |version: &String| {
                let of_version = resources
                    .iter()
                    .filter(|r| r.group == name && r.version == *version);
                let mut all: Vec<Value> = of_version.map(|resource| aggregated_resource(resource)).collect();
                all.extend(
                    REVIEWS
                        .iter()
                        .filter(|review| review.0 == name)
                        .map(aggregated_review),
                );
                all.sort_by(|a, b| a["resource"].as_str().cmp(&b["resource"].as_str()));
                json!({"version": version, "freshness": "Current", "resources": all})
            };
            let metadata = if core { json!({}) } else { json!({"name": name}) };
            json!({"metadata": metadata, "versions": versions.iter().map(version).collect::<Vec<_>>()})
        })
        .collect();
    let list = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": items});
    let mut response = answer_json(200, &list);
    let kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

fn scope(namespaced: bool) -> &'static str {
    if namespaced { "Namespaced" } else { "Cluster" }
}

fn aggregated_review((group, plural, kind, namespaced): &(&str, &str, &str, bool)) -> Value {
    json!({"resource": plural, "responseKind": {"group": group, "version": "v1", "kind": kind},
        "scope": scope(*namespaced), "singularResource": kind.to_lowercase(), "verbs": ["create"]})
}

fn aggregated_resource(resource: &Resource) -> Value {
    let kind = json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
    let mut value = json!({"resource": resource.plural, "responseKind": kind, "scope": scope(resource.namespaced),
        "singularResource": resource.singular, "verbs": verbs(resource)});
    for (key, names) in [
        ("shortNames", &resource.short_names),
        ("categories", &resource.categories),
    ] {
        if !names.is_empty() {
            value[key] = names.as_slice().into();
        }
    }
    let part = |(name, verbs, other): Part| {
        let kind = other.map_or_else(
            || kind.clone(),
            |[group, version, kind]| {
                let version = if version.is_empty() { "v1" } else { version };
                json!({"group": group, "version": version, "kind": kind})
            },
        );
        json!({"subresource": name, "responseKind": kind, "verbs": verbs})
    };
    let parts: Vec<Value> = parts_of(resource).into_iter().map(part).collect();
    if !parts.is_empty() {
        value["subresources"] = parts.into();
    }
    value
}

//! What there is: versions, groups and resources, in the plain and the aggregated form, and the health paths.

use std::collections::BTreeMap;

use http::{HeaderMap, Response, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use crate::resource::Resource;
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

pub(crate) fn answer(server: &ApiServer, path: &str, headers: &HeaderMap) -> Option<Response<ResponseBody>> {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["healthz" | "livez" | "readyz"] => Some(Response::new(Full::from("ok").boxed_unsync())),
        ["openapi", "v3", rest @ ..] => crate::openapi::answer(server, rest),
        ["version"] => Some(answer_json(200, &version())),
        ["api" | "apis"] if accept.contains("as=APIGroupDiscoveryList") => {
            Some(aggregated(server, parts.first() == Some(&"api")))
        }
        ["api"] => Some(answer_json(
            200,
            &json!({"kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": []}),
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

fn version() -> Value {
    json!({"major": "1", "minor": "33", "gitVersion": concat!("v1.33.0+caracal-", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none",
        "compiler": "rustc", "platform": "linux/amd64"})
}

/// Groups with their versions.
fn groups(server: &ApiServer) -> Vec<(String, Vec<String>)> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for resource in server.resources().iter() {
        let versions = groups.entry(resource.group.clone()).or_default();
        if !versions.contains(&resource.version) {
            versions.push(resource.version.clone());
        }
    }
    groups.into_iter().collect()
}

fn group((name, versions): &(String, Vec<String>)) -> Value {
    let version = |version: &String| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    let versions: Vec<Value> = versions.iter().map(version).collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions.first()})
}

fn resource_list(server: &ApiServer, group: &str, version: &str) -> Option<Response<ResponseBody>> {
    let mut resources = Vec::new();
    let mut group_version = String::new();
    for resource in server
        .resources()
        .iter()
        .filter(|r| r.group == group && r.version == version)
    {
        group_version = resource.api_version();
        resources.push(json!({"name": resource.plural, "singularName": resource.singular,
            "namespaced": resource.namespaced, "kind": resource.kind, "verbs": VERBS,
            "shortNames": resource.short_names, "categories": resource.categories}));
        if resource.has_status {
            resources.push(json!({"name": format!("{}/status", resource.plural), "singularName": "",
                "namespaced": resource.namespaced, "kind": resource.kind, "verbs": ["get", "patch", "update"]}));
        }
    }
    let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
        "resources": resources});
    (!resources.is_empty()).then(|| answer_json(200, &list))
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
                json!({"version": version, "freshness": "Current",
                    "resources": of_version.map(|r| aggregated_resource(r)).collect::<Vec<_>>()})
            };
            json!({"metadata": {"name": name, "creationTimestamp": null},
                "versions": versions.iter().map(version).collect::<Vec<_>>()})
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

fn aggregated_resource(resource: &Resource) -> Value {
    let kind = json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
    let mut value = json!({"resource": resource.plural, "responseKind": kind,
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular, "verbs": VERBS,
        "shortNames": resource.short_names, "categories": resource.categories});
    if resource.has_status {
        value["subresources"] =
            json!([{"subresource": "status", "responseKind": kind, "verbs": ["get", "patch", "update"]}]);
    }
    value
}

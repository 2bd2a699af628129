//! Objects that must be refused (`tests/vectors/refused.json`) are refused by the server, and what admission makes of
//! objects (`admission.json`) it makes too.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

#[path = "../../tests/vectors/reader.rs"]
mod reader;

use caracal_apiserver::ApiServer;
use serde_json::{Value, json};

fn client(server: &ApiServer) -> kube::Client {
    kube::Client::new(server.service(), "default")
}

/// Path of the collection that an object belongs to.
fn path(object: &Value) -> String {
    let kind = caracal_api::kinds::of_manifest(object["kind"].as_str().unwrap()).unwrap();
    let namespace = match &object["metadata"]["namespace"] {
        Value::String(namespace) => format!("namespaces/{namespace}/"),
        _ => String::new(),
    };
    format!("/apis/projectcalico.org/v3/{namespace}{}", kind.plural)
}

async fn send(client: &kube::Client, method: &str, path: &str, object: &Value) -> Result<Value, kube::Error> {
    let request = http::Request::builder()
        .method(method)
        .uri(format!("{path}?fieldValidation=Strict"))
        .body(object.to_string().into_bytes())
        .unwrap();
    client.request(request).await
}

#[tokio::test]
async fn refused_vectors() {
    let server = ApiServer::in_memory();
    let client = client(&server);
    let mut wrong = Vec::new();
    for reader::Case { place, value } in reader::cases("refused") {
        let object = &value["in"]["object"];
        // What no definition can judge is let through, as by kube-apiserver, with a warning.
        let is_for_definitions = value["out"]["by"] != "values";
        match send(&client, "POST", &path(object), object).await {
            Ok(made) => {
                if is_for_definitions {
                    wrong.push(format!("accepted: {place}: {object}"));
                }
                let made = format!("{}/{}", path(object), made["metadata"]["name"].as_str().unwrap());
                send(&client, "DELETE", &made, &json!({})).await.unwrap();
            }
            Err(kube::Error::Api(status)) if !is_for_definitions => {
                wrong.push(format!("refused: {place}: {object}: {status:?}"));
            }
            Err(kube::Error::Api(status)) => {
                assert!(matches!(status.code, 400 | 422), "{place}: {object}: {status:?}");
            }
            Err(other) => panic!("{place}: {other}"),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Labels, and of the spec what the case speaks of: schemas fill in more.
fn part(object: &Value, like: &Value) -> Value {
    let fields = like["spec"].as_object().unwrap().keys();
    let spec: serde_json::Map<String, Value> = fields
        .map(|field| (field.clone(), object["spec"][field].clone()))
        .collect();
    json!({"labels": object["metadata"]["labels"], "spec": spec})
}

#[tokio::test]
async fn admission_vectors() {
    let server = ApiServer::in_memory();
    let client = client(&server);
    for (index, reader::Case { place, value }) in reader::cases("admission").into_iter().enumerate() {
        let (mut object, want) = (value["in"]["object"].clone(), &value["out"]["object"]);
        object["metadata"]["name"] = json!(format!("case-{index}"));
        let made = send(&client, "POST", &path(&object), &object).await;
        let made = made.unwrap_or_else(|error| panic!("{place}: {object}: {error}"));
        let got = if value["in"]["operation"] == "CREATE" {
            made
        } else {
            object["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
            let path = format!("{}/case-{index}", path(&object));
            let changed = send(&client, "PUT", &path, &object).await;
            changed.unwrap_or_else(|error| panic!("{place}: {object}: {error}"))
        };
        assert_eq!(part(&got, want), part(want, want), "{place}: {object}");
    }
}

//! The verbs against the embedded API server, in process.

use std::io::Write as _;

use caracal_api::kinds;
use caracal_apiserver::ApiServer;
use caracal_datastore::Client;
use clap::Parser as _;
use serde_json::Value;

use crate::args::{Arguments, Command};
use crate::error::Failure;
use crate::resource::{delete, write};
use crate::store::Store;

fn store() -> Store {
    Store::new(Client::from_service(ApiServer::in_memory().service(), "default"))
}

async fn run(store: &Store, line: &str, text: &str) -> Result<(), Failure> {
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let words = line.split(' ').map(|word| {
        if word == "FILE" {
            path.clone()
        } else {
            word.to_owned()
        }
    });
    let arguments = Arguments::try_parse_from(std::iter::once("caracalctl".to_owned()).chain(words)).unwrap();
    match arguments.command {
        Command::Create(create) => write::create(store, &create).await,
        Command::Apply(crud) => write::apply(store, &crud).await,
        Command::Replace(crud) => write::replace(store, &crud).await,
        Command::Delete(delete) => delete::run(store, &delete).await,
        other => panic!("{other:?}"),
    }
}

const POOL: &str = "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: p, labels: {a: x}}\n\
                    spec: {cidr: 10.1.0.0/16}\n";

async fn pool(store: &Store) -> Value {
    store
        .get(kinds::of_manifest("IPPool").unwrap(), None, "p")
        .await
        .unwrap()
}

#[tokio::test]
async fn apply_creates_and_then_replaces() {
    let store = store();
    run(&store, "apply -f FILE", POOL).await.unwrap();
    assert_eq!(pool(&store).await["spec"]["cidr"], "10.1.0.0/16");
    let changed = POOL
        .replace("{cidr: 10.1.0.0/16}", "{cidr: 10.1.0.0/16, disabled: true}")
        .replace("a: x", "b: z");
    run(&store, "apply -f FILE", &changed).await.unwrap();
    let stored = pool(&store).await;
    assert_eq!(stored["spec"]["disabled"], true);
    assert_eq!(stored["metadata"]["labels"], serde_json::json!({"b": "z"}));
}

#[tokio::test]
async fn create_refuses_what_exists_unless_told_otherwise() {
    let store = store();
    run(&store, "create -f FILE", POOL).await.unwrap();
    let failure = run(&store, "create -f FILE", POOL).await.unwrap_err().to_string();
    assert_eq!(
        failure,
        "failed to create 'IPPool' resource: [resource already exists: IPPool(p)]"
    );
    run(&store, "create -f FILE --skip-exists", POOL).await.unwrap();
}

#[tokio::test]
async fn an_unknown_field_is_refused_by_its_name_and_nothing_is_stored() {
    let store = store();
    let wrong = POOL.replace("cidr:", "natOutgoin: true, cidr:");
    let failure = run(&store, "apply -f FILE", &wrong)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        failure.contains("not recognized") && failure.contains("natOutgoin"),
        "{failure}"
    );
    assert!(
        store
            .get(kinds::of_manifest("IPPool").unwrap(), None, "p")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_stale_resource_version_conflicts() {
    let store = store();
    run(&store, "create -f FILE", POOL).await.unwrap();
    let stale = POOL.replace("{name: p,", "{name: p, resourceVersion: \"1\",");
    let failure = run(&store, "replace -f FILE", &stale)
        .await
        .unwrap_err()
        .to_string();
    assert!(failure.contains("update conflict: IPPool(p)"), "{failure}");
}

#[tokio::test]
async fn delete_names_what_does_not_exist() {
    let store = store();
    run(&store, "create -f FILE", POOL).await.unwrap();
    run(&store, "delete ippool p", "").await.unwrap();
    let failure = run(&store, "delete ippool p", "").await.unwrap_err().to_string();
    assert!(
        failure.starts_with("Failed to delete 'IPPool' resource: resource does not exist: IPPool(p)"),
        "{failure}"
    );
    run(&store, "delete pool p --skip-not-exists", "").await.unwrap();
}

#[tokio::test]
async fn what_is_derived_or_read_only_is_not_written() {
    let store = store();
    let node = "apiVersion: projectcalico.org/v3\nkind: Profile\nmetadata: {name: n}\n";
    let failure = run(&store, "create -f FILE", node).await.unwrap_err().to_string();
    assert!(
        failure.contains("operation Create is not supported on Profile(n)"),
        "{failure}"
    );
    let info = "apiVersion: projectcalico.org/v3\nkind: ClusterInformation\nmetadata: {name: default}\n";
    let failure = run(&store, "apply -f FILE", info).await.unwrap_err().to_string();
    assert!(failure.contains("resource is readonly"), "{failure}");
}

//! Requests, their errors, and what must exist first.

use caracal_api::v3::{ClusterInformation, IPPool, IPPoolSpec, Tier};
use caracal_apiserver::ApiServer;
use caracal_datastore::init::{CLUSTER_INFORMATION, ensure_defaults};
use caracal_datastore::{Client, ListOptions, Preconditions};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::json;

use crate::door::Door;

fn client() -> Client {
    Client::from_service(ApiServer::in_memory().service(), "default")
}

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default", "labels": {"parity": if name.ends_with(['1', '3']) {"odd"} else {"even"}}},
        "data": {"key": "value"},
    }))
    .unwrap()
}

#[tokio::test]
async fn an_update_is_a_compare_and_swap() {
    let client = client();
    let spec = IPPoolSpec {
        cidr: "10.0.0.0/16".into(),
        ..IPPoolSpec::default()
    };
    let made = client.create(&IPPool::new("p", spec)).await.unwrap();
    assert!(
        client
            .create(&made_without_version(&made))
            .await
            .unwrap_err()
            .is_already_exists()
    );
    let mut first = made.clone();
    first.spec.nat_outgoing = true;
    let first = client.update(&first).await.unwrap();
    let mut second = made;
    second.spec.disabled = true;
    let error = client.update(&second).await.unwrap_err();
    assert!(error.is_conflict() && !error.is_already_exists(), "{error}");
    assert!(error.to_string().contains("cannot update IPPool p"), "{error}");
    assert_eq!(client.get::<IPPool>(None, "p").await.unwrap().unwrap(), first);

    let outdated = Preconditions {
        resource_version: Some("1".into()),
        ..Preconditions::default()
    };
    assert!(
        client
            .delete::<IPPool>(None, "p", outdated)
            .await
            .unwrap_err()
            .is_conflict()
    );
    let other = Preconditions {
        uid: Some("00000000-0000-4000-8000-000000000000".into()),
        ..Preconditions::default()
    };
    assert!(
        client
            .delete::<IPPool>(None, "p", other)
            .await
            .unwrap_err()
            .is_conflict()
    );
    let this = Preconditions {
        uid: first.metadata.uid.clone(),
        resource_version: first.metadata.resource_version,
    };
    assert!(client.delete::<IPPool>(None, "p", this).await.unwrap());
    assert!(
        !client
            .delete::<IPPool>(None, "p", Preconditions::default())
            .await
            .unwrap()
    );
    assert_eq!(client.get::<IPPool>(None, "p").await.unwrap(), None);
}

fn made_without_version(pool: &IPPool) -> IPPool {
    IPPool::new("p", pool.spec.clone())
}

#[tokio::test]
async fn lists_are_read_to_their_last_page_and_selected_by_labels() {
    let client = client();
    for index in 0..1003 {
        client
            .create(&config_map(&format!("map-{index:04}")))
            .await
            .unwrap();
    }
    let all: Vec<ConfigMap> = client
        .list(Some("default"), &ListOptions::default())
        .await
        .unwrap();
    let names: Vec<&str> = all
        .iter()
        .filter_map(|map| map.metadata.name.as_deref())
        .collect();
    assert_eq!(names.len(), 1003);
    assert!(names.is_sorted() && names.first() == Some(&"map-0000"));
    let odd = ListOptions {
        labels: Some("parity=odd".into()),
        ..ListOptions::default()
    };
    assert_eq!(client.list::<ConfigMap>(None, &odd).await.unwrap().len(), 201);
    assert_eq!(
        client
            .list::<ConfigMap>(Some("kube-system"), &odd)
            .await
            .unwrap()
            .len(),
        0
    );
}

#[tokio::test]
async fn patches_change_their_fields_only() {
    let client = client();
    client.create(&config_map("m")).await.unwrap();
    let patched: ConfigMap = client
        .patch_merge(
            Some("default"),
            "m",
            &json!({"data": {"key": null, "other": "1"}}),
        )
        .await
        .unwrap();
    let data: Vec<_> = patched.data.unwrap().into_iter().collect();
    assert_eq!(data, [("other".to_owned(), "1".to_owned())]);
    assert!(patched.metadata.labels.is_some());
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": [{"name": "c", "image": "i"}]},
    }))
    .unwrap();
    client.create(&pod).await.unwrap();
    let patch = json!({"metadata": {"annotations": {"a": "b"}}, "status": {"podIP": "10.0.0.1"}});
    let pod: Pod = client.patch_status(Some("default"), "p", &patch).await.unwrap();
    assert_eq!(pod.status.unwrap().pod_ip.as_deref(), Some("10.0.0.1"));
}

#[tokio::test]
async fn errors_have_their_class() {
    let client = client();
    let error = client
        .patch_merge::<ConfigMap>(Some("default"), "none", &json!({}))
        .await
        .unwrap_err();
    assert!(error.is_not_found() && !error.is_unknown_kind(), "{error}");
    let error = client.get::<PriorityClass>(None, "x").await.unwrap_err();
    assert!(error.is_unknown_kind(), "{error}");
    assert!(
        error.to_string().contains("does not serve PriorityClass"),
        "{error}"
    );
    let mut bad = IPPool::new("p", IPPoolSpec::default());
    bad.spec.cidr = "x".repeat(60);
    let error = client.create(&bad).await.unwrap_err();
    assert!(
        error.is_invalid() && error.to_string().contains("cidr"),
        "{error}"
    );
    for name in ["", "a/b", "..", "a?watch=1", "a b"] {
        let error = client.get::<IPPool>(None, name).await.unwrap_err();
        assert!(
            !error.is_transient() && error.to_string().contains("name"),
            "{name:?}: {error}"
        );
    }
    let door = Door::to(ApiServer::in_memory());
    let client = Client::from_service(door.clone(), "default");
    door.shut();
    let error = client.get::<IPPool>(None, "p").await.unwrap_err();
    assert!(
        error.is_transient() && error.to_string().contains("connection refused"),
        "{error}"
    );
}

#[tokio::test]
async fn first_objects_are_made_once_whoever_comes_first() {
    let client = client();
    let calls = (0..4).map(|_| ensure_defaults(&client));
    for result in futures::future::join_all(calls).await {
        result.unwrap();
    }
    let get = || client.get::<ClusterInformation>(None, CLUSTER_INFORMATION);
    let made = get().await.unwrap().unwrap();
    assert_eq!(made.spec.cluster_guid.len(), 32);
    assert_eq!(made.spec.datastore_ready, Some(true));
    let tiers: Vec<Tier> = client.list(None, &ListOptions::default()).await.unwrap();
    let tiers: Vec<_> = tiers
        .into_iter()
        .map(|tier| (tier.metadata.name.unwrap(), tier.spec.order))
        .collect();
    assert_eq!(
        tiers,
        [
            ("default".to_owned(), Some(1e6)),
            ("kube-admin".to_owned(), Some(1e3)),
            ("kube-baseline".to_owned(), Some(1e7)),
        ]
    );
    ensure_defaults(&client).await.unwrap();
    assert_eq!(
        get().await.unwrap().unwrap(),
        made,
        "nothing is written a second time"
    );
    // A datastore that was locked on purpose stays locked.
    let mut locked = made;
    locked.spec.datastore_ready = Some(false);
    client.update(&locked).await.unwrap();
    ensure_defaults(&client).await.unwrap();
    assert_eq!(get().await.unwrap().unwrap().spec.datastore_ready, Some(false));
}

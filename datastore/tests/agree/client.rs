//! The typed client on any server: compare-and-swap among many writers, long lists, and watches over connections that
//! break and versions that are forgotten. What must come out is the same, whoever answers.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use caracal_api::v3::{NetworkSet, Tier};
use caracal_datastore::{Client, Event, Key, ListOptions, Preconditions, WatchScope};
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use serde_json::json;

use crate::faulty::Faulty;
use crate::target::Target;

const NAMESPACE: &str = "client";
/// Longer than any pause that these faults lead to.
const PATIENCE: Duration = Duration::from_secs(60);

/// All of it, one after the other: a real server is shared.
pub(crate) async fn check(target: &Target) {
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}})).unwrap();
    target.client.create(&namespace).await.unwrap();
    many_writers_lose_no_update(target).await;
    a_long_list_is_read_to_its_end(target).await;
    a_watch_survives_cuts(target).await;
    a_forgotten_version_leads_to_a_new_list(target).await;
    finalizers_hold_an_object(target).await;
    what_does_not_fit_has_its_class(target).await;
}

fn set(name: &str, labels: serde_json::Value) -> NetworkSet {
    let value = json!({
        "apiVersion": "projectcalico.org/v3", "kind": "NetworkSet",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}, "spec": {"nets": ["192.0.2.0/24"]},
    });
    serde_json::from_value(value).unwrap()
}

async fn many_writers_lose_no_update(target: &Target) {
    target
        .client
        .create(&set("counter", json!({"count": "0"})))
        .await
        .unwrap();
    let writers = (0..8).map(|_| async {
        let mut done = 0;
        while done < 5 {
            let mut counter: NetworkSet = target
                .client
                .get(Some(NAMESPACE), "counter")
                .await
                .unwrap()
                .unwrap();
            let labels = counter.metadata.labels.get_or_insert_default();
            let count: u32 = labels["count"].parse().unwrap();
            labels.insert("count".to_owned(), (count + 1).to_string());
            match target.client.update(&counter).await {
                Ok(_) => done += 1,
                Err(error) => assert!(error.is_conflict(), "{error}"),
            }
        }
    });
    futures::future::join_all(writers).await;
    let counter: NetworkSet = target
        .client
        .get(Some(NAMESPACE), "counter")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(counter.metadata.labels.unwrap()["count"], "40");
}

async fn a_long_list_is_read_to_its_end(target: &Target) {
    let make = |index: usize| async move {
        let parity = if index.is_multiple_of(2) { "even" } else { "odd" };
        target
            .client
            .create(&set(&format!("long-{index:04}"), json!({"parity": parity})))
            .await
            .unwrap();
    };
    futures::stream::iter(0..501).for_each_concurrent(8, make).await;
    let list = |labels: &str| {
        let options = ListOptions {
            labels: Some(labels.to_owned()),
            ..ListOptions::default()
        };
        async move {
            target
                .client
                .list::<NetworkSet>(Some(NAMESPACE), &options)
                .await
                .unwrap()
        }
    };
    assert_eq!(list("parity").await.len(), 501);
    assert_eq!(list("parity=odd").await.len(), 250);
    assert_eq!(list("parity notin (odd,even)").await.len(), 1, "the counter");
}

struct Follower {
    events: Pin<Box<dyn Stream<Item = Event<ConfigMap>> + Send>>,
    state: BTreeMap<String, String>,
    in_sync: usize,
    applied: usize,
}

impl Follower {
    fn new(client: &Client, labels: &str) -> Self {
        let scope = WatchScope {
            namespace: Some(NAMESPACE.to_owned()),
            labels: Some(labels.to_owned()),
            ..WatchScope::default()
        };
        Self {
            events: Box::pin(client.watch(scope)),
            state: BTreeMap::new(),
            in_sync: 0,
            applied: 0,
        }
    }

    async fn until(&mut self, wanted: &[(&str, &str)]) {
        let wanted: BTreeMap<String, String> = wanted
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        while self.state != wanted || self.in_sync == 0 {
            let event = tokio::time::timeout(PATIENCE, self.events.next()).await;
            match event
                .unwrap_or_else(|_| panic!("silent at {:?}, not {wanted:?}", self.state))
                .unwrap()
            {
                Event::Applied(map) => {
                    self.applied += 1;
                    let value = map.data.unwrap_or_default().remove("value").unwrap_or_default();
                    self.state.insert(map.metadata.name.unwrap(), value);
                }
                Event::Deleted(Key { name, .. }) => {
                    assert!(self.state.remove(&name).is_some(), "{name} was not told before");
                }
                Event::InSync => self.in_sync += 1,
                Event::Trouble(_) => {}
            }
        }
    }
}

async fn write(target: &Target, set: &str, name: &str, value: &str) {
    let map: ConfigMap = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"set": set}}, "data": {"value": value},
    }))
    .unwrap();
    match target.client.create(&map).await {
        Err(error) if error.is_already_exists() => target.client.update(&map).await.map(drop).unwrap(),
        made => made.map(drop).unwrap(),
    }
}

async fn remove(target: &Target, name: &str) {
    let found = target
        .client
        .delete::<ConfigMap>(Some(NAMESPACE), name, Preconditions::default())
        .await;
    assert!(found.unwrap());
}

async fn a_watch_survives_cuts(target: &Target) {
    let door = Faulty::before(&target.client);
    let mut follower = Follower::new(&Client::from_service(door.clone(), "default"), "set=cuts");
    write(target, "cuts", "a", "0").await;
    follower.until(&[("a", "0")]).await;
    for round in 1..4 {
        door.cut();
        let value = round.to_string();
        write(target, "cuts", "a", &value).await;
        write(target, "cuts", "b", &value).await;
        follower.until(&[("a", &value), ("b", &value)]).await;
    }
    assert_eq!(
        (follower.in_sync, follower.applied),
        (1, 7),
        "nothing is told twice"
    );
    door.shut(true);
    remove(target, "a").await;
    write(target, "cuts", "b", "later").await;
    door.shut(false);
    follower.until(&[("b", "later")]).await;
}

async fn a_forgotten_version_leads_to_a_new_list(target: &Target) {
    let door = Faulty::before(&target.client);
    write(target, "old", "stays", "1").await;
    write(target, "old", "goes", "1").await;
    let mut follower = Follower::new(&Client::from_service(door.clone(), "default"), "set=old");
    follower.until(&[("goes", "1"), ("stays", "1")]).await;
    door.shut(true);
    remove(target, "goes").await;
    // More than the window of the embedded server here; a real one forgot the first version when it started.
    for index in 0..40 {
        write(target, "old", "comes", &index.to_string()).await;
    }
    door.forget();
    door.shut(false);
    follower.until(&[("comes", "39"), ("stays", "1")]).await;
    assert_eq!(door.forgotten(), 1);
    assert_eq!(
        (follower.in_sync, follower.applied),
        (1, 3),
        "what did not change is not told again"
    );
}

async fn finalizers_hold_an_object(target: &Target) {
    let mut tier = Tier::new("client-held", caracal_api::v3::TierSpec::default());
    tier.metadata.finalizers = Some(vec!["caracal.test/hold".to_owned()]);
    target.client.create(&tier).await.unwrap();
    let delete = || {
        target
            .client
            .delete::<Tier>(None, "client-held", Preconditions::default())
    };
    assert!(delete().await.unwrap());
    let mut held: Tier = target.client.get(None, "client-held").await.unwrap().unwrap();
    assert!(held.metadata.deletion_timestamp.is_some());
    held.metadata.finalizers = None;
    target.client.update(&held).await.unwrap();
    assert_eq!(
        target.client.get::<Tier>(None, "client-held").await.unwrap(),
        None
    );
    assert!(!delete().await.unwrap());
}

async fn what_does_not_fit_has_its_class(target: &Target) {
    let mut other = set("counter", json!({}));
    assert!(
        target
            .client
            .create(&other)
            .await
            .unwrap_err()
            .is_already_exists()
    );
    other.metadata.resource_version = Some("1".to_owned());
    assert!(target.client.update(&other).await.unwrap_err().is_conflict());
    other.metadata.name = Some("None-Such".to_owned());
    other.metadata.resource_version = None;
    assert!(target.client.create(&other).await.unwrap_err().is_invalid());
    let error = target
        .client
        .patch_merge::<NetworkSet>(Some(NAMESPACE), "none", &json!({}))
        .await
        .unwrap_err();
    assert!(error.is_not_found(), "{error}");
    let outdated = Preconditions {
        resource_version: Some("1".to_owned()),
        ..Preconditions::default()
    };
    let error = target
        .client
        .delete::<NetworkSet>(Some(NAMESPACE), "counter", outdated)
        .await
        .unwrap_err();
    assert!(error.is_conflict(), "{error}");
}

//! Watches over connections that break, versions that are forgotten, and servers that restart.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use caracal_apiserver::{ApiServer, Options};
use caracal_datastore::{Client, Event, Key, Preconditions, WatchScope};
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use crate::door::Door;

/// Longer than any pause that these faults lead to.
const PATIENCE: Duration = Duration::from_secs(20);

struct Follower {
    events: Pin<Box<dyn Stream<Item = Event<ConfigMap>> + Send>>,
    state: BTreeMap<String, String>,
    in_sync: usize,
    applied: usize,
    troubles: Vec<String>,
}

impl Follower {
    fn new(client: &Client, scope: WatchScope) -> Self {
        Self {
            events: Box::pin(client.watch(scope)),
            state: BTreeMap::new(),
            in_sync: 0,
            applied: 0,
            troubles: Vec::new(),
        }
    }

    async fn step(&mut self) {
        let event = tokio::time::timeout(PATIENCE, self.events.next()).await;
        match event
            .unwrap_or_else(|_| panic!("silent with {:?}, {:?}", self.state, self.troubles))
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
            Event::Trouble(text) => self.troubles.push(text),
        }
    }

    async fn until(&mut self, expected: &[(&str, &str)]) {
        let expected: BTreeMap<String, String> = expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        while self.state != expected || self.in_sync == 0 {
            self.step().await;
        }
    }
}

async fn set(client: &Client, name: &str, value: &str) {
    let map: ConfigMap = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default", "labels": {"value": value}}, "data": {"value": value},
    }))
    .unwrap();
    if client
        .get::<ConfigMap>(Some("default"), name)
        .await
        .unwrap()
        .is_some()
    {
        client.update(&map).await.unwrap();
    } else {
        client.create(&map).await.unwrap();
    }
}

async fn remove(client: &Client, name: &str) {
    assert!(
        client
            .delete::<ConfigMap>(Some("default"), name, Preconditions::default())
            .await
            .unwrap()
    );
}

fn direct(server: &ApiServer) -> Client {
    Client::from_service(server.service(), "default")
}

#[tokio::test]
async fn a_list_and_then_its_changes_are_told_once() {
    let server = ApiServer::in_memory();
    let client = direct(&server);
    set(&client, "a", "1").await;
    let mut follower = Follower::new(&client, WatchScope::default());
    follower.until(&[("a", "1")]).await;
    set(&client, "b", "1").await;
    set(&client, "a", "2").await;
    follower.until(&[("a", "2"), ("b", "1")]).await;
    remove(&client, "b").await;
    follower.until(&[("a", "2")]).await;
    assert_eq!((follower.in_sync, follower.applied), (1, 3));
    assert!(follower.troubles.is_empty(), "{:?}", follower.troubles);
}

#[tokio::test]
async fn what_leaves_the_scope_is_told_as_deleted() {
    let server = ApiServer::in_memory();
    let client = direct(&server);
    set(&client, "a", "in").await;
    set(&client, "b", "out").await;
    let scope = WatchScope {
        labels: Some("value=in".into()),
        ..WatchScope::default()
    };
    let mut follower = Follower::new(&client, scope);
    follower.until(&[("a", "in")]).await;
    set(&client, "b", "in").await;
    set(&client, "a", "out").await;
    follower.until(&[("b", "in")]).await;
}

#[tokio::test]
async fn a_cut_connection_goes_on_where_it_was() {
    let server = ApiServer::in_memory();
    let (door, writer) = (Door::to(server.clone()), direct(&server));
    let mut follower = Follower::new(
        &Client::from_service(door.clone(), "default"),
        WatchScope::default(),
    );
    set(&writer, "a", "1").await;
    follower.until(&[("a", "1")]).await;
    for round in 0..3 {
        door.cut();
        set(&writer, "a", &format!("{round}-x")).await;
        set(&writer, "b", &format!("{round}-y")).await;
        follower
            .until(&[("a", &format!("{round}-x")), ("b", &format!("{round}-y"))])
            .await;
    }
    assert_eq!(
        (follower.in_sync, follower.applied),
        (1, 7),
        "nothing is told twice"
    );
}

#[tokio::test]
async fn a_forgotten_version_leads_to_a_new_list_that_tells_the_difference() {
    let options = Options {
        history_events: 4,
        ..Options::default()
    };
    let server = ApiServer::in_memory_with(options);
    let (door, writer) = (Door::to(server.clone()), direct(&server));
    set(&writer, "stays", "1").await;
    set(&writer, "goes", "1").await;
    let mut follower = Follower::new(
        &Client::from_service(door.clone(), "default"),
        WatchScope::default(),
    );
    follower.until(&[("goes", "1"), ("stays", "1")]).await;
    door.shut();
    remove(&writer, "goes").await;
    for index in 0..20 {
        set(&writer, "comes", &index.to_string()).await;
    }
    door.open(server);
    follower.until(&[("comes", "19"), ("stays", "1")]).await;
    assert_eq!(
        (follower.in_sync, follower.applied),
        (1, 3),
        "what did not change is not told again"
    );
}

#[tokio::test]
async fn a_server_that_restarts_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let open = || ApiServer::open(directory.path(), Options::default());
    let server = open().await.unwrap();
    set(&direct(&server), "a", "1").await;
    let door = Door::to(server);
    let mut follower = Follower::new(
        &Client::from_service(door.clone(), "default"),
        WatchScope::default(),
    );
    follower.until(&[("a", "1")]).await;
    door.shut();
    while follower.troubles.is_empty() {
        follower.step().await;
    }
    // The old server lets its store go with the last connection.
    let server = loop {
        match open().await {
            Ok(server) => break server,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    let writer = direct(&server);
    set(&writer, "b", "1").await;
    door.open(server);
    follower.until(&[("a", "1"), ("b", "1")]).await;
    remove(&writer, "a").await;
    follower.until(&[("b", "1")]).await;
    assert_eq!(follower.in_sync, 1);
}

#[tokio::test]
async fn a_server_that_lost_its_data_is_believed() {
    let server = ApiServer::in_memory();
    let writer = direct(&server);
    for round in 0..20 {
        set(&writer, "a", &round.to_string()).await;
    }
    let door = Door::to(server);
    let mut follower = Follower::new(
        &Client::from_service(door.clone(), "default"),
        WatchScope::default(),
    );
    follower.until(&[("a", "19")]).await;
    door.shut();
    let empty = ApiServer::in_memory();
    let writer = direct(&empty);
    door.open(empty);
    set(&writer, "b", "1").await;
    follower.until(&[("b", "1")]).await;
}

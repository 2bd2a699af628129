//! The program from outside: who is let in, what a restart keeps, and what SIGKILL under load does not lose.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;
use support::Program;

/// How often the server is killed; `make test-kill` asks for a thousand.
fn rounds() -> u64 {
    let asked = std::env::var("CARACAL_KILLS")
        .ok()
        .and_then(|text| text.parse().ok());
    asked.unwrap_or(20)
}

const WRITERS: usize = 6;

async fn config(program: &Program) -> kube::Config {
    let kubeconfig = Kubeconfig::read_from(&program.kubeconfig).unwrap();
    kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap()
}

async fn client(program: &Program) -> kube::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    kube::Client::try_from(config(program).await).unwrap()
}

#[tokio::test]
async fn only_who_has_the_token_is_let_in_and_sigterm_ends_it() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path(), &["--memory"]);
    let namespaces: Api<Namespace> = Api::all(client(&program).await);
    assert_eq!(
        namespaces.list(&ListParams::default()).await.unwrap().items.len(),
        4
    );
    for token in [None, Some("wrong")] {
        let mut config = config(&program).await;
        config.auth_info.token = token.map(|token| token.to_owned().into());
        let namespaces: Api<Namespace> = Api::all(kube::Client::try_from(config).unwrap());
        let error = namespaces.list(&ListParams::default()).await.err();
        assert!(
            matches!(&error, Some(kube::Error::Api(status)) if status.code == 401 && status.reason == "Unauthorized"),
            "{error:?}"
        );
    }
    assert!(program.terminate());
}

/// Writes a counter for as long as the server answers; what was acknowledged is noted.
async fn write(
    client: kube::Client,
    name: String,
    round: u64,
    acknowledged: Arc<Mutex<HashMap<String, u64>>>,
) {
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    for step in 1.. {
        let value = round * 1_000_000 + step;
        let data = json!({"metadata": {"name": name}, "data": {"value": value.to_string()}});
        let known = acknowledged.lock().unwrap().contains_key(&name);
        let result = if known {
            maps.patch(&name, &PatchParams::default(), &Patch::Merge(data))
                .await
        } else {
            let map = serde_json::from_value(data).unwrap();
            match maps.create(&PostParams::default(), &map).await {
                // Stored in the last round, but the answer did not get through.
                Err(kube::Error::Api(status)) if status.code == 409 => maps.get(&name).await,
                other => other,
            }
        };
        let Ok(stored) = result else { return };
        let stored = stored.data.unwrap()["value"].parse().unwrap();
        acknowledged.lock().unwrap().insert(name.clone(), stored);
    }
}

/// How many writes of a round were acknowledged.
fn written_in(acknowledged: &Mutex<HashMap<String, u64>>, round: u64) -> u64 {
    let values = acknowledged.lock().unwrap();
    let of_round = values.values().filter(|value| **value / 1_000_000 == round);
    of_round.map(|value| value % 1_000_000).sum()
}

/// Deletes the objects of earlier rounds, and checks after one more kill that they are gone.
async fn tidy(
    directory: &std::path::Path,
    arguments: &[&str],
    acknowledged: &Mutex<HashMap<String, u64>>,
    round: u64,
) {
    let old: Vec<String> = acknowledged
        .lock()
        .unwrap()
        .keys()
        .filter(|name| name.contains('-'))
        .cloned()
        .collect();
    {
        let mut program = Program::start(directory, arguments);
        let maps: Api<ConfigMap> = Api::default_namespaced(client(&program).await);
        for name in &old {
            maps.delete(name, &kube::api::DeleteParams::default())
                .await
                .unwrap();
            acknowledged.lock().unwrap().remove(name);
        }
        program.kill();
    }
    let program = Program::start(directory, arguments);
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&program).await);
    for map in maps.list(&ListParams::default()).await.unwrap().items {
        let name = map.metadata.name.unwrap();
        assert!(!old.contains(&name), "round {round}: {name} is back");
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_sigkill() {
    let rounds = rounds();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let arguments = ["--data", data.to_str().unwrap()];
    let acknowledged = Arc::new(Mutex::new(HashMap::new()));
    let (mut revision, mut total) = (0, 0);
    for round in 0..=rounds {
        let mut program = Program::start(directory.path(), &arguments);
        let client = client(&program).await;
        let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
        let listed = maps.list(&ListParams::default()).await.unwrap();
        let now: u64 = listed.metadata.resource_version.unwrap().parse().unwrap();
        assert!(now >= revision, "the revision went from {revision} to {now}");
        let found: HashMap<String, u64> = listed
            .items
            .into_iter()
            .map(|map| {
                (
                    map.metadata.name.unwrap(),
                    map.data.unwrap()["value"].parse().unwrap(),
                )
            })
            .collect();
        for (name, value) in acknowledged.lock().unwrap().iter() {
            let stored = found.get(name);
            assert!(
                stored >= Some(value),
                "round {round}: {name} was {value} and is {stored:?}"
            );
        }
        if round == rounds {
            break;
        }
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                // Half of them write new objects in each round.
                let name = if writer % 2 == 0 {
                    format!("w{writer}")
                } else {
                    format!("w{writer}-{round}")
                };
                tokio::spawn(write(client.clone(), name, round, Arc::clone(&acknowledged)))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(40 + round * 17 % 160)).await;
        program.kill();
        for writer in writers {
            tokio::time::timeout(Duration::from_secs(20), writer)
                .await
                .unwrap()
                .unwrap();
        }
        total += written_in(&acknowledged, round);
        if round % 100 == 99 {
            eprintln!("{} kills of {rounds}, {total} acknowledged writes", round + 1);
        }
        // What half of the writers leave behind does not pile up over a thousand rounds.
        if round % 16 == 15 {
            tidy(directory.path(), &arguments, &acknowledged, round).await;
        }
        revision = now;
    }
    assert!(total > rounds, "only {total} writes were acknowledged");
    eprintln!("{rounds} kills under load, {total} acknowledged writes, none lost");
}

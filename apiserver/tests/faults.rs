//! Faults around the program: a full disk, expired and wrong tokens, a wrong name, damaged stores, backups.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use support::Program;

async fn config(kubeconfig: &Path) -> kube::Config {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap()
}

async fn client(program: &Program) -> kube::Client {
    kube::Client::try_from(config(&program.kubeconfig).await).unwrap()
}

fn map(name: &str, size: usize) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"k": "x".repeat(size)}})).unwrap()
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_caracal-apiserver"))
        .args(arguments)
        .output()
        .unwrap()
}

#[tokio::test]
async fn a_full_disk_refuses_writes_loses_nothing_and_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let disk = directory.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let Some(program) = Program::start_on_disk(directory.path(), &disk, "6m") else {
        // Mounting needs root, which `make test` has; said loudly, because nothing was tested.
        eprintln!("SKIPPED: a file system of limited size cannot be mounted without root");
        return;
    };
    // Inside of the program's mounts; a file there takes space away and gives it back.
    let inside = |name: &str| format!("/proc/{}/root{}/{name}", program.id(), disk.display());
    std::fs::write(inside("ballast"), vec![1; 1 << 20]).unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&program).await);
    let mut acknowledged = Vec::new();
    let mut refusals = 0;
    for number in 0..200 {
        let name = format!("m{number}");
        match maps.create(&PostParams::default(), &map(&name, 50_000)).await {
            Ok(_) => acknowledged.push(name),
            Err(kube::Error::Api(status)) => {
                assert_eq!(
                    (status.code, status.reason.as_str()),
                    (507, "InsufficientStorage"),
                    "{status:?}"
                );
                assert!(
                    status.message.contains("nothing that was acknowledged is lost"),
                    "{status:?}"
                );
                refusals += 1;
                if refusals == 3 {
                    break;
                }
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(
        refusals == 3 && acknowledged.len() > 5,
        "{refusals} {}",
        acknowledged.len()
    );
    // Reading goes on.
    let listed = maps.list(&ListParams::default()).await.unwrap().items.len();
    assert_eq!(listed, acknowledged.len());
    std::fs::remove_file(inside("ballast")).unwrap();
    maps.create(&PostParams::default(), &map("after", 1000))
        .await
        .unwrap();
    acknowledged.push("after".to_owned());
    // What was refused is not there, also not after a start from the file.
    let copy = directory.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    let source = inside("data/state.redb");
    drop(maps);
    program.kill_but_keep(|| std::fs::copy(&source, copy.join("state.redb")).unwrap());
    let program = Program::start(directory.path(), &["--data", copy.to_str().unwrap()]);
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&program).await);
    let mut found: Vec<String> = maps
        .list(&ListParams::default())
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|map| map.metadata.name.unwrap())
        .collect();
    found.sort();
    acknowledged.sort();
    assert_eq!(found, acknowledged);
}

async fn token(program: &Program, seconds: i64) -> Result<String, kube::Error> {
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client(program).await);
    let request =
        serde_json::from_value(json!({"spec": {"audiences": [], "expirationSeconds": seconds}})).unwrap();
    let answer = accounts
        .create_token_request("default", &PostParams::default(), &request)
        .await?;
    Ok(answer.status.unwrap().token)
}

async fn who(program: &Program, token: &str) -> Result<Value, kube::Error> {
    let mut config = config(&program.kubeconfig).await;
    config.auth_info.token = Some(token.to_owned().into());
    let client = kube::Client::try_from(config).unwrap();
    let body = json!({"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"});
    let request = http::Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header("content-type", "application/json")
        .body(body.to_string().into_bytes())
        .unwrap();
    client.request(request).await
}

#[tokio::test]
async fn tokens_of_accounts_work_as_long_as_they_are_good() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path(), &["--memory"]);
    let good = token(&program, 3600).await.unwrap();
    let me = who(&program, &good).await.unwrap();
    assert_eq!(
        me["status"]["userInfo"]["username"],
        "system:serviceaccount:default:default"
    );
    let error = token(&program, 10).await.err();
    assert!(
        matches!(&error, Some(kube::Error::Api(status)) if status.code == 422 && status.message.contains("less than 10 minutes")),
        "{error:?}"
    );
    let swapped = format!("{}x", good.get(..good.len() - 1).unwrap());
    for wrong in ["", "a.b.c", &swapped] {
        let error = who(&program, wrong).await.err();
        assert!(
            matches!(&error, Some(kube::Error::Api(status)) if status.code == 401 && status.reason == "Unauthorized"),
            "{error:?}"
        );
    }
    // The account goes, and its tokens with it.
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client(&program).await);
    accounts
        .delete("default", &kube::api::DeleteParams::default())
        .await
        .unwrap();
    let error = who(&program, &good).await.err();
    assert!(
        matches!(&error, Some(kube::Error::Api(status)) if status.code == 401),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_with_another_name_or_authority_is_not_talked_to() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path(), &["--memory"]);
    let mut other = config(&program.kubeconfig).await;
    other.tls_server_name = Some("api.elsewhere.example".to_owned());
    let maps: Api<ConfigMap> = Api::default_namespaced(kube::Client::try_from(other).unwrap());
    let error = format!("{:?}", maps.list(&ListParams::default()).await.err().unwrap());
    assert!(error.contains("NotValidForName"), "{error}");
    let second = tempfile::tempdir().unwrap();
    let stranger = Program::start(second.path(), &["--memory"]);
    let mut other = config(&program.kubeconfig).await;
    other.root_cert = config(&stranger.kubeconfig).await.root_cert;
    let maps: Api<ConfigMap> = Api::default_namespaced(kube::Client::try_from(other).unwrap());
    let error = format!("{:?}", maps.list(&ListParams::default()).await.err().unwrap());
    assert!(
        error.contains("InvalidCertificate") || error.contains("UnknownIssuer"),
        "{error}"
    );
}

#[tokio::test]
async fn a_running_server_is_backed_up_and_restored_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (data, file, restored) = (at("data"), at("backup.jsonl"), at("restored"));
    let program = Program::start(directory.path(), &["--data", &data]);
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&program).await);
    maps.create(&PostParams::default(), &map("one", 10))
        .await
        .unwrap();
    // While somebody writes, too.
    let writer = tokio::spawn({
        let maps = maps.clone();
        async move {
            for step in 0.. {
                let patch = Patch::Merge(json!({"data": {"step": step.to_string()}}));
                if maps.patch("one", &PatchParams::default(), &patch).await.is_err() {
                    return;
                }
            }
        }
    });
    let output = tokio::task::spawn_blocking({
        let (data, file) = (data.clone(), file.clone());
        move || run(&["backup", &file, "--data", &data])
    })
    .await
    .unwrap();
    assert!(output.status.success(), "{output:?}");
    writer.abort();
    let output = run(&["restore", &file, "--data", &data]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && text.contains("there is a store already"),
        "{text}"
    );
    assert!(program.terminate());
    let output = run(&["restore", &file, "--data", &restored]);
    assert!(output.status.success(), "{output:?}");
    let program = Program::start(directory.path(), &["--data", &restored]);
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&program).await);
    assert!(maps.get("one").await.is_ok());
    assert!(program.terminate());
    // A directory that no server uses.
    let output = run(&["backup", &at("second.jsonl"), "--data", &restored]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_damaged_store_is_named_and_stays() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let arguments = ["--data", data.to_str().unwrap()];
    drop(Program::start(directory.path(), &arguments));
    let store = data.join("state.redb");
    let whole = std::fs::read(&store).unwrap();
    std::fs::write(&store, &whole[..whole.len() / 3]).unwrap();
    let begin = Instant::now();
    let output = run(&["--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()]);
    assert!(begin.elapsed() < Duration::from_secs(60));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(
        text.contains("state.redb is damaged") && text.contains("restore a backup"),
        "{text}"
    );
    assert!(
        std::fs::read(&store).unwrap() == whole[..whole.len() / 3],
        "it was changed"
    );
}

//! Denied packets are told with the policy that denied them, as the kernel met them.

use std::time::Duration;

use caracal_felix::denials::stream::{Stream, serve};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::UnixStream;

use crate::agent::{Cluster, beside, eventually};
use crate::machine::{Server, connects, in_node, plug, run};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn who_denied_a_packet_is_told_and_what_passes_is_not() {
    in_node(|| async {
        let cluster = Cluster::new().await;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("denials.sock");
        let stream = Stream::default();
        let _serving = serve(&path, stream.clone()).await.unwrap();
        let parameter = ("FlowLogsLocalReporter".to_owned(), "Enabled".to_owned());
        let agent = cluster.agent_with([parameter]).await.reporting(stream);
        let web = plug("shop", "web", "10.65.0.2").await;
        let client = plug("shop", "client", "10.65.0.3").await;
        let _listening = Server::start(&web, 80);
        let test = async {
            cluster.pod("web", "10.65.0.2").await;
            cluster.pod("client", "10.65.0.3").await;
            cluster
                .create::<NetworkPolicy>(json!({
                    "metadata": {"name": "web", "namespace": "shop"},
                    "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [
                        {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": 80}]}]},
                }))
                .await;
            let is_denied = || {
                !run(
                    &client.netns,
                    "timeout 1 bash -c 'echo > /dev/tcp/10.65.0.2/81' 2>&1 || echo no",
                )
                .contains("refused")
            };
            eventually("port 80 opens", SOON, || connects(&client, &web, 80)).await;
            eventually("port 81 is denied", SOON, is_denied).await;
            let mut lines = BufReader::new(UnixStream::connect(&path).await.unwrap()).lines();
            let line = tokio::time::timeout(SOON, lines.next_line())
                .await
                .unwrap()
                .unwrap()
                .unwrap();
            let record: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(
                record["policies"],
                json!(["KubernetesNetworkPolicy shop/web"]),
                "{line}"
            );
            assert_eq!(
                (&record["tier"], &record["prefix"]),
                (&json!("default"), &json!("DPI|default"))
            );
            assert_eq!(record["source"]["endpoint"], "shop/client");
            assert_eq!(
                record["destination"],
                json!({"address": "10.65.0.2", "port": 81, "endpoint": "shop/web"})
            );
            assert!(record["count"].as_u64() > Some(0) && record["direction"] == "ingress");
            // What passes is not told of.
            assert!(connects(&client, &web, 80));
            let next = tokio::time::timeout(Duration::from_secs(3), lines.next_line()).await;
            if let Ok(line) = next {
                let record: Value = serde_json::from_str(&line.unwrap().unwrap()).unwrap();
                assert_eq!(record["destination"]["port"], 81, "{record}");
            }
        };
        beside(agent, Box::pin(test)).await;
    });
}

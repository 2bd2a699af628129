//! Automatic host endpoints, turned on and off, with nodes that change and go.

use caracal_api::v3::{HostEndpoint, KubeControllersConfiguration};
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::cluster::{Cluster, until};

#[tokio::test]
async fn they_follow_the_settings_and_the_nodes() {
    let cluster = Cluster::new();
    let address = json!({"projectcalico.org/IPv4Address": "172.16.0.1/24"});
    cluster
        .node("node-1", json!({"labels": {"rack": "a"}, "annotations": address}))
        .await;
    cluster
        .make::<HostEndpoint>(
            json!({"metadata": {"name": "mine"}, "spec": {"node": "node-1", "interfaceName": "eth0"}}),
        )
        .await;
    let process = cluster.start("one");
    let configure = async |auto: &str| {
        until("the configuration", async || {
            cluster.get::<KubeControllersConfiguration>("default").await
        })
        .await;
        let spec = json!({"spec": {"controllers": {"node": {"hostEndpoint": {"autoCreate": auto}}}}});
        cluster
            .client
            .patch_merge::<KubeControllersConfiguration>(None, "default", &spec)
            .await
            .unwrap();
    };
    configure("Enabled").await;
    let made: HostEndpoint = until("the endpoint", async || cluster.get("node-1-auto-hep").await).await;
    assert_eq!(made.spec.expected_ips, ["172.16.0.1"]);
    cluster
        .client
        .patch_merge::<Node>(None, "node-1", &json!({"metadata": {"labels": {"rack": "b"}}}))
        .await
        .unwrap();
    until("the new label", async || {
        let endpoint: HostEndpoint = cluster.get("node-1-auto-hep").await?;
        (endpoint.metadata.labels?.get("rack")? == "b").then_some(())
    })
    .await;
    cluster.delete::<HostEndpoint>(None, "node-1-auto-hep").await;
    until("it comes back", async || {
        cluster.get::<HostEndpoint>("node-1-auto-hep").await
    })
    .await;
    cluster.node("node-2", json!({})).await;
    until("the other node's", async || {
        cluster.get::<HostEndpoint>("node-2-auto-hep").await
    })
    .await;
    cluster.delete::<Node>(None, "node-2").await;
    until("it goes with its node", async || {
        cluster
            .get::<HostEndpoint>("node-2-auto-hep")
            .await
            .is_none()
            .then_some(())
    })
    .await;
    configure("Disabled").await;
    until("none is left", async || {
        cluster
            .get::<HostEndpoint>("node-1-auto-hep")
            .await
            .is_none()
            .then_some(())
    })
    .await;
    assert!(cluster.get::<HostEndpoint>("mine").await.is_some());
    process.stop().await;
}

//! What felix waits for before it programs anything, and what it follows on the host itself.

use std::time::Duration;

use caracal_api::v3::{ClusterInformation, HostEndpoint};
use serde_json::json;

use crate::agent::{Cluster, beside, eventually};
use crate::machine::{in_node, text};

const SOON: Duration = Duration::from_secs(20);

fn has_chain(name: &str) -> bool {
    text("iptables-save").contains(&format!(":{name} "))
}

#[test]
fn a_host_endpoint_is_found_by_its_address_also_when_that_comes_later() {
    in_node(|| async {
        let cluster = Cluster::new().await;
        let agent = cluster.agent().await;
        let test = async {
            for (name, address) in [("here", "172.30.0.11"), ("later", "172.30.1.11")] {
                cluster
                    .create::<HostEndpoint>(json!({
                        "metadata": {"name": name}, "spec": {"node": "node-1", "expectedIPs": [address]}}))
                    .await;
            }
            eventually("the host endpoint of up0", SOON, || has_chain("cali-fh-up0")).await;
            assert!(!has_chain("cali-fh-up1"));
            text("ip link add up1 type bridge; ip link set up1 up; ip addr add 172.30.1.11/24 dev up1");
            eventually("the host endpoint of up1", SOON, || has_chain("cali-fh-up1")).await;
            text("ip addr del 172.30.1.11/24 dev up1");
            eventually("up1 has none any more", SOON, || !has_chain("cali-fh-up1")).await;
            assert!(has_chain("cali-fh-up0"));
        };
        beside(agent, Box::pin(test)).await;
    });
}

#[test]
fn nothing_is_programmed_while_the_data_must_not_be_used() {
    in_node(|| async {
        let cluster = Cluster::new().await;
        let locked = json!({"metadata": {"name": "default"}, "spec": {"datastoreReady": false}});
        cluster.create::<ClusterInformation>(locked).await;
        let agent = cluster.agent().await;
        let test = async {
            cluster.pod("web", "10.65.0.2").await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert!(!has_chain("cali-FORWARD"));
            let unlocked = json!({"spec": {"datastoreReady": true}});
            cluster
                .client
                .patch_merge::<ClusterInformation>(None, "default", &unlocked)
                .await
                .unwrap();
            eventually("rules after the data may be used", SOON, || {
                has_chain("cali-FORWARD")
            })
            .await;
        };
        beside(agent, Box::pin(test)).await;
    });
}

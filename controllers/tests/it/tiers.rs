//! Tiers over their life.

use caracal_api::v3::{ClusterInformation, NetworkPolicy, Tier};
use serde_json::json;
use std::time::Duration;

use crate::cluster::{Cluster, stays, until};

#[tokio::test]
async fn default_tiers_are_made_and_a_tier_waits_for_its_policies() {
    let cluster = Cluster::new();
    let process = cluster.start("one");
    for name in ["default", "kube-admin", "kube-baseline"] {
        until("a default tier", async || {
            let tier: Tier = cluster.get(name).await?;
            let ready = tier
                .status
                .as_ref()?
                .conditions
                .iter()
                .any(|one| one.status == "True");
            (ready && tier.metadata.finalizers.is_some()).then_some(())
        })
        .await;
    }
    let information: ClusterInformation =
        until("ClusterInformation", async || cluster.get("default").await).await;
    assert_eq!(information.spec.cluster_guid.len(), 32);

    cluster
        .make::<Tier>(json!({"metadata": {"name": "mine"}, "spec": {"order": 10}}))
        .await;
    cluster
        .make::<NetworkPolicy>(json!({
            "metadata": {"name": "p", "namespace": "default"}, "spec": {"tier": "mine", "selector": "all()"},
        }))
        .await;
    until("the finalizer", async || {
        cluster.get::<Tier>("mine").await?.metadata.finalizers.map(drop)
    })
    .await;
    cluster.delete::<Tier>(None, "mine").await;
    until("the reason", async || {
        let tier: Tier = cluster.get("mine").await?;
        let conditions = tier.status?.conditions;
        conditions
            .iter()
            .any(|one| one.reason == "Terminating" && one.message.contains("default/p"))
            .then_some(())
    })
    .await;
    stays("the tier", Duration::from_millis(300), async || {
        cluster.get::<Tier>("mine").await.is_some()
    })
    .await;
    cluster.delete::<NetworkPolicy>(Some("default"), "p").await;
    until("the end of the tier", async || {
        cluster.get::<Tier>("mine").await.is_none().then_some(())
    })
    .await;
    process.stop().await;
}

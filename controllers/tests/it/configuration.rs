//! The KubeControllersConfiguration over its life.

use caracal_api::v3::KubeControllersConfiguration;
use serde_json::json;

use crate::cluster::{Cluster, start_over, until};

#[tokio::test]
async fn it_is_made_and_its_status_follows_spec_and_environment() {
    let cluster = Cluster::new();
    let process = start_over(cluster.client.clone(), "one", &[("RECONCILER_PERIOD", "2m")]);
    let running = async |field: &'static str| {
        let stored: KubeControllersConfiguration = cluster.get("default").await?;
        let status = serde_json::to_value(stored.status?).unwrap();
        Some(status.pointer(field)?.clone())
    };
    let period = "/runningConfig/controllers/node/reconcilerPeriod";
    until("the status", async || {
        (running(period).await? == "2m0s").then_some(())
    })
    .await;
    assert_eq!(running("/environmentVars/RECONCILER_PERIOD").await.unwrap(), "2m");
    cluster
        .client
        .patch_merge::<KubeControllersConfiguration>(
            None,
            "default",
            &json!({"spec": {"logSeverityScreen": "Debug"}}),
        )
        .await
        .unwrap();
    until("the new status", async || {
        (running("/runningConfig/logSeverityScreen").await? == "Debug").then_some(())
    })
    .await;
    process.stop().await;
}

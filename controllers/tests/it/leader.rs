//! Two processes, one leader.

use std::time::Duration;

use caracal_api::v3::{IPPool, Tier};
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::json;

use crate::cluster::{Cluster, TIMES, stays, until};

async fn holder(cluster: &Cluster) -> Option<String> {
    let lease: Option<Lease> = cluster
        .client
        .get(Some("kube-system"), "caracal-controllers")
        .await
        .unwrap();
    lease?.spec?.holder_identity.filter(|holder| !holder.is_empty())
}

async fn led_by(cluster: &Cluster, who: &str) {
    until(&format!("{who} leads"), async || {
        (holder(cluster).await? == who).then_some(())
    })
    .await;
}

/// A pool is made, and gets its condition: somebody acts.
async fn somebody_acts(cluster: &Cluster, number: u8) {
    let name = format!("p{number}");
    let spec = json!({"cidr": format!("10.{number}.0.0/16")});
    cluster
        .make::<IPPool>(json!({"metadata": {"name": name}, "spec": spec}))
        .await;
    until("somebody acts", async || {
        cluster.get::<IPPool>(&name).await?.status.map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_leader_that_is_told_to_end_hands_over_at_once() {
    let cluster = Cluster::new();
    let one = cluster.start("one");
    led_by(&cluster, "one").await;
    let two = cluster.start("two");
    somebody_acts(&cluster, 1).await;
    one.stop().await;
    assert_ne!(
        holder(&cluster).await.as_deref(),
        Some("one"),
        "it gave the Lease up"
    );
    led_by(&cluster, "two").await;
    somebody_acts(&cluster, 2).await;
    two.stop().await;
    assert_eq!(holder(&cluster).await, None);
}

#[tokio::test]
async fn a_killed_leader_is_replaced_when_its_lease_has_run_out_and_not_before() {
    let cluster = Cluster::new();
    let one = cluster.start("one");
    led_by(&cluster, "one").await;
    let two = cluster.start("two");
    somebody_acts(&cluster, 1).await;
    one.kill().await;
    cluster
        .make::<IPPool>(json!({"metadata": {"name": "p2"}, "spec": {"cidr": "10.2.0.0/16"}}))
        .await;
    // The other must not act before nobody can believe that the first one still may.
    let certain = TIMES.renew_deadline - TIMES.retry_period * 2;
    stays("the dead leader's Lease", certain, async || {
        let stored: IPPool = cluster.get("p2").await.unwrap();
        holder(&cluster).await.as_deref() == Some("one") && stored.status.is_none()
    })
    .await;
    led_by(&cluster, "two").await;
    until("the new leader acts", async || {
        cluster.get::<IPPool>("p2").await?.status.map(drop)
    })
    .await;
    two.stop().await;
}

#[tokio::test]
async fn a_leader_whose_lease_was_taken_stops_acting() {
    let cluster = Cluster::new();
    let one = cluster.start("one");
    led_by(&cluster, "one").await;
    until("it acts", async || cluster.get::<Tier>("default").await).await;
    // Somebody takes the Lease by force, as an administrator or a confused program might.
    let stolen =
        json!({"spec": {"holderIdentity": "thief", "leaseDurationSeconds": 3600, "leaseTransitions": 9}});
    cluster
        .client
        .patch_merge::<Lease>(Some("kube-system"), "caracal-controllers", &stolen)
        .await
        .unwrap();
    tokio::time::sleep(TIMES.renew_deadline + Duration::from_millis(500)).await;
    cluster
        .make::<IPPool>(json!({"metadata": {"name": "p"}, "spec": {"cidr": "10.0.0.0/16"}}))
        .await;
    stays("nobody acts", Duration::from_secs(1), async || {
        cluster.get::<IPPool>("p").await.unwrap().status.is_none()
    })
    .await;
    one.stop().await;
    assert_eq!(
        holder(&cluster).await.as_deref(),
        Some("thief"),
        "not ours to give up"
    );
}

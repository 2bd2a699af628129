//! Policies that an older version stored are renamed.

use caracal_api::v3::NetworkPolicy;
use serde_json::json;

use crate::cluster::{Cluster, until};

#[tokio::test]
async fn an_old_name_is_replaced_and_the_rules_stay() {
    let cluster = Cluster::new();
    let policy = |name: &str, own: Option<&str>| {
        let annotations =
            own.map(|own| json!({"projectcalico.org/metadata": json!({"name": own}).to_string()}));
        json!({
            "metadata": {"name": name, "namespace": "default", "annotations": annotations},
            "spec": {"selector": "a == 'b'", "ingress": [{"action": "Allow"}]},
        })
    };
    cluster
        .make::<NetworkPolicy>(policy("default.web", Some("web")))
        .await;
    cluster.make::<NetworkPolicy>(policy("default.mine", None)).await;
    let process = cluster.start("one");
    let get = async |name: &str| {
        cluster
            .client
            .get::<NetworkPolicy>(Some("default"), name)
            .await
            .unwrap()
    };
    let new = until("the new name", async || get("web").await).await;
    assert_eq!(new.spec.selector, "a == 'b'");
    until("the end of the old name", async || {
        get("default.web").await.is_none().then_some(())
    })
    .await;
    assert!(get("default.mine").await.is_some());
    process.stop().await;
}

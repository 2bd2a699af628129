//! What must exist before anything else works: the ClusterInformation and the default tiers.
//!
//! Source of the values: `libcalico-go/lib/clientv3/client.go` (EnsureInitialized). Every node and controller calls
//! this at its start; calls that run together end in the same state.

use caracal_api::meta::{
    TIER_DEFAULT, TIER_DEFAULT_ORDER, TIER_KUBE_ADMIN, TIER_KUBE_ADMIN_ORDER, TIER_KUBE_BASELINE,
    TIER_KUBE_BASELINE_ORDER,
};
use caracal_api::v3::{Action, ClusterInformation, ClusterInformationSpec, Tier, TierSpec};

use crate::client::Client;
use crate::error::Result;

/// The Calico whose formats and behaviour are followed: calicoctl compares it with its own version before it works.
const CALICO_VERSION: &str = "v3.32.1";

/// Name of the one ClusterInformation.
pub const CLUSTER_INFORMATION: &str = "default";
/// What the cluster type says of a datastore in the Kubernetes API.
const CLUSTER_TYPE_KDD: &str = "kdd";
/// Attempts against others who change the object at the same time.
const ATTEMPTS_MAX: usize = 10;

/// Makes the ClusterInformation (with a new GUID, and the datastore ready) and the default tiers, where they are
/// missing. Existing values are kept: a datastore that was locked on purpose stays locked.
///
/// # Errors
///
/// Any failed request, except that a user without the right to make tiers leaves them to others.
pub async fn ensure_defaults(client: &Client) -> Result<()> {
    ensure_cluster_information(client).await?;
    for (name, order, action) in [
        (TIER_DEFAULT, TIER_DEFAULT_ORDER, Action::Deny),
        (TIER_KUBE_ADMIN, TIER_KUBE_ADMIN_ORDER, Action::Pass),
        (TIER_KUBE_BASELINE, TIER_KUBE_BASELINE_ORDER, Action::Pass),
    ] {
        ensure_tier(client, name, order, action).await?;
    }
    Ok(())
}

async fn ensure_cluster_information(client: &Client) -> Result<()> {
    let mut attempt = 0;
    loop {
        let existing: Option<ClusterInformation> = client.get(None, CLUSTER_INFORMATION).await?;
        let result = match existing {
            None => {
                let spec = completed(&ClusterInformationSpec::default());
                client
                    .create(&ClusterInformation::new(CLUSTER_INFORMATION, spec))
                    .await
            }
            Some(mut object) => {
                let spec = completed(&object.spec);
                if spec == object.spec {
                    return Ok(());
                }
                object.spec = spec;
                client.update(&object).await
            }
        };
        match result {
            Ok(_) => return Ok(()),
            Err(error) if (error.is_conflict() || error.is_already_exists()) && attempt < ATTEMPTS_MAX => {
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The facts with what is missing filled in.
fn completed(spec: &ClusterInformationSpec) -> ClusterInformationSpec {
    let mut spec = spec.clone();
    if spec.cluster_guid.is_empty() {
        spec.cluster_guid = uuid::Uuid::new_v4().simple().to_string();
    }
    if !spec.cluster_type.split(',').any(|part| part == CLUSTER_TYPE_KDD) {
        if spec.cluster_type.is_empty() {
            "k8s".clone_into(&mut spec.cluster_type);
        }
        spec.cluster_type.push(',');
        spec.cluster_type.push_str(CLUSTER_TYPE_KDD);
    }
    if spec.calico_version.is_empty() {
        CALICO_VERSION.clone_into(&mut spec.calico_version);
    }
    spec.datastore_ready.get_or_insert(true);
    spec
}

async fn ensure_tier(client: &Client, name: &str, order: f64, action: Action) -> Result<()> {
    let existing: Option<Tier> = client.get(None, name).await?;
    if existing.is_some() {
        return Ok(());
    }
    let spec = TierSpec {
        order: Some(order),
        default_action: Some(action),
    };
    match client.create(&Tier::new(name, spec)).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_already_exists() => Ok(()),
        Err(error) if error.is_forbidden() => {
            tracing::warn!(error = %error, "default tier is missing and may not be made by this user");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_facts_are_filled_in_and_existing_ones_kept() {
        let new = completed(&ClusterInformationSpec::default());
        assert_eq!(new.cluster_guid.len(), 32);
        assert_eq!(new.cluster_type, "k8s,kdd");
        assert_eq!(new.datastore_ready, Some(true));
        assert_eq!(new.calico_version, "v3.32.1");
        assert_eq!(completed(&new), new, "nothing to do a second time");
        let locked = ClusterInformationSpec {
            datastore_ready: Some(false),
            cluster_type: "k8s,bgp".to_owned(),
            ..new.clone()
        };
        let kept = completed(&locked);
        assert_eq!(kept.datastore_ready, Some(false));
        assert_eq!(kept.cluster_type, "k8s,bgp,kdd");
        assert_eq!(kept.cluster_guid, new.cluster_guid);
    }
}

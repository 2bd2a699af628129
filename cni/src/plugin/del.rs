//! DEL: the Pod's annotations, the interface, the addresses. What is gone already is success.
//!
//! The address goes last, and only when nothing uses it any more: a failed DEL is repeated by the runtime.

use caracal_datastore::Client;

use super::{connect, ipam_conf};
use crate::conf::Conf;
use crate::delegate::{Changes, Delegate};
use crate::endpoint::Endpoint;
use crate::error::{Code, Error, Result};
use crate::pod;
use crate::skel::{Call, Command};
use crate::turn::Turn;
use crate::veth;

pub(super) async fn del(call: &Call) -> Result<()> {
    let endpoint = Endpoint::of(call)?;
    let _turn = Turn::take(&endpoint.host_interface).await?;
    if let Some(store) = call.cluster.set_aside() {
        store.write_no_more(&call.container_id);
    }
    let open = match open(call).await {
        Err(Refused::Closed(error)) => return Err(error),
        open => open,
    };
    // The kernel and the API server work at the same time.
    let recorded = async {
        match open {
            Ok(client) => forget(call, &endpoint, client.as_ref()).await,
            Err(refused) => Err(refused.into_error()),
        }
    };
    let (recorded, removed) = futures::join!(recorded, remove_container_end(call));
    let removed = match (removed, &recorded) {
        // A process may keep a namespace whose path is gone; the host's end would stay for ever.
        (Ok(()), Ok(true)) => veth::remove_host_end(&endpoint.host_interface).await.map(drop),
        (removed, _) => removed,
    };
    match (recorded, removed) {
        (Ok(_), Ok(())) => release(call, &endpoint).await,
        (Err(error), Ok(())) | (Ok(_), Err(error)) => Err(error),
        (Err(refused), Err(error)) => Err(refused.hint(error)),
    }
}

/// Why nothing can be written.
enum Refused {
    /// The datastore is closed: nothing may be touched.
    Closed(Error),
    /// Anything else: the container's own interface goes nevertheless.
    Failed(Error),
}

impl Refused {
    fn into_error(self) -> Error {
        match self {
            Self::Closed(error) | Self::Failed(error) => error,
        }
    }
}

/// The way to the datastore, when it is open.
async fn open(call: &Call) -> Result<Option<Client>, Refused> {
    let client = match connect(call).await {
        Ok(Some(client)) => client,
        Ok(None) => return Ok(None),
        Err(error) => return Err(Refused::Failed(error)),
    };
    match pod::check_ready(&call.cluster, &client).await {
        Ok(()) => Ok(Some(client)),
        Err(error) if pod::is_reachable(&client).await => Err(Refused::Closed(error)),
        Err(error) => Err(Refused::Failed(error)),
    }
}

/// Takes the addresses from the Pod. True when this container (not a newer one) is the pod's.
async fn forget(call: &Call, endpoint: &Endpoint, client: Option<&Client>) -> Result<bool> {
    let (Some(client), Some((namespace, name))) = (client, &endpoint.pod) else {
        return Ok(true);
    };
    let known = call
        .cluster
        .at_hand()
        .and_then(|near| near.mirror.pod(namespace, name, None));
    pod::clear_addresses(client, namespace, name, &call.container_id, known).await
}

async fn remove_container_end(call: &Call) -> Result<()> {
    if call.netns.is_empty() {
        return Ok(());
    }
    veth::remove_container_end(call.open_netns(), &call.ifname)
        .await
        .map(drop)
}

async fn release(call: &Call, endpoint: &Endpoint) -> Result<()> {
    let conf: &Conf = &call.conf;
    if conf.ipam.kind.is_empty() {
        return Ok(());
    }
    let raw = match ipam_conf(call, &endpoint.node, |_| {}).await {
        Ok(raw) => raw,
        // The range matters to ADD only: host-local releases by container.
        Err(error) if error.code == Code::InvalidConfig => conf.raw.clone(),
        Err(error) => return Err(error),
    };
    let delegate = Delegate::find(call, raw)?;
    delegate.tell(call, Command::Del, &Changes::default()).await
}

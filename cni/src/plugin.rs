//! The plugin `calico`: one container in, out, compared.
//!
//! Keeps no state: the Pod's annotations, the address store and the kernel have it. Source: Calico's
//! `cni-plugin/pkg/plugin/plugin.go`, `cni-plugin/pkg/k8s/k8s.go`.

mod add;
mod check;
mod del;
mod gates;

use caracal_datastore::Client;
use ipnet::IpNet;
use serde_json::{Map, Value};

use crate::delegate::{Changes, Delegate};
use crate::endpoint::Endpoint;
use crate::error::{Code, Error, Result};
use crate::host_local;
use crate::pod;
use crate::result::AddResult;
use crate::skel::{Call, Command, Plugin};

/// A place in ADD where it can be stopped from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Addresses are assigned.
    Assigned,
    /// The pair is there with everything on it.
    Attached,
    /// The Pod has the addresses.
    Recorded,
}

impl Step {
    /// All, in order.
    pub const ALL: [Self; 3] = [Self::Assigned, Self::Attached, Self::Recorded];
}

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct Calico {
    /// Called after each step; an error ends ADD there. Production lets everything pass.
    pub after: fn(Step) -> Result<()>,
}

impl Default for Calico {
    fn default() -> Self {
        Self { after: |_| Ok(()) }
    }
}

impl Plugin for Calico {
    const NAME: &'static str = "calico";

    async fn add(&self, call: &Call) -> Result<AddResult> {
        add::add(self, call).await
    }

    async fn del(&self, call: &Call) -> Result<()> {
        del::del(call).await
    }

    async fn check(&self, call: &Call) -> Result<()> {
        check::check(call).await
    }

    async fn gc(&self, call: &Call) -> Result<()> {
        let delegate = Delegate::find(call, call.conf.raw.clone())?;
        delegate.tell(call, Command::Gc, &Changes::default()).await
    }

    async fn status(&self, call: &Call) -> Result<()> {
        let endpoint = Endpoint::of(call);
        let ready = async {
            endpoint?;
            if let Some(client) = connect(call).await? {
                pod::check_ready(&call.cluster, &client).await?;
            }
            let delegate = Delegate::find(call, call.conf.raw.clone())?;
            if call.conf.is_calico_ipam() {
                delegate.tell(call, Command::Status, &Changes::default()).await?;
            }
            Ok(())
        };
        ready.await.map_err(|error: Error| Error {
            code: Code::NotAvailable,
            ..error
        })
    }
}

/// A connection, where one is needed: for pods, and where addresses are in the datastore.
async fn connect(call: &Call) -> Result<Option<Client>> {
    if call.args.pod().is_none() && !call.conf.is_calico_ipam() {
        return Ok(None);
    }
    call.cluster.client(&call.conf, Calico::NAME).await.map(Some)
}

/// The configuration that the address plugin gets: host-local's ranges may be the Node's.
async fn ipam_conf(
    call: &Call,
    node: &str,
    change: impl FnOnce(&mut Map<String, Value>),
) -> Result<Map<String, Value>> {
    let mut raw = call.conf.with_ipam(change);
    if let Some(Value::Object(ipam)) = raw.get_mut("ipam")
        && host_local::wants_pod_cidr(ipam)
    {
        let configured = call.conf.node.kubernetes_name.as_str();
        let node = if configured.is_empty() { node } else { configured };
        let client = call.cluster.client(&call.conf, Calico::NAME).await?;
        host_local::replace_pod_cidrs(&client, node, ipam).await?;
    }
    Ok(raw)
}

/// The destinations that the container reaches through the host.
fn routes(call: &Call, addresses: &[IpNet]) -> Vec<IpNet> {
    let ipam = &call.conf.ipam;
    let mut routes: Vec<IpNet> = ipam.routes.iter().map(|route| route.dst.trunc()).collect();
    if routes.is_empty() || ipam.include_default_routes {
        let defaults: [IpNet; 2] = [
            IpNet::V4(ipnet::Ipv4Net::default()),
            IpNet::V6(ipnet::Ipv6Net::default()),
        ];
        routes.extend(defaults);
    }
    let has = |v6: bool| addresses.iter().any(|net| net.addr().is_ipv6() == v6);
    routes.retain(|route| has(route.addr().is_ipv6()));
    routes.sort();
    routes.dedup();
    routes
}

//! The plugin `calico-ipam`: addresses of a container from the cluster's pools.
//!
//! Everything of one container is under one handle, so releasing needs no memory. Source: Calico's
//! `cni-plugin/pkg/ipamplugin/ipam_plugin.go`.

mod gateway;
mod gc;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use caracal_api::names;
use caracal_api::v3::{IPPool, IPPoolAllowedUse};
use caracal_datastore::Client;
use caracal_ipam::{AssignIp, AutoAssign, HostLock, Ipam, Quick};
use ipnet::IpNet;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::conf::IpamConf;
use crate::endpoint::Endpoint;
use crate::error::{Code, Error, Result, chain};
use crate::result::{AddResult, IpConfig, Route};
use crate::skel::{Call, Plugin};

/// Longest time for one call, once the host's lock is held.
const TIMEOUT: Duration = Duration::from_secs(90);

/// The container id holds addresses of another workload; nothing was changed, and nothing may be released.
pub(crate) const CONTAINER_IN_USE: Code = Code::Other(101);

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct CalicoIpam;

impl From<caracal_ipam::Error> for Error {
    fn from(error: caracal_ipam::Error) -> Self {
        let family = match &error {
            caracal_ipam::Error::Short { family, .. } => Some(*family),
            _ => None,
        };
        let text = chain(&error);
        let wrapped = if error.is_exhausted() || error.is_transient() {
            Self::new(Code::TryAgainLater, text)
        } else if let caracal_ipam::Error::Datastore(error) = error {
            return error.into();
        } else {
            Self::new(Code::Plugin, text)
        };
        match family {
            Some(family) => wrapped.context(format_args!("failed to request {family} addresses")),
            None => wrapped,
        }
    }
}

impl Plugin for CalicoIpam {
    const NAME: &'static str = "calico-ipam";

    async fn add(&self, call: &Call) -> Result<AddResult> {
        let endpoint = Endpoint::of(call)?;
        let asked = call.args.ip()?;
        let client = call.cluster.client(&call.conf, Self::NAME).await?;
        let addresses = match asked {
            Some(address) => {
                let _lock = lock(&call.conf.ipam.lock_file).await;
                within_time(Box::pin(assign(call, &endpoint, client.clone(), address))).await?
            }
            None => within_time(Box::pin(auto_assign(call, &endpoint, client.clone()))).await?,
        };
        if !gateway::is_wanted(&call.conf) {
            return Ok(result(&addresses));
        }
        let ipam = Ipam::new(client);
        let whole = Box::pin(gateway::result(&ipam, &call.conf, &endpoint.node, &addresses));
        match within_time(whole).await {
            Ok(result) => Ok(result),
            Err(error) => Err(give_back(&ipam, &own_handle(call), true, error).await),
        }
    }

    async fn del(&self, call: &Call) -> Result<()> {
        let endpoint = Endpoint::of(call)?;
        let ipam = Ipam::new(call.cluster.client(&call.conf, Self::NAME).await?);
        let own = own_handle(call);
        let older = endpoint.handle_of_workload(&call.container_id);
        if let Some(store) = call.cluster.set_aside() {
            store.give_back(&own)?;
        }
        within_time(Box::pin(async {
            let (at_hand, is_older) =
                futures::join!(call.cluster.release_at_hand(&own), ipam.has_handle(&older),);
            if at_hand && !is_older? {
                return Ok(());
            }
            let _lock = lock(&call.conf.ipam.lock_file).await;
            for handle in [own, older] {
                release(&ipam, &handle).await?;
            }
            Ok(())
        }))
        .await
    }

    async fn check(&self, call: &Call) -> Result<()> {
        let document = call.conf.prev_result.as_ref().ok_or_else(|| {
            Error::new(
                Code::InvalidConfig,
                "network configuration: prevResult is missing",
            )
            .hint("the runtime gives the result of ADD to CHECK")
        })?;
        let promised = AddResult::from_json(document, call.conf.version)?;
        let ipam = Ipam::new(call.cluster.client(&call.conf, Self::NAME).await?);
        let handle = own_handle(call);
        let aside = call.cluster.set_aside().and_then(|store| store.held(&handle));
        let held = match aside {
            Some(addresses) => addresses.iter().map(IpNet::addr).collect(),
            None => within_time(Box::pin(held_by(&ipam, &handle))).await?,
        };
        let missing: Vec<String> = promised
            .ips
            .iter()
            .map(|ip| ip.address.addr())
            .filter(|address| !held.contains(address))
            .map(|address| address.to_string())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            Code::Plugin,
            format!("handle {handle} does not hold {}", missing.join(", ")),
        )
        .hint("see `caracalctl ipam show --ip`; DEL and ADD assign anew"))
    }

    async fn gc(&self, call: &Call) -> Result<()> {
        let endpoint = Endpoint::of(call)?;
        let client = call.cluster.client(&call.conf, Self::NAME).await?;
        let _lock = lock(&call.conf.ipam.lock_file).await;
        within_time(Box::pin(gc::collect(call, &endpoint.node, client))).await
    }

    async fn status(&self, call: &Call) -> Result<()> {
        let ready = async {
            let client = call.cluster.client(&call.conf, Self::NAME).await?;
            check_pools(&call.cluster.pools(&client).await?, &call.conf.ipam)
        };
        ready.await.map_err(|error: Error| Error {
            code: Code::NotAvailable,
            ..error
        })
    }
}

/// The handle of the addresses of a call's container.
fn own_handle(call: &Call) -> String {
    names::handle_id(&call.conf.name, &call.container_id)
}

async fn within_time<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(TIMEOUT, work).await.unwrap_or_else(|_| {
        Err(Error::new(
            Code::TryAgainLater,
            format!("the datastore did not answer within {} s", TIMEOUT.as_secs()),
        ))
    })
}

/// Orders the plugins of a host: they would only conflict at the same blocks. Working without is slower, not wrong.
async fn lock(path: &Path) -> Option<HostLock> {
    match HostLock::acquire(path).await {
        Ok(lock) => Some(lock),
        Err(error) => {
            tracing::warn!(error = %error, "working without the host's lock");
            None
        }
    }
}

/// What garbage collectors and people read at an address.
fn attributes(endpoint: &Endpoint) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::from([
        ("node".to_owned(), endpoint.node.clone()),
        ("timestamp".to_owned(), timestamp(Timestamp::now())),
    ]);
    if let Some((namespace, name)) = &endpoint.pod {
        attributes.insert("namespace".to_owned(), namespace.clone());
        attributes.insert("pod".to_owned(), name.clone());
    }
    attributes
}

/// A time as Go prints it, which is what stands in every other block.
fn timestamp(time: Timestamp) -> String {
    let time = time.to_zoned(TimeZone::UTC);
    let seconds = time.strftime("%Y-%m-%d %H:%M:%S");
    let fraction = format!(".{:09}", time.subsec_nanosecond());
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!("{seconds}{fraction} +0000 UTC")
}

/// What a handle holds; nothing when there is none.
async fn held_by(ipam: &Ipam, handle: &str) -> Result<Vec<IpAddr>> {
    match ipam.ips_by_handle(handle).await {
        Ok(addresses) => Ok(addresses),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// A container id that comes twice, for two pods: the addresses belong to the first, which may be running.
async fn check_same_workload(ipam: &Ipam, endpoint: &Endpoint, handle: &str, held: &[IpAddr]) -> Result<()> {
    let Some(address) = held.first() else {
        return Ok(());
    };
    let Some(owner) = ipam.assignment_of(*address).await? else {
        return Ok(());
    };
    let of = |key: &str| owner.attributes.get(key).map(String::as_str);
    let pod = endpoint
        .pod
        .as_ref()
        .map(|(namespace, name)| (namespace.as_str(), name.as_str()));
    let theirs = of("namespace").zip(of("pod"));
    if theirs.is_none() || theirs == pod {
        return Ok(());
    }
    let (namespace, name) = theirs.unwrap_or_default();
    Err(Error::new(
        CONTAINER_IN_USE,
        format!("handle {handle} holds {address} for Pod {namespace}/{name}: the container id is in use"),
    )
    .hint("call DEL for the earlier container, or use a container id of its own for each"))
}

async fn release(ipam: &Ipam, handle: &str) -> Result<()> {
    match ipam.release_by_handle(handle).await {
        Ok(()) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn assign(call: &Call, endpoint: &Endpoint, client: Client, address: IpAddr) -> Result<Vec<IpNet>> {
    let ipam = Ipam::new(client);
    let handle = own_handle(call);
    if held_by(&ipam, &handle).await?.contains(&address) {
        return Ok(vec![IpNet::from(address)]);
    }
    let request = AssignIp {
        address,
        host: endpoint.node.clone(),
        handle: Some(handle),
        attributes: attributes(endpoint),
        use_: Some(IPPoolAllowedUse::Workload),
    };
    ipam.assign_ip(&request).await?;
    Ok(vec![IpNet::from(address)])
}

async fn auto_assign(call: &Call, endpoint: &Endpoint, client: Client) -> Result<Vec<IpNet>> {
    let conf = &call.conf.ipam;
    if !conf.assign_ipv4 && !conf.assign_ipv6 {
        return Err(Error::new(
            Code::InvalidConfig,
            "network configuration: ipam.assign_ipv4 and ipam.assign_ipv6 are both \"false\"",
        )
        .hint("write \"true\" for one of them"));
    }
    let ipam = Ipam::new(client.clone());
    let handle = own_handle(call);
    let labels = namespace_labels(call, &client, endpoint).await?;
    let mut request = AutoAssign {
        v4: usize::from(conf.assign_ipv4),
        v6: usize::from(conf.assign_ipv6),
        attributes: attributes(endpoint),
        v4_pools: conf.ipv4_pools.clone(),
        v6_pools: conf.ipv6_pools.clone(),
        namespace_labels: labels,
        ..AutoAssign::workload(&endpoint.node, &handle)
    };
    if let Some(addresses) = call.cluster.set_aside().and_then(|store| store.held(&handle)) {
        return Ok(addresses);
    }
    let away = match call.cluster.assign_at_hand(&request).await {
        Quick::Assigned(addresses) => return Ok(addresses),
        Quick::Away => true,
        Quick::LongWay => false,
    };
    if let Some(store) = call.cluster.set_aside().filter(|_| away) {
        return store.take(&request);
    }
    let _lock = lock(&conf.lock_file).await;
    let held = held_by(&ipam, &handle).await?;
    check_same_workload(&ipam, endpoint, &handle, &held).await?;
    // A call that is repeated, after success or after a kill, gets what the container has.
    let wanted = |v6: bool| if v6 { conf.assign_ipv6 } else { conf.assign_ipv4 };
    let mut addresses: Vec<IpNet> = held
        .iter()
        .filter(|address| wanted(address.is_ipv6()))
        .map(|address| IpNet::from(*address))
        .collect();
    let count = |v6: bool| {
        let has = addresses.iter().any(|net| net.addr().is_ipv6() == v6);
        usize::from(wanted(v6) && !has)
    };
    (request.v4, request.v6) = (count(false), count(true));
    if request.v4 + request.v6 > 0 {
        let assigned = match ipam.auto_assign(&request).await {
            Ok(assigned) => assigned,
            Err(error) => return Err(give_back(&ipam, &handle, held.is_empty(), error.into()).await),
        };
        addresses.extend(assigned.all());
    }
    addresses.sort_by_key(|net| net.addr().is_ipv6());
    Ok(addresses)
}

/// One family may have been assigned before the other ran out.
async fn give_back(ipam: &Ipam, handle: &str, all_is_new: bool, error: Error) -> Error {
    if !all_is_new {
        return error;
    }
    match release(ipam, handle).await {
        Ok(()) => error,
        Err(failure) => error.hint(format_args!("could not release {handle}: {failure}; call DEL")),
    }
}

async fn namespace_labels(
    call: &Call,
    client: &Client,
    endpoint: &Endpoint,
) -> Result<BTreeMap<String, String>> {
    let Some((namespace, _)) = &endpoint.pod else {
        return Ok(BTreeMap::new());
    };
    let object = call.cluster.namespace(client, namespace).await?;
    Ok(object
        .and_then(|object| object.metadata.labels)
        .unwrap_or_default())
}

fn result(addresses: &[IpNet]) -> AddResult {
    AddResult {
        ips: addresses
            .iter()
            .map(|address| IpConfig {
                interface: None,
                address: *address,
                gateway: None,
            })
            .collect(),
        routes: addresses
            .iter()
            .map(|address| Route::to(IpNet::from(address.addr())))
            .collect(),
        ..AddResult::default()
    }
}

/// A node can give addresses when a pool of each wanted family is enabled.
fn check_pools(pools: &[IPPool], conf: &IpamConf) -> Result<()> {
    let usable = |v6: bool| {
        pools.iter().any(|pool| {
            let family = pool.spec.network().is_some_and(|net| net.addr().is_ipv6() == v6);
            let open = !pool.spec.disabled && pool.metadata.deletion_timestamp.is_none();
            family && open && pool.spec.allows(&IPPoolAllowedUse::Workload)
        })
    };
    for (wanted, v6, family) in [
        (conf.assign_ipv4, false, "IPv4"),
        (conf.assign_ipv6, true, "IPv6"),
    ] {
        if wanted && !usable(v6) {
            return Err(Error::new(
                Code::NotAvailable,
                format!("no enabled IPPool for {family} workloads"),
            )
            .hint("make an IPPool, or see `caracalctl get ippool -o wide` for disabled ones"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_as_go_prints_them() {
        for (text, printed) in [
            (
                "2026-08-22T06:33:20.123456789Z",
                "2026-08-22 06:33:20.123456789 +0000 UTC",
            ),
            ("2026-08-22T06:33:20.5Z", "2026-08-22 06:33:20.5 +0000 UTC"),
            ("2026-08-22T06:33:20Z", "2026-08-22 06:33:20 +0000 UTC"),
        ] {
            assert_eq!(timestamp(text.parse().unwrap()), printed);
        }
    }
}

//! The forecast of address shortage: a metric, a condition and an Event before a pool's or a node's addresses run out.
//!
//! # Ownership
//! The condition `AddressesRunningOut` of IPPools and of Nodes; Events with that reason.
//!
//! A pool is short when nothing is free, when little is, or when the growth of the last hour uses up what is free
//! within the next ([`trend`]). A node is short when that holds for its own blocks and those that it may still claim:
//! by maxBlocksPerHost, strictAffinity, autoAllocateBlocks, and the pools that select it ([`room`]).

mod room;
mod trend;

use std::collections::BTreeMap;
use std::time::Duration;

use caracal_api::v3::IPPool;
use caracal_daemon::metrics::IntGaugeVec;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Event, Node, NodeCondition};
use serde_json::json;

pub use room::{Room, Subject, rooms};
pub use trend::{Outlook, Trend};

use crate::cluster::{Cluster, Kind};
use crate::conditions::{self, Wanted};
use crate::context::{Again, Context, Controller};
use crate::lease::Error;

/// Name of the condition, and reason of the Event.
pub const RUNNING_OUT: &str = "AddressesRunningOut";
/// Time between two samples.
const SAMPLE_EVERY: Duration = Duration::from_secs(30);
/// Namespace of Events about objects without namespace.
const EVENTS_NAMESPACE: &str = "default";

/// The forecast of one pool or node.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// Of what.
    pub subject: Subject,
    /// What is there.
    pub room: Room,
    /// How it will go on.
    pub outlook: Outlook,
}

/// Trends of everything, over time.
#[derive(Debug, Default)]
pub struct Trends(BTreeMap<Subject, Trend>);

impl Trends {
    /// Takes a sample of everything, and says how each will go on. `seconds` is a clock that never goes back.
    pub fn sample(&mut self, cluster: &Cluster, seconds: u64) -> Vec<Forecast> {
        let mut before = std::mem::take(&mut self.0);
        let mut forecasts = Vec::new();
        for (subject, room) in rooms(cluster) {
            let mut trend = before.remove(&subject).unwrap_or_default();
            trend.add(seconds, room.in_use);
            let outlook = trend.outlook(room);
            self.0.insert(subject.clone(), trend);
            forecasts.push(Forecast {
                subject,
                room,
                outlook,
            });
        }
        forecasts
    }
}

/// The condition that says so.
#[must_use]
pub fn condition(forecast: &Forecast) -> Wanted {
    let Room { capacity, free, .. } = forecast.room;
    let (whose, have, run) = match &forecast.subject {
        Subject::Pool(_) => ("the pool", "has", "runs"),
        Subject::Node(_) => (
            "the node's blocks and those that it may still claim",
            "have",
            "run",
        ),
    };
    let remedy = match &forecast.subject {
        Subject::Pool(_) => "add an IPPool, or see `caracalctl ipam show --show-blocks`",
        Subject::Node(_) => "raise maxBlocksPerHost of the IPAMConfiguration, or add an IPPool",
    };
    let (holds, reason, message) = match forecast.outlook {
        Outlook::Enough | Outlook::Lasts(_) => (false, "Sufficient", "enough addresses are free".to_owned()),
        Outlook::Empty => (
            true,
            "Exhausted",
            format!("{whose} {have} no free address of {capacity}; {remedy}"),
        ),
        Outlook::Low => (
            true,
            "AlmostFull",
            format!("{whose} {have} few free addresses of {capacity}; {remedy}"),
        ),
        // No number in it: a condition that changes with each pod would be written with each pod.
        Outlook::RunsOut(_) => (
            true,
            "ForecastExhausted",
            format!(
                "at the growth of the last hour {whose} {run} out of free addresses within the next; {remedy}"
            ),
        ),
    };
    tracing::trace!(subject = %forecast.subject, free = %free, reason, "forecast");
    Wanted {
        type_: RUNNING_OUT,
        holds,
        reason,
        message,
    }
}

/// The controller.
#[derive(Debug, Default)]
pub struct Forecaster {
    trends: Trends,
    start: Option<std::time::Instant>,
}

impl Controller for Forecaster {
    fn name(&self) -> &'static str {
        "forecast"
    }

    fn wakes(&self, kind: Kind) -> bool {
        matches!(
            kind,
            Kind::Block | Kind::Pool | Kind::IpamConfiguration | Kind::Reservation
        )
    }

    fn pause(&self) -> Duration {
        Duration::from_secs(2)
    }

    fn run<'a>(&'a mut self, context: &'a Context<'a>) -> BoxFuture<'a, Result<Again, Error>> {
        async move {
            let start = *self.start.get_or_insert(context.now);
            let seconds = context.now.saturating_duration_since(start).as_secs();
            let forecasts = self.trends.sample(context.cluster, seconds);
            export(&forecasts, context);
            for forecast in &forecasts {
                let wanted = condition(forecast);
                match &forecast.subject {
                    Subject::Pool(name) => tell_pool(context, name, &wanted).await?,
                    Subject::Node(name) => tell_node(context, name, &wanted).await?,
                }
            }
            Ok(Some(SAMPLE_EVERY))
        }
        .boxed()
    }
}

fn export(forecasts: &[Forecast], context: &Context<'_>) {
    let metrics = context.metrics;
    let number = |value: u128| i64::try_from(value).unwrap_or(i64::MAX);
    let all: [&IntGaugeVec; 4] = [
        &metrics.pool_free,
        &metrics.pool_exhaustion,
        &metrics.node_free,
        &metrics.node_exhaustion,
    ];
    for metric in all {
        metric.reset();
    }
    for forecast in forecasts {
        let (free, exhaustion, name) = match &forecast.subject {
            Subject::Pool(name) => (&metrics.pool_free, &metrics.pool_exhaustion, name),
            Subject::Node(name) => (&metrics.node_free, &metrics.node_exhaustion, name),
        };
        free.with_label_values(&[name.as_str()])
            .set(number(forecast.room.free));
        let seconds = match forecast.outlook {
            Outlook::Empty => Some(0),
            Outlook::RunsOut(after) | Outlook::Lasts(after) => Some(after),
            Outlook::Low | Outlook::Enough => None,
        };
        if let Some(seconds) = seconds {
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            exhaustion.with_label_values(&[name.as_str()]).set(seconds);
        }
    }
}

async fn tell_pool(context: &Context<'_>, name: &str, wanted: &Wanted) -> Result<(), Error> {
    let Some(pool) = context.cluster.pools.get(name) else {
        return Ok(());
    };
    let existing = pool.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let before = existing.iter().find(|condition| condition.type_ == RUNNING_OUT);
    // A pool that was never short says nothing about it.
    if before.is_none() && !wanted.holds {
        return Ok(());
    }
    let reason_before = before
        .filter(|before| before.status == "True")
        .map(|before| before.reason.clone());
    let Some(list) = conditions::with(existing, wanted, pool.metadata.generation, context.wall) else {
        return Ok(());
    };
    let version = pool.metadata.resource_version.as_deref();
    let status = json!({"conditions": list});
    if context.patch_status::<IPPool>(name, version, status).await?
        && wanted.holds
        && reason_before.as_deref() != Some(wanted.reason)
    {
        let about = json!({"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "name": name,
            "uid": pool.metadata.uid});
        event(context, about, name, wanted).await?;
    }
    Ok(())
}

async fn tell_node(context: &Context<'_>, name: &str, wanted: &Wanted) -> Result<(), Error> {
    let told = |node: &Node| {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions
            .into_iter()
            .flatten()
            .find(|condition| condition.type_ == RUNNING_OUT)
            .map(|condition| {
                (
                    condition.status == "True",
                    condition.reason.clone().unwrap_or_default(),
                )
            })
    };
    let wants = (wanted.holds, wanted.reason.to_owned());
    let is_said = |told: Option<(bool, String)>| told.map_or(!wanted.holds, |told| told == wants);
    if context
        .cluster
        .nodes
        .get(name)
        .is_none_or(|node| is_said(told(node)))
    {
        return Ok(());
    }
    // The kubelet writes the same list: it is read anew, and written only if nobody wrote meanwhile.
    let Some(node) = context.client.get::<Node>(None, name).await? else {
        return Ok(());
    };
    let before = told(&node);
    if is_said(before.clone()) {
        return Ok(());
    }
    let stored = node
        .status
        .clone()
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    let list = node_conditions(stored, wanted, context.wall);
    let version = node.metadata.resource_version.as_deref();
    let status = json!({"conditions": list});
    if context.patch_status::<Node>(name, version, status).await? && wanted.holds && before != Some(wants) {
        // Events about nodes carry the name where others have the UID, as the kubelet's do.
        let about = json!({"apiVersion": "v1", "kind": "Node", "name": name, "uid": name});
        event(context, about, name, wanted).await?;
    }
    Ok(())
}

fn node_conditions(
    mut list: Vec<NodeCondition>,
    wanted: &Wanted,
    now: jiff::Timestamp,
) -> Vec<NodeCondition> {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    let now = Time(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now));
    let status = if wanted.holds { "True" } else { "False" };
    let before = list.iter().find(|condition| condition.type_ == wanted.type_);
    let since = before
        .filter(|before| before.status == status)
        .and_then(|before| before.last_transition_time.clone());
    let condition = NodeCondition {
        type_: wanted.type_.to_owned(),
        status: status.to_owned(),
        reason: Some(wanted.reason.to_owned()),
        message: Some(wanted.message.clone()),
        last_heartbeat_time: Some(now.clone()),
        last_transition_time: since.or(Some(now)),
    };
    match list.iter_mut().find(|condition| condition.type_ == wanted.type_) {
        Some(place) => *place = condition,
        None => list.push(condition),
    }
    list
}

/// Tells people, once for each change.
async fn event(
    context: &Context<'_>,
    about: serde_json::Value,
    name: &str,
    wanted: &Wanted,
) -> Result<(), Error> {
    let seconds = context.wall.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    // As client-go names them: the object, and the time in hexadecimal nanoseconds.
    let stem: String = name.chars().take(220).collect();
    let event = json!({
        "metadata": {"name": format!("{stem}.{:x}", context.wall.as_nanosecond()), "namespace": EVENTS_NAMESPACE},
        "involvedObject": about, "type": "Warning", "reason": RUNNING_OUT, "message": wanted.message,
        "source": {"component": "caracal-controllers"}, "reportingComponent": "caracal-controllers",
        "reportingInstance": "", "count": 1, "firstTimestamp": seconds, "lastTimestamp": seconds,
    });
    tracing::warn!(name, reason = wanted.reason, "addresses are running out");
    let Ok(event) = serde_json::from_value::<Event>(event) else {
        return Ok(());
    };
    match context.fence.write(context.client.create(&event)).await {
        Ok(_) => Ok(()),
        Err(Error::NotLeader) => Err(Error::NotLeader),
        // The condition is there; an Event less is no reason to do everything again.
        Err(error) => {
            tracing::warn!(error = %error, "Event not written");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;

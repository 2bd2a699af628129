//! Who denied which packets: what the kernel's rules show, put together into records with names.
//!
//! Owns the counting: the same flow (without its source port) is one record, written at once when it is new and then at
//! most every few seconds with how often it came. Everything is bounded: flows that are remembered, records a second,
//! records that are kept for readers. What goes beyond is counted as lost. Who denied is worked out by the calculation,
//! so that merged rules have names too. Nothing here can hold up a packet.

pub mod stream;

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use caracal_felix_core::Core;
use caracal_felix_core::calc::model::Direction;
use caracal_felix_core::calc::sets::Item;
use caracal_felix_core::eval::{Explained, Packet, Reason, Verdict};
use caracal_felix_core::rules::nflog;
use caracal_linux::nflog::{Batch, Listener, Logged};
use serde_json::{Value, json};

use crate::metrics::Metrics;

/// Flows that are remembered.
const FLOWS_MAX: usize = 1_024;
/// Records written each time.
const RECORDS_MAX: usize = 64;
/// Records of one flow come no faster.
const REPEAT: Duration = Duration::from_secs(5);
/// A flow that is silent for this long is forgotten.
const FORGET: Duration = Duration::from_secs(60);
/// Records that are kept for readers that come later.
const KEPT_MAX: usize = 1_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Flow {
    group: u16,
    prefix: String,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    port: u16,
    icmp: Option<(u8, u8)>,
}

#[derive(Clone, Debug)]
struct Seen {
    /// Since the last record.
    count: u64,
    source_port: u16,
    last: Instant,
    written: Option<Instant>,
}

/// What is known and not written yet.
#[derive(Debug, Default)]
pub struct Counts {
    flows: HashMap<Flow, Seen>,
    lost: u64,
}

impl Counts {
    /// Takes in a packet.
    pub fn note(&mut self, packet: &Logged, now: Instant) {
        let tuple = packet.tuple;
        let flow = Flow {
            group: packet.group,
            prefix: packet.prefix.clone(),
            source: tuple.source,
            destination: tuple.destination,
            protocol: tuple.protocol,
            port: tuple.destination_port,
            icmp: packet.icmp,
        };
        if self.flows.len() >= FLOWS_MAX && !self.flows.contains_key(&flow) {
            self.lost += 1;
            return;
        }
        let seen = self.flows.entry(flow).or_insert(Seen {
            count: 0,
            source_port: 0,
            last: now,
            written: None,
        });
        seen.count += 1;
        seen.source_port = tuple.source_port;
        seen.last = now;
    }

    /// Packets were lost before they were seen.
    pub const fn note_lost(&mut self) {
        self.lost += 1;
    }

    /// What is to be written.
    fn due(&mut self, now: Instant) -> Vec<(Flow, Seen)> {
        let forget = |seen: &Seen| seen.count == 0 && now.saturating_duration_since(seen.last) >= FORGET;
        self.flows.retain(|_, seen| !forget(seen));
        let is_due = |seen: &Seen| {
            let waited = seen
                .written
                .is_none_or(|at| now.saturating_duration_since(at) >= REPEAT);
            seen.count > 0 && waited
        };
        let due = self.flows.iter_mut().filter(|(_, seen)| is_due(seen));
        due.take(RECORDS_MAX)
            .map(|(flow, seen)| {
                let now_written = (flow.clone(), seen.clone());
                seen.count = 0;
                seen.written = Some(now);
                now_written
            })
            .collect()
    }

    /// The records that are due, as lines of JSON.
    pub fn records(&mut self, core: &Core, now: Instant, time: SystemTime) -> Vec<String> {
        let due = self.due(now);
        let lost = std::mem::take(&mut self.lost);
        if due.is_empty() && lost == 0 {
            return Vec::new();
        }
        let time = jiff::Timestamp::try_from(time).unwrap_or_default();
        let time = format!("{time:.3}");
        let packets: Vec<(Packet, Direction)> = due.iter().map(|(flow, seen)| question(flow, seen)).collect();
        let explained = core.explain(&packets);
        let mut lines: Vec<String> = due
            .iter()
            .zip(&packets)
            .zip(&explained)
            .map(|(((flow, seen), (_, direction)), explained)| {
                record(flow, seen, *direction, explained, core.node(), &time).to_string()
            })
            .collect();
        if lost > 0 {
            let text = "denied packets came faster than they were counted";
            lines.push(json!({"time": time, "node": core.node(), "lost": lost, "reason": text}).to_string());
        }
        lines
    }
}

fn question(flow: &Flow, seen: &Seen) -> (Packet, Direction) {
    let direction = if flow.group == nflog::EGRESS_GROUP {
        Direction::Egress
    } else {
        Direction::Ingress
    };
    let packet = Packet {
        source: flow.source,
        destination: flow.destination,
        protocol: flow.protocol,
        source_port: seen.source_port,
        destination_port: flow.port,
        icmp: flow.icmp,
    };
    (packet, direction)
}

fn record(
    flow: &Flow,
    seen: &Seen,
    direction: Direction,
    explained: &Explained,
    node: &str,
    time: &str,
) -> Value {
    let end = |address: IpAddr, items: &[Item], port: u16| {
        json!({
            "address": address,
            "port": Some(port).filter(|port| *port > 0),
            "endpoint": items.iter().map(shown).next(),
        })
    };
    let mut value = json!({
        "time": time,
        "node": node,
        "count": seen.count,
        "action": "deny",
        "direction": direction.as_str(),
        "protocol": flow.protocol,
        "source": end(flow.source, &explained.source, seen.source_port),
        "destination": end(flow.destination, &explained.destination, flow.port),
        "prefix": flow.prefix,
    });
    if let Some((type_, code)) = flow.icmp {
        value["icmp"] = json!({"type": type_, "code": code});
    }
    // Policy may have changed since: what lets the packet pass by now is no reason for the denial.
    let evaluation = explained.evaluation.as_ref();
    let Some(evaluation) = evaluation.filter(|evaluation| evaluation.verdict == Verdict::Deny) else {
        value["reason"] = format!("denied by {}", told(&flow.prefix)).into();
        return value;
    };
    value["reason"] = evaluation.reason.to_string().into();
    match &evaluation.reason {
        Reason::Policy { tier, policy, rule } => {
            value["tier"] = tier.as_str().into();
            value["policy"] = policy.shown().into();
            value["rule"] = (*rule).into();
        }
        Reason::EndOfTier { tier } => {
            let steps = evaluation.steps.iter();
            let own = steps.filter(|step| step.tier.as_ref() == Some(tier) && !step.is_staged);
            value["tier"] = tier.as_str().into();
            value["policies"] = own.map(|step| step.name.as_str()).collect();
        }
        Reason::Profile { profile, rule } => {
            value["profile"] = profile.as_str().into();
            value["rule"] = (*rule).into();
        }
        Reason::NoProfile | Reason::Failsafe | Reason::Encapsulated | Reason::NotConcerned => {}
    }
    value
}

/// What a prefix says by itself.
fn told(prefix: &str) -> String {
    let name = prefix.split_once('|').map_or("", |(_, name)| name);
    match (prefix.get(1..2), name) {
        (Some("R"), "") => "no profile that allows it".to_owned(),
        (Some("R"), profile) => format!("profile {profile}"),
        (_, name) => name.to_owned(),
    }
}

fn shown(item: &Item) -> String {
    match item {
        Item::Pod(key) => key.to_string(),
        Item::Workload(key) => format!("workload {key}"),
        Item::Host(key) => format!("HostEndpoint {key}"),
        Item::NetworkSet(key) => format!("NetworkSet {key}"),
    }
}

/// The reader of the kernel's groups, and the records that it gives.
#[derive(Debug)]
pub struct Denials {
    listener: Option<Listener>,
    counts: Counts,
    stream: stream::Stream,
    metrics: Metrics,
}

impl Denials {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(stream: stream::Stream, metrics: Metrics) -> Self {
        Self {
            listener: None,
            counts: Counts::default(),
            stream,
            metrics,
        }
    }

    /// Begins or ends to read. What was denied while nobody read is lost.
    pub fn set(&mut self, is_wanted: bool) {
        match (is_wanted, self.listener.is_some()) {
            (true, false) => match Listener::open(&[nflog::INGRESS_GROUP, nflog::EGRESS_GROUP]) {
                Ok(listener) => self.listener = Some(listener),
                // Policy does not depend on it.
                Err(error) => {
                    tracing::warn!(error = %error, "denied packets cannot be read, they are denied all the same")
                }
            },
            (false, true) => self.listener = None,
            _ => {}
        }
    }

    /// Waits for packets; for ever when nothing is read.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Batch {
        let Some(listener) = &mut self.listener else {
            return std::future::pending().await;
        };
        match listener.next().await {
            Ok(batch) => batch,
            Err(error) => {
                tracing::warn!(error = %error, "denied packets are not read any more");
                self.listener = None;
                Batch::default()
            }
        }
    }

    /// Takes in what was read.
    pub fn on_batch(&mut self, batch: &Batch) {
        let now = Instant::now();
        self.metrics.nflog_messages.inc();
        for packet in &batch.packets {
            self.metrics
                .nflog_logs
                .with_label_values(&[&packet.group.to_string()])
                .inc();
            self.counts.note(packet, now);
        }
        self.metrics
            .nflog_unreadable
            .inc_by(u64::try_from(batch.unreadable).unwrap_or(u64::MAX));
        if batch.is_overrun {
            self.metrics.nflog_overruns.inc();
            self.counts.note_lost();
        }
    }

    /// Writes what is due. To be called about once a second.
    pub fn write(&mut self, core: &Core) {
        for line in self.counts.records(core, Instant::now(), SystemTime::now()) {
            self.stream.write(line);
        }
    }
}

/// The records of a node that are kept: the last ones, for readers that come later.
#[derive(Debug, Default)]
pub(crate) struct Kept(VecDeque<std::sync::Arc<str>>);

impl Kept {
    pub(crate) fn push(&mut self, line: std::sync::Arc<str>) {
        if self.0.len() == KEPT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(line);
    }

    pub(crate) fn lines(&self) -> Vec<std::sync::Arc<str>> {
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caracal_felix_core::Options;
    use caracal_linux::conntrack::Tuple;

    fn packet(source_port: u16, port: u16) -> Logged {
        Logged {
            group: 1,
            prefix: "DPI|default".to_owned(),
            tuple: Tuple {
                source: "10.0.0.1".parse().unwrap(),
                destination: "10.0.0.2".parse().unwrap(),
                protocol: 6,
                source_port,
                destination_port: port,
            },
            icmp: None,
        }
    }

    fn records(counts: &mut Counts, now: Instant) -> Vec<Value> {
        let core = Core::new(Options::default());
        let lines = counts.records(&core, now, SystemTime::UNIX_EPOCH);
        lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn repeated_packets_of_a_flow_are_one_record_with_a_count() {
        let (mut counts, start) = (Counts::default(), Instant::now());
        for port in 0..3 {
            counts.note(&packet(port, 80), start);
        }
        let first = records(&mut counts, start);
        assert_eq!((first.len(), first[0]["count"].as_u64()), (1, Some(3)));
        assert_eq!(first[0]["reason"], "denied by default");
        assert_eq!(first[0]["time"], "1970-01-01T00:00:00.000Z");
        counts.note(&packet(9, 80), start);
        assert!(records(&mut counts, start + Duration::from_secs(1)).is_empty());
        let later = records(&mut counts, start + REPEAT);
        assert_eq!(later[0]["count"], 1);
        assert!(records(&mut counts, start + REPEAT + FORGET).is_empty() && counts.flows.is_empty());
    }

    #[test]
    fn a_storm_is_bounded_and_what_is_lost_is_said() {
        let (mut counts, start) = (Counts::default(), Instant::now());
        for port in 0..u16::try_from(FLOWS_MAX).unwrap() + 10 {
            counts.note(&packet(1, port), start);
        }
        let first = records(&mut counts, start);
        assert_eq!(first.len(), RECORDS_MAX + 1);
        assert_eq!(first[RECORDS_MAX]["lost"], 10);
        assert_eq!(records(&mut counts, start).len(), RECORDS_MAX);
    }
}

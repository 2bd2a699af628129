//! The conditions of this node's Node object: `NetworkUnavailable`, as Calico has it, and `CaracalDegraded` with the
//! causes of what is wrong while the node still forwards.
//!
//! # Ownership
//! These two conditions and no others; a condition is recognised by its type.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use caracal_datastore::{Client, Error};

use crate::health::Verdict;

/// Looks without traffic before pods are kept away from a node: a daemon that restarts is not worth it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Changes of causes alone are not written more often.
const QUIET: Duration = Duration::from_secs(10);
/// Longest message.
const MESSAGE_LEN_MAX: usize = 1024;

/// A condition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// Its type.
    pub kind: &'static str,
    /// True or false.
    pub status: bool,
    /// One word.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Condition {
    /// As the API has it.
    #[must_use]
    pub fn to_json(&self, now: &str) -> Value {
        json!({
            "type": self.kind,
            "status": if self.status { "True" } else { "False" },
            "reason": self.reason,
            "message": self.message,
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        })
    }
}

/// Decides which conditions are to be written. Pure.
#[derive(Debug, Default)]
pub struct Conditions {
    written: Vec<Condition>,
    written_at: Option<Instant>,
    broken_since: Option<Instant>,
}

impl Conditions {
    /// The conditions to write for a verdict; empty when what is written still holds.
    pub fn due(&mut self, verdict: &Verdict, now: Instant) -> Vec<Condition> {
        self.broken_since = match (verdict.obstacles.is_empty(), self.broken_since) {
            (true, _) => None,
            (false, since) => since.or(Some(now)),
        };
        let degraded = degraded(verdict);
        let wanted: Vec<Condition> = self.network(verdict, now).into_iter().chain([degraded]).collect();
        let same_state =
            |a: &Condition, b: &Condition| (a.kind, a.status, a.reason) == (b.kind, b.status, b.reason);
        let quiet = self
            .written_at
            .is_some_and(|at| now.saturating_duration_since(at) < QUIET);
        wanted
            .into_iter()
            .filter(
                |condition| match self.written.iter().find(|old| old.kind == condition.kind) {
                    None => true,
                    Some(old) if same_state(old, condition) => old.message != condition.message && !quiet,
                    Some(_) => true,
                },
            )
            .collect()
    }

    /// These were written.
    pub fn written(&mut self, conditions: Vec<Condition>, now: Instant) {
        self.written_at = Some(now);
        for condition in conditions {
            self.written.retain(|old| old.kind != condition.kind);
            self.written.push(condition);
        }
    }

    /// `NetworkUnavailable`; nothing while it is not clear: just started, or broken for a moment.
    fn network(&self, verdict: &Verdict, now: Instant) -> Option<Condition> {
        let (status, reason, message) = match self.broken_since {
            None => (false, "CalicoIsUp", "Calico is running on this node".to_owned()),
            Some(since) if now.saturating_duration_since(since) >= PATIENCE => {
                (true, "CalicoIsDown", cut(verdict.obstacles.join("; ")))
            }
            Some(_) => return None,
        };
        Some(Condition {
            kind: "NetworkUnavailable",
            status,
            reason,
            message,
        })
    }
}

fn degraded(verdict: &Verdict) -> Condition {
    let mut causes = verdict.reasons();
    causes.extend(verdict.degraded.iter().map(String::as_str));
    let (status, reason, message) = match (causes.is_empty(), verdict.forwards()) {
        (true, _) => {
            let (up, all) = verdict.peers;
            (
                false,
                "InOrder",
                format!("this node forwards; {up} of {all} BGP peers are up"),
            )
        }
        (false, true) => (true, "ForwardsPartly", causes.join("; ")),
        (false, false) => (true, "DoesNotForward", causes.join("; ")),
    };
    Condition {
        kind: "CaracalDegraded",
        status,
        reason,
        message: cut(message),
    }
}

fn cut(mut text: String) -> String {
    if text.len() > MESSAGE_LEN_MAX {
        let end = (0..=MESSAGE_LEN_MAX)
            .rev()
            .find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
        text.push_str("...");
    }
    text
}

/// What this node says when it is shut down for good.
#[must_use]
pub fn shutting_down() -> Condition {
    Condition {
        kind: "NetworkUnavailable",
        status: true,
        reason: "CalicoIsDown",
        message: "Calico is shutting down on this node".to_owned(),
    }
}

/// Writes conditions; others of the Node stay as they are.
///
/// # Errors
/// Any failed request.
pub async fn write(client: &Client, node: &str, conditions: &[Condition]) -> Result<(), Error> {
    let now = jiff::Timestamp::now()
        .round(jiff::Unit::Second)
        .unwrap_or_default()
        .to_string();
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|condition| condition.to_json(&now))
        .collect();
    client
        .patch_status_strategic::<Node>(None, node, &json!({"status": {"conditions": conditions}}))
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(obstacles: &[&str], degraded: &[&str]) -> Verdict {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Verdict {
            obstacles: owned(obstacles),
            isolated: None,
            degraded: owned(degraded),
            peers: (4, 5),
        }
    }

    /// What is written, as `type=status reason`, and remembered as written.
    fn step(conditions: &mut Conditions, verdict: &Verdict, now: Instant) -> Vec<String> {
        let due = conditions.due(verdict, now);
        let told = due
            .iter()
            .map(|condition| format!("{}={} {}", condition.kind, condition.status, condition.reason))
            .collect();
        if !due.is_empty() {
            conditions.written(due, now);
        }
        told
    }

    #[test]
    fn the_network_is_unavailable_only_after_a_while() {
        let mut conditions = Conditions::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let broken = verdict(&["felix: not in sync"], &[]);
        assert_eq!(
            step(&mut conditions, &broken, at(0)),
            ["CaracalDegraded=true DoesNotForward"],
            "at start nothing is said of the network"
        );
        let fine = verdict(&[], &[]);
        assert_eq!(
            step(&mut conditions, &fine, at(5)),
            [
                "NetworkUnavailable=false CalicoIsUp",
                "CaracalDegraded=false InOrder"
            ]
        );
        assert!(
            step(&mut conditions, &fine, at(6)).is_empty(),
            "steady state writes nothing"
        );
        assert_eq!(
            step(&mut conditions, &broken, at(10)),
            ["CaracalDegraded=true DoesNotForward"]
        );
        assert!(step(&mut conditions, &broken, at(39)).is_empty());
        assert_eq!(
            step(&mut conditions, &broken, at(40)),
            ["NetworkUnavailable=true CalicoIsDown"]
        );
        assert_eq!(
            step(&mut conditions, &fine, at(41)),
            [
                "NetworkUnavailable=false CalicoIsUp",
                "CaracalDegraded=false InOrder"
            ],
            "better at once"
        );
    }

    #[test]
    fn causes_that_change_are_not_written_all_the_time() {
        let mut conditions = Conditions::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        step(&mut conditions, &verdict(&[], &["tor1 is down"]), at(0));
        assert!(step(&mut conditions, &verdict(&[], &["tor2 is down"]), at(3)).is_empty());
        assert_eq!(
            step(&mut conditions, &verdict(&[], &["tor3 is down"]), at(11)),
            ["CaracalDegraded=true ForwardsPartly"]
        );
    }

    #[test]
    fn the_node_that_is_left_alone_goes_on_taking_pods() {
        let alone = Verdict {
            isolated: Some("1 of 1 BGP peers are down".to_owned()),
            ..Verdict::default()
        };
        let told = step(&mut Conditions::default(), &alone, Instant::now());
        assert_eq!(
            told,
            [
                "NetworkUnavailable=false CalicoIsUp",
                "CaracalDegraded=true DoesNotForward"
            ]
        );
    }

    #[test]
    fn messages_are_cut_between_characters() {
        let long = verdict(&[], &["ü".repeat(1000).as_str()]);
        let due = Conditions::default().due(&long, Instant::now());
        assert!(due.iter().all(|condition| condition.message.len() < 1100));
    }
}

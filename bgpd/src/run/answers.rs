//! What the speaker answers: to the control socket, and to CalicoNodeStatuses.

use std::time::Instant;

use caracal_bgpd_compile::Problem;
use caracal_bgpd_core::snapshot::RouteQuery;
use jiff::Timestamp;

use super::cluster::Cluster;
use super::{Owner, node_status};
use crate::control::{self, Question, Request};
use crate::kernel::Refused;
use crate::monitor::mrt;

impl Owner {
    /// Answers a question of the control socket.
    pub(super) fn answer(&mut self, question: Question) {
        let text = |result: serde_json::Result<String>| {
            result.unwrap_or_else(|problem| control::error(problem.to_string()))
        };
        let answer = match question.request {
            Request::Status => text(serde_json::to_string(&self.status(Instant::now()))),
            Request::Routes { query } => match self.speaker.routes(&query) {
                Ok(routes) => text(serde_json::to_string(&routes)),
                Err(unknown) => control::error(unknown.to_string()),
            },
            Request::Mrt { file } => {
                let status = self.speaker.status(Instant::now());
                match mrt::write_table(&file, &self.speaker, &status) {
                    Ok(prefixes) => serde_json::json!({"file": file, "prefixes": prefixes}).to_string(),
                    Err(error) => control::error(format!("{}: {error}", file.display())),
                }
            }
            Request::Config => text(serde_json::to_string(&self.config)),
            Request::WhyNot { prefix, peer } => match self.speaker.why_not(&prefix, &peer) {
                Ok(explanation) => text(serde_json::to_string(&explanation)),
                Err(unknown) => control::error(unknown.to_string()),
            },
            Request::Drain { on } => self.set_drain(on),
            Request::Problems => {
                let all: Vec<&Problem> = self.problems.iter().chain(&self.refused).collect();
                text(serde_json::to_string(&all))
            }
        };
        // The client may have gone away.
        let _ = question.answer.send(answer);
    }

    /// Takes an operator's word on whether the speaker is about to go.
    fn set_drain(&mut self, on: bool) -> String {
        tracing::info!(on, "drain, by the control socket");
        self.drain = on;
        let config = self.config.clone();
        if let Some(config) = &config {
            self.give(config);
        }
        let drain = on || config.is_some_and(|config| config.drain);
        serde_json::json!({ "drain": drain }).to_string()
    }

    /// Answers the CalicoNodeStatuses that want it now.
    pub(super) fn answer_objects(&mut self, cluster: &mut Cluster) {
        let now = Instant::now();
        let asked = cluster.asked(now);
        if asked.is_empty() {
            return;
        }
        let status = self.speaker.status(now);
        let routes = if asked.iter().any(|(_, spec)| node_status::wants_routes(spec)) {
            self.speaker.routes(&RouteQuery::LocRib).unwrap_or_default()
        } else {
            Vec::new()
        };
        let state = node_status::State {
            now: Timestamp::now(),
            started: self.started,
            configured: self.configured,
            config: self.config.as_ref(),
            status: &status,
            routes: &routes,
        };
        for (name, spec) in asked {
            cluster.answer(name, &node_status::answer(&spec, &state));
        }
    }
}

/// A route that the kernel refuses, as a problem.
pub(super) fn refusal(refused: &Refused) -> Problem {
    let (problem, remedy) = refused
        .reason
        .split_once("; ")
        .unwrap_or((&refused.reason, "it is tried again by itself"));
    Problem {
        object: "kernel".to_owned(),
        field: format!("route {} metric {}", refused.prefix, refused.metric),
        value: refused.prefix.to_string(),
        problem: problem.to_owned(),
        remedy: remedy.to_owned(),
    }
}

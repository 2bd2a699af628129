//! CalicoNodeStatuses: which ask this node, when each wants its next answer, and writing it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use caracal_api::v3::{CalicoNodeStatus, CalicoNodeStatusSpec, CalicoNodeStatusStatus};
use caracal_datastore::Client;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// How often an answer is renewed where the object does not say.
const PERIOD: Duration = Duration::from_secs(10);

/// All that ask.
#[derive(Debug, Default)]
pub(super) struct Questions(BTreeMap<String, Question>);

#[derive(Debug)]
struct Question {
    spec: CalicoNodeStatusSpec,
    /// `None` when no more answers are wanted.
    due: Option<Instant>,
    /// The answer on its way. The next one waits for it, so that a slow API is not asked for more.
    writing: Option<JoinHandle<()>>,
}

impl Drop for Question {
    fn drop(&mut self) {
        if let Some(task) = &self.writing {
            task.abort();
        }
    }
}

impl Questions {
    /// Takes an object that came, changed or went. Writing an answer changes it too, which is no new question.
    pub(super) fn note(&mut self, name: String, spec: Option<CalicoNodeStatusSpec>, now: Instant) {
        let Some(spec) = spec else {
            self.0.remove(&name);
            return;
        };
        if self.0.get(&name).is_some_and(|question| question.spec == spec) {
            return;
        }
        let due = period(&spec).map(|_| now);
        let question = Question {
            spec,
            due,
            writing: None,
        };
        self.0.insert(name, question);
    }

    /// When the next answer is wanted.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.0.values().filter_map(|question| question.due).min()
    }

    /// Those that want an answer now; each wants the next one after its period.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(String, CalicoNodeStatusSpec)> {
        let mut asked = Vec::new();
        for (name, question) in &mut self.0 {
            if question.due.is_none_or(|at| at > now) {
                continue;
            }
            question.due = period(&question.spec).map(|period| now + period);
            if question.writing.as_ref().is_none_or(JoinHandle::is_finished) {
                asked.push((name.clone(), question.spec.clone()));
            }
        }
        asked
    }

    /// Writes an answer in a task of its own.
    pub(super) fn answer(&mut self, client: &Client, name: String, status: &CalicoNodeStatusStatus) {
        let Some(question) = self.0.get_mut(&name) else {
            return;
        };
        let (client, patch) = (client.clone(), patch(status));
        question.writing = Some(tokio::spawn(async move {
            if let Err(error) = client.patch_status::<CalicoNodeStatus>(None, &name, &patch).await {
                tracing::warn!(name, error = %error, "the answer could not be written into the CalicoNodeStatus");
            }
        }));
    }
}

fn period(spec: &CalicoNodeStatusSpec) -> Option<Duration> {
    match spec.update_period_seconds {
        Some(0) => None,
        Some(seconds) => u64::try_from(seconds).ok().map(Duration::from_secs),
        None => Some(PERIOD),
    }
}

/// A merge patch in which classes that are not asked for any more are taken out.
fn patch(status: &CalicoNodeStatusStatus) -> Value {
    let field = |value: serde_json::Result<Value>| value.unwrap_or(Value::Null);
    json!({"status": {
        "lastUpdated": status.last_updated,
        "agent": field(serde_json::to_value(&status.agent)),
        "bgp": field(serde_json::to_value(&status.bgp)),
        "routes": field(serde_json::to_value(&status.routes)),
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(period: Option<i32>) -> Option<CalicoNodeStatusSpec> {
        Some(CalicoNodeStatusSpec {
            node: "a".to_owned(),
            update_period_seconds: period,
            ..CalicoNodeStatusSpec::default()
        })
    }

    #[test]
    fn each_is_answered_at_once_and_after_its_period() {
        let start = Instant::now();
        let mut questions = Questions::default();
        questions.note("often".to_owned(), spec(Some(2)), start);
        questions.note("never".to_owned(), spec(Some(0)), start);
        questions.note("usual".to_owned(), spec(None), start);
        let names = |asked: Vec<(String, CalicoNodeStatusSpec)>| -> Vec<String> {
            asked.into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(questions.due(start)), ["often", "usual"]);
        assert_eq!(questions.due_at(), Some(start + Duration::from_secs(2)));
        // Its own answer comes back as a change.
        questions.note("usual".to_owned(), spec(None), start);
        assert_eq!(names(questions.due(start + Duration::from_secs(3))), ["often"]);
        questions.note("never".to_owned(), spec(Some(5)), start);
        assert_eq!(names(questions.due(start + Duration::from_secs(3))), ["never"]);
        questions.note("usual".to_owned(), None, start);
        assert_eq!(questions.0.len(), 2);
    }

    #[test]
    fn classes_that_are_not_asked_for_are_taken_out() {
        let patch = patch(&CalicoNodeStatusStatus::default());
        assert_eq!(
            patch,
            json!({"status": {"lastUpdated": null, "agent": null, "bgp": null, "routes": null}})
        );
    }
}

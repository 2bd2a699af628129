//! The row of a pod: how many containers are ready, and the one word that says how it is.

use serde_json::Value;

use super::super::duration::{age, since};
use super::{NONE, items, name, number, text_or};

pub(in crate::table) fn cells(object: &Value) -> Vec<Value> {
    let status = Status::of(object);
    let ip = text_or(
        object,
        "/status/podIPs/0/ip",
        &text_or(object, "/status/podIP", NONE),
    );
    let restarts = match &status.last_restart {
        Some(when) if status.restarts > 0 => format!("{} ({} ago)", status.restarts, since(when)),
        _ => status.restarts.to_string(),
    };
    vec![
        name(object),
        format!("{}/{}", status.ready, status.total).into(),
        status.word.into(),
        restarts.into(),
        age(object),
        ip.into(),
        text_or(object, "/spec/nodeName", NONE).into(),
        text_or(object, "/status/nominatedNodeName", NONE).into(),
        gates(object).into(),
    ]
}

fn gates(object: &Value) -> String {
    let gates = items(object, "/spec/readinessGates");
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let conditions = items(object, "/status/conditions");
    let met = |gate: &&Value| {
        let mut conditions = conditions.iter();
        conditions
            .any(|condition| condition["type"] == gate["conditionType"] && condition["status"] == "True")
    };
    format!("{}/{}", gates.iter().filter(met).count(), gates.len())
}

struct Status {
    word: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<String>,
}

/// Why a container is not running, if it says so.
fn reason_of(container: &Value) -> Option<String> {
    let reason = |state: &str| text_or(container, &format!("/state/{state}/reason"), "");
    match (reason("waiting"), reason("terminated")) {
        (waiting, _) if !waiting.is_empty() => Some(waiting),
        (_, terminated) if !terminated.is_empty() => Some(terminated),
        _ => {
            container.pointer("/state/terminated")?;
            Some(match number(container, "/state/terminated/signal") {
                0 => format!("ExitCode:{}", number(container, "/state/terminated/exitCode")),
                signal => format!("Signal:{signal}"),
            })
        }
    }
}

impl Status {
    fn of(object: &Value) -> Self {
        let mut status = Self {
            word: text_or(object, "/status/reason", &text_or(object, "/status/phase", "")),
            ready: 0,
            total: items(object, "/spec/containers").len(),
            restarts: 0,
            last_restart: None,
        };
        if !status.initializing(object) {
            status.containers(object);
        }
        if object.pointer("/metadata/deletionTimestamp").is_some() {
            let lost = object
                .pointer("/status/reason")
                .is_some_and(|reason| reason == "NodeLost");
            let word = if lost { "Unknown" } else { "Terminating" };
            word.clone_into(&mut status.word);
        }
        status
    }

    fn count_restarts(&mut self, container: &Value) {
        self.restarts += number(container, "/restartCount");
        let ended = container
            .pointer("/lastState/terminated/finishedAt")
            .and_then(Value::as_str);
        if ended > self.last_restart.as_deref() {
            self.last_restart = ended.map(str::to_owned);
        }
    }

    /// Is it still at its init containers? Then the first that is not done gives the word.
    fn initializing(&mut self, object: &Value) -> bool {
        let total = items(object, "/spec/initContainers").len();
        for (index, container) in items(object, "/status/initContainerStatuses").iter().enumerate() {
            self.count_restarts(container);
            let ended = container.pointer("/state/terminated");
            let done = ended.is_some_and(|_| number(container, "/state/terminated/exitCode") == 0);
            if done || container["started"] == true {
                continue;
            }
            self.word = match reason_of(container).filter(|reason| reason != "PodInitializing") {
                Some(reason) => format!("Init:{reason}"),
                None => format!("Init:{index}/{total}"),
            };
            return true;
        }
        false
    }

    fn containers(&mut self, object: &Value) {
        let mut running = false;
        for container in items(object, "/status/containerStatuses").iter().rev() {
            self.count_restarts(container);
            if let Some(reason) = reason_of(container) {
                self.word = reason;
            } else if container["ready"] == true && container.pointer("/state/running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.word == "Completed" && running {
            let conditions = items(object, "/status/conditions");
            let ready = conditions
                .iter()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
            self.word = if ready { "Running" } else { "NotReady" }.to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_word_says_how_a_pod_is() {
        let word = |status: Value| {
            Status::of(&json!({"spec": {"containers": [{}], "initContainers": [{}]}, "status": status})).word
        };
        assert_eq!(word(json!({"phase": "Pending"})), "Pending");
        assert_eq!(word(json!({"phase": "Failed", "reason": "Evicted"})), "Evicted");
        let waiting = json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}});
        assert_eq!(
            word(json!({"phase": "Running", "containerStatuses": [waiting]})),
            "CrashLoopBackOff"
        );
        let killed = json!({"state": {"terminated": {"signal": 9}}});
        assert_eq!(
            word(json!({"phase": "Failed", "containerStatuses": [killed]})),
            "Signal:9"
        );
        let init = json!({"state": {"running": {}}});
        assert_eq!(
            word(json!({"phase": "Pending", "initContainerStatuses": [init]})),
            "Init:0/1"
        );
        let deleting = json!({"metadata": {"deletionTimestamp": "x"}, "status": {"phase": "Running"}});
        assert_eq!(Status::of(&deleting).word, "Terminating");
        let ready = json!({"spec": {"containers": [{}, {}]}, "status": {"containerStatuses": [
            {"ready": true, "state": {"running": {}}, "restartCount": 2}]}});
        let cells = cells(&ready);
        assert_eq!((&cells[1], &cells[3]), (&json!("1/2"), &json!("2")));
    }
}

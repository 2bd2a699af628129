//! What a pod's status says: pure, from what the runner knows to the object's `status`.
//!
//! Source: Kubernetes' "Pod Lifecycle", and the kubelet's `getPhase` and `GeneratePodReadyCondition`.

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Map, Value, json};

use super::container::{End, Phase, Report};
use super::spec::Restart;

/// What the runner knows about a pod.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) host_ip: String,
    pub(super) start_time: String,
    /// Addresses; none before the network is there.
    pub(super) pod_ips: Vec<String>,
    /// Why the network is not there yet.
    pub(super) sandbox_error: Option<String>,
    /// The network is there.
    pub(super) sandbox_ready: bool,
    /// By container name; those without have not been started.
    pub(super) init: Vec<(String, Result<Report, String>)>,
    pub(super) containers: Vec<(String, Result<Report, String>)>,
    /// The sandbox's id.
    pub(super) id: String,
}

type Reported = Vec<(String, Result<Report, String>)>;

/// `Pending`, `Running`, `Succeeded` or `Failed`.
pub(super) fn phase(pod: &Pod, known: &Known) -> &'static str {
    let restart = Restart::of(pod);
    let over = |reported: &Reported| -> Vec<i32> {
        reported
            .iter()
            .filter_map(|(_, report)| report.as_ref().ok())
            .filter(|report| report.phase == Phase::Over)
            .filter_map(|report| report.last.as_ref())
            .map(|end| end.exit_code)
            .collect()
    };
    // An init container that failed for good fails the pod.
    if restart == Restart::Never && over(&known.init).iter().any(|code| *code != 0) {
        return "Failed";
    }
    let containers = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    let ended = over(&known.containers);
    if containers > 0 && ended.len() == containers {
        return if ended.iter().all(|code| *code == 0) {
            "Succeeded"
        } else {
            "Failed"
        };
    }
    let started = |(_, report): &(String, Result<Report, String>)| {
        report
            .as_ref()
            .is_ok_and(|report| report.phase != Phase::Starting)
    };
    // One that never could be started keeps the pod pending, as a missing image does.
    if known.containers.len() == containers && known.containers.iter().all(started) {
        "Running"
    } else {
        "Pending"
    }
}

/// The status, with the times of earlier conditions kept where nothing changed.
pub(super) fn status(pod: &Pod, known: &Known, now: &str) -> Value {
    let spec = pod.spec.as_ref();
    let phase = phase(pod, known);
    let init: &[Container] = spec
        .and_then(|spec| spec.init_containers.as_deref())
        .unwrap_or_default();
    let containers = spec.map_or(&[][..], |spec| &spec.containers);
    let mut status = json!({
        "phase": phase,
        "hostIP": known.host_ip,
        "hostIPs": [{"ip": known.host_ip}],
        "startTime": known.start_time,
        "conditions": conditions(pod, known, phase, now),
        "containerStatuses": container_statuses(containers, &known.containers, known, false),
    });
    if let Value::Object(fields) = &mut status {
        if !init.is_empty() {
            let list = container_statuses(init, &known.init, known, true);
            fields.insert("initContainerStatuses".to_owned(), list);
        }
        if let Some(first) = known.pod_ips.first() {
            let list: Vec<Value> = known.pod_ips.iter().map(|ip| json!({"ip": ip})).collect();
            fields.insert("podIP".to_owned(), json!(first));
            fields.insert("podIPs".to_owned(), Value::Array(list));
        }
    }
    status
}

fn conditions(pod: &Pod, known: &Known, phase: &str, now: &str) -> Value {
    let init_count = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.init_containers.as_ref())
        .map_or(0, Vec::len);
    let init_done = known.init.iter().filter(|(_, report)| succeeded(report)).count();
    let finished = matches!(phase, "Succeeded" | "Failed");
    let ready = !finished
        && known.sandbox_ready
        && !known.containers.is_empty()
        && known.containers.iter().all(|(_, report)| running(report));
    let why = if phase == "Succeeded" {
        Some(("PodCompleted", String::new()))
    } else if let Some(message) = &known.sandbox_error {
        Some(("FailedCreatePodSandBox", message.clone()))
    } else {
        Some(("ContainersNotReady", unready(pod, known)))
    };
    let sandbox_why = known
        .sandbox_error
        .clone()
        .map(|message| ("FailedCreatePodSandBox", message));
    let initialized = init_done == init_count;
    let init_why = Some(("ContainersNotInitialized", String::new()));
    let wanted = [
        (
            "PodReadyToStartContainers",
            known.sandbox_ready && !finished,
            sandbox_why,
        ),
        ("Initialized", initialized, init_why),
        ("Ready", ready, why.clone()),
        ("ContainersReady", ready, why),
        ("PodScheduled", true, None),
    ];
    let before: Vec<Value> = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref())
        .and_then(|list| serde_json::to_value(list).ok())
        .and_then(|list| serde_json::from_value(list).ok())
        .unwrap_or_default();
    let foreign = before.iter().filter(|condition| {
        let kind = condition.get("type").and_then(Value::as_str).unwrap_or_default();
        wanted.iter().all(|(own, ..)| *own != kind)
    });
    let own = wanted
        .iter()
        .map(|(kind, holds, why)| condition(kind, *holds, why.as_ref(), &before, now));
    own.chain(foreign.cloned()).collect()
}

fn condition(
    kind: &str,
    holds: bool,
    why: Option<&(&'static str, String)>,
    before: &[Value],
    now: &str,
) -> Value {
    let status = if holds { "True" } else { "False" };
    let since = before
        .iter()
        .find(|old| {
            old.get("type").is_some_and(|v| v == kind) && old.get("status").is_some_and(|v| v == status)
        })
        .and_then(|old| old.get("lastTransitionTime").cloned())
        .unwrap_or_else(|| json!(now));
    let mut condition = Map::from_iter([
        ("type".to_owned(), json!(kind)),
        ("status".to_owned(), json!(status)),
        ("lastProbeTime".to_owned(), Value::Null),
        ("lastTransitionTime".to_owned(), since),
    ]);
    if let Some((reason, message)) = why.filter(|_| !holds) {
        condition.insert("reason".to_owned(), json!(reason));
        if !message.is_empty() {
            condition.insert("message".to_owned(), json!(message));
        }
    }
    Value::Object(condition)
}

fn unready(pod: &Pod, known: &Known) -> String {
    let names: Vec<&str> = pod
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .map(|container| container.name.as_str())
        .filter(|name| {
            !known
                .containers
                .iter()
                .any(|(other, report)| other == name && running(report))
        })
        .collect();
    format!("containers with unready status: [{}]", names.join(" "))
}

fn running(report: &Result<Report, String>) -> bool {
    report
        .as_ref()
        .is_ok_and(|report| matches!(report.phase, Phase::Running(_)))
}

pub(super) fn succeeded(report: &Result<Report, String>) -> bool {
    report.as_ref().is_ok_and(|report| {
        report.phase == Phase::Over && report.last.as_ref().is_some_and(|end| end.exit_code == 0)
    })
}

fn container_statuses(containers: &[Container], reported: &Reported, known: &Known, init: bool) -> Value {
    containers
        .iter()
        .map(|container| {
            let report = reported.iter().find(|(name, _)| *name == container.name);
            container_status(container, report.map(|(_, report)| report), known, init)
        })
        .collect()
}

fn container_status(
    container: &Container,
    report: Option<&Result<Report, String>>,
    known: &Known,
    init: bool,
) -> Value {
    let waiting = |reason: &str, message: &str| {
        let mut waiting = json!({"reason": reason});
        if !message.is_empty() {
            waiting["message"] = json!(message);
        }
        json!({"waiting": waiting})
    };
    let mut last = json!({});
    let state = match report {
        None if init || known.init.is_empty() => waiting("ContainerCreating", ""),
        None => waiting("PodInitializing", ""),
        Some(Err(message)) => waiting("CreateContainerConfigError", message),
        Some(Ok(report)) => {
            if let Some(end) = report.last.as_ref().filter(|_| report.phase != Phase::Over) {
                last = json!({"terminated": terminated(end, container, known)});
            }
            match (&report.phase, &report.last) {
                (Phase::Running(since), _) => json!({"running": {"startedAt": since}}),
                (Phase::Over, Some(end)) => json!({"terminated": terminated(end, container, known)}),
                (Phase::Pausing, Some(end)) => {
                    let message = end
                        .message
                        .as_deref()
                        .unwrap_or("back-off restarting the container");
                    waiting("CrashLoopBackOff", message)
                }
                (Phase::Starting | Phase::Over | Phase::Pausing, _) => waiting("ContainerCreating", ""),
            }
        }
    };
    let up = report.is_some_and(running);
    let ready = if init { report.is_some_and(succeeded) } else { up };
    let started = report.is_some_and(|report| report.as_ref().is_ok_and(|r| r.phase != Phase::Starting));
    json!({
        "name": container.name,
        "image": container.image.clone().unwrap_or_default(),
        "imageID": "",
        "containerID": if started { container_id(container, known) } else { String::new() },
        "ready": ready,
        "started": up,
        "restartCount": report.and_then(|report| report.as_ref().ok()).map_or(0, |report| report.restarts),
        "state": state,
        "lastState": last,
    })
}

fn container_id(container: &Container, known: &Known) -> String {
    format!("caracal-lab://{}-{}", known.id, container.name)
}

fn terminated(end: &End, container: &Container, known: &Known) -> Value {
    let reason = match (end.exit_code, &end.message) {
        (_, Some(_)) => "StartError",
        (0, None) => "Completed",
        _ => "Error",
    };
    let mut terminated = json!({
        "exitCode": end.exit_code,
        "reason": reason,
        "startedAt": end.started_at,
        "finishedAt": end.finished_at,
        "containerID": container_id(container, known),
    });
    if let Some(signal) = end.signal {
        terminated["signal"] = json!(signal);
    }
    if let Some(message) = &end.message {
        terminated["message"] = json!(message);
    }
    terminated
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn pod(policy: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web"},
            "spec": {"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]},
            "status": {"conditions": [
                {"type": "Ready", "status": "False", "lastTransitionTime": "2020-01-01T00:00:00Z"},
                {"type": "example.com/gate", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}]},
        }))
        .unwrap()
    }

    fn report(phase: Phase, exit_code: Option<i32>) -> Result<Report, String> {
        Ok(Report {
            phase,
            restarts: 1,
            last: exit_code.map(|exit_code| End {
                exit_code,
                signal: None,
                message: None,
                started_at: NOW.to_owned(),
                finished_at: NOW.to_owned(),
            }),
        })
    }

    fn known(a: Result<Report, String>, b: Result<Report, String>) -> Known {
        Known {
            sandbox_ready: true,
            start_time: NOW.to_owned(),
            pod_ips: vec!["10.244.0.1".to_owned()],
            containers: vec![("a".to_owned(), a), ("b".to_owned(), b)],
            ..Known::default()
        }
    }

    fn running_now() -> Result<Report, String> {
        report(Phase::Running(NOW.to_owned()), None)
    }

    fn condition_of<'a>(status: &'a Value, kind: &str) -> &'a Value {
        let list = status["conditions"].as_array().unwrap();
        list.iter().find(|condition| condition["type"] == kind).unwrap()
    }

    #[test]
    fn phases_follow_the_containers() {
        let over = |code| report(Phase::Over, Some(code));
        let cases = [
            (known(running_now(), running_now()), "Running"),
            (known(running_now(), report(Phase::Starting, None)), "Pending"),
            (known(running_now(), Err("no".to_owned())), "Pending"),
            (known(running_now(), over(1)), "Running"),
            (known(report(Phase::Pausing, Some(1)), running_now()), "Running"),
            (known(over(0), over(0)), "Succeeded"),
            (known(over(0), over(2)), "Failed"),
            (Known::default(), "Pending"),
        ];
        for (known, expected) in cases {
            assert_eq!(phase(&pod("Never"), &known), expected, "{known:?}");
        }
    }

    #[test]
    fn a_running_pod_is_ready_and_a_failed_network_says_why_not() {
        let status_of = |known: &Known| status(&pod("Always"), known, NOW);
        let ready = status_of(&known(running_now(), running_now()));
        assert_eq!(condition_of(&ready, "Ready")["status"], "True");
        assert_eq!(condition_of(&ready, "Ready")["lastTransitionTime"], NOW);
        assert_eq!(condition_of(&ready, "example.com/gate")["status"], "True");
        assert_eq!(ready["podIPs"], json!([{"ip": "10.244.0.1"}]));
        assert_eq!(ready["containerStatuses"][0]["ready"], true);
        let failed = status_of(&Known {
            sandbox_error: Some("pool is full".to_owned()),
            ..Known::default()
        });
        let condition = condition_of(&failed, "Ready");
        assert_eq!(condition["message"], "pool is full");
        assert_eq!(condition["lastTransitionTime"], "2020-01-01T00:00:00Z");
        assert!(failed.get("podIP").is_none());
    }

    #[test]
    fn a_crashing_container_waits_and_shows_its_last_end() {
        let crashed = status(
            &pod("Always"),
            &known(report(Phase::Pausing, Some(3)), running_now()),
            NOW,
        );
        let first = &crashed["containerStatuses"][0];
        assert_eq!(first["state"]["waiting"]["reason"], "CrashLoopBackOff");
        assert_eq!(first["lastState"]["terminated"]["exitCode"], 3);
        assert_eq!(first["restartCount"], 1);
        assert_eq!(
            condition_of(&crashed, "Ready")["message"],
            "containers with unready status: [a]"
        );
        // The API's own types can read it.
        serde_json::from_value::<k8s_openapi::api::core::v1::PodStatus>(crashed).unwrap();
    }
}

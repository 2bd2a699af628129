use super::*;
use serde_json::json;

fn spec(value: serde_json::Value) -> KubeControllersConfigurationSpec {
    serde_json::from_value(value).unwrap()
}

fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn without_a_resource_the_defaults_are_calicos() {
    let Effective {
        settings,
        status,
        problems,
    } = effective(None, &BTreeMap::new());
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(settings.metrics_port, Some(9094));
    let node = settings.node.unwrap();
    assert_eq!(node.leak_grace, Some(Duration::from_secs(900)));
    assert_eq!(node.period, Duration::from_secs(300));
    assert_eq!(node.host_endpoints, None);
    assert!(settings.rename_policies && settings.health);
    let running = serde_json::to_value(status.running_config).unwrap();
    assert_eq!(running["controllers"]["node"]["leakGracePeriod"], "15m0s");
    assert_eq!(
        running["controllers"]["node"]["hostEndpoint"]["autoCreate"],
        "Disabled"
    );
    assert_eq!(running["controllers"]["loadBalancer"]["assignIPs"], "AllServices");
}

#[test]
fn the_resource_is_taken_at_its_word_and_completed() {
    let given = spec(json!({
        "logSeverityScreen": "Debug", "prometheusMetricsPort": 0, "healthChecks": "Disabled",
        "controllers": {"node": {"leakGracePeriod": "0s", "hostEndpoint": {
            "autoCreate": "Enabled", "createDefaultHostEndpoint": "Disabled",
            "templates": [{"generateName": "a", "nodeSelector": "all()"}]}},
            "migration": {"policyNameMigrator": "Disabled"}},
    }));
    let outcome = effective(Some(&given), &BTreeMap::new());
    assert_eq!(outcome.problems, Vec::<String>::new());
    let settings = outcome.settings;
    assert_eq!(settings.log_level, LogLevel::Debug);
    assert_eq!((settings.metrics_port, settings.health), (None, false));
    assert!(!settings.rename_policies);
    let node = settings.node.unwrap();
    assert_eq!(node.leak_grace, None, "0 turns it off");
    assert_eq!(node.period, Duration::from_secs(300));
    let endpoints = node.host_endpoints.unwrap();
    assert!(!endpoints.default);
    assert_eq!(endpoints.templates.len(), 1);
    // A controller that the resource leaves out does not run.
    let without = effective(Some(&spec(json!({"controllers": {}}))), &BTreeMap::new());
    assert_eq!(without.settings.node, None);
}

#[test]
fn the_environment_overrides_and_is_told_in_the_status() {
    let outcome = effective(
        Some(&spec(
            json!({"controllers": {"node": {"leakGracePeriod": "1h"}, "policy": {}}}),
        )),
        &environment(&[
            ("ENABLED_CONTROLLERS", "node,loadbalancer"),
            ("LOG_LEVEL", "warning"),
            ("RECONCILER_PERIOD", "2m"),
            ("AUTO_HOST_ENDPOINTS", "enabled"),
            ("HEALTH_ENABLED", ""),
            ("UNRELATED", "x"),
        ]),
    );
    assert_eq!(outcome.problems, Vec::<String>::new());
    assert_eq!(outcome.settings.log_level, LogLevel::Warning);
    let node = outcome.settings.node.unwrap();
    assert_eq!(node.period, Duration::from_secs(120));
    assert_eq!(node.leak_grace, Some(Duration::from_secs(3600)));
    assert!(node.host_endpoints.unwrap().default);
    let running = outcome.status.running_config.unwrap().controllers.unwrap();
    assert_eq!(running.policy, None, "not enabled");
    assert!(running.load_balancer.is_some());
    assert_eq!(
        outcome.status.environment_vars.keys().collect::<Vec<_>>(),
        [
            "AUTO_HOST_ENDPOINTS",
            "ENABLED_CONTROLLERS",
            "LOG_LEVEL",
            "RECONCILER_PERIOD"
        ]
    );
}

#[test]
fn what_cannot_be_used_is_named_with_its_value_and_a_remedy() {
    let outcome = effective(
        Some(&spec(json!({
            "logSeverityScreen": "Loud", "prometheusMetricsPort": 70000,
            "controllers": {"node": {"leakGracePeriod": "soon", "hostEndpoint": {"autoCreate": "Maybe"}}},
        }))),
        &environment(&[
            ("ENABLED_CONTROLLERS", "node,typo"),
            ("RECONCILER_PERIOD", "often"),
        ]),
    );
    let text = outcome.problems.join("\n");
    for part in [
        "logSeverityScreen \"Loud\" is not known: use Trace, Debug",
        "prometheusMetricsPort 70000 is no port",
        "controllers.node.leakGracePeriod \"soon\" is no duration",
        "controllers.node.hostEndpoint.autoCreate \"Maybe\" is not known: use Enabled, Disabled; Disabled is used",
        "environment variable ENABLED_CONTROLLERS=\"node,typo\" is not used: \"typo\" is no controller",
        "environment variable RECONCILER_PERIOD=\"often\" is not used",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    assert_eq!(outcome.settings.metrics_port, Some(9094));
    assert_eq!(
        outcome.settings.node.unwrap().leak_grace,
        Some(Duration::from_secs(900))
    );
}

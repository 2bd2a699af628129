//! Server-side apply: who manages which field, what an applied configuration changes, and who is in the way.
//!
//! Pure. Managers are recorded from the first time that something is applied to an object; what was there before
//! belongs to `before-first-apply`. Source: KEP-555 and the structured merge of Kubernetes.

mod last;
mod merge;
mod set;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::builtin;
use crate::resource::Resource;
use crate::status::ApiError;
pub(crate) use set::Set;

/// An applied configuration.
pub(crate) struct Applied {
    pub(crate) value: Value,
    pub(crate) manager: String,
    pub(crate) force: bool,
}

/// One entry of `metadata.managedFields`.
#[derive(Clone, Debug, PartialEq)]
struct Manager {
    name: String,
    operation: String,
    api_version: String,
    subresource: String,
    time: String,
    set: Set,
}

const APPLY: &str = "Apply";
const UPDATE: &str = "Update";
/// Metadata that nobody manages.
const NOBODYS: [&str; 12] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "generateName",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "managedFields",
    "clusterName",
];

fn schema_of(resource: &Resource) -> Option<&Value> {
    let built_in = || builtin::schema(&builtin::schema_name(resource));
    resource.schema.as_deref().or_else(built_in)
}

/// What of an object this way of writing is about, without what nobody manages.
fn managed_part(resource: &Resource, status: bool, value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|key, _| match key.as_str() {
            "apiVersion" | "kind" => false,
            "status" => status || !resource.has_status,
            _ => !status || key == "metadata" && !resource.is_custom(),
        });
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|key, _| !NOBODYS.contains(&key.as_str()));
        }
        if fields
            .get("metadata")
            .is_some_and(|metadata| *metadata == json!({}))
        {
            fields.remove("metadata");
        }
    }
    value
}

fn read(value: &Value) -> Vec<Manager> {
    let entries = value.pointer("/metadata/managedFields").and_then(Value::as_array);
    let entry = |entry: &Value| {
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let manager = Manager {
            name: text("manager"),
            operation: text("operation"),
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: text("time"),
            set: Set::from_value(&entry["fieldsV1"]),
        };
        (!manager.operation.is_empty()).then_some(manager)
    };
    entries.into_iter().flatten().filter_map(entry).collect()
}

fn write(value: &mut Value, mut managers: Vec<Manager>) {
    managers.retain(|manager| !manager.set.is_empty());
    managers.sort_by(|a, b| (&a.operation, &a.time, &a.name).cmp(&(&b.operation, &b.time, &b.name)));
    let entry = |manager: &Manager| {
        let mut entry = json!({"manager": manager.name, "operation": manager.operation,
            "apiVersion": manager.api_version, "time": manager.time, "fieldsType": "FieldsV1",
            "fieldsV1": manager.set.to_value()});
        if !manager.subresource.is_empty() {
            entry["subresource"] = manager.subresource.as_str().into();
        }
        entry
    };
    let list: Vec<Value> = managers.iter().map(entry).collect();
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        if list.is_empty() {
            metadata.remove("managedFields");
        } else {
            metadata.insert("managedFields".to_owned(), list.into());
        }
    }
}

impl Manager {
    fn is(&self, name: &str, operation: &str, status: bool) -> bool {
        self.name == name && self.operation == operation && (self.subresource == "status") == status
    }
}

/// The managers of an object, of which `before-first-apply` owns everything when none was recorded.
fn managers_of(resource: &Resource, old: &Value, now: &str) -> Vec<Manager> {
    let managers = read(old);
    if !managers.is_empty() || old.get("metadata").is_none() {
        return managers;
    }
    let mut all = managed_part(resource, false, old);
    if let (Some(fields), Some(status)) = (all.as_object_mut(), old.get("status")) {
        fields.insert("status".to_owned(), status.clone());
    }
    vec![Manager {
        name: "before-first-apply".to_owned(),
        operation: UPDATE.to_owned(),
        api_version: resource.api_version(),
        subresource: String::new(),
        time: now.to_owned(),
        set: Set::of(&all, None, schema_of(resource)),
    }]
}

/// Applies to what there is, which is null when nothing is; the result has its managers.
pub(crate) fn apply(
    resource: &Resource,
    status: bool,
    old: &Value,
    applied: &Applied,
    now: &str,
) -> Result<Value, ApiError> {
    let schema = schema_of(resource);
    let mut managers = managers_of(resource, old, now);
    let part = managed_part(resource, status, &applied.value);
    let wanted = Set::of(&part, None, schema);
    let mut new = if old.is_null() {
        applied.value.clone()
    } else {
        let mut new = old.clone();
        merge::merge(&mut new, &part, schema);
        new
    };
    let changed = Set::of(
        &managed_part(resource, status, &new),
        Some(&managed_part(resource, status, old)),
        schema,
    );
    let changed = changed.intersect(&wanted);
    let own = |manager: &Manager| manager.is(&applied.manager, APPLY, status);
    if applied.force {
        for manager in managers.iter_mut().filter(|manager| !own(manager)) {
            manager.set = manager.set.subtract(&changed);
        }
    } else {
        let taken = last::taken_over(resource, applied, old);
        refuse_conflicts(managers.iter().filter(|m| !own(m)), &changed.subtract(&taken))?;
        for manager in managers.iter_mut().filter(|manager| !own(manager)) {
            manager.set = manager.set.subtract(&changed.intersect(&taken));
        }
    }
    let mut others = Set::default();
    managers
        .iter()
        .filter(|m| !own(m))
        .for_each(|manager| others.join(&manager.set));
    let before = managers.iter().find(|manager| own(manager)).cloned();
    if let Some(before) = &before {
        let kept = [wanted.with_parents(), others.with_parents()];
        let gone = kept
            .iter()
            .fold(before.set.clone(), |gone, kept| gone.subtract(kept));
        merge::remove(&mut new, &gone, &others, schema);
    }
    last::renew(applied, &mut new);
    managers.retain(|manager| !own(manager));
    let same = before.filter(|before| before.set == wanted);
    managers.push(Manager {
        name: applied.manager.clone(),
        operation: APPLY.to_owned(),
        api_version: resource.api_version(),
        subresource: if status { "status" } else { "" }.to_owned(),
        time: same.map_or_else(|| now.to_owned(), |same| same.time),
        set: wanted,
    });
    write(&mut new, managers);
    Ok(new)
}

/// A manager as conflicts name it: appliers by their name, others with the version that they used.
fn shown(manager: &Manager) -> String {
    let mut text = format!("\"{}\"", manager.name);
    if !manager.subresource.is_empty() {
        text = format!("{text} with subresource \"{}\"", manager.subresource);
    }
    if manager.operation == UPDATE {
        text = format!("{text} using {}", manager.api_version);
    }
    text
}

fn refuse_conflicts<'a>(managers: impl Iterator<Item = &'a Manager>, changed: &Set) -> Result<(), ApiError> {
    let mut by_manager: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for manager in managers {
        let fields = manager.set.intersect(changed).paths();
        if !fields.is_empty() {
            by_manager.entry(shown(manager)).or_default().extend(fields);
        }
    }
    let all = by_manager
        .iter()
        .flat_map(|(who, fields)| fields.iter().map(move |field| (field, who)));
    let mut all: Vec<(&String, &String)> = all.collect();
    all.sort();
    let message = match all.as_slice() {
        [] => return Ok(()),
        [(field, who)] => format!("Apply failed with 1 conflict: conflict with {who}: {field}"),
        many => {
            let group = |(who, fields): (&String, &Vec<String>)| {
                let lines: Vec<String> = fields.iter().map(|field| format!("\n- {field}")).collect();
                format!("conflicts with {who}:{}", lines.concat())
            };
            let groups: Vec<String> = by_manager.iter().map(group).collect();
            format!(
                "Apply failed with {} conflicts: {}",
                many.len(),
                groups.join("\n")
            )
        }
    };
    let cause = |(field, who): &(&String, &String)| json!({"reason": "FieldManagerConflict", "message": format!("conflict with {who}"), "field": field});
    Err(ApiError::new(409, "Conflict", message).causes(all.iter().map(cause).collect()))
}

/// Records who made a new object.
pub(crate) fn track_new(resource: &Resource, new: &mut Value, manager: &str, now: &str) {
    let part = managed_part(resource, false, new);
    let empty = json!({});
    let set = Set::changed(&part, &empty, schema_of(resource), resource.is_custom());
    let manager = Manager {
        name: manager.to_owned(),
        operation: UPDATE.to_owned(),
        api_version: resource.api_version(),
        subresource: String::new(),
        time: now.to_owned(),
        set,
    };
    write(new, vec![manager]);
}

/// Records a change that was not applied, on objects that have managers.
pub(crate) fn track(
    resource: &Resource,
    status: bool,
    old: &Value,
    new: &mut Value,
    manager: &str,
    now: &str,
) {
    let given = new
        .pointer("/metadata/managedFields")
        .cloned()
        .unwrap_or_default();
    if given == json!([]) || given == json!([{}]) {
        return write(new, Vec::new());
    }
    // Who writes managers decides about them; who writes none leaves them.
    let mut managers = read(new);
    if managers.is_empty() {
        managers = read(old);
    }
    if managers.is_empty() {
        return write(new, Vec::new());
    }
    let schema = schema_of(resource);
    let (before, after) = (
        managed_part(resource, status, old),
        managed_part(resource, status, new),
    );
    let changed = Set::changed(&after, &before, schema, resource.is_custom());
    let own = managers
        .iter()
        .position(|other| other.is(manager, UPDATE, status));
    for (index, other) in managers.iter_mut().enumerate() {
        other.set = other.set.within(new, schema);
        if Some(index) != own {
            other.set = other.set.subtract(&changed);
        }
    }
    if !changed.is_empty() {
        match own.and_then(|own| managers.get_mut(own)) {
            Some(own) => {
                own.set.join(&changed);
                now.clone_into(&mut own.time);
            }
            None => managers.push(Manager {
                name: manager.to_owned(),
                operation: UPDATE.to_owned(),
                api_version: resource.api_version(),
                subresource: if status { "status" } else { "" }.to_owned(),
                time: now.to_owned(),
                set: changed,
            }),
        }
    }
    write(new, managers);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn pods() -> Resource {
        let all = crate::resource::built_in();
        let pods = all.iter().find(|resource| resource.plural == "pods").unwrap();
        Resource::clone(pods)
    }

    fn put(old: &Value, manager: &str, value: Value, force: bool) -> Result<Value, ApiError> {
        let applied = Applied {
            value,
            manager: manager.to_owned(),
            force,
        };
        apply(&pods(), false, old, &applied, NOW)
    }

    fn pod(labels: Value, containers: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": labels},
            "spec": {"containers": containers}})
    }

    #[test]
    fn what_is_not_applied_any_more_goes_unless_another_manager_has_it() {
        let first = pod(
            json!({"a": "1", "b": "1"}),
            json!([{"name": "x", "image": "1"}, {"name": "y", "image": "1"}]),
        );
        let one = put(&Value::Null, "one", first, false).unwrap();
        assert_eq!(
            one["metadata"]["managedFields"][0]["fieldsV1"],
            json!({"f:metadata": {"f:labels": {"f:a": {}, "f:b": {}}}, "f:spec": {"f:containers": {
                "k:{\"name\":\"x\"}": {".": {}, "f:image": {}, "f:name": {}},
                "k:{\"name\":\"y\"}": {".": {}, "f:image": {}, "f:name": {}}}}})
        );
        // The same values may have two managers.
        let two = put(
            &one,
            "two",
            pod(json!({"b": "1"}), json!([{"name": "y", "image": "1"}])),
            false,
        )
        .unwrap();
        let fewer = put(
            &two,
            "one",
            pod(json!({"c": "1"}), json!([{"name": "x", "image": "2"}])),
            false,
        )
        .unwrap();
        assert_eq!(fewer["metadata"]["labels"], json!({"b": "1", "c": "1"}));
        assert_eq!(
            fewer["spec"]["containers"],
            json!([{"name": "x", "image": "2"}, {"name": "y", "image": "1"}])
        );
        let last = put(
            &fewer,
            "two",
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}),
            false,
        )
        .unwrap();
        assert_eq!(last["metadata"]["labels"], json!({"c": "1"}));
        assert_eq!(last["spec"]["containers"], json!([{"name": "x", "image": "2"}]));
        // Once more changes nothing.
        let again = put(
            &last,
            "one",
            pod(json!({"c": "1"}), json!([{"name": "x", "image": "2"}])),
            false,
        )
        .unwrap();
        assert_eq!(again, last);
    }

    #[test]
    fn what_holds_an_applied_field_stays_where_it_was_managed_itself() {
        // As kubectl writes it when it moves from client-side to server-side apply.
        let mut old = pod(json!({"a": "1", "b": "1"}), json!([{"name": "x", "image": "1"}]));
        old["metadata"]["managedFields"] = json!([{"manager": "one", "operation": "Apply", "apiVersion": "v1",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:a": {}, "f:b": {}}}}}]);
        let new = put(&old, "one", pod(json!({"a": "1"}), json!([])), false).unwrap();
        assert_eq!(new["metadata"]["labels"], json!({"a": "1"}));
    }

    #[test]
    fn a_conflict_names_managers_and_fields_and_force_takes_them() {
        let one = put(
            &Value::Null,
            "one",
            pod(json!({"a": "1"}), json!([{"name": "x", "image": "1"}])),
            false,
        )
        .unwrap();
        let other = pod(json!({"a": "2"}), json!([{"name": "x", "image": "2"}]));
        let error = put(&one, "two", other.clone(), false).unwrap_err();
        assert_eq!(error.code, 409);
        assert!(
            error.message.starts_with(
                "Apply failed with 2 conflicts: conflicts with \"one\":\n- .metadata.labels.a\n- .spec"
            ),
            "{}",
            error.message
        );
        assert!(
            error.message.contains("\n- .spec.containers[name=\"x\"].image"),
            "{}",
            error.message
        );
        let forced = put(&one, "two", other, true).unwrap();
        assert_eq!(forced["metadata"]["labels"]["a"], "2");
        let one = read(&forced)
            .into_iter()
            .find(|manager| manager.name == "one")
            .unwrap();
        assert_eq!(
            one.set.paths(),
            [
                ".spec.containers[name=\"x\"]",
                ".spec.containers[name=\"x\"].name"
            ]
        );
    }

    #[test]
    fn updates_take_what_they_change() {
        let one = put(
            &Value::Null,
            "one",
            pod(json!({"a": "1"}), json!([{"name": "x", "image": "1"}])),
            false,
        )
        .unwrap();
        let mut new = one.clone();
        new["metadata"]["labels"] = json!({"a": "2", "b": "1"});
        track(&pods(), false, &one, &mut new, "kubectl", NOW);
        let paths = |name: &str| {
            let managers = read(&new);
            managers
                .iter()
                .find(|manager| manager.name == name)
                .unwrap()
                .set
                .paths()
        };
        assert_eq!(paths("kubectl"), [".metadata.labels.a", ".metadata.labels.b"]);
        assert_eq!(paths("one").len(), 3);
        let error = put(
            &new,
            "one",
            pod(json!({"a": "1"}), json!([{"name": "x", "image": "1"}])),
            false,
        )
        .unwrap_err();
        assert!(
            error
                .message
                .contains("1 conflict: conflict with \"kubectl\" using v1: .metadata.labels.a"),
            "{}",
            error.message
        );
        // What was there before the first apply has a manager, too.
        let plain = pod(json!({"a": "1"}), json!([]));
        let error = put(&plain, "one", pod(json!({"a": "2"}), json!([])), false).unwrap_err();
        assert!(error.message.contains("before-first-apply"), "{}", error.message);
    }
}

//! The life of one object of every kind, from the examples in `requests/kinds.yaml`.

use caracal_api::kinds::{ALL, Kind, Storage};
use caracal_api::yaml;
use serde_json::{Value, json};

use crate::answers;
use crate::requests::Step;

const NAMESPACE: &str = "kinds";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// All steps: the namespace, then each kind in turn. A kind without an example fails here.
pub(crate) fn steps() -> Vec<Step> {
    let path = answers::file("requests", "kinds", "yaml");
    let examples = yaml::document(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut steps = vec![step(
        "namespace",
        "POST /api/v1/namespaces",
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
    )];
    for kind in ALL.iter().filter(|kind| kind.storage == Storage::CustomResource) {
        let example = examples
            .get(kind.kind)
            .unwrap_or_else(|| panic!("kinds.yaml has no {}", kind.kind));
        life(kind, example, &mut steps);
    }
    steps
}

fn step(say: &str, send: &str, body: Value) -> Step {
    Step {
        say: say.to_owned(),
        send: send.to_owned(),
        body,
        ..Step::default()
    }
}

fn life(kind: &Kind, example: &Value, steps: &mut Vec<Step>) {
    let group = "/apis/projectcalico.org/v3";
    let collection = match kind.namespaced {
        true => format!("{group}/namespaces/{NAMESPACE}/{}", kind.plural),
        false => format!("{group}/{}", kind.plural),
    };
    let name = example["name"].as_str().unwrap_or("example");
    let path = format!("{collection}/{name}");
    let object = |spec: &Value, metadata: Value| {
        let mut object = json!({"apiVersion": "projectcalico.org/v3", "kind": kind.kind, "metadata": metadata, "spec": spec});
        object["metadata"]["name"] = name.into();
        object
    };
    let spec = &example["spec"];
    let mut push = |what: &str, send: String, body: Value, edit: &dyn Fn(&mut Step)| {
        let mut step = step(&format!("{}: {what}", kind.kind), &send, body);
        edit(&mut step);
        steps.push(step);
    };
    let plain = |_: &mut Step| {};
    push(
        "create",
        format!("POST {collection}?fieldManager=m"),
        object(spec, json!({})),
        &|step| {
            step.save
                .insert("version".into(), "/metadata/resourceVersion".into());
        },
    );
    push(
        "create again",
        format!("POST {collection}"),
        object(spec, json!({})),
        &plain,
    );
    push("read", format!("GET {path}"), Value::Null, &plain);
    let labels = json!({"labels": {"color": "red"}, "resourceVersion": "${version}"});
    push(
        "replace",
        format!("PUT {path}?fieldManager=m"),
        object(spec, labels.clone()),
        &plain,
    );
    push(
        "replace an old version",
        format!("PUT {path}"),
        object(spec, labels),
        &plain,
    );
    let note = json!({"metadata": {"annotations": {"note": "x"}}});
    push(
        "merge patch",
        format!("PATCH {path}?fieldManager=p"),
        note,
        &plain,
    );
    let status = json!({"metadata": {"labels": {"ignored": "by-status"}}});
    push(
        "merge patch of the status",
        format!("PATCH {path}/status?fieldManager=p"),
        status,
        &plain,
    );
    let mut odd = object(spec, json!({"resourceVersion": ""}));
    odd["spec"]["noSuchField"] = 1.into();
    push(
        "unknown field, strict",
        format!("PUT {path}?fieldValidation=Strict"),
        odd.clone(),
        &plain,
    );
    push(
        "unknown field, dry run",
        format!("PUT {path}?dryRun=All&fieldManager=m"),
        odd,
        &plain,
    );
    for (index, bad) in example["bad"].as_array().into_iter().flatten().enumerate() {
        let refused = object(bad, json!({}));
        push(
            &format!("refused {index}"),
            format!("POST {collection}?dryRun=All"),
            refused,
            &plain,
        );
    }
    push("table", format!("GET {path}"), Value::Null, &|step| {
        step.accept = TABLE.into()
    });
    push(
        "list",
        format!("GET {collection}?labelSelector=color%3Dred"),
        Value::Null,
        &plain,
    );
    push("delete", format!("DELETE {path}"), Value::Null, &plain);
    push("read what is gone", format!("GET {path}"), Value::Null, &plain);
}

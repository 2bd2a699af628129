//! Steps of HTTP requests, read from YAML: one request each, with what is to be remembered of its answer.

use std::collections::BTreeMap;
use std::time::Duration;

use caracal_api::yaml;
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde::Deserialize;
use serde_json::Value;

use crate::answers::{self, Answer};
use crate::target::Target;
use crate::{kinds, mask};

const PATIENCE: Duration = Duration::from_secs(20);
/// A watch that says nothing for so long says nothing more.
const SILENCE: Duration = Duration::from_secs(8);

/// One request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Step {
    /// The title.
    pub(crate) say: String,
    /// Method and path.
    pub(crate) send: String,
    /// An object, or text that is sent as it is.
    pub(crate) body: Value,
    /// The content type.
    pub(crate) r#type: String,
    pub(crate) accept: String,
    /// Names for parts of the answer, used as `${NAME}` in later steps.
    pub(crate) save: BTreeMap<String, String>,
    /// The answer is a watch of so many lines.
    pub(crate) lines: usize,
    /// Only these parts of the answer are compared.
    pub(crate) show: Vec<String>,
    /// The answer is not compared.
    pub(crate) silent: bool,
    /// The request is repeated until it has this status code.
    pub(crate) until: u16,
}

fn read(name: &str) -> Vec<Step> {
    if name == "kinds" {
        return kinds::steps();
    }
    let path = answers::file("requests", name, "yaml");
    let document = yaml::document(&std::fs::read_to_string(path).unwrap()).unwrap();
    serde_json::from_value(document).unwrap()
}

/// Sends all requests of a file and compares the answers.
pub(crate) async fn check(target: &Target, name: &str) {
    let mut saved = BTreeMap::new();
    let mut got = Vec::new();
    for step in read(name) {
        got.extend(take(target, &step, &mut saved).await);
    }
    answers::check(target, "requests", name, got);
}

fn fill(text: &str, saved: &BTreeMap<String, String>) -> String {
    saved.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("${{{name}}}"), value)
    })
}

fn request(step: &Step, saved: &BTreeMap<String, String>) -> Request<Body> {
    let line = fill(&step.send, saved);
    let (method, path) = line
        .split_once(' ')
        .unwrap_or_else(|| panic!("no method and path: {line}"));
    let method: Method = method.parse().unwrap();
    // Whoever names no manager is known by this.
    let mut request = Request::builder()
        .method(&method)
        .uri(path)
        .header("user-agent", "agreement/1");
    let kind = match (step.r#type.as_str(), &method) {
        ("", &Method::PATCH) => "application/merge-patch+json",
        ("", _) => "application/json",
        (kind, _) => kind,
    };
    if !step.body.is_null() {
        request = request.header("content-type", kind);
    }
    if !step.accept.is_empty() {
        request = request.header("accept", &step.accept);
    }
    let body = match &step.body {
        Value::Null => Vec::new(),
        Value::String(text) => fill(text, saved).into_bytes(),
        value => fill(&value.to_string(), saved).into_bytes(),
    };
    request.body(Body::from(body)).unwrap()
}

async fn take(target: &Target, step: &Step, saved: &mut BTreeMap<String, String>) -> Option<Answer> {
    let answer = tokio::time::timeout(PATIENCE, send(target, step, saved)).await;
    let answer = answer.unwrap_or_else(|_| panic!("no answer: {}", step.send));
    let code = answer.status().as_u16();
    let mut body = documents(answer, step).await;
    for (name, pointer) in &step.save {
        let value = body.first().and_then(|body| body.pointer(pointer));
        // What is not there shows as a difference of this answer, and of those that need it.
        let text = value.map_or("(absent)".to_owned(), |value| {
            value.as_str().map_or_else(|| value.to_string(), str::to_owned)
        });
        saved.insert(name.clone(), text);
    }
    if step.silent {
        assert!(code < 300, "{}: {code}: {body:?}", step.say);
        return None;
    }
    body.iter_mut().for_each(mask::value);
    if !step.show.is_empty() {
        for document in &mut body {
            let shown = step.show.iter().map(|pointer| {
                let value = document.pointer(pointer).cloned().unwrap_or_default();
                (pointer.clone(), value)
            });
            *document = Value::Object(shown.collect());
        }
    }
    Some(Answer {
        title: step.say.clone(),
        outcome: format!("{} -> {code}", step.send),
        body,
        text: false,
    })
}

async fn send(target: &Target, step: &Step, saved: &BTreeMap<String, String>) -> Response<Body> {
    loop {
        let answer = target.client.kube().send(request(step, saved)).await.unwrap();
        if step.until == 0 || answer.status().as_u16() == step.until {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn documents(mut answer: Response<Body>, step: &Step) -> Vec<Value> {
    let mut text = Vec::new();
    let enough =
        |text: &[u8]| step.lines > 0 && text.iter().filter(|byte| **byte == b'\n').count() >= step.lines;
    while !enough(&text) {
        // Lines that are missing show as a difference.
        match tokio::time::timeout(SILENCE, answer.body_mut().frame()).await {
            Ok(Some(Ok(frame))) => text.extend_from_slice(&frame.into_data().unwrap_or_default()),
            _ => break,
        }
    }
    // An answer may come in one piece with the begin of the next line.
    if step.lines > 0 {
        let ends = text
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'\n')
            .map(|(at, _)| at);
        let end = ends.take(step.lines).last().map_or(text.len(), |at| at + 1);
        text.truncate(end);
    }
    let read: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(&text).into_iter().collect();
    read.unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        // How YAML is written is up to its writer.
        match yaml::document(&text) {
            Ok(value @ Value::Object(_)) if step.accept.contains("yaml") => vec![value],
            _ => vec![Value::String(text)],
        }
    })
}

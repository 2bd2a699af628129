//! Files of answers: sections with a title, one line of outcome, and what was answered.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::differences::Differences;
use crate::target::Target;

/// What was answered to one step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) title: String,
    /// The request and its status code, or the exit code of a command.
    pub(crate) outcome: String,
    /// JSON documents, or lines of text as JSON strings.
    pub(crate) body: Vec<Value>,
    /// The body is text.
    pub(crate) text: bool,
}

pub(crate) fn file(folder: &str, name: &str, ending: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/agree")
        .join(folder)
        .join(format!("{name}.{ending}"))
}

fn render(answers: &[Answer]) -> String {
    let mut text = String::new();
    for answer in answers {
        writeln!(text, "=== {}\n{}", answer.title, answer.outcome).unwrap();
        for document in &answer.body {
            match document {
                Value::String(line) if answer.text => writeln!(text, "{line}").unwrap(),
                document => writeln!(text, "{}", serde_json::to_string(document).unwrap()).unwrap(),
            }
        }
    }
    text
}

fn parse(text: &str, is_text: bool) -> Vec<Answer> {
    let sections = text
        .strip_prefix("=== ")
        .map_or(Vec::new(), |text| text.split("\n=== ").collect());
    sections
        .into_iter()
        .map(|section| {
            let mut parts = section.splitn(3, '\n');
            let mut next = || parts.next().unwrap_or_default();
            let (title, outcome, rest) = (next().to_owned(), next().to_owned(), next());
            let body = if is_text {
                rest.lines().map(Value::from).collect()
            } else {
                let documents = serde_json::Deserializer::from_str(rest).into_iter();
                documents.collect::<Result<_, _>>().unwrap()
            };
            Answer {
                title,
                outcome,
                body,
                text: is_text,
            }
        })
        .collect()
}

/// Compares with the recorded answers, or records them.
pub(crate) fn check(target: &Target, folder: &str, name: &str, got: Vec<Answer>) {
    let path = file(folder, name, "answers");
    let definitions = file("requests", "definitions", "hash");
    if target.records() {
        std::fs::write(&path, render(&got)).unwrap();
        std::fs::write(definitions, format!("{}\n", hash())).unwrap();
        return;
    }
    // Definitions are a part of what was asked: answers to others cannot be compared.
    if !target.is_real() && std::fs::read_to_string(definitions).unwrap_or_default().trim() != hash() {
        eprintln!(
            "{folder}/{name} NOT COMPARED: the definitions of our kinds changed since kube-apiserver was asked; run: make test-kube RECORD=1"
        );
        return;
    }
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let is_text = got.first().is_some_and(|answer| answer.text);
    let wanted = parse(&text, is_text);
    let differences = Differences::read(&format!("{folder}/{name}"), target.is_real());
    let mut findings = String::new();
    let titles = |answers: &[Answer]| {
        answers
            .iter()
            .map(|answer| answer.title.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        titles(&got),
        titles(&wanted),
        "the answers in {} are of other steps: make test-kube RECORD=1 writes them anew",
        path.display()
    );
    for (got, wanted) in got.iter().zip(&wanted) {
        compare(got, wanted, &differences, &mut findings);
    }
    differences.unused(&mut findings);
    let who = if target.is_real() {
        "kube-apiserver"
    } else {
        "the embedded server"
    };
    assert!(
        findings.is_empty(),
        "{folder}/{name}: {who} answers otherwise (- recorded, + now):\n{findings}"
    );
}

/// A digest of our definitions and admission policies.
fn hash() -> String {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(&caracal_api::crd::all())
        .unwrap()
        .hash(&mut hasher);
    serde_json::to_string(&caracal_api::admission::manifests())
        .unwrap()
        .hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn compare(got: &Answer, wanted: &Answer, differences: &Differences, findings: &mut String) {
    let mut found = Vec::new();
    if got.outcome != wanted.outcome {
        found.push(("outcome".to_owned(), wanted.outcome.clone(), got.outcome.clone()));
    }
    if got.text {
        lines(&got.body, &wanted.body, &mut found);
    } else {
        if got.body.len() != wanted.body.len() {
            found.push((
                "count".to_owned(),
                wanted.body.len().to_string(),
                got.body.len().to_string(),
            ));
        }
        for (index, (got, wanted)) in got.body.iter().zip(&wanted.body).enumerate() {
            let at = if index == 0 {
                String::new()
            } else {
                format!("[{index}]")
            };
            documents(&at, got, wanted, &mut found);
        }
    }
    found.retain(|(at, _, _)| !differences.allow(&got.title, at));
    if found.is_empty() {
        return;
    }
    writeln!(findings, "=== {}", got.title).unwrap();
    for (at, wanted, got) in found {
        writeln!(findings, "{at}\n  - {wanted}\n  + {got}").unwrap();
    }
}

type Found = Vec<(String, String, String)>;

/// Each line that one side has and the other has not, by a longest common subsequence.
fn lines(got: &[Value], wanted: &[Value], found: &mut Found) {
    let mut lengths = vec![vec![0_usize; wanted.len() + 1]; got.len() + 1];
    for (row, line) in got.iter().enumerate().rev() {
        for (column, other) in wanted.iter().enumerate().rev() {
            lengths[row][column] = if line == other {
                lengths[row + 1][column + 1] + 1
            } else {
                lengths[row + 1][column].max(lengths[row][column + 1])
            };
        }
    }
    let (mut row, mut column) = (0, 0);
    let text = |line: Option<&Value>| line.and_then(Value::as_str).unwrap_or_default().to_owned();
    while row < got.len() || column < wanted.len() {
        if row < got.len() && column < wanted.len() && got[row] == wanted[column] {
            (row, column) = (row + 1, column + 1);
        } else if column < wanted.len()
            && (row == got.len() || lengths[row][column + 1] >= lengths[row + 1][column])
        {
            found.push((text(wanted.get(column)), text(wanted.get(column)), String::new()));
            column += 1;
        } else {
            found.push((text(got.get(row)), String::new(), text(got.get(row))));
            row += 1;
        }
    }
}

fn documents(at: &str, got: &Value, wanted: &Value, found: &mut Found) {
    match (got, wanted) {
        (Value::Object(got), Value::Object(wanted)) => {
            for key in got
                .keys()
                .chain(wanted.keys().filter(|key| !got.contains_key(*key)))
            {
                let at = format!("{at}/{key}");
                match (got.get(key), wanted.get(key)) {
                    (Some(got), Some(wanted)) => documents(&at, got, wanted, found),
                    (got, wanted) => {
                        let text =
                            |side: Option<&Value>| side.map_or("(absent)".to_owned(), Value::to_string);
                        found.push((at, text(wanted), text(got)));
                    }
                }
            }
        }
        (Value::Array(got), Value::Array(wanted)) if got.len() == wanted.len() => {
            for (index, (got, wanted)) in got.iter().zip(wanted).enumerate() {
                documents(&format!("{at}/{index}"), got, wanted, found);
            }
        }
        (got, wanted) if got == wanted => {}
        (got, wanted) => found.push((at.to_owned(), wanted.to_string(), got.to_string())),
    }
}

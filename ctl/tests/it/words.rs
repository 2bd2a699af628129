//! Words of YAML: a file means the same to caracalctl and to kubectl.

use std::io::Write as _;
use std::process::{Command, Stdio};

use caracal_api::yaml;
use serde_json::Value;

/// What older and newer YAML read in different ways, and what only looks like it.
const WORDS: &str = "yes Yes YES y Y no No n N on On ON off OFF true True TRUE false ~ null Null 0777 0o17 0x1F 1_000 +5 \
    -0 1e3 1.5 .5 1:20 12:30:45 2001-01-01 2001-01-01T00:00:00Z 0.0.0.0 10.0.0.0/8 yess nope 08 1. '' 'yes' \"no\" '0777'";

/// The object as kubectl reads it, without a server; nothing without kubectl.
fn of_kubectl(text: &str) -> Option<Value> {
    let mut child = Command::new("kubectl")
        .args(["annotate", "--local", "-f", "-", "-o", "json", "read=so"])
        .env("KUBECONFIG", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(text.as_bytes()).ok()?;
    let output = child.wait_with_output().ok()?;
    assert!(
        output.status.success(),
        "kubectl: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).ok()
}

#[test]
fn a_file_means_the_same_to_kubectl() {
    let mut text =
        "apiVersion: projectcalico.org/v3\nkind: Words\nmetadata: {name: w}\nspec:\n  plain:\n".to_owned();
    for word in WORDS.split_whitespace() {
        text.push_str("  - ");
        text.push_str(word);
        text.push('\n');
    }
    text.push_str("  flow: {a: yes, b: [no, 'on'], c: 0777}\n  block: |\n    yes\n");
    let Some(theirs) = of_kubectl(&text) else {
        eprintln!("SKIPPED: kubectl is not installed, so nothing says how it reads these words");
        return;
    };
    let ours = yaml::document(&text).unwrap();
    let (ours, theirs) = (&ours["spec"], &theirs["spec"]);
    for (index, word) in WORDS.split_whitespace().enumerate() {
        assert_eq!(ours["plain"][index], theirs["plain"][index], "{word}");
    }
    assert_eq!(ours, theirs);
}

//! The BGP speaker of this node, asked over its control socket: one line of JSON each way.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Failure;

/// The speaker answers at once or is stuck.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer that is read, in bytes.
const ANSWER_LEN_MAX: u64 = 1024 * 1024 * 1024;

/// The answer to a request.
pub(crate) fn ask(control: &Path, request: &Value) -> Result<Value, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(format!(
            "Calico process is not running.\ncannot ask the BGP speaker at {}: {error}; run this on a node, as root, \
             or name its socket with --control",
            control.display()
        ))
    };
    let mut stream = UnixStream::connect(control).map_err(failed)?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
    stream.set_write_timeout(Some(TIMEOUT)).map_err(failed)?;
    stream
        .write_all(format!("{request}\n").as_bytes())
        .map_err(failed)?;
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_LEN_MAX))
        .read_line(&mut line)
        .map_err(failed)?;
    let answer: Value = serde_json::from_str(&line).map_err(|error| unreadable(&error))?;
    match answer.get("error").and_then(Value::as_str) {
        Some(error) => Err(Failure::new(error.to_owned())),
        None => Ok(answer),
    }
}

/// The answer as data.
pub(crate) fn read<T: DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|error| unreadable(&error))
}

fn unreadable(error: &serde_json::Error) -> Failure {
    Failure::new(format!(
        "the BGP speaker's answer cannot be read: {error}; is it of this version?"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_absent_speaker_is_said_with_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let message = ask(&dir.path().join("none.sock"), &json!({}))
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("none.sock") && message.contains("--control"),
            "{message}"
        );
    }
}

//! What ADD waits for: readiness gates before, felix after.
//!
//! Source: Calico's `cni-plugin/pkg/plugin/plugin.go` (readiness gates), `cni-plugin/pkg/wait/wait.go`,
//! `libcalico-go/lib/names/workloadendpointstatus.go`.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::conf::Conf;
use crate::error::{Code, Error, Result};

const GATE_TOTAL: Duration = Duration::from_secs(30);
const GATE_PAUSE: Duration = Duration::from_secs(5);
const FILE_PAUSE: Duration = Duration::from_millis(20);

/// Waits until every gate answers with success.
///
/// # Errors
/// Code 7 for a wrong URL, 11 when a gate does not open in time.
pub(super) async fn wait_for_gates(conf: &Conf) -> Result<()> {
    for gate in &conf.readiness_gates {
        let start = Instant::now();
        let (host, path) = parse(gate)?;
        while !matches!(timeout(GATE_PAUSE, is_open(host, path)).await, Ok(Ok(true))) {
            if start.elapsed() + GATE_PAUSE > GATE_TOTAL {
                return Err(
                    Error::new(Code::TryAgainLater, format!("readiness gate {gate} is closed"))
                        .hint("see readiness_gates in the network configuration"),
                );
            }
            tokio::time::sleep(GATE_PAUSE).await;
        }
    }
    Ok(())
}

fn parse(gate: &str) -> Result<(&str, &str)> {
    let rest = gate
        .strip_prefix("http://")
        .filter(|rest| !rest.is_empty() && !rest.starts_with('/'));
    let bad = |byte: u8| byte.is_ascii_control() || byte == b' ';
    let rest = rest.filter(|rest| !rest.bytes().any(bad)).ok_or_else(|| {
        Error::new(
            Code::InvalidConfig,
            format!("network configuration: readiness_gates has {gate:?}"),
        )
        .hint("write a plain URL, as http://localhost:9099/readiness")
    })?;
    Ok(rest.find('/').map_or((rest, "/"), |at| rest.split_at(at)))
}

async fn is_open(host: &str, path: &str) -> std::io::Result<bool> {
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    // "HTTP/1.1 200" is enough of an answer.
    stream.take(12).read_to_end(&mut head).await?;
    let status = head
        .get(9..12)
        .and_then(|digits| std::str::from_utf8(digits).ok());
    Ok(status.is_some_and(|status| status.starts_with('2') || status.starts_with('3')))
}

/// Waits until felix says that it has programmed the endpoint. Running out of time is not an error.
pub(super) async fn wait_for_felix(conf: &Conf, workload: &str, orchestrator: &str, endpoint: &str) {
    if conf.policy_setup_timeout_seconds == 0 {
        return;
    }
    let name = format!(
        "{} {} {}",
        escape(orchestrator),
        escape(workload),
        escape(endpoint)
    );
    let file = conf.endpoint_status_dir.join(name);
    let deadline = Instant::now() + Duration::from_secs(conf.policy_setup_timeout_seconds);
    while !file.exists() {
        if Instant::now() >= deadline {
            tracing::warn!(file = %file.display(), "felix has not programmed the endpoint in time");
            return;
        }
        tokio::time::sleep(FILE_PAUSE).await;
    }
}

/// Escapes a path segment of a URL.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+=:@".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_status_files_are_escaped() {
        assert_eq!(escape("default/nginx"), "default%2Fnginx");
        assert_eq!(escape("k8s"), "k8s");
    }

    #[test]
    fn gates_are_plain_urls() {
        assert_eq!(
            parse("http://localhost:9099/readiness").unwrap(),
            ("localhost:9099", "/readiness")
        );
        assert_eq!(parse("http://localhost").unwrap(), ("localhost", "/"));
        for bad in ["", "https://x/", "http:///x", "http://a b/", "http://a/\r\nX: y"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}

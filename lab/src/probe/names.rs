//! Who probes whom: names and batch lines, from text to types. Pure.

use std::fmt;
use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::pod_server::Transport;

/// One end of a probe.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    /// A pod.
    Pod { namespace: String, name: String },
    /// A node, or another machine of the rack.
    Node(String),
    /// The host behind the router, by its own address or a further one.
    Outside(Option<IpAddr>),
    /// Whoever has an address.
    Address(IpAddr),
}

/// One probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) from: Side,
    pub(super) to: Side,
    pub(super) transport: Transport,
    pub(super) port: u16,
}

impl Request {
    pub(super) fn new(from: &str, to: &str, transport: Transport, port: &str) -> Result<Self, String> {
        let number = port.parse().ok().filter(|number| *number > 0);
        Ok(Self {
            from: Side::parse(from).map_err(|e| format!("from: {e}"))?,
            to: Side::parse(to).map_err(|e| format!("to: {e}"))?,
            transport,
            port: number.ok_or_else(|| format!("port: {port:?} is not a port; give 1 to 65535"))?,
        })
    }
}

impl Side {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "outside" {
            return Ok(Self::Outside(None));
        }
        if let Some(address) = text.strip_prefix("outside:") {
            let address = address
                .parse()
                .map_err(|_| format!("{text:?}: {address:?} is not an address; give outside:203.0.113.7"))?;
            return Ok(Self::Outside(Some(address)));
        }
        if let Some(name) = text.strip_prefix("node:").filter(|name| !name.is_empty()) {
            return Ok(Self::Node(name.to_owned()));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self::Pod {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                })
            }
            _ => Err(format!(
                "{text:?} names nothing; give NAMESPACE/POD, node:NAME, outside, outside:ADDRESS or an address"
            )),
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod { namespace, name } => write!(f, "{namespace}/{name}"),
            Self::Node(name) => write!(f, "node:{name}"),
            Self::Outside(None) => f.write_str("outside"),
            Self::Outside(Some(address)) => write!(f, "outside:{address}"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// A line of a batch: the object, and the probe that it asks for.
pub(super) type Line = (Map<String, Value>, Request);

/// The probes of a batch with the objects they came from. Blank lines are left out.
pub(super) fn parse_batch(text: &str) -> Result<Vec<Line>, String> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| parse_line(line).map_err(|problem| format!("line {}: {problem}", index + 1)))
        .collect()
}

fn parse_line(line: &str) -> Result<Line, String> {
    let input: Map<String, Value> =
        serde_json::from_str(line).map_err(|e| format!("not a JSON object: {e}"))?;
    let text = |key: &str| match input.get(key) {
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(other) => Err(format!("{key}: {other} is not a string")),
        None => Err(format!("{key}: missing")),
    };
    let transport = match input.get("protocol") {
        None | Some(Value::Null) => Transport::Tcp,
        Some(_) => match text("protocol")? {
            name if name.eq_ignore_ascii_case("tcp") => Transport::Tcp,
            name if name.eq_ignore_ascii_case("udp") => Transport::Udp,
            other => {
                return Err(format!(
                    "protocol: {other:?} is not probed; use \"tcp\" or \"udp\""
                ));
            }
        },
    };
    let port = match input.get("port") {
        Some(Value::Number(number)) => number.to_string(),
        Some(other) => return Err(format!("port: {other} is not a number; give 1 to 65535")),
        None => return Err("port: missing".to_owned()),
    };
    let request = Request::new(text("from")?, text("to")?, transport, &port)?;
    Ok((input, request))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_read() {
        let pod = Side::Pod {
            namespace: "a".to_owned(),
            name: "b".to_owned(),
        };
        for (text, expected) in [
            ("a/b", pod),
            ("node:node-1", Side::Node("node-1".to_owned())),
            ("outside", Side::Outside(None)),
            (
                "outside:203.0.113.7",
                Side::Outside(Some("203.0.113.7".parse().unwrap())),
            ),
            ("10.0.0.1", Side::Address("10.0.0.1".parse().unwrap())),
            ("fd00::1", Side::Address("fd00::1".parse().unwrap())),
        ] {
            assert_eq!(Side::parse(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "web",
            "a/",
            "/b",
            "a/b/c",
            "node:",
            "outside:x",
            "10.0.0.1/32",
        ] {
            // An address with a length reads as a pod in a namespace of that name, which no namespace can have.
            assert_eq!(Side::parse(text).is_err(), text != "10.0.0.1/32", "{text}");
        }
    }

    #[test]
    fn batch_lines_are_read_and_refused_with_their_number() {
        let text = "{\"from\":\"a/b\",\"to\":\"outside\",\"protocol\":\"UDP\",\"port\":53,\"note\":1}\n\n\
                    {\"from\":\"a/b\",\"to\":\"outside\",\"port\":80}\n";
        let lines = parse_batch(text).unwrap();
        assert_eq!(lines[0].0["note"], 1);
        assert_eq!(
            lines
                .iter()
                .map(|(_, r)| (r.transport, r.port))
                .collect::<Vec<_>>(),
            [(Transport::Udp, 53), (Transport::Tcp, 80)]
        );
        for (line, problem) in [
            ("[]", "line 1: not a JSON object"),
            ("{", "line 1: not a JSON object"),
            (r#"{"to":"a/b","port":1}"#, "line 1: from: missing"),
            (
                r#"{"from":"x","to":"a/b","port":1}"#,
                "line 1: from: \"x\" names nothing",
            ),
            (r#"{"from":"a/b","to":"a/b","port":0}"#, "line 1: port: \"0\""),
            (
                r#"{"from":"a/b","to":"a/b","port":65536}"#,
                "line 1: port: \"65536\"",
            ),
            (r#"{"from":"a/b","to":"a/b","port":"80"}"#, "line 1: port: \"80\""),
            (
                r#"{"from":"a/b","to":"a/b","port":1,"protocol":"sctp"}"#,
                "line 1: protocol: \"sctp\"",
            ),
        ] {
            let message = parse_batch(line).unwrap_err();
            assert!(message.starts_with(problem), "{line}: {message}");
        }
    }
}

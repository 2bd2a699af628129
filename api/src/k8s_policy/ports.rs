//! Port lists: grouped by protocol, adjacent and overlapping ranges merged.

use std::collections::BTreeMap;

use crate::v3::{Port, Protocol};

/// What a rule says about ports: for each protocol (`""` = any) the ports, or all of them.
#[derive(Debug, Default)]
pub(super) struct PortsByProtocol(BTreeMap<String, Ports>);

#[derive(Debug)]
enum Ports {
    All,
    Some(Vec<Port>),
}

impl PortsByProtocol {
    /// Any protocol, any port.
    pub(super) fn any() -> Self {
        Self([(String::new(), Ports::All)].into())
    }

    /// Adds a port, or with `None` all ports, of a protocol. All ports are not narrowed by further ones.
    pub(super) fn add(&mut self, protocol: &str, port: Option<Port>) {
        let ports = self
            .0
            .entry(protocol.to_owned())
            .or_insert_with(|| Ports::Some(Vec::new()));
        match (ports, port) {
            (ports, None) => *ports = Ports::All,
            (Ports::Some(ports), Some(port)) => ports.push(port),
            (Ports::All, Some(_)) => {}
        }
    }

    /// The protocols in order of their names, each with its merged ports; none means all.
    pub(super) fn into_groups(self) -> impl Iterator<Item = (Option<Protocol>, Vec<Port>)> {
        self.0.into_iter().map(|(name, ports)| {
            let protocol = (!name.is_empty()).then_some(Protocol::Name(name));
            let ports = match ports {
                Ports::All => Vec::new(),
                Ports::Some(ports) => merge(ports),
            };
            (protocol, ports)
        })
    }
}

/// Named ports first, in their order, then the numbers as the fewest ranges. Lists with at most one number stay as
/// they are.
fn merge(ports: Vec<Port>) -> Vec<Port> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    let mut merged: Vec<Port> = Vec::new();
    for port in &ports {
        match port {
            Port::Range { min, max } => ranges.push((*min, *max)),
            Port::Named(_) | Port::Invalid(_) => merged.push(port.clone()),
        }
    }
    let is_one_number_at_most = match ranges.as_slice() {
        [] => true,
        [(min, max)] => min == max,
        _ => false,
    };
    if ports.len() <= 1 || is_one_number_at_most {
        return ports;
    }
    ranges.sort_unstable();
    let mut current: Option<(u16, u16)> = None;
    for (min, max) in ranges {
        current = match current {
            Some((first, last)) if u32::from(min) <= u32::from(last) + 1 => Some((first, last.max(max))),
            Some((first, last)) => {
                merged.push(Port::Range {
                    min: first,
                    max: last,
                });
                Some((min, max))
            }
            None => Some((min, max)),
        };
    }
    merged.extend(current.map(|(min, max)| Port::Range { min, max }));
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_merge_and_names_come_first() {
        let check = |input: &[&str], output: &[&str]| {
            let ports = input.iter().map(|text| text.parse().unwrap()).collect();
            let merged: Vec<_> = merge(ports).iter().map(ToString::to_string).collect();
            assert_eq!(merged, output);
        };
        check(&["80", "81", "83", "82", "http"], &["http", "80:83"]);
        check(&["80", "http"], &["80", "http"]);
        check(&["80:81", "http"], &["http", "80:81"]);
        check(&["1:65535", "65535", "7"], &["1:65535"]);
        check(&["80", "80"], &["80"]);
        check(&["90", "80"], &["80", "90"]);
    }
}

//! Values of FelixConfiguration that need more than a look.

use std::net::IpAddr;

use caracal_api::v3::{Port, ProtoPort};
use ipnet::IpNet;

use super::{FailsafePort, MARK_MASK, MarkBits};
use crate::rules::{PortRange, TimeUnit};

/// Collects values that cannot be read.
pub(super) struct Reader(pub(super) Vec<String>);

impl Reader {
    pub(super) fn bad(&mut self, field: &str, value: impl std::fmt::Display, remedy: &str) {
        self.0.push(format!("{field} has value {value}: {remedy}"));
    }

    /// One of a few words, whatever their case.
    pub(super) fn word<T: Copy>(
        &mut self,
        field: &str,
        value: Option<&String>,
        words: &[(&str, T)],
        default: T,
    ) -> T {
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return default;
        };
        if let Some((_, meaning)) = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(value)) {
            return *meaning;
        }
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.bad(
            field,
            format!("{value:?}"),
            &format!("write one of {}", words.join(", ")),
        );
        default
    }

    pub(super) fn number<T: TryFrom<i32> + Copy>(
        &mut self,
        field: &str,
        value: Option<i32>,
        default: T,
    ) -> T {
        let Some(value) = value else { return default };
        T::try_from(value).unwrap_or_else(|_| {
            self.bad(field, value, "write a number in range");
            default
        })
    }

    pub(super) fn address(&mut self, field: &str, value: Option<&String>) -> Option<IpAddr> {
        let value = value.filter(|value| !value.is_empty())?;
        let address = value.parse().ok();
        if address.is_none() {
            self.bad(field, format!("{value:?}"), "write an address");
        }
        address
    }
}

pub(super) fn interface_prefixes(text: Option<&str>) -> Vec<String> {
    let prefixes: Vec<String> = text
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|prefix| !prefix.is_empty())
        .map(str::to_owned)
        .collect();
    if prefixes.is_empty() {
        vec!["cali".to_owned()]
    } else {
        prefixes
    }
}

pub(super) fn marks(read: &mut Reader, parameter: &str, mask: Option<u32>) -> MarkBits {
    let default = MarkBits {
        accept: 0x1_0000,
        pass: 0x2_0000,
        drop: 0x4_0000,
        scratch0: 0x8_0000,
        scratch1: 0x10_0000,
    };
    let Some(mask) = mask.filter(|mask| *mask != MARK_MASK) else {
        return default;
    };
    MarkBits::from_mask(mask).unwrap_or_else(|| {
        read.bad(parameter, format!("{mask:#x}"), "give at least five bits");
        default
    })
}

/// A rate such as `10/minute`.
pub(super) fn log_rate(read: &mut Reader, text: Option<&str>) -> Option<(u32, TimeUnit)> {
    let text = text.filter(|text| !text.is_empty())?;
    let units = [TimeUnit::Second, TimeUnit::Minute, TimeUnit::Hour, TimeUnit::Day];
    let parsed = text.split_once('/').and_then(|(packets, unit)| {
        let packets = packets.trim().parse().ok().filter(|packets| *packets > 0)?;
        let unit = unit.trim().to_ascii_lowercase();
        // As iptables: a unit may be cut short.
        let is_unit = |known: &&TimeUnit| !unit.is_empty() && known.as_str().starts_with(&unit);
        Some((packets, *units.iter().find(is_unit)?))
    });
    if parsed.is_none() {
        read.bad(
            "logActionRateLimit",
            format!("{text:?}"),
            "write a number above 0, \"/\" and second, minute, hour or day",
        );
    }
    parsed
}

pub(super) fn port_range(read: &mut Reader, port: Option<&Port>) -> Option<PortRange> {
    match port? {
        Port::Range { min, max } => Some(PortRange { min: *min, max: *max }),
        other @ (Port::Named(_) | Port::Invalid(_)) => {
            read.bad("natPortRange", format!("\"{other}\""), "write \"min:max\"");
            None
        }
    }
}

pub(super) fn external_nodes(read: &mut Reader, texts: &[String]) -> Vec<IpNet> {
    let mut nets = Vec::new();
    for text in texts {
        match caracal_api::net::parse_cidr_or_address(text) {
            Some(net) => nets.push(net),
            None => read.bad("externalNodesList", format!("{text:?}"), "write a CIDR"),
        }
    }
    nets
}

/// The ports that stay open. An entry that cannot be read is left out and reported; an absent list is the default.
pub(super) fn failsafe(
    read: &mut Reader,
    field: &str,
    ports: Option<&[ProtoPort]>,
    default: &[(u8, u16)],
) -> Vec<FailsafePort> {
    let Some(ports) = ports else {
        let open = |(protocol, port): &(u8, u16)| FailsafePort {
            net: None,
            protocol: *protocol,
            port: *port,
        };
        return default.iter().map(open).collect();
    };
    let mut failsafe = Vec::new();
    for entry in ports {
        let protocol = if entry.protocol.is_empty() {
            "tcp"
        } else {
            &entry.protocol
        };
        let protocol = caracal_api::v3::Protocol::from(protocol)
            .number()
            .filter(|number| matches!(number, 6 | 17 | 132));
        let net = (!entry.net.is_empty()).then(|| caracal_api::net::parse_cidr_or_address(&entry.net));
        match (protocol, entry.port, net) {
            (Some(protocol), Some(port), None | Some(Some(_))) => failsafe.push(FailsafePort {
                net: net.flatten(),
                protocol,
                port,
            }),
            _ => read.bad(
                field,
                format!("{}:{}:{}", entry.protocol, entry.net, entry.port.unwrap_or(0)),
                "write protocol tcp, udp or sctp, a port, and a CIDR or none",
            ),
        }
    }
    failsafe
}

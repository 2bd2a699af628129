//! Which address is written to the Node: what was wished, what is stored, what was found. Pure.
//!
//! A stored address that still fits is kept, also when another one would be found first: an interface that comes up
//! later does not move a node. What changes is told with the old value and the reason.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::detect::{Candidate, Family, Machine, detect};
use crate::environment::{AddressWish, Source};

/// What is to be done about an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    /// The address from now on, with the prefix length of its network.
    pub address: Option<IpNet>,
    /// The stored value is another.
    pub changes: bool,
    /// Why this address.
    pub because: String,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// What was looked at, if anything was.
    pub candidates: Vec<Candidate>,
}

/// No address could be found where one was wished.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "no {family} address of this node: {because}; set {variable} to an address, or choose another {variable}_AUTODETECTION_METHOD"
)]
pub struct NotFound {
    /// Of which version.
    pub family: Family,
    /// Why.
    pub because: String,
    /// The variable with the address.
    pub variable: &'static str,
    /// What was looked at.
    pub candidates: Vec<Candidate>,
}

/// Decides about one family. `stored` is the Node's annotation.
///
/// # Errors
/// When an address is to be detected, none is found, and none is stored.
pub fn decide(
    family: Family,
    wish: &AddressWish,
    stored: Option<&str>,
    machine: &Machine,
) -> Result<Decision, NotFound> {
    let text = stored.unwrap_or_default();
    let stored = read(text).filter(|net| family.has(net.addr()));
    let kept = |because: &str| Decision {
        address: stored,
        changes: false,
        because: because.to_owned(),
        warnings: stored
            .into_iter()
            .filter_map(|net| absent(net.addr(), machine))
            .collect(),
        candidates: Vec::new(),
    };
    match (&wish.source, stored) {
        (Source::Off, _) => Ok(kept("it is not looked for; what is stored stays")),
        (Source::Unset, Some(_)) => Ok(kept("it is stored and none is asked for")),
        (Source::Unset, None) if family == Family::V6 => Ok(kept("none is asked for")),
        (Source::Fixed(address, length), _) => Ok(fixed(*address, *length, stored, machine)),
        (Source::Unset | Source::Detect, _) => found(family, wish, stored, machine),
    }
}

/// An address, with the prefix length of its network where it is told.
fn read(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn absent(address: IpAddr, machine: &Machine) -> Option<String> {
    machine
        .find(address)
        .is_none()
        .then(|| format!("{address} is on no interface of this machine"))
}

fn fixed(address: IpAddr, length: Option<u8>, stored: Option<IpNet>, machine: &Machine) -> Decision {
    let on_interface = machine.find(address).map(|(_, net)| net);
    let net = length
        .and_then(|length| IpNet::new(address, length).ok())
        .or(on_interface)
        .unwrap_or_else(|| IpNet::from(address));
    Decision {
        address: Some(net),
        changes: stored != Some(net),
        because: "the environment names it".to_owned(),
        warnings: absent(address, machine).into_iter().collect(),
        candidates: Vec::new(),
    }
}

fn found(
    family: Family,
    wish: &AddressWish,
    stored: Option<IpNet>,
    machine: &Machine,
) -> Result<Decision, NotFound> {
    let detection = detect(&wish.method, family, machine);
    // The one that is in use is as good as the one that is found first, and moving has a price.
    if let Some(candidate) = stored.and_then(|stored| detection.fits(stored.addr())) {
        return Ok(Decision {
            address: Some(candidate.address),
            changes: stored != Some(candidate.address),
            because: format!(
                "it is stored, and fits ({} on {})",
                candidate.address, candidate.interface
            ),
            warnings: Vec::new(),
            candidates: detection.candidates,
        });
    }
    match (detection.chosen, stored) {
        (Some((address, _)), stored) => Ok(Decision {
            address: Some(address),
            changes: stored != Some(address),
            because: detection.because,
            warnings: absent(address.addr(), machine).into_iter().collect(),
            candidates: detection.candidates,
        }),
        (None, Some(stored)) => Ok(Decision {
            address: Some(stored),
            changes: false,
            because: format!("it is stored, and no other was found: {}", detection.because),
            warnings: absent(stored.addr(), machine).into_iter().collect(),
            candidates: detection.candidates,
        }),
        (None, None) => Err(NotFound {
            family,
            because: detection.because,
            variable: match family {
                Family::V4 => "IP",
                Family::V6 => "IP6",
            },
            candidates: detection.candidates,
        }),
    }
}

/// Other nodes that have an address: the name and the address of each.
#[must_use]
pub fn conflicts<'a>(
    own_node: &str,
    addresses: &[IpNet],
    others: impl IntoIterator<Item = (&'a str, Vec<IpNet>)>,
) -> Vec<(String, IpAddr)> {
    let mut found = Vec::new();
    for (name, theirs) in others.into_iter().filter(|(name, _)| *name != own_node) {
        for their in theirs {
            if addresses.iter().any(|own| own.addr() == their.addr()) {
                found.push((name.to_owned(), their.addr()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Interface, Method};

    fn machine(addresses: &[(&str, &str)]) -> Machine {
        let interfaces = addresses
            .iter()
            .zip(1..)
            .map(|((name, address), index)| Interface {
                index,
                name: (*name).to_owned(),
                up: true,
                addresses: vec![address.parse().unwrap()],
            })
            .collect();
        Machine {
            interfaces,
            ..Machine::default()
        }
    }

    fn wish(source: Source) -> AddressWish {
        AddressWish {
            source,
            method: Method::FirstFound,
        }
    }

    /// The address written, with a mark when it is another than the stored one.
    fn check(source: Source, stored: Option<&str>, machine: &Machine) -> String {
        match decide(Family::V4, &wish(source), stored, machine) {
            Ok(decision) => format!(
                "{}{}",
                decision.address.map_or("-".to_owned(), |net| net.to_string()),
                if decision.changes { " new" } else { "" }
            ),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_stored_stays_while_it_fits() {
        let host = machine(&[("eth0", "10.0.0.1/24"), ("eth1", "10.0.1.1/24")]);
        assert_eq!(check(Source::Unset, None, &host), "10.0.1.1/24 new");
        assert_eq!(check(Source::Unset, Some("10.7.7.7/24"), &host), "10.7.7.7/24");
        assert_eq!(check(Source::Detect, Some("10.0.0.1/24"), &host), "10.0.0.1/24");
        assert_eq!(check(Source::Detect, Some("10.0.0.1"), &host), "10.0.0.1/24 new");
        assert_eq!(
            check(Source::Detect, Some("10.7.7.7/24"), &host),
            "10.0.1.1/24 new"
        );
        assert_eq!(check(Source::Detect, Some("rubbish"), &host), "10.0.1.1/24 new");
        assert_eq!(check(Source::Off, Some("10.7.7.7/24"), &host), "10.7.7.7/24");
        assert_eq!(check(Source::Off, None, &host), "-");
    }

    #[test]
    fn a_fixed_address_takes_its_length_from_the_interface() {
        let host = machine(&[("eth0", "10.0.0.1/24")]);
        let fixed = |text: &str, length| Source::Fixed(text.parse().unwrap(), length);
        assert_eq!(check(fixed("10.0.0.1", None), None, &host), "10.0.0.1/24 new");
        assert_eq!(check(fixed("10.0.0.1", Some(16)), None, &host), "10.0.0.1/16 new");
        assert_eq!(
            check(fixed("10.0.0.1", None), Some("10.0.0.1/24"), &host),
            "10.0.0.1/24"
        );
        let decision = decide(Family::V4, &wish(fixed("10.5.5.5", None)), None, &host).unwrap();
        assert_eq!(decision.address.unwrap().to_string(), "10.5.5.5/32");
        assert_eq!(decision.warnings, ["10.5.5.5 is on no interface of this machine"]);
    }

    #[test]
    fn nothing_found_is_an_error_only_when_nothing_is_stored() {
        let host = machine(&[("lo", "127.0.0.1/8")]);
        assert_eq!(check(Source::Detect, Some("10.7.7.7/24"), &host), "10.7.7.7/24");
        let text = check(Source::Detect, None, &host);
        assert!(text.contains("IP_AUTODETECTION_METHOD"), "{text}");
        let v6 = decide(Family::V6, &wish(Source::Unset), None, &host).unwrap();
        assert_eq!(v6.address, None, "IPv6 only when asked for");
    }

    #[test]
    fn two_nodes_with_one_address_are_named() {
        let own: Vec<IpNet> = vec!["10.0.0.1/24".parse().unwrap()];
        let others = [
            ("n1", vec!["10.0.0.1/24".parse().unwrap()]),
            ("n2", vec!["10.0.0.2/24".parse().unwrap()]),
            ("n3", vec!["10.0.0.1/16".parse().unwrap()]),
        ];
        assert_eq!(
            conflicts("n1", &own, others),
            [("n3".to_owned(), "10.0.0.1".parse().unwrap())]
        );
    }
}

//! Single values: CIDRs, addresses, selectors, interface names.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Findings;
use crate::selector::Selector;

const CIDR_REMEDY: &str = "write one as 10.0.0.0/8 or fd00::/8";

/// A network, strictly: with a mask.
pub(super) fn cidr(findings: &mut Findings, field: &str, text: &str) -> Option<IpNet> {
    // Octets with leading zeros are octal to some readers and decimal to others.
    let has_leading_zero = !text.contains(':')
        && text
            .split(['.', '/'])
            .any(|part| part.len() > 1 && part.starts_with('0'));
    let network = text.parse().ok().filter(|_| !has_leading_zero);
    if network.is_none() {
        findings.add(field, text, "is not a CIDR", CIDR_REMEDY);
    }
    network
}

/// A network without host bits.
pub(super) fn masked_cidr(findings: &mut Findings, field: &str, text: &str) -> Option<IpNet> {
    let network = cidr(findings, field, text)?;
    if network.trunc() != network {
        findings.add(
            field,
            text,
            "has host bits set",
            &format!("write {}", network.trunc()),
        );
    }
    Some(network.trunc())
}

/// A network, or an address that stands for itself.
pub(super) fn cidr_or_address(findings: &mut Findings, field: &str, text: &str) {
    if text.parse::<IpNet>().is_err() && text.parse::<IpAddr>().is_err() {
        findings.add_of_schema(
            field,
            text,
            "is neither a CIDR nor an address",
            "write one as 10.0.0.0/8 or 10.0.0.1",
        );
    }
}

/// An address.
pub(super) fn address(findings: &mut Findings, field: &str, text: &str) -> Option<IpAddr> {
    let address = text.parse().ok();
    if address.is_none() {
        findings.add_of_schema(
            field,
            text,
            "is not an address",
            "write one as 10.0.0.1 or fd00::1",
        );
    }
    address
}

/// A selector; empty is allowed.
pub(super) fn selector(findings: &mut Findings, field: &str, text: &str) {
    if let Err(error) = Selector::parse(text) {
        findings.add(
            field,
            text,
            &format!("is not a selector: {error}"),
            "write one as app == 'web' && has(tier), or all()",
        );
    }
}

/// The name of an interface, without wildcards.
pub(super) fn interface(findings: &mut Findings, field: &str, text: &str) {
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if text.is_empty() || text.len() > 15 || !text.bytes().all(is_name_byte) {
        findings.add(
            field,
            text,
            "is not an interface name",
            "use up to 15 letters, digits, '_', '.' and '-'",
        );
    }
}

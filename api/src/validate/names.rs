//! Names of objects.

use super::Findings;

const LABEL_LEN_MAX: usize = 63;
const NAME_LEN_MAX: usize = 253;

/// Checks the name of an object of a kind.
pub(super) fn check(findings: &mut Findings, kind: &str, name: &str) {
    let only_default = matches!(
        kind,
        "ClusterInformation" | "KubeControllersConfiguration" | "IPAMConfiguration"
    );
    if only_default && name != "default" {
        findings.add_of_schema(
            "metadata.name",
            name,
            "is not the one name that this kind has",
            "use default",
        );
    } else if kind == "Tier" && !is_label(name) {
        findings.add_of_schema(
            "metadata.name",
            name,
            "is not a name for a tier",
            "use up to 63 lower-case letters, digits and '-', beginning and ending with a letter or digit",
        );
    } else if !is_subdomain(name) {
        findings.add(
            "metadata.name",
            name,
            "is not a name",
            "use up to 253 lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit",
        );
    }
}

/// RFC 1123 label.
pub(super) fn is_label(text: &str) -> bool {
    text.len() <= LABEL_LEN_MAX && is_part(text)
}

/// RFC 1123 subdomain. Kubernetes limits the whole and not the parts.
pub(super) fn is_subdomain(text: &str) -> bool {
    text.len() <= NAME_LEN_MAX && text.split('.').all(is_part)
}

/// Lower-case letters, digits and dashes, with no dash at either end.
fn is_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_end =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    is_end(bytes.first())
        && is_end(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
}

//! Which names, labels and annotations are allowed. Source: RFC 1123 and the naming rules of Kubernetes.

const LABEL_DETAIL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_DETAIL: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED_DETAIL: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE_DETAIL: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// What is wrong with `text` as a DNS label.
pub(crate) fn label(text: &str) -> Result<(), String> {
    if text.len() > 63 {
        return Err("must be no more than 63 characters".to_owned());
    }
    if is_label(text) {
        Ok(())
    } else {
        Err(LABEL_DETAIL.to_owned())
    }
}

/// What is wrong with `text` as the name of a namespace, which is one label.
pub(crate) fn namespace(text: &str) -> Result<(), String> {
    if text.contains('.') {
        return Err("must not contain dots".to_owned());
    }
    label(text)
}

/// What is wrong with `text` as a DNS subdomain.
pub(crate) fn subdomain(text: &str) -> Result<(), String> {
    if text.len() > 253 {
        return Err("must be no more than 253 characters".to_owned());
    }
    if text.split('.').all(is_label) {
        Ok(())
    } else {
        Err(SUBDOMAIN_DETAIL.to_owned())
    }
}

fn is_name_part(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(text.chars().next())
        && edge(text.chars().next_back())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// What is wrong with `text` as a key of a label or an annotation.
pub(crate) fn qualified(text: &str) -> Result<(), String> {
    let name = match text.split_once('/') {
        None => text,
        Some((prefix, name)) => {
            subdomain(prefix).map_err(|why| format!("prefix part {why}"))?;
            name
        }
    };
    match name {
        "" => Err("name part must be non-empty".to_owned()),
        name if name.len() > 63 => Err("name part must be no more than 63 characters".to_owned()),
        name if is_name_part(name) => Ok(()),
        _ => Err(QUALIFIED_DETAIL.to_owned()),
    }
}

/// What is wrong with `text` as the value of a label.
pub(crate) fn label_value(text: &str) -> Result<(), String> {
    if text.len() > 63 {
        return Err("must be no more than 63 characters".to_owned());
    }
    if text.is_empty() || is_name_part(text) {
        Ok(())
    } else {
        Err(VALUE_DETAIL.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_alphabet_and_length() {
        assert!(label("a-1").is_ok() && label("-a").is_err() && label("").is_err() && label("A").is_err());
        assert!(label(&"a".repeat(63)).is_ok() && label(&"a".repeat(64)).is_err());
        assert!(subdomain("a.b-c.1").is_ok() && subdomain("a..b").is_err() && subdomain("a_b").is_err());
        assert!(
            qualified("example.com/Name_1").is_ok() && qualified("x/").is_err() && qualified("a b").is_err()
        );
        assert!(label_value("").is_ok() && label_value("-x").is_err() && label_value("A.b").is_ok());
    }
}

//! The one selector that remains when namespace, service account and label criteria are put together.
//!
//! Rules and policies name their peers and endpoints by up to four criteria. The effective selector says the same in
//! one expression over the labels that endpoints have and inherit. Its text is Calico's
//! (`syncersv1/updateprocessors/rules.go`), because IP set ids are hashes of it.

use crate::meta;
use crate::selector::{Node, ParseError, Selector};
use crate::v3::{EntityRule, GlobalNetworkPolicySpec, NetworkPolicySpec, ServiceAccountMatch};

/// The effective selector of one end of a rule, in a policy of `namespace` (empty for global policies). Empty when the
/// rule does not ask for labels at all. `notSelector` stays separate.
///
/// # Errors
/// When a selector of the rule does not parse. Such a rule must not be programmed as if it had no selector.
pub fn entity_selector(entity: &EntityRule, namespace: &str) -> Result<String, ParseError> {
    let namespaces = if !entity.namespace_selector.is_empty() {
        namespace_criterion(&entity.namespace_selector)?
    } else if !namespace.is_empty() {
        own_namespace(namespace)
    } else {
        String::new()
    };
    let accounts = entity
        .service_accounts
        .as_ref()
        .map(account_criterion)
        .transpose()?
        .unwrap_or_default();
    let labels = match (accounts.is_empty(), entity.selector.is_empty()) {
        (true, _) => entity.selector.clone(),
        (false, true) => accounts,
        (false, false) => format!("({accounts}) && ({})", entity.selector),
    };
    let asks_for_labels =
        !labels.is_empty() || !entity.not_selector.is_empty() || !entity.namespace_selector.is_empty();
    if namespaces.is_empty() || !asks_for_labels {
        return Ok(labels);
    }
    Ok(if labels.is_empty() {
        namespaces
    } else {
        format!("({namespaces}) && ({labels})")
    })
}

/// The effective endpoint selector of a NetworkPolicy in `namespace`.
///
/// # Errors
/// When a service account selector does not parse.
pub fn network_policy_selector(spec: &NetworkPolicySpec, namespace: &str) -> Result<String, ParseError> {
    let selector = and(&spec.selector, &own_namespace(namespace));
    with_accounts(selector, &spec.service_account_selector)
}

/// The effective endpoint selector of a GlobalNetworkPolicy.
///
/// # Errors
/// When a namespace or service account selector does not parse.
pub fn global_network_policy_selector(spec: &GlobalNetworkPolicySpec) -> Result<String, ParseError> {
    let mut selector = spec.selector.clone();
    if !spec.namespace_selector.is_empty() {
        selector = and(&selector, &namespace_criterion(&spec.namespace_selector)?);
    }
    with_accounts(selector, &spec.service_account_selector)
}

fn with_accounts(selector: String, accounts: &str) -> Result<String, ParseError> {
    if accounts.is_empty() {
        return Ok(selector);
    }
    let has_account = Node::Has(meta::LABEL_SERVICE_ACCOUNT.to_owned());
    let accounts = prefixed(accounts, meta::SERVICE_ACCOUNT_LABEL_PREFIX)?
        .map_leaves(&|leaf| matches!(leaf, Node::All).then(|| has_account.clone()));
    Ok(and(&selector, &accounts.to_string()))
}

fn and(left: &str, right: &str) -> String {
    if left.is_empty() {
        right.to_owned()
    } else {
        format!("({left}) && {right}")
    }
}

fn own_namespace(namespace: &str) -> String {
    format!("{} == '{namespace}'", meta::LABEL_NAMESPACE)
}

fn prefixed(selector: &str, prefix: &str) -> Result<Node, ParseError> {
    Ok(Selector::parse(selector)?
        .root()
        .clone()
        .map_labels(&|label| format!("{prefix}{label}")))
}

/// A namespace selector over the labels that endpoints inherit: `all()` means any namespace, `global()` none.
fn namespace_criterion(selector: &str) -> Result<String, ParseError> {
    let in_namespace = Node::Has(meta::LABEL_NAMESPACE.to_owned());
    let node = prefixed(selector, meta::NAMESPACE_LABEL_PREFIX)?.map_leaves(&|leaf| match leaf {
        Node::All => Some(in_namespace.clone()),
        Node::Global => Some(Node::Not(Box::new(in_namespace.clone()))),
        _ => None,
    });
    Ok(node.to_string())
}

fn account_criterion(accounts: &ServiceAccountMatch) -> Result<String, ParseError> {
    let selector = if accounts.selector.is_empty() {
        String::new()
    } else {
        prefixed(&accounts.selector, meta::SERVICE_ACCOUNT_LABEL_PREFIX)?.to_string()
    };
    if accounts.names.is_empty() {
        return Ok(selector);
    }
    let names = Node::In(
        meta::LABEL_SERVICE_ACCOUNT.to_owned(),
        accounts.names.iter().cloned().collect(),
    )
    .to_string();
    Ok(if selector.is_empty() {
        names
    } else {
        format!("({selector}) && ({names})")
    })
}

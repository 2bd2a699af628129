//! What the columns of built-in kinds say of themselves: the words of the field that they show, or ours.

/// The field that a column shows: the schema that has it, and its name.
pub(in crate::table) fn shown_field(
    storage: &str,
    column: &str,
) -> Option<(&'static [&'static str], &'static str)> {
    const NODE_INFO: &[&str] = &["io.k8s.api.core.v1.NodeSystemInfo"];
    const NODE_STATUS: &[&str] = &["io.k8s.api.core.v1.NodeStatus"];
    const POD_SPEC: &[&str] = &["io.k8s.api.core.v1.PodSpec"];
    const POD_STATUS: &[&str] = &["io.k8s.api.core.v1.PodStatus"];
    Some(match (storage, column) {
        ("nodes", "Version") => (NODE_INFO, "kubeletVersion"),
        ("nodes", "Internal-IP" | "External-IP") => (NODE_STATUS, "addresses"),
        ("nodes", "OS-Image") => (NODE_INFO, "osImage"),
        ("nodes", "Kernel-Version") => (NODE_INFO, "kernelVersion"),
        ("nodes", "Container-Runtime") => (NODE_INFO, "containerRuntimeVersion"),
        ("pods", "IP") => (POD_STATUS, "podIP"),
        ("pods", "Node") => (POD_SPEC, "nodeName"),
        ("pods", "Nominated Node") => (POD_STATUS, "nominatedNodeName"),
        ("pods", "Readiness Gates") => (POD_SPEC, "readinessGates"),
        ("configmaps", "Data") => (&["io.k8s.api.core.v1.ConfigMap"], "data"),
        ("secrets", "Type") => (&["io.k8s.api.core.v1.Secret"], "type"),
        ("secrets", "Data") => (&["io.k8s.api.core.v1.Secret"], "data"),
        ("networkpolicies.networking.k8s.io", "Pod-Selector") => {
            (&["io.k8s.api.networking.v1.NetworkPolicySpec"], "podSelector")
        }
        _ => return None,
    })
}

/// What a column shows, where it is no field.
pub(in crate::table) fn own_words(storage: &str, column: &str) -> Option<&'static str> {
    Some(match (storage, column) {
        ("nodes", "Status") => "Whether the node is ready, and whether pods may be placed on it.",
        ("nodes", "Roles") => "The roles that the node's labels name.",
        ("pods", "Ready") => "How many containers of the pod are ready, and how many there are.",
        ("pods", "Status") => "What the containers of the pod do, or why they do not.",
        ("pods", "Restarts") => "How often containers of the pod were started again, and when last.",
        _ => return None,
    })
}

//! What `kubectl get` shows of each kind beside the name. A kind that is not here shows its age.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;

/// Name, type and path.
type Column = (&'static str, &'static str, &'static str);

const AGE: Column = ("Age", "date", ".metadata.creationTimestamp");

const POLICY: &[Column] = &[
    ("Tier", "string", ".spec.tier"),
    ("Order", "number", ".spec.order"),
    AGE,
];

const IP_POOL: &[Column] = &[
    ("CIDR", "string", ".spec.cidr"),
    ("VXLAN", "string", ".spec.vxlanMode"),
    ("IPIP", "string", ".spec.ipipMode"),
    ("NAT", "boolean", ".spec.natOutgoing"),
    (
        "Allocatable",
        "string",
        ".status.conditions[?(@.type=='Allocatable')].status",
    ),
    AGE,
];

const BGP_PEER: &[Column] = &[
    ("Node Selector", "string", ".spec.nodeSelector"),
    ("Node", "string", ".spec.node"),
    ("Local ASN", "string", ".spec.localASNumber"),
    ("Peer Selector", "string", ".spec.peerSelector"),
    ("Peer IP", "string", ".spec.peerIP"),
    ("Peer ASN", "string", ".spec.asNumber"),
];

const TIER: &[Column] = &[
    ("Order", "integer", ".spec.order"),
    ("DefaultAction", "string", ".spec.defaultAction"),
    (
        "Status",
        "string",
        ".status.conditions[?(@.type=='Ready')].reason",
    ),
];

const IPAM_CONFIGURATION: &[Column] = &[
    ("StrictAffinity", "boolean", ".spec.strictAffinity"),
    ("MaxBlocksPerHost", "integer", ".spec.maxBlocksPerHost"),
    ("AutoAllocateBlocks", "boolean", ".spec.autoAllocateBlocks"),
];

fn table(kind: &str) -> &'static [Column] {
    match kind {
        "NetworkPolicy" | "GlobalNetworkPolicy" | "StagedNetworkPolicy" | "StagedGlobalNetworkPolicy" => {
            POLICY
        }
        "Tier" => TIER,
        "IPPool" => IP_POOL,
        "BGPPeer" => BGP_PEER,
        "HostEndpoint" => &[
            ("Node", "string", ".spec.node"),
            ("Interface", "string", ".spec.interfaceName"),
        ],
        "BlockAffinity" => &[
            ("CIDR", "string", ".spec.cidr"),
            ("Node", "string", ".spec.node"),
            ("Type", "string", ".spec.type"),
        ],
        "IPAMBlock" => &[
            ("CIDR", "string", ".spec.cidr"),
            ("Affinity", "string", ".spec.affinity"),
        ],
        "IPAMHandle" => &[("ID", "string", ".spec.handleID")],
        "IPAMConfiguration" => IPAM_CONFIGURATION,
        _ => &[],
    }
}

/// The columns of a kind.
pub(super) fn of(kind: &str) -> Vec<CustomResourceColumnDefinition> {
    table(kind)
        .iter()
        .map(|(name, type_, path)| CustomResourceColumnDefinition {
            name: (*name).to_owned(),
            type_: (*type_).to_owned(),
            json_path: (*path).to_owned(),
            ..CustomResourceColumnDefinition::default()
        })
        .collect()
}

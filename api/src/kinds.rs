//! The table of all kinds of `projectcalico.org/v3`: names, scope, where they are stored, what a command line calls them.
//!
//! Source of the aliases: calicoctl's resource manager. A test holds the table equal to the generated CRDs.

/// Where objects of a kind live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In a custom resource of the same name.
    CustomResource,
    /// Nowhere: derived from a Kubernetes object (Pod, Node, Namespace or ServiceAccount).
    Derived,
}

/// One kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// `kind`, as in manifests.
    pub kind: &'static str,
    /// Plural resource name, as in URLs.
    pub plural: &'static str,
    /// Objects have a namespace.
    pub namespaced: bool,
    /// Where objects live.
    pub storage: Storage,
    /// Further names that a command line accepts, lower case; kind and plural are accepted anyway.
    pub aliases: &'static [&'static str],
    /// Users may write objects of the kind; the rest belongs to controllers.
    pub writable: bool,
}

const fn cluster(kind: &'static str, plural: &'static str, aliases: &'static [&'static str]) -> Kind {
    Kind {
        kind,
        plural,
        namespaced: false,
        storage: Storage::CustomResource,
        aliases,
        writable: true,
    }
}

const fn namespaced(kind: &'static str, plural: &'static str, aliases: &'static [&'static str]) -> Kind {
    Kind {
        namespaced: true,
        ..cluster(kind, plural, aliases)
    }
}

const fn internal(kind: &'static str, plural: &'static str) -> Kind {
    Kind {
        writable: false,
        ..cluster(kind, plural, &[])
    }
}

/// All kinds, in alphabetical order.
pub const ALL: &[Kind] = &[
    cluster(
        "BGPConfiguration",
        "bgpconfigurations",
        &["bgpconfig", "bgpconfigs"],
    ),
    cluster("BGPFilter", "bgpfilters", &["bgpf", "bgpfs", "bf", "bfs"]),
    cluster("BGPPeer", "bgppeers", &["bgpp", "bgpps", "bp", "bps"]),
    internal("BlockAffinity", "blockaffinities"),
    cluster(
        "CalicoNodeStatus",
        "caliconodestatuses",
        &["nodestatus", "nodestatuses"],
    ),
    cluster(
        "ClusterInformation",
        "clusterinformations",
        &["clusterinfo", "clusterinfos"],
    ),
    cluster(
        "FelixConfiguration",
        "felixconfigurations",
        &["felixconfig", "felixconfigs"],
    ),
    cluster(
        "GlobalNetworkPolicy",
        "globalnetworkpolicies",
        &["gnp", "gnps", "cgnp"],
    ),
    cluster("GlobalNetworkSet", "globalnetworksets", &["gnetsets"]),
    cluster("HostEndpoint", "hostendpoints", &["hep", "heps"]),
    internal("IPAMBlock", "ipamblocks"),
    cluster(
        "IPAMConfiguration",
        "ipamconfigurations",
        &["ipamconfig", "ipamconfigs"],
    ),
    internal("IPAMHandle", "ipamhandles"),
    cluster("IPPool", "ippools", &["ipp", "ipps", "pool", "pools"]),
    cluster(
        "IPReservation",
        "ipreservations",
        &["ipr", "reservation", "reservations"],
    ),
    cluster(
        "KubeControllersConfiguration",
        "kubecontrollersconfigurations",
        &["kcconfig", "kubecontrollersconfig", "kubecontrollersconfigs"],
    ),
    namespaced(
        "NetworkPolicy",
        "networkpolicies",
        &[
            "policy",
            "policies",
            "np",
            "nps",
            "pol",
            "pols",
            "cnp",
            "caliconetworkpolicy",
        ],
    ),
    namespaced("NetworkSet", "networksets", &["netsets"]),
    Kind {
        storage: Storage::Derived,
        ..cluster("Node", "nodes", &["no", "nos"])
    },
    Kind {
        storage: Storage::Derived,
        writable: false,
        ..cluster("Profile", "profiles", &["pro", "pros"])
    },
    cluster(
        "StagedGlobalNetworkPolicy",
        "stagedglobalnetworkpolicies",
        &["sgnp", "sgnps"],
    ),
    namespaced(
        "StagedKubernetesNetworkPolicy",
        "stagedkubernetesnetworkpolicies",
        &[
            "stagedkubernetespolicy",
            "stagedkubernetespolicies",
            "sknp",
            "skpol",
            "skpols",
        ],
    ),
    namespaced(
        "StagedNetworkPolicy",
        "stagednetworkpolicies",
        &[
            "stagedpolicy",
            "stagedpolicies",
            "snp",
            "snps",
            "scnp",
            "spol",
            "spols",
        ],
    ),
    cluster("Tier", "tiers", &[]),
    Kind {
        storage: Storage::Derived,
        writable: false,
        ..namespaced("WorkloadEndpoint", "workloadendpoints", &["wep", "weps"])
    },
];

/// The kind that a command line calls `name`, in any case: kind, plural or alias.
#[must_use]
pub fn named(name: &str) -> Option<&'static Kind> {
    let name = name.to_ascii_lowercase();
    ALL.iter().find(|kind| {
        kind.kind.eq_ignore_ascii_case(&name) || kind.plural == name || kind.aliases.contains(&name.as_str())
    })
}

/// The kind of a manifest, spelled exactly.
#[must_use]
pub fn of_manifest(kind: &str) -> Option<&'static Kind> {
    ALL.iter().find(|known| known.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_and_the_generated_definitions_agree() {
        let from_table: BTreeSet<_> = ALL
            .iter()
            .filter(|kind| kind.storage == Storage::CustomResource)
            .map(|kind| (kind.kind.to_owned(), kind.plural.to_owned(), kind.namespaced))
            .collect();
        let from_crds: BTreeSet<_> = crate::crd::all()
            .into_iter()
            .map(|crd| {
                (
                    crd.spec.names.kind,
                    crd.spec.names.plural,
                    crd.spec.scope == "Namespaced",
                )
            })
            .collect();
        assert_eq!(from_table, from_crds);
    }

    #[test]
    fn every_name_means_one_kind() {
        let mut seen = BTreeSet::new();
        for kind in ALL {
            let own = [kind.kind.to_ascii_lowercase(), kind.plural.to_owned()];
            for name in own
                .into_iter()
                .chain(kind.aliases.iter().map(|alias| (*alias).to_owned()))
            {
                assert!(seen.insert(name.clone()), "{name} is used twice");
                assert_eq!(named(&name.to_ascii_uppercase()), Some(kind));
            }
        }
    }
}

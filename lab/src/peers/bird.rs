//! BIRD 2 as the top-of-rack router: its configuration as text.
//!
//! Pure. BIRD speaks eBGP with every node, puts what it learns into the router's kernel table, and tells the
//! nodes about the network behind it. Source: the BIRD 2.0 user's guide.

use std::fmt::Write as _;

use crate::topology::{CLUSTER_AS, Plan, TOR_AS, tor_address};

/// Renders `bird.conf` of a lab's router.
#[must_use]
pub fn config(plan: &Plan) -> String {
    let router = tor_address();
    let mut text = format!(
        "# The top-of-rack router of a Caracal lab. Written by `caracal-lab up`.\n\
         log stderr all;\n\
         router id {router};\n\
         \n\
         protocol device {{ scan time 10; }}\n\
         \n\
         # The network behind the router, told to the nodes.\n\
         protocol direct behind {{ ipv4; interface \"outside\"; }}\n\
         \n\
         # What the nodes announce becomes routes of this machine.\n\
         protocol kernel {{\n\
         \x20 scan time 10;\n\
         \x20 ipv4 {{ import none; export where source = RTS_BGP; }};\n\
         }}\n\
         \n\
         template bgp node {{\n\
         \x20 local {router} as {TOR_AS};\n\
         \x20 connect delay time 1;\n\
         \x20 connect retry time 2;\n\
         \x20 error wait time 1, 4;\n\
         \x20 graceful restart on;\n\
         \x20 ipv4 {{\n\
         \x20   import all;\n\
         \x20   export where source ~ [ RTS_BGP, RTS_DEVICE ];\n\
         \x20 }};\n\
         }}\n"
    );
    for node in plan.nodes() {
        let name = protocol_name(&node.name);
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\nprotocol bgp {name} from node {{ neighbor {} as {CLUSTER_AS}; }}\n",
            node.address
        );
    }
    text
}

/// Name of the protocol that talks to a node: BIRD's symbols have no dashes.
#[must_use]
pub fn protocol_name(node: &str) -> String {
    node.replace('-', "_")
}

/// Names of the BGP protocols that are established, from the output of `birdc show protocols`.
#[must_use]
pub fn established(show_protocols: &str) -> Vec<String> {
    show_protocols
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (name, kind) = (words.next()?, words.next()?);
            (kind == "BGP" && words.any(|word| word == "Established")).then(|| name.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Options;
    use std::path::Path;

    #[test]
    fn every_node_is_a_neighbour() {
        let plan = Plan::new(
            Path::new("/run/x"),
            &Options {
                nodes: 2,
                ..Options::default()
            },
        )
        .unwrap();
        let text = config(&plan);
        assert!(
            text.contains("protocol bgp node_1 from node { neighbor 172.30.0.11 as 64512; }"),
            "{text}"
        );
        assert!(
            text.contains("protocol bgp node_2 from node { neighbor 172.30.0.12 as 64512; }"),
            "{text}"
        );
        assert!(text.contains("  local 172.30.0.1 as 64601;"), "{text}");
    }

    #[test]
    fn only_established_bgp_protocols_count() {
        let text = "BIRD 2.0.12 ready.\n\
                    Name       Proto      Table      State  Since         Info\n\
                    device1    Device     ---        up     16:00:00.000  \n\
                    node_1     BGP        ---        up     16:00:01.000  Established   \n\
                    node_2     BGP        ---        start  16:00:01.000  Active        Socket: Connection refused\n";
        assert_eq!(established(text), ["node_1"]);
    }
}

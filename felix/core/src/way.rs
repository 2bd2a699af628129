//! Which way a packet takes from a node to an address, by what pools, blocks and nodes say.
//!
//! Owns the answer's form. What the kernel of a node really does is for that node to say. Worked out by
//! [`Core::way`](crate::Core::way).

use std::net::IpAddr;

use caracal_api::routing::RouteOwner;
use ipnet::IpNet;

/// The way from a node to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// To a workload of the same node, by its interface.
    Local,
    /// To an address of the node itself.
    Host,
    /// To an address of another node, by the network between nodes.
    OtherHost {
        /// The other node.
        node: String,
    },
    /// To a workload of another node.
    ToNode {
        /// The other node.
        node: String,
        /// The block that the address is of; none when no node has claimed it.
        block: Option<IpNet>,
        /// The node that has the block, when it is not that of the workload: the address is borrowed.
        lender: Option<String>,
        /// The next hop; none when an address of one of the nodes is unknown.
        gateway: Option<IpAddr>,
        /// The tunnel; none when packets go as they are.
        device: Option<String>,
        /// Who writes the route.
        owner: Option<RouteOwner>,
    },
    /// To an address of no pool.
    Outside {
        /// The source becomes an address of the node.
        is_masqueraded: bool,
    },
    /// To an address of a pool that no workload has.
    Nowhere,
}

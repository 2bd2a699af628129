//! What peers have sent, as octets: for those who pass it on (BMP, MRT) and not for people.

use ipnet::IpNet;

use super::Speaker;
use crate::wire::mp::NextHop;

/// A path of an Adj-RIB-In before the import policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// Name of the peer.
    pub peer: &'a str,
    /// Path identifier, 0 without add-path.
    pub path_id: u32,
    /// Its next hop.
    pub next_hop: Option<NextHop>,
    /// Its attributes but the next hop and those that carry routes, ascending by type, AS numbers in four octets.
    pub attributes: &'a [u8],
}

impl Speaker {
    /// Shows all prefixes that peers have sent, in their order, each with its paths.
    pub fn visit_received(&self, mut visit: impl FnMut(IpNet, &[Received<'_>])) {
        let mut paths = Vec::new();
        for entry in self.table.sorted() {
            paths.clear();
            paths.extend(entry.paths.as_slice().iter().filter_map(|path| {
                let way = path.received();
                Some(Received {
                    peer: &way.peer()?.name,
                    path_id: path.path_id,
                    next_hop: way.next_hop(),
                    attributes: way.attrs.block(),
                })
            }));
            if !paths.is_empty() {
                visit(entry.prefix, &paths);
            }
        }
    }
}

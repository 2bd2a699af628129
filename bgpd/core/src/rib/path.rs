//! One way to a prefix: where it is from, what was received, what the import policy made of it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::attrs::Attrs;
use crate::policy::Source;
use crate::wire::mp::NextHop;

/// Names a peer inside the speaker. Numbers are not used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PeerId(pub(crate) u32);

/// What the decision process and export need to know about the session that a path came over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PeerInfo {
    pub(crate) id: PeerId,
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    /// Own address on the session.
    pub(crate) local: IpAddr,
    pub(crate) router_id: Ipv4Addr,
    pub(crate) ebgp: bool,
    /// Cluster that this speaker reflects it into.
    pub(crate) cluster: Option<Ipv4Addr>,
}

/// Where a path is from.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// A peer.
    Peer(Arc<PeerInfo>),
    /// The configuration.
    Static {
        /// It asks for a blackhole in the kernel.
        blackhole: bool,
    },
    /// The host: `Direct` or `Kernel`.
    Host(Source),
}

/// What paths of one prefix are told apart by, together with the path identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Peer(PeerId),
    Static,
    Host,
}

/// One path.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    pub(crate) origin: Origin,
    pub(crate) path_id: u32,
    /// As received, in canonical form.
    pub(crate) received: Arc<Attrs>,
    pub(crate) received_next_hop: Option<NextHop>,
    /// After the import policy.
    pub(crate) attrs: Arc<Attrs>,
    pub(crate) next_hop: Option<NextHop>,
    pub(crate) interface: Option<Arc<str>>,
    pub(crate) metric: Option<u32>,
    pub(crate) device: Option<Arc<str>>,
    pub(crate) preference: u32,
    /// Kept from before the peer restarted (RFC 4724 §4.2), or not yet sent again (RFC 7313 §4).
    pub(crate) stale: bool,
    /// Why the decision process does not look at it.
    pub(crate) unusable: Option<&'static str>,
}

impl Path {
    pub(crate) fn key(&self) -> Key {
        match &self.origin {
            Origin::Peer(info) => Key::Peer(info.id),
            Origin::Static { .. } => Key::Static,
            Origin::Host(_) => Key::Host,
        }
    }

    pub(crate) fn source(&self) -> Source {
        match &self.origin {
            Origin::Peer(_) => Source::Bgp,
            Origin::Static { .. } => Source::Static,
            Origin::Host(source) => *source,
        }
    }

    pub(crate) fn peer(&self) -> Option<&PeerInfo> {
        match &self.origin {
            Origin::Peer(info) => Some(info),
            Origin::Static { .. } | Origin::Host(_) => None,
        }
    }

    pub(crate) fn is_from(&self, id: PeerId) -> bool {
        self.key() == Key::Peer(id)
    }
}

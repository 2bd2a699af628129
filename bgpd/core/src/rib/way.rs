//! How a prefix is reached, apart from the prefix: where it is from, its attributes, its next hop, what policy set.
//!
//! Prefixes that came in one UPDATE share one [`Way`], so that a path costs a pointer. What the import policy made of
//! a received way is a way of its own, which remembers the one it was made of.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::attrs::Attrs;
use crate::config::Role;
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
    pub(crate) remote_as: u32,
    /// What this speaker is to it.
    pub(crate) role: Option<Role>,
    /// Cluster that this speaker reflects it into.
    pub(crate) cluster: Option<Ipv4Addr>,
}

/// What paths of one prefix are told apart by, together with the path identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Peer(PeerId),
    Static,
    Host,
}

/// Why the decision process does not look at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// RFC 4271 §9.1.2.
    OwnAs,
    /// RFC 4456 §8.
    OwnOriginator,
    /// RFC 4456 §8.
    OwnCluster,
    /// No NEXT_HOP came with it.
    NoNextHop,
    /// RFC 4271 §5.1.3.
    OwnNextHop,
    /// RFC 4271 §6.3.
    BadNextHop,
    /// RFC 9234 §5: it came from below or from the side where it must not go.
    Leak,
    /// The terms said so.
    Rejected,
}

impl Unusable {
    /// Words for status.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::OwnAs => "the AS_PATH has the own AS in it",
            Self::OwnOriginator => "the ORIGINATOR_ID is the own identifier",
            Self::OwnCluster => "the CLUSTER_LIST has the own cluster in it",
            Self::NoNextHop => "there is no next hop",
            Self::OwnNextHop => "the next hop is the own address",
            Self::BadNextHop => "the next hop is no host's address",
            Self::Leak => "ONLY_TO_CUSTOMER says that it leaked",
            Self::Rejected => "rejected by the import policy",
        }
    }
}

/// What few ways have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra {
    /// Interface of a route of the host.
    pub(crate) interface: Option<Arc<str>>,
    pub(crate) metric: Option<u32>,
    /// Device that policy chose.
    pub(crate) device: Option<Arc<str>>,
    /// What was received, where the import policy made this of it.
    pub(crate) received: Option<Arc<Way>>,
}

/// A way. There is one for each UPDATE of a full table, so it has no room for what few have.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    /// Where it is from: some with the source `Bgp` alone.
    pub(crate) peer: Option<Arc<PeerInfo>>,
    pub(crate) source: Source,
    /// A route of the configuration that asks for a blackhole in the kernel.
    pub(crate) blackhole: bool,
    pub(crate) attrs: Arc<Attrs>,
    /// Shared, as a peer has few of them.
    pub(crate) next_hop: Option<Arc<NextHop>>,
    pub(crate) preference: u32,
    pub(crate) unusable: Option<Unusable>,
    pub(crate) extra: Option<Box<Extra>>,
}

/// What decides which peers a route does not go back to: the peer it came from, and its originator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tag {
    pub(crate) peer: Option<PeerId>,
    pub(crate) originator: Option<Ipv4Addr>,
}

impl Way {
    pub(crate) fn key(&self) -> Key {
        match (&self.peer, self.source) {
            (Some(info), _) => Key::Peer(info.id),
            (None, Source::Static) => Key::Static,
            (None, _) => Key::Host,
        }
    }

    pub(crate) fn peer(&self) -> Option<&PeerInfo> {
        self.peer.as_deref()
    }

    /// What the import policy made this of, if it is not what was received.
    pub(crate) fn received(&self) -> Option<&Arc<Self>> {
        self.extra.as_ref()?.received.as_ref()
    }

    pub(crate) fn next_hop(&self) -> Option<NextHop> {
        self.next_hop.as_deref().copied()
    }

    pub(crate) fn tag(&self) -> Tag {
        Tag {
            peer: self.peer().map(|peer| peer.id),
            originator: self.attrs.originator(),
        }
    }

    pub(crate) fn interface(&self) -> Option<&str> {
        self.extra.as_ref()?.interface.as_deref()
    }

    pub(crate) fn metric(&self) -> Option<u32> {
        self.extra.as_ref()?.metric
    }

    pub(crate) fn device(&self) -> Option<&str> {
        self.extra.as_ref()?.device.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // With the counts of its `Arc`, what an allocator gives out as 64 octets.
    #[test]
    fn way_takes_five_words() {
        assert_eq!(size_of::<Way>(), 40);
    }
}

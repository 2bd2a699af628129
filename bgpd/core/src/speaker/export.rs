//! From the best path to what a peer gets: who may have it, next hop, attributes, export policy (RFC 4271 §5.1, §9.2;
//! RFC 4456 §8; RFC 1997).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::NextHopMode;
use crate::family::Family;
use crate::policy::eval::{self, Chain, Outcome};
use crate::policy::{NextHopAction, PeerType};
use crate::rib::adj_out::Advert;
use crate::rib::attrs::{Interner, Scope};
use crate::rib::path::{Path, PeerId, PeerInfo};
use crate::rib::rewrite::{Change, Rewrite};
use crate::session::Session;
use crate::session::negotiation::Agreed;
use crate::wire::canonical::DEFAULT_LOCAL_PREF;
use crate::wire::mp::NextHop;

/// The export side of an established session.
#[derive(Debug)]
pub(crate) struct Target {
    id: PeerId,
    router_id: Ipv4Addr,
    group: Group,
}

/// What decides what a peer gets; equal for peers that get the same.
#[derive(Debug)]
struct Group {
    ebgp: bool,
    cluster: Option<Ipv4Addr>,
    local_as: u32,
    local: IpAddr,
    mode: NextHopMode,
    families: Vec<Family>,
    extended_next_hop: bool,
    chain: Arc<Chain>,
}

impl PartialEq for Group {
    fn eq(&self, other: &Self) -> bool {
        let key = |group: &Self| {
            (
                group.ebgp,
                group.cluster,
                group.local_as,
                group.local,
                group.mode,
                group.extended_next_hop,
            )
        };
        key(self) == key(other) && self.families == other.families && Arc::ptr_eq(&self.chain, &other.chain)
    }
}

impl Target {
    pub(crate) fn new(info: &PeerInfo, session: &Session, agreed: &Agreed, chain: Arc<Chain>) -> Self {
        Self {
            id: info.id,
            router_id: info.router_id,
            group: Group {
                ebgp: info.ebgp,
                cluster: session.config.reflector_client,
                local_as: session.local_as,
                local: info.local,
                mode: session.config.next_hop,
                families: agreed.families.clone(),
                extended_next_hop: agreed.extended_next_hop,
                chain,
            },
        }
    }

    /// Whether `other` gets the same for every path that neither is excluded from.
    pub(super) fn gets_the_same(&self, other: &Self) -> bool {
        self.group == other.group
    }

    /// Whether the path came from this peer, directly or through a reflector.
    pub(super) fn is_echo(&self, path: &Path) -> bool {
        path.is_from(self.id) || (!self.group.ebgp && path.attrs.originator == Some(self.router_id))
    }

    /// Returns what peers of this group get for a prefix with this best path.
    pub(super) fn advert(&self, prefix: &IpNet, path: &Path, interner: &mut Interner) -> Option<Advert> {
        let group = &self.group;
        if !group.families.contains(&Family::of_prefix(prefix)) {
            return None;
        }
        let from = path.peer();
        let reflects = group.reflects(from)?;
        let route = eval::Route {
            prefix: *prefix,
            source: path.source(),
            peer_type: Some(if group.ebgp {
                PeerType::Ebgp
            } else {
                PeerType::Ibgp
            }),
            interface: path.interface.as_deref(),
            next_hop: path.next_hop.map(|hop| hop.address),
            metric: path.metric,
            attrs: &path.attrs,
        };
        // RFC 1997: communities that came with the route, before export adds its own.
        match path.attrs.scope {
            Scope::NoAdvertise => return None,
            Scope::NoExport if group.ebgp => return None,
            Scope::Any | Scope::NoExport => {}
        }
        let outcome = eval::evaluate(&group.chain, &route)?;
        let next_hop = group.next_hop(prefix, path, outcome.next_hop)?;
        let rewrite = group.rewrite(path, outcome, reflects);
        let attrs = interner.rewritten(&path.attrs, rewrite);
        Some(Advert { attrs, next_hop })
    }
}

impl Group {
    /// `None` when the path may not go to this group; else the cluster that it is reflected with, if it is.
    fn reflects(&self, from: Option<&PeerInfo>) -> Option<Option<Ipv4Addr>> {
        match from {
            Some(from) if !from.ebgp && !self.ebgp => {
                // RFC 4456 §6: from a client to all, from others to clients only.
                from.cluster.or(self.cluster).map(Some)
            }
            _ => Some(None),
        }
    }

    fn next_hop(&self, prefix: &IpNet, path: &Path, chosen: Option<NextHopAction>) -> Option<NextHop> {
        let own = NextHop::from(self.local);
        let kept = path.next_hop.unwrap_or(own);
        let wanted = match chosen {
            Some(NextHopAction::Own) => own,
            Some(NextHopAction::Keep) => kept,
            Some(NextHopAction::Address(address)) => address.into(),
            None => match self.mode {
                NextHopMode::Own => own,
                NextHopMode::Keep => kept,
                NextHopMode::Auto if self.ebgp || path.peer().is_none() => own,
                NextHopMode::Auto => kept,
            },
        };
        // A next hop of the other family has no form in an UPDATE, but for RFC 8950.
        let fits = match (Family::of_prefix(prefix), Family::of_address(wanted.address)) {
            (Family::Ipv4, Family::Ipv6) => self.extended_next_hop,
            (Family::Ipv6, Family::Ipv4) => false,
            _ => true,
        };
        fits.then_some(wanted)
    }

    /// What the attributes become on the way to this group.
    fn rewrite(&self, path: &Path, outcome: Outcome, cluster: Option<Ipv4Addr>) -> Rewrite {
        let mut rewrite = outcome.rewrite();
        if self.ebgp {
            // RFC 4271 §5.1.2, §5.1.5; RFC 4456 §8: these two are of this AS only.
            rewrite.prepend.insert(0, self.local_as);
            rewrite.local_pref = Change::Remove;
            rewrite.originator = Change::Remove;
            rewrite.cluster = Change::Remove;
            // RFC 4271 §5.1.4: a MED from one neighbouring AS does not go to another.
            if path.peer().is_some() && outcome.med.is_none() {
                rewrite.med = Change::Remove;
            }
        } else {
            let wanted = outcome
                .local_pref
                .or(path.attrs.local_pref)
                .unwrap_or(DEFAULT_LOCAL_PREF);
            rewrite.local_pref = if path.attrs.local_pref == Some(wanted) {
                Change::Keep
            } else {
                Change::Set(wanted)
            };
        }
        if let Some(cluster) = cluster {
            rewrite.cluster = Change::Set(cluster);
            if path.attrs.originator.is_none() {
                rewrite.originator = path.peer().map(|peer| peer.router_id).into();
            }
        }
        rewrite
    }
}

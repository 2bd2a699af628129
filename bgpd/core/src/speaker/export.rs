//! From the best path to what a peer gets: who may have it, next hop, attributes, export policy (RFC 4271 §5.1, §9.2;
//! RFC 4456 §8; RFC 1997).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::{NextHopMode, Role};
use crate::family::Family;
use crate::policy::eval::{self, Chain, Outcome};
use crate::policy::{Community, NextHopAction, PeerType};
use crate::rib::attrs::{Interner, Scope};
use crate::rib::pack::{Advert, Format};
use crate::rib::rewrite::{Change, Rewrite};
use crate::rib::way::{PeerInfo, Tag, Way};
use crate::session::Session;
use crate::session::negotiation::Agreed;
use crate::wire::canonical::DEFAULT_LOCAL_PREF;
use crate::wire::mp::NextHop;

/// What decides what a peer gets, and in which form; equal for peers that get the same.
#[derive(Debug)]
pub(crate) struct Exporter {
    pub(crate) ebgp: bool,
    cluster: Option<Ipv4Addr>,
    local_as: u32,
    local: IpAddr,
    mode: NextHopMode,
    families: Vec<Family>,
    extended_next_hop: bool,
    role: Option<Role>,
    /// These peers know how to treat long-lived stale routes.
    knows_stale: bool,
    /// The others get them too, as the last choice and for this AS only.
    stale_to_all: bool,
    /// This speaker is about to go.
    drain: bool,
    /// All usable paths go to these peers, of IPv4, of IPv6 (RFC 7911).
    sends_paths: [bool; 2],
    pub(crate) chain: Arc<Chain>,
    pub(crate) format: Format,
}

/// Why a route does not go to a group of peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeptBack {
    Family,
    SplitHorizon,
    NoAdvertise,
    NoExport,
    OnlyToCustomers,
    Stale,
    Policy,
    NextHop,
}

impl KeptBack {
    fn text(self) -> &'static str {
        match self {
            Self::Family => "the session does not carry this address family: compare families on both sides",
            Self::SplitHorizon => {
                "it came from a peer of the own AS, and goes to others of that AS only through a route reflector: peer \
                 with all of them, or make one of the two a client (reflectorClient)"
            }
            Self::NoAdvertise => "it came with the community NO_ADVERTISE",
            Self::NoExport => "it came with the community NO_EXPORT, and the peer is of another AS",
            Self::OnlyToCustomers => {
                "it came with ONLY_TO_CUSTOMER, and the peer is no customer by the roles of the two"
            }
            Self::Stale => "it is long-lived stale, and the peer has not said that it knows of such routes",
            Self::Policy => "the export policy rejects it",
            Self::NextHop => {
                "there is no next hop of its family to send: set localAddress of that family, or peer over it too"
            }
        }
    }
}

impl PartialEq for Exporter {
    fn eq(&self, other: &Self) -> bool {
        let key = |rules: &Self| {
            (
                rules.ebgp,
                rules.cluster,
                rules.local_as,
                rules.local,
                rules.mode,
                rules.extended_next_hop,
                rules.format,
                (rules.role, rules.knows_stale, rules.stale_to_all, rules.drain),
                rules.sends_paths,
            )
        };
        key(self) == key(other) && self.families == other.families && Arc::ptr_eq(&self.chain, &other.chain)
    }
}

impl Exporter {
    pub(crate) fn new(
        info: &PeerInfo,
        session: &Session,
        agreed: &Agreed,
        chain: Arc<Chain>,
        drain: bool,
    ) -> Self {
        Self {
            ebgp: info.ebgp,
            cluster: session.config.reflector_client,
            local_as: session.local_as,
            local: info.local,
            mode: session.config.next_hop,
            families: agreed.families.clone(),
            extended_next_hop: agreed.extended_next_hop,
            role: info.role,
            knows_stale: agreed.long_lived.is_some(),
            stale_to_all: session.config.long_lived_partial && !info.ebgp,
            drain,
            sends_paths: agreed.add_path_send,
            chain,
            format: Format {
                as4: agreed.as4,
                limit: agreed.message_limit(),
            },
        }
    }

    /// Whether all usable paths of any family go to these peers.
    pub(super) fn sends_paths(&self) -> bool {
        self.sends_paths.contains(&true)
    }

    /// Whether all usable paths to this prefix go to these peers.
    pub(super) fn sends_paths_of(&self, prefix: &IpNet) -> bool {
        self.sends_paths
            .get(Family::of_prefix(prefix).index())
            .is_some_and(|sends| *sends)
    }

    /// What matters of a tag for these peers: an originator is known inside the AS only.
    pub(super) fn tag(&self, tag: Tag) -> Tag {
        Tag {
            originator: tag.originator.filter(|_| !self.ebgp),
            ..tag
        }
    }

    /// Returns what these peers get for a prefix that is reached this way, but for those that the tag of the way keeps
    /// it from.
    pub(super) fn advert(&self, prefix: &IpNet, way: &Way, interner: &mut Interner) -> Option<Advert> {
        let (outcome, next_hop, reflects) = self.outcome(prefix, way)?;
        let mut rewrite = self.rewrite(way, outcome, reflects);
        if self.drain {
            // RFC 8326 §4.2: said to all; inside the AS it also counts for those who do not know the community.
            add_community(&mut rewrite, Community::GRACEFUL_SHUTDOWN);
        }
        if self.hides_age(way) {
            add_community(&mut rewrite, Community::NO_EXPORT);
        }
        if !self.ebgp && (self.drain || self.hides_age(way)) {
            rewrite.local_pref = Change::Set(0);
        }
        let attrs = interner.outgoing(&way.attrs, rewrite);
        Some(Advert { attrs, next_hop })
    }

    /// Whether these peers get anything for it.
    pub(super) fn lets_through(&self, prefix: &IpNet, way: &Way) -> bool {
        self.outcome(prefix, way).is_some()
    }

    /// What the terms say, the next hop, and the cluster that the route is reflected with.
    fn outcome(&self, prefix: &IpNet, way: &Way) -> Option<(Outcome, NextHop, Option<Ipv4Addr>)> {
        self.judge(prefix, way).ok()
    }

    /// The same, or why these peers get nothing.
    fn judge(&self, prefix: &IpNet, way: &Way) -> Result<(Outcome, NextHop, Option<Ipv4Addr>), KeptBack> {
        if !self.families.contains(&Family::of_prefix(prefix)) {
            return Err(KeptBack::Family);
        }
        let reflects = self.reflects(way.peer()).ok_or(KeptBack::SplitHorizon)?;
        // RFC 1997: communities that came with the route, before export adds its own.
        match way.attrs.scope {
            Scope::NoAdvertise => return Err(KeptBack::NoAdvertise),
            Scope::NoExport if self.ebgp => return Err(KeptBack::NoExport),
            Scope::Any | Scope::NoExport => {}
        }
        // RFC 9234 §5, egress: not upwards or sideways what may go downwards only.
        if way.attrs.only_to_customer().is_some() && self.role.is_some_and(Role::is_below_or_beside) {
            return Err(KeptBack::OnlyToCustomers);
        }
        if self.hides_age(way) && !self.stale_to_all {
            return Err(KeptBack::Stale);
        }
        let route = self.as_seen(prefix, way);
        let outcome = eval::evaluate(&self.chain, &route).ok_or(KeptBack::Policy)?;
        let next_hop = self.next_hop(prefix, way, outcome.next_hop);
        Ok((outcome, next_hop.ok_or(KeptBack::NextHop)?, reflects))
    }

    fn as_seen<'a>(&self, prefix: &IpNet, way: &'a Way) -> eval::Route<'a> {
        eval::Route {
            prefix: *prefix,
            source: way.source,
            peer_type: Some(if self.ebgp { PeerType::Ebgp } else { PeerType::Ibgp }),
            interface: way.interface(),
            next_hop: way.next_hop().map(|hop| hop.address),
            metric: way.metric(),
            attrs: &way.attrs,
        }
    }

    /// Why these peers get nothing for a prefix that is reached this way, in words; `None` when they get it.
    pub(super) fn kept_back(&self, prefix: &IpNet, way: &Way) -> Option<String> {
        let reason = self.judge(prefix, way).err()?;
        if reason == KeptBack::Policy
            && let Some((number, term)) = eval::rejecting(&self.chain, &self.as_seen(prefix, way))
        {
            return Some(format!(
                "the export policy rejects it in term {number}, {:?}",
                term.name
            ));
        }
        Some(reason.text().to_owned())
    }

    /// Whether it is a long-lived stale route that these peers would take for a fresh one (RFC 9494 §4.3).
    fn hides_age(&self, way: &Way) -> bool {
        way.attrs.is_long_lived_stale() && !self.knows_stale
    }

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

    fn next_hop(&self, prefix: &IpNet, way: &Way, chosen: Option<NextHopAction>) -> Option<NextHop> {
        let own = NextHop::from(self.local);
        let kept = way.next_hop().unwrap_or(own);
        let wanted = match chosen {
            Some(NextHopAction::Own) => own,
            Some(NextHopAction::Keep) => kept,
            Some(NextHopAction::Address(address)) => address.into(),
            None => match self.mode {
                NextHopMode::Own => own,
                NextHopMode::Keep => kept,
                NextHopMode::Auto if self.ebgp || way.peer().is_none() => own,
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
    fn rewrite(&self, way: &Way, outcome: Outcome, cluster: Option<Ipv4Addr>) -> Rewrite {
        let mut rewrite = outcome.rewrite();
        if self.role.is_some_and(Role::is_above_or_beside) && way.attrs.only_to_customer().is_none() {
            rewrite.only_to_customer = Change::Set(self.local_as);
        }
        if self.ebgp {
            // RFC 4271 §5.1.2, §5.1.5; RFC 4456 §8: these two are of this AS only.
            rewrite.prepend.insert(0, self.local_as);
            rewrite.local_pref = Change::Remove;
            rewrite.originator = Change::Remove;
            rewrite.cluster = Change::Remove;
            // RFC 4271 §5.1.4: a MED from one neighbouring AS does not go to another.
            if way.peer().is_some() && outcome.med.is_none() {
                rewrite.med = Change::Remove;
            }
        } else {
            let wanted = outcome
                .local_pref
                .or(way.attrs.local_pref())
                .unwrap_or(DEFAULT_LOCAL_PREF);
            rewrite.local_pref = if way.attrs.local_pref() == Some(wanted) {
                Change::Keep
            } else {
                Change::Set(wanted)
            };
        }
        if let Some(cluster) = cluster {
            rewrite.cluster = Change::Set(cluster);
            if way.attrs.originator().is_none() {
                rewrite.originator = way.peer().map(|peer| peer.router_id).into();
            }
        }
        rewrite
    }
}

fn add_community(rewrite: &mut Rewrite, value: u32) {
    let community = Community::Standard(value);
    if !rewrite.communities.contains(&community) {
        rewrite.communities.push(community);
    }
}

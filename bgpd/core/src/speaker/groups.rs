//! Update groups: peers that get the same share rules, a log of changes and the messages made of it (RFC 4271 §9.2).
//!
//! A member is a position in the log. A new one, or one whose rules changed, first walks the whole table.

use std::collections::{BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;

use hashbrown::HashMap;
use ipnet::IpNet;

use super::Speaker;
use super::export::Exporter;
use super::paths::Told;
use crate::family::Family;
use crate::rib::attrs::Interner;
use crate::rib::change_log::{Change, ChangeLog, Position};
use crate::rib::entry::PrefixId;
use crate::rib::pack::Advert;
use crate::rib::way::{PeerId, Tag, Way};

/// Names a group. Numbers are not used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupId(u32);

/// Why a member walks the whole table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WalkKind {
    /// A new session; End-of-RIB follows.
    Initial,
    /// Other rules: what they no longer let through is withdrawn.
    Again,
    /// The peer asked for a family (RFC 2918).
    Refresh(Family),
}

/// A walk over the table: the numbers of the prefixes from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Walk {
    pub(crate) kind: WalkKind,
    pub(crate) from: usize,
    /// `None` before it begins.
    pub(crate) until: Option<usize>,
}

impl Walk {
    fn new(kind: WalkKind) -> Self {
        Self {
            kind,
            from: 0,
            until: None,
        }
    }
}

/// The export side of an established session.
#[derive(Debug)]
pub(crate) struct Target {
    id: PeerId,
    router_id: Ipv4Addr,
    ebgp: bool,
    pub(crate) group: GroupId,
    /// What was read of the group's log.
    pub(crate) position: Position,
    pub(crate) walks: VecDeque<Walk>,
}

impl Target {
    /// Whether routes with this tag came from this peer, directly or through a reflector.
    pub(super) fn is_echo(&self, tag: Tag) -> bool {
        tag.peer == Some(self.id) || (!self.ebgp && tag.originator == Some(self.router_id))
    }

    /// Wants all of a family sent again.
    pub(crate) fn refresh(&mut self, family: Family) {
        let walk = Walk::new(WalkKind::Refresh(family));
        // One that has not begun will send the same.
        if !self.walks.contains(&walk) {
            self.walks.push_back(walk);
        }
    }

    /// Sets the bounds of the walk that is next, if it has not begun: all that there is now. What comes later is in the
    /// log.
    pub(super) fn begin_walk(&mut self, len: usize, end: Position) {
        let Some(walk) = self.walks.front_mut() else {
            return;
        };
        if walk.until.is_none() {
            walk.until = Some(len);
            // Nothing was told yet: End-of-RIB comes after all that is known by now.
            if walk.kind == WalkKind::Initial {
                self.position = end;
            }
        }
    }
}

/// A group.
#[derive(Debug)]
pub(crate) struct UpdateGroup {
    pub(crate) exporter: Exporter,
    pub(crate) log: ChangeLog,
    pub(crate) members: BTreeSet<PeerId>,
    /// Prefixes that the group's rules let through.
    advertised: usize,
    /// The same by what keeps them from a member.
    by_tag: HashMap<Tag, usize>,
    /// The last results, for prefixes that are reached the same way.
    memo: [Option<(Arc<Way>, Option<Advert>)>; 2],
    /// Where all paths are told: those that members were told of.
    pub(super) told: HashMap<PrefixId, Vec<Told>>,
}

impl UpdateGroup {
    fn new(exporter: Exporter) -> Self {
        Self {
            exporter,
            log: ChangeLog::default(),
            members: BTreeSet::new(),
            advertised: 0,
            by_tag: HashMap::new(),
            memo: [None, None],
            told: HashMap::new(),
        }
    }

    /// What the group gets for a prefix.
    pub(super) fn advert(
        &mut self,
        prefix: &IpNet,
        way: &Arc<Way>,
        interner: &mut Interner,
    ) -> Option<Advert> {
        if self.exporter.chain.looks_at_prefixes() {
            return self.exporter.advert(prefix, way, interner);
        }
        let [first, second] = &mut self.memo;
        let is_known = |memo: &Option<(Arc<Way>, Option<Advert>)>| {
            memo.as_ref().is_some_and(|(known, _)| Arc::ptr_eq(known, way))
        };
        if !is_known(first) {
            std::mem::swap(first, second);
        }
        if !is_known(first) {
            *first = Some((Arc::clone(way), self.exporter.advert(prefix, way, interner)));
        }
        first.as_ref().and_then(|(_, advert)| advert.clone())
    }

    fn count(&mut self, tag: Tag, add: bool) {
        let tag = self.exporter.tag(tag);
        let of_tag = self.by_tag.entry(tag).or_default();
        if add {
            self.advertised += 1;
            *of_tag += 1;
        } else {
            self.advertised -= 1;
            *of_tag -= 1;
            if *of_tag == 0 {
                self.by_tag.remove(&tag);
            }
        }
    }

    /// Takes a changed choice; `before` is where the route came from, or last came from. Where all paths are told
    /// and not the choice, it is only counted.
    pub(super) fn note(
        &mut self,
        (id, prefix): (PrefixId, &IpNet),
        before: Option<Tag>,
        [old, new]: [Option<&Arc<Way>>; 2],
        interner: &mut Interner,
        tells_choice: bool,
    ) {
        let lets = |way: Option<&Arc<Way>>| way.is_some_and(|way| self.exporter.lets_through(prefix, way));
        let [had, has] = [lets(old), lets(new)];
        let tags = [old, new].map(|way| way.map(|way| way.tag()));
        for (counts, tag, add) in [(had, tags[0], false), (has, tags[1], true)] {
            if let Some(tag) = tag.filter(|_| counts) {
                self.count(tag, add);
            }
        }
        let known = |tag: Option<Tag>| tag.map(|tag| self.exporter.tag(tag));
        let moved = before.is_some() && tags[1].is_some() && known(before) != known(tags[1]);
        if (!had && !has) || !tells_choice {
            return;
        }
        if let (Some(old), Some(new), true) = (old, new, had && has && !moved) {
            let before = self.advert(prefix, old, interner);
            if before == self.advert(prefix, new, interner) {
                return;
            }
        }
        self.log.append(Change { id, moved, had }, !has);
    }

    /// Prefixes that a member has, once it has read all.
    pub(super) fn sent_to(&self, target: &Target) -> usize {
        let kept = self.by_tag.iter().filter(|(tag, _)| target.is_echo(**tag));
        self.advertised - kept.map(|(_, count)| count).sum::<usize>()
    }
}

impl Speaker {
    /// Puts a peer whose session is up into the group of those that get the same, and has it walk the table.
    pub(super) fn join_group(&mut self, id: PeerId, kind: WalkKind) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let (Some(info), Some((agreed, _))) = (peer.info.clone(), peer.session.established()) else {
            return;
        };
        let drain = self.config.as_ref().is_some_and(|config| config.drain);
        let chain = Arc::clone(&peer.export);
        let exporter = Exporter::new(&info, &peer.session, agreed, chain, drain);
        let group = self.group_for(exporter);
        let Some(joined) = self.groups.get_mut(&group) else {
            return;
        };
        joined.members.insert(id);
        let target = Target {
            id,
            router_id: info.router_id,
            ebgp: info.ebgp,
            group,
            position: joined.log.end(),
            walks: VecDeque::from([Walk::new(kind)]),
        };
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.target = Some(target);
        }
    }

    fn group_for(&mut self, exporter: Exporter) -> GroupId {
        let same = |(_, group): &(&GroupId, &UpdateGroup)| group.exporter == exporter;
        if let Some((id, _)) = self.groups.iter().find(same) {
            return *id;
        }
        let id = GroupId(self.next_group);
        self.next_group += 1;
        let mut group = UpdateGroup::new(exporter);
        for (prefix, way) in self.table.choices() {
            if group.exporter.lets_through(prefix, way) {
                group.count(way.tag(), true);
            }
        }
        self.groups.insert(id, group);
        id
    }

    /// Takes a peer out of its group.
    pub(super) fn leave_group(&mut self, id: PeerId) {
        let target = self.peers.get_mut(&id).and_then(|peer| peer.target.take());
        if let Some(target) = target {
            self.drop_member(target.group, id);
        }
    }

    /// Moves a peer whose rules changed to another group, unless they come to the same.
    pub(super) fn change_group(&mut self, id: PeerId) {
        let untold = self.untold(id);
        let Some(old) = self.peers.get_mut(&id).and_then(|peer| peer.target.take()) else {
            return;
        };
        let is_initial = old.walks.iter().any(|walk| walk.kind == WalkKind::Initial);
        let kind = if is_initial {
            WalkKind::Initial
        } else {
            WalkKind::Again
        };
        self.join_group(id, kind);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let joined = peer.target.as_ref().map(|target| target.group);
        if joined == Some(old.group) {
            peer.target = Some(old);
            return;
        }
        // What went meanwhile is in no table to walk.
        let told = self.groups.get(&old.group).map(|group| group.told.clone());
        if let Some(group) = joined.and_then(|joined| self.groups.get_mut(&joined)) {
            group.inherit(told.unwrap_or_default());
            for id in untold {
                let change = Change {
                    id,
                    moved: true,
                    had: true,
                };
                group.log.append(change, false);
            }
        }
        self.drop_member(old.group, id);
    }

    fn untold(&self, id: PeerId) -> Vec<PrefixId> {
        let target = self.peers.get(&id).and_then(|peer| peer.target.as_ref());
        let Some((target, group)) = target.and_then(|target| Some((target, self.groups.get(&target.group)?)))
        else {
            return Vec::new();
        };
        let (changes, _) = group.log.read(target.position, usize::MAX);
        changes.iter().map(|change| change.id).collect()
    }

    fn drop_member(&mut self, group: GroupId, id: PeerId) {
        let Some(left) = self.groups.get_mut(&group) else {
            return;
        };
        left.members.remove(&id);
        if left.members.is_empty() {
            let end = left.log.end();
            let told = left.log.trim(end);
            self.groups.remove(&group);
            told.into_iter().for_each(|id| self.release(id));
        }
    }

    /// Frees the number of a prefix of which nothing is left and nobody is still to be told.
    pub(super) fn release(&mut self, id: PrefixId) {
        if !self.groups.values().any(|group| group.log.contains(id)) && self.table.release(id) {
            for group in self.groups.values_mut() {
                group.told.remove(&id);
            }
        }
    }
}

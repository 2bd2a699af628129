//! Works on what changed: decides, tells the kernel, tells each group of peers, in portions so that no peer's queue
//! outgrows what it reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;

use super::Speaker;
use super::groups::{GroupId, UpdateGroup, Walk, WalkKind};
use super::kernel;
use super::paths::Sources;
use super::restart::Restart;
use crate::family::Family;
use crate::output::{KernelRoute, Output, RouteDelta};
use crate::policy::eval::Chain;
use crate::rib::change_log::Position;
use crate::rib::decision::{Rules, Selection};
use crate::rib::entry::{Entry, PrefixId};
use crate::rib::pack::{Format, Packed, Packer};
use crate::rib::path::Path;
use crate::rib::way::{PeerId, Tag, Way};
use crate::wire::encode::{self, PathRoute, Route};
use crate::wire::refresh::{Refresh, RefreshKind};

/// Prefixes that a peer is told of between two looks at whether it still reads.
const PORTION: usize = 4096;
/// Portions that go out before the sessions end with the process.
const LAST_PORTIONS: usize = 4;

/// What a member is told next. Members with the same work share the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Walk(Walk),
    Log(Position),
}

/// Where a member is after its portion.
#[derive(Clone, Copy, Debug)]
enum Progress {
    /// The walk goes on from this number.
    Walked(usize),
    /// The walk is at its end.
    WalkDone,
    /// The log is read up to here.
    Read(Position),
}

impl Speaker {
    pub(super) fn flush(&mut self) {
        // RFC 4724 §4.1: a restarting speaker defers selection, and so everything after it.
        let defers = self.restart.as_ref().is_some_and(Restart::defers);
        if defers || self.stopped || self.config.is_none() {
            return;
        }
        self.decide_dirty();
        self.interner.tidy(self.table.path_count());
        // A portion may come to nothing; what follows it may not.
        while self.write_round() && self.out.is_empty() {}
    }

    /// Sends what is due, as far as it is little.
    pub(super) fn flush_last(&mut self) {
        self.flush();
        for _ in 1..LAST_PORTIONS {
            self.write_round();
        }
    }

    fn rules(&self) -> Rules {
        let config = self.config.as_ref();
        Rules {
            always_compare_med: config.is_some_and(|config| config.always_compare_med),
            multipath_max: config.map_or(1, |config| usize::from(config.multipath_max)),
        }
    }

    /// The selection of an entry, for status.
    pub(super) fn selection(&self, entry: &Entry) -> Option<Selection> {
        self.table.selection(entry, self.rules())
    }

    fn decide_dirty(&mut self) {
        if !self.table.has_dirty() {
            return;
        }
        let rules = self.rules();
        let mut routes = KernelRoutes::new(Arc::clone(&self.kernel_chain));
        for (id, old) in self.table.take_dirty() {
            let Some((entry, selection)) = self.table.decide(id, rules) else {
                continue;
            };
            let prefix = entry.prefix;
            let paths = entry.paths.as_slice();
            let best = selection.as_ref().map(|selection| selection.best);
            let new = best.and_then(|best| paths.get(best));
            let new = new.map(|path| Arc::clone(&path.used));
            let route = routes.get(&prefix, paths, selection.as_ref());
            let before = match &old {
                Some(way) => Some(way.tag()),
                None => self.table.tag(id),
            };
            if self.table.choose(id, best, route.as_deref(), before) {
                self.out.push_back(Output::Route(RouteDelta { prefix, route }));
            }
            let is_same = match (&old, &new) {
                (Some(old), Some(new)) => Arc::ptr_eq(old, new),
                (None, None) => true,
                _ => false,
            };
            let is_lost = new.is_none();
            self.note(id, &prefix, before, [old.as_ref(), new.as_ref()], is_same);
            if is_lost {
                self.release(id);
            }
        }
    }

    /// Notes for every group what it will have to be told.
    fn note(
        &mut self,
        id: PrefixId,
        prefix: &IpNet,
        before: Option<Tag>,
        choices: [Option<&Arc<Way>>; 2],
        is_same: bool,
    ) {
        let mut sources = Sources {
            table: &self.table,
            interner: &mut self.interner,
            path_ids: &mut self.path_ids,
        };
        for group in self.groups.values_mut() {
            let sends_paths = group.exporter.sends_paths_of(prefix);
            if !is_same {
                group.note((id, prefix), before, choices, sources.interner, !sends_paths);
            }
            // The choice may be the same and another path not.
            if sends_paths {
                group.note_paths(id, &mut sources);
            }
        }
    }

    /// Tells every member that reads its next portion; false when there was nothing to tell.
    fn write_round(&mut self) -> bool {
        let mut any = false;
        let groups: Vec<GroupId> = self.groups.keys().copied().collect();
        for id in groups {
            self.begin_walks(id);
            let work = self.work(id);
            any |= !work.is_empty();
            for (work, members) in work {
                self.tell(id, work, &members);
            }
            self.tidy(id);
        }
        any
    }

    fn begin_walks(&mut self, id: GroupId) {
        let Some(group) = self.groups.get(&id) else { return };
        let (len, end) = (self.table.len(), group.log.end());
        for member in &group.members {
            let target = self.peers.get_mut(member).and_then(|peer| peer.target.as_mut());
            if let Some(target) = target {
                target.begin_walk(len, end);
            }
        }
    }

    fn work(&self, id: GroupId) -> BTreeMap<Work, Vec<PeerId>> {
        let mut work: BTreeMap<Work, Vec<PeerId>> = BTreeMap::new();
        let Some(group) = self.groups.get(&id) else {
            return work;
        };
        let end = group.log.end();
        for member in &group.members {
            let Some(peer) = self.peers.get(member) else {
                continue;
            };
            let Some(target) = &peer.target else { continue };
            let next = match target.walks.front() {
                Some(walk) => Work::Walk(*walk),
                None if target.position < end => Work::Log(target.position),
                None => continue,
            };
            let reads = peer.session.established().is_some_and(|(_, conn)| !conn.blocked);
            if reads {
                work.entry(next).or_default().push(*member);
            }
        }
        work
    }

    /// Writes a portion once and sends it to these members.
    fn tell(&mut self, id: GroupId, work: Work, members: &[PeerId]) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let mut sources = Sources {
            table: &self.table,
            interner: &mut self.interner,
            path_ids: &mut self.path_ids,
        };
        // Most peers take one path to a prefix, whose messages are built of prefixes alone.
        let (progress, packed) = if group.exporter.sends_paths() {
            write::<PathRoute>(group, work, &mut sources)
        } else {
            write::<IpNet>(group, work, &mut sources)
        };
        let format = group.exporter.format;
        for member in members {
            self.send(*member, work, progress, &packed, format);
        }
    }

    fn send(&mut self, id: PeerId, work: Work, progress: Progress, packed: &Packed, format: Format) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some((agreed, conn)) = peer.session.established() else {
            return;
        };
        let (conn, enhanced) = (conn.id, agreed.enhanced_refresh);
        let families = agreed.families.clone();
        let Some(target) = &mut peer.target else { return };
        let (pieces, updates) = packed.for_peer(|tag| target.is_echo(tag), format);
        let mut before = Vec::new();
        let mut after = Vec::new();
        // End-of-RIB markers are UPDATEs, route refreshes are not.
        let (mut extra, mut markers) = (0, 0);
        if let Work::Walk(walk) = work {
            // RFC 7313 §4: what comes from here to EoRR is all there is.
            if let WalkKind::Refresh(family) = walk.kind
                && walk.from == 0
                && enhanced
            {
                Refresh::encode(family, RefreshKind::Begin, &mut before);
                extra += 1;
            }
            if matches!(progress, Progress::WalkDone) {
                let count = end_walk(walk.kind, &families, enhanced, &mut after);
                *(if walk.kind == WalkKind::Initial {
                    &mut markers
                } else {
                    &mut extra
                }) += count;
            }
        }
        match progress {
            Progress::Walked(next) => {
                if let Some(walk) = target.walks.front_mut() {
                    walk.from = next;
                }
            }
            Progress::WalkDone => {
                target.walks.pop_front();
            }
            Progress::Read(position) => target.position = position,
        }
        let counters = &mut peer.session.counters;
        counters.updates_out += updates + markers;
        counters.messages_out += updates + markers + extra;
        let wrap = |octets: Vec<u8>| (!octets.is_empty()).then(|| octets.into());
        for bytes in wrap(before).into_iter().chain(pieces).chain(wrap(after)) {
            self.out.push_back(Output::Send { conn, bytes });
        }
    }

    /// Forgets of a log what all members have read.
    fn tidy(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        let end = group.log.end();
        let mut positions: Vec<(PeerId, Position)> = Vec::new();
        let mut has_newcomer = false;
        for member in &group.members {
            let target = self.peers.get(member).and_then(|peer| peer.target.as_ref());
            let walks = target.iter().flat_map(|target| &target.walks);
            has_newcomer |= walks.into_iter().any(|walk| walk.kind == WalkKind::Again);
            positions.extend(target.map(|target| (*member, target.position)));
        }
        let slowest = positions.iter().map(|(_, position)| *position).min();
        let told = group.log.trim(slowest.unwrap_or(end));
        if group.log.is_sparse() {
            group
                .log
                .compact(positions.iter_mut().map(|(_, position)| position));
            for (member, position) in positions {
                let target = self.peers.get_mut(&member).and_then(|peer| peer.target.as_mut());
                if let Some(target) = target {
                    target.position = position;
                }
            }
        }
        // One that came from another group has paths from there which its walk is still to withdraw.
        for id in told.iter().filter(|_| !has_newcomer) {
            group.forget_withdrawn(*id);
        }
        told.into_iter().for_each(|id| self.release(id));
    }
}

/// Writes a portion.
fn write<R: Route>(group: &mut UpdateGroup, work: Work, sources: &mut Sources<'_>) -> (Progress, Packed) {
    let mut packer = Packer::<R>::default();
    let progress = match work {
        Work::Walk(walk) => walk_on(&mut packer, group, walk, sources),
        Work::Log(position) => read_on(&mut packer, group, position, sources),
    };
    (progress, packer.finish(group.exporter.format))
}

/// Adds the next portion of a walk.
fn walk_on<R: Route>(
    packer: &mut Packer<R>,
    group: &mut UpdateGroup,
    walk: Walk,
    sources: &mut Sources<'_>,
) -> Progress {
    let table = sources.table;
    let wanted = |family: Family| match walk.kind {
        WalkKind::Refresh(only) => only == family,
        WalkKind::Initial | WalkKind::Again => true,
    };
    group.log.note_told(group.log.end());
    for (count, (id, entry)) in table.entries_from(walk.from).enumerate() {
        if walk.until.is_some_and(|until| id.index() >= until) {
            break;
        }
        if count == PORTION {
            return Progress::Walked(id.index());
        }
        if !wanted(Family::of_prefix(&entry.prefix)) {
            continue;
        }
        if group.exporter.sends_paths_of(&entry.prefix) {
            group.tell_paths(packer, id, entry, sources);
            continue;
        }
        let way = entry.chosen();
        let advert = way.and_then(|way| group.advert(&entry.prefix, way, sources.interner));
        let route = R::of(entry.prefix, None);
        match (way, advert) {
            (Some(way), Some(advert)) => {
                packer.announce(route, &advert, group.exporter.tag(way.tag()));
            }
            // Other rules may have let it through.
            _ if walk.kind == WalkKind::Again => packer.withdraw(route, None),
            _ => {}
        }
    }
    Progress::WalkDone
}

/// Adds the next portion of a log.
fn read_on<R: Route>(
    packer: &mut Packer<R>,
    group: &mut UpdateGroup,
    position: Position,
    sources: &mut Sources<'_>,
) -> Progress {
    let table = sources.table;
    let (changes, next) = group.log.read(position, PORTION);
    group.log.note_told(next);
    for change in changes {
        let Some(entry) = table.entry(change.id) else {
            continue;
        };
        if group.exporter.sends_paths_of(&entry.prefix) {
            group.tell_paths(packer, change.id, entry, sources);
            continue;
        }
        let tag = table.tag(change.id).map(|tag| group.exporter.tag(tag));
        let way = entry.chosen();
        let advert = way.and_then(|way| group.advert(&entry.prefix, way, sources.interner));
        let route = R::of(entry.prefix, None);
        match (advert, tag) {
            (Some(advert), Some(tag)) => {
                packer.announce(route, &advert, tag);
                if change.moved {
                    packer.withdraw_from(entry.prefix, tag);
                }
            }
            // Those that the route was kept from never had it, unless it was somebody else's before.
            (_, tag) => packer.withdraw(route, tag.filter(|_| !change.moved)),
        }
    }
    Progress::Read(next)
}

/// Appends what ends a walk, and returns how many messages that is.
fn end_walk(kind: WalkKind, families: &[Family], enhanced: bool, out: &mut Vec<u8>) -> u64 {
    match kind {
        WalkKind::Initial => {
            // RFC 4724 §2: also without graceful restart, as it tells every peer that this is all.
            for family in families {
                encode::end_of_rib(*family, out);
            }
            families.len() as u64
        }
        WalkKind::Refresh(family) if enhanced => {
            Refresh::encode(family, RefreshKind::End, out);
            1
        }
        WalkKind::Refresh(_) | WalkKind::Again => 0,
    }
}

/// Kernel routes of prefixes, made once for neighbours that are reached the same way.
struct KernelRoutes {
    chain: Arc<Chain>,
    last: Option<(Arc<Way>, Option<Arc<KernelRoute>>)>,
}

impl KernelRoutes {
    fn new(chain: Arc<Chain>) -> Self {
        Self { chain, last: None }
    }

    fn get(
        &mut self,
        prefix: &IpNet,
        paths: &[Path],
        selection: Option<&Selection>,
    ) -> Option<Arc<KernelRoute>> {
        let selected = selection?;
        let way = &paths.get(selected.best)?.used;
        let is_shared = selected.equals.len() == 1 && !self.chain.looks_at_prefixes();
        if let Some((known, route)) = self.last.as_ref().filter(|_| is_shared)
            && Arc::ptr_eq(known, way)
        {
            return route.clone();
        }
        let route = kernel::route(&self.chain, prefix, paths, selection).map(Arc::new);
        if is_shared {
            self.last = Some((Arc::clone(way), route.clone()));
        }
        route
    }
}

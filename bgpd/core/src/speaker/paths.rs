//! All usable paths to a prefix for peers that take more than one (RFC 7911): which there are, under which numbers,
//! and what members of a group were told of them.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap};

use super::groups::UpdateGroup;
use crate::rib::attrs::Interner;
use crate::rib::change_log::Change;
use crate::rib::entry::{Entry, PrefixId};
use crate::rib::pack::{Advert, Packer};
use crate::rib::path::Path;
use crate::rib::table::Table;
use crate::rib::way::{Key, PeerId, Tag};
use crate::wire::encode::Route;

/// What messages are made of.
pub(super) struct Sources<'a> {
    pub(super) table: &'a Table,
    pub(super) interner: &'a mut Interner,
    pub(super) path_ids: &'a mut PathIds,
}

/// Numbers of paths towards peers (RFC 7911 §3: of local meaning). A path keeps its number while its peer is there.
#[derive(Debug, Default)]
pub(super) struct PathIds {
    of_peers: HashMap<(PeerId, u32), u32>,
    last: u32,
    hasher: DefaultHashBuilder,
}

/// Number of the path of the configuration, and of the host.
const STATIC: u32 = 1;
const HOST: u32 = 2;

impl PathIds {
    fn number(&mut self, path: &Path) -> u32 {
        let id = match path.key() {
            Key::Static => return STATIC,
            Key::Host => return HOST,
            Key::Peer(id) => id,
        };
        let last = &mut self.last;
        *self.of_peers.entry((id, path.path_id)).or_insert_with(|| {
            *last = last.wrapping_add(1);
            last.wrapping_add(HOST)
        })
    }

    /// The number that a path has, 0 when it has none yet.
    pub(super) fn known(&self, path: &Path) -> u32 {
        match path.key() {
            Key::Static => STATIC,
            Key::Host => HOST,
            Key::Peer(id) => self.of_peers.get(&(id, path.path_id)).copied().unwrap_or(0),
        }
    }

    /// Forgets the paths of a peer that is gone.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.of_peers.retain(|(id, _), _| *id != peer);
    }
}

/// A path that members were told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    path_id: u32,
    /// Stands for what was told; `None` when it was last withdrawn, of which some may still have to hear.
    digest: Option<u64>,
}

/// The paths of a prefix that go to such peers: all usable ones of peers, and the own one when it is the choice.
pub(super) fn of<'a>(entry: &'a Entry, table: &'a Table) -> impl Iterator<Item = &'a Path> {
    let is_chosen = |path: &Path| {
        let chosen = entry.chosen();
        chosen.is_some_and(|chosen| Arc::ptr_eq(chosen, &path.used))
    };
    let paths = entry.paths.as_slice().iter();
    paths
        .filter(|path| path.is_usable() && table.is_reachable(path))
        .filter(move |path| path.used.peer().is_some() || is_chosen(path))
}

impl UpdateGroup {
    /// What the group gets of a prefix.
    fn adverts(&mut self, entry: &Entry, sources: &mut Sources<'_>) -> Vec<(u32, Tag, Advert)> {
        let mut adverts = Vec::new();
        for path in of(entry, sources.table) {
            let number = sources.path_ids.number(path);
            if let Some(advert) = self.advert(&entry.prefix, &path.used, sources.interner) {
                adverts.push((number, self.exporter.tag(path.used.tag()), advert));
            }
        }
        adverts
    }

    /// Notes that members have to be told of a prefix, if what they get of it differs from what they were told.
    pub(super) fn note_paths(&mut self, id: PrefixId, sources: &mut Sources<'_>) {
        let Some(entry) = sources.table.entry(id) else {
            return;
        };
        let adverts = self.adverts(entry, sources);
        let told = self.told.get(&id).map_or(&[][..], Vec::as_slice);
        let live = told.iter().filter(|told| told.digest.is_some());
        let is_known = |(number, tag, advert): &(u32, Tag, Advert)| {
            let digest = Some(digest(&sources.path_ids.hasher, *tag, advert));
            told.contains(&Told {
                path_id: *number,
                digest,
            })
        };
        if adverts.iter().all(is_known) && live.count() == adverts.len() && !self.log.contains(id) {
            return;
        }
        let change = Change {
            id,
            moved: false,
            had: true,
        };
        self.log.append(change, false);
    }

    /// Adds all that the group gets of a prefix, and withdraws what it does not get any more.
    pub(super) fn tell_paths<R: Route>(
        &mut self,
        packer: &mut Packer<R>,
        id: PrefixId,
        entry: &Entry,
        sources: &mut Sources<'_>,
    ) {
        let adverts = self.adverts(entry, sources);
        let mut told = self.told.remove(&id).unwrap_or_default();
        for path in &mut told {
            if !adverts.iter().any(|(number, ..)| *number == path.path_id) {
                packer.withdraw(R::of(entry.prefix, Some(path.path_id)), None);
                path.digest = None;
            }
        }
        for (number, tag, advert) in &adverts {
            let digest = Some(digest(&sources.path_ids.hasher, *tag, advert));
            match told.iter_mut().find(|path| path.path_id == *number) {
                Some(path) => path.digest = digest,
                None => told.push(Told {
                    path_id: *number,
                    digest,
                }),
            }
            packer.announce(R::of(entry.prefix, Some(*number)), advert, *tag);
        }
        if !told.is_empty() {
            self.told.insert(id, told);
        }
    }

    /// Forgets the withdrawn paths of a prefix, of which all members have heard by now.
    pub(super) fn forget_withdrawn(&mut self, id: PrefixId) {
        if let Some(told) = self.told.get_mut(&id) {
            told.retain(|path| path.digest.is_some());
        }
    }

    /// Takes over what a new member was told in another group: what it does not get here is withdrawn.
    pub(super) fn inherit(&mut self, told: HashMap<PrefixId, Vec<Told>>) {
        for (id, paths) in told {
            let own = self.told.entry(id).or_default();
            for path in paths {
                if !own.iter().any(|known| known.path_id == path.path_id) {
                    own.push(Told { digest: None, ..path });
                }
            }
        }
    }
}

fn digest(hasher: &DefaultHashBuilder, tag: Tag, advert: &Advert) -> u64 {
    hasher.hash_one((tag, advert))
}

//! From changes to messages: withdrawals first, then announcements grouped by their attributes (RFC 4271 §9.2, §4.3),
//! written once for all peers that get the same.

use std::ops::Range;

use bytes::Bytes;
use hashbrown::HashMap;
use ipnet::IpNet;

use super::attrs::Block;
use super::rewrite::narrow;
use super::way::Tag;
use crate::family::Family;
use crate::wire::encode::{self, Route};
use crate::wire::mp::NextHop;

/// A route as a peer gets it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Advert {
    pub(crate) attrs: Block,
    pub(crate) next_hop: NextHop,
}

/// How a peer reads messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) as4: bool,
    pub(crate) limit: usize,
}

/// Messages that have one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// `None` is for everybody.
    pub(crate) tag: Option<Tag>,
    pub(crate) range: Range<usize>,
    /// UPDATEs in it.
    pub(crate) updates: u64,
}

/// Written messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packed {
    pub(crate) bytes: Bytes,
    pub(crate) runs: Vec<Run>,
    /// Prefixes to be withdrawn from those peers alone that the tag keeps the route from.
    pub(crate) moved: Vec<(Tag, IpNet)>,
}

/// Changes on their way into messages.
#[derive(Debug)]
pub(crate) struct Packer<R> {
    withdrawn: Vec<(Option<Tag>, R)>,
    groups: Vec<(Advert, Tag)>,
    announced: Vec<(u32, R)>,
    index: HashMap<(Advert, Tag), u32>,
    moved: Vec<(Tag, IpNet)>,
}

impl<R> Default for Packer<R> {
    fn default() -> Self {
        Self {
            withdrawn: Vec::new(),
            groups: Vec::new(),
            announced: Vec::new(),
            index: HashMap::new(),
            moved: Vec::new(),
        }
    }
}

impl<R: Route> Packer<R> {
    /// Adds a withdrawal. With a tag, peers that it keeps the route from do not get it.
    pub(crate) fn withdraw(&mut self, route: R, tag: Option<Tag>) {
        self.withdrawn.push((tag, route));
    }

    /// Adds a withdrawal for those alone that the tag keeps the route from.
    pub(crate) fn withdraw_from(&mut self, prefix: IpNet, tag: Tag) {
        self.moved.push((tag, prefix));
    }

    /// Adds an announcement.
    pub(crate) fn announce(&mut self, route: R, advert: &Advert, tag: Tag) {
        let is_last = |(known, known_tag): &(Advert, Tag)| {
            *known_tag == tag
                && known.attrs.is_same_object(&advert.attrs)
                && known.next_hop == advert.next_hop
        };
        let last = self.announced.last().map(|(group, _)| *group);
        let same = last.filter(|at| self.groups.get(*at as usize).is_some_and(is_last));
        let at = same.unwrap_or_else(|| {
            let key = (advert.clone(), tag);
            let groups = &mut self.groups;
            *self.index.entry(key).or_insert_with_key(|key| {
                groups.push(key.clone());
                u32::try_from(groups.len() - 1).unwrap_or(u32::MAX)
            })
        });
        self.announced.push((at, route));
    }

    /// Writes what was added, of one family after the other.
    pub(crate) fn finish(mut self, format: Format) -> Packed {
        let mut out = Writer::default();
        let mut announced = Writer::default();
        // Stable, so prefixes stay in the order in which they came.
        self.announced.sort_by_key(|(group, _)| *group);
        for family in Family::ALL {
            self.write_announcements(family, format, &mut announced);
        }
        self.withdrawn
            .sort_by_key(|(tag, _)| tag.map(|tag| (tag.peer, tag.originator)));
        for family in Family::ALL {
            let same_tag = |a: &(Option<Tag>, R), b: &(Option<Tag>, R)| a.0 == b.0;
            for chunk in self.withdrawn.chunk_by(same_tag) {
                let of_family = chunk.iter().map(|(_, route)| *route);
                let prefixes: Vec<R> = of_family
                    .filter(|route| Family::of_prefix(&route.prefix()) == family)
                    .collect();
                let tag = chunk.first().and_then(|(tag, _)| *tag);
                encode::withdraw(family, &prefixes, format.limit, |bytes, _| out.push(tag, bytes));
            }
        }
        out.append(announced);
        Packed {
            bytes: out.bytes.into(),
            runs: out.runs,
            moved: self.moved,
        }
    }

    fn write_announcements(&mut self, family: Family, format: Format, out: &mut Writer) {
        let mut prefixes = Vec::new();
        let announced = std::mem::take(&mut self.announced);
        for chunk in announced.chunk_by(|a, b| a.0 == b.0) {
            let of_family = chunk.iter().map(|(_, route)| *route);
            prefixes.clear();
            prefixes.extend(of_family.filter(|route| Family::of_prefix(&route.prefix()) == family));
            let at = chunk.first().map_or(0, |(group, _)| *group as usize);
            let Some((advert, tag)) = self.groups.get(at).filter(|_| !prefixes.is_empty()) else {
                continue;
            };
            let short = (!format.as4).then(|| narrow(advert.attrs.octets()));
            let block = short.as_deref().unwrap_or(advert.attrs.octets());
            let emit = |bytes: &[u8], _| out.push(Some(*tag), bytes);
            if !encode::announce(family, block, advert.next_hop, &prefixes, format.limit, emit) {
                // RFC 4271 §9.2: a route that fits no message is not advertised, nor is its older form.
                self.withdrawn
                    .extend(prefixes.drain(..).map(|route| (None, route)));
            }
        }
        self.announced = announced;
    }
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    runs: Vec<Run>,
}

impl Writer {
    fn push(&mut self, tag: Option<Tag>, message: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(message);
        let end = self.bytes.len();
        match self.runs.last_mut() {
            Some(run) if run.tag == tag => {
                run.range.end = end;
                run.updates += 1;
            }
            _ => self.runs.push(Run {
                tag,
                range: start..end,
                updates: 1,
            }),
        }
    }

    fn append(&mut self, other: Self) {
        let start = self.bytes.len();
        self.bytes.extend(other.bytes);
        self.runs.extend(other.runs.into_iter().map(|run| Run {
            range: run.range.start + start..run.range.end + start,
            ..run
        }));
    }
}

impl Packed {
    /// The octets for a peer from which `keeps` holds routes back, in as few pieces as there can be, and the number of
    /// UPDATEs in them.
    pub(crate) fn for_peer(&self, keeps: impl Fn(Tag) -> bool, format: Format) -> (Vec<Bytes>, u64) {
        let mut pieces: Vec<Range<usize>> = Vec::new();
        let mut updates = 0;
        for run in &self.runs {
            if run.tag.is_some_and(&keeps) {
                continue;
            }
            updates += run.updates;
            match pieces.last_mut() {
                Some(last) if last.end == run.range.start => last.end = run.range.end,
                _ => pieces.push(run.range.clone()),
            }
        }
        let mut all: Vec<Bytes> = Vec::new();
        let moved = self.moved.iter().filter(|(tag, _)| keeps(*tag));
        let moved: Vec<IpNet> = moved.map(|(_, prefix)| *prefix).collect();
        let mut own = Vec::new();
        for family in Family::ALL {
            let of_family = moved.iter().filter(|prefix| Family::of_prefix(prefix) == family);
            let prefixes: Vec<IpNet> = of_family.copied().collect();
            encode::withdraw(family, &prefixes, format.limit, |bytes, _| {
                own.extend_from_slice(bytes);
                updates += 1;
            });
        }
        if !own.is_empty() {
            all.push(own.into());
        }
        all.extend(pieces.into_iter().map(|range| self.bytes.slice(range)));
        (all, updates)
    }
}

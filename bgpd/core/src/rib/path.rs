//! One path to a prefix, and the paths of one prefix: as small as a table of a million of them asks for.

use std::sync::Arc;

use super::way::{Key, PeerId, Way};

/// Whether a path is older than what its peer last said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stale {
    /// It is not.
    #[default]
    No,
    /// Kept from before the peer restarted (RFC 4724 §4.2), or not yet sent again (RFC 7313 §4).
    Graceful,
    /// Kept past the restart time, as the last choice (RFC 9494 §4.2).
    LongLived,
}

/// One path.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    /// After the import policy.
    pub(crate) used: Arc<Way>,
    pub(crate) path_id: u32,
    pub(crate) stale: Stale,
}

impl Path {
    /// A path that no import policy runs over.
    pub(crate) fn own(way: Way) -> Self {
        Self {
            used: Arc::new(way),
            path_id: 0,
            stale: Stale::No,
        }
    }

    /// As received, in canonical form.
    pub(crate) fn received(&self) -> &Arc<Way> {
        self.used.received().unwrap_or(&self.used)
    }

    pub(crate) fn key(&self) -> Key {
        self.used.key()
    }

    pub(crate) fn is_from(&self, id: PeerId) -> bool {
        self.key() == Key::Peer(id)
    }

    pub(crate) fn is_usable(&self) -> bool {
        self.used.unusable.is_none()
    }
}

/// The paths of one prefix, mostly one.
#[derive(Debug, Default)]
pub(crate) enum Paths {
    #[default]
    None,
    One(Path),
    /// More, behind a thin pointer.
    #[expect(
        clippy::box_collection,
        reason = "a vector in place would double the size of every entry"
    )]
    Many(Box<Vec<Path>>),
}

impl Paths {
    pub(crate) fn as_slice(&self) -> &[Path] {
        match self {
            Self::None => &[],
            Self::One(path) => std::slice::from_ref(path),
            Self::Many(paths) => paths,
        }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [Path] {
        match self {
            Self::None => &mut [],
            Self::One(path) => std::slice::from_mut(path),
            Self::Many(paths) => paths,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// Puts the path at a place first.
    pub(crate) fn lead_with(&mut self, at: usize) {
        let paths = self.as_mut_slice();
        if at < paths.len() {
            paths.swap(0, at);
        }
    }

    pub(crate) fn push(&mut self, path: Path) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(path),
            Self::One(first) => Self::Many(Box::new(vec![first, path])),
            Self::Many(mut paths) => {
                paths.push(path);
                Self::Many(paths)
            }
        };
    }

    /// Takes out the paths that `goes` holds for.
    pub(crate) fn take_where(
        &mut self,
        mut goes: impl FnMut(&mut Path) -> bool,
        mut taken: impl FnMut(Path),
    ) {
        let mut left = Self::None;
        match std::mem::take(self) {
            Self::None => {}
            Self::One(mut path) => {
                if goes(&mut path) {
                    taken(path);
                } else {
                    left = Self::One(path);
                }
            }
            Self::Many(paths) => {
                for mut path in *paths {
                    if goes(&mut path) {
                        taken(path);
                    } else {
                        left.push(path);
                    }
                }
            }
        }
        *self = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // What `rib::table` stands on; a bigger one costs megabytes for each octet.
    #[test]
    fn paths_take_two_words() {
        assert_eq!(size_of::<Path>(), 16);
        assert_eq!(size_of::<Paths>(), 16);
    }
}

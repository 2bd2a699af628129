//! What a watch has told: keys with a hash of the version, nothing of the objects.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use crate::object::Key;

/// One told object.
#[derive(Clone, Copy, Debug)]
struct Entry {
    version: u64,
    /// The list in which it was last seen.
    list: u32,
}

/// The told objects.
#[derive(Debug, Default)]
pub(super) struct Known {
    entries: HashMap<Key, Entry>,
    list: u32,
}

impl Known {
    /// A list begins: what is not seen until its end is gone.
    pub(super) fn begin_list(&mut self) {
        self.list = self.list.wrapping_add(1);
    }

    /// The list is complete; returns and forgets what it did not have, in order.
    pub(super) fn end_list(&mut self) -> Vec<Key> {
        let list = self.list;
        let mut gone: Vec<Key> = self
            .entries
            .extract_if(|_, entry| entry.list != list)
            .map(|(key, _)| key)
            .collect();
        gone.sort();
        gone
    }

    /// Remembers an object as seen; true when this version was not told yet.
    pub(super) fn insert(&mut self, key: Key, uid: Option<&str>, version: Option<&str>) -> bool {
        let entry = Entry {
            version: hash(uid, version),
            list: self.list,
        };
        let before = self.entries.insert(key, entry);
        // Without a version nothing can be told about sameness.
        version.is_none() || before.is_none_or(|before| before.version != entry.version)
    }

    /// The object exists, in a state that could not be read: if it was told, it stays told as it was.
    pub(super) fn still_there(&mut self, key: &Key) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.list = self.list;
        }
    }

    /// Forgets an object; true when it had been told.
    pub(super) fn remove(&mut self, key: &Key) -> bool {
        self.entries.remove(key).is_some()
    }
}

fn hash(uid: Option<&str>, version: Option<&str>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (uid, version).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_list_tells_changes_and_what_vanished() {
        let key = |name: &str| Key::namespaced("default", name);
        let mut known = Known::default();
        known.begin_list();
        for name in ["a", "b", "c"] {
            assert!(known.insert(key(name), Some("uid"), Some("1")));
        }
        assert!(known.end_list().is_empty());
        assert!(known.insert(key("d"), Some("uid"), Some("2")));
        known.begin_list();
        assert!(!known.insert(key("a"), Some("uid"), Some("1")), "unchanged");
        assert!(
            known.insert(key("b"), Some("other"), Some("1")),
            "another object of the name"
        );
        known.still_there(&key("d"));
        assert_eq!(known.end_list(), [key("c")]);
        assert!(!known.remove(&key("c")));
        assert!(known.remove(&key("d")));
    }
}

//! Which watchers a key concerns. The cost of a lookup depends on the watchers that match, not on all that there are.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::api::name::Name;
use crate::engine::hash::Map;
use crate::etcd::key::{Key, KeyRange};

/// Where a watcher lies in the list of watchers.
pub(super) type Place = u32;

/// Watchers by what they watch.
///
/// Keys of Kubernetes are paths, and what is watched is nearly always a directory: such watchers are found by looking up
/// the directories that the key lies in. Watchers of other ranges are looked at one by one.
#[derive(Debug, Default)]
pub(super) struct WatchIndex {
    keys: Map<Key, SmallVec<[Place; 2]>>,
    directories: Map<Name, SmallVec<[Place; 4]>>,
    /// How many watched directories there are of each length, so that most lookups need not be made.
    lengths: Vec<u32>,
    /// The watchers of directories that were found for a directory in which a key was written, until there are others: keys are
    /// written in the same few directories again and again.
    known: Map<Name, SmallVec<[Place; 4]>>,
    others: BTreeMap<Place, KeyRange>,
}

/// If more directories are known, all of them are forgotten.
const MOST_KNOWN: usize = 1024;

impl WatchIndex {
    /// Adds a watcher of a range.
    pub fn insert(&mut self, place: Place, range: &KeyRange) {
        match range {
            KeyRange::One(key) => self.keys.entry(key.clone()).or_default().push(place),
            KeyRange::Prefix(prefix) if prefix.is_directory() => {
                self.known.clear();
                let prefix = prefix.directory();
                let watchers = self.directories.entry(prefix.clone()).or_default();
                if watchers.is_empty() {
                    if self.lengths.len() <= prefix.len() {
                        self.lengths.resize(prefix.len() + 1, 0);
                    }
                    self.lengths[prefix.len()] += 1;
                }
                watchers.push(place);
            }
            other => {
                self.others.insert(place, other.clone());
            }
        }
    }

    /// Removes a watcher of a range.
    pub fn remove(&mut self, place: Place, range: &KeyRange) {
        match range {
            KeyRange::One(key) => {
                if let Some(watchers) = self.keys.get_mut(key) {
                    watchers.retain(|other| *other != place);
                    if watchers.is_empty() {
                        self.keys.remove(key);
                    }
                }
            }
            KeyRange::Prefix(prefix) if prefix.is_directory() => self.remove_directory(place, prefix.directory()),
            _ => {
                self.others.remove(&place);
            }
        }
    }

    fn remove_directory(&mut self, place: Place, prefix: &Name) {
        let Some(watchers) = self.directories.get_mut(prefix) else { return };
        watchers.retain(|other| *other != place);
        self.known.clear();
        if watchers.is_empty() {
            self.directories.remove(prefix);
            self.lengths[prefix.len()] -= 1;
        }
    }

    /// Whether nobody watches anything.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.directories.is_empty() && self.others.is_empty()
    }

    /// The watchers whose range a key lies in, in the order in which they lie in the list.
    pub fn matching(&mut self, key: &Key) -> SmallVec<[Place; 8]> {
        let mut found = SmallVec::new();
        if !self.keys.is_empty()
            && let Some(watchers) = self.keys.get(key)
        {
            found.extend_from_slice(watchers);
        }
        let directory = key.directory();
        match self.known.get(directory) {
            Some(watchers) => found.extend_from_slice(watchers),
            None => found.extend_from_slice(self.look_up(directory)),
        }
        if !self.others.is_empty() {
            found.extend(self.others.iter().filter(|(_, range)| range.contains(key)).map(|(&place, _)| place));
        }
        if found.len() > 1 {
            found.sort_unstable();
        }
        found
    }

    /// The watchers of a directory and of those that it lies in.
    #[cold]
    fn look_up(&mut self, directory: &Name) -> &[Place] {
        let mut found = SmallVec::new();
        // A directory of length n ends with the slash before n.
        for (byte, length) in directory.bytes().zip(1..self.lengths.len()) {
            if byte == b'/'
                && self.lengths[length] > 0
                && let Some(watchers) = self.directories.get(&directory[..length])
            {
                found.extend_from_slice(watchers);
            }
        }
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
        }
        self.known.entry(directory.clone()).or_insert(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_finds_the_watchers_of_all_ranges_it_lies_in() {
        let ranges = [
            KeyRange::Prefix("/registry/pods/".into()),
            KeyRange::One("/registry/pods/default/web".into()),
            KeyRange::Prefix("/registry/pods/default/".into()),
            KeyRange::Prefix("/registry/po".into()),
            KeyRange::Between("/registry/a".into(), "/registry/q".into()),
            KeyRange::From("/registry/z".into()),
            KeyRange::Prefix("".into()),
            KeyRange::Prefix("/registry/nodes/".into()),
        ];
        let mut index = WatchIndex::default();
        for (place, range) in (0..).zip(&ranges) {
            index.insert(place, range);
        }
        let keys = ["/registry/pods/default/web", "/registry/nodes/a", "/registry/zones", "/", "/registry/pods/"];
        for key in keys.map(Key::from) {
            let expected: Vec<u32> =
                (0..).zip(&ranges).filter(|(_, range)| range.contains(&key)).map(|(at, _)| at).collect();
            assert_eq!(index.matching(&key).to_vec(), expected, "{key}");
        }
        for (place, range) in (0..).zip(&ranges) {
            index.remove(place, range);
        }
        assert!(index.is_empty() && index.lengths.iter().all(|count| *count == 0));
        assert!(index.matching(&"/registry/pods/default/web".into()).is_empty());
    }
}

//! A table that remembers what was used last (client-go keeps its event caches as `lru.Cache` of 4096 entries).
//!
//! Entries are found by a hash of what they are about. Which entries go first never depends on the table's own order.

use std::hash::Hasher;

use hashbrown::HashTable;

use crate::engine::hash::FixedHasher;

/// How many entries are kept at least.
const CAPACITY: usize = 4096;

/// Entries beyond the capacity are dropped this many at a time.
const SURPLUS: usize = 512;

/// A table of at least the 4096 entries used last. Every kubelet has a few of them, most with some hundred entries: they lie
/// close together, and grow by little.
pub(super) struct Recent<V> {
    entries: Vec<Entry<V>>,
    /// Where the entries lie, by their keys.
    places: HashTable<u16>,
    uses: u32,
    sweep_at: usize,
}

struct Entry<V> {
    key: u64,
    /// The number of its last use.
    used: u32,
    value: V,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Recent { entries: Vec::new(), places: HashTable::new(), uses: 0, sweep_at: 64 }
    }
}

impl<V> Recent<V> {
    /// An entry, which is now the one used last; made if it is not there.
    pub(super) fn entry(&mut self, key: u64, make: impl FnOnce() -> V) -> &mut V {
        let used = self.next_use();
        let place = match self.place(key) {
            Some(place) => place,
            None => {
                if self.entries.len() >= CAPACITY + SURPLUS {
                    self.drop_oldest();
                }
                self.add(Entry { key, used, value: make() })
            }
        };
        let entry = &mut self.entries[place];
        entry.used = used;
        &mut entry.value
    }

    /// An entry, if it is there; this is no use of it.
    pub(super) fn get(&self, key: u64) -> Option<&V> {
        self.place(key).map(|place| &self.entries[place].value)
    }

    fn place(&self, key: u64) -> Option<usize> {
        self.places.find(key, |place| self.entries[usize::from(*place)].key == key).map(|place| usize::from(*place))
    }

    fn add(&mut self, entry: Entry<V>) -> usize {
        let place = self.entries.len();
        if place == self.entries.capacity() {
            self.entries.reserve_exact(8 + place / 4);
        }
        let key = entry.key;
        self.entries.push(entry);
        let entries = &self.entries;
        self.places.insert_unique(key, place as u16, |place| entries[usize::from(*place)].key);
        place
    }

    /// The number of this use. When they run out the entries are numbered anew, in the order in which they were used.
    fn next_use(&mut self) -> u32 {
        if self.uses == u32::MAX {
            let mut by_use: Vec<&mut u32> = self.entries.iter_mut().map(|entry| &mut entry.used).collect();
            by_use.sort_unstable();
            self.uses = 0;
            for used in by_use {
                *used = self.uses;
                self.uses += 1;
            }
        }
        self.uses += 1;
        self.uses
    }

    /// Drops, once in a while, entries that are as good as none.
    pub(super) fn sweep(&mut self, keep: impl Fn(&V) -> bool) {
        if self.entries.len() >= self.sweep_at {
            self.tidy(keep);
        }
    }

    /// Drops entries that are as good as none.
    pub(super) fn tidy(&mut self, keep: impl Fn(&V) -> bool) {
        self.retain(|entry| keep(&entry.value));
        self.sweep_at = 64.max(self.entries.len() * 2);
    }

    fn drop_oldest(&mut self) {
        let mut uses: Vec<u32> = self.entries.iter().map(|entry| entry.used).collect();
        let (_, first_kept, _) = uses.select_nth_unstable(SURPLUS);
        let first_kept = *first_kept;
        self.retain(|entry| entry.used >= first_kept);
    }

    /// Keeps only the entries that are wanted.
    fn retain(&mut self, wanted: impl Fn(&Entry<V>) -> bool) {
        let before = self.entries.len();
        self.entries.retain(wanted);
        if self.entries.len() == before {
            return;
        }
        self.entries.shrink_to(self.entries.len() + self.entries.len() / 4);
        self.places = HashTable::with_capacity(self.entries.len());
        for (place, entry) in self.entries.iter().enumerate() {
            self.places.insert_unique(entry.key, place as u16, |place| self.entries[usize::from(*place)].key);
        }
    }
}

/// A hash of several texts, none of which runs into the next.
pub(super) fn digest<'a>(texts: impl IntoIterator<Item = &'a str>, more: &[u64]) -> u64 {
    let mut hasher = FixedHasher::default();
    texts.into_iter().for_each(|text| hasher.write(text.as_bytes()));
    more.iter().for_each(|number| hasher.write_u64(*number));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entries_used_last_stay() {
        let mut recent = Recent::default();
        for key in 0..10_000u64 {
            *recent.entry(key, || 0) += 1;
            *recent.entry(7, || 0) += 1;
        }
        assert!((CAPACITY..=CAPACITY + SURPLUS).contains(&recent.entries.len()));
        assert_eq!(*recent.entry(7, || 0), 10_001, "every round and itself: never dropped");
        assert_eq!(*recent.entry(9_999, || 0), 1);
        assert_eq!(*recent.entry(0, || 55), 55);
    }

    #[test]
    fn the_order_of_uses_outlives_their_numbers() {
        let mut recent = Recent { uses: u32::MAX - 2000, ..Recent::default() };
        for key in 0..10_000u64 {
            *recent.entry(key, || 0) += 1;
            *recent.entry(7, || 0) += 1;
        }
        assert!(recent.uses < 30_000 && (CAPACITY..=CAPACITY + SURPLUS).contains(&recent.entries.len()));
        assert_eq!((*recent.entry(7, || 0), *recent.entry(9_999, || 0), *recent.entry(0, || 55)), (10_001, 1, 55));
    }
}

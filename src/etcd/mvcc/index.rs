//! All keys of the store: found by name in constant time, and walked in order.

use std::hash::Hasher;

use hashbrown::HashTable;

use super::version::{KeyHistory, Version};
use crate::engine::hash::FixedHasher;
use crate::engine::order::Order;
use crate::etcd::key::{Key, KeyRange};

/// Where a key lies in the index. Valid until the key is removed by compaction.
pub(super) type Slot = u32;

/// Histories in one block.
const BLOCK: usize = 256;

/// Histories in blocks, so that a growing store copies none of them and wastes little.
#[derive(Debug)]
struct Blocks<V>(Vec<Vec<Option<KeyHistory<V>>>>);

impl<V> Blocks<V> {
    fn get(&self, slot: Slot) -> Option<&KeyHistory<V>> {
        self.0[slot as usize / BLOCK][slot as usize % BLOCK].as_ref()
    }

    fn place(&mut self, slot: Slot) -> &mut Option<KeyHistory<V>> {
        &mut self.0[slot as usize / BLOCK][slot as usize % BLOCK]
    }

    /// The key in a slot; an empty one sorts first and is never asked for.
    fn key(&self, slot: Slot) -> &str {
        self.get(slot).map_or("", |history| &history.key)
    }

    fn push(&mut self, history: KeyHistory<V>) -> Slot {
        if self.0.last().is_none_or(|block| block.len() == BLOCK) {
            self.0.push(Vec::with_capacity(BLOCK));
        }
        let full = (self.0.len() - 1) * BLOCK;
        let block = self.0.last_mut().expect("there is one now");
        block.push(Some(history));
        Slot::try_from(full + block.len() - 1).expect("fewer than 2^32 keys")
    }
}

/// Keys by name and in order. Deleted keys stay until compaction forgets them. Both indexes hold slots alone: the text of
/// a key stands once, with its history.
#[derive(Debug)]
pub(super) struct KeyIndex<V> {
    blocks: Blocks<V>,
    free: Vec<Slot>,
    by_name: HashTable<Slot>,
    in_order: Order,
}

impl<V> KeyIndex<V> {
    /// An index without keys.
    pub fn new() -> Self {
        KeyIndex { blocks: Blocks(Vec::new()), free: Vec::new(), by_name: HashTable::new(), in_order: Order::default() }
    }

    /// Where a key lies, if it was ever written and not forgotten.
    pub fn find(&self, key: &str) -> Option<Slot> {
        self.by_name.find(hash(key), |slot| self.blocks.key(*slot) == key).copied()
    }

    /// The history of the key in a slot. The slot must be in use.
    pub fn history(&self, slot: Slot) -> &KeyHistory<V> {
        self.blocks.get(slot).expect("a slot is asked for only while its key is kept")
    }

    /// The history of the key in a slot, to be changed. The slot must be in use.
    pub fn history_mut(&mut self, slot: Slot) -> &mut KeyHistory<V> {
        self.blocks.place(slot).as_mut().expect("a slot is asked for only while its key is kept")
    }

    /// Adds a key that is not there, with its first version.
    pub fn insert(&mut self, key: Key, first: Version<V>) -> Slot {
        let name = key.clone();
        let history = KeyHistory::new(key, first);
        let slot = match self.free.pop() {
            Some(slot) => {
                *self.blocks.place(slot) = Some(history);
                slot
            }
            None => self.blocks.push(history),
        };
        let KeyIndex { blocks, by_name, in_order, .. } = self;
        by_name.insert_unique(hash(&name), slot, |there| hash(blocks.key(*there)));
        in_order.insert(slot);
        slot
    }

    /// Removes a key of which nothing is kept.
    pub fn remove(&mut self, slot: Slot) {
        let KeyIndex { blocks, by_name, in_order, free } = self;
        let Some(history) = blocks.get(slot) else { return };
        if let Ok(entry) = by_name.find_entry(hash(&history.key), |there| *there == slot) {
            entry.remove();
        }
        in_order.remove(slot, |left, right| blocks.key(left).cmp(blocks.key(right)));
        *blocks.place(slot) = None;
        free.push(slot);
    }

    /// Calls `visit` with each key of a range that exists at a revision, in order.
    pub fn each_live(&self, range: &KeyRange, revision: u64, mut visit: impl FnMut(Slot, &Key, &Version<V>)) {
        if let KeyRange::One(key) = range {
            if let Some(slot) = self.find(key) {
                let history = self.history(slot);
                if let Some(version) = history.at(revision) {
                    visit(slot, &history.key, version);
                }
            }
            return;
        }
        let start = range.start().as_str();
        let compare = |left: u32, right: u32| self.blocks.key(left).cmp(self.blocks.key(right));
        for slot in self.in_order.iter_from(compare, &|there| self.blocks.key(there).cmp(start)) {
            let history = self.history(slot);
            if !range.contains(&history.key) {
                break;
            }
            if let Some(version) = history.at(revision) {
                visit(slot, &history.key, version);
            }
        }
    }

    /// How many keys are kept, deleted ones included.
    pub fn len(&self) -> usize {
        self.in_order.len()
    }
}

fn hash(key: &str) -> u64 {
    let mut hasher = FixedHasher::default();
    hasher.write(key.as_bytes());
    hasher.finish()
}

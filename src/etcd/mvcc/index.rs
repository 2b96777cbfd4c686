//! All keys of the store: found by name in constant time, and walked in order.

use std::collections::BTreeMap;

use super::version::{KeyHistory, Version};
use crate::engine::hash::Map;
use crate::etcd::key::{Key, KeyRange};

/// Where a key lies in the index. Valid until the key is removed by compaction.
pub(super) type Slot = u32;

/// Histories in one block.
const BLOCK: usize = 256;

/// Keys by name and in order. Deleted keys stay until compaction forgets them.
#[derive(Debug)]
pub(super) struct KeyIndex<V> {
    /// Histories in blocks, so that a growing store copies none of them and wastes little.
    blocks: Vec<Vec<Option<KeyHistory<V>>>>,
    free: Vec<Slot>,
    by_name: Map<Key, Slot>,
    in_order: BTreeMap<Key, Slot>,
}

impl<V> KeyIndex<V> {
    /// An index without keys.
    pub fn new() -> Self {
        KeyIndex { blocks: Vec::new(), free: Vec::new(), by_name: Map::default(), in_order: BTreeMap::new() }
    }

    /// Where a key lies, if it was ever written and not forgotten.
    pub fn find(&self, key: &str) -> Option<Slot> {
        self.by_name.get(key).copied()
    }

    /// The history of the key in a slot. The slot must be in use.
    pub fn history(&self, slot: Slot) -> &KeyHistory<V> {
        self.blocks[slot as usize / BLOCK][slot as usize % BLOCK]
            .as_ref()
            .expect("a slot is asked for only while its key is kept")
    }

    /// The history of the key in a slot, to be changed. The slot must be in use.
    pub fn history_mut(&mut self, slot: Slot) -> &mut KeyHistory<V> {
        self.place(slot).as_mut().expect("a slot is asked for only while its key is kept")
    }

    fn place(&mut self, slot: Slot) -> &mut Option<KeyHistory<V>> {
        &mut self.blocks[slot as usize / BLOCK][slot as usize % BLOCK]
    }

    /// Adds a key that is not there, with its first version.
    pub fn insert(&mut self, key: Key, first: Version<V>) -> Slot {
        let history = KeyHistory::new(key.clone(), first);
        let slot = match self.free.pop() {
            Some(slot) => {
                *self.place(slot) = Some(history);
                slot
            }
            None => {
                if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
                    self.blocks.push(Vec::with_capacity(BLOCK));
                }
                let full = (self.blocks.len() - 1) * BLOCK;
                let block = self.blocks.last_mut().expect("there is one now");
                block.push(Some(history));
                Slot::try_from(full + block.len() - 1).expect("fewer than 2^32 keys")
            }
        };
        self.by_name.insert(key.clone(), slot);
        self.in_order.insert(key, slot);
        slot
    }

    /// Removes a key of which nothing is kept.
    pub fn remove(&mut self, slot: Slot) {
        if let Some(history) = self.place(slot).take() {
            self.by_name.remove(history.key.as_str());
            self.in_order.remove(history.key.as_str());
            self.free.push(slot);
        }
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
        for (key, &slot) in self.in_order.range::<str, _>(range.bounds()) {
            if let KeyRange::Prefix(prefix) = range
                && !key.starts_with(prefix.as_str())
            {
                break;
            }
            if let Some(version) = self.history(slot).at(revision) {
                visit(slot, key, version);
            }
        }
    }

    /// How many keys are kept, deleted ones included.
    pub fn len(&self) -> usize {
        self.in_order.len()
    }
}

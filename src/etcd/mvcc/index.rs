//! All keys of the store: found by name in constant time, and walked in order.

use std::collections::hash_map::Entry;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use hashbrown::HashTable;

use super::version::{KeyHistory, Version};
use crate::api::name::Name;
use crate::engine::hash::{FixedHasher, Map};
use crate::engine::order::Order;
use crate::etcd::key::{Key, KeyRange};

/// Where a key lies in the index. Valid until the key is removed by compaction.
pub(super) type Slot = u32;

/// Histories in one block.
const BLOCK: usize = 256;

/// Histories in blocks, so that a growing store copies none of them and wastes little. Keys that go with a lease have blocks of
/// their own: they come and go in crowds, and a block in which nothing is left is given back.
#[derive(Debug)]
struct Blocks<V> {
    blocks: Vec<Block<V>>,
    /// Vacant slots of keys without and with a lease.
    free: [Vec<Slot>; 2],
    /// The blocks to which slots are added, of keys without and with a lease.
    open: [Option<usize>; 2],
    /// Blocks that were given back.
    vacant: Vec<usize>,
}

#[derive(Debug)]
struct Block<V> {
    /// No place at all if the block was given back.
    places: Vec<Option<KeyHistory<V>>>,
    used: usize,
    leased: bool,
}

impl<V> Blocks<V> {
    fn new() -> Self {
        Blocks { blocks: Vec::new(), free: Default::default(), open: [None; 2], vacant: Vec::new() }
    }

    fn get(&self, slot: Slot) -> Option<&KeyHistory<V>> {
        self.blocks[slot as usize / BLOCK].places[slot as usize % BLOCK].as_ref()
    }

    fn get_mut(&mut self, slot: Slot) -> Option<&mut KeyHistory<V>> {
        self.blocks[slot as usize / BLOCK].places[slot as usize % BLOCK].as_mut()
    }

    /// The key in a slot; an empty one sorts first and is never asked for.
    fn key(&self, slot: Slot) -> Option<&Key> {
        self.get(slot).map(|history| &history.key)
    }

    fn insert(&mut self, history: KeyHistory<V>) -> Slot {
        let leased = history.newest.lease.is_some();
        if let Some(slot) = self.free[usize::from(leased)].pop() {
            let block = &mut self.blocks[slot as usize / BLOCK];
            block.places[slot as usize % BLOCK] = Some(history);
            block.used += 1;
            return slot;
        }
        let number = self.open_block(leased);
        let block = &mut self.blocks[number];
        block.places.push(Some(history));
        block.used += 1;
        Slot::try_from(number * BLOCK + block.places.len() - 1).expect("fewer than 2^32 keys")
    }

    /// A block with room at its end.
    fn open_block(&mut self, leased: bool) -> usize {
        let open = &mut self.open[usize::from(leased)];
        if let Some(number) = *open
            && self.blocks[number].places.len() < BLOCK
        {
            return number;
        }
        let block = Block { places: Vec::with_capacity(BLOCK), used: 0, leased };
        let number = match self.vacant.pop() {
            Some(number) => {
                self.blocks[number] = block;
                number
            }
            None => {
                self.blocks.push(block);
                self.blocks.len() - 1
            }
        };
        *open = Some(number);
        number
    }

    fn remove(&mut self, slot: Slot) {
        let number = slot as usize / BLOCK;
        let block = &mut self.blocks[number];
        block.places[slot as usize % BLOCK] = None;
        block.used -= 1;
        let (class, is_empty) = (usize::from(block.leased), block.used == 0);
        if !is_empty {
            self.free[class].push(slot);
            return;
        }
        block.places = Vec::new();
        self.free[class].retain(|free| *free as usize / BLOCK != number);
        if self.open[class] == Some(number) {
            self.open[class] = None;
        }
        self.vacant.push(number);
    }
}

/// Keys by name and in order. Deleted keys stay until compaction forgets them. Both indexes hold slots alone: the text of
/// a key stands once, with its history.
#[derive(Debug)]
pub(super) struct KeyIndex<V> {
    blocks: Blocks<V>,
    by_name: HashTable<Slot>,
    in_order: Order,
    /// The directories of keys, so that all keys of one share its text, and how many there are of each.
    directories: Map<Rc<Name>, u32>,
}

impl<V> KeyIndex<V> {
    /// An index without keys.
    pub fn new() -> Self {
        KeyIndex {
            blocks: Blocks::new(),
            by_name: HashTable::new(),
            in_order: Order::default(),
            directories: Map::default(),
        }
    }

    /// Where a key lies, if it was ever written and not forgotten.
    pub fn find(&self, key: &Key) -> Option<Slot> {
        self.by_name.find(hash(key), |slot| self.blocks.key(*slot) == Some(key)).copied()
    }

    /// The history of the key in a slot. The slot must be in use.
    pub fn history(&self, slot: Slot) -> &KeyHistory<V> {
        self.blocks.get(slot).expect("a slot is asked for only while its key is kept")
    }

    /// The history of the key in a slot, to be changed. The slot must be in use.
    pub fn history_mut(&mut self, slot: Slot) -> &mut KeyHistory<V> {
        self.blocks.get_mut(slot).expect("a slot is asked for only while its key is kept")
    }

    /// Adds a key that is not there, with its first version.
    pub fn insert(&mut self, key: &Key, first: Version<V>) -> Slot {
        let hashed = hash(key);
        let key = self.sharing_directory(key);
        let slot = self.blocks.insert(KeyHistory::new(key, first));
        let KeyIndex { blocks, by_name, in_order, .. } = self;
        by_name.insert_unique(hashed, slot, |there| blocks.key(*there).map_or(0, hash));
        in_order.insert(slot);
        slot
    }

    /// A key that is added, with the text of its directory shared.
    fn sharing_directory(&mut self, key: &Key) -> Key {
        match self.directories.entry(key.shared_directory().clone()) {
            Entry::Occupied(mut there) => {
                *there.get_mut() += 1;
                key.sharing(there.key())
            }
            Entry::Vacant(place) => {
                place.insert(1);
                key.clone()
            }
        }
    }

    /// Takes a key that goes off its directory, which is forgotten with the last one.
    fn leave_directory(directories: &mut Map<Rc<Name>, u32>, key: &Key) {
        let Some(keys) = directories.get_mut(key.shared_directory()) else { return };
        *keys -= 1;
        if *keys == 0 {
            directories.remove(key.shared_directory());
        }
    }

    /// Removes a key of which nothing is kept.
    pub fn remove(&mut self, slot: Slot) {
        let KeyIndex { blocks, by_name, in_order, directories } = self;
        let Some(history) = blocks.get(slot) else { return };
        Self::leave_directory(directories, &history.key);
        if let Ok(entry) = by_name.find_entry(hash(&history.key), |there| *there == slot) {
            entry.remove();
        }
        if by_name.len() < by_name.capacity() / 8 {
            by_name.shrink_to(by_name.len() * 2, |there| blocks.key(*there).map_or(0, hash));
        }
        in_order.remove(slot, |left, right| blocks.key(left).cmp(&blocks.key(right)));
        blocks.remove(slot);
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
        let start = Some(range.start());
        let compare = |left: u32, right: u32| self.blocks.key(left).cmp(&self.blocks.key(right));
        for slot in self.in_order.iter_from(compare, &|there| self.blocks.key(there).cmp(&start)) {
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

fn hash(key: &Key) -> u64 {
    let mut hasher = FixedHasher::default();
    key.hash(&mut hasher);
    hasher.finish()
}

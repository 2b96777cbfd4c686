//! Who may still ask for history, and from where on.
//!
//! Until it is compacted, etcd keeps each version of each key: five to ten minutes of writes, which is most of what a busy store
//! holds. Clients that hold a copy and follow it by watching ask for no more of it than what came after their copy. A
//! [`Reader`] is such a client's word for the keys under one prefix. What none of the readers of a prefix can ask for is
//! removed from memory before it is compacted; where there is no reader, all is kept.
//!
//! This is not seen in any answer but one: who asks for a revision that is kept no more is told that it has been compacted,
//! earlier than by etcd. Nobody ever reads anything else than what was there.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};
use std::rc::Rc;

use crate::api::name::Name;
use crate::engine::hash::Map;
use crate::etcd::key::{Key, KeyRange};

/// One client's word on the keys under one prefix: it asks for nothing that was overwritten before a revision. The word ends
/// when this is dropped.
#[derive(Debug)]
pub struct Reader(Rc<Cell<u64>>);

impl Reader {
    /// The client will not ask for what was overwritten before this revision any more. At first it may ask for anything.
    pub fn needs_from(&self, revision: u64) {
        self.0.set(revision);
    }
}

/// All readers.
#[derive(Debug, Default)]
pub(super) struct Readers {
    /// The place of each prefix's shelf.
    prefixes: BTreeMap<Key, usize>,
    shelves: Vec<Shelf>,
    /// The shelves that were found for keys of a directory, until there are more: keys lie in the same few directories.
    known: Map<Name, Option<usize>>,
    /// Some prefix is not that of a directory, so that keys of one directory may stand on different shelves.
    parted: bool,
}

/// The readers of one prefix.
#[derive(Debug, Default)]
struct Shelf {
    readers: Vec<Rc<Cell<u64>>>,
    /// What was overwritten before this revision may be gone.
    gone: u64,
}

/// If more directories are known, all of them are forgotten.
const MOST_KNOWN: usize = 1024;

impl Readers {
    /// Another reader of a prefix. No prefix may begin with another one.
    pub fn add(&mut self, prefix: Key) -> Reader {
        self.known.clear();
        self.parted |= !prefix.is_directory();
        let place = *self.prefixes.entry(prefix).or_insert(self.shelves.len());
        if place == self.shelves.len() {
            self.shelves.push(Shelf::default());
        }
        let shelf = &mut self.shelves[place];
        // A reader that was dropped has left only the store's own handle.
        shelf.readers.retain(|reader| Rc::strong_count(reader) > 1);
        let reader = Rc::new(Cell::new(0));
        shelf.readers.push(Rc::clone(&reader));
        Reader(reader)
    }

    /// How far the history of a key, up to `bound` at most, may be forgotten: the revision up to which all its readers are. None
    /// if it has no readers.
    pub fn told(&mut self, key: &Key, bound: u64) -> Option<u64> {
        let place = match self.known.get(key.directory()) {
            Some(known) => *known,
            None => self.look_up(key),
        };
        let shelf = &mut self.shelves[place?];
        let living = shelf.readers.iter().filter(|reader| Rc::strong_count(reader) > 1);
        let told = living.map(|reader| reader.get()).min()?.min(bound);
        shelf.gone = shelf.gone.max(told);
        Some(told)
    }

    /// The shelf of a key.
    #[inline(never)]
    fn look_up(&mut self, key: &Key) -> Option<usize> {
        let before = self.prefixes.range::<Key, _>((Unbounded, Included(key))).next_back();
        let place = before.filter(|(prefix, _)| key.starts_with(prefix)).map(|(_, place)| *place);
        if !self.parted {
            if self.known.len() >= MOST_KNOWN {
                self.known.clear();
            }
            self.known.insert(key.directory().clone(), place);
        }
        place
    }

    /// Where the history of the keys in a range begins.
    pub fn begins(&self, range: &KeyRange) -> u64 {
        let start = range.start();
        let before = self.prefixes.range::<Key, _>((Unbounded, Included(start))).next_back();
        let before = before.filter(|(prefix, _)| start.starts_with(prefix));
        let after = self.prefixes.range::<Key, _>((Included(start), Unbounded));
        let after = after.take_while(|(prefix, _)| range.contains(prefix));
        before.into_iter().chain(after).map(|(_, place)| self.shelves[*place].gone).max().unwrap_or(0)
    }
}

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
pub(super) struct Readers(BTreeMap<Key, Shelf>);

/// The readers of one prefix.
#[derive(Debug, Default)]
struct Shelf {
    readers: Vec<Rc<Cell<u64>>>,
    /// What was overwritten before this revision may be gone.
    gone: u64,
}

impl Readers {
    /// Another reader of a prefix. No prefix may begin with another one.
    pub fn add(&mut self, prefix: Key) -> Reader {
        let shelf = self.0.entry(prefix).or_default();
        // A reader that was dropped has left only the store's own handle.
        shelf.readers.retain(|reader| Rc::strong_count(reader) > 1);
        let reader = Rc::new(Cell::new(0));
        shelf.readers.push(Rc::clone(&reader));
        Reader(reader)
    }

    /// How far the history of a key, up to `bound` at most, may be forgotten: the revision up to which all its readers are. None
    /// if it has no readers.
    pub fn told(&mut self, key: &Key, bound: u64) -> Option<u64> {
        let (prefix, shelf) = self.0.range_mut::<Key, _>((Unbounded, Included(key))).next_back()?;
        if !key.starts_with(prefix) {
            return None;
        }
        let living = shelf.readers.iter().filter(|reader| Rc::strong_count(reader) > 1);
        let told = living.map(|reader| reader.get()).min()?.min(bound);
        shelf.gone = shelf.gone.max(told);
        Some(told)
    }

    /// Where the history of the keys in a range begins.
    pub fn begins(&self, range: &KeyRange) -> u64 {
        let start = range.start();
        let before = self.0.range::<Key, _>((Unbounded, Included(start))).next_back();
        let before = before.filter(|(prefix, _)| start.starts_with(prefix));
        let after = self.0.range::<Key, _>((Included(start), Unbounded));
        let after = after.take_while(|(prefix, _)| range.contains(prefix));
        before.into_iter().chain(after).map(|(_, shelf)| shelf.gone).max().unwrap_or(0)
    }
}

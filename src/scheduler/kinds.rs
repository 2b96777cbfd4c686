//! Nodes that all plugins think the same of, but for the scores that are each node's own: kinds of nodes.
//!
//! A plugin that looks at pods elsewhere looks at a node through its labels: all nodes of a zone with as many pods of the class
//! get the same verdict and the same score from it. So for each kind it is asked once, and what is left to find, the best of a
//! kind by the scores that are each node's own, is summed up for 64 nodes at a time.

use super::bits::{Bits, places};
use super::framework::Stance;

/// What sets a kind apart: the verdict of the plugins that look at the node alone, raw scores that are yet to be brought to a scale,
/// and what followers look at ([`Follower::stance`](super::framework::Follower::stance)).
pub(super) type Key = Stance;

/// With more kinds than these, nodes are looked at one by one. Tests come there sooner.
const MOST: usize = if cfg!(test) { 64 } else { 512 };

/// A kind.
struct Kind {
    key: Key,
    nodes: u32,
}

/// The nodes of one kind in one word.
#[derive(Clone, Copy)]
pub(super) struct Cell {
    /// Which ones they are.
    pub bits: u64,
    /// The highest of their own scores.
    pub best: i32,
    /// How many have it.
    pub best_count: u8,
    /// True if the two are to be found again.
    pub is_stale: bool,
}

impl Cell {
    const EMPTY: Cell = Cell { bits: 0, best: i32::MIN, best_count: 0, is_stale: false };
}

/// The highest score of some nodes, and how many have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Best {
    pub score: i32,
    pub count: u64,
}

impl Best {
    pub(super) const NONE: Best = Best { score: i32::MIN, count: 0 };

    #[inline]
    pub(super) fn take(&mut self, score: i32, count: u64) {
        if score > self.score {
            *self = Best { score, count };
        } else if score == self.score {
            self.count += count;
        }
    }
}

/// All kinds, and which node is of which.
pub(super) struct Kinds {
    list: Vec<Kind>,
    /// For each word as many cells as there can be kinds before the table grows.
    cells: Vec<Cell>,
    room: usize,
    words: usize,
    kind_of: Vec<u16>,
    placed: Bits,
    /// The scores that are each node's own.
    own: Vec<i32>,
    /// Moves when a kind gets a number.
    changes: u64,
    is_crowded: bool,
}

impl Kinds {
    /// No node is of a kind yet.
    pub(super) fn new(nodes: usize) -> Self {
        let words = nodes.div_ceil(64);
        Kinds {
            list: Vec::new(),
            cells: vec![Cell::EMPTY; words],
            room: 1,
            words,
            kind_of: vec![0; nodes],
            placed: Bits::none(nodes),
            own: vec![0; nodes],
            changes: 0,
            is_crowded: false,
        }
    }

    /// True if there are too many kinds.
    pub(super) fn is_crowded(&self) -> bool {
        self.is_crowded
    }

    /// Moves when a kind gets a number: one that had no nodes may have had the same.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// How many numbers kinds have.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// What sets a kind apart.
    pub(super) fn key(&self, kind: usize) -> &[i64] {
        &self.list[kind].key
    }

    /// How many nodes of a kind there are.
    pub(super) fn nodes(&self, kind: usize) -> usize {
        self.list[kind].nodes as usize
    }

    /// The kind of a node that has one.
    pub(super) fn kind_of(&self, place: usize) -> usize {
        usize::from(self.kind_of[place])
    }

    /// The nodes that have a kind.
    pub(super) fn placed(&self) -> &Bits {
        &self.placed
    }

    /// The scores that are each node's own.
    #[inline]
    pub(super) fn own(&self, place: usize) -> i32 {
        self.own[place]
    }

    /// Sets the score that is a node's own; it must have no kind.
    pub(super) fn set_own(&mut self, place: usize, score: i32) {
        self.own[place] = score;
    }

    /// The nodes of a kind in a word.
    #[inline]
    pub(super) fn cell(&self, word: usize, kind: usize) -> &Cell {
        &self.cells[word * self.room + kind]
    }

    /// Puts a node that has no kind into one.
    pub(super) fn insert(&mut self, place: usize, key: &Key) {
        let Some(kind) = self.number(key) else {
            self.is_crowded = true;
            return;
        };
        self.placed.set(place, true);
        self.kind_of[place] = kind as u16;
        self.list[kind].nodes += 1;
        let score = self.own[place];
        let cell = &mut self.cells[place / 64 * self.room + kind];
        cell.bits |= 1 << (place % 64);
        if score > cell.best {
            (cell.best, cell.best_count, cell.is_stale) = (score, 1, false);
        } else if score == cell.best {
            cell.best_count += 1;
        }
    }

    /// Takes a node out of its kind, if it has one.
    pub(super) fn remove(&mut self, place: usize) {
        if !self.placed.contains(place) {
            return;
        }
        self.placed.set(place, false);
        let kind = self.kind_of(place);
        self.list[kind].nodes -= 1;
        let cell = &mut self.cells[place / 64 * self.room + kind];
        cell.bits &= !(1 << (place % 64));
        if cell.bits == 0 {
            *cell = Cell::EMPTY;
        } else if self.own[place] == cell.best && !cell.is_stale {
            cell.best_count -= 1;
            cell.is_stale = cell.best_count == 0;
        }
    }

    /// Takes all nodes out of their kinds.
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.cells.fill(Cell::EMPTY);
        self.placed.clear();
        self.changes += 1;
        self.is_crowded = false;
    }

    /// The best of those nodes of a kind in a word that are in a stretch.
    #[inline]
    pub(super) fn best(&mut self, word: usize, kind: usize, range: u64) -> Best {
        let cell = &mut self.cells[word * self.room + kind];
        let bits = cell.bits & range;
        if bits == cell.bits && !cell.is_stale {
            return Best { score: cell.best, count: u64::from(cell.best_count) };
        }
        let mut best = Best::NONE;
        places(word, bits).for_each(|place| best.take(self.own[place], 1));
        if bits == cell.bits {
            (cell.best, cell.best_count, cell.is_stale) = (best.score, best.count as u8, false);
        }
        best
    }

    /// The number of a kind, given to it if it has none.
    fn number(&mut self, key: &Key) -> Option<usize> {
        if let Some(known) = self.list.iter().position(|kind| kind.key == *key) {
            return Some(known);
        }
        self.changes += 1;
        let new = Kind { key: key.clone(), nodes: 0 };
        if self.list.len() < self.room {
            self.list.push(new);
            return Some(self.list.len() - 1);
        }
        if let Some(empty) = self.list.iter().position(|kind| kind.nodes == 0) {
            self.list[empty] = new;
            return Some(empty);
        }
        if self.room == MOST {
            return None;
        }
        self.grow();
        self.list.push(new);
        Some(self.list.len() - 1)
    }

    fn grow(&mut self) {
        let room = self.room * 2;
        let mut cells = vec![Cell::EMPTY; self.words * room];
        for word in 0..self.words {
            cells[word * room..][..self.room].copy_from_slice(&self.cells[word * self.room..][..self.room]);
        }
        (self.cells, self.room) = (cells, room);
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;

    #[test]
    fn the_best_of_a_kind_is_found_again_when_it_goes() {
        let mut kinds = Kinds::new(100);
        let (near, far): (Key, Key) = (smallvec![0, 1], smallvec![0, 2]);
        for (place, score, key) in [(3, 5, &near), (4, 7, &near), (5, 7, &near), (6, 9, &far), (70, 1, &near)] {
            kinds.set_own(place, score);
            kinds.insert(place, key);
        }
        let best = |kinds: &mut Kinds, word, range| {
            let best = kinds.best(word, 0, range);
            (best.score, best.count)
        };
        assert_eq!(best(&mut kinds, 0, u64::MAX), (7, 2));
        assert_eq!(best(&mut kinds, 0, 0b1_1111), (7, 1));
        kinds.remove(4);
        assert_eq!(best(&mut kinds, 0, u64::MAX), (7, 1));
        kinds.remove(5);
        assert_eq!(best(&mut kinds, 0, u64::MAX), (5, 1));
        assert_eq!((best(&mut kinds, 1, u64::MAX), kinds.nodes(0), kinds.nodes(1)), ((1, 1), 2, 1));
        kinds.remove(6);
        // A kind without nodes gives its number to the next one.
        kinds.insert(6, &smallvec![0, 3]);
        assert_eq!((kinds.kind_of(6), kinds.len()), (1, 2));
    }

    #[test]
    fn too_many_kinds_are_told() {
        let mut kinds = Kinds::new(200);
        for place in 0..MOST {
            kinds.insert(place, &smallvec![place as i64]);
        }
        assert!(!kinds.is_crowded());
        kinds.insert(MOST, &smallvec![-1]);
        assert!(kinds.is_crowded());
    }
}

//! Nodes that all plugins think the same of, but for the scores that are each node's own: kinds of nodes.
//!
//! A plugin that looks at pods elsewhere looks at a node through its labels: all nodes of a zone with as many pods of the class
//! get the same verdict and the same score from it. So for each kind it is asked once, and what is left to find, the best of a
//! kind by the scores that are each node's own, is summed up for 64 nodes at a time, and for blocks of such words.

use std::rc::Rc;

use super::bits::{Bits, nth_bit, places};
use super::framework::Stance;
use super::groups::Log;
use super::strides::{FAN, Stride, Window, blocks, counted, places_in, top};

/// What sets a kind apart: the verdict of the plugins that look at the node alone, raw scores that are yet to be brought to a scale,
/// and what followers look at ([`Follower::stance`](super::framework::Follower::stance)).
pub(super) type Key = Stance;

/// With more kinds than these, nodes are looked at one by one. Tests come there sooner.
const MOST: usize = if cfg!(test) { 64 } else { 512 };

/// The kinds of nodes to pods of a class.
pub(super) type NodeKinds = Kinds<Key, i32>;

/// A score that is a node's own; the higher the better.
pub(super) trait Score: Copy + Ord {
    /// None is lower.
    const LEAST: Self;
}

impl Score for i32 {
    const LEAST: i32 = i32::MIN;
}

/// A kind.
struct Kind<K> {
    key: K,
    nodes: u32,
}

/// The nodes of one kind in one word.
#[derive(Clone, Copy)]
pub(super) struct Cell<S> {
    /// Which ones they are.
    pub bits: u64,
    /// The highest of their own scores.
    pub best: S,
    /// How many have it.
    pub best_count: u8,
    /// True if the two are to be found again.
    pub is_stale: bool,
}

impl<S: Score> Cell<S> {
    const EMPTY: Self = Cell { bits: 0, best: S::LEAST, best_count: 0, is_stale: false };
}

/// The nodes of one kind in a block of words.
#[derive(Clone, Copy)]
struct Sum<S> {
    nodes: u32,
    /// The highest of their own scores, how many have it, and whether the two are to be found again.
    best: S,
    best_count: u32,
    is_stale: bool,
}

impl<S: Score> Sum<S> {
    const EMPTY: Self = Sum { nodes: 0, best: S::LEAST, best_count: 0, is_stale: false };

    #[inline]
    fn insert(&mut self, score: S) {
        self.nodes += 1;
        if score > self.best {
            (self.best, self.best_count, self.is_stale) = (score, 1, false);
        } else if score == self.best {
            self.best_count += 1;
        }
    }

    #[inline]
    fn remove(&mut self, score: S) {
        self.nodes -= 1;
        if self.nodes == 0 {
            *self = Sum::EMPTY;
        } else if score == self.best && !self.is_stale {
            self.best_count -= 1;
            self.is_stale = self.best_count == 0;
        }
    }
}

/// The blocks of one level above words.
struct Level<S> {
    /// For each block as many sums as there can be kinds before the table grows.
    sums: Vec<Sum<S>>,
    /// How many nodes of each block have no kind.
    missing: Vec<u32>,
}

impl<S: Score> Level<S> {
    /// No node of any block has a kind.
    fn new(level: usize, nodes: usize, room: usize) -> Self {
        let blocks = blocks(level, nodes);
        let size = |block: usize| places_in(level).min(nodes - block * places_in(level)) as u32;
        Level { sums: vec![Sum::EMPTY; blocks * room], missing: (0..blocks).map(size).collect() }
    }
}

/// The highest score of some nodes, and how many have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Best<S> {
    pub score: S,
    pub count: u64,
}

impl<S: Score> Best<S> {
    pub(super) const NONE: Self = Best { score: S::LEAST, count: 0 };

    #[inline]
    pub(super) fn take(&mut self, score: S, count: u64) {
        if score > self.score {
            *self = Best { score, count };
        } else if score == self.score {
            self.count += count;
        }
    }
}

/// Which nodes got a kind, once somebody wants to know.
pub(super) struct Journal {
    /// Tells this journal from others.
    pub id: Rc<()>,
    pub log: Log<u32>,
}

/// All kinds, and which node is of which.
pub(super) struct Kinds<K, S> {
    list: Vec<Kind<K>>,
    /// For each word as many cells as there can be kinds before the table grows.
    cells: Vec<Cell<S>>,
    room: usize,
    /// The blocks of words.
    levels: Vec<Level<S>>,
    nodes: usize,
    /// The nodes that have no kind.
    missing: Bits,
    /// The scores that are each node's own.
    own: Vec<S>,
    /// Moves when a kind gets a number.
    changes: u64,
    journal: Option<Box<Journal>>,
    is_crowded: bool,
}

impl<K: Clone + PartialEq, S: Score> Kinds<K, S> {
    /// No node is of a kind yet.
    pub(super) fn new(nodes: usize) -> Self {
        Kinds {
            list: Vec::new(),
            cells: vec![Cell::EMPTY; blocks(0, nodes)],
            room: 1,
            levels: (1..=top(nodes)).map(|level| Level::new(level, nodes, 1)).collect(),
            nodes,
            missing: Bits::all(nodes),
            own: vec![S::LEAST; nodes],
            changes: 0,
            journal: None,
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

    /// How many nodes there are, with a kind or without.
    pub(super) fn places(&self) -> usize {
        self.nodes
    }

    /// How many numbers kinds have.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// What sets a kind apart.
    pub(super) fn key(&self, kind: usize) -> &K {
        &self.list[kind].key
    }

    /// How many nodes of a kind there are.
    pub(super) fn nodes(&self, kind: usize) -> usize {
        self.list[kind].nodes as usize
    }

    /// The kind of a node that has one. There are few, mostly: to look for it takes no longer than to remember it would take room.
    pub(super) fn kind_of(&self, place: usize) -> usize {
        let cells = &self.cells[place / 64 * self.room..][..self.list.len()];
        cells.iter().position(|cell| cell.bits & 1 << (place % 64) != 0).unwrap_or_default()
    }

    /// The nodes of a word that have no kind.
    pub(super) fn missing(&self, word: usize) -> u64 {
        self.missing.words()[word]
    }

    /// True if every node has a kind.
    pub(super) fn are_complete(&self) -> bool {
        match self.levels.last() {
            Some(whole) => whole.missing[0] == 0,
            None => self.missing.is_empty(),
        }
    }

    /// True if every node of a block above words has a kind.
    pub(super) fn is_complete(&self, block: Stride) -> bool {
        self.levels[block.level - 1].missing[block.block] == 0
    }

    /// How many nodes of a kind there are in a block.
    pub(super) fn nodes_in(&self, block: Stride, kind: usize) -> usize {
        if block.level == 0 {
            return (self.cell(block.block, kind).bits & block.range).count_ones() as usize;
        }
        self.levels[block.level - 1].sums[block.block * self.room + kind].nodes as usize
    }

    /// The scores that are each node's own.
    #[inline]
    pub(super) fn own(&self, place: usize) -> S {
        self.own[place]
    }

    /// Sets the score that is a node's own; it must have no kind.
    pub(super) fn set_own(&mut self, place: usize, score: S) {
        self.own[place] = score;
    }

    /// The nodes of a kind in a word.
    #[inline]
    pub(super) fn cell(&self, word: usize, kind: usize) -> &Cell<S> {
        &self.cells[word * self.room + kind]
    }

    /// Puts a node that has no kind into one.
    pub(super) fn insert(&mut self, place: usize, key: &K) {
        let Some(kind) = self.number(key) else {
            self.is_crowded = true;
            return;
        };
        if let Some(journal) = &mut self.journal {
            journal.log.note(place as u32);
        }
        self.missing.set(place, false);
        self.list[kind].nodes += 1;
        let (score, mut block) = (self.own[place], place / 64);
        let cell = &mut self.cells[block * self.room + kind];
        cell.bits |= 1 << (place % 64);
        if score > cell.best {
            (cell.best, cell.best_count, cell.is_stale) = (score, 1, false);
        } else if score == cell.best {
            cell.best_count += 1;
        }
        for level in &mut self.levels {
            block /= FAN;
            counted::step();
            level.missing[block] -= 1;
            level.sums[block * self.room + kind].insert(score);
        }
    }

    /// Takes a node out of its kind, if it has one.
    pub(super) fn remove(&mut self, place: usize) {
        if self.missing.contains(place) {
            return;
        }
        self.missing.set(place, true);
        let kind = self.kind_of(place);
        self.list[kind].nodes -= 1;
        let (score, mut block) = (self.own[place], place / 64);
        let cell = &mut self.cells[block * self.room + kind];
        cell.bits &= !(1 << (place % 64));
        if cell.bits == 0 {
            *cell = Cell::EMPTY;
        } else if score == cell.best && !cell.is_stale {
            cell.best_count -= 1;
            cell.is_stale = cell.best_count == 0;
        }
        for level in &mut self.levels {
            block /= FAN;
            counted::step();
            level.missing[block] += 1;
            level.sums[block * self.room + kind].remove(score);
        }
    }

    /// Takes all nodes out of their kinds.
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.cells.fill(Cell::EMPTY);
        self.levels = (1..=top(self.nodes)).map(|level| Level::new(level, self.nodes, self.room)).collect();
        self.missing = Bits::all(self.nodes);
        self.changes += 1;
        self.journal = None;
        self.is_crowded = false;
    }

    /// Begins to note which nodes get a kind, unless that is done.
    pub(super) fn keep_journal(&mut self) {
        // Beyond a part of all nodes it is no more work to look at all of them.
        let kept = self.nodes / 4 + 64;
        self.journal.get_or_insert_with(|| Box::new(Journal { id: Rc::new(()), log: Log::of(kept) }));
    }

    /// Which nodes got a kind since that is noted; nothing is noted any more once all nodes have lost theirs.
    pub(super) fn journal(&self) -> Option<&Journal> {
        self.journal.as_deref()
    }

    /// The best of the nodes of a kind in a block, or of those in a part of a word.
    pub(super) fn best_in(&mut self, block: Stride, kind: usize) -> Best<S> {
        counted::step();
        if block.level == 0 {
            return self.best(block.block, kind, block.range);
        }
        let place = block.block * self.room + kind;
        let sum = self.levels[block.level - 1].sums[place];
        if !sum.is_stale {
            return Best { score: sum.best, count: u64::from(sum.best_count) };
        }
        let mut best = Best::NONE;
        for part in block.parts(self.nodes) {
            let of_part = self.best_in(part, kind);
            best.take(of_part.score, of_part.count);
        }
        let found = Sum { best: best.score, best_count: best.count as u32, is_stale: false, ..sum };
        self.levels[block.level - 1].sums[place] = found;
        best
    }

    /// The best of those nodes of a kind in a word that are in a stretch.
    #[inline]
    pub(super) fn best(&mut self, word: usize, kind: usize, range: u64) -> Best<S> {
        let cell = &mut self.cells[word * self.room + kind];
        let bits = cell.bits & range;
        if bits == cell.bits && !cell.is_stale {
            return Best { score: cell.best, count: u64::from(cell.best_count) };
        }
        let best = best_of(&self.own[word * 64..], bits);
        if bits == cell.bits {
            (cell.best, cell.best_count, cell.is_stale) = (best.score, best.count as u8, false);
        }
        best
    }

    /// The place of the node with a number among those of some kinds, in order.
    pub(super) fn nth(&self, kinds: &[usize], number: usize) -> Option<usize> {
        let mut left = number;
        Window::round(0, self.nodes).strides(None).find_map(|stride| self.nth_in(stride, kinds, &mut left))
    }

    /// The same in a block; how many are left to be passed is less by those that are there.
    fn nth_in(&self, block: Stride, kinds: &[usize], left: &mut usize) -> Option<usize> {
        counted::step();
        let here: usize = kinds.iter().map(|kind| self.nodes_in(block, *kind)).sum();
        if here <= *left {
            *left -= here;
            return None;
        }
        if block.level > 0 {
            return block.parts(self.nodes).find_map(|part| self.nth_in(part, kinds, left));
        }
        let bits = kinds.iter().fold(0, |all, kind| all | self.cell(block.block, *kind).bits);
        Some(block.block * 64 + nth_bit(bits & block.range, *left))
    }

    /// The place of the node with a number among those in a window that are of one of these kinds and have the score that is named
    /// with it, a certain one left out.
    pub(super) fn find(
        &mut self,
        window: Window,
        targets: &[(usize, S)],
        number: u64,
        without: Option<usize>,
    ) -> Option<usize> {
        let mut left = number;
        window.strides(without).find_map(|stride| self.find_in(stride, targets, &mut left))
    }

    /// The same in a block; how many are left to be passed is less by those that are there.
    fn find_in(&mut self, stride: Stride, targets: &[(usize, S)], left: &mut u64) -> Option<usize> {
        counted::step();
        if stride.level == 0 && stride.range != u64::MAX {
            return self.find_in_word(stride, targets, left);
        }
        let of_kind = |(kind, score): &(usize, S)| {
            let best = self.best_in(stride, *kind);
            if best.score == *score { best.count } else { 0 }
        };
        let here: u64 = targets.iter().map(of_kind).sum();
        if here <= *left {
            *left -= here;
            return None;
        }
        if stride.level > 0 {
            return stride.parts(self.nodes).find_map(|part| self.find_in(part, targets, left));
        }
        self.find_in_word(stride, targets, left)
    }

    fn find_in_word(&self, stride: Stride, targets: &[(usize, S)], left: &mut u64) -> Option<usize> {
        let (word, range) = (stride.block, stride.range);
        let counts = targets.iter().map(|(kind, score)| self.count_equals(word, *kind, range, *score));
        let here: u64 = counts.sum();
        if here <= *left {
            *left -= here;
            return None;
        }
        if let [(kind, score)] = targets
            && let Some(place) = self.nth_equal(word, *kind, range, *score, *left as usize)
        {
            return Some(word * 64 + place);
        }
        let equals = targets.iter().map(|(kind, score)| self.equals(word, *kind, range, *score));
        Some(word * 64 + nth_bit(equals.fold(0, |all, of_kind| all | of_kind), *left as usize))
    }

    /// How many nodes of a kind in a part of a word have a score.
    #[inline]
    fn count_equals(&self, word: usize, kind: usize, range: u64, score: S) -> u64 {
        let bits = self.cell(word, kind).bits & range;
        match close_ones(&self.own[word * 64..], bits) {
            Some(stretch) => count(stretch, score),
            None => u64::from(self.equals(word, kind, range, score).count_ones()),
        }
    }

    /// Which place of a word has the node of a kind with a number among those in a part of it that have a score; none if it would have
    /// to be looked for among nodes of other kinds.
    #[inline]
    fn nth_equal(&self, word: usize, kind: usize, range: u64, score: S, number: usize) -> Option<usize> {
        let bits = self.cell(word, kind).bits & range;
        let stretch = close_ones(&self.own[word * 64..], bits)?;
        let mut equals = stretch.iter().enumerate().filter(|(_, own)| **own == score);
        Some(bits.trailing_zeros() as usize + equals.nth(number)?.0)
    }

    /// Those nodes of a kind in a part of a word that have a score.
    fn equals(&self, word: usize, kind: usize, range: u64, score: S) -> u64 {
        let bits = self.cell(word, kind).bits & range;
        let mut equals = 0;
        for place in places(0, bits) {
            equals |= u64::from(self.own[word * 64 + place] == score) << place;
        }
        equals
    }

    /// The number of a kind, given to it if it has none.
    fn number(&mut self, key: &K) -> Option<usize> {
        if let Some(known) = self.list.iter().position(|kind| kind.key == *key) {
            return Some(known);
        }
        self.changes += 1;
        let new = Kind { key: key.clone(), nodes: 0 };
        if self.list.len() < self.room {
            self.list.reserve_exact(self.room - self.list.len());
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
        self.list.reserve_exact(self.room - self.list.len());
        self.list.push(new);
        Some(self.list.len() - 1)
    }

    fn grow(&mut self) {
        let (old, room) = (self.room, self.room * 2);
        self.cells = widened(&self.cells, Cell::EMPTY, old, room);
        for level in &mut self.levels {
            level.sums = widened(&level.sums, Sum::EMPTY, old, room);
        }
        self.room = room;
    }
}

/// The scores that bits stand for, if they stand close to one another, as they mostly do: a stretch is gone over several at a time.
#[inline]
fn close_ones<S>(scores: &[S], bits: u64) -> Option<&[S]> {
    if bits == 0 {
        return Some(&[]);
    }
    let (first, end) = (bits.trailing_zeros() as usize, 64 - bits.leading_zeros() as usize);
    if end - first == bits.count_ones() as usize { scores.get(first..end) } else { None }
}

/// How many of some scores are this one.
#[inline]
fn count<S: Score>(scores: &[S], score: S) -> u64 {
    // A sum that is checked for overflow is not made several at a time.
    u64::from(scores.iter().fold(0_u32, |count, other| count.wrapping_add(u32::from(*other == score))))
}

/// The best of those scores that bits stand for.
#[inline]
fn best_of<S: Score>(scores: &[S], bits: u64) -> Best<S> {
    if let Some(stretch) = close_ones(scores, bits) {
        let mut score = S::LEAST;
        for other in stretch {
            score = score.max(*other);
        }
        return Best { score, count: count(stretch, score) };
    }
    let mut best = Best::NONE;
    places(0, bits).for_each(|place| best.take(scores[place], 1));
    best
}

/// A table with rows of `old` entries, as one with longer rows.
fn widened<T: Copy>(table: &[T], empty: T, old: usize, new: usize) -> Vec<T> {
    let mut wide = vec![empty; table.len() / old * new];
    for (row, there) in wide.chunks_exact_mut(new).zip(table.chunks_exact(old)) {
        row[..old].copy_from_slice(there);
    }
    wide
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;

    #[test]
    fn the_best_of_a_kind_is_found_again_when_it_goes() {
        let mut kinds = NodeKinds::new(100);
        let (near, far): (Key, Key) = (smallvec![0, 1], smallvec![0, 2]);
        for (place, score, key) in [(3, 5, &near), (4, 7, &near), (5, 7, &near), (6, 9, &far), (70, 1, &near)] {
            kinds.set_own(place, score);
            kinds.insert(place, key);
        }
        let best = |kinds: &mut NodeKinds, word, range| {
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
    fn blocks_are_summed_up_as_their_words_are() {
        let nodes = 5_000;
        let mut kinds = NodeKinds::new(nodes);
        let keys: [Key; 3] = [smallvec![0, 1], smallvec![0, 2], smallvec![0, 3]];
        let whole = Stride { level: top(nodes), block: 0, range: u64::MAX };
        let mut number = 1_u64;
        for round in 0..20_000 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (place, score) = ((number >> 33) as usize % nodes, (number >> 20) as i32 & 15);
            if kinds.missing.contains(place) {
                kinds.set_own(place, score);
                kinds.insert(place, &keys[(number >> 50) as usize % 3]);
            } else {
                kinds.remove(place);
            }
            if round % 1_000 != 0 {
                continue;
            }
            for kind in 0..kinds.len() {
                let mut plain = Best::NONE;
                let of_kind = |place: &usize| !kinds.missing.contains(*place) && kinds.kind_of(*place) == kind;
                (0..nodes).filter(of_kind).for_each(|place| plain.take(kinds.own(place), 1));
                let best = kinds.best_in(whole, kind);
                assert_eq!((best.score, best.count), (plain.score, plain.count), "round {round}");
                assert_eq!(kinds.nodes_in(whole, kind), kinds.nodes(kind));
            }
        }
        assert!(!kinds.are_complete() && !kinds.is_complete(whole));
    }

    #[test]
    fn too_many_kinds_are_told() {
        let mut kinds = NodeKinds::new(200);
        for place in 0..MOST {
            kinds.insert(place, &smallvec![place as i64]);
        }
        assert!(!kinds.is_crowded());
        kinds.insert(MOST, &smallvec![-1]);
        assert!(kinds.is_crowded());
    }
}

//! The choice among kinds of nodes: 64 nodes are summed up at a time, so that for a pod like the last one only what changed is
//! looked at again, and a large cluster is passed over in strides.
//!
//! It gives what searching, scoring and choosing node by node gives, the draw among equals included.

use smallvec::SmallVec;

use super::bits::{lowest, nth_bit, places, words};
use super::class::PodClass;
use super::cluster::Cluster;
use super::kinds::{Best, Key};
use crate::engine::random::Stream;

/// A node that was chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Picked {
    /// Its place in the list.
    pub place: usize,
    /// How many nodes were looked at.
    pub evaluated: usize,
    /// How many of them fit.
    pub feasible: usize,
    /// Its score; none if it is the only one that fits.
    pub score: Option<i64>,
    /// The next best one, the first of several, and its score.
    pub runner_up: Option<(usize, i64)>,
}

/// What came of going through the nodes.
pub(super) enum Walk {
    /// A node was chosen.
    Picked(Picked),
    /// No node fits.
    Nowhere,
    /// The nodes have to be looked at one by one.
    Undecided,
}

/// A kind of nodes that fit.
struct Open {
    kind: usize,
    /// The best of those that were passed, by the score that is each node's own, and how many were passed.
    best: Best,
    nodes: usize,
    /// The score that all nodes of the kind have in common.
    common: i64,
}

/// Where nodes were looked at: from a place on, so many, and round.
#[derive(Clone, Copy)]
struct Window {
    start: usize,
    length: usize,
    count: usize,
}

type Opens = SmallVec<[Open; 8]>;

/// Kinds, and the score of its own that a node of the kind must have.
type Targets = SmallVec<[(usize, i32); 8]>;

impl PodClass {
    /// Looks for so many nodes that fit, from a place on and round, and chooses one of the best.
    pub(super) fn pick(&mut self, start: usize, wanted: usize, stream: &mut Stream, cluster: &Cluster) -> Walk {
        let (mut opens, window) = match self.walk(start, wanted, cluster) {
            Some(walked) => walked,
            None => return Walk::Undecided,
        };
        let feasible: usize = opens.iter().map(|open| open.nodes).sum();
        if feasible == 0 {
            return Walk::Nowhere;
        }
        let mut picked = Picked { place: 0, evaluated: window.length, feasible, score: None, runner_up: None };
        if feasible > 1 {
            let kinds: Vec<(Key, usize)> =
                opens.iter().map(|open| (Key::from_slice(self.kinds.key(open.kind)), open.nodes)).collect();
            let mut common = Vec::new();
            self.score_kinds(&kinds, &mut common);
            opens.iter_mut().zip(common).for_each(|(open, common)| open.common = common);
        }
        let score = highest(&opens);
        let (targets, equals) = targets(&opens, score);
        let number = if equals > 1 { stream.below(equals) } else { 0 };
        let Some(place) = self.find(window, &targets, number, None) else { return Walk::Undecided };
        picked.place = place;
        if feasible > 1 {
            picked.score = Some(score);
            let next = if number == 0 { 1 } else { 0 };
            picked.runner_up = match equals {
                1 => self.second(window, opens, place),
                _ => self.find(window, &targets, next, None).map(|place| (place, score)),
            };
        }
        Walk::Picked(picked)
    }

    /// Goes through the nodes until enough fit; none if they have to be looked at one by one.
    fn walk(&mut self, start: usize, wanted: usize, cluster: &Cluster) -> Option<(Opens, Window)> {
        let count = cluster.node_count();
        let (mut opens, mut changes) = (Opens::new(), None);
        let (mut feasible, mut length) = (0, count);
        for (word, range) in words(start, count, count) {
            self.look_at_all(word, range, cluster);
            if self.kinds.is_crowded() || self.failures > 0 {
                return None;
            }
            if changes != Some(self.kinds.changes()) {
                changes = Some(self.kinds.changes());
                self.open(&mut opens);
            }
            let bits = |open: &Open| self.kinds.cell(word, open.kind).bits & range;
            let here: usize = opens.iter().map(|open| bits(open).count_ones() as usize).sum();
            let is_enough = feasible + here >= wanted;
            let taken = match is_enough {
                true => lowest(opens.iter().fold(0, |all, open| all | bits(open)), wanted - feasible),
                false => range,
            };
            for open in opens.iter_mut().filter(|_| here > 0) {
                let nodes = (self.kinds.cell(word, open.kind).bits & taken).count_ones() as usize;
                if nodes > 0 {
                    let best = self.kinds.best(word, open.kind, taken);
                    open.best.take(best.score, best.count);
                    open.nodes += nodes;
                    feasible += nodes;
                }
            }
            if is_enough {
                let last = word * 64 + 63 - taken.leading_zeros() as usize;
                length = (last + count - start) % count + 1;
                break;
            }
        }
        opens.retain(|open| open.nodes > 0);
        Some((opens, Window { start, length, count }))
    }

    /// Finds out which kinds fit, in addition to those of which nodes were passed.
    fn open(&self, opens: &mut Opens) {
        opens.retain(|open| open.nodes > 0);
        for kind in 0..self.kinds.len() {
            // One without nodes may get some as the walk goes on.
            let is_new = opens.iter().all(|open| open.kind != kind);
            if is_new && self.rejector(self.kinds.key(kind)).is_none() {
                opens.push(Open { kind, best: Best::NONE, nodes: 0, common: 0 });
            }
        }
    }

    /// The best node but for the one that was chosen, and its score.
    fn second(&mut self, window: Window, mut opens: Opens, chosen: usize) -> Option<(usize, i64)> {
        let kind = self.kinds.kind_of(chosen);
        let open = opens.iter_mut().find(|open| open.kind == kind)?;
        open.best = Best::NONE;
        for (word, range) in words(window.start, window.length, window.count) {
            let range = if word == chosen / 64 { range & !(1 << (chosen % 64)) } else { range };
            let best = self.kinds.best(word, kind, range);
            open.best.take(best.score, best.count);
        }
        let open_nodes = open.nodes - 1;
        opens.retain(|open| open.kind != kind || open_nodes > 0);
        let score = highest(&opens);
        let (targets, _) = targets(&opens, score);
        Some((self.find(window, &targets, 0, Some(chosen))?, score))
    }

    /// The place of the node with a number among those that one looks for, a certain one left out.
    fn find(&self, window: Window, targets: &Targets, mut number: u64, without: Option<usize>) -> Option<usize> {
        for (word, range) in words(window.start, window.length, window.count) {
            let range = match without {
                Some(place) if place / 64 == word => range & !(1 << (place % 64)),
                _ => range,
            };
            let (mut known, mut is_known) = (0, true);
            for (kind, score) in targets {
                let cell = self.kinds.cell(word, *kind);
                let is_whole = cell.bits & range == cell.bits && !cell.is_stale;
                if is_whole && cell.best == *score {
                    known += u64::from(cell.best_count);
                } else {
                    is_known &= cell.bits & range == 0 || is_whole && cell.best < *score;
                }
            }
            if is_known && known <= number {
                number -= known;
                continue;
            }
            let mut equal = 0_u64;
            for (kind, score) in targets {
                let bits = self.kinds.cell(word, *kind).bits & range;
                let meant = places(word, bits).filter(|place| self.kinds.own(*place) == *score);
                meant.for_each(|place| equal |= 1 << (place % 64));
            }
            let here = u64::from(equal.count_ones());
            if number < here {
                return Some(word * 64 + nth_bit(equal, number as usize));
            }
            number -= here;
        }
        None
    }
}

/// The highest score of all.
fn highest(opens: &Opens) -> i64 {
    opens.iter().map(|open| i64::from(open.best.score) + open.common).max().unwrap_or(i64::MIN)
}

/// What a node must be to have a score that no node exceeds, and how many such there are.
fn targets(opens: &Opens, score: i64) -> (Targets, u64) {
    let meant = opens.iter().filter(|open| i64::from(open.best.score) + open.common == score);
    let count = meant.clone().map(|open| open.best.count).sum();
    (meant.map(|open| (open.kind, open.best.score)).collect(), count)
}

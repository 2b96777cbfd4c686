//! The choice among kinds of nodes: blocks of them are summed up, so that for a pod like the last one only what changed is looked
//! at again, and a large cluster is passed over in strides.
//!
//! It gives what searching, scoring and choosing node by node gives, the draw among equals included.

use std::ops::ControlFlow;

use smallvec::SmallVec;

use super::bits::lowest;
use super::class::PodClass;
use super::cluster::Cluster;
use super::kinds::{Best, Key};
use super::strides::{Stride, Window, counted};
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
    best: Best<i32>,
    nodes: usize,
    /// The score that all nodes of the kind have in common.
    common: i64,
}

/// The way through the nodes.
struct Way {
    opens: Opens,
    /// Whether `opens` are all kinds that fit.
    changes: Option<u64>,
    /// How many of the nodes that were passed fit, and how many are looked for.
    feasible: usize,
    wanted: usize,
}

/// Where the way through the nodes ends before it has gone round.
enum End {
    /// At a node, as enough fit.
    Enough(usize),
    /// The nodes have to be looked at one by one.
    Undecided,
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
                opens.iter().map(|open| (self.kinds.key(open.kind).clone(), open.nodes)).collect();
            let mut common = Vec::new();
            self.score_kinds(&kinds, &mut common);
            opens.iter_mut().zip(common).for_each(|(open, common)| open.common = common);
        }
        let score = highest(&opens);
        let (targets, equals) = targets(&opens, score);
        let number = if equals > 1 { stream.below(equals) } else { 0 };
        let Some(place) = self.kinds.find(window, &targets, number, None) else { return Walk::Undecided };
        picked.place = place;
        if feasible > 1 {
            picked.score = Some(score);
            let next = if number == 0 { 1 } else { 0 };
            picked.runner_up = match equals {
                1 => self.second(window, opens, place),
                _ => self.kinds.find(window, &targets, next, None).map(|place| (place, score)),
            };
        }
        Walk::Picked(picked)
    }

    /// Goes through the nodes until enough fit; none if they have to be looked at one by one.
    fn walk(&mut self, start: usize, wanted: usize, cluster: &Cluster) -> Option<(Opens, Window)> {
        let count = cluster.node_count();
        let mut way = Way { opens: Opens::new(), changes: None, feasible: 0, wanted };
        let mut strides = Window::round(start, count).strides(None);
        let length = match strides.try_for_each(|stride| self.pass(stride, &mut way, cluster)) {
            ControlFlow::Continue(()) => count,
            ControlFlow::Break(End::Enough(last)) => (last + count - start) % count + 1,
            ControlFlow::Break(End::Undecided) => return None,
        };
        way.opens.retain(|open| open.nodes > 0);
        Some((way.opens, Window { start, length, count }))
    }

    /// Passes the nodes of a block: all at once, if all of them are known and do not make enough.
    fn pass(&mut self, stride: Stride, way: &mut Way, cluster: &Cluster) -> ControlFlow<End> {
        counted::step();
        if stride.level == 0 {
            return self.pass_word(stride.block, stride.range, way, cluster);
        }
        if self.kinds.is_complete(stride) {
            self.renew(way)?;
            let here: usize = way.opens.iter().map(|open| self.kinds.nodes_in(stride, open.kind)).sum();
            if way.feasible + here < way.wanted {
                for open in &mut way.opens {
                    let nodes = self.kinds.nodes_in(stride, open.kind);
                    if nodes > 0 {
                        open.take(self.kinds.best_in(stride, open.kind), nodes);
                    }
                }
                way.feasible += here;
                return ControlFlow::Continue(());
            }
        }
        stride.parts(cluster.node_count()).try_for_each(|part| self.pass(part, way, cluster))
    }

    /// Passes nodes of a word.
    fn pass_word(&mut self, word: usize, range: u64, way: &mut Way, cluster: &Cluster) -> ControlFlow<End> {
        self.look_at_all(word, range, cluster);
        self.renew(way)?;
        let Way { opens, feasible, wanted, .. } = way;
        let bits = |open: &Open| self.kinds.cell(word, open.kind).bits & range;
        let here: usize = opens.iter().map(|open| bits(open).count_ones() as usize).sum();
        let is_enough = *feasible + here >= *wanted;
        let taken = match is_enough {
            true => lowest(opens.iter().fold(0, |all, open| all | bits(open)), *wanted - *feasible),
            false => range,
        };
        for open in opens.iter_mut().filter(|_| here > 0) {
            let nodes = (self.kinds.cell(word, open.kind).bits & taken).count_ones() as usize;
            if nodes > 0 {
                open.take(self.kinds.best(word, open.kind, taken), nodes);
                *feasible += nodes;
            }
        }
        if is_enough {
            return ControlFlow::Break(End::Enough(word * 64 + 63 - taken.leading_zeros() as usize));
        }
        ControlFlow::Continue(())
    }

    /// Finds out which kinds fit if there are others since that was last done.
    fn renew(&self, way: &mut Way) -> ControlFlow<End> {
        if self.kinds.is_crowded() || self.failures > 0 {
            return ControlFlow::Break(End::Undecided);
        }
        if way.changes != Some(self.kinds.changes()) {
            way.changes = Some(self.kinds.changes());
            self.open(&mut way.opens);
        }
        ControlFlow::Continue(())
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
        for stride in window.strides(Some(chosen)) {
            let best = self.kinds.best_in(stride, kind);
            open.best.take(best.score, best.count);
        }
        let open_nodes = open.nodes - 1;
        opens.retain(|open| open.kind != kind || open_nodes > 0);
        let score = highest(&opens);
        let (targets, _) = targets(&opens, score);
        Some((self.kinds.find(window, &targets, 0, Some(chosen))?, score))
    }
}

impl Open {
    /// Takes in so many nodes.
    fn take(&mut self, best: Best<i32>, nodes: usize) {
        self.best.take(best.score, best.count);
        self.nodes += nodes;
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

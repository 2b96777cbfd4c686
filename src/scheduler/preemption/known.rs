//! What was found out about preemption on each node for pods of one specification, kept while the node is as it was, and summed up
//! for 64 nodes at a time. It gives what [`dry_run`](super::dry_run::dry_run) and [`choice`](super::choice) give.

use std::rc::Rc;

use super::choice::Cost;
use super::dry_run::{Refusal, Verdict};
use crate::api::pod::PodSpec;
use crate::scheduler::bits::{Bits, nth_bit, places, words};
use crate::scheduler::cluster::Cluster;
use crate::scheduler::framework::{Code, Status};

/// Nodes of a word are refused for different reasons.
const MIXED: u16 = u16::MAX;

/// What was found out for pods of one specification.
pub struct Known {
    spec: Rc<PodSpec>,
    /// True if what is found out about a node holds while the node is unchanged; else only that nobody can be sent away from it is
    /// kept.
    is_whole: bool,
    list_version: u64,
    budgets_version: u64,
    /// How far the logs of the cluster were read, and its version then.
    positions: [u64; 2],
    seen_version: u64,
    words: Vec<Word>,
    /// What it would cost, for nodes that would do.
    costs: Vec<Cost>,
    /// Why not, for those that would not: the place in `refusals`.
    refusal_of: Vec<u16>,
    refusals: Vec<(Option<usize>, Status)>,
}

/// What was found out about 64 nodes.
#[derive(Clone, Copy, Default)]
struct Word {
    known: u64,
    /// The nodes that would do.
    helps: u64,
    /// Those of them where budgets would be broken.
    violating: u64,
    summary: Option<Summary>,
}

#[derive(Clone, Copy)]
struct Summary {
    /// The nodes that were summed up.
    of: u64,
    best: Best,
    /// The reason for which all that would not do are refused, or [`MIXED`].
    refusal: u16,
}

/// The lowest cost of some nodes, and how many have it.
#[derive(Clone, Copy)]
struct Best {
    cost: Option<Cost>,
    count: u64,
}

impl Best {
    const NONE: Best = Best { cost: None, count: 0 };

    fn take(&mut self, other: Best) {
        match (self.cost, other.cost) {
            (_, None) => {}
            (Some(cost), Some(new)) if cost < new => {}
            (Some(cost), Some(new)) if cost == new => self.count += other.count,
            _ => *self = other,
        }
    }
}

/// The candidates that were found.
pub struct Candidates {
    start: usize,
    length: usize,
    best: Cost,
    /// How many of them no criterion tells apart from the best one.
    pub equals: u64,
}

impl Known {
    /// Nothing is known yet.
    pub fn new(spec: &Rc<PodSpec>, is_whole: bool, cluster: &Cluster) -> Self {
        let nodes = cluster.node_count();
        Known {
            spec: spec.clone(),
            is_whole,
            list_version: cluster.list_version(),
            budgets_version: cluster.budgets().version(),
            positions: [cluster.groups().position(), cluster.starts().position()],
            seen_version: cluster.last_version(),
            words: vec![Word::default(); nodes.div_ceil(64)],
            costs: vec![Cost::default(); nodes],
            refusal_of: vec![0; nodes],
            refusals: Vec::new(),
        }
    }

    /// True if it is about pods of this specification, and of whole verdicts or not.
    pub fn is_of(&self, spec: &Rc<PodSpec>, is_whole: bool) -> bool {
        Rc::ptr_eq(&self.spec, spec) && self.is_whole == is_whole
    }

    /// Forgets nodes that changed; false if that concerns all of them.
    pub fn catch_up(&mut self, cluster: &Cluster) -> bool {
        if (self.list_version, self.budgets_version) != (cluster.list_version(), cluster.budgets().version()) {
            return false;
        }
        let [groups, starts] = self.positions;
        match (cluster.groups().since(groups), cluster.starts().since(starts)) {
            (Some(changes), Some(started)) => {
                for slot in changes.map(|change| change.slot).chain(started) {
                    if let Some(place) = cluster.place_of_slot(slot) {
                        self.forget(place);
                    }
                }
            }
            _ => {
                let seen = self.seen_version;
                let changed = |place: &usize| cluster.versions()[*place].max(cluster.pods_version(*place)) > seen;
                (0..cluster.node_count()).filter(changed).for_each(|place| self.forget(place));
            }
        }
        self.positions = [cluster.groups().position(), cluster.starts().position()];
        self.seen_version = cluster.last_version();
        // Should there ever be too many reasons, the table begins anew.
        self.refusals.len() < usize::from(MIXED) - 1
    }

    /// Forgets what was found out about a node.
    pub fn forget(&mut self, place: usize) {
        let (word, bit) = (&mut self.words[place / 64], 1_u64 << (place % 64));
        (word.known, word.helps, word.violating) = (word.known & !bit, word.helps & !bit, word.violating & !bit);
        word.summary = None;
    }

    /// Looks at `potential` nodes, from a place on and round, until enough would do and one of them breaks no budget; those whose
    /// verdict is not known are looked at. None if none would do.
    pub fn search(
        &mut self,
        potential: &Bits,
        start: usize,
        wanted: usize,
        mut look_at: impl FnMut(usize) -> Verdict,
    ) -> Option<Candidates> {
        let count = self.costs.len();
        let (mut good, mut violating, mut best, mut length) = (0, 0, Best::NONE, count);
        for (word, range) in words(start, count, count) {
            let bits = potential.words()[word] & range;
            self.find_out(word, bits, &mut look_at);
            let helps = self.words[word].helps & bits;
            let bad = helps & self.words[word].violating;
            let (fine_here, bad_here) = ((helps & !bad).count_ones() as usize, bad.count_ones() as usize);
            let is_last = good + fine_here > 0 && good + fine_here + (violating + bad_here).min(wanted) >= wanted;
            // All nodes of the word become candidates, or none because there are enough such already.
            if !is_last && (violating + bad_here <= wanted || violating == wanted) {
                if violating + bad_here <= wanted {
                    best.take(self.sum_up(word, bits).best);
                    (good, violating) = (good + fine_here, violating + bad_here);
                }
                continue;
            }
            let Some(last) = self.enter(word, helps, wanted, (&mut good, &mut violating), &mut best) else { continue };
            length = (last + count - start) % count + 1;
            break;
        }
        Some(Candidates { start, length, best: best.cost?, equals: best.count })
    }

    /// Makes candidates of nodes of a word, one by one; the last one, if there are enough then.
    fn enter(
        &self,
        word: usize,
        helps: u64,
        wanted: usize,
        (good, violating): (&mut usize, &mut usize),
        best: &mut Best,
    ) -> Option<usize> {
        for place in places(word, helps) {
            let is_bad = self.words[word].violating & 1 << (place % 64) != 0;
            let entered = if is_bad { &mut *violating } else { &mut *good };
            if *entered < wanted {
                *entered += 1;
                best.take(Best { cost: Some(self.costs[place]), count: 1 });
            }
            if *good > 0 && *good + *violating >= wanted {
                return Some(place);
            }
        }
        None
    }

    fn find_out(&mut self, word: usize, bits: u64, look_at: &mut impl FnMut(usize) -> Verdict) {
        for place in places(word, bits & !self.words[word].known) {
            let (there, bit) = (&mut self.words[word], 1 << (place % 64));
            there.known |= bit;
            there.summary = None;
            match look_at(place) {
                Verdict::Helps(candidate) => {
                    there.helps |= bit;
                    if candidate.violations > 0 {
                        there.violating |= bit;
                    }
                    self.costs[place] = candidate.cost;
                }
                Verdict::DoesNot(Refusal { plugin, status, .. }) => {
                    let said = (plugin, status);
                    let known = self.refusals.iter().position(|known| *known == said);
                    let number = known.unwrap_or_else(|| {
                        self.refusals.push(said);
                        self.refusals.len() - 1
                    });
                    self.refusal_of[place] = number as u16;
                }
            }
        }
    }

    fn sum_up(&mut self, word: usize, bits: u64) -> Summary {
        let there = self.words[word];
        if let Some(summary) = there.summary.filter(|summary| summary.of == bits) {
            return summary;
        }
        let mut best = Best::NONE;
        places(word, bits & there.helps).for_each(|place| best.take(Best { cost: Some(self.costs[place]), count: 1 }));
        let mut refused = places(word, bits & !there.helps).map(|place| self.refusal_of[place]);
        let first = refused.next().unwrap_or(MIXED);
        let refusal = if refused.all(|other| other == first) { first } else { MIXED };
        let summary = Summary { of: bits, best, refusal };
        self.words[word].summary = Some(summary);
        summary
    }

    /// The place of the one with a number among the best candidates.
    pub fn best(&self, potential: &Bits, candidates: &Candidates, mut number: u64) -> Option<usize> {
        let Candidates { start, length, best, .. } = *candidates;
        for (word, range) in words(start, length, self.costs.len()) {
            let (there, bits) = (&self.words[word], potential.words()[word] & range);
            if let Some(summary) = there.summary.filter(|summary| summary.of == bits) {
                let here = if summary.best.cost == Some(best) { summary.best.count } else { 0 };
                if here <= number {
                    number -= here;
                    continue;
                }
            }
            let mut equal = 0_u64;
            let equals = places(word, bits & there.helps).filter(|place| self.costs[*place] == best);
            equals.for_each(|place| equal |= 1 << (place % 64));
            let here = u64::from(equal.count_ones());
            if number < here {
                return Some(word * 64 + nth_bit(equal, number as usize));
            }
            number -= here;
        }
        None
    }

    /// What is said of `potential` nodes, none of which would do and all of which were looked at, and of how many; nothing if
    /// looking at one failed.
    pub fn refused(&mut self, potential: &Bits) -> Option<Vec<(Status, usize)>> {
        let mut counts = vec![0; self.refusals.len()];
        for (word, bits) in potential.words().iter().enumerate().filter(|(_, bits)| **bits != 0) {
            match self.sum_up(word, *bits).refusal {
                MIXED => places(word, *bits).for_each(|place| counts[usize::from(self.refusal_of[place])] += 1),
                refusal => counts[usize::from(refusal)] += bits.count_ones() as usize,
            }
        }
        let said = self.refusals.iter().zip(counts).filter(|(_, nodes)| *nodes > 0);
        let said: Vec<(Status, usize)> = said.map(|((_, status), nodes)| (status.clone(), nodes)).collect();
        said.iter().all(|(status, _)| status.code != Code::Error).then_some(said)
    }
}

//! What was found out about preemption on each node for pods of one class, kept while it holds, and summed up in blocks of nodes. It
//! gives what [`dry_run`](super::dry_run::dry_run) and [`choice`](super::choice) give.
//!
//! Nodes of one kind to the class, of which the same was found out, are of one kind here; the cost is each node's own. A node of which
//! the class has to think anew is thought of anew here too. What follows from the node alone is kept apart from what followers say of
//! it, who may think otherwise of all nodes of a kind at once; unless it matters to them who goes.

use std::cmp::Reverse;
use std::ops::ControlFlow;
use std::rc::Rc;

use smallvec::SmallVec;

use super::choice::Cost;
use super::dry_run::{Preemptor, Refusal, Verdict};
use crate::scheduler::bits::places;
use crate::scheduler::codes::KindCodes;
use crate::scheduler::framework::{Code, Failed, Status};
use crate::scheduler::kinds::{Best, Kinds, Score};
use crate::scheduler::strides::{Stride, Window, counted};

/// What was found out for pods of one class.
pub struct Known {
    /// The journal of the class's kinds, how far it was read, and how far the log of pods that began to run.
    journal: Rc<()>,
    positions: [u64; 2],
    budgets_version: u64,
    kinds: Kinds<Kind, Reverse<Cost>>,
    /// Why nodes would not do, and in which turn the plugin filters that says so.
    refusals: Vec<(usize, Status)>,
    /// The nodes of which something was found out that is particular, and when that was.
    passing: Vec<u32>,
    turn: u32,
}

/// The number of the kind that nodes are of to the class, and what was found out about them.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    of: u16,
    found: Found,
    /// True if that depends on pods elsewhere in a way of the node's own; else followers have still to be asked.
    is_particular: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// Nothing yet.
    Nothing,
    /// They would do.
    Helps,
    /// They would do, but budgets would be broken.
    Violates,
    /// They would not, for the reason at this place.
    Refused(u16),
}

impl Score for Reverse<Cost> {
    const LEAST: Self = Reverse(Cost::HIGHEST);
}

/// What came of a search.
pub enum Search {
    /// There are candidates.
    Found(Candidates),
    /// No node would do: what is said of them, and of how many.
    Nowhere(Vec<(Status, usize)>),
    /// The nodes have to be looked at one by one.
    Undecided,
}

/// The candidates that were found.
pub struct Candidates {
    window: Window,
    /// What the best of them are, and what they cost.
    best: Vec<(usize, Reverse<Cost>)>,
    /// How many of them no criterion tells apart from the best one.
    pub equals: u64,
}

/// Some kinds.
type Several = SmallVec<[usize; 8]>;

/// The way through the nodes.
struct Way<'a> {
    codes: &'a KindCodes<'a>,
    preemptor: Preemptor<'a>,
    wanted: usize,
    /// How many candidates there are that break no budget, and how many others.
    good: usize,
    violating: usize,
    /// The last of these, once there are as many as are wanted.
    last_violating: Option<usize>,
    best: Best<Reverse<Cost>>,
    /// The kinds where preemption may help, by what was found out; and when they were the right ones.
    nothing: Several,
    helps: Several,
    violates: Several,
    changes: Option<u64>,
}

impl Known {
    /// Nothing is known yet; none if there is nothing from which that could be kept up.
    pub fn new(codes: &KindCodes<'_>, failed: &Failed<'_>) -> Option<Self> {
        let journal = codes.journal()?;
        Some(Known {
            journal: journal.id.clone(),
            positions: [journal.log.position(), failed.cluster.starts().position()],
            budgets_version: failed.cluster.budgets().version(),
            kinds: Kinds::new(codes.nodes()),
            refusals: Vec::new(),
            passing: Vec::new(),
            turn: failed.filters.turn(),
        })
    }

    /// True if it is about pods of the class with these kinds.
    pub fn is_of(&self, codes: &KindCodes<'_>) -> bool {
        codes.journal().is_some_and(|journal| Rc::ptr_eq(&journal.id, &self.journal))
    }

    /// Forgets nodes that changed; false if that concerns all of them.
    pub fn catch_up(&mut self, codes: &KindCodes<'_>, failed: &Failed<'_>) -> bool {
        let (Some(journal), cluster) = (codes.journal(), failed.cluster) else { return false };
        let [kinds, starts] = self.positions;
        let (Some(changed), Some(started)) = (journal.log.since(kinds), cluster.starts().since(starts)) else {
            return false;
        };
        for place in changed.map(|place| place as usize).chain(started.filter_map(|slot| cluster.place_of_slot(slot))) {
            counted::step();
            self.kinds.remove(place);
        }
        self.positions = [journal.log.position(), cluster.starts().position()];
        if self.turn != failed.filters.turn() {
            self.turn = failed.filters.turn();
            for place in std::mem::take(&mut self.passing) {
                counted::step();
                self.kinds.remove(place as usize);
            }
        }
        // Should there ever be too many reasons, kinds or nodes that were looked at again and again, all begins anew.
        let has_room = self.refusals.len() < usize::from(u16::MAX) && self.passing.len() <= 4 * codes.nodes();
        has_room && !self.kinds.is_crowded() && self.budgets_version == cluster.budgets().version()
    }

    /// Looks at the nodes where preemption may help, from a place on and round, until enough would do and one of them breaks no
    /// budget; those of which nothing is known are looked at.
    pub fn search(&mut self, codes: &KindCodes<'_>, failed: &Failed<'_>, (start, wanted): (usize, usize)) -> Search {
        let count = codes.nodes();
        let mut way = Way {
            codes,
            preemptor: Preemptor::of(failed),
            wanted,
            good: 0,
            violating: 0,
            last_violating: None,
            best: Best::NONE,
            nothing: Several::new(),
            helps: Several::new(),
            violates: Several::new(),
            changes: None,
        };
        let mut strides = Window::round(start, count).strides(None);
        let last = match strides.try_for_each(|stride| self.pass(stride, &mut way)) {
            ControlFlow::Break(last) => Some(last),
            // Those that break budgets are no candidates once there are enough of them, be they cheaper or not.
            ControlFlow::Continue(()) => way.last_violating.filter(|_| way.good == 0),
        };
        let length = last.map_or(count, |last| (last + count - start) % count + 1);
        if self.kinds.is_crowded() {
            return Search::Undecided;
        }
        if way.best.count == 0 {
            return self.refused(codes).map_or(Search::Undecided, Search::Nowhere);
        }
        // None that breaks a budget is as good as one that breaks none.
        let kinds = if way.good > 0 { &way.helps } else { &way.violates };
        let best = kinds.iter().map(|kind| (*kind, way.best.score)).collect();
        Search::Found(Candidates { window: Window { start, length, count }, best, equals: way.best.count })
    }

    /// The place of the one with a number among the best candidates.
    pub fn best(&mut self, candidates: &Candidates, number: u64) -> Option<usize> {
        self.kinds.find(candidates.window, &candidates.best, number, None)
    }

    /// Passes the nodes of a block: all at once, if all of them are known and the last candidate is not among them. Ends at that one.
    fn pass(&mut self, stride: Stride, way: &mut Way<'_>) -> ControlFlow<usize> {
        counted::step();
        if stride.level == 0 {
            self.find_out(stride, way);
        }
        self.renew(way);
        let nodes = |kinds: &Several| kinds.iter().map(|kind| self.kinds.nodes_in(stride, *kind)).sum::<usize>();
        let is_known = stride.level == 0 || self.kinds.is_complete(stride) && nodes(&way.nothing) == 0;
        if is_known && let Some((good, violating)) = way.takes(nodes(&way.helps), nodes(&way.violates)) {
            way.good += good;
            way.violating += violating;
            if violating > 0 && way.violating == way.wanted {
                way.last_violating = Some(stride.last(way.codes.nodes()));
            }
            let violating = way.violates.iter().filter(|_| violating > 0);
            for kind in way.helps.iter().filter(|_| good > 0).chain(violating) {
                let best = self.kinds.best_in(stride, *kind);
                way.best.take(best.score, best.count);
            }
            return ControlFlow::Continue(());
        }
        match stride.level {
            0 => self.enter(stride, way),
            _ => stride.parts(way.codes.nodes()).try_for_each(|part| self.pass(part, way)),
        }
    }

    /// Finds out which kinds there are where preemption may help, if there are others since that was last done.
    fn renew(&self, way: &mut Way<'_>) {
        let changes = Some(self.kinds.changes());
        if std::mem::replace(&mut way.changes, changes) == changes {
            return;
        }
        [&mut way.nothing, &mut way.helps, &mut way.violates].into_iter().for_each(Several::clear);
        for number in 0..self.kinds.len() {
            let kind = *self.kinds.key(number);
            if !way.codes.may_help(usize::from(kind.of)) || self.overruled(kind, way.codes).is_some() {
                continue;
            }
            match kind.found {
                Found::Nothing => way.nothing.push(number),
                Found::Helps => way.helps.push(number),
                Found::Violates => way.violates.push(number),
                Found::Refused(_) => {}
            }
        }
    }

    /// Makes candidates of nodes of a word, one by one.
    fn enter(&self, word: Stride, way: &mut Way<'_>) -> ControlFlow<usize> {
        let (helping, violating) = (self.bits(word, &way.helps), self.bits(word, &way.violates));
        for place in places(word.block, helping | violating) {
            let is_bad = violating & 1 << (place % 64) != 0;
            let entered = if is_bad { &mut way.violating } else { &mut way.good };
            if *entered < way.wanted {
                *entered += 1;
                way.best.take(self.kinds.own(place), 1);
                if is_bad && way.violating == way.wanted {
                    way.last_violating = Some(place);
                }
            }
            if way.good > 0 && way.good + way.violating >= way.wanted {
                return ControlFlow::Break(place);
            }
        }
        ControlFlow::Continue(())
    }

    /// The nodes in a part of a word that are of some kinds.
    fn bits(&self, word: Stride, kinds: &[usize]) -> u64 {
        let all = kinds.iter().fold(0, |all, kind| all | self.kinds.cell(word.block, *kind).bits);
        all & word.range
    }

    /// Finds out about those nodes in a part of a word of which nothing is known.
    fn find_out(&mut self, word: Stride, way: &mut Way<'_>) {
        self.renew(way);
        let unknown = self.bits(word, &way.nothing) | self.kinds.missing(word.block) & word.range;
        for place in places(word.block, unknown) {
            counted::step();
            self.kinds.remove(place);
            let of = way.codes.kind_of(place);
            let (found, is_particular) = match way.codes.of(of) {
                Code::Unschedulable => self.look_at(place, &way.preemptor),
                _ => (Found::Nothing, false),
            };
            self.kinds.insert(place, &Kind { of: of as u16, found, is_particular });
        }
    }

    fn look_at(&mut self, place: usize, preemptor: &Preemptor<'_>) -> (Found, bool) {
        let is_particular = preemptor.is_particular(place);
        let filters = match is_particular {
            true => preemptor.filters,
            false => preemptor.filters.of_nodes(),
        };
        if is_particular {
            self.passing.push(place as u32);
        }
        let found = match (Preemptor { filters, ..*preemptor }).look_at(place) {
            Verdict::Helps(candidate) => {
                self.kinds.set_own(place, Reverse(candidate.cost));
                if candidate.violations > 0 { Found::Violates } else { Found::Helps }
            }
            Verdict::DoesNot(Refusal { plugin, status, .. }) => {
                // Nobody is asked about a node from which nobody can go.
                let order = match plugin {
                    Some(plugin) => filters.order(plugin),
                    None if status.code == Code::Error => usize::MAX,
                    None => 0,
                };
                let said = (order, status);
                let known = self.refusals.iter().position(|known| *known == said);
                let number = known.unwrap_or_else(|| {
                    self.refusals.push(said);
                    self.refusals.len() - 1
                });
                Found::Refused(number as u16)
            }
        };
        (found, is_particular)
    }

    /// What followers say of nodes of a kind, where that comes before what was found out.
    fn overruled(&self, kind: Kind, codes: &KindCodes<'_>) -> Option<Status> {
        if kind.is_particular || kind.found == Found::Nothing {
            return None;
        }
        let (order, status) = codes.rejection_by_followers(usize::from(kind.of))?;
        let own_order = match kind.found {
            Found::Refused(number) => self.refusals[usize::from(number)].0,
            _ => usize::MAX,
        };
        (order < own_order).then_some(status)
    }

    /// What is said of the nodes where preemption may help, none of which would do and all of which were looked at, and of how many;
    /// nothing if looking at one failed.
    fn refused(&self, codes: &KindCodes<'_>) -> Option<Vec<(Status, usize)>> {
        let mut said: Vec<(Status, usize)> = Vec::new();
        for number in (0..self.kinds.len()).filter(|kind| self.kinds.nodes(*kind) > 0) {
            let kind = *self.kinds.key(number);
            if !codes.may_help(usize::from(kind.of)) {
                continue;
            }
            let own = || match kind.found {
                Found::Refused(number) => Some(self.refusals[usize::from(number)].1.clone()),
                _ => None,
            };
            let Some(status) = self.overruled(kind, codes).or_else(own) else { continue };
            match said.iter_mut().find(|(known, _)| *known == status) {
                Some((_, nodes)) => *nodes += self.kinds.nodes(number),
                None => said.push((status, self.kinds.nodes(number))),
            }
        }
        said.iter().all(|(status, _)| status.code != Code::Error).then_some(said)
    }
}

impl Way<'_> {
    /// How many of so many nodes more that would do become candidates, and how many that break budgets; nothing if the last candidate
    /// is among them, or only some of those that break budgets are wanted.
    fn takes(&self, good: usize, violating: usize) -> Option<(usize, usize)> {
        let (all_good, all_violating) = (self.good + good, self.violating + violating);
        if all_good > 0 && all_good + all_violating.min(self.wanted) >= self.wanted {
            return None;
        }
        match violating {
            violating if all_violating <= self.wanted => Some((good, violating)),
            _ if self.violating == self.wanted => Some((good, 0)),
            _ => None,
        }
    }
}

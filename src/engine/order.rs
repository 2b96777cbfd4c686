//! An ordered list of small numbers whose order is known only to the caller: the sorted index of what lies in numbered slots.
//!
//! A list of short sorted runs: four to eight bytes an entry, found by halving, changed by moving at most one run. What is put
//! in is first only laid aside; it gets its place when somebody reads. Many an index is written for long before it is read,
//! if it is at all, and to find a place means to look at a dozen others that are scattered in memory. What is taken out before
//! anybody has read never gets a place.

use std::cell::{Ref, RefCell};
use std::cmp::Ordering;
use std::collections::hash_map::Entry;

use smallvec::SmallVec;

use super::hash::Map;

/// How long a run may get.
const RUN: usize = 512;
/// If more is laid aside, the rest goes into a set: a list would be too much to look through.
const MOST_LISTED: usize = 64;

/// Numbers in the caller's order; none twice.
#[derive(Default, Debug)]
pub struct Order {
    runs: RefCell<Runs>,
    aside: RefCell<Aside>,
}

/// What has no place yet.
#[derive(Default, Debug)]
struct Aside {
    listed: Vec<u32>,
    /// What the list had no room for. Few orders need it, so it is small while it is absent.
    more: Option<Box<Numbers>>,
}

/// A set of numbers, many of which follow one another: slots are given out in a row.
#[derive(Default, Debug)]
struct Numbers {
    /// Which of 64 numbers are there, by what they have in common.
    words: Map<u32, u64>,
    len: usize,
}

/// Sorted runs, none of them empty.
#[derive(Default, Debug)]
struct Runs(SmallVec<[Vec<u32>; 1]>);

impl Order {
    /// Puts a number in that is not there.
    pub fn insert(&mut self, number: u32) {
        self.aside.get_mut().insert(number);
    }

    /// Takes a number out, if it is there. `compare` says how two numbers stand to each other.
    pub fn remove(&mut self, number: u32, compare: impl Fn(u32, u32) -> Ordering) {
        if !self.aside.get_mut().remove(number) {
            self.runs.get_mut().remove(|there| compare(there, number));
        }
    }

    /// All numbers in order. `compare` says how two numbers stand to each other.
    pub fn iter<C: Fn(u32, u32) -> Ordering>(&self, compare: C) -> Iter<'_> {
        self.settle(&compare);
        Iter { runs: self.runs.borrow(), run: 0, at: 0 }
    }

    /// The numbers in order, from the first that does not come before what is sought; `to_sought` says how a number stands to
    /// that.
    pub fn iter_from<C: Fn(u32, u32) -> Ordering>(&self, compare: C, to_sought: &dyn Fn(u32) -> Ordering) -> Iter<'_> {
        self.settle(&compare);
        let runs = self.runs.borrow();
        let run = runs.find(to_sought);
        let before = |there: &u32| to_sought(*there) == Ordering::Less;
        let at = runs.0.get(run).map_or(0, |run| run.partition_point(before));
        Iter { runs, run, at }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.runs.borrow().len() + self.aside.borrow().len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.borrow().0.is_empty() && self.aside.borrow().is_empty()
    }

    /// Gives everything its place.
    fn settle(&self, compare: &impl Fn(u32, u32) -> Ordering) {
        if self.aside.borrow().is_empty() {
            return;
        }
        let (mut numbers, mut runs) = (self.aside.borrow_mut().take(), self.runs.borrow_mut());
        if numbers.len() * 8 >= runs.len() {
            numbers.sort_unstable_by(|left, right| compare(*left, *right));
            runs.merge(&numbers, compare);
        } else {
            for number in numbers.drain(..) {
                runs.insert(number, |there| compare(there, number));
            }
            // Its memory serves for what is laid aside next.
            numbers.shrink_to(MOST_LISTED);
            self.aside.borrow_mut().listed = numbers;
        }
    }
}

impl Aside {
    fn insert(&mut self, number: u32) {
        if self.listed.len() < MOST_LISTED {
            self.listed.push(number);
        } else {
            self.more.get_or_insert_default().insert(number);
        }
    }

    /// Takes a number out; false if it is not there.
    fn remove(&mut self, number: u32) -> bool {
        if let Some(at) = self.listed.iter().position(|there| *there == number) {
            self.listed.swap_remove(at);
            return true;
        }
        self.more.as_mut().is_some_and(|more| more.remove(number))
    }

    /// Takes everything out, in no particular order.
    fn take(&mut self) -> Vec<u32> {
        let mut numbers = std::mem::take(&mut self.listed);
        if let Some(more) = self.more.take() {
            more.add_to(&mut numbers);
        }
        numbers
    }

    fn len(&self) -> usize {
        self.listed.len() + self.more.as_ref().map_or(0, |more| more.len)
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Numbers {
    fn insert(&mut self, number: u32) {
        let word = self.words.entry(number / 64).or_default();
        self.len += usize::from(*word & bit(number) == 0);
        *word |= bit(number);
    }

    /// Takes a number out; false if it is not there.
    fn remove(&mut self, number: u32) -> bool {
        let Entry::Occupied(mut word) = self.words.entry(number / 64) else { return false };
        if *word.get() & bit(number) == 0 {
            return false;
        }
        self.len -= 1;
        *word.get_mut() &= !bit(number);
        if *word.get() == 0 {
            word.remove();
        }
        true
    }

    /// Adds all numbers to a list, in no particular order.
    fn add_to(&self, list: &mut Vec<u32>) {
        list.reserve_exact(self.len);
        for (upper, word) in &self.words {
            list.extend((0..64).filter(|lower| word & bit(*lower) != 0).map(|lower| upper * 64 + lower));
        }
    }
}

/// The place of a number among the 64 of its word.
fn bit(number: u32) -> u64 {
    1 << (number % 64)
}

/// Numbers in order. Nothing can be put in while it lives.
pub struct Iter<'a> {
    runs: Ref<'a, Runs>,
    run: usize,
    at: usize,
}

impl Iterator for Iter<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        loop {
            let numbers = self.runs.0.get(self.run)?;
            if let Some(number) = numbers.get(self.at) {
                self.at += 1;
                return Some(*number);
            }
            (self.run, self.at) = (self.run + 1, 0);
        }
    }
}

impl Runs {
    fn insert(&mut self, number: u32, compare: impl Fn(u32) -> Ordering) {
        let run = self.find(&compare).min(self.0.len().saturating_sub(1));
        let Some(numbers) = self.0.get_mut(run) else {
            self.0.push(vec![number]);
            return;
        };
        let at = numbers.partition_point(|there| compare(*there) == Ordering::Less);
        numbers.insert(at, number);
        if numbers.len() > RUN {
            let rest = numbers.split_off(RUN / 2);
            self.0.insert(run + 1, rest);
        }
    }

    fn remove(&mut self, compare: impl Fn(u32) -> Ordering) {
        let run = self.find(&compare);
        let Some(numbers) = self.0.get_mut(run) else { return };
        if let Ok(at) = numbers.binary_search_by(|there| compare(*there)) {
            numbers.remove(at);
            if numbers.is_empty() {
                self.0.remove(run);
            }
        }
    }

    /// Puts in many that are sorted: everything is laid out anew.
    fn merge(&mut self, sorted: &[u32], compare: &impl Fn(u32, u32) -> Ordering) {
        let mut all = Vec::with_capacity(self.len() + sorted.len());
        let mut more = sorted.iter().copied().peekable();
        for there in std::mem::take(&mut self.0).into_iter().flatten() {
            while let Some(number) = more.next_if(|number| compare(*number, there) == Ordering::Less) {
                all.push(number);
            }
            all.push(there);
        }
        all.extend(more);
        // Half full, as after a split.
        self.0 = all.chunks(if all.len() > RUN { RUN / 2 } else { RUN }).map(<[u32]>::to_vec).collect();
    }

    fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    /// The first run whose last number does not come before what is sought.
    fn find(&self, compare: &dyn Fn(u32) -> Ordering) -> usize {
        self.0.partition_point(|run| run.last().is_some_and(|last| compare(*last) == Ordering::Less))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::random::Seed;

    fn compare(left: u32, right: u32) -> Ordering {
        left.cmp(&right)
    }

    #[test]
    fn an_order_is_that_of_a_sorted_set_whatever_is_put_in_and_taken_out() {
        let mut stream = Seed(5).stream("order", "test");
        let mut order = Order::default();
        let mut set = std::collections::BTreeSet::new();
        for step in 0..20_000 {
            let number = stream.below(4_000) as u32;
            if stream.ratio(2, 3) {
                if set.insert(number) {
                    order.insert(number);
                }
            } else {
                set.remove(&number);
                order.remove(number, compare);
            }
            // At first nobody reads for long, later somebody does ever more often.
            if step > 10_000 && stream.ratio(1, 40_000 - 2 * step) {
                assert!(order.iter(compare).eq(set.iter().copied()), "after {step} steps");
            }
        }
        assert!(set.len() > 2 * RUN, "too few to split");
        assert!(order.iter(compare).eq(set.iter().copied()));
        assert_eq!(order.len(), set.len());
        for from in [0, 1_234, 2_500, 3_999, 5_000] {
            let found = order.iter_from(compare, &|there| there.cmp(&from));
            assert!(found.eq(set.range(from..).copied()), "from {from}");
        }
        for number in 0..4_000 {
            order.remove(number, compare);
        }
        assert!(order.is_empty());
        assert_eq!(order.iter(compare).next(), None);
    }

    #[test]
    fn what_is_put_in_one_by_one_between_reads_is_found() {
        let mut order = Order::default();
        for number in (0..3_000).map(|number| number * 7 % 3_001) {
            order.insert(number);
            let found = order.iter_from(compare, &|there| there.cmp(&number)).next();
            assert_eq!(found, Some(number));
        }
        assert!(order.iter(compare).is_sorted());
        assert_eq!(order.len(), 3_000);
    }
}

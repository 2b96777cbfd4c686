//! An ordered list of small numbers whose order is known only to the caller: the sorted index of what lies in numbered slots.
//!
//! A list of short sorted runs: four to eight bytes an entry, found by halving, changed by moving at most one run.

use std::cmp::Ordering;

use smallvec::SmallVec;

/// How long a run may get.
const RUN: usize = 512;

/// Numbers in the caller's order; none twice.
#[derive(Default, Debug)]
pub struct Order {
    /// None of them empty.
    runs: SmallVec<[Vec<u32>; 1]>,
}

impl Order {
    /// Puts a number in. `compare` says how a number that is there stands to the new one.
    pub fn insert(&mut self, number: u32, compare: impl Fn(u32) -> Ordering) {
        let run = self.run(&compare).min(self.runs.len().saturating_sub(1));
        let Some(numbers) = self.runs.get_mut(run) else {
            self.runs.push(vec![number]);
            return;
        };
        let at = numbers.partition_point(|there| compare(*there) == Ordering::Less);
        numbers.insert(at, number);
        if numbers.len() > RUN {
            let rest = numbers.split_off(RUN / 2);
            self.runs.insert(run + 1, rest);
        }
    }

    /// Takes a number out, if it is there. `compare` says how a number that is there stands to it.
    pub fn remove(&mut self, compare: impl Fn(u32) -> Ordering) {
        let run = self.run(&compare);
        let Some(numbers) = self.runs.get_mut(run) else { return };
        if let Ok(at) = numbers.binary_search_by(|there| compare(*there)) {
            numbers.remove(at);
            if numbers.is_empty() {
                self.runs.remove(run);
            }
        }
    }

    /// All numbers in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.runs.iter().flatten().copied()
    }

    /// The numbers in order, from the first that does not come before what is sought.
    pub fn iter_from<'a>(&'a self, compare: &dyn Fn(u32) -> Ordering) -> impl Iterator<Item = u32> + use<'a> {
        let run = self.run(compare);
        let first = self.runs.get(run).map_or(0, |run| run.partition_point(|there| compare(*there) == Ordering::Less));
        self.runs[run..].iter().flatten().skip(first).copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.runs.iter().map(Vec::len).sum()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The first run whose last number does not come before what is sought.
    fn run(&self, compare: &dyn Fn(u32) -> Ordering) -> usize {
        self.runs.partition_point(|run| run.last().is_some_and(|last| compare(*last) == Ordering::Less))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::random::Seed;

    #[test]
    fn an_order_is_that_of_a_sorted_set_whatever_is_put_in_and_taken_out() {
        let mut stream = Seed(5).stream("order", "test");
        let mut order = Order::default();
        let mut set = std::collections::BTreeSet::new();
        for _ in 0..20_000 {
            let number = stream.below(4_000) as u32;
            if stream.ratio(2, 3) {
                if set.insert(number) {
                    order.insert(number, |there| there.cmp(&number));
                }
            } else {
                set.remove(&number);
                order.remove(|there| there.cmp(&number));
            }
        }
        assert!(set.len() > 2 * RUN, "too few to split");
        assert!(order.iter().eq(set.iter().copied()));
        assert_eq!(order.len(), set.len());
        for from in [0, 1_234, 2_500, 3_999, 5_000] {
            assert!(order.iter_from(&|there| there.cmp(&from)).eq(set.range(from..).copied()), "from {from}");
        }
        for number in 0..4_000 {
            order.remove(|there| there.cmp(&number));
        }
        assert!(order.is_empty());
        assert_eq!(order.iter().next(), None);
    }
}

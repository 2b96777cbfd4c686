//! Sets of completion indexes as ranges, which is how a Job's status writes them: `0-2,4`
//! (kube-controller-manager, job: `orderedIntervals`).

use std::fmt;

/// A set of indexes: ranges in order, with a gap between each two.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Indexes(Vec<Range>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Range {
    first: u32,
    last: u32,
}

impl Indexes {
    /// Reads what a status says. What is no range is passed over, and so is what is not below `completions`.
    pub fn parse(text: &str, completions: u32) -> Self {
        let mut ranges: Vec<Range> = Vec::new();
        for part in text.split(',').filter(|_| !text.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let Ok(first) = first.parse::<u32>() else { continue };
            if first >= completions {
                break;
            }
            let Ok(last) = last.parse::<u32>() else { continue };
            let last = last.min(completions - 1);
            match ranges.last_mut() {
                Some(before) if before.last + 1 == first => before.last = last,
                _ => ranges.push(Range { first, last }),
            }
        }
        Indexes(ranges)
    }

    /// A set of indexes of which none comes before a smaller one.
    pub fn of(indexes: impl IntoIterator<Item = u32>) -> Self {
        let mut set = Indexes::default();
        indexes.into_iter().for_each(|index| set.push(Range { first: index, last: index }));
        set
    }

    /// A set of indexes in any order, perhaps with repetitions.
    pub fn of_any(indexes: impl IntoIterator<Item = u32>) -> Self {
        let mut indexes: Vec<u32> = indexes.into_iter().collect();
        indexes.sort_unstable();
        Indexes::of(indexes)
    }

    /// All that are in one of both.
    pub fn union(&self, other: &Indexes) -> Indexes {
        let mut result = Indexes::default();
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let Some(next) = match (left.peek(), right.peek()) {
            (Some(one), Some(two)) if one.first < two.first => left.next(),
            (Some(_), None) => left.next(),
            _ => right.next(),
        } {
            result.push(*next);
        }
        result
    }

    /// Adds a range that does not begin before any other one.
    fn push(&mut self, range: Range) {
        match self.0.last_mut() {
            Some(last) if range.first <= last.last.saturating_add(1) => last.last = last.last.max(range.last),
            _ => self.0.push(range),
        }
    }

    /// How many there are.
    pub fn total(&self) -> i32 {
        self.0.iter().map(|range| (range.last - range.first + 1) as i32).sum()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if an index is among them.
    pub fn has(&self, index: u32) -> bool {
        let place = self.0.partition_point(|range| range.last < index);
        self.0.get(place).is_some_and(|range| range.first <= index)
    }

    /// The first indexes below `completions` that are not among these; at most `count`.
    pub fn missing(&self, count: usize, completions: u32) -> Vec<u32> {
        let mut found = Vec::with_capacity(count);
        let mut candidate = 0;
        for range in &self.0 {
            let end = range.first.min(completions);
            found.extend((candidate..end).take(count - found.len()));
            candidate = candidate.max(range.last + 1);
        }
        found.extend((candidate..completions).take(count - found.len()));
        found
    }

    /// How many are in both.
    pub fn common(&self, other: &Indexes) -> i32 {
        let (mut left, mut right, mut common) = (0, 0, 0);
        while let (Some(one), Some(two)) = (self.0.get(left), other.0.get(right)) {
            let (first, last) = (one.first.max(two.first), one.last.min(two.last));
            if first <= last {
                common += (last - first + 1) as i32;
            }
            left += usize::from(one.last <= two.last);
            right += usize::from(two.last <= one.last);
        }
        common
    }
}

/// `0,2-4`: a range of two is written as two indexes.
impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, range) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            match range.last - range.first {
                0 => write!(f, "{comma}{}", range.first)?,
                1 => write!(f, "{comma}{},{}", range.first, range.last)?,
                _ => write!(f, "{comma}{}-{}", range.first, range.last)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::btree_set;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn ranges_are_written_as_the_status_shows_them() {
        assert_eq!(Indexes::of([0, 1, 3, 4, 5, 9]).to_string(), "0,1,3-5,9");
        assert_eq!(Indexes::parse("0,1,3-5,9", 10).to_string(), "0,1,3-5,9");
        assert_eq!(Indexes::parse("0,x,3-7,9", 6).to_string(), "0,3-5");
        assert_eq!(Indexes::parse("", 6).total(), 0);
    }

    proptest! {
        #[test]
        fn ranges_are_sets(
            one in btree_set(0..40u32, 0..30), two in btree_set(0..40u32, 0..30), completions in 0..50u32, count in 0..20usize,
        ) {
            let (left, right) = (Indexes::of(one.iter().copied()), Indexes::of(two.iter().copied()));
            let both: BTreeSet<u32> = one.union(&two).copied().collect();
            prop_assert_eq!(left.union(&right), Indexes::of(both.iter().copied()));
            prop_assert_eq!(Indexes::of_any(one.iter().rev().chain(&two).copied()), left.union(&right));
            prop_assert_eq!(left.total() as usize, one.len());
            prop_assert_eq!(left.common(&right) as usize, one.intersection(&two).count());
            prop_assert!((0..50).all(|index| left.has(index) == one.contains(&index)));
            let missing: Vec<u32> = (0..completions).filter(|index| !one.contains(index)).take(count).collect();
            prop_assert_eq!(left.missing(count, completions), missing);
            prop_assert_eq!(Indexes::parse(&left.to_string(), 40), left);
        }
    }
}

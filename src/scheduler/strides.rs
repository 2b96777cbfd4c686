//! The list of nodes cut into blocks: 64 places are a word, [`FAN`] words a block, as many blocks a larger one, and so on. A stretch of
//! the list is gone over in strides, each a block as large as fits, so that the number of steps grows with the logarithm of
//! the length.

use smallvec::SmallVec;

/// So many blocks of one level make one of the next.
pub(super) const FAN: usize = 8;

/// A block of places, or a part of a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stride {
    /// Zero for a word.
    pub level: usize,
    /// The block's number among those of its level.
    pub block: usize,
    /// The places of a word that are meant, as bits; all, above words.
    pub range: u64,
}

/// So many places from a place on, and round, in a list of so many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// The first one.
    pub start: usize,
    /// How many they are.
    pub length: usize,
    /// How many there are.
    pub count: usize,
}

/// How many places a block has.
#[inline]
pub(super) const fn places_in(level: usize) -> usize {
    64 << (level * FAN.trailing_zeros() as usize)
}

/// The level of the one block that holds so many places.
pub(super) fn top(count: usize) -> usize {
    (0..).find(|level| places_in(*level) >= count).unwrap_or(0)
}

/// How many blocks of a level so many places make.
pub(super) fn blocks(level: usize, count: usize) -> usize {
    count.div_ceil(places_in(level))
}

impl Stride {
    /// The blocks of the level below, in a list of so many places.
    pub(super) fn parts(self, count: usize) -> impl Iterator<Item = Stride> {
        let level = self.level - 1;
        let (first, end) = (self.block * FAN, (self.block * FAN + FAN).min(blocks(level, count)));
        (first..end).map(move |block| Stride { level, block, range: u64::MAX })
    }

    /// The last of its places, in a list of so many.
    pub(super) fn last(self, count: usize) -> usize {
        let end = (self.block + 1) * places_in(self.level) - self.range.leading_zeros() as usize;
        end.min(count) - 1
    }
}

impl Window {
    /// The whole list, from a place on.
    pub(super) fn round(start: usize, count: usize) -> Self {
        Window { start, length: count, count }
    }

    /// The strides in which the places are gone over in their order, one of them left out if it is named.
    pub(super) fn strides(self, without: Option<usize>) -> impl Iterator<Item = Stride> {
        let (count, end) = (self.count, self.start + self.length);
        let mut stretches: SmallVec<[(usize, usize); 3]> = SmallVec::new();
        for (from, to) in [(self.start, end.min(count)), (0, end.saturating_sub(count))] {
            match without.filter(|place| (from..to).contains(place)) {
                Some(place) => stretches.extend([(from, place), (place + 1, to)]),
                None => stretches.push((from, to)),
            }
        }
        let top = top(count);
        stretches.into_iter().flat_map(move |(at, end)| Strides { at, end, count, top })
    }
}

/// The strides of a stretch.
struct Strides {
    at: usize,
    end: usize,
    count: usize,
    top: usize,
}

impl Iterator for Strides {
    type Item = Stride;

    fn next(&mut self) -> Option<Stride> {
        let Strides { at, end, count, top } = *self;
        if at >= end {
            return None;
        }
        // After the last place nothing comes, so that a block which only begins there is whole.
        let room = if end == count { usize::MAX } else { end - at };
        if at % 64 != 0 || room < 64 {
            let (word, last) = (at / 64, end.min((at / 64 + 1) * 64) - 1);
            self.at = last + 1;
            let range = u64::MAX << (at % 64) & u64::MAX >> (63 - last % 64);
            return Some(Stride { level: 0, block: word, range });
        }
        let fits = |level: &usize| at % places_in(*level) == 0 && room >= places_in(*level);
        let level = (1..=top).take_while(fits).last().unwrap_or(0);
        self.at = at + places_in(level);
        Some(Stride { level, block: at / places_in(level), range: u64::MAX })
    }
}

#[cfg(test)]
pub(super) mod counted {
    //! How many steps were made, for tests: blocks that were looked at, and nodes.

    use std::cell::Cell;

    thread_local! {
        static STEPS: Cell<u64> = const { Cell::new(0) };
    }

    /// One more.
    pub fn step() {
        STEPS.set(STEPS.get() + 1);
    }

    /// How many there were since this was last asked.
    pub fn take() -> u64 {
        STEPS.take()
    }
}

#[cfg(not(test))]
pub(super) mod counted {
    //! Steps are counted in tests alone.

    #[inline]
    pub fn step() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::bits::places;

    fn places_of(stride: Stride, count: usize) -> Vec<usize> {
        if stride.level == 0 {
            return places(stride.block, stride.range).filter(|place| *place < count).collect();
        }
        stride.parts(count).flat_map(|part| places_of(part, count)).collect()
    }

    #[test]
    fn a_window_is_gone_over_once_in_its_order_but_for_the_place_that_is_left_out() {
        for (start, length, count, without) in [
            (0, 130, 130, None),
            (70, 130, 130, Some(70)),
            (129, 2, 130, Some(0)),
            (64, 64, 128, Some(100)),
            (5, 3, 64, None),
            (0, 0, 64, None),
            (1_000, 20_000, 20_000, Some(999)),
            (512, 4_096 + 512 + 64, 20_000, Some(4_096)),
        ] {
            let window = Window { start, length, count };
            let seen: Vec<usize> = window.strides(without).flat_map(|stride| places_of(stride, count)).collect();
            let all = (start..start + length).map(|place| place % count);
            let expected: Vec<usize> = all.filter(|place| Some(*place) != without).collect();
            assert_eq!(seen, expected, "{window:?}");
        }
    }

    #[test]
    fn the_number_of_strides_grows_with_the_logarithm() {
        let most = |count: usize| {
            let all = |start| Window::round(start, count).strides(Some(count / 3)).count();
            (0..count).step_by(61).map(all).max()
        };
        assert_eq!([1_000, 20_000, 1_000_000].map(most), [Some(18), Some(35), Some(62)]);
    }
}

//! A set of places in the list of nodes, 64 to a word.

/// Places, as bits.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// The empty set of so many places.
    pub fn none(places: usize) -> Self {
        Bits(vec![0; places.div_ceil(64)])
    }

    /// All of so many places.
    pub fn all(places: usize) -> Self {
        let mut bits = Bits(vec![u64::MAX; places.div_ceil(64)]);
        if let (Some(last), used @ 1..) = (bits.0.last_mut(), places % 64) {
            *last = (1 << used) - 1;
        }
        bits
    }

    /// True if a place is in the set.
    #[inline]
    pub fn contains(&self, place: usize) -> bool {
        self.0[place / 64] & 1 << (place % 64) != 0
    }

    /// Puts a place in, or takes it out.
    #[inline]
    pub fn set(&mut self, place: usize, is_in: bool) {
        let bit = 1 << (place % 64);
        let word = &mut self.0[place / 64];
        *word = if is_in { *word | bit } else { *word & !bit };
    }

    /// Takes all places out.
    pub fn clear(&mut self) {
        self.0.fill(0);
    }

    /// Puts those places of a word in whose bits are set.
    #[inline]
    pub fn add_word(&mut self, word: usize, bits: u64) {
        self.0[word] |= bits;
    }

    /// Puts all places of another set in.
    pub fn add_all(&mut self, other: &Bits) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word |= other);
    }

    /// Takes all places of another set out.
    pub fn remove_all(&mut self, other: &Bits) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word &= !other);
    }

    /// How many places are in the set.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// True if none is.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The place in the set that has a number among them, in order.
    pub fn nth(&self, mut number: usize) -> Option<usize> {
        for (word, bits) in self.0.iter().enumerate() {
            let here = bits.count_ones() as usize;
            if number < here {
                return Some(word * 64 + nth_bit(*bits, number));
            }
            number -= here;
        }
        None
    }

    /// The places in the set, in order.
    pub fn places(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(word, bits)| places(word, *bits))
    }

    /// The words, the first places in the lowest bits of the first one.
    #[inline]
    pub fn words(&self) -> &[u64] {
        &self.0
    }
}

/// The words over which a stretch of places goes that begins somewhere and continues at the front, with the bits that are in it.
pub fn words(start: usize, length: usize, count: usize) -> impl Iterator<Item = (usize, u64)> {
    let end = start + length;
    stretch(start, end.min(count)).chain(stretch(0, end.saturating_sub(count)))
}

fn stretch(begin: usize, end: usize) -> impl Iterator<Item = (usize, u64)> {
    (begin / 64..end.div_ceil(64)).filter(move |_| begin < end).map(move |word| {
        let (first, last) = (begin.max(word * 64), end.min((word + 1) * 64));
        (word, u64::MAX << (first % 64) & u64::MAX >> (63 - (last - 1) % 64))
    })
}

/// The places that bits of a word stand for.
#[inline]
pub fn places(word: usize, mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = (bits != 0).then(|| word * 64 + bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(place)
    })
}

/// The lowest so many bits of a word.
pub fn lowest(bits: u64, count: usize) -> u64 {
    let mut rest = bits;
    for _ in 0..count {
        rest &= rest.wrapping_sub(1);
    }
    bits & !rest
}

/// Where in a word the bit is that has a number among those that are set; there must be as many.
pub fn nth_bit(bits: u64, number: usize) -> usize {
    let mut rest = bits;
    for _ in 0..number {
        rest &= rest - 1;
    }
    rest.trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_goes_round_and_each_place_is_in_it_once() {
        for (start, length, count) in
            [(0, 130, 130), (70, 130, 130), (129, 2, 130), (64, 64, 128), (5, 3, 64), (0, 0, 64)]
        {
            let seen: Vec<usize> = words(start, length, count).flat_map(|(word, bits)| places(word, bits)).collect();
            let expected: Vec<usize> = (start..start + length).map(|place| place % count).collect();
            assert_eq!(seen, expected, "{start} {length} {count}");
        }
    }

    #[test]
    fn bits_are_found_by_their_number() {
        let mut set = Bits::none(200);
        for place in [3, 64, 65, 199] {
            set.set(place, true);
        }
        let found: Vec<Option<usize>> = (0..5).map(|number| set.nth(number)).collect();
        assert_eq!(found, [Some(3), Some(64), Some(65), Some(199), None]);
        assert_eq!((set.len(), lowest(0b1011, 2), nth_bit(0b1011, 2)), (4, 0b11, 3));
    }
}

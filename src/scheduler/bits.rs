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

    /// Puts all places of another set in, or takes them out.
    pub fn set_all(&mut self, others: &Bits, are_in: bool) {
        for (word, other) in self.0.iter_mut().zip(&others.0) {
            *word = if are_in { *word | other } else { *word & !other };
        }
    }

    /// The words, the first places in the lowest bits of the first one.
    #[inline]
    pub fn words(&self) -> &[u64] {
        &self.0
    }
}

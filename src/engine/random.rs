//! Chance: a stream of its own for every entity and purpose, all derived from one seed.
//!
//! One draw more in one place never shifts the numbers of another. All sampling is done here with integers, so that
//! no version of a dependency and no platform can change a value.

use super::distribution::Distribution;
use super::time::SimDuration;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The seed of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seed(pub u64);

/// A probability as a ratio of whole numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ratio {
    numerator: u32,
    denominator: u32,
}

impl Ratio {
    /// What never happens.
    pub const NEVER: Ratio = Ratio { numerator: 0, denominator: 1 };
    /// What always happens.
    pub const ALWAYS: Ratio = Ratio { numerator: 1, denominator: 1 };

    /// The probability `numerator / denominator`; none if it would be above one or the denominator is zero.
    pub const fn new(numerator: u32, denominator: u32) -> Option<Ratio> {
        if denominator == 0 || numerator > denominator { None } else { Some(Ratio { numerator, denominator }) }
    }

    /// Whether this is zero.
    pub const fn is_never(self) -> bool {
        self.numerator == 0
    }
}

/// A stream of random numbers (ChaCha8) that belongs to one entity and one purpose.
///
/// Until its first draw it is only its key, so a million entities may each hold streams that they never use.
#[derive(Clone, Debug)]
pub struct Stream {
    core: Core,
}

#[derive(Clone, Debug)]
enum Core {
    /// Nothing has been drawn.
    Unopened([u8; 32]),
    /// The generator with its block of prepared numbers; in a box because it takes more than 300 bytes.
    Open(Box<ChaCha8Rng>),
}

impl Seed {
    /// The stream of `entity` (a name, such as `etcd-0`) for `purpose` (such as `election`).
    pub fn stream(self, entity: &str, purpose: &str) -> Stream {
        self.stream_of(&[entity], &[purpose])
    }

    /// The stream of an entity for a purpose, both in parts: the same as that of the parts put together.
    pub fn stream_of(self, entity: &[&str], purpose: &[&str]) -> Stream {
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&self.0.to_le_bytes());
        key[8..16].copy_from_slice(&name_hash(entity, 0xcbf2_9ce4_8422_2325).to_le_bytes());
        key[16..24].copy_from_slice(&name_hash(purpose, 0x9e37_79b9_7f4a_7c15).to_le_bytes());
        key[24..28].copy_from_slice(&length(entity).to_le_bytes());
        key[28..].copy_from_slice(&length(purpose).to_le_bytes());
        Stream { core: Core::Unopened(key) }
    }
}

/// FNV-1a over the bytes of a name, from a chosen basis.
fn name_hash(parts: &[&str], basis: u64) -> u64 {
    let add = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    parts.iter().fold(basis, |hash, part| part.bytes().fold(hash, add))
}

fn length(parts: &[&str]) -> u32 {
    parts.iter().map(|part| part.len() as u32).sum()
}

impl Stream {
    /// The next 64 bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        match &mut self.core {
            Core::Open(generator) => generator.next_u64(),
            Core::Unopened(key) => {
                let mut generator = Box::new(ChaCha8Rng::from_seed(*key));
                let bits = generator.next_u64();
                self.core = Core::Open(generator);
                bits
            }
        }
    }

    /// A whole number below `bound`, each equally likely (Lemire's multiplication with rejection). `bound` must not be zero.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing is below zero");
        loop {
            let wide = u128::from(self.bits()) * u128::from(bound);
            // The exact threshold costs a division and is below `bound`, so most draws need not know it.
            if wide as u64 >= bound || wide as u64 >= bound.wrapping_neg() % bound {
                return (wide >> 64) as u64;
            }
        }
    }

    /// A whole number from `low` to `high`, both included. `low` must not be above `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "an empty range");
        match (high - low).checked_add(1) {
            Some(width) => low + self.below(width),
            None => self.bits(),
        }
    }

    /// True with probability `numerator / denominator`. `denominator` must not be zero.
    pub fn ratio(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }

    /// True with the given probability.
    pub fn happens(&mut self, probability: Ratio) -> bool {
        self.ratio(u64::from(probability.numerator), u64::from(probability.denominator))
    }

    /// One of the items, each equally likely; `None` if there are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        if items.is_empty() {
            return None;
        }
        items.get(self.below(items.len() as u64) as usize)
    }

    /// Puts the items into an order of which each is equally likely (Fisher and Yates, from the end).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for unsettled in (2..=items.len()).rev() {
            let chosen = self.below(unsettled as u64) as usize;
            items.swap(unsettled - 1, chosen);
        }
    }

    /// A length of time as the distribution has it.
    #[inline]
    pub fn sample(&mut self, distribution: &Distribution) -> SimDuration {
        distribution.sample(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream() -> Stream {
        Seed(7).stream("etcd-0", "election")
    }

    #[test]
    fn streams_are_pinned() {
        let mut stream = stream();
        let drawn = [stream.bits(), stream.bits(), stream.bits()];
        assert_eq!(drawn, [12479491973344050327, 4615475199543476237, 9531279159820340515]);
        let small: Vec<u64> = (0..12).map(|_| stream.below(10)).collect();
        assert_eq!(small, [7, 5, 5, 1, 8, 4, 7, 4, 2, 7, 3, 6]);
        let ranged: Vec<u64> = (0..6).map(|_| stream.between(1000, 1999)).collect();
        assert_eq!(ranged, [1659, 1377, 1589, 1810, 1259, 1981]);
        let coins: String = (0..24).map(|_| if stream.ratio(1, 3) { '1' } else { '0' }).collect();
        assert_eq!(coins, "000010000010100101101000");
        assert_eq!(
            (stream.below(1 << 63 | 1), stream.between(0, u64::MAX)),
            (8092642949982769748, 15960792133573824033)
        );
    }

    #[test]
    fn shuffles_and_picks_are_pinned() {
        let mut stream = stream();
        let mut letters = *b"abcdefghij";
        stream.shuffle(&mut letters);
        assert_eq!(std::str::from_utf8(&letters), Ok("bfjaidhecg"));
        let picked: Vec<u8> = (0..8).filter_map(|_| stream.pick(b"xyz").copied()).collect();
        assert_eq!(std::str::from_utf8(&picked), Ok("zyxzxyyy"));
        assert_eq!(stream.pick::<u8>(&[]), None);
    }

    #[test]
    fn a_stream_of_names_in_parts_is_that_of_the_whole_names() {
        let parts = Seed(42).stream_of(&["default", "/", "web"], &["start ", "", "1"]).bits();
        assert_eq!(parts, Seed(42).stream("default/web", "start 1").bits());
    }

    #[test]
    fn every_name_purpose_and_seed_has_a_stream_of_its_own() {
        let first = |seed: u64, entity, purpose| Seed(seed).stream(entity, purpose).bits();
        let drawn =
            [first(7, "a", "b"), first(8, "a", "b"), first(7, "b", "a"), first(7, "ab", ""), first(7, "", "ab")];
        let different: std::collections::BTreeSet<u64> = drawn.into_iter().collect();
        assert_eq!(different.len(), drawn.len());
    }

    #[test]
    fn a_copy_draws_what_the_original_draws() {
        let mut original = stream();
        let mut unopened = original.clone();
        assert_eq!(original.bits(), unopened.bits());
        let mut opened = original.clone();
        assert_eq!(original.bits(), opened.bits());
    }

    #[test]
    fn small_numbers_are_equally_likely() {
        let mut stream = stream();
        let mut counts = [0u32; 6];
        (0..60_000).for_each(|_| counts[stream.below(6) as usize] += 1);
        // Five standard deviations of a binomial count of 60,000 at one in six are 456.
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 456), "{counts:?}");
    }

    proptest! {
        #[test]
        fn a_number_below_a_bound_is_below_it(bound in 1u64.., seed in any::<u64>()) {
            let mut stream = Seed(seed).stream("", "");
            prop_assert!((0..20).all(|_| stream.below(bound) < bound));
        }

        #[test]
        fn a_shuffle_keeps_all_items(length in 0usize..50, seed in any::<u64>()) {
            let mut items: Vec<usize> = (0..length).collect();
            Seed(seed).stream("", "").shuffle(&mut items);
            items.sort_unstable();
            prop_assert_eq!(items, (0..length).collect::<Vec<_>>());
        }
    }
}

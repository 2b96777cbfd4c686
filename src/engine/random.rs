//! Chance: a stream of its own for every entity and purpose, all derived from one seed.
//!
//! One draw more in one place never shifts the numbers of another. All sampling is done here with integers, so that
//! no version of a dependency and no platform can change a value.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The seed of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seed(pub u64);

/// A stream of random numbers (ChaCha8) that belongs to one entity and one purpose.
#[derive(Clone, Debug)]
pub struct Stream {
    core: ChaCha8Rng,
}

impl Seed {
    /// The stream of `entity` (a name, such as `etcd-0`) for `purpose` (such as `election`).
    pub fn stream(self, entity: &str, purpose: &str) -> Stream {
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&self.0.to_le_bytes());
        key[8..16].copy_from_slice(&name_hash(entity, 0xcbf2_9ce4_8422_2325).to_le_bytes());
        key[16..24].copy_from_slice(&name_hash(purpose, 0x9e37_79b9_7f4a_7c15).to_le_bytes());
        key[24..28].copy_from_slice(&(entity.len() as u32).to_le_bytes());
        key[28..].copy_from_slice(&(purpose.len() as u32).to_le_bytes());
        Stream { core: ChaCha8Rng::from_seed(key) }
    }
}

/// FNV-1a over the bytes of a name, from a chosen basis.
fn name_hash(name: &str, basis: u64) -> u64 {
    name.bytes().fold(basis, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

impl Stream {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.core.next_u64()
    }

    /// A whole number below `bound`, each equally likely (Lemire's multiplication with rejection). `bound` must not be zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing is below zero");
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let wide = u128::from(self.bits()) * u128::from(bound);
            if wide as u64 >= threshold {
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
}

//! Hash tables for lookups only, with a fixed and fast hash function.
//!
//! The order in which such a table is iterated depends on the hash function, on the table's capacity and on the
//! standard library. It must never become observable: nothing may be sent, scheduled, drawn, written or added up in
//! that order. Whoever needs an order uses a `BTreeMap`, or sorts first. Not for keys chosen by an adversary.

use std::hash::{BuildHasherDefault, Hasher};

/// A hash map for lookups. Create it with `Map::default()`. Its iteration order must not be observable.
#[expect(clippy::disallowed_types, reason = "the hash function is fixed here, once for the whole crate")]
pub type Map<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<FixedHasher>>;

/// A hash set for lookups. Create it with `Set::default()`. Its iteration order must not be observable.
#[expect(clippy::disallowed_types, reason = "the hash function is fixed here, once for the whole crate")]
pub type Set<K> = std::collections::HashSet<K, BuildHasherDefault<FixedHasher>>;

/// An odd number with well-mixed bits: the fractional part of the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiply and fold: a hash of a few nanoseconds for numbers and short names.
#[derive(Clone, Default, Debug)]
pub struct FixedHasher {
    state: u64,
}

/// Both halves of the product of two words, folded into one: every bit of the input reaches every bit of the result.
#[inline]
pub(super) fn fold_product(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    product as u64 ^ (product >> 64) as u64
}

/// The last eight bytes, or all of fewer, as a number. Read without copying byte by byte: most names are short.
#[inline]
fn last_word(bytes: &[u8]) -> u64 {
    if let Some(last) = bytes.last_chunk() {
        u64::from_le_bytes(*last)
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
    } else if let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) {
        u64::from_le_bytes([first, bytes[bytes.len() / 2], last, 0, 0, 0, 0, 0])
    } else {
        0
    }
}

impl Hasher for FixedHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let word: [u8; 8] = word.try_into().expect("chunks of eight bytes have eight bytes");
            self.write_u64(u64::from_le_bytes(word));
        }
        self.write_u64(last_word(bytes) ^ (bytes.len() as u64) << 56);
    }

    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    #[inline]
    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.state = fold_product(self.state.rotate_left(23) ^ value ^ 0x2545_f491_4f6c_dd1d, MULTIPLIER);
    }

    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::Hash;

    fn hash(value: impl Hash) -> u64 {
        let mut hasher = FixedHasher::default();
        value.hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn a_table_finds_what_was_put_in() {
        let mut table: Map<(u32, u32), u32> = Map::default();
        for key in 0..10_000 {
            table.insert((key, key * 3), key);
        }
        assert!((0..10_000).all(|key| table.get(&(key, key * 3)) == Some(&key)));
        assert_eq!(table.get(&(1, 1)), None);
    }

    #[test]
    fn near_keys_spread_over_low_and_high_bits() {
        let numbers = (0..4096u64).map(|number| hash(number << 8));
        let names = (0..4096u64).map(|number| hash(format!("node-{number:04}")));
        for hashes in [numbers.collect::<Vec<_>>(), names.collect()] {
            for shift in [0, 25, 52] {
                let buckets: std::collections::BTreeSet<u64> =
                    hashes.iter().map(|hash| hash >> shift & 0xfff).collect();
                // 4096 keys thrown at random into 4096 buckets fill 63 % of them.
                assert!(buckets.len() > 2048, "{} buckets from bit {shift}", buckets.len());
            }
        }
    }

    #[test]
    fn bytes_hash_by_content_and_length() {
        let distinct = ["", "a", "a\0", "aaaaaaaa", "aaaaaaaa\0", "aaaaaaaaa"].map(hash);
        let different: std::collections::BTreeSet<u64> = distinct.into_iter().collect();
        assert_eq!(different.len(), distinct.len());
    }
}

//! The digest of a run: one number that is different as soon as one event differs.
//!
//! It depends on nothing but the words fed to it and their order, so debug and release builds and all platforms agree.
//! It detects differences; it does not withstand forgery.

use super::hash::fold_product;
use std::fmt;

/// Odd constants with about as many ones as zeros; any would do, but they must never change.
const KEYS: [u64; 5] =
    [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db, 0x8ebc_6af0_9c88_c6e3, 0x5899_65cc_7537_4cc3, 0x1d8e_4e27_c47d_124f];

/// A rolling 64-bit digest, shown as sixteen hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Digest(0x6b75_6265_7369_6d31)
    }
}

impl Digest {
    /// Takes in four words. One event is one call.
    #[inline]
    pub fn fold(&mut self, words: [u64; 4]) {
        // Only one multiplication depends on the digest so far; the two others of an event overlap with it.
        let left = fold_product(words[0] ^ KEYS[0], words[1] ^ KEYS[1]);
        let right = fold_product(words[2] ^ KEYS[2], words[3] ^ KEYS[3]);
        self.0 = fold_product(self.0 ^ left, KEYS[4]) ^ right.rotate_left(17);
    }

    /// Takes in bytes, such as a file.
    pub fn fold_bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(32) {
            let mut padded = [0; 32];
            padded[..chunk.len()].copy_from_slice(chunk);
            let word = |index: usize| {
                let bytes: [u8; 8] = padded[index * 8..][..8].try_into().expect("eight bytes of thirty-two");
                u64::from_le_bytes(bytes)
            };
            self.fold([word(0), word(1), word(2), word(3)]);
        }
        self.fold([bytes.len() as u64, 0, 0, 0]);
    }

    /// The number itself.
    pub const fn value(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest(events: &[[u64; 4]]) -> Digest {
        let mut digest = Digest::default();
        events.iter().for_each(|&words| digest.fold(words));
        digest
    }

    #[test]
    fn digests_are_pinned() {
        assert_eq!(digest(&[]).to_string(), "6b75626573696d31");
        assert_eq!(digest(&[[1, 2, 3, 4]]).to_string(), "68a8efc768127a3d");
        assert_eq!(digest(&[[1, 2, 3, 4], [5, 6, 7, 8]]).to_string(), "438c9cba15e3aee6");
        let mut text = Digest::default();
        text.fold_bytes(b"the same scenario, seed and version");
        assert_eq!(text.to_string(), "7d85813b264f44d9");
    }

    proptest! {
        #[test]
        fn any_single_changed_bit_changes_the_digest(
            events in prop::collection::vec(any::<[u64; 4]>(), 1..20), which in any::<usize>(), word in 0usize..4, bit in 0u32..64,
        ) {
            let mut other = events.clone();
            other[which % events.len()][word] ^= 1 << bit;
            prop_assert_ne!(digest(&events), digest(&other));
        }

        #[test]
        fn order_matters(first in any::<[u64; 4]>(), second in any::<[u64; 4]>()) {
            prop_assume!(first != second);
            prop_assert_ne!(digest(&[first, second]), digest(&[second, first]));
        }

        #[test]
        fn padding_is_not_content(bytes in prop::collection::vec(any::<u8>(), 0..70)) {
            let (mut plain, mut padded) = (Digest::default(), Digest::default());
            plain.fold_bytes(&bytes);
            padded.fold_bytes(&[&bytes[..], &[0]].concat());
            prop_assert_ne!(plain, padded);
        }
    }
}

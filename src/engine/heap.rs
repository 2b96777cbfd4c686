//! A 4-ary min-heap of 128-bit keys, laid out so that the four children of a node share one cache line.
//!
//! It knows nothing of events: [`super::queue`] packs time, sequence and slot into a key and keeps the events elsewhere.

/// Four sibling keys. Positions that hold nothing hold [`EMPTY`], so that the least of four needs no length check.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
struct Siblings([u128; 4]);

/// Greater than every key that may be stored.
const EMPTY: u128 = u128::MAX;

/// Where the root lies: at the end of the first line, so that the children of position `p` are exactly line `p - 2`.
const ROOT: usize = 3;

/// The heap. Keys must be below `u128::MAX`.
#[derive(Clone, Debug)]
pub(super) struct KeyHeap {
    lines: Vec<Siblings>,
    len: usize,
}

impl KeyHeap {
    /// A heap without keys.
    pub(super) fn new() -> Self {
        KeyHeap { lines: vec![Siblings([EMPTY; 4])], len: 0 }
    }

    /// How many keys there are.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The least key, without taking it; greater than every key if there is none.
    #[inline]
    pub(super) fn least(&self) -> u128 {
        self.lines[0].0[ROOT]
    }

    /// Adds a key.
    #[inline]
    pub(super) fn push(&mut self, key: u128) {
        debug_assert!(key != EMPTY, "this key stands for an empty position");
        let mut position = ROOT + self.len;
        if position >> 2 == self.lines.len() {
            self.lines.push(Siblings([EMPTY; 4]));
        }
        self.len += 1;
        while position > ROOT {
            let parent = (position >> 2) + 2;
            let above = self.get(parent);
            if above <= key {
                break;
            }
            self.set(position, above);
            position = parent;
        }
        self.set(position, key);
    }

    /// Takes the least key away. There must be one.
    #[inline]
    pub(super) fn pop(&mut self) -> u128 {
        assert!(self.len > 0, "a key is taken from an empty heap");
        let least = self.least();
        self.len -= 1;
        let last_position = ROOT + self.len;
        let last = self.get(last_position);
        self.set(last_position, EMPTY);
        if self.len > 0 {
            self.sift_down(ROOT, last);
        }
        least
    }

    /// Keeps only the keys for which `wanted` is true.
    pub(super) fn retain(&mut self, mut wanted: impl FnMut(u128) -> bool) {
        let mut kept = 0;
        for position in ROOT..ROOT + self.len {
            let key = self.get(position);
            if wanted(key) {
                self.set(ROOT + kept, key);
                kept += 1;
            }
        }
        for position in ROOT + kept..ROOT + self.len {
            self.set(position, EMPTY);
        }
        self.len = kept;
        self.lines.truncate((ROOT + kept).div_ceil(4).max(1));
        if kept > 1 {
            let last_parent = ((ROOT + kept - 1) >> 2) + 2;
            for position in (ROOT..=last_parent).rev() {
                let key = self.get(position);
                self.sift_down(position, key);
            }
        }
    }

    /// Puts `key` at `position` or, where a smaller key lies below, further down.
    #[inline]
    fn sift_down(&mut self, mut position: usize, key: u128) {
        // Lines without keys may follow.
        while (position - 2) * 4 < ROOT + self.len
            && let Some(children) = self.lines.get(position - 2)
        {
            let (child, least) = least_of_four(&children.0);
            if key <= least {
                break;
            }
            let below = (position - 2) * 4 + child;
            self.set(position, least);
            position = below;
        }
        self.set(position, key);
    }

    #[inline]
    fn get(&self, position: usize) -> u128 {
        self.lines[position >> 2].0[position & 3]
    }

    #[inline]
    fn set(&mut self, position: usize, key: u128) {
        self.lines[position >> 2].0[position & 3] = key;
    }
}

/// The least of four keys and its place; a tournament that compiles to conditional moves.
#[inline]
fn least_of_four(keys: &[u128; 4]) -> (usize, u128) {
    let left = if keys[1] < keys[0] { (1, keys[1]) } else { (0, keys[0]) };
    let right = if keys[3] < keys[2] { (3, keys[3]) } else { (2, keys[2]) };
    if right.1 < left.1 { right } else { left }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(heap: &mut KeyHeap) -> Vec<u128> {
        std::iter::from_fn(|| (heap.len() > 0).then(|| heap.pop())).collect()
    }

    proptest! {
        #[test]
        fn keys_come_out_sorted(keys in prop::collection::vec(0u128..1 << 100, 0..400)) {
            let mut heap = KeyHeap::new();
            keys.iter().for_each(|&key| heap.push(key));
            let mut sorted = keys;
            sorted.sort_unstable();
            prop_assert_eq!(drain(&mut heap), sorted);
        }

        #[test]
        fn what_is_retained_still_comes_out_sorted(keys in prop::collection::vec(0u128..1000, 0..400), more in prop::collection::vec(0u128..1000, 0..50)) {
            let mut heap = KeyHeap::new();
            keys.iter().for_each(|&key| heap.push(key));
            heap.retain(|key| key % 3 == 0);
            more.iter().for_each(|&key| heap.push(key));
            let mut expected: Vec<u128> = keys.into_iter().filter(|key| key % 3 == 0).chain(more).collect();
            expected.sort_unstable();
            prop_assert_eq!(drain(&mut heap), expected);
        }
    }
}

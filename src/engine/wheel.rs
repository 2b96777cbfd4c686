//! Keys by the time at which they are due: those of the present moment in a heap, later ones in buckets that nobody sorts
//! before their time comes.
//!
//! Most events of a cluster are timers: renewals, probes, resyncs, seconds and minutes away. In one heap each message, due
//! within microseconds, would travel up and down past all of them. Here the heap holds about a millisecond's worth of keys. A
//! key that is due later lies in one of two rings of buckets (a hierarchical timing wheel), and one that is later than both
//! in a second heap; it moves at most twice before it is due.

use super::heap::KeyHeap;
use super::time::SimTime;

/// A bucket of the fine ring covers 2^20 ns, about a millisecond.
const FINE_BITS: u32 = 20;
/// A ring has 2^10 buckets: the fine one covers a second, the coarse one 18 minutes.
const RING_BITS: u32 = 10;
const BUCKETS: usize = 1 << RING_BITS;

/// All keys, the least first. The upper 64 bits of a key are its time in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct KeyWheel {
    /// Every key that is due up to the end of the present bucket.
    near: KeyHeap,
    /// The rest of the present bucket of the coarse ring.
    fine: Ring,
    /// The rest of the present turn of the coarse ring.
    coarse: Ring,
    /// What comes after that.
    far: KeyHeap,
    /// The number of the present bucket of the fine ring, counted from time zero. Keys may still come that are due before it.
    present: u64,
    len: usize,
}

/// Buckets in the order of their time.
///
/// The keys of a bucket lie in chunks, each of which names the next. Buckets are filled and emptied all the time, some with a
/// thousand keys in a burst: all share their memory, and what was used last is still near when it is used again.
#[derive(Clone, Debug)]
struct Ring {
    buckets: Vec<Bucket>,
    /// One bit for each bucket with a key in it.
    filled: [u64; BUCKETS / 64],
    chunks: Vec<Chunk>,
    /// The first of the chunks that no bucket has.
    free: u32,
}

/// Where the keys of a bucket lie. All its chunks are full but the first, so that adding a key touches nothing but its place.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// The chunk to which keys are added.
    first: u32,
    /// How many keys are in it.
    len: u32,
}

impl Bucket {
    /// Without a key: a chunk that is not there counts as full.
    const EMPTY: Bucket = Bucket { first: NONE, len: CHUNK as u32 };
}

/// So many keys fit in a chunk, which then has 256 bytes.
const CHUNK: usize = 15;
/// No chunk.
const NONE: u32 = u32::MAX;

/// Keys of one bucket.
#[derive(Clone, Debug)]
struct Chunk {
    keys: [u128; CHUNK],
    /// The next chunk of the bucket, or the next one that is free.
    next: u32,
}

impl KeyWheel {
    /// No keys, at time zero.
    pub(super) fn new() -> Self {
        KeyWheel {
            near: KeyHeap::new(),
            fine: Ring::new(),
            coarse: Ring::new(),
            far: KeyHeap::new(),
            present: 0,
            len: 0,
        }
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The least key. There must be one.
    #[inline]
    pub(super) fn least(&mut self) -> u128 {
        if self.near.len() == 0 {
            self.go_on();
        }
        self.near.least()
    }

    /// False only if no key is due at a time or before it.
    #[inline]
    pub(super) fn may_hold_until(&self, time: SimTime) -> bool {
        if self.near.len() == 0 {
            self.len > 0 && time.as_nanos() >> FINE_BITS > self.present
        } else {
            (self.near.least() >> 64) as u64 <= time.as_nanos()
        }
    }

    /// Adds a key.
    #[inline]
    pub(super) fn push(&mut self, key: u128) {
        self.len += 1;
        if bucket(key) <= self.present { self.near.push(key) } else { self.put(key) }
    }

    /// Takes the least key out. There must be one.
    #[inline]
    pub(super) fn pop(&mut self) -> u128 {
        if self.near.len() == 0 {
            self.go_on();
        }
        self.len -= 1;
        self.near.pop()
    }

    /// Keeps only the keys that are wanted.
    pub(super) fn retain(&mut self, mut wanted: impl FnMut(u128) -> bool) {
        self.near.retain(&mut wanted);
        self.far.retain(&mut wanted);
        let in_rings = self.fine.retain(&mut wanted) + self.coarse.retain(&mut wanted);
        self.len = self.near.len() + self.far.len() + in_rings;
    }

    /// Puts a key where its time says.
    fn put(&mut self, key: u128) {
        let number = bucket(key);
        let (turn, now) = (number >> RING_BITS, self.present >> RING_BITS);
        if number <= self.present {
            self.near.push(key);
        } else if turn == now {
            self.fine.put(number, key);
        } else if turn >> RING_BITS == now >> RING_BITS {
            self.coarse.put(turn, key);
        } else {
            self.far.push(key);
        }
    }

    /// Makes the next bucket with keys in it the present one.
    #[cold]
    fn go_on(&mut self) {
        assert!(self.len > 0, "a key is looked for where there is none");
        while self.near.len() == 0 {
            if let Some(place) = self.fine.first() {
                self.present = first_of_turn(self.present) + place as u64;
                self.fine.empty(place, |key| self.near.push(key));
            } else if let Some(place) = self.coarse.first() {
                self.present = (first_of_turn(self.present >> RING_BITS) + place as u64) << RING_BITS;
                // All of the bucket is due in the turn of the fine ring that begins.
                let (present, near, fine) = (self.present, &mut self.near, &mut self.fine);
                self.coarse.empty(place, |key| match bucket(key) {
                    number if number <= present => near.push(key),
                    number => fine.put(number, key),
                });
            } else {
                let turn = |key: u128| bucket(key) >> (2 * RING_BITS);
                let next = turn(self.far.least());
                self.present = next << (2 * RING_BITS);
                while self.far.len() > 0 && turn(self.far.least()) == next {
                    let key = self.far.pop();
                    self.put(key);
                }
            }
        }
    }
}

impl Ring {
    fn new() -> Self {
        Ring { buckets: vec![Bucket::EMPTY; BUCKETS], filled: [0; BUCKETS / 64], chunks: Vec::new(), free: NONE }
    }

    /// Adds a key to the bucket of a number.
    fn put(&mut self, number: u64, key: u128) {
        let place = number as usize % BUCKETS;
        let mut bucket = self.buckets[place];
        if bucket.len as usize == CHUNK {
            bucket = Bucket { first: self.take_chunk(bucket.first), len: 0 };
            self.filled[place / 64] |= 1 << (place % 64);
        }
        self.chunks[bucket.first as usize].keys[bucket.len as usize] = key;
        self.buckets[place] = Bucket { len: bucket.len + 1, ..bucket };
    }

    /// A chunk without keys that comes before another one of its bucket.
    fn take_chunk(&mut self, next: u32) -> u32 {
        let at = self.free;
        if let Some(chunk) = self.chunks.get_mut(at as usize) {
            self.free = chunk.next;
            chunk.next = next;
            return at;
        }
        self.chunks.push(Chunk { keys: [0; CHUNK], next });
        (self.chunks.len() - 1) as u32
    }

    /// The place of the first bucket with a key in it.
    fn first(&self) -> Option<usize> {
        let word = self.filled.iter().position(|&word| word != 0)?;
        Some(word * 64 + self.filled[word].trailing_zeros() as usize)
    }

    /// Empties a bucket: hands each of its keys on.
    fn empty(&mut self, place: usize, mut hand_on: impl FnMut(u128)) {
        self.filled[place / 64] &= !(1 << (place % 64));
        let Bucket { first: mut at, mut len } = std::mem::replace(&mut self.buckets[place], Bucket::EMPTY);
        while let Some(chunk) = self.chunks.get_mut(at as usize) {
            chunk.keys[..len as usize].iter().for_each(|&key| hand_on(key));
            let next = std::mem::replace(&mut chunk.next, self.free);
            self.free = std::mem::replace(&mut at, next);
            len = CHUNK as u32;
        }
    }

    /// Keeps only the keys that are wanted; returns how many there are.
    fn retain(&mut self, mut wanted: impl FnMut(u128) -> bool) -> usize {
        let mut kept = 0;
        for place in 0..BUCKETS {
            let Bucket { first: mut at, mut len } = std::mem::replace(&mut self.buckets[place], Bucket::EMPTY);
            self.filled[place / 64] &= !(1 << (place % 64));
            while let Some(chunk) = self.chunks.get_mut(at as usize) {
                let Chunk { keys, next } = chunk.clone();
                chunk.next = self.free;
                self.free = std::mem::replace(&mut at, next);
                for key in keys.into_iter().take(len as usize).filter(|key| wanted(*key)) {
                    self.put(place as u64, key);
                    kept += 1;
                }
                len = CHUNK as u32;
            }
        }
        kept
    }
}

/// The number of the first bucket of the turn of a ring in which a bucket lies.
fn first_of_turn(number: u64) -> u64 {
    number >> RING_BITS << RING_BITS
}

/// The number of the bucket of the fine ring in which a key is due, counted from time zero.
#[inline]
fn bucket(key: u128) -> u64 {
    (key >> 64) as u64 >> FINE_BITS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Keys from microseconds to an hour away, so that all parts of the wheel are used.
    fn key() -> impl Strategy<Value = u128> {
        (0u32..42, any::<u64>(), 0u128..4).prop_map(|(bits, time, low)| u128::from(time % (1 << bits)) << 64 | low)
    }

    proptest! {
        #[test]
        fn keys_come_out_sorted_whenever_they_come_in(rounds in prop::collection::vec((prop::collection::vec(key(), 0..20), 0usize..20), 1..40)) {
            let (mut wheel, mut model) = (KeyWheel::new(), BTreeSet::new());
            let mut now = 0u128;
            for (keys, pops) in rounds {
                for key in keys {
                    // Like events: never before what has already come out.
                    let key = now.saturating_add(key);
                    if model.insert(key) {
                        wheel.push(key);
                    }
                }
                for _ in 0..pops.min(model.len()) {
                    now = model.pop_first().unwrap();
                    let at = (now >> 64) as u64;
                    let until = |wheel: &KeyWheel, time| wheel.may_hold_until(SimTime::from_nanos(time));
                    prop_assert!(until(&wheel, at) && until(&wheel, at + 1) && until(&wheel, u64::MAX));
                    prop_assert_eq!(wheel.least(), now);
                    prop_assert!(at == 0 || !until(&wheel, at - 1));
                    prop_assert_eq!(wheel.pop(), now);
                }
                prop_assert_eq!(wheel.len(), model.len());
            }
            while let Some(key) = model.pop_first() {
                prop_assert_eq!(wheel.pop(), key);
            }
        }

        #[test]
        fn what_is_retained_still_comes_out_sorted(keys in prop::collection::btree_set(key(), 1..200), more in prop::collection::btree_set(key(), 0..50), looked in any::<bool>()) {
            let mut wheel = KeyWheel::new();
            keys.iter().for_each(|&key| wheel.push(key));
            if looked {
                // The wheel has turned, and yet an earlier key may come.
                wheel.least();
            }
            let wanted = |key: u128| (key ^ key >> 64).is_multiple_of(3);
            wheel.retain(wanted);
            let mut model: BTreeSet<u128> = keys.into_iter().filter(|&key| wanted(key)).collect();
            for key in more {
                if model.insert(key) {
                    wheel.push(key);
                }
            }
            prop_assert_eq!(wheel.len(), model.len());
            for key in model {
                prop_assert_eq!(wheel.pop(), key);
            }
        }
    }
}

//! The choice for pods whose scores follow from each node alone: 64 nodes are summed up at a time, so that for a pod like the
//! last one only what changed is scored again, and a large cluster is passed over in strides.
//!
//! It gives what searching, scoring and choosing node by node gives, the draw among equals included.

use super::class::PodClass;
use super::cluster::Cluster;
use crate::engine::random::Stream;

/// The nodes of one word of the sets of places that fit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Summary {
    /// How many fit; [`STALE`] if this is to be summed up again.
    fits: u8,
    /// How many of them have the highest score.
    best_count: u8,
    /// The highest score.
    best: i32,
}

const STALE: u8 = u8::MAX;

impl Summary {
    /// Not summed up yet.
    pub(super) const UNKNOWN: Summary = Summary { fits: STALE, best_count: 0, best: i32::MIN };
}

/// The highest score of some nodes, and how many have it.
#[derive(Clone, Copy)]
struct Best {
    score: i32,
    count: u64,
}

impl Best {
    const NONE: Best = Best { score: i32::MIN, count: 0 };

    fn take(&mut self, score: i32, count: u64) {
        if score > self.score {
            *self = Best { score, count };
        } else if score == self.score {
            self.count += count;
        }
    }
}

/// A node that was chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Picked {
    /// Its place in the list.
    pub place: usize,
    /// How many nodes were looked at.
    pub evaluated: usize,
    /// How many of them fit.
    pub feasible: usize,
}

impl PodClass {
    /// True if no score of a node depends on which other nodes fit.
    pub(super) fn scores_alone(&self) -> bool {
        let is_alone = |followed: &super::class::Followed| {
            (followed.order.is_none() || followed.follower.masks().is_empty())
                && (followed.weight == 0 || followed.follower.is_indifferent())
        };
        self.followers.as_ref().is_some_and(|followers| followers.iter().all(is_alone)) && self.has_only_fixed_scores()
    }

    /// Looks for so many nodes that fit, from a place on and round, and chooses one of the best; none if no node fits or a score
    /// turned up that is not the node's alone.
    pub(super) fn pick(
        &mut self,
        start: usize,
        wanted: usize,
        stream: &mut Stream,
        cluster: &Cluster,
    ) -> Option<Picked> {
        let count = cluster.node_count();
        let (mut best, mut feasible, mut evaluated) = (Best::NONE, 0, count);
        for (word, range) in words(start, count, count) {
            let all = self.summary(word, cluster);
            let bits = self.fits.words()[word] & range;
            let here = bits.count_ones() as usize;
            if feasible + here < wanted && here == usize::from(all.fits) {
                best.take(all.best, u64::from(all.best_count));
                feasible += here;
                continue;
            }
            let taken = lowest(bits, wanted - feasible);
            places(word, taken).for_each(|place| best.take(self.fixed[place], 1));
            feasible += taken.count_ones() as usize;
            if feasible == wanted {
                let last = word * 64 + 63 - taken.leading_zeros() as usize;
                evaluated = (last + count - start) % count + 1;
                break;
            }
        }
        if feasible == 0 || !self.has_only_fixed_scores() {
            return None;
        }
        let chosen = if best.count > 1 { stream.below(best.count) } else { 0 };
        let place = self.find(start, evaluated, best.score, chosen, count)?;
        Some(Picked { place, evaluated, feasible })
    }

    /// The place of the node with a number among those of a score, from a place on.
    fn find(&self, start: usize, evaluated: usize, score: i32, mut number: u64, count: usize) -> Option<usize> {
        for (word, range) in words(start, evaluated, count) {
            let all = self.summaries[word];
            let bits = self.fits.words()[word] & range;
            if all.best < score {
                continue;
            }
            if bits.count_ones() == u32::from(all.fits) && all.best == score && u64::from(all.best_count) <= number {
                number -= u64::from(all.best_count);
                continue;
            }
            for place in places(word, bits).filter(|place| self.fixed[*place] == score) {
                if number == 0 {
                    return Some(place);
                }
                number -= 1;
            }
        }
        None
    }

    /// The sum of a word's nodes, all of which have been looked at then.
    fn summary(&mut self, word: usize, cluster: &Cluster) -> Summary {
        let known = self.summaries[word];
        if known.fits != STALE {
            return known;
        }
        let used = (cluster.node_count() - word * 64).min(64);
        self.look_at_all(word, u64::MAX >> (64 - used), cluster);
        let bits = self.fits.words()[word];
        let mut best = Best::NONE;
        places(word, bits).for_each(|place| best.take(self.fixed[place], 1));
        let summary = Summary { fits: bits.count_ones() as u8, best_count: best.count as u8, best: best.score };
        self.summaries[word] = summary;
        summary
    }
}

/// The words over which a stretch of places goes that begins somewhere and continues at the front, with the bits that are in it.
fn words(start: usize, length: usize, count: usize) -> impl Iterator<Item = (usize, u64)> {
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
fn places(word: usize, mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = (bits != 0).then(|| word * 64 + bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(place)
    })
}

/// The lowest so many bits of a word.
fn lowest(bits: u64, count: usize) -> u64 {
    let mut rest = bits;
    for _ in 0..count {
        rest &= rest.wrapping_sub(1);
    }
    bits & !rest
}

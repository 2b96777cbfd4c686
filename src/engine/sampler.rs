//! A distribution made ready for many draws.
//!
//! The length of a log-normal sample is an exponential of a quotient of polynomials, and every message draws one. So the
//! lengths at the borders of 512 equally likely cells are worked out once, and a draw inside a cell lies on the straight line
//! between its borders: within 0.1 % of the true length, for any sigma in use. In the eight outermost cells at either end, where
//! the line would be too far from the curve, the length is worked out as ever. A draw costs the same one number of the stream.

use super::distribution::Distribution;
use super::random::Stream;
use super::time::SimDuration;

/// How many equally likely cells there are: a power of two.
const CELLS: usize = 1 << CELL_BITS;
const CELL_BITS: u32 = 9;
/// So many cells at either end have no line.
const OUTERMOST: usize = 8;

/// A distribution made ready for many draws.
#[derive(Clone, Debug)]
pub struct Sampler {
    distribution: Distribution,
    /// The lengths at the borders of the inner cells in nanoseconds, rising; empty for a distribution that needs none.
    borders: Box<[u64]>,
}

impl Sampler {
    /// Makes a distribution ready.
    pub fn new(distribution: Distribution) -> Self {
        let at = |cell: usize| distribution.log_normal_at((cell as u64) << (u64::BITS - CELL_BITS));
        let borders = (OUTERMOST..=CELLS - OUTERMOST).map_while(at).map(SimDuration::as_nanos).collect();
        Sampler { distribution, borders }
    }

    /// Draws one length. Costs one draw of the stream, a constant none.
    #[inline]
    pub fn sample(&self, stream: &mut Stream) -> SimDuration {
        if self.borders.is_empty() {
            return stream.sample(&self.distribution);
        }
        self.of_bits(stream.bits())
    }

    /// The length that 64 random bits stand for.
    #[inline]
    fn of_bits(&self, bits: u64) -> SimDuration {
        let cell = (bits >> (u64::BITS - CELL_BITS)) as usize;
        match cell.checked_sub(OUTERMOST).and_then(|inner| self.borders.get(inner..inner + 2)) {
            Some(&[low, high]) => {
                let within = bits << CELL_BITS >> 32;
                let rise = (u128::from(high - low) * u128::from(within)) >> 32;
                SimDuration::from_nanos(low + rise as u64)
            }
            _ => self.distribution.log_normal_at(bits).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::random::Seed;
    use proptest::prelude::*;

    fn latency() -> Distribution {
        Distribution::log_normal(SimDuration::from_micros(100), SimDuration::from_micros(400))
    }

    #[test]
    fn samples_are_pinned() {
        let (sampler, mut stream) = (Sampler::new(latency()), Seed(7).stream("link", "latency"));
        let samples: Vec<u64> = (0..6).map(|_| sampler.sample(&mut stream).as_nanos()).collect();
        assert_eq!(samples, [87690, 81494, 184842, 50725, 161739, 81510]);
    }

    #[test]
    fn what_is_not_log_normal_is_drawn_as_ever() {
        let uniform = Distribution::Uniform { low: SimDuration::ZERO, high: SimDuration::from_millis(1) };
        let (mut one, mut other) = (Seed(7).stream("", ""), Seed(7).stream("", ""));
        let sampler = Sampler::new(uniform.clone());
        assert!((0..100).all(|_| sampler.sample(&mut one) == other.sample(&uniform)));
    }

    proptest! {
        #[test]
        fn a_sample_is_within_a_thousandth_of_the_true_length(bits in any::<u64>(), sigma_thousandths in 1u32..800) {
            let distribution = Distribution::LogNormal { median: SimDuration::from_millis(1), sigma_thousandths };
            let truth = distribution.log_normal_at(bits).unwrap_or_default().as_nanos();
            let drawn = Sampler::new(distribution).of_bits(bits).as_nanos();
            prop_assert!(drawn.abs_diff(truth) <= truth / 1000 + 1, "{drawn} for {truth}");
        }

        #[test]
        fn more_bits_are_never_a_shorter_length(left in any::<u64>(), right in any::<u64>()) {
            let sampler = Sampler::new(latency());
            let (low, high) = (left.min(right), left.max(right));
            prop_assert!(sampler.of_bits(low).as_nanos() <= sampler.of_bits(high).as_nanos() + 1);
        }
    }
}

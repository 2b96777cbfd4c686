//! Distributions of durations: how long something takes when it does not always take the same.
//!
//! All parameters are integers. The two that need a logarithm or an exponential take it from `libm` in a fixed order of
//! operations, never from the platform, and each sample costs one draw (but for the one in billions that a
//! uniform one may reject), so that a changed parameter changes lengths and not the numbers drawn afterwards.

use super::random::Stream;
use super::time::SimDuration;
use std::fmt;

/// How long something takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Distribution {
    /// Always the same.
    Constant(SimDuration),
    /// Between two lengths, both included, each equally likely.
    Uniform {
        /// The shortest.
        low: SimDuration,
        /// The longest. If it is below `low`, `low` is always drawn.
        high: SimDuration,
    },
    /// The time to the next arrival when arrivals know nothing of one another.
    Exponential {
        /// The average.
        mean: SimDuration,
    },
    /// What many independent factors make of a duration: never negative, with a long tail. The usual shape of latencies.
    LogNormal {
        /// Half of all samples are shorter.
        median: SimDuration,
        /// The standard deviation of the natural logarithm, in thousandths.
        sigma_thousandths: u32,
    },
    /// As measured: see [`Quantiles`].
    Empirical(Quantiles),
}

/// A measured distribution: durations at rising shares of the samples, straight lines between them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quantiles {
    points: Vec<(u32, SimDuration)>,
}

/// Why a list of points is not a distribution.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QuantilesError {
    /// The first share is not 0 or the last is not 1,000,000 millionths.
    Ends,
    /// The point with this index has a share that is not above the one before, or a duration that is below it.
    NotRising(usize),
}

/// One whole, in millionths.
const WHOLE: u32 = 1_000_000;
/// A draw for an empirical distribution is a share in millionths of millionths.
const FINE: u64 = 1_000_000;

impl Quantiles {
    /// A distribution from pairs of a share in millionths and the duration which that share of the samples does not
    /// exceed. The first share is 0 (the minimum), the last 1,000,000 (the maximum).
    pub fn new(points: Vec<(u32, SimDuration)>) -> Result<Self, QuantilesError> {
        let ends = (points.first().map(|point| point.0), points.last().map(|point| point.0));
        if ends != (Some(0), Some(WHOLE)) {
            return Err(QuantilesError::Ends);
        }
        let broken = points.windows(2).position(|pair| pair[1].0 <= pair[0].0 || pair[1].1 < pair[0].1);
        match broken {
            Some(index) => Err(QuantilesError::NotRising(index + 1)),
            None => Ok(Quantiles { points }),
        }
    }

    fn sample(&self, stream: &mut Stream) -> SimDuration {
        let share = stream.below(u64::from(WHOLE) * FINE);
        let above = self.points.partition_point(|point| u64::from(point.0) * FINE <= share);
        let ((left, low), (right, high)) = (self.points[above - 1], self.points[above]);
        let within = u128::from(share - u64::from(left) * FINE);
        let rise = u128::from(high.as_nanos() - low.as_nanos());
        low + SimDuration::from_nanos((rise * within / (u128::from(right - left) * u128::from(FINE))) as u64)
    }
}

impl fmt::Display for QuantilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QuantilesError::Ends => write!(f, "the first share must be 0 and the last 1000000 millionths"),
            QuantilesError::NotRising(index) => {
                write!(
                    f,
                    "point {index} (counted from 0) must have a greater share and no shorter duration than the one before"
                )
            }
        }
    }
}

impl std::error::Error for QuantilesError {}

impl Distribution {
    /// The log-normal distribution with this median, of whose samples one in a hundred is longer than `percentile_99`
    /// (to the nearest thousandth of sigma). A 99th percentile not above the median gives a constant.
    pub fn log_normal(median: SimDuration, percentile_99: SimDuration) -> Self {
        if percentile_99 <= median || median == SimDuration::ZERO {
            return Distribution::Constant(median);
        }
        let ratio = percentile_99.as_nanos() as f64 / median.as_nanos() as f64;
        // 2.3263... is the standard normal distribution's 99th percentile.
        let sigma = libm::log(ratio) / 2.326_347_874_040_841;
        Distribution::LogNormal { median, sigma_thousandths: (sigma * 1000.0 + 0.5) as u32 }
    }

    /// Draws one length. Costs one draw of the stream, a constant none.
    #[inline]
    pub fn sample(&self, stream: &mut Stream) -> SimDuration {
        match self {
            Distribution::Constant(length) => *length,
            Distribution::Uniform { low, high } => {
                let width = high.saturating_sub(*low).as_nanos();
                *low + SimDuration::from_nanos(stream.between(0, width))
            }
            Distribution::Exponential { mean } => {
                let length = mean.as_nanos() as f64 * -libm::log(open_unit(stream.bits()));
                SimDuration::from_nanos(length as u64)
            }
            Distribution::LogNormal { median, sigma_thousandths } => {
                log_normal_length(*median, *sigma_thousandths, stream.bits())
            }
            Distribution::Empirical(quantiles) => quantiles.sample(stream),
        }
    }

    /// The length that 64 random bits stand for, if the distribution is log-normal: more bits, a longer one.
    pub(super) fn log_normal_at(&self, bits: u64) -> Option<SimDuration> {
        match self {
            Distribution::LogNormal { median, sigma_thousandths } => {
                Some(log_normal_length(*median, *sigma_thousandths, bits))
            }
            _ => None,
        }
    }

    /// A length that no sample is below; used where an order must hold whatever is drawn.
    pub fn minimum(&self) -> SimDuration {
        match self {
            Distribution::Constant(length) => *length,
            Distribution::Uniform { low, .. } => *low,
            Distribution::Exponential { .. } | Distribution::LogNormal { .. } => SimDuration::ZERO,
            Distribution::Empirical(quantiles) => quantiles.points[0].1,
        }
    }

    /// A length that not one sample in a billion is above.
    pub fn practical_maximum(&self) -> SimDuration {
        match self {
            Distribution::Constant(length) => *length,
            Distribution::Uniform { low, high } => (*low).max(*high),
            Distribution::Exponential { mean } => {
                SimDuration::from_nanos((mean.as_nanos() as f64 * libm::log(1e9)) as u64)
            }
            Distribution::LogNormal { median, sigma_thousandths } => {
                log_normal_length(*median, *sigma_thousandths, u64::MAX - u64::MAX / 1_000_000_000)
            }
            Distribution::Empirical(quantiles) => {
                quantiles.points.iter().map(|(_, length)| *length).max().unwrap_or(SimDuration::ZERO)
            }
        }
    }
}

fn log_normal_length(median: SimDuration, sigma_thousandths: u32, bits: u64) -> SimDuration {
    let sigma = f64::from(sigma_thousandths) / 1000.0;
    let length = median.as_nanos() as f64 * libm::exp(sigma * normal_quantile(open_unit(bits)));
    SimDuration::from_nanos(length as u64)
}

/// A number strictly between 0 and 1 from the upper 52 bits: the middle of one of 2^52 equal parts.
#[inline]
fn open_unit(bits: u64) -> f64 {
    ((bits >> 12) as f64 + 0.5) * (1.0 / (1u64 << 52) as f64)
}

/// The value that a standard normal variable does not exceed with probability `p`, for `p` strictly between 0 and 1.
///
/// Algorithm AS 241 (Wichura, Applied Statistics 37, 1988), routine PPND16: relative accuracy about 1e-16. Six draws
/// in seven need only additions, multiplications and one division; the tails one logarithm and one square root more.
fn normal_quantile(p: f64) -> f64 {
    let from_middle = p - 0.5;
    if from_middle.abs() <= 0.425 {
        let r = 0.180625 - from_middle * from_middle;
        return from_middle * polynomial(&MIDDLE_ABOVE, r) / polynomial(&MIDDLE_BELOW, r);
    }
    let tail = if from_middle < 0.0 { p } else { 1.0 - p };
    let r = libm::sqrt(-libm::log(tail));
    let distance = if r <= 5.0 {
        polynomial(&NEAR_TAIL_ABOVE, r - 1.6) / polynomial(&NEAR_TAIL_BELOW, r - 1.6)
    } else {
        polynomial(&FAR_TAIL_ABOVE, r - 5.0) / polynomial(&FAR_TAIL_BELOW, r - 5.0)
    };
    if from_middle < 0.0 { -distance } else { distance }
}

/// Horner's scheme, the coefficient of the highest power last.
#[inline]
fn polynomial(coefficients: &[f64; 8], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

const MIDDLE_ABOVE: [f64; 8] = [
    3.387_132_872_796_366_5,
    1.331_416_678_917_843_8e2,
    1.971_590_950_306_551_3e3,
    1.373_169_376_550_946e4,
    4.592_195_393_154_987e4,
    6.726_577_092_700_87e4,
    3.343_057_558_358_813e4,
    2.509_080_928_730_122_7e3,
];
const MIDDLE_BELOW: [f64; 8] = [
    1.0,
    4.231_333_070_160_091e1,
    6.871_870_074_920_579e2,
    5.394_196_021_424_751e3,
    2.121_379_430_158_659_7e4,
    3.930_789_580_009_271e4,
    2.872_908_573_572_194_3e4,
    5.226_495_278_852_854e3,
];
const NEAR_TAIL_ABOVE: [f64; 8] = [
    1.423_437_110_749_683_5,
    4.630_337_846_156_546,
    5.769_497_221_460_691,
    3.647_848_324_763_204_5,
    1.270_458_252_452_368_4,
    2.417_807_251_774_506e-1,
    2.272_384_498_926_918_4e-2,
    7.745_450_142_783_414e-4,
];
const NEAR_TAIL_BELOW: [f64; 8] = [
    1.0,
    2.053_191_626_637_759,
    1.676_384_830_183_803_8,
    6.897_673_349_851e-1,
    1.481_039_764_274_800_8e-1,
    1.519_866_656_361_645_7e-2,
    5.475_938_084_995_345e-4,
    1.050_750_071_644_416_9e-9,
];
const FAR_TAIL_ABOVE: [f64; 8] = [
    6.657_904_643_501_103,
    5.463_784_911_164_114,
    1.784_826_539_917_291_3,
    2.965_605_718_285_048_7e-1,
    2.653_218_952_657_612_4e-2,
    1.242_660_947_388_078_4e-3,
    2.711_555_568_743_487_6e-5,
    2.010_334_399_292_288_1e-7,
];
const FAR_TAIL_BELOW: [f64; 8] = [
    1.0,
    5.998_322_065_558_88e-1,
    1.369_298_809_227_358e-1,
    1.487_536_129_085_061_5e-2,
    7.868_691_311_456_133e-4,
    1.846_318_317_510_054_7e-5,
    1.421_511_758_316_446e-7,
    2.044_263_103_389_939_8e-15,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::random::Seed;
    use proptest::prelude::*;

    const MS: SimDuration = SimDuration::from_millis(1);

    fn measured() -> Distribution {
        let points = vec![(0, MS), (500_000, MS * 2), (990_000, MS * 10), (1_000_000, MS * 100)];
        Distribution::Empirical(Quantiles::new(points).unwrap())
    }

    fn samples(distribution: &Distribution, count: usize) -> Vec<u64> {
        let mut stream = Seed(7).stream("link", "latency");
        (0..count).map(|_| stream.sample(distribution).as_nanos()).collect()
    }

    #[test]
    fn samples_are_pinned() {
        let of = |distribution: Distribution| samples(&distribution, 6);
        assert_eq!(of(Distribution::Constant(MS)), [1_000_000; 6]);
        assert_eq!(
            of(Distribution::Uniform { low: MS, high: MS * 3 }),
            [1825570, 1731344, 2697342, 1254785, 2580178, 1731585]
        );
        assert_eq!(of(Distribution::Exponential { mean: MS }), [884828, 1006018, 164083, 2060479, 235610, 1005689]);
        assert_eq!(
            of(Distribution::LogNormal { median: MS, sigma_thousandths: 500 }),
            [895660, 842257, 1674266, 565864, 1496852, 842392]
        );
        assert_eq!(of(measured()), [1825569, 1731343, 7692587, 1254785, 6736140, 1731584]);
    }

    #[test]
    fn the_normal_quantile_is_that_of_published_tables() {
        let table = [
            (0.5, 0.0),
            (0.841_344_746_068_542_9, 1.0),
            (0.975, 1.959_963_984_540_054),
            (0.99, 2.326_347_874_040_841),
            (0.001, -3.090_232_306_167_813_5),
            (1e-9, -5.997_807_015_007_686),
            (1e-15, -7.941_345_326_170_997),
        ];
        for (p, expected) in table {
            let error = (normal_quantile(p) - expected).abs();
            assert!(error < 1e-13 * (1.0 + expected.abs()), "{p}: {} instead of {expected}", normal_quantile(p));
        }
    }

    #[test]
    fn means_medians_and_tails_are_those_asked_for() {
        let count = 40_000;
        let mean = samples(&Distribution::Exponential { mean: MS }, count).iter().sum::<u64>() / count as u64;
        // Five standard deviations of the mean: 1 ms / sqrt(40,000) * 5 = 25 us.
        assert!(mean.abs_diff(1_000_000) < 25_000, "exponential mean {mean}");

        let tail = Distribution::log_normal(MS, MS * 4);
        let mut sorted = samples(&tail, count);
        sorted.sort_unstable();
        let (median, percentile_99) = (sorted[count / 2], sorted[count * 99 / 100]);
        assert!(median.abs_diff(1_000_000) < 20_000, "log-normal median {median}");
        assert!(percentile_99.abs_diff(4_000_000) < 200_000, "log-normal 99th percentile {percentile_99}");

        let mut sorted = samples(&measured(), count);
        sorted.sort_unstable();
        assert!(sorted[count / 2].abs_diff(2_000_000) < 100_000, "empirical median {}", sorted[count / 2]);
    }

    #[test]
    fn points_that_are_not_a_distribution_are_refused() {
        let refused = |points: &[(u32, SimDuration)]| Quantiles::new(points.to_vec()).unwrap_err();
        assert_eq!(refused(&[]), QuantilesError::Ends);
        assert_eq!(refused(&[(0, MS)]), QuantilesError::Ends);
        assert_eq!(refused(&[(0, MS), (WHOLE, SimDuration::ZERO)]), QuantilesError::NotRising(1));
        assert_eq!(refused(&[(0, MS), (5, MS), (5, MS), (WHOLE, MS)]), QuantilesError::NotRising(2));
    }

    #[test]
    fn extreme_parameters_saturate() {
        let longest = SimDuration::from_nanos(u64::MAX);
        samples(&Distribution::Exponential { mean: longest }, 100);
        samples(&Distribution::LogNormal { median: longest, sigma_thousandths: u32::MAX }, 100);
        samples(&Distribution::Uniform { low: SimDuration::ZERO, high: longest }, 100);
        let inverted = Distribution::Uniform { low: MS * 2, high: MS };
        assert_eq!(samples(&inverted, 3), [2_000_000; 3]);
        let zero = Distribution::LogNormal { median: SimDuration::ZERO, sigma_thousandths: u32::MAX };
        assert!(samples(&zero, 100).iter().all(|&length| length == 0 || length == u64::MAX));
    }

    proptest! {
        #[test]
        fn every_sample_but_a_constant_costs_one_draw(seed in any::<u64>()) {
            let shapes = [
                Distribution::Uniform { low: MS, high: MS * 3 }, Distribution::Exponential { mean: MS },
                Distribution::LogNormal { median: MS, sigma_thousandths: 700 }, measured(),
            ];
            for shape in shapes {
                let (mut sampled, mut plain) = (Seed(seed).stream("", ""), Seed(seed).stream("", ""));
                sampled.sample(&shape);
                plain.bits();
                prop_assert_eq!(sampled.bits(), plain.bits());
            }
        }

        #[test]
        fn no_sample_is_beyond_the_bounds(seed in any::<u64>()) {
            let mut stream = Seed(seed).stream("", "");
            let length = SimDuration::from_millis;
            let all = [
                measured(),
                Distribution::Constant(length(3)),
                Distribution::Uniform { low: length(2), high: length(9) },
                Distribution::Exponential { mean: length(5) },
                Distribution::log_normal(length(4), length(20)),
            ];
            for distribution in &all {
                let bounds = distribution.minimum()..=distribution.practical_maximum();
                prop_assert!((0..50).all(|_| bounds.contains(&stream.sample(distribution))));
            }
        }
    }
}

//! Virtual time: nanoseconds since the run began.

use std::fmt;
use std::ops::{Add, AddAssign, Mul, Sub};

/// A point in virtual time: nanoseconds since the run began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SimTime(u64);

/// A length of virtual time in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SimDuration(u64);

impl SimTime {
    /// The moment at which the run begins.
    pub const ZERO: SimTime = SimTime(0);
    /// Later than anything that can be scheduled.
    pub const MAX: SimTime = SimTime(u64::MAX);

    /// The time `ns` nanoseconds after the run began.
    #[inline]
    pub const fn from_nanos(ns: u64) -> Self {
        SimTime(ns)
    }

    /// Nanoseconds since the run began.
    #[inline]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the run began.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// How long after `earlier` this is; zero if it is not after.
    #[inline]
    pub const fn since(self, earlier: SimTime) -> SimDuration {
        SimDuration(self.0.saturating_sub(earlier.0))
    }

    /// The first multiple of `period` counted from `phase` that is not before this time. `period` must not be zero.
    #[inline]
    pub const fn next_tick(self, phase: SimTime, period: SimDuration) -> SimTime {
        if self.0 <= phase.0 {
            return phase;
        }
        SimTime(phase.0 + (self.0 - phase.0).div_ceil(period.0) * period.0)
    }
}

impl SimDuration {
    /// No time at all.
    pub const ZERO: SimDuration = SimDuration(0);

    /// A duration of `ns` nanoseconds.
    #[inline]
    pub const fn from_nanos(ns: u64) -> Self {
        SimDuration(ns)
    }

    /// A duration of `us` microseconds.
    pub const fn from_micros(us: u64) -> Self {
        SimDuration(us * 1_000)
    }

    /// A duration of `ms` milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        SimDuration(ms * 1_000_000)
    }

    /// A duration of `s` seconds.
    pub const fn from_secs(s: u64) -> Self {
        SimDuration(s * 1_000_000_000)
    }

    /// Nanoseconds.
    #[inline]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Whole seconds.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// The difference, or zero where `other` is longer.
    pub const fn saturating_sub(self, other: SimDuration) -> SimDuration {
        SimDuration(self.0.saturating_sub(other.0))
    }

    /// The product, or the longest duration there is.
    pub const fn saturating_mul(self, factor: u64) -> SimDuration {
        SimDuration(self.0.saturating_mul(factor))
    }
}

impl Add<SimDuration> for SimTime {
    type Output = SimTime;
    #[inline]
    fn add(self, duration: SimDuration) -> SimTime {
        SimTime(self.0.saturating_add(duration.0))
    }
}

impl AddAssign<SimDuration> for SimTime {
    #[inline]
    fn add_assign(&mut self, duration: SimDuration) {
        *self = *self + duration;
    }
}

impl Sub<SimDuration> for SimTime {
    type Output = SimTime;
    #[inline]
    fn sub(self, duration: SimDuration) -> SimTime {
        SimTime(self.0.saturating_sub(duration.0))
    }
}

impl Add for SimDuration {
    type Output = SimDuration;
    #[inline]
    fn add(self, other: SimDuration) -> SimDuration {
        SimDuration(self.0.saturating_add(other.0))
    }
}

impl AddAssign for SimDuration {
    #[inline]
    fn add_assign(&mut self, other: SimDuration) {
        *self = *self + other;
    }
}

impl Mul<u64> for SimDuration {
    type Output = SimDuration;
    fn mul(self, factor: u64) -> SimDuration {
        self.saturating_mul(factor)
    }
}

/// Seconds with all nine decimals, as `12.000000034`.
impl fmt::Display for SimTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

impl fmt::Debug for SimTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}s")
    }
}

/// In the unit a reader would choose, with at most three decimals: `1.5s`, `20ms`, `350us`, `7ns`.
impl fmt::Display for SimDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = match self.0 {
            1_000_000_000.. => (1_000_000_000, "s"),
            1_000_000.. => (1_000_000, "ms"),
            1_000.. => (1_000, "us"),
            _ => return write!(f, "{}ns", self.0),
        };
        let thousandths = self.0 % unit * 1_000 / unit;
        let decimals = format!("{thousandths:03}");
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{}{name}", self.0 / unit),
            digits => write!(f, "{}.{digits}{name}", self.0 / unit),
        }
    }
}

impl fmt::Debug for SimDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_print_in_the_unit_a_reader_would_choose() {
        let shown = [7, 350_000, 20_000_000, 1_500_000_000, 61_000_000_000].map(|ns| SimDuration(ns).to_string());
        assert_eq!(shown, ["7ns", "350us", "20ms", "1.5s", "61s"]);
    }

    #[test]
    fn ticks_fall_on_multiples_of_the_period_after_the_phase() {
        let (phase, period) = (SimTime::from_nanos(3), SimDuration::from_nanos(10));
        let next = |ns| SimTime::from_nanos(ns).next_tick(phase, period).as_nanos();
        assert_eq!([next(0), next(3), next(4), next(13), next(14)], [3, 3, 13, 13, 23]);
    }
}

//! The clock of a node's machine: it may be ahead or behind, and may gain or lose.
//!
//! What it says stands in everything that the kubelet dates: leases, conditions, events, containers' times. Nobody else
//! reads it. Timers run by the true time, but for the renewal of the lease, which follows the clock.

use std::cell::Cell;

use crate::api::meta::Epoch;
use crate::engine::time::{SimDuration, SimTime};

const SECOND: i128 = 1_000_000_000;

/// A machine's clock. It outlives the kubelet and losses of power.
#[derive(Debug, Default)]
pub struct NodeClock(Cell<Fault>);

/// How a clock is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fault {
    /// Since when.
    pub since: SimTime,
    /// By how much it was ahead then, in nanoseconds; negative if behind.
    pub ahead_ns: i64,
    /// How much it gains in each second of true time, in nanoseconds; negative if it loses.
    pub gain_ns: i64,
}

impl NodeClock {
    /// Sets the clock.
    pub fn set(&self, fault: Fault) {
        self.0.set(fault);
    }

    /// True if the clock is right.
    pub fn is_right(&self) -> bool {
        self.0.get() == Fault { since: self.0.get().since, ..Fault::default() }
    }

    /// By how much the clock is ahead at a time, in nanoseconds.
    pub fn ahead(&self, now: SimTime) -> i64 {
        let Fault { since, ahead_ns, gain_ns } = self.0.get();
        let gained = i128::from(now.since(since).as_nanos()) * i128::from(gain_ns) / SECOND;
        ahead_ns.saturating_add(i64::try_from(gained).unwrap_or(i64::MAX))
    }

    /// The date at which virtual time was zero, as one concludes who reads this clock now.
    pub fn epoch(&self, epoch: Epoch, now: SimTime) -> Epoch {
        Epoch(epoch.0.saturating_add(self.ahead(now)))
    }

    /// How long it takes until so much has passed on this clock.
    pub fn span(&self, span: SimDuration) -> SimDuration {
        let rate = (SECOND + i128::from(self.0.get().gain_ns)).max(1);
        let nanos = i128::from(span.as_nanos()) * SECOND / rate;
        SimDuration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_gains_is_ahead_more_and_more_and_its_ten_seconds_are_short() {
        let clock = NodeClock::default();
        let at = |seconds| SimTime::ZERO + SimDuration::from_secs(seconds);
        assert!(clock.is_right());
        assert_eq!(clock.ahead(at(100)), 0);
        clock.set(Fault { since: at(100), ahead_ns: -5_000_000_000, gain_ns: 250_000_000 });
        assert!(!clock.is_right());
        assert_eq!([100, 120, 140].map(|second| clock.ahead(at(second))), [-5_000_000_000, 0, 5_000_000_000]);
        assert_eq!(clock.epoch(Epoch(7), at(140)), Epoch(5_000_000_007));
        assert_eq!(clock.span(SimDuration::from_secs(10)), SimDuration::from_secs(8));
    }
}

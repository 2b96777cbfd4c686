//! The token bucket by which a client holds itself back (client-go, `flowcontrol`, on `golang.org/x/time/rate`).
//!
//! Pure arithmetic on virtual time: it never waits, it says when the caller may go. Whole nanoseconds, no drift.

use crate::engine::time::{SimDuration, SimTime};

/// A bucket of tokens: at first full, refilled at a constant rate. Whoever finds it empty is given a place in line.
#[derive(Clone, Debug)]
pub struct RateLimit {
    /// In how much time one token comes.
    interval: SimDuration,
    /// How long an empty bucket takes to be full.
    depth: SimDuration,
    /// When the bucket is full again if nothing more is taken; this one number is the whole state.
    full_at: SimTime,
}

impl RateLimit {
    /// `qps` tokens a second, at most `burst` at once. Neither may be zero.
    pub fn per_second(qps: u32, burst: u32) -> Self {
        assert!(qps > 0, "a bucket that is never refilled");
        RateLimit::every(SimDuration::from_nanos(1_000_000_000 / u64::from(qps)), burst)
    }

    /// One token in each `interval`, at most `burst` at once, which must not be zero.
    pub fn every(interval: SimDuration, burst: u32) -> Self {
        assert!(burst > 0, "a bucket that holds nothing");
        RateLimit { interval, depth: interval * u64::from(burst), full_at: SimTime::ZERO }
    }

    /// The same bucket, full again at a time if nothing more is taken. That time is its whole state: where there are many
    /// buckets of one kind, it is all that need be kept of each.
    pub fn full_at(self, full_at: SimTime) -> Self {
        RateLimit { full_at, ..self }
    }

    /// When the bucket is full again if nothing more is taken.
    pub fn is_full_at(&self) -> SimTime {
        self.full_at
    }

    /// kube-controller-manager's client: 20 a second, 30 at once (`--kube-api-qps`, `--kube-api-burst`).
    /// Each controller has one of its own.
    pub fn controller() -> Self {
        RateLimit::per_second(20, 30)
    }

    /// kube-scheduler's and the kubelet's client: 50 a second, 100 at once. The kubelet's client for events has the same.
    pub fn node_or_scheduler() -> Self {
        RateLimit::per_second(50, 100)
    }

    /// Takes a token, if need be one that is still to come, and says when it is there: now or later.
    /// Later callers get later times: a line in which nobody is overtaken.
    pub fn reserve(&mut self, now: SimTime) -> SimTime {
        self.full_at = self.full_at.max(now) + self.interval;
        (self.full_at - self.depth).max(now)
    }

    /// Takes a token only if there is one now.
    pub fn try_take(&mut self, now: SimTime) -> bool {
        let full_at = self.full_at.max(now) + self.interval;
        let there = full_at - self.depth <= now;
        if there {
            self.full_at = full_at;
        }
        there
    }

    /// True if nothing was taken that has not come back: such a bucket is as good as a new one.
    pub fn is_full(&self, now: SimTime) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(ms: u64) -> SimTime {
        SimTime::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn after_a_burst_of_thirty_the_controllers_client_goes_every_fifty_milliseconds() {
        let mut limit = RateLimit::controller();
        let start = millis(7_000);
        let times: Vec<u64> = (0..34).map(|_| limit.reserve(start).since(start).as_nanos()).collect();
        assert_eq!(times[..30], [0; 30]);
        assert_eq!(times[30..], [50_000_000, 100_000_000, 150_000_000, 200_000_000]);
        // A second later twenty tokens have come and four of them were already promised.
        let later: Vec<u64> = (0..18).map(|_| limit.reserve(millis(8_000)).since(millis(8_000)).as_nanos()).collect();
        assert_eq!(later[..16], [0; 16]);
        assert_eq!(later[16..], [50_000_000, 100_000_000]);
    }

    #[test]
    fn a_bucket_never_holds_more_than_its_burst() {
        let mut limit = RateLimit::per_second(50, 2);
        let now = millis(3_600_000);
        assert_eq!([limit.try_take(now), limit.try_take(now), limit.try_take(now)], [true, true, false]);
        assert!(!limit.try_take(now + SimDuration::from_nanos(19_999_999)));
        assert!(limit.try_take(now + SimDuration::from_millis(20)));
    }

    #[test]
    fn one_token_in_five_minutes_is_counted_to_the_nanosecond() {
        let mut limit = RateLimit::every(SimDuration::from_secs(300), 1);
        assert!(limit.try_take(SimTime::ZERO));
        assert!(!limit.try_take(SimTime::from_nanos(299_999_999_999)));
        assert!(limit.try_take(SimTime::from_nanos(300_000_000_000)));
    }
}

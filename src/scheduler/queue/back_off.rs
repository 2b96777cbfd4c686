//! When a pod that failed may be tried again (kube-scheduler, `backend/queue/backoff_queue.go`).
//!
//! Back-offs end at whole seconds of the wall clock, so that pods whose back-offs end in the same second are ordered by priority.

use crate::api::meta::Epoch;
use crate::engine::time::{SimDuration, SimTime};

/// `backoffQOrderingWindowDuration`.
const WINDOW_NS: i64 = 1_000_000_000;

/// How long pods wait: the first back-off, doubled with every failure up to the longest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BackOff {
    /// After the first failure (`podInitialBackoffSeconds`).
    pub first: SimDuration,
    /// After many (`podMaxBackoffSeconds`).
    pub longest: SimDuration,
}

impl Default for BackOff {
    fn default() -> Self {
        BackOff { first: SimDuration::from_secs(1), longest: SimDuration::from_secs(10) }
    }
}

impl BackOff {
    /// How long a pod waits after so many failures; nothing after none.
    pub fn after(self, failures: u32) -> SimDuration {
        match failures.checked_sub(1) {
            None => SimDuration::ZERO,
            Some(doublings) => self.first.saturating_mul(1 << doublings.min(40)).min(self.longest),
        }
    }
}

/// The whole seconds of the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Windows(pub Epoch);

impl Windows {
    /// The number of the second in which a moment lies.
    pub fn of(self, at: SimTime) -> i64 {
        self.0.0.saturating_add(at.as_nanos() as i64).div_euclid(WINDOW_NS)
    }

    /// When a second begins; the beginning of the run if that is later.
    pub fn begin(self, window: i64) -> SimTime {
        SimTime::from_nanos(window.saturating_mul(WINDOW_NS).saturating_sub(self.0.0).max(0) as u64)
    }
}

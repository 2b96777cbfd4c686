//! Time spans that begin at a date of whole seconds, as objects carry it, and are compared with the exact present.

use crate::api::meta::Timestamp;
use crate::client::view::Now;
use crate::engine::time::SimDuration;

/// Nanoseconds from the present to a moment; negative if it is past.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Until(i128);

/// The time until `seconds` after a date.
pub fn until(now: Now, date: Timestamp, seconds: i64) -> Until {
    let moment = (i128::from(date.0) + i128::from(seconds)) * 1_000_000_000;
    Until(moment - nanoseconds(now))
}

/// The present in nanoseconds since 1970.
pub fn nanoseconds(now: Now) -> i128 {
    i128::from(now.epoch.0) + i128::from(now.at.as_nanos())
}

impl Until {
    /// True if the moment is before the present; the present itself is not past.
    pub fn is_past(self) -> bool {
        self.0 < 0
    }

    /// What is left; nothing if the moment has come.
    pub fn left(self) -> SimDuration {
        SimDuration::from_nanos(u64::try_from(self.0.max(0)).unwrap_or(u64::MAX))
    }
}

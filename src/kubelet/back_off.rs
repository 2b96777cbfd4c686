//! How long to leave a crashing container or a failing image alone.

use crate::engine::time::{SimDuration, SimTime};

use super::settings::KubeletTimings;

/// The back-off of one container or image (client-go, `flowcontrol.Backoff` without jitter).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BackOff {
    delay: SimDuration,
    updated: SimTime,
}

impl BackOff {
    /// The time at which something that ended (a container) or was last tried (a pull) at `event` may be tried again;
    /// none if it may be now.
    pub fn until(entry: Option<BackOff>, event: SimTime, now: SimTime, timings: &KubeletTimings) -> Option<SimTime> {
        let entry = entry.filter(|entry| !entry.expired(event, timings))?;
        Some(event + entry.delay).filter(|until| now < *until)
    }

    /// The same for pulls, where the wait counts from the entry's own last change.
    pub fn until_since_update(entry: Option<BackOff>, now: SimTime, timings: &KubeletTimings) -> Option<SimTime> {
        let entry = entry.filter(|entry| !entry.expired(now, timings))?;
        Some(entry.updated + entry.delay).filter(|until| now < *until)
    }

    /// The entry after one more try, doubled unless so much time passed that it is forgotten.
    pub fn next(entry: Option<BackOff>, event: SimTime, now: SimTime, timings: &KubeletTimings) -> BackOff {
        let delay = match entry.filter(|entry| !entry.expired(event, timings)) {
            Some(entry) => (entry.delay * 2).min(timings.longest_back_off),
            None => timings.first_back_off,
        };
        BackOff { delay, updated: now }
    }

    /// The present wait.
    pub fn delay(self) -> SimDuration {
        self.delay
    }

    /// An entry is forgotten if more than twice the longest back-off passed since it was last used.
    fn expired(self, event: SimTime, timings: &KubeletTimings) -> bool {
        event.since(self.updated) > timings.longest_back_off * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_to_the_limit_and_is_forgotten_after_twice_the_limit() {
        let timings = KubeletTimings::default();
        let second = |s: u64| SimTime::from_nanos(s * 1_000_000_000);
        let (mut entry, mut delays) = (None, Vec::new());
        for crash in 0..7 {
            let now = second(crash * 301);
            entry = Some(BackOff::next(entry, now, now, &timings));
            delays.push(entry.map_or(0, |entry| entry.delay().as_secs()));
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
        let updated = 6 * 301;
        assert_eq!(
            BackOff::until(entry, second(updated + 5), second(updated + 6), &timings),
            Some(second(updated + 305))
        );
        // A container that ran 600 s is still held back, one that ran longer is not (kubelet: more than 2 x 300 s).
        assert!(BackOff::until(entry, second(updated + 600), second(updated + 601), &timings).is_some());
        assert_eq!(BackOff::until(entry, second(updated + 601), second(updated + 602), &timings), None);
        let later = second(updated + 601);
        assert_eq!(BackOff::next(entry, later, later, &timings).delay().as_secs(), 10);
    }
}

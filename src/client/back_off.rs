//! Delays that double, with jitter, and start anew after a while (apimachinery, `wait.Backoff.DelayWithReset`).

use crate::engine::random::Stream;
use crate::engine::time::{SimDuration, SimTime};

/// Doubling delays. Each delay is drawn between one and two times the present step, so that clients that failed together
/// do not come back together.
#[derive(Clone, Debug)]
pub struct BackOff {
    first: SimDuration,
    last: SimDuration,
    reset_after: SimDuration,
    step: SimDuration,
    since: SimTime,
}

impl BackOff {
    /// A reflector's: 800 ms doubling to 30 s, anew every two minutes (client-go, `reflector.go`).
    pub fn reflector(now: SimTime) -> Self {
        let (first, last) = (SimDuration::from_millis(800), SimDuration::from_secs(30));
        BackOff { first, last, reset_after: SimDuration::from_secs(120), step: first, since: now }
    }

    /// The next delay.
    pub fn next(&mut self, now: SimTime, stream: &mut Stream) -> SimDuration {
        if now.since(self.since) > self.reset_after {
            self.step = self.first;
            self.since = now;
        }
        let step = self.step;
        self.step = (step * 2).min(self.last);
        step + SimDuration::from_nanos(stream.below(step.as_nanos().max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::random::Seed;

    #[test]
    fn steps_double_to_thirty_seconds_and_start_anew_after_two_minutes() {
        let mut stream = Seed(1).stream("informer", "back-off");
        let mut back_off = BackOff::reflector(SimTime::ZERO);
        let mut now = SimTime::ZERO;
        for step_ms in [800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000] {
            let delay = back_off.next(SimTime::ZERO, &mut stream).as_nanos();
            let step = step_ms * 1_000_000;
            assert!((step..2 * step).contains(&delay), "{delay} is not a delay for a step of {step}");
            now += SimDuration::from_nanos(delay);
        }
        let delay = back_off.next(now.max(SimTime::from_nanos(120_000_000_001)), &mut stream);
        assert!(delay < SimDuration::from_millis(1_600), "{delay}");
    }
}

//! When the kubelet measures what pods have written into their volumes.
//!
//! Follows server/stats (`fsResourceAnalyzer`, `volumeStatCalculator`): every minute is looked for new pods, each of which is measured
//! at once and from then on after one to two minutes each time, at random. Worked out when somebody asks, from a stream of each pod.

use std::collections::BTreeMap;

use crate::api::meta::Uid;
use crate::engine::random::{Seed, Stream};
use crate::engine::time::{SimDuration, SimTime};
use crate::runtime::interface::PodNumber;

/// How often new pods are looked for, and the least time between two measurements of one (`volumeStatsAggPeriod`).
const PERIOD: SimDuration = SimDuration::from_secs(60);

/// The measurements of all pods that have volumes.
#[derive(Debug, Default)]
pub struct VolumeStats {
    pods: BTreeMap<PodNumber, Measurements>,
}

/// The measurements of one pod's volumes.
#[derive(Clone, Debug)]
struct Measurements {
    stream: Stream,
    /// The last one that is over; none before the first.
    last: Option<SimTime>,
    next: SimTime,
}

impl Measurements {
    /// Takes the measurements before a time for done.
    fn pass(&mut self, until: SimTime) {
        while self.next <= until {
            self.last = Some(self.next);
            self.next = self.next + PERIOD + SimDuration::from_nanos(self.stream.below(PERIOD.as_nanos()));
        }
    }
}

impl VolumeStats {
    /// Knows these pods from now on, and no others: number, incarnation, and since when the kubelet knows each.
    pub fn keep(&mut self, pods: &[(PodNumber, Uid, SimTime)], seed: Seed, began: SimTime) {
        let mut before = std::mem::take(&mut self.pods);
        let new = |uid: Uid, since: SimTime| Measurements {
            stream: seed.stream(&uid.to_string(), "volume measurements"),
            last: None,
            next: since.max(began).next_tick(began, PERIOD),
        };
        let kept = |(number, uid, since): &(PodNumber, Uid, SimTime)| {
            (*number, before.remove(number).unwrap_or_else(|| new(*uid, *since)))
        };
        self.pods = pods.iter().map(kept).collect();
    }

    /// When a pod's volumes were last measured; none if they were not yet.
    pub fn last(&mut self, pod: PodNumber, now: SimTime) -> Option<SimTime> {
        let measurements = self.pods.get_mut(&pod)?;
        measurements.pass(now);
        measurements.last
    }

    /// When a pod's volumes are first measured after a time.
    pub fn next(&self, pod: PodNumber, after: SimTime) -> Option<SimTime> {
        let mut measurements = self.pods.get(&pod)?.clone();
        measurements.pass(after);
        Some(measurements.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_measured_at_the_next_minute_and_then_after_one_to_two() {
        let second = |s: u64| SimTime::from_nanos(s * 1_000_000_000);
        let (pod, uid) = (PodNumber(3), Uid::from_random(1, 2));
        let mut stats = VolumeStats::default();
        stats.keep(&[(pod, uid, second(70))], Seed(7), second(5));
        assert_eq!(stats.last(pod, second(124)), None);
        assert_eq!(stats.next(pod, second(70)), Some(second(125)), "counted from when the kubelet began");
        let mut times = Vec::new();
        let mut after = second(70);
        for _ in 0..50 {
            after = stats.next(pod, after).expect("it is known");
            times.push(after);
            assert_eq!(stats.last(pod, after), Some(after));
        }
        let pauses: Vec<u64> = times.windows(2).map(|pair| pair[1].since(pair[0]).as_secs()).collect();
        assert!(pauses.iter().all(|pause| (60..120).contains(pause)), "{pauses:?}");
        assert!(pauses.iter().any(|pause| *pause < 75) && pauses.iter().any(|pause| *pause > 105), "{pauses:?}");
        stats.keep(&[], Seed(7), second(5));
        assert_eq!(stats.last(pod, after), None);
    }
}

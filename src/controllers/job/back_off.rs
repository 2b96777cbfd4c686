//! How long a Job waits before it replaces pods that failed: 10 seconds, doubling with each failure up to 10 minutes, counted
//! from the moment in which the last one ended, and forgotten after a success
//! (kube-controller-manager, job/backoff_utils).

use std::rc::Rc;

use crate::api::meta::Timestamp;
use crate::api::pod::{ConditionStatus, ContainerRole, ContainerState, ContainerStatus, Pod, PodConditionType};
use crate::client::view::Now;
use crate::engine::time::SimDuration;

use super::super::time;

/// After the first failure (`DefaultJobPodFailureBackOff`).
const FIRST: i64 = 10;
/// At most (`MaxJobPodFailureBackOff`).
const LAST: i64 = 600;

/// The failures of a Job since its last success.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BackOff {
    /// How many.
    pub failures: u32,
    /// When the last one ended.
    pub last: Option<Timestamp>,
}

impl BackOff {
    /// The same after pods have ended that were not counted before.
    pub fn after(self, succeeded: &[Rc<Pod>], failed: &[Rc<Pod>]) -> BackOff {
        let mut ends: Vec<Timestamp> = failed.iter().map(|pod| finished_at(pod)).collect();
        ends.sort_unstable();
        match (succeeded.iter().map(|pod| finished_at(pod)).max(), ends.last()) {
            (None, None) => self,
            (None, last) => BackOff { failures: self.failures + ends.len() as u32, last: last.copied() },
            (Some(success), _) => {
                let since = ends.iter().rev().take_while(|end| **end > success);
                let failures = since.count() as u32;
                BackOff { failures, last: ends.last().copied().filter(|_| failures > 0) }
            }
        }
    }

    /// How long to wait from now on.
    pub fn remaining(self, now: Now) -> SimDuration {
        self.last.map_or(SimDuration::ZERO, |last| remaining(self.failures, last, now))
    }
}

/// How long to wait from now on before the last of so many failures is made good.
pub fn remaining(failures: u32, last: Timestamp, now: Now) -> SimDuration {
    if failures == 0 {
        return SimDuration::ZERO;
    }
    let seconds = FIRST.checked_shl((failures - 1).min(16)).unwrap_or(LAST).min(LAST);
    time::until(now, last, seconds).left()
}

/// When a pod ended: when its last container did; else since when it is not ready; else when its deletion was asked for.
pub fn finished_at(pod: &Pod) -> Timestamp {
    let not_ready = || {
        let ready = pod.status.condition(&PodConditionType::Ready);
        let since = ready.filter(|it| it.status == ConditionStatus::False).map(|it| it.last_transition);
        since.filter(|since| *since != Timestamp::default())
    };
    let deleted = || pod.meta.deletion.as_deref().map(|it| Timestamp(it.timestamp.0 - it.grace_seconds.unwrap_or(0)));
    containers_finished_at(pod).or_else(not_ready).or_else(deleted).unwrap_or(pod.meta.created)
}

/// When the last container ended, sidecars among them; nothing if one of them has not.
fn containers_finished_at(pod: &Pod) -> Option<Timestamp> {
    let is_sidecar = |status: &&ContainerStatus| {
        let same = |container: &&crate::api::pod::Container| container.name == status.name;
        pod.spec.containers.iter().find(same).is_some_and(|container| container.role == ContainerRole::Sidecar)
    };
    let main = latest(None, &mut pod.status.containers.iter());
    latest(main, &mut pod.status.init_containers.iter().filter(is_sidecar))
}

fn latest(before: Option<Timestamp>, statuses: &mut dyn Iterator<Item = &ContainerStatus>) -> Option<Timestamp> {
    let mut latest = before;
    for status in statuses {
        let ContainerState::Terminated(end) = &status.state else { return None };
        latest = latest.max(Some(end.finished_at?));
    }
    latest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::{now_at, ready_pod};

    fn ended(at: i64) -> Rc<Pod> {
        let mut pod = ready_pod("p", at);
        pod.status.conditions[0].status = ConditionStatus::False;
        Rc::new(pod)
    }

    #[test]
    fn each_failure_doubles_the_wait_and_a_success_ends_it() {
        let first = BackOff::default().after(&[], &[ended(100)]);
        assert_eq!(first.remaining(now_at(103)), SimDuration::from_secs(7));
        let second = first.after(&[], &[ended(115)]);
        assert_eq!(second.remaining(now_at(115)), SimDuration::from_secs(20));
        let many = second.after(&[], &[ended(120), ended(119), ended(121), ended(118), ended(117), ended(116)]);
        assert_eq!(many.remaining(now_at(121)), SimDuration::from_secs(600));
        assert_eq!(many.after(&[ended(130)], &[]), BackOff::default());
        let since = many.after(&[ended(130)], &[ended(131), ended(129)]);
        assert_eq!(since, BackOff { failures: 1, last: Some(Timestamp(131)) });
        assert_eq!(since.after(&[], &[]), since);
    }
}

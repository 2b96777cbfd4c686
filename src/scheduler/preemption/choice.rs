//! On which of several nodes the victims are missed least (kube-scheduler, `pickOneNodeForPreemption`).

use std::rc::Rc;

use super::dry_run::Candidate;
use crate::api::pod::Pod;

/// What is compared of two candidates, the first difference counting; the lower the better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Cost {
    /// How many budgets are broken.
    pub violations: u32,
    /// The highest priority of a victim.
    pub highest: i32,
    /// The sum of the priorities, each raised so that none is negative.
    pub sum: i64,
    /// How many victims there are.
    pub victims: u32,
    /// When the first of the most important ones began, turned round.
    pub began: i64,
}

impl Cost {
    /// None is higher.
    pub const HIGHEST: Cost =
        Cost { violations: u32::MAX, highest: i32::MAX, sum: i64::MAX, victims: u32::MAX, began: i64::MAX };
}

/// What the going of these pods costs: broken budgets, the highest priority, the sum of priorities, their number, and how long
/// ago the first of the most important ones began. They must stand in the order of their importance.
pub fn cost(victims: &[Rc<Pod>], violations: usize) -> Cost {
    let priority = |pod: &Rc<Pod>| pod.spec.priority;
    // So that a few pods of a negative priority are not worse than many.
    let sum = victims.iter().map(|pod| i64::from(priority(pod)) + (1 << 31)).sum();
    let most_important = victims.iter().map(priority).max();
    let began = victims.iter().filter(|pod| Some(priority(pod)) == most_important).map(|pod| start(pod)).min();
    Cost {
        violations: violations as u32,
        highest: victims.first().map_or(0, priority),
        sum,
        victims: victims.len() as u32,
        began: began.map_or(0, |began| -began),
    }
}

/// The places of the candidates that no criterion tells apart from the best one.
pub fn best(candidates: &[Candidate]) -> Vec<usize> {
    let best = candidates.iter().map(|candidate| &candidate.cost).min();
    let is_best = |place: &usize| Some(&candidates[*place].cost) == best;
    (0..candidates.len()).filter(is_best).collect()
}

/// When a pod began to run, in nanoseconds; one that has not begins just now, later than all others.
fn start(pod: &Pod) -> i64 {
    pod.status.started().map_or(i64::MAX, |start| start.0)
}

/// Puts pods into the order of their importance: by priority, then those first that began earlier
/// (kube-scheduler, `MoreImportantPod`).
pub fn sort_by_importance(pods: &mut [Rc<Pod>]) {
    pods.sort_by_key(|pod| (-i64::from(pod.spec.priority), start(pod)));
}

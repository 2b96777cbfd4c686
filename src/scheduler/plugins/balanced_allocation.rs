//! NodeResourcesBalancedAllocation: a node is better if the pod brings its uses of CPU and memory, or of the resources that the
//! arguments name, nearer to each other.

use std::rc::Rc;

use smallvec::SmallVec;

use super::allocation::{Counted, Use, uses};
use crate::api::pod::Pod;
use crate::scheduler::arguments::Arguments;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::framework::{MAX_SCORE, NodeScore, Plugin, Point, PreScore};
use crate::scheduler::node_info::NodeInfo;

/// The plugin.
pub struct BalancedAllocation {
    resources: Rc<[Counted]>,
}

struct Score {
    resources: Rc<[Counted]>,
    /// What the pod requests of each resource that counts.
    wanted: Vec<i64>,
}

impl BalancedAllocation {
    /// The plugin with these arguments; with the default ones if they are another plugin's.
    pub fn new(arguments: &Arguments) -> Self {
        match arguments {
            Arguments::NodeResourcesBalancedAllocation(arguments) => {
                BalancedAllocation { resources: Counted::all(&arguments.resources).into() }
            }
            _ => BalancedAllocation::new(&Arguments::of_plugin("NodeResourcesBalancedAllocation")),
        }
    }
}

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreScore, Point::Score]
    }

    /// Pods that request nothing would otherwise gather on one node (kube-scheduler, `isBestEffortPod`).
    fn pre_score(&self, pod: &Pod, _cluster: &Cluster, _feasible: &[&NodeInfo]) -> PreScore {
        let wanted: Vec<i64> = self.resources.iter().map(|resource| resource.of(&pod.spec.requests)).collect();
        if wanted.iter().all(|wanted| *wanted == 0) {
            return PreScore::Skip;
        }
        PreScore::Score(Box::new(Score { resources: self.resources.clone(), wanted }))
    }
}

impl NodeScore for Score {
    /// Compares the balance with and without the pod; about 75 if it stays as it is.
    fn score(&self, node: &NodeInfo) -> i64 {
        let mut uses = uses(&self.resources, &self.wanted, node, false);
        let (with, without) = match [uses.next(), uses.next(), uses.next()] {
            [Some(first), Some(second), None] => {
                let balance = |used: fn(&Use) -> i64| balance_of_two(share(&first, used), share(&second, used));
                (balance(|at| at.with_pod), balance(|at| at.used))
            }
            some => {
                let uses: SmallVec<[Use; 4]> = some.into_iter().flatten().chain(uses).collect();
                (balance(&uses, |at| at.with_pod), balance(&uses, |at| at.used))
            }
        };
        MAX_SCORE / 2 + (MAX_SCORE / 2 + with - without) / 2
    }
}

/// How much of what a node has is used.
#[inline]
fn share(at: &Use, used: fn(&Use) -> i64) -> f64 {
    (used(at) as f64 / at.has as f64).min(1.0)
}

/// With two resources the standard deviation is half their distance.
#[inline]
fn balance_of_two(first: f64, second: f64) -> i64 {
    ((1.0 - ((first - second) / 2.0).abs()) * MAX_SCORE as f64) as i64
}

/// From 50 for one resource full and the other unused to 100 for equal shares, in the floating-point steps of
/// `balancedResourceScore`.
fn balance(uses: &[Use], used: fn(&Use) -> i64) -> i64 {
    let shares: SmallVec<[f64; 4]> = uses.iter().map(|at| share(at, used)).collect();
    let deviation = match shares.as_slice() {
        [] | [_] => 0.0,
        [first, second] => return balance_of_two(*first, *second),
        shares => {
            let count = shares.len() as f64;
            let mean = shares.iter().fold(0.0, |sum, share| sum + share) / count;
            let squares = shares.iter().fold(0.0, |sum, share| sum + (share - mean) * (share - mean));
            libm::sqrt(squares / count)
        }
    };
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_resources_are_balanced_by_their_standard_deviation() {
        let used = |with_pod: i64| Use { has: 100, used: 0, with_pod, weight: 1 };
        let balance = |shares: &[i64]| {
            let uses: Vec<Use> = shares.iter().map(|share| used(*share)).collect();
            super::balance(&uses, |at| at.with_pod)
        };
        assert_eq!((balance(&[50, 50, 50]), balance(&[0, 50, 100]), balance(&[100])), (100, 59, 100));
        assert_eq!((balance(&[100, 0]), balance(&[150, 100])), (50, 100));
    }
}

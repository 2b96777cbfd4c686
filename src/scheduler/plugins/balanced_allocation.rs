//! NodeResourcesBalancedAllocation: a node is better if the pod brings its use of CPU and memory nearer to each other.

use std::rc::Rc;

use crate::api::pod::{Pod, PodSpec};
use crate::scheduler::cluster::Cluster;
use crate::scheduler::framework::{MAX_SCORE, NodeScore, Plugin, Point, PreScore};
use crate::scheduler::node_info::NodeInfo;

/// The plugin.
pub struct BalancedAllocation;

struct Score(Rc<PodSpec>);

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreScore, Point::Score]
    }

    /// Pods that request nothing would otherwise gather on one node (kube-scheduler, `isBestEffortPod`).
    fn pre_score(&self, pod: &Pod, _cluster: &Cluster, _feasible: &[&NodeInfo]) -> PreScore {
        let requests = &pod.spec.requests;
        if requests.milli_cpu == 0 && requests.memory == 0 {
            return PreScore::Skip;
        }
        PreScore::Score(Box::new(Score(pod.spec.clone())))
    }
}

impl NodeScore for Score {
    /// Compares the balance with and without the pod; about 75 if it stays as it is.
    fn score(&self, node: &NodeInfo) -> i64 {
        let (has, used, pod) = (node.allocatable(), &node.requested, &self.0.requests);
        let with = [
            (used.milli_cpu.wrapping_add(pod.milli_cpu), has.milli_cpu),
            (used.memory.wrapping_add(pod.memory), has.memory),
        ];
        let without = [(used.milli_cpu, has.milli_cpu), (used.memory, has.memory)];
        MAX_SCORE / 2 + (MAX_SCORE / 2 + balance(with) - balance(without)) / 2
    }
}

/// From 50 for one resource full and the other unused to 100 for equal shares, in the floating-point steps of
/// `balancedResourceScore`: with two resources the standard deviation is half their distance.
fn balance(used: [(i64, i64); 2]) -> i64 {
    let share = |(used, has): (i64, i64)| (used as f64 / has as f64).min(1.0);
    let [first, second] = used;
    let deviation = if first.1 == 0 || second.1 == 0 { 0.0 } else { ((share(first) - share(second)) / 2.0).abs() };
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}

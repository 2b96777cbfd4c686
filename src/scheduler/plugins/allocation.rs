//! What plugins that score by resources share: which resources count, what of them a node has, and what a use is worth
//! (kube-scheduler, `framework/plugins/noderesources/resource_allocation.go` and the files of the strategies).

use crate::api::name::Name;
use crate::api::resources::Resources;
use crate::api::validation::resources::is_extended;
use crate::scheduler::arguments::resources::MAX_SHAPE_SCORE;
use crate::scheduler::arguments::{ResourceSpec, ScoringStrategy};
use crate::scheduler::framework::MAX_SCORE;
use crate::scheduler::node_info::NodeInfo;

/// A resource that counts.
#[derive(Clone, Debug)]
pub struct Counted {
    kind: Kind,
    weight: i64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Kind {
    Cpu,
    Memory,
    EphemeralStorage,
    /// Another one, and whether it counts for pods that request it only.
    Other(Name, bool),
}

/// What a node has of a resource, what is used, and what would be used with the pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Use {
    /// What the node has; never zero.
    pub has: i64,
    /// What its pods use.
    pub used: i64,
    /// The same with the pod.
    pub with_pod: i64,
    /// How much the resource counts.
    pub weight: i64,
}

/// What the uses of a node are worth.
#[derive(Clone, PartialEq, Debug)]
pub enum Strategy {
    /// The more is left the better.
    LeastAllocated,
    /// The less is left the better.
    MostAllocated,
    /// As a line through points of utilization in percent and score says.
    RequestedToCapacityRatio(Vec<(i64, i64)>),
}

impl Counted {
    /// The resources that arguments name.
    pub fn all(resources: &[ResourceSpec]) -> Vec<Counted> {
        let kind = |name: &str| match name {
            "cpu" => Kind::Cpu,
            "memory" => Kind::Memory,
            "ephemeral-storage" => Kind::EphemeralStorage,
            other => Kind::Other(other.into(), is_scalar(other)),
        };
        resources.iter().map(|resource| Counted { kind: kind(&resource.name), weight: resource.weight }).collect()
    }

    /// How much of it something requests.
    pub fn of(&self, requests: &Resources) -> i64 {
        match &self.kind {
            Kind::Cpu => requests.milli_cpu,
            Kind::Memory => requests.memory,
            Kind::EphemeralStorage => requests.ephemeral_storage,
            Kind::Other(name, _) => requests.scalar(name),
        }
    }

    /// What of it a node has and what is used, given what the pod requests; none if it does not count here. With `guess`,
    /// pods that name no CPU or memory are taken to use some.
    #[inline]
    fn on(&self, node: &NodeInfo, wanted: i64, guess: bool) -> Option<Use> {
        let (has, requested) = (node.allocatable(), &node.requested);
        let (has, used) = match &self.kind {
            Kind::Cpu => (has.milli_cpu, if guess { node.scoring_milli_cpu } else { requested.milli_cpu }),
            Kind::Memory => (has.memory, if guess { node.scoring_memory } else { requested.memory }),
            Kind::EphemeralStorage => (has.ephemeral_storage, requested.ephemeral_storage),
            Kind::Other(_, true) if wanted == 0 => return None,
            Kind::Other(name, _) => (has.scalar(name), requested.scalar(name)),
        };
        (has != 0).then(|| Use { has, used, with_pod: used.wrapping_add(wanted), weight: self.weight })
    }
}

/// What counts of a node for a pod that requests `wanted` of each of `resources`.
#[inline]
pub fn uses(resources: &[Counted], wanted: &[i64], node: &NodeInfo, guess: bool) -> impl Iterator<Item = Use> {
    resources.iter().zip(wanted).filter_map(move |(resource, wanted)| resource.on(node, *wanted, guess))
}

/// Extended resources, huge pages and the like: a pod that requests none of them is scored without (`IsScalarResourceName`).
fn is_scalar(name: &str) -> bool {
    is_extended(name)
        || name.starts_with("hugepages-")
        || name.contains("kubernetes.io/")
        || name.starts_with("attachable-volumes-")
}

impl Strategy {
    /// The strategy that arguments name.
    pub fn of(arguments: &ScoringStrategy) -> Strategy {
        match arguments.kind.as_str() {
            "MostAllocated" => Strategy::MostAllocated,
            "RequestedToCapacityRatio" => {
                let shape = arguments.requested_to_capacity_ratio.iter().flat_map(|ratio| &ratio.shape);
                let point = |utilization: i32, score: i32| {
                    (i64::from(utilization), i64::from(score) * (MAX_SCORE / MAX_SHAPE_SCORE))
                };
                let points = shape.map(|at| point(at.utilization, at.score));
                Strategy::RequestedToCapacityRatio(points.collect())
            }
            _ => Strategy::LeastAllocated,
        }
    }

    /// What uses are worth, from zero to [`MAX_SCORE`].
    #[inline]
    pub fn score(&self, uses: impl IntoIterator<Item = Use>) -> i64 {
        let (mut sum, mut weights) = (0_i64, 0_i64);
        for at in uses {
            let score = match self {
                Strategy::LeastAllocated if at.with_pod > at.has => 0,
                Strategy::LeastAllocated => at.has.wrapping_sub(at.with_pod).wrapping_mul(MAX_SCORE) / at.has,
                Strategy::MostAllocated => at.with_pod.min(at.has).wrapping_mul(MAX_SCORE) / at.has,
                Strategy::RequestedToCapacityRatio(shape) => {
                    let utilization = if at.with_pod > at.has { 100 } else { at.with_pod.wrapping_mul(100) / at.has };
                    match on_line(shape, utilization) {
                        score if score > 0 => score,
                        // What is worth nothing does not count at all.
                        _ => continue,
                    }
                }
            };
            sum = sum.wrapping_add(score.wrapping_mul(at.weight));
            weights += at.weight;
        }
        match self {
            _ if weights == 0 => 0,
            Strategy::RequestedToCapacityRatio(_) => (sum as f64 / weights as f64).round() as i64,
            _ => sum / weights,
        }
    }
}

/// The value at a place of a line through points (`BuildBrokenLinearFunction`).
fn on_line(shape: &[(i64, i64)], at: i64) -> i64 {
    let Some(next) = shape.iter().position(|(utilization, _)| at <= *utilization) else {
        return shape.last().map_or(0, |(_, score)| *score);
    };
    let (right, high) = shape[next];
    let Some((left, low)) = next.checked_sub(1).map(|before| shape[before]) else { return high };
    low + (high - low) * (at - left) / (right - left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(has: i64, with_pod: i64, weight: i64) -> Use {
        Use { has, used: 0, with_pod, weight }
    }

    #[test]
    fn most_and_least_allocated_mirror_each_other() {
        let uses = [used(4000, 1000, 1), used(1000, 500, 3)];
        assert_eq!(Strategy::LeastAllocated.score(uses), (75 + 3 * 50) / 4);
        assert_eq!(Strategy::MostAllocated.score(uses), (25 + 3 * 50) / 4);
        let over = [used(1000, 1500, 1)];
        assert_eq!((Strategy::LeastAllocated.score(over), Strategy::MostAllocated.score(over)), (0, 100));
        assert_eq!(Strategy::MostAllocated.score([]), 0);
    }

    #[test]
    fn a_shape_is_followed_between_its_points_and_level_outside() {
        let shape = [(20, 100), (60, 0), (80, 40)];
        let scores: Vec<i64> = [0, 20, 30, 33, 60, 75, 80, 100].map(|at| on_line(&shape, at)).into();
        assert_eq!(scores, [100, 100, 75, 68, 0, 30, 40, 40]);
    }

    #[test]
    fn what_a_shape_gives_nothing_does_not_count_and_means_are_rounded() {
        let strategy = Strategy::RequestedToCapacityRatio(vec![(0, 0), (100, 100)]);
        assert_eq!(strategy.score([used(100, 0, 5), used(100, 50, 1)]), 50);
        assert_eq!(strategy.score([used(100, 50, 1), used(100, 51, 1)]), 51);
        assert_eq!(strategy.score([used(100, 200, 1)]), 100);
    }
}

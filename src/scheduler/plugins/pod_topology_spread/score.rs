//! Constraints that should hold: the fewer pods are in a node's places, the better.

use std::collections::BTreeMap;

use super::super::node_affinity::Required;
use super::constraint::{Constraint, HOSTNAME, has_all_labels};
use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::framework::{MAX_SCORE, NodeScore, Normalization};
use crate::scheduler::node_info::NodeInfo;

pub(super) struct Score {
    constraints: Vec<Constraint>,
    requires_all_labels: bool,
    namespace: Name,
    /// For each constraint the pods in each place where there is a feasible node; not for hosts, which are counted one by one.
    counts: Vec<BTreeMap<Name, i64>>,
    weights: Vec<f64>,
}

impl Score {
    pub(super) fn new(
        constraints: Vec<Constraint>,
        requires_all_labels: bool,
        pod: &Pod,
        cluster: &Cluster,
        feasible: &[&NodeInfo],
    ) -> Self {
        let counts = constraints.iter().map(|_| BTreeMap::new()).collect();
        let namespace = pod.meta.namespace.clone();
        let mut score = Score { constraints, requires_all_labels, namespace, counts, weights: Vec::new() };
        score.find_places(feasible);
        score.count(pod, cluster);
        score
    }

    /// Which places there are among the feasible nodes; the more there are, the more a constraint weighs.
    fn find_places(&mut self, feasible: &[&NodeInfo]) {
        let mut ignored = 0;
        for info in feasible {
            if self.ignores(info) {
                ignored += 1;
                continue;
            }
            for (constraint, counts) in self.constraints.iter().zip(&mut self.counts) {
                if constraint.key != HOSTNAME {
                    counts.entry(place(info, &constraint.key)).or_insert(0);
                }
            }
        }
        let sizes = self.constraints.iter().zip(&self.counts);
        let size = |(constraint, counts): (&Constraint, &BTreeMap<Name, i64>)| {
            if constraint.key == HOSTNAME { feasible.len() - ignored } else { counts.len() }
        };
        self.weights = sizes.map(|sizes| weight(size(sizes))).collect();
    }

    fn count(&mut self, pod: &Pod, cluster: &Cluster) {
        let required = Required::of(pod);
        for info in cluster.nodes() {
            let Some(node) = &info.node else { continue };
            if self.ignores(info) {
                continue;
            }
            for (constraint, counts) in self.constraints.iter().zip(&mut self.counts) {
                if constraint.includes(node, &required, &pod.spec)
                    && let Some(count) = counts.get_mut(&place(info, &constraint.key))
                {
                    *count += constraint.count(&self.namespace, info);
                }
            }
        }
    }

    fn ignores(&self, info: &NodeInfo) -> bool {
        let has_all = info.node.as_ref().is_some_and(|node| has_all_labels(&node.meta.labels, &self.constraints));
        self.requires_all_labels && !has_all
    }
}

/// The place of a node; nodes without the label are in one of their own, without a name.
fn place(info: &NodeInfo, key: &Name) -> Name {
    info.node.as_ref().and_then(|node| node.meta.labels.get(key)).cloned().unwrap_or_default()
}

/// How much a constraint weighs: the counts of a few large places must not be outweighed by those of many small ones
/// (kube-scheduler, `topologyNormalizingWeight`).
pub(super) fn weight(places: usize) -> f64 {
    libm::log((places + 2) as f64)
}

/// What a count is worth. The allowed skew is added so that small differences are watered down (kube-scheduler, `scoreForCount`).
pub(super) fn worth(count: i64, max_skew: i64, weight: f64) -> f64 {
    count as f64 * weight + (max_skew - 1) as f64
}

/// The scale of scores, fewer pods being better (kube-scheduler, `NormalizeScore`).
pub(super) fn scaled(raw: i64, lowest: i64, highest: i64) -> i64 {
    if highest == 0 { MAX_SCORE } else { MAX_SCORE * (highest + lowest - raw) / highest }
}

impl NodeScore for Score {
    fn score(&self, node: &NodeInfo) -> i64 {
        if self.ignores(node) {
            return 0;
        }
        let labels = node.node.as_ref().map(|node| &node.meta.labels);
        let mut score = 0.0;
        for (index, constraint) in self.constraints.iter().enumerate() {
            let Some(place) = labels.and_then(|labels| labels.get(&constraint.key)) else { continue };
            let count = if constraint.key == HOSTNAME {
                constraint.count(&self.namespace, node)
            } else {
                self.counts[index].get(place).copied().unwrap_or(0)
            };
            score += worth(count, constraint.max_skew, self.weights[index]);
        }
        score.round() as i64
    }

    fn normalization(&self) -> Normalization {
        Normalization::Own
    }

    fn normalize(&self, nodes: &[&NodeInfo], scores: &mut [i64]) {
        let counted =
            || nodes.iter().zip(scores.iter()).filter(|(node, _)| !self.ignores(node)).map(|(_, score)| *score);
        let (lowest, highest) = (counted().min().unwrap_or(i64::MAX), counted().max().unwrap_or(0));
        for (node, score) in nodes.iter().zip(scores.iter_mut()) {
            *score = if self.ignores(node) { 0 } else { scaled(*score, lowest, highest) };
        }
    }
}

//! Constraints that must hold: nowhere more pods than in the place with the fewest, plus the skew that is allowed.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::super::node_affinity::Required;
use super::constraint::{Constraint, has_all_labels};
use crate::api::meta::Labels;
use crate::api::name::Name;
use crate::api::pod::{Pod, PodSpec};
use crate::scheduler::cluster::Cluster;
use crate::scheduler::framework::{NodeFilter, Status};
use crate::scheduler::node_info::NodeInfo;

/// What is said where the skew would be too large.
pub(super) const TOO_SKEWED: Name = Name::of("node(s) didn't match pod topology spread constraints");
/// What is said of nodes without the label.
pub(super) const NO_LABEL: Name =
    Name::of("node(s) didn't match pod topology spread constraints (missing required label)");

pub(super) struct Filter {
    constraints: Vec<Constraint>,
    counts: Vec<Counts>,
    namespace: Name,
    labels: Labels,
    spec: Rc<PodSpec>,
    required: Required,
}

/// How many pods there are in each place.
#[derive(Default)]
struct Counts {
    of_place: BTreeMap<Name, i64>,
    /// The two smallest counts, with the place of the first.
    lowest: Option<(Name, i64)>,
    second: Option<i64>,
}

impl Filter {
    pub(super) fn new(constraints: Vec<Constraint>, pod: &Pod, cluster: &Cluster) -> Self {
        let mut filter = Filter {
            counts: constraints.iter().map(|_| Counts::default()).collect(),
            constraints,
            namespace: pod.meta.namespace.clone(),
            labels: pod.meta.labels.clone(),
            spec: pod.spec.clone(),
            required: Required::of(pod),
        };
        for info in cluster.nodes() {
            filter.count(info);
        }
        filter.counts.iter_mut().for_each(Counts::find_lowest);
        filter
    }

    fn count(&mut self, info: &NodeInfo) {
        let Some(node) = &info.node else { return };
        if !has_all_labels(&node.meta.labels, &self.constraints) {
            return;
        }
        for (constraint, counts) in self.constraints.iter().zip(&mut self.counts) {
            if let Some(place) = node.meta.labels.get(&constraint.key)
                && constraint.includes(node, &self.required, &self.spec)
            {
                *counts.of_place.entry(place.clone()).or_default() += constraint.count(&self.namespace, info);
            }
        }
    }

    /// The verdict, were there `change` more pods that count, per constraint, in the node's place.
    fn verdict(&self, node: &NodeInfo, change: impl Fn(usize) -> i64) -> Status {
        let labels = node.node.as_ref().map_or(Labels::NONE, |node| node.meta.labels.clone());
        for (index, (constraint, counts)) in self.constraints.iter().zip(&self.counts).enumerate() {
            let Some(place) = labels.get(&constraint.key) else { return Status::unresolvable(NO_LABEL) };
            let own = i64::from(constraint.selector.matches(&self.labels));
            let (count, lowest) = counts.with(place, change(index), constraint.min_domains);
            if count + own - lowest > constraint.max_skew {
                return Status::unschedulable(TOO_SKEWED);
            }
        }
        Status::SUCCESS
    }
}

impl NodeFilter for Filter {
    fn filter(&self, node: &NodeInfo) -> Status {
        self.verdict(node, |_| 0)
    }

    /// Here pods that are being deleted do count, as in the source.
    fn filter_if(&self, node: &NodeInfo, added: &[Rc<Pod>], removed: &[Rc<Pod>]) -> Status {
        let Some(on) = &node.node else { return self.filter(node) };
        let has_all = has_all_labels(&on.meta.labels, &self.constraints);
        let meant = |constraint: &Constraint, pods: &[Rc<Pod>]| {
            let pods = pods.iter().filter(|pod| pod.meta.namespace == self.namespace);
            pods.filter(|pod| constraint.selector.matches(&pod.meta.labels)).count() as i64
        };
        self.verdict(node, |index| {
            let constraint = &self.constraints[index];
            let counts = has_all && constraint.includes(on, &self.required, &self.spec);
            if counts { meant(constraint, added) - meant(constraint, removed) } else { 0 }
        })
    }
}

impl Counts {
    fn find_lowest(&mut self) {
        for (place, count) in &self.of_place {
            match &self.lowest {
                Some((_, lowest)) if lowest <= count => {
                    self.second = Some(self.second.map_or(*count, |second| second.min(*count)));
                }
                before => {
                    self.second = before.as_ref().map(|(_, lowest)| *lowest).or(self.second);
                    self.lowest = Some((place.clone(), *count));
                }
            }
        }
    }

    /// The count of a place with a change, and the smallest of all counts with that change. Where no place counts, the smallest
    /// is what the source begins with.
    fn with(&self, place: &Name, change: i64, min_domains: usize) -> (i64, i64) {
        let there = self.of_place.get(place);
        let count = there.copied().unwrap_or(0) + change;
        if self.of_place.len() < min_domains {
            return (count, 0);
        }
        let begin = i64::from(i32::MAX);
        let of_others = match &self.lowest {
            Some((lowest, _)) if lowest == place => self.second.unwrap_or(begin),
            Some((_, lowest)) => *lowest,
            None => begin,
        };
        (count, if there.is_some() { of_others.min(count) } else { of_others })
    }
}

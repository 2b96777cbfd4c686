//! Preferred terms: of the pod towards those that are there, and of those towards the pod, their required affinity included.

use std::collections::BTreeMap;

use super::Incoming;
use crate::api::meta::Labels;
use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::framework::{MAX_SCORE, NodeScore, Normalization};
use crate::scheduler::node_info::{NodeInfo, has_affinity};
use crate::scheduler::terms::{Term, Terms};

/// What a label and its value are worth.
pub(super) struct Score(BTreeMap<Name, BTreeMap<Name, i64>>);

impl Score {
    /// Weighs all pods that are there; none if nobody wants anything of anybody.
    pub(super) fn new(incoming: &Incoming, hard_weight: i64, cluster: &Cluster) -> Option<Self> {
        let mut worth = BTreeMap::new();
        for info in cluster.nodes() {
            let Some(node) = &info.node else { continue };
            let pods = if incoming.prefers() { &info.pods } else { &info.pods_with_affinity };
            for there in pods {
                each_wish(incoming, there, hard_weight, |key, weight| {
                    if let Some(value) = node.meta.labels.get(key) {
                        let values: &mut BTreeMap<Name, i64> = worth.entry(key.clone()).or_default();
                        *values.entry(value.clone()).or_default() += weight;
                    }
                });
            }
        }
        (!worth.is_empty()).then_some(Score(worth))
    }
}

/// All that the pod that comes and one that is there wish of one another, as a label and a weight.
fn each_wish(incoming: &Incoming, there: &Pod, hard_weight: i64, mut wish: impl FnMut(&Name, i64)) {
    wishes_of_incoming(incoming, &there.meta.namespace, &there.meta.labels, &mut wish);
    if has_affinity(&there.spec) {
        let terms = Terms::compile(&there.spec, &there.meta.namespace);
        wishes_of_existing(incoming, &terms, hard_weight, &mut wish);
    }
}

/// What the pod that comes wishes of pods of a namespace with these labels.
pub(super) fn wishes_of_incoming(
    incoming: &Incoming,
    namespace: &Name,
    labels: &Labels,
    wish: &mut impl FnMut(&Name, i64),
) {
    let mut each = |terms: &[(Term, i64)], sign: i64| {
        for (term, weight) in terms.iter().filter(|(term, _)| term.matches(namespace, labels, &Labels::NONE)) {
            wish(&term.topology_key, sign * weight);
        }
    };
    each(&incoming.terms.preferred_affinity, 1);
    each(&incoming.terms.preferred_anti_affinity, -1);
}

/// What pods with these terms wish of the pod that comes.
pub(super) fn wishes_of_existing(
    incoming: &Incoming,
    terms: &Terms,
    hard_weight: i64,
    wish: &mut impl FnMut(&Name, i64),
) {
    let meant = |term: &Term| term.matches(&incoming.namespace, &incoming.labels, &incoming.namespace_labels);
    if hard_weight > 0 {
        let required = terms.required_affinity.iter().filter(|term| meant(term));
        required.for_each(|term| wish(&term.topology_key, hard_weight));
    }
    let near = terms.preferred_affinity.iter().filter(|(term, _)| meant(term));
    near.for_each(|(term, weight)| wish(&term.topology_key, *weight));
    let far = terms.preferred_anti_affinity.iter().filter(|(term, _)| meant(term));
    far.for_each(|(term, weight)| wish(&term.topology_key, -weight));
}

impl NodeScore for Score {
    fn score(&self, node: &NodeInfo) -> i64 {
        let Some(node) = &node.node else { return 0 };
        let worth = |(key, values): (&Name, &BTreeMap<Name, i64>)| {
            node.meta.labels.get(key).and_then(|value| values.get(value)).copied().unwrap_or(0)
        };
        self.0.iter().map(worth).sum()
    }

    fn normalization(&self) -> Normalization {
        Normalization::Own
    }

    fn normalize(&self, _nodes: &[&NodeInfo], scores: &mut [i64]) {
        let (lowest, highest) = range(scores.iter().copied());
        scores.iter_mut().for_each(|score| *score = scaled(*score, lowest, highest));
    }
}

/// The lowest and the highest of some scores.
pub(super) fn range(scores: impl Iterator<Item = i64>) -> (i64, i64) {
    scores.fold((i64::MAX, i64::MIN), |(lowest, highest), score| (lowest.min(score), highest.max(score)))
}

/// A raw score between the lowest and the highest one, in the order of operations of the source.
pub(super) fn scaled(score: i64, lowest: i64, highest: i64) -> i64 {
    if highest > lowest { (MAX_SCORE as f64 * ((score - lowest) as f64 / (highest - lowest) as f64)) as i64 } else { 0 }
}

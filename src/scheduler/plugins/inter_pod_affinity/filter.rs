//! Required terms: the pod's own affinity and anti-affinity, and the anti-affinity of pods that are there.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::Incoming;
use crate::api::meta::Labels;
use crate::api::name::Name;
use crate::api::node::Node;
use crate::api::pod::Pod;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::framework::{NodeFilter, Status};
use crate::scheduler::node_info::{NodeInfo, requires_anti_affinity};
use crate::scheduler::terms::{Terms, all_match};

/// What is said where the pods that must be near are not.
pub(super) const AFFINITY: Name = Name::of("node(s) didn't match pod affinity rules");
/// What is said where pods are that must not be near.
pub(super) const ANTI_AFFINITY: Name = Name::of("node(s) didn't match pod anti-affinity rules");
/// What is said where pods are that do not want the pod to be near.
pub(super) const EXISTING: Name = Name::of("node(s) didn't satisfy existing pods anti-affinity rules");

/// How many pods a label and its value stand for; what is zero is not there.
#[derive(Default)]
struct Pairs(BTreeMap<Name, BTreeMap<Name, i64>>);

#[derive(Default)]
struct Counts {
    affinity: Pairs,
    anti_affinity: Pairs,
    existing: Pairs,
}

pub(super) struct Filter {
    incoming: Incoming,
    counts: Counts,
}

impl Filter {
    /// Counts all pods that are there (kube-scheduler, `PreFilter`).
    pub(super) fn new(incoming: Incoming, cluster: &Cluster) -> Self {
        let mut counts = Counts::default();
        let terms = &incoming.terms;
        let wants = !terms.required_affinity.is_empty() || !terms.required_anti_affinity.is_empty();
        for info in cluster.nodes() {
            let Some(node) = &info.node else { continue };
            for there in &info.pods_with_required_anti_affinity {
                counts.of_existing(&incoming, there, node, 1);
            }
            if wants {
                info.pods.iter().for_each(|there| counts.of_incoming(&incoming, there, node, 1));
            }
        }
        Filter { incoming, counts }
    }

    /// True if no node can be rejected.
    pub(super) fn says_nothing(&self) -> bool {
        let terms = &self.incoming.terms;
        self.counts.existing.0.is_empty()
            && terms.required_affinity.is_empty()
            && terms.required_anti_affinity.is_empty()
    }

    fn verdict(&self, node: &NodeInfo, change: &Counts) -> Status {
        let Some(node) = &node.node else { return Status::unresolvable(AFFINITY) };
        if !self.is_affinity_satisfied(node, change) {
            return Status::unresolvable(AFFINITY);
        }
        let pods_on = |counts: &Pairs, change: &Pairs, key: &Name| counts.on(node, key) + change.on(node, key) > 0;
        let mut own = self.incoming.terms.required_anti_affinity.iter();
        if own.any(|term| pods_on(&self.counts.anti_affinity, &change.anti_affinity, &term.topology_key)) {
            return Status::unschedulable(ANTI_AFFINITY);
        }
        let mut labels = node.meta.labels.pairs().iter();
        if labels.any(|(key, _)| pods_on(&self.counts.existing, &change.existing, key)) {
            return Status::unschedulable(EXISTING);
        }
        Status::SUCCESS
    }

    /// The first of pods that want to be near one another finds none: it may go where the labels are.
    fn is_affinity_satisfied(&self, node: &Node, change: &Counts) -> bool {
        let terms = &self.incoming.terms.required_affinity;
        if terms.iter().any(|term| node.meta.labels.get(&term.topology_key).is_none()) {
            return false;
        }
        let count = |key: &Name| self.counts.affinity.on(node, key) + change.affinity.on(node, key);
        terms.iter().all(|term| count(&term.topology_key) > 0)
            || self.counts.affinity.is_empty_with(&change.affinity)
                && all_match(terms, &self.incoming.namespace, &self.incoming.labels)
    }
}

impl NodeFilter for Filter {
    fn filter(&self, node: &NodeInfo) -> Status {
        self.verdict(node, &Counts::default())
    }

    fn filter_if(&self, node: &NodeInfo, added: &[Rc<Pod>], removed: &[Rc<Pod>]) -> Status {
        let mut change = Counts::default();
        if let Some(on) = &node.node {
            let changed = added.iter().map(|pod| (pod, 1)).chain(removed.iter().map(|pod| (pod, -1)));
            for (pod, count) in changed {
                change.of_existing(&self.incoming, pod, on, count);
                change.of_incoming(&self.incoming, pod, on, count);
            }
        }
        self.verdict(node, &change)
    }
}

impl Counts {
    /// Takes in what a pod that is there has against the one that comes.
    fn of_existing(&mut self, incoming: &Incoming, there: &Pod, node: &Node, count: i64) {
        if !requires_anti_affinity(&there.spec) {
            return;
        }
        let terms = Terms::compile(&there.spec, &there.meta.namespace).required_anti_affinity;
        let meant =
            terms.iter().filter(|term| term.matches(&incoming.namespace, &incoming.labels, &incoming.namespace_labels));
        meant.for_each(|term| self.existing.add(node, &term.topology_key, count));
    }

    /// Takes in what the one that comes wants of a pod that is there: it must be meant by all terms of affinity together, but
    /// by each of anti-affinity alone.
    fn of_incoming(&mut self, incoming: &Incoming, there: &Pod, node: &Node, count: i64) {
        let (terms, meta) = (&incoming.terms, &there.meta);
        if all_match(&terms.required_affinity, &meta.namespace, &meta.labels) {
            terms.required_affinity.iter().for_each(|term| self.affinity.add(node, &term.topology_key, count));
        }
        let against = terms.required_anti_affinity.iter();
        against
            .filter(|term| term.matches(&meta.namespace, &meta.labels, &Labels::NONE))
            .for_each(|term| self.anti_affinity.add(node, &term.topology_key, count));
    }
}

impl Pairs {
    fn add(&mut self, node: &Node, key: &Name, count: i64) {
        let Some(value) = node.meta.labels.get(key) else { return };
        let values = self.0.entry(key.clone()).or_default();
        let sum = values.entry(value.clone()).or_default();
        *sum += count;
        if *sum == 0 {
            values.remove(value);
            if values.is_empty() {
                self.0.remove(key);
            }
        }
    }

    fn on(&self, node: &Node, key: &Name) -> i64 {
        let Some(values) = self.0.get(key) else { return 0 };
        node.meta.labels.get(key).and_then(|value| values.get(value)).copied().unwrap_or(0)
    }

    /// True if nothing would be left after a change.
    fn is_empty_with(&self, change: &Pairs) -> bool {
        let mut left: i64 = self.0.values().map(|values| values.len() as i64).sum();
        for (key, values) in &change.0 {
            for (value, count) in values {
                match self.0.get(key).and_then(|values| values.get(value)) {
                    None => left += 1,
                    Some(sum) if sum + count == 0 => left -= 1,
                    Some(_) => {}
                }
            }
        }
        left == 0
    }
}

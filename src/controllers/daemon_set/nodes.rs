//! Which nodes are to have a pod of a DaemonSet, and which pods they have.

use std::rc::Rc;

use k8s_openapi::api::core::v1::Toleration;
use smallvec::SmallVec;

use crate::api::meta::Timestamp;
use crate::api::name::Name;
use crate::api::node::{Node, Taint, TaintEffect};
use crate::api::node_selector::NodeSelector;
use crate::api::pod::Pod;
use crate::api::selector::Selector;
use crate::api::tolerations;
use crate::api::workload::DaemonSet;
use crate::engine::hash::Map;

use super::pods;
use super::survey::Seen;

/// What a DaemonSet's template says of nodes.
pub(super) struct Eligibility {
    name: Option<Name>,
    labels: Option<Selector>,
    affinity: Option<NodeSelector>,
    tolerations: Vec<Toleration>,
}

impl Eligibility {
    pub fn of(set: &DaemonSet) -> Self {
        let full = &set.template.spec.full;
        let affinity = full.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let required = affinity.and_then(|own| own.required_during_scheduling_ignored_during_execution.as_ref());
        Eligibility {
            name: full.node_name.as_deref().filter(|name| !name.is_empty()).map(Name::from),
            labels: full.node_selector.as_ref().filter(|labels| !labels.is_empty()).map(Selector::from_set),
            affinity: required.map(NodeSelector::compile),
            tolerations: pods::tolerations(full),
        }
    }

    /// Whether a node is to have a pod, and whether a pod that is there may stay (`NodeShouldRunDaemonPod`).
    pub fn of_node(&self, node: &Node) -> (bool, bool) {
        let fits = self.name.as_ref().is_none_or(|name| node.meta.name == *name)
            && self.labels.as_ref().is_none_or(|labels| labels.matches(&node.meta.labels))
            && self.affinity.as_ref().is_none_or(|affinity| affinity.matches(node));
        if !fits {
            return (false, false);
        }
        if tolerations::tolerate_hard_taints(&self.tolerations, &node.taints) {
            return (true, true);
        }
        let drives_away =
            |taint: &Taint| taint.effect == TaintEffect::NoExecute && !tolerations::tolerate(&self.tolerations, taint);
        (false, !node.taints.iter().any(drives_away))
    }
}

/// What a node is to a DaemonSet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Standing {
    /// Whether there is such a node.
    pub exists: bool,
    /// It is to have a pod.
    pub should_run: bool,
    /// A pod that it has may stay.
    pub should_continue: bool,
}

/// The nodes at which there may be something to be done for a DaemonSet, and how many there are besides.
pub(super) struct Nodes {
    /// By name. Of all nodes, and all names of nodes that its pods have, those are missing at which all is as it should be.
    pub open: Vec<OnNode>,
    /// How many nodes have the one pod that they should have, new and available.
    pub settled: usize,
    /// Pods that have ended and are being deleted: they count for nothing but the revision that they are of.
    pub leaving: Vec<Rc<Pod>>,
}

/// A node as a DaemonSet sees it.
pub(super) struct OnNode {
    /// The node's name.
    pub name: Name,
    /// What it is to the DaemonSet.
    pub standing: Standing,
    /// The DaemonSet's pods that are there or are to come there.
    pub pods: SmallVec<[Rc<Pod>; 1]>,
}

impl Nodes {
    /// Sorts those of a DaemonSet's pods by node that a survey has found something about (`getNodesToDaemonPods`).
    pub fn of(seen: &Seen, own: &[Rc<Pod>]) -> Self {
        let mut by_node: Map<&Name, SmallVec<[Rc<Pod>; 1]>> = Map::default();
        by_node.reserve(own.len());
        let mut leaving = Vec::new();
        for pod in own {
            if pod.is_terminal() && pod.meta.is_deleting() {
                leaving.push(pod.clone());
            } else if let Some(node) = pod.place() {
                by_node.entry(node).or_default().push(pod.clone());
            }
        }
        let open = seen.open.iter().map(|(name, standing)| {
            let pods = by_node.remove(name).unwrap_or_default();
            OnNode { name: name.clone(), standing: *standing, pods }
        });
        Nodes { open: open.collect(), settled: seen.settled, leaving }
    }
}

/// The order in which the oldest counts: pods that are bound first, then by age, then by name
/// (`podByCreationTimestampAndPhase`).
pub(super) fn age(pod: &Pod) -> (bool, Timestamp, &Name) {
    (pod.node.is_none(), pod.meta.created, &pod.meta.name)
}

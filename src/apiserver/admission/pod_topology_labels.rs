//! PodTopologyLabels: when a pod is bound it gets the zone and region labels of its node
//! (kubernetes, plugin/pkg/admission/podtopologylabels; on by default since 1.35).

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::api::meta::Labels;
use crate::api::name::Name;
use crate::api::node::Node;

use super::Facts;

const COPIED: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

/// So many sets of labels are remembered.
const REMEMBERED: usize = 64;

/// Labels pods when they are bound. Pods of one template that come into one zone share their labels before and after.
#[derive(Default)]
pub struct PodTopologyLabels {
    /// The newest first.
    recent: RefCell<VecDeque<Labelled>>,
}

/// What became of a pod's labels.
struct Labelled {
    before: Labels,
    copied: [Option<Name>; COPIED.len()],
    after: Labels,
}

impl PodTopologyLabels {
    /// The labels of a pod that is bound to a node; those that it has if the cache does not know the node.
    pub fn when_bound(&self, before: &Labels, node: &Name, facts: Facts<'_>) -> Labels {
        let Some(node) = facts.cached::<Node>(&Name::EMPTY, node) else { return before.clone() };
        let copied = COPIED.map(|key| node.meta.labels.get(key).cloned());
        let mut recent = self.recent.borrow_mut();
        let is_known = |known: &&Labelled| known.before.same(before) && known.copied == copied;
        if let Some(known) = recent.iter().find(is_known) {
            return known.after.clone();
        }
        let mut after = before.clone();
        for (key, value) in COPIED.iter().zip(&copied) {
            if let Some(value) = value.as_ref().filter(|value| before.get(key) != Some(value)) {
                after = after.with(*key, value.clone());
            }
        }
        recent.truncate(REMEMBERED - 1);
        recent.push_front(Labelled { before: before.clone(), copied, after: after.clone() });
        after
    }
}

//! Which changes may make a pod schedulable that PodTopologySpread rejected.

use super::constraint::{Constraint, has_all_labels};
use crate::api::meta::Labels;
use crate::api::node::Node;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::scheduler::event::Hint;

/// Whether a change is worth another try for a pod with these constraints.
pub(super) fn hint(pod: &Pod, constraints: &[Constraint], old: Option<&Object>, new: Option<&Object>) -> Hint {
    match (old, new) {
        (Some(Object::Pod(old)), Some(Object::Pod(new))) => after_pod_update(pod, constraints, old, new),
        (None, Some(Object::Pod(one))) | (Some(Object::Pod(one)), None) => {
            let meant = constraints.iter().any(|constraint| constraint.selector.matches(&one.meta.labels));
            Hint::queue_if(is_involved(one, pod) && meant)
        }
        (Some(Object::Node(old)), Some(Object::Node(new))) => after_node_update(constraints, old, new),
        (None, Some(Object::Node(one))) | (Some(Object::Node(one)), None) => {
            Hint::queue_if(has_all_labels(&one.meta.labels, constraints))
        }
        _ => Hint::Queue,
    }
}

/// True if a pod counts for another one: it is that one, or it is, or is to be, on a node and in the same namespace.
fn is_involved(pod: &Pod, spread: &Pod) -> bool {
    let is_nowhere = pod.node.is_none() && pod.status.nominated_node.is_none();
    pod.meta.uid == spread.meta.uid || !is_nowhere && pod.meta.namespace == spread.meta.namespace
}

fn after_pod_update(pod: &Pod, constraints: &[Constraint], old: &Pod, new: &Pod) -> Hint {
    if !is_involved(new, pod) || !is_involved(old, pod) {
        return Hint::Skip;
    }
    let tolerates = |pod: &Pod| pod.spec.full.tolerations.clone().unwrap_or_default();
    let is_own = pod.meta.uid == new.meta.uid;
    if is_own && tolerates(old) != tolerates(new) && constraints.iter().any(|constraint| constraint.honors_taints) {
        return Hint::Queue;
    }
    let differs = |constraint: &Constraint| {
        let matches = |labels: &Labels| constraint.selector.matches(labels);
        matches(&old.meta.labels) != matches(&new.meta.labels)
    };
    Hint::queue_if(constraints.iter().any(differs))
}

fn after_node_update(constraints: &[Constraint], old: &Node, new: &Node) -> Hint {
    let (before, after) = (&old.meta.labels, &new.meta.labels);
    let counted = (has_all_labels(before, constraints), has_all_labels(after, constraints));
    let value = |labels: &Labels, constraint: &Constraint| labels.get(&constraint.key).cloned();
    let moved = constraints.iter().any(|constraint| value(before, constraint) != value(after, constraint));
    Hint::queue_if(counted.0 != counted.1 || counted.1 && (moved || old.taints != new.taints))
}

//! Which changes may make a pod schedulable that InterPodAffinity rejected.

use crate::api::meta::Labels;
use crate::api::node::Node;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::scheduler::event::Hint;
use crate::scheduler::terms::{Term, Terms, all_match};

/// Whether a change is worth another try. The terms' selectors of namespaces are not resolved here, as in the source: a term
/// with one means no pod, unless it means all namespaces.
pub(super) fn hint(pod: &Pod, old: Option<&Object>, new: Option<&Object>) -> Hint {
    match (old, new) {
        (Some(Object::Pod(old)), Some(Object::Pod(new))) => after_pod_change(pod, Some(old), Some(new)),
        (None, Some(Object::Pod(new))) => after_pod_change(pod, None, Some(new)),
        (Some(Object::Pod(old)), None) => after_pod_change(pod, Some(old), None),
        (Some(Object::Node(old)), Some(Object::Node(new))) => after_node_change(pod, Some(old), new),
        (None, Some(Object::Node(new))) => after_node_change(pod, None, new),
        _ => Hint::Queue,
    }
}

fn after_pod_change(pod: &Pod, old: Option<&Pod>, new: Option<&Pod>) -> Hint {
    if old.is_some() && new.is_some_and(|new| new.meta.uid == pod.meta.uid) {
        return Hint::Queue;
    }
    let is_nowhere = |pod: &Pod| pod.node.is_none() && pod.status.nominated_node.is_none();
    if old.is_some_and(is_nowhere) || new.is_some_and(is_nowhere) {
        return Hint::Skip;
    }
    let terms = Terms::compile(&pod.spec, &pod.meta.namespace);
    let meant = |terms: &[Term], pod: &Pod| all_match(terms, &pod.meta.namespace, &pod.meta.labels);
    let (near, far) = (&terms.required_affinity, &terms.required_anti_affinity);
    Hint::queue_if(match (old, new) {
        (Some(old), Some(new)) => !meant(near, old) && meant(near, new) || meant(far, old) && !meant(far, new),
        (None, Some(new)) => meant(near, new),
        (Some(old), None) => {
            meant(far, old) || meant(&Terms::compile(&old.spec, &old.meta.namespace).required_anti_affinity, pod)
        }
        (None, None) => true,
    })
}

/// Any new node may do for a pod that wants to be far from others; one that wants to be near others looks at the labels.
fn after_node_change(pod: &Pod, old: Option<&Node>, new: &Node) -> Hint {
    let terms = Terms::compile(&pod.spec, &pod.meta.namespace);
    let Some(old) = old else {
        let has_label = |term: &Term| new.meta.labels.get(&term.topology_key).is_some();
        return Hint::queue_if(
            terms.required_affinity.iter().any(has_label) || !terms.required_anti_affinity.is_empty(),
        );
    };
    let moved = |labels: (&Labels, &Labels), term: &Term| {
        let (old, new) = (labels.0.get(&term.topology_key), labels.1.get(&term.topology_key));
        (old.is_some(), new.is_some(), old != new)
    };
    let labels = (&old.meta.labels, &new.meta.labels);
    let nearer = terms.required_affinity.iter().any(|term| matches!(moved(labels, term), (_, true, true)));
    let farther = terms.required_anti_affinity.iter().any(|term| matches!(moved(labels, term), (true, _, true)));
    Hint::queue_if(nearer || farther)
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::name::Name;
    use crate::scheduler::testing::{changed, node, pod_from};
    use serde_json::{Value, json};
    use std::rc::Rc;

    fn wanting(kind: &str) -> Rc<Pod> {
        let term = json!({ "labelSelector": { "matchLabels": { "app": "web" } }, "topologyKey": "zone" });
        pod(json!({ kind: { "requiredDuringSchedulingIgnoredDuringExecution": [term] } }), "own", None)
    }

    fn pod(affinity: Value, app: &str, node: Option<&'static str>) -> Rc<Pod> {
        let container = json!([{ "name": "app", "image": "x" }]);
        let Object::Pod(mut pod) = pod_from(app, json!({ "affinity": affinity, "containers": container })) else {
            panic!("no pod")
        };
        let own = Rc::make_mut(&mut pod);
        (own.meta.labels, own.node) = (Labels::NONE.with("app", app), node.map(Name::of));
        pod
    }

    fn check(pod: &Pod, old: Option<&Object>, new: Option<&Object>, expected: Hint) {
        assert_eq!(hint(pod, old, new), expected, "{old:?} {new:?}");
    }

    #[test]
    fn pods_that_come_help_those_who_want_to_be_near_and_pods_that_go_those_who_want_to_be_far() {
        let (near, far) = (wanting("podAffinity"), wanting("podAntiAffinity"));
        let there = |app: &str| Object::Pod(pod(json!({}), app, Some("a")));
        let (web, db) = (there("web"), there("db"));
        check(&near, None, Some(&web), Hint::Queue);
        check(&near, None, Some(&db), Hint::Skip);
        check(&near, Some(&web), None, Hint::Skip);
        check(&far, None, Some(&web), Hint::Skip);
        check(&far, Some(&web), None, Hint::Queue);
        check(&far, Some(&db), None, Hint::Skip);
        check(&near, Some(&db), Some(&web), Hint::Queue);
        check(&far, Some(&db), Some(&web), Hint::Skip);
        check(&far, Some(&web), Some(&db), Hint::Queue);
        let pending = Object::Pod(pod(json!({}), "web", None));
        check(&near, None, Some(&pending), Hint::Skip);
    }

    #[test]
    fn a_pod_that_goes_and_did_not_want_the_other_near_helps_it() {
        let term = json!({ "labelSelector": { "matchLabels": { "app": "shy" } }, "topologyKey": "zone" });
        let anti = json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } });
        let going = Object::Pod(pod(anti, "web", Some("a")));
        check(&pod(json!({}), "shy", None), Some(&going), None, Hint::Queue);
        check(&pod(json!({}), "bold", None), Some(&going), None, Hint::Skip);
    }

    #[test]
    fn nodes_help_where_the_label_comes_or_changes_and_any_new_one_those_who_want_to_be_far() {
        let (near, far) = (wanting("podAffinity"), wanting("podAntiAffinity"));
        let plain = node("a", "4");
        let in_zone = |zone: &'static str| changed(&plain, |node| node.meta.labels = Labels::NONE.with("zone", zone));
        let (one, two) = (in_zone("1"), in_zone("2"));
        check(&near, None, Some(&plain), Hint::Skip);
        check(&near, None, Some(&one), Hint::Queue);
        check(&far, None, Some(&plain), Hint::Queue);
        check(&near, Some(&plain), Some(&one), Hint::Queue);
        check(&near, Some(&one), Some(&plain), Hint::Skip);
        check(&far, Some(&plain), Some(&one), Hint::Skip);
        check(&far, Some(&one), Some(&plain), Hint::Queue);
        check(&far, Some(&one), Some(&two), Hint::Queue);
        check(&near, Some(&one), Some(&one), Hint::Skip);
    }
}

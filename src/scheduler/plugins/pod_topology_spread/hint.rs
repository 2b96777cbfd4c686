//! Which changes may make a pod schedulable that PodTopologySpread rejected.

use super::constraint::{Constraint, has_all_labels};
use crate::api::meta::Labels;
use crate::api::node::Node;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::scheduler::event::Hint;

/// Whether a change is worth another try for a pod with the constraints that are found for it now. What cannot be said is.
pub(super) fn hint(
    pod: &Pod,
    constraints: impl FnOnce() -> Result<Vec<Constraint>, String>,
    old: Option<&Object>,
    new: Option<&Object>,
) -> Hint {
    let is_elsewhere = |object: &Object| matches!(object, Object::Pod(one) if !is_involved(one, pod));
    if old.into_iter().chain(new).any(is_elsewhere) {
        return Hint::Skip;
    }
    let Ok(constraints) = constraints() else { return Hint::Queue };
    match (old, new) {
        (Some(Object::Pod(old)), Some(Object::Pod(new))) => after_pod_update(pod, &constraints, old, new),
        (None, Some(Object::Pod(one))) | (Some(Object::Pod(one)), None) => {
            Hint::queue_if(constraints.iter().any(|constraint| constraint.selector.matches(&one.meta.labels)))
        }
        (Some(Object::Node(old)), Some(Object::Node(new))) => after_node_update(&constraints, old, new),
        (None, Some(Object::Node(one))) | (Some(Object::Node(one)), None) => {
            Hint::queue_if(has_all_labels(&one.meta.labels, &constraints))
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

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use k8s_openapi::api::core::v1::{Toleration, TopologySpreadConstraint};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

    use serde_json::json;

    use super::super::PodTopologySpread;
    use super::super::constraint::{Action, compile};
    use super::*;
    use crate::api::kind::Kind;
    use crate::api::name::Name;
    use crate::scheduler::cluster::Cluster;
    use crate::scheduler::event::ClusterEvent;
    use crate::scheduler::framework::Plugin;
    use crate::scheduler::testing::{changed, node, object, pod as a_pod};

    fn constraints(taints: Option<&str>) -> Vec<Constraint> {
        let labels = [("app".to_owned(), "web".to_owned())].into();
        let constraint = TopologySpreadConstraint {
            topology_key: "zone".to_owned(),
            max_skew: 1,
            when_unsatisfiable: "DoNotSchedule".to_owned(),
            label_selector: Some(LabelSelector { match_labels: Some(labels), match_expressions: None }),
            node_taints_policy: taints.map(str::to_owned),
            ..TopologySpreadConstraint::default()
        };
        compile(&[constraint], &Labels::NONE, Action::DoNotSchedule).expect("constraints")
    }

    fn pod(app: &str, node: Option<&'static str>) -> Rc<Pod> {
        let Object::Pod(mut pod) = a_pod(app, "1") else { panic!("no pod") };
        let own = Rc::make_mut(&mut pod);
        (own.meta.labels, own.node) = (Labels::NONE.with("app", app), node.map(Name::of));
        pod
    }

    fn check(taints: Option<&str>, old: Option<&Object>, new: Option<&Object>, expected: Hint) {
        let own = pod("own", None);
        assert_eq!(hint(&own, || Ok(constraints(taints)), old, new), expected, "{old:?} {new:?}");
    }

    #[test]
    fn for_pods_without_constraints_the_defaults_are_looked_at_as_they_are_now() {
        let default = TopologySpreadConstraint {
            topology_key: "zone".to_owned(),
            max_skew: 1,
            when_unsatisfiable: "DoNotSchedule".to_owned(),
            ..TopologySpreadConstraint::default()
        };
        let plugin = PodTopologySpread { defaults: vec![default], is_system: false };
        let (mut cluster, own) = (Cluster::default(), pod("web", None));
        let (web, db) = (Object::Pod(pod("web", Some("a"))), Object::Pod(pod("db", Some("a"))));
        let says = |cluster: &Cluster, gone: &Object| {
            plugin.hint(&own, ClusterEvent::AssignedPodDelete, Some(gone), None, cluster)
        };
        // Nothing says yet which pods are alike: no default holds.
        assert_eq!(says(&cluster, &web), Hint::Skip);
        let spec = json!({ "selector": { "app": "web" }, "ports": [{ "port": 80 }] });
        let service = json!({ "metadata": { "name": "web", "namespace": "default" }, "spec": spec });
        cluster.set_object(&object(Kind::Service, service));
        assert_eq!((says(&cluster, &web), says(&cluster, &db)), (Hint::Queue, Hint::Skip));
    }

    #[test]
    fn pods_that_count_help_when_they_come_go_or_no_longer_count() {
        let there = |app: &str| Object::Pod(pod(app, Some("a")));
        let (web, db) = (there("web"), there("db"));
        check(None, None, Some(&web), Hint::Queue);
        check(None, Some(&web), None, Hint::Queue);
        check(None, None, Some(&db), Hint::Skip);
        check(None, Some(&web), Some(&web), Hint::Skip);
        check(None, Some(&web), Some(&db), Hint::Queue);
        check(None, None, Some(&Object::Pod(pod("web", None))), Hint::Skip);
    }

    #[test]
    fn a_new_toleration_of_its_own_helps_where_taints_count() {
        let (old, mut new) = (pod("own", None), pod("own", None));
        let spec = Rc::make_mut(&mut Rc::make_mut(&mut new).spec);
        spec.full.tolerations = Some(vec![Toleration::default()]);
        let (old, new) = (Object::Pod(old), Object::Pod(new));
        check(Some("Honor"), Some(&old), Some(&new), Hint::Queue);
        check(None, Some(&old), Some(&new), Hint::Skip);
    }

    #[test]
    fn nodes_help_that_have_the_label_or_had_it() {
        let plain = node("a", "4");
        let in_zone = |zone: &'static str| changed(&plain, |node| node.meta.labels = Labels::NONE.with("zone", zone));
        let (one, two) = (in_zone("1"), in_zone("2"));
        check(None, None, Some(&one), Hint::Queue);
        check(None, None, Some(&plain), Hint::Skip);
        check(None, Some(&one), None, Hint::Queue);
        check(None, Some(&one), Some(&two), Hint::Queue);
        check(None, Some(&one), Some(&plain), Hint::Queue);
        check(None, Some(&one), Some(&one), Hint::Skip);
    }
}

//! Topology spread constraints, compiled.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;

use super::super::node_affinity::Required;
use super::super::tolerations;
use crate::api::meta::Labels;
use crate::api::name::Name;
use crate::api::node::Node;
use crate::api::pod::{Pod, PodSpec};
use crate::api::selector::Selector;
use crate::scheduler::node_info::NodeInfo;
use crate::scheduler::objects::{Objects, OwnerKind};

/// The label that each node has for itself.
pub(super) const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// What becomes of a pod where a constraint does not hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    DoNotSchedule,
    ScheduleAnyway,
}

impl Action {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Action::DoNotSchedule => "DoNotSchedule",
            Action::ScheduleAnyway => "ScheduleAnyway",
        }
    }
}

/// A constraint.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Constraint {
    pub(super) max_skew: i64,
    pub(super) key: Name,
    pub(super) selector: Selector,
    /// With fewer places than these the smallest count is taken to be zero.
    pub(super) min_domains: usize,
    /// Only nodes count that the pod's own node affinity allows.
    honors_affinity: bool,
    /// Only nodes count whose taints the pod tolerates.
    pub(super) honors_taints: bool,
}

/// What the scheduler wants of pods without constraints (kube-scheduler, `systemDefaultConstraints`).
pub(super) fn system_defaults() -> Vec<TopologySpreadConstraint> {
    let spread = |key: &str, max_skew: i32| TopologySpreadConstraint {
        topology_key: key.to_owned(),
        max_skew,
        when_unsatisfiable: Action::ScheduleAnyway.as_str().to_owned(),
        ..TopologySpreadConstraint::default()
    };
    vec![spread(HOSTNAME, 3), spread(ZONE, 5)]
}

/// Compiles the constraints with an action for a pod with these labels.
pub(super) fn compile(
    constraints: &[TopologySpreadConstraint],
    labels: &Labels,
    action: Action,
) -> Result<Vec<Constraint>, String> {
    let asked = constraints.iter().filter(|constraint| constraint.when_unsatisfiable == action.as_str());
    asked.map(|constraint| Constraint::compile(constraint, labels)).collect()
}

/// Default constraints for a pod count the pods of its Services and its owner; there are none if it has neither.
pub(super) fn for_its_like(mut constraints: Vec<Constraint>, pod: &Pod, objects: &Objects) -> Vec<Constraint> {
    if constraints.is_empty() {
        return constraints;
    }
    let selector = default_selector(pod, objects);
    if selector.is_everything() {
        return Vec::new();
    }
    constraints.iter_mut().for_each(|constraint| constraint.selector = selector.clone());
    constraints
}

impl Constraint {
    /// The values of `matchLabelKeys` are merged into the selector. The API server has done so too since 1.34, which does no harm.
    fn compile(constraint: &TopologySpreadConstraint, labels: &Labels) -> Result<Self, String> {
        let mut selector = Selector::compile(constraint.label_selector.as_ref())?;
        for key in constraint.match_label_keys.iter().flatten() {
            if let Some(value) = labels.get(key) {
                selector = selector.with(key, value);
            }
        }
        Ok(Constraint {
            max_skew: i64::from(constraint.max_skew),
            key: Name::from(&constraint.topology_key),
            selector,
            min_domains: usize::try_from(constraint.min_domains.unwrap_or(1)).unwrap_or(0),
            honors_affinity: constraint.node_affinity_policy.as_deref().is_none_or(|policy| policy == "Honor"),
            honors_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        })
    }

    /// True if pods on every node count.
    pub(super) fn includes_all(&self, required: &Required) -> bool {
        (!self.honors_affinity || required.is_nothing()) && !self.honors_taints
    }

    /// True if pods on a node count.
    pub(super) fn includes(&self, node: &Node, required: &Required, spec: &PodSpec) -> bool {
        (!self.honors_affinity || required.matches(node))
            && (!self.honors_taints || tolerations::tolerate_hard_taints(tolerations::of(spec), &node.taints))
    }

    /// True if a pod of these labels is one of those that are spread, were it there. An empty selector counts no pod that is there,
    /// though it matches the pod that comes (kube-scheduler, `countPodsMatchSelector`).
    pub(super) fn counts(&self, labels: &Labels) -> bool {
        !self.selector.is_everything() && self.selector.matches(labels)
    }

    /// How many pods on a node count; those that are being deleted do not.
    pub(super) fn count(&self, namespace: &Name, node: &NodeInfo) -> i64 {
        if self.selector.is_everything() {
            return 0;
        }
        let counts = |pod: &&std::rc::Rc<Pod>| {
            !pod.meta.is_deleting() && pod.meta.namespace == *namespace && self.selector.matches(&pod.meta.labels)
        };
        node.pods.iter().filter(counts).count() as i64
    }
}

/// True if a node has the labels of all constraints.
pub(super) fn has_all_labels(labels: &Labels, constraints: &[Constraint]) -> bool {
    constraints.iter().all(|constraint| labels.get(&constraint.key).is_some())
}

/// What pods of one kind have in common: the selectors of all Services that select the pod, and that of its owner
/// (kube-scheduler, `helper.DefaultSelector`).
pub(super) fn default_selector(pod: &Pod, objects: &Objects) -> Selector {
    let (namespace, labels) = (&pod.meta.namespace, &pod.meta.labels);
    let mut set: BTreeMap<String, String> = BTreeMap::new();
    for service in objects.services(namespace) {
        if service.selector.as_ref().is_some_and(|selector| selector.matches(labels)) {
            set.extend(service.spec.selector.clone().unwrap_or_default());
        }
    }
    let Some(owner) = pod.meta.controller() else { return Selector::from_set(&set) };
    let kind = match (owner.api_version.as_str(), owner.kind.as_str()) {
        ("v1", "ReplicationController") => OwnerKind::ReplicationController,
        ("apps/v1", "ReplicaSet") => OwnerKind::ReplicaSet,
        ("apps/v1", "StatefulSet") => OwnerKind::StatefulSet,
        _ => return Selector::from_set(&set),
    };
    let Some(of_owner) = objects.owner(kind, namespace, &owner.name) else { return Selector::from_set(&set) };
    if of_owner.is_nothing() {
        return Selector::from_set(&set);
    }
    if kind == OwnerKind::ReplicationController {
        let requirements = of_owner.requirements().iter();
        set.extend(requirements.filter_map(|one| Some((one.key().to_owned(), of_owner.exact(one.key())?.to_owned()))));
        return Selector::from_set(&set);
    }
    let merged = Selector::from_set(&set).requirements().iter().chain(of_owner.requirements()).cloned().collect();
    Selector::new(merged)
}

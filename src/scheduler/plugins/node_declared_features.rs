//! NodeDeclaredFeatures: a pod that uses a feature which not all kubelets have needs a node that declares it.

use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::{Pod, PodSpec};
use crate::scheduler::cluster::Cluster;
use crate::scheduler::event::{ClusterEvent, EventKinds, Hint};
use crate::scheduler::framework::{NodeFilter, Plugin, Point, PreFilter, Status};
use crate::scheduler::node_info::NodeInfo;

const NOT_MATCHED: Name = Name::of("node(s) didn't match Pod's required features");

/// A feature, and what tells that a pod needs it.
type Feature = (&'static str, fn(&PodSpec) -> bool);

/// The features that pods may need, sorted by name, and what tells that a pod does
/// (component-helpers, nodedeclaredfeatures/features). Those that matter only for changes of pods are not among them.
const FEATURES: [Feature; 2] = [
    ("RestartAllContainersOnContainerExits", restarts_all_containers),
    ("UserNamespacesHostNetworkSupport", has_own_users_on_host_network),
];

/// The plugin.
pub struct NodeDeclaredFeatures;

struct Filter(Vec<&'static str>);

impl Plugin for NodeDeclaredFeatures {
    fn name(&self) -> &'static str {
        "NodeDeclaredFeatures"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn events(&self) -> EventKinds {
        EventKinds::of(&[
            ClusterEvent::NodeAdd,
            ClusterEvent::NodeDeclaredFeature,
            ClusterEvent::AssignedPodUpdate,
            ClusterEvent::UnscheduledPodUpdate,
            ClusterEvent::PodLabel,
            ClusterEvent::PodScaleDown,
            ClusterEvent::PodToleration,
            ClusterEvent::PodGatesEliminated,
        ])
    }

    fn hint(
        &self,
        pod: &Pod,
        _event: ClusterEvent,
        old: Option<&Object>,
        new: Option<&Object>,
        _cluster: &Cluster,
    ) -> Hint {
        match (old, new) {
            (Some(Object::Node(old)), Some(Object::Node(new))) => {
                Hint::queue_if(old.status.declared_features != new.status.declared_features)
            }
            (Some(Object::Pod(old)), Some(Object::Pod(new))) => {
                Hint::queue_if(new.meta.uid == pod.meta.uid && needed(&old.spec) != needed(&new.spec))
            }
            _ => Hint::Queue,
        }
    }

    fn unprepared(&self) -> Option<Name> {
        Some(Name::of("error reading \"PreFilterNodeDeclaredFeatures\" from cycle-state: not found"))
    }

    fn pre_filter(&self, pod: &Pod, _cluster: &Cluster) -> PreFilter {
        let needed = needed(&pod.spec);
        if needed.is_empty() { PreFilter::Skip } else { PreFilter::all(Filter(needed)) }
    }
}

impl NodeFilter for Filter {
    /// A node's features are read in the order in which it declares them, which is that of their names; what breaks that
    /// order may hide what follows (`FeatureMapper.mapSorted`).
    fn filter(&self, node: &NodeInfo) -> Status {
        let declared = node.node.as_ref().map(|node| node.status.declared_features.as_ref()).unwrap_or(&[]);
        let has = |feature: &&str| {
            let first = declared.iter().find(|declared| declared.as_str() >= *feature);
            first.is_some_and(|declared| *declared == **feature)
        };
        if self.0.iter().all(has) { Status::SUCCESS } else { Status::unresolvable(NOT_MATCHED) }
    }
}

fn needed(spec: &PodSpec) -> Vec<&'static str> {
    FEATURES.iter().filter(|(_, needs)| needs(spec)).map(|(name, _)| *name).collect()
}

fn restarts_all_containers(spec: &PodSpec) -> bool {
    let containers = spec.full.containers.iter().chain(spec.full.init_containers.iter().flatten());
    let mut rules = containers.flat_map(|container| container.restart_policy_rules.iter().flatten());
    rules.any(|rule| rule.action == "RestartAllContainers")
}

fn has_own_users_on_host_network(spec: &PodSpec) -> bool {
    spec.full.host_network == Some(true) && spec.full.host_users == Some(false)
}

//! InterPodAffinity: pods that want to be near others or far from them, in the sense of a label of their nodes.
//!
//! - `filter`: required terms, of the pod and, for anti-affinity, of those that are there
//! - `score`: preferred terms of both sides, and required affinity of those that are there
//! - `follow`: the same, kept up with the cluster for many pods of one class
//! - `hint`: what may make a rejected pod schedulable

mod filter;
mod follow;
mod hint;
mod score;

use std::rc::Rc;

use self::filter::Filter;
use self::score::Score;
use crate::api::meta::Labels;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::scheduler::arguments::Arguments;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::event::{ClusterEvent, EventKinds, Hint};
use crate::scheduler::framework::{Follower, Plugin, Point, PreFilter, PreScore, Status, Validity};
use crate::scheduler::node_info::NodeInfo;
use crate::scheduler::terms::Terms;

/// The plugin, with its arguments.
#[derive(Clone, Copy)]
pub struct InterPodAffinity {
    /// `hardPodAffinityWeight`: what the required affinity of a pod that is there to the pod that comes is worth.
    pub hard_pod_affinity_weight: i64,
    /// `ignorePreferredTermsOfExistingPods`, for pods that prefer nothing themselves.
    pub ignore_preferred_terms_of_existing_pods: bool,
}

impl Default for InterPodAffinity {
    fn default() -> Self {
        InterPodAffinity { hard_pod_affinity_weight: 1, ignore_preferred_terms_of_existing_pods: false }
    }
}

impl InterPodAffinity {
    /// The plugin with these arguments.
    pub fn new(arguments: &Arguments) -> Self {
        let Arguments::InterPodAffinity(arguments) = arguments else { return InterPodAffinity::default() };
        InterPodAffinity {
            hard_pod_affinity_weight: i64::from(arguments.hard_pod_affinity_weight),
            ignore_preferred_terms_of_existing_pods: arguments.ignore_preferred_terms_of_existing_pods,
        }
    }
}

/// The pod that comes, as terms see it.
struct Incoming {
    namespace: Name,
    namespace_labels: Labels,
    labels: Labels,
    terms: Terms,
}

impl Incoming {
    fn new(pod: &Pod, cluster: &Cluster) -> Self {
        let namespace = pod.meta.namespace.clone();
        Incoming {
            namespace_labels: cluster.objects().namespace(&namespace).cloned().unwrap_or_default(),
            labels: pod.meta.labels.clone(),
            terms: Terms::compile(&pod.spec, &namespace).resolve(cluster.objects()),
            namespace,
        }
    }

    /// True if it prefers to be near or far from other pods.
    fn prefers(&self) -> bool {
        !self.terms.preferred_affinity.is_empty() || !self.terms.preferred_anti_affinity.is_empty()
    }
}

/// True if a pod says that it prefers to be near or far from others, rightly or not.
fn prefers(pod: &Pod) -> bool {
    let affinity = pod.spec.full.affinity.as_ref();
    let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
    let far = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let terms = [
        near.and_then(|near| near.preferred_during_scheduling_ignored_during_execution.as_ref()),
        far.and_then(|far| far.preferred_during_scheduling_ignored_during_execution.as_ref()),
    ];
    terms.into_iter().flatten().any(|terms| !terms.is_empty())
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn validity(&self, _pod: &Pod) -> Validity {
        Validity::Followed
    }

    fn events(&self) -> EventKinds {
        EventKinds::of(&[
            ClusterEvent::AssignedPodAdd,
            ClusterEvent::PodLabel,
            ClusterEvent::AssignedPodDelete,
            ClusterEvent::NodeAdd,
            ClusterEvent::NodeLabel,
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
        hint::hint(pod, old, new)
    }

    fn unprepared(&self) -> Option<Name> {
        Some(Name::of("error reading \"PreFilterInterPodAffinity\" from cycleState: not found"))
    }

    fn pre_filter(&self, pod: &Pod, cluster: &Cluster) -> PreFilter {
        let incoming = Incoming::new(pod, cluster);
        if let Some(error) = incoming.terms.error() {
            return PreFilter::Reject(Status::unresolvable(format!("parsing pod: {error}")));
        }
        let filter = Filter::new(incoming, cluster);
        if filter.says_nothing() { PreFilter::Skip } else { PreFilter::all(filter) }
    }

    fn unprepared_score(&self) -> Option<Name> {
        Some(Name::of("failed to read \"PreScoreInterPodAffinity\" from cycleState: not found"))
    }

    fn pre_score(&self, pod: &Pod, cluster: &Cluster, _feasible: &[&NodeInfo]) -> PreScore {
        let incoming = Incoming::new(pod, cluster);
        if self.ignore_preferred_terms_of_existing_pods && !prefers(pod) {
            return PreScore::Skip;
        }
        if let Some(error) = incoming.terms.error() {
            return PreScore::Fail(format!("failed to parse pod: {error}").into());
        }
        match Score::new(&incoming, self.hard_pod_affinity_weight, cluster) {
            Some(score) => PreScore::Score(Box::new(score)),
            None => PreScore::Skip,
        }
    }

    fn follower(&self, pod: &Rc<Pod>, cluster: &Cluster) -> Option<Box<dyn Follower>> {
        let incoming = Incoming::new(pod, cluster);
        if !incoming.terms.errors.is_empty() {
            return None;
        }
        follow::follower(*self, incoming, cluster)
    }
}

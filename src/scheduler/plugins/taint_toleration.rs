//! TaintToleration: taints keep pods away that do not tolerate them, or make a node less welcome.

use std::rc::Rc;

use super::tolerations;
use crate::api::name::Name;
use crate::api::node::{Taint, TaintEffect};
use crate::api::object::Object;
use crate::api::pod::{Pod, PodSpec};
use crate::scheduler::cluster::Cluster;
use crate::scheduler::event::{ClusterEvent, EventKinds, Hint};
use crate::scheduler::framework::{NodeFilter, NodeScore, Normalization, Plugin, Point, PreFilter, PreScore, Status};
use crate::scheduler::node_info::NodeInfo;

/// The plugin.
pub struct TaintToleration;

struct Compiled(Rc<PodSpec>);

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter, Point::PreScore, Point::Score]
    }

    fn events(&self) -> EventKinds {
        EventKinds::of(&[ClusterEvent::NodeAdd, ClusterEvent::NodeTaint, ClusterEvent::PodToleration])
    }

    fn hint(
        &self,
        pod: &Pod,
        _event: ClusterEvent,
        old: Option<&Object>,
        new: Option<&Object>,
        _cluster: &Cluster,
    ) -> Hint {
        let tolerated = |node: &Object| match node {
            Object::Node(node) => tolerations::tolerate_hard_taints(tolerations::of(&pod.spec), &node.taints),
            _ => false,
        };
        match new {
            Some(Object::Pod(changed)) => Hint::queue_if(changed.meta.uid == pod.meta.uid),
            Some(new) => Hint::queue_if(tolerated(new) && !old.is_some_and(tolerated)),
            None => Hint::Queue,
        }
    }

    fn pre_filter(&self, pod: &Pod, _cluster: &Cluster) -> PreFilter {
        PreFilter::all(Compiled(pod.spec.clone()))
    }

    fn unprepared_score(&self) -> Option<Name> {
        Some(Name::of("failed to read \"PreScoreTaintToleration\" from cycleState: not found"))
    }

    fn pre_score(&self, pod: &Pod, _cluster: &Cluster, _feasible: &[&NodeInfo]) -> PreScore {
        PreScore::Score(Box::new(Compiled(pod.spec.clone())))
    }
}

impl NodeFilter for Compiled {
    fn filter(&self, node: &NodeInfo) -> Status {
        if tolerations::tolerate_hard_taints(tolerations::of(&self.0), node.taints()) {
            return Status::SUCCESS;
        }
        Status::unresolvable(Name::of("node(s) had untolerated taint(s)"))
    }
}

impl NodeScore for Compiled {
    /// How many soft taints are not tolerated: the fewer the better.
    fn score(&self, node: &NodeInfo) -> i64 {
        let own = tolerations::of(&self.0);
        let untolerated =
            |taint: &&Taint| taint.effect == TaintEffect::PreferNoSchedule && !tolerations::tolerate(own, taint);
        node.taints().iter().filter(untolerated).count() as i64
    }

    fn normalization(&self) -> Normalization {
        Normalization::HighestReversed
    }
}

//! NodeUnschedulable: cordoned nodes take only pods that tolerate it.

use k8s_openapi::api::core::v1::Toleration;

use super::tolerations;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::event::{ClusterEvent, EventKinds, Hint};
use crate::scheduler::framework::{NodeFilter, Plugin, Point, PreFilter, Status};
use crate::scheduler::node_info::NodeInfo;

/// The plugin.
pub struct NodeUnschedulable;

struct Filter {
    tolerates: bool,
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter]
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
        match (old, new) {
            (_, Some(Object::Pod(changed))) => {
                let own = changed.meta.uid == pod.meta.uid;
                Hint::queue_if(own && tolerates(tolerations::of(&changed.spec)))
            }
            (None, Some(Object::Node(new))) => Hint::queue_if(!new.unschedulable),
            (Some(Object::Node(old)), Some(Object::Node(new))) => {
                Hint::queue_if(old.unschedulable && !new.unschedulable)
            }
            _ => Hint::Queue,
        }
    }

    fn pre_filter(&self, pod: &Pod, _cluster: &Cluster) -> PreFilter {
        PreFilter::all(Filter { tolerates: tolerates(tolerations::of(&pod.spec)) })
    }
}

impl NodeFilter for Filter {
    fn filter(&self, node: &NodeInfo) -> Status {
        let cordoned = node.node.as_ref().is_some_and(|node| node.unschedulable);
        if !cordoned || self.tolerates {
            return Status::SUCCESS;
        }
        Status::unresolvable(Name::of("node(s) were unschedulable"))
    }
}

fn tolerates(own: &[Toleration]) -> bool {
    tolerations::tolerate(own, &tolerations::UNSCHEDULABLE)
}

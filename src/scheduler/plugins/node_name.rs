//! NodeName: a pod that names its node fits no other. The API puts such a pod past the scheduler; the plugin is there for
//! what is asked from outside.

use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::event::{ClusterEvent, EventKinds};
use crate::scheduler::framework::{NodeFilter, Plugin, Point, PreFilter, Status, Validity};
use crate::scheduler::node_info::NodeInfo;

/// The plugin.
pub struct NodeName;

struct Filter(Name);

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter]
    }

    /// The name stands beside the specification, so nothing can be kept for other pods.
    fn validity(&self, pod: &Pod) -> Validity {
        if pod.node.is_none() { Validity::Node } else { Validity::Cycle }
    }

    fn events(&self) -> EventKinds {
        EventKinds::of(&[ClusterEvent::NodeAdd])
    }

    fn pre_filter(&self, pod: &Pod, _cluster: &Cluster) -> PreFilter {
        match &pod.node {
            Some(node) => PreFilter::all(Filter(node.clone())),
            None => PreFilter::Nothing,
        }
    }
}

impl NodeFilter for Filter {
    fn filter(&self, node: &NodeInfo) -> Status {
        if self.0 == node.name {
            return Status::SUCCESS;
        }
        Status::unresolvable(Name::of("node(s) didn't match the requested node name"))
    }
}

//! NodePorts: a port of a node belongs to one pod.

use std::rc::Rc;

use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::{HostPort, Pod, PodSpec};
use crate::scheduler::cluster::Cluster;
use crate::scheduler::event::{ClusterEvent, EventKinds, Hint};
use crate::scheduler::framework::{NodeFilter, Plugin, Point, PreFilter, Status};
use crate::scheduler::node_info::NodeInfo;

/// The plugin.
pub struct NodePorts;

struct Filter(Rc<PodSpec>);

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }

    fn events(&self) -> EventKinds {
        EventKinds::of(&[ClusterEvent::AssignedPodDelete, ClusterEvent::NodeAdd])
    }

    fn hint(
        &self,
        pod: &Pod,
        _event: ClusterEvent,
        old: Option<&Object>,
        _new: Option<&Object>,
        _cluster: &Cluster,
    ) -> Hint {
        let Some(Object::Pod(gone)) = old else { return Hint::Queue };
        let had_place = gone.node.is_some() || gone.status.nominated_node.is_some();
        Hint::queue_if(had_place && conflict(&pod.spec.host_ports, &gone.spec.host_ports))
    }

    fn unprepared(&self) -> Option<Name> {
        Some(Name::of("reading \"PreFilterNodePorts\" from cycleState: not found"))
    }

    fn pre_filter(&self, pod: &Pod, _cluster: &Cluster) -> PreFilter {
        if pod.spec.host_ports.is_empty() { PreFilter::Skip } else { PreFilter::all(Filter(pod.spec.clone())) }
    }
}

impl NodeFilter for Filter {
    fn filter(&self, node: &NodeInfo) -> Status {
        if conflict(&self.0.host_ports, &node.ports) {
            return Status::unschedulable(Name::of("node(s) didn't have free ports for the requested pod ports"));
        }
        Status::SUCCESS
    }
}

/// True if one of the wanted ports is in use (kube-scheduler, `HostPortInfo.CheckConflict`).
fn conflict(wanted: &[HostPort], used: &[HostPort]) -> bool {
    let any = |port: &HostPort| port.ip.as_str() == "0.0.0.0";
    wanted.iter().any(|wanted| {
        used.iter().any(|used| {
            let same = wanted.port == used.port && wanted.protocol == used.protocol;
            same && (any(wanted) || any(used) || wanted.ip == used.ip)
        })
    })
}

//! SchedulingGates: a pod with gates waits outside the queue until they are gone.

use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::event::{ClusterEvent, EventKinds, Hint};
use crate::scheduler::framework::{Plugin, Point, Status};

/// The plugin.
pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreEnqueue]
    }

    fn events(&self) -> EventKinds {
        EventKinds::of(&[ClusterEvent::PodGatesEliminated])
    }

    fn hint(
        &self,
        pod: &Pod,
        _event: ClusterEvent,
        _old: Option<&Object>,
        new: Option<&Object>,
        _cluster: &Cluster,
    ) -> Hint {
        Hint::queue_if(new.is_some_and(|new| new.meta().uid == pod.meta.uid))
    }

    fn pre_enqueue(&self, pod: &Pod) -> Status {
        let gates = pod.spec.full.scheduling_gates.as_deref().unwrap_or(&[]);
        if gates.is_empty() {
            return Status::SUCCESS;
        }
        let names: Vec<&str> = gates.iter().map(|gate| gate.name.as_str()).collect();
        Status::unresolvable(format!("waiting for scheduling gates: [{}]", names.join(" ")))
    }
}

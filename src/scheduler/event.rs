//! Cluster events: what can happen that makes a pod schedulable that was not (kube-scheduler, `framework/events.go`).

use crate::api::meta::Labels;
use crate::api::node::Node;

/// Something that happened in the cluster, as plugins register for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ClusterEvent {
    /// A node came.
    NodeAdd,
    /// A node went.
    NodeDelete,
    /// A node's allocatable resources changed.
    NodeAllocatable,
    /// A node's labels changed.
    NodeLabel,
    /// A node's taints or its `unschedulable` changed.
    NodeTaint,
    /// The status or reason of one of a node's conditions changed.
    NodeCondition,
    /// A node's annotations changed.
    NodeAnnotation,
    /// A pod came to a node.
    AssignedPodAdd,
    /// Something about a pod on a node changed that no other event names.
    AssignedPodUpdate,
    /// A pod left its node.
    AssignedPodDelete,
    /// A pod's labels changed.
    PodLabel,
    /// A pod requests less than before.
    PodScaleDown,
    /// A pod's tolerations changed.
    PodToleration,
    /// A pod's scheduling gates went.
    PodGatesEliminated,
    /// A pod's resource claims were made.
    PodGeneratedResourceClaim,
    /// A pending pod changed in some other way.
    UnscheduledPodUpdate,
    /// A pending pod was deleted.
    UnscheduledPodDelete,
    /// Pods that have been unschedulable for long are tried again.
    UnschedulableTimeout,
    /// A plugin or the scheduler itself asks for it.
    ForceActivate,
}

/// A set of cluster events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventKinds(u32);

impl EventKinds {
    /// No event.
    pub const NONE: EventKinds = EventKinds(0);

    /// These events.
    pub const fn of(events: &[ClusterEvent]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < events.len() {
            bits |= 1 << events[index] as u32;
            index += 1;
        }
        EventKinds(bits)
    }

    /// True if an event is among them.
    pub const fn contains(self, event: ClusterEvent) -> bool {
        self.0 & 1 << event as u32 != 0
    }
}

/// Whether a pod is worth another try.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hint {
    /// Yes.
    Queue,
    /// No.
    Skip,
}

impl Hint {
    /// Queue if a condition holds.
    pub fn queue_if(condition: bool) -> Self {
        if condition { Hint::Queue } else { Hint::Skip }
    }
}

/// What changed about a node (kube-scheduler, `nodeSchedulingPropertiesChange`): one event for each property, in its order.
pub fn node_changes(old: &Node, new: &Node) -> Vec<ClusterEvent> {
    let mut events = Vec::new();
    if old.taints != new.taints || old.unschedulable != new.unschedulable {
        events.push(ClusterEvent::NodeTaint);
    }
    if old.status.allocatable != new.status.allocatable {
        events.push(ClusterEvent::NodeAllocatable);
    }
    if !same_labels(&old.meta.labels, &new.meta.labels) {
        events.push(ClusterEvent::NodeLabel);
    }
    let conditions = |node: &Node| -> Vec<_> {
        node.status.conditions.iter().map(|one| (one.kind.clone(), one.status, one.reason.clone())).collect()
    };
    if conditions(old) != conditions(new) {
        events.push(ClusterEvent::NodeCondition);
    }
    if !same_labels(&old.meta.annotations, &new.meta.annotations) {
        events.push(ClusterEvent::NodeAnnotation);
    }
    events
}

fn same_labels(old: &Labels, new: &Labels) -> bool {
    old.same(new) || old == new
}

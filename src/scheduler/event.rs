//! Cluster events: what can happen that makes a pod schedulable that was not (kube-scheduler, `framework/events.go`).

use std::rc::Rc;

use smallvec::SmallVec;

use crate::api::meta::Labels;
use crate::api::node::{Node, NodeCondition};
use crate::api::object::Object;
use crate::api::pod::{Pod, PodSpec};
use crate::api::resources::Resources;

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
    /// The features that a node declares changed.
    NodeDeclaredFeature,
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
    /// A pending pod changed in some other way.
    UnscheduledPodUpdate,
    /// A PersistentVolume came.
    VolumeAdd,
    /// A PersistentVolume changed.
    VolumeUpdate,
    /// A PersistentVolumeClaim came.
    ClaimAdd,
    /// A PersistentVolumeClaim changed.
    ClaimUpdate,
    /// A StorageClass came.
    StorageClassAdd,
    /// A StorageClass changed.
    StorageClassUpdate,
    /// A CSINode came.
    CsiNodeAdd,
    /// A CSINode changed.
    CsiNodeUpdate,
    /// A CSIDriver changed.
    CsiDriverUpdate,
    /// A CSIStorageCapacity came.
    CapacityAdd,
    /// A CSIStorageCapacity changed.
    CapacityUpdate,
    /// A VolumeAttachment went.
    AttachmentDelete,
}

impl ClusterEvent {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// All of them, in their order.
    pub const ALL: [ClusterEvent; 28] = [
        ClusterEvent::NodeAdd,
        ClusterEvent::NodeDelete,
        ClusterEvent::NodeAllocatable,
        ClusterEvent::NodeLabel,
        ClusterEvent::NodeTaint,
        ClusterEvent::NodeCondition,
        ClusterEvent::NodeAnnotation,
        ClusterEvent::NodeDeclaredFeature,
        ClusterEvent::AssignedPodAdd,
        ClusterEvent::AssignedPodUpdate,
        ClusterEvent::AssignedPodDelete,
        ClusterEvent::PodLabel,
        ClusterEvent::PodScaleDown,
        ClusterEvent::PodToleration,
        ClusterEvent::PodGatesEliminated,
        ClusterEvent::UnscheduledPodUpdate,
        ClusterEvent::VolumeAdd,
        ClusterEvent::VolumeUpdate,
        ClusterEvent::ClaimAdd,
        ClusterEvent::ClaimUpdate,
        ClusterEvent::StorageClassAdd,
        ClusterEvent::StorageClassUpdate,
        ClusterEvent::CsiNodeAdd,
        ClusterEvent::CsiNodeUpdate,
        ClusterEvent::CsiDriverUpdate,
        ClusterEvent::CapacityAdd,
        ClusterEvent::CapacityUpdate,
        ClusterEvent::AttachmentDelete,
    ];
}

/// A set of cluster events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventKinds(u64);

impl EventKinds {
    /// No event.
    pub const NONE: EventKinds = EventKinds(0);

    /// These events.
    pub const fn of(events: &[ClusterEvent]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < events.len() {
            bits |= 1 << events[index] as u64;
            index += 1;
        }
        EventKinds(bits)
    }

    /// True if an event is among them.
    pub const fn contains(self, event: ClusterEvent) -> bool {
        self.0 & 1 << event as u64 != 0
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

/// What changed about a node: one event for each property, in the order of `NodeSchedulingPropertiesChange`.
pub fn node_changes(old: &Node, new: &Node) -> SmallVec<[ClusterEvent; 2]> {
    let mut events = SmallVec::new();
    if old.unschedulable && !new.unschedulable {
        events.push(ClusterEvent::NodeTaint);
    }
    if old.status.allocatable != new.status.allocatable {
        events.push(ClusterEvent::NodeAllocatable);
    }
    if !same_labels(&old.meta.labels, &new.meta.labels) {
        events.push(ClusterEvent::NodeLabel);
    }
    if old.taints != new.taints {
        events.push(ClusterEvent::NodeTaint);
    }
    let (before, after) = (&old.status.conditions, &new.status.conditions);
    let same =
        |condition: &NodeCondition| new.condition(&condition.kind).is_some_and(|now| now.status == condition.status);
    if before.len() != after.len() || !before.iter().all(same) {
        events.push(ClusterEvent::NodeCondition);
    }
    if !same_labels(&old.meta.annotations, &new.meta.annotations) {
        events.push(ClusterEvent::NodeAnnotation);
    }
    if old.status.declared_features != new.status.declared_features {
        events.push(ClusterEvent::NodeDeclaredFeature);
    }
    events
}

/// The event that a new object of storage is, if plugins can register for it.
pub fn storage_added(object: &Object) -> Option<ClusterEvent> {
    match object {
        Object::PersistentVolume(_) => Some(ClusterEvent::VolumeAdd),
        Object::PersistentVolumeClaim(_) => Some(ClusterEvent::ClaimAdd),
        Object::StorageClass(_) => Some(ClusterEvent::StorageClassAdd),
        Object::CSINode(_) => Some(ClusterEvent::CsiNodeAdd),
        Object::CSIStorageCapacity(_) => Some(ClusterEvent::CapacityAdd),
        _ => None,
    }
}

/// The event that a changed object of storage is, if plugins can register for it.
pub fn storage_updated(object: &Object) -> Option<ClusterEvent> {
    match object {
        Object::PersistentVolume(_) => Some(ClusterEvent::VolumeUpdate),
        Object::PersistentVolumeClaim(_) => Some(ClusterEvent::ClaimUpdate),
        Object::StorageClass(_) => Some(ClusterEvent::StorageClassUpdate),
        Object::CSINode(_) => Some(ClusterEvent::CsiNodeUpdate),
        Object::CSIDriver(_) => Some(ClusterEvent::CsiDriverUpdate),
        Object::CSIStorageCapacity(_) => Some(ClusterEvent::CapacityUpdate),
        _ => None,
    }
}

/// The event that it is when an object of storage goes, if plugins can register for it.
pub fn storage_deleted(object: &Object) -> Option<ClusterEvent> {
    matches!(object, Object::VolumeAttachment(_)).then_some(ClusterEvent::AttachmentDelete)
}

/// What changed about a pod: one event for each property, in the order of `PodSchedulingPropertiesChange`.
pub fn pod_changes(old: &Pod, new: &Pod) -> SmallVec<[ClusterEvent; 2]> {
    let mut events = SmallVec::new();
    if !same_labels(&old.meta.labels, &new.meta.labels) {
        events.push(ClusterEvent::PodLabel);
    }
    if scales_down(old, new) {
        events.push(ClusterEvent::PodScaleDown);
    }
    if !Rc::ptr_eq(&old.spec, &new.spec) {
        let (before, after) = (&old.spec.full, &new.spec.full);
        let gates = |gates: &Option<Vec<_>>| gates.as_ref().map_or(0, Vec::len);
        if gates(&before.scheduling_gates) > 0 && gates(&after.scheduling_gates) == 0 {
            events.push(ClusterEvent::PodGatesEliminated);
        }
        let tolerations = |spec: &PodSpec| spec.full.tolerations.as_ref().map_or(0, Vec::len);
        if tolerations(&old.spec) != tolerations(&new.spec) {
            events.push(ClusterEvent::PodToleration);
        }
    }
    if events.is_empty() {
        let assigned = new.node.is_some();
        events.push(if assigned { ClusterEvent::AssignedPodUpdate } else { ClusterEvent::UnscheduledPodUpdate });
    }
    events
}

/// True if a pod requests less of something, what it holds during a resize taken into account.
fn scales_down(old: &Pod, new: &Pod) -> bool {
    if Rc::ptr_eq(&old.spec, &new.spec) && old.status.reported == new.status.reported {
        return false;
    }
    let (before, after) = (old.resized(), new.resized());
    let of = |pod: &'_ Pod| pod.spec.requests.clone();
    let before = before.map_or_else(|| of(old), |effective| effective.requests);
    let after = after.map_or_else(|| of(new), |effective| effective.requests);
    requests_less(&before, &after)
}

fn requests_less(old: &Resources, new: &Resources) -> bool {
    old.milli_cpu > new.milli_cpu
        || old.memory > new.memory
        || old.ephemeral_storage > new.ephemeral_storage
        || old.scalars.iter().any(|(name, amount)| *amount > new.scalar(name))
}

fn same_labels(old: &Labels, new: &Labels) -> bool {
    old.same(new) || old == new
}

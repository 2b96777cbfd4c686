//! Nodes and the leases by which they show that they live.

use std::net::IpAddr;
use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;

use super::meta::{Meta, MicroTime, Timestamp};
use super::name::Name;
use super::pod::ConditionStatus;
use super::resources::Resources;

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Metadata.
    pub meta: Meta,
    /// `spec.podCIDR`, such as `10.244.3.0/24`.
    pub pod_cidr: Option<Name>,
    /// `spec.providerID`.
    pub provider_id: Option<Name>,
    /// `spec.unschedulable`: cordoned.
    pub unschedulable: bool,
    /// `spec.taints`.
    pub taints: Rc<[Taint]>,
    /// The observed state.
    pub status: NodeStatus,
}

/// A taint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Taint {
    /// The key.
    pub key: Name,
    /// The value; empty if it has none.
    pub value: Name,
    /// What it does.
    pub effect: TaintEffect,
    /// When it was added, if that is recorded (NoExecute taints).
    pub time_added: Option<Timestamp>,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "the API's own words")]
pub enum TaintEffect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

/// The observed state of a node.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct NodeStatus {
    /// What the machine has.
    pub capacity: Resources,
    /// What pods may use of it.
    pub allocatable: Resources,
    /// Conditions in the order in which they are stored.
    pub conditions: Vec<NodeCondition>,
    /// `InternalIP`.
    pub address: Option<IpAddr>,
    /// Images present, largest first, as the kubelet reports them.
    pub images: Rc<[NodeImage]>,
    /// `declaredFeatures`: what its kubelet can do that not all can, sorted.
    pub declared_features: Rc<[Name]>,
    /// The port at which the kubelet answers, if it is told.
    pub kubelet_port: Option<i32>,
    /// `nodeInfo`, shared among nodes of a pool.
    pub info: Option<Rc<core::NodeSystemInfo>>,
}

/// An image that a node reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeImage {
    /// Its names: by tag and by digest.
    pub names: Rc<[Name]>,
    /// Its size in bytes.
    pub size_bytes: i64,
}

/// A node condition: `Ready`, `MemoryPressure`, `DiskPressure`, `PIDPressure`, `NetworkUnavailable` or any other.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct NodeCondition {
    pub kind: Name,
    pub status: ConditionStatus,
    pub reason: Name,
    pub message: Name,
    pub last_heartbeat: Timestamp,
    pub last_transition: Timestamp,
}

impl Taint {
    /// True if one of the tolerations is for this taint (core/v1: `ToleratesTaint`).
    pub fn is_tolerated_by(&self, tolerations: &[core::Toleration]) -> bool {
        let effect = match self.effect {
            TaintEffect::NoSchedule => "NoSchedule",
            TaintEffect::PreferNoSchedule => "PreferNoSchedule",
            TaintEffect::NoExecute => "NoExecute",
        };
        tolerations.iter().any(|toleration| {
            let wanted = toleration.effect.as_deref().unwrap_or_default();
            let key = toleration.key.as_deref().unwrap_or_default();
            let fits = (wanted.is_empty() || wanted == effect) && (key.is_empty() || self.key == *key);
            fits && match toleration.operator.as_deref().unwrap_or_default() {
                "" | "Equal" => self.value == *toleration.value.as_deref().unwrap_or_default(),
                "Exists" => true,
                _ => false,
            }
        })
    }
}

impl Node {
    /// The condition of a type.
    pub fn condition(&self, kind: &str) -> Option<&NodeCondition> {
        self.status.conditions.iter().find(|condition| condition.kind == *kind)
    }

    /// True if the Ready condition is.
    pub fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(|ready| ready.status == ConditionStatus::True)
    }
}

/// A lease (`coordination.k8s.io`): who holds it and when it was last renewed.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct Lease {
    pub meta: Meta,
    pub holder: Option<Name>,
    pub duration_seconds: Option<i32>,
    pub acquire_time: Option<MicroTime>,
    pub renew_time: Option<MicroTime>,
    pub transitions: Option<i32>,
}

//! Deployments, ReplicaSets, ReplicationControllers and DaemonSets.

use std::rc::Rc;

use super::int_or_string::IntOrString;
use super::meta::{Meta, Timestamp};
use super::name::Name;
use super::object::Resource;
use super::pod::{ConditionStatus, PodTemplate};
use super::selector::Selector;

/// A ReplicaSet.
#[derive(Clone, Debug)]
pub struct ReplicaSet {
    /// Metadata.
    pub meta: Meta,
    /// `spec.replicas`.
    pub replicas: i32,
    /// `spec.minReadySeconds`.
    pub min_ready_seconds: i32,
    /// `spec.selector`, compiled.
    pub selector: Rc<Selector>,
    /// `spec.template`.
    pub template: Rc<PodTemplate>,
    /// The observed state.
    pub status: ReplicaSetStatus,
}

/// The observed state of a ReplicaSet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct ReplicaSetStatus {
    pub replicas: i32,
    pub fully_labeled_replicas: i32,
    pub ready_replicas: i32,
    pub available_replicas: i32,
    pub terminating_replicas: Option<i32>,
    pub observed_generation: i64,
    pub conditions: Vec<WorkloadCondition>,
}

/// A Deployment.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// Metadata.
    pub meta: Meta,
    /// The desired state.
    pub spec: DeploymentSpec,
    /// The observed state.
    pub status: DeploymentStatus,
}

/// The desired state of a Deployment, defaulted.
#[derive(Clone, Debug)]
pub struct DeploymentSpec {
    /// `replicas`.
    pub replicas: i32,
    /// `selector`, compiled.
    pub selector: Rc<Selector>,
    /// `template`.
    pub template: Rc<PodTemplate>,
    /// `strategy`.
    pub strategy: DeploymentStrategy,
    /// `minReadySeconds`.
    pub min_ready_seconds: i32,
    /// `revisionHistoryLimit`.
    pub revision_history_limit: i32,
    /// `paused`.
    pub paused: bool,
    /// `progressDeadlineSeconds`; none if the API has none (`i32::MAX` counts as none).
    pub progress_deadline_seconds: Option<i32>,
}

/// How pods are replaced.
#[derive(Clone, PartialEq, Debug)]
pub enum DeploymentStrategy {
    /// All old ones go before new ones come.
    Recreate,
    /// Gradually.
    RollingUpdate {
        /// How many may come on top.
        max_surge: IntOrString,
        /// How many may be missing.
        max_unavailable: IntOrString,
    },
}

/// The observed state of a Deployment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct DeploymentStatus {
    pub observed_generation: i64,
    pub replicas: i32,
    pub updated_replicas: i32,
    pub ready_replicas: i32,
    pub available_replicas: i32,
    pub unavailable_replicas: i32,
    pub terminating_replicas: Option<i32>,
    pub conditions: Vec<WorkloadCondition>,
    pub collision_count: Option<i32>,
}

/// A condition of a Deployment (`Available`, `Progressing`, `ReplicaFailure`) or of a ReplicaSet (`ReplicaFailure`).
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct WorkloadCondition {
    pub kind: Name,
    pub status: ConditionStatus,
    pub reason: Name,
    pub message: Name,
    /// Deployments only; ReplicaSets do not write it.
    pub last_update: Timestamp,
    pub last_transition: Timestamp,
}

/// A ReplicationController: what there was before ReplicaSets.
#[derive(Clone, Debug)]
pub struct ReplicationController {
    /// Metadata.
    pub meta: Meta,
    /// `spec.replicas`.
    pub replicas: i32,
    /// `spec.minReadySeconds`.
    pub min_ready_seconds: i32,
    /// `spec.selector`, compiled: an absent one selects nothing.
    pub selector: Rc<Selector>,
    /// `spec.template`.
    pub template: Rc<PodTemplate>,
    /// The observed state; `terminating_replicas` is always none.
    pub status: ReplicaSetStatus,
}

/// A kind that keeps a number of equal pods: ReplicaSets and ReplicationControllers. What handles one handles the other
/// (kube-controller-manager runs the ReplicaSet controller for both, the latter behind an adapter).
pub trait Replicated: Resource {
    /// Whether the kind's status has `terminatingReplicas`.
    const COUNTS_TERMINATING: bool;
    /// `spec.replicas`.
    fn replicas(&self) -> i32;
    /// `spec.minReadySeconds`.
    fn min_ready_seconds(&self) -> i32;
    /// `spec.selector`, compiled.
    fn selector(&self) -> &Rc<Selector>;
    /// `spec.template`.
    fn template(&self) -> &Rc<PodTemplate>;
    /// The observed state.
    fn status(&self) -> &ReplicaSetStatus;
    /// The observed state, to be changed before the object is sent.
    fn status_mut(&mut self) -> &mut ReplicaSetStatus;
    /// Takes over what another version asks for.
    fn take_spec(&mut self, other: &Self);
}

macro_rules! replicated {
    ($($kind:ident counts terminating pods: $counts:literal;)*) => {$(
        impl Replicated for $kind {
            const COUNTS_TERMINATING: bool = $counts;
            fn replicas(&self) -> i32 { self.replicas }
            fn min_ready_seconds(&self) -> i32 { self.min_ready_seconds }
            fn selector(&self) -> &Rc<Selector> { &self.selector }
            fn template(&self) -> &Rc<PodTemplate> { &self.template }
            fn status(&self) -> &ReplicaSetStatus { &self.status }
            fn status_mut(&mut self) -> &mut ReplicaSetStatus { &mut self.status }
            fn take_spec(&mut self, other: &Self) {
                self.replicas = other.replicas;
                self.min_ready_seconds = other.min_ready_seconds;
                self.selector = other.selector.clone();
                self.template = other.template.clone();
            }
        }
    )*};
}

replicated!(
    ReplicaSet counts terminating pods: true;
    ReplicationController counts terminating pods: false;
);

/// A DaemonSet.
#[derive(Clone, Debug)]
pub struct DaemonSet {
    /// Metadata.
    pub meta: Meta,
    /// `spec.selector`, compiled.
    pub selector: Rc<Selector>,
    /// `spec.template`.
    pub template: Rc<PodTemplate>,
    /// `spec.updateStrategy`.
    pub strategy: DaemonSetStrategy,
    /// `spec.minReadySeconds`.
    pub min_ready_seconds: i32,
    /// `spec.revisionHistoryLimit`.
    pub revision_history_limit: i32,
    /// The observed state.
    pub status: DaemonSetStatus,
}

/// How pods of an old template are replaced.
#[derive(Clone, PartialEq, Debug)]
pub enum DaemonSetStrategy {
    /// When somebody deletes them.
    OnDelete,
    /// Gradually.
    RollingUpdate {
        /// On how many nodes the pod may be missing.
        max_unavailable: IntOrString,
        /// On how many nodes a new pod may run beside the old one.
        max_surge: IntOrString,
    },
}

/// The observed state of a DaemonSet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct DaemonSetStatus {
    pub current_number_scheduled: i32,
    pub number_misscheduled: i32,
    pub desired_number_scheduled: i32,
    pub number_ready: i32,
    pub observed_generation: i64,
    pub updated_number_scheduled: i32,
    pub number_available: i32,
    pub number_unavailable: i32,
    pub collision_count: Option<i32>,
    pub conditions: Vec<WorkloadCondition>,
}

//! Deployments and ReplicaSets, and of ReplicationControllers what others read of them.

use std::rc::Rc;

use k8s_openapi::api::core;

use super::int_or_string::IntOrString;
use super::meta::{Meta, Timestamp};
use super::name::Name;
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

/// A ReplicationController; the content carries no metadata.
#[derive(Clone, Debug)]
pub struct ReplicationController {
    /// Metadata.
    pub meta: Meta,
    /// `spec.selector`, compiled: an absent one selects nothing.
    pub selector: Rc<Selector>,
    /// The controller as the API knows it.
    pub content: Rc<core::v1::ReplicationController>,
}

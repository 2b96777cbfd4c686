//! Deployments, ReplicaSets, ReplicationControllers and DaemonSets.

use std::rc::Rc;

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1 as core;

use super::meta::{
    from_label_selector, from_labels, from_meta, from_time, to_label_selector, to_labels, to_meta, to_time,
    to_time_unless_zero,
};
use super::spec::compile;
use super::{Convert, ConvertError, name_or_empty, nonempty, nonzero, some_unless_empty};
use crate::api::int_or_string::IntOrString;
use crate::api::meta::Timestamp;
use crate::api::name::Name;
use crate::api::pod::{ConditionStatus, PodTemplate};
use crate::api::selector::Selector;
use crate::api::workload::{
    DaemonSet, DaemonSetStatus, DaemonSetStrategy, Deployment, DeploymentSpec, DeploymentStatus, DeploymentStrategy,
    ReplicaSet, ReplicaSetStatus, ReplicationController, WorkloadCondition,
};

/// Compiles a pod template.
pub fn from_template(path: &str, full: core::PodTemplateSpec) -> Result<Rc<PodTemplate>, ConvertError> {
    let mut meta = full.metadata.unwrap_or_default();
    let (labels, annotations) = (from_labels(meta.labels.take()), from_labels(meta.annotations.take()));
    Ok(Rc::new(PodTemplate {
        labels,
        annotations,
        other: (meta != Default::default()).then(|| Rc::new(meta)),
        spec: Rc::new(compile(&format!("{path}.spec"), full.spec.unwrap_or_default())?),
    }))
}

/// Writes a pod template.
pub fn to_template(template: &PodTemplate) -> core::PodTemplateSpec {
    let other = template.other.as_deref().cloned().unwrap_or_default();
    let (labels, annotations) = (to_labels(&template.labels), to_labels(&template.annotations));
    let metadata = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta { labels, annotations, ..other };
    core::PodTemplateSpec { metadata: Some(metadata), spec: Some(template.spec.full.clone()) }
}

impl Convert for Deployment {
    type Full = apps::Deployment;

    fn to_full(&self) -> apps::Deployment {
        let spec = &self.spec;
        let strategy = match &spec.strategy {
            DeploymentStrategy::Recreate => {
                apps::DeploymentStrategy { type_: Some("Recreate".to_owned()), rolling_update: None }
            }
            DeploymentStrategy::RollingUpdate { max_surge, max_unavailable } => apps::DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(apps::RollingUpdateDeployment {
                    max_surge: Some(max_surge.clone()),
                    max_unavailable: Some(max_unavailable.clone()),
                }),
            },
        };
        apps::Deployment {
            metadata: to_meta(&self.meta),
            spec: Some(apps::DeploymentSpec {
                replicas: Some(spec.replicas),
                selector: to_label_selector(&spec.selector),
                template: to_template(&spec.template),
                strategy: Some(strategy),
                min_ready_seconds: nonzero(spec.min_ready_seconds),
                revision_history_limit: Some(spec.revision_history_limit),
                paused: spec.paused.then_some(true),
                progress_deadline_seconds: spec.progress_deadline_seconds,
            }),
            status: Some(to_deployment_status(&self.status)),
        }
    }

    fn from_full(full: apps::Deployment) -> Result<Self, ConvertError> {
        let spec = full.spec.unwrap_or_default();
        let strategy = match spec.strategy {
            Some(strategy) if strategy.type_.as_deref() == Some("Recreate") => DeploymentStrategy::Recreate,
            strategy => {
                let rolling = strategy.and_then(|strategy| strategy.rolling_update).unwrap_or_default();
                let quarter = || IntOrString::String("25%".to_owned());
                DeploymentStrategy::RollingUpdate {
                    max_surge: rolling.max_surge.unwrap_or_else(quarter),
                    max_unavailable: rolling.max_unavailable.unwrap_or_else(quarter),
                }
            }
        };
        Ok(Deployment {
            meta: from_meta(full.metadata)?,
            spec: DeploymentSpec {
                replicas: spec.replicas.unwrap_or(1),
                selector: Rc::new(from_label_selector("spec.selector", &spec.selector)?),
                template: from_template("spec.template", spec.template)?,
                strategy,
                min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
                revision_history_limit: spec.revision_history_limit.unwrap_or(10),
                paused: spec.paused.unwrap_or(false),
                progress_deadline_seconds: spec.progress_deadline_seconds,
            },
            status: full.status.map(from_deployment_status).unwrap_or_default(),
        })
    }
}

fn to_deployment_status(status: &DeploymentStatus) -> apps::DeploymentStatus {
    let condition = |condition: &WorkloadCondition| apps::DeploymentCondition {
        type_: String::from(&condition.kind),
        status: condition.status.as_str().to_owned(),
        reason: nonempty(&condition.reason),
        message: nonempty(&condition.message),
        last_update_time: to_time_unless_zero(condition.last_update),
        last_transition_time: Some(to_time(condition.last_transition)),
    };
    apps::DeploymentStatus {
        observed_generation: nonzero(status.observed_generation),
        replicas: nonzero(status.replicas),
        updated_replicas: nonzero(status.updated_replicas),
        ready_replicas: nonzero(status.ready_replicas),
        available_replicas: nonzero(status.available_replicas),
        unavailable_replicas: nonzero(status.unavailable_replicas),
        terminating_replicas: status.terminating_replicas,
        collision_count: status.collision_count,
        conditions: some_unless_empty(status.conditions.iter().map(condition).collect()),
    }
}

fn from_deployment_status(full: apps::DeploymentStatus) -> DeploymentStatus {
    let condition = |full: apps::DeploymentCondition| WorkloadCondition {
        kind: Name::from(full.type_),
        status: ConditionStatus::of(&full.status),
        reason: name_or_empty(full.reason),
        message: name_or_empty(full.message),
        last_update: full.last_update_time.map(from_time).unwrap_or_default(),
        last_transition: full.last_transition_time.map(from_time).unwrap_or_default(),
    };
    DeploymentStatus {
        observed_generation: full.observed_generation.unwrap_or(0),
        replicas: full.replicas.unwrap_or(0),
        updated_replicas: full.updated_replicas.unwrap_or(0),
        ready_replicas: full.ready_replicas.unwrap_or(0),
        available_replicas: full.available_replicas.unwrap_or(0),
        unavailable_replicas: full.unavailable_replicas.unwrap_or(0),
        terminating_replicas: full.terminating_replicas,
        collision_count: full.collision_count,
        conditions: full.conditions.unwrap_or_default().into_iter().map(condition).collect(),
    }
}

impl Convert for ReplicaSet {
    type Full = apps::ReplicaSet;

    fn to_full(&self) -> apps::ReplicaSet {
        apps::ReplicaSet {
            metadata: to_meta(&self.meta),
            spec: Some(apps::ReplicaSetSpec {
                replicas: Some(self.replicas),
                min_ready_seconds: nonzero(self.min_ready_seconds),
                selector: to_label_selector(&self.selector),
                template: Some(to_template(&self.template)),
            }),
            status: Some(to_replica_set_status(&self.status)),
        }
    }

    fn from_full(full: apps::ReplicaSet) -> Result<Self, ConvertError> {
        let spec = full.spec.unwrap_or_default();
        Ok(ReplicaSet {
            meta: from_meta(full.metadata)?,
            replicas: spec.replicas.unwrap_or(1),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            selector: Rc::new(from_label_selector("spec.selector", &spec.selector)?),
            template: from_template("spec.template", spec.template.unwrap_or_default())?,
            status: full.status.map(from_replica_set_status).unwrap_or_default(),
        })
    }
}

fn to_replica_set_status(status: &ReplicaSetStatus) -> apps::ReplicaSetStatus {
    let condition = |condition: &WorkloadCondition| apps::ReplicaSetCondition {
        type_: String::from(&condition.kind),
        status: condition.status.as_str().to_owned(),
        reason: nonempty(&condition.reason),
        message: nonempty(&condition.message),
        last_transition_time: Some(to_time(condition.last_transition)),
    };
    apps::ReplicaSetStatus {
        replicas: status.replicas,
        fully_labeled_replicas: nonzero(status.fully_labeled_replicas),
        ready_replicas: nonzero(status.ready_replicas),
        available_replicas: nonzero(status.available_replicas),
        terminating_replicas: status.terminating_replicas,
        observed_generation: nonzero(status.observed_generation),
        conditions: some_unless_empty(status.conditions.iter().map(condition).collect()),
    }
}

fn from_replica_set_status(full: apps::ReplicaSetStatus) -> ReplicaSetStatus {
    let condition = |full: apps::ReplicaSetCondition| WorkloadCondition {
        kind: Name::from(full.type_),
        status: ConditionStatus::of(&full.status),
        reason: name_or_empty(full.reason),
        message: name_or_empty(full.message),
        last_update: Timestamp::default(),
        last_transition: full.last_transition_time.map(from_time).unwrap_or_default(),
    };
    ReplicaSetStatus {
        replicas: full.replicas,
        fully_labeled_replicas: full.fully_labeled_replicas.unwrap_or(0),
        ready_replicas: full.ready_replicas.unwrap_or(0),
        available_replicas: full.available_replicas.unwrap_or(0),
        terminating_replicas: full.terminating_replicas,
        observed_generation: full.observed_generation.unwrap_or(0),
        conditions: full.conditions.unwrap_or_default().into_iter().map(condition).collect(),
    }
}

impl Convert for ReplicationController {
    type Full = core::ReplicationController;

    fn to_full(&self) -> core::ReplicationController {
        // One without template is refused when it is created; until then it must not get one here.
        let template = to_template(&self.template);
        let has_template = template.metadata != Some(Default::default()) || template.spec != Some(Default::default());
        core::ReplicationController {
            metadata: to_meta(&self.meta),
            spec: Some(core::ReplicationControllerSpec {
                replicas: Some(self.replicas),
                min_ready_seconds: nonzero(self.min_ready_seconds),
                selector: to_label_selector(&self.selector).match_labels,
                template: has_template.then_some(template),
            }),
            status: Some(to_controller_status(&self.status)),
        }
    }

    fn from_full(full: core::ReplicationController) -> Result<Self, ConvertError> {
        let spec = full.spec.unwrap_or_default();
        let selector = spec.selector.as_ref().map_or_else(Selector::nothing, Selector::from_set);
        Ok(ReplicationController {
            meta: from_meta(full.metadata)?,
            replicas: spec.replicas.unwrap_or(1),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            selector: Rc::new(selector),
            template: from_template("spec.template", spec.template.unwrap_or_default())?,
            status: full.status.map(from_controller_status).unwrap_or_default(),
        })
    }
}

fn to_controller_status(status: &ReplicaSetStatus) -> core::ReplicationControllerStatus {
    let condition = |condition: &WorkloadCondition| core::ReplicationControllerCondition {
        type_: String::from(&condition.kind),
        status: condition.status.as_str().to_owned(),
        reason: nonempty(&condition.reason),
        message: nonempty(&condition.message),
        last_transition_time: Some(to_time(condition.last_transition)),
    };
    core::ReplicationControllerStatus {
        replicas: status.replicas,
        fully_labeled_replicas: nonzero(status.fully_labeled_replicas),
        ready_replicas: nonzero(status.ready_replicas),
        available_replicas: nonzero(status.available_replicas),
        observed_generation: nonzero(status.observed_generation),
        conditions: some_unless_empty(status.conditions.iter().map(condition).collect()),
    }
}

fn from_controller_status(full: core::ReplicationControllerStatus) -> ReplicaSetStatus {
    let condition = |full: core::ReplicationControllerCondition| WorkloadCondition {
        kind: Name::from(full.type_),
        status: ConditionStatus::of(&full.status),
        reason: name_or_empty(full.reason),
        message: name_or_empty(full.message),
        last_update: Timestamp::default(),
        last_transition: full.last_transition_time.map(from_time).unwrap_or_default(),
    };
    ReplicaSetStatus {
        replicas: full.replicas,
        fully_labeled_replicas: full.fully_labeled_replicas.unwrap_or(0),
        ready_replicas: full.ready_replicas.unwrap_or(0),
        available_replicas: full.available_replicas.unwrap_or(0),
        terminating_replicas: None,
        observed_generation: full.observed_generation.unwrap_or(0),
        conditions: full.conditions.unwrap_or_default().into_iter().map(condition).collect(),
    }
}

impl Convert for DaemonSet {
    type Full = apps::DaemonSet;

    fn to_full(&self) -> apps::DaemonSet {
        let strategy = match &self.strategy {
            DaemonSetStrategy::OnDelete => {
                apps::DaemonSetUpdateStrategy { type_: Some("OnDelete".to_owned()), rolling_update: None }
            }
            DaemonSetStrategy::RollingUpdate { max_unavailable, max_surge } => apps::DaemonSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(apps::RollingUpdateDaemonSet {
                    max_surge: Some(max_surge.clone()),
                    max_unavailable: Some(max_unavailable.clone()),
                }),
            },
        };
        apps::DaemonSet {
            metadata: to_meta(&self.meta),
            spec: Some(apps::DaemonSetSpec {
                selector: to_label_selector(&self.selector),
                template: to_template(&self.template),
                update_strategy: Some(strategy),
                min_ready_seconds: nonzero(self.min_ready_seconds),
                revision_history_limit: Some(self.revision_history_limit),
            }),
            status: Some(to_daemon_set_status(&self.status)),
        }
    }

    fn from_full(full: apps::DaemonSet) -> Result<Self, ConvertError> {
        let spec = full.spec.unwrap_or_default();
        let strategy = match spec.update_strategy {
            Some(strategy) if strategy.type_.as_deref() == Some("OnDelete") => DaemonSetStrategy::OnDelete,
            strategy => {
                let rolling = strategy.and_then(|strategy| strategy.rolling_update).unwrap_or_default();
                DaemonSetStrategy::RollingUpdate {
                    max_unavailable: rolling.max_unavailable.unwrap_or(IntOrString::Int(1)),
                    max_surge: rolling.max_surge.unwrap_or(IntOrString::Int(0)),
                }
            }
        };
        Ok(DaemonSet {
            meta: from_meta(full.metadata)?,
            selector: Rc::new(from_label_selector("spec.selector", &spec.selector)?),
            template: from_template("spec.template", spec.template)?,
            strategy,
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            revision_history_limit: spec.revision_history_limit.unwrap_or(10),
            status: full.status.map(from_daemon_set_status).unwrap_or_default(),
        })
    }
}

fn to_daemon_set_status(status: &DaemonSetStatus) -> apps::DaemonSetStatus {
    let condition = |condition: &WorkloadCondition| apps::DaemonSetCondition {
        type_: String::from(&condition.kind),
        status: condition.status.as_str().to_owned(),
        reason: nonempty(&condition.reason),
        message: nonempty(&condition.message),
        last_transition_time: Some(to_time(condition.last_transition)),
    };
    apps::DaemonSetStatus {
        current_number_scheduled: status.current_number_scheduled,
        number_misscheduled: status.number_misscheduled,
        desired_number_scheduled: status.desired_number_scheduled,
        number_ready: status.number_ready,
        observed_generation: nonzero(status.observed_generation),
        updated_number_scheduled: nonzero(status.updated_number_scheduled),
        number_available: nonzero(status.number_available),
        number_unavailable: nonzero(status.number_unavailable),
        collision_count: status.collision_count,
        conditions: some_unless_empty(status.conditions.iter().map(condition).collect()),
    }
}

fn from_daemon_set_status(full: apps::DaemonSetStatus) -> DaemonSetStatus {
    let condition = |full: apps::DaemonSetCondition| WorkloadCondition {
        kind: Name::from(full.type_),
        status: ConditionStatus::of(&full.status),
        reason: name_or_empty(full.reason),
        message: name_or_empty(full.message),
        last_update: Timestamp::default(),
        last_transition: full.last_transition_time.map(from_time).unwrap_or_default(),
    };
    DaemonSetStatus {
        current_number_scheduled: full.current_number_scheduled,
        number_misscheduled: full.number_misscheduled,
        desired_number_scheduled: full.desired_number_scheduled,
        number_ready: full.number_ready,
        observed_generation: full.observed_generation.unwrap_or(0),
        updated_number_scheduled: full.updated_number_scheduled.unwrap_or(0),
        number_available: full.number_available.unwrap_or(0),
        number_unavailable: full.number_unavailable.unwrap_or(0),
        collision_count: full.collision_count,
        conditions: full.conditions.unwrap_or_default().into_iter().map(condition).collect(),
    }
}

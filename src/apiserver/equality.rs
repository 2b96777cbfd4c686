//! Whether two versions of an object say the same, whatever their resourceVersion: then nothing is written.
//!
//! Parts that versions share in memory are equal without a look inside.

use std::rc::Rc;

use crate::api::meta::Meta;
use crate::api::object::Object;
use crate::api::pod::{PodSpec, PodTemplate};
use crate::api::stateful::StatefulSet;
use crate::api::workload::{DaemonSet, Deployment, DeploymentSpec, Replicated};

/// True if both carry the same content.
pub fn same(old: &Object, new: &Object) -> bool {
    same_meta(old.meta(), new.meta()) && same_body(old, new)
}

/// True if both carry the same metadata apart from the version.
pub fn same_meta(old: &Meta, new: &Meta) -> bool {
    old.labels == new.labels
        && old.generation == new.generation
        && old.deletion == new.deletion
        && old.annotations == new.annotations
        && old.owners == new.owners
        && old.finalizers == new.finalizers
        && old.uid == new.uid
        && old.name == new.name
        && old.namespace == new.namespace
        && old.created == new.created
        && old.generate_name == new.generate_name
}

/// True if both say the same apart from their metadata.
pub fn same_body(old: &Object, new: &Object) -> bool {
    match (old, new) {
        (Object::Pod(old), Object::Pod(new)) => {
            old.status == new.status
                && old.node == new.node
                && old.token_volume == new.token_volume
                && old.only_node == new.only_node
                && same_spec(&old.spec, &new.spec)
        }
        (Object::ReplicaSet(old), Object::ReplicaSet(new)) => old.status == new.status && same_set_spec(&**old, &**new),
        (Object::Deployment(old), Object::Deployment(new)) => {
            old.status == new.status && same_deployment_spec(&old.spec, &new.spec)
        }
        (Object::DaemonSet(old), Object::DaemonSet(new)) => old.status == new.status && same_daemon_spec(old, new),
        (Object::Node(old), Object::Node(new)) => {
            old.status == new.status
                && old.taints == new.taints
                && old.unschedulable == new.unschedulable
                && old.pod_cidr == new.pod_cidr
                && old.provider_id == new.provider_id
        }
        (Object::Lease(old), Object::Lease(new)) => {
            old.renew_time == new.renew_time
                && old.holder == new.holder
                && old.duration_seconds == new.duration_seconds
                && old.acquire_time == new.acquire_time
                && old.transitions == new.transitions
        }
        (Object::Service(old), Object::Service(new)) => {
            shared(&old.spec, &new.spec) && shared(&old.status, &new.status)
        }
        (Object::EndpointSlice(old), Object::EndpointSlice(new)) => {
            old.endpoints == new.endpoints && old.ports == new.ports && old.address_type == new.address_type
        }
        (Object::Endpoints(old), Object::Endpoints(new)) => old.subsets == new.subsets,
        (Object::Namespace(old), Object::Namespace(new)) => {
            old.finalizers == new.finalizers && old.terminating == new.terminating && old.conditions == new.conditions
        }
        (Object::Event(old), Object::Event(new)) => {
            old.occurrence() == new.occurrence()
                && old.message == new.message
                && old.class == new.class
                && old.involved == new.involved
                && old.involved_revision == new.involved_revision
        }
        (Object::ConfigMap(old), Object::ConfigMap(new)) => shared(&old.content, &new.content),
        (Object::Secret(old), Object::Secret(new)) => shared(&old.content, &new.content),
        (Object::ServiceAccount(old), Object::ServiceAccount(new)) => shared(&old.content, &new.content),
        (Object::PriorityClass(old), Object::PriorityClass(new)) => shared(&old.content, &new.content),
        (Object::ControllerRevision(old), Object::ControllerRevision(new)) => {
            old.revision == new.revision && shared(&old.data, &new.data)
        }
        (Object::PersistentVolume(old), Object::PersistentVolume(new)) => shared(&old.content, &new.content),
        (Object::PersistentVolumeClaim(old), Object::PersistentVolumeClaim(new)) => shared(&old.content, &new.content),
        (Object::StorageClass(old), Object::StorageClass(new)) => shared(&old.content, &new.content),
        (Object::CSINode(old), Object::CSINode(new)) => shared(&old.content, &new.content),
        (Object::CSIDriver(old), Object::CSIDriver(new)) => shared(&old.content, &new.content),
        (Object::CSIStorageCapacity(old), Object::CSIStorageCapacity(new)) => shared(&old.content, &new.content),
        (Object::VolumeAttachment(old), Object::VolumeAttachment(new)) => shared(&old.content, &new.content),
        (Object::PodDisruptionBudget(old), Object::PodDisruptionBudget(new)) => shared(&old.content, &new.content),
        (Object::ReplicationController(old), Object::ReplicationController(new)) => {
            old.status == new.status && same_set_spec(&**old, &**new)
        }
        (Object::StatefulSet(old), Object::StatefulSet(new)) => {
            old.status == new.status && same_stateful_set_spec(old, new)
        }
        (Object::Job(old), Object::Job(new)) => old.status == new.status && shared(&old.spec, &new.spec),
        (Object::CronJob(old), Object::CronJob(new)) => old.status == new.status && shared(&old.spec, &new.spec),
        (Object::ResourceQuota(old), Object::ResourceQuota(new)) => {
            shared(&old.spec, &new.spec) && shared(&old.hard, &new.hard) && shared(&old.used, &new.used)
        }
        (Object::LimitRange(old), Object::LimitRange(new)) => shared(&old.content, &new.content),
        (Object::RuntimeClass(old), Object::RuntimeClass(new)) => shared(&old.content, &new.content),
        (Object::HorizontalPodAutoscaler(old), Object::HorizontalPodAutoscaler(new)) => {
            shared(&old.content, &new.content)
        }
        _ => false,
    }
}

/// True if both pod specifications say the same.
pub fn same_spec(old: &Rc<PodSpec>, new: &Rc<PodSpec>) -> bool {
    Rc::ptr_eq(old, new) || old.full == new.full
}

/// True if both ask for the same replicas.
pub fn same_set_spec<R: Replicated>(old: &R, new: &R) -> bool {
    old.replicas() == new.replicas()
        && old.min_ready_seconds() == new.min_ready_seconds()
        && shared(old.selector(), new.selector())
        && same_template(old.template(), new.template())
}

/// True if both StatefulSets ask for the same.
pub fn same_stateful_set_spec(old: &StatefulSet, new: &StatefulSet) -> bool {
    shared(&old.spec, &new.spec) && shared(&old.selector, &new.selector) && same_template(&old.template, &new.template)
}

/// True if both Deployments ask for the same.
pub fn same_deployment_spec(old: &DeploymentSpec, new: &DeploymentSpec) -> bool {
    old.replicas == new.replicas
        && old.paused == new.paused
        && old.strategy == new.strategy
        && old.min_ready_seconds == new.min_ready_seconds
        && old.revision_history_limit == new.revision_history_limit
        && old.progress_deadline_seconds == new.progress_deadline_seconds
        && shared(&old.selector, &new.selector)
        && same_template(&old.template, &new.template)
}

/// True if both DaemonSets ask for the same.
pub fn same_daemon_spec(old: &DaemonSet, new: &DaemonSet) -> bool {
    old.strategy == new.strategy
        && old.min_ready_seconds == new.min_ready_seconds
        && old.revision_history_limit == new.revision_history_limit
        && shared(&old.selector, &new.selector)
        && same_template(&old.template, &new.template)
}

/// True if a Deployment's annotations or specification differ: what its generation counts.
pub fn counts_as_new(old: &Deployment, new: &Deployment) -> bool {
    old.meta.annotations != new.meta.annotations || !same_deployment_spec(&old.spec, &new.spec)
}

/// True if both make the same pods.
pub fn same_template(old: &Rc<PodTemplate>, new: &Rc<PodTemplate>) -> bool {
    Rc::ptr_eq(old, new)
        || (old.labels == new.labels && old.annotations == new.annotations && same_spec(&old.spec, &new.spec))
}

fn shared<T: PartialEq + ?Sized>(old: &Rc<T>, new: &Rc<T>) -> bool {
    Rc::ptr_eq(old, new) || old == new
}

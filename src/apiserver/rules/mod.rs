//! What the server does to objects of each kind when they are created and changed: the strategies of the real registry.
//!
//! - `meta`: what all kinds have in common
//! - `pod`, `workload`, `batch`, `cluster`, `network`, `storage`: families of kinds
//!
//! Pure functions of the new object and the stored one.

mod batch;
mod cluster;
mod meta;
mod network;
mod pod;
mod storage;
mod workload;

use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::meta::Timestamp;
use crate::api::object::Object;
use crate::api::policy;

use super::protocol::Part;
use super::status::Status;

pub use meta::{PropagationDefault, new_finalizers};
pub use pod::{UID_MISMATCH, merge_conditions, set_condition};

/// What a kind allows (the real strategies' answers to yes-or-no questions).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allows {
    /// A replacement of an object that does not exist creates it (`AllowCreateOnUpdate`).
    pub create_on_update: bool,
    /// A replacement need not name the version that it replaces (`AllowUnconditionalUpdate`).
    pub unconditional_update: bool,
    /// What becomes of dependents if nothing is said (`DefaultGarbageCollectionPolicy`).
    pub propagation: PropagationDefault,
    /// A deletion gives the object time to end (`CheckGracefulDelete`).
    pub graceful: bool,
}

/// What a kind allows.
pub fn allows(kind: Kind) -> Allows {
    let plain = Allows {
        create_on_update: false,
        unconditional_update: true,
        propagation: PropagationDefault::Background,
        graceful: false,
    };
    match kind {
        Kind::Pod => Allows { graceful: true, ..plain },
        Kind::ReplicationController => Allows { propagation: PropagationDefault::Orphan, ..plain },
        Kind::Lease => Allows { create_on_update: true, unconditional_update: false, ..plain },
        Kind::Event => Allows { create_on_update: true, propagation: PropagationDefault::Unsupported, ..plain },
        Kind::Job => Allows { propagation: PropagationDefault::Orphan, ..plain },
        Kind::LimitRange => Allows { create_on_update: true, ..plain },
        Kind::RuntimeClass => Allows { create_on_update: true, unconditional_update: false, ..plain },
        Kind::Endpoints | Kind::Service => Allows { create_on_update: true, ..plain },
        Kind::CSINode
        | Kind::CSIDriver
        | Kind::CSIStorageCapacity
        | Kind::VolumeAttachment
        | Kind::PodDisruptionBudget => Allows { unconditional_update: false, ..plain },
        _ => plain,
    }
}

/// Makes a new object fit to be stored, or says what is wrong with it. Its name and uid are set.
pub fn prepare_create(object: &mut Object, now: Timestamp) -> Result<(), Box<Status>> {
    let counts = object.kind().row().counts_generation;
    let metadata = object.meta_mut();
    metadata.created = now;
    metadata.resource_version.set(0);
    let generation = i64::from(counts);
    if metadata.deletion.is_some() || metadata.generation != generation {
        (metadata.deletion, metadata.generation) = (None, generation);
    }
    meta::check_create(object)?;
    match object {
        Object::Pod(pod) => pod::create(Rc::make_mut(pod), now),
        Object::ReplicaSet(set) => Rc::make_mut(set).status = Default::default(),
        Object::Deployment(deployment) => Rc::make_mut(deployment).status = Default::default(),
        Object::DaemonSet(set) => workload::create_daemon_set(Rc::make_mut(set)),
        Object::Namespace(namespace) => cluster::create_namespace(Rc::make_mut(namespace)),
        Object::Service(service) => network::create_service(service),
        Object::PersistentVolume(volume) => storage::create_volume(Rc::make_mut(volume), now),
        Object::PersistentVolumeClaim(claim) => storage::create_claim(Rc::make_mut(claim)),
        Object::VolumeAttachment(attachment) => {
            Rc::make_mut(&mut Rc::make_mut(attachment).content).status = None;
        }
        Object::PodDisruptionBudget(budget) => {
            Rc::make_mut(&mut Rc::make_mut(budget).content).status = Some(policy::unseen_status());
        }
        Object::ReplicationController(controller) => Rc::make_mut(controller).status = Default::default(),
        Object::StatefulSet(set) => workload::create_stateful_set(Rc::make_mut(set)),
        Object::Job(job) => batch::create_job(Rc::make_mut(job)),
        Object::CronJob(cron_job) => Rc::make_mut(cron_job).status = Default::default(),
        Object::HorizontalPodAutoscaler(it) => Rc::make_mut(&mut Rc::make_mut(it).content).status = None,
        Object::ResourceQuota(quota) => cluster::create_quota(Rc::make_mut(quota)),
        _ => {}
    }
    Ok(())
}

/// Fills in what a client need not repeat in a replacement, before anybody looks whether it is valid.
pub fn keep_allocated(new: &mut Object, old: &Object) {
    if let (Object::Service(new), Object::Service(old)) = (new, old) {
        network::keep_allocated(new, old);
    }
}

/// Takes away what the new version of an object can no longer have, before anybody looks whether it is valid.
pub fn drop_unused(new: &mut Object, old: &Object) {
    if let (Object::Service(new), Object::Service(old)) = (new, old) {
        network::drop_unused(new, old);
    }
}

/// Makes the new version of an object fit to be stored: keeps what a request to this part may not change, counts the
/// generation, refuses what must not change.
pub fn prepare_update(new: &mut Object, old: &Object, part: Part) -> Result<(), Box<Status>> {
    meta::keep(new.meta_mut(), old.meta());
    match (&mut *new, old) {
        (Object::Pod(new), Object::Pod(old)) => pod::update(Rc::make_mut(new), old, part)?,
        (Object::ReplicaSet(new), Object::ReplicaSet(old)) => {
            workload::update_replica_set(Rc::make_mut(new), old, part)?;
        }
        (Object::Deployment(new), Object::Deployment(old)) => {
            workload::update_deployment(Rc::make_mut(new), old, part)?;
        }
        (Object::DaemonSet(new), Object::DaemonSet(old)) => workload::update_daemon_set(Rc::make_mut(new), old, part)?,
        (Object::Node(new), Object::Node(old)) => cluster::update_node(Rc::make_mut(new), old, part)?,
        (Object::Namespace(new), Object::Namespace(old)) => cluster::update_namespace(Rc::make_mut(new), old, part),
        (Object::PriorityClass(new), Object::PriorityClass(old)) => cluster::update_priority_class(new, old)?,
        (Object::ConfigMap(new), Object::ConfigMap(old)) => cluster::update_config_map(new, old)?,
        (Object::Secret(new), Object::Secret(old)) => cluster::update_secret(new, old)?,
        (Object::ControllerRevision(new), Object::ControllerRevision(old)) => cluster::update_revision(new, old)?,
        (Object::Service(new), Object::Service(old)) => network::update_service(new, old, part)?,
        (Object::PersistentVolume(new), Object::PersistentVolume(old)) => {
            storage::update_volume(Rc::make_mut(new), old, part);
        }
        (Object::PersistentVolumeClaim(new), Object::PersistentVolumeClaim(old)) => {
            storage::update_claim(Rc::make_mut(new), old, part);
        }
        (Object::CSIDriver(new), Object::CSIDriver(old)) => storage::update_driver(Rc::make_mut(new), old),
        (Object::VolumeAttachment(new), Object::VolumeAttachment(old)) => {
            storage::update_attachment(Rc::make_mut(new), old, part);
        }
        (Object::PodDisruptionBudget(new), Object::PodDisruptionBudget(old)) => {
            workload::update_budget(Rc::make_mut(new), old, part);
        }
        (Object::StatefulSet(new), Object::StatefulSet(old)) => {
            workload::update_stateful_set(Rc::make_mut(new), old, part);
        }
        (Object::ReplicationController(new), Object::ReplicationController(old)) => {
            workload::update_replication_controller(Rc::make_mut(new), old, part);
        }
        (Object::HorizontalPodAutoscaler(new), Object::HorizontalPodAutoscaler(old)) => {
            cluster::update_autoscaler(Rc::make_mut(new), old, part);
        }
        (Object::ResourceQuota(new), Object::ResourceQuota(old)) => {
            cluster::update_quota(Rc::make_mut(new), old, part)?;
        }
        (Object::EndpointSlice(new), Object::EndpointSlice(old)) => network::update_slice(Rc::make_mut(new), old)?,
        (Object::Job(new), Object::Job(old)) => batch::update_job(Rc::make_mut(new), old, part)?,
        (Object::CronJob(new), Object::CronJob(old)) => batch::update_cron_job(Rc::make_mut(new), old, part),
        _ => {}
    }
    meta::check_update(new, old)
}

//! The control loops of kube-controller-manager, one file or folder each, all of the shape
//! [`Controller`]: they look into a cache and return the writes to make.
//!
//! They know the API and never one another, never send anything themselves and never read a clock.
//!
//! - `deployment`: Deployments by way of ReplicaSets
//! - `daemon_set`: one pod on each node
//! - `replica_set`: ReplicaSets and ReplicationControllers by way of pods
//! - `disruption`: how many pods of each disruption budget may go by choice
//! - `stateful_set`: StatefulSets by way of pods, claims and revisions
//! - `job`: Jobs by way of pods
//! - `cron_job`: CronJobs by way of Jobs
//! - `ttl_after_finished`: Jobs that ended some time ago
//! - `endpoint_slice`, `endpoints`: the pods behind Services
//! - `endpoint_slice_mirroring`: Endpoints that somebody else writes, as slices
//! - `node_lifecycle`: nodes that stop reporting, their taints, their pods
//! - `taint_eviction`: pods that do not tolerate the taints of their node
//! - `pod_gc`: pods that nobody else takes away
//! - `garbage_collector`: what its owners left behind
//! - `namespace`: namespaces that are being deleted
//! - `service_account`: the default account of each namespace
//! - `root_certificate`: the ConfigMap `kube-root-ca.crt` of each namespace
//! - `resource_quota`: what the objects of a namespace use of its quotas
//! - `horizontal`: HorizontalPodAutoscalers
//! - `node_ipam`: the range of pod addresses of each node
//! - `ttl`: how long the kubelet of each node may believe what it has read
//! - `persistent_volume`: claims and their volumes
//!
//! Not simulated: token controllers, and those of kinds that do not exist yet.
//!
//! What they share:
//!
//! - `config`: workers, periods, limits
//! - `script`: a sync written as straight-line code
//! - `owner`: controller references, adoption and release
//! - `census`: what was found out about the pods of an owner
//! - `history`: the revisions of StatefulSets and DaemonSets
//! - `service_pods`: which pods are behind a Service
//! - `subsets`: addresses that serve the same ports
//! - `time`: spans from whole-second dates to the exact present

mod census;
pub mod config;
pub mod cron_job;
pub mod daemon_set;
pub mod deployment;
pub mod disruption;
pub mod endpoint_slice;
pub mod endpoint_slice_mirroring;
pub mod endpoints;
pub mod garbage_collector;
pub mod history;
pub mod horizontal;
pub mod job;
pub mod namespace;
pub mod node_ipam;
pub mod node_lifecycle;
mod owner;
pub mod persistent_volume;
pub mod pod_gc;
pub mod replica_set;
pub mod resource_quota;
pub mod root_certificate;
mod script;
pub mod service_account;
mod service_pods;
pub mod stateful_set;
mod subsets;
pub mod taint_eviction;
#[cfg(test)]
mod testing;
mod time;
pub mod ttl;
pub mod ttl_after_finished;

use crate::client::controller::Controller;
use config::Config;

/// All controllers, in the order in which they are started.
pub fn all(config: &Config) -> Vec<Box<dyn Controller>> {
    vec![
        Box::new(deployment::DeploymentController::new(config)),
        Box::new(replica_set::ReplicaSetController::new(config)),
        Box::new(replica_set::ReplicaSetController::of_replication_controllers(config)),
        Box::new(daemon_set::DaemonSetController::new(config)),
        Box::<disruption::DisruptionController>::default(),
        Box::new(stateful_set::StatefulSetController::new(config)),
        Box::new(endpoint_slice::EndpointSliceController::new(config)),
        Box::new(endpoints::EndpointsController::new(config)),
        Box::new(endpoint_slice_mirroring::MirroringController::new(config)),
        Box::new(node_lifecycle::NodeLifecycleController::new(config)),
        Box::new(taint_eviction::TaintEvictionController::new()),
        Box::new(pod_gc::PodGarbageCollector::new(config)),
        Box::new(garbage_collector::GarbageCollector::new(config)),
        Box::new(namespace::NamespaceController::new(config)),
        Box::new(service_account::ServiceAccountController::new(config)),
        Box::new(root_certificate::RootCertificatePublisher),
        Box::new(horizontal::HorizontalController::new(config)),
        Box::new(resource_quota::ResourceQuotaController::new(config)),
        Box::new(node_ipam::NodeIpamController::new(config)),
        Box::new(ttl::TtlController::new(config)),
        Box::new(persistent_volume::PersistentVolumeController::new(config)),
        Box::new(persistent_volume::provisioner::Provisioner),
        Box::new(persistent_volume::protection::ClaimProtection::default()),
        Box::new(persistent_volume::protection::VolumeProtection),
        Box::new(persistent_volume::ephemeral::EphemeralVolumeController::new(config)),
        Box::new(job::JobController::new(config)),
        Box::new(cron_job::CronJobController::new(config)),
        Box::new(ttl_after_finished::TtlAfterFinishedController::new(config)),
    ]
}

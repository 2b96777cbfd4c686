//! What the API server adds to an object before it looks at it further. Values follow kube-apiserver, pkg/apis/*/v1/defaults.
//!
//! Defaults that need to know the cluster (cluster IPs, priorities, tolerations for not-ready nodes, the service account's
//! name) belong to admission and are not here. Setting defaults twice changes nothing.
//!
//! - `pod`: pods and pod templates
//! - `container`: containers, probes and resources
//! - `volume`: volumes of pods
//! - `storage`: volumes, claims, storage classes and CSI drivers as objects
//! - `workload`: Deployments, ReplicaSets, StatefulSets and ReplicationControllers
//! - `batch`: Jobs and CronJobs
//! - `network`: Services and their endpoints
//! - `autoscaling`: autoscalers
//! - `quota`: quotas and limits of namespaces
//! - `other`: the remaining kinds

mod autoscaling;
mod batch;
mod container;
mod network;
mod other;
mod pod;
mod quota;
mod storage;
mod volume;
mod workload;

pub use container::default_pull_policy;
pub use pod::pod_template_defaults;

/// A kind to which the API server adds defaults.
pub trait Defaults {
    /// Sets what was left out.
    fn set_defaults(&mut self);
}

/// Whether a text is absent or empty, which Go does not tell apart.
fn unset(text: &Option<String>) -> bool {
    text.as_deref().unwrap_or_default().is_empty()
}

/// Sets a text that is absent or empty.
fn fill(text: &mut Option<String>, value: &str) {
    if unset(text) {
        *text = Some(value.to_owned());
    }
}

/// Sets a number that is absent or zero.
fn fill_number(number: &mut Option<i32>, value: i32) {
    if number.unwrap_or_default() == 0 {
        *number = Some(value);
    }
}

//! What the API server accepts, and what it answers when it does not. Pure functions of objects that have their defaults.
//!
//! Rules, texts and their order follow kube-apiserver, pkg/apis/*/validation, and apimachinery, api/validation. Fields
//! that nothing in a simulated cluster looks at (most of security contexts, volumes of storage vendors) are not checked.
//!
//! - `error`: field errors, their paths and texts
//! - `format`: the formats of names, labels, keys and ports
//! - `metadata`: names, labels, annotations, owners, finalizers, and what may not change
//! - `selector`: label selectors
//! - `pod`: pods, pod templates and updates of pods
//! - `container`: containers, ports, environment, mounts
//! - `resources`: amounts that containers request
//! - `probe`: probes and lifecycle handlers
//! - `scheduling`: affinity, tolerations, taints, topology spread
//! - `volume`: volumes of pods
//! - `security`: the users and groups of security contexts
//! - `persistent`: PersistentVolumes and claims to them
//! - `storage`: storage classes, attachments and what CSI drivers say
//! - `policy`: disruption budgets
//! - `autoscaling`: autoscalers
//! - `quota`: quotas and limits of namespaces, runtime classes
//! - `workload`: Deployments, ReplicaSets and their statuses
//! - `stateful`: StatefulSets and ReplicationControllers
//! - `daemon`: DaemonSets
//! - `job`, `job_policy`, `job_status`: Jobs, their failure and success policies, what their controller writes
//! - `cron_job`: CronJobs
//! - `service`: Services
//! - `endpoints`: Endpoints and EndpointSlices
//! - `other`: the remaining kinds

mod autoscaling;
mod container;
mod cron_job;
mod daemon;
mod endpoints;
pub mod error;
pub mod format;
mod job;
mod job_policy;
mod job_status;
pub mod metadata;
mod other;
mod persistent;
mod pod;
mod policy;
mod probe;
mod quota;
pub mod resources;
mod scheduling;
mod security;
mod selector;
mod service;
mod stateful;
mod storage;
mod volume;
mod workload;

pub use error::{ErrorList, FieldError, FieldErrorKind};
pub use job_status::job_status;
pub use pod::pod_template;
pub use quota::quota_status;
pub use workload::{deployment_status, replica_set_status};

/// A kind whose objects the API server checks.
pub trait Validate {
    /// What is wrong with a new object. Metadata that the server sets itself must already be there, the defaults too.
    fn validate(&self) -> ErrorList;

    /// What is wrong with a manifest, to which the server still adds what only it knows.
    fn validate_manifest(&self) -> ErrorList {
        self.validate()
    }

    /// What is wrong with an object that is to replace `old`.
    fn validate_update(&self, old: &Self) -> ErrorList;
}

/// The text, empty where it is absent.
fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

/// Refuses a number below zero.
fn not_negative(value: i64, path: &error::Path<'_>, errors: &mut ErrorList) {
    if value < 0 {
        errors.push(FieldError::invalid(path, value, "must be greater than or equal to 0"));
    }
}

/// Requires one of the values supported.
fn one_of(value: &str, supported: &[&str], path: &error::Path<'_>, errors: &mut ErrorList) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if !supported.contains(&value) {
        errors.push(FieldError::not_supported(path, value, supported));
    }
}

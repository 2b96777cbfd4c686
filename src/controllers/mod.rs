//! The control loops of kube-controller-manager, one file or folder each, all of the shape
//! [`Controller`](crate::client::controller::Controller): they look into a cache and return the writes to make.
//!
//! They know the API and never one another, never send anything themselves and never read a clock.
//!
//! - `deployment`: Deployments by way of ReplicaSets
//! - `replica_set`: ReplicaSets by way of pods
//! - `endpoint_slice`, `endpoints`: the pods behind Services
//! - `node_lifecycle`: nodes that stop reporting, their taints, their pods
//!
//! What they share:
//!
//! - `config`: workers, periods, limits
//! - `script`: a sync written as straight-line code
//! - `owner`: controller references, adoption and release
//! - `service_pods`: which pods are behind a Service
//! - `time`: spans from whole-second dates to the exact present

pub mod config;
pub mod deployment;
pub mod endpoint_slice;
pub mod endpoints;
pub mod node_lifecycle;
mod owner;
pub mod replica_set;
mod script;
mod service_pods;
#[cfg(test)]
mod testing;
mod time;

use crate::client::controller::Controller;
use config::Config;

/// All controllers, in the order in which they are started.
pub fn all(config: &Config) -> Vec<Box<dyn Controller>> {
    vec![
        Box::new(deployment::DeploymentController::new(config)),
        Box::new(replica_set::ReplicaSetController::new(config)),
        Box::new(endpoint_slice::EndpointSliceController::new(config)),
        Box::new(endpoints::EndpointsController::new(config)),
        Box::new(node_lifecycle::NodeLifecycleController::new(config)),
    ]
}

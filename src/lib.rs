//! A whole Kubernetes cluster as one deterministic program.
//!
//! The folders are the floors of one house; each imports only from those below it:
//!
//! ```text
//! cli         the way in: command line
//! report      what a run leaves: summary, tables, traces, explanations
//! placement   where pods go and why, asked of a cluster as it stands
//! scenario    one run: the scenario file, its timeline, conditions, expectations
//! cluster     machines and wiring, faults, the World that the engine drives
//! scheduler controllers kubelet
//! runtime     the container runtime's interface and the simulated one
//! client      requests, informers, work queues, rate limits, event recorder
//! apiserver   request pipeline, admission, registry, watch cache
//! etcd        Raft, MVCC store, watches, leases
//! api         the Kubernetes object model: pure data and pure functions
//! engine      virtual time, event list, random streams, links, disks, trace
//! ```
//!
//! # In a test
//!
//! A scenario says what the cluster is, what is done to it and what is expected. It can be run with any number of seeds,
//! and each time the outcome is plain data:
//!
//! ```
//! use kubesim::scenario::Scenario;
//!
//! let file = r#"
//! apiVersion: kubesim/v1alpha1
//! kind: Scenario
//! metadata: {name: update}
//! manifests:
//! - object:
//!     apiVersion: apps/v1
//!     kind: Deployment
//!     metadata: {name: web}
//!     spec:
//!       replicas: 3
//!       selector: {matchLabels: {app: web}}
//!       template:
//!         metadata: {labels: {app: web}}
//!         spec: {containers: [{name: web, image: web:v1}]}
//! steps:
//! - {name: update, at: 20s, setImage: {object: deployment/web, images: {web: "web:v2"}}}
//! expect:
//! - {name: all go on serving, from: update, always: available('web') >= 3}
//! - {name: fast, from: update, within: 30s, eventually: rolledOut('web')}
//! "#;
//! let scenario = Scenario::read("update.yml", file, &mut |name| Err(format!("there is no {name}"))).unwrap();
//! for seed in 1..=3 {
//!     let outcome = scenario.run(seed);
//!     assert!(outcome.is_success(), "seed {seed}: {:?}", outcome.broken_expectations().next());
//!     assert_eq!(outcome.digest, scenario.run(seed).digest); // the same seed, the same bytes
//! }
//! ```

// Tests that are shared with those outside name this crate as those do.
#[cfg(test)]
extern crate self as kubesim;

pub mod api;
pub mod apiserver;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod controllers;
pub mod engine;
pub mod etcd;
pub mod kubelet;
pub mod placement;
pub mod report;
pub mod runtime;
pub mod scenario;
pub mod scheduler;

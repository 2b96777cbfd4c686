//! A whole Kubernetes cluster as one deterministic program.
//!
//! The folders are the floors of one house; each imports only from those below it:
//!
//! ```text
//! cli         the way in: command line
//! report      what a run leaves: summary, tables, traces, explanations
//! scenario    one run: the scenario file, its timeline, conditions, expectations
//! check       invariants, watched in every run
//! cluster     machines and wiring, faults, the World that the engine drives
//! scheduler controllers kubelet
//! runtime     the container runtime's interface and the simulated one
//! client      requests, informers, work queues, rate limits, event recorder
//! apiserver   request pipeline, admission, registry, watch cache
//! etcd        Raft, MVCC store, watches, leases
//! api         the Kubernetes object model: pure data and pure functions
//! engine      virtual time, event list, random streams, links, disks, trace
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
pub mod report;
pub mod runtime;
pub mod scenario;
pub mod scheduler;

//! Preemption: which pods would have to go so that a more important one fits, on which node they are missed least, and how they
//! are made to go (kube-scheduler, `framework/preemption`, `framework/plugins/defaultpreemption`).
//!
//! - `dry_run`: what would have to go from one node, and from all that come into question; pure functions
//! - `budgets`: whose going a disruption budget does not allow
//! - `choice`: the node on which the victims are missed least
//! - `known`: the same, kept for pods of one specification
//! - `ongoing`: who waits until its victims have been told to go
//! - `executor`: the requests that tell them

pub mod budgets;
pub mod choice;
pub mod dry_run;
pub(super) mod executor;
pub mod known;
pub mod ongoing;
#[cfg(test)]
mod tests;

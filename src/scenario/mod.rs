//! One run: the scenario file, its timeline, its conditions and expectations.
//!
//! - `condition`: questions in CEL about the cluster
//! - `file`: the scenario file as it is written
//! - `manifests`: objects of files, checked
//! - `outcome`: what a run came to

pub mod condition;
pub mod file;
pub mod manifests;
pub mod outcome;

//! Questions about placements that are asked of a cluster as it stands: where does a pod go and why, why does it fit nowhere
//! and what would help, how many of it fit.
//!
//! Nothing here runs: the cluster is given as objects, and the scheduler's own plugins are asked.
//!
//! - `snapshot`: the scheduler's picture of a cluster that is given as objects
//! - `json`: an [`Evaluation`](crate::scheduler::evaluate::Evaluation) as JSON
//! - `cases`: recorded cases, answered in the form in which they were recorded
//! - `files`, `claims`: a cluster and pods as files, and what is refused of them
//! - `decision`: what becomes of pods, one after the other
//! - `advice`: which single change would let a pod fit
//! - `count`: how many copies of a pod fit
//! - `table`: all this for a terminal

pub mod advice;
pub mod cases;
mod claims;
pub mod count;
pub mod decision;
pub mod files;
pub mod json;
pub mod snapshot;
pub mod table;

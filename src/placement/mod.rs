//! Questions about placements that are asked of a cluster as it stands: where does a pod go and why, why does it fit nowhere
//! and what would help, how many of it fit.
//!
//! Nothing here runs: the cluster is given as objects, and the scheduler's own plugins are asked.
//!
//! - `snapshot`: the scheduler's picture of a cluster that is given as objects
//! - `json`: an [`Evaluation`](crate::scheduler::evaluate::Evaluation) as JSON
//! - `cases`: recorded cases, answered in the form in which they were recorded

pub mod cases;
pub mod json;
pub mod snapshot;

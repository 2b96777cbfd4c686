//! One run: the scenario file, its timeline, its conditions and expectations.
//!
//! A [`Scenario`] is read from a file, or made of plain manifests, and can then be run with any number of seeds. What a
//! run came to is an [`Outcome`].
//!
//! - this file: a scenario, reading it and running it
//! - `file`: the scenario file as it is written
//! - `check`, `actions`, `build`: from the file to the plan: names resolved, everything wrong reported with its place
//! - `kubelet`: what a file says to kubelets
//! - `plan`: what will be done and when, and what is expected
//! - `manifests`: objects of files, checked as the API server would
//! - `condition`: questions in CEL about the cluster
//! - `runner`: drives a cluster through the plan
//! - `timeline`: which step stands where
//! - `kubectl`, `fault`: what steps do
//! - `pattern`: which object or machine a name with a `*` means
//! - `settle`: whether anything is still in transition
//! - `expectation`: expectations while a run goes on
//! - `outcome`: what a run came to

mod actions;
mod build;
pub mod check;
pub mod condition;
mod expectation;
mod fault;
pub mod file;
pub mod kubectl;
mod kubelet;
mod load;
pub mod manifests;
pub mod outcome;
mod pattern;
pub mod plan;
pub mod runner;
mod settle;
mod timeline;

use std::rc::Rc;

use crate::api::manifest::Problem;
use crate::cluster::options::ClusterOptions;
use crate::engine::time::SimTime;

use self::condition::Expression;
use self::plan::{Expectation, Step, Until};

pub use self::load::{is_scenario, read_manifest_files, schema};
pub use self::outcome::Outcome;
pub use self::runner::{Observer, Run};

/// The name of the step that applies what is there from the beginning.
pub const SETUP: &str = "setup";
/// When that is: a second after the last component has begun.
pub const SETUP_AT: SimTime = SimTime::from_nanos(3_000_000_000);

/// A scenario that was checked.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it shows, for people.
    pub description: String,
    /// The cluster.
    pub cluster: ClusterOptions,
    /// What is done; the setup comes first if there is one.
    pub steps: Vec<Step>,
    /// When the run ends.
    pub until: Until,
    /// When it is stuck at the latest.
    pub limit: SimTime,
    /// What is expected.
    pub expectations: Vec<Expectation>,
    /// What should be told about its files and does no harm.
    pub warnings: Vec<Problem>,
}

impl Scenario {
    /// Runs the scenario to its end.
    pub fn run(&self, seed: u64) -> Outcome {
        self.start(seed, false).finish(&mut ()).0
    }

    /// Begins a run that the caller drives. With `trace`, every event is recorded with its cause.
    pub fn start(&self, seed: u64, trace: bool) -> Run {
        Run::new(Rc::new(self.clone()), seed, trace)
    }

    /// All conditions.
    fn expressions(&self) -> impl Iterator<Item = &Expression> {
        let of_steps = self.steps.iter().filter_map(|step| step.start.when.as_deref());
        let of_expectations = self.expectations.iter().map(|expectation| &*expectation.condition);
        let until = match &self.until {
            Until::Condition(expression) => Some(&**expression),
            Until::Settled(_) | Until::Time(_) => None,
        };
        of_steps.chain(of_expectations).chain(until)
    }

    /// Whether any condition depends on the time.
    fn asks_for_time(&self) -> bool {
        self.expressions().any(Expression::depends_on_time)
    }
}

#[cfg(test)]
mod tests;

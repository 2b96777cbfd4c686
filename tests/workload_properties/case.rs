//! A case: workloads, what is done to them and what breaks; the scenario that it is; running it.
//!
//! A case is shown as the scenario, so that what a failed property prints when it has shrunk the case can be saved and run with
//! `kubesim run FILE --seed N`.

use std::fmt;

use kubesim::cluster::Cluster;
use kubesim::engine::time::SimDuration;
use kubesim::scenario::outcome::Ending;
use kubesim::scenario::{Outcome, Scenario};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::desired;
use super::trouble::{Breaking, NODES, Operation, Planned, Step, Target, patch_work, set_image};
use super::watch::{Circumstances, Watcher};
use super::workload::{BROKEN, GOOD, IMAGES, Workloads};

/// How long after everything else what is broken is mended, in seconds.
const PAUSE: u64 = 30;
/// The same after faults: a kubelet that was cut off has its connection back only when the old one is given up.
const RECOVERY: u64 = 90;

/// How long it takes at most until a server learns of what etcd has made of its write, when nothing fails.
const UNDER_WAY: SimDuration = SimDuration::from_secs(5);
/// The same where packets get lost and are sent again.
const UNDER_WAY_LONGER: SimDuration = SimDuration::from_secs(90);

/// A cluster, what runs there, what is done and what breaks.
#[derive(Clone)]
pub struct Case {
    pub seed: u64,
    pub workloads: Workloads,
    pub operations: Vec<Planned>,
    pub faults: Vec<Breaking>,
    pub surroundings: Surroundings,
}

/// What the control plane and the network are like.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings {
    pub servers: u32,
    /// When a server gives a request up, in seconds.
    pub patience: u64,
    /// How many of a hundred packets get lost.
    pub loss: u32,
}

impl Default for Surroundings {
    fn default() -> Self {
        Surroundings { servers: 1, patience: 60, loss: 0 }
    }
}

/// Two servers, which may be impatient, and a network that may be bad.
pub fn surroundings() -> impl Strategy<Value = Surroundings> {
    (1u32..3, prop_oneof![Just(60u64), Just(3)], prop_oneof![2 => Just(0u32), 1 => 1u32..20])
        .prop_map(|(servers, patience, loss)| Surroundings { servers, patience, loss })
}

pub fn cases(
    workloads: impl Strategy<Value = Workloads>,
    operations: impl Strategy<Value = Vec<Planned>>,
    faults: impl Strategy<Value = Vec<Breaking>>,
) -> impl Strategy<Value = Case> {
    (0u64..1_000_000, workloads, operations, faults).prop_map(|(seed, workloads, operations, faults)| Case {
        seed,
        workloads,
        operations,
        faults,
        surroundings: Surroundings::default(),
    })
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the scenario below, with --seed {}\n\n{}", self.seed, self.yaml())
    }
}

impl Case {
    /// The operations whose object is there.
    fn operations(&self) -> impl Iterator<Item = &Planned> {
        self.operations.iter().filter(|planned| {
            let is_there = match planned.target() {
                Some(Target::Web) => self.workloads.web.is_some(),
                Some(Target::Db) => self.workloads.db.is_some(),
                Some(Target::Agent) => self.workloads.agent.is_some(),
                None => true,
            };
            is_there && (!planned.is_for_work() || self.workloads.work.is_some())
        })
    }

    /// All steps, in the order of their time.
    fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = self.operations().flat_map(Planned::steps).collect();
        steps.extend(self.faults.iter().enumerate().flat_map(|(place, fault)| fault.steps(place)));
        let ends = self.faults.iter().map(|fault| fault.at + fault.lasts);
        let last = steps.iter().map(|(at, _)| *at).chain(ends).max().unwrap_or(0);
        if self.faults.is_empty() {
            steps.extend(self.mending(last + PAUSE));
        } else {
            steps.push((last + RECOVERY, "note: nothing is broken any more".to_owned()));
            steps.extend(self.mending(last + RECOVERY));
        }
        steps.sort_by_key(|(at, _)| *at);
        steps
    }

    /// What makes good again what was done to workloads, lest they wait for ever.
    fn mending(&self, at: u64) -> Vec<Step> {
        let mut steps = Vec::new();
        for target in [Target::Web, Target::Db, Target::Agent] {
            let breaks = |planned: &Planned| matches!(planned.operation, Operation::SetImage(of, image) if of == target && BROKEN.contains(&image));
            if !self.operations().any(breaks) {
                continue;
            }
            steps.push((at, set_image(target, GOOD[0])));
            if target == Target::Db {
                // Pods of a broken revision are replaced by nobody (kubernetes/kubernetes#60164).
                let delete = |ordinal| (at + 5, format!("delete: {{objects: [pod/db-{ordinal}], wait: false}}"));
                steps.extend((0..12).map(delete));
            }
        }
        if self.operations().any(|planned| matches!(planned.operation, Operation::Parallelism(_))) {
            steps.push((at, patch_work("parallelism: 3")));
        }
        if !self.faults.is_empty() {
            steps.extend(self.operations().filter_map(|planned| Some((at, planned.ending()?))));
        }
        steps
    }

    /// For how long nothing may happen before a run is over, in seconds.
    fn quiet(&self) -> u64 {
        if self.surroundings.loss > 0 { 100 } else { 20 }
    }

    /// The scenario.
    pub fn yaml(&self) -> String {
        let manifests = self.workloads.yaml();
        let steps: String = self
            .steps()
            .iter()
            .enumerate()
            .map(|(place, (at, action))| format!("- {{name: step {place}, at: {at}s, {action}}}\n"))
            .collect();
        let images: String = IMAGES
            .iter()
            .filter(|(image, _)| manifests.contains(image) || steps.contains(image))
            .map(|(image, model)| format!("- {{match: \"{image}\", model: {model}}}\n"))
            .collect();
        let mut text = "apiVersion: kubesim/v1alpha1\nkind: Scenario\nmetadata: {name: case}\n".to_owned();
        let Surroundings { servers, patience, loss } = self.surroundings;
        text += &format!("cluster:\n  nodes: [{{name: node, count: {NODES}}}]\n");
        if servers > 1 {
            text += &format!("  apiServers: {servers}\n");
        }
        if patience < 60 {
            text += &format!("  requestTimeout: {patience}s\n");
        }
        if loss > 0 {
            text += &format!("  network: {{loss: {loss}%}}\n");
        }
        for (name, part) in [("images", images), ("manifests", manifests), ("steps", steps)] {
            if !part.is_empty() {
                text += &format!("{name}:\n{part}");
            }
        }
        text + &format!("until: {{settled: {}s, limit: 1h}}\n", self.quiet())
    }

    fn circumstances(&self) -> Circumstances {
        let operation = |is: fn(&Operation) -> bool| self.operations().any(|planned| is(&planned.operation));
        Circumstances {
            is_forced: operation(|operation| matches!(operation, Operation::ForceOrdinal(_))),
            control_plane_fails: self.faults.iter().any(Breaking::is_of_control_plane)
                || self.surroundings.loss > 0
                || self.surroundings.servers > 1,
            nodes_fail: !self.faults.is_empty() || self.surroundings.loss > 0,
            pods_go: operation(|operation| {
                matches!(operation, Operation::DeletePod(_) | Operation::Drain(..) | Operation::Delete(..))
            }),
        }
    }

    /// Runs the case: every invariant holds after every write, and what settles is what is wanted.
    pub fn check(&self) -> Result<(), TestCaseError> {
        let (outcome, cluster) = self.run(&mut Watcher::new(self.circumstances()))?;
        if !matches!(outcome.ending, Ending::Settled { .. }) {
            return Err(TestCaseError::fail(format!("at {}: {}", outcome.ended_at, outcome.ending)));
        }
        desired::check(&cluster).map_err(|why| TestCaseError::fail(format!("at the end: {why}")))
    }

    /// Runs the case: what is told is what etcd has committed, whatever comes of the workloads.
    pub fn check_history(&self) -> Result<(), TestCaseError> {
        self.run(&mut Watcher::of_history()).map(drop)
    }

    /// Runs the case: how often each invariant was put to the test.
    pub fn judged(&self) -> Vec<usize> {
        let mut watcher = Watcher::new(self.circumstances());
        self.run(&mut watcher).unwrap_or_else(|why| panic!("{why}"));
        watcher.judged()
    }

    fn run(&self, watcher: &mut Watcher) -> Result<(Outcome, Cluster), TestCaseError> {
        let text = self.yaml();
        let scenario = Scenario::read("case.yml", &text, &mut |name| Err(format!("there is no {name}")));
        let scenario = scenario.map_err(|problems| {
            let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
            TestCaseError::fail(format!("the scenario is wrong: {}", told.join("\n")))
        })?;
        let mut run = scenario.start(self.seed, false);
        while watcher.violation().is_none() && run.advance(watcher) {}
        if let Some(violation) = watcher.violation() {
            return Err(TestCaseError::fail(violation));
        }
        let (outcome, cluster) = run.into_outcome();
        let under_way = if self.surroundings.loss > 0 { UNDER_WAY_LONGER } else { UNDER_WAY };
        let ended = watcher.ended(&cluster, under_way);
        ended.map_err(|why| TestCaseError::fail(format!("at the end: {why}")))?;
        Ok((outcome, cluster))
    }
}

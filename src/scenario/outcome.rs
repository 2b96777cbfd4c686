//! What a run came to, as plain data: for the report, the command line and tests.

use std::fmt;

use crate::cluster::news::Violation;
use crate::engine::digest::Digest;
use crate::engine::process::Cause;
use crate::engine::time::SimTime;

/// What a run came to.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// The steps in the order of the file; the setup comes first if there is one.
    pub steps: Vec<StepRecord>,
    /// The expectations in the order of the file.
    pub expectations: Vec<ExpectationRecord>,
    /// How the run ended.
    pub ending: Ending,
    /// When the run ended.
    pub ended_at: SimTime,
    /// How many events happened.
    pub events: u64,
    /// The digest of all that happened.
    pub digest: Digest,
}

/// How a run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Everything had settled.
    Settled {
        /// Since when nothing of importance was written.
        since: SimTime,
    },
    /// The scenario's condition held.
    ConditionMet,
    /// The scenario's time was up.
    TimeReached,
    /// It had not ended by its limit, or nothing could have ended it any more.
    Stuck {
        /// What it was still waiting for.
        reason: String,
    },
    /// An invariant was broken.
    Violated(Violation),
}

/// How a step stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepState {
    /// It has not begun.
    Pending,
    /// It has begun and not ended.
    Running,
    /// It was done, or failed as it was expected to.
    Done,
    /// It failed, or was done although it was expected to fail.
    Failed,
    /// It was not begun, because the step that it comes after failed.
    Skipped,
}

/// What became of a step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepRecord {
    /// The step's name.
    pub name: String,
    /// What the step is called in the list of writes: its label, or a description of what it does.
    pub label: String,
    /// True if the scenario gives the label.
    pub is_labelled: bool,
    /// How it stands.
    pub state: StepState,
    /// When it began.
    pub began: Option<SimTime>,
    /// When it ended.
    pub ended: Option<SimTime>,
    /// The event in which it began.
    pub cause: Cause,
    /// What kubectl would have printed.
    pub output: Vec<String>,
    /// Why it failed, as kubectl would have said it; also of a step that was expected to fail.
    pub error: Option<String>,
    /// Whether what it does failed, as `$?` would say it: a step that was expected to fail and did is done, and yet its command failed.
    pub command_failed: bool,
}

/// What became of an expectation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExpectationRecord {
    /// What was expected, in words.
    pub name: String,
    /// What was expected, as the scenario writes it: `always: available('web') >= 9`.
    pub text: String,
    /// Whether it was met.
    pub is_met: bool,
    /// When that was decided: when it was broken or came true; none if only the end of the run decided it.
    pub at: Option<SimTime>,
    /// The object whose change decided it, as `deployment/default/web`.
    pub object: Option<String>,
    /// The event that decided it.
    pub cause: Cause,
    /// Why it was not met; empty if it was.
    pub why: String,
}

impl Outcome {
    /// True if the run ended as it should, every step was done and every expectation met: exit status 0.
    pub fn is_success(&self) -> bool {
        let ended_well = !matches!(self.ending, Ending::Stuck { .. } | Ending::Violated(_));
        ended_well && self.failed_steps().next().is_none() && self.broken_expectations().next().is_none()
    }

    /// The steps that failed or were never done.
    pub fn failed_steps(&self) -> impl Iterator<Item = &StepRecord> {
        self.steps.iter().filter(|step| step.state != StepState::Done)
    }

    /// The expectations that were not met.
    pub fn broken_expectations(&self) -> impl Iterator<Item = &ExpectationRecord> {
        self.expectations.iter().filter(|expectation| !expectation.is_met)
    }

    /// The step of a name.
    pub fn step(&self, name: &str) -> Option<&StepRecord> {
        self.steps.iter().find(|step| step.name == name)
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Settled { .. } => f.write_str("settled"),
            Ending::ConditionMet => f.write_str("the condition was met"),
            Ending::TimeReached => f.write_str("the time was up"),
            Ending::Stuck { reason } => write!(f, "stuck: {reason}"),
            Ending::Violated(violation) => write!(f, "invariant broken: {violation}"),
        }
    }
}

impl fmt::Display for StepState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StepState::Pending => "pending",
            StepState::Running => "running",
            StepState::Done => "done",
            StepState::Failed => "failed",
            StepState::Skipped => "skipped",
        })
    }
}

//! Which step stands where: waiting for its time, for another step, for a condition; under way; ended.

use crate::apiserver::protocol::Operation;
use crate::cluster::Cluster;
use crate::engine::process::{Cause, Token};
use crate::engine::time::SimTime;

use super::condition::Condition;
use super::kubectl::{Done, Session};
use super::outcome::{StepRecord, StepState};
use super::plan::Step;

/// The steps of a run.
#[derive(Debug)]
pub struct Timeline {
    /// How the steps stand, for the outcome.
    pub records: Vec<StepRecord>,
    live: Vec<Live>,
}

/// What the outcome need not know of a step.
#[derive(Debug)]
struct Live {
    stage: Stage,
    /// The event that makes it begin, once that is known.
    cause: Cause,
    session: Option<Session>,
    when: Option<Condition>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// For its time or for another step.
    Waiting,
    /// For its condition, up to a time.
    Watching(Option<SimTime>),
    /// Under way.
    Running,
    /// Ended or skipped.
    Over,
}

impl Timeline {
    /// The steps at the beginning of a run; those with a time of their own are asked for.
    pub fn new(steps: &[Step], cluster: &mut Cluster) -> Self {
        let record = |step: &Step| StepRecord {
            name: step.name.clone(),
            label: step.label.clone(),
            is_labelled: step.is_labelled,
            state: StepState::Pending,
            began: None,
            ended: None,
            cause: Cause::NONE,
            output: Vec::new(),
            error: None,
            command_failed: false,
        };
        let mut live = Vec::new();
        for (place, step) in steps.iter().enumerate() {
            let when = step.start.when.clone().map(Condition::new);
            let cause = match step.start.after {
                Some(_) => Cause::NONE,
                None => cluster.alarm(step.start.at, place as Token),
            };
            live.push(Live { stage: Stage::Waiting, cause, session: None, when });
        }
        Timeline { records: steps.iter().map(record).collect(), live }
    }

    /// The step of an alarm may begin, or look at its condition from now on.
    pub fn is_due(&mut self, place: usize, step: &Step, now: SimTime) -> bool {
        match self.live.get_mut(place) {
            Some(live) if live.stage == Stage::Waiting => {
                let until = step.start.timeout.map(|timeout| now + timeout);
                live.stage = Stage::Watching(until);
                live.when.is_none()
            }
            _ => false,
        }
    }

    /// The steps that wait for a condition, with the time up to which they do.
    pub fn watching(&mut self) -> impl Iterator<Item = (usize, &mut Condition, Option<SimTime>)> {
        self.live.iter_mut().enumerate().filter_map(|(place, live)| match (live.stage, &mut live.when) {
            (Stage::Watching(until), Some(condition)) => Some((place, condition, until)),
            _ => None,
        })
    }

    /// A step begins; `cause` is what made it begin, if that was not the alarm that it had asked for.
    pub fn begin(&mut self, place: usize, now: SimTime, cause: Option<Cause>) -> Cause {
        let (live, record) = (&mut self.live[place], &mut self.records[place]);
        live.stage = Stage::Running;
        live.cause = cause.unwrap_or(live.cause);
        record.state = StepState::Running;
        record.began = Some(now);
        record.cause = live.cause;
        live.cause
    }

    /// Gives a step that has begun its command.
    pub fn attach(&mut self, place: usize, session: Session) {
        self.live[place].session = Some(session);
    }

    /// Lets the command of a step go on: what it comes to if it has ended, and the requests that it makes.
    pub fn go_on(&mut self, place: usize, cluster: &Cluster) -> (Option<Done>, Vec<(u64, Operation)>) {
        let (live, record) = (&mut self.live[place], &mut self.records[place]);
        let Some(session) = &mut live.session else { return (None, Vec::new()) };
        let done = session.go_on(cluster.now(), cluster.date());
        record.output.extend(session.take_printed());
        let requests = std::iter::from_fn(|| session.next_request()).collect();
        (done, requests)
    }

    /// The command of a step, while it is under way.
    pub fn session(&mut self, place: usize) -> Option<&mut Session> {
        self.live.get_mut(place)?.session.as_mut()
    }

    /// The commands that are under way.
    pub fn sessions(&mut self) -> impl Iterator<Item = (usize, &mut Session)> {
        self.live.iter_mut().enumerate().filter_map(|(place, live)| Some((place, live.session.as_mut()?)))
    }

    /// A step has ended.
    pub fn end(&mut self, place: usize, step: &Step, done: Done, now: SimTime) {
        let (live, record) = (&mut self.live[place], &mut self.records[place]);
        live.stage = Stage::Over;
        live.session = None;
        record.ended = Some(now);
        record.command_failed = done.is_err();
        record.state = match (&done, step.expect_failure) {
            (Ok(()), false) | (Err(_), true) => StepState::Done,
            (Ok(()), true) | (Err(_), false) => StepState::Failed,
        };
        record.error = match done {
            Ok(()) if step.expect_failure => Some("it was expected to fail and was done".to_owned()),
            Ok(()) => None,
            Err(why) => Some(why),
        };
    }

    /// Asks for the steps that come after one that has ended, or skips them; the places of those skipped.
    pub fn release(&mut self, ended: usize, steps: &[Step], cluster: &mut Cluster) -> Vec<usize> {
        let mut skipped: Vec<usize> = Vec::new();
        let mut todo = vec![ended];
        while let Some(before) = todo.pop() {
            let is_done = self.records[before].state == StepState::Done;
            for (place, step) in steps.iter().enumerate() {
                if step.start.after != Some(before) || self.live[place].stage != Stage::Waiting {
                    continue;
                }
                if is_done {
                    cluster.ascribe(self.live[before].cause);
                    self.live[place].cause = cluster.alarm(cluster.now() + step.start.delay, place as Token);
                    continue;
                }
                self.live[place].stage = Stage::Over;
                self.records[place].state = StepState::Skipped;
                self.records[place].error = Some(format!("the step \"{}\" was not done", steps[before].name));
                skipped.push(place);
                todo.push(place);
            }
        }
        skipped
    }

    /// Whether every step has ended or was skipped.
    pub fn is_over(&self) -> bool {
        self.live.iter().all(|live| live.stage == Stage::Over)
    }

    /// The next time at which a command or the wait for a condition wants to go on by itself.
    pub fn next_alarm(&self) -> Option<SimTime> {
        let alarms = self.live.iter().filter_map(|live| match (live.stage, &live.session) {
            (_, Some(session)) => session.alarm(),
            (Stage::Watching(until), None) => until,
            _ => None,
        });
        alarms.min()
    }

    /// What is waited for, if a step is not over.
    pub fn awaited(&self, steps: &[Step]) -> Option<String> {
        let place = |stage: fn(&Stage) -> bool| self.live.iter().position(|live| stage(&live.stage));
        if let Some(place) = place(|stage| *stage == Stage::Running) {
            return Some(format!("the step \"{}\" has not ended", steps[place].name));
        }
        if let Some(place) = place(|stage| matches!(stage, Stage::Watching(_))) {
            let condition = self.live[place].when.as_ref().map_or("", Condition::text);
            return Some(format!("the step \"{}\" waits for: {condition}", steps[place].name));
        }
        place(|stage| *stage == Stage::Waiting).map(|place| format!("the step \"{}\" has not begun", steps[place].name))
    }
}

//! Drives a cluster through a scenario.
//!
//! The loop lets the cluster go on to the next moment at which something happens, takes the news, and looks then what of
//! the scenario that concerns: commands go on, steps begin, expectations are put to the test, the run ends.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::apiserver::protocol::Propagation;
use crate::cluster::Cluster;
use crate::cluster::news::{News, OperatorRequest, Write};
use crate::cluster::options::LeaseRenewals;
use crate::engine::process::Cause;
use crate::engine::random::Seed;
use crate::engine::time::{SimDuration, SimTime};
use crate::engine::trace::Trace;

use super::Scenario;
use super::actions;
use super::condition::{Condition, Conditions};
use super::expectation::{Expecting, Moment};
use super::fault::Faults;
use super::kubectl::Session;
use super::outcome::{Ending, Outcome, StepRecord};
use super::pattern;
use super::plan::{Action, Command, Fault, Until};
use super::settle::Settling;
use super::timeline::Timeline;

/// Whoever wants to know what happens while a run goes on.
pub trait Observer {
    /// The cluster has told something. Comes before the scenario reacts to it.
    fn news(&mut self, _cluster: &Cluster, _news: &News) {}

    /// A step has begun.
    fn step_began(&mut self, _cluster: &Cluster, _step: &StepRecord) {}

    /// A step has ended or was skipped.
    fn step_ended(&mut self, _cluster: &Cluster, _step: &StepRecord) {}
}

/// Nobody.
impl Observer for () {}

/// A scenario under way.
pub struct Run {
    scenario: Rc<Scenario>,
    seed: Seed,
    cluster: Cluster,
    timeline: Timeline,
    conditions: Conditions,
    until: Option<Condition>,
    expectations: Vec<Expecting>,
    settling: Settling,
    faults: Faults,
    /// Which step asked what.
    requests: BTreeMap<OperatorRequest, (usize, u64)>,
    /// The writes of this moment.
    writes: Vec<Rc<Write>>,
    /// When the scenario wants to look, whatever happens.
    wake: SimTime,
    ending: Option<Ending>,
}

impl Run {
    /// Begins a run. With `trace`, every event is recorded with its cause.
    pub fn new(scenario: Rc<Scenario>, seed: u64, trace: bool) -> Self {
        let seed = Seed(seed);
        let mut options = scenario.cluster.clone();
        if scenario.expressions().any(|expression| expression.looks_at(Kind::Lease)) {
            // A condition is asked after each write of what it looks at.
            options.lease_renewals = LeaseRenewals::Each;
        }
        let mut cluster = Cluster::new(options, seed, trace);
        let until = match &scenario.until {
            Until::Condition(expression) => Some(Condition::new(Rc::clone(expression))),
            Until::Settled(_) | Until::Time(_) => None,
        };
        Run {
            timeline: Timeline::new(&scenario.steps, &mut cluster),
            conditions: Conditions::new(scenario.expressions()),
            until,
            expectations: scenario.expectations.iter().cloned().map(Expecting::new).collect(),
            settling: Settling::default(),
            faults: Faults::default(),
            requests: BTreeMap::new(),
            writes: Vec::new(),
            wake: SimTime::ZERO,
            ending: None,
            scenario,
            seed,
            cluster,
        }
    }

    /// Goes on to the next moment at which something happens. False once the run has ended.
    pub fn advance(&mut self, observer: &mut dyn Observer) -> bool {
        if self.ending.is_some() {
            return false;
        }
        self.cluster.step(self.wake);
        let had_news = self.take_news(observer);
        if had_news || self.cluster.now() >= self.wake {
            self.look(observer);
            self.wake = self.next_wake();
        }
        self.ending.is_none()
    }

    /// Goes on to the end of the run.
    pub fn finish(mut self, observer: &mut dyn Observer) -> (Outcome, Cluster) {
        while self.advance(observer) {}
        self.into_outcome()
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The trace of the cluster, to forget what nobody will ask about.
    pub fn trace_mut(&mut self) -> &mut Trace {
        self.cluster.trace_mut()
    }

    /// How the steps stand.
    pub fn steps(&self) -> &[StepRecord] {
        &self.timeline.records
    }

    /// What the run is waiting for, for people.
    pub fn awaited(&self) -> String {
        if let Some(step) = self.timeline.awaited(&self.scenario.steps) {
            return step;
        }
        match &self.scenario.until {
            Until::Condition(condition) => format!("the condition does not hold: {}", condition.text()),
            Until::Time(_) => "the time is not up".to_owned(),
            Until::Settled(_) => {
                let obstacle = self.settling.obstacle(self.cluster.truth());
                obstacle.unwrap_or_else(|| "something is still being written".to_owned())
            }
        }
    }

    /// What the run came to, and its cluster. A run that has not ended is stuck.
    pub fn into_outcome(mut self) -> (Outcome, Cluster) {
        let ending = match self.ending.take() {
            Some(ending) => ending,
            None => Ending::Stuck { reason: self.awaited() },
        };
        let conditions = &mut self.conditions;
        let expectations = self.expectations.into_iter().map(|expecting| expecting.finish(conditions)).collect();
        let outcome = Outcome {
            scenario: self.scenario.name.clone(),
            seed: self.seed.0,
            steps: self.timeline.records,
            expectations,
            ending,
            ended_at: self.cluster.now(),
            events: self.cluster.events(),
            digest: self.cluster.digest(),
        };
        (outcome, self.cluster)
    }

    /// Takes the news of this moment; true if there are any.
    fn take_news(&mut self, observer: &mut dyn Observer) -> bool {
        let mut had_news = false;
        while let Some(news) = self.cluster.next_news() {
            // Whether decisions are told makes no difference to the run.
            had_news |= !matches!(news, News::Decided(_));
            observer.news(&self.cluster, &news);
            match news {
                News::Write(write) => {
                    self.settling.note_write(&write);
                    self.conditions.note_write(&write);
                    self.timeline.sessions().for_each(|(_, session)| {
                        session.note_write(&write);
                    });
                    self.writes.push(write);
                }
                News::Answer { request, result } => {
                    if let Some((place, ticket)) = self.requests.remove(&request)
                        && let Some(session) = self.timeline.session(place)
                    {
                        session.answer(ticket, result);
                    }
                }
                News::Alarm { token } => {
                    let place = token as usize;
                    let now = self.cluster.now();
                    if let Some(step) = self.scenario.steps.get(place)
                        && self.timeline.is_due(place, step, now)
                    {
                        self.begin(place, None, observer);
                    }
                }
                News::Decided(_) => {}
                News::Twins(twins) => self.conditions.note_twins(&twins),
                News::EtcdLeader { member, .. } => self.conditions.note_leader(member),
                News::Violation(violation) => self.ending = Some(Ending::Violated(violation)),
            }
        }
        had_news
    }

    /// Looks what of the scenario this moment concerns.
    fn look(&mut self, observer: &mut dyn Observer) {
        let now = self.cluster.now();
        self.conditions.note_time(now);
        let under_way: Vec<usize> = self.timeline.sessions().map(|(place, _)| place).collect();
        for place in under_way {
            self.go_on(place, observer);
        }
        self.look_at_conditions(observer);
        let moment = Moment { now, writes: &self.writes, steps: &self.timeline.records };
        for expecting in &mut self.expectations {
            expecting.look(&mut self.conditions, &moment);
        }
        if self.ending.is_none() {
            self.ending = self.ends();
        }
        self.writes.clear();
    }

    /// Begins the steps whose conditions hold, and ends those whose time for that is up.
    fn look_at_conditions(&mut self, observer: &mut dyn Observer) {
        let now = self.cluster.now();
        let (mut begin, mut fail) = (Vec::new(), Vec::new());
        for (place, condition, until) in self.timeline.watching() {
            match self.conditions.ask(condition).0 {
                Ok(true) => {
                    let write = self.writes.iter().rfind(|write| condition.looks_at(write.key.kind));
                    begin.push((place, write.map(|write| write.cause)));
                }
                answer if until.is_some_and(|until| now >= until) => {
                    let why = answer.as_ref().err().map_or_else(String::new, |why| format!(" ({why})"));
                    fail.push((place, format!("timed out waiting for the condition: {}{why}", condition.text())));
                }
                _ => {}
            }
        }
        for (place, cause) in begin {
            self.begin(place, cause, observer);
        }
        for (place, why) in fail {
            self.end(place, Err(why), observer);
        }
    }

    fn begin(&mut self, place: usize, cause: Option<Cause>, observer: &mut dyn Observer) {
        let now = self.cluster.now();
        let cause = self.timeline.begin(place, now, cause);
        let scenario = Rc::clone(&self.scenario);
        let step = &scenario.steps[place];
        let aimed = match &step.action {
            Action::Fault(fault) => Some(self.faults.aim(&step.name, fault, &self.cluster)),
            Action::Command(_) | Action::Note(_) => None,
        };
        if let Some(Ok(faults)) = &aimed {
            let nodes = self.faults.struck(&step.name);
            let record = &mut self.timeline.records[place];
            match faults.first() {
                Some(fault) if !step.is_labelled && !nodes.is_empty() => {
                    record.label = actions::describe(&Action::Fault(fault.at(nodes.join(", "))));
                }
                _ => record.label = record.label.replace("{node}", &nodes.join(", ")),
            }
        }
        observer.step_began(&self.cluster, &self.timeline.records[place]);
        self.cluster.ascribe(cause);
        match (&step.action, aimed) {
            (Action::Command(command), _) => match pattern::resolve(command.clone(), self.cluster.truth()) {
                Ok(command) => self.attach(place, command, observer),
                Err(why) => self.end(place, Err(format!("error: {why}")), observer),
            },
            (Action::Note(_), _) | (Action::Fault(_), None) => self.end(place, Ok(()), observer),
            (Action::Fault(_), Some(Err(why))) => self.end(place, Err(format!("error: {why}")), observer),
            (Action::Fault(_), Some(Ok(faults))) => {
                let inject = |fault: &Fault| self.faults.inject(fault, &mut self.cluster);
                match faults.iter().try_for_each(inject) {
                    Ok(()) if removed(&faults).next().is_some() => {
                        self.attach(place, remove_nodes(removed(&faults)), observer);
                    }
                    done => self.end(place, done.map_err(|why| format!("error: {why}")), observer),
                }
            }
        }
    }

    fn attach(&mut self, place: usize, command: Command, observer: &mut dyn Observer) {
        let delay = self.scenario.steps[place].client_delay;
        self.timeline.attach(place, Session::delayed(command, delay));
        self.go_on(place, observer);
    }

    /// Lets a command go on and sends what it asks.
    fn go_on(&mut self, place: usize, observer: &mut dyn Observer) {
        let (done, requests) = self.timeline.go_on(place, &self.cluster);
        self.cluster.ascribe(self.timeline.records[place].cause);
        for (ticket, operation) in requests {
            let request = self.cluster.request(operation);
            self.requests.insert(request, (place, ticket));
        }
        if let Some(done) = done {
            self.end(place, done, observer);
        }
    }

    fn end(&mut self, place: usize, done: Result<(), String>, observer: &mut dyn Observer) {
        let scenario = Rc::clone(&self.scenario);
        self.timeline.end(place, &scenario.steps[place], done, self.cluster.now());
        observer.step_ended(&self.cluster, &self.timeline.records[place]);
        for skipped in self.timeline.release(place, &scenario.steps, &mut self.cluster) {
            observer.step_ended(&self.cluster, &self.timeline.records[skipped]);
        }
    }

    /// How the run ends, if it ends now.
    fn ends(&mut self) -> Option<Ending> {
        let now = self.cluster.now();
        let is_over = self.timeline.is_over();
        match &self.scenario.until {
            Until::Time(time) if now >= *time => return Some(Ending::TimeReached),
            Until::Time(_) => return None,
            Until::Condition(_) if is_over => {
                let condition = self.until.as_mut()?;
                if self.conditions.ask(condition).0 == &Ok(true) {
                    return Some(Ending::ConditionMet);
                }
            }
            Until::Settled(quiet) if is_over => {
                let since = self.quiet_since();
                if now >= since + *quiet && self.settling.obstacle(self.cluster.truth()).is_none() {
                    return Some(Ending::Settled { since });
                }
            }
            Until::Condition(_) | Until::Settled(_) => {}
        }
        (now >= self.scenario.limit).then(|| Ending::Stuck { reason: self.awaited() })
    }

    /// Since when nothing has happened that matters, nor is known to come: a machine that is being rebooted comes back.
    fn quiet_since(&self) -> SimTime {
        self.settling.last_write().max(self.last_end()).max(self.faults.rebooted())
    }

    /// When the last step ended.
    fn last_end(&self) -> SimTime {
        self.timeline.records.iter().filter_map(|record| record.ended).max().unwrap_or(SimTime::ZERO)
    }

    /// When the scenario wants to look next, whatever happens; always after now.
    fn next_wake(&self) -> SimTime {
        let now = self.cluster.now();
        let records = &self.timeline.records;
        let end = match &self.scenario.until {
            Until::Time(time) => *time,
            Until::Settled(quiet) => {
                let quiet_end = self.quiet_since() + *quiet;
                if quiet_end > now { quiet_end.min(self.scenario.limit) } else { self.scenario.limit }
            }
            Until::Condition(_) => self.scenario.limit,
        };
        // A deadline has passed only after it.
        let passed = |deadline: SimTime| deadline + SimDuration::from_nanos(1);
        let deadlines = self.expectations.iter().filter_map(|expecting| expecting.deadline(records)).map(passed);
        let second = self.scenario.asks_for_time().then(|| {
            let second = SimDuration::from_secs(1);
            (now + SimDuration::from_nanos(1)).next_tick(SimTime::ZERO, second)
        });
        let wakes = deadlines.chain(self.timeline.next_alarm()).chain(second).chain([end]);
        wakes.filter(|wake| *wake > now).min().unwrap_or(now + SimDuration::from_secs(1))
    }
}

/// The nodes that go for good.
fn removed(faults: &[Fault]) -> impl Iterator<Item = &str> {
    faults.iter().filter_map(|fault| match fault {
        Fault::RemoveNode(node) => Some(node.as_str()),
        _ => None,
    })
}

/// A machine that goes for good leaves a node that somebody, in the cloud its controller, deletes.
fn remove_nodes<'n>(nodes: impl Iterator<Item = &'n str>) -> Command {
    Command::Delete {
        keys: nodes.map(|node| ObjectKey::new(Kind::Node, "", node)).collect(),
        wait: true,
        grace_seconds: None,
        propagation: Propagation::Background,
    }
}

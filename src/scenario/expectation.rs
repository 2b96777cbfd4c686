//! Expectations while a run goes on: each looks at its condition whenever that may have changed, until it is decided.

use std::rc::Rc;

use crate::cluster::news::Write;
use crate::engine::process::Cause;
use crate::engine::time::SimTime;

use crate::runtime::span::Span;

use super::condition::{Condition, Conditions};
use super::outcome::{ExpectationRecord, StepRecord};
use super::plan::{Expectation, Term};

/// An expectation of a run.
#[derive(Debug)]
pub struct Expecting {
    plan: Expectation,
    condition: Condition,
    /// Whether the condition could be answered at least once since it counts.
    was_answered: bool,
    verdict: Option<ExpectationRecord>,
}

/// What has just happened.
pub struct Moment<'m> {
    /// When.
    pub now: SimTime,
    /// The writes of this moment.
    pub writes: &'m [Rc<Write>],
    /// How the steps stand.
    pub steps: &'m [StepRecord],
}

impl Expecting {
    /// An expectation at the beginning of a run.
    pub fn new(plan: Expectation) -> Self {
        let condition = Condition::new(Rc::clone(&plan.condition));
        Expecting { plan, condition, was_answered: false, verdict: None }
    }

    /// When it is broken by the mere passing of time.
    pub fn deadline(&self, steps: &[StepRecord]) -> Option<SimTime> {
        match (self.plan.term, &self.verdict) {
            (Term::Eventually(Some(within)), None) => Some(self.begins(steps)? + within),
            _ => None,
        }
    }

    /// Since when it counts; none if it does not yet.
    fn begins(&self, steps: &[StepRecord]) -> Option<SimTime> {
        match self.plan.from {
            Some(place) => steps[place].ended,
            None => Some(SimTime::ZERO),
        }
    }

    /// Looks at what has just happened.
    pub fn look(&mut self, conditions: &mut Conditions, moment: &Moment<'_>) {
        if self.verdict.is_some() || self.plan.term == Term::AtEnd {
            return;
        }
        let Some(begins) = self.begins(moment.steps) else { return };
        let is_over = self.plan.to.is_some_and(|place| moment.steps[place].began.is_some());
        if is_over {
            return self.close(moment);
        }
        if let Term::Eventually(Some(within)) = self.plan.term
            && moment.now > begins + within
        {
            return self.decide(false, format!("it did not come true within {}", Span(within)), moment);
        }
        let first_look = !self.was_answered;
        let (answer, is_new) = conditions.ask(&mut self.condition);
        if !is_new && !first_look {
            return;
        }
        let answer = answer.clone();
        self.was_answered |= answer.is_ok();
        match (self.plan.term, answer) {
            (Term::Always, Ok(false)) => self.decide(false, "it did not hold".to_owned(), moment),
            (Term::Always, Err(why)) if self.plan.from.is_some() || self.was_answered => {
                self.decide(false, format!("it could not be answered: {why}"), moment);
            }
            (Term::Never, Ok(true)) => self.decide(false, "it held".to_owned(), moment),
            (Term::Eventually(_), Ok(true)) => self.decide(true, String::new(), moment),
            _ => {}
        }
    }

    /// It counts no longer and was not broken.
    fn close(&mut self, moment: &Moment<'_>) {
        let unanswered = self.unanswered();
        self.decide(unanswered.is_none(), unanswered.unwrap_or_default(), &Moment { writes: &[], ..*moment });
    }

    /// Why it cannot count as met although nothing broke it.
    fn unanswered(&mut self) -> Option<String> {
        (!self.was_answered).then(|| "it was never put to the test".to_owned())
    }

    fn decide(&mut self, is_met: bool, why: String, moment: &Moment<'_>) {
        let write = moment.writes.iter().rfind(|write| self.condition.looks_at(write.key.kind));
        self.verdict = Some(ExpectationRecord {
            name: self.plan.name.clone(),
            text: self.plan.text(),
            is_met,
            at: Some(moment.now),
            object: write.map(|write| write.key.to_string()),
            cause: write.map_or(Cause::NONE, |write| write.cause),
            why,
        });
    }

    /// What became of it, now that the run has ended.
    pub fn finish(mut self, conditions: &mut Conditions) -> ExpectationRecord {
        if let Some(verdict) = self.verdict {
            return verdict;
        }
        let why = match self.plan.term {
            Term::AtEnd => match conditions.ask(&mut self.condition).0 {
                Ok(true) => None,
                Ok(false) => Some("it did not hold".to_owned()),
                Err(why) => Some(format!("it could not be answered: {why}")),
            },
            Term::Eventually(_) => Some("it did not come true".to_owned()),
            Term::Always | Term::Never => self.unanswered(),
        };
        ExpectationRecord {
            name: self.plan.name.clone(),
            text: self.plan.text(),
            is_met: why.is_none(),
            at: None,
            object: None,
            cause: Cause::NONE,
            why: why.unwrap_or_default(),
        }
    }
}

//! A sync written as straight-line code: it asks, gets the answer, and goes on, as the goroutine of a real controller does.
//!
//! A plan cannot wait, so the code is run again from its beginning each time an answer arrives, and what was answered before
//! is given to it at once. It must therefore decide from its arguments, from the answers and from [`Script::look`] alone.
//! It never touches the cluster.
//!
//! - `side_by_side`: several pieces of such code at the same time

mod side_by_side;

use std::any::Any;
use std::rc::Rc;

use crate::api::event::{EventType, ObjectReference};
use crate::api::name::Name;
use crate::api::object::Object;
use crate::apiserver::protocol::{Answer, Operation};
use crate::apiserver::status::{Reason, Status};
use crate::client::plan::{Again, EventNote, Outcome, Plan, Request, Step};
use crate::client::view::{Now, View};
use crate::engine::time::SimDuration;

/// The code of a sync.
type Body = Rc<dyn Fn(&mut Script<'_>) -> Result<Again, Halt>>;

/// Why the code of a sync does not go on.
#[derive(Debug)]
pub enum Halt {
    /// An answer is awaited; the code runs again when it is there.
    Waiting,
    /// The sync is over, and this is when to look again.
    Ended(Again),
    /// The sync failed; the key goes back with back-off.
    Failed(String),
}

/// A sync in progress: what it was answered so far and the steps that come next.
pub struct Script<'a> {
    view: View<'a>,
    now: Now,
    past: Vec<Moment>,
    read: usize,
    steps: Vec<Step>,
    /// The last step's result is of no interest: what is to be done when it went well.
    last: Option<Again>,
}

/// Something that the code learned while it ran.
enum Moment {
    Answered(Vec<Outcome>, Now),
    Seen(Option<Object>),
    Found(Rc<dyn Any>),
    Noted(bool),
}

/// Begins a sync and returns its first steps.
pub fn run(view: &View<'_>, now: Now, body: impl Fn(&mut Script<'_>) -> Result<Again, Halt> + 'static) -> Plan {
    resume(view, now, Rc::new(body), Vec::new())
}

/// Runs the code with all that is known; `now` is the time at which the sync began.
fn resume(view: &View<'_>, now: Now, body: Body, past: Vec<Moment>) -> Plan {
    let mut script = Script { view: *view, now, past, read: 0, steps: Vec::new(), last: None };
    let result = body(&mut script);
    let Script { past, steps, last, .. } = script;
    match result {
        Ok(again) | Err(Halt::Ended(again)) => Plan { steps, then: None, again: last.unwrap_or(again) },
        Err(Halt::Failed(message)) => Plan { steps, then: None, again: Again::BackOff(message) },
        Err(Halt::Waiting) => {
            let then = Box::new(move |view: &View<'_>, outcomes: &[Outcome], answered: Now| {
                let mut past = past;
                past.push(Moment::Answered(outcomes.to_vec(), answered));
                resume(view, now, body, past)
            });
            Plan { steps, then: Some(then), again: Again::OnChange }
        }
    }
}

impl Script<'_> {
    /// The present, as of the last answer.
    pub fn now(&self) -> Now {
        self.now
    }

    /// The cache as it is now. The code runs again and again and may see another state each time: what it takes from here it
    /// must keep.
    pub fn view(&self) -> View<'_> {
        self.view
    }

    /// Makes a step with requests and returns their results.
    pub fn step(&mut self, step: impl FnOnce() -> Step) -> Result<Vec<Outcome>, Halt> {
        match self.past.get(self.read) {
            Some(Moment::Answered(outcomes, now)) => {
                self.read += 1;
                self.now = *now;
                self.steps.clear();
                Ok(outcomes.clone())
            }
            _ => {
                self.steps.push(step());
                Err(Halt::Waiting)
            }
        }
    }

    /// Adds a step that has no result.
    pub fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Makes a request and returns its result.
    pub fn ask(&mut self, operation: Operation) -> Result<Outcome, Halt> {
        let mut outcomes = self.step(|| Step::request(operation))?;
        let missing = || Err(Box::new(Status::new(Reason::InternalError, "the request was not answered")));
        Ok(outcomes.pop().unwrap_or_else(missing))
    }

    /// Does nothing for a while: at least so long, and by chance up to so much longer.
    pub fn pause(&mut self, least: SimDuration, more: SimDuration) -> Result<(), Halt> {
        self.step(|| Step::Pause(least, more)).map(|_| ())
    }

    /// Makes a request; its failure is that of the sync. Returns the object that was answered, if one was.
    pub fn write(&mut self, operation: Operation) -> Result<Option<Object>, Halt> {
        match self.ask(operation)? {
            Ok(Answer::Object(object)) => Ok(Some(object)),
            Ok(_) => Ok(None),
            Err(status) => Err(Halt::Failed(status.message)),
        }
    }

    /// Makes the last request of a sync: nothing depends on its answer but that a failure is that of the sync.
    pub fn finish(&mut self, operation: Operation, again: Again) -> Halt {
        self.steps.push(Step::request(operation));
        self.last = Some(again.clone());
        Halt::Ended(again)
    }

    /// Looks into the cache as it is now, once: later runs of the code get the same.
    pub fn look(&mut self, find: impl FnOnce(&View<'_>) -> Option<Object>) -> Option<Object> {
        if let Some(Moment::Seen(found)) = self.past.get(self.read) {
            self.read += 1;
            return found.clone();
        }
        let found = find(&self.view);
        self.past.push(Moment::Seen(found.clone()));
        self.read += 1;
        found
    }

    /// Finds something out from the cache as it is now, once: later runs of the code get the same.
    pub fn see<T: 'static>(&mut self, find: impl FnOnce(&View<'_>) -> Rc<T>) -> Rc<T> {
        if let Some(Moment::Found(found)) = self.past.get(self.read)
            && let Ok(found) = Rc::clone(found).downcast::<T>()
        {
            self.read += 1;
            return found;
        }
        let found = find(&self.view);
        self.past.push(Moment::Found(found.clone()));
        self.read += 1;
        found
    }

    /// Does something that is not a request exactly once, however often the code runs; its result is kept.
    pub fn once(&mut self, effect: impl FnOnce() -> bool) -> bool {
        if let Some(Moment::Noted(result)) = self.past.get(self.read) {
            self.read += 1;
            return *result;
        }
        let result = effect();
        self.past.push(Moment::Noted(result));
        self.read += 1;
        result
    }

    /// Records a Kubernetes event about an object.
    pub fn record(&mut self, regarding: &ObjectReference, kind: EventType, reason: &'static str, message: String) {
        self.note(regarding, kind, Name::of(reason), message);
    }

    /// Records a Kubernetes event whose reason is not known beforehand.
    pub fn note(&mut self, regarding: &ObjectReference, kind: EventType, reason: Name, message: String) {
        self.steps.push(Step::Record(EventNote { regarding: regarding.clone(), kind, reason, message }));
    }
}

/// A request that tolerates some failures, as a step.
pub fn tolerant(operation: Operation, tolerate: &'static [Reason]) -> Request {
    Request { tolerate, ..Request::new(operation) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kind::Kind;
    use crate::api::meta::{Epoch, ObjectKey};
    use crate::client::view::Cache;
    use crate::engine::time::SimTime;

    fn now(ns: u64) -> Now {
        Now { at: SimTime::from_nanos(ns), epoch: Epoch(0) }
    }

    fn get(name: &'static str) -> Operation {
        Operation::Get { key: ObjectKey::new(Kind::Pod, "default", name) }
    }

    #[test]
    fn the_code_goes_on_where_the_answer_was_awaited_and_no_step_is_made_twice() {
        let cache = Cache::default();
        let about = ObjectReference::default();
        let plan = run(&cache.view(), now(1), move |script| {
            script.record(&about, EventType::Normal, "First", String::new());
            let first = script.ask(get("a"))?;
            assert_eq!(script.now(), now(2));
            script.record(&about, EventType::Normal, "Second", String::new());
            assert!(first.is_ok());
            let second = script.ask(get("b"))?;
            assert!(second.is_err());
            Err(script.finish(get("c"), Again::OnChange))
        });
        assert_eq!(plan.steps.len(), 2);
        let plan = plan.then.expect("it waits")(&cache.view(), &[Ok(Answer::Done)], now(2));
        assert!(matches!(&plan.steps[0], Step::Record(note) if note.reason == "Second"));
        assert_eq!(plan.steps.len(), 2);
        let refused = Err(Box::new(Status::not_found(Kind::Pod, "b")));
        let plan = plan.then.expect("it waits")(&cache.view(), &[refused], now(3));
        assert_eq!(plan.steps.len(), 1);
        assert!(plan.then.is_none());
    }

    #[test]
    fn a_refused_write_ends_the_sync_with_the_servers_words() {
        let cache = Cache::default();
        let plan = run(&cache.view(), now(1), |script| script.write(get("a")).map(|_| Again::OnChange));
        let refused = Err(Box::new(Status::not_found(Kind::Pod, "a")));
        let plan = plan.then.expect("it waits")(&cache.view(), &[refused], now(3));
        assert_eq!(plan.again, Again::BackOff("pods \"a\" not found".to_owned()));
    }
}

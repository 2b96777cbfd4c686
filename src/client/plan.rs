//! What a control loop decides: the writes to make, in which order, and when to look again.

use crate::api::event::{EventType, ObjectReference};
use crate::api::meta::{ObjectKey, Uid};
use crate::api::name::Name;
use crate::apiserver::protocol::{Answer, Operation};
use crate::apiserver::status::{Reason, Status};
use crate::engine::time::SimDuration;

use super::view::{Now, View};

/// What one look at a key decides. The harness runs the steps in order and stops at the first that fails.
#[derive(Default)]
pub struct Plan {
    /// What to do.
    pub steps: Vec<Step>,
    /// What to do when all steps are done, or when one failed: decided with their results. None ends the sync,
    /// and a failed step then puts the key back with back-off.
    pub then: Option<Continuation>,
    /// When to look at the key again once the sync has ended well.
    pub again: Again,
}

/// Decides how a sync goes on, given the result of every request that the steps before made, in order.
pub type Continuation = Box<dyn FnOnce(&View<'_>, &[Outcome], Now) -> Plan>;

/// What came of one request.
pub type Outcome = Result<Answer, Box<Status>>;

/// When to look at a key again, besides when something it depends on changes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Again {
    /// Not before something changes; the key's back-off is forgotten.
    #[default]
    OnChange,
    /// After a time.
    After(SimDuration),
    /// As soon as the queue's limit lets it, although nothing went wrong: the key's back-off is forgotten, but such looks of
    /// all keys share the bucket of failures.
    RateLimited,
    /// With the queue's back-off, because of an error.
    BackOff(String),
}

/// One step of a plan.
pub enum Step {
    /// One request; the next step waits for its answer.
    Request(Request),
    /// All at once, as goroutines would; fails if one fails, after all are answered.
    Parallel(Vec<Request>),
    /// 1, then 2, 4, 8, ... at once; a batch with a failure is the last one
    /// (kube-controller-manager, `slowStartBatch`). What was not sent counts as not done. That the namespace of what is
    /// created is being deleted is no failure: nothing is said, and what is expected stays expected, so that it is not
    /// tried again and again.
    SlowStart(Vec<Request>),
    /// Creations and deletions that the cache must have seen before the key is reconciled again
    /// (kube-controller-manager, controller expectations: forgotten after five minutes, lowered by failures).
    Expect {
        /// How many objects will be created.
        creations: u32,
        /// Which objects will be deleted.
        deletions: Vec<Uid>,
    },
    /// Records a Kubernetes event.
    Record(EventNote),
    /// Looks at the key again after a time that begins now, however the sync ends.
    LookAgain(SimDuration),
    /// Does nothing for a while, which keeps the worker busy: at least so long, and by chance up to so much longer.
    Pause(SimDuration, SimDuration),
}

/// A request of a step and what depends on its answer.
pub struct Request {
    /// What is asked.
    pub operation: Operation,
    /// Failures that count as success.
    pub tolerate: &'static [Reason],
    /// Recorded when it succeeds; `{name}` in the message stands for the answered object's name.
    pub on_success: Option<Box<EventNote>>,
    /// Recorded when it fails; `{error}` in the message stands for the failure's text.
    pub on_failure: Option<Box<EventNote>>,
}

/// A Kubernetes event to be recorded.
#[derive(Clone, Debug)]
pub struct EventNote {
    /// The object that it is about.
    pub regarding: ObjectReference,
    /// Normal or Warning.
    pub kind: EventType,
    /// In one word.
    pub reason: Name,
    /// In a sentence.
    pub message: String,
}

impl Plan {
    /// Nothing to do.
    pub fn nothing() -> Self {
        Plan::default()
    }

    /// One request, then the end.
    pub fn request(operation: Operation) -> Self {
        Plan { steps: vec![Step::request(operation)], ..Plan::default() }
    }

    /// Adds a step.
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Says how to go on when the steps are done.
    pub fn then(mut self, next: impl FnOnce(&View<'_>, &[Outcome], Now) -> Plan + 'static) -> Self {
        self.then = Some(Box::new(next));
        self
    }

    /// Looks again after a time.
    pub fn again_after(mut self, delay: SimDuration) -> Self {
        self.again = Again::After(delay);
        self
    }

    /// Reads objects from the API server itself, not from the cache, and goes on with the results in the same order.
    pub fn read(keys: Vec<ObjectKey>, next: impl FnOnce(&View<'_>, &[Outcome], Now) -> Plan + 'static) -> Self {
        let steps = keys.into_iter().map(|key| {
            Step::Request(Request { tolerate: &[Reason::NotFound], ..Request::new(Operation::Get { key }) })
        });
        Plan { steps: steps.collect(), then: Some(Box::new(next)), again: Again::OnChange }
    }
}

impl Step {
    /// One request, no failure tolerated, no event.
    pub fn request(operation: Operation) -> Self {
        Step::Request(Request::new(operation))
    }
}

impl Request {
    /// A request, no failure tolerated, no event.
    pub fn new(operation: Operation) -> Self {
        Request { operation, tolerate: &[], on_success: None, on_failure: None }
    }
}

//! One worker's work on one key: a plan carried out step by step, its requests' answers gathered.
//!
//! Only the bookkeeping: what to send next, what has come back, whether to go on. The harness does the sending.

use super::plan::{Again, Continuation, EventNote, Outcome, Plan, Request, Step};
use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::apiserver::protocol::{Answer, Operation};
use crate::apiserver::status::{Reason, Status};
use crate::engine::process::Cause;
use crate::engine::time::SimDuration;

/// A key that is being worked on.
pub(super) struct Sync {
    /// The controller, by its place.
    pub(super) controller: usize,
    pub(super) key: ObjectKey,
    /// What put the key into the queue.
    pub(super) cause: Cause,
    steps: std::vec::IntoIter<Step>,
    then: Option<Continuation>,
    again: Again,
    /// What came of the plan's requests so far.
    outcomes: Vec<Outcome>,
    failed: bool,
    /// It does nothing for a while.
    paused: bool,
    batch: Batch,
}

/// Requests that are under way together, and those of the same step that wait for them.
#[derive(Default)]
struct Batch {
    under_way: Vec<UnderWay>,
    /// How many of them are not answered.
    open: usize,
    /// How many more are to be sent.
    to_send: usize,
    /// How many the batch has.
    size: usize,
    /// That a namespace is being deleted is no failure.
    slow_start: bool,
    rest: std::vec::IntoIter<Request>,
}

/// What is kept of a request while the server has it.
struct UnderWay {
    tolerate: &'static [Reason],
    on_success: Option<Box<EventNote>>,
    on_failure: Option<Box<EventNote>>,
    aim: Aim,
    /// It writes an object, and the answer says in which version.
    writes: bool,
    outcome: Option<Outcome>,
}

/// What a request does, as far as expectations go.
#[derive(Clone)]
pub(super) enum Aim {
    /// Creates an object.
    Creation(crate::api::object::Object),
    /// Deletes an object.
    Deletion(ObjectKey),
    /// Neither.
    Other,
}

/// What a sync wants next.
pub(super) enum Next {
    /// This request, the one of this number in its batch.
    Send(Operation, usize),
    /// An event.
    Record(EventNote),
    /// That these are expected.
    Expect(u32, Vec<crate::api::meta::Uid>),
    /// To look at the key again after a time.
    LookAgain(SimDuration),
    /// To be told when a while is over ([`Sync::resume`]): so long at least, and so much longer at most.
    Pause(SimDuration, SimDuration),
    /// To wait for answers, or for the end of a pause.
    Wait,
    /// To be told how to go on, given the outcomes.
    Continue(Continuation, Vec<Outcome>),
    /// Nothing more: how it ended.
    End(Ending),
}

/// How a sync ended.
pub(super) enum Ending {
    /// As planned.
    Done(Again),
    /// A request failed.
    Failed,
}

/// What an answer leads to, before the sync goes on.
#[derive(Default)]
pub(super) struct Effects {
    /// An event to be recorded.
    pub(super) record: Option<EventNote>,
    /// What is not to be expected any more.
    pub(super) not_to_expect: Vec<Aim>,
    /// An object was written: its kind, and the revision of the write.
    pub(super) wrote: Option<(Kind, u64)>,
}

impl Sync {
    /// Begins to carry out a plan.
    pub(super) fn new(controller: usize, key: ObjectKey, cause: Cause, plan: Plan) -> Self {
        let mut sync = Sync {
            controller,
            key,
            cause,
            steps: Vec::new().into_iter(),
            then: None,
            again: Again::OnChange,
            outcomes: Vec::new(),
            failed: false,
            paused: false,
            batch: Batch::default(),
        };
        sync.follow(plan);
        sync
    }

    /// Goes on with another plan.
    pub(super) fn follow(&mut self, plan: Plan) {
        self.steps = plan.steps.into_iter();
        self.then = plan.then;
        self.again = plan.again;
        self.outcomes.clear();
        self.failed = false;
    }

    /// What to do next.
    pub(super) fn next(&mut self) -> Next {
        if let Some(next) = self.batch.send() {
            return next;
        }
        if self.batch.open > 0 || self.paused {
            return Next::Wait;
        }
        self.outcomes.extend(self.batch.under_way.drain(..).filter_map(|request| request.outcome));
        if !self.failed {
            if self.batch.rest.len() > 0 {
                return self.next_batch();
            }
            match self.steps.next() {
                Some(Step::Request(request)) => return self.begin(vec![request], 1, false),
                Some(Step::Parallel(requests)) => return self.begin(requests, usize::MAX, false),
                Some(Step::SlowStart(requests)) => return self.begin(requests, 1, true),
                Some(Step::Expect { creations, deletions }) => return Next::Expect(creations, deletions),
                Some(Step::Record(note)) => return Next::Record(note),
                Some(Step::LookAgain(delay)) => return Next::LookAgain(delay),
                Some(Step::Pause(least, more)) => {
                    self.paused = true;
                    return Next::Pause(least, more);
                }
                None => {}
            }
        }
        match self.then.take() {
            Some(then) => Next::Continue(then, std::mem::take(&mut self.outcomes)),
            None if self.failed => Next::End(Ending::Failed),
            None => Next::End(Ending::Done(std::mem::take(&mut self.again))),
        }
    }

    /// The pause is over.
    pub(super) fn resume(&mut self) {
        self.paused = false;
    }

    fn begin(&mut self, requests: Vec<Request>, size: usize, slow_start: bool) -> Next {
        self.batch.rest = requests.into_iter();
        (self.batch.size, self.batch.slow_start) = (size, slow_start);
        self.next_batch()
    }

    /// The next batch: twice as large as the one before.
    fn next_batch(&mut self) -> Next {
        let batch = &mut self.batch;
        batch.to_send = batch.size.min(batch.rest.len());
        batch.size = batch.size.saturating_mul(2);
        batch.under_way = Vec::with_capacity(batch.to_send);
        self.next()
    }

    /// Takes the answer to a request of the present batch.
    pub(super) fn answered(&mut self, index: usize, outcome: Outcome) -> Effects {
        let mut effects = Effects::default();
        let Some(request) = self.batch.under_way.get_mut(index).filter(|request| request.outcome.is_none()) else {
            return effects;
        };
        self.batch.open -= 1;
        match &outcome {
            Ok(answer) => {
                effects.record = request.on_success.take().map(|note| with_name(*note, answer));
                if let (true, Answer::Object(object)) = (request.writes, answer) {
                    effects.wrote = Some((object.kind(), object.meta().revision()));
                }
            }
            Err(status) if self.batch.slow_start && status.is_namespace_terminating() => {}
            Err(status) => {
                effects.not_to_expect.push(request.aim.clone());
                if !request.tolerate.contains(&status.reason) {
                    effects.record = request.on_failure.take().map(|note| with_error(*note, status));
                    self.failed = true;
                }
            }
        }
        request.outcome = Some(request.aim.without_what_went(outcome));
        if self.batch.open == 0 && self.failed {
            self.give_up(&mut effects.not_to_expect);
        }
        effects
    }

    /// Drops the requests that were not sent.
    fn give_up(&mut self, not_to_expect: &mut Vec<Aim>) {
        let mut drop_requests = |requests: &mut dyn Iterator<Item = Request>| {
            not_to_expect.extend(requests.map(|request| Aim::of(&request.operation)));
        };
        drop_requests(&mut self.batch.rest);
        for step in self.steps.by_ref() {
            match step {
                Step::Request(request) => drop_requests(&mut std::iter::once(request)),
                Step::Parallel(requests) | Step::SlowStart(requests) => drop_requests(&mut requests.into_iter()),
                Step::Expect { .. } | Step::Record(_) | Step::LookAgain(_) | Step::Pause(..) => {}
            }
        }
    }
}

impl Batch {
    /// Sends the next request of the batch, if one is left.
    fn send(&mut self) -> Option<Next> {
        self.to_send = self.to_send.checked_sub(1)?;
        let Request { operation, tolerate, on_success, on_failure } = self.rest.next()?;
        if self.rest.len() == 0 {
            self.rest = Vec::new().into_iter(); // The whole step's requests lay there.
        }
        let aim = Aim::of(&operation);
        let writes = matches!(operation, Operation::Create { .. } | Operation::Update { .. } | Operation::Patch { .. });
        self.under_way.push(UnderWay { tolerate, on_success, on_failure, aim, writes, outcome: None });
        self.open += 1;
        Some(Next::Send(operation, self.under_way.len() - 1))
    }
}

impl Aim {
    fn of(operation: &Operation) -> Aim {
        match operation {
            Operation::Create { object, .. } => Aim::Creation(object.clone()),
            Operation::Delete { key, .. } => Aim::Deletion(key.clone()),
            _ => Aim::Other,
        }
    }

    /// What came of the request, without the object that it deleted: nobody asks for that, and what waits for many deletions
    /// would hold everything that went.
    fn without_what_went(&self, outcome: Outcome) -> Outcome {
        match (self, outcome) {
            (Aim::Deletion(_), Ok(Answer::Object(_))) => Ok(Answer::Done),
            (_, outcome) => outcome,
        }
    }
}

fn with_name(mut note: EventNote, answer: &Answer) -> EventNote {
    if let Answer::Object(object) = answer
        && note.message.contains("{name}")
    {
        note.message = note.message.replace("{name}", &object.meta().name);
    }
    note
}

fn with_error(mut note: EventNote, status: &Status) -> EventNote {
    if note.message.contains("{error}") {
        note.message = note.message.replace("{error}", &status.message);
    }
    note
}

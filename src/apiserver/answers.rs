//! What etcd has answered to a request, and how it goes on: to the next step, to another try, or to the client.

use crate::api::object::Object;
use crate::engine::process::Context;
use crate::engine::time::SimDuration;
use crate::etcd::error::{Code, Error};
use crate::etcd::message::Reply as EtcdReply;
use crate::etcd::mvcc::{RangeResult, TxnResult};

use super::change::{self, Then};
use super::failure::{failure, leaves_doubt, may_retry};
use super::protocol::{Answer, DeleteOptions, Operation, Part};

use super::rules::allows;
use super::server::{ApiServer, CommittedWrite, ServerMessage};
use super::status::{Reason, Status};
use super::storage::{self, Stored};
use super::task::{Reply, Step, Task};

/// How often another name is made when one is taken (registry/generic: `maxNameGenerationCreateAttempts`).
const NAME_TRIES: u8 = 8;
/// How often etcd is asked in all while it cannot answer (etcd3retry: `DefaultRetry`).
const ETCD_TRIES: u8 = 6;
/// How often the etcd client asks for a read in all while members are unavailable (etcd, client/v3:
/// `defaultUnaryMaxRetries`). Writes it never repeats.
const CLIENT_TRIES: u8 = 100;
/// How long the etcd client waits after it has asked as many members as are a quorum (`defaultBackoffWaitBetween`); a tenth more
/// or less.
const CLIENT_WAIT: SimDuration = SimDuration::from_millis(25);
/// How long the first wait between two tries is.
const RETRY: SimDuration = SimDuration::from_millis(300);

impl ApiServer {
    /// Goes on with a task for which etcd has answered.
    pub(super) fn resume(
        &mut self,
        mut task: Task,
        result: Result<EtcdReply<Stored>, Error>,
        revision: u64,
        ctx: &mut dyn Context<ServerMessage>,
    ) {
        let step = std::mem::replace(&mut task.step, Step::Begin);
        if matches!(task.reply, Reply::Abandoned) {
            return self.note_late(task, step, result, revision);
        }
        if let Step::Sync(client, watch) = step {
            return self.direct_listed((client, watch), result, revision, ctx);
        }
        match result {
            Err(error) => self.refused_by_etcd(task, step, error, revision, ctx),
            Ok(EtcdReply::Range(result)) => self.has_read(task, step, &result, revision, ctx),
            Ok(EtcdReply::Txn(result)) => self.has_written(task, step, &result, revision, ctx),
            Ok(_) => self.confused(task, ctx),
        }
    }

    /// Etcd cannot do what it was asked, or did not say what it did.
    fn refused_by_etcd(
        &mut self,
        task: Task,
        step: Step,
        error: Error,
        revision: u64,
        ctx: &mut dyn Context<ServerMessage>,
    ) {
        let is_read = step.is_read();
        if is_read && error.code() == Code::Unavailable && task.attempts + 1 < CLIENT_TRIES {
            return self.ask_another(task, ctx);
        }
        if task.retries + 1 < ETCD_TRIES && may_retry(error, is_read) {
            return self.retry(task, ctx);
        }
        let status = match (&step, error) {
            (Step::List(page), Error::Compacted) => Box::new(page.expired()),
            (Step::List(page), Error::FutureRevision) => {
                Box::new(Status::too_large_revision(page.revision().unwrap_or(0), revision, 0))
            }
            (_, error) => {
                if leaves_doubt(error) {
                    self.leave_in_doubt(&task, &step);
                }
                failure(error)
            }
        };
        self.finish(task, Err(status), ctx);
    }

    /// Etcd has read what it was asked for.
    fn has_read(
        &mut self,
        mut task: Task,
        step: Step,
        result: &RangeResult<Stored>,
        revision: u64,
        ctx: &mut dyn Context<ServerMessage>,
    ) {
        match step {
            Step::LookUp(key) => {
                task.looked_up.push((key, storage::found_object(result)));
                self.advance(task, ctx);
            }
            Step::Get => self.found(task, result, ctx),
            Step::Read => self.read(task, storage::found_object(result), ctx),
            Step::Newest => self.newest_is(task, revision, ctx),
            Step::List(page) => self.page_read(task, page, result, revision, ctx),
            _ => self.confused(task, ctx),
        }
    }

    /// Etcd has carried a transaction out: what was to be written is written, or something else was there than expected.
    fn has_written(
        &mut self,
        mut task: Task,
        step: Step,
        result: &TxnResult<Stored>,
        revision: u64,
        ctx: &mut dyn Context<ServerMessage>,
    ) {
        let present = || storage::otherwise_found(result).and_then(|kv| kv.value.as_ref()?.object().cloned());
        match step {
            Step::Create(object) if result.succeeded => {
                self.committed(&mut task, None, Some(object.clone()), revision);
                self.finish(task, Ok(Answer::Object(object)), ctx);
            }
            Step::Create(object) => {
                if self.claims_taken(&mut task, result) && storage::otherwise_found(result).is_none() {
                    self.advance(task, ctx);
                } else {
                    self.name_taken(task, &object, ctx);
                }
            }
            Step::Replace { old, new, then } if result.succeeded => {
                self.committed(&mut task, Some(old), Some(new.clone()), revision);
                self.go_on(task, new, then, ctx);
            }
            Step::Replace { old, then: Then::Evict, .. } => {
                let status = Status::conflict(old.kind(), &old.meta().name, change::MODIFIED);
                self.eviction_conflict(task, Box::new(status), ctx);
            }
            Step::Replace { .. } => {
                self.claims_taken(&mut task, result);
                self.read(task, present(), ctx);
            }
            Step::Remove { old } if result.succeeded => {
                self.committed(&mut task, Some(old.clone()), None, revision);
                self.finish(task, Ok(Answer::Object(old)), ctx);
            }
            Step::Remove { old } => match present() {
                // Another one has done what remained to be done after the object was marked.
                None if old.meta().is_deleting() => self.finish(task, Ok(Answer::Object(old)), ctx),
                present => self.read(task, present, ctx),
            },
            _ => self.confused(task, ctx),
        }
    }

    fn confused(&mut self, task: Task, ctx: &mut dyn Context<ServerMessage>) {
        let message = "etcd gave an answer to another question";
        self.finish(task, Err(Box::new(Status::new(Reason::InternalError, message))), ctx);
    }

    /// Etcd has answered to a request whose time is over: what it did is done.
    fn note_late(&mut self, mut task: Task, step: Step, result: Result<EtcdReply<Stored>, Error>, revision: u64) {
        if matches!(&result, Ok(EtcdReply::Txn(result)) if result.succeeded) {
            match step {
                Step::Create(object) => self.committed(&mut task, None, Some(object), revision),
                Step::Replace { old, new, .. } => self.committed(&mut task, Some(old), Some(new), revision),
                Step::Remove { old } => self.committed(&mut task, Some(old), None, revision),
                _ => {}
            }
        } else if result.is_err_and(leaves_doubt) {
            self.leave_in_doubt(&task, &step);
        }
        self.allocator.release(&task.claims);
    }

    /// A new version is stored; what follows.
    fn go_on(&mut self, task: Task, new: Object, then: Then, ctx: &mut dyn Context<ServerMessage>) {
        match (then, &task.operation) {
            (Then::Remove, _) => self.remove(task, new, ctx),
            (Then::Delete, Operation::Evict { key, options }) => {
                // The condition has made a new version: the one that was asked for is this one now.
                let resource_version = options.resource_version.map(|_| new.meta().revision());
                let options = DeleteOptions { resource_version, ..options.clone() };
                let operation = Operation::Delete { key: key.clone(), options };
                self.change(Task { operation, ..task }, new, true, ctx);
            }
            (Then::Evict, _) => self.budget_spent(task, ctx),
            (Then::Answer | Then::Delete, operation) => {
                let answer = answer_of(operation, new);
                self.finish(task, Ok(answer), ctx);
            }
        }
    }

    /// Asks the next member, as the etcd client does by itself (etcd, client/v3: `roundRobinQuorumBackoff`).
    fn ask_another(&mut self, mut task: Task, ctx: &mut dyn Context<ServerMessage>) {
        task.attempts += 1;
        if usize::from(task.attempts) % self.link.quorum() == 0 {
            let tenth = CLIENT_WAIT.as_nanos() / 10;
            let wait = CLIENT_WAIT.as_nanos() - tenth + self.jitter.below(2 * tenth + 1);
            self.delay(task, SimDuration::from_nanos(wait), ctx);
        } else {
            self.advance(task, ctx);
        }
    }

    /// Waits and asks etcd again, ever longer (etcd3retry: 0.3 s doubling, six tries).
    fn retry(&mut self, mut task: Task, ctx: &mut dyn Context<ServerMessage>) {
        let wait = RETRY * (1 << task.retries);
        task.retries += 1;
        task.attempts = 0;
        task.step = Step::Begin;
        self.delay(task, wait, ctx);
    }

    fn found(&mut self, task: Task, result: &RangeResult<Stored>, ctx: &mut dyn Context<ServerMessage>) {
        let answer = match storage::found_object(result) {
            Some(object) if matches!(task.operation, Operation::GetScale { .. }) && !object.kind().row().has_scale => {
                let message = "the server could not find the requested resource";
                Err(Box::new(Status::about(Reason::NotFound, object.kind(), &object.meta().name, message)))
            }
            Some(object) => Ok(answer_of(&task.operation, object)),
            None => Err(missing(&task)),
        };
        self.finish(task, answer, ctx);
    }

    /// The newest version of the object to be changed is known: there is one or there is none.
    fn read(&mut self, task: Task, present: Option<Object>, ctx: &mut dyn Context<ServerMessage>) {
        if task.eviction.as_ref().is_some_and(|eviction| !eviction.may_go()) {
            return self.seen_for_eviction(task, present, ctx);
        }
        match present {
            Some(present) => self.change(task, present, true, ctx),
            None => match &task.operation {
                Operation::Update { object, part: Part::Main, dry_run }
                    if allows(object.kind()).create_on_update && object.meta().revision() == 0 =>
                {
                    let operation = Operation::Create { object: object.clone(), dry_run: *dry_run };
                    self.advance(Task { operation, ..task }, ctx);
                }
                _ => {
                    let status = missing(&task);
                    self.finish(task, Err(status), ctx);
                }
            },
        }
    }

    /// Takes in which of a request's claims another server has given away; true if it has any of them.
    fn claims_taken(&mut self, task: &mut Task, result: &TxnResult<Stored>) -> bool {
        let taken = storage::taken(result, &task.claims);
        let any = !taken.is_empty();
        self.allocator.release(&std::mem::take(&mut task.claims));
        self.allocator.taken(taken);
        any
    }

    fn name_taken(&mut self, task: Task, object: &Object, ctx: &mut dyn Context<ServerMessage>) {
        let made = matches!(&task.operation, Operation::Create { object, .. } if object.meta().name.is_empty());
        if made && task.taken_names + 1 < NAME_TRIES {
            let taken_names = task.taken_names + 1;
            return self.advance(Task { taken_names, ..task }, ctx);
        }
        let status = Status::already_exists(object.kind(), &object.meta().name);
        self.finish(task, Err(Box::new(status)), ctx);
    }

    fn committed(&mut self, task: &mut Task, old: Option<Object>, new: Option<Object>, revision: u64) {
        let Some(key) = new.as_ref().or(old.as_ref()).map(Object::key) else { return };
        self.allocator.stored(&std::mem::take(&mut task.claims), revision);
        let (agent, verb) = task.author_of(key.kind);
        self.writes.push(CommittedWrite { revision, key, old, new, agent, verb });
    }
}

fn missing(task: &Task) -> Box<Status> {
    let key = task.key();
    let name = key.as_ref().map(|key| key.name.clone()).unwrap_or_default();
    Box::new(Status::not_found(task.operation.kind(), &name))
}

/// What a request answers with an object.
pub(super) fn answer_of(operation: &Operation, object: Object) -> Answer {
    match operation {
        Operation::GetScale { .. } | Operation::SetScale { .. } => {
            let (desired, current, selector) = match &object {
                Object::Deployment(deployment) => {
                    (deployment.spec.replicas, deployment.status.replicas, deployment.spec.selector.to_string())
                }
                Object::ReplicaSet(set) => (set.replicas, set.status.replicas, set.selector.to_string()),
                Object::ReplicationController(controller) => {
                    (controller.replicas, controller.status.replicas, controller.selector.to_string())
                }
                Object::StatefulSet(set) => (set.spec.replicas, set.status.replicas, set.selector.to_string()),
                _ => (0, 0, String::new()),
            };
            Answer::Scale { desired, current, resource_version: object.meta().revision(), selector }
        }
        Operation::Bind { .. } => Answer::Done,
        _ => Answer::Object(object),
    }
}

//! The way of a request: admission, defaults, validation, the transaction with etcd, the answer.
//!
//! A change of an object that is there begins with the version in the watch cache. If that was not the newest, or what
//! comes of it is nothing or a refusal, the newest is read and the same is tried again (etcd3 store: `GuaranteedUpdate`).

use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::meta::{ObjectKey, Uid};
use crate::api::name::Name;
use crate::api::node::{Node, NodeCondition};
use crate::api::object::Object;
use crate::api::pod::{ConditionStatus, Pod, PodSpec};
use crate::engine::process::{Cause, Context};
use crate::engine::time::{SimDuration, SimTime};
use crate::etcd::error::{Code, Error};
use crate::etcd::lease::LeaseId;
use crate::etcd::message::{Reply as EtcdReply, Request as EtcdRequest};
use crate::etcd::mvcc::{RangeResult, TxnResult};

use super::admission::{Attributes, Facts, Refusal, Verb};
use super::allocation;
use super::change::{self, Change, Then};
use super::complete;
use super::direct::has_cache;
use super::failure::{failure, leaves_doubt, may_retry};
use super::names;
use super::protocol::{Answer, DeleteOptions, Operation, Part};
use super::quota::Ready;
use super::reading::Next;
use super::rules::{allows, prepare_create};
use super::server::{ApiServer, CommittedWrite, KnownSpec, ServerMessage, SharedLease};
use super::size;
use super::status::{Reason, Status};
use super::storage::{self, Stored};
use super::task::{Reply, Step, Task};

/// How often another name is made when one is taken (registry/generic: `maxNameGenerationCreateAttempts`).
const NAME_TRIES: u8 = 8;
/// A lease for events is used for so many (etcd3 store: `defaultLeaseMaxObjectCount`).
const EVENTS_PER_LEASE: u32 = 1000;
/// A lease for events is used for so long (etcd3 store: `defaultLeaseReuseDurationSeconds`).
const LEASE_REUSE: SimDuration = SimDuration::from_secs(60);
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
/// How many specifications are remembered as complete.
const SPECS_REMEMBERED: usize = 4096;

impl Task {
    /// A request that begins.
    pub fn new(reply: Reply, agent: Name, operation: Operation, cause: Cause) -> Task {
        Task {
            reply,
            agent,
            operation,
            cause,
            step: Step::Begin,
            looked_up: Vec::new(),
            taken_names: 0,
            retries: 0,
            attempts: 0,
            deadline: SimTime::MAX,
            claims: Vec::new(),
            eviction: None,
        }
    }

    /// The object that the request is about; of a creation what is known of it.
    pub(super) fn key(&self) -> Option<ObjectKey> {
        match &self.operation {
            Operation::Get { key }
            | Operation::Patch { key, .. }
            | Operation::Delete { key, .. }
            | Operation::GetScale { key }
            | Operation::SetScale { key, .. }
            | Operation::Bind { key, .. }
            | Operation::Evict { key, .. } => Some(key.clone()),
            Operation::Create { object, .. } | Operation::Update { object, .. } => Some(object.key()),
            Operation::List { .. }
            | Operation::Watch { .. }
            | Operation::DeleteCollection { .. }
            | Operation::Metrics { .. } => None,
        }
    }

    pub(super) fn is_dry_run(&self) -> bool {
        match &self.operation {
            Operation::Create { dry_run, .. }
            | Operation::Update { dry_run, .. }
            | Operation::Patch { dry_run, .. } => *dry_run,
            Operation::Delete { options, .. } | Operation::Evict { options, .. } => options.dry_run,
            _ => false,
        }
    }

    /// What the request does to an object, as the report names it.
    pub(super) fn verb(&self) -> &'static str {
        match self.operation {
            Operation::Bind { .. } => "bind",
            Operation::Evict { .. } => "evict",
            Operation::DeleteCollection { .. } => "delete",
            _ => self.operation.verb(),
        }
    }
}

impl ApiServer {
    /// Takes a request as far as it goes without waiting.
    pub(super) fn advance(&mut self, task: Task, ctx: &mut dyn Context<ServerMessage>) {
        match &task.operation {
            Operation::Get { .. } | Operation::GetScale { .. } => self.get(task, ctx),
            Operation::List { .. } => self.list(task, ctx),
            Operation::Metrics { .. } => self.metrics(task, ctx),
            Operation::Watch { watch, scope, after, bookmarks } => {
                let (scope, after, watch) = (scope.clone(), *after, (*watch, *bookmarks));
                // Revision zero asks for any present state, just as no revision does.
                let after = after.filter(|revision| *revision > 0);
                if !has_cache(scope.kind) {
                    return self.begin_direct(task, &scope, after, watch, ctx);
                }
                if let Err(status) = self.begin_watch(&task, &scope, after, watch, ctx) {
                    self.finish(task, Err(status), ctx);
                }
            }
            Operation::Create { object, .. } => {
                let object = object.clone();
                self.create(task, object, ctx);
            }
            Operation::DeleteCollection { .. } => self.collect(task, ctx),
            Operation::Evict { .. } => self.evict(task, ctx),
            _ => self.begin_change(task, ctx),
        }
    }

    fn get(&mut self, task: Task, ctx: &mut dyn Context<ServerMessage>) {
        let Some(key) = task.key() else { return };
        let request = storage::get(storage::key_of(&key));
        let delay = self.config.costs.of_request(0);
        self.ask(Task { step: Step::Get, ..task }, delay, request, ctx);
    }

    /// Answers for the metrics APIs that are aggregated into this one.
    fn metrics(&mut self, task: Task, ctx: &mut dyn Context<ServerMessage>) {
        let Operation::Metrics { query, namespace, pods } = &task.operation else { return };
        let cache = &self.caches[Kind::Pod as usize];
        let facts = Facts::new(&self.caches, &[], ctx.now());
        let of = |name: &Name| ObjectKey { kind: Kind::Pod, namespace: namespace.clone(), name: name.clone() };
        let found = pods.iter().filter_map(|name| cache.get(&of(name))?.object.get::<Pod>());
        let mut reached = found.filter(|pod| {
            let node = pod.node.as_ref().and_then(|node| facts.cached::<Node>(&Name::EMPTY, node));
            node.is_some_and(|node| node.status.conditions.iter().any(is_ready))
        });
        let answer = self.config.metrics.answer(query, namespace, &mut reached, self.config.epoch, ctx.now());
        self.finish(task, answer.map(Answer::Metrics), ctx);
    }

    /// Admission says no, or wants to see an object first.
    fn refused(&mut self, task: Task, refusal: Refusal, ctx: &mut dyn Context<ServerMessage>) {
        match refusal {
            Refusal::Status(status) => self.finish(task, Err(status), ctx),
            Refusal::LookUp { key, after } if after == SimDuration::ZERO => {
                let request = storage::get(storage::key_of(&key));
                self.ask(Task { step: Step::LookUp(key), ..task }, SimDuration::ZERO, request, ctx);
            }
            Refusal::LookUp { key, after } => self.delay(Task { step: Step::LookUp(key), ..task }, after, ctx),
        }
    }

    fn create(&mut self, mut task: Task, mut object: Object, ctx: &mut dyn Context<ServerMessage>) {
        if let Step::LookUp(key) = &task.step {
            // The wait before a look-up is over.
            let request = storage::get(storage::key_of(key));
            return self.ask(task, SimDuration::ZERO, request, ctx);
        }
        match self.prepare(&mut task, &mut object, ctx) {
            Ok(()) => self.charge(Ready { task, object, replaces: None, part: Some(Part::Main) }, ctx),
            Err(refusal) => self.refused(task, refusal, ctx),
        }
    }

    /// Stores what nobody objects to.
    pub(super) fn store(&mut self, ready: Ready, ctx: &mut dyn Context<ServerMessage>) {
        let Ready { task, mut object, replaces, .. } = ready;
        match replaces {
            None if task.is_dry_run() => self.finish(task, Ok(Answer::Object(object)), ctx),
            None => self.store_new(task, object, ctx),
            Some(_) if task.is_dry_run() => {
                let answer = answer_of(&task.operation, object);
                self.finish(task, Ok(answer), ctx);
            }
            Some((present, then)) => {
                object.meta_mut().resource_version.set(0);
                self.replace(task, present, object, then, ctx);
            }
        }
    }

    /// Makes a new object ready to be stored.
    fn prepare(
        &mut self,
        task: &mut Task,
        object: &mut Object,
        ctx: &mut dyn Context<ServerMessage>,
    ) -> Result<(), Refusal> {
        let given = spec_of(object);
        let known = self.recall(object);
        if known.is_none() {
            complete::default(object)?;
        }
        let completed = spec_of(object);
        let key = object.key();
        let facts = Facts::new(&self.caches, &task.looked_up, ctx.now());
        self.chain.create(&key, facts, object)?;
        let meta = object.meta_mut();
        if meta.name.is_empty()
            && let Some(prefix) = meta.generate_name.clone()
        {
            meta.name = names::generate(&prefix, &mut self.names);
        }
        meta.uid = Uid::from_random(self.uids.bits(), self.uids.bits());
        self.allocator.release(&std::mem::take(&mut task.claims));
        task.claims = self.allocator.create(object, &self.caches[Kind::Service as usize])?;
        prepare_create(object, self.config.epoch.timestamp(ctx.now()))?;
        let admitted = spec_of(object);
        let seen = |known: &Rc<PodSpec>| admitted.as_ref().is_some_and(|admitted| Rc::ptr_eq(known, admitted));
        if !known.as_ref().is_some_and(seen) {
            complete::validate(object)?;
            self.remember(given, completed, admitted);
        }
        let attributes = Attributes { verb: Verb::Create, key: &key, subresource: false, resize: false };
        let facts = Facts::new(&self.caches, &task.looked_up, ctx.now());
        self.chain.validate(attributes, facts, object, None)
    }

    /// Gives a pod whose specification was completed before the result of then; returns what admission made of it then.
    fn recall(&mut self, object: &mut Object) -> Option<Rc<PodSpec>> {
        let Object::Pod(pod) = object else { return None };
        let known = self.known_specs.get(&(Rc::as_ptr(&pod.spec) as usize))?;
        if !Rc::ptr_eq(&pod.spec, &known.completed) {
            Rc::make_mut(pod).spec = Rc::clone(&known.completed);
        }
        Some(Rc::clone(&known.admitted))
    }

    /// Remembers what defaults and admission made of a specification that was then found valid, so that the next pods of the
    /// template share it and are not looked at again.
    fn remember(&mut self, given: Option<Rc<PodSpec>>, completed: Option<Rc<PodSpec>>, admitted: Option<Rc<PodSpec>>) {
        let (Some(given), Some(completed), Some(admitted)) = (given, completed, admitted) else { return };
        if self.known_specs.len() >= SPECS_REMEMBERED {
            self.known_specs.clear();
        }
        for given in [given, Rc::clone(&completed)] {
            let (completed, admitted) = (Rc::clone(&completed), Rc::clone(&admitted));
            self.known_specs.insert(Rc::as_ptr(&given) as usize, KnownSpec { given, completed, admitted });
        }
    }

    fn store_new(&mut self, task: Task, object: Object, ctx: &mut dyn Context<ServerMessage>) {
        let mut lease = None;
        if object.kind().row().seconds_to_live.is_some() {
            match self.lease_of(ctx) {
                Some(id) => lease = Some(id),
                None => {
                    self.lease_waiters.push(Task { step: Step::Lease(object), ..task });
                    return;
                }
            }
        }
        let delay = self.config.costs.of_request(size::of(&object));
        let request = storage::create(storage::key_of(&object.key()), object.clone(), lease, &task.claims);
        self.ask(Task { step: Step::Create(object), ..task }, delay, request, ctx);
    }

    /// The shared lease, if it may still be used; otherwise another one is asked for.
    fn lease_of(&mut self, ctx: &mut dyn Context<ServerMessage>) -> Option<LeaseId> {
        if let Some(lease) = &mut self.lease
            && lease.uses < EVENTS_PER_LEASE
            && ctx.now() < lease.reuse_until
        {
            lease.uses += 1;
            return Some(lease.id);
        }
        if self.lease_request.is_none() {
            let live = Kind::Event.row().seconds_to_live.unwrap_or(0);
            let request = EtcdRequest::LeaseGrant { id: None, ttl_s: live + LEASE_REUSE.as_secs() };
            self.lease_request = Some(self.link.request(SimDuration::ZERO, request, SimTime::MAX, ctx));
        }
        None
    }

    /// A lease was granted, or not: those who wait go on.
    pub(super) fn leased(&mut self, result: Result<EtcdReply<Stored>, Error>, ctx: &mut dyn Context<ServerMessage>) {
        if let Ok(EtcdReply::Lease { id, .. }) = result {
            self.lease = Some(SharedLease { id, reuse_until: ctx.now() + LEASE_REUSE, uses: 0 });
        }
        for task in std::mem::take(&mut self.lease_waiters) {
            ctx.set_cause(task.cause);
            match (&result, task.step) {
                (Ok(_), Step::Lease(object)) => self.store_new(Task { step: Step::Begin, ..task }, object, ctx),
                (Err(error), step) => self.finish(Task { step, ..task }, Err(failure(*error)), ctx),
                (Ok(_), _) => {}
            }
        }
    }

    /// Begins to change an object that should be there.
    pub(super) fn begin_change(&mut self, task: Task, ctx: &mut dyn Context<ServerMessage>) {
        let Some(key) = task.key() else { return };
        let attributes = Attributes {
            verb: match task.operation {
                Operation::Delete { .. } => Verb::Delete,
                // Of the eviction, which is created. No plugin but that of namespaces looks at it.
                Operation::Evict { .. } => Verb::Create,
                _ => Verb::Update,
            },
            key: &key,
            subresource: is_subresource(&task.operation),
            resize: is_resize(&task.operation),
        };
        let facts = Facts::new(&self.caches, &task.looked_up, ctx.now());
        if let Err(refusal) = self.chain.check(attributes, facts) {
            return self.refused(task, refusal, ctx);
        }
        let reads_first = matches!(task.operation, Operation::Delete { .. } | Operation::Evict { .. });
        let cached = self.caches[key.kind as usize].get(&key).map(|entry| entry.object.clone());
        match cached.filter(|_| !reads_first) {
            Some(present) => self.change(task, present, false, ctx),
            None => self.read_present(task, &key, ctx),
        }
    }

    pub(super) fn read_present(&mut self, task: Task, key: &ObjectKey, ctx: &mut dyn Context<ServerMessage>) {
        let request = storage::get(storage::key_of(key));
        let delay = self.config.costs.of_request(0);
        self.ask(Task { step: Step::Read, ..task }, delay, request, ctx);
    }

    /// Decides what a request makes of an object, and stores it. `newest` says that the object was read just now.
    pub(super) fn change(
        &mut self,
        mut task: Task,
        present: Object,
        newest: bool,
        ctx: &mut dyn Context<ServerMessage>,
    ) {
        let now = self.config.epoch.timestamp(ctx.now());
        let facts = Facts::new(&self.caches, &task.looked_up, ctx.now());
        let labels = |node: &Name| self.chain.labels_of_node(node, facts);
        let (allocator, services) = (&mut self.allocator, &self.caches[Kind::Service as usize]);
        allocator.release(&std::mem::take(&mut task.claims));
        let mut claims = Vec::new();
        let mut allocate = |object: &mut Object| {
            claims = allocator.update(object, &present, services)?;
            Ok(())
        };
        let mut decided = change::decide(&task.operation, &present, &labels, &mut allocate, now);
        if let Ok(Change::Replace { object, .. }) = &decided
            && is_resize(&task.operation)
            && let Err(status) = self.chain.check_resize(object, facts)
        {
            decided = Err(status);
        }
        task.claims = claims;
        if !newest && matches!(decided, Err(_) | Ok(Change::Nothing)) {
            let key = present.key();
            return self.read_present(task, &key, ctx);
        }
        match decided {
            Err(status) if task.eviction.is_some() && status.reason == Reason::Conflict => {
                self.eviction_conflict(task, status, ctx);
            }
            Err(status) => self.finish(task, Err(status), ctx),
            Ok(Change::Nothing) => {
                let answer = answer_of(&task.operation, present);
                self.finish(task, Ok(answer), ctx);
            }
            Ok(Change::Remove) if task.is_dry_run() => self.finish(task, Ok(Answer::Object(present)), ctx),
            Ok(Change::Replace { object, then }) => self.admit_replacement(task, present, object, then, ctx),
            Ok(Change::Remove) => self.remove(task, present, ctx),
        }
    }

    /// Lets admission see the new version of an object as it would be stored. What the server does to an object on the way to
    /// its end is not admitted.
    fn admit_replacement(
        &mut self,
        task: Task,
        old: Object,
        new: Object,
        then: Then,
        ctx: &mut dyn Context<ServerMessage>,
    ) {
        let part = match &task.operation {
            Operation::Update { part, .. } | Operation::Patch { part, .. } => Some(*part),
            Operation::SetScale { .. } => None,
            _ => return self.store(Ready { task, object: new, replaces: Some((old, then)), part: None }, ctx),
        };
        let key = new.key();
        let subresource = part != Some(Part::Main);
        let attributes = Attributes { verb: Verb::Update, key: &key, subresource, resize: part == Some(Part::Resize) };
        let facts = Facts::new(&self.caches, &task.looked_up, ctx.now());
        match self.chain.validate(attributes, facts, &new, Some(&old)) {
            Ok(()) => self.charge(Ready { task, object: new, replaces: Some((old, then)), part }, ctx),
            Err(refusal) => self.refused(task, refusal, ctx),
        }
    }

    pub(super) fn replace(
        &mut self,
        task: Task,
        old: Object,
        new: Object,
        then: Then,
        ctx: &mut dyn Context<ServerMessage>,
    ) {
        let key = old.key();
        let etcd_key = match self.caches[key.kind as usize].get(&key) {
            Some(entry) => entry.key.clone(),
            None => storage::key_of(&key),
        };
        let keeps_lease = key.kind.row().seconds_to_live.is_some();
        let released = allocation::released(&old, &new);
        let revision = old.meta().revision();
        let request = storage::replace(etcd_key, revision, new.clone(), keeps_lease, &task.claims, &released);
        let delay = self.config.costs.of_request(size::of(&new));
        self.ask(Task { step: Step::Replace { old, new, then }, ..task }, delay, request, ctx);
    }

    fn remove(&mut self, task: Task, old: Object, ctx: &mut dyn Context<ServerMessage>) {
        let request = storage::remove(storage::key_of(&old.key()), old.meta().revision(), &allocation::held(&old));
        let delay = self.config.costs.of_request(0);
        self.ask(Task { step: Step::Remove { old }, ..task }, delay, request, ctx);
    }

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
        match (step, result) {
            (step, Err(error))
                if step.is_read() && error.code() == Code::Unavailable && task.attempts + 1 < CLIENT_TRIES =>
            {
                self.ask_another(task, ctx);
            }
            (step, Err(error)) if task.retries + 1 < ETCD_TRIES && may_retry(error, step.is_read()) => {
                self.retry(task, ctx);
            }
            (Step::List(page) | Step::Collect(page), Err(Error::Compacted)) => {
                self.finish(task, Err(Box::new(page.expired())), ctx)
            }
            (Step::List(page), Err(Error::FutureRevision)) => {
                let status = Status::too_large_revision(page.revision(), revision, 0);
                self.finish(task, Err(Box::new(status)), ctx);
            }
            (step, Err(error)) => {
                if leaves_doubt(error) {
                    self.doubts.note(&step, &task.agent, task.verb());
                }
                self.finish(task, Err(failure(error)), ctx);
            }
            (Step::LookUp(key), Ok(EtcdReply::Range(result))) => {
                task.looked_up.push((key, storage::found_object(&result)));
                self.advance(task, ctx);
            }
            (Step::Get, Ok(EtcdReply::Range(result))) => self.found(task, &result, ctx),
            (Step::Read, Ok(EtcdReply::Range(result))) => self.read(task, storage::found_object(&result), ctx),
            (Step::Newest, Ok(EtcdReply::Range(_))) => self.newest_is(task, revision, ctx),
            (Step::List(page), Ok(EtcdReply::Range(result))) => self.page_read(task, page, &result, revision, ctx),
            (Step::Budgets(mut page), Ok(EtcdReply::Range(result))) => match page.take(&result, revision) {
                Next::Done(Answer::List { items, .. }) => self.budgets_listed(task, &items, ctx),
                Next::Done(_) => {}
                Next::More(range) => {
                    self.ask(Task { step: Step::Budgets(page), ..task }, SimDuration::ZERO, range.into(), ctx);
                }
            },
            (Step::Collect(page), Ok(EtcdReply::Range(result))) => self.listed(task, page, &result, revision, ctx),
            (Step::Create(object), Ok(EtcdReply::Txn(result))) => {
                if result.succeeded {
                    self.committed(&mut task, None, Some(object.clone()), revision);
                    self.finish(task, Ok(Answer::Object(object)), ctx);
                } else if self.claims_taken(&mut task, &result) && storage::otherwise_found(&result).is_none() {
                    self.advance(task, ctx);
                } else {
                    self.name_taken(task, &object, ctx);
                }
            }
            (Step::Replace { old, then: Then::Evict, .. }, Ok(EtcdReply::Txn(result))) if !result.succeeded => {
                let status = Status::conflict(old.kind(), &old.meta().name, change::MODIFIED);
                self.eviction_conflict(task, Box::new(status), ctx);
            }
            (Step::Replace { old, new, then }, Ok(EtcdReply::Txn(result))) => {
                if !result.succeeded {
                    self.claims_taken(&mut task, &result);
                    let present = storage::otherwise_found(&result).and_then(|kv| kv.value.as_ref()?.object().cloned());
                    return self.read(task, present, ctx);
                }
                self.committed(&mut task, Some(old), Some(new.clone()), revision);
                self.go_on(task, new, then, ctx);
            }
            (Step::Remove { old }, Ok(EtcdReply::Txn(result))) => {
                if result.succeeded {
                    self.committed(&mut task, Some(old.clone()), None, revision);
                    self.finish(task, Ok(Answer::Object(old)), ctx);
                } else {
                    let present = storage::otherwise_found(&result).and_then(|kv| kv.value.as_ref()?.object().cloned());
                    match present {
                        // Another one has done what remained to be done after the object was marked.
                        None if old.meta().is_deleting() => self.finish(task, Ok(Answer::Object(old)), ctx),
                        present => self.read(task, present, ctx),
                    }
                }
            }
            (_, Ok(_)) => {
                let message = "etcd gave an answer to another question";
                self.finish(task, Err(Box::new(Status::new(Reason::InternalError, message))), ctx);
            }
        }
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
            self.doubts.note(&step, &task.agent, task.verb());
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
        // What a budget grants, the server writes into it by itself.
        let is_own = key.kind != task.operation.kind();
        let (agent, verb) =
            if is_own { (Name::of("kube-apiserver"), "update") } else { (task.agent.clone(), task.verb()) };
        self.doubts.acknowledged(&key, revision);
        self.writes.push(CommittedWrite { revision, key, old, new, agent, verb });
    }
}

fn is_ready(condition: &NodeCondition) -> bool {
    condition.kind == "Ready" && condition.status == ConditionStatus::True
}

/// The specification that a pod shares with others of its template. That of the template itself is another one: a pod of its
/// own gets more defaults (`enableServiceLinks`, for one).
fn spec_of(object: &Object) -> Option<Rc<PodSpec>> {
    match object {
        Object::Pod(pod) => Some(Rc::clone(&pod.spec)),
        _ => None,
    }
}

/// True if a request is for the resize subresource.
fn is_resize(operation: &Operation) -> bool {
    matches!(operation, Operation::Update { part: Part::Resize, .. } | Operation::Patch { part: Part::Resize, .. })
}

fn is_subresource(operation: &Operation) -> bool {
    match operation {
        Operation::Update { part, .. } | Operation::Patch { part, .. } => *part != Part::Main,
        Operation::Bind { .. } | Operation::Evict { .. } | Operation::SetScale { .. } => true,
        _ => false,
    }
}

fn missing(task: &Task) -> Box<Status> {
    let key = task.key();
    let name = key.as_ref().map(|key| key.name.clone()).unwrap_or_default();
    Box::new(Status::not_found(task.operation.kind(), &name))
}

/// What a request answers with an object.
fn answer_of(operation: &Operation, object: Object) -> Answer {
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

//! The way of a request: admission, defaults, validation, the transaction with etcd, the answer.
//!
//! A change of an object that is there begins with the version in the watch cache. If that was not the newest, or what
//! comes of it is nothing or a refusal, the newest is read and the same is tried again (etcd3 store: `GuaranteedUpdate`).

use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::meta::{Labels, ObjectKey, Uid};
use crate::api::name::Name;
use crate::api::node::{Node, NodeCondition};
use crate::api::object::Object;
use crate::api::pod::{ConditionStatus, Pod, PodSpec};
use crate::engine::process::{Cause, Context};
use crate::engine::time::{SimDuration, SimTime};
use crate::etcd::error::Error;
use crate::etcd::lease::LeaseId;
use crate::etcd::message::{Reply as EtcdReply, Request as EtcdRequest};

use super::admission::{Attributes, Facts, Refusal, Verb};
use super::allocation;
use super::answers::answer_of;
use super::change::{self, Change, Then};
use super::complete;
use super::direct::has_cache;
use super::failure::failure;
use super::names;
use super::protocol::{Answer, Operation, Part};
use super::quota::Ready;
use super::rules::prepare_create;
use super::server::{ApiServer, KnownSpec, ServerMessage, SharedLease};
use super::size;
use super::status::Reason;
use super::storage::{self, Stored};
use super::task::{Reply, Step, Task};

/// A lease for events is used for so many (etcd3 store: `defaultLeaseMaxObjectCount`).
const EVENTS_PER_LEASE: u32 = 1000;
/// A lease for events is used for so long (etcd3 store: `defaultLeaseReuseDurationSeconds`).
const LEASE_REUSE: SimDuration = SimDuration::from_secs(60);
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
        let found = pods.iter().filter_map(|name| cache.get(&of(name))?.get::<Pod>());
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

    fn store_new(&mut self, task: Task, mut object: Object, ctx: &mut dyn Context<ServerMessage>) {
        self.commons.share(&mut object, None);
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
        let cached = self.caches[key.kind as usize].get(&key).cloned();
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
        let labels = |before: &Labels, node: &Name| self.chain.labels_when_bound(before, node, facts);
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
        mut new: Object,
        then: Then,
        ctx: &mut dyn Context<ServerMessage>,
    ) {
        self.commons.share(&mut new, Some(&old));
        let key = old.key();
        let keeps_lease = key.kind.row().seconds_to_live.is_some();
        let released = allocation::released(&old, &new);
        let revision = old.meta().revision();
        let request =
            storage::replace(storage::key_of(&key), revision, new.clone(), keeps_lease, &task.claims, &released);
        let delay = self.config.costs.of_request(size::of(&new));
        self.ask(Task { step: Step::Replace { old, new, then }, ..task }, delay, request, ctx);
    }

    pub(super) fn remove(&mut self, task: Task, old: Object, ctx: &mut dyn Context<ServerMessage>) {
        let request = storage::remove(storage::key_of(&old.key()), old.meta().revision(), &allocation::held(&old));
        let delay = self.config.costs.of_request(0);
        self.ask(Task { step: Step::Remove { old }, ..task }, delay, request, ctx);
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

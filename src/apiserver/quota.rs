//! ResourceQuota admission: a request that would use more of a quota than there is is refused, any other one waits until the
//! quota says that it was used (apiserver, admission/plugin/resourcequota/controller.go).
//!
//! Requests of a namespace are charged in batches: while the status of a quota is written, those that arrive wait for the next
//! batch. Usage is charged, never counted anew; the resource quota controller does that. So a creation that fails after it
//! was charged leaves too much usage behind until the controller comes by.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::meta::{ObjectKey, Timestamp};
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::quota::{self, Amounts, ResourceQuota};
use crate::engine::process::Context;
use crate::engine::time::{SimDuration, SimTime};

use super::cache::WatchCache;
use super::change::Then;
use super::protocol::{Answer, Operation, Part};
use super::server::{ApiServer, ServerMessage, token};
use super::status::Status;
use super::task::{Reply, Task};

/// How long a request waits to be charged (`Evaluate`).
const PATIENCE: SimDuration = SimDuration::from_secs(10);
/// How often what could not be written is charged anew (`checkQuotas`).
const RETRIES: u8 = 3;
/// How many quotas are remembered as this server wrote them, until its cache shows them (`newQuotaAccessor`).
const REMEMBERED: usize = 100;

/// A request that is ready to be stored.
#[derive(Debug)]
pub struct Ready {
    /// The request.
    pub task: Task,
    /// What is to be stored.
    pub object: Object,
    /// What that replaces, and what follows; none for a creation.
    pub replaces: Option<(Object, Then)>,
    /// The part of the object that it concerns; none for scales, bindings and the like.
    pub part: Option<Part>,
}

/// A request that waits to be charged.
#[derive(Debug)]
struct Waiter {
    ready: Ready,
    until: SimTime,
    /// Why it is refused, or that it is not; none as long as nothing is decided.
    verdict: Option<Result<(), Box<Status>>>,
}

/// The requests of a namespace that are charged together, and those that come next.
#[derive(Debug, Default)]
struct Batch {
    namespace: Name,
    now: Vec<Waiter>,
    next: Vec<Waiter>,
    /// Quotas that are to be written, the one that is being written first.
    writes: VecDeque<Rc<ResourceQuota>>,
    /// Quotas that could not be written.
    failed: Vec<Name>,
    failure: Option<Box<Status>>,
    retries: u8,
}

/// What the server knows of quotas besides its cache.
#[derive(Debug, Default)]
pub struct Quotas {
    batches: BTreeMap<u64, Batch>,
    numbers: BTreeMap<Name, u64>,
    next_number: u64,
    written: BTreeMap<ObjectKey, Rc<ResourceQuota>>,
    armed: bool,
}

impl Quotas {
    /// The requests that wait.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.batches.values().flat_map(|batch| batch.now.iter().chain(&batch.next)).map(|waiter| &waiter.ready.task)
    }

    /// The quotas of a namespace, the newest versions that this server knows of.
    fn of(&mut self, namespace: &Name, cache: &WatchCache) -> Vec<Rc<ResourceQuota>> {
        let cached = cache.filed(namespace).filter_map(|object| object.get::<ResourceQuota>().cloned());
        let written = &mut self.written;
        let newest = |quota: Rc<ResourceQuota>| {
            if written.is_empty() {
                return quota;
            }
            let key = ObjectKey::new(Kind::ResourceQuota, namespace.clone(), quota.meta.name.clone());
            match written.get(&key) {
                Some(own) if own.meta.revision() > quota.meta.revision() => own.clone(),
                Some(_) => {
                    written.remove(&key);
                    quota
                }
                None => quota,
            }
        };
        cached.map(newest).collect()
    }

    fn remember(&mut self, quota: &Rc<ResourceQuota>) {
        if self.written.len() >= REMEMBERED {
            let oldest = self.written.iter().min_by_key(|(_, quota)| quota.meta.revision()).map(|(key, _)| key.clone());
            oldest.map(|key| self.written.remove(&key));
        }
        let key = ObjectKey::new(Kind::ResourceQuota, quota.meta.namespace.clone(), quota.meta.name.clone());
        self.written.insert(key, quota.clone());
    }
}

impl ApiServer {
    /// Charges a request that is ready to be stored to the quotas of its namespace; then it is stored.
    pub(super) fn charge(&mut self, ready: Ready, ctx: &mut dyn Context<ServerMessage>) {
        let kind = ready.object.kind();
        let namespace = &ready.object.meta().namespace;
        let extent = match ready.part {
            Some(Part::Main) => quota::Extent::Whole,
            Some(Part::Resize) => quota::Extent::Resize,
            _ => quota::Extent::Other,
        };
        let free = !quota::is_counted(kind)
            || self.caches[Kind::ResourceQuota as usize].filed(namespace).next().is_none()
            || !quota::charges(ready.replaces.as_ref().map(|(old, _)| old), &ready.object, extent);
        if free {
            return self.store(ready, ctx);
        }
        let (namespace, until) = (namespace.clone(), ctx.now() + PATIENCE);
        let waiter = Waiter { ready, until, verdict: None };
        if let Some(number) = self.quotas.numbers.get(&namespace)
            && let Some(batch) = self.quotas.batches.get_mut(number)
        {
            batch.next.push(waiter);
            return self.be_patient(until, ctx);
        }
        self.quotas.next_number += 1;
        let number = self.quotas.next_number;
        self.quotas.numbers.insert(namespace.clone(), number);
        self.quotas.batches.insert(number, Batch { namespace, now: vec![waiter], ..Batch::default() });
        self.charge_batch(number, ctx);
    }

    /// Decides about each request of a batch in turn, each with what those before it have used, then writes what was used.
    fn charge_batch(&mut self, number: u64, ctx: &mut dyn Context<ServerMessage>) {
        let now = self.config.epoch.timestamp(ctx.now());
        let Some(mut batch) = self.quotas.batches.remove(&number) else { return };
        let mut quotas = self.quotas.of(&batch.namespace, &self.caches[Kind::ResourceQuota as usize]);
        if !batch.failed.is_empty() {
            // Of the others it is known that they were written.
            quotas.retain(|quota| batch.failed.contains(&quota.meta.name));
            batch.failed.clear();
        }
        let before = quotas.clone();
        for waiter in batch.now.iter_mut().filter(|waiter| waiter.verdict.is_none()) {
            match check(&quotas, &waiter.ready, now) {
                Err(status) => waiter.verdict = Some(Err(status)),
                Ok(_) if waiter.ready.task.is_dry_run() => waiter.verdict = Some(Ok(())),
                Ok(used) if used.is_empty() => waiter.verdict = Some(Ok(())),
                Ok(used) => {
                    for (place, used) in used {
                        Rc::make_mut(&mut quotas[place]).used = Rc::new(used);
                    }
                }
            }
        }
        let changed = quotas.into_iter().zip(before).filter(|(after, before)| !Rc::ptr_eq(after, before));
        batch.writes = changed.map(|(after, _)| after).collect();
        let until = batch.now.iter().map(|waiter| waiter.until).min();
        let idle = batch.writes.is_empty();
        self.quotas.batches.insert(number, batch);
        if idle {
            return self.end_batch(number, ctx);
        }
        self.be_patient(until.unwrap_or(SimTime::MAX), ctx);
        self.write_quota(number, ctx);
    }

    fn write_quota(&mut self, number: u64, ctx: &mut dyn Context<ServerMessage>) {
        let Some(quota) = self.quotas.batches.get(&number).and_then(|batch| batch.writes.front()) else { return };
        let operation =
            Operation::Update { object: Object::ResourceQuota(quota.clone()), part: Part::Status, dry_run: false };
        self.begin_own(Reply::Quota(number), operation, ctx);
    }

    /// The status of a quota was written, or not.
    pub(super) fn quota_written(
        &mut self,
        number: u64,
        result: Result<Answer, Box<Status>>,
        ctx: &mut dyn Context<ServerMessage>,
    ) {
        let Some(batch) = self.quotas.batches.get_mut(&number) else { return };
        let Some(quota) = batch.writes.pop_front() else { return };
        let more = !batch.writes.is_empty();
        match result {
            Ok(Answer::Object(Object::ResourceQuota(written))) => self.quotas.remember(&written),
            Ok(_) => {}
            Err(status) => {
                batch.failed.push(quota.meta.name.clone());
                batch.failure = Some(status);
            }
        }
        if more { self.write_quota(number, ctx) } else { self.settle_batch(number, ctx) }
    }

    /// All writes of a batch are answered: what failed is tried again with newer quotas.
    fn settle_batch(&mut self, number: u64, ctx: &mut dyn Context<ServerMessage>) {
        let Some(batch) = self.quotas.batches.get_mut(&number) else { return };
        let failure = batch.failure.take();
        if let Some(failure) = failure {
            if batch.retries < RETRIES {
                batch.retries += 1;
                return self.charge_batch(number, ctx);
            }
            for waiter in batch.now.iter_mut().filter(|waiter| waiter.verdict.is_none()) {
                waiter.verdict = Some(Err(failure.clone()));
            }
        }
        self.end_batch(number, ctx);
    }

    /// Lets the requests of a batch go on or end, and begins with those that have come meanwhile.
    fn end_batch(&mut self, number: u64, ctx: &mut dyn Context<ServerMessage>) {
        let Some(batch) = self.quotas.batches.get_mut(&number) else { return };
        let done = std::mem::take(&mut batch.now);
        batch.now = std::mem::take(&mut batch.next);
        batch.failed.clear();
        batch.retries = 0;
        let goes_on = !batch.now.is_empty();
        if !goes_on && let Some(batch) = self.quotas.batches.remove(&number) {
            self.quotas.numbers.remove(&batch.namespace);
        }
        for waiter in done {
            ctx.set_cause(waiter.ready.task.cause);
            match waiter.verdict {
                None | Some(Ok(())) => self.store(waiter.ready, ctx),
                Some(Err(status)) => self.finish(waiter.ready.task, Err(status), ctx),
            }
        }
        if goes_on {
            self.charge_batch(number, ctx);
        }
    }

    fn be_patient(&mut self, until: SimTime, ctx: &mut dyn Context<ServerMessage>) {
        if !self.quotas.armed && until != SimTime::MAX {
            self.quotas.armed = true;
            ctx.set_timer(until, token::QUOTA);
        }
    }

    /// Refuses the requests that have waited too long.
    pub(super) fn quota_timer(&mut self, ctx: &mut dyn Context<ServerMessage>) {
        self.quotas.armed = false;
        let now = ctx.now();
        let mut late = Vec::new();
        for batch in self.quotas.batches.values_mut() {
            late.extend(batch.now.extract_if(.., |waiter| waiter.until <= now));
            late.extend(batch.next.extract_if(.., |waiter| waiter.until <= now));
        }
        for waiter in late {
            let status = Status::internal("resource quota evaluation timed out");
            self.finish(waiter.ready.task, Err(Box::new(status)), ctx);
        }
        let waiting = self.quotas.batches.values().flat_map(|batch| batch.now.iter().chain(&batch.next));
        if let Some(next) = waiting.map(|waiter| waiter.until).min() {
            self.be_patient(next, ctx);
        }
    }
}

/// What the quotas' usage becomes with a request, by their places in the list; or why the request is refused (`CheckRequest`).
fn check(quotas: &[Rc<ResourceQuota>], ready: &Ready, now: Timestamp) -> Result<Vec<(usize, Amounts)>, Box<Status>> {
    let object = &ready.object;
    let kind = object.kind();
    let forbidden = |why: String| Box::new(Status::forbidden(kind, &object.meta().name, why));
    let concerned = |quota: &ResourceQuota, object: &Object| quota.tracks(kind) && quota::matches_scopes(quota, object);
    let mut interesting = Vec::new();
    for (place, quota) in quotas.iter().enumerate().filter(|(_, quota)| concerned(quota, object)) {
        let name = &quota.meta.name;
        if let Object::Pod(pod) = object
            && let Some(missing) = quota::missing_requests(pod, |resource| quota.hard.get(resource).is_some())
        {
            return Err(forbidden(format!("failed quota: {name}: {missing}")));
        }
        let tracked: Vec<&str> =
            quota.hard.names().map(Name::as_str).filter(|resource| quota::is_tracked_by(kind, resource)).collect();
        if tracked.iter().any(|resource| quota.used.get(resource).is_none()) {
            return Err(forbidden(format!("status unknown for quota: {name}, resources: {}", tracked.join(","))));
        }
        interesting.push(place);
    }
    if interesting.is_empty() {
        return Ok(Vec::new());
    }
    let usage = quota::usage(object, now);
    let negative = usage.negative();
    if !negative.is_empty() {
        return Err(forbidden(format!("quota usage is negative for resource(s): {}", negative.join(","))));
    }
    let old = ready.replaces.as_ref().map(|(old, _)| (old, quota::usage(old, now)));
    let mut charged = Vec::new();
    for place in interesting {
        let quota = &quotas[place];
        let delta = match &old {
            Some((old, before)) if concerned(quota, old) => usage.above(before),
            _ => usage.clone(),
        };
        let requested = delta.without_zeros().mask(|name| quota.hard.get(name).is_some());
        if requested.is_empty() {
            continue;
        }
        let mut used = (*quota.used).clone();
        used.add(&requested);
        let exceeded = used.mask(|name| requested.get(name).is_some()).exceeding(&quota.hard);
        if ready.part != Some(Part::Status) && !exceeded.is_empty() {
            let only = |amounts: &Amounts| amounts.mask(|name| exceeded.contains(name));
            return Err(forbidden(format!(
                "exceeded quota: {}, requested: {}, used: {}, limited: {}",
                quota.meta.name,
                only(&requested),
                only(&quota.used),
                only(&quota.hard)
            )));
        }
        charged.push((place, used));
    }
    Ok(charged)
}

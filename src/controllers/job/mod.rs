//! The Job controller: runs pods until enough of them have succeeded, and counts each of them exactly once
//! (kube-controller-manager, pkg/controller/job).
//!
//! A pod keeps a finalizer until its end is in the Job's status: first its uid is written there, then the finalizer goes, then
//! the counter rises. So a crash between two of these writes loses and repeats nothing. Pods that have been counted are never
//! looked at again, however many there are.
//!
//! - here: what wakes a Job, and the controller's shape
//! - `members`: the Job's pods, and what was found out about each
//! - `sync`: one look at a Job, in the order of the original
//! - `pods`: creates and deletes pods
//! - `tracking`: counts pods that have ended, and ends the Job
//! - `orphans`: pods that no Job will count any more
//! - `policy`: what a failure means, which successes are enough
//! - `indexes`: sets of completion indexes
//! - `back_off`: how long to wait after failures
//! - `memory`: what is kept between two looks
//!
//! Not simulated: workloads and pod groups made for Jobs (off by default).

mod back_off;
pub mod indexes;
mod members;
mod memory;
mod orphans;
mod pods;
mod policy;
mod sync;
#[cfg(test)]
mod tests;
mod tracking;

use std::cell::RefCell;
use std::rc::Rc;

use crate::api::batch::{JOB_NAME, Job};
use crate::api::kind::Kind;
use crate::api::meta::{Meta, ObjectKey};
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::client::controller::{Change, Controller};
use crate::client::plan::{Again, Plan};
use crate::client::view::{Now, View};
use crate::client::work_queue::RetryDelays;
use crate::engine::time::SimDuration;

use super::census::Census;
use super::config::Config;
use super::owner;
use super::script;
use members::Facts;
use memory::Memory;
use sync::Snapshot;

/// Pods and statuses change often; a Job is looked at again at most once in this time because of them (`SyncJobBatchPeriod`).
const BATCH: SimDuration = SimDuration::from_secs(1);

/// The Job controller. Its keys are Jobs, and pods whose finalizer nobody else will take away: single ones, and all of a Job.
pub struct JobController {
    workers: usize,
    resync: Option<SimDuration>,
    memory: Rc<RefCell<Memory>>,
    census: RefCell<Census<Facts>>,
}

impl JobController {
    /// The controller with a configuration.
    pub fn new(config: &Config) -> Self {
        let (workers, resync) = (config.concurrent_job_syncs, config.resync);
        JobController { workers, resync, memory: Rc::default(), census: RefCell::default() }
    }

    fn look(&self, view: &View<'_>, key: &ObjectKey, now: Now, satisfied: bool) -> Plan {
        if key.kind == Kind::Pod {
            return orphans::plan(view, key, now);
        }
        if !self.memory.borrow().is_up_to_date(key) {
            return Plan { again: Again::BackOff("the cache lags behind".to_owned()), ..Plan::default() };
        }
        let Some(job) = view.get::<Job>(&key.namespace, &key.name) else {
            self.memory.borrow_mut().forget(key);
            return Plan::nothing();
        };
        if job.spec.external_controller().is_some() {
            return Plan::nothing();
        }
        if job.status.finished().is_some() {
            self.memory.borrow_mut().forget_ended(key);
            return Plan::nothing();
        }
        if self.memory.borrow().is_finished(key, job.meta.uid) {
            return Plan::nothing();
        }
        let snapshot = self.snapshot(view, job, key, satisfied);
        script::run(view, now, move |script| sync::sync(script, &snapshot))
    }

    fn snapshot(&self, view: &View<'_>, job: &Rc<Job>, key: &ObjectKey, satisfied: bool) -> Snapshot {
        let memory = self.memory.borrow();
        Snapshot {
            job: job.clone(),
            key: key.clone(),
            pods: members::look(&mut self.census.borrow_mut(), view, job),
            satisfied,
            untracked: memory.untracked(key),
            back_off: memory.back_off(key),
            memory: Rc::clone(&self.memory),
        }
    }

    /// A pod came, changed, or is on its way out.
    fn pod_changed(
        &self,
        change: Change<'_>,
        pod: &Pod,
        view: &View<'_>,
        enqueue: &mut dyn FnMut(ObjectKey, SimDuration),
    ) {
        let old = match change {
            Change::Updated { old, new } if old.meta().revision() == new.meta().revision() => return, // A resync.
            Change::Updated { old, .. } => Some(old.meta()),
            Change::Added(_) => None,
            Change::Deleted(_) => return self.pod_ends(pod, view, true, enqueue),
        };
        if pod.meta.is_deleting() {
            return self.pod_ends(pod, view, false, enqueue);
        }
        let owner = pod.meta.controller();
        let before = old.and_then(Meta::controller);
        let moved = old.is_some() && before != owner;
        let mut wake = |job: &Job| {
            let key = owner::key_of(job);
            if old.is_some() && !pod.is_tracked() {
                self.memory.borrow_mut().saw_untracked(&key, pod.meta.uid);
            }
            enqueue(key, BATCH);
        };
        if let Some(job) = before.filter(|_| moved).and_then(|it| owner::resolve::<Job>(view, &pod.meta.namespace, it))
        {
            wake(job);
        }
        if let Some(owner) = owner {
            if let Some(job) = owner::resolve::<Job>(view, &pod.meta.namespace, owner) {
                wake(job);
            }
            return;
        }
        if pod.is_tracked() {
            enqueue(owner::key_of(pod), SimDuration::ZERO);
        }
        if old.is_none_or(|old| moved || old.labels != pod.meta.labels) {
            self.selecting(pod, view).for_each(|job| enqueue(owner::key_of(&**job), BATCH));
        }
    }

    /// A pod is being deleted, or is gone for good.
    fn pod_ends(&self, pod: &Pod, view: &View<'_>, gone: bool, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        let owner = pod.meta.controller();
        let job = owner.and_then(|owner| owner::resolve::<Job>(view, &pod.meta.namespace, owner));
        let Some(job) = job.filter(|job| job.status.finished().is_none()) else {
            // Nobody will take this finalizer away.
            if pod.is_tracked() && owner.is_none_or(|owner| owner.kind == "Job") {
                enqueue(owner::key_of(pod), SimDuration::ZERO);
            }
            return;
        };
        let key = owner::key_of(&**job);
        if gone || !pod.is_tracked() {
            self.memory.borrow_mut().saw_untracked(&key, pod.meta.uid);
        }
        enqueue(key, BATCH);
    }

    /// The Jobs that select an orphan: the one that its label names, and any that brings a selector of its own.
    fn selecting<'a>(&self, pod: &Pod, view: &View<'a>) -> impl Iterator<Item = &'a Rc<Job>> + use<'a> {
        let namespace = &pod.meta.namespace;
        let named = pod.meta.labels.get(JOB_NAME).and_then(|name| view.get::<Job>(namespace, name));
        let mut jobs: Vec<&'a Rc<Job>> = named.into_iter().collect();
        let memory = self.memory.borrow();
        jobs.extend(memory.selecting(namespace).filter_map(|key| view.get::<Job>(&key.namespace, &key.name)));
        jobs.dedup_by_key(|job| job.meta.uid);
        jobs.retain(|job| !job.spec.selector.is_everything() && job.spec.selector.matches(&pod.meta.labels));
        jobs.into_iter()
    }

    fn job_changed(
        &self,
        change: Change<'_>,
        job: &Job,
        view: &View<'_>,
        enqueue: &mut dyn FnMut(ObjectKey, SimDuration),
    ) {
        let key = owner::key_of(job);
        let orphan_pods = |enqueue: &mut dyn FnMut(ObjectKey, SimDuration)| {
            if view.unsettled_pods(job.meta.uid).any(|pod| pod.is_tracked()) {
                enqueue(orphans::all_of(job), SimDuration::ZERO);
            }
        };
        match change {
            Change::Added(_) => enqueue(key, SimDuration::ZERO),
            Change::Updated { .. } if job.status.finished().is_some() => {
                self.census.borrow_mut().forget(job.meta.uid);
                orphan_pods(enqueue);
            }
            Change::Updated { old, .. } => {
                let delay = if old.meta().generation == job.meta.generation { BATCH } else { SimDuration::ZERO };
                enqueue(key, delay);
            }
            Change::Deleted(_) => {
                self.memory.borrow_mut().forget(&key);
                self.census.borrow_mut().forget(job.meta.uid);
                enqueue(key, SimDuration::ZERO);
                orphan_pods(enqueue);
            }
        }
    }
}

impl Controller for JobController {
    fn name(&self) -> &'static str {
        "job-controller"
    }

    fn workers(&self) -> usize {
        self.workers
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::Job, Kind::Pod]
    }

    /// Pods that no Job will count any more have a queue and workers of their own (`orphanQueue`): the many of one Job that was
    /// deleted do not keep others waiting.
    fn is_apart(&self, key: &ObjectKey) -> bool {
        key.kind == Kind::Pod
    }

    fn on_change(&self, change: Change<'_>, view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        let object = change.object();
        self.memory.borrow_mut().see(object);
        match object {
            Object::Job(job) => self.job_changed(change, job, view, enqueue),
            Object::Pod(pod) => self.pod_changed(change, pod, view, enqueue),
            _ => {}
        }
    }

    fn resync(&self) -> Option<SimDuration> {
        self.resync
    }

    /// One second, doubling to a minute, for each key by itself (`DefaultJobApiBackOff`, `MaxJobApiBackOff`).
    fn retry_delays(&self) -> RetryDelays {
        RetryDelays { first: SimDuration::from_secs(1), last: SimDuration::from_secs(60), overall: false }
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        self.look(view, key, now, true)
    }

    fn reconcile_expecting(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        self.look(view, key, now, false)
    }
}

//! The CronJob controller: creates Jobs when it is time (kube-controller-manager, pkg/controller/cronjob, version 2).
//!
//! - here: what wakes a CronJob, and the controller's shape
//! - `sync`: one look at a CronJob, in the order of the original
//! - `schedule`: which of its times was missed, and when it comes next

mod schedule;
mod sync;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::api::batch::{CronJob, Job};
use crate::api::event::EventType;
use crate::api::kind::Kind;
use crate::api::meta::{Meta, ObjectKey};
use crate::api::name::Name;
use crate::api::object::Object;
use crate::client::controller::{Change, Controller};
use crate::client::plan::{EventNote, Plan, Step};
use crate::client::view::{Now, View};
use crate::engine::time::SimDuration;

use super::config::Config;
use super::owner;
use super::script;
use sync::Snapshot;

/// Two writes of the Job controller in a row, that its Job will end and that it has, are several milliseconds apart. The
/// CronJob controller, whose workers mostly wait, always sees the first one by itself: with `Forbid` it then says once more that
/// a Job is active (recording of 1.36, `JobAlreadyActive`).
const REACTION: SimDuration = SimDuration::from_millis(1);

/// The CronJob controller.
pub struct CronJobController {
    workers: usize,
    resync: Option<SimDuration>,
    /// CronJobs whose schedule has changed and nothing else since: they are looked at when it comes next.
    rescheduled: RefCell<BTreeSet<ObjectKey>>,
    written: Rc<RefCell<Written>>,
}

/// The versions that the controller itself has written last. A Job that it creates wakes its CronJob while that is still
/// being worked on; by the time that the original's worker has come round again, its informer has shown the new status.
type Written = BTreeMap<ObjectKey, u64>;

impl CronJobController {
    /// The controller with a configuration.
    pub fn new(config: &Config) -> Self {
        CronJobController {
            workers: config.concurrent_cron_job_syncs,
            resync: config.resync,
            rescheduled: RefCell::default(),
            written: Rc::default(),
        }
    }

    /// Sets the alarm for the new schedule; the look itself is when it rings (`updateCronJob`).
    fn reschedule(&self, cron_job: &CronJob, now: Now) -> Plan {
        match schedule::parse(cron_job) {
            Ok(schedule) => Plan::nothing().again_after(schedule::next_look(cron_job, now, &schedule)),
            Err(_) => Plan::nothing().step(Step::Record(EventNote {
                regarding: owner::reference(cron_job),
                kind: EventType::Warning,
                reason: Name::of("UnParseableCronJobSchedule"),
                message: format!("unparseable schedule for cronjob: {}", cron_job.spec.full.schedule),
            })),
        }
    }
}

impl Controller for CronJobController {
    fn name(&self) -> &'static str {
        "cronjob-controller"
    }

    fn workers(&self) -> usize {
        self.workers
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::CronJob, Kind::Job]
    }

    fn on_change(&self, change: Change<'_>, view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        let mut enqueue = |key: ObjectKey| enqueue(key, SimDuration::ZERO);
        match (change, change.object()) {
            (Change::Updated { old: Object::CronJob(old), .. }, Object::CronJob(new)) => {
                let (key, mut rescheduled) = (owner::key_of(&**new), self.rescheduled.borrow_mut());
                if schedule::is_same(old, new) {
                    rescheduled.remove(&key);
                } else {
                    rescheduled.insert(key.clone());
                }
                enqueue(key);
            }
            (_, Object::CronJob(cron_job)) => {
                let key = owner::key_of(&**cron_job);
                self.rescheduled.borrow_mut().remove(&key);
                enqueue(key);
            }
            (Change::Updated { old, new }, Object::Job(_)) if old.meta().revision() == new.meta().revision() => {}
            (_, Object::Job(job)) => {
                let old = if let Change::Updated { old, .. } = change { Some(old.meta()) } else { None };
                job_changed(old, job, view, &mut enqueue);
            }
            _ => {}
        }
    }

    fn resync(&self) -> Option<SimDuration> {
        self.resync
    }

    fn reaction(&self) -> Option<SimDuration> {
        Some(REACTION)
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        let rescheduled = self.rescheduled.borrow_mut().remove(key);
        let Some(cron_job) = view.get::<CronJob>(&key.namespace, &key.name) else {
            self.written.borrow_mut().remove(key);
            return Plan::nothing();
        };
        if self.written.borrow().get(key).is_some_and(|written| cron_job.meta.revision() < *written) {
            return Plan::nothing(); // The new version wakes it again.
        }
        if rescheduled {
            return self.reschedule(cron_job, now);
        }
        let uid = cron_job.meta.uid;
        let is_own = |job: &&Rc<Job>| job.meta.controller().is_some_and(|owner| owner.uid == uid);
        let jobs = view.owned_by::<Job>(uid).filter(is_own).cloned().collect();
        let snapshot = Snapshot { cron_job: cron_job.clone(), jobs, written: Rc::clone(&self.written) };
        script::run(view, now, move |script| sync::sync(script, &snapshot))
    }
}

/// Wakes the CronJob that a Job belongs to, and the one that it belonged to.
fn job_changed(old: Option<&Meta>, job: &Job, view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey)) {
    let owner = job.meta.controller();
    let before = old.and_then(Meta::controller).filter(|before| Some(*before) != owner);
    for owner in before.into_iter().chain(owner) {
        if let Some(cron_job) = owner::resolve::<CronJob>(view, &job.meta.namespace, owner) {
            enqueue(owner::key_of(&**cron_job));
        }
    }
}

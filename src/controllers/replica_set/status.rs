//! A ReplicaSet's status: counts of its pods, and when the next one may count as available.

use std::rc::Rc;

use crate::api::meta::{Labels, Timestamp};
use crate::api::name::Name;
use crate::api::pod::{ConditionStatus, Pod, PodConditionType};
use crate::api::workload::{ReplicaSetStatus, Replicated, WorkloadCondition};
use crate::apiserver::protocol::{Answer, Operation, Part};
use crate::client::plan::{Again, Plan};
use crate::client::view::{Now, PodCounts, View};
use crate::engine::time::SimDuration;

use super::super::script::{self, Halt, Script};
use super::super::{owner, time};

const REPLICA_FAILURE: Name = Name::of("ReplicaFailure");

/// Counts pods in one pass, at one time.
#[derive(Clone)]
pub(super) struct Tally {
    template_labels: Labels,
    min_ready_seconds: i32,
    now: Now,
    today: Timestamp,
    /// Pods that count.
    pub active: i32,
    labelled: i32,
    ready: i32,
    available: i32,
    /// Pods that are being deleted and have not ended.
    pub terminating: i32,
    /// The earliest date at which a ready pod becomes available.
    next_available: Option<Timestamp>,
}

impl Tally {
    /// Nothing counted yet.
    pub fn new<R: Replicated>(set: &R, now: Now) -> Self {
        Tally {
            template_labels: set.template().labels.clone(),
            min_ready_seconds: set.min_ready_seconds(),
            now,
            today: now.timestamp(),
            active: 0,
            labelled: 0,
            ready: 0,
            available: 0,
            terminating: 0,
            next_available: None,
        }
    }

    /// Counts a pod of the ReplicaSet.
    pub fn add(&mut self, pod: &Pod) {
        if pod.is_terminal() {
            return;
        }
        if pod.meta.is_deleting() {
            self.terminating += 1;
            return;
        }
        self.active += 1;
        if self.is_worn(&pod.meta.labels) {
            self.labelled += 1;
        }
        let Some(ready) = pod.status.condition(&PodConditionType::Ready) else {
            return;
        };
        if ready.status != ConditionStatus::True {
            return;
        }
        self.ready += 1;
        if pod.is_available(self.min_ready_seconds, self.today) {
            self.available += 1;
        } else {
            let date = Timestamp(ready.last_transition.0.saturating_add(self.min_ready_seconds.into()));
            self.next_available = Some(self.next_available.map_or(date, |earliest| earliest.min(date)));
        }
    }

    /// Counts the pods of a ReplicaSet that wear the same labels. Not for one with `min_ready_seconds`.
    pub fn add_counted(&mut self, pods: &PodCounts) {
        debug_assert!(self.min_ready_seconds == 0, "since when each pod is ready matters");
        self.terminating += pods.terminating as i32;
        self.active += pods.active as i32;
        self.ready += pods.ready as i32;
        self.available += pods.ready as i32;
        if self.is_worn(&pods.labels) {
            self.labelled += pods.active as i32;
        }
    }

    /// The same counts at another time. Not for a ReplicaSet with `min_ready_seconds`.
    pub fn at(&self, now: Now) -> Tally {
        debug_assert!(self.min_ready_seconds == 0, "more pods may be available by then");
        Tally { now, today: now.timestamp(), ..self.clone() }
    }

    /// True if these labels have all that the template says.
    fn is_worn(&self, labels: &Labels) -> bool {
        let wears = |(key, value): &(Name, Name)| labels.get(key) == Some(value);
        labels.same(&self.template_labels) || self.template_labels.pairs().iter().all(wears)
    }

    /// The status that follows (kube-controller-manager, `calculateStatus`).
    fn status<R: Replicated>(&self, set: &R, failure: Option<&str>) -> ReplicaSetStatus {
        let mut conditions = set.status().conditions.clone();
        let failed = conditions.iter().any(|condition| condition.kind == REPLICA_FAILURE);
        match failure {
            Some(message) if !failed => conditions.push(WorkloadCondition {
                kind: REPLICA_FAILURE,
                status: ConditionStatus::True,
                reason: Name::of(if self.active < set.replicas() { "FailedCreate" } else { "FailedDelete" }),
                message: Name::new(message),
                last_update: Timestamp::default(),
                last_transition: self.today,
            }),
            None if failed => conditions.retain(|condition| condition.kind != REPLICA_FAILURE),
            _ => {}
        }
        ReplicaSetStatus {
            replicas: self.active,
            fully_labeled_replicas: self.labelled,
            ready_replicas: self.ready,
            available_replicas: self.available,
            terminating_replicas: R::COUNTS_TERMINATING.then_some(self.terminating),
            observed_generation: set.meta().generation,
            conditions,
        }
    }

    /// When to look again so that a pod counts as available the moment it is (`FindMinNextPodAvailabilityCheck`).
    fn again(&self, now: Now) -> Again {
        if self.min_ready_seconds <= 0 || self.ready == self.available {
            return Again::OnChange;
        }
        match self.next_available {
            Some(date) => Again::After(time::until(now, date, 0).left()),
            None => Again::After(SimDuration::from_secs(self.min_ready_seconds as u64)),
        }
    }
}

/// Writes the status if it changed, where there is nothing else to do.
pub(super) fn plan<R: Replicated>(view: &View<'_>, set: &Rc<R>, tally: Tally, now: Now) -> Plan {
    if tally.status(&**set, None) == *set.status() {
        return Plan { again: tally.again(now), ..Plan::default() };
    }
    let set = set.clone();
    script::run(view, now, move |script| write(script, &*set, &tally, None))
}

/// Writes the status if it changed. If that fails, tries once more on a fresh copy (`updateReplicaSetStatus`).
/// A failure to create or delete pods is then that of the sync.
pub(super) fn write<R: Replicated>(
    script: &mut Script<'_>,
    set: &R,
    tally: &Tally,
    failure: Option<String>,
) -> Result<Again, Halt> {
    debug_assert!(tally.now.epoch == script.now().epoch);
    let status = tally.status(set, failure.as_deref());
    if status != *set.status() {
        let first = script.ask(update(set.clone(), &status))?;
        if first.is_err() {
            let fresh = match script.ask(Operation::Get { key: owner::key_of(set) })? {
                Ok(Answer::Object(object)) => R::of(&object).map(|fresh| (**fresh).clone()),
                Ok(_) => None,
                Err(status) => return Err(Halt::Failed(status.message)),
            };
            script.write(update(fresh.unwrap_or_else(|| set.clone()), &status))?;
        }
    }
    match failure {
        Some(message) => Err(Halt::Failed(message)),
        None => Ok(tally.again(script.now())),
    }
}

fn update<R: Replicated>(mut set: R, status: &ReplicaSetStatus) -> Operation {
    set.status_mut().clone_from(status);
    Operation::Update { object: set.boxed(), part: Part::Status, dry_run: false }
}

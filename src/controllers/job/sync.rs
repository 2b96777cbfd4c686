//! One look at a Job, in the order of the original (`syncJob`).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::api::batch::{Job, JobCondition, JobSpec, JobStatus, Uncounted};
use crate::api::event::{EventType, ObjectReference};
use crate::api::meta::{ObjectKey, Timestamp, Uid};
use crate::api::name::Name;
use crate::api::pod::{ConditionStatus, Pod, PodPhase, RestartPolicy};
use crate::client::plan::{Again, Step};
use crate::client::view::Now;
use crate::engine::time::SimDuration;

use super::super::census::Found;
use super::super::owner;
use super::super::script::{Halt, Script};
use super::super::time;
use super::back_off::BackOff;
use super::indexes::Indexes;
use super::members::{self, Facts, Member};
use super::memory::Memory;
use super::policy::{self, Verdict};
use super::{pods, tracking};

pub(super) const SUCCESS_CRITERIA_MET: Name = Name::of("SuccessCriteriaMet");
pub(super) const FAILURE_TARGET: Name = Name::of("FailureTarget");
pub(super) const COMPLETE: Name = Name::of("Complete");
pub(super) const FAILED: Name = Name::of("Failed");
const SUSPENDED: Name = Name::of("Suspended");

/// What a sync begins with: taken from cache and memory once.
pub(super) struct Snapshot {
    pub job: Rc<Job>,
    pub key: ObjectKey,
    /// The Job's pods that are not both ended and counted, and orphans that could be its own.
    pub pods: Found<Facts>,
    /// False while creations or deletions of the last sync are still expected.
    pub satisfied: bool,
    /// Pods whose finalizer was taken away already.
    pub untracked: BTreeSet<Uid>,
    pub back_off: BackOff,
    pub memory: Rc<RefCell<Memory>>,
}

/// A Job on its way to another status.
pub(super) struct Progress<'a> {
    pub from: &'a Snapshot,
    pub spec: &'a JobSpec,
    /// What events refer to.
    pub about: ObjectReference,
    pub status: JobStatus,
    pub pods: Rc<Vec<Member>>,
    /// How many have neither ended nor are being deleted.
    pub active: i32,
    pub ready: i32,
    pub terminating: i32,
    /// All successes, those not yet in the counters too.
    pub succeeded: i32,
    pub failed: i32,
    /// Pods whose uids were in the status when the sync began.
    pub known_succeeded: BTreeSet<Uid>,
    pub known_failed: BTreeSet<Uid>,
    pub back_off: BackOff,
    /// The condition with which the Job is to end.
    pub ending: Option<JobCondition>,
    pub previous_indexes: Indexes,
    pub succeeded_indexes: Indexes,
    pub failed_indexes: Option<Indexes>,
    /// Failed pods, by index, that stay until their replacements have taken over how often they failed.
    pub kept: BTreeMap<u32, Rc<Pod>>,
}

/// Looks at a Job and brings it forward.
pub(super) fn sync(script: &mut Script<'_>, from: &Snapshot) -> Result<Again, Halt> {
    let pods = members::claim(script, &from.job, &from.pods)?;
    let mut progress = Progress::begin(from, pods, script.now());
    if let Some(deadline) = progress.judge(script.now()) {
        script.push(Step::LookAgain(deadline));
    }
    let mut failure = None;
    let mut needs_flush = false;
    if progress.ending.is_some() {
        failure = pods::delete_active(script, &mut progress)?;
    } else {
        let manages = from.satisfied && !from.job.meta.is_deleting();
        if manages {
            failure = pods::manage(script, &mut progress)?;
        }
        if progress.is_complete() {
            let message = "Reached expected number of succeeded pods";
            progress.end(&SUCCESS_CRITERIA_MET, "CompletionsReached", message, script.now());
        } else if manages {
            needs_flush = suspend_or_resume(script, &mut progress);
        }
    }
    let counts = (progress.active, Some(progress.ready), Some(progress.terminating));
    let status = &mut progress.status;
    needs_flush |= counts != (status.active, status.ready, status.terminating);
    (status.active, status.ready, status.terminating) = counts;
    tracking::track(script, &mut progress, needs_flush)?;
    failure.map_or(Ok(Again::OnChange), |message| Err(Halt::Failed(message)))
}

/// The condition of a type that holds from now on.
pub(super) fn condition(kind: &Name, reason: Name, message: Name, now: Timestamp) -> JobCondition {
    let status = ConditionStatus::True;
    JobCondition { kind: kind.clone(), status, reason, message, last_probe: now, last_transition: now }
}

impl<'a> Progress<'a> {
    /// Counts what there is.
    fn begin(from: &'a Snapshot, pods: Rc<Vec<Member>>, now: Now) -> Self {
        let job = &*from.job;
        let mut status = job.status.clone();
        let uncounted: &Uncounted = status.uncounted.get_or_insert_default();
        let known_succeeded: BTreeSet<Uid> = uncounted.succeeded.iter().copied().collect();
        let known_failed: BTreeSet<Uid> = uncounted.failed.iter().copied().collect();
        let count = |test: &dyn Fn(&Facts) -> bool| pods.iter().filter(|pod| test(&pod.facts)).count() as i32;
        let mut progress = Progress {
            from,
            spec: &job.spec,
            about: owner::reference(job),
            active: count(&Facts::is_active),
            ready: count(&|facts| facts.is_active() && facts.is_ready),
            terminating: count(&Facts::is_terminating),
            status,
            pods,
            succeeded: 0,
            failed: 0,
            known_succeeded,
            known_failed,
            back_off: from.back_off,
            ending: None,
            previous_indexes: Indexes::default(),
            succeeded_indexes: Indexes::default(),
            failed_indexes: None,
            kept: BTreeMap::new(),
        };
        progress.count_ended();
        if progress.status.start_time.is_none() && !progress.spec.is_suspended() {
            progress.status.start_time = Some(now.timestamp());
        }
        progress
    }

    /// Counts the pods that have ended since the last status (`getNewFinishedPods`).
    fn count_ended(&mut self) {
        let new = |known: &BTreeSet<Uid>, test: &dyn Fn(&Facts) -> bool| -> Vec<Rc<Pod>> {
            let is_new = |facts: &Facts| test(facts) && self.counts(facts) && !known.contains(&facts.uid);
            self.pods.iter().filter(|pod| is_new(&pod.facts)).map(|pod| pod.pod.clone()).collect()
        };
        let succeeded = new(&self.known_succeeded, &|facts| facts.phase == PodPhase::Succeeded);
        let failed = new(&self.known_failed, &|facts| facts.is_failed(self.spec));
        let counted = failed.iter().filter(|pod| policy::judge(pod, self.spec) != Verdict::Ignore).count();
        self.succeeded = self.status.succeeded + (succeeded.len() + self.known_succeeded.len()) as i32;
        self.failed = self.status.failed + (counted + self.known_failed.len()) as i32;
        self.back_off = self.from.back_off.after(&succeeded, &failed);
    }

    /// The pods that have neither ended nor are being deleted.
    pub fn active_pods(&self) -> impl Iterator<Item = &Member> {
        self.pods.iter().filter(|pod| pod.facts.is_active())
    }

    /// True if the pod is one whose end matters: not counted yet and, in an Indexed Job, with an index that there is.
    pub fn counts(&self, pod: &Facts) -> bool {
        self.is_tracked(pod) && (!self.spec.is_indexed() || self.index_of(pod).is_some())
    }

    /// True if the pod has its finalizer and it was not taken away already.
    pub fn is_tracked(&self, pod: &Facts) -> bool {
        pod.is_tracked && !self.from.untracked.contains(&pod.uid)
    }

    /// How many indexes an Indexed Job has.
    pub fn completions(&self) -> u32 {
        self.spec.completions().and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
    }

    /// The pod's index, if it is one of the Job's.
    pub fn index_of(&self, pod: &Facts) -> Option<u32> {
        pod.index.filter(|index| *index < self.completions())
    }

    /// Limits of failures hold for each index by itself.
    pub fn limit_per_index(&self) -> Option<i32> {
        self.spec.full.backoff_limit_per_index
    }

    /// The Job is to end with this condition.
    pub fn end(&mut self, kind: &Name, reason: &'static str, message: &str, now: Now) {
        self.ending = Some(condition(kind, Name::of(reason), Name::new(message), now.timestamp()));
    }

    /// Decides whether and how the Job is to end. What an earlier sync decided stays so. Returns how long it is until the
    /// deadline, if there is one that does not end the Job now.
    fn judge(&mut self, now: Now) -> Option<SimDuration> {
        if self.status.is_true(&SUCCESS_CRITERIA_MET) {
            self.ending = self.status.condition(&SUCCESS_CRITERIA_MET).cloned();
        } else if let Some(target) =
            self.status.condition(&FAILURE_TARGET).filter(|it| it.status == ConditionStatus::True)
        {
            self.ending = Some(condition(&FAILED, target.reason.clone(), target.message.clone(), now.timestamp()));
        } else if let Some(message) = self.fatal_failure() {
            self.end(&FAILURE_TARGET, "PodFailurePolicy", &message, now);
        }
        let deadline = if self.ending.is_none() { self.judge_limits(now) } else { None };
        if self.spec.is_indexed() {
            self.judge_indexes(now);
        }
        deadline
    }

    /// The message of the first pod whose failure is that of the Job.
    fn fatal_failure(&self) -> Option<String> {
        self.spec.full.pod_failure_policy.as_ref()?;
        let failed = self.pods.iter().filter(|pod| pod.facts.is_failed(self.spec));
        failed.map(|pod| policy::judge(&pod.pod, self.spec)).find_map(|verdict| match verdict {
            Verdict::FailJob(message) => Some(message),
            _ => None,
        })
    }

    /// Too many failures, or too long; else how long it is until that.
    fn judge_limits(&mut self, now: Now) -> Option<SimDuration> {
        let deadline = self.spec.full.active_deadline_seconds.filter(|_| !self.spec.is_suspended());
        let left = deadline.zip(self.status.start_time).map(|(seconds, start)| time::until(now, start, seconds).left());
        if self.failed > self.spec.backoff_limit() || self.restarted_too_often() {
            self.end(&FAILURE_TARGET, "BackoffLimitExceeded", "Job has reached the specified backoff limit", now);
        } else if left == Some(SimDuration::ZERO) {
            self.end(&FAILURE_TARGET, "DeadlineExceeded", "Job was active longer than specified deadline", now);
        } else {
            return left;
        }
        None
    }

    /// Containers that are started again in their pods count as failures (`pastBackoffLimitOnFailure`).
    fn restarted_too_often(&self) -> bool {
        if self.spec.pod_spec.restart_policy != RestartPolicy::OnFailure {
            return false;
        }
        let alive = |facts: &&Facts| matches!(facts.phase, PodPhase::Running | PodPhase::Pending);
        let restarts: i64 = self.pods.iter().map(|pod| &pod.facts).filter(alive).map(|facts| facts.restarts).sum();
        let limit = i64::from(self.spec.backoff_limit());
        if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    /// Which indexes have succeeded and failed, and whether that ends the Job.
    fn judge_indexes(&mut self, now: Now) {
        let completions = self.completions();
        self.previous_indexes = Indexes::parse(&self.status.completed_indexes, completions);
        let succeeded = self.indexes(|pod| pod.facts.phase == PodPhase::Succeeded);
        self.succeeded_indexes = self.previous_indexes.union(&succeeded);
        self.succeeded = self.succeeded_indexes.total();
        if let Some(limit) = self.limit_per_index() {
            let before = Indexes::parse(self.status.failed_indexes.as_deref().unwrap_or_default(), completions);
            let failed = before.union(&self.indexes(|pod| self.has_failed_for_good(pod, limit)));
            let total = failed.total();
            let all = total + self.succeeded_indexes.total() >= self.spec.completions().unwrap_or(0);
            self.failed_indexes = Some(failed);
            if self.ending.is_none() {
                if self.spec.full.max_failed_indexes.is_some_and(|most| total > most) {
                    let message = "Job has exceeded the specified maximal number of failed indexes";
                    self.end(&FAILURE_TARGET, "MaxFailedIndexesExceeded", message, now);
                } else if total > 0 && all {
                    self.end(&FAILURE_TARGET, "FailedIndexes", "Job has failed indexes", now);
                }
            }
            self.kept = pods::kept(self);
        }
        if self.ending.is_none()
            && let Some(message) = policy::success(self.spec, &self.succeeded_indexes)
        {
            self.end(&SUCCESS_CRITERIA_MET, "SuccessPolicy", &message, now);
        }
    }

    /// The indexes of pods that still have their finalizer and pass a test.
    fn indexes(&self, test: impl Fn(&Member) -> bool) -> Indexes {
        let pods = self.pods.iter().filter(|pod| pod.facts.is_tracked && test(pod));
        Indexes::of_any(pods.filter_map(|pod| self.index_of(&pod.facts)))
    }

    /// True if a pod's index has failed with it (`isIndexFailed`).
    fn has_failed_for_good(&self, pod: &Member, limit: i32) -> bool {
        if !pod.facts.is_failed(self.spec) {
            return false;
        }
        match policy::judge(&pod.pod, self.spec) {
            Verdict::FailIndex => true,
            Verdict::Ignore => false,
            Verdict::Count | Verdict::FailJob(_) => pods::failures_before(&pod.pod) >= limit,
        }
    }

    /// True if there were successes enough and nothing runs any more.
    fn is_complete(&self) -> bool {
        let enough = match self.spec.completions() {
            None => self.succeeded > 0,
            Some(completions) => self.succeeded >= completions,
        };
        enough && self.active == 0
    }
}

/// Says that the Job is suspended, or that it is no longer; true if that is news.
fn suspend_or_resume(script: &mut Script<'_>, progress: &mut Progress<'_>) -> bool {
    let now = script.now().timestamp();
    let (status, reason, message, event) = if progress.spec.is_suspended() {
        (ConditionStatus::True, "JobSuspended", "Job suspended", "Suspended")
    } else {
        (ConditionStatus::False, "JobResumed", "Job resumed", "Resumed")
    };
    let suspended = JobCondition { status, ..condition(&SUSPENDED, Name::of(reason), Name::of(message), now) };
    if !set_condition(&mut progress.status.conditions, suspended) {
        return false;
    }
    script.record(&progress.about, EventType::Normal, event, message.to_owned());
    // The deadline counts from when the Job is resumed.
    progress.status.start_time = (status == ConditionStatus::False).then_some(now);
    true
}

/// Sets a condition, unless it is False and was never there; true if that changed something (`ensureJobConditionStatus`).
pub(super) fn set_condition(conditions: &mut Vec<JobCondition>, new: JobCondition) -> bool {
    match conditions.iter_mut().find(|it| it.kind == new.kind) {
        Some(old) => {
            let differs = old.status != new.status || old.reason != new.reason || old.message != new.message;
            if differs {
                *old = new;
            }
            differs
        }
        None if new.status == ConditionStatus::False => false,
        None => {
            conditions.push(new);
            true
        }
    }
}

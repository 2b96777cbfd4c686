//! Counts pods that have ended, each once, and ends the Job (`trackJobStatusAndRemoveFinalizers`).
//!
//! The uids of ended pods are written into the status, then their finalizers go, then they are in the counters; the last write
//! also says that the Job has ended, if it has. What was left undone by a failure is seen and finished by the next sync.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::api::batch::{Job, JobStatus};
use crate::api::event::EventType;
use crate::api::meta::{Meta, Uid};
use crate::api::name::Name;
use crate::api::object::{Object, Resource};
use crate::api::pod::{Pod, PodPhase};
use crate::apiserver::protocol::{Operation, Part};
use crate::apiserver::status::Reason;
use crate::client::plan::{Request, Step};

use super::super::census::Known;
use super::super::script::{Halt, Script};
use super::indexes::Indexes;
use super::members::{Facts, Member};
use super::orphans::untrack;
use super::pods::note_written;
use super::policy::{self, Verdict};
use super::sync::{COMPLETE, FAILED, FAILURE_TARGET, Progress, SUCCESS_CRITERIA_MET, condition, set_condition};

/// So many uids are in a status at most (`MaxUncountedPods`).
const MOST_UNCOUNTED: usize = 500;

/// What is still to be done about pods that have ended.
struct Count {
    /// The pods whose finalizer is to go.
    ended: Vec<Rc<Pod>>,
    /// Those in the lists of the status that have their finalizer.
    tracked: BTreeSet<Uid>,
    /// The status differs from what is stored.
    dirty: bool,
    /// There were more than the status can hold; they come next time.
    partial: bool,
}

/// Brings the status up to date and the pods to their end.
pub(super) fn track(script: &mut Script<'_>, progress: &mut Progress<'_>, dirty: bool) -> Result<(), Halt> {
    let mut count = Count { ended: Vec::new(), tracked: tracked(progress), dirty, partial: false };
    count.dirty |= settle_counters(&mut progress.status, &count.tracked);
    count_ended(progress, &mut count);
    prepare_end(script, progress, &mut count);
    let mut meta = progress.from.job.meta.clone();
    flush(script, progress, &mut count, &mut meta)?;
    let ends = !count.partial && end(script, progress);
    if count.dirty || ends {
        write(script, progress, &mut meta, "removing uncounted pods from status")?;
    }
    if ends {
        record_end(script, progress);
    }
    Ok(())
}

/// The pods in the lists of the status that have their finalizer.
fn tracked(progress: &Progress<'_>) -> BTreeSet<Uid> {
    let listed = progress.status.uncounted.iter().flat_map(|it| it.succeeded.iter().chain(&it.failed));
    let listed: BTreeSet<Uid> = listed.copied().collect();
    if listed.is_empty() {
        return listed;
    }
    let facts = progress.pods.iter().map(|pod| &pod.facts);
    facts.filter(|facts| listed.contains(&facts.uid) && progress.is_tracked(facts)).map(|facts| facts.uid).collect()
}

/// Moves the uids of pods without finalizer from the lists into the counters; true if there were any
/// (`cleanUncountedPodsWithoutFinalizers`).
fn settle_counters(status: &mut JobStatus, tracked: &BTreeSet<Uid>) -> bool {
    let Some(uncounted) = &mut status.uncounted else { return false };
    let settle = |uids: &mut Vec<Uid>, counter: &mut i32| {
        let before = uids.len();
        uids.retain(|uid| tracked.contains(uid));
        *counter += (before - uids.len()) as i32;
        before != uids.len()
    };
    let succeeded = settle(&mut uncounted.succeeded, &mut status.succeeded);
    settle(&mut uncounted.failed, &mut status.failed) | succeeded
}

/// Puts the pods that have ended into the lists of the status.
fn count_ended(progress: &mut Progress<'_>, count: &mut Count) {
    let mut new_indexes: Vec<u32> = Vec::new();
    let mut uncounted = progress.status.uncounted.take().unwrap_or_default();
    let may_go = |pod: &&Member| progress.is_tracked(&pod.facts) && may_go(progress, &pod.facts);
    let mut ended: Vec<&Member> = progress.pods.iter().filter(may_go).collect();
    if progress.spec.is_indexed() {
        ended.sort_by_key(|pod| pod.facts.index.map_or(-1, i64::from));
    }
    for Known { pod, facts, .. } in ended {
        count.ended.push(pod.clone());
        let uid = facts.uid;
        let index = progress.index_of(facts);
        if facts.phase == PodPhase::Succeeded && !progress.known_failed.contains(&uid) {
            if progress.spec.is_indexed() {
                // The index itself says that the pod was counted.
                if let Some(index) = index.filter(|index| !progress.previous_indexes.has(*index)) {
                    new_indexes.push(index);
                    count.dirty = true;
                }
            } else if !progress.known_succeeded.contains(&uid) {
                uncounted.succeeded.push(uid);
                count.tracked.insert(uid);
                count.dirty = true;
            }
        } else if (facts.is_failed(progress.spec) || fails(progress))
            && !progress.known_failed.contains(&uid)
            && (!progress.spec.is_indexed() || index.is_some())
            && policy::judge(pod, progress.spec) != Verdict::Ignore
        {
            uncounted.failed.push(uid);
            count.tracked.insert(uid);
            count.dirty = true;
        }
        if new_indexes.len() + uncounted.succeeded.len() + uncounted.failed.len() >= MOST_UNCOUNTED {
            count.partial = true;
            break;
        }
    }
    progress.status.uncounted = Some(uncounted);
    if progress.spec.is_indexed() {
        count.dirty |= write_indexes(progress, new_indexes);
    }
}

/// True if the Job is about to fail: then all its pods have.
fn fails(progress: &Progress<'_>) -> bool {
    progress.ending.as_ref().is_some_and(|ending| ending.kind != SUCCESS_CRITERIA_MET)
}

/// True if a pod's finalizer may go: its end is known, and nothing has to be learned from it any more (`canRemoveFinalizer`).
fn may_go(progress: &Progress<'_>, pod: &Facts) -> bool {
    if progress.from.job.meta.is_deleting() || progress.ending.is_some() || pod.phase == PodPhase::Succeeded {
        return true;
    }
    let is_kept = || {
        let kept = pod.index.and_then(|index| progress.kept.get(&index));
        kept.is_some_and(|kept| kept.meta.uid == pod.uid)
    };
    pod.is_failed(progress.spec) && !(progress.limit_per_index().is_some() && is_kept())
}

/// Writes which indexes have succeeded and failed; true if that is news.
fn write_indexes(progress: &mut Progress<'_>, mut new: Vec<u32>) -> bool {
    new.dedup();
    progress.succeeded_indexes = progress.succeeded_indexes.union(&Indexes::of(new));
    let status = &mut progress.status;
    let completed = Name::from(progress.succeeded_indexes.to_string());
    let failed = progress.failed_indexes.as_ref().map(|failed| Name::from(failed.to_string()));
    status.succeeded = progress.succeeded_indexes.total();
    let dirty = status.completed_indexes != completed || status.failed_indexes != failed;
    (status.completed_indexes, status.failed_indexes) = (completed, failed);
    dirty
}

/// Says in the status that the Job is about to end, before any finalizer goes, and prepares what will be said at last.
fn prepare_end(script: &Script<'_>, progress: &mut Progress<'_>, count: &mut Count) {
    let Some(ending) = progress.ending.clone() else { return };
    let last = match &ending.kind {
        kind if *kind == FAILURE_TARGET => FAILED,
        kind if *kind == SUCCESS_CRITERIA_MET => COMPLETE,
        _ => return,
    };
    if !progress.status.is_true(&ending.kind) {
        progress.status.conditions.push(ending.clone());
        count.dirty = true;
    }
    let now = script.now().timestamp();
    progress.ending = Some(condition(&last, ending.reason, ending.message, now));
}

/// Writes the status, takes the finalizers away, and moves the pods into the counters, which are written later
/// (`flushUncountedAndRemoveFinalizers`).
fn flush(script: &mut Script<'_>, progress: &mut Progress<'_>, count: &mut Count, meta: &mut Meta) -> Result<(), Halt> {
    let (memory, key) = (Rc::clone(&progress.from.memory), progress.from.key.clone());
    if count.dirty {
        write(script, progress, meta, "adding uncounted pods to status")?;
        let back_off = progress.back_off;
        script.once(|| {
            memory.borrow_mut().set_back_off(&key, back_off);
            true
        });
        count.dirty = false;
    }
    let mut failure = None;
    if !count.ended.is_empty() {
        let uids = || count.ended.iter().map(|pod| pod.meta.uid);
        script.once(|| {
            memory.borrow_mut().expect_untracked(&key, uids());
            true
        });
        let request = |pod: &Rc<Pod>| Request { tolerate: &[Reason::NotFound], ..Request::new(untrack(pod)) };
        let outcomes = script.step(|| Step::Parallel(count.ended.iter().map(request).collect()))?;
        note_written(script, progress, &outcomes);
        script.once(|| {
            let failed = uids().zip(&outcomes).filter(|(_, outcome)| outcome.is_err());
            failed.for_each(|(uid, _)| memory.borrow_mut().saw_untracked(&key, uid));
            true
        });
        for (pod, outcome) in count.ended.iter().zip(&outcomes) {
            match outcome {
                Err(status) if status.reason != Reason::NotFound => {
                    failure = failure.or(Some(status.message.clone()));
                }
                _ => {
                    count.tracked.remove(&pod.meta.uid);
                }
            }
        }
    }
    count.dirty |= settle_counters(&mut progress.status, &count.tracked);
    let Some(message) = failure else { return Ok(()) };
    if count.dirty {
        write(script, progress, meta, "removing uncounted pods from status")?;
    }
    Err(Halt::Failed(format!("tracking status: {message}")))
}

/// Writes the status of the Job.
fn write(script: &mut Script<'_>, progress: &Progress<'_>, meta: &mut Meta, what: &str) -> Result<(), Halt> {
    let job = Job { meta: meta.clone(), spec: Rc::clone(&progress.from.job.spec), status: progress.status.clone() };
    let operation = Operation::Update { object: job.boxed(), part: Part::Status, dry_run: false };
    let stored = script.write(operation).map_err(|halt| match halt {
        Halt::Failed(message) => Halt::Failed(format!("tracking status: {what}: {message}")),
        other => other,
    })?;
    let Some(stored) = stored else { return Ok(()) };
    script.once(|| {
        progress.from.memory.borrow_mut().note_written(&progress.from.key, &stored);
        true
    });
    if let Object::Job(stored) = &stored {
        *meta = stored.meta.clone();
    }
    Ok(())
}

/// Adds the last condition once all pods are counted and gone; true if the Job ends (`enactJobFinished`).
fn end(script: &Script<'_>, progress: &mut Progress<'_>) -> bool {
    let uncounted = progress.status.uncounted.as_ref();
    let waits = uncounted.is_some_and(|it| !it.succeeded.is_empty() || !it.failed.is_empty());
    let Some(ending) = progress.ending.clone().filter(|_| !waits && progress.terminating == 0) else { return false };
    let now = script.now().timestamp();
    if ending.kind == COMPLETE {
        progress.status.completion_time = Some(ending.last_transition);
    }
    let last = condition(&ending.kind, ending.reason, ending.message, now);
    set_condition(&mut progress.status.conditions, last);
    true
}

/// Records how the Job ended, and remembers it until the cache shows it.
fn record_end(script: &mut Script<'_>, progress: &Progress<'_>) {
    let Some(ending) = &progress.ending else { return };
    let about = &progress.about;
    if ending.kind == COMPLETE {
        if progress.spec.completions().is_some_and(|completions| progress.status.succeeded > completions) {
            let message = "Too many succeeded pods running after completion count reached";
            script.record(about, EventType::Warning, "TooManySucceededPods", message.to_owned());
        }
        script.record(about, EventType::Normal, "Completed", "Job completed".to_owned());
    } else {
        script.note(about, EventType::Warning, ending.reason.clone(), ending.message.to_string());
    }
    let from = progress.from;
    script.once(|| {
        from.memory.borrow_mut().expect_finished(&from.key, from.job.meta.uid);
        true
    });
}

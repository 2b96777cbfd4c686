//! The pods of a Job: as many as are wanted, neither more nor less (`manageJob`).

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::api::batch::{COMPLETION_INDEX, JOB_TRACKING, Job};
use crate::api::event::{EventType, ObjectReference};
use crate::api::meta::{Common, Labels, Meta, Timestamp};
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::{ContainerRole, ContainerStatus, Pod, PodPhase, PodStatus};
use crate::apiserver::protocol::{Answer, DeleteOptions, Operation};
use crate::apiserver::status::Reason;
use crate::client::plan::{EventNote, Outcome, Request, Step};
use crate::engine::time::SimDuration;

use super::super::census::Known;
use super::super::owner;
use super::super::script::{Halt, Script, tolerant};
use super::BATCH;
use super::back_off;
use super::indexes::Indexes;
use super::members::Member;
use super::orphans::untrack;
use super::policy::{self, Verdict};
use super::sync::Progress;

/// So many pods are created or deleted in one sync (`MaxPodCreateDeletePerSync`).
const BURST: usize = 500;
/// The longest prefix of a generated name (apiserver, storage/names: `MaxGeneratedNameLength`).
const LONGEST_PREFIX: usize = 58;
/// How often pods of this index failed before, as far as it counts.
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// How often pods of this index failed before without it counting.
const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// Deletes the active pods of a Job that is to end; their finalizers stay. If that is not possible, or pods may be about that
/// the cache does not show, the Job cannot end yet. Returns the first failure.
pub(super) fn delete_active(script: &mut Script<'_>, progress: &mut Progress<'_>) -> Result<Option<String>, Halt> {
    let pods: Vec<Rc<Pod>> = progress.active_pods().map(|pod| pod.pod.clone()).collect();
    let failure = delete(script, progress, &pods)?;
    if failure.is_some() || !progress.from.satisfied {
        progress.ending = None;
    }
    Ok(failure)
}

/// Creates the pods that are missing or deletes those that are too many; returns the first failure.
pub(super) fn manage(script: &mut Script<'_>, progress: &mut Progress<'_>) -> Result<Option<String>, Halt> {
    if progress.spec.is_suspended() {
        let doomed = first_to_go(progress, progress.active_pods().count());
        return remove(script, progress, &doomed);
    }
    let wanted = wanted(progress);
    let surplus = usize::try_from(progress.active - wanted).unwrap_or(0);
    let mut doomed = first_to_go(progress, surplus);
    doomed.truncate(BURST);
    if !doomed.is_empty() {
        return remove(script, progress, &doomed);
    }
    let leaving = if progress.spec.only_replaces_failed() { progress.terminating } else { 0 };
    let missing = usize::try_from(wanted - leaving - progress.active).unwrap_or(0);
    if missing == 0 { Ok(None) } else { create(script, progress, missing.min(BURST)) }
}

/// How many pods should be active: not more than there are completions left. Without a number of completions the first
/// success means that no more pods are started.
fn wanted(progress: &Progress<'_>) -> i32 {
    let parallelism = progress.spec.parallelism();
    match progress.spec.completions() {
        Some(completions) => (completions - progress.succeeded).min(parallelism).max(0),
        None if progress.succeeded > 0 => progress.active,
        None => parallelism,
    }
}

/// Deletes pods that are to be replaced or not needed; first their finalizers go, because nobody counts them.
fn remove(script: &mut Script<'_>, progress: &mut Progress<'_>, doomed: &[Rc<Pod>]) -> Result<Option<String>, Halt> {
    if doomed.is_empty() {
        return Ok(None);
    }
    let tracked: Vec<Rc<Pod>> = doomed.iter().filter(|pod| pod.is_tracked()).cloned().collect();
    let mut failure = None;
    let mut left: BTreeSet<_> = BTreeSet::new();
    if !tracked.is_empty() {
        let outcomes =
            script.step(|| Step::Parallel(tracked.iter().map(|pod| Request::new(untrack(pod))).collect()))?;
        note_written(script, progress, &outcomes);
        for (pod, status) in tracked.iter().zip(&outcomes).filter_map(|(pod, it)| Some((pod, it.as_ref().err()?))) {
            left.insert(pod.meta.uid);
            if status.reason == Reason::NotFound {
                // Gone already: so much the better.
                progress.active -= 1;
                progress.terminating += 1;
            } else {
                failure = failure.or(Some(format!("removing completion finalizer: {}", status.message)));
            }
        }
    }
    let free: Vec<Rc<Pod>> = doomed.iter().filter(|pod| !left.contains(&pod.meta.uid)).cloned().collect();
    script.push(Step::Expect { creations: 0, deletions: free.iter().map(|pod| pod.meta.uid).collect() });
    let failed = delete(script, progress, &free)?;
    Ok(failure.or(failed))
}

/// Deletes pods all at once and counts them as terminating from then on; returns the first failure.
fn delete(script: &mut Script<'_>, progress: &mut Progress<'_>, doomed: &[Rc<Pod>]) -> Result<Option<String>, Halt> {
    if doomed.is_empty() {
        return Ok(None);
    }
    let about = progress.about.clone();
    let outcomes = script.step(|| {
        let request = |pod: &Rc<Pod>| {
            let (key, name) = (owner::key_of(&**pod), &pod.meta.name);
            let operation = Operation::Delete { key, options: DeleteOptions::default() };
            let gone = note(&about, EventType::Normal, "SuccessfulDelete", format!("Deleted pod: {name}"));
            let failed = note(&about, EventType::Warning, "FailedDelete", "Error deleting: {error}".to_owned());
            Request { on_success: Some(gone), on_failure: Some(failed), ..tolerant(operation, &[Reason::NotFound]) }
        };
        Step::Parallel(doomed.iter().map(request).collect())
    })?;
    let refused = |outcome: &&Outcome| outcome.as_ref().is_err_and(|status| status.reason != Reason::NotFound);
    let deleted = (doomed.len() - outcomes.iter().filter(refused).count()) as i32;
    progress.active -= deleted;
    progress.terminating += deleted;
    // The original does not ask whether the deletion of a ready pod succeeded.
    progress.ready -= doomed.iter().filter(|pod| pod.status.is_ready()).count() as i32;
    let failure = outcomes.iter().find(refused).and_then(|outcome| outcome.as_ref().err());
    Ok(failure.map(|status| format!("unable to delete pods: {}", status.message)))
}

/// Creates pods, unless it is too early after a failure. The original then says that none is active, and so does the status
/// until the next look.
fn create(script: &mut Script<'_>, progress: &mut Progress<'_>, missing: usize) -> Result<Option<String>, Halt> {
    let now = script.now();
    let mut wait = SimDuration::ZERO;
    if progress.limit_per_index().is_none() {
        wait = progress.back_off.remaining(now);
    }
    let mut indexes: Vec<Option<u32>> = vec![None; missing];
    if wait == SimDuration::ZERO && progress.spec.is_indexed() {
        let mut pending = pending_indexes(progress, missing);
        if progress.limit_per_index().is_some() {
            let wait_of = |index: &u32| {
                progress.kept.get(index).map_or(SimDuration::ZERO, |pod| {
                    back_off::remaining(all_failures_before(pod) + 1, back_off::finished_at(pod), now)
                })
            };
            let (due, later): (Vec<u32>, Vec<u32>) =
                pending.iter().partition(|index| wait_of(index) == SimDuration::ZERO);
            if due.is_empty() {
                wait = later.iter().map(wait_of).min().unwrap_or(SimDuration::ZERO);
            }
            pending = due;
        }
        indexes = pending.into_iter().map(Some).collect();
    }
    if wait > SimDuration::ZERO {
        script.push(Step::LookAgain(wait.max(BATCH)));
        progress.active = 0;
        return Ok(None);
    }
    start(script, progress, &indexes)
}

/// Creates a pod for each of these indexes, slowly at first; returns the first failure.
fn start(
    script: &mut Script<'_>,
    progress: &mut Progress<'_>,
    indexes: &[Option<u32>],
) -> Result<Option<String>, Halt> {
    if indexes.is_empty() {
        return Ok(None);
    }
    script.push(Step::Expect { creations: indexes.len() as u32, deletions: Vec::new() });
    let outcomes = script.step(|| {
        let request = |index: &Option<u32>| {
            let object = Object::Pod(Rc::new(new_pod(progress, *index)));
            let about = &progress.about;
            let made = note(about, EventType::Normal, "SuccessfulCreate", "Created pod: {name}".to_owned());
            let failed = note(about, EventType::Warning, "FailedCreate", "Error creating: {error}".to_owned());
            let operation = Operation::Create { object, dry_run: false };
            Request { on_success: Some(made), on_failure: Some(failed), ..Request::new(operation) }
        };
        Step::SlowStart(indexes.iter().map(request).collect())
    })?;
    note_written(script, progress, &outcomes);
    // In a namespace that is being deleted every creation fails, and there is nothing to be done about it.
    let failures = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    let failures: Vec<_> = failures.filter(|status| !status.is_namespace_terminating()).collect();
    progress.active += (outcomes.len() - failures.len()) as i32;
    Ok(failures.first().map(|status| status.message.clone()))
}

/// Remembers the versions of pods that were written, until the cache shows them.
pub(super) fn note_written(script: &mut Script<'_>, progress: &Progress<'_>, outcomes: &[Outcome]) {
    let (memory, key) = (&progress.from.memory, &progress.from.key);
    script.once(|| {
        for outcome in outcomes {
            if let Ok(Answer::Object(object)) = outcome {
                memory.borrow_mut().note_written(key, object);
            }
        }
        true
    });
}

fn note(about: &ObjectReference, kind: EventType, reason: &'static str, message: String) -> Box<EventNote> {
    Box::new(EventNote { regarding: about.clone(), kind, reason: Name::of(reason), message })
}

/// The first indexes that have neither succeeded nor failed nor a pod (`firstPendingIndexes`).
fn pending_indexes(progress: &Progress<'_>, count: usize) -> Vec<u32> {
    let mut taken = Indexes::of_any(progress.active_pods().filter_map(|pod| pod.facts.index));
    taken = taken.union(&progress.succeeded_indexes);
    if progress.spec.only_replaces_failed() {
        let leaving = progress.pods.iter().filter(|pod| pod.facts.is_terminating());
        taken = taken.union(&Indexes::of_any(leaving.filter_map(|pod| pod.facts.index)));
    }
    if let Some(failed) = &progress.failed_indexes {
        taken = taken.union(failed);
    }
    taken.missing(count, progress.completions())
}

/// The failed pods, by index, that are to be replaced and have not been yet: the last one of each index
/// (`getPodsWithDelayedDeletionPerIndex`).
pub(super) fn kept(progress: &Progress<'_>) -> BTreeMap<u32, Rc<Pod>> {
    let mut kept: BTreeMap<u32, Rc<Pod>> = BTreeMap::new();
    let has_failed = |pod: &&Member| pod.facts.is_failed(progress.spec) && progress.counts(&pod.facts);
    let failed: Vec<&Member> = progress.pods.iter().filter(has_failed).collect();
    if failed.is_empty() {
        return kept;
    }
    let running = Indexes::of_any(progress.active_pods().filter_map(|pod| pod.facts.index));
    for Known { pod, facts, .. } in failed {
        let Some(index) = progress.index_of(facts) else { continue };
        let has_failed = progress.failed_indexes.as_ref().is_some_and(|failed| failed.has(index));
        if has_failed || progress.succeeded_indexes.has(index) || running.has(index) {
            continue;
        }
        let rank = |pod: &Pod| (all_failures_before(pod), back_off::finished_at(pod));
        let is_later = |known: &Rc<Pod>| {
            let (known, new) = (rank(known), rank(pod));
            known.0 <= new.0 && known.1 <= new.1
        };
        if kept.get(&index).is_none_or(is_later) {
            kept.insert(index, pod.clone());
        }
    }
    kept
}

fn annotated_number(pod: &Pod, key: &str) -> i32 {
    let number = pod.meta.annotations.get(key).and_then(|text| text.parse::<i32>().ok());
    number.filter(|number| *number >= 0).unwrap_or(0)
}

/// How often pods of the same index failed before this one, as far as it counts.
pub(super) fn failures_before(pod: &Pod) -> i32 {
    annotated_number(pod, FAILURES)
}

fn all_failures_before(pod: &Pod) -> u32 {
    (failures_before(pod) + annotated_number(pod, IGNORED_FAILURES)) as u32
}

/// A pod of the template, to be named by the server. All pods of a Job share the specification and the owner; in an Indexed
/// Job each is told its index, and how often its forerunners failed.
fn new_pod(progress: &Progress<'_>, index: Option<u32>) -> Pod {
    let job = &*progress.from.job;
    let template = &progress.spec.template;
    let (mut labels, mut annotations) = (template.labels.clone(), template.annotations.clone());
    if let Some(index) = index {
        let (key, value) = (Name::of(COMPLETION_INDEX), Name::from(index.to_string()));
        labels = labels.with(key.clone(), value.clone());
        annotations = annotations.with(key, value);
        if progress.limit_per_index().is_some() {
            annotations = with_failures(annotations, progress, progress.kept.get(&index));
        }
    }
    let meta = Meta {
        common: Common {
            generate_name: Some(Name::from(prefix(job, index))),
            namespace: job.meta.namespace.clone(),
            labels,
            annotations,
            owners: [owner::controller_reference(job)].into(),
            finalizers: tracked(template.finalizers()).into(),
            ..Common::default()
        }
        .into(),
        ..Meta::default()
    };
    Pod {
        meta,
        spec: Rc::clone(&progress.spec.pod_spec),
        node: template.node(),
        only_node: None,
        token_volume: None,
        status: PodStatus::default(),
    }
}

/// The finalizers of a template's pods and the one by which they are tracked (`appendJobCompletionFinalizerIfNotFound`).
fn tracked(mut finalizers: Vec<Name>) -> Vec<Name> {
    if !finalizers.contains(&JOB_TRACKING) {
        finalizers.push(JOB_TRACKING);
    }
    finalizers
}

/// What the pod's name begins with.
fn prefix(job: &Job, index: Option<u32>) -> String {
    const LONGEST_NAME: usize = 253;
    let name = job.meta.name.as_str();
    match index {
        None if name.len() >= LONGEST_NAME => name.to_owned(),
        None => format!("{name}-"),
        Some(index) => {
            let suffix = format!("-{index}-");
            let room = LONGEST_PREFIX - suffix.len();
            format!("{}{suffix}", name.get(..room).unwrap_or(name))
        }
    }
}

/// The annotations with the failures of the pod that is replaced counted (`addIndexFailureCountAnnotation`).
fn with_failures(annotations: Labels, progress: &Progress<'_>, replaced: Option<&Rc<Pod>>) -> Labels {
    let (mut failures, mut ignored) = (0, 0);
    if let Some(pod) = replaced {
        (failures, ignored) = (failures_before(pod), annotated_number(pod, IGNORED_FAILURES));
        match policy::judge(pod, progress.spec) {
            Verdict::Ignore => ignored += 1,
            _ => failures += 1,
        }
    }
    let annotations = annotations.with(Name::of(FAILURES), failures.to_string());
    if ignored > 0 { annotations.with(Name::of(IGNORED_FAILURES), ignored.to_string()) } else { annotations }
}

/// The active pods that go: in an Indexed Job all but one of each index and those without a valid one, then the first by
/// rank until there are enough (`activePodsForRemoval`).
fn first_to_go(progress: &Progress<'_>, at_least: usize) -> Vec<Rc<Pod>> {
    let mut doomed: Vec<Rc<Pod>> = Vec::new();
    let mut left: Vec<Rc<Pod>> = Vec::new();
    if at_least == 0 && (!progress.spec.is_indexed() || are_well_placed(progress)) {
        return doomed;
    }
    if progress.spec.is_indexed() {
        let mut by_index: BTreeMap<u32, Vec<Rc<Pod>>> = BTreeMap::new();
        let mut misplaced = Vec::new();
        for Known { pod, facts, .. } in progress.active_pods() {
            match facts.index {
                None => doomed.push(pod.clone()),
                Some(index) if index >= progress.completions() => misplaced.push((index, pod.clone())),
                Some(index) => by_index.entry(index).or_default().push(pod.clone()),
            }
        }
        for mut pods in by_index.into_values() {
            pods.sort_by(by_rank);
            left.extend(pods.pop());
            doomed.extend(pods);
        }
        misplaced.sort_by_key(|(index, _)| *index);
        doomed.extend(misplaced.into_iter().map(|(_, pod)| pod));
    } else {
        left.extend(progress.active_pods().map(|pod| pod.pod.clone()));
    }
    if doomed.len() < at_least {
        left.sort_by(by_rank);
        doomed.extend(left.into_iter().take(at_least - doomed.len()));
    }
    doomed
}

/// True if each active pod of an Indexed Job has an index of the Job, and no other one has the same.
fn are_well_placed(progress: &Progress<'_>) -> bool {
    let indexes: Option<Vec<u32>> = progress.active_pods().map(|pod| progress.index_of(&pod.facts)).collect();
    indexes.is_some_and(|indexes| Indexes::of_any(indexes.iter().copied()).total() as usize == indexes.len())
}

/// Which of two pods goes first: the one that has come less far (kube-controller-manager, `ActivePods`).
fn by_rank(one: &Rc<Pod>, other: &Rc<Pod>) -> Ordering {
    let phase = |pod: &Pod| match pod.status.phase {
        PodPhase::Unknown => 1,
        PodPhase::Running => 2,
        _ => 0,
    };
    let progress = |pod: &Pod| (pod.node.is_some(), phase(pod), pod.status.is_ready());
    // Not set comes first, then the youngest.
    let age = |date: Timestamp| (date != Timestamp::default(), -date.0);
    let ready_since = |pod: &Pod| pod.status.ready_since().unwrap_or_default();
    let (restarts, others) = (most_restarts(one), most_restarts(other));
    progress(one)
        .cmp(&progress(other))
        .then_with(|| age(ready_since(one)).cmp(&age(ready_since(other))))
        .then_with(|| others.cmp(&restarts))
        .then_with(|| age(one.meta.created).cmp(&age(other.meta.created)))
}

/// How often the containers and the sidecars were started again at most.
fn most_restarts(pod: &Pod) -> (u32, u32) {
    let is_sidecar = |status: &&ContainerStatus| {
        let same = |container: &&crate::api::pod::Container| container.name == status.name;
        pod.spec.containers.iter().find(same).is_some_and(|container| container.role == ContainerRole::Sidecar)
    };
    let main = pod.status.containers.iter().map(|status| status.restart_count).max();
    let sidecars = pod.status.init_containers.iter().filter(is_sidecar).map(|status| status.restart_count).max();
    (main.unwrap_or(0), sidecars.unwrap_or(0))
}

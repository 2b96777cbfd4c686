//! One look at a CronJob, in the order of the original (`sync`, `cleanupFinishedJobs`, `syncCronJob`).

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use crate::api::batch::{CronJob, CronJobStatus, Job, JobStatus};
use crate::api::cron::{Schedule, Zone};
use crate::api::event::{EventType, ObjectReference};
use crate::api::kind::Kind;
use crate::api::meta::{Common, Meta, ObjectKey, Timestamp, Uid};
use crate::api::name::Name;
use crate::api::object::Resource;
use crate::apiserver::protocol::{Answer, DeleteOptions, Operation, Part, Propagation};
use crate::apiserver::status::Reason;
use crate::client::plan::Again;
use crate::engine::time::SimDuration;

use super::super::owner;
use super::super::script::{Halt, Script};
use super::super::time;
use super::{Written, schedule};

/// The annotation with the time for which a Job was started.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// What a sync begins with.
pub(super) struct Snapshot {
    pub cron_job: Rc<CronJob>,
    /// The Jobs that it controls, by name.
    pub jobs: Vec<Rc<Job>>,
    /// The versions that the controller has written.
    pub written: Rc<RefCell<Written>>,
}

/// A CronJob on its way to another status.
struct Progress<'a> {
    cron_job: &'a CronJob,
    about: ObjectReference,
    status: CronJobStatus,
    /// What will be written, once a newer version was read than the cache has: the original then changes that one, and
    /// writes the other.
    detached: Option<CronJobStatus>,
    dirty: bool,
}

/// How a look ended.
enum End {
    /// When to look again.
    Again(SimDuration),
    /// Not before something changes.
    Rest,
    /// It failed.
    Failed(String),
}

/// Looks at a CronJob: removes old Jobs, sees which have ended, starts one if it is time, and writes the status once.
pub(super) fn sync(script: &mut Script<'_>, from: &Snapshot) -> Result<Again, Halt> {
    let cron_job = &*from.cron_job;
    let status = cron_job.status.clone();
    let mut progress = Progress { cron_job, about: owner::reference(cron_job), status, detached: None, dirty: false };
    clean_up(script, &mut progress, &from.jobs)?;
    let end = schedule_job(script, &mut progress, &from.jobs)?;
    if progress.dirty {
        let status = progress.detached.take().unwrap_or(progress.status);
        let new = CronJob { status, ..cron_job.clone() };
        let stored = script.write(Operation::Update { object: new.boxed(), part: Part::Status, dry_run: false })?;
        if let Some(stored) = stored {
            script.once(|| {
                from.written.borrow_mut().insert(stored.key(), stored.meta().revision());
                true
            });
        }
    }
    match end {
        End::Again(delay) => Ok(Again::After(delay)),
        End::Rest => Ok(Again::OnChange),
        End::Failed(message) => Err(Halt::Failed(message)),
    }
}

/// Deletes the oldest of the Jobs that have ended and are more than are to be kept.
fn clean_up(script: &mut Script<'_>, progress: &mut Progress<'_>, jobs: &[Rc<Job>]) -> Result<(), Halt> {
    let spec = &progress.cron_job.spec.full;
    let limits = [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)];
    for (kind, limit) in limits {
        let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { continue };
        let ended = |job: &&Rc<Job>| job.status.finished().is_some_and(|condition| condition.kind == *kind);
        let mut ended: Vec<&Rc<Job>> = jobs.iter().filter(ended).collect();
        // Those that never started come last.
        ended.sort_by_key(|job| {
            let start = job.status.start_time;
            (start.is_none(), start, job.meta.name.clone())
        });
        let surplus = ended.len().saturating_sub(limit);
        for job in &ended[..surplus] {
            delete(script, progress, &owner::key_of(&***job), job.meta.uid)?;
        }
    }
    Ok(())
}

/// Deletes a Job, its pods in the background; true if that was done.
fn delete(script: &mut Script<'_>, progress: &mut Progress<'_>, key: &ObjectKey, uid: Uid) -> Result<bool, Halt> {
    let options = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
    match script.ask(Operation::Delete { key: key.clone(), options })? {
        Err(status) => {
            progress.record(script, EventType::Warning, "FailedDelete", format!("Deleted job: {}", status.message));
            Ok(false)
        }
        Ok(_) => {
            progress.status.active.retain(|job| job.uid != uid);
            progress.record(script, EventType::Normal, "SuccessfulDelete", format!("Deleted job {}", key.name));
            progress.dirty = true;
            Ok(true)
        }
    }
}

impl Progress<'_> {
    fn record(&self, script: &mut Script<'_>, kind: EventType, reason: &'static str, message: String) {
        script.record(&self.about, kind, reason, message);
    }

    fn is_active(&self, uid: Uid) -> bool {
        self.status.active.iter().any(|job| job.uid == uid)
    }
}

/// Takes note of Jobs that have ended or are missing, and starts one if it is time.
fn schedule_job(script: &mut Script<'_>, progress: &mut Progress<'_>, jobs: &[Rc<Job>]) -> Result<End, Halt> {
    let now = script.now();
    if let Some(end) = see_jobs(script, progress, jobs)? {
        return Ok(end);
    }
    if let Some(end) = see_missing(script, progress, jobs)? {
        return Ok(end);
    }
    let cron_job = progress.cron_job;
    let spec = &cron_job.spec.full;
    if cron_job.meta.is_deleting() {
        return Ok(End::Rest);
    }
    if let Some(zone) = &spec.time_zone
        && let Err(error) = Zone::load(zone)
    {
        let message = format!("invalid timeZone: {zone:?}: {error}");
        progress.record(script, EventType::Warning, "UnknownTimeZone", message);
        return Ok(End::Rest);
    }
    if spec.suspend == Some(true) {
        return Ok(End::Rest);
    }
    if spec.schedule.contains("TZ") {
        let where_to = "see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details";
        let message =
            format!("CRON_TZ or TZ used in schedule {:?} is not officially supported, {where_to}", spec.schedule);
        progress.record(script, EventType::Warning, "UnsupportedSchedule", message);
    }
    let schedule = match schedule::parse(cron_job) {
        Ok(schedule) => schedule,
        Err(error) => {
            let message = format!("unparseable schedule: {:?} : {error}", spec.schedule);
            progress.record(script, EventType::Warning, "UnparseableSchedule", message);
            return Ok(End::Rest);
        }
    };
    let missed = match schedule::missed(&progress.present(), now, &schedule, true) {
        Ok(missed) => missed,
        Err(error) => {
            let message = format!("invalid schedule: {} : {error}", spec.schedule);
            progress.record(script, EventType::Warning, "InvalidSchedule", message);
            return Ok(End::Rest);
        }
    };
    let Some(scheduled) = missed.latest else {
        return Ok(End::Again(schedule::next_look(&progress.present(), now, &schedule)));
    };
    if missed.too_many() {
        let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        progress.record(script, EventType::Warning, "TooManyMissedTimes", message.to_owned());
    }
    start_at(script, progress, scheduled, &schedule, now)
}

impl Progress<'_> {
    /// The CronJob as it will be.
    fn present(&self) -> CronJob {
        CronJob { status: self.status.clone(), ..self.cron_job.clone() }
    }
}

/// Goes through the Jobs that there are.
fn see_jobs(script: &mut Script<'_>, progress: &mut Progress<'_>, jobs: &[Rc<Job>]) -> Result<Option<End>, Halt> {
    for job in jobs {
        let known = progress.is_active(job.meta.uid);
        let Some(ended) = job.status.finished() else {
            if !known && let Some(end) = see_unknown(script, progress, job)? {
                return Ok(Some(end));
            }
            continue;
        };
        if known {
            progress.status.active.retain(|it| it.uid != job.meta.uid);
            let message = format!("Saw completed job: {}, condition: {}", job.meta.name, ended.kind);
            progress.record(script, EventType::Normal, "SawCompletedJob", message);
            progress.dirty = true;
        }
        let last = &mut progress.status.last_successful_time;
        if job.status.is_true("Complete") && (last.is_none() || job.status.completion_time > *last) {
            *last = job.status.completion_time;
            progress.dirty = true;
        }
    }
    Ok(None)
}

/// A Job that runs and is not among the active ones: perhaps the cache is behind, else somebody else created it.
fn see_unknown(script: &mut Script<'_>, progress: &mut Progress<'_>, job: &Job) -> Result<Option<End>, Halt> {
    let fresh = match script.ask(Operation::Get { key: owner::key_of(progress.cron_job) })? {
        Ok(Answer::Object(object)) => CronJob::of(&object).cloned(),
        Ok(_) => None,
        Err(status) => return Ok(Some(End::Failed(status.message))),
    };
    match fresh.filter(|fresh| fresh.status.active.iter().any(|it| it.uid == job.meta.uid)) {
        Some(fresh) => {
            let before = std::mem::replace(&mut progress.status, fresh.status.clone());
            progress.detached.get_or_insert(before);
        }
        None => {
            let message = format!("Saw a job that the controller did not create or forgot: {}", job.meta.name);
            progress.record(script, EventType::Warning, "UnexpectedJob", message);
        }
    }
    Ok(None)
}

/// Goes through the active Jobs that the cache does not show.
fn see_missing(script: &mut Script<'_>, progress: &mut Progress<'_>, jobs: &[Rc<Job>]) -> Result<Option<End>, Halt> {
    let there: BTreeSet<Uid> = jobs.iter().map(|job| job.meta.uid).collect();
    let missing: Vec<_> = progress.status.active.iter().filter(|job| !there.contains(&job.uid)).cloned().collect();
    for job in missing {
        let key = ObjectKey::new(Kind::Job, job.namespace.clone(), job.name.clone());
        match script.ask(Operation::Get { key })? {
            Ok(_) => {}
            Err(status) if status.reason == Reason::NotFound => {
                let message = format!("Active job went missing: {}", job.name);
                progress.record(script, EventType::Normal, "MissingJob", message);
                progress.status.active.retain(|it| it.uid != job.uid);
                progress.dirty = true;
            }
            Err(status) => return Ok(Some(End::Failed(status.message))),
        }
    }
    Ok(None)
}

/// Starts the Job of a time, unless it is too late, was done already, or must not be.
fn start_at(
    script: &mut Script<'_>,
    progress: &mut Progress<'_>,
    scheduled: i64,
    schedule: &Schedule,
    now: crate::client::view::Now,
) -> Result<End, Halt> {
    let cron_job = progress.cron_job;
    let spec = &cron_job.spec.full;
    let next = |progress: &Progress<'_>| Ok(End::Again(schedule::next_look(&progress.present(), now, schedule)));
    let deadline = spec.starting_deadline_seconds;
    if deadline.is_some_and(|seconds| time::until(now, Timestamp(scheduled), seconds).is_past()) {
        let message = format!("Missed scheduled time to start a job: {}", Zone::utc().rfc1123(scheduled));
        progress.record(script, EventType::Warning, "MissSchedule", message);
        return next(progress);
    }
    // The time in minutes makes the name, so that no Job is created twice.
    let name = format!("{}-{}", cron_job.meta.name, scheduled.div_euclid(60));
    let is_named = |job: &ObjectReference| job.name == *name && job.namespace == cron_job.meta.namespace;
    let done = progress.status.last_schedule_time == Some(Timestamp(scheduled));
    if done || progress.status.active.iter().any(is_named) {
        return next(progress);
    }
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !progress.status.active.is_empty() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            progress.record(script, EventType::Normal, "JobAlreadyActive", message.to_owned());
            return next(progress);
        }
        Some("Replace") => {
            if let Some(end) = replace_active(script, progress)? {
                return Ok(end);
            }
        }
        _ => {}
    }
    match create(script, progress, name, scheduled)? {
        Ok(Some(job)) => {
            progress.status.active.push(job);
            progress.status.last_schedule_time = Some(Timestamp(scheduled));
            progress.dirty = true;
            next(progress)
        }
        Ok(None) => Ok(End::Rest),
        Err(message) => Ok(End::Failed(message)),
    }
}

/// Deletes the Jobs that still run.
fn replace_active(script: &mut Script<'_>, progress: &mut Progress<'_>) -> Result<Option<End>, Halt> {
    for job in progress.status.active.clone() {
        let key = ObjectKey::new(Kind::Job, job.namespace.clone(), job.name.clone());
        match script.ask(Operation::Get { key: key.clone() })? {
            Ok(Answer::Object(there)) => {
                if !delete(script, progress, &key, there.meta().uid)? {
                    return Ok(Some(End::Failed(format!("could not replace job {}/{}", job.namespace, job.name))));
                }
            }
            Ok(_) => {}
            Err(status) => {
                progress.record(script, EventType::Warning, "FailedGet", format!("Get job: {}", status.message));
                return Ok(Some(End::Failed(status.message)));
            }
        }
    }
    Ok(None)
}

/// A reference to the Job that is to be remembered as active; none if there is nothing to be remembered.
type Created = Result<Option<ObjectReference>, String>;

/// Creates the Job of a time. If it is there already, it counts if it is the CronJob's own.
fn create(script: &mut Script<'_>, progress: &mut Progress<'_>, name: String, scheduled: i64) -> Result<Created, Halt> {
    let job = match new_job(progress.cron_job, &name, scheduled) {
        Ok(job) => job,
        Err(message) => return Ok(Err(message)),
    };
    match script.ask(Operation::Create { object: job.boxed(), dry_run: false })? {
        Ok(Answer::Object(job)) => {
            let message = format!("Created job {}", job.meta().name);
            progress.record(script, EventType::Normal, "SuccessfulCreate", message);
            Ok(Ok(Job::of(&job).map(|job| owner::reference(&**job))))
        }
        Ok(_) => Ok(Ok(None)),
        Err(status) if status.is_namespace_terminating() => Ok(Err(status.message)),
        Err(status) if status.reason == Reason::AlreadyExists => {
            let key = ObjectKey::new(Kind::Job, progress.cron_job.meta.namespace.clone(), name);
            match script.ask(Operation::Get { key })? {
                Ok(Answer::Object(job)) => {
                    let own = job.meta().controller().is_some_and(|it| it.uid == progress.cron_job.meta.uid);
                    let own = own && !progress.is_active(job.meta().uid);
                    Ok(Ok(Job::of(&job).filter(|_| own).map(|job| owner::reference(&**job))))
                }
                Ok(_) => Ok(Ok(None)),
                Err(status) => Ok(Err(status.message)),
            }
        }
        Err(status) => {
            let message = format!("Error creating job: {}", status.message);
            progress.record(script, EventType::Warning, "FailedCreate", message);
            Ok(Err(status.message))
        }
    }
}

/// The Job of a time. All Jobs of a CronJob share its description (`getJobFromTemplate2`).
fn new_job(cron_job: &CronJob, name: &str, scheduled: i64) -> Result<Job, String> {
    let spec = &cron_job.spec;
    let zone = Zone::load(spec.full.time_zone.as_deref().unwrap_or_default())?;
    let meta = Meta {
        name: Name::new(name),
        common: Common {
            namespace: cron_job.meta.namespace.clone(),
            labels: spec.job_labels.clone(),
            annotations: spec.job_annotations.with(Name::of(SCHEDULED), zone.rfc3339(scheduled)),
            owners: [owner::controller_reference(cron_job)].into(),
            ..Common::default()
        }
        .into(),
        ..Meta::default()
    };
    Ok(Job { meta, spec: Rc::clone(&spec.job), status: JobStatus::default() })
}

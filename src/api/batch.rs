//! Jobs and CronJobs.

use std::rc::Rc;

use k8s_openapi::api::batch::v1 as batch;

use super::event::ObjectReference;
use super::meta::{Labels, Meta, Timestamp, Uid};
use super::name::Name;
use super::pod::{ConditionStatus, OWN_NAME, Pod, PodSpec, PodTemplate};
use super::selector::Selector;

/// The finalizer that keeps a Job's pod until the Job has counted it.
pub const JOB_TRACKING: Name = Name::of("batch.kubernetes.io/job-tracking");
/// The annotation and label with the completion index of an Indexed Job's pod.
pub const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// The label with the name of a pod's Job.
pub const JOB_NAME: &str = "batch.kubernetes.io/job-name";
/// The same label as it was called before.
pub const LEGACY_JOB_NAME: &str = "job-name";
/// The label with the uid of a pod's Job.
pub const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
/// The same label as it was called before.
pub const LEGACY_CONTROLLER_UID: &str = "controller-uid";
/// The controller that Jobs are managed by if they do not say otherwise.
pub const JOB_CONTROLLER: &str = "kubernetes.io/job-controller";

/// A Job. Its specification is shared among its versions.
#[derive(Clone, Debug)]
pub struct Job {
    /// Metadata.
    pub meta: Meta,
    /// The desired state.
    pub spec: Rc<JobSpec>,
    /// The observed state.
    pub status: JobStatus,
}

/// The desired state of a Job, with what its controller needs compiled out of it.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// `selector`, compiled: an absent one selects nothing.
    pub selector: Rc<Selector>,
    /// `template`.
    pub template: Rc<PodTemplate>,
    /// What all pods share: the template's specification and, in an Indexed Job, the variable with the pod's index.
    pub pod_spec: Rc<PodSpec>,
    /// The specification as the API knows it, without the template.
    pub full: batch::JobSpec,
}

/// The observed state of a Job.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct JobStatus {
    pub active: i32,
    pub ready: Option<i32>,
    pub terminating: Option<i32>,
    pub succeeded: i32,
    pub failed: i32,
    pub completed_indexes: Name,
    pub failed_indexes: Option<Name>,
    pub uncounted: Option<Uncounted>,
    pub start_time: Option<Timestamp>,
    pub completion_time: Option<Timestamp>,
    pub conditions: Vec<JobCondition>,
}

/// Pods that have ended and are not in the counters yet (`uncountedTerminatedPods`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct Uncounted {
    pub succeeded: Vec<Uid>,
    pub failed: Vec<Uid>,
}

/// A condition of a Job.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct JobCondition {
    pub kind: Name,
    pub status: ConditionStatus,
    pub reason: Name,
    pub message: Name,
    pub last_probe: Timestamp,
    pub last_transition: Timestamp,
}

/// A CronJob.
#[derive(Clone, Debug)]
pub struct CronJob {
    /// Metadata.
    pub meta: Meta,
    /// The desired state.
    pub spec: Rc<CronJobSpec>,
    /// The observed state.
    pub status: CronJobStatus,
}

/// The desired state of a CronJob.
#[derive(Clone, Debug)]
pub struct CronJobSpec {
    /// `jobTemplate.metadata.labels`.
    pub job_labels: Labels,
    /// `jobTemplate.metadata.annotations`.
    pub job_annotations: Labels,
    /// `jobTemplate.spec`.
    pub job: Rc<JobSpec>,
    /// The specification as the API knows it, without the template.
    pub full: batch::CronJobSpec,
}

/// The observed state of a CronJob.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the API's own words")]
pub struct CronJobStatus {
    pub active: Vec<ObjectReference>,
    pub last_schedule_time: Option<Timestamp>,
    pub last_successful_time: Option<Timestamp>,
}

/// Equal if both ask for the same; what is shared in memory is not looked into.
impl PartialEq for JobSpec {
    fn eq(&self, other: &Self) -> bool {
        self.full == other.full && self.template.says_the_same(&other.template)
    }
}

/// Equal if both ask for the same.
impl PartialEq for CronJobSpec {
    fn eq(&self, other: &Self) -> bool {
        self.full == other.full
            && self.job_labels == other.job_labels
            && self.job_annotations == other.job_annotations
            && (Rc::ptr_eq(&self.job, &other.job) || self.job == other.job)
    }
}

impl Job {
    /// Gives the Job the selector and its pods the labels by which they are known: its uid, which no other Job has, and its
    /// name, for people. Labels that are there already stay; whether they are right is for validation to say
    /// (kubernetes, pkg/registry/batch/job: `generateSelector`).
    pub fn generate_selector(&mut self) {
        let (name, uid) = (self.meta.name.clone(), Name::from(self.meta.uid.to_string()));
        let spec = Rc::make_mut(&mut self.spec);
        let template = Rc::make_mut(&mut spec.template);
        let wanted =
            [(LEGACY_JOB_NAME, &name), (JOB_NAME, &name), (LEGACY_CONTROLLER_UID, &uid), (CONTROLLER_UID, &uid)];
        for (key, value) in wanted {
            if template.labels.get(key).is_none() {
                template.labels = template.labels.with(Name::of(key), value.clone());
            }
        }
        let selector = spec.full.selector.get_or_insert_default();
        let labels = selector.match_labels.get_or_insert_default();
        labels.entry(CONTROLLER_UID.to_owned()).or_insert_with(|| String::from(&uid));
        if let Ok(compiled) = Selector::compile(Some(selector)) {
            spec.selector = Rc::new(compiled);
        }
    }
}

impl JobSpec {
    /// `completions`; none if any success completes the Job.
    pub fn completions(&self) -> Option<i32> {
        self.full.completions
    }

    /// `parallelism`.
    pub fn parallelism(&self) -> i32 {
        self.full.parallelism.unwrap_or(1)
    }

    /// `backoffLimit`.
    pub fn backoff_limit(&self) -> i32 {
        self.full.backoff_limit.unwrap_or(6)
    }

    /// True if each pod has an index of its own.
    pub fn is_indexed(&self) -> bool {
        self.full.completion_mode.as_deref() == Some("Indexed")
    }

    /// True if nothing is to run.
    pub fn is_suspended(&self) -> bool {
        self.full.suspend == Some(true)
    }

    /// True if a pod is replaced only once it has failed, not while it is still being deleted
    /// (kube-controller-manager, `onlyReplaceFailedPods`).
    pub fn only_replaces_failed(&self) -> bool {
        self.full.pod_replacement_policy.as_deref() == Some("Failed") || self.full.pod_failure_policy.is_some()
    }

    /// The controller that manages the Job if it is not the one built in.
    pub fn external_controller(&self) -> Option<&str> {
        self.full.managed_by.as_deref().filter(|name| *name != JOB_CONTROLLER)
    }
}

impl JobStatus {
    /// The condition of a type.
    pub fn condition(&self, kind: &str) -> Option<&JobCondition> {
        self.conditions.iter().find(|condition| *condition.kind == *kind)
    }

    /// True if the condition of a type is.
    pub fn is_true(&self, kind: &str) -> bool {
        self.conditions.iter().any(|it| *it.kind == *kind && it.status == ConditionStatus::True)
    }

    /// The condition Complete or Failed, once one of them is true.
    pub fn finished(&self) -> Option<&JobCondition> {
        let ends =
            |it: &&JobCondition| (it.kind == "Complete" || it.kind == "Failed") && it.status == ConditionStatus::True;
        self.conditions.iter().find(ends)
    }
}

impl Pod {
    /// True if a Job must still count the pod.
    pub fn is_tracked(&self) -> bool {
        self.meta.finalizers().contains(&JOB_TRACKING)
    }

    /// The completion index that an Indexed Job gave the pod.
    pub fn completion_index(&self) -> Option<u32> {
        let text = self.meta.annotations.get(COMPLETION_INDEX)?;
        // A number as Go's Atoi reads it: a sign is allowed, what is below zero is none.
        text.parse::<i64>().ok().and_then(|index| u32::try_from(index).ok())
    }

    /// `spec.hostname`. That of an Indexed Job's pod follows from the Job's name and the pod's index, and is not stored, so
    /// that the Job's pods can share their specification.
    pub fn hostname(&self) -> Option<String> {
        match self.spec.full.hostname.as_deref() {
            Some(OWN_NAME) => Some(String::from(&self.meta.name)),
            None | Some("") => hostname_of_index(&self.meta),
            Some(hostname) => Some(hostname.to_owned()),
        }
    }
}

/// The hostname that the Job controller gives to a pod with an index.
pub fn hostname_of_index(meta: &Meta) -> Option<String> {
    let job = meta.controller().filter(|owner| owner.kind == "Job")?;
    let index = meta.annotations.get(COMPLETION_INDEX)?;
    Some(format!("{}-{index}", job.name))
}

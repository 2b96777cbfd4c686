//! Jobs and CronJobs.

use std::rc::Rc;

use k8s_openapi::api::batch::v1 as full;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::meta::{
    from_labels, from_meta, from_reference, from_time, to_labels, to_meta, to_reference, to_time, to_time_unless_zero,
};
use super::spec::compile;
use super::workload::{from_template, to_template};
use super::{Convert, ConvertError, name, name_or_empty, nonempty, nonzero, some_unless_empty, text};
use crate::api::batch::{
    COMPLETION_INDEX, CronJob, CronJobSpec, CronJobStatus, Job, JobCondition, JobSpec, JobStatus, Uncounted,
};
use crate::api::meta::Uid;
use crate::api::name::Name;
use crate::api::pod::{ConditionStatus, PodSpec};
use crate::api::selector::Selector;

/// The variable that tells the containers of an Indexed Job their index.
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

impl Convert for Job {
    type Full = full::Job;

    fn to_full(&self) -> full::Job {
        full::Job {
            metadata: to_meta(&self.meta),
            spec: Some(to_spec(&self.spec)),
            status: Some(to_status(&self.status)),
        }
    }

    fn from_full(full: full::Job) -> Result<Self, ConvertError> {
        Ok(Job {
            meta: from_meta(full.metadata)?,
            spec: Rc::new(from_spec("spec", full.spec.unwrap_or_default())?),
            status: from_status(full.status.unwrap_or_default())?,
        })
    }
}

impl Convert for CronJob {
    type Full = full::CronJob;

    fn to_full(&self) -> full::CronJob {
        let mut spec = self.spec.full.clone();
        spec.job_template = full::JobTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: to_labels(&self.spec.job_labels),
                annotations: to_labels(&self.spec.job_annotations),
                ..ObjectMeta::default()
            }),
            spec: Some(to_spec(&self.spec.job)),
        };
        full::CronJob { metadata: to_meta(&self.meta), spec, status: Some(to_cron_status(&self.status)) }
    }

    fn from_full(full: full::CronJob) -> Result<Self, ConvertError> {
        let mut spec = full.spec;
        let template = std::mem::take(&mut spec.job_template);
        let meta = template.metadata.unwrap_or_default();
        Ok(CronJob {
            meta: from_meta(full.metadata)?,
            spec: Rc::new(CronJobSpec {
                job_labels: from_labels(meta.labels),
                job_annotations: from_labels(meta.annotations),
                job: Rc::new(from_spec("spec.jobTemplate.spec", template.spec.unwrap_or_default())?),
                full: spec,
            }),
            status: from_cron_status(full.status.unwrap_or_default()),
        })
    }
}

fn to_spec(spec: &JobSpec) -> full::JobSpec {
    full::JobSpec { template: to_template(&spec.template), ..spec.full.clone() }
}

fn from_spec(path: &str, mut full: full::JobSpec) -> Result<JobSpec, ConvertError> {
    let template = from_template(&format!("{path}.template"), std::mem::take(&mut full.template))?;
    let selector = match &full.selector {
        Some(labels) => {
            Selector::compile(Some(labels)).map_err(|message| ConvertError::new(format!("{path}.selector"), message))?
        }
        None => Selector::nothing(),
    };
    let indexed = full.completion_mode.as_deref() == Some("Indexed");
    let pod_spec = if indexed {
        let mut spec = core::PodSpec { node_name: None, ..template.spec.full.clone() };
        let containers = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
        containers.for_each(add_index_variable);
        Rc::new(compile(path, spec)?)
    } else {
        PodSpec::for_pods(&template.spec)
    };
    Ok(JobSpec { selector: Rc::new(selector), template, pod_spec, full })
}

/// Adds the variable unless there is one of its name (kube-controller-manager, `addCompletionIndexEnvVariable`).
fn add_index_variable(container: &mut core::Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|variable| variable.name == INDEX_VARIABLE) {
        return;
    }
    let label = core::ObjectFieldSelector {
        api_version: Some("v1".to_owned()),
        field_path: format!("metadata.labels['{COMPLETION_INDEX}']"),
    };
    variables.push(core::EnvVar {
        name: INDEX_VARIABLE.to_owned(),
        value_from: Some(core::EnvVarSource { field_ref: Some(label), ..core::EnvVarSource::default() }),
        value: None,
    });
}

fn to_status(status: &JobStatus) -> full::JobStatus {
    let condition = |condition: &JobCondition| full::JobCondition {
        type_: String::from(&condition.kind),
        status: condition.status.as_str().to_owned(),
        reason: nonempty(&condition.reason),
        message: nonempty(&condition.message),
        last_probe_time: to_time_unless_zero(condition.last_probe),
        last_transition_time: to_time_unless_zero(condition.last_transition),
    };
    let uids = |uids: &[Uid]| some_unless_empty(uids.iter().map(Uid::to_string).collect());
    full::JobStatus {
        active: nonzero(status.active),
        ready: status.ready,
        terminating: status.terminating,
        succeeded: nonzero(status.succeeded),
        failed: nonzero(status.failed),
        completed_indexes: nonempty(&status.completed_indexes),
        failed_indexes: text(&status.failed_indexes),
        uncounted_terminated_pods: status.uncounted.as_ref().map(|uncounted| full::UncountedTerminatedPods {
            succeeded: uids(&uncounted.succeeded),
            failed: uids(&uncounted.failed),
        }),
        start_time: status.start_time.map(to_time),
        completion_time: status.completion_time.map(to_time),
        conditions: some_unless_empty(status.conditions.iter().map(condition).collect()),
    }
}

fn from_status(full: full::JobStatus) -> Result<JobStatus, ConvertError> {
    let condition = |full: full::JobCondition| JobCondition {
        kind: Name::from(full.type_),
        status: ConditionStatus::of(&full.status),
        reason: name_or_empty(full.reason),
        message: name_or_empty(full.message),
        last_probe: full.last_probe_time.map(from_time).unwrap_or_default(),
        last_transition: full.last_transition_time.map(from_time).unwrap_or_default(),
    };
    let uids = |texts: Option<Vec<String>>, field: &str| {
        let read = |(index, text): (usize, String)| {
            Uid::parse(&text).ok_or_else(|| {
                let path = format!("status.uncountedTerminatedPods.{field}[{index}]");
                ConvertError::new(path, format!("Invalid value: \"{text}\": not a UUID"))
            })
        };
        texts.unwrap_or_default().into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()
    };
    let uncounted = match full.uncounted_terminated_pods {
        Some(pods) => {
            Some(Uncounted { succeeded: uids(pods.succeeded, "succeeded")?, failed: uids(pods.failed, "failed")? })
        }
        None => None,
    };
    Ok(JobStatus {
        active: full.active.unwrap_or(0),
        ready: full.ready,
        terminating: full.terminating,
        succeeded: full.succeeded.unwrap_or(0),
        failed: full.failed.unwrap_or(0),
        completed_indexes: name_or_empty(full.completed_indexes),
        failed_indexes: name(full.failed_indexes),
        uncounted,
        start_time: full.start_time.map(from_time),
        completion_time: full.completion_time.map(from_time),
        conditions: full.conditions.unwrap_or_default().into_iter().map(condition).collect(),
    })
}

fn to_cron_status(status: &CronJobStatus) -> full::CronJobStatus {
    full::CronJobStatus {
        active: some_unless_empty(status.active.iter().map(to_reference).collect()),
        last_schedule_time: status.last_schedule_time.map(to_time),
        last_successful_time: status.last_successful_time.map(to_time),
    }
}

fn from_cron_status(full: full::CronJobStatus) -> CronJobStatus {
    CronJobStatus {
        active: full.active.unwrap_or_default().into_iter().map(from_reference).collect(),
        last_schedule_time: full.last_schedule_time.map(from_time),
        last_successful_time: full.last_successful_time.map(from_time),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::api::kind::Kind;
    use crate::api::object::Object;
    use crate::api::pod::Pod;

    fn check(kind: Kind, full: &Value) {
        let object = Object::from_json(kind, full.clone()).expect("an object");
        assert_eq!(object.to_json(), *full);
    }

    #[test]
    fn jobs_and_cron_jobs_come_back_as_they_were() {
        let template = json!({"metadata": {"name": "t", "labels": {"a": "b"}}, "spec": {
            "restartPolicy": "Never", "nodeName": "n", "containers": [{"name": "c", "image": "i", "env": [], "resources": {}}]}});
        let spec = json!({
            "completions": 5, "parallelism": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 1,
            "selector": {"matchLabels": {"a": "b"}}, "template": template
        });
        check(
            Kind::Job,
            &json!({
                "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "x"}, "spec": spec,
                "status": {
                    "active": 1, "ready": 0, "terminating": 0, "completedIndexes": "0-2,4", "failedIndexes": "",
                    "uncountedTerminatedPods": {"failed": ["3f0fe55c-39b6-426e-bdd0-d93ef8a9b7ef"]},
                    "startTime": "2026-11-20T18:38:16Z",
                    "conditions": [{
                        "type": "Suspended", "status": "False", "reason": "JobResumed", "message": "Job resumed",
                        "lastProbeTime": "2026-11-20T18:38:16Z", "lastTransitionTime": "2026-11-20T18:38:16Z"
                    }]
                }
            }),
        );
        let mut inner = spec;
        inner.as_object_mut().map(|spec| spec.remove("selector"));
        check(
            Kind::CronJob,
            &json!({
                "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "j", "namespace": "x"},
                "spec": {
                    "schedule": "@hourly", "timeZone": "Etc/UTC", "concurrencyPolicy": "Forbid",
                    "jobTemplate": {"metadata": {"annotations": {"c": "d"}}, "spec": inner}
                },
                "status": {
                    "lastScheduleTime": "2026-11-20T18:38:00Z",
                    "active": [{"kind": "Job", "namespace": "x", "name": "j-1", "apiVersion": "batch/v1",
                                "uid": "3f0fe55c-39b6-426e-bdd0-d93ef8a9b7ef", "resourceVersion": "7"}]
                }
            }),
        );
    }

    #[test]
    fn the_hostname_of_an_indexed_pod_follows_from_its_index() {
        let pod = |hostname: &str| {
            json!({
                "metadata": {
                    "name": "p", "annotations": {"batch.kubernetes.io/job-completion-index": "3"},
                    "ownerReferences": [{
                        "apiVersion": "batch/v1", "kind": "Job", "name": "j", "controller": true,
                        "uid": "0d90d7f3-9bd1-4a0c-8f72-e37fd6cf044c"
                    }]
                },
                "spec": {"hostname": hostname, "containers": [{"name": "c"}]}
            })
        };
        for (hostname, stored) in [("j-3", None), ("other", Some("other"))] {
            let object = Object::from_json(Kind::Pod, pod(hostname)).expect("a pod");
            let spec = &object.get::<Pod>().expect("a pod").spec.full;
            assert_eq!(spec.hostname.as_deref(), stored);
            assert_eq!(object.to_json()["spec"]["hostname"], hostname);
        }
    }
}

//! Jobs and CronJobs (kubernetes, pkg/registry/batch).

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::api::batch::{
    CONTROLLER_UID, CronJob, JOB_NAME, Job, JobSpec, LEGACY_CONTROLLER_UID, LEGACY_JOB_NAME,
};
use crate::api::kind::Kind;
use crate::api::name::Name;
use crate::api::selector::Selector;
use crate::api::validation::job_status;

use crate::apiserver::protocol::Part;
use crate::apiserver::status::Status;

/// Gives a new Job the selector and the labels by which its pods are known, unless it says that it brings its own.
pub fn create_job(job: &mut Job) {
    job.status = Default::default();
    if job.spec.full.manual_selector != Some(true) {
        generate_selector(job);
    }
    // The server adds defaults again whenever it reads a Job, and a Job without labels gets those of its pods.
    if job.meta.labels.is_empty() {
        job.meta.labels = job.spec.template.labels.clone();
    }
}

/// Labels that are there already stay; whether they are right is for validation to say (`generateSelector`).
fn generate_selector(job: &mut Job) {
    let (name, uid) = (job.meta.name.clone(), Name::from(job.meta.uid.to_string()));
    let spec = Rc::make_mut(&mut job.spec);
    let template = Rc::make_mut(&mut spec.template);
    let wanted =
        [(LEGACY_JOB_NAME, &name), (JOB_NAME, &name), (LEGACY_CONTROLLER_UID, &uid), (CONTROLLER_UID, &uid)];
    for (key, value) in wanted {
        if template.labels.get(key).is_none() {
            template.labels = template.labels.with(Name::of(key), value.clone());
        }
    }
    let selector = spec.full.selector.get_or_insert_default();
    let labels: &mut BTreeMap<String, String> = selector.match_labels.get_or_insert_default();
    labels.entry(CONTROLLER_UID.to_owned()).or_insert_with(|| String::from(&uid));
    if let Ok(compiled) = Selector::compile(Some(selector)) {
        spec.selector = Rc::new(compiled);
    }
}

/// The generation counts changes of the specification. A status must follow from the one before.
pub fn update_job(new: &mut Job, old: &Job, part: Part) -> Result<(), Box<Status>> {
    if part != Part::Status {
        new.status = old.status.clone();
        if !same_spec(&new.spec, &old.spec) {
            new.meta.generation += 1;
        }
        return Ok(());
    }
    new.spec = Rc::clone(&old.spec);
    if new.status == old.status {
        return Ok(());
    }
    let errors = job_status(new, old);
    if errors.is_empty() { Ok(()) } else { Err(Box::new(Status::invalid(Kind::Job, &new.meta.name, &errors))) }
}

/// The generation counts changes of the specification.
pub fn update_cron_job(new: &mut CronJob, old: &CronJob, part: Part) {
    if part == Part::Status {
        new.spec = Rc::clone(&old.spec);
        return;
    }
    new.status = old.status.clone();
    if !(Rc::ptr_eq(&new.spec, &old.spec) || new.spec == old.spec) {
        new.meta.generation += 1;
    }
}

fn same_spec(new: &Rc<JobSpec>, old: &Rc<JobSpec>) -> bool {
    Rc::ptr_eq(new, old) || new == old
}

//! Jobs and CronJobs (kubernetes, pkg/registry/batch).

use std::rc::Rc;

use crate::api::batch::{CronJob, Job, JobSpec};
use crate::api::kind::Kind;
use crate::api::validation::job_status;

use crate::apiserver::protocol::Part;
use crate::apiserver::status::Status;

/// Gives a new Job the selector and the labels by which its pods are known, unless it says that it brings its own.
pub fn create_job(job: &mut Job) {
    job.status = Default::default();
    if job.spec.full.manual_selector != Some(true) {
        job.generate_selector();
    }
    // The server adds defaults again whenever it reads a Job, and a Job without labels gets those of its pods.
    if job.meta.labels.is_empty() {
        job.meta.labels = job.spec.template.labels.clone();
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

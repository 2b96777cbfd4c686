//! The pods of a Job, and what its syncs need to know of each: found out once for each version of a pod.

use std::rc::Rc;

use crate::api::batch::{JOB_TRACKING, Job, JobSpec};
use crate::api::meta::Uid;
use crate::api::pod::{Pod, PodPhase};
use crate::client::view::View;

use super::super::census::{Census, Found, Known};
use super::super::owner::{self, Claim};
use super::super::script::{Halt, Script};

/// A pod of a Job.
pub(super) type Member = Known<Facts>;

/// What a pod is to its Job.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub uid: Uid,
    pub phase: PodPhase,
    pub is_deleting: bool,
    pub is_ready: bool,
    /// It has its finalizer.
    pub is_tracked: bool,
    /// Its completion index, whether the Job has such a one or not.
    pub index: Option<u32>,
    /// How often its containers were started again.
    pub restarts: i64,
}

impl Facts {
    /// Finds out what a pod is to its Job.
    fn of(pod: &Pod) -> Self {
        let statuses = pod.status.init_containers.iter().chain(pod.status.containers.iter());
        Facts {
            uid: pod.meta.uid,
            phase: pod.status.phase,
            is_deleting: pod.meta.is_deleting(),
            is_ready: pod.status.is_ready(),
            is_tracked: pod.is_tracked(),
            index: pod.completion_index(),
            restarts: statuses.map(|container| i64::from(container.restart_count)).sum(),
        }
    }

    /// True if the pod has neither ended nor is being deleted.
    pub fn is_active(&self) -> bool {
        !self.is_terminal() && !self.is_deleting
    }

    /// True if the pod is being deleted and has not ended.
    pub fn is_terminating(&self) -> bool {
        !self.is_terminal() && self.is_deleting
    }

    fn is_terminal(&self) -> bool {
        matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed)
    }

    /// True if the pod counts as failed. One that is being deleted does before it has ended, unless it is to be replaced only then.
    pub fn is_failed(&self, spec: &JobSpec) -> bool {
        match self.phase {
            PodPhase::Failed => true,
            PodPhase::Succeeded => false,
            _ => self.is_deleting && !spec.only_replaces_failed(),
        }
    }
}

/// Looks for the pods that a sync begins with: the Job's that are not both ended and counted, and orphans that could be its own.
pub(super) fn look(census: &mut Census<Facts>, view: &View<'_>, job: &Job) -> Found<Facts> {
    let own = view.unsettled_pods(job.meta.uid);
    let adoptable = |pod: &&Rc<Pod>| owner::claim(&job.meta, &job.spec.selector, &pod.meta) == Claim::Adopt;
    Found {
        own: census.look(job.meta.uid, &job.spec.selector, own, |pod| known(job, pod)),
        orphans: view.orphans::<Pod>(&job.meta.namespace).filter(adoptable).cloned().collect(),
    }
}

/// Adopts and releases pods; those adopted carry the finalizer from then on.
pub(super) fn claim(script: &mut Script<'_>, job: &Job, found: &Found<Facts>) -> Result<Rc<Vec<Member>>, Halt> {
    if let Some(pods) = found.settled() {
        return Ok(pods.clone());
    }
    let candidates = found.candidates(job.meta.uid);
    let mut pods = owner::claim_tracked(script, job, &job.spec.selector, &candidates, &JOB_TRACKING)?;
    for pod in &mut pods {
        let adopted = !pod.meta.owners().iter().any(|owner| owner.uid == job.meta.uid);
        if adopted && !pod.is_tracked() {
            let pod = Rc::make_mut(pod);
            pod.meta.finalizers = pod.meta.finalizers().iter().cloned().chain([JOB_TRACKING]).collect();
        }
    }
    Ok(Rc::new(pods.into_iter().map(|pod| known(job, pod)).collect()))
}

fn known(job: &Job, pod: Rc<Pod>) -> Member {
    let claim = owner::claim(&job.meta, &job.spec.selector, &pod.meta);
    Known { is_owned: claim == Claim::Owned, facts: Facts::of(&pod), pod }
}

//! Rollouts: from the moment a Deployment's template or size is changed until everything is as asked for.
//!
//! When a rollout is complete is what `kubectl rollout status` says: the controller has seen the newest generation, all
//! replicas are of the new template, no old one is left and all are available.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::api::meta::ObjectKey;
use crate::api::object::Object;
use crate::api::pod::PodTemplate;
use crate::api::workload::Deployment;
use crate::cluster::news::Write;
use crate::engine::process::Cause;
use crate::engine::time::{SimDuration, SimTime};

/// What began a rollout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RolloutReason {
    /// The Deployment was created.
    Created,
    /// Its template was changed.
    Updated,
    /// Only the number of replicas was changed.
    Scaled,
}

/// How a rollout ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RolloutEnd {
    /// Everything is as asked for.
    Complete,
    /// Another one began first.
    Superseded,
    /// The Deployment was deleted first.
    Deleted,
    /// The run ended first.
    Unfinished,
}

/// One rollout of one Deployment.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// The Deployment.
    pub key: ObjectKey,
    /// What began it.
    pub reason: RolloutReason,
    /// The containers' images, as `app=web:v2`.
    pub images: String,
    /// How many replicas were asked for.
    pub replicas: i32,
    /// When it began.
    pub began: SimTime,
    /// The event in which the write that began it was acknowledged.
    pub cause: Cause,
    /// When it ended, and how; none while it goes on.
    pub ended: Option<(SimTime, RolloutEnd)>,
    /// The event in which the write that ended it was acknowledged.
    pub end_cause: Cause,
    /// When the Deployment's progress deadline was exceeded, if it was.
    pub deadline_exceeded: Option<SimTime>,
    /// The lowest number of available replicas from the beginning to the end.
    pub lowest_available: i32,
    /// The largest number of replicas, old and new.
    pub most_replicas: i32,
}

impl Rollout {
    /// How it went, in one word.
    pub fn result(&self) -> &'static str {
        match (self.ended, self.deadline_exceeded) {
            (Some((_, RolloutEnd::Complete)), _) => "complete",
            (_, Some(_)) => "progress deadline exceeded",
            (Some((_, RolloutEnd::Superseded)), None) => "superseded",
            (Some((_, RolloutEnd::Deleted)), None) => "deleted",
            (Some((_, RolloutEnd::Unfinished)) | None, None) => "unfinished",
        }
    }

    /// How long it took: until it was complete, or until it was over in another way.
    pub fn duration(&self) -> Option<SimDuration> {
        self.ended.map(|(ended, _)| ended.since(self.began))
    }
}

/// All rollouts of a run in the order in which they began.
#[derive(Debug, Default)]
pub struct Rollouts {
    all: Vec<Rollout>,
    /// The place of the last one of each Deployment.
    last: BTreeMap<ObjectKey, usize>,
}

impl Rollouts {
    /// All rollouts.
    pub fn all(&self) -> &[Rollout] {
        &self.all
    }

    /// Takes a write in; only those of Deployments matter.
    pub fn write(&mut self, write: &Write) {
        let old = write.old.as_ref().and_then(|old| old.get::<Deployment>());
        match &write.new {
            Some(Object::Deployment(new)) => self.changed(write, old, new),
            None if old.is_some() => self.end(&write.key, write.at, RolloutEnd::Deleted, write.cause),
            _ => {}
        }
    }

    /// Ends the account.
    pub fn finish(&mut self, at: SimTime) {
        for rollout in &mut self.all {
            rollout.ended = rollout.ended.or(Some((at, RolloutEnd::Unfinished)));
        }
    }

    fn changed(&mut self, write: &Write, old: Option<&Rc<Deployment>>, new: &Deployment) {
        let reason = match old {
            None => Some(RolloutReason::Created),
            Some(old) if !same_template(&old.spec.template, &new.spec.template) => Some(RolloutReason::Updated),
            Some(old) if old.spec.replicas != new.spec.replicas => Some(RolloutReason::Scaled),
            Some(_) => None,
        };
        if let Some(reason) = reason {
            self.end(&write.key, write.at, RolloutEnd::Superseded, write.cause);
            self.last.insert(write.key.clone(), self.all.len());
            self.all.push(Rollout {
                key: write.key.clone(),
                reason,
                images: images(&new.spec.template),
                replicas: new.spec.replicas,
                began: write.at,
                cause: write.cause,
                ended: None,
                end_cause: Cause::NONE,
                deadline_exceeded: None,
                lowest_available: old.map_or(0, |old| old.status.available_replicas),
                most_replicas: old.map_or(0, |old| old.status.replicas),
            });
        }
        let Some(rollout) = self.open(&write.key) else { return };
        rollout.lowest_available = rollout.lowest_available.min(new.status.available_replicas);
        rollout.most_replicas = rollout.most_replicas.max(new.status.replicas);
        if rollout.deadline_exceeded.is_none() && has_exceeded_deadline(new) {
            rollout.deadline_exceeded = Some(write.at);
        }
        if is_complete(new) {
            self.end(&write.key, write.at, RolloutEnd::Complete, write.cause);
        }
    }

    fn open(&mut self, key: &ObjectKey) -> Option<&mut Rollout> {
        let rollout = &mut self.all[*self.last.get(key)?];
        rollout.ended.is_none().then_some(rollout)
    }

    fn end(&mut self, key: &ObjectKey, at: SimTime, how: RolloutEnd, cause: Cause) {
        if let Some(rollout) = self.open(key) {
            rollout.ended = Some((at, how));
            rollout.end_cause = cause;
        }
    }
}

/// kubectl, rollout status of a Deployment.
fn is_complete(deployment: &Deployment) -> bool {
    let status = &deployment.status;
    status.observed_generation >= deployment.meta.generation
        && status.updated_replicas >= deployment.spec.replicas
        && status.replicas <= status.updated_replicas
        && status.available_replicas >= status.updated_replicas
}

fn has_exceeded_deadline(deployment: &Deployment) -> bool {
    let observed = deployment.status.observed_generation >= deployment.meta.generation;
    let conditions = &deployment.status.conditions;
    observed && conditions.iter().any(|one| one.kind == "Progressing" && one.reason == "ProgressDeadlineExceeded")
}

fn same_template(old: &Rc<PodTemplate>, new: &Rc<PodTemplate>) -> bool {
    Rc::ptr_eq(old, new)
        || (old.labels == new.labels
            && old.annotations == new.annotations
            && (Rc::ptr_eq(&old.spec, &new.spec) || old.spec.full == new.spec.full))
}

fn images(template: &PodTemplate) -> String {
    let main = template.spec.containers.iter().skip(template.spec.init_count);
    let images: Vec<String> = main.map(|one| format!("{}={}", one.name, one.image)).collect();
    images.join(" ")
}

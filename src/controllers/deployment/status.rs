//! A Deployment's status: counts, conditions, and whether it makes progress.

use crate::api::meta::Timestamp;
use crate::api::name::Name;
use crate::api::pod::ConditionStatus;
use crate::api::workload::{Deployment, DeploymentStatus, WorkloadCondition};
use crate::client::plan::Again;
use crate::client::view::Now;
use crate::engine::time::SimDuration;

use super::super::script::Halt;
use super::super::time;
use super::budget;
use super::sync::{Sets, Sync};

/// The condition that says whether a rollout gets on.
pub(super) const PROGRESSING: Name = Name::of("Progressing");
const AVAILABLE: Name = Name::of("Available");
const REPLICA_FAILURE: Name = Name::of("ReplicaFailure");

/// The reason of a rollout that came to its end.
const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
/// The reason of a rollout that made no progress for too long.
pub(super) const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// The condition of a type.
pub(super) fn find(conditions: &[WorkloadCondition], kind: Name) -> Option<&WorkloadCondition> {
    conditions.iter().find(|condition| condition.kind == kind)
}

/// A condition that begins to hold now.
pub(super) fn condition(
    kind: Name,
    status: ConditionStatus,
    reason: &'static str,
    message: Name,
    now: Timestamp,
) -> WorkloadCondition {
    WorkloadCondition { kind, status, reason: Name::of(reason), message, last_update: now, last_transition: now }
}

/// Puts a condition last, unless one with the same status and reason is there: then that one stays as it is
/// (deployment/util, `SetDeploymentCondition`).
pub(super) fn set(conditions: &mut Vec<WorkloadCondition>, mut condition: WorkloadCondition) {
    if let Some(present) = find(conditions, condition.kind.clone())
        && present.status == condition.status
    {
        if present.reason == condition.reason {
            return;
        }
        condition.last_transition = present.last_transition;
    }
    conditions.retain(|present| present.kind != condition.kind);
    conditions.push(condition);
}

/// `progressDeadlineSeconds`, if progress is watched at all.
pub(super) fn deadline_seconds(deployment: &Deployment) -> Option<i32> {
    deployment.spec.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX)
}

/// The status that follows from the ReplicaSets, progress aside (`calculateStatus`).
pub(super) fn calculate(deployment: &Deployment, sets: &Sets, now: Timestamp) -> DeploymentStatus {
    let sum = |count: fn(&crate::api::workload::ReplicaSetStatus) -> i32| {
        sets.all().fold(0i32, |sum, set| sum.saturating_add(count(&set.status)))
    };
    let available = sum(|status| status.available_replicas);
    let mut status = DeploymentStatus {
        observed_generation: deployment.meta.generation,
        replicas: sum(|status| status.replicas),
        updated_replicas: sets.new.as_ref().map_or(0, |new| new.status.replicas),
        ready_replicas: sum(|status| status.ready_replicas),
        available_replicas: available,
        unavailable_replicas: (budget::wanted(sets.all()) - available).max(0),
        terminating_replicas: terminating(sets),
        conditions: deployment.status.conditions.clone(),
        collision_count: deployment.status.collision_count,
    };
    let enough = available >= deployment.spec.replicas - budget::max_unavailable(deployment);
    let (holds, reason, message) = if enough {
        (ConditionStatus::True, "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        (ConditionStatus::False, "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut status.conditions, condition(AVAILABLE, holds, reason, Name::of(message), now));
    status
}

/// The sum of terminating pods; unknown if a ReplicaSet that was synced does not say
/// (`GetTerminatingReplicaCountForReplicaSets`).
fn terminating(sets: &Sets) -> Option<i32> {
    let mut total = 0i32;
    for set in sets.all() {
        match set.status.terminating_replicas {
            Some(count) => total = total.saturating_add(count),
            None if set.status.observed_generation == 0 => {}
            None => return None,
        }
    }
    Some(total)
}

/// True if all replicas are new and available and no old one is left (`DeploymentComplete`).
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let desired = deployment.spec.replicas;
    status.updated_replicas == desired
        && status.replicas == desired
        && status.available_replicas == desired
        && status.observed_generation >= deployment.meta.generation
}

/// True if the new status is nearer to the goal than the old one (`DeploymentProgressing`).
fn is_progressing(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    new.updated_replicas > old.updated_replicas
        || new.replicas - new.updated_replicas < old.replicas - old.updated_replicas
        || new.ready_replicas > old.ready_replicas
        || new.available_replicas > old.available_replicas
}

/// True if the last progress is longer ago than the deadline allows (`DeploymentTimedOut`).
fn has_timed_out(deadline_seconds: i32, condition: Option<&WorkloadCondition>, now: Now) -> bool {
    condition.is_some_and(|condition| {
        // A rollout that came to its end is not late, even if the next one has begun and the cache does not show it.
        condition.reason != NEW_SET_AVAILABLE
            && (condition.reason == TIMED_OUT
                || time::until(now, condition.last_update, deadline_seconds.into()).is_past())
    })
}

impl Sync<'_, '_> {
    /// Writes counts and conditions if they changed; else says when the deadline has to be looked at
    /// (`syncRolloutStatus`).
    pub fn write_rollout_status(&mut self, sets: &Sets) -> Result<Again, Halt> {
        let now = self.script.now();
        let mut status = calculate(&self.deployment, sets, now.timestamp());
        let deadline = deadline_seconds(&self.deployment);
        if deadline.is_none() {
            status.conditions.retain(|condition| condition.kind != PROGRESSING);
        }
        let current = find(&self.deployment.status.conditions, PROGRESSING);
        let over = status.replicas == status.updated_replicas
            && current.is_some_and(|condition| condition.reason == NEW_SET_AVAILABLE);
        if let Some(deadline) = deadline
            && !over
        {
            self.judge_progress(sets, &mut status, deadline, now);
        }
        match replica_failure(sets) {
            Some(failure) => set(&mut status.conditions, failure),
            None => status.conditions.retain(|condition| condition.kind != REPLICA_FAILURE),
        }
        if status == self.deployment.status {
            return Ok(next_check(&self.deployment, &status, now));
        }
        self.deployment.status = status;
        let operation = self.status_update();
        Err(self.script.finish(operation, Again::OnChange))
    }

    /// Sets the condition Progressing.
    fn judge_progress(&self, sets: &Sets, status: &mut DeploymentStatus, deadline: i32, now: Now) {
        let whose = match &sets.new {
            Some(new) => format!("ReplicaSet \"{}\"", new.meta.name),
            None => format!("Deployment \"{}\"", self.deployment.meta.name),
        };
        let at = now.timestamp();
        let progressing = |holds, reason, text: &str| {
            condition(PROGRESSING, holds, reason, Name::from(format!("{whose} {text}")), at)
        };
        if is_complete(&self.deployment, status) {
            let text = "has successfully progressed.";
            set(&mut status.conditions, progressing(ConditionStatus::True, NEW_SET_AVAILABLE, text));
        } else if is_progressing(&self.deployment.status, status) {
            let mut condition = progressing(ConditionStatus::True, "ReplicaSetUpdated", "is progressing.");
            // Unlike other conditions this one is renewed even if its reason stays: its time is that of the last progress.
            if let Some(present) = find(&self.deployment.status.conditions, PROGRESSING)
                && present.status == ConditionStatus::True
            {
                condition.last_transition = present.last_transition;
            }
            status.conditions.retain(|present| present.kind != PROGRESSING);
            status.conditions.push(condition);
        } else if has_timed_out(deadline, find(&status.conditions, PROGRESSING), now) {
            let text = "has timed out progressing.";
            set(&mut status.conditions, progressing(ConditionStatus::False, TIMED_OUT, text));
        }
    }
}

/// What a ReplicaSet says about failing to create or delete pods, the new one first (`getReplicaFailures`).
fn replica_failure(sets: &Sets) -> Option<WorkloadCondition> {
    let mut sets = sets.new.iter().chain(&sets.old);
    let failure = sets.find_map(|set| find(&set.status.conditions, REPLICA_FAILURE))?;
    Some(WorkloadCondition { last_update: failure.last_transition, ..failure.clone() })
}

/// When the deadline has to be looked at again if nothing happens (`requeueStuckDeployment`).
fn next_check(deployment: &Deployment, status: &DeploymentStatus, now: Now) -> Again {
    let current = find(&deployment.status.conditions, PROGRESSING);
    let (Some(deadline), Some(current)) = (deadline_seconds(deployment), current) else {
        return Again::OnChange;
    };
    if is_complete(deployment, status) || current.reason == TIMED_OUT {
        return Again::OnChange;
    }
    let left = time::until(now, current.last_update, deadline.into()).left();
    if left < SimDuration::from_secs(1) {
        return Again::RateLimited;
    }
    Again::After(left + SimDuration::from_secs(1))
}

//! A StatefulSet's status: counts of its pods, and when the next one may count as available.

use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::object::{Object, Resource};
use crate::api::stateful::{StatefulSet, StatefulSetStatus, UpdateStrategy};
use crate::apiserver::protocol::{Operation, Part};
use crate::apiserver::status::Reason;
use crate::client::plan::Again;
use crate::client::view::Now;
use crate::engine::time::SimDuration;

use super::super::script::{Halt, Script};
use super::super::time;
use super::members::Member;
use super::revisions::Revisions;

/// The status that pods make; those without an ordinal do not count (`updateStatus`).
pub(super) fn count(set: &StatefulSet, revisions: &Revisions, pods: &[Member], now: Now) -> StatefulSetStatus {
    let (current, update) = (&revisions.current.meta.name, &revisions.update.meta.name);
    let mut status = StatefulSetStatus {
        observed_generation: set.meta.generation,
        current_revision: current.clone(),
        update_revision: update.clone(),
        collision_count: Some(revisions.collision_count),
        ..StatefulSetStatus::default()
    };
    for facts in pods.iter().map(|pod| &pod.facts).filter(|facts| facts.ordinal >= 0) {
        status.replicas += 1;
        if facts.is_ready() {
            status.ready_replicas += 1;
            status.available_replicas += i32::from(facts.is_available(set, now));
        }
        if !facts.is_deleting {
            status.current_replicas += i32::from(facts.revision.as_ref() == Some(current));
            status.updated_replicas += i32::from(facts.revision.as_ref() == Some(update));
        }
    }
    status
}

/// Writes the status if it says something new. An update that is complete makes its revision the current one
/// (`updateStatefulSetStatus`, `completeRollingUpdate`, `inconsistentStatus`).
pub(super) fn write(script: &mut Script<'_>, set: &StatefulSet, status: &mut StatefulSetStatus) -> Result<(), Halt> {
    let all = set.spec.replicas;
    let is_rolling = matches!(set.spec.strategy, UpdateStrategy::RollingUpdate(_));
    if is_rolling && [status.updated_replicas, status.ready_replicas, status.replicas] == [all; 3] {
        status.current_replicas = status.updated_replicas;
        status.current_revision = status.update_revision.clone();
    }
    if status.observed_generation <= set.status.observed_generation {
        // The generation counts only if it is newer, the number of collisions not at all.
        let known = StatefulSetStatus {
            observed_generation: status.observed_generation,
            collision_count: status.collision_count,
            ..set.status.clone()
        };
        if known == *status {
            return Ok(());
        }
    }
    let first = script.ask(update(set.clone(), status))?;
    match first {
        Ok(_) => Ok(()),
        // A conflict is tried once more on what the cache shows; the original tries five times, 10 ms apart.
        Err(refusal) if refusal.reason == Reason::Conflict => {
            let (namespace, name) = (set.meta.namespace.clone(), set.meta.name.clone());
            let fresh = script.look(|view| view.object_at(Kind::StatefulSet, &namespace, &name).cloned());
            let fresh = fresh.as_ref().and_then(StatefulSet::of).filter(|it| it.meta.revision() != set.meta.revision());
            match fresh {
                Some(fresh) => script.write(update((**fresh).clone(), status)).map(|_| ()),
                None => Err(Halt::Failed(refusal.message)),
            }
        }
        Err(refusal) => Err(Halt::Failed(refusal.message)),
    }
}

fn update(mut set: StatefulSet, status: &StatefulSetStatus) -> Operation {
    set.status = status.clone();
    Operation::Update { object: Object::StatefulSet(Rc::new(set)), part: Part::Status, dry_run: false }
}

/// When to look again so that a pod counts as available the moment it is (`FindMinNextPodAvailabilityCheck`).
pub(super) fn again(set: &StatefulSet, status: &StatefulSetStatus, pods: &[Member], now: Now) -> Again {
    let seconds = set.spec.min_ready_seconds;
    if seconds <= 0 || status.ready_replicas == status.available_replicas {
        return Again::OnChange;
    }
    let waiting = pods.iter().filter(|pod| !pod.facts.is_available(set, now));
    match waiting.filter_map(|pod| pod.facts.ready_since).min() {
        Some(since) => Again::After(time::until(now, since, seconds.into()).left()),
        None => Again::After(SimDuration::from_secs(seconds as u64)),
    }
}

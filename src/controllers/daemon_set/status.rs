//! A DaemonSet's status: on how many nodes its pod is to be, is, is ready, is new.

use std::rc::Rc;

use crate::api::name::Name;
use crate::api::object::Resource;
use crate::api::workload::{DaemonSet, DaemonSetStatus};
use crate::apiserver::protocol::{Answer, Operation, Part};
use crate::client::plan::Again;
use crate::client::view::Now;
use crate::engine::time::SimDuration;

use super::super::owner;
use super::super::script::{Halt, Script};
use super::nodes::{Nodes, age};
use super::rolling;

/// Writes the status if it changed; tries once more on a fresh copy (`updateDaemonSetStatus`, `storeDaemonSetStatus`).
/// `observes` says whether the DaemonSet as it is was acted upon.
pub(super) fn write(
    script: &mut Script<'_>,
    set: &DaemonSet,
    nodes: &Nodes,
    hash: &Name,
    observes: bool,
) -> Result<Again, Halt> {
    let now = script.now();
    let counted = script.see(|_| Rc::new(count(set, nodes, hash, now)));
    let is_same =
        DaemonSetStatus { observed_generation: set.status.observed_generation, ..DaemonSetStatus::clone(&counted) }
            == set.status
            && set.status.observed_generation >= set.meta.generation;
    if !is_same {
        let generation = observes.then_some(set.meta.generation);
        if script.ask(update(set.clone(), &counted, generation))?.is_err() {
            let fresh = match script.ask(Operation::Get { key: owner::key_of(set) })? {
                Ok(Answer::Object(object)) => DaemonSet::of(&object).map(|fresh| (**fresh).clone()),
                Ok(_) => None,
                Err(status) => return Err(Halt::Failed(status.message)),
            };
            script.write(update(fresh.unwrap_or_else(|| set.clone()), &counted, generation))?;
        }
    }
    if set.min_ready_seconds > 0 && counted.number_ready != counted.number_available {
        return Ok(Again::After(SimDuration::from_secs(set.min_ready_seconds as u64)));
    }
    Ok(Again::OnChange)
}

/// Of several pods on a node the oldest counts.
pub(super) fn count(set: &DaemonSet, nodes: &Nodes, hash: &Name, now: Now) -> DaemonSetStatus {
    let today = now.timestamp();
    let settled = i32::try_from(nodes.settled).unwrap_or(i32::MAX);
    let mut counted = DaemonSetStatus {
        desired_number_scheduled: settled,
        current_number_scheduled: settled,
        number_ready: settled,
        number_available: settled,
        updated_number_scheduled: settled,
        collision_count: set.status.collision_count,
        conditions: set.status.conditions.clone(),
        ..DaemonSetStatus::default()
    };
    for node in nodes.open.iter().filter(|node| node.standing.exists) {
        if !node.standing.should_run {
            counted.number_misscheduled += i32::from(!node.pods.is_empty());
            continue;
        }
        counted.desired_number_scheduled += 1;
        let Some(pod) = node.pods.iter().min_by(|left, right| age(left).cmp(&age(right))) else { continue };
        counted.current_number_scheduled += 1;
        if pod.status.is_ready() {
            counted.number_ready += 1;
            counted.number_available += i32::from(pod.is_available(set.min_ready_seconds, today));
        }
        counted.updated_number_scheduled += i32::from(rolling::is_updated(set, hash, pod));
    }
    counted.number_unavailable = counted.desired_number_scheduled - counted.number_available;
    counted
}

/// Writes the counts; the number of collisions and the conditions are others' business.
fn update(mut set: DaemonSet, counted: &DaemonSetStatus, observed: Option<i64>) -> Operation {
    let present = std::mem::take(&mut set.status);
    set.status = DaemonSetStatus {
        observed_generation: observed.unwrap_or(present.observed_generation),
        collision_count: present.collision_count,
        conditions: present.conditions,
        ..counted.clone()
    };
    Operation::Update { object: Rc::new(set).into_object(), part: Part::Status, dry_run: false }
}

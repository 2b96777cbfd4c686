//! Which taints a node should have, and how they are changed.

use std::rc::Rc;

use crate::api::name::Name;
use crate::api::node::{Node, Taint, TaintEffect};
use crate::api::object::Object;
use crate::api::pod::ConditionStatus;
use crate::apiserver::protocol::{Answer, Operation, Part, Patch, TypedPatch};
use crate::apiserver::status::Reason;
use crate::engine::time::SimDuration;

use super::super::owner;
use super::super::script::{Halt, Script};
use super::taint;

const NOT_READY: Name = Name::of("node.kubernetes.io/not-ready");
const UNREACHABLE: Name = Name::of("node.kubernetes.io/unreachable");
const UNSCHEDULABLE: Name = Name::of("node.kubernetes.io/unschedulable");

/// The condition, the status in which it taints, and the taint (`nodeConditionToTaintKeyStatusMap`).
const BY_CONDITION: [(&str, ConditionStatus, Name); 6] = [
    ("Ready", ConditionStatus::False, NOT_READY),
    ("Ready", ConditionStatus::Unknown, UNREACHABLE),
    ("MemoryPressure", ConditionStatus::True, Name::of("node.kubernetes.io/memory-pressure")),
    ("DiskPressure", ConditionStatus::True, Name::of("node.kubernetes.io/disk-pressure")),
    ("NetworkUnavailable", ConditionStatus::True, Name::of("node.kubernetes.io/network-unavailable")),
    ("PIDPressure", ConditionStatus::True, Name::of("node.kubernetes.io/pid-pressure")),
];

/// How often a change of taints is tried when the node changes meanwhile, and how long is waited in between, at least and besides
/// (`UpdateTaintBackoff`).
const TRIES: usize = 5;
const PAUSE: SimDuration = SimDuration::from_millis(100);

/// The NoExecute taint for a Ready condition and the one that must not be there with it; none for a ready node.
pub(super) fn no_execute(ready: ConditionStatus) -> Option<(Taint, Taint)> {
    let (add, remove) = match ready {
        ConditionStatus::True => return None,
        ConditionStatus::False => (NOT_READY, UNREACHABLE),
        ConditionStatus::Unknown => (UNREACHABLE, NOT_READY),
    };
    Some((taint(add, TaintEffect::NoExecute), taint(remove, TaintEffect::NoExecute)))
}

/// Both NoExecute taints that this controller gives.
pub(super) fn all_no_execute() -> [Taint; 2] {
    [taint(UNREACHABLE, TaintEffect::NoExecute), taint(NOT_READY, TaintEffect::NoExecute)]
}

/// True if the node has one of them.
pub(super) fn any_no_execute(node: &Node) -> bool {
    !node.taints.is_empty() && all_no_execute().iter().any(|taint| has(node, taint))
}

/// True if the node has a taint of the same key and effect.
pub(super) fn has(node: &Node, wanted: &Taint) -> bool {
    node.taints.iter().any(|taint| matches(taint, wanted))
}

fn matches(one: &Taint, other: &Taint) -> bool {
    one.key == other.key && one.effect == other.effect
}

/// The NoSchedule taints to add and to remove so that they say what the conditions say.
pub(super) fn no_schedule_changes(node: &Node) -> (Vec<Taint>, Vec<Taint>) {
    let tainted = node.status.conditions.iter().filter_map(|condition| {
        let of =
            |(kind, status, _): &&(&str, ConditionStatus, Name)| condition.kind == *kind && condition.status == *status;
        BY_CONDITION.iter().find(of).map(|(_, _, key)| taint(key.clone(), TaintEffect::NoSchedule))
    });
    let cordoned = node.unschedulable.then(|| taint(UNSCHEDULABLE, TaintEffect::NoSchedule));
    let wanted: Vec<_> = tainted.chain(cordoned).collect();
    let is_ours = |taint: &&Taint| {
        taint.effect == TaintEffect::NoSchedule
            && (taint.key == UNSCHEDULABLE || BY_CONDITION.iter().any(|(_, _, key)| taint.key == *key))
    };
    let present: Vec<_> = node.taints.iter().filter(is_ours).cloned().collect();
    let missing = |from: &[Taint], all: &[Taint]| {
        all.iter().filter(|taint| !from.iter().any(|other| matches(other, taint))).cloned().collect::<Vec<_>>()
    };
    (missing(&present, &wanted), missing(&wanted, &present))
}

/// Adds some taints and removes others; true if all went well (node util, `SwapNodeControllerTaint`).
pub(super) fn swap(script: &mut Script<'_>, node: &Node, add: &[Taint], remove: &[Taint]) -> Result<bool, Halt> {
    let now = script.now().timestamp();
    let add: Vec<_> = add.iter().map(|taint| Taint { time_added: Some(now), ..taint.clone() }).collect();
    if !add.is_empty() {
        let added = change(script, node, |taints| {
            for taint in &add {
                match taints.iter_mut().find(|present| matches(present, taint)) {
                    Some(present) => *present = taint.clone(),
                    None => taints.push(taint.clone()),
                }
            }
        })?;
        if !added {
            return Ok(false);
        }
    }
    self::remove(script, node, remove)
}

/// Removes taints; true if all went well. Costs nothing if the cache shows none of them (`RemoveTaintOffNode`).
pub(super) fn remove(script: &mut Script<'_>, node: &Node, unwanted: &[Taint]) -> Result<bool, Halt> {
    if !unwanted.iter().any(|taint| has(node, taint)) {
        return Ok(true);
    }
    change(script, node, |taints| taints.retain(|taint| !unwanted.iter().any(|other| matches(taint, other))))
}

/// Reads the node, changes its taints and writes them, again if somebody else wrote the node meanwhile.
fn change(script: &mut Script<'_>, node: &Node, edit: impl Fn(&mut Vec<Taint>)) -> Result<bool, Halt> {
    let key = owner::key_of(node);
    for tried in 0..TRIES {
        if tried > 0 {
            script.pause(PAUSE, PAUSE)?;
        }
        let Ok(Answer::Object(Object::Node(fresh))) = script.ask(Operation::Get { key: key.clone() })? else {
            return Ok(false);
        };
        let mut taints = fresh.taints.to_vec();
        edit(&mut taints);
        if *taints == *fresh.taints {
            return Ok(true);
        }
        let patch = TypedPatch::NodeTaints { resource_version: fresh.meta.revision(), taints: Rc::from(taints) };
        let patch = Patch::Typed(Box::new(patch));
        match script.ask(Operation::Patch { key: key.clone(), patch, part: Part::Main, dry_run: false })? {
            Ok(_) => return Ok(true),
            Err(status) if status.reason == Reason::Conflict => {}
            Err(_) => return Ok(false),
        }
    }
    Ok(false)
}

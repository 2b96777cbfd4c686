//! When a node was last seen alive: by a newer heartbeat in its status, or by a renewed lease, in the observer's own time.

use crate::api::meta::{MicroTime, Timestamp};
use crate::api::name::Name;
use crate::api::node::{Node, NodeCondition};
use crate::api::pod::ConditionStatus;
use crate::client::view::Now;
use crate::engine::time::{SimDuration, SimTime};

/// What is remembered of a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Health {
    /// When the last sign of life was noticed.
    pub probe: SimTime,
    /// The Ready condition as it was then, if there was one: heartbeat, transition, status.
    pub ready: Option<(Timestamp, Timestamp, ConditionStatus)>,
    /// The newest renewal of the lease that was noticed.
    pub renewed: Option<MicroTime>,
    /// What the last pass took the Ready condition for, whether there was a sign of life with it or not; none if there was no
    /// such condition.
    pub judged: Option<ConditionStatus>,
}

/// The four conditions that become Unknown when a node is silent; NetworkUnavailable is not the kubelet's.
const SILENT: [Name; 4] =
    [Name::of("Ready"), Name::of("MemoryPressure"), Name::of("DiskPressure"), Name::of("PIDPressure")];

/// What the Ready condition of a node says that matters.
fn ready_of(node: &Node) -> Option<(Timestamp, Timestamp, ConditionStatus)> {
    node.condition("Ready").map(|ready| (ready.last_heartbeat, ready.last_transition, ready.status))
}

impl Health {
    /// What is known of a node after looking at it and at the renewal of its lease once more (`tryUpdateNodeHealth`, first half).
    pub fn observe(before: Option<Health>, node: &Node, renewed: Option<MicroTime>, now: Now) -> Health {
        let ready = ready_of(node);
        let seen_now = |renewed| Health { probe: now.at, ready, renewed, judged: None };
        let mut health = match before {
            // Never posted a status: its grace begins with its creation.
            None if ready.is_none() => {
                Health { probe: now.epoch.sim_time(node.meta.created), ready, renewed: None, judged: None }
            }
            None => seen_now(None),
            Some(before) => match (before.ready, ready) {
                (None, None) => Health { ready, ..before },
                (None, Some(_)) | (Some(_), None) => seen_now(None),
                // The lease is forgotten with the rest and noticed again below, which changes nothing.
                (Some(saved), Some(current)) if saved.0 != current.0 => seen_now(None),
                (Some(_), Some(_)) => before,
            },
        };
        if let Some(renewed) = renewed
            && health.renewed.is_none_or(|before| before < renewed)
        {
            health.renewed = Some(renewed);
            health.probe = now.at;
        }
        health
    }

    /// True if the node has been silent for its grace. The real monitor asks for longer than that; but its passes begin a
    /// period after the one before has ended, so one that comes ten periods after another is later than ten periods.
    pub fn is_silent(&self, grace: SimDuration, now: SimTime) -> bool {
        now >= self.probe + grace
    }
}

/// The conditions of a node that is silent, and whether the Ready condition is another one then.
pub(super) fn silent_conditions(node: &Node, now: Timestamp) -> (Vec<NodeCondition>, bool) {
    let mut conditions = node.status.conditions.clone();
    for kind in SILENT {
        match conditions.iter_mut().find(|condition| condition.kind == kind) {
            None => conditions.push(NodeCondition {
                kind,
                status: ConditionStatus::Unknown,
                reason: Name::of("NodeStatusNeverUpdated"),
                message: Name::of("Kubelet never posted node status."),
                last_heartbeat: node.meta.created,
                last_transition: now,
            }),
            Some(condition) if condition.status != ConditionStatus::Unknown => {
                condition.status = ConditionStatus::Unknown;
                condition.reason = Name::of("NodeStatusUnknown");
                condition.message = Name::of("Kubelet stopped posting node status.");
                condition.last_transition = now;
            }
            Some(_) => {}
        }
    }
    let changed = conditions.iter().find(|condition| condition.kind == SILENT[0]) != node.condition("Ready");
    (conditions, changed)
}

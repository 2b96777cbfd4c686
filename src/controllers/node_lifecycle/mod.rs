//! The node lifecycle controller: notices nodes that stopped reporting, says so in their conditions and taints,
//! and calls their pods not ready.
//!
//! Never deletes a pod: that is the taint eviction controller's business. Keeps in memory what the real one keeps in memory
//! (`nodeHealthMap`, `zoneStates`, the queues of nodes to be tainted), all of which a restart forgets:
//! when it last saw a sign of life of each node, in its own time, not in that of the dates that nodes write.
//!
//! - `health`: when a node was last seen alive
//! - `monitor`: the pass over all nodes every five seconds
//! - `zones`: how many nodes of a zone may be given up, and how fast
//! - `taints`: which taints a node should have
//!
//! Keys are nodes (taints for conditions, labels), pods (newly bound to a node that is not ready) and two that stand for no object:
//! the monitor pass and the tainting pass.

mod health;
mod monitor;
mod taints;
#[cfg(test)]
mod tests;
mod zones;

use std::cell::RefCell;
use std::rc::Rc;

use crate::api::event::EventType;
use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::node::{Node, Taint, TaintEffect};
use crate::api::object::Object;
use crate::api::pod::{ConditionStatus, Pod, PodCondition, PodConditionType};
use crate::apiserver::protocol::{Operation, Part, Patch, TypedPatch};
use crate::apiserver::status::Reason;
use crate::client::controller::{Change, Controller};
use crate::client::plan::{Again, Plan, Step};
use crate::client::view::{Now, View};
use crate::engine::time::SimDuration;

use super::config::Config;
use super::owner;
use super::script::{self, Halt, Script};
use monitor::Monitor;
use zones::ZoneState;

/// The tainting pass comes every 100 ms (scheduler, `NodeEvictionPeriod`), whenever nodes are called lost; here only while some node
/// is not ready.
const TAINTING_PERIOD: SimDuration = SimDuration::from_millis(100);

/// The key of the monitor pass.
fn monitor_key() -> ObjectKey {
    ObjectKey::new(Kind::Lease, Name::EMPTY, Name::of("monitor"))
}

/// The key of the tainting pass.
fn tainting_key() -> ObjectKey {
    ObjectKey::new(Kind::Lease, Name::EMPTY, Name::of("tainting"))
}

/// The node lifecycle controller.
pub struct NodeLifecycleController {
    period: SimDuration,
    /// What is remembered from pass to pass.
    monitor: Rc<RefCell<Monitor>>,
}

impl NodeLifecycleController {
    /// The controller with a configuration.
    pub fn new(config: &Config) -> Self {
        NodeLifecycleController {
            period: config.node_monitor_period,
            monitor: Rc::new(RefCell::new(Monitor::new(config))),
        }
    }

    /// The state of the zone that a node belongs to, if the monitor has seen it: `Normal`, `PartialDisruption`, ...
    pub fn zone_state(&self, node: &Node) -> Option<&'static str> {
        self.monitor.borrow().zones.state(&zones::zone_of(node)).map(ZoneState::name)
    }

    /// Gives nodes the taints NoExecute that the zones' rates allow (`doNoExecuteTaintingPass`).
    fn taint(&self, view: &View<'_>, now: Now) -> Plan {
        let mut monitor = self.monitor.borrow_mut();
        if monitor.not_ready.is_empty() {
            monitor.next_taint = None;
            return Plan::nothing();
        }
        // Passes that find nothing to do take no time, so they come in even steps from the end of the last one that did something.
        let next = now.at.next_tick(monitor.tainted, TAINTING_PERIOD);
        let due = *monitor.next_taint.get_or_insert(next);
        if now.at < due {
            return Plan { again: Again::After(due.since(now.at)), ..Plan::nothing() };
        }
        monitor.next_taint = None;
        let mut nodes = Vec::new();
        while let Some(name) = monitor.zones.next_to_taint(now.at) {
            nodes.extend(view.get::<Node>(&Name::EMPTY, &name).cloned());
        }
        drop(monitor);
        let monitor = self.monitor.clone();
        script::run(view, now, move |script| {
            for node in &nodes {
                let Some((add, remove)) = node.condition("Ready").and_then(|ready| taints::no_execute(ready.status))
                else {
                    continue; // Ready again.
                };
                if !taints::swap(script, node, &[add], &[remove])? {
                    script.once(|| monitor.borrow_mut().zones.enqueue_again(node, now.at));
                }
            }
            let end = script.now().at;
            let mut monitor = monitor.borrow_mut();
            monitor.tainted = end;
            monitor.next_taint = Some(end + TAINTING_PERIOD);
            Ok(Again::After(TAINTING_PERIOD))
        })
    }
}

impl Controller for NodeLifecycleController {
    fn name(&self) -> &'static str {
        "node-controller"
    }

    /// Eight for nodes, four for pods, and the two passes.
    fn workers(&self) -> usize {
        14
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::Node, Kind::Lease, Kind::Pod]
    }

    fn on_change(&self, change: Change<'_>, _view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        match change.object() {
            Object::Node(node) => {
                let name = node.meta.name.clone();
                let mut monitor = self.monitor.borrow_mut();
                if let Change::Deleted(_) = change {
                    monitor.retry.remove(&name);
                    monitor.not_ready.remove(&name);
                    return;
                }
                if node.is_ready() {
                    monitor.not_ready.remove(&name);
                } else {
                    monitor.not_ready.insert(name.clone());
                    enqueue(tainting_key(), SimDuration::ZERO);
                }
                enqueue(ObjectKey::new(Kind::Node, Name::EMPTY, name), SimDuration::ZERO);
            }
            Object::Pod(pod) => {
                let before = match change {
                    Change::Updated { old, .. } => old.get::<Pod>().and_then(|old| old.node.as_ref()),
                    _ => None,
                };
                if pod.node.is_some() && pod.node.as_ref() != before && !matches!(change, Change::Deleted(_)) {
                    enqueue(owner::key_of(&**pod), SimDuration::ZERO);
                }
            }
            _ => {}
        }
    }

    fn periodic(&self) -> Option<(ObjectKey, SimDuration)> {
        Some((monitor_key(), self.period))
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        match key.kind {
            Kind::Node => match view.get::<Node>(&Name::EMPTY, &key.name) {
                Some(node) => reconcile_node(view, node, now),
                None => Plan::nothing(),
            },
            Kind::Pod => match view.get::<Pod>(&key.namespace, &key.name) {
                Some(pod) => self.reconcile_pod(view, pod, now),
                None => Plan::nothing(),
            },
            _ if *key == tainting_key() => self.taint(view, now),
            _ => monitor::pass(&self.monitor, view, now),
        }
    }
}

impl NodeLifecycleController {
    /// A pod that was bound to a node that is not ready is called not ready at once (`processPod`).
    fn reconcile_pod(&self, view: &View<'_>, pod: &Rc<Pod>, now: Now) -> Plan {
        let Some(node) = &pod.node else {
            return Plan::nothing();
        };
        let seen = self.monitor.borrow().last_seen_ready(node);
        match seen {
            Some(status) if status != ConditionStatus::True => {}
            _ => return Plan::nothing(),
        }
        if view.get::<Node>(&Name::EMPTY, node).is_none() || seems_ready(pod).is_none() {
            return Plan::nothing();
        }
        let pod = pod.clone();
        script::run(view, now, move |script| match mark_not_ready(script, std::slice::from_ref(&pod))? {
            None => Ok(Again::OnChange),
            Some(message) => Err(Halt::Failed(message)),
        })
    }
}

/// Taints for conditions, and labels (`doNoScheduleTaintingPass`, `reconcileNodeLabels`).
fn reconcile_node(view: &View<'_>, node: &Rc<Node>, now: Now) -> Plan {
    let (add, remove) = taints::no_schedule_changes(node);
    let labels = missing_labels(node);
    if add.is_empty() && remove.is_empty() && labels.is_empty() {
        return Plan::nothing();
    }
    let node = node.clone();
    script::run(view, now, move |script| {
        if !add.is_empty() || !remove.is_empty() {
            // The original logs a failure and does not try again before the node changes.
            taints::swap(script, &node, &add, &remove)?;
        }
        if !labels.is_empty() {
            let labels = labels.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
            let patch = TypedPatch::Metadata {
                uid: None,
                resource_version: 0,
                owners: None,
                finalizers: None,
                labels,
                annotations: Vec::new(),
            };
            let key = owner::key_of(&*node);
            let patch = Patch::Typed(Box::new(patch));
            let _ = script.ask(Operation::Patch { key, patch, part: Part::Main, dry_run: false })?;
        }
        Ok(Again::OnChange)
    })
}

/// The older labels for operating system and architecture follow the newer ones (`labelReconcileInfo`).
fn missing_labels(node: &Node) -> Vec<(Name, Name)> {
    const PAIRS: [(&str, Name); 2] = [
        ("kubernetes.io/os", Name::of("beta.kubernetes.io/os")),
        ("kubernetes.io/arch", Name::of("beta.kubernetes.io/arch")),
    ];
    let missing = |(primary, secondary): (&str, Name)| {
        let value = node.meta.labels.get(primary)?;
        (node.meta.labels.get(&secondary) != Some(value)).then(|| (secondary, value.clone()))
    };
    PAIRS.into_iter().filter_map(missing).collect()
}

/// The place of a pod's Ready condition, if it has one that is not False.
fn seems_ready(pod: &Pod) -> Option<usize> {
    let is_told = |condition: &PodCondition| {
        condition.kind == PodConditionType::Ready && condition.status != ConditionStatus::False
    };
    pod.status.conditions.iter().position(is_told)
}

/// Writes into pods that they are not ready; all are tried; returns the first failure
/// (kube-controller-manager, node util, `MarkPodsNotReady`). What else the condition says stays as it was.
fn mark_not_ready(script: &mut Script<'_>, pods: &[Rc<Pod>]) -> Result<Option<String>, Halt> {
    let mut failure = None;
    for pod in pods {
        let Some(ready) = seems_ready(pod) else {
            continue;
        };
        let today = script.now().timestamp();
        let mut outcomes = script.step(|| {
            let mut changed = (**pod).clone();
            let condition = &mut changed.status.conditions[ready];
            condition.status = ConditionStatus::False;
            condition.last_transition = today;
            let object = Object::Pod(Rc::new(changed));
            Step::request(Operation::Update { object, part: Part::Status, dry_run: false })
        })?;
        match outcomes.pop() {
            Some(Err(status)) if status.reason == Reason::NotFound => continue,
            Some(Err(status)) => failure = failure.or(Some(status.message)),
            Some(Ok(_)) | None => {}
        }
        script.record(&owner::reference(&**pod), EventType::Warning, "NodeNotReady", "Node is not ready".to_owned());
    }
    Ok(failure)
}

/// A taint without value that is added now.
fn taint(key: Name, effect: TaintEffect) -> Taint {
    Taint { key, value: Name::EMPTY, effect, time_added: None }
}

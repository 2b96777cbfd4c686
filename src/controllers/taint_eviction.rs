//! The taint eviction controller: deletes pods that do not tolerate the NoExecute taints of their node, at once or when the time
//! that they tolerate them is over.
//!
//! Never taints a node. Keeps in memory which evictions are planned, as the real one does (`TimedWorkerQueue`):
//! a restart begins to count anew.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;

use crate::api::event::{EventType, ObjectReference};
use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::node::{Node, Taint, TaintEffect};
use crate::api::object::Object;
use crate::api::pod::{ConditionStatus, Pod, PodCondition, PodConditionType, Why};
use crate::apiserver::protocol::{Answer, DeleteOptions, Operation, Part, Patch, TypedPatch};
use crate::client::controller::{Change, Controller};
use crate::client::plan::{Again, Plan};
use crate::client::view::{Now, View};
use crate::engine::time::{SimDuration, SimTime};

use super::owner;
use super::script::{self, Halt, Script};

/// How often an eviction is tried, and how long is waited after each failure (`retries`).
const TRIES: usize = 5;
const PAUSE: SimDuration = SimDuration::from_millis(10);

/// The taint eviction controller. Its keys are pods, and nodes some of whose pods are being evicted.
#[derive(Default)]
pub struct TaintEvictionController {
    planned: Rc<RefCell<BTreeMap<ObjectKey, Eviction>>>,
    /// Pods of which there is news, their own or of their node's taints. A key without news is a planned eviction whose time
    /// may have come.
    news: RefCell<BTreeSet<ObjectKey>>,
}

/// An eviction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Eviction {
    /// To come at a time.
    At(SimTime),
    /// In progress. What is over is forgotten: if the node gets another taint, a pod that is still about is evicted once more.
    Going {
        /// It had waited for its time. The original then says that it is cancelled, though it goes on.
        timed: bool,
    },
}

/// How long a pod may stay on its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stay {
    NotAtAll,
    For(SimDuration),
    ForEver,
}

impl TaintEvictionController {
    /// The controller.
    pub fn new() -> Self {
        TaintEvictionController::default()
    }

    /// Puts a pod into the queue because of news.
    fn tell(&self, key: ObjectKey, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        self.news.borrow_mut().insert(key.clone());
        enqueue(key, SimDuration::ZERO);
    }

    /// Forgets a planned eviction, and says so if it was still to come (`cancelWorkWithEvent`).
    fn cancel(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        match self.planned.borrow_mut().remove(key) {
            Some(Eviction::At(_)) => {}
            Some(Eviction::Going { .. }) | None => return Plan::nothing(),
        }
        let key = key.clone();
        script::run(view, now, move |script| {
            note(script, &key, "Cancelling deletion of");
            Ok(Again::OnChange)
        })
    }

    /// Goes by what is planned: evicts if it is time.
    fn carry_on(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        let planned = self.planned.borrow().get(key).copied();
        match planned {
            Some(Eviction::At(at)) if at <= now.at => self.evict(view, key, now, true),
            Some(Eviction::At(at)) => Plan::nothing().again_after(at.since(now.at)),
            Some(Eviction::Going { .. }) | None => Plan::nothing(),
        }
    }

    /// What news of a node means for its pods that are being evicted (`processPodOnNode`). The eviction itself goes on, but the
    /// original forgets it, and says so if it had waited for its time; a pod that must not stay is then evicted once more.
    fn interrupt(&self, view: &View<'_>, node: &Node, now: Now) -> Plan {
        let (mut planned, mut news) = (self.planned.borrow_mut(), self.news.borrow_mut());
        let is_clean = no_execute(&node.taints).next().is_none();
        let mut cancelled = Vec::new();
        for pod in view.pods_on(&node.meta.name) {
            let key = owner::key_of(&**pod);
            let Some(Eviction::Going { timed }) = planned.get(&key).copied() else { continue };
            if !is_clean && matches!(stay_of(pod, node), Stay::For(_)) {
                news.remove(&key);
                continue;
            }
            planned.remove(&key);
            if timed {
                cancelled.push(key);
            }
        }
        script::run(view, now, move |script| {
            cancelled.iter().for_each(|key| note(script, key, "Cancelling deletion of"));
            Ok(Again::OnChange)
        })
    }

    fn evict(&self, view: &View<'_>, key: &ObjectKey, now: Now, timed: bool) -> Plan {
        let cancelled = match self.planned.borrow_mut().insert(key.clone(), Eviction::Going { timed }) {
            Some(Eviction::Going { .. }) => return Plan::nothing(),
            Some(Eviction::At(at)) => at > now.at,
            None => false,
        };
        let (key, planned) = (key.clone(), self.planned.clone());
        script::run(view, now, move |script| {
            if cancelled {
                note(script, &key, "Cancelling deletion of");
            }
            note(script, &key, "Marking for deletion");
            for _ in 0..TRIES {
                if mark_and_delete(script, &key)? {
                    break;
                }
                script.pause(PAUSE, SimDuration::ZERO)?;
            }
            script.once(|| planned.borrow_mut().remove(&key).is_some());
            Ok(Again::OnChange)
        })
    }
}

impl Controller for TaintEvictionController {
    fn name(&self) -> &'static str {
        "taint-eviction-controller"
    }

    /// The original's eight workers make no requests; each eviction is a goroutine of its own (`TimedWorkerQueue`). Many
    /// evictions at once therefore all read their pods first, then all mark them, and delete them last.
    fn workers(&self) -> usize {
        usize::MAX
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::Node, Kind::Pod]
    }

    fn on_change(&self, change: Change<'_>, view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        match change.object() {
            Object::Node(node) => {
                let before = match change {
                    Change::Updated { old, .. } => old.get::<Node>().map_or(&[][..], |old| &old.taints[..]),
                    _ => &[],
                };
                let gone = matches!(change, Change::Deleted(_));
                if !gone && !no_execute(before).eq(no_execute(&node.taints)) {
                    let is_going = |pod: &Rc<Pod>| {
                        matches!(self.planned.borrow().get(&owner::key_of(&**pod)), Some(Eviction::Going { .. }))
                    };
                    if view.pods_on(&node.meta.name).any(is_going) {
                        enqueue(change.object().key(), SimDuration::ZERO);
                    }
                    view.pods_on(&node.meta.name).for_each(|pod| self.tell(owner::key_of(&**pod), enqueue));
                }
            }
            Object::Pod(pod) => {
                let concerned = match change {
                    Change::Added(_) => pod.node.is_some(),
                    Change::Updated { old, .. } => old.get::<Pod>().is_none_or(|old| {
                        let same_spec = Rc::ptr_eq(&old.spec, &pod.spec);
                        old.node != pod.node || !same_spec && old.spec.full.tolerations != pod.spec.full.tolerations
                    }),
                    Change::Deleted(_) => self.planned.borrow().contains_key(&owner::key_of(&**pod)),
                };
                if concerned {
                    self.tell(owner::key_of(&**pod), enqueue);
                }
            }
            _ => {}
        }
    }

    /// Decides about a pod (`processPodOnNode`), or carries out what was planned.
    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        if key.kind == Kind::Node {
            let node = view.get::<Node>(&Name::EMPTY, &key.name);
            return node.map_or_else(Plan::nothing, |node| self.interrupt(view, node, now));
        }
        if !self.news.borrow_mut().remove(key) {
            return self.carry_on(view, key, now);
        }
        let Some(pod) = view.get::<Pod>(&key.namespace, &key.name) else {
            return self.cancel(view, key, now);
        };
        let Some(node) = &pod.node else {
            return Plan::nothing();
        };
        let stay = match view.get::<Node>(&Name::EMPTY, node) {
            Some(node) if no_execute(&node.taints).next().is_none() => return self.cancel(view, key, now),
            Some(node) => stay_of(pod, node),
            // A node that is gone says nothing any more; what was planned stays planned.
            None => return self.carry_on(view, key, now),
        };
        let duration = match stay {
            Stay::ForEver => return self.cancel(view, key, now),
            Stay::NotAtAll => return self.evict(view, key, now, false),
            Stay::For(duration) => duration,
        };
        // What was planned first holds, even if the time is another one by now.
        if self.planned.borrow().contains_key(key) {
            return self.carry_on(view, key, now);
        }
        if duration == SimDuration::ZERO {
            return self.evict(view, key, now, false);
        }
        self.planned.borrow_mut().insert(key.clone(), Eviction::At(now.at + duration));
        Plan::nothing().again_after(duration)
    }
}

fn no_execute(taints: &[Taint]) -> impl Iterator<Item = &Taint> {
    taints.iter().filter(|taint| taint.effect == TaintEffect::NoExecute)
}

fn stay_of(pod: &Pod, node: &Node) -> Stay {
    stay(&node.taints, pod.spec.full.tolerations.as_deref().unwrap_or(&[]))
}

/// How long a pod with these tolerations may stay: not at all if one taint is not tolerated, else the shortest time
/// of the tolerations that are used (`GetMatchingTolerations`, `getMinTolerationTime`).
fn stay(taints: &[Taint], tolerations: &[core::Toleration]) -> Stay {
    let mut shortest = Stay::ForEver;
    for taint in no_execute(taints) {
        let Some(used) = tolerations.iter().find(|toleration| tolerates(toleration, taint)) else {
            return Stay::NotAtAll;
        };
        if let Some(seconds) = used.toleration_seconds {
            let duration = SimDuration::from_secs(1).saturating_mul(u64::try_from(seconds).unwrap_or(0));
            shortest = match shortest {
                Stay::For(other) if other <= duration => shortest,
                _ => Stay::For(duration),
            };
        }
    }
    shortest
}

/// True if a toleration is for a taint (core, `ToleratesTaint`).
fn tolerates(toleration: &core::Toleration, taint: &Taint) -> bool {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if !effect.is_empty() && effect != "NoExecute" || !key.is_empty() && taint.key != *key {
        return false;
    }
    match text(&toleration.operator).as_str() {
        "" | "Equal" => taint.value == *text(&toleration.value),
        "Exists" => true,
        _ => false,
    }
}

/// Records what becomes of a pod. The event names the pod only, as in the original.
fn note(script: &mut Script<'_>, key: &ObjectKey, what: &str) {
    let about = ObjectReference {
        api_version: Name::of("v1"),
        kind: Name::of("Pod"),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        ..ObjectReference::default()
    };
    let message = format!("{what} Pod {}/{}", key.namespace, key.name);
    script.record(&about, EventType::Normal, "TaintManagerEviction", message);
}

/// Says in the conditions why the pod goes, and deletes it; true if both went well (`addConditionAndDeletePod`).
fn mark_and_delete(script: &mut Script<'_>, key: &ObjectKey) -> Result<bool, Halt> {
    let Ok(Answer::Object(Object::Pod(pod))) = script.ask(Operation::Get { key: key.clone() })? else {
        return Ok(false);
    };
    let condition = PodCondition {
        kind: PodConditionType::DisruptionTarget,
        status: ConditionStatus::True,
        why: Why::new(
            Some(Name::of("DeletionByTaintManager")),
            Some(Name::of("Taint manager: deleting due to NoExecute taint")),
        ),
        last_transition: script.now().timestamp(),
        observed_generation: pod.meta.generation,
    };
    if let Some(operation) = add_condition(&pod, condition)
        && script.ask(operation)?.is_err()
    {
        return Ok(false);
    }
    Ok(script.ask(Operation::Delete { key: key.clone(), options: DeleteOptions::default() })?.is_ok())
}

/// The patch that adds a condition to a pod; none if it says the same already.
fn add_condition(pod: &Pod, mut condition: PodCondition) -> Option<Operation> {
    if let Some(present) = pod.status.condition(&condition.kind)
        && present.status == condition.status
    {
        condition.last_transition = present.last_transition;
        // Of which generation of the pod it was said before makes no difference.
        let said_before = PodCondition { observed_generation: condition.observed_generation, ..present.clone() };
        if said_before == condition {
            return None;
        }
    }
    let patch = TypedPatch::PodConditions { uid: pod.meta.uid, conditions: vec![condition], nominated_node: None };
    let patch = Patch::Typed(Box::new(patch));
    Some(Operation::Patch { key: owner::key_of(pod), patch, part: Part::Status, dry_run: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::{self, Server};

    fn toleration(key: &str, seconds: Option<i64>) -> core::Toleration {
        core::Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            toleration_seconds: seconds,
            ..Default::default()
        }
    }

    fn taint(key: &'static str) -> Taint {
        Taint { key: Name::of(key), value: Name::EMPTY, effect: TaintEffect::NoExecute, time_added: None }
    }

    fn key() -> ObjectKey {
        ObjectKey::new(Kind::Pod, "default", "web")
    }

    fn server(tolerations: Vec<core::Toleration>) -> Server {
        let mut server = Server::at(100);
        server.put(Object::Node(Rc::new(testing::node("node-1"))));
        let mut pod = testing::ready_pod("web", 50);
        pod.node = Some("node-1".into());
        Rc::make_mut(&mut pod.spec).full.tolerations = Some(tolerations);
        server.put(Object::Pod(Rc::new(pod)));
        server
    }

    fn set_taints(server: &mut Server, taints: &[Taint]) {
        server.edit::<Node>("", "node-1", |node| node.taints = taints.into());
    }

    #[test]
    fn the_shortest_time_of_the_tolerations_in_use_counts() {
        let table: [(&[&'static str], Vec<core::Toleration>, Stay); 6] = [
            (&["a"], vec![], Stay::NotAtAll),
            (&["a"], vec![toleration("a", None)], Stay::ForEver),
            (&["a"], vec![toleration("a", Some(10))], Stay::For(SimDuration::from_secs(10))),
            (&["a", "b"], vec![toleration("a", Some(10))], Stay::NotAtAll),
            (
                &["a", "b"],
                vec![toleration("a", Some(10)), toleration("b", Some(5))],
                Stay::For(SimDuration::from_secs(5)),
            ),
            (&["a"], vec![toleration("a", Some(-3))], Stay::For(SimDuration::ZERO)),
        ];
        for (taints, tolerations, expected) in table {
            let taints: Vec<_> = taints.iter().map(|key| taint(key)).collect();
            assert_eq!(stay(&taints, &tolerations), expected, "{taints:?} {tolerations:?}");
        }
    }

    /// Tells the controller what is new and lets it look at the pod.
    fn look(server: &mut Server, controller: &TaintEvictionController) -> Again {
        server.tell(controller);
        server.reconcile(controller, &key())
    }

    #[test]
    fn a_pod_goes_when_the_time_that_it_tolerates_is_over() {
        let mut server = server(vec![toleration("a", Some(10))]);
        let controller = TaintEvictionController::new();
        assert_eq!(look(&mut server, &controller), Again::OnChange);
        set_taints(&mut server, &[taint("a")]);
        assert_eq!(look(&mut server, &controller), Again::After(SimDuration::from_secs(10)));
        server.seconds = 104;
        assert_eq!(look(&mut server, &controller), Again::After(SimDuration::from_secs(6)));
        server.seconds = 110;
        assert_eq!(look(&mut server, &controller), Again::OnChange);
        assert_eq!(server.events, ["TaintManagerEviction Marking for deletion Pod default/web"]);
        let pod = server.get::<Pod>("default", "web").expect("terminating").clone();
        assert!(pod.meta.is_deleting());
        let condition = pod.status.condition(&PodConditionType::DisruptionTarget).expect("marked");
        assert_eq!(condition.why.reason(), Some("DeletionByTaintManager"));
        let writes = server.writes.len();
        look(&mut server, &controller);
        assert_eq!(server.writes.len(), writes, "once");
    }

    #[test]
    fn a_pod_that_hangs_on_a_dead_node_is_evicted_once_more_when_the_node_gets_another_taint() {
        let mut server = server(vec![toleration("a", Some(10))]);
        let controller = TaintEvictionController::new();
        set_taints(&mut server, &[taint("a")]);
        look(&mut server, &controller);
        server.seconds = 110;
        look(&mut server, &controller);
        let condition = |server: &Server| {
            let pod = server.get::<Pod>("default", "web").expect("terminating");
            pod.status.condition(&PodConditionType::DisruptionTarget).cloned().expect("marked")
        };
        let before = condition(&server);
        server.seconds = 200;
        set_taints(&mut server, &[taint("a"), taint("node.kubernetes.io/out-of-service")]);
        look(&mut server, &controller);
        assert_eq!(server.events, ["TaintManagerEviction Marking for deletion Pod default/web"; 2]);
        assert_eq!(condition(&server), before, "that it is being disrupted was said");
    }

    /// Begins with an eviction whose time has come, lets something happen to the node's taints, and carries the eviction out. Only
    /// then is it told of by an event here.
    fn interrupted(tolerations: Vec<core::Toleration>, taints: &[Taint]) -> Server {
        let waits = !tolerations.is_empty();
        let mut server = server(tolerations);
        let controller = TaintEvictionController::new();
        set_taints(&mut server, &[taint("a")]);
        server.tell(&controller);
        if waits {
            server.reconcile(&controller, &key());
            server.seconds = 110;
        }
        let plan = controller.reconcile(&server.cache.view(), &key(), server.now());
        set_taints(&mut server, taints);
        server.tell(&controller);
        server.reconcile(&controller, &ObjectKey::new(Kind::Node, Name::EMPTY, "node-1"));
        server.carry_out(plan);
        server.reconcile(&controller, &key());
        server
    }

    #[test]
    fn an_eviction_under_way_is_called_cancelled_and_goes_on() {
        let (marking, cancelling) = (
            "TaintManagerEviction Marking for deletion Pod default/web",
            "TaintManagerEviction Cancelling deletion of Pod default/web",
        );
        let bearable = || vec![toleration("a", Some(10)), toleration("b", Some(10))];
        let table: [(_, &[Taint], &[&str]); 3] = [
            (bearable(), &[], &[cancelling, marking]),
            (bearable(), &[taint("b")], &[marking]),
            (bearable(), &[taint("c")], &[cancelling, marking, marking]),
        ];
        for (tolerations, taints, events) in table {
            let server = interrupted(tolerations, taints);
            assert_eq!(server.events, events, "{taints:?}");
            assert!(server.get::<Pod>("default", "web").expect("terminating").meta.is_deleting());
        }
    }

    #[test]
    fn an_eviction_without_delay_is_not_called_cancelled() {
        let server = interrupted(vec![], &[]);
        assert_eq!(server.events, ["TaintManagerEviction Marking for deletion Pod default/web"]);
    }

    #[test]
    fn what_was_planned_goes_on_though_the_node_is_gone() {
        let mut server = server(vec![toleration("a", Some(10))]);
        let controller = TaintEvictionController::new();
        set_taints(&mut server, &[taint("a")]);
        look(&mut server, &controller);
        server.vanish(&ObjectKey::new(Kind::Node, Name::EMPTY, "node-1"));
        server.seconds = 110;
        look(&mut server, &controller);
        assert_eq!(server.events, ["TaintManagerEviction Marking for deletion Pod default/web"]);
    }

    #[test]
    fn a_taint_that_is_taken_off_in_time_cancels_the_eviction() {
        let mut server = server(vec![toleration("a", Some(10))]);
        let controller = TaintEvictionController::new();
        set_taints(&mut server, &[taint("a")]);
        look(&mut server, &controller);
        set_taints(&mut server, &[]);
        server.seconds = 109;
        look(&mut server, &controller);
        assert_eq!(server.events, ["TaintManagerEviction Cancelling deletion of Pod default/web"]);
        server.seconds = 120;
        look(&mut server, &controller);
        assert_eq!(server.writes, [] as [&str; 0]);
    }

    #[test]
    fn a_pod_that_does_not_tolerate_goes_at_once() {
        let mut server = server(vec![]);
        let controller = TaintEvictionController::new();
        set_taints(&mut server, &[taint("a")]);
        look(&mut server, &controller);
        assert!(server.get::<Pod>("default", "web").expect("terminating").meta.is_deleting());
    }

    #[test]
    fn only_changes_of_no_execute_taints_wake_the_pods_of_a_node() {
        let mut server = server(vec![]);
        let controller = TaintEvictionController::new();
        let count = |server: &Server, old: &Rc<Node>| {
            let new = Object::Node(server.get::<Node>("", "node-1").expect("there").clone());
            let mut count = 0;
            let change = Change::Updated { old: &Object::Node(old.clone()), new: &new };
            controller.on_change(change, &server.cache.view(), &mut |_, _| count += 1);
            count
        };
        let before = server.get::<Node>("", "node-1").expect("there").clone();
        set_taints(&mut server, &[Taint { effect: TaintEffect::NoSchedule, ..taint("a") }]);
        assert_eq!(count(&server, &before), 0);
        set_taints(&mut server, &[taint("a")]);
        assert_eq!(count(&server, &before), 1);
    }
}

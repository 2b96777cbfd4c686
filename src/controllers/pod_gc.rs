//! The pod garbage collector: every 20 seconds it takes away pods that nobody else will.
//!
//! Those of nodes that are gone, those being deleted that were never bound or whose node is out of service, and ended ones
//! beyond a number. Never touches a pod that a kubelet still cares for.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::meta::{ObjectKey, Timestamp};
use crate::api::name::Name;
use crate::api::node::Node;
use crate::api::object::Object;
use crate::api::pod::{ConditionStatus, Pod, PodCondition, PodConditionType, PodPhase, PodStatus, Why};
use crate::apiserver::protocol::{DeleteOptions, Operation, Part, Patch, TypedPatch};
use crate::apiserver::status::Reason;
use crate::client::controller::{Change, Controller};
use crate::client::plan::{Again, Plan};
use crate::client::view::{Now, View};
use crate::engine::time::{SimDuration, SimTime};

use super::config::Config;
use super::owner;
use super::script::{self, Halt, Script};

/// The taint by which an operator says that a node will not come back.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// The pod garbage collector.
pub struct PodGarbageCollector {
    period: SimDuration,
    quarantine: SimDuration,
    threshold: usize,
    /// Nodes that pods name and that do not exist, and when that may be believed (in memory as in the original).
    missing: RefCell<BTreeMap<Name, SimTime>>,
    /// What the passes are about: followed change by change, so that a pass with nothing to do looks at no pod.
    concern: RefCell<Concern>,
}

/// Pods that a pass may have to look at, by namespace and name.
#[derive(Default)]
struct Concern {
    /// Those that have ended.
    ended: BTreeSet<(Name, Name)>,
    /// Those being deleted.
    deleting: BTreeSet<(Name, Name)>,
}

impl Concern {
    /// Takes in a pod as it is now, or as it was before it went.
    fn follow(&mut self, pod: &Pod, is_there: bool) {
        let place = (pod.meta.namespace.clone(), pod.meta.name.clone());
        let sets = [(&mut self.ended, pod.is_terminal()), (&mut self.deleting, pod.meta.is_deleting())];
        for (set, belongs) in sets {
            if belongs && is_there {
                set.insert(place.clone());
            } else if !set.is_empty() {
                set.remove(&place);
            }
        }
    }
}

impl PodGarbageCollector {
    /// The controller with a configuration.
    pub fn new(config: &Config) -> Self {
        PodGarbageCollector {
            period: config.pod_gc_period,
            quarantine: config.pod_gc_quarantine,
            threshold: config.terminated_pod_threshold,
            missing: RefCell::default(),
            concern: RefCell::default(),
        }
    }

    /// Nodes that have been missing for the whole quarantine; begins it for those newly missed (`gcOrphaned`).
    fn long_missing(&self, absent: &BTreeSet<Name>, now: SimTime) -> Vec<Name> {
        let mut missing = self.missing.borrow_mut();
        for name in absent {
            missing.entry(name.clone()).or_insert(now + self.quarantine);
        }
        let due: Vec<_> = missing.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        due.iter().for_each(|name| {
            missing.remove(name);
        });
        due.into_iter().filter(|name| absent.contains(name)).collect()
    }
}

impl Controller for PodGarbageCollector {
    fn name(&self) -> &'static str {
        "pod-garbage-collector"
    }

    fn workers(&self) -> usize {
        1
    }

    fn watches(&self) -> &'static [Kind] {
        &[Kind::Pod, Kind::Node]
    }

    fn on_change(&self, change: Change<'_>, _view: &View<'_>, _enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        if let Object::Pod(pod) = change.object() {
            self.concern.borrow_mut().follow(pod, !matches!(change, Change::Deleted(_)));
        }
    }

    fn periodic(&self) -> Option<(ObjectKey, SimDuration)> {
        Some((ObjectKey::new(Kind::Pod, Name::EMPTY, Name::EMPTY), self.period))
    }

    fn reconcile(&self, view: &View<'_>, _key: &ObjectKey, now: Now) -> Plan {
        let concern = self.concern.borrow();
        let mut out_of_service = Vec::new();
        let mut unscheduled = Vec::new();
        for (namespace, name) in &concern.deleting {
            let Some(pod) = view.get::<Pod>(namespace, name) else { continue };
            match &pod.node {
                None => unscheduled.push(pod.clone()),
                Some(name) if view.get::<Node>(&Name::EMPTY, name).is_some_and(|node| is_out_of_service(node)) => {
                    out_of_service.push(pod.clone());
                }
                Some(_) => {}
            }
        }
        let mut absent: BTreeSet<Name> = BTreeSet::new();
        let used = view.nodes_with_pods();
        absent.extend(used.filter(|name| view.get::<Node>(&Name::EMPTY, name).is_none()).cloned());
        let surplus = if self.threshold > 0 {
            surplus(view, concern.ended.len().saturating_sub(self.threshold))
        } else {
            Vec::new()
        };
        out_of_service.sort_by_key(by_eviction_and_creation);
        let missing: Vec<_> = self
            .long_missing(&absent, now.at)
            .into_iter()
            .map(|node| {
                let pods: Vec<_> = view.pods_on(&node).cloned().collect();
                (node, pods)
            })
            .collect();
        if surplus.is_empty() && out_of_service.is_empty() && missing.is_empty() && unscheduled.is_empty() {
            return Plan::nothing();
        }
        script::run(view, now, move |script| {
            // Those two all at once, the others one by one, as in the original.
            script
                .side_by_side(surplus.len(), surplus.len(), |script, index| delete(script, surplus[index].clone()))?;
            script.side_by_side(out_of_service.len(), out_of_service.len(), |script, index| {
                fail_and_delete(script, &out_of_service[index], false)
            })?;
            script.side_by_side(1, missing.len(), |script, index| {
                let (node, pods) = &missing[index];
                // The cache may be behind; the API server knows.
                let key = ObjectKey::new(Kind::Node, Name::EMPTY, node.clone());
                if script.ask(Operation::Get { key })?.is_err_and(|status| status.reason == Reason::NotFound) {
                    script.side_by_side(1, pods.len(), |script, index| fail_and_delete(script, &pods[index], true))?;
                }
                Ok(())
            })?;
            script.side_by_side(1, unscheduled.len(), |script, index| {
                fail_and_delete(script, &unscheduled[index], false)
            })?;
            Ok(Again::OnChange)
        })
    }
}

/// True if the node is not ready and an operator said that it will not come back.
fn is_out_of_service(node: &Node) -> bool {
    !node.is_ready() && node.taints.iter().any(|taint| taint.key == *OUT_OF_SERVICE)
}

/// The ended pods that go first: evicted ones, then the oldest. They may be many, and a pass over them takes its time: of those
/// that are gone by then nothing is held.
fn surplus(view: &View<'_>, count: usize) -> Vec<ObjectKey> {
    if count == 0 {
        return Vec::new();
    }
    let mut ended: Vec<_> = view.list::<Pod>().filter(|pod| pod.is_terminal()).collect();
    ended.sort_by_cached_key(|pod| by_eviction_and_creation(pod));
    ended.into_iter().take(count).map(|pod| owner::key_of(&**pod)).collect()
}

/// Evicted ones come first, then the oldest (`byEvictionAndCreationTimestamp`).
fn by_eviction_and_creation(pod: &Rc<Pod>) -> (bool, Timestamp, Name) {
    let evicted = pod.status.phase == PodPhase::Failed && pod.status.why.reason() == Some("Evicted");
    (!evicted, pod.meta.created, pod.meta.name.clone())
}

/// Calls a pod Failed if it has not ended, and deletes it without grace. A failure is left to the next pass
/// (`markFailedAndDeletePod`).
fn fail_and_delete(script: &mut Script<'_>, pod: &Pod, orphaned: bool) -> Result<(), Halt> {
    let key = owner::key_of(pod);
    if !pod.is_terminal() {
        let mut status = pod.status.clone();
        status.phase = PodPhase::Failed;
        status.observed_generation = pod.meta.generation;
        if orphaned {
            disrupt(&mut status, pod.meta.generation, script.now().timestamp());
        }
        let patch = Patch::Typed(Box::new(TypedPatch::PodStatus { uid: pod.meta.uid, status }));
        let operation = Operation::Patch { key: key.clone(), patch, part: Part::Status, dry_run: false };
        if script.ask(operation)?.is_err() {
            return Ok(());
        }
    }
    delete(script, key)
}

/// Deletes a pod without grace.
fn delete(script: &mut Script<'_>, key: ObjectKey) -> Result<(), Halt> {
    let options = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
    let _ = script.ask(Operation::Delete { key, options })?;
    Ok(())
}

/// Says why an orphaned pod goes. If it was on its way out for another reason already, the date stays (`UpdatePodCondition`).
fn disrupt(status: &mut PodStatus, generation: i64, now: Timestamp) {
    let mut target = PodCondition {
        kind: PodConditionType::DisruptionTarget,
        status: ConditionStatus::True,
        why: Why::new(Some(Name::of("DeletionByPodGC")), Some(Name::of("PodGC: node no longer exists"))),
        last_transition: now,
        observed_generation: generation,
    };
    match status.conditions.iter_mut().find(|condition| condition.kind == target.kind) {
        Some(present) => {
            if present.status == target.status {
                target.last_transition = present.last_transition;
            }
            *present = target;
        }
        None => status.conditions.push(target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::meta::Deletion;
    use crate::controllers::testing::{self, Server};

    fn pass(server: &mut Server, controller: &PodGarbageCollector) {
        let (key, _) = controller.periodic().expect("a pass");
        server.tell(controller);
        server.reconcile(controller, &key);
    }

    fn put(server: &mut Server, name: &str, change: impl FnOnce(&mut Pod)) {
        let mut pod = testing::ready_pod("web", 50);
        pod.meta.name = name.into();
        change(&mut pod);
        server.put(Object::Pod(Rc::new(pod)));
    }

    const DELETION: Deletion = Deletion { timestamp: Timestamp(130), grace_seconds: Some(30) };

    #[test]
    fn pods_of_a_missing_node_go_after_the_quarantine() {
        let mut server = Server::at(100);
        let controller = PodGarbageCollector::new(&Config::default());
        put(&mut server, "web", |pod| pod.node = Some("gone".into()));
        for (seconds, writes) in [(100, 0), (120, 0), (140, 2), (160, 2)] {
            server.seconds = seconds;
            pass(&mut server, &controller);
            assert_eq!(server.writes.len(), writes, "after {seconds} s: {:?}", server.writes);
        }
        assert!(server.get::<Pod>("default", "web").is_none());
    }

    #[test]
    fn a_pod_that_was_evicted_before_its_node_went_keeps_the_date_of_that() {
        let mut status = testing::ready_pod("web", 50).status;
        disrupt(&mut status, 1, Timestamp(100));
        let place = |status: &PodStatus| {
            status.conditions.iter().position(|it| it.kind == PodConditionType::DisruptionTarget).expect("said")
        };
        let before = place(&status);
        disrupt(&mut status, 2, Timestamp(160));
        assert_eq!(place(&status), before);
        let condition = &status.conditions[before];
        assert_eq!(condition.why.reason(), Some("DeletionByPodGC"));
        assert_eq!(condition.last_transition, Timestamp(100));
    }

    #[test]
    fn a_node_that_comes_back_in_time_keeps_its_pods() {
        let mut server = Server::at(100);
        let controller = PodGarbageCollector::new(&Config::default());
        put(&mut server, "web", |pod| pod.node = Some("node-1".into()));
        pass(&mut server, &controller);
        server.put(Object::Node(Rc::new(testing::node("node-1"))));
        server.seconds = 150;
        pass(&mut server, &controller);
        assert_eq!(server.writes, [] as [&str; 0]);
    }

    #[test]
    fn pods_that_were_never_bound_and_those_of_nodes_out_of_service_need_no_kubelet() {
        let mut server = Server::at(100);
        let controller = PodGarbageCollector::new(&Config::default());
        put(&mut server, "unbound", |pod| pod.meta.deletion = Some(Box::new(DELETION)));
        for (name, node) in [("stuck", "node-1"), ("alive", "node-2")] {
            put(&mut server, name, |pod| {
                pod.meta.deletion = Some(Box::new(DELETION));
                pod.node = Some(node.into());
            });
            server.put(Object::Node(Rc::new(testing::node(node))));
        }
        server.edit::<Node>("", "node-1", |node| {
            node.status.conditions[0].status = ConditionStatus::Unknown;
            let effect = crate::api::node::TaintEffect::NoExecute;
            node.taints =
                [crate::api::node::Taint { key: OUT_OF_SERVICE.into(), value: Name::EMPTY, effect, time_added: None }]
                    .into();
        });
        pass(&mut server, &controller);
        let left: Vec<_> = server.all::<Pod>().iter().map(|pod| pod.meta.name.to_string()).collect();
        assert_eq!(left, ["alive"]);
    }

    #[test]
    fn ended_pods_beyond_the_threshold_go_evicted_ones_first() {
        let mut server = Server::at(100);
        let controller = PodGarbageCollector::new(&Config { terminated_pod_threshold: 2, ..Config::default() });
        for (name, created, reason) in [("a", 5, None), ("b", 1, None), ("c", 9, Some("Evicted")), ("d", 3, None)] {
            put(&mut server, name, |pod| {
                pod.status.phase = PodPhase::Failed;
                pod.status.why = Why::new(reason.map(Name::of), None);
                pod.meta.created = Timestamp(created);
            });
        }
        pass(&mut server, &controller);
        assert_eq!(server.writes, ["delete pod/default/c", "delete pod/default/b"]);
    }
}

//! The ReplicaSet controller, which is that of ReplicationControllers too: keeps as many pods as are wanted.
//!
//! Never moves a pod and never waits for one: it creates what is missing, deletes what is too much and counts the rest.
//!
//! - `ranking`: which pods go first
//! - `status`: counts, availability in time, the condition ReplicaFailure

mod ranking;
mod status;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::marker::PhantomData;
use std::rc::Rc;

use crate::api::event::{EventType, ObjectReference};
use crate::api::kind::Kind;
use crate::api::meta::{Common, Labels, Meta, ObjectKey};
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::{Pod, PodSpec, PodStatus};
use crate::api::workload::{ReplicaSet, Replicated, ReplicationController};
use crate::apiserver::protocol::{DeleteOptions, Operation};
use crate::apiserver::status::Reason;
use crate::client::controller::{Change, Controller};
use crate::client::plan::{EventNote, Outcome, Plan, Request, Step};
use crate::client::view::{Now, View};
use crate::engine::time::SimDuration;

use super::config::Config;
use super::owner::{self, Claim};
use super::script::{self, Halt, Script};
use ranking::Neighbours;
use status::Tally;

/// The controller of ReplicaSets or of ReplicationControllers.
pub struct ReplicaSetController<R = ReplicaSet> {
    name: &'static str,
    watches: &'static [Kind],
    reads_its_writes: &'static [Kind],
    workers: usize,
    resync: Option<SimDuration>,
    burst: usize,
    kind: PhantomData<R>,
}

/// What a sync begins with: taken from the cache once.
struct Snapshot<R> {
    set: Rc<R>,
    /// Pods that count, and orphans that could; empty if they need only be counted.
    pods: Vec<Rc<Pod>>,
    /// The pods that count if none is adopted or released.
    tally: Tally,
    /// True if the tally is all there is to know, until pods have to go: none to be claimed, none that becomes available in time.
    counted: bool,
    /// The pods that go. Looked for once, though the code of a sync runs again after each answer.
    doomed: OnceCell<Vec<Rc<Pod>>>,
    /// How many pods of the same Deployment each node has; only if pods may have to go.
    neighbours: Neighbours,
    burst: usize,
    /// False while creations or deletions of the last sync are still expected.
    manage: bool,
}

impl ReplicaSetController<ReplicaSet> {
    /// The controller of ReplicaSets.
    pub fn new(config: &Config) -> Self {
        ReplicaSetController {
            name: "replicaset-controller",
            watches: &[Kind::ReplicaSet, Kind::Pod],
            reads_its_writes: &[Kind::Pod, Kind::ReplicaSet],
            workers: config.concurrent_replica_set_syncs,
            resync: config.resync,
            burst: config.replica_set_burst,
            kind: PhantomData,
        }
    }
}

impl ReplicaSetController<ReplicationController> {
    /// The controller of ReplicationControllers (kube-controller-manager, `ReplicationManager`).
    pub fn of_replication_controllers(config: &Config) -> Self {
        ReplicaSetController {
            name: "replication-controller",
            watches: &[Kind::ReplicationController, Kind::Pod],
            // Not yet for these, as the original says.
            reads_its_writes: &[],
            workers: config.concurrent_replication_controller_syncs,
            resync: config.resync,
            burst: config.replica_set_burst,
            kind: PhantomData,
        }
    }
}

impl<R: Replicated> ReplicaSetController<R> {
    fn look(&self, view: &View<'_>, key: &ObjectKey, now: Now, manage: bool) -> Plan {
        let Some(set) = view.get::<R>(&key.namespace, &key.name) else {
            return Plan::nothing();
        };
        let (tally, mut to_claim) = count(view, &**set, now);
        to_claim |= view.orphans::<Pod>(&key.namespace).any(|pod| may_adopt(&**set, pod));
        let manage = manage && !set.meta().is_deleting();
        if !to_claim && (!manage || tally.active == set.replicas()) {
            return status::plan(view, set, tally, now);
        }
        let snapshot = self.snapshot(view, set, tally, manage, to_claim);
        script::run(view, now, move |script| sync(script, &snapshot))
    }

    /// Everything that a sync which creates, deletes, adopts or releases may need.
    fn snapshot(&self, view: &View<'_>, set: &Rc<R>, tally: Tally, manage: bool, to_claim: bool) -> Snapshot<R> {
        let counted = !to_claim && set.min_ready_seconds() == 0;
        let mut pods = Vec::new();
        if !counted || tally.active > set.replicas() {
            let controlled = |pod: &&Rc<Pod>| pod.meta.controller().is_some_and(|it| it.uid == set.meta().uid);
            let own = view.owned_by::<Pod>(set.meta().uid).filter(|pod| pod.is_active()).filter(controlled);
            let orphans = view.orphans::<Pod>(&set.meta().namespace).filter(|pod| may_adopt(&**set, pod));
            pods.extend(own.chain(orphans).cloned());
        }
        let neighbours = if manage && pods.len() as i64 > i64::from(set.replicas()) {
            ranking::neighbours(view, &**set)
        } else {
            Neighbours::default()
        };
        let (set, doomed) = (set.clone(), OnceCell::new());
        Snapshot { set, pods, tally, counted, doomed, neighbours, burst: self.burst, manage }
    }
}

impl<R: Replicated> Controller for ReplicaSetController<R> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn workers(&self) -> usize {
        self.workers
    }

    fn watches(&self) -> &'static [Kind] {
        self.watches
    }

    fn reads_its_writes(&self) -> &'static [Kind] {
        self.reads_its_writes
    }

    fn on_change(&self, change: Change<'_>, view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        match change.object() {
            Object::Pod(pod) => pod_changed::<R>(change, pod, view, enqueue),
            object => {
                if let Some(set) = R::of(object) {
                    enqueue(owner::key_of(&**set), SimDuration::ZERO);
                }
            }
        }
    }

    fn resync(&self) -> Option<SimDuration> {
        self.resync
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        self.look(view, key, now, true)
    }

    fn reconcile_expecting(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        self.look(view, key, now, false)
    }
}

/// Counts the pods that are the set's; also tells whether there are any to be released. Where the cache has counted them, by
/// their labels and states, nobody looks at the pods; only who waits for pods to be available must see since when each is ready.
fn count<R: Replicated>(view: &View<'_>, set: &R, now: Now) -> (Tally, bool) {
    let mut tally = Tally::new(set, now);
    let mut to_release = false;
    let meta = set.meta();
    if set.min_ready_seconds() == 0
        && let Some(groups) = view.pod_counts(meta.uid)
    {
        for group in groups {
            if set.selector().matches(&group.labels) {
                tally.add_counted(group);
            } else {
                to_release |= group.active > 0 && !meta.is_deleting();
            }
        }
        return (tally, to_release);
    }
    for pod in view.owned_by::<Pod>(meta.uid) {
        match owner::claim(meta, set.selector(), &pod.meta) {
            Claim::Owned => tally.add(pod),
            Claim::Release => to_release |= pod.is_active(),
            Claim::Foreign | Claim::Adopt => {}
        }
    }
    (tally, to_release)
}

fn may_adopt<R: Replicated>(set: &R, pod: &Pod) -> bool {
    pod.is_active() && owner::claim(set.meta(), set.selector(), &pod.meta) == Claim::Adopt
}

/// Puts the ReplicaSets that a pod's change concerns into the queue: its owner, its former owner, and for an orphan all that
/// select it. A pod that became ready is looked at again when it may count as available.
fn pod_changed<R: Replicated>(
    change: Change<'_>,
    pod: &Pod,
    view: &View<'_>,
    enqueue: &mut dyn FnMut(ObjectKey, SimDuration),
) {
    let namespace = &pod.meta.namespace;
    let controller = pod.meta.controller();
    let mut could_be_adopted = matches!(change, Change::Added(_)) && !pod.meta.is_deleting();
    let mut became_ready = false;
    if let Change::Updated { old, new } = change {
        if old.meta().revision() == new.meta().revision() {
            return; // A resync.
        }
        let before = old.meta().controller();
        let relabelled = old.meta().labels != new.meta().labels;
        if before != controller
            && (!pod.meta.is_deleting() || relabelled)
            && let Some(set) = before.and_then(|before| owner::resolve::<R>(view, namespace, before))
        {
            enqueue(owner::key_of(&**set), SimDuration::ZERO);
        }
        could_be_adopted = !pod.meta.is_deleting() && (relabelled || before != controller);
        let was_ready = old.get::<Pod>().is_some_and(|old| old.status.is_ready());
        became_ready = !pod.meta.is_deleting() && !was_ready && pod.status.is_ready();
    }
    let Some(controller) = controller else {
        if could_be_adopted {
            let sets = view.list_in::<R>(namespace);
            let selecting =
                sets.filter(|set| !set.selector().is_everything() && set.selector().matches(&pod.meta.labels));
            selecting.for_each(|set| enqueue(owner::key_of(&**set), SimDuration::ZERO));
        }
        return;
    };
    if let Some(set) = owner::resolve::<R>(view, namespace, controller) {
        enqueue(owner::key_of(&**set), SimDuration::ZERO);
        if became_ready && set.min_ready_seconds() > 0 {
            enqueue(owner::key_of(&**set), SimDuration::from_secs(set.min_ready_seconds() as u64));
        }
    }
}

/// Claims pods, creates or deletes, then writes the status (kube-controller-manager, `syncReplicaSet`).
fn sync<R: Replicated>(script: &mut Script<'_>, snapshot: &Snapshot<R>) -> Result<crate::client::plan::Again, Halt> {
    let set = &*snapshot.set;
    if snapshot.counted {
        let present = usize::try_from(snapshot.tally.active).unwrap_or(0);
        let failure = if snapshot.manage { manage(script, snapshot, present, &snapshot.pods)? } else { None };
        let tally = snapshot.tally.at(script.now());
        return status::write(script, set, &tally, failure);
    }
    let pods = owner::claim_all(script, set, set.selector(), &snapshot.pods)?;
    let failure = if snapshot.manage { manage(script, snapshot, pods.len(), &pods)? } else { None };
    let mut tally = Tally::new(set, script.now());
    tally.terminating = snapshot.tally.terminating;
    pods.iter().for_each(|pod| tally.add(pod));
    status::write(script, set, &tally, failure)
}

/// Creates the pods that are missing or deletes those that are too many, at most a burst of them; returns the first failure
/// (`manageReplicas`).
fn manage<R: Replicated>(
    script: &mut Script<'_>,
    snapshot: &Snapshot<R>,
    present: usize,
    pods: &[Rc<Pod>],
) -> Result<Option<String>, Halt> {
    let set = &*snapshot.set;
    let wanted = usize::try_from(set.replicas()).unwrap_or(0);
    if present < wanted {
        let count = (wanted - present).min(snapshot.burst);
        create(script, set, count)
    } else if present > wanted {
        let count = (present - wanted).min(snapshot.burst);
        let now = script.now();
        let doomed = snapshot.doomed.get_or_init(|| ranking::first(pods, count, &snapshot.neighbours, now));
        delete(script, set, doomed)
    } else {
        Ok(None)
    }
}

fn create<R: Replicated>(script: &mut Script<'_>, set: &R, count: usize) -> Result<Option<String>, Halt> {
    script.push(Step::Expect { creations: count as u32, deletions: Vec::new() });
    let about = owner::reference(set);
    let outcomes = script.step(|| {
        let pod = new_pod(set);
        let request = || Request {
            operation: Operation::Create { object: Object::Pod(Rc::new(pod.clone())), dry_run: false },
            tolerate: &[],
            on_success: Some(note(&about, EventType::Normal, "SuccessfulCreate", "Created pod: {name}".to_owned())),
            on_failure: Some(note(&about, EventType::Warning, "FailedCreate", "Error creating: {error}".to_owned())),
        };
        Step::SlowStart(std::iter::repeat_with(request).take(count).collect())
    })?;
    // In a namespace that is being deleted every creation fails, and there is nothing to be done about it.
    let counts = |outcome: &&Outcome| outcome.as_ref().is_err_and(|status| !status.is_namespace_terminating());
    Ok(outcomes.iter().find(counts).and_then(|outcome| outcome.as_ref().err()).map(|status| status.message.clone()))
}

fn delete<R: Replicated>(script: &mut Script<'_>, set: &R, doomed: &[Rc<Pod>]) -> Result<Option<String>, Halt> {
    script.push(Step::Expect { creations: 0, deletions: doomed.iter().map(|pod| pod.meta.uid).collect() });
    let about = owner::reference(set);
    let outcomes = script.step(|| {
        let request = |pod: &Rc<Pod>| {
            let name = &pod.meta.name;
            let key = ObjectKey { kind: Kind::Pod, namespace: pod.meta.namespace.clone(), name: name.clone() };
            Request {
                operation: Operation::Delete { key, options: DeleteOptions::default() },
                tolerate: &[Reason::NotFound],
                on_success: Some(note(&about, EventType::Normal, "SuccessfulDelete", format!("Deleted pod: {name}"))),
                on_failure: Some(note(
                    &about,
                    EventType::Warning,
                    "FailedDelete",
                    "Error deleting: {error}".to_owned(),
                )),
            }
        };
        Step::Parallel(doomed.iter().map(request).collect())
    })?;
    let counts = |outcome: &&Outcome| outcome.as_ref().is_err_and(|status| status.reason != Reason::NotFound);
    let failure = outcomes.iter().find(counts).and_then(|outcome| outcome.as_ref().err());
    Ok(failure.map(|status| format!("unable to delete pods: {status}")))
}

fn note(about: &ObjectReference, kind: EventType, reason: &'static str, message: String) -> Box<EventNote> {
    Box::new(EventNote { regarding: about.clone(), kind, reason: Name::of(reason), message })
}

/// A pod of the template, to be named by the server. All replicas share the specification, labels and owner.
fn new_pod<R: Replicated>(set: &R) -> Pod {
    const MAX_NAME_LENGTH: usize = 253;
    let mut prefix = format!("{}-", set.meta().name);
    if prefix.len() > MAX_NAME_LENGTH {
        prefix.pop();
    }
    let annotations: Labels = set.template().annotations.clone();
    let meta = Meta {
        common: Common {
            generate_name: Some(Name::from(prefix)),
            namespace: set.meta().namespace.clone(),
            labels: set.template().labels.clone(),
            annotations,
            owners: [owner::controller_reference(set)].into(),
            finalizers: set.template().finalizers().into(),
            ..Common::default()
        }
        .into(),
        ..Meta::default()
    };
    Pod {
        meta,
        spec: PodSpec::for_pods(&set.template().spec),
        node: set.template().node(),
        only_node: None,
        token_volume: None,
        status: PodStatus::default(),
    }
}

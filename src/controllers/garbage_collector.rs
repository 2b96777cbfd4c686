//! The garbage collector: deletes what its owners left behind, in the background, the foreground, or not at all (orphans).
//!
//! Never acts on what its cache says alone: whether an owner is gone is asked of the API server, unless its deletion was seen.
//! Remembers up to 500 owners that are gone (in memory as in the original, `absentOwnerCache`; a UID does not come back), so
//! that a thousand dependents of one owner cost one question at most.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use crate::api::kind::Kind;
use crate::api::meta::{Meta, ObjectKey, OwnerReference, Uid};
use crate::api::name::Name;
use crate::api::object::Object;
use crate::apiserver::protocol::{Answer, DeleteOptions, Operation, Part, Patch, Propagation, TypedPatch};
use crate::apiserver::status::Reason;
use crate::client::controller::{Change, Controller};
use crate::client::plan::{Again, Plan, Step};
use crate::client::view::{Now, View};
use crate::engine::time::SimDuration;

use super::config::Config;
use super::script::{self, Halt, Script};

const FOREGROUND: Name = Name::of("foregroundDeletion");
const ORPHAN: Name = Name::of("orphan");

/// Everything but events, which have no owners worth following (`DefaultIgnoredResources`).
pub(super) const KINDS: &[Kind] = &[
    Kind::Namespace,
    Kind::Node,
    Kind::Lease,
    Kind::Pod,
    Kind::ReplicaSet,
    Kind::Deployment,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Endpoints,
    Kind::ConfigMap,
    Kind::Secret,
    Kind::ServiceAccount,
    Kind::PriorityClass,
    Kind::ControllerRevision,
    Kind::PersistentVolume,
    Kind::PersistentVolumeClaim,
    Kind::StorageClass,
    Kind::CSINode,
    Kind::CSIDriver,
    Kind::CSIStorageCapacity,
    Kind::VolumeAttachment,
    Kind::PodDisruptionBudget,
    Kind::StatefulSet,
    Kind::ReplicationController,
    Kind::DaemonSet,
    Kind::Job,
    Kind::CronJob,
    Kind::ResourceQuota,
    Kind::LimitRange,
    Kind::RuntimeClass,
    Kind::HorizontalPodAutoscaler,
];

/// The garbage collector. Its keys are objects of any kind.
pub struct GarbageCollector {
    workers: usize,
    absent: Rc<RefCell<AbsentOwners>>,
}

/// Owners that are known to be gone, the latest last.
#[derive(Default)]
struct AbsentOwners {
    order: VecDeque<Uid>,
    uids: BTreeSet<Uid>,
}

impl AbsentOwners {
    const CAPACITY: usize = 500;

    fn add(&mut self, uid: Uid) -> bool {
        let is_new = self.uids.insert(uid);
        if is_new {
            self.order.push_back(uid);
            if self.order.len() > AbsentOwners::CAPACITY
                && let Some(oldest) = self.order.pop_front()
            {
                self.uids.remove(&oldest);
            }
        }
        is_new
    }
}

impl GarbageCollector {
    /// The controller with a configuration.
    pub fn new(config: &Config) -> Self {
        GarbageCollector { workers: config.concurrent_garbage_collector_syncs, absent: Rc::default() }
    }
}

impl Controller for GarbageCollector {
    fn name(&self) -> &'static str {
        "garbage-collector-controller"
    }

    fn workers(&self) -> usize {
        self.workers
    }

    /// Each deletion takes two requests (kube-controller-manager, app/core.go).
    fn limit_factors(&self) -> (u32, u32) {
        (2, 1)
    }

    fn watches(&self) -> &'static [Kind] {
        KINDS
    }

    /// What the graph builder puts into the queues (`processGraphChanges`).
    fn on_change(&self, change: Change<'_>, view: &View<'_>, enqueue: &mut dyn FnMut(ObjectKey, SimDuration)) {
        let object = change.object();
        let meta = object.meta();
        let mut enqueue = |key: ObjectKey| enqueue(key, SimDuration::ZERO);
        match change {
            Change::Deleted(_) => {
                let mut dependents = view.dependents(meta.uid).peekable();
                if dependents.peek().is_some() {
                    self.absent.borrow_mut().add(meta.uid);
                }
                dependents.for_each(&mut enqueue);
                waiting_owners(view, meta, meta.owners().iter()).for_each(enqueue);
            }
            Change::Added(_) => {
                if begins_to_wait(None, meta) {
                    view.dependents(meta.uid).for_each(&mut enqueue);
                    enqueue(object.key());
                } else if has_unsure_owner(view, meta, meta.owners().iter()) {
                    enqueue(object.key());
                }
            }
            Change::Updated { old, .. } => {
                let old = old.meta();
                if begins_to_wait(Some(old), meta) {
                    if is_waiting_for(meta, &FOREGROUND) {
                        view.dependents(meta.uid).for_each(&mut enqueue);
                    }
                    enqueue(object.key());
                }
                if old.owners() != meta.owners() {
                    let added = meta.owners().iter().filter(|owner| !old.owners().contains(owner));
                    if has_unsure_owner(view, meta, added) {
                        enqueue(object.key());
                    }
                    let blocks = |owner: &OwnerReference| {
                        meta.owners().iter().any(|it| it.uid == owner.uid && it.block_owner_deletion)
                    };
                    let freed = old.owners().iter().filter(|owner| owner.block_owner_deletion && !blocks(owner));
                    waiting_owners(view, meta, freed).for_each(enqueue);
                }
            }
        }
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Now) -> Plan {
        let Some(object) = view.object(key) else {
            return Plan::nothing();
        };
        let meta = object.meta();
        let (foreground, orphan) = (is_waiting_for(meta, &FOREGROUND), is_waiting_for(meta, &ORPHAN));
        if meta.is_deleting() && !foreground && !orphan || !meta.is_deleting() && meta.owners().is_empty() {
            return Plan::nothing();
        }
        let (key, uid, absent) = (key.clone(), meta.uid, self.absent.clone());
        if foreground && !orphan {
            return script::run(view, now, move |script| end_foreground(script, &key, uid));
        }
        let dependents: Vec<Object> = view.dependent_objects(uid).cloned().collect();
        script::run(view, now, move |script| {
            if orphan {
                orphan_dependents(script, uid, &dependents)?;
                return remove_finalizer(script, &key, uid, &ORPHAN);
            }
            collect(script, &key, uid, &absent, &dependents)
        })
    }
}

/// True if the object is being deleted and the finalizer stands in the way.
fn is_waiting_for(meta: &Meta, finalizer: &Name) -> bool {
    meta.is_deleting() && meta.finalizers().contains(finalizer)
}

/// True if a deletion that the collector has to help with begins with this version (`processTransitions`).
fn begins_to_wait(old: Option<&Meta>, new: &Meta) -> bool {
    let begins =
        |finalizer: &Name| is_waiting_for(new, finalizer) && !old.is_some_and(|old| is_waiting_for(old, finalizer));
    begins(&FOREGROUND) || begins(&ORPHAN)
}

/// Where the object that a reference means would be; none for kinds that are not simulated.
fn key_of_owner(owner: &OwnerReference, dependent: &Meta) -> Option<ObjectKey> {
    let kind = Kind::of_manifest(&owner.api_version, &owner.kind)?;
    let namespace = if kind.row().namespaced { dependent.namespace.clone() } else { Name::EMPTY };
    Some(ObjectKey { kind, namespace, name: owner.name.clone() })
}

fn find_owner<'a>(view: &View<'a>, owner: &OwnerReference, dependent: &Meta) -> Option<&'a Object> {
    view.object(&key_of_owner(owner, dependent)?).filter(|found| found.meta().uid == owner.uid)
}

/// True if an owner is not in the cache, or waits for its dependents to go: then the dependent has to be looked at.
fn has_unsure_owner<'o>(
    view: &View<'_>,
    dependent: &Meta,
    mut owners: impl Iterator<Item = &'o OwnerReference>,
) -> bool {
    owners.any(|owner| find_owner(view, owner, dependent).is_none_or(|it| is_waiting_for(it.meta(), &FOREGROUND)))
}

/// The owners that wait for their dependents to go.
fn waiting_owners<'o>(
    view: &View<'_>,
    dependent: &Meta,
    owners: impl Iterator<Item = &'o OwnerReference>,
) -> impl Iterator<Item = ObjectKey> {
    let found = owners.filter_map(move |owner| find_owner(view, owner, dependent));
    found.filter(|owner| is_waiting_for(owner.meta(), &FOREGROUND)).map(Object::key)
}

/// The object as the API server has it; none if it is gone or another incarnation.
fn read(script: &mut Script<'_>, key: &ObjectKey, uid: Uid) -> Result<Option<Object>, Halt> {
    match script.ask(Operation::Get { key: key.clone() })? {
        Ok(Answer::Object(object)) => Ok(Some(object).filter(|object| object.meta().uid == uid)),
        Ok(_) => Ok(None),
        Err(status) if status.reason == Reason::NotFound => Ok(None),
        Err(status) => Err(Halt::Failed(status.message)),
    }
}

/// Lets an object go that waited for its dependents, once none is left that blocks it; the last one's deletion brings it up
/// again (`processDeletingDependentsItem`). Before it looks at them the original reads the object, each time anew.
fn end_foreground(script: &mut Script<'_>, key: &ObjectKey, uid: Uid) -> Result<Again, Halt> {
    if read(script, key, uid)?.is_none() {
        return Ok(Again::OnChange);
    }
    let blocks = |owner: &OwnerReference| owner.uid == uid && owner.block_owner_deletion;
    let is_blocked = *script.see(|view| {
        let mut dependents = view.dependent_objects(uid);
        Rc::new(dependents.any(|dependent| dependent.meta().owners().iter().any(blocks)))
    });
    if is_blocked { Ok(Again::OnChange) } else { remove_finalizer(script, key, uid, &FOREGROUND) }
}

/// Deletes an object if all its owners are gone or wait for it to go (`attemptToDeleteItem`).
fn collect(
    script: &mut Script<'_>,
    key: &ObjectKey,
    uid: Uid,
    absent: &Rc<RefCell<AbsentOwners>>,
    dependents: &[Object],
) -> Result<Again, Halt> {
    let Some(latest) = read(script, key, uid)? else {
        return Ok(Again::OnChange);
    };
    let meta = latest.meta();
    if meta.owners().is_empty() {
        return Ok(Again::OnChange);
    }
    let (mut solid, mut waiting) = (Vec::new(), Vec::new());
    for owner in meta.owners() {
        if key.namespace.is_empty() && key_of_owner(owner, meta).is_some_and(|key| key.kind.row().namespaced) {
            return Ok(Again::OnChange); // Not valid, and no retry will make it so.
        }
        match live_owner(script, owner, meta, absent)? {
            Owner::Gone => {}
            Owner::Waiting => waiting.push(owner.clone()),
            Owner::Solid => solid.push(owner.clone()),
        }
    }
    if !solid.is_empty() {
        if solid.len() != meta.owners().len() {
            script.write(set_owners(key, uid, solid))?;
        }
        return Ok(Again::OnChange);
    }
    let propagation = if !waiting.is_empty() && !dependents.is_empty() {
        if dependents.iter().any(|dependent| is_waiting_for(dependent.meta(), &FOREGROUND)) {
            // Perhaps a circle: this object does not hold its owners up any more.
            let free = |owner: &OwnerReference| OwnerReference { block_owner_deletion: false, ..owner.clone() };
            script.write(set_owners(key, uid, meta.owners().iter().map(free).collect()))?;
        }
        Propagation::Foreground
    } else if meta.finalizers().contains(&ORPHAN) {
        Propagation::Orphan
    } else if meta.finalizers().contains(&FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    };
    delete(script, key, meta, propagation)
}

/// What became of an owner.
enum Owner {
    Gone,
    Waiting,
    Solid,
}

/// Asks the API server about an owner (`isDangling`).
fn live_owner(
    script: &mut Script<'_>,
    owner: &OwnerReference,
    dependent: &Meta,
    absent: &Rc<RefCell<AbsentOwners>>,
) -> Result<Owner, Halt> {
    let uid = owner.uid;
    if script.once(|| absent.borrow().uids.contains(&uid)) {
        return Ok(Owner::Gone);
    }
    let Some(key) = key_of_owner(owner, dependent) else {
        return Err(Halt::Failed(format!("unable to get REST mapping for {}/{}.", owner.api_version, owner.kind)));
    };
    match read(script, &key, uid)? {
        None => {
            script.once(|| absent.borrow_mut().add(uid));
            Ok(Owner::Gone)
        }
        Some(found) if is_waiting_for(found.meta(), &FOREGROUND) => Ok(Owner::Waiting),
        Some(_) => Ok(Owner::Solid),
    }
}

/// Deletes the version that was judged; if it changed meanwhile but its owners did not, whatever version there is
/// (`deleteObject`).
fn delete(script: &mut Script<'_>, key: &ObjectKey, meta: &Meta, propagation: Propagation) -> Result<Again, Halt> {
    let mut options = DeleteOptions {
        uid: Some(meta.uid),
        resource_version: Some(meta.revision()),
        propagation: Some(propagation),
        ..DeleteOptions::default()
    };
    for _ in 0..2 {
        match script.ask(Operation::Delete { key: key.clone(), options: options.clone() })? {
            Ok(_) => break,
            Err(status) if status.reason == Reason::NotFound => break,
            Err(status) if status.reason == Reason::Conflict && options.resource_version.is_some() => {
                let Some(fresh) = read(script, key, meta.uid)? else { break };
                if fresh.meta().owners() != meta.owners() {
                    return Err(Halt::Failed(status.message));
                }
                options.resource_version = None;
            }
            Err(status) => return Err(Halt::Failed(status.message)),
        }
    }
    Ok(Again::OnChange)
}

fn metadata(
    key: &ObjectKey,
    uid: Uid,
    version: u64,
    owners: Option<Vec<OwnerReference>>,
    finalizers: Option<Vec<Name>>,
) -> Operation {
    let patch = TypedPatch::Metadata {
        uid: Some(uid),
        resource_version: version,
        owners,
        finalizers,
        labels: Vec::new(),
        annotations: Vec::new(),
    };
    Operation::Patch { key: key.clone(), patch: Patch::Typed(Box::new(patch)), part: Part::Main, dry_run: false }
}

fn set_owners(key: &ObjectKey, uid: Uid, owners: Vec<OwnerReference>) -> Operation {
    metadata(key, uid, 0, Some(owners), None)
}

/// Takes the owner out of all dependents, all at once (`orphanDependents`).
fn orphan_dependents(script: &mut Script<'_>, owner: Uid, dependents: &[Object]) -> Result<(), Halt> {
    if dependents.is_empty() {
        return Ok(());
    }
    let outcomes = script.step(|| {
        let request = |dependent: &Object| {
            let meta = dependent.meta();
            let owners = meta.owners().iter().filter(|it| it.uid != owner).cloned().collect();
            script::tolerant(set_owners(&dependent.key(), meta.uid, owners), &[Reason::NotFound])
        };
        Step::Parallel(dependents.iter().map(request).collect())
    })?;
    let failure = outcomes.iter().filter_map(|it| it.as_ref().err()).find(|status| status.reason != Reason::NotFound);
    failure.map_or(Ok(()), |status| Err(Halt::Failed(status.message.clone())))
}

/// Takes a finalizer off an object, which may let it go (`removeFinalizer`).
fn remove_finalizer(script: &mut Script<'_>, key: &ObjectKey, uid: Uid, finalizer: &Name) -> Result<Again, Halt> {
    if let Some(latest) = read(script, key, uid)?
        && latest.meta().finalizers().contains(finalizer)
    {
        let meta = latest.meta();
        let rest = meta.finalizers().iter().filter(|it| *it != finalizer).cloned().collect();
        match script.ask(metadata(key, uid, meta.revision(), None, Some(rest)))? {
            Err(status) if status.reason != Reason::NotFound => return Err(Halt::Failed(status.message)),
            _ => {}
        }
    }
    Ok(Again::OnChange)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::meta::{Deletion, Timestamp};
    use crate::api::pod::Pod;
    use crate::api::workload::{Deployment, ReplicaSet};
    use crate::controllers::owner;
    use crate::controllers::testing::{self, Server};
    use std::collections::BTreeSet as Set;

    /// A Deployment with a ReplicaSet with two pods, and a collector.
    fn world() -> (Server, Vec<Box<dyn Controller>>) {
        let mut server = Server::at(100);
        server.deletes_pods_at_once = true;
        let deployment = testing::deployment("web", 2);
        let set = testing::replica_set(&deployment, 1, 2);
        for number in 0..2u8 {
            let mut pod = testing::endpoint_pod("web", number);
            pod.meta.owners = [owner::controller_reference(&set)].into();
            server.put(Object::Pod(Rc::new(pod)));
        }
        server.put(Object::Deployment(Rc::new(deployment)));
        server.put(Object::ReplicaSet(Rc::new(set)));
        (server, vec![Box::new(GarbageCollector::new(&Config::default()))])
    }

    fn settle(server: &mut Server, controllers: &[Box<dyn Controller>]) {
        server.settle(controllers, &mut Set::new());
    }

    fn begin_deletion(server: &mut Server, finalizer: &Name) {
        server.edit::<Deployment>("default", "web", |deployment| {
            deployment.meta.deletion = Some(Box::new(Deletion { timestamp: Timestamp(100), grace_seconds: Some(0) }));
            deployment.meta.finalizers = [finalizer.clone()].into();
        });
    }

    #[test]
    fn what_belongs_to_something_that_exists_stays() {
        let (mut server, controllers) = world();
        settle(&mut server, &controllers);
        assert_eq!(server.writes, [] as [&str; 0]);
    }

    #[test]
    fn the_dependents_of_what_is_gone_go_generation_by_generation() {
        let (mut server, controllers) = world();
        settle(&mut server, &controllers);
        server.vanish(&ObjectKey::new(Kind::Deployment, "default", "web"));
        settle(&mut server, &controllers);
        assert_eq!(server.writes[0], "delete replicaset/default/web-1");
        assert_eq!(server.all::<Pod>().len() + server.all::<ReplicaSet>().len(), 0);
    }

    /// Has the reads of a Deployment counted.
    fn count_reads(server: &mut Server) -> Rc<RefCell<usize>> {
        let reads = Rc::new(RefCell::new(0));
        let counted = reads.clone();
        server.failing = Some(Box::new(move |operation| {
            let is_read = matches!(operation, Operation::Get { key } if key.kind == Kind::Deployment);
            *counted.borrow_mut() += usize::from(is_read);
            None
        }));
        reads
    }

    #[test]
    fn an_owner_whose_end_was_seen_is_not_asked_for() {
        let (mut server, controllers) = world();
        settle(&mut server, &controllers);
        let reads = count_reads(&mut server);
        server.vanish(&ObjectKey::new(Kind::Deployment, "default", "web"));
        settle(&mut server, &controllers);
        assert!(server.all::<ReplicaSet>().is_empty());
        assert_eq!(*reads.borrow(), 0);
    }

    #[test]
    fn an_object_that_waits_for_its_dependents_is_read_before_they_are_looked_at() {
        let (mut server, controllers) = world();
        settle(&mut server, &controllers);
        let reads = count_reads(&mut server);
        begin_deletion(&mut server, &FOREGROUND);
        let key = ObjectKey::new(Kind::Deployment, "default", "web");
        assert_eq!(server.reconcile(&*controllers[0], &key), Again::OnChange);
        assert_eq!((*reads.borrow(), server.writes.len()), (1, 0), "its ReplicaSet is still there");
    }

    #[test]
    fn a_foreground_deletion_waits_for_the_dependents() {
        let (mut server, controllers) = world();
        settle(&mut server, &controllers);
        begin_deletion(&mut server, &FOREGROUND);
        settle(&mut server, &controllers);
        assert!(
            server.writes.contains(&"delete replicaset/default/web-1 in the foreground".to_owned()),
            "{:?}",
            server.writes
        );
        // The server here knows no propagation: the ReplicaSet vanished at once, its pods followed, then the Deployment.
        assert_eq!(server.all::<Pod>().len() + server.all::<ReplicaSet>().len() + server.all::<Deployment>().len(), 0);
        let place = |wanted: &str| server.writes.iter().position(|write| write.starts_with(wanted));
        assert!(place("patch deployment") > place("delete replicaset"), "{:?}", server.writes);
    }

    #[test]
    fn an_orphaning_deletion_leaves_the_dependents_without_owner() {
        let (mut server, controllers) = world();
        settle(&mut server, &controllers);
        begin_deletion(&mut server, &ORPHAN);
        settle(&mut server, &controllers);
        assert_eq!(server.all::<Deployment>().len(), 0);
        let sets = server.all::<ReplicaSet>();
        assert!(sets[0].meta.owners().is_empty());
        assert_eq!(server.all::<Pod>().len(), 2);
    }

    #[test]
    fn a_reference_to_another_incarnation_counts_as_gone_and_one_solid_owner_keeps_the_object() {
        let (mut server, controllers) = world();
        settle(&mut server, &controllers);
        server.edit::<ReplicaSet>("default", "web-1", |set| {
            let mut owners = set.meta.owners().to_vec();
            owners.push(OwnerReference { uid: Uid(999), controller: false, ..owners[0].clone() });
            set.meta.owners = owners.into();
        });
        settle(&mut server, &controllers);
        assert_eq!(server.writes, ["patch replicaset/default/web-1"]);
        assert_eq!(server.all::<ReplicaSet>()[0].meta.owners().len(), 1);
    }

    #[test]
    fn the_lease_of_a_node_goes_with_the_node() {
        use crate::api::node::{Lease, Node};
        let (mut server, controllers) = world();
        let node = Rc::new(testing::node("node-1"));
        server.put(Object::Node(node));
        let node = server.get::<Node>("", "node-1").expect("the node");
        let owner = OwnerReference {
            api_version: Name::of("v1"),
            kind: Name::of("Node"),
            name: node.meta.name.clone(),
            uid: node.meta.uid,
            controller: false,
            block_owner_deletion: false,
        };
        let mut meta = Meta { name: Name::of("node-1"), uid: Uid(777), ..Meta::default() };
        (meta.namespace, meta.owners) = (Name::of("kube-node-lease"), [owner].into());
        let lease = Lease {
            meta,
            holder: Some(Name::of("node-1")),
            duration_seconds: Some(40),
            acquire_time: None,
            renew_time: None,
            transitions: None,
        };
        server.put(Object::Lease(Rc::new(lease)));
        settle(&mut server, &controllers);
        assert!(server.writes.is_empty(), "{:?}", server.writes);
        server.vanish(&ObjectKey::new(Kind::Node, "", "node-1"));
        settle(&mut server, &controllers);
        assert_eq!(server.writes, ["delete lease/kube-node-lease/node-1"]);
    }
}

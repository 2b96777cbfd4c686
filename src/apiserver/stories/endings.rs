//! Deletion, finalizers, namespaces, eviction.

use serde_json::json;

use super::harness::{EPOCH, World, failure, object, object_of, pod, pod_key};
use crate::api::kind::Kind;
use crate::api::meta::{Deletion, ObjectKey, Timestamp, Uid};
use crate::api::object::Object;
use crate::api::pod::PodConditionType;
use crate::apiserver::protocol::{DeleteOptions, Operation, Part, Propagation, Scope, WatchEvent};
use crate::engine::time::SimDuration;

fn grace(seconds: i64) -> DeleteOptions {
    DeleteOptions { grace_seconds: Some(seconds), ..DeleteOptions::default() }
}

/// A watch event, the end and grace of the deletion, the generation.
type Told = (&'static str, Option<(i64, Option<i64>)>, i64);

/// What watchers see of deletions: kind of event, grace, deletion time relative to a date, generation.
fn deletions(events: &[WatchEvent], since: Timestamp) -> Vec<Told> {
    let of = |object: &Object| {
        let deletion = object.meta().deletion.as_deref().map(|d| (d.timestamp.0 - since.0, d.grace_seconds));
        (deletion, object.meta().generation)
    };
    let told = events.iter().map(|event| match event {
        WatchEvent::Added(object) => ("ADDED", of(object)),
        WatchEvent::Modified(object) => ("MODIFIED", of(object)),
        WatchEvent::Deleted { object, .. } => ("DELETED", of(object)),
        WatchEvent::Bookmark { .. } | WatchEvent::Error(_) => ("OTHER", (None, 0)),
    });
    told.map(|(what, (deletion, generation))| (what, deletion, generation)).collect()
}

#[test]
fn a_running_pod_ends_in_two_steps_as_recorded() {
    let mut world = World::new();
    let created = world.create(pod("web"));
    assert!(world.bind(&created, "node-1").is_ok());
    let watch = world.watch(1, Scope::all(Kind::Pod), None);
    world.seen(watch);
    let asked = EPOCH.timestamp(world.now);
    let marked = object_of(world.delete(&pod_key("web"), DeleteOptions::default()));
    let end = Deletion { timestamp: Timestamp(asked.0 + 30), grace_seconds: Some(30) };
    assert_eq!((marked.meta().deletion.as_deref(), marked.meta().generation), (Some(&end), 2));
    // Asked again it says the same and writes nothing.
    let again = object_of(world.delete(&pod_key("web"), DeleteOptions::default()));
    assert_eq!(again.meta().revision(), marked.meta().revision());
    world.run_for(SimDuration::from_secs(5));
    let finished = EPOCH.timestamp(world.now).0 - asked.0;
    assert!(world.delete(&pod_key("web"), grace(0)).is_ok());
    assert_eq!(
        deletions(&world.seen(watch), asked),
        [
            ("MODIFIED", Some((30, Some(30))), 2),
            ("MODIFIED", Some((finished, Some(0))), 2),
            ("DELETED", Some((finished, Some(0))), 2),
        ],
        "the end moves back to the present, not before it"
    );
}

#[test]
fn a_pod_without_a_node_ends_at_once() {
    let mut world = World::new();
    world.create(pod("web"));
    let watch = world.watch(1, Scope::all(Kind::Pod), None);
    world.seen(watch);
    let now = EPOCH.timestamp(world.now);
    assert!(world.delete(&pod_key("web"), DeleteOptions::default()).is_ok());
    let told = deletions(&world.seen(watch), now);
    assert_eq!(told, [("MODIFIED", Some((0, Some(0))), 2), ("DELETED", Some((0, Some(0))), 2)]);
    assert_eq!(failure(world.delete(&pod_key("web"), grace(0))), "404 pods \"web\" not found");
}

#[test]
fn a_grace_is_shortened_but_never_made_longer() {
    let mut world = World::new();
    let created = world.create(pod("web"));
    assert!(world.bind(&created, "node-1").is_ok());
    let seconds = |object: Object| object.meta().deletion.as_deref().and_then(|deletion| deletion.grace_seconds);
    assert_eq!(seconds(object_of(world.delete(&pod_key("web"), grace(20)))), Some(20));
    assert_eq!(seconds(object_of(world.delete(&pod_key("web"), grace(60)))), Some(20));
    assert_eq!(seconds(object_of(world.delete(&pod_key("web"), grace(10)))), Some(10));
    world.run_for(SimDuration::from_secs(8));
    assert_eq!(seconds(object_of(world.delete(&pod_key("web"), grace(5)))), Some(1), "five seconds are over");
    assert!(world.get(&pod_key("web")).is_some());
}

#[test]
fn preconditions_protect_another_incarnation_and_version() {
    let mut world = World::new();
    let created = world.create(pod("web"));
    let uid = created.meta().uid;
    let other = DeleteOptions { uid: Some(Uid(1)), ..DeleteOptions::default() };
    assert_eq!(
        failure(world.delete(&pod_key("web"), other)),
        format!(
            "409 Operation cannot be fulfilled on Pod \"web\": the UID in the precondition ({}) does not match the UID in \
             record ({uid}). The object might have been deleted and then recreated",
            Uid(1)
        )
    );
    let old = DeleteOptions { resource_version: Some(1), ..DeleteOptions::default() };
    assert!(failure(world.delete(&pod_key("web"), old)).ends_with("The object might have been modified"));
    let right = DeleteOptions { uid: Some(uid), ..DeleteOptions::default() };
    assert!(world.delete(&pod_key("web"), right).is_ok());
    assert!(world.get(&pod_key("web")).is_none());
}

fn config_map(finalizers: &[&str]) -> Object {
    let meta = json!({"name": "data", "namespace": "default", "finalizers": finalizers});
    object(Kind::ConfigMap, json!({"metadata": meta, "data": {"key": "value"}}))
}

#[test]
fn an_object_with_finalizers_goes_when_the_last_one_does() {
    let mut world = World::new();
    let key = ObjectKey::new(Kind::ConfigMap, "default", "data");
    world.create(config_map(&["example.com/one", "example.com/two"]));
    let watch = world.watch(1, Scope::all(Kind::ConfigMap), None);
    world.seen(watch);
    let marked = object_of(world.delete(&key, DeleteOptions::default()));
    assert_eq!(marked.meta().deletion.as_deref().and_then(|deletion| deletion.grace_seconds), Some(0));
    let more = json!({"metadata": {"finalizers": ["example.com/one", "example.com/two", "example.com/three"]}});
    let refused = failure(world.merge(&key, more));
    assert!(refused.contains("no new finalizers can be added if the object is being deleted"), "{refused}");
    assert!(world.merge(&key, json!({"metadata": {"finalizers": ["example.com/two"]}})).is_ok());
    assert!(world.merge(&key, json!({"metadata": {"finalizers": null}})).is_ok());
    assert_eq!(world.told(watch), ["MODIFIED data", "MODIFIED data", "DELETED data"]);
    assert!(world.get(&key).is_none());
}

#[test]
fn propagation_becomes_a_finalizer() {
    for (propagation, finalizer) in [(Propagation::Foreground, "foregroundDeletion"), (Propagation::Orphan, "orphan")] {
        let mut world = World::new();
        let key = ObjectKey::new(Kind::ConfigMap, "default", "data");
        world.create(config_map(&[]));
        let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
        let marked = object_of(world.delete(&key, options));
        assert_eq!(marked.meta().finalizers().iter().map(|name| name.as_str()).collect::<Vec<_>>(), [finalizer]);
        assert!(marked.meta().is_deleting());
        let background = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
        assert!(world.delete(&key, background).is_ok());
        assert!(world.get(&key).is_none(), "a later deletion in the background takes the finalizer away");
    }
}

#[test]
fn a_namespace_waits_for_its_content() {
    let mut world = World::new();
    let namespace = world.create(object(Kind::Namespace, json!({"metadata": {"name": "team"}})));
    assert_eq!(namespace.meta().labels.get("kubernetes.io/metadata.name").map(|name| name.as_str()), Some("team"));
    let key = namespace.key();
    let Object::Namespace(terminating) = object_of(world.delete(&key, DeleteOptions::default())) else {
        panic!("a namespace")
    };
    assert!(terminating.terminating && terminating.meta.is_deleting());
    let meta = json!({"name": "data", "namespace": "team"});
    let late = object(Kind::ConfigMap, json!({"metadata": meta}));
    assert_eq!(
        failure(world.ask(Operation::Create { object: late, dry_run: false })),
        "403 configmaps \"data\" is forbidden: unable to create new content in namespace team because it is being terminated"
    );
    let mut finalized = (*terminating).clone();
    finalized.finalizers = std::rc::Rc::new([]);
    let finalized = Object::Namespace(std::rc::Rc::new(finalized));
    assert!(world.update(finalized, Part::Finalize).is_ok());
    assert!(world.get(&key).is_none());
    let immortal = ObjectKey::new(Kind::Namespace, "", "kube-system");
    assert_eq!(
        failure(world.delete(&immortal, DeleteOptions::default())),
        "403 namespaces \"kube-system\" is forbidden: this namespace may not be deleted"
    );
}

#[test]
fn an_eviction_says_why_and_then_deletes() {
    let mut world = World::new();
    let created = world.create(pod("web"));
    assert!(world.bind(&created, "node-1").is_ok());
    let watch = world.watch(1, Scope::all(Kind::Pod), None);
    world.seen(watch);
    assert!(world.ask(Operation::Evict { key: pod_key("web"), options: DeleteOptions::default() }).is_ok());
    let events = world.seen(watch);
    let seen: Vec<(bool, bool)> = events
        .iter()
        .map(|event| match event {
            WatchEvent::Modified(Object::Pod(pod)) => {
                let target = pod.status.condition(&PodConditionType::DisruptionTarget);
                (
                    target.is_some_and(|target| target.why.reason() == Some("EvictionByEvictionAPI")),
                    pod.meta.is_deleting(),
                )
            }
            _ => (false, false),
        })
        .collect();
    assert_eq!(seen, [(true, false), (true, true)]);
}

#[test]
fn a_collection_is_deleted_by_its_labels() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.create(pod(name));
    }
    let mut other = pod("other");
    other.meta_mut().labels = other.meta().labels.with("app", "else");
    world.create(other);
    let selector = crate::api::selector::Selector::parse("app=web").expect("a selector");
    let scope = Scope { labels: Some(std::rc::Rc::new(selector)), ..Scope::all(Kind::Pod) };
    assert!(world.ask(Operation::DeleteCollection { scope, options: DeleteOptions::default() }).is_ok());
    let (left, _) = world.list(Kind::Pod);
    assert_eq!(left.iter().map(|pod| pod.meta().name.as_str()).collect::<Vec<_>>(), ["other"]);
}

//! Stories of pods with claims.

use std::rc::Rc;

use serde_json::{Value, json};

use crate::api::kind::Kind;
use crate::api::object::Object;
use crate::api::storage::{PersistentVolume, PersistentVolumeClaim};
use crate::scheduler::queue::Place;
use crate::scheduler::testing::{Run, node, object, pod_from, uid};

/// A pod that uses a claim.
fn pod(name: &str, claim: &str) -> Object {
    pod_from(
        name,
        json!({
            "containers": [{ "name": "app", "image": "x", "resources": { "requests": { "cpu": "1" } } }],
            "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": claim } }],
        }),
    )
}

/// A class whose claims wait for a pod.
fn class(name: &str, provisioner: &str) -> Object {
    object(
        Kind::StorageClass,
        json!({ "metadata": { "name": name }, "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer" }),
    )
}

fn claim(name: &str, class: &str) -> Object {
    object(
        Kind::PersistentVolumeClaim,
        json!({
            "metadata": { "name": name, "namespace": "default", "uid": uid(name) },
            "spec": {
                "storageClassName": class, "accessModes": ["ReadWriteOnce"],
                "resources": { "requests": { "storage": "1Gi" } }
            },
            "status": { "phase": "Pending" },
        }),
    )
}

/// A disk of a node.
fn disk(name: &str, node: &str, size: &str) -> Object {
    let here = json!({ "key": "kubernetes.io/hostname", "operator": "In", "values": [node] });
    object(
        Kind::PersistentVolume,
        json!({
            "metadata": { "name": name, "uid": uid(name) },
            "spec": {
                "storageClassName": "local", "accessModes": ["ReadWriteOnce"], "capacity": { "storage": size },
                "local": { "path": "/mnt" },
                "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [here] }] } }
            },
            "status": { "phase": "Available" },
        }),
    )
}

/// What the server has of a claim now, changed.
fn changed_claim(run: &Run, name: &str, change: impl FnOnce(&mut PersistentVolumeClaim)) -> Object {
    let objects = run.server.objects.values().filter_map(|object| object.get::<PersistentVolumeClaim>());
    let mut claim = PersistentVolumeClaim::clone(objects.into_iter().find(|claim| claim.meta.name == *name).unwrap());
    change(&mut claim);
    Object::PersistentVolumeClaim(Rc::new(claim))
}

/// What the controller writes once a claim has its volume.
fn bound(run: &Run, name: &str, volume: &str) -> Object {
    changed_claim(run, name, |claim| {
        claim.meta.annotations = claim.meta.annotations.with("pv.kubernetes.io/bind-completed", "yes");
        let spec = Rc::make_mut(&mut claim.content).spec.as_mut().unwrap();
        spec.volume_name = Some(volume.to_owned());
    })
}

fn volume_json(run: &Run, name: &str) -> Value {
    let objects = run.server.objects.values().filter(|object| object.get::<PersistentVolume>().is_some());
    objects.into_iter().find(|object| object.meta().name == *name).unwrap().to_json()
}

fn messages(run: &Run) -> Vec<String> {
    run.writes().into_iter().filter(|line| line.contains("FailedScheduling")).collect()
}

#[test]
fn a_pod_goes_where_a_disk_for_its_claim_is_and_waits_until_it_is_bound() {
    let mut run = Run::start(vec![
        node("a", "4"),
        node("b", "4"),
        class("local", "kubernetes.io/no-provisioner"),
        disk("large", "b", "9Gi"),
        disk("small", "b", "2Gi"),
        disk("tiny", "a", "1Mi"),
        claim("data", "local"),
        pod("db", "data"),
    ]);
    run.until_millis(500);
    // Whoever looks from outside sees where it is going while its volume is bound.
    assert_eq!(run.writes(), ["4 patch db  [nominated: b]", "4 update persistentvolume/small"]);
    let small = volume_json(&run, "small");
    assert_eq!(small["spec"]["claimRef"]["name"], "data");
    assert_eq!(small["spec"]["claimRef"]["uid"], uid("data"));
    assert_eq!(small["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"], "yes");
    run.write(bound(&run, "data", "small"));
    run.until_millis(900);
    assert_eq!(run.node_of("db"), "", "it looks once a second");
    run.until_millis(1_100);
    assert_eq!(run.node_of("db"), "b");
}

#[test]
fn two_pods_never_get_one_disk() {
    let mut run = Run::start(vec![
        node("a", "4"),
        class("local", "kubernetes.io/no-provisioner"),
        disk("disk", "a", "2Gi"),
        claim("first", "local"),
        claim("second", "local"),
        pod("one", "first"),
        pod("two", "second"),
    ]);
    run.until_millis(900);
    let why = "0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind.";
    assert!(messages(&run)[0].contains(why), "{:?}", run.writes());
    run.write(disk("another", "a", "2Gi"));
    run.until_millis(3_000);
    let updates: Vec<String> = run.writes().into_iter().filter(|line| line.contains("update")).collect();
    assert_eq!(updates.len(), 2, "{updates:?}");
}

#[test]
fn a_volume_is_made_where_the_pod_goes_and_where_it_fails_the_pod_is_tried_again() {
    let mut run =
        Run::start(vec![node("a", "4"), class("fast", "d.example.com"), claim("data", "fast"), pod("db", "data")]);
    run.until_millis(500);
    assert_eq!(run.writes(), ["4 patch db  [nominated: a]", "4 update persistentvolumeclaim/default/data"]);
    let selected = "volume.kubernetes.io/selected-node";
    run.write(changed_claim(&run, "data", |claim| {
        assert_eq!(claim.meta.annotations.get(selected).map(|node| node.as_str()), Some("a"));
        claim.meta.annotations = claim.meta.annotations.without(selected).with("failed", "once");
    }));
    run.until_millis(1_500);
    let text = "running PreBind plugin \"VolumeBinding\": binding volumes: provisioning failed for PVC \"data\"";
    assert!(messages(&run)[0].ends_with(text), "{:?}", run.writes());
    assert!(!run.scheduler.cluster().is_assumed(run.pod("db").meta.uid));
    run.until_millis(4_000);
    let updates = run.writes().into_iter().filter(|line| line.contains("update"));
    assert_eq!(updates.count(), 2, "{:?}", run.writes());
}

#[test]
fn volumes_that_are_not_bound_in_ten_minutes_are_an_error() {
    let mut run =
        Run::start(vec![node("a", "4"), class("fast", "d.example.com"), claim("data", "fast"), pod("db", "data")]);
    run.until_millis(600_000);
    assert_eq!(messages(&run), [""; 0]);
    run.until_millis(603_000);
    let text = "running PreBind plugin \"VolumeBinding\": binding volumes: context deadline exceeded";
    assert!(messages(&run)[0].ends_with(text), "{:?}", run.writes());
}

#[test]
fn a_pod_waits_for_its_claim_and_goes_when_it_comes() {
    let mut run = Run::start(vec![node("a", "4"), class("fast", "d.example.com"), pod("db", "data")]);
    run.until_millis(500);
    let why = "0/1 nodes are available: persistentvolumeclaim \"data\" not found. not found";
    assert!(messages(&run)[0].ends_with(why), "{:?}", run.writes());
    run.write(claim("other", "fast"));
    run.until_millis(900);
    assert_eq!(run.scheduler.queue().place_of(run.pod("db").meta.uid), Some(Place::Unschedulable));
    run.write(claim("data", "fast"));
    run.until_millis(3_000);
    assert!(run.writes().iter().any(|line| line.ends_with("update persistentvolumeclaim/default/data")));
}

#[test]
fn claims_that_point_at_each_other_or_at_nothing_are_named() {
    let dangling = |name: &str, volume: &str| {
        let mut claim = claim(name, "fast");
        if let Object::PersistentVolumeClaim(claim) = &mut claim {
            let claim = Rc::make_mut(claim);
            claim.meta.annotations = claim.meta.annotations.with("pv.kubernetes.io/bind-completed", "yes");
            Rc::make_mut(&mut claim.content).spec.as_mut().unwrap().volume_name = Some(volume.to_owned());
        }
        claim
    };
    let mut run = Run::start(vec![
        node("a", "4"),
        class("fast", "d.example.com"),
        dangling("lost", "nowhere"),
        pod("db", "lost"),
    ]);
    run.until_millis(500);
    let why = "0/1 nodes are available: persistentvolume \"nowhere\" not found. not found";
    assert!(messages(&run)[0].ends_with(why), "{:?}", run.writes());
}

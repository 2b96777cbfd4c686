//! Pods with volumes behind claims that are missing, not bound, or not theirs.

use serde_json::{Value, json};

use crate::api::kind::Kind;
use crate::api::meta::Uid;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::RestartPolicy::Always;
use crate::api::pod::{PodPhase, PodSpec};
use crate::runtime::model::ImageModel;

use super::harness::{World, container, spec};

fn world() -> World {
    World::new(vec![("app", ImageModel::default())], |_, _| {}).with_images(&["app"])
}

/// A pod whose container has a volume `data` as a directory, or as a device.
fn pod(volume: Value, as_device: bool) -> PodSpec {
    let mut spec = spec(Always, 1, vec![container("c", "app")]);
    let (mounts, devices) =
        (json!([{"name": "data", "mountPath": "/data"}]), json!([{"name": "data", "devicePath": "/dev/x"}]));
    let mut full = json!({"name": "c"});
    if as_device {
        full["volumeDevices"] = devices;
    } else {
        full["volumeMounts"] = mounts;
    }
    spec.full.containers = vec![serde_json::from_value(full).expect("a container")];
    spec.full.volumes = serde_json::from_value(json!([volume])).expect("volumes");
    spec
}

fn named(claim: &str) -> Value {
    json!({"name": "data", "persistentVolumeClaim": {"claimName": claim}})
}

fn ephemeral() -> Value {
    json!({"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}})
}

/// Puts an object into the API as somebody else would.
fn put(world: &mut World, kind: Kind, json: Value) {
    let object = Object::from_json(kind, json).expect("an object");
    let meta = object.meta();
    world.api.others.insert((kind, meta.namespace.clone(), meta.name.clone()), object);
}

/// A claim `db` that is bound to a volume `disk`, but for what is merged into both.
fn put_bound(world: &mut World, claim: &Value, volume: &Value) {
    let merge = |mut whole: Value, part: &Value| {
        crate::api::patch::merge::apply(&mut whole, part).expect("objects");
        whole
    };
    let uid = Uid(5).to_string();
    let bound = json!({"metadata": {"name": "db", "namespace": "default", "uid": uid}, "spec": {"volumeName": "disk"},
        "status": {"phase": "Bound"}});
    put(world, Kind::PersistentVolumeClaim, merge(bound, claim));
    let owner = json!({"namespace": "default", "name": "db", "uid": uid});
    let disk = json!({"metadata": {"name": "disk"}, "spec": {"claimRef": owner, "hostPath": {"path": "/d"}}});
    put(world, Kind::PersistentVolume, merge(disk, volume));
}

fn failures(world: &World, pod: &str) -> Vec<String> {
    world.lines(pod, &["EVENT Warning FailedMount"])
}

#[test]
fn a_pod_waits_for_its_claim_and_looks_again_every_ten_to_sixteen_seconds() {
    let mut world = world();
    world.create("web", pod(named("db"), false));
    let begun = world.queue.now().as_millis();
    world.run(60_000);
    assert_eq!(
        failures(&world, "web"),
        [
            "EVENT Warning FailedMount: Unable to attach or mount volumes: unmounted volumes=[data], unattached volumes=[], failed to process volumes=[data]: error processing PVC default/db: failed to fetch PVC from API server: persistentvolumeclaims \"db\" not found"
        ]
    );
    let told = world.times("web", "persistentvolumeclaims \"db\" not found");
    assert!((300..320).contains(&(told[0] - begun)), "{told:?}");
    let waits: Vec<u64> = told.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.len() >= 3, "{waits:?}");
    assert!(waits.iter().all(|wait| (10_300..16_400).contains(wait)), "{waits:?}");
    let status = &world.pod("web").status;
    assert_eq!(status.phase, PodPhase::Pending);

    put_bound(&mut world, &json!({}), &json!({}));
    world.run(17_000);
    assert_eq!(world.pod("web").status.phase, PodPhase::Running);
    world.run(60_000);
    assert!(world.times("web", "persistentvolumeclaims").last() < Some(&(begun + 60_000)));
}

#[test]
fn a_claim_in_order_costs_no_time() {
    let started = |volume: Value| {
        let mut world = world();
        put_bound(&mut world, &json!({}), &json!({}));
        world.create("web", pod(volume, false));
        world.run(5_000);
        world.times("web", "EVENT Normal Created")[0]
    };
    assert_eq!(started(named("db")), started(json!({"name": "data", "emptyDir": {}})));
}

#[test]
fn a_pod_that_is_deleted_waits_for_no_claim() {
    let mut world = world();
    world.create("web", pod(named("db"), false));
    world.run(100);
    world.delete("web", 1);
    world.run(30_000);
    assert!(!world.exists("web"));
    assert!(failures(&world, "web").is_empty());
}

/// What the first event says of a pod's volume after "failed to process volumes".
fn check(volume: Value, as_device: bool, claim: &Value, disk: &Value, expected: &str) {
    let mut world = world();
    put_bound(&mut world, claim, disk);
    world.create("web", pod(volume, as_device));
    world.run(2_000);
    let events = failures(&world, "web");
    let said = events.first().and_then(|event| event.split_once("failed to process volumes=[data]: "));
    assert_eq!(said.map(|(_, why)| why), Some(expected));
}

#[test]
fn what_is_wrong_with_a_claim_or_its_volume_is_said() {
    let (nothing, of) = (json!({}), |why: &str| format!("error processing PVC default/db: {why}"));
    let wrong_claims = [
        (json!({"status": {"phase": "Pending"}}), "PVC is not bound"),
        (json!({"spec": {"volumeName": null}}), "PVC has empty pvc.Spec.VolumeName"),
        (
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"]}}),
            "PVC is being deleted",
        ),
        (
            json!({"spec": {"volumeName": "other"}}),
            "failed to fetch PV other from API server: persistentvolumes \"other\" not found",
        ),
    ];
    for (claim, why) in wrong_claims {
        check(named("db"), false, &claim, &nothing, &of(why));
    }
    let unbound = "found PV object disk but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim";
    check(named("db"), false, &nothing, &json!({"spec": {"claimRef": null}}), &of(unbound));
    let (six, five) = (Uid(6), Uid(5));
    let of_another =
        format!("found PV object disk but its pv.Spec.ClaimRef.UID {six} does not point to claim.UID {five}");
    check(named("db"), false, &nothing, &json!({"spec": {"claimRef": {"uid": six.to_string()}}}), &of(&of_another));
    let block = json!({"spec": {"volumeMode": "Block"}});
    let misused = |mode: &str, how: &str| format!("volume data has volumeMode {mode}, but is specified in {how}");
    check(named("db"), false, &nothing, &block, &misused("Block", "volumeMounts"));
    check(named("db"), true, &nothing, &nothing, &misused("Filesystem", "volumeDevices"));
}

#[test]
fn the_claim_of_an_ephemeral_volume_must_be_the_pods_own() {
    let mut world = world();
    let name = json!({"metadata": {"name": "web-data"}});
    put_bound(&mut world, &name, &json!({}));
    world.create("web", pod(ephemeral(), false));
    world.run(1_000);
    let why = "PVC default/web-data was not created for pod default/web (pod is not owner)";
    assert!(failures(&world, "web")[0].ends_with(&format!("failed to process volumes=[data]: {why}")));
    let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": world.pod("web").meta.uid.to_string(), "controller": true}]);
    let place = (Kind::PersistentVolumeClaim, Name::of("default"), Name::of("web-data"));
    world.api.others.remove(&place);
    put_bound(&mut world, &json!({"metadata": {"name": "web-data", "ownerReferences": owner}}), &json!({}));
    world.run(17_000);
    assert_eq!(world.pod("web").status.phase, PodPhase::Running);
}

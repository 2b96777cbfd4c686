//! Stories of claims and volumes.

use std::collections::BTreeSet;
use std::rc::Rc;

use serde_json::{Value, json};

use super::*;
use crate::api::meta::{Deletion, Labels, Timestamp};
use crate::api::object::Resource;
use crate::api::pod::{Pod, PodPhase};
use crate::api::storage::StorageClass;
use crate::client::plan::Again;
use crate::controllers::testing::{self, Server};
use ephemeral::EphemeralVolumeController;
use protection::{ClaimProtection, VolumeProtection};
use provisioner::Provisioner;

struct Story {
    server: Server,
    controllers: Vec<Box<dyn Controller>>,
    later: BTreeSet<(u64, usize, ObjectKey)>,
}

impl Story {
    fn new() -> Self {
        let controllers: Vec<Box<dyn Controller>> = vec![
            Box::new(PersistentVolumeController::new(&Config::default())),
            Box::new(Provisioner),
            Box::new(ClaimProtection::default()),
            Box::new(VolumeProtection),
            Box::new(EphemeralVolumeController::new(&Config::default())),
        ];
        Story { server: Server::at(100), controllers, later: BTreeSet::new() }
    }

    fn put(&mut self, kind: Kind, json: Value) {
        let mut object = Object::from_json(kind, json).expect("an object");
        if object.meta().uid == Default::default() {
            object.meta_mut().uid = crate::api::meta::Uid(9_000 + u128::from(self.server.writes.len() as u64));
        }
        self.server.put(object);
        self.settle();
    }

    fn settle(&mut self) {
        self.server.settle(&self.controllers, &mut self.later);
    }

    fn class(&mut self, name: &str, mode: &str) {
        let class = json!({"metadata": {"name": name}, "provisioner": "disks.example.com", "volumeBindingMode": mode,
            "reclaimPolicy": "Delete"});
        self.put(Kind::StorageClass, class);
    }

    fn claim(&mut self, name: &str, class: &str, size: &str) {
        let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "resources": {"requests": {"storage": size}}});
        let metadata = json!({"name": name, "namespace": "default", "uid": format!("{:032x}", name.len() + 500),
            "finalizers": ["kubernetes.io/pvc-protection"]});
        self.put(
            Kind::PersistentVolumeClaim,
            json!({"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}}),
        );
    }

    fn volume(&mut self, name: &str, class: &str, size: &str) {
        let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": class, "capacity": {"storage": size},
            "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/x"}});
        self.put(
            Kind::PersistentVolume,
            json!({"metadata": {"name": name}, "spec": spec, "status": {"phase": "Pending"}}),
        );
    }

    fn claim_state(&self, name: &str) -> (String, String) {
        let claim = self.server.get::<PersistentVolumeClaim>("default", name).expect("the claim");
        (claim.phase().to_owned(), claim.volume().to_owned())
    }

    fn volume_phase(&self, name: &str) -> String {
        self.server.get::<PersistentVolume>("", name).map_or("gone", |volume| volume.phase()).to_owned()
    }

    fn has_event(&self, text: &str) -> bool {
        self.server.events.iter().any(|event| event.starts_with(text))
    }
}

#[test]
fn the_smallest_volume_that_is_large_enough_is_taken_in_four_writes() {
    let mut story = Story::new();
    for (name, size) in [("pv-10", "10Gi"), ("pv-5", "5Gi"), ("pv-2", "2Gi")] {
        story.volume(name, "manual", size);
        assert_eq!(story.volume_phase(name), "Available");
    }
    let before = story.server.writes.len();
    story.claim("data", "manual", "3Gi");
    assert_eq!(story.claim_state("data"), ("Bound".to_owned(), "pv-5".to_owned()));
    assert_eq!(story.volume_phase("pv-5"), "Bound");
    assert_eq!(
        &story.server.writes[before..],
        [
            "update persistentvolume/pv-5",
            "update status of persistentvolume/pv-5",
            "update persistentvolumeclaim/default/data",
            "update status of persistentvolumeclaim/default/data"
        ]
    );
    let claim = story.server.get::<PersistentVolumeClaim>("default", "data").expect("the claim").clone();
    assert_eq!(claim.meta.annotations.get(&BOUND_BY_CONTROLLER).map(|it| it.as_str()), Some("yes"));
    let capacity = claim.content.status.as_ref().and_then(|status| status.capacity.clone()).expect("a capacity");
    assert_eq!(capacity["storage"].0, "5Gi");
    story.claim("other", "manual", "20Gi");
    assert_eq!(story.claim_state("other"), ("Pending".to_owned(), String::new()));
    assert!(story.has_event("ProvisioningFailed storageclass.storage.k8s.io \"manual\" not found"));
}

#[test]
fn a_class_with_immediate_binding_has_a_volume_made_and_taken_away_again() {
    let mut story = Story::new();
    story.class("fast", "Immediate");
    story.claim("data", "fast", "1Gi");
    let (phase, volume) = story.claim_state("data");
    assert_eq!(phase, "Bound");
    assert!(volume.starts_with("pvc-00000000-0000"), "{volume}");
    assert!(
        story.has_event("ExternalProvisioning Waiting for a volume to be created either by the external provisioner")
    );
    assert!(story.has_event("Provisioning External provisioner is provisioning volume for claim \"default/data\""));
    assert!(story.has_event(&format!("ProvisioningSucceeded Successfully provisioned volume {volume}")));
    story.server.vanish(&ObjectKey::new(Kind::PersistentVolumeClaim, "default", "data"));
    story.settle();
    assert_eq!(story.volume_phase(&volume), "gone");
}

#[test]
fn a_class_that_waits_for_its_consumer_waits_until_the_scheduler_has_chosen_a_node() {
    let mut story = Story::new();
    story.class("local", "WaitForFirstConsumer");
    story.claim("data", "local", "1Gi");
    assert!(story.has_event("WaitForFirstConsumer waiting for first consumer to be created before binding"));
    let mut pod = testing::ready_pod("web", 0);
    let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]);
    Rc::make_mut(&mut pod.spec).full.volumes = serde_json::from_value(volumes).ok();
    story.server.put(pod.boxed());
    story.server.edit::<PersistentVolumeClaim>("default", "data", |_| {});
    story.settle();
    assert!(story.has_event("WaitForPodScheduled waiting for pod web to be scheduled"));
    assert_eq!(story.claim_state("data"), ("Pending".to_owned(), String::new()));
    story.server.edit::<PersistentVolumeClaim>("default", "data", |claim| {
        claim.meta.annotations = claim.meta.annotations.with(SELECTED_NODE, "node-1");
    });
    story.settle();
    assert_eq!(story.claim_state("data").0, "Bound");
}

#[test]
fn a_volume_whose_claim_is_gone_is_released_and_kept_and_a_claim_whose_volume_is_gone_is_lost() {
    let mut story = Story::new();
    story.volume("pv-1", "manual", "1Gi");
    story.claim("data", "manual", "1Gi");
    story.server.vanish(&ObjectKey::new(Kind::PersistentVolumeClaim, "default", "data"));
    story.settle();
    assert_eq!(story.volume_phase("pv-1"), "Released");
    story.volume("pv-2", "manual", "1Gi");
    story.claim("next", "manual", "1Gi");
    assert_eq!(story.claim_state("next").1, "pv-2", "a released volume is not given to another claim");
    story.server.vanish(&ObjectKey::new(Kind::PersistentVolume, "", "pv-2"));
    story.settle();
    assert_eq!(story.claim_state("next").0, "Lost");
    assert!(story.has_event("ClaimLost Bound claim has lost its PersistentVolume."));
}

#[test]
fn a_volume_that_a_user_keeps_for_a_claim_waits_for_it() {
    let mut story = Story::new();
    story.volume("pv-1", "manual", "1Gi");
    story.server.edit::<PersistentVolume>("", "pv-1", |volume| {
        let claim = json!({"namespace": "default", "name": "data"});
        Rc::make_mut(&mut volume.content).spec.as_mut().expect("a spec").claim_ref = serde_json::from_value(claim).ok();
    });
    story.claim("x", "manual", "1Gi");
    assert_eq!(story.claim_state("x").0, "Pending");
    story.claim("data", "manual", "1Gi");
    assert_eq!(story.claim_state("data"), ("Bound".to_owned(), "pv-1".to_owned()));
}

/// Deletes the claim `data`, which a bound pod in this phase uses.
fn delete_in_use(story: &mut Story, phase: PodPhase) {
    let mut pod = testing::ready_pod("web", 0);
    (pod.node, pod.status.phase) = (Some("node-1".into()), phase);
    let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]);
    Rc::make_mut(&mut pod.spec).full.volumes = serde_json::from_value(volumes).ok();
    story.server.put(pod.boxed());
    let deletion = Deletion { timestamp: Timestamp(100), grace_seconds: None };
    story
        .server
        .edit::<PersistentVolumeClaim>("default", "data", |claim| claim.meta.deletion = Some(Box::new(deletion)));
    story.settle();
}

#[test]
fn a_claim_that_a_pod_uses_does_not_go_before_the_pod() {
    let mut story = Story::new();
    story.claim("data", "", "1Gi");
    assert!(
        story.has_event("FailedBinding no persistent volumes available for this claim and no storage class is set")
    );
    delete_in_use(&mut story, PodPhase::Running);
    let is_there = |story: &Story| story.server.get::<PersistentVolumeClaim>("default", "data").is_some();
    assert!(is_there(&story));
    story.server.vanish(&ObjectKey::new(Kind::Pod, "default", "web"));
    story.settle();
    assert!(!is_there(&story));
    assert!(story.server.all::<Pod>().is_empty());
}

#[test]
fn a_claim_stays_while_a_pod_that_has_ended_is_there() {
    let mut story = Story::new();
    story.claim("data", "", "1Gi");
    delete_in_use(&mut story, PodPhase::Succeeded);
    assert!(story.server.get::<PersistentVolumeClaim>("default", "data").is_some());
}

/// A pod with an ephemeral volume `scratch` of a class.
fn pod_with_scratch(class: &str) -> Pod {
    let mut pod = testing::ready_pod("web", 0);
    let template = json!({
        "metadata": {"labels": {"app": "web"}, "annotations": {"note": "mine"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": {"requests": {"storage": "1Gi"}}}
    });
    let volumes =
        json!([{"name": "tmp", "emptyDir": {}}, {"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]);
    Rc::make_mut(&mut pod.spec).full.volumes = serde_json::from_value(volumes).ok();
    pod
}

#[test]
fn an_ephemeral_volume_gets_a_claim_of_its_pod_and_a_new_one_if_somebody_deletes_it() {
    let mut story = Story::new();
    story.class("fast", "Immediate");
    story.server.put(pod_with_scratch("fast").boxed());
    story.settle();
    assert_eq!(story.server.writes[0], "create persistentvolumeclaim/default/web-scratch");
    let claim = |story: &Story| story.server.get::<PersistentVolumeClaim>("default", "web-scratch").cloned();
    let first = claim(&story).expect("the claim");
    assert_eq!(first.phase(), "Bound");
    assert_eq!(first.meta.labels.get("app").map(Name::as_str), Some("web"));
    assert_eq!(first.meta.annotations.get("note").map(Name::as_str), Some("mine"));
    let owner = first.meta.controller().expect("an owner");
    assert_eq!((owner.kind.as_str(), owner.name.as_str(), owner.block_owner_deletion), ("Pod", "web", true));

    story.server.vanish(&ObjectKey::new(Kind::PersistentVolumeClaim, "default", "web-scratch"));
    story.settle();
    assert_ne!(claim(&story).expect("another claim").meta.uid, first.meta.uid);

    let deletion = Deletion { timestamp: Timestamp(130), grace_seconds: Some(30) };
    story.server.edit::<Pod>("default", "web", |pod| pod.meta.deletion = Some(Box::new(deletion)));
    story.server.vanish(&ObjectKey::new(Kind::PersistentVolumeClaim, "default", "web-scratch"));
    story.settle();
    assert!(claim(&story).is_none(), "a pod that is going needs none");
}

#[test]
fn a_claim_that_is_not_the_pods_is_left_alone_and_one_that_is_refused_is_told_of() {
    let controller = EphemeralVolumeController::new(&Config::default());
    let key = ObjectKey::new(Kind::Pod, "default", "web");
    let mut story = Story::new();
    story.server.put(pod_with_scratch("fast").boxed());
    let refusal = crate::apiserver::status::Status::new(crate::apiserver::status::Reason::Forbidden, "exceeded quota");
    story.server.refuse = Some((Kind::PersistentVolumeClaim, refusal));
    let again = story.server.reconcile(&controller, &key);
    let why = "ephemeral volume scratch: create PVC web-scratch: exceeded quota";
    assert_eq!(again, Again::BackOff(format!("pod default/web, {why}")));
    assert!(story.has_event(&format!("FailedBinding {why}")));

    story.server.refuse = None;
    story.controllers.pop();
    story.claim("web-scratch", "fast", "1Gi");
    let before = story.server.writes.len();
    assert!(matches!(story.server.reconcile(&controller, &key), Again::BackOff(_)));
    assert!(story.has_event(
        "FailedBinding ephemeral volume scratch: PVC default/web-scratch was not created for pod default/web (pod is not owner)"
    ));
    assert_eq!(story.server.writes.len(), before);
}

#[test]
fn the_claim_of_an_ephemeral_volume_does_not_wait_for_a_pod_that_only_finalizers_keep() {
    let mut story = Story::new();
    story.class("fast", "Immediate");
    let mut pod = pod_with_scratch("fast");
    pod.node = Some("node-1".into());
    story.server.put(pod.boxed());
    story.settle();
    let deletion = |grace_seconds| Some(Box::new(Deletion { timestamp: Timestamp(100), grace_seconds }));
    story.server.edit::<Pod>("default", "web", |pod| pod.meta.deletion = deletion(Some(30)));
    story.server.edit::<PersistentVolumeClaim>("default", "web-scratch", |claim| claim.meta.deletion = deletion(None));
    story.settle();
    let is_there = |story: &Story| story.server.get::<PersistentVolumeClaim>("default", "web-scratch").is_some();
    assert!(is_there(&story));
    story.server.edit::<Pod>("default", "web", |pod| {
        (pod.meta.deletion, pod.status.phase) = (deletion(Some(0)), PodPhase::Failed);
    });
    story.settle();
    assert!(!is_there(&story));
}

#[test]
fn a_claim_that_says_nothing_gets_the_default_class_once_there_is_one() {
    let mut story = Story::new();
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    story.put(Kind::PersistentVolumeClaim, json!({"metadata": {"name": "data", "namespace": "default"}, "spec": spec}));
    story.class("fast", "Immediate");
    story.server.edit::<StorageClass>("", "fast", |class| {
        class.meta.annotations = Labels::NONE.with("storageclass.kubernetes.io/is-default-class", "true");
    });
    story.server.edit::<PersistentVolumeClaim>("default", "data", |_| {});
    story.settle();
    assert_eq!(story.claim_state("data").0, "Bound");
}

/// What becomes of a volume that is to be deleted with its claim, and why it failed.
fn after_its_claim(source: Value) -> (String, Option<String>) {
    let mut story = Story::new();
    let mut spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "manual", "capacity": {"storage": "1Gi"},
        "persistentVolumeReclaimPolicy": "Delete"});
    spec.as_object_mut().expect("a map").extend(source.as_object().expect("a map").clone());
    let metadata = json!({"name": "pv", "finalizers": ["kubernetes.io/pv-protection"]});
    story.put(Kind::PersistentVolume, json!({"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}}));
    story.claim("data", "manual", "1Gi");
    assert_eq!(story.volume_phase("pv"), "Bound");
    story.server.vanish(&ObjectKey::new(Kind::PersistentVolumeClaim, "default", "data"));
    story.settle();
    let volume = story.server.get::<PersistentVolume>("", "pv");
    let message = volume.and_then(|volume| volume.content.status.as_ref()?.message.clone());
    if let Some(message) = &message {
        assert!(story.has_event(&format!("VolumeFailedDelete {message}")));
    }
    (story.volume_phase("pv"), message)
}

#[test]
fn of_volumes_that_nobody_made_for_claims_only_directories_below_tmp_are_deleted() {
    let is = |phase: &str, message: Option<&str>| (phase.to_owned(), message.map(str::to_owned));
    assert_eq!(after_its_claim(json!({"hostPath": {"path": "/tmp/data"}})), is("gone", None));
    assert_eq!(
        after_its_claim(json!({"hostPath": {"path": "/mnt/data"}})),
        is("Failed", Some("host_path deleter only supports /tmp/.+ but received provided /mnt/data"))
    );
    assert_eq!(
        after_its_claim(json!({"nfs": {"server": "s", "path": "/"}})),
        is("Failed", Some("error getting deleter volume plugin for volume \"pv\": no deletable volume plugin matched"))
    );
    assert_eq!(
        after_its_claim(json!({"local": {"path": "/mnt/data"}})),
        is("Failed", Some("error getting deleter volume plugin for volume \"pv\": no volume plugin matched"))
    );
    let driven = json!({"csi": {"driver": "disks.example.com", "volumeHandle": "1"}});
    assert_eq!(after_its_claim(driven), is("Released", None), "its driver's provisioner deletes it");
}

#[test]
fn a_provisioner_whose_name_is_not_that_of_a_driver_makes_directories() {
    let mut story = Story::new();
    let class = json!({"metadata": {"name": "standard"}, "provisioner": "rancher.io/local-path"});
    story.put(Kind::StorageClass, class);
    story.claim("data", "standard", "1Gi");
    let (phase, volume) = story.claim_state("data");
    assert_eq!(phase, "Bound");
    let made = story.server.get::<PersistentVolume>("", &volume).and_then(|volume| volume.spec()).expect("a volume");
    let path = &made.host_path.as_ref().expect("a directory").path;
    assert_eq!(*path, format!("/var/lib/rancher.io/local-path/{volume}"));
    assert!(made.csi.is_none());
}

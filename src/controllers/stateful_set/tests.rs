//! Stories of StatefulSets.

use std::collections::BTreeSet;
use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;

use super::*;
use crate::api::meta::{Deletion, Timestamp};
use crate::api::object::Resource;
use crate::api::pod::{PodPhase, PodStatus};
use crate::api::stateful::{ClaimRetention, RollingUpdate, UpdateStrategy};
use crate::api::storage::PersistentVolumeClaim;
use crate::controllers::testing::{self, Server};

/// A cluster with one set, its controller, and a hand that plays the kubelet.
struct Story {
    server: Server,
    controllers: Vec<Box<dyn Controller>>,
    later: BTreeSet<(u64, usize, ObjectKey)>,
}

impl Story {
    fn of(set: StatefulSet) -> Self {
        let mut server = Server::at(100);
        server.put(set.boxed());
        let controllers: Vec<Box<dyn Controller>> = vec![Box::new(StatefulSetController::new(&Config::default()))];
        let mut story = Story { server, controllers, later: BTreeSet::new() };
        story.settle();
        story
    }

    fn settle(&mut self) {
        self.server.settle(&self.controllers, &mut self.later);
    }

    fn pass(&mut self, seconds: u64) {
        self.server.seconds += seconds;
        self.settle();
    }

    /// Changes the set as a user does.
    fn edit(&mut self, change: impl FnOnce(&mut StatefulSet)) {
        self.server.edit::<StatefulSet>("default", "db", |set| {
            set.meta.generation += 1;
            change(set);
        });
        self.settle();
    }

    fn scale(&mut self, replicas: i32) {
        self.edit(|set| Rc::make_mut(&mut set.spec).replicas = replicas);
    }

    fn set_image(&mut self, image: &str) {
        self.edit(|set| set.template = Rc::new(testing::template("db", image)));
    }

    fn make_ready(&mut self, pod: &str) {
        let status = testing::ready_pod(pod, self.server.seconds as i64).status;
        self.server.edit::<Pod>("default", pod, |pod| pod.status = status);
        self.settle();
    }

    fn set_phase(&mut self, pod: &str, phase: PodPhase) {
        let status = PodStatus { phase, ..PodStatus::default() };
        self.server.edit::<Pod>("default", pod, |pod| pod.status = status);
        self.settle();
    }

    /// The kubelet lets a pod go, or somebody deletes it at once.
    fn end(&mut self, pod: &str) {
        self.server.vanish(&ObjectKey::new(Kind::Pod, "default", pod.to_owned()));
        self.settle();
    }

    /// Somebody deletes a pod, with grace.
    fn mark(&mut self, pod: &str) {
        let timestamp = Timestamp(self.server.seconds as i64 + 30);
        let deletion = Deletion { timestamp, grace_seconds: Some(30) };
        self.server.edit::<Pod>("default", pod, |pod| pod.meta.deletion = Some(Box::new(deletion)));
        self.settle();
    }

    /// All pods up to some ordinal are made ready, one after the other.
    fn bring_up(&mut self, count: usize) {
        (0..count).for_each(|ordinal| self.make_ready(&format!("db-{ordinal}")));
    }

    fn set(&self) -> Rc<StatefulSet> {
        self.server.get::<StatefulSet>("default", "db").expect("the set").clone()
    }

    /// Pods by name; `-` before one that is going, the image after each.
    fn pods(&self) -> String {
        let line = |pod: &Rc<Pod>| {
            let image = pod.spec.full.containers[0].image.as_deref().unwrap_or_default().replace("img:", "");
            format!("{}{}:{image}", if pod.meta.is_deleting() { "-" } else { "" }, pod.meta.name)
        };
        self.server.all::<Pod>().iter().map(line).collect::<Vec<_>>().join(" ")
    }

    fn status(&self) -> (i32, i32, i32, i32) {
        let status = self.set().status.clone();
        (status.replicas, status.ready_replicas, status.current_replicas, status.updated_replicas)
    }

    fn event(&self, text: &str) -> bool {
        self.server.events.iter().any(|event| event.contains(text))
    }
}

#[test]
fn pods_come_one_after_the_other_and_go_from_the_top() {
    let mut story = Story::of(testing::stateful_set("db", 3));
    assert_eq!(story.pods(), "db-0:v1");
    let pod = story.server.get::<Pod>("default", "db-0").expect("the pod").clone();
    for (label, value) in
        [("statefulset.kubernetes.io/pod-name", "db-0"), ("apps.kubernetes.io/pod-index", "0"), ("app", "db")]
    {
        assert_eq!(pod.meta.labels.get(label).map(|it| it.as_str()), Some(value));
    }
    assert_eq!((pod.hostname().as_deref(), pod.spec.full.subdomain.as_deref()), (Some("db-0"), Some("db")));
    story.set_phase("db-0", PodPhase::Running);
    assert_eq!(story.pods(), "db-0:v1", "it runs but is not ready");
    story.bring_up(3);
    assert_eq!(story.pods(), "db-0:v1 db-1:v1 db-2:v1");
    assert_eq!(story.status(), (3, 3, 3, 3));
    let specs: Vec<_> = story.server.all::<Pod>().iter().map(|pod| Rc::as_ptr(&pod.spec)).collect();
    assert!(specs.iter().all(|spec| *spec == specs[0]), "all share one specification");
    story.scale(1);
    assert_eq!(story.pods(), "db-0:v1 db-1:v1 -db-2:v1");
    story.end("db-2");
    assert_eq!(story.pods(), "db-0:v1 -db-1:v1");
    story.end("db-1");
    assert_eq!(story.pods(), "db-0:v1");
    assert!(story.event("SuccessfulCreate Create Pod db-2 in StatefulSet db successful"));
    assert!(story.event("SuccessfulDelete Delete Pod db-1 in StatefulSet db successful"));
}

#[test]
fn an_update_stops_at_the_partition_and_is_complete_below_it() {
    let mut story = Story::of(testing::stateful_set("db", 3));
    story.bring_up(3);
    let first = story.set().status.current_revision.clone();
    story.edit(|set| {
        let rolling = RollingUpdate { partition: 1, max_unavailable: None };
        Rc::make_mut(&mut set.spec).strategy = UpdateStrategy::RollingUpdate(Some(rolling));
        set.template = Rc::new(testing::template("db", "img:v2"));
    });
    for pod in ["db-2", "db-1"] {
        assert!(story.pods().contains(&format!("-{pod}:v1")), "{}", story.pods());
        story.end(pod);
        story.make_ready(pod);
    }
    assert_eq!(story.pods(), "db-0:v1 db-1:v2 db-2:v2");
    assert_eq!(story.set().status.current_revision, first);
    story.end("db-0");
    assert_eq!(story.pods(), "db-0:v1 db-1:v2 db-2:v2", "below the partition a pod keeps its revision");
    story.make_ready("db-0");
    story.edit(|set| {
        Rc::make_mut(&mut set.spec).strategy = UpdateStrategy::RollingUpdate(Some(RollingUpdate::default()));
    });
    story.end("db-0");
    story.make_ready("db-0");
    assert_eq!(story.pods(), "db-0:v2 db-1:v2 db-2:v2");
    let status = story.set().status.clone();
    assert_eq!(status.current_revision, status.update_revision);
    assert_ne!(status.current_revision, first);
}

/// kubernetes/kubernetes#67250: the rollback waits for a pod that will never be ready.
#[test]
fn a_pod_of_a_broken_revision_stays_after_the_rollback_until_somebody_deletes_it() {
    let mut story = Story::of(testing::stateful_set("db", 2));
    story.bring_up(2);
    story.set_image("img:bad");
    story.end("db-1");
    assert_eq!(story.pods(), "db-0:v1 db-1:bad");
    story.set_image("img:v1");
    story.set_phase("db-1", PodPhase::Running);
    story.pass(600);
    assert_eq!(story.pods(), "db-0:v1 db-1:bad");
    let revisions: Vec<_> = story.server.all::<ControllerRevision>().iter().map(|it| it.revision).collect();
    assert_eq!(revisions.iter().max(), Some(&3), "the old revision is the newest again");
    assert_eq!(revisions.len(), 2);
    story.end("db-1");
    story.make_ready("db-1");
    assert_eq!(story.pods(), "db-0:v1 db-1:v1");
}

#[test]
fn nothing_else_happens_while_a_pod_is_going() {
    let mut story = Story::of(testing::stateful_set("db", 3));
    story.bring_up(3);
    story.mark("db-1");
    story.pass(600);
    assert_eq!(story.pods(), "db-0:v1 -db-1:v1 db-2:v1", "nobody replaces a pod that may still run");
    story.set_image("img:v2");
    story.scale(2);
    assert_eq!(story.pods(), "db-0:v1 -db-1:v1 db-2:v1");
    story.end("db-1");
    assert_eq!(story.pods(), "db-0:v1 db-1:v2 db-2:v1");
    story.make_ready("db-1");
    assert_eq!(story.pods(), "db-0:v1 db-1:v2 -db-2:v1");
}

#[test]
fn a_pod_that_has_ended_is_deleted_and_made_anew() {
    let mut story = Story::of(testing::stateful_set("db", 1));
    for phase in [PodPhase::Failed, PodPhase::Succeeded] {
        story.set_phase("db-0", phase);
        assert_eq!(story.pods(), "-db-0:v1");
        story.end("db-0");
        assert_eq!(story.pods(), "db-0:v1");
    }
}

#[test]
fn a_parallel_set_creates_and_deletes_at_once_but_updates_one_by_one() {
    let mut set = testing::stateful_set("db", 4);
    Rc::make_mut(&mut set.spec).is_parallel = true;
    let mut story = Story::of(set);
    assert_eq!(story.pods(), "db-0:v1 db-1:v1 db-2:v1 db-3:v1");
    story.scale(2);
    assert_eq!(story.pods(), "db-0:v1 db-1:v1 -db-2:v1 -db-3:v1");
    story.end("db-2");
    story.end("db-3");
    story.bring_up(2);
    story.set_image("img:v2");
    assert_eq!(story.pods(), "db-0:v1 -db-1:v1");
    story.end("db-1");
    assert_eq!(story.pods(), "db-0:v1 db-1:v2");
    story.make_ready("db-1");
    assert_eq!(story.pods(), "-db-0:v1 db-1:v2");
}

#[test]
fn on_delete_leaves_pods_alone_until_somebody_deletes_them() {
    let mut set = testing::stateful_set("db", 2);
    Rc::make_mut(&mut set.spec).strategy = UpdateStrategy::OnDelete;
    let mut story = Story::of(set);
    story.bring_up(2);
    story.set_image("img:v2");
    assert_eq!(story.pods(), "db-0:v1 db-1:v1");
    assert_eq!(story.status(), (2, 2, 2, 0));
    story.end("db-1");
    assert_eq!(story.pods(), "db-0:v1 db-1:v2");
}

#[test]
fn the_next_pod_waits_until_this_one_has_been_ready_long_enough() {
    let mut set = testing::stateful_set("db", 2);
    Rc::make_mut(&mut set.spec).min_ready_seconds = 10;
    let mut story = Story::of(set);
    story.make_ready("db-0");
    assert_eq!(story.set().status.available_replicas, 0);
    story.pass(9);
    assert_eq!(story.pods(), "db-0:v1");
    story.pass(1);
    assert_eq!(story.pods(), "db-0:v1 db-1:v1");
    assert_eq!(story.set().status.available_replicas, 1);
}

#[test]
fn ordinals_may_begin_elsewhere_and_move() {
    let mut set = testing::stateful_set("db", 2);
    Rc::make_mut(&mut set.spec).start = Some(5);
    let mut story = Story::of(set);
    story.make_ready("db-5");
    story.make_ready("db-6");
    assert_eq!(story.pods(), "db-5:v1 db-6:v1");
    story.edit(|set| Rc::make_mut(&mut set.spec).start = Some(6));
    assert_eq!(story.pods(), "db-5:v1 db-6:v1 db-7:v1");
    story.make_ready("db-7");
    assert_eq!(story.pods(), "-db-5:v1 db-6:v1 db-7:v1");
}

#[test]
fn as_many_old_revisions_are_kept_as_the_limit_says() {
    let mut set = testing::stateful_set("db", 1);
    Rc::make_mut(&mut set.spec).revision_history_limit = 1;
    let mut story = Story::of(set);
    story.make_ready("db-0");
    for version in 2..6 {
        story.set_image(&format!("img:v{version}"));
        story.end("db-0");
        story.make_ready("db-0");
    }
    let mut numbers: Vec<_> = story.server.all::<ControllerRevision>().iter().map(|it| it.revision).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [4, 5]);
}

fn with_claims(retention: ClaimRetention) -> StatefulSet {
    let mut set = testing::stateful_set("db", 2);
    let metadata = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
        name: Some("data".to_owned()),
        ..Default::default()
    };
    let spec = Rc::make_mut(&mut set.spec);
    spec.claim_templates = vec![core::PersistentVolumeClaim { metadata, ..Default::default() }];
    spec.retention = retention;
    set
}

fn claim_owners(story: &Story, claim: &str) -> Vec<String> {
    let claim = story.server.get::<PersistentVolumeClaim>("default", claim).expect("the claim");
    claim.meta.owners().iter().map(|owner| format!("{}/{}", owner.kind, owner.name)).collect()
}

#[test]
fn each_pod_has_its_claim_and_finds_it_again() {
    let mut story = Story::of(with_claims(ClaimRetention::default()));
    story.make_ready("db-0");
    let pod = story.server.get::<Pod>("default", "db-0").expect("the pod");
    let volume = &pod.spec.full.volumes.as_ref().expect("volumes")[0];
    assert_eq!(volume.persistent_volume_claim.as_ref().map(|source| source.claim_name.as_str()), Some("data-db-0"));
    assert!(story.event("SuccessfulCreate Create Claim data-db-0 Pod db-0 in StatefulSet db success"));
    let claim = story.server.get::<PersistentVolumeClaim>("default", "data-db-0").expect("the claim");
    assert_eq!(claim.meta.labels.get("app").map(|it| it.as_str()), Some("db"));
    story.end("db-0");
    let created = story.server.writes.iter().filter(|write| write.contains("create persistentvolumeclaim")).count();
    assert_eq!(created, 2, "db-0's and db-1's, each once");
    assert_eq!(claim_owners(&story, "data-db-0"), [""; 0]);
}

#[test]
fn a_claim_goes_with_the_pod_that_is_scaled_away_and_with_the_set() {
    let retention = ClaimRetention { delete_when_deleted: true, delete_when_scaled: true };
    let mut story = Story::of(with_claims(retention));
    story.bring_up(2);
    assert_eq!(claim_owners(&story, "data-db-1"), ["StatefulSet/db"]);
    story.scale(1);
    assert_eq!(story.pods(), "db-0:v1 -db-1:v1");
    assert_eq!(claim_owners(&story, "data-db-1"), ["Pod/db-1"]);
    story.end("db-1");
    story.scale(2);
    assert_eq!(story.pods(), "db-0:v1", "the old claim has to go first");
    story.server.vanish(&ObjectKey::new(Kind::PersistentVolumeClaim, "default", "data-db-1"));
    story.scale(2);
    assert_eq!(story.pods(), "db-0:v1 db-1:v1");
}

#[test]
fn a_set_that_is_going_only_counts() {
    let mut story = Story::of(testing::stateful_set("db", 2));
    story.make_ready("db-0");
    story.edit(|set| set.meta.deletion = Some(Box::new(Deletion { timestamp: Timestamp(100), grace_seconds: None })));
    story.end("db-1");
    assert_eq!(story.pods(), "db-0:v1");
    assert_eq!(story.set().status.replicas, 1);
}

#[test]
fn an_orphan_of_the_right_name_is_adopted_and_another_one_is_not() {
    let mut story = Story::of(testing::stateful_set("db", 1));
    story.end("db-0");
    let mut orphan = testing::ready_pod("db", 100);
    orphan.meta.name = "db-0".into();
    orphan.meta.uid = crate::api::meta::Uid(4711);
    story.end("db-0");
    story.server.put(orphan.clone().boxed());
    orphan.meta.name = "other-0".into();
    orphan.meta.uid = crate::api::meta::Uid(4712);
    story.server.put(orphan.boxed());
    story.settle();
    let owner = |name: &str| story.server.get::<Pod>("default", name).and_then(|pod| pod.meta.controller().cloned());
    assert_eq!(owner("db-0").map(|owner| owner.name), Some("db".into()));
    assert_eq!(owner("other-0"), None);
}

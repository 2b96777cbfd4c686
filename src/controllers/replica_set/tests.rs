//! ReplicaSets as a whole: what a look at one leads to.

use serde_json::json;

use super::*;
use crate::api::meta::{Timestamp, Uid};
use crate::api::pod::PodConditionType;
use crate::api::shared::Shared;
use crate::apiserver::status::Status;
use crate::client::plan::Again;
use crate::controllers::testing::{self, Server};

fn controller() -> ReplicaSetController {
    ReplicaSetController::new(&Config::default())
}

fn key() -> ObjectKey {
    ObjectKey::new(Kind::ReplicaSet, "default", "web-1")
}

fn server(replicas: i32) -> Server {
    let deployment = testing::deployment("web", replicas);
    let mut server = Server::at(100);
    server.put(Object::ReplicaSet(Rc::new(testing::replica_set(&deployment, 1, replicas))));
    server
}

fn add_pod(server: &mut Server, name: &str, change: impl FnOnce(&mut Pod)) {
    let set = server.get::<ReplicaSet>("default", "web-1").expect("there").clone();
    let mut pod = testing::ready_pod("web", 50);
    pod.meta.name = name.into();
    pod.meta.uid = Uid(u128::from(server.seconds) * 1000 + server.cache.view().count(Kind::Pod) as u128);
    pod.meta.owners = [owner::controller_reference(&*set)].into();
    change(&mut pod);
    server.put(Object::Pod(Rc::new(pod)));
}

#[test]
fn missing_pods_are_created_from_the_template_and_counted() {
    let mut server = server(3);
    assert_eq!(server.reconcile(&controller(), &key()), Again::OnChange);
    let pods = server.all::<Pod>();
    assert_eq!(pods.len(), 3);
    let set = server.get::<ReplicaSet>("default", "web-1").expect("there");
    for pod in &pods {
        assert!(Rc::ptr_eq(&pod.spec, &set.template.spec));
        assert_eq!(pod.meta.generate_name.as_deref(), Some("web-1-"));
        let controller = pod.meta.controller().expect("owned");
        assert!(controller.block_owner_deletion && controller.uid == set.meta.uid);
    }
    assert_eq!(server.events[0], format!("SuccessfulCreate Created pod: {}", pods[0].meta.name));
    // The status is that of the pods known when the sync began, as in a real cluster.
    assert_eq!((set.status.replicas, set.status.observed_generation), (0, 1));
    assert_eq!(server.reconcile(&controller(), &key()), Again::OnChange);
    let set = server.get::<ReplicaSet>("default", "web-1").expect("there");
    assert_eq!((set.status.replicas, set.status.fully_labeled_replicas, set.status.ready_replicas), (3, 3, 0));
    assert_eq!(set.status.terminating_replicas, Some(0));
}

#[test]
fn pods_of_a_template_that_names_a_node_are_there_from_the_beginning() {
    let mut server = server(2);
    server.edit::<ReplicaSet>("default", "web-1", |set| {
        let spec = &mut Rc::make_mut(&mut set.template).spec;
        Rc::make_mut(spec).full.node_name = Some("node-7".to_owned());
    });
    server.reconcile(&controller(), &key());
    let pods = server.all::<Pod>();
    assert_eq!(pods.len(), 2);
    for pod in pods {
        assert_eq!((pod.node.as_deref(), &pod.spec.full.node_name), (Some("node-7"), &None), "as any pod has it");
        let text = Object::Pod(pod).to_json();
        assert_eq!(text["spec"]["nodeName"], "node-7");
    }
}

#[test]
fn of_what_else_a_template_says_of_itself_its_pods_have_the_finalizers() {
    let mut server = server(1);
    let other = json!({"name": "mine", "finalizers": ["example.com/last"]});
    server.edit::<ReplicaSet>("default", "web-1", |set| {
        let other = serde_json::from_value(other).expect("metadata");
        Rc::make_mut(&mut set.template).other = Some(Rc::new(other));
    });
    server.reconcile(&controller(), &key());
    let pods = server.all::<Pod>();
    assert_eq!(pods[0].meta.finalizers(), ["example.com/last"]);
    assert_ne!(pods[0].meta.name, "mine");
}

#[test]
fn creation_begins_with_an_expectation_and_a_slow_start_and_is_cut_to_a_burst() {
    let server = server(1200);
    let plan = controller().reconcile(&server.cache.view(), &key(), server.now());
    assert!(matches!(plan.steps[0], Step::Expect { creations: 500, .. }));
    assert!(matches!(&plan.steps[1], Step::SlowStart(requests) if requests.len() == 500));
}

#[test]
fn while_something_is_expected_only_the_status_is_written() {
    let mut server = server(3);
    let plan = controller().reconcile_expecting(&server.cache.view(), &key(), server.now());
    server.carry_out(plan);
    assert_eq!(server.writes, ["update status of replicaset/default/web-1"]);
}

#[test]
fn surplus_pods_are_deleted_those_that_are_not_ready_first() {
    let mut server = server(1);
    add_pod(&mut server, "a", |_| {});
    add_pod(&mut server, "b", |pod| pod.status.conditions = [].into());
    add_pod(&mut server, "c", |pod| pod.node = Some("node-1".into()));
    server.reconcile(&controller(), &key());
    let deletions: Vec<_> = server.writes.iter().filter(|write| write.starts_with("delete")).cloned().collect();
    assert_eq!(deletions, ["delete pod/default/b", "delete pod/default/a"]);
    assert_eq!(server.events, ["SuccessfulDelete Deleted pod: b", "SuccessfulDelete Deleted pod: a"]);
    server.reconcile(&controller(), &key());
    let status = &server.get::<ReplicaSet>("default", "web-1").expect("there").status;
    assert_eq!((status.replicas, status.terminating_replicas), (1, Some(2)));
}

#[test]
fn orphans_are_adopted_and_relabelled_pods_released() {
    let mut server = server(2);
    add_pod(&mut server, "orphan", |pod| pod.meta.owners = Shared::NONE);
    add_pod(&mut server, "stray", |pod| pod.meta.labels = pod.meta.labels.with("app", "other"));
    server.reconcile(&controller(), &key());
    assert_eq!(server.writes[..2], ["patch pod/default/stray", "patch pod/default/orphan"]);
    assert!(server.get::<Pod>("default", "orphan").expect("there").meta.controller().is_some());
    assert!(server.get::<Pod>("default", "stray").expect("there").meta.controller().is_none());
    assert_eq!(server.all::<Pod>().len(), 3, "one was missing after the release");
}

#[test]
fn a_replica_set_that_is_being_deleted_adopts_and_creates_nothing() {
    let mut server = server(2);
    add_pod(&mut server, "orphan", |pod| pod.meta.owners = Shared::NONE);
    server.edit::<ReplicaSet>("default", "web-1", |set| {
        set.meta.deletion =
            Some(Box::new(crate::api::meta::Deletion { timestamp: Timestamp(99), grace_seconds: Some(0) }));
    });
    server.reconcile(&controller(), &key());
    assert_eq!(server.writes, ["update status of replicaset/default/web-1"]);
}

#[test]
fn a_failure_to_create_shows_in_the_conditions_until_it_is_over() {
    let mut server = server(4);
    server.refuse = Some((Kind::Pod, Status::new(Reason::Forbidden, "exceeded quota")));
    assert_eq!(server.reconcile(&controller(), &key()), Again::BackOff("exceeded quota".to_owned()));
    assert_eq!(server.events, ["FailedCreate Error creating: exceeded quota"], "the slow start stops at the first");
    let condition = server.get::<ReplicaSet>("default", "web-1").expect("there").status.conditions[0].clone();
    assert_eq!(
        (&*condition.kind, &*condition.reason, &*condition.message),
        ("ReplicaFailure", "FailedCreate", "exceeded quota")
    );
    server.refuse = None;
    server.reconcile(&controller(), &key());
    assert_eq!(server.get::<ReplicaSet>("default", "web-1").expect("there").status.conditions, []);
}

#[test]
fn a_namespace_that_is_being_deleted_is_no_failure() {
    let mut server = server(1);
    let mut status = Status::about(Reason::Forbidden, Kind::Pod, "web-1-", "it is being terminated");
    if let Some(details) = &mut status.details {
        details.causes.push((
            "NamespaceTerminating".into(),
            "it is being terminated".into(),
            "metadata.namespace".into(),
        ));
    }
    server.refuse = Some((Kind::Pod, status));
    assert_eq!(server.reconcile(&controller(), &key()), Again::OnChange);
    assert_eq!(server.get::<ReplicaSet>("default", "web-1").expect("there").status.conditions, []);
}

#[test]
fn pods_count_as_available_at_the_very_second() {
    let mut server = server(2);
    server.edit::<ReplicaSet>("default", "web-1", |set| set.min_ready_seconds = 10);
    for (name, since) in [("a", 95), ("b", 97)] {
        add_pod(&mut server, name, |pod| pod.status.conditions[0].last_transition = Timestamp(since));
    }
    let available =
        |server: &Server| server.get::<ReplicaSet>("default", "web-1").expect("there").status.available_replicas;
    assert_eq!(server.reconcile(&controller(), &key()), Again::After(SimDuration::from_secs(5)));
    assert_eq!(available(&server), 0);
    server.seconds = 105;
    assert_eq!(server.reconcile(&controller(), &key()), Again::After(SimDuration::from_secs(2)));
    assert_eq!(available(&server), 1);
    server.seconds = 107;
    assert_eq!(server.reconcile(&controller(), &key()), Again::OnChange);
    assert_eq!(available(&server), 2);
}

#[test]
fn a_status_that_meets_a_conflict_is_written_once_more_on_a_fresh_copy() {
    let mut server = server(0);
    let plan = controller().reconcile(&server.cache.view(), &key(), server.now());
    server.edit::<ReplicaSet>("default", "web-1", |set| {
        set.meta.annotations = set.meta.annotations.with("touched", "yes")
    });
    assert_eq!(server.carry_out(plan), Again::OnChange);
    let set = server.get::<ReplicaSet>("default", "web-1").expect("there");
    assert_eq!(set.status.observed_generation, 1);
    assert!(set.meta.annotations.get("touched").is_some());
}

#[test]
fn a_pod_that_becomes_ready_wakes_its_replica_set_now_and_when_it_may_be_available() {
    let mut server = server(1);
    server.edit::<ReplicaSet>("default", "web-1", |set| set.min_ready_seconds = 10);
    add_pod(&mut server, "a", |pod| pod.status.conditions = [].into());
    let old = Object::Pod(server.get::<Pod>("default", "a").expect("there").clone());
    server.edit::<Pod>("default", "a", |pod| pod.status.conditions = testing::ready_pod("x", 100).status.conditions);
    let new = Object::Pod(server.get::<Pod>("default", "a").expect("there").clone());
    assert!(new.get::<Pod>().is_some_and(|pod| pod.status.condition(&PodConditionType::Ready).is_some()));
    let mut delays = Vec::new();
    let change = Change::Updated { old: &old, new: &new };
    controller().on_change(change, &server.cache.view(), &mut |_, delay| delays.push(delay));
    assert_eq!(delays, [SimDuration::ZERO, SimDuration::from_secs(10)]);
}

#[test]
fn a_replication_controller_is_served_in_the_same_way_but_counts_no_terminating_pods() {
    let json = serde_json::json!({
        "metadata": {"name": "old", "namespace": "default", "uid": "00000000-0000-4000-8000-000000000077"},
        "spec": {
            "replicas": 2, "selector": {"app": "old"},
            "template": {"metadata": {"labels": {"app": "old"}}, "spec": {"containers": [{"name": "app", "image": "i"}]}}
        }
    });
    let controller = ReplicaSetController::of_replication_controllers(&Config::default());
    let key = ObjectKey::new(Kind::ReplicationController, "default", "old");
    let mut server = Server::at(100);
    server.put(Object::from_json(Kind::ReplicationController, json).expect("a controller"));
    server.reconcile(&controller, &key);
    let pods = server.all::<Pod>();
    let owner = pods[0].meta.controller().expect("owned");
    assert_eq!((&*owner.api_version, &*owner.kind, pods.len()), ("v1", "ReplicationController", 2));
    server.edit::<ReplicationController>("default", "old", |it| it.replicas = 1);
    server.reconcile(&controller, &key);
    server.reconcile(&controller, &key);
    let status = &server.get::<ReplicationController>("default", "old").expect("there").status;
    assert_eq!((status.replicas, status.terminating_replicas), (1, None));
    assert_eq!(server.writes.iter().filter(|write| write.starts_with("delete pod/")).count(), 1);
    // Its pods are none of the ReplicaSets' business.
    let mut woken = 0;
    let pod = Object::Pod(pods[0].clone());
    self::controller().on_change(Change::Added(&pod), &server.cache.view(), &mut |_, _| woken += 1);
    assert_eq!(woken, 0);
}

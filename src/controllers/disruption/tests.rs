//! Disruption budgets: what a look at one leads to.

use serde_json::{Value, json};

use super::*;
use crate::api::meta::Uid;
use crate::api::shared::Shared;
use crate::api::workload::ReplicaSet;
use crate::apiserver::status::Status;
use crate::controllers::testing::{self, Server};

fn key() -> ObjectKey {
    ObjectKey::new(Kind::PodDisruptionBudget, "default", "web")
}

/// A Deployment of three with its ReplicaSet and pods, of which the given ones are ready, and a budget for them.
fn server(spec: Value, ready: &[bool]) -> Server {
    let mut server = Server::at(1000);
    let deployment = testing::deployment("web", 3);
    let set = testing::replica_set(&deployment, 1, 3);
    server.put(Object::Deployment(Rc::new(deployment)));
    server.put(Object::ReplicaSet(Rc::new(set.clone())));
    for (place, is_ready) in ready.iter().enumerate() {
        let mut pod = testing::ready_pod("web", 50);
        pod.meta.name = format!("web-{place}").into();
        pod.meta.uid = Uid(5000 + place as u128);
        pod.meta.owners = [owner::controller_reference(&set)].into();
        if !is_ready {
            pod.status.conditions = [].into();
        }
        server.put(Object::Pod(Rc::new(pod)));
    }
    let mut full = json!({
        "metadata": {"name": "web", "namespace": "default", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "web"}}}
    });
    for (field, value) in spec.as_object().expect("a mapping") {
        full["spec"][field] = value.clone();
    }
    server.put(Object::from_json(Kind::PodDisruptionBudget, full).expect("a budget"));
    server
}

fn counts(server: &Server) -> (i32, i32, i32, i32) {
    let budget = server.get::<PodDisruptionBudget>("default", "web").expect("there");
    let expected = budget.status().and_then(|status| status.expected_pods).unwrap_or(0);
    (expected, budget.desired_healthy(), budget.current_healthy(), budget.disruptions_allowed())
}

#[test]
fn numbers_and_shares_of_what_must_stay_and_of_what_may_go() {
    for (spec, expected) in [
        (json!({"minAvailable": 2}), (3, 2, 3, 1)),
        (json!({"minAvailable": "50%"}), (3, 2, 3, 1)),
        (json!({"maxUnavailable": 1}), (3, 2, 3, 1)),
        (json!({"maxUnavailable": "34%"}), (3, 1, 3, 2)),
        (json!({"maxUnavailable": 5}), (3, 0, 3, 3)),
        (json!({"minAvailable": 3}), (3, 3, 3, 0)),
    ] {
        let mut server = server(spec.clone(), &[true, true, true]);
        assert_eq!(server.reconcile(&DisruptionController::default(), &key()), Again::OnChange);
        assert_eq!(counts(&server), expected, "{spec}");
        let budget = server.get::<PodDisruptionBudget>("default", "web").expect("there");
        assert_eq!(budget.observed_generation(), 1);
        assert!(budget.is_allowance_current());
        server.writes.clear();
        server.reconcile(&DisruptionController::default(), &key());
        assert_eq!(server.writes, [] as [&str; 0], "nothing has changed");
    }
}

#[test]
fn the_owners_say_how_many_there_should_be_though_fewer_are_there() {
    let mut server = server(json!({"maxUnavailable": 1}), &[true]);
    server.reconcile(&DisruptionController::default(), &key());
    assert_eq!(counts(&server), (3, 2, 1, 0));
}

#[test]
fn a_granted_eviction_counts_for_two_minutes_or_until_the_pod_goes() {
    let mut server = server(json!({"minAvailable": 1}), &[true, true]);
    let grant = |server: &mut Server, date: &str| {
        server.edit::<PodDisruptionBudget>("default", "web", |budget| {
            let content = Rc::make_mut(&mut budget.content);
            let status = content.status.get_or_insert_with(policy::unseen_status);
            let date = serde_json::from_value(date.into()).expect("a date");
            status.disrupted_pods.get_or_insert_default().insert("web-0".to_owned(), date);
        });
    };
    grant(&mut server, "1970-01-01T00:16:30Z");
    assert_eq!(server.reconcile(&DisruptionController::default(), &key()), Again::After(SimDuration::from_secs(110)));
    assert_eq!(counts(&server), (2, 1, 1, 0));
    server.seconds = 1111;
    assert_eq!(server.reconcile(&DisruptionController::default(), &key()), Again::OnChange);
    assert_eq!(counts(&server), (2, 1, 2, 1));
    assert_eq!(server.events, ["NotDeleted Pod was expected by PDB default/default to be deleted but it wasn't"]);
    let budget = server.get::<PodDisruptionBudget>("default", "web").expect("there");
    assert!(!budget.counts_as_disrupted("web-0"));
    grant(&mut server, "1970-01-01T00:18:31Z");
    server.edit::<Pod>("default", "web-0", |pod| {
        pod.meta.deletion =
            Some(Box::new(crate::api::meta::Deletion { timestamp: Timestamp(1141), grace_seconds: Some(30) }));
    });
    assert_eq!(server.reconcile(&DisruptionController::default(), &key()), Again::OnChange);
    assert_eq!(counts(&server), (2, 1, 1, 0));
}

#[test]
fn pods_whose_owner_nobody_can_count_forbid_everything() {
    let mut server = server(json!({"maxUnavailable": 1}), &[true, true, true]);
    server.edit::<Pod>("default", "web-1", |pod| {
        let mut owner = pod.meta.controller().expect("owned").clone();
        (owner.api_version, owner.kind) = ("apps/v1".into(), "DaemonSet".into());
        owner.uid = Uid(9);
        pod.meta.owners = [owner].into();
    });
    assert_eq!(server.reconcile(&DisruptionController::default(), &key()), Again::OnChange);
    let why = "daemonsets.apps does not implement the scale subresource";
    let event = format!("CalculateExpectedPodCountFailed Failed to calculate the number of expected pods: {why}");
    assert_eq!(server.events, [event]);
    let budget = server.get::<PodDisruptionBudget>("default", "web").expect("there");
    let told = budget.allowance().expect("a condition");
    assert_eq!((told.status.as_str(), told.reason.as_str(), told.message.as_str()), ("False", "SyncFailed", why));
}

#[test]
fn pods_without_controller_are_told_of_and_left_out() {
    let mut server = server(json!({"maxUnavailable": 1}), &[true, true, true]);
    server.edit::<Pod>("default", "web-1", |pod| pod.meta.owners = Shared::NONE);
    server.reconcile(&DisruptionController::default(), &key());
    let selector =
        "&LabelSelector{MatchLabels:map[string]string{app: web,},MatchExpressions:[]LabelSelectorRequirement{},}";
    let begin = format!("UnmanagedPods Pods selected by this PodDisruptionBudget (selector: {selector}) were found");
    assert!(server.events[0].starts_with(&begin), "{:?}", server.events);
    assert_eq!(counts(&server), (3, 2, 3, 1));
}

#[test]
fn a_budget_without_pods_allows_nothing_and_says_so() {
    let mut server = server(json!({"minAvailable": 0}), &[]);
    server.reconcile(&DisruptionController::default(), &key());
    assert_eq!(
        (counts(&server), server.events.as_slice()),
        ((0, 0, 0, 0), ["NoPods No matching pods found".to_owned()].as_slice())
    );
}

#[test]
fn a_conflict_comes_again_and_forbids_nothing() {
    let mut server = server(json!({"minAvailable": 2}), &[true, true, true]);
    let plan = DisruptionController::default().reconcile(&server.cache.view(), &key(), server.now());
    server.edit::<PodDisruptionBudget>("default", "web", |budget| {
        budget.meta.annotations = budget.meta.annotations.with("touched", "yes");
    });
    assert!(matches!(server.carry_out(plan), Again::BackOff(_)));
    assert_eq!(server.get::<PodDisruptionBudget>("default", "web").expect("there").allowance(), None);
}

#[test]
fn an_announcement_of_a_disruption_that_did_not_happen_is_taken_back_after_two_minutes() {
    let mut server = server(json!({"minAvailable": 2}), &[true]);
    server.edit::<Pod>("default", "web-0", |pod| {
        pod.status.conditions.push(PodCondition {
            kind: PodConditionType::DisruptionTarget,
            status: ConditionStatus::True,
            why: Why::new(Some("EvictionByEvictionAPI".into()), None),
            last_transition: Timestamp(990),
            observed_generation: 0,
        });
    });
    let pod = ObjectKey::new(Kind::Pod, "default", "web-0");
    assert_eq!(server.reconcile(&DisruptionController::default(), &pod), Again::After(SimDuration::from_secs(110)));
    server.seconds = 1110;
    assert_eq!(server.reconcile(&DisruptionController::default(), &pod), Again::OnChange);
    let condition = server.get::<Pod>("default", "web-0").expect("there").status.conditions[1].clone();
    assert_eq!((condition.status, condition.why), (ConditionStatus::False, Why::NONE));
}

#[test]
fn a_pods_change_wakes_the_first_of_its_budgets() {
    let mut server = server(json!({"minAvailable": 2}), &[true]);
    let other = json!({
        "metadata": {"name": "zzz", "namespace": "default"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    });
    server.put(Object::from_json(Kind::PodDisruptionBudget, other).expect("a budget"));
    let pod = Object::Pod(server.get::<Pod>("default", "web-0").expect("there").clone());
    let controller = DisruptionController::default();
    let mut woken = Vec::new();
    controller.on_change(Change::Added(&pod), &server.cache.view(), &mut |key, _| woken.push(key));
    assert_eq!(woken, [key(), ObjectKey::new(Kind::Pod, "default", "web-0")]);
    server.reconcile(&controller, &woken[1]);
    let text = "Pod \"default\"/\"web-0\" matches multiple PodDisruptionBudgets.  Chose \"web\" arbitrarily.";
    let told = format!("MultiplePodDisruptionBudgets {text}");
    assert_eq!(server.events, std::slice::from_ref(&told));
    // It is said once more for each change, though several are looked at together, and for the last one.
    server.events.clear();
    server.vanish(&woken[1]);
    for change in [Change::Updated { old: &pod, new: &pod }, Change::Deleted(&pod)] {
        controller.on_change(change, &server.cache.view(), &mut |_, _| {});
    }
    server.reconcile(&controller, &woken[1]);
    server.reconcile(&controller, &woken[1]);
    assert_eq!(server.events, [told.clone(), told]);
}

#[test]
fn pods_are_found_by_an_index_as_by_a_look_at_all() {
    let mut server = server(json!({"minAvailable": 2}), &[true, true, true]);
    server.edit::<Pod>("default", "web-1", |pod| pod.meta.labels = pod.meta.labels.with("app", "other"));
    server.vanish(&ObjectKey::new(Kind::Pod, "default", "web-2"));
    let names = |server: &Server, app: &str| -> Vec<String> {
        let pods = server.cache.view().selected_pods(&"default".into(), &testing::selector("app", app));
        pods.iter().map(|pod| pod.meta.name.to_string()).collect()
    };
    assert_eq!((names(&server, "web"), names(&server, "other")), (vec!["web-0".to_owned()], vec!["web-1".to_owned()]));
    assert!(server.get::<ReplicaSet>("default", "web-1").is_some(), "the ReplicaSet of the same name is no pod");
}

#[test]
fn a_server_that_refuses_the_status_is_told_that_nothing_is_allowed() {
    let mut server = server(json!({"minAvailable": 1}), &[true, true]);
    let plan = DisruptionController::default().reconcile(&server.cache.view(), &key(), server.now());
    let refused = Err(Box::new(Status::new(Reason::InternalError, "etcd is away")));
    let next = plan.then.expect("it waits")(&server.cache.view(), &[refused], server.now());
    server.carry_out(next);
    let budget = server.get::<PodDisruptionBudget>("default", "web").expect("there");
    assert_eq!(budget.allowance().map(|told| told.message.as_str()), Some("etcd is away"));
}

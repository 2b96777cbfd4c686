//! Evictions and the disruption budgets that they ask.

use serde_json::{Value, json};

use super::harness::{World, object, pod_key};
use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::api::policy::PodDisruptionBudget;
use crate::apiserver::protocol::{DeleteOptions, Operation, Part};
use crate::apiserver::status::{Reason, Status};
use crate::engine::time::SimDuration;

const REFUSAL: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

fn budget_key(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::PodDisruptionBudget, "default", name)
}

/// A pod that runs on a node.
fn running(world: &mut World, name: &str, is_ready: bool) {
    let created = world.create(object(
        Kind::Pod,
        json!({
            "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "app", "image": "app"}]}
        }),
    ));
    assert!(world.bind(&created, "node-1").is_ok());
    let ready = if is_ready { "True" } else { "False" };
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
    let patch = crate::apiserver::protocol::Patch::Merge(std::rc::Rc::new(status));
    let operation = Operation::Patch { key: pod_key(name), patch, part: Part::Status, dry_run: false };
    assert!(world.ask(operation).is_ok());
}

/// A budget as the controller would have left it.
fn budget(world: &mut World, name: &str, policy: Option<&str>, healthy: i32, desired: i32) {
    let mut spec = json!({"minAvailable": desired, "selector": {"matchLabels": {"app": "web"}}});
    if let Some(policy) = policy {
        spec["unhealthyPodEvictionPolicy"] = policy.into();
    }
    let created = world.create(object(
        Kind::PodDisruptionBudget,
        json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec}),
    ));
    let status: Value = json!({
        "currentHealthy": healthy, "desiredHealthy": desired, "expectedPods": 3,
        "disruptionsAllowed": (healthy - desired).max(0), "observedGeneration": 1
    });
    let mut full = created.to_json();
    full["status"] = status;
    let known = object(Kind::PodDisruptionBudget, full);
    assert!(world.update(known, Part::Status).is_ok());
}

fn evict(world: &mut World, name: &str, dry_run: bool) -> Result<(), Box<Status>> {
    let options = DeleteOptions { dry_run, ..DeleteOptions::default() };
    world.ask(Operation::Evict { key: pod_key(name), options }).map(|_| ())
}

fn found(world: &mut World, name: &str) -> PodDisruptionBudget {
    let object = world.get(&budget_key(name)).expect("it is there");
    (**object.get::<PodDisruptionBudget>().expect("a budget")).clone()
}

fn is_leaving(world: &mut World, name: &str) -> bool {
    world.get(&pod_key(name)).is_none_or(|pod| pod.meta().is_deleting())
}

#[test]
fn a_budget_counts_each_eviction_that_it_grants_and_refuses_the_rest() {
    let mut world = World::new();
    ["a", "b", "c"].iter().for_each(|name| running(&mut world, name, true));
    budget(&mut world, "web", None, 3, 2);
    assert!(evict(&mut world, "a", true).is_ok(), "a dry run");
    assert!(!is_leaving(&mut world, "a"));
    assert_eq!(found(&mut world, "web").disruptions_allowed(), 1);
    assert!(evict(&mut world, "a", false).is_ok());
    let after = found(&mut world, "web");
    assert_eq!((after.disruptions_allowed(), after.counts_as_disrupted("a")), (0, true));
    let told = after.allowance().map(|told| (told.status.clone(), told.reason.clone()));
    assert_eq!(told, Some(("False".to_owned(), "InsufficientPods".to_owned())));
    assert!(is_leaving(&mut world, "a"));
    let refused = evict(&mut world, "b", false).expect_err("no more is allowed");
    assert_eq!((refused.reason, refused.message.as_str()), (Reason::TooManyRequests, REFUSAL));
    let details = refused.details.expect("why");
    assert_eq!(details.retry_after_seconds, 0);
    let why = "The disruption budget web does not allow evicting pods currently";
    assert_eq!(details.causes, [("DisruptionBudget".to_owned(), why.to_owned(), String::new())]);
    assert!(!is_leaving(&mut world, "b"));
    // A pod that goes already is of no concern to the budget.
    assert!(evict(&mut world, "a", false).is_ok());
}

#[test]
fn a_budget_that_needs_more_than_there_is_says_so() {
    let mut world = World::new();
    running(&mut world, "a", true);
    budget(&mut world, "web", None, 1, 2);
    let refused = evict(&mut world, "a", false).expect_err("it is needed");
    let why = "The disruption budget web needs 2 healthy pods and has 1 currently";
    assert_eq!(refused.details.expect("why").causes[0].1, why);
}

#[test]
fn a_budget_whose_newest_version_nobody_has_looked_at_grants_nothing() {
    let mut world = World::new();
    running(&mut world, "a", true);
    budget(&mut world, "web", None, 3, 1);
    assert!(world.merge(&budget_key("web"), json!({"spec": {"minAvailable": 3}})).is_ok());
    let refused = evict(&mut world, "a", false).expect_err("it may be too much");
    let details = refused.details.expect("why");
    assert_eq!(details.retry_after_seconds, 10);
    assert_eq!(details.causes[0].1, "The disruption budget web is still being processed by the server.");
}

#[test]
fn several_budgets_are_one_too_many() {
    let mut world = World::new();
    running(&mut world, "a", true);
    budget(&mut world, "one", None, 3, 1);
    budget(&mut world, "two", None, 3, 1);
    let refused = evict(&mut world, "a", false).expect_err("two budgets");
    assert_eq!(refused.reason.code(), 500);
    let text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
    assert_eq!(refused.message, text);
}

#[test]
fn a_pod_that_is_not_ready_may_go_if_the_rest_is_whole_or_the_budget_says_so() {
    for (policy, healthy, goes) in [(None, 2, true), (None, 1, false), (Some("AlwaysAllow"), 1, true)] {
        let mut world = World::new();
        running(&mut world, "ill", false);
        budget(&mut world, "web", policy, healthy, 2);
        assert_eq!(evict(&mut world, "ill", false).is_ok(), goes, "{policy:?} {healthy}");
        assert_eq!(is_leaving(&mut world, "ill"), goes);
        assert!(!found(&mut world, "web").counts_as_disrupted("ill"), "it was not counted as healthy either");
    }
}

#[test]
fn of_two_evictions_at_the_same_time_a_budget_of_one_grants_one() {
    let mut world = World::with_servers(2);
    ["a", "b"].iter().for_each(|name| running(&mut world, name, true));
    budget(&mut world, "web", None, 2, 1);
    let ask = |world: &mut World, server: u32, name: &str| {
        world.send(server, Operation::Evict { key: pod_key(name), options: DeleteOptions::default() })
    };
    let asked = [ask(&mut world, 1, "a"), ask(&mut world, 2, "b")];
    world.run_for(SimDuration::from_secs(2));
    let granted = asked.into_iter().filter(|id| world.wait(*id).is_ok()).count();
    assert_eq!(granted, 1);
    let leaving = ["a", "b"].iter().filter(|name| is_leaving(&mut world, name)).count();
    assert_eq!(leaving, 1);
}

#[test]
fn a_pending_pod_goes_without_asking() {
    let mut world = World::new();
    world.create(object(
        Kind::Pod,
        json!({
            "metadata": {"name": "new", "namespace": "default", "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "app", "image": "app"}]}
        }),
    ));
    budget(&mut world, "web", None, 0, 2);
    assert!(evict(&mut world, "new", false).is_ok());
    assert!(world.get(&pod_key("new")).is_none());
    let missing = evict(&mut world, "new", false).expect_err("it is gone");
    assert_eq!(missing.message, "pods \"new\" not found");
}

#[test]
fn a_pod_says_that_it_is_being_disrupted_before_it_goes() {
    let mut world = World::new();
    running(&mut world, "a", true);
    assert!(evict(&mut world, "a", false).is_ok());
    let object = world.get(&pod_key("a")).expect("it has time to end");
    let pod: &Pod = object.get::<Pod>().expect("a pod");
    let condition = pod.status.condition(&crate::api::pod::PodConditionType::DisruptionTarget).expect("it says so");
    assert_eq!(condition.why.reason(), Some("EvictionByEvictionAPI"));
    assert!(matches!(&object, Object::Pod(pod) if pod.meta.is_deleting()));
}

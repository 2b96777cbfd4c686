//! Limits and quotas of namespaces, runtime classes.

use serde_json::{Value, json};

use super::harness::{World, failure, object, object_of, pod, pod_key};
use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::api::quota::ResourceQuota;
use crate::apiserver::protocol::{DeleteOptions, Operation, Part};

fn quota_key() -> ObjectKey {
    ObjectKey::new(Kind::ResourceQuota, "default", "team")
}

fn create(object: Object) -> Operation {
    Operation::Create { object, dry_run: false }
}

/// Creates a quota and says, as the controller would, that nothing is used.
fn with_quota(world: &mut World, spec: Value, used: Value) {
    let hard = spec["hard"].clone();
    let quota = json!({"metadata": {"name": "team", "namespace": "default"}, "spec": spec});
    let created = world.create(object(Kind::ResourceQuota, quota));
    let mut value = created.to_json();
    value["status"] = json!({"hard": hard, "used": used});
    world.update(object(Kind::ResourceQuota, value), Part::Status).expect("the status is accepted");
}

fn used(world: &mut World) -> String {
    let quota = world.get(&quota_key()).expect("the quota");
    quota.get::<ResourceQuota>().expect("a quota").used.to_string()
}

fn sized(name: &str, cpu: &str) -> Object {
    let container = json!({"name": "app", "image": "nginx:1.27", "resources": {"requests": {"cpu": cpu}}});
    object(Kind::Pod, json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"containers": [container]}}))
}

#[test]
fn a_quota_is_charged_with_each_pod_until_there_is_no_more() {
    let mut world = World::new();
    with_quota(
        &mut world,
        json!({"hard": {"pods": "2", "requests.cpu": "1"}}),
        json!({"pods": "0", "requests.cpu": "0"}),
    );
    world.create(sized("one", "600m"));
    assert_eq!(used(&mut world), "pods=1,requests.cpu=600m");
    assert_eq!(
        failure(world.ask(create(sized("two", "500m")))),
        "403 pods \"two\" is forbidden: exceeded quota: team, requested: requests.cpu=500m, used: requests.cpu=600m, \
         limited: requests.cpu=1"
    );
    assert_eq!(
        failure(world.ask(create(pod("none")))),
        "403 pods \"none\" is forbidden: failed quota: team: must specify requests.cpu for: app"
    );
    world.create(sized("two", "400m"));
    assert_eq!(
        failure(world.ask(create(sized("three", "1")))),
        "403 pods \"three\" is forbidden: exceeded quota: team, requested: pods=1,requests.cpu=1, \
         used: pods=2,requests.cpu=1, limited: pods=2,requests.cpu=1"
    );
    assert_eq!(used(&mut world), "pods=2,requests.cpu=1");
    world
        .delete(&pod_key("one"), DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() })
        .expect("it goes");
    assert_eq!(used(&mut world), "pods=2,requests.cpu=1", "what is free again the controller finds out");
}

#[test]
fn requests_that_come_at_once_are_charged_one_after_the_other_and_never_too_many_pass() {
    let mut world = World::new();
    with_quota(&mut world, json!({"hard": {"pods": "5"}}), json!({"pods": "0"}));
    let ids: Vec<u64> = (0..12).map(|number| world.send(1, create(pod(&format!("pod-{number}"))))).collect();
    let passed = ids.into_iter().filter(|id| world.wait(*id).is_ok()).count();
    assert_eq!(passed, 5);
    assert_eq!(used(&mut world), "pods=5");
}

#[test]
fn two_servers_agree_on_a_quota_by_its_version() {
    let mut world = World::with_servers(2);
    with_quota(&mut world, json!({"hard": {"pods": "7"}}), json!({"pods": "0"}));
    let send = |number: u32| (1 + number % 2, create(pod(&format!("pod-{number}"))));
    let ids: Vec<u64> = (0..10).map(send).map(|(server, operation)| world.send(server, operation)).collect();
    let passed = ids.into_iter().filter(|id| world.wait(*id).is_ok()).count();
    let (pods, _) = world.list(Kind::Pod);
    assert_eq!(pods.len(), passed);
    assert_eq!((passed, used(&mut world)), (7, "pods=7".to_owned()));
}

#[test]
fn a_quota_whose_usage_nobody_has_counted_lets_nothing_pass() {
    let mut world = World::new();
    let quota = json!({"metadata": {"name": "team", "namespace": "default"}, "spec": {"hard": {"pods": "2"}}});
    world.create(object(Kind::ResourceQuota, quota));
    // Without a status nothing is enforced yet.
    world.create(pod("early"));
    let mut value = world.get(&quota_key()).expect("the quota").to_json();
    value["status"] = json!({"hard": {"pods": "2"}});
    world.update(object(Kind::ResourceQuota, value), Part::Status).expect("the status is accepted");
    assert_eq!(
        failure(world.ask(create(pod("late")))),
        "403 pods \"late\" is forbidden: status unknown for quota: team, resources: pods"
    );
}

#[test]
fn objects_of_other_kinds_are_counted_by_number_and_services_by_type_too() {
    let mut world = World::new();
    let hard = json!({"count/deployments.apps": "1", "configmaps": "1", "services.nodeports": "1"});
    let none = json!({"count/deployments.apps": "0", "configmaps": "0", "services.nodeports": "0"});
    with_quota(&mut world, json!({"hard": hard}), none);
    let deployment = |name: &str| {
        let template = json!({
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}
        });
        let spec = json!({"selector": {"matchLabels": {"app": "web"}}, "template": template});
        object(Kind::Deployment, json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec}))
    };
    world.create(deployment("web"));
    assert_eq!(
        failure(world.ask(create(deployment("more")))),
        "403 deployments.apps \"more\" is forbidden: exceeded quota: team, requested: count/deployments.apps=1, \
         used: count/deployments.apps=1, limited: count/deployments.apps=1"
    );
    let service = |name: &str, kind: &str| {
        let spec = json!({"type": kind, "ports": [{"port": 80}, {"port": 81, "name": "b"}]});
        let mut value = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
        value["spec"]["ports"][0]["name"] = "a".into();
        object(Kind::Service, value)
    };
    let plain = world.create(service("plain", "ClusterIP"));
    let mut changed = plain.to_json();
    changed["spec"]["type"] = "NodePort".into();
    assert_eq!(
        failure(world.update(object(Kind::Service, changed), Part::Main)),
        "403 services \"plain\" is forbidden: exceeded quota: team, requested: services.nodeports=2, \
         used: services.nodeports=0, limited: services.nodeports=1"
    );
}

#[test]
fn a_quota_for_a_priority_class_concerns_pods_of_that_class_only() {
    let mut world = World::new();
    let class = json!({"metadata": {"name": "high"}, "value": 1000});
    world.create(object(Kind::PriorityClass, class));
    let selector = json!({"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]});
    with_quota(&mut world, json!({"hard": {"pods": "1"}, "scopeSelector": selector}), json!({"pods": "0"}));
    let urgent = |name: &str| {
        let mut value = pod(name).to_json();
        value["spec"]["priorityClassName"] = "high".into();
        object(Kind::Pod, value)
    };
    world.create(pod("a"));
    world.create(pod("b"));
    world.create(urgent("c"));
    assert_eq!(
        failure(world.ask(create(urgent("d")))),
        "403 pods \"d\" is forbidden: exceeded quota: team, requested: pods=1, used: pods=1, limited: pods=1"
    );
}

#[test]
fn only_one_priority_class_is_the_default_also_after_a_change() {
    let mut world = World::new();
    let class = |name: &str, default: bool| {
        let value = json!({"metadata": {"name": name}, "value": 10, "globalDefault": default});
        object(Kind::PriorityClass, value)
    };
    world.create(class("usual", true));
    let refused = "is forbidden: PriorityClass usual is already marked as default. Only one default can exist";
    assert_eq!(
        failure(world.ask(create(class("other", true)))),
        format!("403 priorityclasses.scheduling.k8s.io \"other\" {refused}")
    );
    let other = world.create(class("other", false));
    assert_eq!(
        failure(world.merge(&other.key(), json!({"globalDefault": true}))),
        format!("403 priorityclasses.scheduling.k8s.io \"other\" {refused}")
    );
    let usual = ObjectKey::new(Kind::PriorityClass, "", "usual");
    assert!(world.merge(&usual, json!({"metadata": {"labels": {"a": "b"}}})).is_ok());
    let created = world.create(pod("plain"));
    let full = &created.get::<Pod>().expect("a pod").spec.full;
    assert_eq!((full.priority, full.priority_class_name.as_deref()), (Some(10), Some("usual")));
}

#[test]
fn a_dry_run_is_refused_by_a_quota_but_not_charged() {
    let mut world = World::new();
    with_quota(&mut world, json!({"hard": {"pods": "1"}}), json!({"pods": "0"}));
    let try_out = |name: &str| Operation::Create { object: pod(name), dry_run: true };
    assert!(world.ask(try_out("one")).is_ok());
    assert_eq!(used(&mut world), "pods=0");
    world.create(pod("one"));
    assert!(failure(world.ask(try_out("two"))).starts_with("403 pods \"two\" is forbidden: exceeded quota"));
}

#[test]
fn a_limit_range_gives_and_limits() {
    let mut world = World::new();
    let limits = json!([{"type": "Container", "default": {"cpu": "200m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}}]);
    let range = json!({"metadata": {"name": "limits", "namespace": "default"}, "spec": {"limits": limits}});
    world.create(object(Kind::LimitRange, range));
    let created = world.create(pod("small"));
    let stored = created.get::<Pod>().expect("a pod");
    assert_eq!((stored.spec.requests.milli_cpu, stored.spec.containers[0].limits.milli_cpu), (100, 200));
    assert_eq!(
        stored.meta.annotations.get("kubernetes.io/limit-ranger").map(|text| text.as_str()),
        Some("LimitRanger plugin set: cpu request for container app; cpu limit for container app")
    );
    let limited = |name: &str, cpu: &str| {
        let container = json!({"name": "app", "image": "nginx:1.27", "resources": {"limits": {"cpu": cpu}}});
        object(
            Kind::Pod,
            json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"containers": [container]}}),
        )
    };
    assert_eq!(
        failure(world.ask(create(limited("large", "2")))),
        "403 pods \"large\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
    );
    // The request that a pod makes may be more than the limit that it is given: a trap that is known from the field.
    assert_eq!(
        failure(world.ask(create(sized("odd", "300m")))),
        "422 Pod \"odd\" is invalid: spec.containers[0].resources.requests: Invalid value: \"300m\": must be less than or \
         equal to cpu limit of 200m"
    );
}

#[test]
fn a_runtime_class_adds_its_overhead_and_says_where_its_pods_may_run() {
    let mut world = World::new();
    let class = json!({
        "metadata": {"name": "kata"}, "handler": "kata", "overhead": {"podFixed": {"cpu": "250m", "memory": "120Mi"}},
        "scheduling": {
            "nodeSelector": {"runtime": "kata"}, "tolerations": [{"key": "kata", "operator": "Exists"}]
        }
    });
    world.create(object(Kind::RuntimeClass, class));
    let of_class = |name: &str, class: &str| {
        let mut value = pod(name).to_json();
        value["spec"]["runtimeClassName"] = class.into();
        object(Kind::Pod, value)
    };
    let created = object_of(world.ask(create(of_class("boxed", "kata"))));
    let stored = created.get::<Pod>().expect("a pod");
    assert_eq!(stored.spec.requests.milli_cpu, 250);
    let full = &stored.spec.full;
    assert_eq!(
        full.node_selector.as_ref().and_then(|selector| selector.get("runtime")).map(String::as_str),
        Some("kata")
    );
    assert!(full.tolerations.iter().flatten().any(|toleration| toleration.key.as_deref() == Some("kata")));
    assert_eq!(
        failure(world.ask(create(of_class("lost", "gvisor")))),
        "403 pods \"lost\" is forbidden: pod rejected: RuntimeClass \"gvisor\" not found"
    );
    let mut own = pod("own").to_json();
    own["spec"]["overhead"] = json!({"cpu": "1"});
    assert_eq!(
        failure(world.ask(create(object(Kind::Pod, own)))),
        "403 pods \"own\" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
    );
    let mut elsewhere = of_class("elsewhere", "kata").to_json();
    elsewhere["spec"]["nodeSelector"] = json!({"runtime": "runc"});
    assert_eq!(
        failure(world.ask(create(object(Kind::Pod, elsewhere)))),
        "403 pods \"elsewhere\" is forbidden: conflict: runtimeClass.scheduling.nodeSelector[runtime] = kata; \
         pod.spec.nodeSelector[runtime] = runc"
    );
}

/// A pod that is bound to a node of four CPUs.
fn placed(world: &mut World, name: &str, cpu: &str) {
    let node = json!({"metadata": {"name": "node-1"}, "status": {"allocatable": {"cpu": "4", "memory": "8Gi"}}});
    if world.get(&ObjectKey::new(Kind::Node, "", "node-1")).is_none() {
        let created = world.create(object(Kind::Node, node.clone()));
        let mut value = created.to_json();
        value["status"] = node["status"].clone();
        world.update(object(Kind::Node, value), Part::Status).expect("the node tells what it has");
    }
    let mut value = sized(name, cpu).to_json();
    value["spec"]["nodeName"] = json!("node-1");
    world.create(object(Kind::Pod, value));
}

/// Gives the container of a pod another CPU request in place.
fn resize(world: &mut World, name: &str, cpu: &str) -> crate::apiserver::stories::harness::Outcome {
    let container = json!({"name": "app", "resources": {"requests": {"cpu": cpu}}});
    let patch = crate::apiserver::protocol::Patch::Strategic(json!({"spec": {"containers": [container]}}).into());
    world.ask(Operation::Patch { key: pod_key(name), patch, part: Part::Resize, dry_run: false })
}

#[test]
fn a_resize_is_charged_to_the_quota() {
    let mut world = World::new();
    let spec = json!({"hard": {"requests.cpu": "1"}});
    with_quota(&mut world, spec, json!({"requests.cpu": "0"}));
    placed(&mut world, "one", "400m");
    resize(&mut world, "one", "700m").expect("there is room");
    assert_eq!(used(&mut world), "requests.cpu=700m");
    assert_eq!(
        failure(resize(&mut world, "one", "1100m")),
        "403 pods \"one\" is forbidden: exceeded quota: team, requested: requests.cpu=400m, used: requests.cpu=700m, \
         limited: requests.cpu=1"
    );
    resize(&mut world, "one", "200m").expect("less is always fine");
    assert_eq!(used(&mut world), "requests.cpu=700m", "what is free again the controller finds out");
}

#[test]
fn a_resize_keeps_to_the_limits_of_the_namespace() {
    let mut world = World::new();
    placed(&mut world, "one", "400m");
    let limit = json!({"type": "Container", "min": {"cpu": "300m"}});
    let range = json!({"metadata": {"name": "l", "namespace": "default"}, "spec": {"limits": [limit]}});
    world.create(object(Kind::LimitRange, range));
    resize(&mut world, "one", "350m").expect("it is enough");
    assert_eq!(
        failure(resize(&mut world, "one", "100m")),
        "403 pods \"one\" is forbidden: minimum cpu usage per Container is 300m, but request is 100m"
    );
}

#[test]
fn an_account_may_keep_its_pods_from_secrets_that_it_does_not_name() {
    let mut world = World::new();
    let annotations = json!({"kubernetes.io/enforce-mountable-secrets": "true"});
    let account = json!({
        "metadata": {"name": "robot", "namespace": "default", "annotations": annotations}, "secrets": [{"name": "mine"}]
    });
    world.create(object(Kind::ServiceAccount, account));
    let pod = |name: &str, secret: &str| {
        let container = json!({"name": "app", "image": "nginx:1.27"});
        let volume = json!({"name": "keys", "secret": {"secretName": secret}});
        let spec = json!({"serviceAccountName": "robot", "containers": [container], "volumes": [volume]});
        object(Kind::Pod, json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec}))
    };
    world.create(pod("good", "mine"));
    assert_eq!(
        failure(world.ask(create(pod("bad", "theirs")))),
        "403 pods \"bad\" is forbidden: volume with secret.secretName=\"theirs\" is not allowed because service account \
         robot does not reference that secret"
    );
}

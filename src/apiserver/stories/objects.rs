//! Creation, admission, updates, conflicts.

use std::rc::Rc;

use serde_json::json;

use super::harness::{World, failure, object, object_of, pod, pod_key};
use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::{ConditionStatus, Pod, PodCondition, PodConditionType, PodPhase, PodStatus, Why};
use crate::apiserver::Accounts;
use crate::apiserver::protocol::{Answer, Operation, Part, Patch, TypedPatch};
use crate::engine::time::SimDuration;

fn as_pod(object: &Object) -> Rc<Pod> {
    object.get::<Pod>().expect("a pod").clone()
}

fn status_patch(key: &ObjectKey, pod: &Pod, status: PodStatus) -> Operation {
    let patch = Patch::Typed(Box::new(TypedPatch::PodStatus { uid: pod.meta.uid, status }));
    Operation::Patch { key: key.clone(), patch, part: Part::Status, dry_run: false }
}

#[test]
fn a_cluster_begins_with_its_namespaces_and_priority_classes() {
    let mut world = World::new();
    let names = |objects: Vec<Object>| objects.iter().map(|object| object.meta().name.to_string()).collect::<Vec<_>>();
    let (namespaces, _) = world.list(Kind::Namespace);
    assert_eq!(names(namespaces), ["default", "kube-node-lease", "kube-public", "kube-system"]);
    let (classes, _) = world.list(Kind::PriorityClass);
    assert_eq!(names(classes), ["system-cluster-critical", "system-node-critical"]);
}

#[test]
fn a_new_pod_gets_what_admission_and_registry_add() {
    let mut world = World::new();
    let stored = as_pod(&world.create(pod("web")));
    let full = &stored.spec.full;
    assert_eq!(full.service_account_name.as_deref(), Some("default"));
    assert_eq!((full.priority, full.preemption_policy.as_deref()), (Some(0), Some("PreemptLowerPriority")));
    let tolerations = full.tolerations.iter().flatten().map(|t| (t.key.as_deref(), t.toleration_seconds));
    assert_eq!(
        tolerations.collect::<Vec<_>>(),
        [(Some("node.kubernetes.io/not-ready"), Some(300)), (Some("node.kubernetes.io/unreachable"), Some(300)),]
    );
    assert_eq!(full.restart_policy.as_deref(), Some("Always"), "defaults are set");
    assert!(stored.token_volume.is_some());
    assert_eq!((stored.meta.generation, stored.status.phase), (1, PodPhase::Pending));
    assert!(stored.meta.revision() > 0 && stored.meta.uid != Default::default());
    assert_eq!(
        failure(world.ask(Operation::Create { object: pod("web"), dry_run: false })),
        "409 pods \"web\" already exists"
    );
}

#[test]
fn what_cannot_be_is_refused_in_the_servers_words() {
    let mut world = World::new();
    let elsewhere = object(
        Kind::Pod,
        json!({"metadata": {"name": "web", "namespace": "nowhere"}, "spec": {"containers": [{"name": "a", "image": "b"}]}}),
    );
    let create = |object| Operation::Create { object, dry_run: false };
    assert_eq!(failure(world.ask(create(elsewhere))), "404 namespaces \"nowhere\" not found");
    let mut urgent = pod("urgent");
    if let Object::Pod(pod) = &mut urgent {
        let spec = &mut Rc::make_mut(pod).spec;
        Rc::make_mut(spec).full.priority_class_name = Some("gold".to_owned());
    }
    assert_eq!(
        failure(world.ask(create(urgent))),
        "403 pods \"urgent\" is forbidden: no PriorityClass with name gold was found"
    );
    let mut account = pod("account");
    if let Object::Pod(pod) = &mut account {
        let spec = &mut Rc::make_mut(pod).spec;
        Rc::make_mut(spec).full.service_account_name = Some("robot".to_owned());
    }
    assert_eq!(
        failure(world.ask(create(account))),
        "403 pods \"account\" is forbidden: error looking up service account default/robot: \
         serviceaccount \"robot\" not found"
    );
    let wrong = failure(world.ask(create(pod("Web"))));
    assert!(
        wrong.starts_with("422 Pod \"Web\" is invalid: metadata.name: Invalid value: \"Web\": a lowercase"),
        "{wrong}"
    );
}

#[test]
fn a_pod_waits_for_the_account_that_its_namespace_is_about_to_get() {
    let mut world = World::new();
    world.accounts = Accounts::MustExist;
    world.start_server(1);
    world.run_for(SimDuration::from_secs(3));
    let early = world.send(1, Operation::Create { object: pod("early"), dry_run: false });
    world.run_for(SimDuration::from_millis(200));
    let account = json!({"metadata": {"name": "default", "namespace": "default"}});
    world.create(object(Kind::ServiceAccount, account));
    let asked = world.now;
    assert!(world.wait(early).is_ok());
    assert!(world.now.since(asked) < SimDuration::from_millis(200), "it looks again every 150 ms");

    let mut elsewhere = pod("late");
    elsewhere.meta_mut().namespace = Name::of("kube-public");
    let asked = world.now;
    assert_eq!(
        failure(world.ask(Operation::Create { object: elsewhere, dry_run: false })),
        "403 pods \"late\" is forbidden: error looking up service account kube-public/default: \
         serviceaccount \"default\" not found"
    );
    assert!(world.now.since(asked) > SimDuration::from_millis(1300), "ten attempts");
}

#[test]
fn a_service_may_be_named_like_any_label() {
    let mut world = World::new();
    let service = |name: &str| {
        let spec = json!({"ports": [{"port": 80}], "selector": {"app": "web"}});
        object(Kind::Service, json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec}))
    };
    world.create(service("1st"));
    let refused = failure(world.ask(Operation::Create { object: service("a.b"), dry_run: false }));
    assert!(
        refused.starts_with("422 Service \"a.b\" is invalid: metadata.name: Invalid value: \"a.b\": must not"),
        "{refused}"
    );
}

#[test]
fn pods_of_one_template_share_one_admitted_specification() {
    let mut world = World::new();
    let Object::Pod(template) = pod("template") else { panic!("a pod") };
    let create = |name: &str, world: &mut World| {
        let mut one = (*template).clone();
        one.meta.name = Name::EMPTY;
        one.meta.generate_name = Some(Name::new(name));
        as_pod(&world.create(Object::Pod(Rc::new(one))))
    };
    let pods: Vec<Rc<Pod>> = (0..20).map(|_| create("web-", &mut world)).collect();
    for pod in &pods {
        assert!(Rc::ptr_eq(&pod.spec, &pods[0].spec));
        let letters = pod.meta.name.strip_prefix("web-").expect("the prefix");
        assert!(letters.len() == 5 && letters.bytes().all(|letter| b"bcdfghjklmnpqrstvwxz2456789".contains(&letter)));
    }
    let mut names: Vec<&str> = pods.iter().map(|pod| pod.meta.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 20);
}

#[test]
fn a_writer_who_read_an_older_version_is_told_so() {
    let mut world = World::new();
    let first = world.create(pod("web"));
    let labelled = |object: &Object, value: &str| {
        let mut object = object.clone();
        let labels = object.meta().labels.with("tier", value);
        object.meta_mut().labels = labels;
        object
    };
    let second = object_of(world.update(labelled(&first, "a"), Part::Main));
    assert!(second.meta().revision() > first.meta().revision());
    assert_eq!(
        failure(world.update(labelled(&first, "b"), Part::Main)),
        "409 Operation cannot be fulfilled on pods \"web\": the object has been modified; please apply your changes to \
         the latest version and try again"
    );
    let mut unconditional = labelled(&first, "c");
    unconditional.meta_mut().resource_version.set(0);
    assert!(world.update(unconditional, Part::Main).is_ok());
}

#[test]
fn nothing_is_written_when_nothing_changes() {
    let mut world = World::new();
    let first = world.create(pod("web"));
    let (_, before) = world.list(Kind::Pod);
    let again = object_of(world.update(first.clone(), Part::Main));
    assert_eq!(again.meta().revision(), first.meta().revision());
    let key = pod_key("web");
    let patched = object_of(world.merge(&key, json!({"metadata": {"labels": {"app": "web"}}})));
    assert_eq!(patched.meta().revision(), first.meta().revision());
    assert_eq!(world.list(Kind::Pod).1, before);
}

#[test]
fn the_main_part_leaves_the_status_alone_and_the_status_the_rest() {
    let mut world = World::new();
    let created = world.create(pod("web"));
    let key = pod_key("web");
    let status = PodStatus { phase: PodPhase::Running, ..PodStatus::default() };
    let running = object_of(world.ask(status_patch(&key, &as_pod(&created), status)));
    assert_eq!((as_pod(&running).status.phase, running.meta().generation), (PodPhase::Running, 1));
    assert!(Rc::ptr_eq(&as_pod(&running).spec, &as_pod(&created).spec));
    let image = json!({"spec": {"containers": [{"name": "app", "image": "nginx:1.28"}]}});
    let patch = Patch::Strategic(Rc::new(image));
    let patched = world.ask(Operation::Patch { key: key.clone(), patch, part: Part::Main, dry_run: false });
    let patched = as_pod(&object_of(patched));
    assert_eq!((patched.status.phase, patched.meta.generation), (PodPhase::Running, 2));
    assert_eq!(&*patched.spec.containers[0].image, "nginx:1.28");
    let refused = failure(world.merge(&key, json!({"spec": {"dnsPolicy": "Default"}})));
    assert!(
        refused.starts_with("422 Pod \"web\" is invalid: spec: Forbidden: pod updates may not change fields"),
        "{refused}"
    );
}

#[test]
fn conditions_of_a_status_patch_are_merged_by_type() {
    let mut world = World::new();
    let created = as_pod(&world.create(pod("web")));
    let condition = |kind, status| PodCondition {
        kind,
        status,
        why: Why::NONE,
        last_transition: created.meta.created,
        observed_generation: 1,
    };
    let key = pod_key("web");
    let (gate, ready) = (PodConditionType::Other(Name::of("example.com/gate")), PodConditionType::Ready);
    let conditions = vec![condition(gate.clone(), ConditionStatus::True)];
    let patch = TypedPatch::PodConditions { uid: created.meta.uid, conditions, nominated_node: None };
    let patch = Patch::Typed(Box::new(patch));
    assert!(world.ask(Operation::Patch { key: key.clone(), patch, part: Part::Status, dry_run: false }).is_ok());
    let status =
        PodStatus { conditions: [condition(ready.clone(), ConditionStatus::True)].into(), ..PodStatus::default() };
    let merged = as_pod(&object_of(world.ask(status_patch(&key, &created, status))));
    let kinds: Vec<&PodConditionType> = merged.status.conditions.iter().map(|condition| &condition.kind).collect();
    assert!(kinds.contains(&&gate) && kinds.contains(&&ready) && kinds.len() == 2);
}

#[test]
fn a_pod_is_bound_once() {
    let mut world = World::new();
    for (name, zone) in [("node-1", "a"), ("node-2", "b")] {
        let labels = json!({"topology.kubernetes.io/zone": zone, "kubernetes.io/os": "linux"});
        world.create(object(Kind::Node, json!({"metadata": {"name": name, "labels": labels}})));
    }
    let created = world.create(pod("web"));
    assert!(matches!(world.bind(&created, "node-1"), Ok(Answer::Done)));
    let bound = as_pod(&world.get(&pod_key("web")).expect("the pod"));
    assert_eq!(bound.node.as_deref(), Some("node-1"));
    assert_eq!(bound.meta.labels.get("topology.kubernetes.io/zone").map(Name::as_str), Some("a"));
    assert!(bound.meta.labels.get("kubernetes.io/os").is_none());
    let scheduled = bound.status.condition(&PodConditionType::PodScheduled).expect("the condition");
    assert_eq!(scheduled.status, ConditionStatus::True);
    assert_eq!(bound.meta.generation, 1);
    assert_eq!(
        failure(world.bind(&created, "node-2")),
        "409 Operation cannot be fulfilled on pods/binding \"web\": pod web is already assigned to node \"node-1\""
    );
}

#[test]
fn a_new_node_takes_no_pods_before_it_is_ready() {
    let mut world = World::new();
    let node = world.create(object(Kind::Node, json!({"metadata": {"name": "node-1"}})));
    let Object::Node(node) = node else { panic!("a node") };
    assert_eq!(
        node.taints.iter().map(|taint| taint.key.as_str()).collect::<Vec<_>>(),
        ["node.kubernetes.io/not-ready"]
    );
}

#[test]
fn a_service_gets_an_address_and_keeps_it() {
    let mut world = World::new();
    let service = |name: &str| {
        let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
        object(Kind::Service, json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec}))
    };
    let address = |object: &Object| match object {
        Object::Service(service) => service.spec.cluster_ip.clone().expect("an address"),
        _ => panic!("a service"),
    };
    let (first, second) = (world.create(service("one")), world.create(service("two")));
    assert!(address(&first).starts_with("10.") && address(&first) != address(&second));
    let mut replaced = service("one");
    replaced.meta_mut().labels = replaced.meta().labels.with("new", "label");
    assert_eq!(address(&object_of(world.update(replaced, Part::Main))), address(&first));
}

#[test]
fn scaling_counts_as_a_change_of_the_specification() {
    let mut world = World::new();
    let template = json!({
        "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": "nginx"}]},
    });
    let spec = json!({"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template});
    let meta = json!({"name": "web", "namespace": "default"});
    world.create(object(Kind::Deployment, json!({"metadata": meta, "spec": spec})));
    let key = ObjectKey::new(Kind::Deployment, "default", "web");
    let scale = Operation::SetScale { key: key.clone(), replicas: 5, resource_version: 0 };
    assert!(matches!(world.ask(scale), Ok(Answer::Scale { desired: 5, current: 0, .. })));
    let scaled = world.get(&key).expect("the deployment");
    assert_eq!(scaled.meta().generation, 2);
    assert!(matches!(world.ask(Operation::GetScale { key: key.clone() }), Ok(Answer::Scale { desired: 5, .. })));
    let other = json!({"spec": {"selector": {"matchLabels": {"app": "other"}}}});
    let refused = failure(world.merge(&key, other));
    assert!(refused.starts_with("422 Deployment.apps \"web\" is invalid: "), "{refused}");
    assert!(refused.contains("field is immutable"), "{refused}");
}

#[test]
fn a_dry_run_changes_nothing() {
    let mut world = World::new();
    let dry = world.ask(Operation::Create { object: pod("web"), dry_run: true });
    assert_eq!(&*object_of(dry).meta().name, "web");
    assert!(world.get(&pod_key("web")).is_none());
}

#[test]
fn a_server_that_begins_anew_makes_other_uids() {
    let mut world = World::new();
    let before = world.create(pod("one")).meta().uid;
    world.start_server(1);
    world.run_for(SimDuration::from_secs(2));
    let after: Vec<_> = (0..10).map(|number| world.create(pod(&format!("again-{number}"))).meta().uid).collect();
    assert!(!after.contains(&before));
    let (namespaces, _) = world.list(Kind::Namespace);
    let mut uids: Vec<_> = namespaces.iter().map(|namespace| namespace.meta().uid).chain(after).collect();
    uids.sort_unstable();
    uids.dedup();
    assert_eq!(uids.len(), 14);
}

#[test]
fn a_claim_grows_when_it_is_bound_and_its_class_says_so() {
    let mut world = World::new();
    for (name, grows) in [("fixed", json!(false)), ("silent", json!(null)), ("growing", json!(true))] {
        let class = json!({"metadata": {"name": name}, "provisioner": "p", "allowVolumeExpansion": grows});
        world.create(object(Kind::StorageClass, class));
        let spec = json!({
            "accessModes": ["ReadWriteOnce"], "storageClassName": name, "resources": {"requests": {"storage": "1Gi"}},
        });
        let claim = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
        world.create(object(Kind::PersistentVolumeClaim, claim));
    }
    let key = |name: &str| ObjectKey::new(Kind::PersistentVolumeClaim, "default", name);
    let more = || json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    assert!(
        failure(world.merge(&key("growing"), more()))
            .starts_with("422 PersistentVolumeClaim \"growing\" is invalid: spec")
    );
    for name in ["fixed", "silent", "growing"] {
        let status = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
        let patch = Patch::Merge(Rc::new(status));
        assert!(world.ask(Operation::Patch { key: key(name), patch, part: Part::Status, dry_run: false }).is_ok());
    }
    let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    for name in ["fixed", "silent"] {
        let expected = format!("403 persistentvolumeclaims \"{name}\" is forbidden: {why}");
        assert_eq!(failure(world.merge(&key(name), more())), expected);
    }
    assert!(world.merge(&key("growing"), more()).is_ok());
}

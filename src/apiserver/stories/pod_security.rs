//! What pods may do in namespaces that say so.

use serde_json::{Value, json};

use super::harness::{World, failure, object};
use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::apiserver::protocol::{Operation, Part, Patch};

fn create(world: &mut World, kind: Kind, value: Value) -> Result<(), String> {
    let outcome = world.ask(Operation::Create { object: object(kind, value), dry_run: false });
    if outcome.is_ok() { Ok(()) } else { Err(failure(outcome)) }
}

/// A world with a namespace `strict` that has these labels.
fn with_labels(labels: Value) -> World {
    let mut world = World::new();
    let namespace = json!({"metadata": {"name": "strict", "labels": labels}});
    create(&mut world, Kind::Namespace, namespace).expect("a namespace");
    world
}

fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "web", "namespace": "strict"}, "spec": spec})
}

fn refused(level: &str, spec: Value) -> String {
    let mut world = with_labels(json!({"pod-security.kubernetes.io/enforce": level}));
    let said = create(&mut world, Kind::Pod, pod(spec)).expect_err("refused");
    let start = format!("403 pods \"web\" is forbidden: violates PodSecurity \"{level}:latest\": ");
    said.strip_prefix(&start).unwrap_or_else(|| panic!("{said}")).to_owned()
}

#[test]
fn a_restricted_namespace_says_what_it_misses() {
    let spec = json!({"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "x"}]});
    assert_eq!(
        refused("restricted", spec),
        "allowPrivilegeEscalation != false (containers \"a\", \"b\" must set \
         securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers \"a\", \"b\" must set \
         securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or containers \"a\", \"b\" must set \
         securityContext.runAsNonRoot=true), seccompProfile (pod or containers \"a\", \"b\" must set \
         securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    let context = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_RAW"]}});
    let spec = json!({
        "securityContext": {"runAsUser": 0, "runAsNonRoot": false, "seccompProfile": {"type": "Unconfined"}},
        "containers": [{"name": "a", "image": "x", "securityContext": context}],
        "volumes": [{"name": "v", "hostPath": {"path": "/tmp"}}, {"name": "w", "emptyDir": {}}],
    });
    assert_eq!(
        refused("restricted", spec),
        "unrestricted capabilities (container \"a\" must not include \"NET_RAW\" in securityContext.capabilities.add), \
         restricted volume types (volume \"v\" uses restricted volume type \"hostPath\"), runAsNonRoot != true (pod must not \
         set securityContext.runAsNonRoot=false), runAsUser=0 (pod must not set runAsUser=0), seccompProfile (pod must not \
         set securityContext.seccompProfile.type to \"Unconfined\")"
    );
}

#[test]
fn a_baseline_namespace_says_what_it_does_not_allow() {
    let probe = json!({"httpGet": {"port": 80, "host": "elsewhere"}});
    let context = json!({"capabilities": {"add": ["SYS_TIME", "NET_ADMIN", "CHOWN"]}, "privileged": true});
    let container = json!({
        "name": "a", "image": "x", "livenessProbe": probe, "securityContext": context,
        "ports": [{"containerPort": 80, "hostPort": 80}, {"containerPort": 443, "hostPort": 443}],
    });
    let spec = json!({
        "hostPID": true,
        "containers": [container],
        "volumes": [{"name": "v", "hostPath": {"path": "/tmp"}}],
    });
    assert_eq!(
        refused("baseline", spec),
        "non-default capabilities (container \"a\" must not include \"NET_ADMIN\", \"SYS_TIME\" in \
         securityContext.capabilities.add), host namespaces (hostPID=true), hostPath volumes (volume \"v\"), hostPort \
         (container \"a\" uses hostPorts 443, 80), probe or lifecycle host (container \"a\" uses probe or lifecycle host \
         \"elsewhere\"), privileged (container \"a\" must not set securityContext.privileged=true)"
    );
}

#[test]
fn what_a_namespace_allows_and_what_was_there_before_passes() {
    let context = json!({
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    let good = json!({"containers": [{"name": "a", "image": "x", "securityContext": context}]});
    let plain = json!({"containers": [{"name": "a", "image": "x"}]});
    let enforce = |level: &str| json!({"pod-security.kubernetes.io/enforce": level});
    for (labels, spec) in [
        (enforce("restricted"), good),
        (enforce("baseline"), plain.clone()),
        (enforce("privileged"), plain.clone()),
        (json!({"pod-security.kubernetes.io/warn": "restricted"}), plain.clone()),
    ] {
        assert_eq!(create(&mut with_labels(labels), Kind::Pod, pod(spec)), Ok(()));
    }
    // A pod that is there is looked at again only for the sake of an image.
    let mut world = with_labels(json!({}));
    assert_eq!(create(&mut world, Kind::Pod, pod(plain)), Ok(()));
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "v1.30"}}});
    assert!(world.merge(&ObjectKey::new(Kind::Namespace, "", "strict"), label).is_ok());
    let key = ObjectKey::new(Kind::Pod, "strict", "web");
    assert!(world.merge(&key, json!({"metadata": {"labels": {"a": "b"}}})).is_ok());
    let image = json!({"spec": {"containers": [{"name": "a", "image": "y"}]}});
    let said = failure(world.ask(Operation::Patch {
        key,
        patch: Patch::Strategic(image.into()),
        part: Part::Main,
        dry_run: false,
    }));
    assert!(said.starts_with("403 pods \"web\" is forbidden: violates PodSecurity \"restricted:v1.30\": "), "{said}");
}

#[test]
fn labels_that_say_nothing_sensible_are_refused() {
    let labels =
        json!({"pod-security.kubernetes.io/enforce": "strict", "pod-security.kubernetes.io/warn-version": "1.30"});
    let namespace = json!({"metadata": {"name": "strict", "labels": labels}});
    assert_eq!(
        create(&mut World::new(), Kind::Namespace, namespace),
        Err("422 Namespace \"strict\" is invalid: [metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \
             \"strict\": must be one of privileged, baseline, restricted, \
             metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"1.30\": must be \"latest\" or \"v1.x\"]"
            .to_owned())
    );
}

//! Pods, the pods that templates describe, and what of a pod may change.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;

use super::container::{self, Surroundings};
use super::error::{BadValue, ErrorList, FieldError, Path};
use super::metadata::{self, Scope};
use super::{Validate, format, one_of, resources, scheduling, security, text, volume};

const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

impl Validate for Pod {
    fn validate(&self) -> ErrorList {
        let mut errors = metadata_and_spec(self);
        let path = Path::Root.child("spec");
        let Some(spec) = &self.spec else { return errors };
        if spec.ephemeral_containers.as_ref().is_some_and(|containers| !containers.is_empty()) {
            errors.push(FieldError::forbidden(&path.child("ephemeralContainers"), "cannot be set on create"));
        }
        let gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
        if gated && !text(&spec.node_name).is_empty() {
            let message = "cannot be set until all schedulingGates have been cleared";
            errors.push(FieldError::forbidden(&path.child("nodeName"), message));
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta_update(&self.metadata, &old.metadata, &mut errors);
        errors.append(metadata_and_spec(self));
        let empty = PodSpec::default();
        let (new, old) = (self.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
        spec_update(new, old, &Path::Root.child("spec"), &mut errors);
        errors
    }
}

fn metadata_and_spec(pod: &Pod) -> ErrorList {
    let mut errors = ErrorList::new();
    metadata::object_meta(&pod.metadata, Scope::Namespaced, format::dns_1123_subdomain, &mut errors);
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    specific_annotations(&pod.metadata, spec, &Path::Root.child("metadata.annotations"), &mut errors);
    let name = pod.metadata.name.as_deref();
    pod_spec(spec, name, PodKind::Pod, &Path::Root.child("spec"), &mut errors);
    errors
}

/// Whether a spec is that of a pod or that of a template.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PodKind {
    Pod,
    Template,
}

/// Checks the template of a workload.
pub fn pod_template(template: &PodTemplateSpec, path: &Path<'_>, errors: &mut ErrorList) {
    let (no_meta, no_spec) = (ObjectMeta::default(), PodSpec::default());
    let meta = template.metadata.as_ref().unwrap_or(&no_meta);
    let spec = template.spec.as_ref().unwrap_or(&no_spec);
    metadata::labels(&meta.labels, &path.child("labels"), errors);
    let annotations_path = path.child("annotations");
    metadata::annotations(&meta.annotations, &annotations_path, errors);
    specific_annotations(meta, spec, &annotations_path, errors);
    let spec_path = path.child("spec");
    pod_spec(spec, None, PodKind::Template, &spec_path, errors);
    if spec.ephemeral_containers.as_ref().is_some_and(|containers| !containers.is_empty()) {
        let message = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(&spec_path.child("ephemeralContainers"), message));
    }
}

fn specific_annotations(meta: &ObjectMeta, spec: &PodSpec, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(annotations) = &meta.annotations else { return };
    if let Some(value) = annotations.get(MIRROR).filter(|_| text(&spec.node_name).is_empty()) {
        let message = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(FieldError::invalid(&path.key(MIRROR), value, message));
    }
    if let Some(cost) = annotations.get(DELETION_COST) {
        // A plus sign and a leading zero are refused too, so that a number is written in one way only.
        let padded = cost.starts_with('+') || cost.len() > 1 && cost.starts_with('0');
        if padded || cost.parse::<i32>().is_err() {
            errors.push(FieldError::invalid(&path.key(DELETION_COST), cost, "must be a 32bit integer"));
        }
    }
}

fn pod_spec(spec: &PodSpec, name: Option<&str>, kind: PodKind, path: &Path<'_>, errors: &mut ErrorList) {
    if spec.termination_grace_period_seconds.is_none() {
        errors.push(FieldError::required(&path.child("terminationGracePeriodSeconds"), ""));
    }
    let volumes = spec.volumes.as_deref().unwrap_or_default();
    let volumes = volume::volumes(volumes, name, &path.child("volumes"), errors);
    let claims = spec.resource_claims.iter().flatten().map(|claim| claim.name.as_str()).collect();
    let pod = Surroundings { volumes, claims, grace: spec.termination_grace_period_seconds };
    let init = spec.init_containers.as_deref().unwrap_or_default();
    container::containers(&spec.containers, &pod, &path.child("containers"), errors);
    container::init_containers(init, &spec.containers, &pod, &path.child("initContainers"), errors);
    let names: BTreeSet<&str> = spec.containers.iter().chain(init).map(|container| container.name.as_str()).collect();
    let ephemeral = spec.ephemeral_containers.as_deref().unwrap_or_default();
    container::ephemeral_containers(ephemeral, &names, &path.child("ephemeralContainers"), errors);
    if let Some(requirements) = &spec.resources {
        resources::requirements(requirements, &pod.claims, &path.child("resources"), errors);
    }
    if spec.host_network == Some(true) {
        host_network_ports(&spec.containers, kind, &path.child("containers"), errors);
    }
    let policies = ["Always", "OnFailure", "Never"];
    one_of(text(&spec.restart_policy), &policies, &path.child("restartPolicy"), errors);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(text(&spec.dns_policy), &policies, &path.child("dnsPolicy"), errors);
    metadata::labels(&spec.node_selector, &path.child("nodeSelector"), errors);
    if let Some(context) = &spec.security_context {
        security::pod(context, &path.child("securityContext"), errors);
    }
    if let Some(affinity) = &spec.affinity {
        scheduling::affinity(affinity, &path.child("affinity"), errors);
    }
    gates(spec, path, errors);
    let constraints = spec.topology_spread_constraints.as_deref().unwrap_or_default();
    scheduling::topology_spread(constraints, &path.child("topologySpreadConstraints"), errors);
    names_and_numbers(spec, path, errors);
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    scheduling::tolerations(tolerations, &path.child("tolerations"), errors);
    if let Some(policy) = spec.preemption_policy.as_deref() {
        one_of(policy, &["Never", "PreemptLowerPriority"], &path.child("preemptionPolicy"), errors);
    }
    for (name, amount) in spec.overhead.iter().flatten() {
        resources::quantity(name, amount, &path.child("overhead").child("limits").key(name), errors);
    }
}

fn host_network_ports(containers: &[Container], kind: PodKind, path: &Path<'_>, errors: &mut ErrorList) {
    for (position, container) in containers.iter().enumerate() {
        let place = path.index(position);
        let ports_path = place.child("ports");
        for (position, port) in container.ports.iter().flatten().enumerate() {
            let host_port = port.host_port.unwrap_or_default();
            if (kind == PodKind::Pod || host_port != 0) && host_port != port.container_port {
                let place = ports_path.index(position);
                let message = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(&place.child("hostPort"), host_port, message));
            }
        }
    }
}

fn gates(spec: &PodSpec, path: &Path<'_>, errors: &mut ErrorList) {
    let readiness = path.child("readinessGates");
    for (position, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let place = readiness.index(position);
        errors.invalid_each(
            &place.child("conditionType"),
            &gate.condition_type,
            format::label_key(&gate.condition_type),
        );
    }
    let scheduling = path.child("schedulingGates");
    let mut seen = BTreeSet::new();
    for (position, gate) in spec.scheduling_gates.iter().flatten().enumerate() {
        let place = scheduling.index(position);
        errors.invalid_each(&place, &gate.name, format::label_key(&gate.name));
        if !seen.insert(&gate.name) {
            errors.push(FieldError::duplicate(&place, &gate.name));
        }
    }
}

fn names_and_numbers(spec: &PodSpec, path: &Path<'_>, errors: &mut ErrorList) {
    type Check = fn(&str) -> Vec<String>;
    let names: [(&str, &Option<String>, Check); 6] = [
        ("serviceAccountName", &spec.service_account_name, format::dns_1123_subdomain),
        ("nodeName", &spec.node_name, format::dns_1123_subdomain),
        ("hostname", &spec.hostname, format::dns_1123_label),
        ("subdomain", &spec.subdomain, format::dns_1123_label),
        ("priorityClassName", &spec.priority_class_name, format::dns_1123_subdomain),
        ("runtimeClassName", &spec.runtime_class_name, format::dns_1123_subdomain),
    ];
    for (field, name, check) in names {
        if !text(name).is_empty() {
            errors.invalid_each(&path.child(field), text(name), check(text(name)));
        }
    }
    let limit = i64::from(i32::MAX);
    if let Some(seconds) = spec.active_deadline_seconds.filter(|seconds| !(1..=limit).contains(seconds)) {
        let message = format::out_of_range(1, limit);
        errors.push(FieldError::invalid(&path.child("activeDeadlineSeconds"), seconds, message));
    }
}

/// Of the spec of a pod, only little may change.
fn spec_update(new: &PodSpec, old: &PodSpec, path: &Path<'_>, errors: &mut ErrorList) {
    let (no_containers, init_path) = (Vec::new(), path.child("initContainers"));
    let new_init = new.init_containers.as_ref().unwrap_or(&no_containers);
    let old_init = old.init_containers.as_ref().unwrap_or(&no_containers);
    if !container_updates(&new.containers, &old.containers, &path.child("containers"), errors)
        || !container_updates(new_init, old_init, &init_path, errors)
        || !deadline_update(new, old, &path.child("activeDeadlineSeconds"), errors)
    {
        return;
    }
    toleration_update(new, old, &path.child("tolerations"), errors);
    gate_update(new, old, &path.child("schedulingGates"), errors);
    let mut allowed = new.clone();
    let images = |allowed: &mut [Container], old: &[Container]| {
        for (container, before) in allowed.iter_mut().zip(old) {
            container.image.clone_from(&before.image);
        }
    };
    images(&mut allowed.containers, &old.containers);
    images(allowed.init_containers.as_deref_mut().unwrap_or_default(), old_init);
    allowed.active_deadline_seconds = old.active_deadline_seconds;
    allowed.scheduling_gates.clone_from(&old.scheduling_gates);
    allowed.tolerations.clone_from(&old.tolerations);
    let was_negative = old.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0);
    if was_negative && allowed.termination_grace_period_seconds == Some(1) {
        allowed.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    if old.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        node_selector_update(&allowed.node_selector, &old.node_selector, &path.child("nodeSelector"), errors);
        allowed.node_selector.clone_from(&old.node_selector);
        allowed.affinity.clone_from(&old.affinity);
    }
    if !metadata::same(&allowed, old) {
        let message = format!(
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
             `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
             `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n{}",
            changes("spec", old, &allowed)
        );
        errors.push(FieldError::forbidden(path, message));
    }
}

/// Whether the rest is worth looking at.
fn container_updates(new: &[Container], old: &[Container], path: &Path<'_>, errors: &mut ErrorList) -> bool {
    if new.len() != old.len() {
        errors.push(FieldError::forbidden(path, "pod updates may not add or remove containers"));
        return false;
    }
    for (position, container) in new.iter().enumerate() {
        let (place, image) = (path.index(position), text(&container.image));
        if image.is_empty() {
            errors.push(FieldError::required(&place.child("image"), ""));
        }
        if image.trim() != image {
            let message = "must not have leading or trailing whitespace";
            errors.push(FieldError::invalid(&place.child("image"), image, message));
        }
    }
    true
}

/// Whether the rest is worth looking at.
fn deadline_update(new: &PodSpec, old: &PodSpec, path: &Path<'_>, errors: &mut ErrorList) -> bool {
    let limit = i64::from(i32::MAX);
    let (seconds, message) = match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(new), _) if !(0..=limit).contains(&new) => (new, format::out_of_range(0, limit)),
        (Some(new), Some(old)) if old < new => (new, "must be less than or equal to previous value".to_owned()),
        (None, Some(_)) => {
            let message = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(path, BadValue::json(&None::<i64>), message));
            return true;
        }
        _ => return true,
    };
    errors.push(FieldError::invalid(path, seconds, message));
    false
}

fn toleration_update(new: &PodSpec, old: &PodSpec, path: &Path<'_>, errors: &mut ErrorList) {
    let present = new.tolerations.as_deref().unwrap_or_default();
    let kept = old.tolerations.iter().flatten().all(|before| {
        present.iter().any(|now| {
            let mut before = before.clone();
            before.toleration_seconds = now.toleration_seconds;
            before == *now
        })
    });
    if !kept {
        let message = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden(path, message));
    }
}

fn gate_update(new: &PodSpec, old: &PodSpec, path: &Path<'_>, errors: &mut ErrorList) {
    let before: BTreeSet<&str> = old.scheduling_gates.iter().flatten().map(|gate| gate.name.as_str()).collect();
    for (position, gate) in new.scheduling_gates.iter().flatten().enumerate() {
        if !before.contains(gate.name.as_str()) {
            let place = path.index(position);
            let message = format!("only deletion is allowed, but found new scheduling gate '{}'", gate.name);
            errors.push(FieldError::forbidden(&place.child("name"), message));
        }
    }
}

/// The node selector of a pod that waits at a gate may only become narrower.
fn node_selector_update(
    new: &Option<BTreeMap<String, String>>,
    old: &Option<BTreeMap<String, String>>,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    let kept = |(key, value): (&String, &String)| new.as_ref().is_some_and(|new| new.get(key) == Some(value));
    if !old.iter().flatten().all(kept) {
        let message = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.push(FieldError::invalid(path, BadValue::json(new), message));
    }
}

/// What differs between two parts of objects, one line for each field.
pub(super) fn changes<T: Serialize>(path: &str, old: &T, new: &T) -> String {
    let value = |part: &T| serde_json::to_value(part).unwrap_or_default();
    let mut lines = Vec::new();
    differences(path, &value(old), &value(new), &mut lines);
    lines.join("\n")
}

fn differences(path: &str, old: &Value, new: &Value, lines: &mut Vec<String>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Value::Object(before), Value::Object(after)) => {
            let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for name in names {
                let side = |side: &serde_json::Map<String, Value>| side.get(name).cloned().unwrap_or_default();
                differences(&format!("{path}.{name}"), &side(before), &side(after), lines);
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (position, (before, after)) in before.iter().zip(after).enumerate() {
                differences(&format!("{path}[{position}]"), before, after, lines);
            }
        }
        (old, new) => lines.push(format!("  {path}: {old} -> {new}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::defaults::Defaults;
    use serde_json::json;

    fn pod(spec: Value) -> Pod {
        let value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "x", "resourceVersion": "1"}, "spec": spec});
        let mut pod: Pod = serde_json::from_value(value).unwrap_or_default();
        pod.set_defaults();
        pod
    }

    fn lines(errors: &ErrorList) -> Vec<String> {
        errors.0.iter().map(ToString::to_string).collect()
    }

    fn check(spec: Value, expected: &[&str]) {
        assert_eq!(lines(&pod(spec).validate()), expected);
    }

    #[test]
    fn ordinary_pods_are_accepted() {
        check(
            json!({
                "volumes": [{"name": "v", "configMap": {"name": "c"}}],
                "initContainers": [{"name": "s", "image": "x", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["true"]}}}],
                "containers": [{
                    "name": "a", "image": "x", "ports": [{"name": "http", "containerPort": 80}], "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a']"}}}],
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}], "resources": {"limits": {"cpu": "1", "example.com/gpu": "1"}, "requests": {"cpu": "1"}},
                    "lifecycle": {"preStop": {"sleep": {"seconds": 5}}}
                }],
                "tolerations": [{"operator": "Exists"}, {"key": "a", "effect": "NoExecute", "tolerationSeconds": 5}],
                "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]
            }),
            &[],
        );
    }

    #[test]
    fn what_is_wrong_with_containers() {
        check(json!({}), &["spec.containers: Required value"]);
        check(
            json!({"containers": [{"image": "x"}, {"name": "B", "image": ""}]}),
            &[
                "spec.containers[0].name: Required value",
                "spec.containers[1].name: Invalid value: \"B\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                "spec.containers[1].image: Required value",
            ],
        );
        check(
            json!({"containers": [
                {"name": "a", "image": "x", "ports": [{"containerPort": 70000, "hostPort": 80}, {"containerPort": 5, "hostPort": 80, "protocol": "tcp"}], "imagePullPolicy": "Sometimes", "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
                {"name": "a", "image": "x", "readinessProbe": {}, "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2", "memory": "-1"}}, "env": [{"name": "A=", "value": "1", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}
            ]}),
            &[
                "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
                "spec.containers[0].ports[1].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
                "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
                "spec.containers[1].env[0].name: Invalid value: \"A=\": a valid environment variable name must consist only of printable ASCII characters other than '='",
                "spec.containers[1].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
                "spec.containers[1].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
                "spec.containers[1].resources.requests[memory]: Invalid value: \"-1\": must be greater than or equal to 0",
                "spec.containers[1].name: Duplicate value: \"a\"",
                "spec.containers[1].readinessProbe: Required value: must specify a handler type",
            ],
        );
    }

    #[test]
    fn what_is_wrong_with_the_rest_of_a_pod() {
        let containers = json!([{"name": "a", "image": "x"}]);
        check(
            json!({
                "containers": containers, "restartPolicy": "Sometimes", "nodeName": "A", "volumes": [{"name": "v"}, {"name": "v"}],
                "tolerations": [{"key": "a", "operator": "Exists", "value": "b"}], "activeDeadlineSeconds": 0,
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}
            }),
            &[
                "spec.volumes[1].name: Duplicate value: \"v\"",
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term",
                r#"spec.nodeName: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#,
                "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
                "spec.tolerations[0].operator: Invalid value: \"b\": value must be empty when `operator` is 'Exists'",
            ],
        );
    }

    #[test]
    fn users_and_groups_have_numbers_of_31_bits() {
        let container =
            json!({"name": "a", "image": "x", "securityContext": {"runAsUser": 2147483648_i64, "runAsGroup": 0}});
        let context = json!({"runAsUser": -1, "runAsNonRoot": true, "supplementalGroups": [5, -2]});
        let range = "must be between 0 and 2147483647, inclusive";
        check(
            json!({"containers": [container], "securityContext": context}),
            &[
                &format!("spec.containers[0].securityContext.runAsUser: Invalid value: 2147483648: {range}"),
                &format!("spec.securityContext.runAsUser: Invalid value: -1: {range}"),
                &format!("spec.securityContext.supplementalGroups[1]: Invalid value: -2: {range}"),
            ],
        );
    }

    #[test]
    fn an_ephemeral_volume_has_a_template_of_a_claim_that_nothing_else_names() {
        let containers = json!([{"name": "a", "image": "x"}]);
        let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        let volume =
            |name: &str, template: Value| json!({"name": name, "ephemeral": {"volumeClaimTemplate": template}});
        let right = volume("v", json!({"metadata": {"labels": {"a": "b"}}, "spec": spec}));
        check(json!({"containers": containers, "volumes": [right]}), &[]);
        check(
            json!({"containers": containers, "volumes": [
                right,
                {"name": "w", "persistentVolumeClaim": {"claimName": "a-v"}},
                volume("x", json!({"metadata": {"name": "n", "finalizers": ["a/b"]}, "spec": {"volumeMode": "Tape"}})),
                {"name": "y", "ephemeral": {}},
            ]}),
            &[
                "spec.volumes[1].persistentVolumeClaim.claimName: Invalid value: \"a-v\": must not reference a PVC that gets created for an ephemeral volume",
                "spec.volumes[2].ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set",
                "spec.volumes[2].ephemeral.volumeClaimTemplate.metadata.finalizers: Forbidden: cannot be set",
                "spec.volumes[2].ephemeral.volumeClaimTemplate.spec.accessModes: Required value: at least 1 access mode is required",
                "spec.volumes[2].ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value",
                "spec.volumes[2].ephemeral.volumeClaimTemplate.spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
                "spec.volumes[3].ephemeral.volumeClaimTemplate: Required value",
            ],
        );
        let long = "v".repeat(60);
        let mut pod = pod(json!({"containers": containers, "volumes": [volume(&long, json!({"spec": spec}))]}));
        pod.metadata.name = Some("p".repeat(200));
        let errors = lines(&pod.validate());
        assert_eq!(errors.len(), 1);
        assert!(errors[0].ends_with(": must be no more than 253 characters"), "{errors:?}");
        assert!(
            errors[0].starts_with(&format!("spec.volumes[0].name: Invalid value: {long:?}: PVC name \"ppp")),
            "{errors:?}"
        );
    }

    #[test]
    fn of_a_pod_only_images_deadlines_and_tolerations_may_change() {
        let old = pod(json!({"containers": [{"name": "a", "image": "x"}], "nodeName": "n"}));
        let image = pod(
            json!({"containers": [{"name": "a", "image": "y"}], "nodeName": "n", "tolerations": [{"operator": "Exists"}], "activeDeadlineSeconds": 5}),
        );
        assert_eq!(lines(&image.validate_update(&old)), Vec::<String>::new());
        let node = pod(json!({"containers": [{"name": "a", "image": "x"}], "nodeName": "m"}));
        assert_eq!(
            lines(&node.validate_update(&old)),
            [
                "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n  spec.nodeName: \"n\" -> \"m\""
            ]
        );
        let more =
            pod(json!({"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "x"}], "nodeName": "n"}));
        assert_eq!(
            lines(&more.validate_update(&old)),
            ["spec.containers: Forbidden: pod updates may not add or remove containers"]
        );
    }
}

//! Kinds with few rules: Namespace, Node, Lease, ConfigMap, Secret, ServiceAccount, PriorityClass, ControllerRevision, Event.

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Node, NodeSpec, Secret, ServiceAccount};
use k8s_openapi::api::scheduling::v1::PriorityClass;

use super::error::{BadValue, ErrorList, FieldError, Path};
use super::metadata::{self, Scope, changed_meta, immutable, new_meta};
use super::{Validate, format, not_negative, resources, scheduling, text};

/// Bytes of data that a ConfigMap or a Secret may hold.
const DATA_LIMIT: usize = 1024 * 1024;
/// The highest priority that users may define.
const HIGHEST_USER_PRIORITY: i32 = 1_000_000_000;

impl Validate for Namespace {
    fn validate(&self) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata::object_meta(&self.metadata, Scope::Cluster, format::dns_1123_label, &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        changed_meta(&self.metadata, &old.metadata)
    }
}

impl Validate for ServiceAccount {
    fn validate(&self) -> ErrorList {
        new_meta(&self.metadata, Scope::Namespaced)
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        changed_meta(&self.metadata, &old.metadata)
    }
}

impl Validate for Node {
    fn validate(&self) -> ErrorList {
        let mut errors = new_meta(&self.metadata, Scope::Cluster);
        node(self, &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = changed_meta(&self.metadata, &old.metadata);
        node(self, &mut errors);
        let empty = NodeSpec::default();
        let (new, old) = (self.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
        let path = Path::Root.child("spec");
        if old.pod_cidrs.as_ref().is_some_and(|cidrs| !cidrs.is_empty()) && old.pod_cidrs != new.pod_cidrs {
            let message = "node updates may not change podCIDR except from \"\" to valid";
            errors.push(FieldError::forbidden(&path.child("podCIDRs"), message));
        }
        if !text(&old.provider_id).is_empty() && text(&old.provider_id) != text(&new.provider_id) {
            let message = "node updates may not change providerID except from \"\" to valid";
            errors.push(FieldError::forbidden(&path.child("providerID"), message));
        }
        errors
    }
}

fn node(node: &Node, errors: &mut ErrorList) {
    // The original reports taints under metadata.
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    scheduling::taints(taints, &Path::Root.child("metadata.taints"), errors);
    let Some(status) = &node.status else { return };
    for (field, list) in [("status.capacity", &status.capacity), ("status.allocatable", &status.allocatable)] {
        let path = Path::Root.child(field);
        for (name, amount) in list.iter().flatten() {
            resources::quantity(name, amount, &path.child(name), errors);
        }
    }
}

impl Validate for Lease {
    fn validate(&self) -> ErrorList {
        let mut errors = new_meta(&self.metadata, Scope::Namespaced);
        lease(self, &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = changed_meta(&self.metadata, &old.metadata);
        lease(self, &mut errors);
        errors
    }
}

fn lease(lease: &Lease, errors: &mut ErrorList) {
    let Some(spec) = &lease.spec else { return };
    let path = Path::Root.child("spec");
    if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
        errors.push(FieldError::invalid(&path.child("leaseDurationSeconds"), seconds, "must be greater than 0"));
    }
    not_negative(spec.lease_transitions.unwrap_or_default().into(), &path.child("leaseTransitions"), errors);
    if !text(&spec.preferred_holder).is_empty() && text(&spec.strategy).is_empty() {
        let message = "may only be specified if `strategy` is defined";
        errors.push(FieldError::forbidden(&path.child("preferredHolder"), message));
    }
}

impl Validate for ConfigMap {
    fn validate(&self) -> ErrorList {
        let mut errors = new_meta(&self.metadata, Scope::Namespaced);
        config_map_data(self, &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = changed_meta(&self.metadata, &old.metadata);
        let kept = [("data", self.data == old.data), ("binaryData", self.binary_data == old.binary_data)];
        frozen(old.immutable, self.immutable, &kept, &mut errors);
        config_map_data(self, &mut errors);
        errors
    }
}

fn config_map_data(map: &ConfigMap, errors: &mut ErrorList) {
    let (data_path, binary_path) = (Path::Root.child("data"), Path::Root.child("binaryData"));
    let mut size = 0;
    for (key, value) in map.data.iter().flatten() {
        let place = data_path.key(key);
        errors.invalid_each(&place, key, format::config_map_key(key));
        if map.binary_data.as_ref().is_some_and(|data| data.contains_key(key)) {
            errors.push(FieldError::invalid(&place, key, "duplicate of key present in binaryData"));
        }
        size += value.len();
    }
    for (key, ByteString(value)) in map.binary_data.iter().flatten() {
        errors.invalid_each(&binary_path.key(key), key, format::config_map_key(key));
        size += value.len();
    }
    if size > DATA_LIMIT {
        errors.push(FieldError::too_long(&Path::Root.child(""), DATA_LIMIT));
    }
}

/// Refuses changes of an object that was declared immutable.
fn frozen(before: Option<bool>, now: Option<bool>, kept: &[(&str, bool)], errors: &mut ErrorList) {
    if before != Some(true) {
        return;
    }
    let fields = [("immutable", now == Some(true))];
    for (field, _) in fields.iter().chain(kept).filter(|(_, kept)| !kept) {
        let message = "field is immutable when `immutable` is set";
        errors.push(FieldError::forbidden(&Path::Root.child(field), message));
    }
}

impl Validate for Secret {
    fn validate(&self) -> ErrorList {
        let mut errors = new_meta(&self.metadata, Scope::Namespaced);
        secret_data(self, &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = changed_meta(&self.metadata, &old.metadata);
        immutable(text(&self.type_), text(&old.type_), &Path::Root.child("type"), &mut errors);
        frozen(old.immutable, self.immutable, &[("data", self.data == old.data)], &mut errors);
        secret_data(self, &mut errors);
        errors
    }
}

fn secret_data(secret: &Secret, errors: &mut ErrorList) {
    let path = Path::Root.child("data");
    let mut size = 0;
    for (key, ByteString(value)) in secret.data.iter().flatten() {
        errors.invalid_each(&path.key(key), key, format::config_map_key(key));
        size += value.len();
    }
    if size > DATA_LIMIT {
        errors.push(FieldError::too_long(&path, DATA_LIMIT));
    }
    let value = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|ByteString(value)| value);
    let mut required = |key: &str, present: bool| {
        if !present {
            errors.push(FieldError::required(&path.key(key), ""));
        }
    };
    match text(&secret.type_) {
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            let account = secret.metadata.annotations.as_ref().and_then(|annotations| annotations.get(key));
            if account.is_none_or(|name| name.is_empty()) {
                errors.push(FieldError::required(&Path::Root.child("metadata.annotations").key(key), ""));
            }
        }
        "kubernetes.io/dockercfg" => required(".dockercfg", value(".dockercfg").is_some()),
        "kubernetes.io/dockerconfigjson" => required(".dockerconfigjson", value(".dockerconfigjson").is_some()),
        "kubernetes.io/basic-auth" if value("username").is_none() && value("password").is_none() => {
            required("username", false);
            required("password", false);
        }
        "kubernetes.io/ssh-auth" => {
            required("ssh-privatekey", value("ssh-privatekey").is_some_and(|key| !key.is_empty()))
        }
        "kubernetes.io/tls" => {
            required("tls.crt", value("tls.crt").is_some());
            required("tls.key", value("tls.key").is_some());
        }
        _ => {}
    }
}

impl Validate for PriorityClass {
    fn validate(&self) -> ErrorList {
        let mut errors = new_meta(&self.metadata, Scope::Cluster);
        let name = text(&self.metadata.name);
        let value = self.value.unwrap_or_default();
        let known = [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];
        if name.starts_with("system-") {
            let problem = match known.iter().find(|(known, _)| *known == name) {
                None => Some(format!("{name} is not a known system priority class")),
                Some((_, right)) if *right != value => Some(format!("value of {name} PriorityClass must be {right}")),
                Some(_) if self.global_default == Some(true) => {
                    Some(format!("globalDefault of {name} PriorityClass must be false"))
                }
                Some(_) => None,
            };
            if let Some(problem) = problem {
                let message = format!(
                    "priority class names with 'system-' prefix are reserved for system use only. error: {problem}"
                );
                errors.push(FieldError::forbidden(&Path::Root.child("metadata.name"), message));
            }
        } else if value > HIGHEST_USER_PRIORITY {
            let message = format!("maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}");
            errors.push(FieldError::forbidden(&Path::Root.child("value"), message));
        }
        if let Some(policy) = self.preemption_policy.as_deref() {
            let policies = ["Never", "PreemptLowerPriority"];
            super::one_of(policy, &policies, &Path::Root.child("preemptionPolicy"), &mut errors);
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = changed_meta(&self.metadata, &old.metadata);
        if self.value.unwrap_or_default() != old.value.unwrap_or_default() {
            errors.push(FieldError::forbidden(&Path::Root.child("value"), "may not be changed in an update."));
        }
        let path = Path::Root.child("preemptionPolicy");
        immutable(&self.preemption_policy, &old.preemption_policy, &path, &mut errors);
        errors
    }
}

impl Validate for ControllerRevision {
    fn validate(&self) -> ErrorList {
        let mut errors = new_meta(&self.metadata, Scope::Namespaced);
        not_negative(self.revision, &Path::Root.child("revision"), &mut errors);
        let path = Path::Root.child("data");
        match self.data.as_ref().map(|data| &data.0) {
            None | Some(serde_json::Value::Null) => errors.push(FieldError::required(&path, "data is mandatory")),
            Some(serde_json::Value::Object(_)) => {}
            Some(_) => errors.push(FieldError::required(&path, "data must be a valid JSON object")),
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> ErrorList {
        let mut errors = changed_meta(&self.metadata, &old.metadata);
        not_negative(self.revision, &Path::Root.child("revision"), &mut errors);
        if self.data != old.data {
            let shown = BadValue::json(&self.data);
            errors.push(FieldError::invalid(&Path::Root.child("data"), shown, "field is immutable"));
        }
        errors
    }
}

/// Events of core/v1 are hardly checked, so that what happened is never lost over a formality.
impl Validate for Event {
    fn validate(&self) -> ErrorList {
        let mut errors = ErrorList::new();
        let namespace = text(&self.metadata.namespace);
        let involved = text(&self.involved_object.namespace);
        let (old_style, system) = (self.event_time.is_none(), matches!(namespace, "default" | "kube-system"));
        let fits = match (old_style, involved) {
            (true, "") => matches!(namespace, "" | "default"),
            (true, _) => namespace == involved,
            (false, "") => system,
            (false, _) => true,
        };
        if !fits {
            let path = Path::Root.child("involvedObject.namespace");
            errors.push(FieldError::invalid(&path, involved, "does not match event.namespace"));
        }
        if !old_style {
            new_style_event(self, &mut errors);
        }
        errors.invalid_each(&Path::Root.child("namespace"), namespace, format::dns_1123_subdomain(namespace));
        errors
    }

    fn validate_update(&self, _: &Self) -> ErrorList {
        self.validate()
    }
}

/// An event with a time of its own must say who reports what.
fn new_style_event(event: &Event, errors: &mut ErrorList) {
    let component = text(&event.reporting_component);
    let path = Path::Root.child("reportingComponent");
    if component.is_empty() {
        errors.push(FieldError::required(&path, ""));
    }
    errors.invalid_each(&path, component, format::label_key(component));
    let limited =
        [("reportingInstance", &event.reporting_instance), ("action", &event.action), ("reason", &event.reason)];
    for (field, value) in limited {
        let path = Path::Root.child(field);
        match text(value).len() {
            0 => errors.push(FieldError::required(&path, "")),
            1..=128 => {}
            _ => errors.push(FieldError::invalid(&path, "", "can have at most 128 characters")),
        }
    }
    if text(&event.message).len() > 1024 {
        let path = Path::Root.child("message");
        errors.push(FieldError::invalid(&path, "", "can have at most 1024 characters"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    fn object<T: DeserializeOwned + k8s_openapi::Resource>(namespaced: bool, mut value: Value) -> Option<T> {
        let mut metadata = json!({"name": "a", "resourceVersion": "1"});
        if namespaced {
            metadata["namespace"] = json!("x");
        }
        json_patch::merge(&mut metadata, &value.get("metadata").cloned().unwrap_or(json!({})));
        value["metadata"] = metadata;
        value["apiVersion"] = json!(T::API_VERSION);
        value["kind"] = json!(T::KIND);
        serde_json::from_value(value).ok()
    }

    fn check<T: DeserializeOwned + k8s_openapi::Resource + Validate>(namespaced: bool, value: Value, expected: &str) {
        let found = object::<T>(namespaced, value).map(|object| object.validate().to_string());
        assert_eq!(found.as_deref(), Some(expected));
    }

    fn check_update<T: DeserializeOwned + k8s_openapi::Resource + Validate>(old: Value, new: Value, expected: &str) {
        let objects = object::<T>(true, old).zip(object::<T>(true, new));
        assert_eq!(objects.map(|(old, new)| new.validate_update(&old).to_string()).as_deref(), Some(expected));
    }

    #[test]
    fn new_objects() {
        check::<Namespace>(false, json!({}), "");
        check::<Namespace>(
            false,
            json!({"metadata": {"name": "a.b"}}),
            "metadata.name: Invalid value: \"a.b\": must not contain dots",
        );
        check::<Namespace>(true, json!({}), "metadata.namespace: Forbidden: not allowed on this type");
        check::<ConfigMap>(
            true,
            json!({"data": {"a b": ""}}),
            "data[a b]: Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        );
        check::<Secret>(
            true,
            json!({"type": "kubernetes.io/tls"}),
            "[data[tls.crt]: Required value, data[tls.key]: Required value]",
        );
        check::<Lease>(
            true,
            json!({"spec": {"leaseDurationSeconds": 0}}),
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
        );
        check::<Node>(
            false,
            json!({"spec": {"taints": [{"key": "a", "effect": "NoRun"}]}, "status": {"capacity": {"pods": "1500m"}}}),
            "[metadata.taints[0].effect: Unsupported value: \"NoRun\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\", status.capacity.pods: Invalid value: \"1500m\": must be an integer]",
        );
        check::<PriorityClass>(
            false,
            json!({"value": 1_500_000_000}),
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
        );
        check::<ControllerRevision>(true, json!({"revision": 1}), "data: Required value: data is mandatory");
        check::<Event>(
            true,
            json!({"involvedObject": {"namespace": "y"}}),
            "involvedObject.namespace: Invalid value: \"y\": does not match event.namespace",
        );
        check::<Event>(true, json!({"involvedObject": {"namespace": "x"}, "reason": "Started"}), "");
    }

    #[test]
    fn changed_objects() {
        check_update::<ConfigMap>(
            json!({"immutable": true, "data": {"a": "b"}}),
            json!({"data": {"a": "c"}}),
            "[immutable: Forbidden: field is immutable when `immutable` is set, data: Forbidden: field is immutable when `immutable` is set]",
        );
        check_update::<Secret>(
            json!({"type": "a"}),
            json!({"type": "b"}),
            "type: Invalid value: \"b\": field is immutable",
        );
        check_update::<ServiceAccount>(
            json!({"metadata": {"uid": "1"}}),
            json!({"metadata": {"uid": "2"}}),
            "metadata.uid: Invalid value: \"2\": field is immutable",
        );
    }
}

//! How one version of an object differs from the one before: flattened paths with their old and new values.
//!
//! The form is that of the recordings of real control planes, so that a run can be held against one line by line:
//! `status.conditions[Ready].status`, `metadata.annotations.'deployment.kubernetes.io/revision'`,
//! `endpoints[web-1].addresses[0]`. What is absent counts as null; an empty list or map is a value of its own.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// By which fields the elements of a list are known, in the order in which they are tried. A list whose elements do not all
/// have such a field, or not all different ones, goes by position.
const KEYS: [fn(&Value) -> Option<String>; 5] = [
    |element| text(element, "/type"),
    |element| Some(format!("{}:{}", text(element, "/key")?, text(element, "/effect")?)),
    |element| text(element, "/name"),
    |element| text(element, "/targetRef/name"),
    |element| text(element, "/ip"),
];

fn text(element: &Value, pointer: &str) -> Option<String> {
    element.pointer(pointer)?.as_str().map(str::to_owned)
}

/// All leaves of a JSON value by their paths.
pub fn flatten(value: &Value) -> BTreeMap<String, &Value> {
    let mut leaves = BTreeMap::new();
    walk(value, &mut String::new(), &mut leaves);
    leaves
}

fn walk<'a>(value: &'a Value, path: &mut String, leaves: &mut BTreeMap<String, &'a Value>) {
    let length = path.len();
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, field) in fields {
                if length == 0 && key == "metadata" {
                    // Versions and field managers change with every write and say nothing.
                    walk_metadata(field, path, leaves);
                    continue;
                }
                push_key(path, key);
                walk(field, path, leaves);
                path.truncate(length);
            }
        }
        Value::Array(elements) if !elements.is_empty() => {
            for (name, element) in names(elements).into_iter().zip(elements) {
                path.push('[');
                path.push_str(&name);
                path.push(']');
                walk(element, path, leaves);
                path.truncate(length);
            }
        }
        leaf => {
            leaves.insert(path.clone(), leaf);
        }
    }
}

fn walk_metadata<'a>(metadata: &'a Value, path: &mut String, leaves: &mut BTreeMap<String, &'a Value>) {
    let Value::Object(fields) = metadata else { return };
    path.push_str("metadata");
    let length = path.len();
    for (key, field) in fields {
        if key != "resourceVersion" && key != "managedFields" {
            push_key(path, key);
            walk(field, path, leaves);
            path.truncate(length);
        }
    }
    path.clear();
}

/// Appends a key; one that could be mistaken for a path stands in quotes.
fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    if key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        path.push_str(key);
    } else {
        path.push('\'');
        path.push_str(key);
        path.push('\'');
    }
}

/// What the elements of a list are called.
fn names(elements: &[Value]) -> Vec<String> {
    for key in KEYS {
        let found: Vec<String> = elements.iter().map_while(key).collect();
        let mut distinct: Vec<&String> = found.iter().collect();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() == elements.len() {
            return found;
        }
    }
    (0..elements.len()).map(|position| position.to_string()).collect()
}

/// What changed from one version to the next: path to `[old, new]`, in the order of the paths.
pub fn difference(old: &Value, new: &Value) -> Map<String, Value> {
    let (before, after) = (flatten(old), flatten(new));
    let mut changes = Map::new();
    for (path, value) in &before {
        match after.get(path) {
            Some(same) if same == value => {}
            other => {
                changes.insert(path.clone(), json!([value, other]));
            }
        }
    }
    for (path, value) in &after {
        if !before.contains_key(path) {
            changes.insert(path.clone(), json!([null, value]));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_recordings() {
        let object = json!({
            "metadata": {"annotations": {"deployment.kubernetes.io/revision": "1"}, "name": "web",
                "resourceVersion": "7", "managedFields": [{"manager": "kubectl"}], "finalizers": ["a", "b"]},
            "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}, {"key": "k", "effect": "NoExecute"}],
                "containers": [{"name": "app", "resources": {}}], "same": [{"name": "x"}, {"name": "x"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True", "lastProbeTime": null}],
                "podIPs": [{"ip": "10.64.0.10"}]},
            "endpoints": [{"addresses": ["10.64.0.10"], "targetRef": {"name": "db-0"}}],
        });
        let leaves = flatten(&object);
        let paths: Vec<&str> = leaves.keys().map(String::as_str).collect();
        assert_eq!(
            paths,
            [
                "endpoints[db-0].addresses[0]",
                "endpoints[db-0].targetRef.name",
                "metadata.annotations.'deployment.kubernetes.io/revision'",
                "metadata.finalizers[0]",
                "metadata.finalizers[1]",
                "metadata.name",
                "spec.containers[app].name",
                "spec.containers[app].resources",
                "spec.same[0].name",
                "spec.same[1].name",
                "spec.taints[k:NoExecute].effect",
                "spec.taints[k:NoExecute].key",
                "spec.taints[k:NoSchedule].effect",
                "spec.taints[k:NoSchedule].key",
                "status.conditions[Ready].lastProbeTime",
                "status.conditions[Ready].status",
                "status.conditions[Ready].type",
                "status.podIPs[10.64.0.10].ip",
            ]
        );
    }

    #[test]
    fn what_is_absent_counts_as_null_and_what_is_empty_does_not() {
        let old = json!({"metadata": {"resourceVersion": "1"}, "status": {}, "spec": {"replicas": 3, "paused": true}});
        let new = json!({"metadata": {"resourceVersion": "2"}, "status": {"ready": 1}, "spec": {"replicas": 3}});
        let expected = json!({"status": [{}, null], "status.ready": [null, 1], "spec.paused": [true, null]});
        assert_eq!(Value::Object(difference(&old, &new)), expected);
        assert!(difference(&new, &new).is_empty());
    }
}

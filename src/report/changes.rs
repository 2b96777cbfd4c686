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

/// What changed from one version to the next: path to `[old, new]`, in the order of the paths; those that are new come last.
pub fn difference(old: &Value, new: &Value) -> Map<String, Value> {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    compare(old, new, &mut String::new(), &mut before, &mut after);
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

/// Collects the leaves of what differs. What two mappings have in common is passed over; lists that differ are taken whole, since
/// what an element is called depends on the others.
fn compare<'a>(
    old: &'a Value,
    new: &'a Value,
    path: &mut String,
    before: &mut BTreeMap<String, &'a Value>,
    after: &mut BTreeMap<String, &'a Value>,
) {
    let (left, right) = match (old, new) {
        (Value::Object(left), Value::Object(right)) if !left.is_empty() && !right.is_empty() => (left, right),
        _ => {
            walk_from(old, path, before);
            walk_from(new, path, after);
            return;
        }
    };
    let length = path.len();
    let in_metadata = path == "metadata";
    let counts = |key: &str| !in_metadata || (key != "resourceVersion" && key != "managedFields");
    for (key, field) in left.iter().filter(|(key, _)| counts(key)) {
        match right.get(key) {
            Some(other) if other == field => continue,
            other => {
                push_key(path, key);
                match other {
                    Some(other) => compare(field, other, path, before, after),
                    None => walk_from(field, path, before),
                }
                path.truncate(length);
            }
        }
    }
    for (key, field) in right.iter().filter(|(key, _)| counts(key) && !left.contains_key(*key)) {
        push_key(path, key);
        walk_from(field, path, after);
        path.truncate(length);
    }
}

/// Collects the leaves of what only one version has.
fn walk_from<'a>(field: &'a Value, path: &mut String, leaves: &mut BTreeMap<String, &'a Value>) {
    if path == "metadata" {
        path.clear();
        walk_metadata(field, path, leaves);
        path.push_str("metadata");
    } else {
        walk(field, path, leaves);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    /// What [`difference`] promises, said without regard to its cost.
    fn difference_of_all_leaves(old: &Value, new: &Value) -> Map<String, Value> {
        let (before, after) = (flatten(old), flatten(new));
        let mut changes = Map::new();
        for (path, value) in before.iter().filter(|(path, value)| after.get(*path) != Some(*value)) {
            changes.insert(path.clone(), json!([value, after.get(path)]));
        }
        for (path, value) in after.iter().filter(|(path, _)| !before.contains_key(*path)) {
            changes.insert(path.clone(), json!([null, value]));
        }
        changes
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..3i64).prop_map(Value::from),
            "[ab]{0,1}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let key = prop_oneof![Just("metadata"), Just("name"), Just("type"), Just("a.b"), Just("resourceVersion")];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key, inner), 0..4).prop_map(|pairs| {
                    Value::Object(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_passed_over_would_not_have_been_told(old in values(), new in values()) {
            let all = |change: Map<String, Value>| serde_json::to_string(&change).unwrap();
            prop_assert_eq!(all(difference(&old, &new)), all(difference_of_all_leaves(&old, &new)));
        }
    }
}

//! Metadata of objects: names, labels, annotations, owners, finalizers, and what may not change.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Serialize;
use serde_json::Value;

use super::error::{BadValue, ErrorList, FieldError, Path};
use super::format::{self, Complaints};
use super::text;

/// Bytes that all annotations of an object may have together.
const ANNOTATION_LIMIT: usize = 256 * 1024;

/// Whether objects of a kind belong to a namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// They do.
    Namespaced,
    /// They belong to the cluster.
    Cluster,
}

/// Checks the metadata of a new object whose name must have a given format.
pub fn object_meta(meta: &ObjectMeta, scope: Scope, name: fn(&str) -> Complaints, errors: &mut ErrorList) {
    let path = Path::Root.child("metadata");
    let generated = text(&meta.generate_name);
    if !generated.is_empty() {
        let complaints = name(&without_trailing_dash(generated));
        errors.invalid_each(&path.child("generateName"), generated, complaints);
    }
    match text(&meta.name) {
        "" => errors.push(FieldError::required(&path.child("name"), "name or generateName is required")),
        given => errors.invalid_each(&path.child("name"), given, name(given)),
    }
    let namespace = text(&meta.namespace);
    let namespace_path = path.child("namespace");
    match (scope, namespace) {
        (Scope::Namespaced, "") => errors.push(FieldError::required(&namespace_path, "")),
        (Scope::Namespaced, _) => errors.invalid_each(&namespace_path, namespace, format::dns_1123_label(namespace)),
        (Scope::Cluster, "") => {}
        (Scope::Cluster, _) => errors.push(FieldError::forbidden(&namespace_path, "not allowed on this type")),
    }
    super::not_negative(meta.generation.unwrap_or_default(), &path.child("generation"), errors);
    labels(&meta.labels, &path.child("labels"), errors);
    annotations(&meta.annotations, &path.child("annotations"), errors);
    owner_references(meta.owner_references.as_deref().unwrap_or_default(), &path.child("ownerReferences"), errors);
    finalizers(meta.finalizers.as_deref().unwrap_or_default(), &path.child("finalizers"), errors);
}

/// A prefix of names may end in a dash, because something follows it.
fn without_trailing_dash(name: &str) -> String {
    let shortened = name.strip_suffix('-').filter(|rest| !rest.is_empty());
    // The last character before the dash is looked at no more either; the original does the same.
    let masked = shortened.and_then(|rest| rest.char_indices().next_back().map(|(at, _)| format!("{}a", &rest[..at])));
    masked.unwrap_or_else(|| name.to_owned())
}

/// Checks keys and values of labels.
pub fn labels(labels: &Option<BTreeMap<String, String>>, path: &Path<'_>, errors: &mut ErrorList) {
    for (key, value) in labels.iter().flatten() {
        errors.invalid_each(path, key, format::label_key(key));
        errors.invalid_each(path, value, format::label_value(value));
    }
}

/// Checks keys of annotations and their size.
pub fn annotations(annotations: &Option<BTreeMap<String, String>>, path: &Path<'_>, errors: &mut ErrorList) {
    let mut size = 0;
    for (key, value) in annotations.iter().flatten() {
        errors.invalid_each(path, key, format::label_key(&key.to_lowercase()));
        size += key.len() + value.len();
    }
    if size > ANNOTATION_LIMIT {
        errors.push(FieldError::too_long(path, ANNOTATION_LIMIT));
    }
}

fn owner_references(references: &[OwnerReference], path: &Path<'_>, errors: &mut ErrorList) {
    let mut controller: Option<&OwnerReference> = None;
    for reference in references {
        let (group, version) = reference.api_version.split_once('/').unwrap_or(("", &reference.api_version));
        let mut present = |name, value: &str, complaint| {
            if value.is_empty() {
                errors.push(FieldError::invalid(&path.child(name), value, complaint));
            }
        };
        present("apiVersion", version, "version must not be empty");
        present("kind", &reference.kind, "must not be empty");
        present("name", &reference.name, "must not be empty");
        present("uid", &reference.uid, "must not be empty");
        if (group, version, reference.kind.as_str()) == ("", "v1", "Event") {
            let message = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(path, BadValue::json(reference), message));
        }
        if reference.controller != Some(true) {
            continue;
        }
        match controller {
            None => controller = Some(reference),
            Some(first) => {
                let message = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {}/{} and {}/{}",
                    first.kind, first.name, reference.kind, reference.name
                );
                errors.push(FieldError::invalid(path, BadValue::json(&references), message));
            }
        }
    }
}

fn finalizers(finalizers: &[String], path: &Path<'_>, errors: &mut ErrorList) {
    for finalizer in finalizers {
        errors.invalid_each(path, finalizer, format::label_key(finalizer));
    }
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    if has("orphan") && has("foregroundDeletion") {
        let message = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(path, BadValue::json(&finalizers), message));
    }
    // Names without a domain are kept for the system (core validation).
    for (position, finalizer) in finalizers.iter().enumerate().filter(|(_, name)| !name.contains('/')) {
        if !["kubernetes", "orphan", "foregroundDeletion"].contains(&finalizer.as_str()) {
            let message = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(&path.index(position), finalizer, message));
        }
    }
}

/// Checks the metadata of an object that is to replace another.
pub fn object_meta_update(meta: &ObjectMeta, old: &ObjectMeta, errors: &mut ErrorList) {
    let path = Path::Root.child("metadata");
    if old.deletion_timestamp.is_some() {
        let before = old.finalizers.as_deref().unwrap_or_default();
        let mut added: Vec<&String> = meta.finalizers.iter().flatten().filter(|name| !before.contains(name)).collect();
        added.sort_unstable();
        added.dedup();
        if !added.is_empty() {
            let names: Vec<String> = added.iter().map(|name| super::error::go_quote(name)).collect();
            let message = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                names.join(", ")
            );
            errors.push(FieldError::forbidden(&path.child("finalizers"), message));
        }
    }
    if text(&meta.resource_version).is_empty() {
        let place = path.child("resourceVersion");
        errors.push(FieldError::invalid(&place, "", "must be specified for an update"));
    }
    if meta.generation.unwrap_or_default() < old.generation.unwrap_or_default() {
        let generation = meta.generation.unwrap_or_default();
        errors.push(FieldError::invalid(&path.child("generation"), generation, "must not be decremented"));
    }
    immutable(text(&meta.name), text(&old.name), &path.child("name"), errors);
    immutable(text(&meta.namespace), text(&old.namespace), &path.child("namespace"), errors);
    immutable(text(&meta.uid), text(&old.uid), &path.child("uid"), errors);
    immutable(&meta.creation_timestamp, &old.creation_timestamp, &path.child("creationTimestamp"), errors);
    immutable(&meta.deletion_timestamp, &old.deletion_timestamp, &path.child("deletionTimestamp"), errors);
    let grace = path.child("deletionGracePeriodSeconds");
    immutable(&meta.deletion_grace_period_seconds, &old.deletion_grace_period_seconds, &grace, errors);
    labels(&meta.labels, &path.child("labels"), errors);
    annotations(&meta.annotations, &path.child("annotations"), errors);
    owner_references(meta.owner_references.as_deref().unwrap_or_default(), &path.child("ownerReferences"), errors);
}

/// Refuses a change of a field.
pub fn immutable<T: Serialize + PartialEq + ?Sized>(new: &T, old: &T, path: &Path<'_>, errors: &mut ErrorList) {
    if !same(new, old) {
        errors.push(FieldError::invalid(path, BadValue::json(&new), "field is immutable"));
    }
}

/// Equality as the API server understands it: what is empty is as good as absent.
pub fn same<T: Serialize + PartialEq + ?Sized>(new: &T, old: &T) -> bool {
    let said = |value: &T| serde_json::to_value(value).ok().and_then(without_empty);
    new == old || said(new) == said(old)
}

/// The value without empty lists and maps, however deep; a struct that is there and empty counts as a map.
fn without_empty(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Array(items) if items.is_empty() => None,
        Value::Object(entries) => {
            let kept = entries.into_iter().filter_map(|(key, value)| Some((key, without_empty(value)?)));
            let kept: serde_json::Map<String, Value> = kept.collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        other => Some(other),
    }
}

/// What is wrong with the metadata of a new object whose name is a DNS subdomain.
pub fn new_meta(meta: &ObjectMeta, scope: Scope) -> ErrorList {
    let mut errors = ErrorList::new();
    object_meta(meta, scope, format::dns_1123_subdomain, &mut errors);
    errors
}

/// What is wrong with a change of metadata.
pub fn changed_meta(new: &ObjectMeta, old: &ObjectMeta) -> ErrorList {
    let mut errors = ErrorList::new();
    object_meta_update(new, old, &mut errors);
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn meta(value: Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap_or_default()
    }

    fn check(value: Value, expected: &[&str]) {
        let mut errors = ErrorList::new();
        object_meta(&meta(value), Scope::Namespaced, format::dns_1123_subdomain, &mut errors);
        let found: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn metadata_of_new_objects() {
        let good = json!({"name": "a.b", "generateName": "a.-", "namespace": "x", "labels": {"a/b": ""}, "finalizers": ["a/b", "orphan"]});
        check(good, &[]);
        check(
            json!({}),
            &["metadata.name: Required value: name or generateName is required", "metadata.namespace: Required value"],
        );
        check(
            json!({"name": "a", "namespace": "x", "labels": {"a b": "c"}, "annotations": {"A/B": ""}, "finalizers": ["x"], "generation": -1}),
            &[
                "metadata.generation: Invalid value: -1: must be greater than or equal to 0",
                "metadata.labels: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                "metadata.finalizers[0]: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified",
            ],
        );
        check(
            json!({"name": "a", "namespace": "x", "ownerReferences": [{"apiVersion": "v1", "kind": "A", "name": "a", "uid": "1", "controller": true}, {"apiVersion": "v1", "kind": "B", "name": "b", "uid": "", "controller": true}]}),
            &[
                "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty",
                "metadata.ownerReferences: Invalid value: [{\"apiVersion\":\"v1\",\"controller\":true,\"kind\":\"A\",\"name\":\"a\",\"uid\":\"1\"},{\"apiVersion\":\"v1\",\"controller\":true,\"kind\":\"B\",\"name\":\"b\",\"uid\":\"\"}]: Only one reference can have Controller set to true. Found \"true\" in references for A/a and B/b",
            ],
        );
    }

    #[test]
    fn what_may_not_change() {
        let old = meta(
            json!({"name": "a", "namespace": "x", "uid": "1", "resourceVersion": "5", "deletionTimestamp": "2024-01-01T00:00:00Z"}),
        );
        let new = meta(
            json!({"name": "a", "namespace": "x", "uid": "2", "finalizers": ["a/b"], "deletionTimestamp": "2024-01-01T00:00:00Z"}),
        );
        let mut errors = ErrorList::new();
        object_meta_update(&new, &old, &mut errors);
        let found: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"a/b\"}",
                "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
                "metadata.uid: Invalid value: \"2\": field is immutable",
            ]
        );
    }
}

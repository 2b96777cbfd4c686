//! The strategic merge patch that makes one object from another, as kubectl and the components find it (apimachinery,
//! util/strategicpatch: two-way merge patch with element order).

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use super::PatchError;
use super::go_value;
use super::schema::{self, ListMerge, Type};
use super::strategic::{DELETE_PREFIX, DIRECTIVE, ORDER_PREFIX, RETAIN_KEYS, identity};

/// The patch that makes `modified` from `original`, both objects of a kind; empty if they are equal.
pub fn between(kind: &str, original: &Value, modified: &Value) -> Result<Value, PatchError> {
    let (Value::Object(original), Value::Object(modified)) = (original, modified) else {
        return Err(PatchError::BadRequest("invalid JSON document".to_owned()));
    };
    map_difference(original, modified, schema::root(kind), false).map(Value::Object)
}

fn map_difference(
    original: &Map<String, Value>,
    modified: &Map<String, Value>,
    of: Type,
    retain_keys: bool,
) -> Result<Map<String, Value>, PatchError> {
    let mut patch = Map::new();
    for (name, new) in modified {
        let field = schema::field(of, name);
        match (original.get(name), new) {
            (Some(old), new) if old == new => {}
            (Some(Value::Object(old)), Value::Object(new)) => {
                let inner = map_difference(old, new, field.inside, field.retain_keys)?;
                if !inner.is_empty() {
                    patch.insert(name.clone(), Value::Object(inner));
                }
            }
            (Some(Value::Array(old)), Value::Array(new)) if field.list != ListMerge::Replace => {
                list_difference(name, old, new, field, &mut patch)?;
            }
            (_, new) => {
                patch.insert(name.clone(), new.clone());
            }
        }
    }
    let removed = original.keys().filter(|name| !modified.contains_key(*name));
    patch.extend(removed.map(|name| (name.clone(), Value::Null)));
    if retain_keys && !patch.is_empty() {
        let kept: Vec<&String> = modified.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name).collect();
        if !kept.is_empty() {
            patch.insert(RETAIN_KEYS.to_owned(), json!(kept));
        }
    }
    Ok(patch)
}

fn list_difference(
    name: &str,
    original: &[Value],
    modified: &[Value],
    field: schema::Field,
    patch: &mut Map<String, Value>,
) -> Result<(), PatchError> {
    let order = format!("{ORDER_PREFIX}/{name}");
    let ListMerge::ByKey(key) = field.list else {
        let added: Vec<&Value> = modified.iter().filter(|item| !original.contains(item)).collect();
        let mut deleted: Vec<&Value> = original.iter().filter(|item| !modified.contains(item)).collect();
        deleted.sort_by_key(|item| go_value(item));
        deleted.dedup();
        if !added.is_empty() {
            patch.insert(name.to_owned(), json!(added));
        }
        if !deleted.is_empty() {
            patch.insert(format!("{DELETE_PREFIX}/{name}"), json!(deleted));
        }
        patch.insert(order, json!(modified));
        return Ok(());
    };
    let mut changes = item_differences(original, modified, key, field)?;
    let mut identities = Vec::with_capacity(modified.len());
    for item in modified {
        identities.push(identity(item, Some(key))?);
    }
    let reordered = original.len() != modified.len()
        || original.iter().zip(&identities).any(|(item, identity)| item.get(key) != Some(identity));
    if changes.is_empty() && !reordered {
        return Ok(());
    }
    // Changes come in the order of the new list; deletions after them.
    let place = |item: &Value| identities.iter().position(|identity| item.get(key) == Some(identity));
    changes.sort_by_key(|item| match item.get(DIRECTIVE) {
        Some(_) => usize::MAX,
        None => place(item).unwrap_or(usize::MAX),
    });
    if !changes.is_empty() {
        patch.insert(name.to_owned(), Value::Array(changes));
    }
    let ordered: Vec<Value> = identities.iter().map(|identity| json!({ key: identity })).collect();
    patch.insert(order, Value::Array(ordered));
    Ok(())
}

/// Items changed and added, and directives for those deleted, sorted by key.
fn item_differences(
    original: &[Value],
    modified: &[Value],
    key: &str,
    field: schema::Field,
) -> Result<Vec<Value>, PatchError> {
    let sorted = |list: &[Value]| -> Result<Vec<(String, Value)>, PatchError> {
        let mut keyed = Vec::with_capacity(list.len());
        for item in list {
            keyed.push((go_value(identity(item, Some(key))?), item.clone()));
        }
        keyed.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(keyed)
    };
    let (original, modified) = (sorted(original)?, sorted(modified)?);
    let (mut old, mut new) = (original.iter().peekable(), modified.iter().peekable());
    let mut changes = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return Ok(changes),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.0.cmp(&new.0),
        };
        match order {
            Ordering::Less => {
                if let Some((_, item)) = old.next() {
                    changes.push(json!({ DIRECTIVE: "delete", key: item.get(key) }));
                }
            }
            Ordering::Greater => changes.extend(new.next().map(|(_, item)| item.clone())),
            Ordering::Equal => {
                if let (Some((_, Value::Object(before))), Some((_, Value::Object(after)))) = (old.next(), new.next()) {
                    let mut change = map_difference(before, after, field.inside, field.retain_keys)?;
                    if !change.is_empty() {
                        change.insert(key.to_owned(), after.get(key).cloned().unwrap_or_default());
                        changes.push(Value::Object(change));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::strategic;
    use super::*;
    use proptest::prelude::*;

    fn check(kind: &str, original: Value, modified: Value, expected: Value) {
        assert_eq!(between(kind, &original, &modified), Ok(expected.clone()));
        assert_eq!(strategic::apply(kind, original, expected), Ok(modified));
    }

    #[test]
    fn differences_name_only_what_changed() {
        check(
            "Pod",
            json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b"}]}, "metadata": {"labels": {"l": "1"}}}),
            json!({"spec": {"containers": [{"name": "c"}, {"name": "a", "image": "y"}]}, "metadata": {}}),
            json!({"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}], "containers": [{"name": "c"}, {"name": "a", "image": "y"}, {"$patch": "delete", "name": "b"}]}, "metadata": {"labels": null}}),
        );
        check(
            "Deployment",
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {}}}}),
            json!({"spec": {"strategy": {"type": "Recreate"}}}),
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate", "rollingUpdate": null}}}),
        );
        check(
            "Pod",
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["b", "c"]}}),
            json!({"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["b", "c"]}}),
        );
        check("Pod", json!({"a": 1}), json!({"a": 1}), json!({}));
    }

    fn containers() -> impl Strategy<Value = Value> {
        let container = (proptest::option::of("x|y|z"), proptest::collection::btree_map("E|F|G", "1|2", 0..3))
            .prop_map(|(image, env)| {
                let env: Vec<Value> =
                    env.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
                let mut container = json!({ "env": env });
                if let Some(image) = image {
                    container["image"] = Value::from(image);
                }
                container
            });
        proptest::collection::btree_map("a|b|c|d|e", container, 0..5).prop_map(|containers| {
            let named = |(name, mut container): (String, Value)| {
                container["name"] = Value::from(name);
                container
            };
            Value::Array(containers.into_iter().map(named).collect())
        })
    }

    proptest! {
        #[test]
        fn the_difference_makes_the_modified_object_from_the_original(original in containers(), modified in containers().prop_shuffle_items()) {
            let object = |containers: &Value| json!({"spec": {"containers": containers}});
            let patch = between("Pod", &object(&original), &object(&modified));
            prop_assert!(patch.is_ok());
            let applied = strategic::apply("Pod", object(&original), patch.unwrap_or_default());
            prop_assert_eq!(applied, Ok(object(&modified)));
        }
    }

    trait ShuffleItems: Strategy<Value = Value> + Sized {
        fn prop_shuffle_items(self) -> impl Strategy<Value = Value> {
            self.prop_flat_map(|list| {
                Just(list.as_array().cloned().unwrap_or_default()).prop_shuffle().prop_map(Value::Array)
            })
        }
    }

    impl<S: Strategy<Value = Value>> ShuffleItems for S {}
}

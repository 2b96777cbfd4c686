//! Strategic merge patch, applied as the API server does (apimachinery, util/strategicpatch): lists of things that have
//! names are merged by name, and directives delete, replace, order and retain.

use serde_json::{Map, Value};

use super::schema::{self, ListMerge, Type};
use super::{PatchError, go_value};

pub(super) const DIRECTIVE: &str = "$patch";
pub(super) const RETAIN_KEYS: &str = "$retainKeys";
pub(super) const DELETE_PREFIX: &str = "$deleteFromPrimitiveList";
pub(super) const ORDER_PREFIX: &str = "$setElementOrder";

/// The object of a kind as the patch makes it.
pub fn apply(kind: &str, object: Value, patch: Value) -> Result<Value, PatchError> {
    let (Value::Object(object), Value::Object(patch)) = (object, patch) else {
        return Err(PatchError::BadRequest("invalid JSON document".to_owned()));
    };
    merge_map(object, patch, schema::root(kind)).map(Value::Object)
}

fn bad_order() -> PatchError {
    PatchError::BadRequest("invalid patch format of setElementOrder list".to_owned())
}

fn no_merge_key(item: &Value, key: &str) -> PatchError {
    PatchError::Internal(format!("map: {} does not contain declared merge key: {key}", go_value(item)))
}

fn bad_type(expected: &str, found: &Value) -> PatchError {
    let found = match found {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    };
    PatchError::Internal(format!("expected a {expected}, but received a {found}"))
}

fn merge_map(
    mut object: Map<String, Value>,
    mut patch: Map<String, Value>,
    of: Type,
) -> Result<Map<String, Value>, PatchError> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Map::new()),
            _ => Err(bad_directive(&directive, &patch)),
        };
    }
    retain_keys(&mut object, &mut patch)?;
    merge_ordered_lists(&mut object, &mut patch, of)?;
    for (name, change) in patch {
        match name.strip_prefix(DELETE_PREFIX) {
            Some(rest) => {
                let Some(list) = rest.strip_prefix('/') else {
                    return Err(PatchError::BadRequest("invalid patch format of primitive list".to_owned()));
                };
                delete_scalars(&mut object, list, change);
            }
            None => merge_field(&mut object, name, change, of)?,
        }
    }
    Ok(object)
}

fn bad_directive(directive: &Value, patch: &Map<String, Value>) -> PatchError {
    let mut whole = patch.clone();
    whole.insert(DIRECTIVE.to_owned(), directive.clone());
    let (directive, whole) = (go_value(directive), go_value(&Value::Object(whole)));
    PatchError::Internal(format!("unknown patch type: {directive} in map: {whole}"))
}

/// `$deleteFromPrimitiveList/finalizers: [a]`.
fn delete_scalars(object: &mut Map<String, Value>, list: &str, deleted: Value) {
    match (object.get_mut(list), deleted) {
        (Some(Value::Array(items)), Value::Array(deleted)) => items.retain(|item| !deleted.contains(item)),
        (_, Value::Null) => {
            object.remove(list);
        }
        _ => {}
    }
}

fn merge_field(object: &mut Map<String, Value>, name: String, change: Value, of: Type) -> Result<(), PatchError> {
    let field = schema::field(of, &name);
    let merged = match (object.remove(&name), change) {
        (_, Value::Null) => None,
        (Some(Value::Object(present)), Value::Object(change)) => {
            Some(Value::Object(merge_map(present, change, field.inside)?))
        }
        (Some(Value::Array(present)), Value::Array(change)) => {
            Some(Value::Array(merge_list(present, change, field.list, field.inside)?))
        }
        // A new value, or one of another type, is taken as it is, without what only has a meaning in a patch.
        (_, change) => without_directives(without_nulls(change)),
    };
    if let Some(merged) = merged {
        object.insert(name, merged);
    }
    Ok(())
}

/// Removes entries that are null, however deep.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(entries) => {
            let kept = entries.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

/// The value without maps that are directives; nothing if it is one itself.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(entries) if entries.contains_key(DIRECTIVE) => None,
        Value::Object(entries) => {
            let kept = entries.into_iter().filter_map(|(key, value)| Some((key, without_directives(value)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}

/// `$retainKeys: [type]`: everything else is cleared.
fn retain_keys(object: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), PatchError> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let refused = || PatchError::BadRequest("invalid patch format of retainKeys".to_owned());
    let Value::Array(keys) = keys else { return Err(refused()) };
    let retained = |name: &str| keys.iter().any(|key| key.as_str() == Some(name));
    let is_list_directive = |name: &str| name.starts_with(DELETE_PREFIX) || name.starts_with(ORDER_PREFIX);
    if patch.iter().any(|(name, value)| !value.is_null() && !is_list_directive(name) && !retained(name)) {
        return Err(refused());
    }
    object.retain(|name, _| retained(name));
    Ok(())
}

/// `$setElementOrder/containers: [{name: a}, {name: b}]`, together with the list that it orders.
fn merge_ordered_lists(
    object: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    of: Type,
) -> Result<(), PatchError> {
    let directives: Vec<String> = patch.keys().filter(|name| name.starts_with(ORDER_PREFIX)).cloned().collect();
    for directive in directives {
        let order = match patch.remove(&directive) {
            Some(Value::Array(order)) => order,
            Some(other) => return Err(bad_type("[]interface {}", &other)),
            None => continue,
        };
        let name =
            directive.strip_prefix(ORDER_PREFIX).and_then(|rest| rest.strip_prefix('/')).ok_or_else(bad_order)?;
        let present = take_list(object, name)?;
        let change = take_list(patch, name)?;
        let field = schema::field(of, name);
        let key = match field.list {
            ListMerge::ByKey(key) => Some(key),
            ListMerge::Set | ListMerge::Replace => None,
        };
        check_order(change.as_deref().unwrap_or_default(), &order, key)?;
        let before = present.clone().unwrap_or_default();
        let merged = match (present, change) {
            (None, None) => continue,
            (Some(present), None) => present,
            (None, Some(change)) => change.into_iter().filter_map(without_directives).collect(),
            (Some(present), Some(change)) => merge_list(present, change, field.list, field.inside)?,
        };
        object.insert(name.to_owned(), Value::Array(arranged(merged, &order, &before, key)?));
    }
    Ok(())
}

fn take_list(map: &mut Map<String, Value>, name: &str) -> Result<Option<Vec<Value>>, PatchError> {
    match map.remove(name) {
        None => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(other) => Err(bad_type("[]interface {}", &other)),
    }
}

/// The items of a patch must come in the order that its directive says.
fn check_order(change: &[Value], order: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    if change.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut ordered = order.iter();
    for item in change.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let wanted = identity(item, key)?;
        let mut found = false;
        for other in ordered.by_ref() {
            if identity(other, key)? == wanted {
                found = true;
                break;
            }
        }
        if !found {
            let show = |items: &[Value]| go_value(&Value::Array(items.to_vec()));
            let (change, order) = (show(change), show(order));
            let message = format!("The order in patch list:\n{change}\n doesn't match {ORDER_PREFIX} list:\n{order}\n");
            return Err(PatchError::Internal(message));
        }
    }
    Ok(())
}

/// What tells an item apart from others: its merge key's value, or the item itself where there is no key.
pub(super) fn identity<'v>(item: &'v Value, key: Option<&str>) -> Result<&'v Value, PatchError> {
    let Some(key) = key else { return Ok(item) };
    let Value::Object(entries) = item else { return Err(bad_type("map[string]interface {}", item)) };
    entries.get(key).ok_or_else(|| no_merge_key(item, key))
}

/// Position of the item that is the same as `item`.
fn position(list: &[Value], item: &Value, key: Option<&str>) -> Option<usize> {
    let wanted = identity(item, key).ok()?;
    list.iter().position(|other| identity(other, key).is_ok_and(|identity| identity == wanted))
}

fn merge_list(present: Vec<Value>, change: Vec<Value>, list: ListMerge, of: Type) -> Result<Vec<Value>, PatchError> {
    match list {
        ListMerge::Replace => Ok(change),
        ListMerge::Set => {
            let before = present.clone();
            let mut merged: Vec<Value> = Vec::with_capacity(present.len() + change.len());
            for item in present.into_iter().chain(change.iter().cloned()) {
                if !merged.contains(&item) {
                    merged.push(item);
                }
            }
            arranged(merged, &change, &before, None)
        }
        ListMerge::ByKey(key) => merge_by_key(present, change, key, of),
    }
}

fn merge_by_key(
    mut present: Vec<Value>,
    change: Vec<Value>,
    key: &'static str,
    of: Type,
) -> Result<Vec<Value>, PatchError> {
    let mut changes = Vec::with_capacity(change.len());
    let mut replace = false;
    for item in change {
        match item.get(DIRECTIVE).map(|directive| (directive, directive.as_str())) {
            None => changes.push(item),
            Some((_, Some("delete"))) => {
                let deleted = identity(&item, Some(key))?;
                present.retain(|other| other.get(key) != Some(deleted));
            }
            Some((_, Some("replace"))) => replace = true,
            Some((_, Some("merge"))) => {
                return Err(PatchError::Internal("merging lists cannot yet be specified in the patch".to_owned()));
            }
            Some((directive, _)) => return Err(bad_directive(directive, item.as_object().unwrap_or(&Map::new()))),
        }
    }
    if replace {
        return Ok(changes);
    }
    let before = present.clone();
    let mut merged = present;
    for item in &changes {
        identity(item, Some(key))?;
        match (position(&merged, item, Some(key)), item) {
            (Some(at), Value::Object(change)) => {
                if let Value::Object(entries) = merged[at].take() {
                    merged[at] = Value::Object(merge_map(entries, change.clone(), of)?);
                }
            }
            _ => merged.push(item.clone()),
        }
    }
    arranged(merged, &changes, &before, Some(key))
}

/// A merged list in its final order: items of the patch in the patch's order, the others in theirs, the two woven
/// together so that an item stays before one that it was before.
fn arranged(
    merged: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    key: Option<&str>,
) -> Result<Vec<Value>, PatchError> {
    for item in merged.iter().chain(patch_order) {
        identity(item, key)?;
    }
    let in_patch = |item: &Value| position(patch_order, item, key);
    let on_server = |item: &Value| position(server_order, item, key);
    let (mut ours, mut theirs): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| in_patch(item).is_some());
    ours.sort_by_key(|item| in_patch(item).unwrap_or(usize::MAX));
    theirs.sort_by_key(|item| on_server(item).unwrap_or(usize::MAX));
    let mut woven = Vec::with_capacity(ours.len() + theirs.len());
    let (mut ours, mut theirs) = (ours.into_iter().peekable(), theirs.into_iter().peekable());
    loop {
        let take_theirs = match (ours.peek(), theirs.peek()) {
            (None, None) => return Ok(woven),
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (Some(our), Some(their)) => match (on_server(their), on_server(our)) {
                (Some(their), Some(our)) => their < our,
                _ => false,
            },
        };
        woven.extend(if take_theirs { theirs.next() } else { ours.next() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn check(kind: &str, object: Value, patch: Value, expected: Result<Value, &str>) {
        let found = apply(kind, object, patch.clone()).map_err(|error| error.to_string());
        assert_eq!(found, expected.map_err(str::to_owned), "{patch}");
    }

    fn pod(containers: Value) -> Value {
        json!({"spec": {"containers": containers}})
    }

    #[test]
    fn lists_of_named_things_are_merged_by_name() {
        let object = pod(json!([{"name": "a", "image": "x"}, {"name": "b", "env": [{"name": "E", "value": "1"}]}]));
        check(
            "Pod",
            object.clone(),
            pod(json!([{"name": "b", "image": "y"}])),
            Ok(pod(
                json!([{"name": "a", "image": "x"}, {"name": "b", "image": "y", "env": [{"name": "E", "value": "1"}]}]),
            )),
        );
        check(
            "Pod",
            object.clone(),
            pod(json!([{"name": "c"}])),
            Ok(pod(
                json!([{"name": "c"}, {"name": "a", "image": "x"}, {"name": "b", "env": [{"name": "E", "value": "1"}]}]),
            )),
        );
        check(
            "Pod",
            object.clone(),
            pod(json!([{"name": "a", "$patch": "delete"}])),
            Ok(pod(json!([{"name": "b", "env": [{"name": "E", "value": "1"}]}]))),
        );
        check(
            "Pod",
            object.clone(),
            pod(json!([{"name": "z"}, {"$patch": "replace"}])),
            Ok(pod(json!([{"name": "z"}]))),
        );
        check(
            "Pod",
            object.clone(),
            pod(json!([{"image": "y"}])),
            Err("map: map[image:y] does not contain declared merge key: name"),
        );
        check(
            "Pod",
            object,
            json!({"spec": {"$patch": "burn"}}),
            Err("unknown patch type: burn in map: map[$patch:burn]"),
        );
        let template = |spec: Value| json!({"spec": {"template": {"spec": spec}}});
        check(
            "Deployment",
            template(json!({"containers": [{"name": "a", "image": "x"}]})),
            template(json!({"containers": [{"name": "a", "image": "y"}], "tolerations": [{"key": "k"}]})),
            Ok(template(json!({"containers": [{"name": "a", "image": "y"}], "tolerations": [{"key": "k"}]}))),
        );
        check(
            "Service",
            json!({"spec": {"ports": [{"port": 80, "name": "a"}]}}),
            json!({"spec": {"ports": [{"port": 81}]}}),
            Ok(json!({"spec": {"ports": [{"port": 81}, {"port": 80, "name": "a"}]}})),
        );
    }

    #[test]
    fn lists_without_names_are_replaced_and_sets_united() {
        check(
            "Pod",
            json!({"spec": {"tolerations": [{"key": "a"}]}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
            Ok(json!({"spec": {"tolerations": [{"key": "b"}]}})),
        );
        check(
            "Pod",
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["c", "a"]}}),
            Ok(json!({"metadata": {"finalizers": ["c", "a", "b"]}})),
        );
        check(
            "Pod",
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}),
            Ok(json!({"metadata": {"finalizers": ["b"]}})),
        );
        check(
            "ConfigMap",
            json!({"data": {"a": "1", "b": "2"}}),
            json!({"data": {"a": null, "c": "3"}}),
            Ok(json!({"data": {"b": "2", "c": "3"}})),
        );
        check(
            "Pod",
            json!({}),
            json!({"metadata": {"labels": {"a": null, "b": "c"}}}),
            Ok(json!({"metadata": {"labels": {"b": "c"}}})),
        );
    }

    #[test]
    fn directives_order_and_retain() {
        let object = pod(json!([{"name": "a"}, {"name": "b"}, {"name": "s"}]));
        check(
            "Pod",
            object,
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}], "containers": [{"name": "c", "image": "x"}]}}),
            Ok(pod(json!([{"name": "b"}, {"name": "c", "image": "x"}, {"name": "a"}, {"name": "s"}]))),
        );
        check(
            "Deployment",
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
            Ok(json!({"spec": {"strategy": {"type": "Recreate"}}})),
        );
        check(
            "Pod",
            pod(json!([])),
            json!({"spec": {"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}]}}),
            Err("The order in patch list:\n[map[name:b]]\n doesn't match $setElementOrder list:\n[map[name:a]]\n"),
        );
    }

    #[test]
    fn conditions_are_merged_by_type_as_kubelets_and_schedulers_rely_on() {
        check(
            "Pod",
            json!({"status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False"}]}}),
            json!({"status": {"conditions": [{"type": "PodScheduled", "status": "True"}], "$setElementOrder/conditions": [{"type": "Ready"}, {"type": "PodScheduled"}]}}),
            Ok(json!({"status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]}})),
        );
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let names = "name|type|spec|metadata|containers|finalizers|\\$patch|\\$retainKeys|\\$setElementOrder/containers|\\$deleteFromPrimitiveList/finalizers";
        let leaf =
            prop_oneof![Just(Value::Null), "a|b|delete|replace".prop_map(Value::from), (0..3).prop_map(Value::from)];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
                proptest::collection::vec((names, inner), 0..4)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_patch_applies_or_is_refused(object in any_value(), patch in any_value()) {
            let _ = apply("Pod", object, patch);
        }
    }
}

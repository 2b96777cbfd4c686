//! JSON patch (RFC 6902). Error texts follow the library that the API server uses, evanphx/json-patch version 4.

use json_patch::{PatchErrorKind, PatchOperation};
use serde_json::Value;

use super::PatchError;

/// Operations that one patch may have.
const OPERATION_LIMIT: usize = 10_000;

/// Changes an object by a list of operations: all of them, or none if one does not fit.
pub fn apply(object: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let Value::Array(items) = patch else {
        let found = match patch {
            Value::Object(_) => "object",
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Bool(_) => "bool",
            Value::Null | Value::Array(_) => return Ok(()),
        };
        let message = format!(
            "error decoding patch: json: cannot unmarshal {found} into Go value of type []handlers.jsonPatchOp"
        );
        return Err(PatchError::BadRequest(message));
    };
    if items.len() > OPERATION_LIMIT {
        let count = items.len();
        let message = format!("The allowed maximum operations in a JSON patch is {OPERATION_LIMIT}, got {count}");
        return Err(PatchError::BadRequest(message));
    }
    let mut operations = Vec::with_capacity(items.len());
    for item in items {
        operations.push(operation(item)?);
    }
    json_patch::patch(object, &operations).map_err(|error| {
        let failed = operations.get(error.operation);
        PatchError::Unprocessable(failed.map_or_else(|| error.to_string(), |operation| message(operation, &error.kind)))
    })
}

/// One operation. Like the API server, a missing value is taken for null.
fn operation(item: &Value) -> Result<PatchOperation, PatchError> {
    let mut item = item.clone();
    let kind = item.get("op").and_then(Value::as_str).unwrap_or_default().to_owned();
    if let (Value::Object(entries), "add" | "replace" | "test") = (&mut item, kind.as_str()) {
        entries.entry("value").or_insert(Value::Null);
    }
    serde_json::from_value(item).map_err(|error| match kind.as_str() {
        "add" | "remove" | "replace" | "move" | "copy" | "test" => {
            PatchError::BadRequest(format!("error decoding patch: {error}"))
        }
        other => PatchError::Unprocessable(format!("Unexpected kind: {other}")),
    })
}

fn message(operation: &PatchOperation, kind: &PatchErrorKind) -> String {
    let path = operation.path();
    let last = path.as_str().rsplit('/').next().unwrap_or_default();
    match (operation, kind) {
        (PatchOperation::Test(_), _) => format!("testing value {path} failed: test failed"),
        (PatchOperation::Add(_), _) => {
            format!("add operation does not apply: doc is missing path: \"{path}\": missing value")
        }
        (PatchOperation::Remove(_), _) => {
            format!("error in remove for path: '{path}': Unable to remove nonexistent key: {last}: missing value")
        }
        (PatchOperation::Replace(_), _) => {
            format!("replace operation does not apply: doc is missing key: {path}: missing value")
        }
        (PatchOperation::Move(operation), _) => {
            format!("move operation does not apply: doc is missing from path: {}: missing value", operation.from)
        }
        (PatchOperation::Copy(operation), _) => {
            format!("copy operation does not apply: doc is missing from path: {}: missing value", operation.from)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(patch: Value, expected: Result<Value, &str>) {
        let mut object = json!({"a": {"b": [1, 2]}, "c": "d"});
        let found = apply(&mut object, &patch).map(|()| object).map_err(|error| error.to_string());
        assert_eq!(found, expected.map_err(str::to_owned), "{patch}");
    }

    #[test]
    fn operations_apply_in_order_or_not_at_all() {
        check(
            json!([{"op": "test", "path": "/c", "value": "d"}, {"op": "add", "path": "/a/b/-", "value": 3}, {"op": "remove", "path": "/c"}]),
            Ok(json!({"a": {"b": [1, 2, 3]}})),
        );
        check(json!([{"op": "replace", "path": "/a/b/0", "value": 9}]), Ok(json!({"a": {"b": [9, 2]}, "c": "d"})));
        check(
            json!([{"op": "remove", "path": "/x"}]),
            Err("error in remove for path: '/x': Unable to remove nonexistent key: x: missing value"),
        );
        check(
            json!([{"op": "replace", "path": "/x", "value": 1}]),
            Err("replace operation does not apply: doc is missing key: /x: missing value"),
        );
        check(json!([{"op": "test", "path": "/c", "value": 1}]), Err("testing value /c failed: test failed"));
        check(
            json!([{"op": "add", "path": "/x/y", "value": 1}]),
            Err("add operation does not apply: doc is missing path: \"/x/y\": missing value"),
        );
        check(json!([{"op": "burn", "path": "/x"}]), Err("Unexpected kind: burn"));
        check(
            json!({}),
            Err("error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"),
        );
    }
}

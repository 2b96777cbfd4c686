//! JSON merge patch (RFC 7386).

use serde_json::Value;

use super::PatchError;

/// Changes an object: maps are merged, null removes, everything else replaces.
pub fn apply(object: &mut Value, patch: &Value) -> Result<(), PatchError> {
    if !patch.is_object() {
        return Err(PatchError::BadRequest("Invalid JSON Patch".to_owned()));
    }
    json_patch::merge(object, patch);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn maps_are_merged_and_lists_replaced() {
        let mut object = json!({"a": {"b": 1, "c": [1, 2]}, "d": 1});
        assert_eq!(apply(&mut object, &json!({"a": {"c": [3], "e": null, "f": {"g": null}}, "d": null})), Ok(()));
        assert_eq!(object, json!({"a": {"b": 1, "c": [3], "f": {}}}));
        assert!(apply(&mut object, &json!([1])).is_err());
    }
}

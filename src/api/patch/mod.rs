//! Changes to objects, as the API server applies them. All work on JSON values; what comes out is decoded, defaulted and
//! validated like any other object by whoever asked.
//!
//! - `json`: JSON patch (RFC 6902)
//! - `merge`: JSON merge patch (RFC 7386)
//! - `strategic`: strategic merge patch, applied
//! - `difference`: strategic merge patch, found from two objects as kubectl does
//! - `schema`: which lists are merged, and by which key

pub mod difference;
pub mod json;
pub mod merge;
mod schema;
pub mod strategic;

use std::fmt;

use serde_json::Value;

/// Why a patch could not be applied, by the status that the API server answers with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PatchError {
    /// 400: it is not a patch.
    BadRequest(String),
    /// 422: it is a patch and does not fit the object.
    Unprocessable(String),
    /// 500: the original has no better answer for this.
    Internal(String),
}

impl fmt::Display for PatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRequest(message) | Self::Unprocessable(message) | Self::Internal(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for PatchError {}

/// A value as Go prints it, which shows in some messages: `map[name:a ports:[80 81]]`.
fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_value).collect::<Vec<_>>().join(" ")),
        Value::Object(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{key}:{}", go_value(value))).collect();
            format!("map[{}]", entries.join(" "))
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

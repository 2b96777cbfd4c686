//! What is wrong with a field of an object, in the API server's words.
//!
//! Texts follow apimachinery, util/validation/field. Nothing here decides whether a value is right.

use serde::Serialize;
use std::fmt;

/// The place of a field inside an object, as a chain of borrowed steps: nothing is allocated until an error is reported.
#[derive(Clone, Copy, Debug)]
pub enum Path<'a> {
    /// The object itself.
    Root,
    /// A named field of the parent; the name may itself hold dots.
    Child(&'a Path<'a>, &'a str),
    /// An item of the parent, which is a list.
    Index(&'a Path<'a>, usize),
    /// An entry of the parent, which is a map.
    Key(&'a Path<'a>, &'a str),
}

impl<'a> Path<'a> {
    /// The field `name` of this one.
    pub fn child(&'a self, name: &'a str) -> Path<'a> {
        Path::Child(self, name)
    }

    /// The item at `index` of this list.
    pub fn index(&'a self, index: usize) -> Path<'a> {
        Path::Index(self, index)
    }

    /// The entry `key` of this map.
    pub fn key(&'a self, key: &'a str) -> Path<'a> {
        Path::Key(self, key)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Child(Path::Root, name) => f.write_str(name),
            Path::Child(parent, name) => write!(f, "{parent}.{name}"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
            Path::Key(parent, key) => write!(f, "{parent}[{key}]"),
        }
    }
}

/// The kind of a field error; its `Display` is the phrase the API server begins with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FieldErrorKind {
    /// A reference leads to nothing.
    NotFound,
    /// A value must be given and is not.
    Required,
    /// A value that must be unique is not.
    Duplicate,
    /// The value is malformed or out of range.
    Invalid,
    /// The value is none of those allowed.
    NotSupported,
    /// A well-formed value that is not allowed here and now.
    Forbidden,
    /// The value is too long.
    TooLong,
    /// A list has too many items.
    TooMany,
    /// A list has too few items.
    TooFew,
    /// The value has the wrong type.
    TypeInvalid,
    /// The check itself failed.
    Internal,
}

impl FieldErrorKind {
    /// The machine-readable reason of this kind in `status.details.causes`, such as `FieldValueInvalid`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TooFew => "FieldValueTooFew",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    /// Whether messages of this kind show the offending value.
    fn shows_value(self) -> bool {
        !matches!(self, Self::Required | Self::Forbidden | Self::TooLong | Self::Internal)
    }
}

impl fmt::Display for FieldErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::TooFew => "Too few",
            Self::Internal => "Internal error",
        })
    }
}

/// The offending value as it appears in a message: strings quoted, numbers bare, everything else as JSON.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadValue(String);

impl BadValue {
    /// A structured value, shown as compact JSON.
    pub fn json(value: &impl Serialize) -> BadValue {
        BadValue(serde_json::to_string(value).unwrap_or_default())
    }
}

impl From<&str> for BadValue {
    fn from(text: &str) -> Self {
        BadValue(go_quote(text))
    }
}

impl From<&String> for BadValue {
    fn from(text: &String) -> Self {
        BadValue(go_quote(text))
    }
}

impl From<i64> for BadValue {
    fn from(number: i64) -> Self {
        BadValue(number.to_string())
    }
}

impl From<i32> for BadValue {
    fn from(number: i32) -> Self {
        BadValue(number.to_string())
    }
}

impl From<bool> for BadValue {
    fn from(value: bool) -> Self {
        BadValue(value.to_string())
    }
}

/// One thing that is wrong with one field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldError {
    /// What kind of error it is.
    pub kind: FieldErrorKind,
    /// Where, as in `spec.containers[0].name`.
    pub path: String,
    /// The offending value, for the kinds that show it.
    pub value: Option<BadValue>,
    /// What was expected; may be empty.
    pub detail: String,
}

impl FieldError {
    fn new(kind: FieldErrorKind, path: &Path<'_>, value: Option<BadValue>, detail: impl Into<String>) -> FieldError {
        // apimachinery prints a path that leads nowhere as "<nil>".
        let path = match path {
            Path::Root => "<nil>".to_owned(),
            path => path.to_string(),
        };
        FieldError { kind, path, value, detail: detail.into() }
    }

    /// A value must be given and is not.
    pub fn required(path: &Path<'_>, detail: impl Into<String>) -> FieldError {
        Self::new(FieldErrorKind::Required, path, None, detail)
    }

    /// A value is malformed or out of range.
    pub fn invalid(path: &Path<'_>, value: impl Into<BadValue>, detail: impl Into<String>) -> FieldError {
        Self::new(FieldErrorKind::Invalid, path, Some(value.into()), detail)
    }

    /// A value that is not shown is malformed.
    pub fn invalid_unseen(path: &Path<'_>, detail: impl Into<String>) -> FieldError {
        Self::new(FieldErrorKind::Invalid, path, None, detail)
    }

    /// A value has the wrong type.
    pub fn type_invalid(path: &Path<'_>, value: impl Into<BadValue>, detail: impl Into<String>) -> FieldError {
        Self::new(FieldErrorKind::TypeInvalid, path, Some(value.into()), detail)
    }

    /// A well-formed value is not allowed here and now.
    pub fn forbidden(path: &Path<'_>, detail: impl Into<String>) -> FieldError {
        Self::new(FieldErrorKind::Forbidden, path, None, detail)
    }

    /// A value is none of `supported`, which is listed in the message in the order given.
    pub fn not_supported(path: &Path<'_>, value: impl Into<BadValue>, supported: &[&str]) -> FieldError {
        let quoted: Vec<String> = supported.iter().map(|value| go_quote(value)).collect();
        let detail = match quoted.is_empty() {
            true => String::new(),
            false => format!("supported values: {}", quoted.join(", ")),
        };
        Self::new(FieldErrorKind::NotSupported, path, Some(value.into()), detail)
    }

    /// A value that must be unique is not.
    pub fn duplicate(path: &Path<'_>, value: impl Into<BadValue>) -> FieldError {
        Self::new(FieldErrorKind::Duplicate, path, Some(value.into()), "")
    }

    /// A reference leads to nothing.
    pub fn not_found(path: &Path<'_>, value: impl Into<BadValue>) -> FieldError {
        Self::new(FieldErrorKind::NotFound, path, Some(value.into()), "")
    }

    /// A value is longer than `limit` bytes.
    pub fn too_long(path: &Path<'_>, limit: usize) -> FieldError {
        let unit = if limit == 1 { "byte" } else { "bytes" };
        Self::new(FieldErrorKind::TooLong, path, None, format!("may not be more than {limit} {unit}"))
    }

    /// A list of `count` items may have at most `limit`.
    pub fn too_many(path: &Path<'_>, count: usize, limit: usize) -> FieldError {
        let unit = if limit == 1 { "item" } else { "items" };
        let value = BadValue(count.to_string());
        Self::new(FieldErrorKind::TooMany, path, Some(value), format!("must have at most {limit} {unit}"))
    }

    /// The message without the path, as in `status.details.causes[].message`.
    pub fn body(&self) -> String {
        let mut text = self.kind.to_string();
        if let Some(BadValue(value)) = self.value.as_ref().filter(|_| self.kind.shows_value()) {
            text.push_str(": ");
            text.push_str(value);
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// Everything that is wrong with an object, in the order in which the API server looks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ErrorList(pub Vec<FieldError>);

impl ErrorList {
    /// No errors yet.
    pub const fn new() -> ErrorList {
        ErrorList(Vec::new())
    }

    /// Adds one error.
    pub fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    /// Adds one error of kind Invalid for each of `messages` about the same value.
    pub fn invalid_each(&mut self, path: &Path<'_>, value: &str, messages: Vec<String>) {
        self.0.extend(messages.into_iter().map(|message| FieldError::invalid(path, value, message)));
    }

    /// Adds all errors of another list.
    pub fn append(&mut self, other: ErrorList) {
        self.0.extend(other.0);
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The message of the API server's 422 answer. `kind` is the kind with its group, as in `Deployment.apps`.
    pub fn is_invalid_message(&self, kind: &str, name: &str) -> String {
        format!("{kind} {} is invalid: {self}", go_quote(name))
    }
}

/// As apimachinery's aggregate: one error bare, several in brackets, repeated messages once.
impl fmt::Display for ErrorList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown: Vec<String> = Vec::with_capacity(self.0.len());
        for error in &self.0 {
            let text = error.to_string();
            if !shown.contains(&text) {
                shown.push(text);
            }
        }
        match shown.as_slice() {
            [] => Ok(()),
            [one] => f.write_str(one),
            many => write!(f, "[{}]", many.join(", ")),
        }
    }
}

/// A string in double quotes, escaped as Go's `%q` verb does.
pub fn go_quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => quoted.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_the_api_server() {
        let spec = Path::Root.child("spec");
        let containers = spec.child("containers");
        let first = containers.index(0);
        let name = first.child("name");
        let labels = Path::Root.child("metadata.labels");
        let shown: Vec<String> = [
            FieldError::required(&name, ""),
            FieldError::invalid(&spec.child("replicas"), -1, "must be greater than or equal to 0"),
            FieldError::not_supported(&spec.child("restartPolicy"), "x", &["Always", "Never"]),
            FieldError::duplicate(&name, "a\"b"),
            FieldError::too_long(&labels.key("a"), 63),
            FieldError::forbidden(&spec, "no"),
            FieldError::invalid(&spec.child("selector"), BadValue::json(&vec![1]), "x"),
        ]
        .iter()
        .map(ToString::to_string)
        .collect();
        assert_eq!(
            shown,
            [
                "spec.containers[0].name: Required value",
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.restartPolicy: Unsupported value: \"x\": supported values: \"Always\", \"Never\"",
                "spec.containers[0].name: Duplicate value: \"a\\\"b\"",
                "metadata.labels[a]: Too long: may not be more than 63 bytes",
                "spec: Forbidden: no",
                "spec.selector: Invalid value: [1]: x",
            ]
        );
    }

    #[test]
    fn several_errors_stand_in_brackets_and_each_once() {
        let name = Path::Root.child("name");
        let mut list = ErrorList::new();
        list.push(FieldError::required(&name, ""));
        assert_eq!(list.is_invalid_message("Pod", "a"), "Pod \"a\" is invalid: name: Required value");
        list.push(FieldError::required(&name, ""));
        list.push(FieldError::forbidden(&name, ""));
        assert_eq!(
            list.is_invalid_message("Deployment.apps", "a"),
            "Deployment.apps \"a\" is invalid: [name: Required value, name: Forbidden]"
        );
    }
}

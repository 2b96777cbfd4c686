//! Selection by a few fields that a resource offers. Grammar and error texts follow apimachinery, fields/selector.

use std::borrow::Cow;
use std::fmt;

use crate::api::validation::error::go_quote;

/// One field that must, or must not, have a value. A field that is absent has the empty value.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FieldTerm {
    /// The field, as in `spec.nodeName`.
    pub field: String,
    /// The value compared with.
    pub value: String,
    /// Whether the field must have the value (true) or must not (false).
    pub equal: bool,
}

/// A set of terms, all of which must hold.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// From text, as in `spec.nodeName=a,status.phase!=Failed`.
    pub fn parse(text: &str) -> Result<FieldSelector, String> {
        let mut parts = split_terms(text);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let Some((field, equal, value)) = split_term(part) else {
                return Err(format!("invalid selector: '{text}'; can't understand '{part}'"));
            };
            terms.push(FieldTerm { field: field.to_owned(), value: unescape(value)?.into_owned(), equal });
        }
        Ok(FieldSelector { terms })
    }

    /// Refuses fields by which objects of a kind cannot be selected, and renames old ones, as the API server does when
    /// it reads the selector of a list or a watch.
    pub fn for_kind(mut self, kind: &str) -> Result<FieldSelector, String> {
        for term in &mut self.terms {
            if kind == "Pod" && term.field == "spec.host" {
                term.field = "spec.nodeName".to_owned();
            }
            match supported(kind) {
                Some(fields) if fields.contains(&term.field.as_str()) => {}
                Some(_) => return Err(format!("field label not supported: {}", term.field)),
                None if matches!(term.field.as_str(), "metadata.name" | "metadata.namespace") => {}
                None => {
                    let field = go_quote(&term.field);
                    return Err(format!(
                        "{field} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                    ));
                }
            }
        }
        Ok(self)
    }

    /// Whether an object matches; `field` gives the value of each field, empty where it is absent.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> Cow<'a, str>) -> bool {
        self.terms.iter().all(|term| (field(&term.field) == term.value) == term.equal)
    }

    /// Whether every object matches.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The terms.
    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    /// The one value that a field must have, if the terms say so: lets an index answer.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.equal && term.field == field).map(|term| term.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, term) in self.terms.iter().enumerate() {
            let comma = if position > 0 { "," } else { "" };
            let sign = if term.equal { "=" } else { "!=" };
            let value = term.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{comma}{}{sign}{value}", term.field)?;
        }
        Ok(())
    }
}

/// The fields by which a kind can be selected, where it offers more than name and namespace.
fn supported(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "Pod" => &[
            "metadata.name",
            "metadata.namespace",
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        "Node" => &["metadata.name", "spec.unschedulable"],
        "Namespace" => &["status.phase", "metadata.name"],
        "Secret" => &["type", "metadata.namespace", "metadata.name"],
        "Service" => &["metadata.namespace", "metadata.name", "spec.clusterIP", "spec.type"],
        "Event" => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
            "metadata.namespace",
            "metadata.name",
        ],
        _ => return None,
    })
}

/// Parts between commas that no backslash precedes.
fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (position, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                terms.push(&text[start..position]);
                start = position + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// Field, whether it must be equal, and the value as written.
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let bytes = term.as_bytes();
    let at = (0..bytes.len()).find(|&at| bytes[at] == b'=' || bytes[at..].starts_with(b"!="))?;
    let (field, rest) = term.split_at(at);
    let (equal, value) = match (rest.strip_prefix("!="), rest.strip_prefix("==")) {
        (Some(value), _) => (false, value),
        (None, Some(value)) => (true, value),
        (None, None) => (true, rest.strip_prefix('=')?),
    };
    Some((field, equal, value))
}

fn unescape(text: &str) -> Result<Cow<'_, str>, String> {
    if !text.contains(['\\', ',', '=']) {
        return Ok(Cow::Borrowed(text));
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => plain.push(escaped),
                Some(other) => return Err(format!("invalid field selector: invalid escape sequence: \\{other}")),
                None => return Err("invalid field selector: invalid escape sequence: \\".to_owned()),
            },
            // The original prints the character as a number.
            ',' | '=' => {
                return Err(format!("invalid field selector: unescaped character in value: {}", character as u32));
            }
            other => plain.push(other),
        }
    }
    Ok(Cow::Owned(plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(kind: &str, text: &str, expected: Result<&str, &str>) {
        let found = FieldSelector::parse(text).and_then(|selector| selector.for_kind(kind));
        assert_eq!(
            found.map(|selector| selector.to_string()),
            expected.map(str::to_owned).map_err(str::to_owned),
            "{text}"
        );
    }

    #[test]
    fn field_selectors_read_as_the_api_server_reads_them() {
        check("Pod", "", Ok(""));
        check("Pod", "status.phase!=Failed,spec.nodeName==a", Ok("spec.nodeName=a,status.phase!=Failed"));
        check("Pod", "spec.host=a", Ok("spec.nodeName=a"));
        check("Pod", "metadata.name=a\\,b", Ok("metadata.name=a\\,b"));
        check("Pod", "spec.foo=a", Err("field label not supported: spec.foo"));
        check(
            "ConfigMap",
            "spec.foo=a",
            Err("\"spec.foo\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""),
        );
        check("Pod", "metadata.name", Err("invalid selector: 'metadata.name'; can't understand 'metadata.name'"));
        check("Pod", "metadata.name=a=b", Err("invalid field selector: unescaped character in value: 61"));
        check("Pod", "metadata.name=a\\b", Err("invalid field selector: invalid escape sequence: \\b"));
    }

    #[test]
    fn an_absent_field_is_empty() {
        let node = |text: &str| FieldSelector::parse(text).map(|selector| selector.matches(|_| Cow::Borrowed("")));
        assert_eq!(
            [node("spec.nodeName="), node("spec.nodeName!=a"), node("spec.nodeName=a")],
            [Ok(true), Ok(true), Ok(false)]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_field_selector_or_an_error(text in "[a-c!=,\\\\.]{0,16}|.{0,16}") {
            if let Ok(selector) = FieldSelector::parse(&text) {
                prop_assert!(FieldSelector::parse(&selector.to_string()).is_ok());
            }
        }
    }
}

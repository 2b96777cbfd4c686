//! Files of Kubernetes objects: reading them, and saying precisely what is wrong with them.
//!
//! Everything wrong is reported at once, each with file, line, column, the line itself and what was expected. Nothing
//! here looks at a file system.

use std::fmt;
use std::rc::Rc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::strict;
use super::validation::error::{ErrorList, FieldErrorKind};
use super::yaml::{self, Complaint, Duplicates, Mark, Places};

/// Something wrong in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The file as the user named it.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// The offending line.
    pub source_line: String,
    /// Characters of the line that are meant, from `column` on; at least one.
    pub width: usize,
    /// What is wrong.
    pub message: String,
    /// What was expected instead, where that helps.
    pub expected: Option<String>,
}

impl Problem {
    /// The problem with the offending line and a mark under it. With colours if `styled`.
    pub fn render(&self, styled: bool) -> String {
        self.report(Level::ERROR, styled)
    }

    /// The same, called a warning.
    pub fn render_warning(&self, styled: bool) -> String {
        self.report(Level::WARNING, styled)
    }

    fn report(&self, level: Level<'_>, styled: bool) -> String {
        let from = byte_of(&self.source_line, self.column.saturating_sub(1));
        let to = byte_of(&self.source_line, self.column.saturating_sub(1) + self.width);
        let mut mark = AnnotationKind::Primary.span(from..to);
        if let Some(expected) = &self.expected {
            mark = mark.label(expected.as_str());
        }
        let snippet = Snippet::source(self.source_line.as_str()).line_start(self.line).path(self.file.as_str());
        let group = level.primary_title(self.message.as_str()).element(snippet.annotation(mark));
        let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }
}

/// Byte offset of the character at `index`, at most the end of the line.
fn byte_of(line: &str, index: usize) -> usize {
    line.char_indices().nth(index).map_or(line.len(), |(offset, _)| offset)
}

/// On one line, as compilers do: `app.yml:3:5: message`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        match &self.expected {
            Some(expected) => write!(f, " ({expected})"),
            None => Ok(()),
        }
    }
}

/// A file's name and text, shared by its documents.
#[derive(Debug)]
pub struct Source {
    file: String,
    text: String,
}

impl Source {
    /// A text and the name under which the user knows it.
    pub fn new(file: impl Into<String>, text: impl Into<String>) -> Source {
        Source { file: file.into(), text: text.into() }
    }

    /// A problem at a place of the text.
    pub fn problem(&self, at: Mark, message: impl Into<String>, expected: Option<String>) -> Problem {
        let source_line = self.text.lines().nth(at.line.saturating_sub(1)).unwrap_or_default();
        let marked = self.text.get(at.start..at.end).and_then(|text| text.lines().next()).unwrap_or_default();
        Problem {
            file: self.file.clone(),
            line: at.line.max(1),
            column: at.column.max(1),
            // Characters that a terminal would obey, or not show at all, are not repeated.
            source_line: source_line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
            width: marked.trim_end().chars().count().max(1),
            message: message.into(),
            expected,
        }
    }

    fn complaints(&self, complaints: Vec<Complaint>) -> Vec<Problem> {
        complaints.into_iter().map(|complaint| self.problem(complaint.at, complaint.message, None)).collect()
    }
}

/// One document of a file, not looked into: the form in which scenario files are read.
#[derive(Clone, Debug)]
pub struct Part {
    /// What it says.
    pub value: Value,
    source: Rc<Source>,
    places: Rc<Places>,
}

/// One Kubernetes object of a file, not yet decoded.
#[derive(Clone, Debug)]
pub struct Document {
    /// Group and version, such as `apps/v1`.
    pub api_version: String,
    /// The kind, such as `Deployment`.
    pub kind: String,
    /// The object and where it stands.
    pub part: Part,
    /// What should be told about the document and does no harm, such as keys given twice.
    pub warnings: Vec<Problem>,
}

impl Part {
    /// A problem with the value of a field, written as in the API server's messages. If the field is not there,
    /// the nearest thing around it is shown.
    pub fn problem(&self, field: &str, message: impl Into<String>, expected: Option<String>) -> Problem {
        self.source.problem(self.places.field(field).value, message, expected)
    }

    /// The same, with the field's key shown rather than its value.
    pub fn key_problem(&self, field: &str, message: impl Into<String>, expected: Option<String>) -> Problem {
        let places = self.places.field(field);
        self.source.problem(places.key.unwrap_or(places.value), message, expected)
    }

    /// Decodes the value as kubectl and the API server do with strict validation.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Vec<Problem>> {
        let decoded = strict::decode::<T>(&self.value);
        let mut problems: Vec<Problem> = Vec::new();
        for field in &decoded.unknown {
            let message = strict::unknown_fields_message(std::slice::from_ref(field));
            problems.push(self.key_problem(field, message, None));
        }
        let object = match decoded.object {
            Ok(object) if problems.is_empty() => return Ok(object),
            Ok(_) => Vec::new(),
            Err(mismatches) => mismatches,
        };
        for mismatch in object {
            let expected = mismatch.expected.map(|expected| format!("expected {expected}"));
            problems.push(self.problem(&mismatch.field, mismatch.message, expected));
        }
        problems.sort_by_key(|problem| (problem.line, problem.column));
        Err(problems)
    }

    /// Where the errors of validation stand in the file.
    pub fn refused(&self, errors: &ErrorList) -> Vec<Problem> {
        let errors = errors.0.iter();
        errors
            .map(|error| match error.kind {
                FieldErrorKind::Required | FieldErrorKind::Forbidden => {
                    self.key_problem(&error.path, error.to_string(), None)
                }
                _ => self.problem(&error.path, error.to_string(), None),
            })
            .collect()
    }

    /// A value that stands in a field of this one, as a part of its own.
    pub fn inside(&self, field: &str, value: Value) -> Part {
        let places = Rc::new(self.places.field(field).clone());
        Part { value, source: Rc::clone(&self.source), places }
    }

    /// An item of a list inside this value, as a part of its own.
    fn item(&self, list: &str, index: usize, value: Value) -> Part {
        let places = self.places.pointer(list).item(index).cloned().unwrap_or_else(|| Rc::clone(&self.places));
        Part { value, source: Rc::clone(&self.source), places }
    }
}

/// Reads the documents of a scenario file: a key given twice is an error.
pub fn read_parts(file: &str, text: &str) -> Result<Vec<Part>, Vec<Problem>> {
    let source = Rc::new(Source::new(file, text));
    let parsed = yaml::parse(text, Duplicates::Refuse);
    if !parsed.errors.is_empty() {
        return Err(source.complaints(parsed.errors));
    }
    let part =
        |document: yaml::Document| Part { value: document.value, source: Rc::clone(&source), places: document.places };
    Ok(parsed.documents.into_iter().map(part).collect())
}

/// Reads the object that a part of a scenario file is. A list is taken apart into its items.
pub fn read_objects(part: Part) -> Result<Vec<Document>, Vec<Problem>> {
    let (mut documents, mut problems) = (Vec::new(), Vec::new());
    part_objects(part, None, &mut documents, &mut problems);
    if problems.is_empty() { Ok(documents) } else { Err(problems) }
}

/// Reads the objects of a manifest. Lists are taken apart into their items.
pub fn read(file: &str, text: &str) -> Result<Vec<Document>, Vec<Problem>> {
    let source = Rc::new(Source::new(file, text));
    let parsed = yaml::parse(text, Duplicates::LastWins);
    let mut problems = source.complaints(parsed.errors);
    let mut documents = Vec::new();
    for document in parsed.documents {
        let part = Part { value: document.value, source: Rc::clone(&source), places: document.places };
        part_objects(part, None, &mut documents, &mut problems);
    }
    if !problems.is_empty() {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        return Err(problems);
    }
    // A warning belongs to the document in which it stands: the last one that begins before it.
    for warning in source.complaints(parsed.warnings) {
        let begins_before = |document: &&mut Document| document.part.places.value.line <= warning.line;
        if let Some(document) = documents.iter_mut().rfind(begins_before) {
            document.warnings.push(warning);
        }
    }
    Ok(documents)
}

/// Adds the object that a part is, or the objects of the list that it is. Items of a typed list such as `PodList` may
/// leave out what the list says.
fn part_objects(part: Part, item_of: Option<(&str, &str)>, documents: &mut Vec<Document>, problems: &mut Vec<Problem>) {
    let Value::Object(entries) = &part.value else {
        let message = "json: cannot unmarshal this into Go value of type map[string]interface {}";
        problems.push(part.problem("", message, Some("expected a Kubernetes object".to_owned())));
        return;
    };
    let text = |name: &str, inherited: Option<&str>| match entries.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        None | Some(Value::Null) => inherited.map(str::to_owned),
        Some(_) => None,
    };
    let api_version = text("apiVersion", item_of.map(|(api_version, _)| api_version));
    let kind = text("kind", item_of.map(|(_, kind)| kind));
    for (name, found) in [("apiVersion", &api_version), ("kind", &kind)] {
        if found.is_none() {
            let expected = format!("expected {name} to be a text that is not empty");
            problems.push(part.problem(name, format!("{name} not set"), Some(expected)));
        }
    }
    let (Some(api_version), Some(kind)) = (api_version, kind) else { return };
    match (kind.strip_suffix("List"), entries.get("items")) {
        (Some(item_kind), Some(Value::Array(items))) => {
            let inherited = (!item_kind.is_empty()).then_some((api_version.as_str(), item_kind));
            for (index, item) in items.iter().enumerate() {
                part_objects(part.item("/items", index, item.clone()), inherited, documents, problems);
            }
        }
        (Some(""), None | Some(Value::Null)) => {}
        _ => {
            let mut part = part;
            if let Value::Object(entries) = &mut part.value {
                entries.insert("apiVersion".to_owned(), Value::from(api_version.as_str()));
                entries.insert("kind".to_owned(), Value::from(kind.as_str()));
            }
            documents.push(Document { api_version, kind, part, warnings: Vec::new() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::Pod;
    use proptest::prelude::*;

    fn check(text: &str, expected: Result<&[&str], &[&str]>) {
        let found = read("app.yml", text);
        let found = found.map(|documents| documents.into_iter().map(|document| document.kind).collect::<Vec<_>>());
        let found = found.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>());
        let strings = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        assert_eq!(found, expected.map(strings).map_err(strings), "{text}");
    }

    #[test]
    fn manifests_are_read_document_by_document_and_lists_taken_apart() {
        check("apiVersion: v1\nkind: Pod\n---\napiVersion: apps/v1\nkind: Deployment\n", Ok(&["Pod", "Deployment"]));
        check(
            "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod}\n- {apiVersion: v1, kind: Node}\n",
            Ok(&["Pod", "Node"]),
        );
        check("{\"apiVersion\": \"v1\", \"kind\": \"PodList\", \"items\": [{\"metadata\": {}}]}", Ok(&["Pod"]));
        check("", Ok(&[]));
        check(
            "kind: Pod\n---\n- a\n---\napiVersion: v1\nkind: [a\n---\nb: \"\n",
            Err(&[
                "app.yml:1:1: apiVersion not set (expected apiVersion to be a text that is not empty)",
                "app.yml:3:1: json: cannot unmarshal this into Go value of type map[string]interface {} (expected a Kubernetes object)",
                "app.yml:6:7: unclosed bracket '['",
                "app.yml:9:1: invalid indentation in multiline quoted scalar",
            ]),
        );
    }

    #[test]
    fn a_key_given_twice_is_a_warning_of_its_document() {
        let text = "apiVersion: v1\nkind: Pod\n---\napiVersion: v1\nkind: Node\nkind: Pod\n";
        let documents = read("app.yml", text).unwrap_or_default();
        let warnings: Vec<usize> = documents.iter().map(|document| document.warnings.len()).collect();
        assert_eq!(warnings, [0, 1]);
        assert_eq!(documents[1].warnings[0].to_string(), "app.yml:6:1: key \"kind\" already set in map");
        assert_eq!(read_parts("s.yml", "a: 1\na: 2\nb: 1\nb: 2\n").map_err(|problems| problems.len()).err(), Some(2));
    }

    #[test]
    fn everything_wrong_with_a_document_is_shown_with_its_line() {
        let text = "apiVersion: apps/v1\nkind: Deployment\nspec:\n  replicas: three\n  template:\n    spec:\n      containers:\n      - name: web\n        image: y\n        imagee: nginx\n";
        let documents = read("app.yml", text).unwrap_or_default();
        let problems = documents[0].part.decode::<Deployment>().err().unwrap_or_default();
        let shown: Vec<String> = problems.iter().map(|problem| problem.render(false)).collect();
        assert_eq!(
            shown.join("\n\n"),
            "error: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32
 --> app.yml:4:13
  |
4 |   replicas: three
  |             ^^^^^ expected int32

error: json: cannot unmarshal bool into Go struct field Container.spec.template.spec.containers.image of type string
 --> app.yml:9:16
  |
9 |         image: y
  |                ^ expected string

error: strict decoding error: unknown field \"spec.template.spec.containers[0].imagee\"
  --> app.yml:10:9
   |
10 |         imagee: nginx
   |         ^^^^^^"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_and_shown(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let text = String::from_utf8_lossy(&bytes);
            for problem in read("x", &text).err().unwrap_or_default() {
                prop_assert!(!problem.render(false).is_empty());
            }
        }

        #[test]
        fn any_spec_is_decoded_or_refused_and_shown(spec in "[-a-z:{}\\[\\] \n,]{0,60}") {
            let text = format!("apiVersion: v1\nkind: Pod\nspec: {{{spec}}}\n");
            for document in read("x", &text).unwrap_or_default() {
                for problem in document.part.decode::<Pod>().err().unwrap_or_default() {
                    prop_assert!(!problem.render(false).is_empty());
                }
            }
        }
    }
}

//! YAML and JSON text to JSON values, each knowing where in the text it stands. The only place that knows a YAML crate.
//!
//! Scalars are read as kubectl reads them (YAML 1.1, after go-yaml version 2): `y`, `yes` and `on` are true, `0644` is
//! octal, timestamps stay text, `<<` merges. No tag makes an object, nothing is included from elsewhere.
//!
//! - `places`: where values stand
//! - `scalar`: what scalars mean

mod places;
mod scalar;

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value};
use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, ScanError, Span};

use self::places::Inside;
pub use self::places::{Mark, Places};
use self::scalar::resolve;

/// What to do where a mapping names a key twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Duplicates {
    /// An error, as for scenario files.
    Refuse,
    /// The last one counts and a warning is given, as for manifests.
    LastWins,
}

/// One document of a text.
#[derive(Clone, Debug)]
pub struct Document {
    /// What it says.
    pub value: Value,
    /// Where it says it.
    pub places: Rc<Places>,
}

/// Something wrong at a place of the text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Complaint {
    /// Where.
    pub at: Mark,
    /// What.
    pub message: String,
}

/// What could be read of a text. Documents after a malformed one are still read.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// The documents that are not empty, in order.
    pub documents: Vec<Document>,
    /// What makes the text unacceptable.
    pub errors: Vec<Complaint>,
    /// What should be told and does no harm.
    pub warnings: Vec<Complaint>,
}

/// Values that aliases may repeat in one text; without them a text cannot hold more values than it is long.
const ALIAS_LIMIT: usize = 1_000_000;
/// How deep values may be nested.
const DEPTH_LIMIT: usize = 200;

/// Reads all documents of a text.
pub fn parse(text: &str, duplicates: Duplicates) -> Parsed {
    let options = granit_parser::options! {
        emit_comments: false,
        simple_key_max_lookahead: 16 * 1024,
    };
    let mut builder = Builder {
        parsed: Parsed::default(),
        duplicates,
        open: Vec::new(),
        anchors: BTreeMap::new(),
        root: None,
        alias_budget: ALIAS_LIMIT,
        text,
    };
    let mut parser = Parser::new_from_str_with_options(text, options);
    loop {
        let failure = match parser.next_event() {
            None => break,
            Some(Ok((event, span))) => match builder.event(event, span) {
                Ok(()) => continue,
                Err(complaint) => complaint,
            },
            Some(Err(error)) => scan_complaint(&error, text),
        };
        builder.abandon(failure);
        match parser.proceed_next_document() {
            Ok(true) => {}
            Ok(false) | Err(_) => break,
        }
    }
    builder.parsed
}

fn scan_complaint(error: &ScanError, text: &str) -> Complaint {
    let marker = error.marker();
    let start = marker.byte_offset().unwrap_or(text.len()).min(text.len());
    let at = Mark { line: marker.line(), column: marker.col() + 1, start, end: start };
    Complaint { at, message: error.kind().to_string() }
}

fn mark_of(span: &Span, text: &str) -> Mark {
    let start = span.start.byte_offset().unwrap_or(0).min(text.len());
    let end = span.end.byte_offset().unwrap_or(start).clamp(start, text.len());
    Mark { line: span.start.line(), column: span.start.col() + 1, start, end }
}

/// A value that is complete, with the number of values in it and their depth.
#[derive(Clone)]
struct Node {
    value: Value,
    places: Places,
    size: usize,
    depth: usize,
}

/// A collection that is being read.
struct Open {
    anchor: usize,
    node: Node,
    kind: OpenKind,
}

enum OpenKind {
    Items,
    /// The key whose value comes next, and what merges (`<<`) bring.
    Entries {
        key: Option<(Key, Mark)>,
        merged: Vec<Node>,
    },
}

enum Key {
    Plain(String),
    Merge,
}

struct Builder<'t> {
    parsed: Parsed,
    duplicates: Duplicates,
    open: Vec<Open>,
    /// None while the anchored collection is still being read.
    anchors: BTreeMap<usize, Option<Node>>,
    root: Option<Node>,
    alias_budget: usize,
    text: &'t str,
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Complaint> {
        let at = mark_of(&span, self.text);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = resolve(&text, style, tag.as_deref()).map_err(|message| Complaint { at, message })?;
                let merge = style == ScalarStyle::Plain && tag.is_none() && text == "<<";
                self.finish(Node::leaf(scalar, at), anchor, merge)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(Value::Array(Vec::new()), at, anchor, OpenKind::Items),
            Event::MappingStart(_, anchor, _) => {
                let kind = OpenKind::Entries { key: None, merged: Vec::new() };
                self.begin(Value::Object(Map::new()), at, anchor, kind)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let mut node = open.node;
                if let OpenKind::Entries { merged, .. } = open.kind {
                    merged.into_iter().for_each(|source| node.merge(source));
                }
                node.places.value.end = at.end.max(node.places.value.end);
                self.finish(node, open.anchor, false)
            }
            Event::Alias(anchor) => self.alias(anchor, at),
            Event::DocumentStart(..) => {
                self.anchors.clear();
                Ok(())
            }
            Event::DocumentEnd => {
                if let Some(root) = self.root.take().filter(|root| !root.value.is_null()) {
                    self.parsed.documents.push(Document { value: root.value, places: Rc::new(root.places) });
                }
                Ok(())
            }
            Event::StreamStart | Event::StreamEnd => Ok(()),
            _ => Err(Complaint { at, message: "this YAML construct is not supported".to_owned() }),
        }
    }

    /// Forgets the document in which something was wrong.
    fn abandon(&mut self, complaint: Complaint) {
        self.parsed.errors.push(complaint);
        self.open.clear();
        self.anchors.clear();
        self.root = None;
    }

    fn begin(&mut self, value: Value, at: Mark, anchor: usize, kind: OpenKind) -> Result<(), Complaint> {
        if self.open.len() >= DEPTH_LIMIT {
            return Err(Complaint { at, message: format!("values are nested more than {DEPTH_LIMIT} deep") });
        }
        if anchor != 0 {
            self.anchors.insert(anchor, None);
        }
        self.open.push(Open { anchor, node: Node::leaf(value, at), kind });
        Ok(())
    }

    fn alias(&mut self, anchor: usize, at: Mark) -> Result<(), Complaint> {
        let refuse = |message: &str| Err(Complaint { at, message: message.to_owned() });
        match self.anchors.get(&anchor) {
            None => refuse("unknown anchor"),
            Some(None) => refuse("an anchor must not contain itself"),
            Some(Some(node)) if node.size > self.alias_budget => refuse("aliases expand to too many values"),
            Some(Some(node)) => {
                let node = node.clone();
                self.alias_budget -= node.size;
                self.finish(node, 0, false)
            }
        }
    }

    /// Puts a complete value where it belongs. `merge` says that it is the plain scalar `<<`.
    fn finish(&mut self, node: Node, anchor: usize, merge: bool) -> Result<(), Complaint> {
        let at = node.places.value;
        if self.open.len() + node.depth > DEPTH_LIMIT {
            return Err(Complaint { at, message: format!("values are nested more than {DEPTH_LIMIT} deep") });
        }
        if anchor != 0 {
            self.anchors.insert(anchor, Some(node.clone()));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        let OpenKind::Entries { key, merged } = &mut open.kind else {
            open.node.push(node);
            return Ok(());
        };
        match key.take() {
            None if merge => *key = Some((Key::Merge, at)),
            None => *key = Some((Key::Plain(key_text(&node.value).map_err(|message| Complaint { at, message })?), at)),
            Some((Key::Merge, _)) => merge_sources(node, merged).map_err(|message| Complaint { at, message })?,
            Some((Key::Plain(name), key_at)) => {
                if open.node.insert(name.clone(), key_at, node) {
                    let message = format!("key {name:?} already set in map");
                    match self.duplicates {
                        // The rest of the document is still read, so that everything wrong is reported at once.
                        Duplicates::Refuse => self.parsed.errors.push(Complaint { at: key_at, message }),
                        Duplicates::LastWins => self.parsed.warnings.push(Complaint { at: key_at, message }),
                    }
                }
            }
        }
        Ok(())
    }
}

impl Node {
    fn leaf(value: Value, at: Mark) -> Node {
        Node { value, places: Places { key: None, value: at, inside: Inside::Nothing }, size: 1, depth: 1 }
    }

    fn grow(&mut self, part: &Node) {
        self.size += part.size;
        self.depth = self.depth.max(part.depth + 1);
        self.places.value.end = self.places.value.end.max(part.places.value.end);
    }

    fn push(&mut self, item: Node) {
        self.grow(&item);
        let Value::Array(items) = &mut self.value else { return };
        items.push(item.value);
        let place = Rc::new(item.places);
        match &mut self.places.inside {
            Inside::Items(places) => places.push(place),
            other => *other = Inside::Items(vec![place]),
        }
    }

    /// Sets an entry; true if it was set before.
    fn insert(&mut self, name: String, key_at: Mark, item: Node) -> bool {
        self.grow(&item);
        let Value::Object(entries) = &mut self.value else { return false };
        let place = Rc::new(Places { key: Some(key_at), ..item.places });
        match &mut self.places.inside {
            Inside::Entries(places) => {
                places.insert(name.clone(), place);
            }
            other => *other = Inside::Entries(BTreeMap::from([(name.clone(), place)])),
        }
        entries.insert(name, item.value).is_some()
    }

    /// Adds the entries of another mapping that this one does not have.
    fn merge(&mut self, source: Node) {
        self.size += source.size;
        self.depth = self.depth.max(source.depth);
        let (Value::Object(entries), Value::Object(others)) = (&mut self.value, source.value) else { return };
        if let Inside::Nothing = self.places.inside {
            self.places.inside = Inside::Entries(BTreeMap::new());
        }
        let (Inside::Entries(places), Inside::Entries(origins)) = (&mut self.places.inside, source.places.inside)
        else {
            return;
        };
        for (name, value) in others {
            if entries.contains_key(&name) {
                continue;
            }
            if let Some(origin) = origins.get(&name) {
                places.insert(name.clone(), Rc::clone(origin));
            }
            entries.insert(name, value);
        }
    }
}

/// What `<<` brings: a mapping or a list of mappings.
fn merge_sources(node: Node, merged: &mut Vec<Node>) -> Result<(), String> {
    let refused = || Err("map merge requires map or sequence of maps as the value".to_owned());
    let Node { value, places, size, depth } = node;
    match (value, &places.inside) {
        (value @ Value::Object(_), _) => merged.push(Node { value, places, size, depth }),
        (Value::Array(items), Inside::Items(item_places)) => {
            for (value, place) in items.into_iter().zip(item_places) {
                if !value.is_object() {
                    return refused();
                }
                merged.push(Node { value, places: Places::clone(place), size: 1, depth });
            }
        }
        (Value::Array(_), _) => {}
        _ => return refused(),
    }
    Ok(())
}

/// The name that a key has in JSON.
fn key_text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null => Err("a key must not be null".to_owned()),
        Value::Array(_) | Value::Object(_) => Err("a key must be a scalar".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn check(text: &str, expected: &[Value]) {
        let parsed = parse(text, Duplicates::LastWins);
        assert_eq!(parsed.errors, [], "{text}");
        let values: Vec<Value> = parsed.documents.into_iter().map(|document| document.value).collect();
        assert_eq!(values, expected, "{text}");
    }

    #[test]
    fn scalars_are_read_as_kubectl_reads_them() {
        check("[y, yes, on, True, n, No, off, yEs]", &[json!([true, true, true, true, false, false, false, "yEs"])]);
        check("[0644, 0o17, 0x1f, 0b11, 08, 1_000, +5, -3]", &[json!([420, 15, 31, 3, 8, 1000, 5, -3])]);
        check(
            "[1.5, 3.0, 1e3, .5, 1., 1.2.3, 1e, 18446744073709551615]",
            &[json!([1.5, 3, 1000, 0.5, 1, "1.2.3", "1e", u64::MAX])],
        );
        check(
            "[2024-01-02, '5', \"y\", !!str 5, !!int '7', ~, null, 12:30]",
            &[json!(["2024-01-02", "5", "y", "5", 7, null, null, "12:30"])],
        );
        check("a: |\n  x\n  y\nb: >-\n  x\n  y\n", &[json!({"a": "x\ny\n", "b": "x y"})]);
        check("on: 1\n2: b\n", &[json!({"true": 1, "2": "b"})]);
    }

    #[test]
    fn documents_aliases_and_merges() {
        check("---\na: 1\n---\n# nothing\n---\nb: 2\n...\n", &[json!({"a": 1}), json!({"b": 2})]);
        check(
            "base: &b {x: 1, y1: 2}\nd:\n  <<: *b\n  x: 3\n",
            &[json!({"base": {"x": 1, "y1": 2}, "d": {"x": 3, "y1": 2}})],
        );
        check("a: &a [1]\nb: *a\n", &[json!({"a": [1], "b": [1]})]);
        check(
            "{\n\t\"a\": \"\\u00e9\\/\",\n\t\"b\": [1, {\"c\": null}]\n}\n",
            &[json!({"a": "é/", "b": [1, {"c": null}]})],
        );
        check("", &[]);
    }

    #[test]
    fn every_value_knows_where_it_stands() {
        let text = "kind: X\nspec:\n  containers:\n  - name: a\n    image: b\n  labels:\n    a.b/c: d\n";
        let parsed = parse(text, Duplicates::Refuse);
        let place = |path: &str| {
            let places = parsed.documents[0].places.field(path);
            (places.value.line, places.value.column, &text[places.value.start..places.value.end])
        };
        assert_eq!(place("spec.containers[0].image"), (5, 12, "b"));
        assert_eq!(place("spec.labels[a.b/c]"), (7, 12, "d"));
        assert_eq!(place("spec.labels.a.b/c"), (7, 12, "d"));
        assert_eq!(place("kind.none.at.all"), (1, 7, "X"));
        let found = parsed.documents[0].places.pointer("/spec/labels/a.b~1c");
        assert_eq!((found.key.map(|key| (key.line, key.column)), found.value.line), (Some((7, 5)), 7));
    }

    fn check_errors(text: &str, duplicates: Duplicates, expected: &[(usize, usize, &str)]) {
        let parsed = parse(text, duplicates);
        let found: Vec<(usize, usize, &str)> =
            parsed.errors.iter().map(|error| (error.at.line, error.at.column, error.message.as_str())).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn what_is_malformed_is_told_with_its_place_and_the_rest_is_read() {
        check_errors("a: 1\na: 2\n", Duplicates::Refuse, &[(2, 1, "key \"a\" already set in map")]);
        check_errors("a: &a [*a]\n", Duplicates::Refuse, &[(1, 8, "an anchor must not contain itself")]);
        check_errors("a: .nan\n", Duplicates::Refuse, &[(1, 4, ".nan cannot be said in JSON")]);
        check_errors(
            "{<<: 1}",
            Duplicates::Refuse,
            &[(1, 6, "map merge requires map or sequence of maps as the value")],
        );
        let parsed = parse("a: [1\n---\nb: 2\n---\nc: .inf\n", Duplicates::Refuse);
        assert_eq!((parsed.errors.len(), parsed.documents.len()), (2, 1));
        let parsed = parse("a: 1\na: 2\n", Duplicates::LastWins);
        assert_eq!((parsed.warnings.len(), &parsed.documents[0].value), (1, &json!({"a": 2})));
    }

    #[test]
    fn aliases_cannot_expand_without_end() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let alias = format!("*a{}", level - 1);
            text.push_str(&format!("a{level}: &a{level} [{}]\n", vec![alias; 10].join(", ")));
        }
        assert_eq!(parse(&text, Duplicates::Refuse).errors.len(), 1);
        assert_eq!(parse(&"[".repeat(10_000), Duplicates::Refuse).errors.len(), 1);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[-a:&*<>|{}\\[\\], \n#'\"?!%@y0.\t]{0,60}|\\PC{0,40}") {
            let parsed = parse(&text, Duplicates::LastWins);
            for complaint in parsed.errors.iter().chain(&parsed.warnings) {
                prop_assert!(text.get(complaint.at.start..complaint.at.end).is_some());
            }
        }
    }
}

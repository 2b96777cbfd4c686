//! From values to the data of a scenario file: everything that does not fit, each with its place and what was expected.
//!
//! Decoding stops at the first thing that does not fit. So that what follows is looked at too, that thing is replaced by
//! something that does fit, and decoding begins anew, until nothing is left to complain about.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::{Path, Segment};

use crate::api::manifest::{Part, Problem};

/// Things reported for one file; something that is no scenario at all would otherwise flood the reader.
const LIMIT: usize = 50;

/// What decoding brought.
#[derive(Debug)]
pub struct Decoded<T> {
    /// The data, if what did not fit could be replaced; nothing must be done with it but look for more that is wrong.
    pub value: Option<T>,
    /// What does not fit.
    pub problems: Vec<Problem>,
    /// The parts of the file in which something was replaced, as `steps[3]`: about them nothing more can be said.
    pub replaced: Vec<String>,
}

/// Decodes a part of a file.
pub fn decode<T: DeserializeOwned>(part: &Part) -> Decoded<T> {
    let mut value = part.value.clone();
    let mut decoded = Decoded { value: None, problems: Vec::new(), replaced: Vec::new() };
    while decoded.problems.len() < LIMIT {
        let failure = match attempt::<T>(&value) {
            Ok(fitting) => {
                decoded.value = Some(fitting);
                break;
            }
            Err(failure) => failure,
        };
        decoded.problems.push(failure.problem(part));
        decoded.replaced.push(dotted(failure.item()));
        match repaired::<T>(&value, &failure) {
            Some(other) => value = other,
            None => break,
        }
    }
    decoded
}

/// Something that does not fit.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Failure {
    path: Vec<Step>,
    message: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    Field(String),
    Item(usize),
}

fn attempt<T: DeserializeOwned>(value: &Value) -> Result<T, Failure> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = steps(error.path());
        Failure { path, message: error.into_inner().to_string() }
    })
}

fn steps(path: &Path) -> Vec<Step> {
    let step = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(Step::Item(*index)),
        Segment::Map { key } => Some(Step::Field(key.clone())),
        Segment::Enum { variant } => Some(Step::Field(variant.clone())),
        Segment::Unknown => None,
    };
    path.iter().filter_map(step).collect()
}

/// The text between the first two of a pair of quotation marks as serde writes them.
fn quoted(text: &str) -> Option<&str> {
    text.split('`').nth(1)
}

impl Failure {
    /// The field that serde does not know, and the path of what it was found in.
    fn unknown_field(&self) -> Option<(&str, &[Step])> {
        let name = self.message.strip_prefix("unknown field ").and_then(quoted)?;
        let inside = match self.path.split_last() {
            Some((Step::Field(last), parent)) if last == name => parent,
            _ => &self.path,
        };
        Some((name, inside))
    }

    /// The item of a list, or else the field of a section, in which it stands.
    fn item(&self) -> &[Step] {
        let first_item = self.path.iter().position(|step| matches!(step, Step::Item(_)));
        &self.path[..first_item.map_or(2, |place| place + 1).min(self.path.len())]
    }

    /// The first of the texts of which one was expected.
    fn first_choice(&self) -> Option<Value> {
        self.message.split_once("expected ").and_then(|(_, expected)| quoted(expected)).map(Value::from)
    }

    fn missing_field(&self) -> Option<&str> {
        self.message.strip_prefix("missing field ").and_then(quoted)
    }

    fn problem(&self, part: &Part) -> Problem {
        if let Some((name, inside)) = self.unknown_field() {
            let place = dotted(&[inside, &[Step::Field(name.to_owned())]].concat());
            let expected = self.message.split_once(", ").map(|(_, expected)| plainly(expected));
            return part.key_problem(&place, format!("unknown field \"{place}\""), expected);
        }
        let place = dotted(&self.path);
        if let Some(name) = self.missing_field() {
            let what = if place.is_empty() { "the scenario".to_owned() } else { format!("\"{place}\"") };
            return part.key_problem(
                &place,
                format!("{what} lacks \"{name}\""),
                Some(format!("expected a field {name}")),
            );
        }
        let (message, expected) = explain(&self.message);
        let message = if place.is_empty() { message } else { format!("{place}: {message}") };
        part.problem(&place, message, expected)
    }
}

/// `spec.containers[0].image`.
fn dotted(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Field(name) if text.is_empty() => text.push_str(name),
            Step::Field(name) => text.extend([".", name]),
            Step::Item(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

/// What types that are written in several ways expect, by their names.
const WRITTEN: [(&str, &str); 4] = [
    ("SpreadText", "expected a duration such as 150ms, or {median, p99}, {low, high} or {mean} of durations"),
    ("SizeText", "expected a size such as 50Mi or 100M"),
    ("AmountText", "expected a quantity such as 500m, 4 or 16Gi"),
    ("ShareText", "expected a share such as 0.1% or 1/1000"),
];

/// Serde's message as what is wrong and what was expected.
fn explain(message: &str) -> (String, Option<String>) {
    if let Some(name) = message.strip_prefix("data did not match any variant of untagged enum ") {
        let expected = WRITTEN.iter().find(|(written, _)| *written == name).map(|(_, expected)| (*expected).to_owned());
        return ("this value does not fit".to_owned(), expected);
    }
    match message.split_once("expected ") {
        Some((wrong, expected)) => {
            let wrong = wrong.trim_end_matches([' ', ',', ':']).replace('`', "\"");
            (wrong, Some(plainly(&format!("expected {expected}"))))
        }
        None => (message.to_owned(), None),
    }
}

/// Names of Rust types as a reader of a scenario file understands them.
fn plainly(text: &str) -> String {
    let whole = ["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "usize"];
    match text.strip_prefix("expected ") {
        Some(name) if whole.contains(&name) => "expected a whole number".to_owned(),
        Some("a sequence") => "expected a list".to_owned(),
        Some("a map") => "expected a mapping".to_owned(),
        Some(name) if name.starts_with("struct ") => "expected a mapping".to_owned(),
        _ => text.replace('`', ""),
    }
}

/// The value with what did not fit replaced by something that does, if that can be found.
fn repaired<T: DeserializeOwned>(value: &Value, failure: &Failure) -> Option<Value> {
    if let Some((name, inside)) = failure.unknown_field() {
        let mut other = value.clone();
        at(&mut other, inside)?.as_object_mut()?.remove(name)?;
        return Some(other);
    }
    let mut path = failure.path.clone();
    if let Some(name) = failure.missing_field() {
        path.push(Step::Field(name.to_owned()));
    }
    let mut substitutes = vec!["0".into(), Value::Null, 0.into(), true.into(), Value::Array(Vec::new())];
    substitutes.push(Value::Object(Map::new()));
    substitutes.extend(failure.first_choice());
    while !substitutes.is_empty() {
        let mut other = value.clone();
        put(&mut other, &path, substitutes.remove(0))?;
        match attempt::<T>(&other) {
            Ok(_) => return Some(other),
            Err(next) if !next.path.starts_with(&path) && next != *failure => return Some(other),
            // Only now does the type say what it would take.
            Err(next) if next.path == path && path != failure.path => substitutes.extend(next.first_choice()),
            Err(_) => {}
        }
    }
    None
}

fn at<'v>(value: &'v mut Value, path: &[Step]) -> Option<&'v mut Value> {
    path.iter().try_fold(value, |value, step| match step {
        Step::Field(name) => value.get_mut(name),
        Step::Item(index) => value.get_mut(index),
    })
}

fn put(value: &mut Value, path: &[Step], substitute: Value) -> Option<()> {
    match path.split_last() {
        Some((Step::Field(name), parent)) => {
            at(value, parent)?.as_object_mut()?.insert(name.clone(), substitute);
        }
        _ => *at(value, path)? = substitute,
    }
    Some(())
}

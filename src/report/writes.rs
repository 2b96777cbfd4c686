//! `writes.jsonl`: every write to the API as one line, in the format of the recordings of real control planes.
//!
//! `t` is in milliseconds of virtual time. A line is either an `action`, as typed by the operator, or one change of one
//! object: `ev` (INITIAL, ADDED with the whole `obj`, MODIFIED with its `changes`, DELETED), `kind`, `name`, `ns`, `rv`; and
//! beyond the recordings `by`, the user agent of who wrote, `verb`, and `cause`, the event in which it was acknowledged.

use serde_json::{Map, Value, json};

use crate::api::meta::Epoch;
use crate::api::object::Object;
use crate::api::time;
use crate::cluster::news::Write;
use crate::engine::time::SimTime;

use super::changes;
use super::sketch::Sketcher;

/// The first line: when the run began, and at what date.
pub fn beginning(epoch: Epoch) -> Value {
    let wall = time::micros_to_text(epoch.0.div_euclid(1_000));
    json!({"action": "recorder-start", "t": 0, "wall": wall})
}

/// A line for what the operator did: before it the text alone, after it with what came of it.
pub fn action(at: SimTime, text: &str) -> Value {
    json!({"action": text, "t": at.as_millis()})
}

/// A line for an object that was there when the first step began.
pub fn initial(at: SimTime, object: &Object) -> Value {
    let mut line = place("INITIAL", at, object.meta().revision(), object);
    line.insert("obj".to_owned(), object.to_json());
    Value::Object(line)
}

/// The line for a write; none for one that neither left nor took anything.
pub fn line(write: &Write, sketcher: &Sketcher) -> Option<Value> {
    let (old, new) = (write.old.as_ref(), write.new.as_ref());
    let event = match (old, new) {
        (None, Some(_)) => "ADDED",
        (Some(_), Some(_)) => "MODIFIED",
        (Some(_), None) => "DELETED",
        (None, None) => return None,
    };
    let mut line = place(event, write.at, write.revision, new.or(old)?);
    match (old, new) {
        (Some(old), Some(new)) => {
            let (old, new) = sketcher.sketch(old, new);
            line.insert("changes".to_owned(), Value::Object(changes::difference(&old.to_json(), &new.to_json())));
        }
        (None, Some(new)) => {
            line.insert("obj".to_owned(), new.to_json());
        }
        _ => {
            line.insert("changes".to_owned(), Value::Object(Map::new()));
        }
    }
    line.insert("by".to_owned(), write.agent.as_str().into());
    line.insert("verb".to_owned(), write.verb.into());
    line.insert("cause".to_owned(), write.cause.0.into());
    Some(Value::Object(line))
}

fn place(event: &str, at: SimTime, revision: u64, object: &Object) -> Map<String, Value> {
    let meta = object.meta();
    let mut line = Map::new();
    line.insert("ev".to_owned(), event.into());
    line.insert("kind".to_owned(), object.kind().row().name.into());
    line.insert("name".to_owned(), meta.name.as_str().into());
    if !meta.namespace.is_empty() {
        line.insert("ns".to_owned(), meta.namespace.as_str().into());
    }
    line.insert("rv".to_owned(), revision.to_string().into());
    line.insert("t".to_owned(), at.as_millis().into());
    line
}

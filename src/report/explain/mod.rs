//! `kubesim explain`: the chain of causes in words, and the critical path of a rollout, from the files of a run.
//!
//! - this file: the question and the answer
//! - `archive`: the files of a run, read
//! - `words`: what a write did, in words
//! - `chain`: from an event back to the beginning, hop by hop
//! - `critical`: where the time of a rollout went

pub mod archive;
pub mod chain;
pub mod critical;
pub mod words;

use std::fmt;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use crate::api::kind::Kind;
use crate::engine::process::Cause;
use crate::engine::time::SimTime;

use self::archive::{Archive, WriteRecord};
use super::table;

/// What is to be explained.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Question {
    /// An object: its kind, namespace if given, and name.
    Object(Kind, Option<String>, String),
    /// An event of the run by its number: the `cause` of a write.
    Event(u64),
}

/// Why there is no answer.
#[derive(Debug)]
pub enum ExplainError {
    /// A file of the run cannot be read.
    File {
        /// Which.
        name: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The question is not understood, or is about something that is not there.
    Question(String),
}

impl fmt::Display for ExplainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExplainError::File { name, error } => write!(f, "{name}: {error}"),
            ExplainError::Question(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for ExplainError {}

impl Question {
    /// Reads `pod/NAME`, `pod/NAMESPACE/NAME`, `deployment/web`, `node/node-3`, `event/1234` or `1234`.
    pub fn parse(text: &str) -> Result<Self, ExplainError> {
        if let Ok(event) = text.strip_prefix("event/").unwrap_or(text).parse() {
            return Ok(Question::Event(event));
        }
        let expected = "expected KIND/NAME, KIND/NAMESPACE/NAME or the number of an event";
        let parts: Vec<&str> = text.split('/').collect();
        let (word, namespace, name) = match parts.as_slice() {
            [word, name] if !name.is_empty() => (*word, None, *name),
            [word, namespace, name] if !name.is_empty() => (*word, Some((*namespace).to_owned()), *name),
            _ => return Err(ExplainError::Question(format!("\"{text}\" is not understood: {expected}"))),
        };
        let kind = Kind::of_word(word)
            .ok_or_else(|| ExplainError::Question(format!("there is no kind \"{word}\": {expected}, as pod/web-1")))?;
        Ok(Question::Object(kind, namespace, name.to_owned()))
    }
}

/// Answers a question from the files in a folder. With `all_hops` nothing is summed up.
pub fn explain(folder: &Path, question: &Question, all_hops: bool) -> Result<String, ExplainError> {
    let archive = Archive::read(folder)?;
    let mut text = String::new();
    match question {
        Question::Event(event) => explain_event(&archive, Cause(*event), all_hops, &mut text)?,
        Question::Object(kind, namespace, name) => {
            let writes = archive.object(*kind, namespace.as_deref(), name)?;
            explain_object(&archive, *kind, &writes, all_hops, &mut text);
        }
    }
    Ok(text)
}

fn explain_event(archive: &Archive, event: Cause, all_hops: bool, text: &mut String) -> Result<(), ExplainError> {
    let Some(found) = archive.causes.get(event) else {
        let message =
            format!("there is no event {}, or it led to nothing that is kept; writes.jsonl has the others", event.0);
        return Err(ExplainError::Question(message));
    };
    let _ = writeln!(text, "event {} at {}\n", event.0, table::clock(found.time));
    chain::write(archive, event, SimTime::ZERO, all_hops, text);
    Ok(())
}

fn explain_object(archive: &Archive, kind: Kind, writes: &[&WriteRecord], all_hops: bool, text: &mut String) {
    let Some(first) = writes.first() else { return };
    let _ = writeln!(text, "{}\n", first.object());
    history(archive, writes, text);
    if kind == Kind::Pod {
        scheduling(archive, first, text);
    }
    if kind == Kind::Deployment {
        for rollout in archive.rollouts_of(first) {
            critical::write(archive, rollout, all_hops, text);
        }
        return;
    }
    for turn in turning_points(writes) {
        let _ = writeln!(text, "\nWhy at {}: {}\n", table::clock(archive.time(turn)), turn.words);
        chain::write(archive, Cause(turn.cause), SimTime::ZERO, all_hops, text);
    }
}

/// All that happened to an object; what says nothing is left out.
fn history(archive: &Archive, writes: &[&WriteRecord], text: &mut String) {
    let telling: Vec<_> = writes.iter().filter(|write| write.weight > 0).collect();
    let width = telling.iter().map(|write| write.words.chars().count()).max().unwrap_or(0).min(60);
    for write in telling {
        let time = table::clock(archive.time(write));
        let _ = writeln!(text, "{time:>14}  {:width$}  {} (event {})", write.words, write.by, write.cause);
    }
}

/// What the scheduler decided about a pod, attempt by attempt.
fn scheduling(archive: &Archive, pod: &WriteRecord, text: &mut String) {
    let mut decisions = archive.decisions_about(pod).peekable();
    if decisions.peek().is_some() {
        let _ = writeln!(text, "\nThe scheduler's decisions\n");
    }
    for decision in decisions {
        let time = table::clock(SimTime::from_nanos(decision.t.saturating_mul(1_000_000)));
        let _ = writeln!(text, "{time:>14}  {}", decision.words());
    }
}

/// The last three of the weightiest writes: those to be explained.
fn turning_points<'a>(writes: &[&'a WriteRecord]) -> Vec<&'a WriteRecord> {
    let weight = writes.iter().map(|write| write.weight).max().unwrap_or(0);
    let weightiest: Vec<&WriteRecord> = writes.iter().copied().filter(|write| write.weight == weight).collect();
    weightiest[weightiest.len().saturating_sub(3)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_as_kubectl_would() {
        let object = |text: &str| match Question::parse(text) {
            Ok(Question::Object(kind, namespace, name)) => Some((kind, namespace, name)),
            _ => None,
        };
        assert_eq!(object("po/web-1"), Some((Kind::Pod, None, "web-1".to_owned())));
        assert_eq!(object("deploy/shop/web"), Some((Kind::Deployment, Some("shop".to_owned()), "web".to_owned())));
        assert_eq!(Question::parse("event/12").ok(), Some(Question::Event(12)));
        assert_eq!(Question::parse("12").ok(), Some(Question::Event(12)));
        for wrong in ["", "pod", "pod/", "spaceship/x", "a/b/c/d"] {
            assert!(Question::parse(wrong).is_err(), "{wrong}");
        }
    }
}

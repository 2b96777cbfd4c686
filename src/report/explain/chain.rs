//! From an event back to the beginning of the run, told forwards: who did what when, and how long after the hop before.
//!
//! What happens within etcd, and a timer that fires again and again, is summed up unless every hop is wanted.

use std::fmt::Write;

use crate::engine::process::Cause;
use crate::engine::time::{SimDuration, SimTime};
use crate::engine::trace::TraceEvent;

use super::super::table;
use super::archive::Archive;

/// A line of the story.
struct Hop {
    at: SimTime,
    place: String,
    words: String,
    /// What may be summed up with its neighbours of the same sort.
    group: Option<&'static str>,
    /// How many events it stands for.
    events: usize,
}

/// Writes the chain of causes of an event.
pub fn write(archive: &Archive, event: Cause, all_hops: bool, text: &mut String) {
    let mut hops: Vec<Hop> = archive.causes.chain(event).map(|event| hop(archive, event)).collect();
    hops.reverse();
    if !all_hops {
        hops = sum_up(hops);
    }
    let width = hops.iter().map(|hop| hop.place.len()).max().unwrap_or(0);
    let mut last: Option<SimTime> = None;
    for hop in hops {
        let after = last.map_or_else(String::new, |last| format!("+{}", table::length(hop.at.since(last))));
        let count = if hop.events > 1 { format!(" ({} hops)", hop.events) } else { String::new() };
        let _ = writeln!(text, "{:>14} {after:>9}  {:width$}  {}{count}", table::clock(hop.at), hop.place, hop.words);
        last = Some(hop.at);
    }
}

fn hop(archive: &Archive, event: &TraceEvent) -> Hop {
    let causes = &archive.causes;
    let kind = causes.kind(event);
    let mut words = words(archive, event, kind);
    if let Some(step) = archive.step(event.sequence) {
        words = format!("step: {step}");
    }
    Hop { at: event.time, place: causes.process(event).to_owned(), words, group: group(kind), events: 1 }
}

fn group(kind: &str) -> Option<&'static str> {
    match kind {
        "etcd request" | "etcd answer" | "etcd watch" | "etcd watch events" | "Raft message" | "written to disk"
        | "etcd lease" | "etcd greeting" => Some("etcd"),
        "timer" => Some("timer"),
        _ => None,
    }
}

/// What happened in an event.
fn words(archive: &Archive, event: &TraceEvent, kind: &str) -> String {
    let from = archive.causes.process_name(usize::try_from(event.operands[0]).unwrap_or(usize::MAX));
    match kind {
        "API request" => {
            let written: Vec<String> =
                archive.written(event.sequence).map(|write| format!("{} {}", write.object(), write.words)).collect();
            match written.as_slice() {
                [] => format!("receives a request of {from}"),
                [first, rest @ ..] if rest.is_empty() => format!("receives a request of {from}: {first}"),
                [first, rest @ ..] => format!("receives a request of {from}: {first}, and {} more", rest.len()),
            }
        }
        "API answer" => format!("has its answer from {from}"),
        "watch events" => match event.operands[1] {
            1 => format!("hears of a change from {from}"),
            count => format!("hears of {count} changes from {from}"),
        },
        "watch closed" => format!("loses a watch at {from}"),
        "etcd request" => format!("receives a request of {from}"),
        "etcd answer" => format!("has the answer of {from}"),
        "etcd watch events" => format!("hears of changes from {from}"),
        "Raft message" => format!("Raft message from {from}"),
        "timer" => "a timer fires".to_owned(),
        "container runtime" => "the container runtime has finished something".to_owned(),
        "written to disk" => "has written to its disk".to_owned(),
        "connection lost" => format!("loses its connection to {from}"),
        other => other.to_owned(),
    }
}

/// Sums up neighbours: what happens within etcd, and timers of one process that lead only to one another.
fn sum_up(hops: Vec<Hop>) -> Vec<Hop> {
    let mut summed: Vec<Hop> = Vec::new();
    for hop in hops {
        let joins = summed.last().is_some_and(|last| match (last.group, hop.group) {
            (Some("etcd"), Some("etcd")) => true,
            (Some("timer"), Some("timer")) => last.place == hop.place,
            _ => false,
        });
        match summed.last_mut() {
            Some(last) if joins => {
                last.at = hop.at;
                last.events += 1;
                if hop.group == Some("etcd") {
                    last.words = "the write is replicated, written to disks and told".to_owned();
                    last.place = "etcd".to_owned();
                } else {
                    last.words = "timers fire, the last one".to_owned();
                }
            }
            _ => summed.push(hop),
        }
    }
    summed
}

/// How long each hop of a chain took, the latest first: the event and the time since its cause.
pub fn delays(archive: &Archive, event: Cause) -> impl Iterator<Item = (&TraceEvent, SimDuration)> {
    archive.causes.chain(event).map(|event| {
        let before = archive.causes.get(event.cause).map_or(SimTime::ZERO, |cause| cause.time);
        (event, event.time.since(before))
    })
}

//! From an event back to the beginning of the run, told forwards: who did what when, and how long after the hop before.
//!
//! What happens within etcd, and a timer that fires again and again, is summed up unless every hop is wanted.

use std::fmt::Write;

use crate::api::kind::Kind;
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
    /// Whether one of them was a write to a disk.
    wrote: bool,
}

/// From what delay on a request is said to have been held back by its sender: no network takes that long.
pub const HELD_BACK: SimDuration = SimDuration::from_millis(100);

/// Writes the chain of causes of an event, from a time on.
pub fn write(archive: &Archive, event: Cause, since: SimTime, all_hops: bool, text: &mut String) {
    let chain = archive.causes.chain(event).take_while(|event| event.time >= since);
    let mut hops: Vec<Hop> = chain.map(|event| hop(archive, event)).collect();
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
    Hop {
        at: event.time,
        place: causes.process(event).to_owned(),
        words,
        group: group(kind),
        events: 1,
        wrote: kind == "written to disk",
    }
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
            let before = archive.causes.get(event.cause).map_or(event.time, |cause| cause.time);
            let held = if event.time.since(before) < HELD_BACK { "" } else { ", held back until then" };
            match archive.written(event.sequence) {
                Some(write) => format!("receives a request of {from}{held}: {} {}", write.object(), write.words),
                None => {
                    // The cluster puts the kind of the object into the lowest byte of a request's detail.
                    let kind = Kind::all().nth((event.operands[1] & 0xff) as usize);
                    let about = kind.map(|kind| format!(" about {}", kind.row().plural)).unwrap_or_default();
                    format!("receives a request of {from}{about}{held}")
                }
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
                last.wrote |= hop.wrote;
                if hop.group == Some("etcd") {
                    let wrote = "the write is replicated, written to disks and told";
                    last.words = if last.wrote { wrote } else { "is asked and answers" }.to_owned();
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

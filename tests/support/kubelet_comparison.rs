//! Whether a kubelet wrote about a pod what a real one was seen to write: the whole sequence, and when.
//!
//! Writes (PATCH and DELETE) and events are compared each in their own order, for between the two there is a race. Equal are:
//!
//! - every write, in order: what changed, with reasons and messages. Several of ours in a row may be one in the recording: a
//!   status manager that is busy writes only the newest status;
//! - every event but those of probes that failed, in order, with the counts of repeated ones;
//! - of each text of a failed probe how often it came, give or take two: the phase of each ticker is chance, and so it is whether a probe
//!   falls into the moment in which a server is not yet up (`tcp`: refused four times there, up to six times here);
//! - the time between one write and the next, within two seconds: those between sandbox and containers, which take half a second
//!   on an idle machine, took up to 2.5 s there (`mixed-never`). What waits for a random time may come a quarter of it earlier or later.
//!
//! Left out is what the recording's machine put in: PATCHes of `resources` only (cgroup v1), events refused because the
//! namespace ends (403: they are no writes), the names of images (some recordings were made with other tags than their manifests
//! have), and probes that meet a container in the moment of its death ("errored", or a refused connection while the pod ends).

use std::collections::BTreeMap;
use std::fmt;

use kubesim::engine::time::SimDuration;

use crate::kubelet_writes::{Line, any_image, as_one, clean, sorted_kills};

/// A line of a recording.
pub struct Entry {
    /// Seconds since the recording began.
    at: f64,
    text: String,
}

/// Where a pod's writes are other ones than recorded.
pub struct Difference {
    /// How many recorded writes were found before.
    pub reached: usize,
    why: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} writes: {}", self.reached, self.why)
    }
}

/// The pods of a recording.
pub fn recorded_pods(recording: &str) -> Vec<String> {
    let mut pods: Vec<String> = recording
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (_, pod, verb) = (words.next()?.parse::<f64>().ok()?, words.next()?, words.next()?);
            let of_pod = !line.contains("nodes/status") && matches!(verb, "PATCH" | "EVENT");
            of_pod.then(|| pod.to_owned())
        })
        .collect();
    pods.sort();
    pods.dedup();
    pods
}

impl Entry {
    /// What a recording says of a pod.
    pub fn of_recording(recording: &str, pod: &str) -> Vec<Entry> {
        let lines = recording.lines().filter_map(|line| {
            let (at, rest) = line.trim_start().split_once(' ')?;
            let (name, text) = rest.trim_start().split_once(' ')?;
            let refused = text.trim_start().starts_with("403 ");
            let at = at.parse().ok().filter(|_| name == pod && !refused)?;
            Some(Entry { at, text: clean(text.trim_start()) })
        });
        lines.filter(|entry| entry.text != "PATCH").collect()
    }

    /// The same of a pod that was deleted by force at a time: its last PATCHes find nothing any more (404) and so are no writes.
    pub fn of_recording_until_gone(recording: &str, pod: &str, gone: f64) -> Vec<Entry> {
        let all = Entry::of_recording(recording, pod);
        all.into_iter().filter(|entry| entry.at < gone || is_event(&entry.text)).collect()
    }
}

fn is_event(text: &str) -> bool {
    text.starts_with("EVENT")
}

/// The message of an event about a failed probe; none if it is about anything else.
fn probe_message(text: &str) -> Option<&str> {
    ["Readiness probe ", "Liveness probe ", "Startup probe "]
        .iter()
        .find_map(|word| text.find(word))
        .map(|at| &text[at..])
}

/// Compares.
pub fn compare(recorded: &[Entry], lines: &[Line], pod: &str, before: SimDuration) -> Result<(), Difference> {
    let lines: Vec<&Line> = lines.iter().filter(|line| line.pod == pod).collect();
    let reached = compare_writes(recorded, &lines, before)?;
    let difference = |why: String| Difference { reached, why };
    compare_events(recorded, &lines).map_err(difference)?;
    compare_probes(recorded, &lines).map_err(difference)
}

fn seconds(line: &Line, before: SimDuration) -> f64 {
    line.at.as_nanos() as f64 / 1e9 - before.as_nanos() as f64 / 1e9
}

/// How much later or earlier than recorded a write may come after the one before it.
fn tolerance(text: &str, recorded_gap: f64) -> f64 {
    let waited = ["CrashLoopBackOff", "ErrImagePull", "ImagePullBackOff", "RunContainerError", " rc="];
    // Back-offs are drawn from a window of half their length, and end with the next tick; a probe begins within its period.
    if waited.iter().any(|word| text.contains(word)) { 2.0 + recorded_gap * 0.25 } else { 2.0 }
}

fn compare_writes(recorded: &[Entry], lines: &[&Line], before: SimDuration) -> Result<usize, Difference> {
    let expected: Vec<&Entry> = recorded.iter().filter(|entry| !is_event(&entry.text)).collect();
    let ours: Vec<&Line> = lines.iter().copied().filter(|line| !is_event(&line.text)).collect();
    let (mut place, mut then): (usize, Option<(f64, f64)>) = (0, None);
    for (reached, wanted) in expected.iter().enumerate() {
        let fits = |length: &usize| {
            let some = ours.get(place..place + length).unwrap_or_default();
            as_one(some).is_some_and(|text| text == wanted.text)
        };
        let Some(length) = (1..=6).find(fits) else {
            let rest: Vec<&str> = ours.iter().skip(place).take(4).map(|line| line.text.as_str()).collect();
            let why =
                format!("recorded is\n  {:.3} {}\nours go on with\n  {}", wanted.at, wanted.text, rest.join("\n  "));
            return Err(Difference { reached, why });
        };
        place += length;
        let now = seconds(ours[place - 1], before);
        let (gap, recorded_gap) = then.map_or((now, wanted.at), |(ours, recorded)| (now - ours, wanted.at - recorded));
        if (gap - recorded_gap).abs() > tolerance(&wanted.text, recorded_gap) {
            let why = format!("{gap:.3} s after the one before, {recorded_gap:.3} s recorded: {}", wanted.text);
            return Err(Difference { reached, why });
        }
        then = Some((now, wanted.at));
    }
    let rest: Vec<&str> = ours.iter().skip(place).map(|line| line.text.as_str()).collect();
    if !rest.is_empty() {
        let why = format!("nothing more is recorded than\n  {}", rest.join("\n  "));
        return Err(Difference { reached: expected.len(), why });
    }
    Ok(expected.len())
}

/// An event without what differs from machine to machine: images, namespaces, uids, how long a pull took.
fn plain(text: &str) -> String {
    let text = any_image(text);
    match (text.find(" in "), text.find(" including waiting)")) {
        (Some(from), Some(to)) if text.contains("Successfully pulled") => format!("{}{}", &text[..from], &text[to..]),
        _ => text,
    }
}

fn compare_events(recorded: &[Entry], lines: &[&Line]) -> Result<(), String> {
    let told = |text: &&str| is_event(text) && probe_message(text).is_none();
    let expected = sorted_kills(recorded.iter().map(|entry| entry.text.as_str()).filter(told).map(plain));
    let ours = sorted_kills(lines.iter().map(|line| line.text.as_str()).filter(told).map(plain));
    // Long lines are cut off in the recording.
    let alike = |ours: &String, expected: &String| {
        ours.trim_end() == expected || (expected.len() > 180 && ours.starts_with(expected.as_str()))
    };
    if ours.len() == expected.len() && ours.iter().zip(&expected).all(|(ours, theirs)| alike(ours, theirs)) {
        return Ok(());
    }
    Err(format!("events: ours\n  {}\nrecorded\n  {}", ours.join("\n  "), expected.join("\n  ")))
}

/// A text with each number in it as zero, for addresses of pods differ.
fn without_addresses(text: &str) -> String {
    let mut plain = String::new();
    for letter in text.chars() {
        match letter {
            '0'..='9' if plain.ends_with('0') => {}
            '0'..='9' => plain.push('0'),
            letter => plain.push(letter),
        }
    }
    plain
}

fn compare_probes(recorded: &[Entry], lines: &[&Line]) -> Result<(), String> {
    let count = |texts: &mut dyn Iterator<Item = &str>| {
        let mut counts: BTreeMap<String, i64> = BTreeMap::new();
        for message in texts.filter(|text| is_event(text)).filter_map(probe_message) {
            if !message.contains("errored") {
                *counts.entry(without_addresses(message.trim_end())).or_default() += 1;
            }
        }
        counts
    };
    let mut expected = count(&mut recorded.iter().map(|entry| entry.text.as_str()));
    let ours = count(&mut lines.iter().map(|line| line.text.as_str()));
    for (message, times) in &ours {
        let wanted = expected.remove(message).unwrap_or(0);
        if (times - wanted).abs() > 2 {
            return Err(format!("{times} times, {wanted} times recorded: {message}"));
        }
    }
    match expected.into_iter().find(|(_, times)| *times > 2) {
        Some((message, times)) => Err(format!("never, {times} times recorded: {message}")),
        None => Ok(()),
    }
}

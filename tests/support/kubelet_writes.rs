//! Writes as the recordings of a real kubelet show them, one line each; those recordings read and cleaned; and whether
//! the ones are the others. Shared by the tests of the kubelet alone and of the whole cluster.

use kubesim::api::pod::{ConditionStatus, ContainerState, ContainerStatus, PodCondition, PodStatus, Terminated};
use kubesim::engine::time::SimTime;
use kubesim::kubelet::writer::KUBELET_CONDITIONS;

/// One line of what the kubelet wrote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    pub at: SimTime,
    pub pod: String,
    pub text: String,
    /// The status before and after, of a status PATCH.
    pub patched: Option<Box<(PodStatus, PodStatus)>>,
}

/// A status PATCH: only what changes.
pub fn patch(old: &PodStatus, new: &PodStatus) -> String {
    let mut words = vec!["PATCH".to_owned()];
    let generation = |status: &PodStatus| status.conditions.iter().map(|c| c.observed_generation).max().unwrap_or(0);
    for kind in &KUBELET_CONDITIONS {
        if let Some(new) = new.condition(kind)
            && let Some(change) = condition(old.condition(kind), new)
        {
            words.push(format!("{kind:?}={change}"));
        }
    }
    if generation(old) != generation(new) && generation(new) > 0 {
        words.push(format!("condObsGen={}", generation(new)));
    }
    if old.containers != new.containers {
        words.push(format!("cont {}", containers(&new.containers)));
    }
    if old.host_ip != new.host_ip {
        words.push("hostIP hostIPs".to_owned());
    }
    if old.init_containers != new.init_containers {
        words.push(format!("init {}", containers(&new.init_containers)));
    }
    if old.observed_generation != new.observed_generation {
        words.push(format!("observedGeneration={}", new.observed_generation));
    }
    if old.phase != new.phase {
        words.push(format!("phase=\"{:?}\"", new.phase));
    }
    if old.pod_ip != new.pod_ip {
        words.push("podIP podIPs".to_owned());
    }
    if old.start_time != new.start_time {
        words.push("startTime".to_owned());
    }
    words.join(" ")
}

fn condition(old: Option<&PodCondition>, new: &PodCondition) -> Option<String> {
    let status = match (old, new.status) {
        (Some(old), status) if old.status == status => "-",
        (_, ConditionStatus::True) => "True",
        (_, ConditionStatus::False) => "False",
        (_, ConditionStatus::Unknown) => "Unknown",
    };
    let reason = match (old.and_then(|old| old.reason.as_deref()), new.reason.as_deref()) {
        (old, new) if old == new => String::new(),
        (_, None) => "/None".to_owned(),
        (_, Some(reason)) => format!("/{reason}"),
    };
    let message = match (old.and_then(|old| old.message.as_deref()), new.message.as_deref()) {
        (old, Some(new)) if old != Some(new) => format!("<{new}>"),
        _ => String::new(),
    };
    let word = format!("{status}{reason}{message}");
    (word != "-").then_some(word)
}

fn containers(statuses: &[ContainerStatus]) -> String {
    let mut words: Vec<String> = statuses.iter().map(container).collect();
    words.sort();
    words.join(" ")
}

fn container(status: &ContainerStatus) -> String {
    let ended = |ended: &Terminated| format!("terminated:{}({})", ended.reason, ended.exit_code);
    let state = match &status.state {
        ContainerState::Waiting { reason, .. } => format!("waiting:{reason}"),
        ContainerState::Running { .. } => "running".to_owned(),
        ContainerState::Terminated(terminated) => ended(terminated),
    };
    let word = |value: bool| if value { "True" } else { "False" };
    let last = status.last_state.as_ref().map(|last| format!(" last={}", ended(last))).unwrap_or_default();
    let started = word(status.started == Some(true));
    let (name, restarts, ready) = (&status.name, status.restart_count, word(status.ready));
    format!("{name}[{state} rc={restarts} rdy={ready} st={started}{last}]")
}

/// What a real kubelet wrote about a pod: lines of a recording without times, and without what its machine put in.
pub fn recorded(recording: &str, pod: &str) -> Vec<String> {
    let lines = recording.lines().filter_map(|line| {
        let (_, rest) = line.trim_start().split_once(' ')?;
        let (name, text) = rest.trim_start().split_once(' ')?;
        (name == pod).then(|| clean(text.trim_start()))
    });
    lines.filter(|line| line != "PATCH").collect()
}

/// A line without addresses, dates and the limits that cgroup v1 made up. Refused events (403) count as written.
fn clean(text: &str) -> String {
    let mut text = text.strip_prefix("403 ").unwrap_or(text).trim_end().to_owned();
    if text.starts_with("DELETE") {
        return "DELETE".to_owned();
    }
    for (key, word) in [
        ("hostIP", Some("hostIP")),
        ("hostIPs", Some("hostIPs")),
        ("podIP", Some("podIP")),
        ("podIPs", Some("podIPs")),
        ("startTime", Some("startTime")),
        ("resources", None),
        ("allocatedResources", None),
    ] {
        text = without_value(&text, key, word);
    }
    text
}

/// Replaces ` key=value` by the word, or by nothing.
fn without_value(text: &str, key: &str, word: Option<&str>) -> String {
    let Some(start) = text.find(&format!(" {key}=")) else { return text.to_owned() };
    let value = start + key.len() + 2;
    let (mut depth, mut quoted, mut end) = (0i32, false, text.len());
    for (place, letter) in text[value..].char_indices() {
        match letter {
            '"' => quoted = !quoted,
            '{' | '[' if !quoted => depth += 1,
            '}' | ']' if !quoted => depth -= 1,
            ' ' if !quoted && depth == 0 => {
                end = value + place;
                break;
            }
            _ => {}
        }
    }
    let word = word.map(|word| format!(" {word}")).unwrap_or_default();
    format!("{}{word}{}", &text[..start], &text[end..])
}

/// The text with the name of any image in quotes replaced, so that models may be told apart by image, and without
/// namespace and uid of a pod.
pub fn any_image(text: &str) -> String {
    let text = text.split_once("_").filter(|_| text.contains("Back-off restarting")).map_or(text, |(before, _)| before);
    match text.split_once("image \"") {
        Some((before, after)) => {
            let rest = after.split_once('"').map_or("", |(_, rest)| rest);
            format!("{before}image \"IMAGE\"{rest}")
        }
        None => text.to_owned(),
    }
}

/// Compares writes and events about a pod with a recording, each in their own order: between the two there is a race.
/// Returns how many writes were one with the next in the recording: a real status manager that is slow writes only the
/// newest status, so a recorded PATCH may be several of ours in one.
pub fn check(lines: &[Line], recording: &str, pod: &str) -> usize {
    check_first(lines, recording, pod, usize::MAX, usize::MAX)
}

/// The same for the first writes and the first events of a recording only.
pub fn check_first(lines: &[Line], recording: &str, pod: &str, writes: usize, events: usize) -> usize {
    let recorded = recorded(recording, pod);
    assert!(!recorded.is_empty(), "{pod} is in the recording");
    let is_event = |text: &String| text.starts_with("EVENT");
    let expected = sorted_kills(recorded.iter().filter(|text| is_event(text)).map(|text| any_image(text)));
    let ours = sorted_kills(
        lines.iter().filter(|line| line.pod == pod && is_event(&line.text)).map(|line| any_image(&line.text)),
    );
    let (expected, ours) = (expected.get(..events).unwrap_or(&expected), ours.get(..events).unwrap_or(&ours));
    // Long lines are cut off in the recording.
    let alike = |ours: &String, expected: &String| {
        ours.trim_end() == expected || (expected.len() > 180 && ours.starts_with(expected.as_str()))
    };
    let all_alike = ours.len() == expected.len() && ours.iter().zip(expected).all(|(ours, theirs)| alike(ours, theirs));
    assert!(all_alike, "events of {pod}: ours\n  {}\nrecorded\n  {}", ours.join("\n  "), expected.join("\n  "));

    let expected: Vec<&String> = recorded.iter().filter(|text| !is_event(text)).take(writes).collect();
    let ours: Vec<&Line> = lines.iter().filter(|line| line.pod == pod && !line.text.starts_with("EVENT")).collect();
    let (mut place, mut merged) = (0, 0);
    for (number, wanted) in expected.iter().enumerate() {
        let length = (1..=4).find(|length| {
            let some = ours.get(place..place + length).unwrap_or_default();
            !some.is_empty() && as_one(some).is_some_and(|text| text == **wanted)
        });
        let Some(length) = length else {
            let rest: Vec<&str> = ours.iter().skip(place).take(4).map(|line| line.text.as_str()).collect();
            panic!(
                "{pod}: write {number} of the recording is\n  {wanted}\nbut ours go on with\n  {}",
                rest.join("\n  ")
            );
        };
        place += length;
        merged += length - 1;
    }
    if writes == usize::MAX {
        let rest: Vec<&str> = ours.iter().skip(place).map(|line| line.text.as_str()).collect();
        assert!(rest.is_empty(), "{pod}: nothing more is recorded than\n  {}", rest.join("\n  "));
    }
    merged
}

/// Several writes as the one that would have been made in their place.
fn as_one(lines: &[&Line]) -> Option<String> {
    let (first, last) = (lines.first()?, lines.last()?);
    if lines.len() == 1 {
        return Some(first.text.clone());
    }
    let (before, after) = (first.patched.as_ref()?, last.patched.as_ref()?);
    Some(patch(&before.0, &after.1))
}

/// Containers of one pod are stopped in no order.
fn sorted_kills(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut texts: Vec<String> = texts.collect();
    let is_kill = |text: &String| text.contains("Killing: Stopping");
    for run in texts.chunk_by_mut(|left, right| is_kill(left) && is_kill(right)) {
        run.sort();
    }
    texts
}

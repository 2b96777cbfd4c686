//! Writes as the recordings of a real kubelet show them, one line each; those recordings cleaned. Shared by the tests of the kubelet alone and of the whole cluster.

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
    let reason = match (old.and_then(|old| old.why.reason()), new.why.reason()) {
        (old, new) if old == new => String::new(),
        (_, None) => "/None".to_owned(),
        (_, Some(reason)) => format!("/{reason}"),
    };
    let message = match (old.and_then(|old| old.why.message()), new.why.message()) {
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

/// A line without addresses, dates and the limits that cgroup v1 made up. Refused events (403) count as written.
pub fn clean(text: &str) -> String {
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

/// Several writes as the one that would have been made in their place.
pub fn as_one(lines: &[&Line]) -> Option<String> {
    let (first, last) = (lines.first()?, lines.last()?);
    if lines.len() == 1 {
        return Some(first.text.clone());
    }
    let (before, after) = (first.patched.as_ref()?, last.patched.as_ref()?);
    Some(patch(&before.0, &after.1))
}

/// Containers of one pod are stopped in no order.
pub fn sorted_kills(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut texts: Vec<String> = texts.collect();
    let is_kill = |text: &String| text.contains("Killing: Stopping");
    for run in texts.chunk_by_mut(|left, right| is_kill(left) && is_kill(right)) {
        run.sort();
    }
    texts
}

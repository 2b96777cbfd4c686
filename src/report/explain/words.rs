//! What a write did, in words, and how much it matters for the object's fate.

use serde_json::{Map, Value};

type Changes = Map<String, Value>;

/// A write of any interest is worth a line; a turning point is worth a chain of causes.
const PASSING: u8 = 1;
const TURNING: u8 = 2;

/// What a write did to its object, and how much it matters: 0 not at all, 1 worth a line, 2 a turning point.
pub fn of_write(event: &str, kind: &str, changes: &Changes, object: &Value) -> (String, u8) {
    match event {
        "INITIAL" => return ("there from the beginning".to_owned(), PASSING),
        "ADDED" if kind == "Event" => return (said(object), PASSING),
        "ADDED" => return (created(kind, object), if kind == "Pod" { PASSING } else { TURNING }),
        "DELETED" => return ("removed".to_owned(), PASSING),
        _ => {}
    }
    let mut facts = Facts { changes, words: Vec::new(), weight: 0 };
    facts.metadata();
    match kind {
        "Pod" => facts.pod(),
        "Deployment" | "ReplicaSet" => facts.workload(),
        "Node" => facts.node(),
        "Event" => facts.number("count", "said again, times", PASSING),
        _ => {}
    }
    if facts.words.is_empty() {
        facts.fallback(kind);
    }
    (facts.words.join(", "), facts.weight)
}

fn created(kind: &str, object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let owner = object.pointer("/metadata/ownerReferences/0");
    let owner =
        owner.and_then(|owner| Some(format!("{} {}", owner.get("kind")?.as_str()?, owner.get("name")?.as_str()?)));
    let mut words = "created".to_owned();
    if let Some(owner) = owner {
        words.push_str(&format!(" for {owner}"));
    }
    if matches!(kind, "Deployment" | "ReplicaSet")
        && let Some(replicas) = object.pointer("/spec/replicas")
    {
        words.push_str(&format!(" with {replicas} replicas"));
    }
    if let Some(node) = text("/spec/nodeName") {
        words.push_str(&format!(" on {node}"));
    }
    words
}

fn said(event: &Value) -> String {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let kind = text("/involvedObject/kind").to_ascii_lowercase();
    let message = if text("/message").is_empty() { text("/note") } else { text("/message") };
    format!("says of {kind} {}: {}: {message}", text("/involvedObject/name"), text("/reason"))
}

/// What is found out about the changes of one write.
struct Facts<'a> {
    changes: &'a Changes,
    words: Vec<String>,
    weight: u8,
}

impl Facts<'_> {
    fn add(&mut self, weight: u8, words: impl Into<String>) {
        self.words.push(words.into());
        self.weight = self.weight.max(weight);
    }

    /// What a path was and is now, if it changed.
    fn change(&self, path: &str) -> Option<(&Value, &Value)> {
        let pair = self.changes.get(path)?.as_array()?;
        Some((pair.first()?, pair.get(1)?))
    }

    /// What a path is now, if it changed and is a text.
    fn new_text(&self, path: &str) -> Option<&str> {
        self.change(path)?.1.as_str()
    }

    fn number(&mut self, path: &str, words: &str, weight: u8) {
        if let Some((_, new)) = self.change(path) {
            let words = format!("{words} {}", plain(new));
            self.add(weight, words);
        }
    }

    fn transition(&mut self, path: &str, words: &str, weight: u8) {
        if let Some((old, new)) = self.change(path) {
            let words = format!("{words} {} -> {}", plain(old), plain(new));
            self.add(weight, words);
        }
    }

    fn metadata(&mut self) {
        match self.change("metadata.deletionTimestamp").map(|(old, _)| old.is_null()) {
            Some(true) => self.add(TURNING, "deletion asked for"),
            Some(false) => self.add(PASSING, "grace shortened"),
            None => {}
        }
    }

    fn pod(&mut self) {
        if let Some(node) = self.new_text("spec.nodeName") {
            let words = format!("bound to {node}");
            self.add(PASSING, words);
        }
        if self.new_text("status.conditions[PodScheduled].status") == Some("False") {
            let message = self.new_text("status.conditions[PodScheduled].message").unwrap_or_default();
            let words = format!("cannot be scheduled: {message}");
            self.add(TURNING, words);
        }
        if let Some((_, new)) = self.change("status.conditions[DisruptionTarget].reason") {
            let words = format!("is to go: {}", plain(new));
            self.add(TURNING, words);
        }
        match self.change("status.conditions[Ready].status").map(|(old, new)| (old.as_str(), new.as_str())) {
            Some((_, Some("True"))) => self.add(TURNING, "ready"),
            Some((Some("True"), Some(_))) => self.add(TURNING, "no longer ready"),
            _ => {}
        }
        if let Some(phase) = self.new_text("status.phase") {
            let words = format!("phase {phase}");
            self.add(PASSING, words);
        }
        self.containers();
    }

    fn containers(&mut self) {
        let mut found = Vec::new();
        for (path, pair) in self.changes {
            let Some((before, after)) = path.split_once("ontainerStatuses[").and_then(|(_, rest)| rest.split_once(']'))
            else {
                continue;
            };
            let new = pair.get(1).unwrap_or(&Value::Null);
            let old = pair.get(0).unwrap_or(&Value::Null);
            match (after, new.as_str()) {
                (".state.waiting.reason", Some(reason)) => found.push((PASSING, format!("{before} waits: {reason}"))),
                (".state.terminated.reason", Some(reason)) => {
                    found.push((PASSING, format!("{before} ended: {reason}")))
                }
                (".state.running.startedAt", Some(_)) => found.push((PASSING, format!("{before} runs"))),
                (".restartCount", _) if !old.is_null() => {
                    found.push((TURNING, format!("{before} restart {}", plain(new))))
                }
                _ => {}
            }
        }
        found.into_iter().for_each(|(weight, words)| self.add(weight, words));
    }

    fn workload(&mut self) {
        self.transition("spec.replicas", "replicas", TURNING);
        let template = self.changes.keys().any(|path| path.starts_with("spec.template."));
        if template {
            let images: Vec<String> =
                self.changes.iter().filter(|(path, _)| path.ends_with("].image")).map(image).collect();
            let words = format!("template changed {}", images.join(" "));
            self.add(TURNING, words.trim_end());
        }
        self.transition("spec.paused", "paused", TURNING);
        if let Some((_, reason)) = self.change("status.conditions[Progressing].reason") {
            let words = format!("progressing: {}", plain(reason));
            self.add(PASSING, words);
        }
        if let Some((_, status)) = self.change("status.conditions[Available].status") {
            let words = format!("available: {}", plain(status));
            self.add(PASSING, words);
        }
        self.transition("status.updatedReplicas", "updated", PASSING);
        self.transition("status.availableReplicas", "available", PASSING);
    }

    fn node(&mut self) {
        self.transition("status.conditions[Ready].status", "Ready", TURNING);
        if let Some((_, unschedulable)) = self.change("spec.unschedulable") {
            let words = if unschedulable.as_bool() == Some(true) { "cordoned" } else { "uncordoned" };
            self.add(TURNING, words);
        }
        let mut taints = Vec::new();
        for (path, pair) in self.changes {
            if let Some(taint) = path.strip_prefix("spec.taints[").and_then(|rest| rest.strip_suffix("].effect")) {
                let gone = pair.get(1).is_none_or(Value::is_null);
                taints.push(format!("{} {taint}", if gone { "taint removed" } else { "tainted" }));
            }
        }
        taints.into_iter().for_each(|words| self.add(TURNING, words));
    }

    /// What is not known better: the first paths that changed. Counters of a status are not worth a line.
    fn fallback(&mut self, kind: &str) {
        let telling = |path: &&String| !path.ends_with("HeartbeatTime") && !path.ends_with("TransitionTime");
        let paths: Vec<&str> = self.changes.keys().filter(telling).map(String::as_str).collect();
        let counters =
            matches!(kind, "Deployment" | "ReplicaSet") && paths.iter().all(|path| path.starts_with("status."));
        self.words.push(match paths.as_slice() {
            [] if self.changes.is_empty() => "written without change".to_owned(),
            [] => "heartbeat".to_owned(),
            [one] => format!("changed {one}"),
            [one, rest @ ..] => format!("changed {one} and {} more", rest.len()),
        });
        self.weight = u8::from(!paths.is_empty() && !counters);
    }
}

fn image((path, pair): (&String, &Value)) -> String {
    let container = path.rsplit_once('[').and_then(|(_, rest)| rest.split(']').next()).unwrap_or_default();
    format!("{container}={}", plain(pair.get(1).unwrap_or(&Value::Null)))
}

/// A value without quotes; what is absent as none.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn words(kind: &str, changes: Value) -> (String, u8) {
        let Value::Object(changes) = changes else { panic!("changes are a map") };
        of_write("MODIFIED", kind, &changes, &Value::Null)
    }

    #[test]
    fn writes_are_told_in_words() {
        let bound =
            json!({"spec.nodeName": [null, "node-8"], "status.conditions[PodScheduled].status": [null, "True"]});
        assert_eq!(words("Pod", bound), ("bound to node-8".to_owned(), PASSING));
        let ready = json!({"status.conditions[Ready].status": ["False", "True"], "status.phase": ["Pending", "Running"],
            "status.containerStatuses[app].state.running.startedAt": [null, "2026-11-20T18:32:16Z"]});
        assert_eq!(words("Pod", ready), ("ready, phase Running, app runs".to_owned(), TURNING));
        let restart = json!({"status.containerStatuses[app].restartCount": [1, 2]});
        assert_eq!(words("Pod", restart), ("app restart 2".to_owned(), TURNING));
        let image =
            json!({"spec.template.spec.containers[app].image": ["a:v1", "a:v2"], "metadata.generation": [1, 2]});
        assert_eq!(words("Deployment", image), ("template changed app=a:v2".to_owned(), TURNING));
        let taint = json!({"spec.taints[node.kubernetes.io/unreachable:NoExecute].effect": [null, "NoExecute"]});
        assert_eq!(words("Node", taint), ("tainted node.kubernetes.io/unreachable:NoExecute".to_owned(), TURNING));
        let heartbeat = json!({"status.conditions[Ready].lastHeartbeatTime": ["a", "b"]});
        assert_eq!(words("Node", heartbeat), ("heartbeat".to_owned(), 0));
    }
}

//! Pods that are missing, too many, or ended.

use std::rc::Rc;

use crate::api::event::EventType;
use crate::api::meta::{Timestamp, Uid};
use crate::api::name::Name;
use crate::api::pod::{Pod, PodPhase};
use crate::api::workload::DaemonSet;
use crate::client::view::Now;
use crate::engine::hash::Map;
use crate::engine::time::{SimDuration, SimTime};

use super::super::history::REVISION_LABEL;
use super::nodes::{Nodes, OnNode, age};
use super::rolling;

/// How long the first wait between two failed pods on a node is, and the longest (kube-controller-manager, app/apps.go).
const FIRST_WAIT: SimDuration = SimDuration::from_secs(1);
const LONGEST_WAIT: SimDuration = SimDuration::from_secs(15 * 60);

/// When failed pods were replaced, and how long to wait until the next one is (client-go, flowcontrol: `Backoff`).
#[derive(Default)]
pub(super) struct BackOff {
    entries: Map<(Uid, i64, Name), Entry>,
}

struct Entry {
    wait: SimDuration,
    since: SimTime,
}

impl Entry {
    fn has_expired(&self, now: SimTime) -> bool {
        now.since(self.since) > LONGEST_WAIT * 2
    }
}

impl BackOff {
    /// How long to wait in all, if it is not over.
    fn wait(&self, key: &(Uid, i64, Name), now: SimTime) -> Option<SimDuration> {
        let entry = self.entries.get(key).filter(|entry| !entry.has_expired(now))?;
        (now.since(entry.since) < entry.wait).then_some(entry.wait)
    }

    /// A failed pod is replaced now: the next one waits twice as long.
    fn next(&mut self, key: (Uid, i64, Name), now: SimTime) {
        self.entries.retain(|_, entry| !entry.has_expired(now));
        let entry = self.entries.entry(key);
        let wait = |before: &Entry| (before.wait * 2).min(LONGEST_WAIT);
        entry
            .and_modify(|entry| *entry = Entry { wait: wait(entry), since: now })
            .or_insert(Entry { wait: FIRST_WAIT, since: now });
    }
}

/// What is to be done.
#[derive(Default)]
pub(super) struct Due {
    /// The nodes that need a pod.
    pub create: Vec<Name>,
    /// The pods that go.
    pub delete: Vec<Rc<Pod>>,
    /// What is told of the DaemonSet.
    pub events: Vec<(EventType, &'static str, String)>,
    /// When a failed pod may be replaced that waits.
    pub again: Option<SimDuration>,
}

/// Decides node by node (`manage`); pods that wait for a node which is not there go too.
pub(super) fn decide(set: &DaemonSet, nodes: &Nodes, hash: &Name, back_off: &mut BackOff, now: Now) -> Due {
    let mut due = Due::default();
    for node in nodes.open.iter().filter(|node| node.standing.exists) {
        if node.standing.should_run && node.pods.is_empty() {
            due.create.push(node.name.clone());
        } else if node.standing.should_continue {
            prune(set, node, hash, back_off, now, &mut due);
        } else {
            due.delete.extend(node.pods.iter().filter(|pod| !pod.meta.is_deleting()).cloned());
        }
    }
    for node in nodes.open.iter().filter(|node| !node.standing.exists) {
        due.delete.extend(node.pods.iter().filter(|pod| pod.node.is_none()).cloned());
    }
    due
}

/// Replaces pods that have ended, and leaves one pod on a node; two while a new one takes over from an old one
/// (`podsShouldBeOnNode`).
fn prune(set: &DaemonSet, node: &OnNode, hash: &Name, back_off: &mut BackOff, now: Now, due: &mut Due) {
    let mut running: Vec<&Rc<Pod>> = Vec::new();
    for pod in node.pods.iter().filter(|pod| !pod.meta.is_deleting()) {
        match pod.status.phase {
            PodPhase::Failed => failed(set, node, pod, back_off, now, due),
            PodPhase::Succeeded => {
                let place = format!("{}/{} on node {}", pod.meta.namespace, pod.meta.name, node.name);
                let message = format!("Found succeeded daemon pod {place}, will try to delete it");
                due.events.push((EventType::Normal, "SucceededDaemonPod", message));
                due.delete.push(pod.clone());
            }
            _ => running.push(pod),
        }
    }
    running.sort_by(|left, right| age(left).cmp(&age(right)));
    if !rolling::allows_surge(set) {
        due.delete.extend(running.iter().skip(1).map(|pod| Rc::clone(pod)));
        return;
    }
    if running.len() <= 1 {
        if running.is_empty() && node.standing.should_run {
            due.create.push(node.name.clone());
        }
        return;
    }
    let is_new = |pod: &&&Rc<Pod>| pod.meta.labels.get(&REVISION_LABEL) == Some(hash);
    let new = running.iter().find(is_new).copied();
    let old = running.iter().find(|pod| !is_new(pod)).copied();
    let is_kept = |pod: &Rc<Pod>| [new, old].into_iter().flatten().any(|kept| Rc::ptr_eq(kept, pod));
    due.delete.extend(running.iter().filter(|pod| !is_kept(pod)).map(|pod| Rc::clone(pod)));
    if let (Some(new), Some(old)) = (new, old)
        && (!old.status.is_ready() || new.is_available(set.min_ready_seconds, today(now)))
    {
        due.delete.push(old.clone());
    }
}

/// A kubelet that refuses every pod must not be sent one after the other: each waits twice as long as the one before.
fn failed(set: &DaemonSet, node: &OnNode, pod: &Rc<Pod>, back_off: &mut BackOff, now: Now, due: &mut Due) {
    let key = (set.meta.uid, set.status.observed_generation, node.name.clone());
    if let Some(wait) = back_off.wait(&key, now.at) {
        due.again = Some(due.again.map_or(wait, |again| again.min(wait)));
        return;
    }
    back_off.next(key, now.at);
    let place = format!("{}/{} on node {}", pod.meta.namespace, pod.meta.name, node.name);
    let message = format!("Found failed daemon pod {place}, will try to kill it");
    due.events.push((EventType::Warning, "FailedDaemonPod", message));
    due.delete.push(pod.clone());
}

fn today(now: Now) -> Timestamp {
    now.timestamp()
}

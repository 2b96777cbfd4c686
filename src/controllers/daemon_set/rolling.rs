//! The replacement of old pods, within what may be missing or doubled at a time.

use std::rc::Rc;

use crate::api::int_or_string::{IntOrString, Round, scaled_value};
use crate::api::meta::Timestamp;
use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::api::workload::{DaemonSet, DaemonSetStrategy};
use crate::client::view::Now;

use super::super::history::REVISION_LABEL;
use super::manage::Due;
use super::nodes::{Nodes, OnNode};

/// The label of pods with the number of their template.
pub(super) const GENERATION_LABEL: Name = Name::of("pod-template-generation");
/// The annotation of DaemonSets with the number of their template.
const GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";

/// True if a node may have a new pod beside an old one.
pub(super) fn allows_surge(set: &DaemonSet) -> bool {
    match &set.strategy {
        DaemonSetStrategy::OnDelete => false,
        DaemonSetStrategy::RollingUpdate { max_surge, .. } => part(max_surge, 1) > 0,
    }
}

fn part(value: &IntOrString, of: usize) -> usize {
    let part = scaled_value(value, of as i64, Round::Up).unwrap_or(0);
    usize::try_from(part).unwrap_or(0)
}

/// The number of a DaemonSet's template, as it is written.
pub(super) fn template_generation(set: &DaemonSet) -> Option<&Name> {
    set.meta.annotations.get(GENERATION_ANNOTATION).filter(|text| text.parse::<i64>().is_ok())
}

/// True if a pod is of the present template (`IsPodUpdated`).
pub(super) fn is_updated(set: &DaemonSet, hash: &Name, pod: &Pod) -> bool {
    let has = |label: &Name, value: Option<&Name>| value.is_some() && pod.meta.labels.get(label) == value;
    has(&REVISION_LABEL, Some(hash).filter(|hash| !hash.is_empty())) || has(&GENERATION_LABEL, template_generation(set))
}

/// A node's pods that are not going: the new one and the old one; none if there are several of either, which are pruned
/// first (`findUpdatedPodsOnNode`).
type NewAndOld<'n> = Option<(Option<&'n Rc<Pod>>, Option<&'n Rc<Pod>>)>;

fn new_and_old<'n>(set: &DaemonSet, hash: &Name, node: &'n OnNode) -> NewAndOld<'n> {
    let (mut new, mut old) = (None, None);
    for pod in node.pods.iter().filter(|pod| !pod.meta.is_deleting()) {
        let place = if is_updated(set, hash, pod) { &mut new } else { &mut old };
        if place.replace(pod).is_some() {
            return None;
        }
    }
    Some((new, old))
}

/// Which old pods go, and which nodes get a new one beside the old one (`rollingUpdate`); or why that cannot be said.
pub(super) fn decide(set: &DaemonSet, nodes: &Nodes, hash: &Name, now: Now) -> Result<Due, String> {
    let DaemonSetStrategy::RollingUpdate { max_unavailable, max_surge } = &set.strategy else {
        return Ok(Due::default());
    };
    let desired = nodes.settled + nodes.open.iter().filter(|node| node.standing.should_run).count();
    let (mut unavailable, surge) = (part(max_unavailable, desired), part(max_surge, desired));
    if desired > 0 && unavailable == 0 && surge == 0 {
        unavailable = 1;
    }
    if surge == 0 {
        Ok(replace(set, nodes, hash, unavailable, now.timestamp()))
    } else {
        double(set, nodes, hash, surge, desired, now.timestamp())
    }
}

/// The open nodes that count: those that have pods or are to have one.
fn concerned(nodes: &Nodes) -> impl Iterator<Item = &OnNode> {
    nodes.open.iter().filter(|node| node.standing.should_run || !node.pods.is_empty())
}

/// Old pods that are not available go at once; of the others as many as may be missing.
fn replace(set: &DaemonSet, nodes: &Nodes, hash: &Name, max_unavailable: usize, today: Timestamp) -> Due {
    let is_available = |pod: &Pod| pod.is_available(set.min_ready_seconds, today);
    let mut missing = 0;
    let (mut broken, mut candidates) = (Vec::new(), Vec::new());
    for node in concerned(nodes) {
        match new_and_old(set, hash, node) {
            // Nothing there, or too much: the pod is on its way, or will be.
            None | Some((None, None) | (Some(_), Some(_))) => missing += 1,
            Some((Some(new), None)) => missing += usize::from(!is_available(new)),
            Some((None, Some(old))) if !is_available(old) => {
                broken.push(old.clone());
                missing += 1;
            }
            Some((None, Some(old))) if missing < max_unavailable => candidates.push(old.clone()),
            Some((None, Some(_))) => {}
        }
    }
    candidates.truncate(max_unavailable.saturating_sub(missing));
    broken.append(&mut candidates);
    Due { delete: broken, ..Due::default() }
}

/// Old pods that are not available get a new one beside them at once; of the others as many as may be doubled. An old pod goes
/// when the new one is available. As long as there is an old pod whose node is gone, nothing is done, as in the original.
fn double(
    set: &DaemonSet,
    nodes: &Nodes,
    hash: &Name,
    max_surge: usize,
    desired: usize,
    today: Timestamp,
) -> Result<Due, String> {
    let is_available = |pod: &Pod| pod.is_available(set.min_ready_seconds, today);
    let mut due = Due::default();
    let (mut doubled, mut available) = (0, nodes.settled);
    let (mut candidates, mut displaced) = (Vec::new(), Vec::new());
    for node in concerned(nodes) {
        let Some((new, old)) = new_and_old(set, hash, node) else {
            doubled += 1;
            continue;
        };
        available += usize::from(old.or(new).is_some_and(|pod| is_available(pod)));
        match (new, old) {
            (_, None) => {}
            (None, Some(_)) if !node.standing.exists => {
                let why = format!("node \"{}\" not found", node.name);
                return Err(format!("couldn't get node for nodeName \"{}\": {why}", node.name));
            }
            (None, Some(old)) => match (is_available(old), node.standing.should_run) {
                (false, false) => due.delete.push(old.clone()),
                (false, true) => due.create.push(node.name.clone()),
                (true, false) => displaced.push(old.clone()),
                (true, true) if doubled < max_surge => candidates.push(node.name.clone()),
                (true, true) => {}
            },
            (Some(new), Some(_)) if !is_available(new) => doubled += 1,
            (Some(_), Some(old)) => due.delete.push(old.clone()),
        }
    }
    // Where the pod is no longer to run it stays until enough of the others are available.
    displaced.truncate(available.saturating_sub(desired));
    due.delete.append(&mut displaced);
    candidates.truncate(max_surge.saturating_sub(doubled));
    due.create.append(&mut candidates);
    Ok(due)
}

//! What is kept of each decision, if anybody wants to know: small, and made of what the decision left anyway.

use super::algorithm::{Chosen, Outcome};
use super::diagnosis::Diagnosis;
use super::profile::Profile;
use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::engine::process::Cause;
use crate::engine::time::SimTime;

/// A decision about a pod: where it goes, or why nowhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decided {
    /// When.
    pub at: SimTime,
    /// The pod's namespace.
    pub namespace: Name,
    /// The pod's name.
    pub name: Name,
    /// Which attempt it was, from one on.
    pub attempt: u32,
    /// The event that led to the decision.
    pub cause: Cause,
    /// What was decided.
    pub verdict: Verdict,
}

/// What was decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The pod goes to a node.
    Node(Chosen),
    /// A plugin failed; what went wrong.
    Failed(Name),
    /// The pod fits no node.
    Nowhere {
        /// How many nodes there are.
        nodes: usize,
        /// Who rejected how many nodes, and why. What PreFilter says holds for all nodes.
        rejections: Vec<Rejection>,
        /// What PostFilter said; empty if it said nothing.
        post_filter: String,
        /// The node that was nominated, if one was.
        nominated: Option<Name>,
    },
}

/// A reason for which nodes were rejected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    /// The plugin; empty where PreFilter named other nodes.
    pub plugin: &'static str,
    /// The reason.
    pub reason: Name,
    /// How many nodes.
    pub nodes: usize,
}

impl Verdict {
    /// What is kept of an outcome.
    pub fn new(outcome: &Outcome, profile: &Profile) -> Self {
        match outcome {
            Outcome::Node(chosen) => Verdict::Node(chosen.clone()),
            Outcome::Failed(why) => Verdict::Failed(why.clone()),
            Outcome::Unschedulable(diagnosis) => Verdict::Nowhere {
                nodes: diagnosis.node_count,
                rejections: rejections(diagnosis, profile),
                post_filter: diagnosis.post_filter.clone(),
                nominated: diagnosis.nominated_node.clone().filter(|node| !node.is_empty()),
            },
        }
    }
}

impl Decided {
    /// What is kept of a decision about a pod.
    pub fn new(pod: &Pod, attempt: u32, at: SimTime, cause: Cause, verdict: Verdict) -> Self {
        Decided { at, namespace: pod.meta.namespace.clone(), name: pod.meta.name.clone(), attempt, cause, verdict }
    }
}

fn rejections(diagnosis: &Diagnosis, profile: &Profile) -> Vec<Rejection> {
    if let Some(status) = &diagnosis.pre_filter {
        let plugin = diagnosis.plugins.iter().last().map_or("", |place| profile.plugin(place).name());
        let reasons = status.reasons.iter();
        return reasons
            .map(|reason| Rejection { plugin, reason: reason.clone(), nodes: diagnosis.node_count })
            .collect();
    }
    let mut all: Vec<Rejection> = Vec::new();
    for verdict in &diagnosis.verdicts {
        let plugin = profile.plugin(verdict.plugin).name();
        for reason in &verdict.status.reasons {
            match all.iter_mut().find(|known| known.plugin == plugin && known.reason == *reason) {
                Some(known) => known.nodes += verdict.nodes,
                None => all.push(Rejection { plugin, reason: reason.clone(), nodes: verdict.nodes }),
            }
        }
    }
    let seen: usize = diagnosis.verdicts.iter().map(|verdict| verdict.nodes).sum();
    let left = diagnosis.node_count.saturating_sub(seen);
    for reason in diagnosis.others.iter().filter(|_| left > 0).flat_map(|status| &status.reasons) {
        all.push(Rejection { plugin: "", reason: reason.clone(), nodes: left });
    }
    all
}

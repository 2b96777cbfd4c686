//! Why a pod fits no node, and the sentence that says so (kube-scheduler, `framework.FitError`).

use super::framework::{PluginSet, Status};
use crate::api::meta::Uid;
use crate::api::name::Name;

/// Why a pod fits no node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Diagnosis {
    /// How many nodes there are.
    pub node_count: usize,
    /// What PreFilter said, if it rejected the pod on all nodes.
    pub pre_filter: Option<Status>,
    /// Verdicts with the number of nodes that got each, and the place of the plugin that gave it.
    pub verdicts: Vec<Verdict>,
    /// What is said of nodes that no filter saw, because PreFilter named others.
    pub others: Option<Status>,
    /// What PostFilter said.
    pub post_filter: String,
    /// What is to become of a nomination: a node, or the empty name to take it back.
    pub nominated_node: Option<Name>,
    /// The pods that have to go from the nominated node, the most important first.
    pub victims: Vec<Uid>,
    /// The plugins that rejected the pod.
    pub plugins: PluginSet,
    /// The plugins that did so and say that something is under way that will help.
    pub pending: PluginSet,
}

/// A verdict that some nodes got.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// The plugin's place in the profile.
    pub plugin: usize,
    /// What it said.
    pub status: Status,
    /// Of how many nodes.
    pub nodes: usize,
}

impl Diagnosis {
    /// The whole sentence. Reasons stand in the order of their texts, the counts included: `13 x` before `2 y`.
    pub fn message(&self) -> String {
        if self.node_count == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        let mut message = format!("0/{} nodes are available:", self.node_count);
        match &self.pre_filter {
            Some(status) => message += &format!(" {}.", status.message()),
            None => {
                let reasons = self.counted_reasons();
                if !reasons.is_empty() {
                    message += &format!(" {}.", reasons.join(", "));
                }
            }
        }
        if !self.post_filter.is_empty() {
            message += " ";
            message += &self.post_filter;
        }
        message
    }

    fn counted_reasons(&self) -> Vec<String> {
        let seen: usize = self.verdicts.iter().map(|verdict| verdict.nodes).sum();
        let others = self.others.iter().map(|status| (status, self.node_count.saturating_sub(seen)));
        let all = self.verdicts.iter().map(|verdict| (&verdict.status, verdict.nodes)).chain(others);
        let mut counts: Vec<(&Name, usize)> = Vec::new();
        for (status, nodes) in all.filter(|(_, nodes)| *nodes > 0) {
            for reason in &status.reasons {
                match counts.iter_mut().find(|(known, _)| *known == reason) {
                    Some((_, count)) => *count += nodes,
                    None => counts.push((reason, nodes)),
                }
            }
        }
        let mut reasons: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        reasons.sort();
        reasons
    }
}

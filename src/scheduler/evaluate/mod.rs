//! One decision in full: what each plugin says of each node, asked plainly, one after the other.
//!
//! This is the reference. It keeps nothing between two pods, samples no nodes and draws no lot: it tells everything that
//! kube-scheduler would decide on, and what all its choices are among. [`Algorithm`](super::algorithm::Algorithm) must come to
//! the same, only faster.
//!
//! - this file: filtering and scoring
//! - `post_filter`: what preemption would do

mod post_filter;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::rc::Rc;

pub use self::post_filter::Preemption;
use super::cluster::Cluster;
use super::codes::NodeCodes;
use super::compiled::{Scorer, filter_status, scorers, unprepared};
use super::diagnosis::{Diagnosis, Verdict};
use super::framework::{Code, NodeFilter, Normalization, PluginSet, Point, PreFilter, Status};
use super::node_info::NodeInfo;
use super::profile::Profile;
use crate::api::name::Name;
use crate::api::pod::Pod;

/// What a plugin says, and which one it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// The plugin's place in the profile.
    pub plugin: usize,
    /// The plugin's name.
    pub name: &'static str,
    /// What it says.
    pub status: Status,
}

/// Everything that is decided about a pod.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// The plugin that keeps the pod out of the queue; then nothing else is asked.
    pub gate: Option<Said>,
    /// What came of all PreFilter plugins.
    pub pre_filter: PreFilterResult,
    /// All nodes in the order of their names; empty for a gated pod.
    pub nodes: Vec<NodeVerdict>,
    /// The places in `nodes` of those that fit.
    pub feasible: Vec<usize>,
    /// The plugins that did not want to score, sorted by name.
    pub skipped_scores: Vec<&'static str>,
    /// The scores of each plugin that did; none if no node fits.
    pub scores: Vec<PluginScores>,
    /// The sum of the weighted scores of each node that fits, in the order of `feasible`.
    pub totals: Vec<i64>,
    /// The places in `nodes` of those among which the scheduler draws: the ones with the highest total, or the pod's nominated
    /// node alone if that fits.
    pub best: Vec<usize>,
    /// Why a plugin failed, if one did: then nothing else is decided, and the pod is tried again.
    pub failure: Option<String>,
    /// Why no node fits, if none does. PostFilter was not asked.
    pub diagnosis: Option<Diagnosis>,
    /// What PostFilter does, if no node fits.
    pub preemption: Option<Preemption>,
}

/// What came of all PreFilter plugins.
#[derive(Clone, Debug, Default)]
pub struct PreFilterResult {
    /// The plugin that rejected the pod on all nodes. Where several plugins left no node together, the plugin is none of them.
    pub rejected: Option<PreFilterRejection>,
    /// The only nodes that come into question, sorted by name, if any were named.
    pub nodes: Option<Vec<Name>>,
    /// The places of the plugins that named nodes.
    pub naming: Vec<usize>,
    /// The plugins that returned Skip, so that their Filter is not run, sorted by name.
    pub skipped: Vec<&'static str>,
}

/// A rejection on all nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PreFilterRejection {
    /// The plugin; none if the nodes that several plugins named have none in common.
    pub plugin: Option<(usize, &'static str)>,
    /// What is said.
    pub status: Status,
}

/// What the filters say of a node.
#[derive(Clone, Debug)]
pub struct NodeVerdict {
    /// The node.
    pub node: Name,
    /// The node's place in the cluster's list.
    pub place: usize,
    /// What becomes of it.
    pub outcome: NodeOutcome,
    /// Every filter that rejects it, in the order of the profile, each asked whatever the others say, without regard to
    /// nominated pods.
    pub rejections: Vec<Said>,
}

/// What becomes of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodeOutcome {
    /// The pod fits.
    Fits,
    /// A filter rejects it: the first one that does, nominated pods taken into account.
    Rejected(Said),
    /// PreFilter named other nodes.
    Excluded(Status),
    /// PreFilter rejected the pod on all nodes.
    NotAsked(Status),
}

/// What a plugin scores.
#[derive(Clone, Debug)]
pub struct PluginScores {
    /// The plugin's place in the profile.
    pub plugin: usize,
    /// The plugin's name.
    pub name: &'static str,
    /// How much its scores weigh.
    pub weight: i64,
    /// The raw score of each node that fits.
    pub raw: Vec<i64>,
    /// The same brought to the scale; none if the plugin has no normalization.
    pub normalized: Option<Vec<i64>>,
}

impl PluginScores {
    /// What the plugin adds to the total of the node at a place among those that fit.
    pub fn weighted(&self, place: usize) -> i64 {
        self.weight * self.normalized.as_ref().unwrap_or(&self.raw)[place]
    }
}

impl NodeVerdict {
    /// What keeps the pod off the node, as its status in kube-scheduler's `NodeToStatus`; none if it fits.
    pub fn status(&self) -> Option<&Status> {
        match &self.outcome {
            NodeOutcome::Fits => None,
            NodeOutcome::Rejected(said) => Some(&said.status),
            NodeOutcome::Excluded(status) | NodeOutcome::NotAsked(status) => Some(status),
        }
    }
}

impl Evaluation {
    /// Asks all plugins about a pod. The cluster must have been refreshed.
    pub fn new(profile: &Profile, cluster: &Cluster, pod: &Rc<Pod>) -> Self {
        let mut evaluation = Evaluation::default();
        if let Some(place) = profile.gate(pod, None) {
            let plugin = profile.plugin(place);
            evaluation.gate = Some(Said { plugin: place, name: plugin.name(), status: plugin.pre_enqueue(pod) });
            return evaluation;
        }
        if cluster.node_count() == 0 {
            // Then nobody is asked.
            evaluation.diagnosis = Some(Diagnosis::default());
            return evaluation;
        }
        let filters = evaluation.pre_filter(profile, cluster, pod);
        evaluation.filter(profile, cluster, pod, &filters);
        evaluation.failure = evaluation.failure();
        if evaluation.failure.is_some() {
            evaluation.feasible.clear();
        } else if evaluation.feasible.is_empty() {
            evaluation.diagnosis = Some(evaluation.diagnose(profile));
            let codes = evaluation.codes(cluster);
            evaluation.preemption = post_filter::run(profile, pod, cluster, codes);
        } else {
            let taken = evaluation.taken_unscored(pod);
            match evaluation.score(profile, cluster, pod) {
                Err(failure) if taken.is_none() => {
                    evaluation.failure = Some(failure.to_string());
                    (evaluation.feasible, evaluation.totals) = (Vec::new(), Vec::new());
                }
                _ => evaluation.choose(taken),
            }
        }
        evaluation
    }

    /// Runs PreFilter, and returns the filters that are to be run. A rejection that preemption may change does not keep the other
    /// plugins from looking at the pod; of several such the last one counts (kube-scheduler, `RunPreFilterPlugins`).
    fn pre_filter(&mut self, profile: &Profile, cluster: &Cluster, pod: &Pod) -> Vec<(usize, Box<dyn NodeFilter>)> {
        let result = &mut self.pre_filter;
        let mut filters: BTreeMap<usize, Box<dyn NodeFilter>> = BTreeMap::new();
        for (place, plugin, _) in profile.at(Point::PreFilter) {
            match plugin.pre_filter(pod, cluster) {
                PreFilter::Nothing => {}
                PreFilter::Skip => result.skipped.push(plugin.name()),
                PreFilter::Reject(status) => {
                    let is_final = status.code != Code::Unschedulable;
                    result.rejected = Some(PreFilterRejection { plugin: Some((place, plugin.name())), status });
                    if is_final {
                        (result.nodes, result.naming) = (None, Vec::new());
                        break;
                    }
                }
                PreFilter::Filter { nodes, filter } => {
                    filters.insert(place, filter);
                    let Some(nodes) = nodes else { continue };
                    if !result.restrict(place, nodes) {
                        let status = result.nothing_left(profile);
                        result.rejected = Some(PreFilterRejection { plugin: None, status });
                        break;
                    }
                }
            }
        }
        result.skipped.sort_unstable();
        // Filters that need nothing from PreFilter are compiled here all the same.
        for (place, ..) in profile.at(Point::Filter).filter(|(place, ..)| !profile.is_asked(*place, Point::PreFilter)) {
            if let PreFilter::Filter { filter, .. } = unprepared(profile, place, pod, cluster) {
                filters.insert(place, filter);
            }
        }
        profile.at(Point::Filter).filter_map(|(place, ..)| Some((place, filters.remove(&place)?))).collect()
    }

    fn filter(&mut self, profile: &Profile, cluster: &Cluster, pod: &Pod, filters: &[(usize, Box<dyn NodeFilter>)]) {
        let mut nodes: Vec<(usize, &NodeInfo)> = cluster.nodes().enumerate().collect();
        nodes.sort_by(|(_, left), (_, right)| left.name.cmp(&right.name));
        for (place, info) in nodes {
            // The node to which the pod is nominated is looked at first, whichever nodes were named.
            let is_nominated = pod.status.nominated_node.as_deref() == Some(&info.name);
            let named = self.pre_filter.nodes.as_ref().filter(|_| !is_nominated);
            let outcome = if let Some(rejection) = &self.pre_filter.rejected {
                NodeOutcome::NotAsked(rejection.status.clone())
            } else if named.is_some_and(|names| names.binary_search(&info.name).is_err()) {
                NodeOutcome::Excluded(self.pre_filter.others(profile))
            } else {
                first_rejection(profile, cluster, pod, filters, place).map_or(NodeOutcome::Fits, NodeOutcome::Rejected)
            };
            let asked = !matches!(outcome, NodeOutcome::NotAsked(_));
            let rejections = if asked { rejections(profile, filters, info) } else { Vec::new() };
            if outcome == NodeOutcome::Fits {
                self.feasible.push(self.nodes.len());
            }
            self.nodes.push(NodeVerdict { node: info.name.clone(), place, outcome, rejections });
        }
    }

    fn score(&mut self, profile: &Profile, cluster: &Cluster, pod: &Pod) -> Result<(), Name> {
        let infos: Vec<&NodeInfo> = self.feasible.iter().map(|place| cluster.at(self.nodes[*place].place)).collect();
        self.totals = vec![0; infos.len()];
        let (scorers, skipped) = scorers(profile, pod, cluster, &infos, |_| true)?;
        for Scorer { plugin, weight, score, normalization } in scorers {
            let raw: Vec<i64> = infos.iter().map(|info| score.score(info)).collect();
            let normalized = (normalization != Normalization::None).then(|| {
                let mut normalized = raw.clone();
                score.normalize(&infos, &mut normalized);
                normalized
            });
            let scores = PluginScores { plugin, name: profile.plugin(plugin).name(), weight, raw, normalized };
            for (at, total) in self.totals.iter_mut().enumerate() {
                *total += scores.weighted(at);
            }
            self.scores.push(scores);
        }
        self.skipped_scores = skipped.into_iter().map(|place| profile.plugin(place).name()).collect();
        self.skipped_scores.sort_unstable();
        Ok(())
    }

    /// The node that is taken whatever its score: a feasible nominated one is, without a look at the others (kube-scheduler,
    /// `evaluateNominatedNode`), and so is the only feasible one.
    fn taken_unscored(&self, pod: &Pod) -> Option<usize> {
        let nominated = pod.status.nominated_node.as_deref();
        let is_nominated = |place: &&usize| Some(&self.nodes[**place].node) == nominated;
        let only = || self.feasible.first().filter(|_| self.feasible.len() == 1);
        self.feasible.iter().find(is_nominated).or_else(only).copied()
    }

    fn choose(&mut self, taken: Option<usize>) {
        if let Some(place) = taken {
            self.best = vec![place];
            return;
        }
        let highest = self.totals.iter().copied().max();
        let equals = self.feasible.iter().zip(&self.totals).filter(|(_, total)| Some(**total) == highest);
        self.best = equals.map(|(place, _)| *place).collect();
    }

    /// What went wrong, if PreFilter or the filter of a node failed: of several nodes on the first one in the order in which they
    /// are tried.
    fn failure(&self) -> Option<String> {
        if let Some(PreFilterRejection { plugin: Some((_, name)), status }) = &self.pre_filter.rejected
            && status.code == Code::Error
        {
            return Some(format!("running PreFilter plugin \"{name}\": {}", status.message()));
        }
        let failed = self.nodes.iter().filter_map(|node| match &node.outcome {
            NodeOutcome::Rejected(said) if said.status.code == Code::Error => Some((node.place, said)),
            _ => None,
        });
        let (_, first) = failed.min_by_key(|(place, _)| *place)?;
        Some(first.status.message())
    }

    /// The code of each node, by its place in the cluster's list.
    fn codes(&self, cluster: &Cluster) -> NodeCodes<'static> {
        let mut codes = vec![Code::Success; cluster.node_count()];
        for node in &self.nodes {
            codes[node.place] = node.status().map_or(Code::Success, |status| status.code);
        }
        codes.into_iter().collect()
    }

    fn diagnose(&self, profile: &Profile) -> Diagnosis {
        let mut verdicts: Vec<Verdict> = Vec::new();
        let mut plugins: PluginSet = self.pre_filter.naming.iter().copied().collect();
        let mut pending = PluginSet::NONE;
        let mut note = |plugin: usize, code: Code| {
            if code == Code::Pending { &mut pending } else { &mut plugins }.insert(plugin);
        };
        if let Some(PreFilterRejection { plugin: Some((plugin, _)), status }) = &self.pre_filter.rejected {
            note(*plugin, status.code);
        }
        for said in self.nodes.iter().filter_map(|node| match &node.outcome {
            NodeOutcome::Rejected(said) => Some(said),
            _ => None,
        }) {
            note(said.plugin, said.status.code);
            match verdicts.iter_mut().find(|known| known.plugin == said.plugin && known.status == said.status) {
                Some(known) => known.nodes += 1,
                None => verdicts.push(Verdict { plugin: said.plugin, status: said.status.clone(), nodes: 1 }),
            }
        }
        verdicts.sort_by(|left, right| (left.plugin, &left.status.reasons).cmp(&(right.plugin, &right.status.reasons)));
        Diagnosis {
            node_count: self.nodes.len(),
            pre_filter: self.pre_filter.rejected.as_ref().map(|rejection| rejection.status.clone()),
            verdicts,
            others: self.pre_filter.nodes.as_ref().map(|_| self.pre_filter.others(profile)),
            post_filter: String::new(),
            nominated_node: None,
            victims: Vec::new(),
            plugins,
            pending,
        }
    }
}

/// The places of the nodes that a pod fits: what [`Evaluation::new`] calls feasible, and nothing else of it.
pub fn feasible_nodes(profile: &Profile, cluster: &Cluster, pod: &Pod) -> Vec<usize> {
    let mut evaluation = Evaluation::default();
    if profile.gate(pod, None).is_some() {
        return Vec::new();
    }
    let filters = evaluation.pre_filter(profile, cluster, pod);
    let result = &evaluation.pre_filter;
    if result.rejected.is_some() {
        return Vec::new();
    }
    let nodes = cluster.nodes().enumerate();
    let named =
        nodes.filter(|(_, node)| result.nodes.as_ref().is_none_or(|names| names.binary_search(&node.name).is_ok()));
    let fitting = named.filter(|(place, _)| first_rejection(profile, cluster, pod, &filters, *place).is_none());
    fitting.map(|(place, _)| place).collect()
}

impl PreFilterResult {
    /// Leaves only nodes that are named here too; false if there are none.
    fn restrict(&mut self, plugin: usize, mut nodes: Vec<Name>) -> bool {
        self.naming.push(plugin);
        if let Some(named) = &self.nodes {
            nodes.retain(|node| named.binary_search(node).is_ok());
        }
        let is_any_left = !nodes.is_empty();
        self.nodes = Some(nodes);
        is_any_left
    }

    fn naming_plugins(&self, profile: &Profile) -> Vec<&'static str> {
        let mut names: Vec<&str> = self.naming.iter().map(|place| profile.plugin(*place).name()).collect();
        names.sort_unstable();
        names
    }

    fn nothing_left(&self, profile: &Profile) -> Status {
        Status::unresolvable(match self.naming_plugins(profile).as_slice() {
            [name] => format!("node(s) didn't satisfy plugin {name}"),
            names => format!("node(s) didn't satisfy plugin(s) [{}] simultaneously", names.join(" ")),
        })
    }

    /// What is said of nodes that were not named.
    fn others(&self, profile: &Profile) -> Status {
        let names = self.naming_plugins(profile).join(" ");
        Status::unresolvable(format!("node(s) didn't satisfy plugin(s) [{names}]"))
    }
}

/// The first filter that rejects a node. A pod must fit both with and without the pods that are nominated to the node and go first:
/// they may come, and they may not (kube-scheduler, `RunFilterPluginsWithNominatedPods`).
fn first_rejection(
    profile: &Profile,
    cluster: &Cluster,
    pod: &Pod,
    filters: &[(usize, Box<dyn NodeFilter>)],
    place: usize,
) -> Option<Said> {
    let node = cluster.at(place);
    let goes_first = |other: &&Rc<Pod>| other.spec.priority >= pod.spec.priority && other.meta.uid != pod.meta.uid;
    let nominated: Vec<Rc<Pod>> = cluster.nominated_at(place).iter().filter(goes_first).cloned().collect();
    let first = |said: &dyn Fn(&dyn NodeFilter) -> Status| {
        filters.iter().find_map(|(plugin, filter)| rejection(profile, *plugin, said(filter.as_ref())))
    };
    if !nominated.is_empty() {
        let mut with = node.clone();
        nominated.iter().for_each(|pod| with.add(pod));
        let rejected = first(&|filter| filter.filter_if(&with, &nominated, &[]));
        if rejected.is_some() {
            return rejected;
        }
    }
    first(&|filter| filter.filter(node))
}

/// Every filter that rejects a node.
fn rejections(profile: &Profile, filters: &[(usize, Box<dyn NodeFilter>)], node: &NodeInfo) -> Vec<Said> {
    let all = filters.iter();
    all.filter_map(|(plugin, filter)| rejection(profile, *plugin, filter.filter(node))).collect()
}

fn rejection(profile: &Profile, plugin: usize, status: Status) -> Option<Said> {
    let name = profile.plugin(plugin).name();
    (!status.is_success()).then(|| Said { plugin, name, status: filter_status(name, status) })
}

//! What the plugins of a profile make of a pod: PreFilter and PreScore, and the filters and scorers that come of them.
//!
//! This is the plain way: every plugin looks at everything anew. `class` keeps what can be kept, and must come to the same.

use std::rc::Rc;

use super::cluster::Cluster;
use super::framework::{
    Code, Fails, NoScore, NodeFilter, NodeScore, Normalization, Plugin, PluginSet, Point, PreFilter, PreScore, Rejects,
    Status, Validity,
};
use super::node_info::NodeInfo;
use super::profile::Profile;
use crate::api::meta::Uid;
use crate::api::name::Name;
use crate::api::pod::Pod;

/// What the plugins of a profile compiled out of a pod.
pub struct Compiled {
    /// The plugin that rejected the pod on all nodes, and what it said.
    pub rejected: Option<(usize, Status)>,
    /// The only nodes that come into question, sorted by name, if PreFilter named any.
    pub nodes: Option<Vec<Name>>,
    /// The plugins whose PreFilter was asked.
    pub asked: PluginSet,
    /// The places of the plugins that named nodes.
    pub naming: Vec<usize>,
    /// The filters that are run, with the places of their plugins.
    pub filters: Vec<(usize, Box<dyn NodeFilter>)>,
    /// The names of these plugins.
    names: Vec<&'static str>,
    /// The places of the plugins whose filters are not run.
    pub skipped_filters: Vec<usize>,
    /// The scorers that are run.
    pub scorers: Vec<Scorer>,
    /// The places of the plugins whose scorers are not run.
    pub skipped_scorers: Vec<usize>,
    /// Why a plugin cannot score, if one cannot.
    pub failure: Option<Name>,
}

/// A plugin's scorer.
pub struct Scorer {
    /// The plugin's place in the profile.
    pub plugin: usize,
    /// How much its scores weigh.
    pub weight: i64,
    /// Scores a node.
    pub score: Box<dyn NodeScore>,
    /// How raw scores become scores.
    pub normalization: Normalization,
}

impl Compiled {
    /// Runs PreFilter. Who wants to score nodes too runs [`Compiled::pre_score`] when he knows which fit.
    pub fn new(profile: &Profile, pod: &Pod, cluster: &Cluster) -> Self {
        Compiled::of(profile, pod, cluster, |_| true)
    }

    /// The same of those plugins alone whose verdicts and scores hold for a node while it is unchanged.
    pub fn of_nodes(profile: &Profile, pod: &Pod, cluster: &Cluster) -> Self {
        let is_asked = |plugin: &dyn Plugin| plugin.validity(pod) == Validity::Node;
        let mut compiled = Compiled::of(profile, pod, cluster, is_asked);
        compiled.score_with(profile, pod, cluster, &[], is_asked);
        compiled.shrink();
        compiled
    }

    /// What is kept for long takes no more room than it needs.
    fn shrink(&mut self) {
        self.filters.shrink_to_fit();
        self.names.shrink_to_fit();
        self.skipped_filters.shrink_to_fit();
        self.scorers.shrink_to_fit();
        self.skipped_scorers.shrink_to_fit();
    }

    fn of(profile: &Profile, pod: &Pod, cluster: &Cluster, is_asked: impl Fn(&dyn Plugin) -> bool) -> Self {
        let mut compiled = Compiled {
            rejected: None,
            nodes: None,
            asked: PluginSet::NONE,
            naming: Vec::new(),
            filters: Vec::new(),
            names: Vec::new(),
            skipped_filters: Vec::new(),
            scorers: Vec::new(),
            skipped_scorers: Vec::new(),
            failure: None,
        };
        compiled.pre_filter(profile, pod, cluster, is_asked);
        compiled
    }

    /// Runs PreScore.
    pub fn pre_score(&mut self, profile: &Profile, pod: &Pod, cluster: &Cluster, feasible: &[&NodeInfo]) {
        self.score_with(profile, pod, cluster, feasible, |_| true);
    }

    fn score_with(
        &mut self,
        profile: &Profile,
        pod: &Pod,
        cluster: &Cluster,
        feasible: &[&NodeInfo],
        is_asked: impl Fn(&dyn Plugin) -> bool,
    ) {
        match scorers(profile, pod, cluster, feasible, is_asked) {
            Ok((scorers, skipped)) => (self.scorers, self.skipped_scorers) = (scorers, skipped),
            Err(failure) => self.failure = Some(failure),
        }
    }

    /// A rejection that preemption may change does not keep the other plugins from looking at the pod; of several such the
    /// last one counts (kube-scheduler, `RunPreFilterPlugins`).
    fn pre_filter(&mut self, profile: &Profile, pod: &Pod, cluster: &Cluster, is_asked: impl Fn(&dyn Plugin) -> bool) {
        let mut made: Vec<(usize, PreFilter)> = Vec::new();
        for (plugin, asked, _) in profile.at(Point::PreFilter).filter(|(_, plugin, _)| is_asked(*plugin)) {
            self.asked.insert(plugin);
            match asked.pre_filter(pod, cluster) {
                PreFilter::Reject(status) => {
                    let is_final = status.code != Code::Unschedulable;
                    self.rejected = Some((plugin, status));
                    if is_final {
                        // That others named nodes no longer matters.
                        (self.nodes, self.naming) = (None, Vec::new());
                        return;
                    }
                }
                PreFilter::Filter { nodes: Some(nodes), filter } => {
                    made.push((plugin, PreFilter::Filter { nodes: None, filter }));
                    if !self.restrict(plugin, nodes) {
                        self.rejected = Some((plugin, self.nothing_left(profile)));
                        return;
                    }
                }
                said => made.push((plugin, said)),
            }
        }
        for (plugin, asked, _) in profile.at(Point::Filter).filter(|(_, plugin, _)| is_asked(*plugin)) {
            let said = made.iter().position(|(other, _)| *other == plugin).map(|place| made.swap_remove(place).1);
            // One that is not asked before all others compiles the pod only now, and can no longer turn it away as a whole.
            match said.unwrap_or_else(|| unprepared(profile, plugin, pod, cluster)) {
                PreFilter::Filter { filter, .. } => {
                    self.filters.push((plugin, filter));
                    self.names.push(asked.name());
                }
                PreFilter::Skip => self.skipped_filters.push(plugin),
                PreFilter::Nothing | PreFilter::Reject(_) => {}
            }
        }
    }

    /// Leaves only nodes that are named here too; false if there are none.
    fn restrict(&mut self, plugin: usize, mut nodes: Vec<Name>) -> bool {
        self.naming.push(plugin);
        if let Some(named) = &self.nodes {
            nodes.retain(|node| named.binary_search(node).is_ok());
        }
        self.nodes = Some(nodes);
        self.nodes.as_ref().is_some_and(|nodes| !nodes.is_empty())
    }

    fn nothing_left(&self, profile: &Profile) -> Status {
        let names = naming_plugins(profile, &self.naming);
        Status::unresolvable(match names.as_slice() {
            [name] => format!("node(s) didn't satisfy plugin {name}"),
            names => format!("node(s) didn't satisfy plugin(s) [{}] simultaneously", names.join(" ")),
        })
    }

    /// The first filter that rejects a node, and what it says; none if the node fits.
    pub fn filter(&self, node: &NodeInfo) -> Option<(usize, Status)> {
        self.first(|filter| filter.filter(node))
    }

    /// The same for a node as it would be with some pods more and some fewer, which `node` has and lacks already.
    pub fn filter_if(&self, node: &NodeInfo, added: &[Rc<Pod>], removed: &[Rc<Pod>]) -> Option<(usize, Status)> {
        self.first(|filter| filter.filter_if(node, added, removed))
    }

    fn first(&self, ask: impl Fn(&dyn NodeFilter) -> Status) -> Option<(usize, Status)> {
        self.filters.iter().zip(&self.names).find_map(|((plugin, filter), name)| {
            let status = ask(filter.as_ref());
            (!status.is_success()).then(|| (*plugin, filter_status(name, status)))
        })
    }
}

/// The names of plugins, sorted.
pub(super) fn naming_plugins(profile: &Profile, places: &[usize]) -> Vec<&'static str> {
    let mut names: Vec<&str> = places.iter().map(|place| profile.plugin(*place).name()).collect();
    names.sort_unstable();
    names
}

/// What a filter comes to that was not asked before all others: one that relies on that fails.
pub(super) fn unprepared(profile: &Profile, place: usize, pod: &Pod, cluster: &Cluster) -> PreFilter {
    let plugin = profile.plugin(place);
    let is_prepared = profile.is_asked(place, Point::PreFilter) || !plugin.points().contains(&Point::PreFilter);
    match plugin.unprepared().filter(|_| !is_prepared) {
        Some(error) => PreFilter::all(Fails(error)),
        None => match plugin.pre_filter(pod, cluster) {
            // It says so of each node.
            PreFilter::Reject(status) => PreFilter::all(Rejects(status)),
            said => said,
        },
    }
}

/// The scorers that are run, and the places of the plugins whose are not; or why a plugin failed. PreScore is asked before any
/// node is scored, so that it fails first (kube-scheduler, `RunPreScorePlugins`, `RunScorePlugins`).
pub(super) fn scorers(
    profile: &Profile,
    pod: &Pod,
    cluster: &Cluster,
    feasible: &[&NodeInfo],
    is_asked: impl Fn(&dyn Plugin) -> bool,
) -> Result<(Vec<Scorer>, Vec<usize>), Name> {
    let mut prepared: Vec<(usize, PreScore)> = Vec::new();
    for (plugin, asked, _) in profile.at(Point::PreScore).filter(|(_, plugin, _)| is_asked(*plugin)) {
        match asked.pre_score(pod, cluster, feasible) {
            PreScore::Fail(why) => {
                return Err(format!("running PreScore plugin \"{}\": {why}", asked.name()).into());
            }
            said => prepared.push((plugin, said)),
        }
    }
    let (mut scorers, mut skipped) = (Vec::new(), Vec::new());
    for (plugin, asked, weight) in profile.at(Point::Score).filter(|(_, plugin, _)| is_asked(*plugin)) {
        let said = prepared.iter().position(|(other, _)| *other == plugin).map(|place| prepared.swap_remove(place).1);
        match said.unwrap_or_else(|| unprepared_score(asked, pod, cluster, feasible)) {
            PreScore::Skip => skipped.push(plugin),
            PreScore::Score(score) => {
                let normalization = score.normalization();
                scorers.push(Scorer { plugin, weight, score, normalization });
            }
            PreScore::Fail(why) => {
                return Err(format!("running Score plugins: plugin \"{}\" failed with: {why}", asked.name()).into());
            }
        }
    }
    Ok((scorers, skipped))
}

/// What a scorer comes to that was not asked before all others: one that relies on that fails, and one that would have been skipped
/// gives every node nothing.
fn unprepared_score(plugin: &dyn Plugin, pod: &Pod, cluster: &Cluster, feasible: &[&NodeInfo]) -> PreScore {
    if !plugin.points().contains(&Point::PreScore) {
        return plugin.pre_score(pod, cluster, feasible);
    }
    match plugin.unprepared_score() {
        Some(why) => PreScore::Fail(why),
        None => match plugin.pre_score(pod, cluster, feasible) {
            PreScore::Skip => PreScore::Score(Box::new(NoScore)),
            said => said,
        },
    }
}

/// A status of a filter as the framework passes it on: what is neither a yes nor a no is a failure, told with the plugin's name
/// (kube-scheduler, `RunFilterPlugins`).
pub(super) fn filter_status(plugin: &str, status: Status) -> Status {
    if status.is_success() || status.is_rejected() {
        return status;
    }
    Status::error(format!("running \"{plugin}\" filter plugin: {}", status.message()))
}

/// Those of some nominated pods that a pod with a priority has to reckon with, its own nomination apart.
pub(super) fn goes_first((priority, own): (i32, Option<Uid>), nominated: &[Rc<Pod>]) -> Vec<Rc<Pod>> {
    let goes_first = |other: &&Rc<Pod>| other.spec.priority >= priority && Some(other.meta.uid) != own;
    nominated.iter().filter(goes_first).cloned().collect()
}

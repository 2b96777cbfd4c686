//! Pods of one specification: what the plugins compiled out of it, and what they said of each node.
//!
//! A verdict and the raw scores of a node are kept while the node's version is the same, so that for a pod like the last
//! one only those nodes are looked at again that changed in between. Whether anything is kept never changes a result.

use std::rc::Rc;

use super::cluster::Cluster;
use super::diagnosis::{Diagnosis, Verdict};
use super::framework::{Code, NodeFilter, NodeScore, Normalization, PluginSet, Point, PreFilter, PreScore, Status};
use super::node_info::NodeInfo;
use super::profile::Profile;
use crate::api::meta::Uid;
use crate::api::name::Name;
use crate::api::pod::{Pod, PodSpec};

/// The verdict on a node that fits.
const FITS: u16 = 0;

/// What the plugins of a profile compiled out of a pod.
pub struct Compiled {
    /// The plugin that rejected the pod on all nodes, and what it said.
    pub rejected: Option<(usize, Status)>,
    /// The only nodes that come into question, sorted by name, if PreFilter named any.
    pub nodes: Option<Vec<Name>>,
    /// The places of the plugins that named nodes.
    pub naming: Vec<usize>,
    /// The filters that are run, with the places of their plugins.
    pub filters: Vec<(usize, Box<dyn NodeFilter>)>,
    /// The places of the plugins whose filters are not run.
    pub skipped_filters: Vec<usize>,
    /// The scorers that are run.
    pub scorers: Vec<Scorer>,
    /// The places of the plugins whose scorers are not run.
    pub skipped_scorers: Vec<usize>,
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
        let mut compiled = Compiled {
            rejected: None,
            nodes: None,
            naming: Vec::new(),
            filters: Vec::new(),
            skipped_filters: Vec::new(),
            scorers: Vec::new(),
            skipped_scorers: Vec::new(),
        };
        compiled.pre_filter(profile, pod, cluster);
        compiled
    }

    /// Runs PreScore.
    pub fn pre_score(&mut self, profile: &Profile, pod: &Pod, cluster: &Cluster, feasible: &[&NodeInfo]) {
        for (plugin, asked, weight) in profile.at(Point::Score) {
            match asked.pre_score(pod, cluster, feasible) {
                PreScore::Skip => self.skipped_scorers.push(plugin),
                PreScore::Score(score) => {
                    let normalization = score.normalization();
                    self.scorers.push(Scorer { plugin, weight, score, normalization });
                }
            }
        }
    }

    /// A rejection that preemption may change does not keep the other plugins from looking at the pod; of several such the
    /// last one counts (kube-scheduler, `RunPreFilterPlugins`).
    fn pre_filter(&mut self, profile: &Profile, pod: &Pod, cluster: &Cluster) {
        let mut made: Vec<(usize, PreFilter)> = Vec::new();
        for (plugin, asked, _) in profile.at(Point::PreFilter) {
            match asked.pre_filter(pod, cluster) {
                PreFilter::Reject(status) => {
                    let is_final = status.code != Code::Unschedulable;
                    self.rejected = Some((plugin, status));
                    if is_final {
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
        for (plugin, asked, _) in profile.at(Point::Filter) {
            let said = made.iter().position(|(other, _)| *other == plugin).map(|place| made.swap_remove(place).1);
            // One that is not asked before all others compiles the pod only now, and can no longer turn it away as a whole.
            match said.unwrap_or_else(|| asked.pre_filter(pod, cluster)) {
                PreFilter::Filter { filter, .. } => self.filters.push((plugin, filter)),
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

    /// True if a plugin has a PreFilter that was not run, because another one before it rejected the pod for good.
    pub fn was_not_asked(&self, plugin: usize, profile: &Profile) -> bool {
        let rejected = self.rejected.as_ref().filter(|(_, status)| status.code != Code::Unschedulable);
        let places = || profile.at(Point::PreFilter).map(|(place, ..)| place);
        rejected.is_some_and(|(by, _)| places().skip_while(|place| place != by).skip(1).any(|place| place == plugin))
    }

    /// The first filter that rejects a node, and what it says; none if the node fits.
    pub fn filter(&self, node: &NodeInfo) -> Option<(usize, Status)> {
        self.filters.iter().find_map(|(plugin, filter)| {
            let status = filter.filter(node);
            (!status.is_success()).then_some((*plugin, status))
        })
    }

    /// The same for a node as it would be with some pods more and some fewer, which `node` has and lacks already.
    pub fn filter_if(&self, node: &NodeInfo, added: &[Rc<Pod>], removed: &[Rc<Pod>]) -> Option<(usize, Status)> {
        self.filters.iter().find_map(|(plugin, filter)| {
            let status = filter.filter_if(node, added, removed);
            (!status.is_success()).then_some((*plugin, status))
        })
    }

    /// The same for a node from which some pods may be gone and to which others are nominated. A pod must fit both with and
    /// without those others that are no less important than its `priority`: they may come, and they may not
    /// (kube-scheduler, `RunFilterPluginsWithNominatedPods`).
    pub fn filter_with_nominated(
        &self,
        (priority, own): (i32, Option<Uid>),
        node: &NodeInfo,
        nominated: &[Rc<Pod>],
        removed: &[Rc<Pod>],
    ) -> Option<(usize, Status)> {
        let goes_first = |other: &&Rc<Pod>| other.spec.priority >= priority && Some(other.meta.uid) != own;
        let added: Vec<Rc<Pod>> = nominated.iter().filter(goes_first).cloned().collect();
        if !added.is_empty() {
            let mut with = node.clone();
            added.iter().for_each(|pod| with.add(pod));
            let refusal = self.filter_if(&with, &added, removed);
            if refusal.is_some() {
                return refusal;
            }
        }
        if removed.is_empty() { self.filter(node) } else { self.filter_if(node, &[], removed) }
    }
}

fn naming_plugins(profile: &Profile, places: &[usize]) -> Vec<&'static str> {
    let mut names: Vec<&str> = places.iter().map(|place| profile.plugin(*place).name()).collect();
    names.sort_unstable();
    names
}

/// All pods of one specification.
pub struct PodClass {
    /// The specification.
    pub spec: Rc<PodSpec>,
    /// What was compiled out of it.
    pub compiled: Compiled,
    /// The one pod that it is for, if it is for one that is nominated to a node: it is not in its own way.
    own: Option<Uid>,
    /// The version of the list of nodes that the tables below stand for.
    list_version: u64,
    /// The version at which each node was looked at.
    known: Vec<u64>,
    /// What was said of it: [`FITS`], or one more than a place in `said`.
    verdicts: Vec<u16>,
    said: Vec<(usize, Status)>,
    /// The weighted sum of the scores that need no normalization.
    fixed: Vec<i64>,
    /// The raw scores of each scorer that needs normalization.
    raw: Vec<RawScores>,
}

struct RawScores {
    weight: i64,
    normalization: Normalization,
    scorer: usize,
    of_node: Vec<i64>,
    /// True once any node had another score than zero: until then all are equal.
    is_used: bool,
}

impl PodClass {
    /// The class of a pod, of which nothing is known yet.
    pub fn new(profile: &Profile, pod: &Pod, cluster: &Cluster) -> Self {
        let mut compiled = Compiled::new(profile, pod, cluster);
        compiled.pre_score(profile, pod, cluster, &[]);
        let count = cluster.node_count();
        let scorers = compiled.scorers.iter().enumerate();
        let raw = scorers.filter(|(_, scorer)| scorer.normalization != Normalization::None).map(|(place, scorer)| {
            let (weight, normalization) = (scorer.weight, scorer.normalization);
            RawScores { weight, normalization, scorer: place, of_node: vec![0; count], is_used: false }
        });
        PodClass {
            spec: pod.spec.clone(),
            raw: raw.collect(),
            compiled,
            own: cluster.nomination_of(pod.meta.uid).map(|_| pod.meta.uid),
            list_version: cluster.list_version(),
            known: vec![0; count],
            verdicts: vec![FITS; count],
            said: Vec::new(),
            fixed: vec![0; count],
        }
    }

    /// True if it holds for all pods of the specification.
    pub fn is_for_all(&self) -> bool {
        self.own.is_none()
    }

    /// True if a pod fits the node to which it is nominated.
    pub fn fits_nominated(&self, pod: &Pod, place: usize, cluster: &Cluster) -> bool {
        let who = (self.spec.priority, Some(pod.meta.uid));
        self.compiled.filter_with_nominated(who, cluster.at(place), cluster.nominated_at(place), &[]).is_none()
    }

    /// True if what is kept speaks of the present nodes.
    pub fn is_current(&self, cluster: &Cluster) -> bool {
        self.list_version == cluster.list_version()
    }

    /// True if pods of this class fit a node.
    #[inline]
    pub fn fits(&mut self, place: usize, cluster: &Cluster) -> bool {
        if self.known[place] != cluster.versions()[place] {
            self.look_at(place, cluster);
        }
        self.verdicts[place] == FITS
    }

    fn look_at(&mut self, place: usize, cluster: &Cluster) {
        self.known[place] = cluster.versions()[place];
        let node = cluster.at(place);
        let said = match cluster.nominated_at(place) {
            [] => self.compiled.filter(node),
            nominated => self.compiled.filter_with_nominated((self.spec.priority, self.own), node, nominated, &[]),
        };
        if let Some(said) = said {
            self.verdicts[place] = self.verdict(said);
            return;
        }
        self.verdicts[place] = FITS;
        let scorers = &self.compiled.scorers;
        let plain = scorers.iter().filter(|scorer| scorer.normalization == Normalization::None);
        self.fixed[place] = plain.map(|scorer| scorer.weight * scorer.score.score(node)).sum();
        for raw in &mut self.raw {
            raw.of_node[place] = scorers[raw.scorer].score.score(node);
            raw.is_used |= raw.of_node[place] != 0;
        }
    }

    /// The number of a verdict. Different ones are few; should they ever be too many, the table begins anew.
    fn verdict(&mut self, said: (usize, Status)) -> u16 {
        if let Some(place) = self.said.iter().position(|known| *known == said) {
            return place as u16 + 1;
        }
        if self.said.len() + 1 >= usize::from(u16::MAX) {
            self.said.clear();
            self.known.fill(0);
        }
        self.said.push(said);
        self.said.len() as u16
    }

    /// Puts the total score of each of these nodes, all of which fit, into `totals`; what all nodes get alike is left out.
    pub fn score(&self, places: &[u32], totals: &mut Vec<i64>) {
        totals.clear();
        totals.extend(places.iter().map(|place| self.fixed[*place as usize]));
        for raw in self.raw.iter().filter(|raw| raw.is_used) {
            let scores = places.iter().map(|place| raw.of_node[*place as usize]);
            let highest = scores.clone().max().unwrap_or(0);
            for (total, score) in totals.iter_mut().zip(scores) {
                *total += raw.weight * raw.normalization.apply(score, highest);
            }
        }
    }

    /// Why the pod does not fit `places`, all of which were looked at.
    pub fn diagnose(&self, places: impl Iterator<Item = usize>, profile: &Profile, cluster: &Cluster) -> Diagnosis {
        let mut counts = vec![0; self.said.len()];
        for place in places {
            if let Some(count) = usize::from(self.verdicts[place]).checked_sub(1).and_then(|said| counts.get_mut(said))
            {
                *count += 1;
            }
        }
        let said = self.said.iter().zip(counts).filter(|(_, nodes)| *nodes > 0);
        let mut verdicts: Vec<Verdict> =
            said.map(|((plugin, status), nodes)| Verdict { plugin: *plugin, status: status.clone(), nodes }).collect();
        // The order in which they were first said depends on what was looked at before.
        verdicts.sort_by(|left, right| (left.plugin, &left.status.reasons).cmp(&(right.plugin, &right.status.reasons)));
        let (mut plugins, mut pending) = (PluginSet::NONE, PluginSet::NONE);
        let rejected = self.compiled.rejected.iter().map(|(plugin, status)| (*plugin, status.code));
        for (plugin, code) in rejected.chain(verdicts.iter().map(|verdict| (verdict.plugin, verdict.status.code))) {
            if code == Code::Pending { &mut pending } else { &mut plugins }.insert(plugin);
        }
        self.compiled.naming.iter().for_each(|plugin| plugins.insert(*plugin));
        let others = self.compiled.nodes.as_ref().map(|_| {
            let names = naming_plugins(profile, &self.compiled.naming).join(" ");
            Status::unresolvable(format!("node(s) didn't satisfy plugin(s) [{names}]"))
        });
        Diagnosis {
            node_count: cluster.node_count(),
            pre_filter: self.compiled.rejected.as_ref().map(|(_, status)| status.clone()),
            verdicts,
            others,
            post_filter: String::new(),
            nominated_node: None,
            victims: Vec::new(),
            plugins,
            pending,
        }
    }

    /// The code of the verdict on each node, `looked_at` having been looked at and the others not having come into question.
    pub fn codes(&self, looked_at: impl Iterator<Item = usize>) -> Vec<Code> {
        let absent =
            self.compiled.rejected.as_ref().map_or(Code::UnschedulableAndUnresolvable, |(_, status)| status.code);
        let mut codes = vec![absent; self.verdicts.len()];
        for place in looked_at {
            let said = usize::from(self.verdicts[place]).checked_sub(1).and_then(|said| self.said.get(said));
            codes[place] = said.map_or(Code::Success, |(_, status)| status.code);
        }
        codes
    }
}

//! Which node a pod goes to (kube-scheduler, `schedulePod`).

use std::rc::Rc;

use super::class::{Compiled, PodClass};
use super::cluster::Cluster;
use super::diagnosis::Diagnosis;
use super::framework::{Code, Failed, Point};
use super::profile::Profile;
use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::engine::random::Stream;

/// With fewer nodes than these all are looked at, and at least so many that fit are looked for (`minFeasibleNodesToFind`).
const LEAST_NODES: usize = 100;

/// At least so many percent of the nodes are looked for (`minFeasibleNodesPercentageToFind`).
const LEAST_PERCENT: usize = 5;

/// So many specifications are remembered.
const CLASSES: usize = 64;

/// Chooses nodes for pods.
pub struct Algorithm {
    classes: Vec<PodClass>,
    /// Where in the list of nodes the next search begins.
    next_start: usize,
    /// `percentageOfNodesToScore`; zero for a share that falls with the number of nodes.
    percentage: u32,
    stream: Stream,
    /// What PostFilter plugins draw from.
    preemption: Stream,
    feasible: Vec<u32>,
    totals: Vec<i64>,
    /// True if nothing is kept.
    is_plain: bool,
}

/// What became of a pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It goes to a node.
    Node(Chosen),
    /// It fits no node.
    Unschedulable(Box<Diagnosis>),
}

/// The node for a pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chosen {
    /// The node's name.
    pub node: Name,
    /// How many nodes were looked at.
    pub evaluated: usize,
    /// How many of them fit.
    pub feasible: usize,
}

impl Algorithm {
    /// An algorithm with a stream of its own for choosing among equals.
    pub fn new(percentage: u32, stream: Stream) -> Self {
        let (feasible, totals) = (Vec::new(), Vec::new());
        let (classes, preemption) = (Vec::new(), stream.clone());
        Algorithm { classes, next_start: 0, percentage, stream, preemption, feasible, totals, is_plain: false }
    }

    /// The same with another stream for PostFilter plugins, so that what they draw shifts no choice among equals.
    pub fn with_preemption_stream(self, preemption: Stream) -> Self {
        Algorithm { preemption, ..self }
    }

    /// An algorithm that keeps nothing and asks all plugins in their plain form: the reference for the other.
    pub fn plain(percentage: u32, stream: Stream) -> Self {
        Algorithm { is_plain: true, ..Algorithm::new(percentage, stream) }
    }

    /// Chooses a node for a pod. The cluster must have been refreshed.
    pub fn schedule(&mut self, profile: &Profile, pod: &Rc<Pod>, cluster: &Cluster) -> Outcome {
        if cluster.node_count() == 0 {
            return Outcome::Unschedulable(Box::default());
        }
        if let Some(node) = &pod.only_node {
            return self.schedule_to(node, profile, pod, cluster);
        }
        let mut class = self.take_class(profile, pod, cluster);
        let is_nominated = pod.status.nominated_node.is_some() || cluster.nomination_of(pod.meta.uid).is_some();
        if class.is_kept() && class.depends_on_others() && (is_nominated || cluster.has_nominations()) {
            self.classes.push(class);
            class = PodClass::plain(profile, pod, cluster);
        }
        if let Some(node) = self.nominated(pod, &class, cluster) {
            self.keep(class);
            return Outcome::Node(Chosen { node, evaluated: 1, feasible: 1 });
        }
        if class.is_kept() && cluster.nomination_of(pod.meta.uid).is_some() {
            // What is kept for all pods of the class has the pod itself in its way.
            self.classes.push(class);
            class = PodClass::new(profile, pod, cluster);
        }
        let outcome = self.place(profile, pod, &mut class, cluster);
        self.keep(class);
        outcome
    }

    /// Chooses for a pod that may go to one node only. What was found out of the nodes for the pods of the same
    /// specification holds here too, so nothing but that node is looked at; if the pod does not fit, all plugins are asked
    /// why in their plain form.
    fn schedule_to(&mut self, node: &Name, profile: &Profile, pod: &Rc<Pod>, cluster: &Cluster) -> Outcome {
        let count = cluster.node_count();
        let is_nominated = pod.status.nominated_node.is_some() || cluster.has_nominations();
        let spreads = pod.spec.full.topology_spread_constraints.is_some();
        if !self.is_plain && !is_nominated && !spreads {
            let anywhere = Rc::new(Pod { only_node: None, ..Pod::clone(pod) });
            let mut class = self.take_class(profile, &anywhere, cluster);
            let place = cluster.place_of(node).filter(|_| class.compiled.rejected.is_none());
            let fits = place.is_some_and(|place| class.fits(place, cluster));
            self.keep(class);
            if fits {
                self.next_start = (self.next_start + 1) % count;
                return Outcome::Node(Chosen { node: node.clone(), evaluated: 1, feasible: 1 });
            }
        }
        let mut class = PodClass::plain(profile, pod, cluster);
        if let Some(node) = self.nominated(pod, &class, cluster) {
            return Outcome::Node(Chosen { node, evaluated: 1, feasible: 1 });
        }
        self.place(profile, pod, &mut class, cluster)
    }

    fn keep(&mut self, class: PodClass) {
        if class.is_kept() {
            self.classes.push(class);
        }
    }

    /// The node to which a pod is nominated, if it fits there: no other is looked at.
    fn nominated(&self, pod: &Pod, class: &PodClass, cluster: &Cluster) -> Option<Name> {
        let node = pod.status.nominated_node.as_ref().filter(|_| class.compiled.rejected.is_none())?;
        class.fits_nominated(pod, cluster.place_of(node)?, cluster).then(|| node.clone())
    }

    /// The class of a pod; classes are kept in the order in which they were last used.
    fn take_class(&mut self, profile: &Profile, pod: &Rc<Pod>, cluster: &Cluster) -> PodClass {
        if self.is_plain {
            return PodClass::plain(profile, pod, cluster);
        }
        if let Some(known) = self.classes.iter().rposition(|class| class.is_of(pod)) {
            let mut class = self.classes.remove(known);
            if class.catch_up(profile, cluster) {
                return class;
            }
        }
        if self.classes.len() >= CLASSES {
            self.classes.remove(0);
        }
        PodClass::new(profile, pod, cluster)
    }

    fn place(&mut self, profile: &Profile, pod: &Rc<Pod>, class: &mut PodClass, cluster: &Cluster) -> Outcome {
        if class.compiled.rejected.is_some() {
            return self.fits_nowhere(profile, pod, class, &[], cluster);
        }
        if class.compiled.nodes.is_none() && class.scores_alone() {
            let (count, wanted) = (cluster.node_count(), self.wanted(profile, cluster.node_count()));
            let start = self.next_start % count;
            if let Some(picked) = class.pick(start, wanted, &mut self.stream, cluster) {
                self.next_start = (start + picked.evaluated) % count;
                let node = cluster.at(picked.place).name.clone();
                return Outcome::Node(Chosen { node, evaluated: picked.evaluated, feasible: picked.feasible });
            }
        }
        let named = class.compiled.nodes.as_ref();
        let named = named.map(|names| names.iter().filter_map(|name| cluster.place_of(name)).collect::<Vec<usize>>());
        let evaluated = match &named {
            Some(places) => self.search(profile, places, class, cluster),
            None => self.search_all(profile, class, cluster),
        };
        if self.feasible.is_empty() {
            let all = || (0..cluster.node_count()).collect();
            return self.fits_nowhere(profile, pod, class, &named.unwrap_or_else(all), cluster);
        }
        let place = self.choose(profile, pod, class, cluster);
        Outcome::Node(Chosen { node: cluster.at(place).name.clone(), evaluated, feasible: self.feasible.len() })
    }

    /// Looks for nodes that fit among all; returns how many were looked at.
    fn search_all(&mut self, profile: &Profile, class: &mut PodClass, cluster: &Cluster) -> usize {
        let count = cluster.node_count();
        let wanted = self.wanted(profile, count);
        let start = self.next_start % count;
        self.feasible.clear();
        let mut evaluated = class.search(start, count, wanted, &mut self.feasible, cluster) - start;
        if self.feasible.len() < wanted {
            evaluated += class.search(0, start, wanted, &mut self.feasible, cluster);
        }
        self.next_start = (start + evaluated) % count;
        evaluated
    }

    /// Looks for nodes that fit among some; returns how many were looked at.
    fn search(&mut self, profile: &Profile, places: &[usize], class: &mut PodClass, cluster: &Cluster) -> usize {
        let wanted = self.wanted(profile, places.len());
        self.feasible.clear();
        let mut evaluated = 0;
        for offset in 0..places.len() {
            let place = places[(self.next_start + offset) % places.len()];
            evaluated += 1;
            if class.fits(place, cluster) {
                self.feasible.push(place as u32);
                if self.feasible.len() == wanted {
                    break;
                }
            }
        }
        self.next_start = (self.next_start + evaluated) % cluster.node_count();
        evaluated
    }

    /// How many nodes that fit are looked for (`numFeasibleNodesToFind`).
    fn wanted(&self, profile: &Profile, count: usize) -> usize {
        if profile.at(Point::Score).next().is_none() {
            return 1;
        }
        if count < LEAST_NODES {
            return count;
        }
        let percentage = match profile.percentage_of_nodes_to_score.unwrap_or(self.percentage) as usize {
            0 => 50_usize.saturating_sub(count / 125).max(LEAST_PERCENT),
            percentage => percentage,
        };
        (count * percentage / 100).max(LEAST_NODES).min(count)
    }

    /// The best of the nodes that fit; one of several equals by a single draw. A single node is not scored.
    fn choose(&mut self, profile: &Profile, pod: &Pod, class: &mut PodClass, cluster: &Cluster) -> usize {
        if let [only] = self.feasible.as_slice() {
            return *only as usize;
        }
        class.score(profile, pod, &self.feasible, &mut self.totals, cluster);
        let best = self.totals.iter().copied().max().unwrap_or(0);
        let count = self.totals.iter().filter(|total| **total == best).count();
        let chosen = if count > 1 { self.stream.below(count as u64) as usize } else { 0 };
        let mut equals = self.feasible.iter().zip(&self.totals).filter(|(_, total)| **total == best);
        equals.nth(chosen).map_or(0, |(place, _)| *place as usize)
    }

    /// Why a pod fits no node, and what PostFilter says to that. A PostFilter that helps ends the round, so does one that is
    /// sure that nothing will, and so does one that fails; the reasons of the others are told together (kube-scheduler, `RunPostFilterPlugins`).
    fn fits_nowhere(
        &mut self,
        profile: &Profile,
        pod: &Rc<Pod>,
        class: &PodClass,
        looked_at: &[usize],
        cluster: &Cluster,
    ) -> Outcome {
        let (mut diagnosis, codes) = class.diagnose(looked_at, profile, cluster);
        // Plugins that look at pods elsewhere are asked again in their plain form, which can say what would be.
        let plain = class.depends_on_others().then(|| Compiled::new(profile, pod, cluster));
        let is_kept = class.is_kept() && plain.is_none();
        let compiled = plain.as_ref().unwrap_or(&class.compiled);
        let failed = Failed { pod, cluster, compiled, codes: &codes, is_kept, was_asked: true };
        let mut reasons: Vec<Name> = Vec::new();
        // Without any PostFilter nobody could make room for the pod, so that it gives up what was kept for it.
        if profile.at(Point::PostFilter).next().is_none() {
            diagnosis.nominated_node = Some(Name::EMPTY);
        }
        for (place, plugin, _) in profile.at(Point::PostFilter) {
            let was_asked = compiled.asked.contains(place) || !profile.is_asked(place, Point::PreFilter);
            let said = plugin.post_filter(&Failed { was_asked, ..failed }, &mut self.preemption);
            let ends = !matches!(said.status.code, Code::Unschedulable | Code::Pending);
            if ends {
                reasons.clear();
            }
            if ends || said.nominated_node.is_some() {
                (diagnosis.nominated_node, diagnosis.victims) = (said.nominated_node, said.victims);
            }
            reasons.extend(said.status.reasons);
            if ends {
                break;
            }
        }
        diagnosis.post_filter = reasons.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
        Outcome::Unschedulable(Box::new(diagnosis))
    }
}

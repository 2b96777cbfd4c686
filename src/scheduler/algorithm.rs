//! Which node a pod goes to (kube-scheduler, `schedulePod`).
//!
//! What the real one calls OpportunisticBatching, the next best node of the pod before for one like it, has no part in this: it asks
//! all plugins for a signature of the pod, and PodTopologySpread gives none while there are default constraints, as there are by
//! default. So it matters to profiles alone whose `defaultConstraints` are an empty list.

use std::rc::Rc;

use super::class::{Compiled, Fit, PodClass};
use super::cluster::Cluster;
use super::diagnosis::Diagnosis;
use super::framework::{Code, Point};
use super::pick::{Picked, Walk};
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
    #[expect(
        clippy::vec_box,
        reason = "a class is taken out and put back for each pod: that moves a word, and not the class"
    )]
    classes: Vec<Box<PodClass>>,
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
    /// A plugin failed: it is tried again after its back-off. What went wrong, in a sentence.
    Failed(Name),
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
    /// The sum of its weighted scores; none if it was not scored, because no other one fits or the pod is nominated to it.
    pub score: Option<i64>,
    /// The best of the others, the first of several, and its score.
    pub runner_up: Option<(Name, i64)>,
}

impl Chosen {
    /// The only node that was looked at; nothing was scored.
    fn only(node: Name) -> Self {
        Chosen { node, evaluated: 1, feasible: 1, score: None, runner_up: None }
    }
}

/// What came of a look at the node to which a pod is nominated.
enum Nominated {
    /// There is none, or a plugin failed: all nodes are looked at.
    None,
    /// The pod fits.
    Fits(Name),
    /// It does not fit the node at this place.
    Refused(usize),
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
            // Nobody is asked; what was kept for the pod somewhere is given up.
            let diagnosis = Diagnosis { nominated_node: Some(Name::EMPTY), ..Diagnosis::default() };
            return Outcome::Unschedulable(Box::new(diagnosis));
        }
        if let Some(node) = &pod.only_node {
            return self.schedule_to(node, profile, pod, cluster);
        }
        let mut class = self.take_class(profile, pod, cluster);
        class.begin(pod.meta.uid, cluster);
        let outcome = match self.nominated(pod, &mut class, cluster) {
            Nominated::Fits(node) => Outcome::Node(Chosen::only(node)),
            Nominated::Refused(place) => self.place(profile, pod, &mut class, Some(place), cluster),
            Nominated::None => self.place(profile, pod, &mut class, None, cluster),
        };
        class.end(cluster);
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
            let fits = place.is_some_and(|place| matches!(class.fits(place, cluster), Fit::Fits));
            self.keep(class);
            if fits {
                self.next_start = (self.next_start + 1) % count;
                return Outcome::Node(Chosen::only(node.clone()));
            }
        }
        let mut class = PodClass::plain(profile, pod, cluster);
        class.begin(pod.meta.uid, cluster);
        let refused = match self.nominated(pod, &mut class, cluster) {
            Nominated::None => None,
            Nominated::Refused(place) => Some(place),
            Nominated::Fits(node) => return Outcome::Node(Chosen::only(node)),
        };
        self.place(profile, pod, &mut class, refused, cluster)
    }

    fn keep(&mut self, class: Box<PodClass>) {
        if class.is_kept() {
            self.classes.push(class);
        }
    }

    /// Looks at the node to which a pod is nominated: if it fits there, no other is looked at (kube-scheduler,
    /// `evaluateNominatedNode`).
    fn nominated(&self, pod: &Pod, class: &mut PodClass, cluster: &Cluster) -> Nominated {
        let node = pod.status.nominated_node.as_deref().filter(|_| class.compiled.rejected.is_none());
        let Some((node, place)) = node.and_then(|node| Some((node, cluster.place_of(node)?))) else {
            return Nominated::None;
        };
        match class.fits(place, cluster) {
            Fit::Fits => Nominated::Fits(node.clone()),
            Fit::Failed(_) => Nominated::None,
            Fit::Rejected => Nominated::Refused(place),
        }
    }

    /// The class of a pod; classes are kept in the order in which they were last used.
    fn take_class(&mut self, profile: &Profile, pod: &Rc<Pod>, cluster: &Cluster) -> Box<PodClass> {
        if self.is_plain {
            return Box::new(PodClass::plain(profile, pod, cluster));
        }
        if let Some(known) = self.classes.iter().rposition(|class| class.is_of(pod, profile, cluster)) {
            let mut class = self.classes.remove(known);
            if class.catch_up(profile, cluster) {
                return class;
            }
        }
        if self.classes.len() >= CLASSES {
            self.classes.remove(0);
        }
        Box::new(PodClass::new(profile, pod, cluster))
    }

    fn place(
        &mut self,
        profile: &Profile,
        pod: &Rc<Pod>,
        class: &mut PodClass,
        refused: Option<usize>,
        cluster: &Cluster,
    ) -> Outcome {
        match &class.compiled.rejected {
            Some((plugin, status)) if status.code == Code::Error => {
                let (plugin, why) = (profile.plugin(*plugin).name(), status.message());
                return Outcome::Failed(format!("running PreFilter plugin \"{plugin}\": {why}").into());
            }
            Some(_) => return self.fits_nowhere(profile, pod, class, None, cluster),
            None => {}
        }
        let count = cluster.node_count();
        let start = self.next_start % count;
        // The nominated node was looked at too; it counts once.
        let looked_at = |evaluated: usize| {
            let is_outside = |place: usize| (place + count - start) % count >= evaluated;
            evaluated + usize::from(refused.is_some_and(is_outside))
        };
        let named = class.compiled.nodes.as_ref();
        let named = named.map(|names| names.iter().filter_map(|name| cluster.place_of(name)).collect::<Vec<usize>>());
        if named.is_none() && class.has_kinds() {
            match class.pick(start, self.wanted(profile, count), &mut self.stream, cluster) {
                Walk::Picked(picked) => {
                    let evaluated = looked_at(picked.evaluated);
                    self.next_start = (start + evaluated) % count;
                    return Outcome::Node(chosen(picked, evaluated, cluster));
                }
                Walk::Nowhere => {
                    self.next_start = start;
                    return self.fits_nowhere(profile, pod, class, None, cluster);
                }
                Walk::Undecided => {}
            }
        }
        let (searched, failure) = match &named {
            Some(places) => self.search(profile, places.len(), |index| places[index], class, cluster),
            None => self.search(profile, count, |index| index, class, cluster),
        };
        // It was looked at although other nodes were named, and it is among those of which something is said.
        let unnamed = refused.filter(|place| named.as_ref().is_some_and(|places| !places.contains(place)));
        let named = named.map(|places| places.into_iter().chain(unnamed).collect::<Vec<usize>>());
        let evaluated = if named.is_none() { looked_at(searched) } else { searched + usize::from(unnamed.is_some()) };
        self.next_start = (self.next_start + evaluated) % count;
        if let Some(failure) = failure {
            return Outcome::Failed(failure);
        }
        if self.feasible.is_empty() {
            return self.fits_nowhere(profile, pod, class, named.as_deref(), cluster);
        }
        match self.choose(profile, pod, class, evaluated, cluster) {
            Ok(picked) => Outcome::Node(chosen(picked, evaluated, cluster)),
            Err(failure) => Outcome::Failed(failure),
        }
    }

    /// Looks one by one for nodes that fit among so many, beginning where the last search ended; returns how many were looked at,
    /// and why that ended if a plugin failed.
    fn search(
        &mut self,
        profile: &Profile,
        count: usize,
        place_of: impl Fn(usize) -> usize,
        class: &mut PodClass,
        cluster: &Cluster,
    ) -> (usize, Option<Name>) {
        let wanted = self.wanted(profile, count);
        self.feasible.clear();
        for offset in 0..count {
            let place = place_of((self.next_start + offset) % count);
            match class.fits(place, cluster) {
                Fit::Rejected => {}
                Fit::Failed(why) => return (offset, Some(why)),
                Fit::Fits => {
                    self.feasible.push(place as u32);
                    if self.feasible.len() == wanted {
                        return (offset + 1, None);
                    }
                }
            }
        }
        (count, None)
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

    /// The best of the nodes that fit; one of several equals by a single draw. A single node is not scored. Or why a plugin failed.
    fn choose(
        &mut self,
        profile: &Profile,
        pod: &Pod,
        class: &mut PodClass,
        evaluated: usize,
        cluster: &Cluster,
    ) -> Result<Picked, Name> {
        let feasible = self.feasible.len();
        if let [only] = self.feasible.as_slice() {
            return Ok(Picked { place: *only as usize, evaluated, feasible, score: None, runner_up: None });
        }
        class.score(profile, pod, &self.feasible, &mut self.totals, cluster)?;
        let scored = || self.feasible.iter().map(|place| *place as usize).zip(self.totals.iter().copied());
        let best = self.totals.iter().copied().max().unwrap_or(0);
        let count = scored().filter(|(_, total)| *total == best).count();
        let number = if count > 1 { self.stream.below(count as u64) as usize } else { 0 };
        let place = scored().filter(|(_, total)| *total == best).nth(number).map_or(0, |(place, _)| place);
        let others = || scored().filter(|(other, _)| *other != place);
        let next = others().map(|(_, total)| total).max();
        let runner_up = others().find(|(_, total)| Some(*total) == next);
        Ok(Picked { place, evaluated, feasible, score: Some(best), runner_up })
    }

    /// Why a pod fits no node, and what PostFilter says to that. A PostFilter that helps ends the round, so does one that is
    /// sure that nothing will, and so does one that fails; the reasons of the others are told together (kube-scheduler, `RunPostFilterPlugins`).
    fn fits_nowhere(
        &mut self,
        profile: &Profile,
        pod: &Rc<Pod>,
        class: &mut PodClass,
        places: Option<&[usize]>,
        cluster: &Cluster,
    ) -> Outcome {
        // All plugins were asked, unless one was sure before that the pod fits nowhere; a class that is kept asks only some.
        let asked = class.compiled.rejected.is_some().then(|| match class.is_kept() {
            true => Compiled::new(profile, pod, cluster).asked,
            false => class.compiled.asked,
        });
        let (mut diagnosis, mut failed) = class.diagnose(pod, places, profile, cluster);
        let mut reasons: Vec<Name> = Vec::new();
        // Without any PostFilter nobody could make room for the pod, so that it gives up what was kept for it.
        if profile.at(Point::PostFilter).next().is_none() {
            diagnosis.nominated_node = Some(Name::EMPTY);
        }
        for (place, plugin, _) in profile.at(Point::PostFilter) {
            let is_asked = asked.is_none_or(|asked| asked.contains(place));
            failed.was_asked = !profile.is_asked(place, Point::PreFilter) || is_asked;
            let said = plugin.post_filter(&failed, &mut self.preemption);
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

fn chosen(picked: Picked, evaluated: usize, cluster: &Cluster) -> Chosen {
    let name = |place: usize| cluster.at(place).name.clone();
    Chosen {
        node: name(picked.place),
        evaluated,
        feasible: picked.feasible,
        score: picked.score,
        runner_up: picked.runner_up.map(|(place, score)| (name(place), score)),
    }
}

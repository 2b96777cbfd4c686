//! What would have to go so that a pod fits: from one node, and from all that come into question
//! (kube-scheduler, `SelectVictimsOnNode`, `DryRunPreemption`). Nothing is changed.

use std::rc::Rc;

use super::choice::{Cost, cost, sort_by_importance};
use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::scheduler::cluster::Cluster;
use crate::scheduler::compiled::goes_first;
use crate::scheduler::filters::Filters;
use crate::scheduler::framework::{Code, Failed, Status};
use crate::scheduler::node_info::NodeInfo;

const NO_VICTIMS: Name = Name::of("No preemption victims found for incoming pod");

/// A pod that fits no node, and what its profile's plugins made of it.
#[derive(Clone, Copy)]
pub struct Preemptor<'a> {
    /// The pod.
    pub pod: &'a Rc<Pod>,
    /// Its filters.
    pub filters: Filters<'a>,
    /// The nodes.
    pub cluster: &'a Cluster,
}

/// A node on which the pod fits once some pods are gone.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The node's place in the cluster's list.
    pub place: usize,
    /// Who would have to go, the most important first; at least one.
    pub victims: Rc<[Rc<Pod>]>,
    /// How many of them a disruption budget protects.
    pub violations: usize,
    /// What their going costs.
    pub cost: Cost,
}

/// What came of looking at a node.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The pod would fit.
    Helps(Candidate),
    /// It would not, even if all less important pods were gone.
    DoesNot(Refusal),
}

/// Why a node would not do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The node's place in the cluster's list.
    pub place: usize,
    /// The plugin that still rejects it, by its place in the profile; none if it has no less important pods.
    pub plugin: Option<usize>,
    /// What is said.
    pub status: Status,
}

/// What came of looking at nodes.
#[derive(Clone, Debug, Default)]
pub struct DryRun {
    /// Those that would do: first those without broken budgets.
    pub candidates: Vec<Candidate>,
    /// What is said of those that would not.
    pub refused: Vec<Refusal>,
}

impl<'a> Preemptor<'a> {
    /// The pod that failed.
    pub fn of(failed: &Failed<'a>) -> Self {
        Preemptor { pod: failed.pod, filters: failed.filters, cluster: failed.cluster }
    }

    /// True if what comes of looking at a node may depend on pods elsewhere in more than what followers say of the node as it is: if
    /// it matters to them who goes from there or may come.
    pub(super) fn is_particular(&self, place: usize) -> bool {
        let who = (self.pod.spec.priority, Some(self.pod.meta.uid));
        let is_less = |pod: &&Rc<Pod>| pod.spec.priority < self.pod.spec.priority;
        let mut potential = self.cluster.at(place).pods.iter().filter(is_less);
        self.filters.depend_on_others()
            && (!goes_first(who, self.cluster.nominated_at(place)).is_empty()
                || potential.any(|pod| self.filters.mind(pod)))
    }

    /// What is said of a node that has no pod less important than this one; nothing if it has.
    pub fn nobody_goes(pod: &Pod, place: usize, cluster: &Cluster) -> Option<Refusal> {
        let lowest = cluster.at(place).lowest_priority();
        let has_none = lowest.is_none_or(|lowest| lowest >= pod.spec.priority);
        has_none.then(|| Refusal { place, plugin: None, status: Status::unresolvable(NO_VICTIMS) })
    }

    /// Who would have to go from a node so that the pod fits: as few and as unimportant ones as can be.
    pub fn look_at(&self, place: usize) -> Verdict {
        if let Some(refusal) = Preemptor::nobody_goes(self.pod, place, self.cluster) {
            return Verdict::DoesNot(refusal);
        }
        let node = self.cluster.at(place);
        let is_less = |pod: &&Rc<Pod>| pod.spec.priority < self.pod.spec.priority;
        let mut potential: Vec<Rc<Pod>> = node.pods.iter().filter(is_less).cloned().collect();
        let mut trial = Trial::new(node, &potential);
        if let Some((plugin, status)) = self.refusal(place, &trial) {
            return Verdict::DoesNot(Refusal { place, plugin: Some(plugin), status });
        }
        sort_by_importance(&mut potential);
        let protected = self.cluster.budgets().violated_by(&potential);
        let (mut victims, mut violations) = (Vec::new(), 0);
        // Those whose going would break a budget are the first that may stay, the most important ones before the others.
        for is_protected in [true, false] {
            for (pod, _) in potential.iter().zip(&protected).filter(|(_, protected)| **protected == is_protected) {
                trial.bring_back(pod);
                if self.refusal(place, &trial).is_some() {
                    trial.take_away(pod);
                    victims.push(pod.clone());
                    violations += usize::from(is_protected);
                }
            }
        }
        if victims.is_empty() {
            let name = &node.name;
            let reasons = vec![format!("expected at least one victim pod on node \"{name}\"").into()];
            let status = Status { code: Code::Error, reasons };
            return Verdict::DoesNot(Refusal { place, plugin: None, status });
        }
        sort_by_importance(&mut victims);
        let cost = cost(&victims, violations);
        Verdict::Helps(Candidate { place, victims: victims.into(), violations, cost })
    }

    fn refusal(&self, place: usize, trial: &Trial) -> Option<(usize, Status)> {
        let who = (self.pod.spec.priority, Some(self.pod.meta.uid));
        self.filters.filter_with_nominated(who, (place, &trial.node), &trial.gone, self.cluster)
    }
}

/// A node as it would be without some of its pods.
struct Trial {
    node: NodeInfo,
    gone: Vec<Rc<Pod>>,
}

impl Trial {
    fn new(node: &NodeInfo, gone: &[Rc<Pod>]) -> Self {
        let mut trial = Trial { node: node.clone(), gone: Vec::with_capacity(gone.len()) };
        gone.iter().for_each(|pod| trial.take_away(pod));
        trial
    }

    fn take_away(&mut self, pod: &Rc<Pod>) {
        self.node.remove(pod.meta.uid);
        self.gone.push(pod.clone());
    }

    fn bring_back(&mut self, pod: &Rc<Pod>) {
        self.node.add(pod);
        self.gone.retain(|gone| gone.meta.uid != pod.meta.uid);
    }
}

/// Looks at nodes, beginning at an offset in their list, until enough would do and one of them breaks no budget.
pub fn dry_run(potential: &[usize], offset: usize, wanted: usize, mut look_at: impl FnMut(usize) -> Verdict) -> DryRun {
    let (mut good, mut violating, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..potential.len() {
        let place = potential[(offset + index) % potential.len()];
        match look_at(place) {
            Verdict::DoesNot(refusal) => {
                refused.push(refusal);
                continue;
            }
            Verdict::Helps(candidate) => {
                let list = if candidate.violations == 0 { &mut good } else { &mut violating };
                if list.len() < wanted {
                    list.push(candidate);
                }
            }
        }
        if !good.is_empty() && good.len() + violating.len() >= wanted {
            break;
        }
    }
    good.extend(violating);
    DryRun { candidates: good, refused }
}

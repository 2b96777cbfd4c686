//! DefaultPreemption: makes room for a pod that fits nowhere by sending less important ones away.

use std::cell::RefCell;
use std::rc::Rc;

use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::{ConditionStatus, Pod, PodConditionType, PodSpec};
use crate::engine::random::Stream;
use crate::scheduler::arguments::{Arguments, DefaultPreemptionArgs};
use crate::scheduler::cluster::Cluster;
use crate::scheduler::diagnosis::Diagnosis;
use crate::scheduler::diagnosis::Verdict as Said;
use crate::scheduler::event::{ClusterEvent, EventKinds, Hint};
use crate::scheduler::framework::{Code, Failed, NodeCodes, Plugin, Point, PostFilter, Status};
use crate::scheduler::preemption::choice;
use crate::scheduler::preemption::dry_run::{DryRun, Preemptor, Refusal, Verdict, dry_run};
use crate::scheduler::preemption::ongoing::Ongoing;
use crate::scheduler::profile::Handle;

const NOT_HELPFUL: Name = Name::of("Preemption is not helpful for scheduling");
const NEVER: Name = Name::of("preemption: not eligible due to preemptionPolicy=Never.");
const TERMINATING: Name = Name::of("preemption: not eligible due to a terminating pod on the nominated node.");

/// So many specifications are remembered.
const KNOWN: usize = 16;

/// The plugin.
pub struct DefaultPreemption {
    arguments: DefaultPreemptionArgs,
    preempting: Ongoing,
    known: RefCell<Vec<Known>>,
}

/// What was found out about the nodes for the pods of one specification. It is only kept to save work: it never changes a result.
struct Known {
    spec: Rc<PodSpec>,
    list_version: u64,
    budgets_version: u64,
    /// For each node the versions at which it was looked at, and what was found.
    nodes: Vec<Option<(u64, u64, Verdict)>>,
}

impl DefaultPreemption {
    /// The plugin with these arguments; with the default ones if they are another plugin's.
    pub fn new(arguments: &Arguments, handle: &Handle) -> Self {
        let arguments = match arguments {
            Arguments::DefaultPreemption(arguments) => arguments.clone(),
            _ => DefaultPreemptionArgs::default(),
        };
        DefaultPreemption { arguments, preempting: handle.preempting.clone(), known: RefCell::default() }
    }

    /// Why a pod may not preempt others, if it may not (kube-scheduler, `PodEligibleToPreemptOthers`).
    pub fn ineligible(pod: &Pod, cluster: &Cluster, codes: &NodeCodes) -> Option<Name> {
        if pod.spec.full.preemption_policy.as_deref() == Some("Never") {
            return Some(NEVER);
        }
        let place = cluster.place_of(pod.status.nominated_node.as_deref()?)?;
        // Where nothing would help any more, it may look for another node.
        if codes[place] == Code::UnschedulableAndUnresolvable {
            return None;
        }
        let victim = |other: &Rc<Pod>| other.spec.priority < pod.spec.priority && is_going_for_preemption(other);
        cluster.at(place).pods.iter().any(victim).then_some(TERMINATING)
    }

    /// The nodes on which preemption may help, by their places.
    pub fn potential(codes: &NodeCodes) -> Vec<usize> {
        let places = codes.iter().enumerate();
        places.filter(|(_, code)| **code == Code::Unschedulable).map(|(place, _)| place).collect()
    }

    /// How many candidates are looked for among so many nodes (kube-scheduler, `calculateNumCandidates`).
    pub fn wanted(&self, potential: usize) -> usize {
        let percentage = self.arguments.min_candidate_nodes_percentage.max(0).unsigned_abs() as usize;
        let absolute = self.arguments.min_candidate_nodes_absolute.max(0).unsigned_abs() as usize;
        (potential * percentage / 100).max(absolute).min(potential)
    }

    /// What is said if preemption helps nowhere.
    pub fn message(refused: &[Refusal], nodes: usize) -> String {
        let mut verdicts: Vec<Said> = Vec::new();
        for Refusal { status, .. } in refused {
            match verdicts.iter_mut().find(|said| said.status == *status) {
                Some(said) => said.nodes += 1,
                None => verdicts.push(Said { plugin: 0, status: status.clone(), nodes: 1 }),
            }
        }
        let others = Some(Status::unresolvable(NOT_HELPFUL));
        let diagnosis = Diagnosis { node_count: nodes, verdicts, others, ..Diagnosis::default() };
        format!("preemption: {}", diagnosis.message())
    }

    fn look(&self, failed: &Failed<'_>, potential: &[usize], offset: usize) -> DryRun {
        let preemptor = Preemptor { pod: failed.pod, compiled: failed.compiled, cluster: failed.cluster };
        let wanted = self.wanted(potential.len());
        // A pod's own nomination is no obstacle for it, yet one for others of its specification.
        if !failed.is_kept || failed.cluster.nomination_of(failed.pod.meta.uid).is_some() {
            return dry_run(potential, offset, wanted, |place| preemptor.look_at(place));
        }
        let mut known = self.take_known(failed);
        let found = dry_run(potential, offset, wanted, |place| {
            let versions = (failed.cluster.versions()[place], failed.cluster.pods_version(place));
            match &known.nodes[place] {
                Some((node, pods, verdict)) if (*node, *pods) == versions => verdict.clone(),
                _ => {
                    let verdict = preemptor.look_at(place);
                    known.nodes[place] = Some((versions.0, versions.1, verdict.clone()));
                    verdict
                }
            }
        });
        self.known.borrow_mut().push(known);
        found
    }

    /// What is known for a specification, the one that was used longest ago being forgotten.
    fn take_known(&self, failed: &Failed<'_>) -> Known {
        let mut all = self.known.borrow_mut();
        let (list_version, budgets_version) = (failed.cluster.list_version(), failed.cluster.budgets().version());
        let place = all.iter().rposition(|known| Rc::ptr_eq(&known.spec, &failed.pod.spec));
        let known = place.map(|place| all.remove(place));
        let is_current = |known: &Known| (known.list_version, known.budgets_version) == (list_version, budgets_version);
        if let Some(known) = known.filter(is_current) {
            return known;
        }
        if all.len() >= KNOWN {
            all.remove(0);
        }
        let nodes = vec![None; failed.cluster.node_count()];
        Known { spec: failed.pod.spec.clone(), list_version, budgets_version, nodes }
    }
}

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreEnqueue, Point::PostFilter]
    }

    fn events(&self) -> EventKinds {
        EventKinds::of(&[ClusterEvent::AssignedPodDelete])
    }

    /// When a pod that preempts is worth another try is for those plugins to say whose rejection it preempts for.
    fn hint(&self, _pod: &Pod, _event: ClusterEvent, _old: Option<&Object>, _new: Option<&Object>) -> Hint {
        Hint::Skip
    }

    fn pre_enqueue(&self, pod: &Pod) -> Status {
        if self.preempting.is_preempting(pod.meta.uid) {
            return Status::unresolvable(Name::of("waiting for the preemption for this pod to be finished"));
        }
        Status::SUCCESS
    }

    fn post_filter(&self, failed: &Failed<'_>, chance: &mut Stream) -> PostFilter {
        if let Some(reason) = DefaultPreemption::ineligible(failed.pod, failed.cluster, failed.codes) {
            return PostFilter { status: Status::unschedulable(reason), ..PostFilter::default() };
        }
        let potential = DefaultPreemption::potential(failed.codes);
        let offset = if potential.is_empty() { 0 } else { chance.below(potential.len() as u64) as usize };
        let found = self.look(failed, &potential, offset);
        let best = choice::best(&found.candidates);
        let Some(first) = best.first() else {
            if let Some(Refusal { status, .. }) =
                found.refused.iter().find(|refusal| refusal.status.code == Code::Error)
            {
                let status =
                    Status { code: status.code, reasons: vec![format!("preemption: {}", status.message()).into()] };
                return PostFilter { status, ..PostFilter::default() };
            }
            let message = DefaultPreemption::message(&found.refused, failed.cluster.node_count());
            let status = Status::unschedulable(message);
            return PostFilter { status, nominated_node: Some(Name::EMPTY), ..PostFilter::default() };
        };
        // The real one takes the first of an unordered list.
        let chosen = if best.len() > 1 { best[chance.below(best.len() as u64) as usize] } else { *first };
        let chosen = &found.candidates[chosen];
        PostFilter {
            status: Status::SUCCESS,
            nominated_node: Some(failed.cluster.at(chosen.place).name.clone()),
            victims: chosen.victims.iter().map(|pod| pod.meta.uid).collect(),
        }
    }
}

/// True if a pod is being deleted because it was preempted (kube-scheduler, `podTerminatingByPreemption`).
fn is_going_for_preemption(pod: &Pod) -> bool {
    let target = pod.status.condition(&PodConditionType::DisruptionTarget);
    let by_scheduler = target.is_some_and(|target| {
        target.status == ConditionStatus::True && target.reason.as_deref() == Some("PreemptionByScheduler")
    });
    pod.meta.is_deleting() && by_scheduler
}

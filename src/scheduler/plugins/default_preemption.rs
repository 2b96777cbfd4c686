//! DefaultPreemption: makes room for a pod that fits nowhere by sending less important ones away.

use std::cell::RefCell;
use std::rc::Rc;

use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::{ConditionStatus, Pod, PodConditionType};
use crate::engine::random::Stream;
use crate::scheduler::arguments::{Arguments, DefaultPreemptionArgs};
use crate::scheduler::cluster::Cluster;
use crate::scheduler::codes::{KindCodes, NodeCodes};
use crate::scheduler::diagnosis::Diagnosis;
use crate::scheduler::diagnosis::Verdict as Said;
use crate::scheduler::event::{ClusterEvent, EventKinds, Hint};
use crate::scheduler::framework::{Code, Failed, Plugin, Point, PostFilter, Status};
use crate::scheduler::preemption::choice;
use crate::scheduler::preemption::dry_run::{Candidate, DryRun, Preemptor, Refusal, Verdict, dry_run};
use crate::scheduler::preemption::known::{Known, Search};
use crate::scheduler::preemption::ongoing::Ongoing;
use crate::scheduler::profile::Handle;

const NOT_HELPFUL: Name = Name::of("Preemption is not helpful for scheduling");
const NEVER: Name = Name::of("preemption: not eligible due to preemptionPolicy=Never.");
const TERMINATING: Name = Name::of("preemption: not eligible due to a terminating pod on the nominated node.");

/// Of so many classes of pods something is remembered.
const KNOWN: usize = 8;

/// The plugin.
pub struct DefaultPreemption {
    arguments: DefaultPreemptionArgs,
    preempting: Ongoing,
    /// What is only kept to save work: it never changes a result.
    known: RefCell<Vec<Known>>,
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
    pub fn ineligible(pod: &Pod, cluster: &Cluster, codes: &NodeCodes<'_>) -> Option<Name> {
        if pod.spec.full.preemption_policy.as_deref() == Some("Never") {
            return Some(NEVER);
        }
        let place = cluster.place_of(pod.status.nominated_node.as_deref()?)?;
        // Where nothing would help any more, it may look for another node.
        if codes.is_unresolvable(place) {
            return None;
        }
        let victim = |other: &Rc<Pod>| other.spec.priority < pod.spec.priority && is_going_for_preemption(other);
        cluster.at(place).pods.iter().any(victim).then_some(TERMINATING)
    }

    /// How many candidates are looked for among so many nodes (kube-scheduler, `calculateNumCandidates`).
    pub fn wanted(&self, potential: usize) -> usize {
        let percentage = self.arguments.min_candidate_nodes_percentage.max(0).unsigned_abs() as usize;
        let absolute = self.arguments.min_candidate_nodes_absolute.max(0).unsigned_abs() as usize;
        (potential * percentage / 100).max(absolute).min(potential)
    }

    /// What is said if preemption helps nowhere.
    pub fn message(refused: &[(Status, usize)], nodes: usize) -> String {
        let verdicts = refused.iter().map(|(status, nodes)| Said { plugin: 0, status: status.clone(), nodes: *nodes });
        let others = Some(Status::unresolvable(NOT_HELPFUL));
        let diagnosis = Diagnosis { node_count: nodes, verdicts: verdicts.collect(), others, ..Diagnosis::default() };
        format!("preemption: {}", diagnosis.message())
    }

    /// What is said if looking at nodes failed and none would do: each failure once (apimachinery, `errors.NewAggregate`).
    pub fn failure(refused: &[Refusal]) -> Option<Status> {
        let mut messages: Vec<String> = Vec::new();
        for Refusal { status, .. } in refused.iter().filter(|refusal| refusal.status.code == Code::Error) {
            let message = status.message();
            if !messages.contains(&message) {
                messages.push(message);
            }
        }
        match messages.as_slice() {
            [] => None,
            [message] => Some(Status::error(format!("preemption: {message}"))),
            messages => Some(Status::error(format!("preemption: [{}]", messages.join(", ")))),
        }
    }

    /// What is said of the nodes that would not do, and of how many.
    pub fn counted(refused: &[Refusal]) -> Vec<(Status, usize)> {
        let mut said: Vec<(Status, usize)> = Vec::new();
        for Refusal { status, .. } in refused {
            match said.iter_mut().find(|(known, _)| known == status) {
                Some((_, nodes)) => *nodes += 1,
                None => said.push((status.clone(), 1)),
            }
        }
        said
    }

    /// Looks at nodes by what is known of them; nothing is said if nothing is known of kinds of nodes, or looking at one failed.
    fn look_at_known(
        &self,
        failed: &Failed<'_>,
        start: usize,
        wanted: usize,
        chance: &mut Stream,
    ) -> Option<PostFilter> {
        let NodeCodes::Kinds(codes) = &failed.codes else { return None };
        let mut known = self.take_known(codes, failed)?;
        let said = match known.search(codes, failed, (start, wanted)) {
            Search::Undecided => None,
            Search::Nowhere(refused) => Some(nowhere(&refused, failed.cluster.node_count())),
            Search::Found(found) => {
                let number = if found.equals > 1 { chance.below(found.equals) } else { 0 };
                known.best(&found, number).and_then(|place| match look_at(failed, place) {
                    Verdict::Helps(chosen) => Some(nominate(&chosen, failed.cluster)),
                    Verdict::DoesNot(_) => None,
                })
            }
        };
        self.known.borrow_mut().push(known);
        said
    }

    /// Looks at nodes anew, beginning with the one that has this number among them.
    fn look_at_all(&self, failed: &Failed<'_>, offset: usize, wanted: usize, chance: &mut Stream) -> PostFilter {
        let potential = failed.codes.unschedulable_places();
        let DryRun { candidates, refused } = dry_run(&potential, offset, wanted, |place| look_at(failed, place));
        let best = choice::best(&candidates);
        let Some(first) = best.first() else {
            if let Some(status) = DefaultPreemption::failure(&refused) {
                return PostFilter { status, ..PostFilter::default() };
            }
            return nowhere(&DefaultPreemption::counted(&refused), failed.cluster.node_count());
        };
        // The real one takes the first of an unordered list.
        let chosen = if best.len() > 1 { best[chance.below(best.len() as u64) as usize] } else { *first };
        nominate(&candidates[chosen], failed.cluster)
    }

    /// What is known for pods of a class, the one that was used longest ago being forgotten.
    fn take_known(&self, codes: &KindCodes<'_>, failed: &Failed<'_>) -> Option<Known> {
        let mut all = self.known.borrow_mut();
        let place = all.iter().rposition(|known| known.is_of(codes));
        if let Some(mut known) = place.map(|place| all.remove(place))
            && known.catch_up(codes, failed)
        {
            return Some(known);
        }
        if all.len() >= KNOWN {
            all.remove(0);
        }
        Known::new(codes, failed)
    }
}

/// Who would have to go from a node.
fn look_at(failed: &Failed<'_>, place: usize) -> Verdict {
    Preemptor::of(failed).look_at(place)
}

/// A node is nominated.
fn nominate(chosen: &Candidate, cluster: &Cluster) -> PostFilter {
    PostFilter {
        status: Status::SUCCESS,
        nominated_node: Some(cluster.at(chosen.place).name.clone()),
        victims: chosen.victims.iter().map(|pod| pod.meta.uid).collect(),
    }
}

/// Preemption helps nowhere.
fn nowhere(refused: &[(Status, usize)], nodes: usize) -> PostFilter {
    let status = Status::unschedulable(DefaultPreemption::message(refused, nodes));
    PostFilter { status, nominated_node: Some(Name::EMPTY), ..PostFilter::default() }
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
    fn hint(
        &self,
        _pod: &Pod,
        _event: ClusterEvent,
        _old: Option<&Object>,
        _new: Option<&Object>,
        _cluster: &Cluster,
    ) -> Hint {
        Hint::Skip
    }

    fn pre_enqueue(&self, pod: &Pod) -> Status {
        if self.preempting.is_preempting(pod.meta.uid) {
            return Status::unresolvable(Name::of("waiting for the preemption for this pod to be finished"));
        }
        Status::SUCCESS
    }

    fn post_filter(&self, failed: &Failed<'_>, chance: &mut Stream) -> PostFilter {
        if let Some(reason) = DefaultPreemption::ineligible(failed.pod, failed.cluster, &failed.codes) {
            return PostFilter { status: Status::unschedulable(reason), ..PostFilter::default() };
        }
        let count = failed.codes.unschedulable();
        let (offset, wanted) = (if count == 0 { 0 } else { chance.below(count as u64) as usize }, self.wanted(count));
        let start = failed.codes.nth_unschedulable(offset).unwrap_or(0);
        if let Some(said) = self.look_at_known(failed, start, wanted, chance) {
            return said;
        }
        self.look_at_all(failed, offset, wanted, chance)
    }
}

/// True if a pod is being deleted because it was preempted (kube-scheduler, `podTerminatingByPreemption`).
fn is_going_for_preemption(pod: &Pod) -> bool {
    let target = pod.status.condition(&PodConditionType::DisruptionTarget);
    let by_scheduler = target.is_some_and(|target| {
        target.status == ConditionStatus::True && target.why.reason() == Some("PreemptionByScheduler")
    });
    pod.meta.is_deleting() && by_scheduler
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_failures_each_is_told_once() {
        let refusal = |place: usize, status: Status| Refusal { place, plugin: None, status };
        let [one, two] = ["one", "two"].map(|why| Status::error(Name::of(why)));
        let no = Status::unschedulable(Name::of("no"));
        let said = |refused: &[Refusal]| DefaultPreemption::failure(refused).map(|status| status.message());
        assert_eq!(said(&[refusal(0, no.clone())]), None);
        assert_eq!(said(&[refusal(0, no), refusal(1, one.clone())]).as_deref(), Some("preemption: one"));
        let all = [refusal(0, one.clone()), refusal(1, two), refusal(2, one)];
        assert_eq!(said(&all).as_deref(), Some("preemption: [one, two]"));
    }
}

//! Makes room for a critical pod: ends pods that run here, so that it can be admitted.
//!
//! Follows kubelet/preemption (`CriticalPodAdmissionHandler`) and `killPodNow`: which pods go, in which order, and that their
//! end is waited for one after the other. Meanwhile the kubelet admits no other pod, as its sync loop is held up by the admission.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::api::event::EventType;
use crate::api::meta::Uid;
use crate::api::name::Name;
use crate::api::pod::{Pod, PodSpec, QosClass};
use crate::api::resources::Resources;
use crate::engine::process::TimerId;
use crate::engine::time::SimDuration;
use crate::runtime::interface::PodNumber;

use super::admission::{Rejection, Shortage};
use super::agent::{Kubelet, NodeContext};
use super::eviction::Eviction;
use super::qos;
use super::tokens::Timer;
use super::worker::Stage;

const REASON: &str = "Preempting";
const MESSAGE: &str = "Preempted in order to admit critical pod";
const CONDITION: Name = Name::of("Pod was preempted by Kubelet to accommodate a critical pod.");
/// The least time that is waited for a pod to end, in seconds (`killPodNow`).
const LEAST_WAIT: u64 = 10;

/// Pods that end to make room, and who waits for that.
#[derive(Debug, Default)]
pub struct Preemption {
    /// The pod that is admitted then; none if it has gone meanwhile, or is here already and was resized.
    admitted: Option<Rc<Pod>>,
    /// Pods whose turn is still to come.
    victims: VecDeque<PodNumber>,
    /// The pod that is waited for, and what ends the wait.
    current: Option<(PodNumber, TimerId)>,
    /// Pods that came meanwhile.
    waiting: VecDeque<Rc<Pod>>,
}

impl Preemption {
    /// A pod came, or changed, that the kubelet does not know yet.
    fn keep(&mut self, pod: Rc<Pod>) {
        let same = |known: &&mut Rc<Pod>| known.meta.uid == pod.meta.uid;
        match self.admitted.iter_mut().chain(&mut self.waiting).find(same) {
            Some(known) => *known = pod,
            None => self.waiting.push_back(pod),
        }
    }

    /// A pod that waits is gone.
    fn forget(&mut self, uid: Uid) {
        self.admitted = self.admitted.take().filter(|pod| pod.meta.uid != uid);
        self.waiting.retain(|pod| pod.meta.uid != uid);
    }
}

/// A pod that could go.
#[derive(Clone, Copy, Debug)]
struct Candidate<'a> {
    number: PodNumber,
    requests: &'a Resources,
}

/// How much of a resource is missing.
type Need = (Name, i64);

impl Kubelet {
    /// Keeps a pod that came while others end to make room; false if none do.
    pub(super) fn hold_up(&mut self, pod: &Rc<Pod>) -> bool {
        let Some(preemption) = &mut self.preemption else { return false };
        preemption.keep(pod.clone());
        true
    }

    /// A pod is gone that may have been held up.
    pub(super) fn no_longer_held_up(&mut self, uid: Uid) {
        if let Some(preemption) = &mut self.preemption {
            preemption.forget(uid);
        }
    }

    /// Which pods have to go for a critical pod.
    pub(super) fn victims_of(&self, pod: &Pod, shortages: &[Shortage]) -> Result<Vec<PodNumber>, Rejection> {
        if shortages.is_empty() {
            return Ok(Vec::new());
        }
        let active = self.workers.values().filter(|worker| worker.could_have_running_containers());
        let active: Vec<(PodNumber, &Pod, Rc<PodSpec>)> =
            active.map(|worker| (worker.number, worker.pod.as_ref(), worker.allocated().clone())).collect();
        let needs: Vec<Need> = shortages.iter().map(|one| (one.resource.clone(), one.missing())).collect();
        let of = |class: QosClass| {
            let preemptable =
                active.iter().filter(|(_, other, _)| is_preemptable(pod, other) && other.spec.qos == class);
            preemptable.map(|(number, _, spec)| Candidate { number: *number, requests: &spec.requests }).collect()
        };
        choose(of(QosClass::BestEffort), of(QosClass::Burstable), of(QosClass::Guaranteed), &needs).map_err(|why| {
            Rejection {
                reason: Name::of("UnexpectedAdmissionError"),
                message: format!(
                    "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods to preempt: {why}"
                ),
            }
        })
    }

    /// Lets pods end one after the other; then another one is admitted.
    pub(super) fn preempt(&mut self, victims: Vec<PodNumber>, admitted: Option<Rc<Pod>>, ctx: &mut dyn NodeContext) {
        match &mut self.preemption {
            Some(preemption) => preemption.victims.extend(victims),
            None => {
                self.preemption =
                    Some(Box::new(Preemption { admitted, victims: victims.into(), ..Preemption::default() }));
                self.next_victim(ctx);
            }
        }
    }

    fn next_victim(&mut self, ctx: &mut dyn NodeContext) {
        let Some(preemption) = &mut self.preemption else { return };
        preemption.current = None;
        let Some(number) = preemption.victims.pop_front() else { return self.room_is_made(ctx) };
        let Some(worker) = self.workers.get_mut(&number) else { return self.next_victim(ctx) };
        self.shared.record(worker, None, EventType::Warning, REASON, MESSAGE.to_owned());
        let grace = u64::try_from(worker.pod.spec.grace_seconds).unwrap_or(0);
        let wait = SimDuration::from_secs((grace + grace / 2).max(LEAST_WAIT));
        preemption.current = Some((number, ctx.set_timer(ctx.now() + wait, Timer::Preemption.token())));
        let (reason, message, condition) = (Name::of(REASON), Name::of(MESSAGE), Some(CONDITION));
        self.with(number, ctx, |worker, shared, ctx| {
            worker.end_because(Eviction { reason, message, condition, grace: None }, shared, ctx);
        });
    }

    /// The pod that is waited for has not ended in time: what follows goes on without it.
    pub(super) fn victim_is_late(&mut self, ctx: &mut dyn NodeContext) {
        let Some((number, _)) = self.preemption.as_mut().and_then(|preemption| preemption.current.take()) else {
            return;
        };
        if let Some(worker) = self.workers.get(&number) {
            let message = "Container runtime did not kill the pod within specified grace period.".to_owned();
            self.shared.record(worker, None, EventType::Warning, "ExceededGracePeriod", message);
        }
        self.next_victim(ctx);
    }

    /// Something has happened: it may have been the end of the pod that is waited for.
    pub(super) fn follow_preemption(&mut self, ctx: &mut dyn NodeContext) {
        while let Some((number, timer)) = self.preemption.as_ref().and_then(|preemption| preemption.current)
            && self.workers.get(&number).is_none_or(|worker| worker.stage >= Stage::Terminated)
        {
            ctx.cancel_timer(timer);
            self.next_victim(ctx);
        }
    }

    /// There is room: the critical pod begins, and those that came meanwhile are looked at.
    fn room_is_made(&mut self, ctx: &mut dyn NodeContext) {
        let Some(preemption) = self.preemption.take() else { return };
        if let Some(pod) = preemption.admitted {
            self.pod_admitted(pod, ctx);
        }
        for pod in preemption.waiting {
            self.pod_added(pod, ctx);
        }
        if self.has_static {
            self.reconcile_mirrors(ctx);
        }
    }
}

/// True if a pod may end for a critical one (kubelet/types, `Preemptable`).
fn is_preemptable(by: &Pod, pod: &Pod) -> bool {
    !qos::is_critical(pod) || by.spec.priority > pod.spec.priority
}

/// The fewest pods whose requests are enough, of the lowest class of service that does (`getPodsToPreempt`).
fn choose(
    best_effort: Vec<Candidate<'_>>,
    burstable: Vec<Candidate<'_>>,
    guaranteed: Vec<Candidate<'_>>,
    needs: &[Need],
) -> Result<Vec<PodNumber>, String> {
    let all = best_effort.iter().chain(&burstable).chain(&guaranteed);
    let unmet = without(needs, all.copied());
    if !unmet.is_empty() {
        return Err(none_found(&unmet));
    }
    let others = best_effort.iter().chain(&burstable).copied();
    let of_guaranteed = by_distance(guaranteed, without(needs, others))?;
    let others = best_effort.iter().chain(&of_guaranteed).copied();
    let of_burstable = by_distance(burstable, without(needs, others))?;
    let others = of_burstable.iter().chain(&of_guaranteed).copied();
    let of_best_effort = by_distance(best_effort, without(needs, others))?;
    Ok(of_best_effort.into_iter().chain(of_burstable).chain(of_guaranteed).map(|candidate| candidate.number).collect())
}

/// Takes the pod that brings most of what is missing, the smaller one of equals, until nothing is (`getPodsToPreemptByDistance`).
fn by_distance<'a>(mut pods: Vec<Candidate<'a>>, mut needs: Vec<Need>) -> Result<Vec<Candidate<'a>>, String> {
    let mut chosen = Vec::new();
    while !needs.is_empty() {
        if pods.is_empty() {
            return Err(none_found(&needs));
        }
        let (mut best, mut least) = (0, needs.len() as f64 + 1.0);
        for (place, pod) in pods.iter().enumerate() {
            let distance = distance(&needs, pod.requests);
            if distance < least || (distance == least && is_smaller(pod.requests, pods[best].requests)) {
                (best, least) = (place, distance);
            }
        }
        let pod = pods.swap_remove(best);
        needs = without(&needs, std::iter::once(pod));
        chosen.push(pod);
    }
    Ok(chosen)
}

/// How much of what is missing a pod does not bring, each resource weighing the same.
fn distance(needs: &[Need], requests: &Resources) -> f64 {
    needs.iter().fold(0.0, |sum, (resource, missing)| {
        let rest = (missing - amount(requests, resource)) as f64;
        if rest > 0.0 { sum + (rest / *missing as f64) * (rest / *missing as f64) } else { sum }
    })
}

/// What is still missing without some pods.
fn without<'a>(needs: &[Need], pods: impl Iterator<Item = Candidate<'a>> + Clone) -> Vec<Need> {
    let left = |(resource, missing): &Need| {
        let freed = pods.clone().fold(0i64, |sum, pod| sum.saturating_add(amount(pod.requests, resource)));
        (resource.clone(), missing.saturating_sub(freed))
    };
    needs.iter().map(left).filter(|(_, missing)| *missing > 0).collect()
}

/// True if a pod requests less memory than another, or as much and not more CPU (`smallerResourceRequest`).
fn is_smaller(left: &Resources, right: &Resources) -> bool {
    (left.memory, left.milli_cpu) <= (right.memory, right.milli_cpu)
}

/// What a pod requests of a resource; each is one pod.
fn amount(requests: &Resources, resource: &str) -> i64 {
    match resource {
        "pods" => 1,
        "cpu" => requests.milli_cpu,
        "memory" => requests.memory,
        "ephemeral-storage" => requests.ephemeral_storage,
        scalar => requests.scalar(scalar),
    }
}

/// `no set of running pods found to reclaim resources: [(res: cpu, q: 100), ]`
fn none_found(needs: &[Need]) -> String {
    let needs: String = needs.iter().map(|(resource, missing)| format!("(res: {resource}, q: {missing}), ")).collect();
    format!("no set of running pods found to reclaim resources: [{needs}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(milli_cpu: i64, memory: i64) -> Resources {
        Resources { milli_cpu, memory, ..Resources::default() }
    }

    fn chosen(classes: [&[(i64, i64)]; 3], needs: &[(&'static str, i64)]) -> Result<Vec<u32>, String> {
        let pods: Vec<Vec<Resources>> =
            classes.iter().map(|class| class.iter().map(|(cpu, memory)| requests(*cpu, *memory)).collect()).collect();
        let mut number = 0;
        let mut candidates = pods.iter().map(|class| {
            let candidate = |requests| {
                number += 1;
                Candidate { number: PodNumber(number), requests }
            };
            class.iter().map(candidate).collect::<Vec<_>>()
        });
        let mut next = || candidates.next().unwrap_or_default();
        let (best_effort, burstable, guaranteed) = (next(), next(), next());
        let needs: Vec<Need> = needs.iter().map(|(resource, missing)| (Name::of(resource), *missing)).collect();
        let chosen = choose(best_effort, burstable, guaranteed, &needs)?;
        Ok(chosen.into_iter().map(|number| number.0).collect())
    }

    #[test]
    fn the_lowest_class_that_is_enough_goes() {
        let classes: [&[(i64, i64)]; 3] = [&[(0, 0)], &[(100, 50), (300, 200)], &[(400, 400)]];
        assert_eq!(
            chosen(classes, &[("cpu", 100)]),
            Ok(vec![2]),
            "no best-effort pod helps, the small burstable one does"
        );
        assert_eq!(chosen(classes, &[("cpu", 200)]), Ok(vec![3]));
        assert_eq!(chosen(classes, &[("cpu", 500)]), Ok(vec![2, 4]), "a guaranteed pod only for what is missing then");
        assert_eq!(chosen(classes, &[("pods", 1)]), Ok(vec![1]));
        assert_eq!(chosen(classes, &[("cpu", 50), ("memory", 220)]), Ok(vec![3, 2]));
    }

    #[test]
    fn the_fewest_pods_go_and_of_equals_the_smaller() {
        let classes: [&[(i64, i64)]; 3] = [&[], &[(100, 10), (100, 5), (200, 90), (50, 1)], &[]];
        assert_eq!(chosen(classes, &[("cpu", 200)]), Ok(vec![3]));
        assert_eq!(chosen(classes, &[("cpu", 100)]), Ok(vec![2]));
        assert_eq!(
            chosen(classes, &[("cpu", 1000), ("pods", 1)]),
            Err("no set of running pods found to reclaim resources: [(res: cpu, q: 550), ]".to_owned())
        );
    }
}

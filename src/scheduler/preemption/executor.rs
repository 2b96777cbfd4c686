//! Tells victims to go, while the scheduler goes on: their conditions first, then their deletion
//! (kube-scheduler, `framework/preemption/executor.go`, `prepareCandidateAsync`).

use std::collections::BTreeMap;
use std::rc::Rc;

use super::ongoing::Ongoing;
use crate::api::event::EventType;
use crate::api::kind::Kind;
use crate::api::meta::ObjectKey;
use crate::api::name::Name;
use crate::api::pod::{ConditionStatus, Pod, PodCondition, PodConditionType, Why};
use crate::apiserver::protocol::{ApiMessage, DeleteOptions, Operation, Part, Patch, TypedPatch};
use crate::apiserver::status::Reason;
use crate::client::delivery::{Caller, Failure};
use crate::client::series_recorder::SeriesNote;
use crate::engine::process::Context;
use crate::scheduler::account::reference;
use crate::scheduler::diagnosis::Diagnosis;
use crate::scheduler::queue::Queued;
use crate::scheduler::{Scheduler, Ticket};

/// The preemptions under way.
pub(in crate::scheduler) struct Evictions {
    ongoing: Ongoing,
    under_way: BTreeMap<u64, Eviction>,
    last: u64,
}

/// A preemption under way.
struct Eviction {
    preemptor: Rc<Pod>,
    profile: usize,
    node: Name,
    /// Who is still to be told, apart from those whose requests are under way; the one that is told last stands last.
    victims: Vec<Rc<Pod>>,
    /// How many requests are under way.
    requests: usize,
    stage: Stage,
    /// True once a request has failed.
    failed: bool,
}

/// What the requests that are under way are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Less important pods are to look for another node.
    Nominations,
    /// All victims but the last one are told.
    Others,
    /// The last victim is told.
    Last,
}

/// What a request of a preemption is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::scheduler) enum Telling {
    /// A nomination is taken back.
    Nomination,
    /// It is written why the victim at this place goes.
    Reason(usize),
    /// The victim at this place is deleted.
    Deletion(usize),
}

impl Evictions {
    /// None; `ongoing` is told of those to come.
    pub(in crate::scheduler) fn new(ongoing: Ongoing) -> Self {
        Evictions { ongoing, under_way: BTreeMap::new(), last: 0 }
    }

    /// Whose victims are being told to go.
    pub(in crate::scheduler) fn ongoing(&self) -> Ongoing {
        self.ongoing.clone()
    }
}

impl Scheduler {
    /// Begins to tell the victims of a pod to go, if it has any that do not go already.
    pub(in crate::scheduler) fn preempt(
        &mut self,
        queued: &Queued,
        diagnosis: &Diagnosis,
        ctx: &mut dyn Context<ApiMessage>,
    ) {
        let Some(node) = diagnosis.nominated_node.clone() else { return };
        let victims = diagnosis.victims.iter().filter_map(|uid| self.cluster.pod(*uid));
        let victims: Vec<Rc<Pod>> = victims.filter(|victim| !victim.meta.is_deleting()).cloned().collect();
        if victims.is_empty() {
            return;
        }
        let (preemptor, profile) = (queued.pod.clone(), queued.profile);
        self.evictions.ongoing.begin(preemptor.meta.uid);
        // Less important pods that were to come here may no longer fit: they are to look elsewhere at once.
        let less = |other: &&Rc<Pod>| other.spec.priority < preemptor.spec.priority;
        let nominated = self.cluster.nominated_to(&node).iter().filter(less);
        let nominated: Vec<Rc<Pod>> = nominated.filter(|pod| pod.status.nominated_node.is_some()).cloned().collect();
        self.evictions.last += 1;
        let number = self.evictions.last;
        let (requests, stage) = (nominated.len(), Stage::Nominations);
        let eviction = Eviction { preemptor, profile, node, victims, requests, stage, failed: false };
        self.evictions.under_way.insert(number, eviction);
        for pod in nominated {
            let operation = status_patch(&pod, Vec::new(), Some(Name::EMPTY));
            self.tell(number, Telling::Nomination, operation, ctx);
        }
        self.go_on_preempting(number, ctx);
    }

    /// Takes the answer to a request of a preemption.
    pub(in crate::scheduler) fn told(
        &mut self,
        number: u64,
        telling: Telling,
        failure: Option<Failure>,
        ctx: &mut dyn Context<ApiMessage>,
    ) {
        let Some(eviction) = self.evictions.under_way.get_mut(&number) else { return };
        let is_gone = failure.as_ref().and_then(Failure::reason) == Some(Reason::NotFound);
        let has_failed = failure.is_some() && !is_gone;
        match telling {
            Telling::Reason(place) if failure.is_none() => return self.delete_victim(number, place, ctx),
            Telling::Deletion(place) if failure.is_none() => self.record_preempted(number, place, "", ctx),
            // That less important pods keep their nominations is not critical, yet the preemptor is tried again at once.
            Telling::Nomination => eviction.failed |= failure.is_some(),
            // Who is gone already need not be told.
            Telling::Reason(_) | Telling::Deletion(_) => eviction.failed |= has_failed,
        }
        if let Some(eviction) = self.evictions.under_way.get_mut(&number) {
            eviction.requests -= 1;
            // Whatever becomes of nominations, the victims go; the last one only if the others went.
            if eviction.stage == Stage::Others && eviction.failed && has_failed {
                return self.end_preemption_if_done(number, ctx);
            }
        }
        self.go_on_preempting(number, ctx);
    }

    /// Goes on with a preemption once all requests of a stage are answered.
    fn go_on_preempting(&mut self, number: u64, ctx: &mut dyn Context<ApiMessage>) {
        loop {
            let Some(eviction) = self.evictions.under_way.get_mut(&number) else { return };
            if eviction.requests > 0 {
                return;
            }
            let last = eviction.victims.len() - 1;
            let (stage, places) = match eviction.stage {
                Stage::Nominations => (Stage::Others, 0..last),
                Stage::Others => (Stage::Last, last..last + 1),
                Stage::Last => return self.end_preemption(number),
            };
            if stage == Stage::Last {
                let (preemptor, victim) = (eviction.preemptor.meta.uid, eviction.victims[last].clone());
                self.evictions.ongoing.only_last(preemptor, victim.meta.uid);
                let shown = self.objects.view().get::<Pod>(&victim.meta.namespace, &victim.meta.name);
                if shown.is_none_or(|shown| shown.meta.is_deleting()) {
                    self.evictions.ongoing.pod_goes(victim.meta.uid);
                }
            }
            if let Some(eviction) = self.evictions.under_way.get_mut(&number) {
                (eviction.stage, eviction.requests) = (stage, places.len());
            }
            for place in places {
                self.tell_victim(number, place, ctx);
            }
        }
    }

    /// A victim could not be told: the last one is spared once the requests under way are answered.
    fn end_preemption_if_done(&mut self, number: u64, ctx: &mut dyn Context<ApiMessage>) {
        if let Some(eviction) = self.evictions.under_way.get_mut(&number) {
            eviction.stage = Stage::Last;
        }
        self.go_on_preempting(number, ctx);
    }

    fn end_preemption(&mut self, number: u64) {
        let Some(eviction) = self.evictions.under_way.remove(&number) else { return };
        self.evictions.ongoing.end(eviction.preemptor.meta.uid);
        if eviction.failed {
            self.queue.force(&eviction.preemptor, &self.profiles);
        }
    }

    /// Tells a victim to go. One that is only assumed to be on its node is put back instead.
    fn tell_victim(&mut self, number: u64, place: usize, ctx: &mut dyn Context<ApiMessage>) {
        let Some(eviction) = self.evictions.under_way.get(&number) else { return };
        let (victim, profile) = (eviction.victims[place].clone(), eviction.profile);
        if self.take_back_binding(victim.meta.uid, ctx) {
            self.record_preempted(number, place, " (in kube-scheduler memory).", ctx);
            if let Some(eviction) = self.evictions.under_way.get_mut(&number) {
                eviction.requests -= 1;
            }
            return;
        }
        let scheduler = &self.profiles.at(profile).scheduler_name;
        let message = format!("{scheduler}: preempting to accommodate a higher priority pod");
        let old = victim.status.condition(&PodConditionType::DisruptionTarget);
        let was_true = old.filter(|old| old.status == ConditionStatus::True);
        let condition = PodCondition {
            kind: PodConditionType::DisruptionTarget,
            status: ConditionStatus::True,
            why: Why::new(Some(Name::of("PreemptionByScheduler")), Some(message.into())),
            last_transition: was_true.map_or(self.epoch.timestamp(ctx.now()), |old| old.last_transition),
            observed_generation: victim.meta.generation,
        };
        if old == Some(&condition) {
            return self.delete_victim(number, place, ctx);
        }
        self.tell(number, Telling::Reason(place), status_patch(&victim, vec![condition], None), ctx);
    }

    fn delete_victim(&mut self, number: u64, place: usize, ctx: &mut dyn Context<ApiMessage>) {
        let Some(eviction) = self.evictions.under_way.get(&number) else { return };
        let key = key_of(&eviction.victims[place]);
        let operation = Operation::Delete { key, options: DeleteOptions::default() };
        self.tell(number, Telling::Deletion(place), operation, ctx);
    }

    fn record_preempted(&mut self, number: u64, place: usize, more: &str, ctx: &mut dyn Context<ApiMessage>) {
        let Some(eviction) = self.evictions.under_way.get(&number) else { return };
        let (preemptor, node) = (&eviction.preemptor, &eviction.node);
        let note = SeriesNote {
            regarding: reference(&eviction.victims[place]),
            related: Some(reference(preemptor)),
            kind: EventType::Normal,
            reason: Name::of("Preempted"),
            action: Name::of("Preempting"),
            message: format!("Preempted by pod {} on node {node}{more}", preemptor.meta.uid),
        };
        self.record(eviction.profile, note, ctx);
    }

    fn tell(&mut self, number: u64, telling: Telling, operation: Operation, ctx: &mut dyn Context<ApiMessage>) {
        self.client.request(self.clientset, Caller::Process(Ticket::Preemption(number, telling)), operation, ctx);
    }
}

/// The request that changes conditions and the nomination of a pod.
pub(in crate::scheduler) fn status_patch(
    pod: &Pod,
    conditions: Vec<PodCondition>,
    nominated_node: Option<Name>,
) -> Operation {
    let patch = TypedPatch::PodConditions { uid: pod.meta.uid, conditions, nominated_node };
    Operation::Patch { key: key_of(pod), patch: Patch::Typed(Box::new(patch)), part: Part::Status, dry_run: false }
}

fn key_of(pod: &Pod) -> ObjectKey {
    ObjectKey::new(Kind::Pod, pod.meta.namespace.clone(), pod.meta.name.clone())
}

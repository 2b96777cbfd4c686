//! What is told of a pod: events, and the condition `PodScheduled` where it could not be scheduled
//! (kube-scheduler, `handleSchedulingFailure`).

use std::rc::Rc;

use super::diagnosis::Diagnosis;
use super::framework::{Placement, PluginSet};
use super::preemption::executor::status_patch;
use super::queue::{Judges, Queued};
use super::{Scheduler, Ticket};
use crate::api::event::{EventType, ObjectReference};
use crate::api::name::Name;
use crate::api::pod::{ConditionStatus, Pod, PodCondition, PodConditionType, Why};
use crate::apiserver::protocol::ApiMessage;
use crate::client::delivery::Caller;
use crate::client::series_recorder::SeriesNote;
use crate::engine::process::Context;

/// The longest sentence of an event (`NoteLengthLimit`).
const LONGEST_NOTE: usize = 1024;

impl Scheduler {
    /// A pod fits no node.
    pub(super) fn rejected(
        &mut self,
        mut queued: Box<Queued>,
        diagnosis: &Diagnosis,
        ctx: &mut dyn Context<ApiMessage>,
    ) {
        (queued.rejected_by, queued.pending) = (diagnosis.plugins, diagnosis.pending);
        let nominated = diagnosis.nominated_node.clone();
        self.not_scheduled(queued, "Unschedulable", diagnosis.message(), nominated, ctx);
    }

    /// Something went wrong on a pod's way.
    pub(super) fn failed(&mut self, mut queued: Box<Queued>, message: String, ctx: &mut dyn Context<ApiMessage>) {
        (queued.rejected_by, queued.pending) = (PluginSet::NONE, PluginSet::NONE);
        self.not_scheduled(queued, "SchedulerError", message, Some(Name::EMPTY), ctx);
    }

    /// Puts a pod back and says why it was not scheduled. One that is gone is not put back, yet spoken of.
    fn not_scheduled(
        &mut self,
        mut queued: Box<Queued>,
        reason: &'static str,
        message: String,
        nominated: Option<Name>,
        ctx: &mut dyn Context<ApiMessage>,
    ) {
        let (mut pod, profile) = (queued.pod.clone(), queued.profile);
        let shown = self.objects.view().get::<Pod>(&pod.meta.namespace, &pod.meta.name);
        match shown {
            Some(shown) if shown.node.is_none() && shown.meta.uid != pod.meta.uid => {
                return self.queue.done(pod.meta.uid);
            }
            Some(shown) if shown.node.is_none() => {
                pod = shown.clone();
                queued.pod = pod.clone();
                let judges = Judges { profiles: &self.profiles, cluster: &self.cluster };
                self.queue.put_back(queued, ctx.now(), judges);
                // The next cycle must know of it before the API does.
                self.nominate(&pod, nominated.as_ref());
            }
            _ => {
                self.queue.done(pod.meta.uid);
                self.cluster.withdraw(pod.meta.uid);
            }
        }
        self.record_failure(profile, &pod, cut(message.clone()), ctx);
        self.write_condition(&pod, reason, message.into(), nominated, ctx);
    }

    /// Nominates a pod to a node, or takes its nomination back; if nothing is said, it stays as the pod's status has it.
    fn nominate(&mut self, pod: &Rc<Pod>, nominated: Option<&Name>) {
        match nominated.or(pod.status.nominated_node.as_deref()) {
            Some(node) if !node.is_empty() => self.cluster.nominate(pod, node),
            _ => self.cluster.withdraw(pod.meta.uid),
        }
    }

    /// Writes the condition, unless the pod has it already.
    fn write_condition(
        &mut self,
        pod: &Pod,
        reason: &'static str,
        message: Name,
        nominated: Option<Name>,
        ctx: &mut dyn Context<ApiMessage>,
    ) {
        let old = pod.status.condition(&PodConditionType::PodScheduled);
        let was_false = old.filter(|old| old.status == ConditionStatus::False);
        let now = self.epoch.timestamp(ctx.now());
        let condition = PodCondition {
            kind: PodConditionType::PodScheduled,
            status: ConditionStatus::False,
            why: Why::new(Some(Name::of(reason)), Some(message)),
            last_transition: was_false.map_or(now, |old| old.last_transition),
            observed_generation: pod.meta.generation,
        };
        let known = pod.status.nominated_node.as_deref().cloned().unwrap_or_default();
        let nominated_node = nominated.filter(|nominated| *nominated != known);
        if old == Some(&condition) && nominated_node.is_none() {
            return;
        }
        let operation = status_patch(pod, vec![condition], nominated_node);
        self.client.request(self.clientset, Caller::Process(Ticket::Condition), operation, ctx);
    }

    /// Records that a pod was bound.
    pub(super) fn record_success(&mut self, profile: usize, placement: &Placement, ctx: &mut dyn Context<ApiMessage>) {
        let meta = &placement.pod.meta;
        let (namespace, name, node) = (meta.namespace.as_str(), meta.name.as_str(), placement.node.as_str());
        let mut message = String::with_capacity(27 + namespace.len() + name.len() + node.len());
        ["Successfully assigned ", namespace, "/", name, " to ", node].iter().for_each(|part| message.push_str(part));
        self.record(
            profile,
            scheduling_note(&placement.pod, EventType::Normal, ("Scheduled", "Binding"), message),
            ctx,
        );
    }

    /// Records that a pod was not scheduled.
    pub(super) fn record_failure(
        &mut self,
        profile: usize,
        pod: &Pod,
        message: String,
        ctx: &mut dyn Context<ApiMessage>,
    ) {
        let note = scheduling_note(pod, EventType::Warning, ("FailedScheduling", "Scheduling"), message);
        self.record(profile, note, ctx);
    }

    /// Records something in the name of a profile.
    pub(super) fn record(&mut self, profile: usize, note: SeriesNote, ctx: &mut dyn Context<ApiMessage>) {
        self.recorders[profile].record(note, &mut self.client, ctx);
    }
}

fn scheduling_note(
    pod: &Pod,
    kind: EventType,
    (reason, action): (&'static str, &'static str),
    message: String,
) -> SeriesNote {
    let (reason, action) = (Name::of(reason), Name::of(action));
    SeriesNote { regarding: reference(pod), related: None, kind, reason, action, message }
}

/// A message as long as an event may carry (kube-scheduler, `truncateMessage`).
fn cut(mut message: String) -> String {
    const END: &str = " ...";
    if message.len() > LONGEST_NOTE {
        let at = (0..=LONGEST_NOTE - END.len()).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(at);
        message.push_str(END);
    }
    message
}

/// What an event says of the pod that it is about.
pub(super) fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Name::of("v1"),
        kind: Name::of("Pod"),
        namespace: pod.meta.namespace.clone(),
        name: pod.meta.name.clone(),
        uid: pod.meta.uid,
        resource_version: pod.meta.revision(),
        field_path: Name::EMPTY,
    }
}

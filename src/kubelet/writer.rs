//! Gets statuses into the API: one pod after the other, each a GET and a PATCH, and the DELETE that ends a pod.
//!
//! Follows the status manager. Its one loop writes one status at a time, so a status that changes while others are
//! written goes out once, in its newest form. The GET is not sent: its time is spent, and what it would show comes with the
//! PATCH's own checks. What failed is tried again at the next recheck, every 10 s.

use crate::api::object::Resource;
use crate::api::pod::{Pod, PodConditionType, PodPhase, PodStatus};
use crate::apiserver::protocol::{Answer, DeleteOptions, Operation, Part, Patch, TypedPatch};
use crate::apiserver::status::Reason;
use crate::client::delivery::Failure;

use super::agent::NodeContext;
use super::reset;
use super::resize::same_resize;
use super::shared::{Purpose, Shared};
use super::tokens::Timer;
use super::worker::{Held, Worker};

impl Worker {
    /// Hands a new status to the writer, unless it says what the one before said.
    pub fn set_status(&mut self, status: PodStatus, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        if self.reported && same(self.status(), &status) {
            return;
        }
        self.hold(status, false, shared, ctx);
    }

    /// Hands a status to the writer, whatever was said before. `finished` says that the pod may be deleted from the API.
    pub fn hold(&mut self, status: PodStatus, finished: bool, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        self.reported = true;
        let finished = finished || self.held.as_ref().is_some_and(|held| held.finished);
        self.held = Some(Box::new(Held { status, dirty: true, finished, cause: ctx.cause() }));
        self.enqueue_write(shared, ctx);
    }

    /// Keeps a status for an API that does not know the pod yet.
    pub fn hold_back(&mut self, status: PodStatus, ctx: &mut dyn NodeContext) {
        self.held = Some(Box::new(Held { status, dirty: true, finished: false, cause: ctx.cause() }));
    }

    /// Puts the pod into the queue of those whose status is to be written, and begins if no other is being written.
    pub fn enqueue_write(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        if shared.writing.is_none() {
            self.begin_write(shared, ctx);
        } else if !shared.to_write.contains(&self.number) {
            shared.to_write.push_back(self.number);
        }
    }

    /// True if something remains to be done about the pod in the API.
    pub fn must_write(&self) -> bool {
        let Some(held) = self.held.as_ref().filter(|_| !self.missing) else { return false };
        held.dirty || self.may_delete() || !same(&self.to_send(held.status.clone()), &self.in_api().status)
    }

    /// True if the pod is to be deleted from the API now.
    fn may_delete(&self) -> bool {
        let pod = self.in_api();
        let removed = self.mirror().is_some_and(|mirror| mirror.removed);
        let deleting = pod.meta.is_deleting() || self.pod.meta.is_deleting() || removed;
        let ended = pod.is_terminal() || removed;
        self.held.as_ref().is_some_and(|held| held.finished) && deleting && ended && !self.missing
    }

    /// The status as it is sent: a terminal phase is kept back while containers may run (`mergePodStatus`).
    pub fn to_send(&self, mut status: PodStatus) -> PodStatus {
        let api = &self.in_api().status;
        let terminal = |phase| matches!(phase, PodPhase::Succeeded | PodPhase::Failed);
        let ends = terminal(status.phase) && !terminal(api.phase);
        let running = self.could_have_running_containers();
        if !ends || running {
            // Why the kubelet ends a pod is said only together with the terminal phase.
            status.conditions.retain(|condition| condition.kind != PodConditionType::DisruptionTarget);
        }
        if ends && running {
            status.phase = api.phase;
            status.why = api.why.clone();
        }
        status
    }

    /// Begins to write the status: the real one reads the pod first. False if there is nothing to write.
    pub fn begin_write(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) -> bool {
        let known = self.api_uid().is_some() && !self.missing;
        let Some(held) = self.held.as_mut().filter(|_| known) else { return false };
        held.dirty = false;
        shared.writing = Some((self.number, held.status.clone()));
        ctx.set_cause(held.cause);
        ctx.set_timer(ctx.now() + shared.settings.timings.status_read, Timer::StatusRead.token());
        true
    }

    /// The pod has been read: writes the status if it differs, else goes on to what comes after. False if nothing was sent.
    pub fn write(&mut self, status: PodStatus, shared: &mut Shared, ctx: &mut dyn NodeContext) -> bool {
        let status = self.to_send(status);
        if same(&status, &self.in_api().status) {
            return self.delete(shared, ctx);
        }
        let Some(uid) = self.api_uid() else { return false };
        let patch = TypedPatch::PodStatus { uid, status };
        let operation = Operation::Patch {
            key: self.key(),
            patch: Patch::Typed(Box::new(patch)),
            part: Part::Status,
            dry_run: false,
        };
        shared.request(Purpose::PodStatus(self.number), operation, ctx);
        true
    }

    /// Deletes the pod from the API if it may go. False if nothing was sent.
    fn delete(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) -> bool {
        if !self.may_delete() {
            self.settle();
            return false;
        }
        let options = DeleteOptions { grace_seconds: Some(0), uid: self.api_uid(), ..DeleteOptions::default() };
        shared.request(Purpose::DeletePod(self.number), Operation::Delete { key: self.key(), options }, ctx);
        true
    }

    /// A status write was answered. False if nothing more was sent.
    pub fn written(&mut self, result: Result<Answer, Failure>, shared: &mut Shared, ctx: &mut dyn NodeContext) -> bool {
        match result {
            Ok(Answer::Object(object)) => {
                let pod = Pod::of(&object).filter(|pod| Some(pod.meta.uid) == self.api_uid());
                if let Some(pod) = pod
                    && pod.meta.revision() > self.in_api().meta.revision()
                {
                    self.written = Some(pod.clone());
                }
                self.delete(shared, ctx)
            }
            Ok(_) => self.delete(shared, ctx),
            Err(failure) => {
                self.write_failed(&failure, shared, ctx);
                false
            }
        }
    }

    /// A status write or a deletion failed. A pod that is not there needs neither.
    pub fn write_failed(&mut self, failure: &Failure, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        if failure.reason() == Some(Reason::NotFound) {
            self.missing = true;
            return;
        }
        if let Some(held) = &mut self.held {
            held.dirty = true;
        }
        shared.recheck(self.number, ctx);
    }

    /// Lets go of a status that the API has.
    fn settle(&mut self) {
        let settled = self
            .held
            .as_ref()
            .is_some_and(|held| !held.dirty && !held.finished && same(&held.status, &self.in_api().status));
        if settled {
            self.held = None;
        }
    }
}

/// True if both statuses say the same in all that the kubelet writes.
pub fn same(left: &PodStatus, right: &PodStatus) -> bool {
    left.phase == right.phase
        && left.observed_generation == right.observed_generation
        && left.why == right.why
        && left.host_ip == right.host_ip
        && left.pod_ip == right.pod_ip
        && left.start_time == right.start_time
        && left.containers == right.containers
        && left.init_containers == right.init_containers
        && KUBELET_CONDITIONS.iter().all(|kind| left.condition(kind) == right.condition(kind))
        && same_resize(left, right)
        && left
            .condition(&PodConditionType::DisruptionTarget)
            .is_none_or(|said| right.condition(&PodConditionType::DisruptionTarget).is_some_and(|known| known == said))
}

/// The conditions that the kubelet writes, in its order.
pub const KUBELET_CONDITIONS: [PodConditionType; 6] = [
    PodConditionType::PodReadyToStartContainers,
    PodConditionType::Initialized,
    PodConditionType::Ready,
    PodConditionType::ContainersReady,
    PodConditionType::PodScheduled,
    reset::RESTARTING,
];

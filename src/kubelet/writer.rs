//! Gets statuses into the API: one pod after the other, each a GET and a PATCH, and the DELETE that ends a pod.
//!
//! Follows the status manager. Its one loop writes in rounds (`syncBatch`): a round takes up all statuses that are new, as they are
//! when it begins, and writes one after the other; what changes meanwhile is for the next one. The GET is not sent: its time
//! is spent and its token taken, and what it would show comes with the PATCH's own checks. What failed is tried again in the next
//! round, at the latest after the next recheck, every 10 s.

use crate::api::object::Resource;
use crate::api::pod::{Pod, PodConditionType, PodPhase, PodStatus};
use crate::apiserver::protocol::{Answer, DeleteOptions, Operation, Part, Patch, TypedPatch};
use crate::apiserver::status::Reason;
use crate::client::delivery::Failure;
use crate::engine::process::Cause;
use crate::engine::time::SimDuration;
use crate::runtime::interface::PodNumber;

use super::agent::{Kubelet, NodeContext};
use super::reset;
use super::resize::same_resize;
use super::shared::{Purpose, Shared};
use super::tokens::Timer;
use super::worker::{Held, Worker};

/// A status as a round of writes has taken it up.
#[derive(Debug)]
pub struct Writing {
    pod: PodNumber,
    status: PodStatus,
    /// The pod has ended for good and may be deleted from the API.
    finished: bool,
    cause: Cause,
}

impl Kubelet {
    /// Begins a round if one is wanted and none is under way.
    pub(super) fn begin_round(&mut self, ctx: &mut dyn NodeContext) {
        let shared = &mut self.shared;
        if shared.writing.is_some() {
            return;
        }
        if shared.round.is_empty() && std::mem::take(&mut shared.round_wanted) {
            shared.joining = std::mem::take(&mut shared.to_write);
        }
        for number in std::mem::take(&mut shared.joining) {
            let taken = self.workers.get_mut(&number).and_then(|worker| worker.take_up());
            shared.round.extend(taken);
        }
        self.next_write(ctx);
    }

    /// Goes on with the next status of the round. Its pod is read first: that takes a token and its time.
    fn next_write(&mut self, ctx: &mut dyn NodeContext) {
        self.shared.writing = self.shared.round.pop_front();
        let Some(writing) = &self.shared.writing else { return };
        let reads = self.shared.settings.timings.status_read;
        ctx.set_cause(writing.cause);
        let sent = if reads == SimDuration::ZERO { ctx.now() } else { self.shared.take_token(ctx.now()) };
        ctx.set_timer(sent + reads, Timer::StatusRead.token());
    }

    /// The pod whose status is to be written has been read.
    pub(super) fn write_status(&mut self, ctx: &mut dyn NodeContext) {
        let Some(writing) = &mut self.shared.writing else { return };
        let (number, status) = (writing.pod, std::mem::take(&mut writing.status));
        let worker = self.workers.get_mut(&number);
        if !worker.is_some_and(|worker| worker.write(status, &mut self.shared, ctx)) {
            self.next_write(ctx);
        }
    }

    /// A status write was answered.
    pub(super) fn status_written(
        &mut self,
        number: PodNumber,
        result: Result<Answer, Failure>,
        ctx: &mut dyn NodeContext,
    ) {
        let worker = self.workers.get_mut(&number);
        if !worker.is_some_and(|worker| worker.written(result, &mut self.shared, ctx)) {
            self.next_write(ctx);
        }
    }

    /// The deletion of a pod was answered.
    pub(super) fn pod_deleted(
        &mut self,
        number: PodNumber,
        result: Result<Answer, Failure>,
        ctx: &mut dyn NodeContext,
    ) {
        if let (Some(worker), Err(failure)) = (self.workers.get_mut(&number), result) {
            worker.write_failed(&failure, &mut self.shared, ctx);
        }
        self.next_write(ctx);
    }
}

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
        let finished =
            finished || self.settled.take().is_some() || self.held.as_ref().is_some_and(|held| held.finished);
        self.held = Some(Box::new(Held { status, dirty: true, finished, cause: ctx.cause() }));
        self.enqueue_write(shared);
    }

    /// Keeps a status for an API that does not know the pod yet.
    pub fn hold_back(&mut self, status: PodStatus, ctx: &mut dyn NodeContext) {
        self.settled = None;
        self.held = Some(Box::new(Held { status, dirty: true, finished: false, cause: ctx.cause() }));
    }

    /// Lets the pod's status be written in the next round, which begins as soon as none is under way: now, if none is.
    pub fn enqueue_write(&mut self, shared: &mut Shared) {
        if shared.writing.is_none() && shared.round.is_empty() {
            shared.joining = std::mem::take(&mut shared.to_write);
            shared.joining.retain(|number| *number != self.number);
            shared.round.extend(self.take_up());
        } else {
            self.leave_for_next_round(shared);
            shared.round_wanted = true;
        }
    }

    /// Lets the pod's status be written in the next round, whenever that begins.
    fn leave_for_next_round(&mut self, shared: &mut Shared) {
        if !shared.to_write.contains(&self.number) {
            shared.to_write.push_back(self.number);
        }
    }

    /// True if something remains to be done about the pod in the API.
    pub fn must_write(&self) -> bool {
        if self.missing {
            return false;
        }
        let Some(held) = &self.held else { return self.may_delete(self.settled.is_some()) };
        held.dirty || self.may_delete(held.finished) || !same(&self.to_send(held.status.clone()), &self.in_api().status)
    }

    /// True if the pod is to be deleted from the API now; `finished` says that it has ended for good.
    fn may_delete(&self, finished: bool) -> bool {
        let pod = self.in_api();
        let removed = self.mirror().is_some_and(|mirror| mirror.removed);
        let deleting = pod.meta.is_deleting() || self.pod.meta.is_deleting() || removed;
        let ended = pod.is_terminal() || removed;
        finished && deleting && ended && !self.missing
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

    /// What a round of writes takes up of the pod; none if there is nothing to write.
    fn take_up(&mut self) -> Option<Box<Writing>> {
        if self.missing || self.api_uid().is_none() {
            return None;
        }
        let pod = self.number;
        if let Some(held) = &mut self.held {
            held.dirty = false;
            let (status, finished, cause) = (held.status.clone(), held.finished, held.cause);
            return Some(Box::new(Writing { pod, status, finished, cause }));
        }
        let cause = self.settled?;
        Some(Box::new(Writing { pod, status: self.in_api().status.clone(), finished: true, cause }))
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
        if !self.may_delete(shared.writing.as_ref().is_some_and(|writing| writing.finished)) {
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
        self.hold_again();
        if let Some(held) = &mut self.held {
            held.dirty = true;
        }
        self.leave_for_next_round(shared);
        shared.recheck(self.number, ctx);
    }

    /// Lets go of a status that the API has; that the pod has ended for good is not forgotten.
    fn settle(&mut self) {
        let known = &self.in_api().status;
        let Some(held) = self.held.as_ref().filter(|held| !held.dirty && same(&held.status, known)) else { return };
        self.settled = held.finished.then_some(held.cause);
        self.held = None;
    }

    /// Holds the last status of a pod that has ended for good again: the API will not have it any more, or may not.
    pub fn hold_again(&mut self) {
        if let Some(cause) = self.settled.take() {
            self.held =
                Some(Box::new(Held { status: self.in_api().status.clone(), dirty: false, finished: true, cause }));
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

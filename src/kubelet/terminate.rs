//! One pass over a pod that must end, and what follows: containers stopped, volumes gone, deleted from the API.
//!
//! Follows the kubelet's `SyncTerminatingPod` and `SyncTerminatedPod`.

use crate::engine::time::SimDuration;
use crate::runtime::interface::{Action, SandboxId};

use super::agent::NodeContext;
use super::shared::Shared;
use super::tokens::Timer;
use super::worker::{Job, Stage, Worker};

/// How often the kubelet looks whether the volumes of a pod are gone (volumemanager, `podAttachAndMountRetryInterval`).
const UNMOUNT_POLL: SimDuration = SimDuration::from_millis(300);

impl Worker {
    /// Says in the API that the pod is about to end, and begins to stop its containers.
    pub fn terminate(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        if shared.settings.profile.deletion_write || self.eviction().is_some() {
            let status = self.make_status(shared, false, ctx.now());
            let status = self.with_eviction(status, shared, ctx.now());
            self.set_status(status, shared, ctx);
        }
        self.follow_probes(shared, ctx);
        let grace = self.effective_grace();
        match self.kill_pod(Some(grace), shared, ctx) {
            Some(killing) => self.job = Job::Stopping(Box::new(killing)),
            None => self.all_stopped(shared, ctx),
        }
    }

    /// The grace of the pod's end in seconds: the shorter one of what the API and the kubelet itself ask for, else the pod's own;
    /// never less than one (pod_workers.go, `calculateEffectiveGracePeriod`).
    fn effective_grace(&self) -> i64 {
        let deletion = self.pod.meta.deletion.as_deref().and_then(|deletion| deletion.grace_seconds);
        let own = self.eviction().and_then(|eviction| eviction.grace);
        let asked = deletion.into_iter().chain(own).min();
        asked.unwrap_or(self.pod.spec.grace_seconds).max(1)
    }

    /// Everything has stopped: says how it ended. What is seen now is read from the runtime, not from the last relist.
    pub fn all_stopped(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        self.drop_probes(ctx);
        self.look(shared);
        shared.no_relist(self.number, ctx);
        if self.could_have_running_containers() {
            shared.give_room_back(self);
        }
        self.stage = Stage::Terminated;
        self.stopped = ctx.now();
        let status = self.make_status(shared, true, ctx.now());
        self.set_status(status, shared, ctx);
        self.wants_sync = true;
        self.end_pass(shared, ctx);
    }

    /// Waits until the volumes are gone.
    pub fn clean_up(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        let status = self.make_status(shared, true, ctx.now());
        self.set_status(status, shared, ctx);
        let gone = self.stopped + shared.settings.timings.unmount;
        self.job = Job::Unmounting;
        if gone <= ctx.now() {
            self.finish(shared, ctx);
            return;
        }
        let at = gone.next_tick(ctx.now(), UNMOUNT_POLL);
        ctx.set_timer(at, Timer::Job(self.number).token());
    }

    /// Nothing of the pod is left on the node: it may be deleted from the API.
    pub fn finish(&mut self, shared: &mut Shared, ctx: &mut dyn NodeContext) {
        self.job = Job::Idle;
        self.forget_volumes(ctx);
        self.forget_claims(ctx);
        self.stage = Stage::Finished;
        self.wants_sync = false;
        shared.sync_at(self, None, ctx);
        if let Some(sandbox) = self.sandbox {
            // The kubelet's garbage collection removes them within a minute; nothing depends on when.
            for attempt in 0..=sandbox.id.attempt {
                ctx.act(Action::RemoveSandbox { sandbox: SandboxId { pod: self.number, attempt } });
            }
        }
        let mut status = self.status().clone();
        self.terminate_status(&mut status);
        if !self.gone {
            self.hold(status, true, shared, ctx);
        }
    }
}

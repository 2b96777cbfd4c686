//! Graceful shutdown: when the machine is to be switched off, the kubelet holds that up until its pods have ended.
//!
//! Follows the node shutdown manager (`processShutdownEvent`, `killPods`): the node says that it is not ready, new pods are
//! rejected, and pods end in groups by priority, each group in its share of the grace, the critical ones last. Without a
//! `shutdownGracePeriod` nothing is held up.

use std::collections::VecDeque;

use crate::api::event::EventType;
use crate::api::name::Name;
use crate::engine::process::TimerId;
use crate::engine::time::SimDuration;
use crate::runtime::interface::PodNumber;

use super::admission::Rejection;
use super::agent::{Kubelet, NodeContext};
use super::eviction::Eviction;
use super::tokens::Timer;
use super::worker::Stage;

/// From this priority on a pod is critical (scheduling, `SystemCriticalPriority`).
const CRITICAL: i32 = 2_000_000_000;
/// What is said of pods that end so.
const MESSAGE: Name = Name::of("Pod was terminated in response to imminent node shutdown.");

/// How long a shutdown is held up (`shutdownGracePeriod`, `shutdownGracePeriodCriticalPods`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ShutdownGrace {
    /// Altogether; zero for not at all.
    pub total: SimDuration,
    /// Of that, for critical pods.
    pub critical: SimDuration,
}

impl ShutdownGrace {
    /// True if nothing is held up (`migrateConfig`).
    pub fn is_off(&self) -> bool {
        self.total == SimDuration::ZERO || self.critical > self.total
    }
}

/// A shutdown under way.
#[derive(Debug)]
pub struct Shutdown {
    /// Groups whose turn is still to come: their grace in seconds and their pods.
    groups: VecDeque<(u64, Vec<PodNumber>)>,
    /// The pods that are waited for.
    waiting: Vec<PodNumber>,
    timer: Option<TimerId>,
    done: bool,
}

impl Kubelet {
    /// The machine is about to be switched off.
    pub(super) fn shut_down(&mut self, ctx: &mut dyn NodeContext) {
        let grace = self.shared.settings.configuration.shutdown;
        if self.shutdown.is_some() {
            return;
        }
        if grace.is_off() {
            return ctx.power_off();
        }
        let message = "Shutdown manager detected shutdown event".to_owned();
        self.shared.record_node(EventType::Normal, "Shutdown", message);
        self.node.shut_down(&mut self.shared, ctx);
        let active = || self.workers.values().filter(|worker| worker.could_have_running_containers());
        let of = |critical: bool| active().filter(move |worker| (worker.pod.spec.priority >= CRITICAL) == critical);
        let numbers = |critical: bool| of(critical).map(|worker| worker.number).collect::<Vec<_>>();
        let groups = [
            (grace.total.saturating_sub(grace.critical).as_secs(), numbers(false)),
            (grace.critical.as_secs(), numbers(true)),
        ];
        self.shutdown = Some(Shutdown { groups: groups.into(), waiting: Vec::new(), timer: None, done: false });
        self.next_group(ctx);
    }

    /// Ends the pods of the next group; lets the machine be switched off after the last one.
    fn next_group(&mut self, ctx: &mut dyn NodeContext) {
        loop {
            let Some(shutdown) = self.shutdown.as_mut().filter(|shutdown| !shutdown.done) else { return };
            if let Some(timer) = shutdown.timer.take() {
                ctx.cancel_timer(timer);
            }
            let Some((seconds, pods)) = shutdown.groups.pop_front() else {
                shutdown.done = true;
                return ctx.power_off();
            };
            if pods.is_empty() {
                continue;
            }
            shutdown.waiting.clone_from(&pods);
            shutdown.timer =
                Some(ctx.set_timer(ctx.now() + SimDuration::from_secs(1) * seconds, Timer::Shutdown.token()));
            for number in pods {
                self.with(number, ctx, |worker, shared, ctx| {
                    let grace = worker.pod.spec.grace_seconds.min(i64::try_from(seconds).unwrap_or(i64::MAX));
                    let (reason, condition) = (Name::of("Terminated"), Some(MESSAGE));
                    worker.end_because(
                        Eviction { reason, message: MESSAGE, condition, grace: Some(grace) },
                        shared,
                        ctx,
                    );
                });
            }
            return;
        }
    }

    /// The time of a group is over.
    pub(super) fn group_is_over(&mut self, ctx: &mut dyn NodeContext) {
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.timer = None;
        }
        self.next_group(ctx);
    }

    /// Something has happened: if it was the end of the last pod of a group, the next one's turn has come.
    pub(super) fn follow_shutdown(&mut self, ctx: &mut dyn NodeContext) {
        let Some(shutdown) = self.shutdown.as_ref().filter(|shutdown| !shutdown.done) else { return };
        let ended = |number: &PodNumber| self.workers.get(number).is_none_or(|worker| worker.stage == Stage::Finished);
        if shutdown.waiting.iter().all(ended) {
            self.next_group(ctx);
        }
    }

    /// Why no pod is taken while the machine is about to be switched off.
    pub(super) fn shutdown_rejection(&self) -> Option<Rejection> {
        self.shutdown.as_ref().map(|_| Rejection {
            reason: Name::of("NodeShutdown"),
            message: "Pod was rejected as the node is shutting down.".to_owned(),
        })
    }
}

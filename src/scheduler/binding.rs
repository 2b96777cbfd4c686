//! What becomes of a decision: the pod is assumed to be on its node and bound, while the next pod is scheduled
//! (kube-scheduler, `assumeAndReserve`, `bindingCycle`).

use std::collections::VecDeque;
use std::rc::Rc;

use super::diagnosis::{Diagnosis, Verdict};
use super::event::ClusterEvent;
use super::framework::{Permit, Placement, PluginSet, Point, Progress, Status};
use super::preemption::executor::status_patch;
use super::queue::{Judges, Queued};
use super::{PERMIT, Scheduler, Ticket};
use crate::api::meta::Uid;
use crate::api::name::Name;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::apiserver::protocol::{ApiMessage, Operation};
use crate::client::delivery::{Caller, Failure};
use crate::engine::process::{Context, TimerId};
use crate::engine::time::{SimDuration, SimTime};

/// A pod that is assumed to be on a node and not yet bound.
pub(super) struct Binding {
    queued: Box<Queued>,
    placement: Placement,
    stage: Stage,
}

/// How far a binding has come.
enum Stage {
    /// Waits for a permit of some plugin, until a timer. The first plugin and its time are told if nobody gives it.
    Waiting { plugin: usize, time: SimDuration, timer: TimerId },
    /// Writes what PreBind asked for; `plugin` asked for the one under way, the rest waits.
    PreBind { plugin: usize, rest: VecDeque<(usize, Operation)> },
    /// Waits for what `plugin` wrote to have its effect, since a time, until a timer.
    Settling { plugin: usize, since: SimTime, rest: VecDeque<(usize, Operation)> },
    /// Writes the binding, as a plugin asked for.
    Bind { plugin: usize },
}

impl Scheduler {
    /// Assumes that a pod is on its node, and begins to bind it.
    pub(super) fn assume_and_bind(&mut self, queued: Box<Queued>, node: Name, ctx: &mut dyn Context<ApiMessage>) {
        let pod = queued.pod.clone();
        if !self.cluster.assume(&pod, &node) {
            let (uid, meta) = (pod.meta.uid, &pod.meta);
            let place = format!("pod {uid}({}/{})", meta.namespace, meta.name);
            return self.failed(queued, format!("{place} is in the cache, so can't be assumed"), ctx);
        }
        self.cluster.withdraw(pod.meta.uid);
        let placement = Placement { pod, node };
        if let Some((plugin, status)) = self.reserve(queued.profile, &placement) {
            self.unreserve(queued.profile, &placement);
            return self.turned_down(queued, plugin, "Reserve", status, ctx);
        }
        self.ask_for_permit(queued, placement, ctx);
    }

    fn reserve(&mut self, profile: usize, placement: &Placement) -> Option<(usize, Status)> {
        let Scheduler { profiles, cluster, .. } = self;
        let asked = profiles.at(profile).at(Point::Reserve);
        let asked = asked.map(|(place, plugin, _)| (place, plugin.reserve(placement, cluster)));
        asked.into_iter().find(|(_, status)| !status.is_success())
    }

    /// Takes back what was reserved, last plugin first, and forgets that the pod is on the node.
    fn unreserve(&mut self, profile: usize, placement: &Placement) {
        let Scheduler { profiles, cluster, .. } = self;
        let plugins: Vec<_> = profiles.at(profile).at(Point::Reserve).map(|(_, plugin, _)| plugin).collect();
        plugins.into_iter().rev().for_each(|plugin| plugin.unreserve(placement, cluster));
        cluster.forget(placement.pod.meta.uid);
    }

    fn ask_for_permit(&mut self, queued: Box<Queued>, placement: Placement, ctx: &mut dyn Context<ApiMessage>) {
        let mut wait: Option<(usize, SimDuration)> = None;
        let mut no = None;
        for (place, plugin, _) in self.profiles.at(queued.profile).at(Point::Permit) {
            match plugin.permit(&placement) {
                Permit::Allow => {}
                Permit::Wait(time) if wait.is_some_and(|(_, shortest)| shortest <= time) => {}
                Permit::Wait(time) => wait = Some((place, time)),
                Permit::Reject(status) => {
                    no = Some((place, status));
                    break;
                }
            }
        }
        if let Some((plugin, status)) = no {
            self.unreserve(queued.profile, &placement);
            return self.turned_down(queued, plugin, "Permit", status, ctx);
        }
        self.next_binding += 1;
        let number = self.next_binding;
        match wait {
            Some((plugin, time)) => {
                self.announce(&placement, ctx);
                let timer = ctx.set_timer(ctx.now() + time, PERMIT + number);
                let stage = Stage::Waiting { plugin, time, timer };
                self.bindings.insert(number, Binding { queued, placement, stage });
            }
            None => self.pre_bind(number, queued, placement, false, ctx),
        }
    }

    /// Gives a pod the permit that it waits for; false if it waits for none.
    pub fn allow_waiting(&mut self, pod: Uid, ctx: &mut dyn Context<ApiMessage>) -> bool {
        let waits =
            |binding: &Binding| matches!(binding.stage, Stage::Waiting { .. }) && binding.placement.pod.meta.uid == pod;
        let Some(number) = self.bindings.iter().find(|(_, binding)| waits(binding)).map(|(number, _)| *number) else {
            return false;
        };
        if let Some(Binding { queued, placement, stage: Stage::Waiting { timer, .. } }) = self.bindings.remove(&number)
        {
            ctx.cancel_timer(timer);
            self.pre_bind(number, queued, placement, true, ctx);
        }
        true
    }

    /// A timer of a binding has run down.
    pub(super) fn binding_timer(&mut self, number: u64, ctx: &mut dyn Context<ApiMessage>) {
        match self.bindings.remove(&number) {
            Some(Binding { queued, placement, stage: Stage::Settling { plugin, since, rest } }) => {
                self.see_progress(number, queued, placement, (plugin, since, rest), ctx);
            }
            Some(binding) => {
                self.bindings.insert(number, binding);
                self.permit_times_out(number, ctx);
            }
            None => {}
        }
    }

    fn permit_times_out(&mut self, number: u64, ctx: &mut dyn Context<ApiMessage>) {
        let Some(Binding { queued, placement, stage: Stage::Waiting { plugin, time, .. } }) =
            self.bindings.remove(&number)
        else {
            return;
        };
        let name = self.profiles.at(queued.profile).plugin(plugin).name();
        let text = format!("rejected due to timeout after waiting {}s at plugin {name}", time.as_secs());
        self.unreserve(queued.profile, &placement);
        let uid = placement.pod.meta.uid;
        self.turned_down(queued, plugin, "Permit", Status::unschedulable(text), ctx);
        // Its room is free for others; it is not what the pod itself waited for.
        self.room_is_free(&placement, Some(uid), ctx);
    }

    /// Lets others know where a pod goes whose binding takes time (kube-scheduler, `NominatedNodeNameForExpectation`).
    fn announce(&mut self, placement: &Placement, ctx: &mut dyn Context<ApiMessage>) {
        let Placement { pod, node } = placement;
        if pod.status.nominated_node.as_deref() != Some(node) {
            let operation = status_patch(pod, Vec::new(), Some(node.clone()));
            self.client.request(self.clientset, Caller::Process(Ticket::Condition), operation, ctx);
        }
    }

    /// A pod that waits for a permit is being deleted.
    pub(super) fn waiting_pod_deleted(&mut self, pod: Uid, ctx: &mut dyn Context<ApiMessage>) {
        let Some(number) = self.binding_of(pod) else { return };
        match self.bindings.remove(&number) {
            Some(Binding { queued, placement, stage: Stage::Waiting { plugin, timer, .. } }) => {
                ctx.cancel_timer(timer);
                self.unreserve(queued.profile, &placement);
                self.turned_down(queued, plugin, "Permit", Status::unschedulable(Name::of("removed")), ctx);
                self.room_is_free(&placement, Some(pod), ctx);
            }
            Some(binding) => {
                self.bindings.insert(number, binding);
            }
            None => {}
        }
    }

    /// Gives up the binding of a pod for which a more important one needs the room, if it is not being written already; the
    /// pod is tried again. False if there is no such binding.
    pub(super) fn take_back_binding(&mut self, pod: Uid, ctx: &mut dyn Context<ApiMessage>) -> bool {
        let Some(number) = self.binding_of(pod) else { return false };
        let Some(Binding { queued, placement, stage }) = self.bindings.remove(&number) else { return false };
        let text = match stage {
            Stage::Waiting { timer, .. } => {
                ctx.cancel_timer(timer);
                "waiting on permit for pod: preempted".to_owned()
            }
            Stage::PreBind { plugin, .. } => {
                let name = self.profiles.at(queued.profile).plugin(plugin).name();
                format!("running PreBind plugin \"{name}\": context canceled")
            }
            Stage::Settling { plugin, .. } => {
                let name = self.profiles.at(queued.profile).plugin(plugin).name();
                format!("running PreBind plugin \"{name}\": binding volumes: context canceled")
            }
            stage @ Stage::Bind { .. } => {
                self.bindings.insert(number, Binding { queued, placement, stage });
                return false;
            }
        };
        self.unreserve(queued.profile, &placement);
        self.room_is_free(&placement, None, ctx);
        self.failed(queued, text, ctx);
        true
    }

    fn binding_of(&self, pod: Uid) -> Option<u64> {
        let mut bindings = self.bindings.iter();
        bindings.find(|(_, binding)| binding.placement.pod.meta.uid == pod).map(|(number, _)| *number)
    }

    /// From here on a failure is an error and no rejection, so nothing needs to be kept for the pod any more.
    fn pre_bind(
        &mut self,
        number: u64,
        queued: Box<Queued>,
        placement: Placement,
        was_announced: bool,
        ctx: &mut dyn Context<ApiMessage>,
    ) {
        self.queue.done(queued.pod.meta.uid);
        let profile = self.profiles.at(queued.profile);
        let mut rest: VecDeque<(usize, Operation)> = VecDeque::new();
        for (place, plugin, _) in profile.at(Point::PreBind) {
            rest.extend(plugin.pre_bind(&placement, &self.cluster).into_iter().map(|operation| (place, operation)));
        }
        if !rest.is_empty() && !was_announced {
            self.announce(&placement, ctx);
        }
        self.go_on(number, queued, placement, rest, ctx);
    }

    fn go_on(
        &mut self,
        number: u64,
        queued: Box<Queued>,
        placement: Placement,
        mut rest: VecDeque<(usize, Operation)>,
        ctx: &mut dyn Context<ApiMessage>,
    ) {
        let profile = self.profiles.at(queued.profile);
        let bind = || profile.at(Point::Bind).find_map(|(place, plugin, _)| Some((place, plugin.bind(&placement)?)));
        let (operation, stage) = match rest.pop_front() {
            Some((plugin, operation)) => (operation, Stage::PreBind { plugin, rest }),
            None => match bind() {
                Some((plugin, operation)) => (operation, Stage::Bind { plugin }),
                None => {
                    self.unreserve(queued.profile, &placement);
                    return self.failed(queued, "no plugin binds the pod".to_owned(), ctx);
                }
            },
        };
        let caller = Caller::Process(Ticket::Bind(number));
        self.client.request(self.clientset, caller, operation, ctx);
        self.bindings.insert(number, Binding { queued, placement, stage });
    }

    /// Goes on once a plugin that has nothing more to write sees what it wrote done.
    fn see_progress(
        &mut self,
        number: u64,
        queued: Box<Queued>,
        placement: Placement,
        (plugin, since, rest): (usize, SimTime, VecDeque<(usize, Operation)>),
        ctx: &mut dyn Context<ApiMessage>,
    ) {
        let waited = ctx.now().since(since);
        match self.profiles.at(queued.profile).plugin(plugin).pre_bind_progress(&placement, &self.cluster, waited) {
            Progress::Done => self.go_on(number, queued, placement, rest, ctx),
            Progress::Wait(time) => {
                ctx.set_timer(ctx.now() + time, PERMIT + number);
                let stage = Stage::Settling { plugin, since, rest };
                self.bindings.insert(number, Binding { queued, placement, stage });
            }
            Progress::Failed(status) => {
                self.binding_failed(queued, &placement, plugin, "PreBind", &status.message(), ctx);
            }
        }
    }

    /// Takes the answer to a request of a binding.
    pub(super) fn binding_answered(
        &mut self,
        number: u64,
        failure: Option<Failure>,
        ctx: &mut dyn Context<ApiMessage>,
    ) {
        let Some(Binding { queued, placement, stage }) = self.bindings.remove(&number) else { return };
        let here = ctx.cause();
        match (failure, stage) {
            (None, Stage::PreBind { plugin, rest }) => {
                ctx.set_cause(queued.cause);
                if rest.front().is_some_and(|(next, _)| *next == plugin) {
                    self.go_on(number, queued, placement, rest, ctx);
                } else {
                    self.see_progress(number, queued, placement, (plugin, ctx.now(), rest), ctx);
                }
            }
            (None, Stage::Bind { .. }) => {
                self.record_success(queued.profile, &placement, ctx);
                let Scheduler { profiles, cluster, .. } = self;
                let told = profiles.at(queued.profile).at(Point::PostBind);
                told.for_each(|(_, plugin, _)| plugin.post_bind(&placement, cluster));
            }
            (Some(failure), Stage::PreBind { plugin, .. }) => {
                self.binding_failed(queued, &placement, plugin, "PreBind", &failure.into_status().message, ctx);
            }
            (Some(failure), Stage::Bind { plugin }) => {
                self.binding_failed(queued, &placement, plugin, "Bind", &failure.into_status().message, ctx);
            }
            (_, stage @ (Stage::Waiting { .. } | Stage::Settling { .. })) => {
                self.bindings.insert(number, Binding { queued, placement, stage });
            }
        }
        ctx.set_cause(here);
    }

    fn binding_failed(
        &mut self,
        queued: Box<Queued>,
        placement: &Placement,
        plugin: usize,
        point: &str,
        why: &str,
        ctx: &mut dyn Context<ApiMessage>,
    ) {
        let name = self.profiles.at(queued.profile).plugin(plugin).name();
        let text = format!("running {point} plugin \"{name}\": {why}");
        self.unreserve(queued.profile, placement);
        self.room_is_free(placement, None, ctx);
        self.failed(queued, text, ctx);
    }

    /// Tells the waiting pods that a pod has left the node that it was assumed to be on.
    fn room_is_free(&mut self, placement: &Placement, except: Option<Uid>, ctx: &dyn Context<ApiMessage>) {
        let pod = Pod { node: Some(placement.node.clone()), ..Pod::clone(&placement.pod) };
        let pod = Object::Pod(Rc::new(pod));
        let others = |pod: &Pod| Some(pod.meta.uid) != except;
        let judges = Judges { profiles: &self.profiles, cluster: &self.cluster };
        self.queue.move_all(ClusterEvent::AssignedPodDelete, Some(&pod), None, &others, ctx.now(), judges);
    }

    /// A plugin said no to the chosen node, or failed.
    fn turned_down(
        &mut self,
        queued: Box<Queued>,
        plugin: usize,
        point: &str,
        status: Status,
        ctx: &mut dyn Context<ApiMessage>,
    ) {
        if !status.is_rejected() {
            let name = self.profiles.at(queued.profile).plugin(plugin).name();
            return self.failed(queued, format!("running {point} plugin \"{name}\": {}", status.message()), ctx);
        }
        let diagnosis = Diagnosis {
            node_count: 1,
            verdicts: vec![Verdict { plugin, status, nodes: 1 }],
            nominated_node: Some(Name::EMPTY),
            plugins: PluginSet::from_iter([plugin]),
            ..Diagnosis::default()
        };
        self.rejected(queued, &diagnosis, ctx);
    }
}

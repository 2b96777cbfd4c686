//! The life of a container: created, started, asked, stopped, killed.

use std::rc::Rc;

use crate::api::instance_id::InstanceId;
use crate::api::meta::Uid;
use crate::api::pod::Handler;
use crate::engine::random::Stream;
use crate::engine::time::SimDuration;

use super::super::instance::Question;
use super::super::interface::{
    ContainerConfig, ContainerId, Event, Exit, ExitReason, HookKind, Limits, PodNumber, Ticket,
};
use super::super::model::{HookModel, ImageModel};
use super::{Due, RuntimeContext, SimulatedRuntime, first_of};

impl SimulatedRuntime {
    /// Ends a running container now.
    pub(in crate::runtime) fn kill(&mut self, id: ContainerId, exit: Exit, ctx: &mut dyn RuntimeContext) {
        let Some(instance) = self.containers.get_mut(&id).filter(|instance| instance.is_running()) else { return };
        instance.exit = Some(exit);
        if let Some((_, token, timer)) = instance.due.take() {
            ctx.cancel_timer(timer);
            self.due.remove(&token);
        }
        ctx.emit(Event::Exited { container: id, exit });
    }

    /// Takes a container out of the records.
    pub(super) fn forget(&mut self, id: ContainerId) {
        self.containers.remove(&id);
        self.users.remove(&id);
    }

    /// The containers of a pod bear another load: what memory that costs may be more than they may use.
    pub(super) fn bear(&mut self, pod: Uid, thousandths: u64, ctx: &mut dyn RuntimeContext) {
        let newest = self.sandboxes.iter_mut().rfind(|(_, sandbox)| sandbox.pod.uid == pod);
        let Some((number, sandbox)) = newest.map(|(id, sandbox)| (id.pod, sandbox)) else { return };
        sandbox.load = thousandths;
        let mut changed = false;
        for id in self.ids_of(number) {
            let Some(end) = self.containers.get_mut(&id).and_then(|instance| instance.bear(thousandths, ctx.now()))
            else {
                continue;
            };
            changed = true;
            match end {
                Some(exit) => self.exit_later(id, exit, ctx),
                None => self.exit_never(id, ctx),
            }
        }
        if changed {
            ctx.emit(Event::UsageChanged);
            self.watch_memory(ctx);
        }
    }

    /// A container does not end by itself after all.
    pub(super) fn exit_never(&mut self, id: ContainerId, ctx: &mut dyn RuntimeContext) {
        let due = self.containers.get_mut(&id).and_then(|instance| instance.due.take());
        if let Some((_, token, timer)) = due {
            ctx.cancel_timer(timer);
            self.due.remove(&token);
        }
    }

    /// Lets a container have other limits; with less memory than it uses it is killed.
    pub(super) fn update_limits(&mut self, id: ContainerId, limits: Limits, ctx: &mut dyn RuntimeContext) {
        let now = ctx.now();
        let Some(instance) = self.containers.get_mut(&id) else { return };
        instance.limits = limits;
        let killed = instance.out_of_memory(now).filter(|_| instance.is_running());
        if let Some(exit) = killed.filter(|exit| instance.due.is_none_or(|(due, ..)| exit.at < due.at)) {
            self.exit_later(id, exit, ctx);
        }
    }

    /// What a container of an image does.
    pub(super) fn model_of(&self, container: ContainerId, config: &ContainerConfig) -> Rc<ImageModel> {
        let pod = self.pod_of(container.pod).map_or("", |pod| pod.name.as_str());
        self.models.of_container(&config.image, pod, &config.name).clone()
    }

    pub(super) fn create(
        &mut self,
        container: ContainerId,
        config: Box<ContainerConfig>,
        ctx: &mut dyn RuntimeContext,
    ) {
        let model = self.model_of(container, &config);
        if self.images.get(&config.image).is_none() {
            if !self.settings.all_images_present {
                let message = format!("failed to create container: image \"{}\": not found", config.image);
                ctx.emit(Event::CreateFailed { container, message });
                return;
            }
            self.images.add(&config.image, &self.models.of(&config.image).clone());
        }
        if !self.has_sandbox(container.pod) {
            let message = "failed to create container: failed to find sandbox: not found".to_owned();
            ctx.emit(Event::CreateFailed { container, message });
            return;
        }
        let takes = model.create.0.sample(&mut self.container_stream(container, "create"));
        self.later(takes, Due::Created(container, config), ctx);
    }

    pub(super) fn started(&mut self, id: ContainerId, ctx: &mut dyn RuntimeContext) {
        let mut stream = self.container_stream(id, "life");
        let now = ctx.now();
        let lost = (!self.has_sandbox(id.pod)).then(|| "failed to start container: sandbox is gone".to_owned());
        let load = self.load_of(id.pod);
        let Some(instance) = self.containers.get_mut(&id) else { return };
        if let Some(message) = lost.or_else(|| instance.model.start_error.clone()) {
            instance.exit = Some(Exit { code: 128, reason: ExitReason::StartError, at: now });
            ctx.emit(Event::StartFailed { container: id, at: now, message });
            return;
        }
        let exit = instance.start(id.attempt, &mut stream, now);
        // Whoever is started again before anybody has noticed bears what the one before bore.
        let exit = instance.bear(load, now).unwrap_or(exit);
        let uses_node = instance.model.uses_node();
        ctx.emit(Event::Started { container: id, at: now });
        if let Some(exit) = exit {
            self.exit_later(id, exit, ctx);
        }
        if uses_node {
            self.users.insert(id);
            ctx.emit(Event::UsageChanged);
            self.watch_memory(ctx);
        }
    }

    pub(super) fn stop(&mut self, id: ContainerId, grace: SimDuration, ctx: &mut dyn RuntimeContext) {
        let mut stream = self.container_stream(id, "stop");
        let now = ctx.now();
        let Some(instance) = self.containers.get(&id).filter(|instance| instance.is_running()) else {
            let known = self.containers.get(&id).and_then(|instance| instance.exit);
            let exit = known.unwrap_or(Exit { code: 255, reason: ExitReason::Unknown, at: now });
            ctx.emit(Event::Exited { container: id, exit });
            return;
        };
        let stopped = instance.stop(grace, &mut stream, now);
        let sooner = instance.due.is_none_or(|(exit, ..)| stopped.at < exit.at);
        if let Some(instance) = self.containers.get_mut(&id) {
            instance.settle();
        }
        if sooner {
            self.exit_later(id, stopped, ctx);
        }
    }

    /// Lets a container end at a time, instead of when it would have.
    pub(super) fn exit_later(&mut self, id: ContainerId, exit: Exit, ctx: &mut dyn RuntimeContext) {
        let (token, timer) = self.at(exit.at, Due::Exit(id), ctx);
        let Some(instance) = self.containers.get_mut(&id) else { return };
        if let Some((_, token, timer)) = instance.due.replace((exit, token, timer)) {
            ctx.cancel_timer(timer);
            self.due.remove(&token);
        }
    }

    pub(super) fn probe(
        &mut self,
        ticket: Ticket,
        id: ContainerId,
        question: &Question<'_>,
        ctx: &mut dyn RuntimeContext,
    ) {
        let number = match self.containers.get_mut(&id).filter(|instance| instance.is_running()) {
            Some(instance) => {
                instance.probes = instance.probes.wrapping_add(1);
                instance.probes
            }
            None => {
                let instance = self.pod_of(id.pod).map_or(InstanceId::None, |pod| InstanceId::Made {
                    pod: pod.uid,
                    index: id.index,
                    attempt: id.attempt,
                });
                let (takes, outcome) = question.unanswered(&instance);
                let same_until = ctx.now();
                self.later(takes, Due::Tell(Event::ProbeDone { ticket, outcome, same_until }), ctx);
                return;
            }
        };
        let mut stream = self.container_stream(id, &format!("probe {number}"));
        let Some(instance) = self.containers.get(&id) else { return };
        let (takes, outcome) = instance.probe(question, &mut stream, ctx.now());
        let same_until = instance.same_until(question, ctx.now());
        self.later(takes, Due::Tell(Event::ProbeDone { ticket, outcome, same_until }), ctx);
    }

    pub(super) fn run_hook(
        &mut self,
        ticket: Ticket,
        id: ContainerId,
        kind: HookKind,
        handler: &Handler,
        ctx: &mut dyn RuntimeContext,
    ) {
        let model = self.containers.get(&id).map(|instance| instance.model.clone());
        let ended = HookModel { error: Some("container not found".to_owned()), ..HookModel::default() };
        let hook = model.as_deref().map_or(&ended, |model| match kind {
            HookKind::PostStart => &model.post_start,
            HookKind::PreStop => &model.pre_stop,
        });
        let takes = match handler {
            Handler::Sleep { seconds } => SimDuration::from_secs(1) * u64::try_from(*seconds).unwrap_or(0),
            _ => hook.takes.0.sample(&mut self.container_stream(id, "hook")),
        };
        let outcome = hook.error.clone().map_or(Ok(()), Err);
        self.later(takes, Due::Tell(Event::HookDone { ticket, outcome }), ctx);
    }

    pub(super) fn ids_of(&self, pod: PodNumber) -> Vec<ContainerId> {
        self.containers.range(first_of(pod)..).map(|(id, _)| *id).take_while(|id| id.pod == pod).collect()
    }

    /// The stream of one instance of a container for a purpose: named by pod and place, so that it is the same on any node.
    pub(in crate::runtime) fn container_stream(&self, id: ContainerId, purpose: &str) -> Stream {
        let (namespace, name) = match self.pod_of(id.pod) {
            Some(pod) => (pod.namespace.as_str(), pod.name.as_str()),
            None => ("", self.settings.node.as_str()),
        };
        let (mut index, mut attempt) = (itoa::Buffer::new(), itoa::Buffer::new());
        let entity = [namespace, "/", name, "/", index.format(id.index)];
        self.settings.seed.stream_of(&entity, &[purpose, " ", attempt.format(id.attempt)])
    }
}

//! The simulated container runtime of one node: answers a kubelet's actions from models of the images.
//!
//! A running container costs no event until something is due for it. A crash of the machine ends all containers; the
//! image store and the records of what there was survive, as containerd's do on disk.
//!
//! - `containers`: the life of a container
//! - `sandboxes`: the pods that there are

mod containers;
mod sandboxes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use crate::api::meta::Uid;
use crate::api::name::Name;
use crate::engine::process::TimerId;
use crate::engine::random::Seed;
use crate::engine::time::{SimDuration, SimTime};

use super::addresses::Addresses;
use super::images::{ImageStore, pull_error};
use super::instance::{Instance, Question};
use super::interface::{
    Action, ContainerConfig, ContainerId, ContainerRecord, Event, Exit, ExitReason, ImageRecord, PodIdentity,
    PodNumber, SandboxId, SandboxRecord, State, Ticket,
};
use super::model::ImageModels;
use super::span::Spread;

/// What a simulated runtime may ask for while it handles an input.
pub trait RuntimeContext {
    /// The present virtual time.
    fn now(&self) -> SimTime;

    /// Asks for [`RuntimeInput::Timer`] at a time; not before now.
    fn set_timer(&mut self, at: SimTime, token: u64) -> TimerId;

    /// Takes a timer back.
    fn cancel_timer(&mut self, id: TimerId);

    /// Tells the node's kubelet; lost if none runs.
    fn emit(&mut self, event: Event);
}

/// What happens to a runtime.
#[derive(Debug)]
pub enum RuntimeInput {
    /// The kubelet asks for something.
    Act(Action),
    /// A timer fired.
    Timer {
        /// What the runtime wrote on it.
        token: u64,
    },
    /// The machine crashed and is up again: no container runs any more.
    MachineRestarted,
    /// An image is put into the store by other means than a pull (`ctr image import`).
    AddImage(Name),
    /// An image is taken out of the store.
    RemoveImage(Name),
    /// The load that a pod bears has changed.
    Load {
        /// The pod.
        pod: Uid,
        /// In thousandths of a unit.
        thousandths: u64,
    },
}

/// A node's runtime: what it is made of.
#[derive(Clone, Debug)]
pub struct RuntimeSettings {
    /// The run's seed.
    pub seed: Seed,
    /// The node's name; names the streams of pulls.
    pub node: Name,
    /// The node's address, that of pods on the node's own network.
    pub address: Option<IpAddr>,
    /// The range of pod addresses, such as `10.244.3.0/24`. Without one no sandbox can be made but on the node's network.
    pub pod_range: Option<Name>,
    /// The bandwidth at which images come, in bytes per second.
    pub bytes_per_second: u64,
    /// True if every image is there from the beginning.
    pub all_images_present: bool,
    /// The node's memory in bytes; when containers use more, the kernel kills some. Zero: it never does.
    pub memory: u64,
    /// How long a sandbox takes. Default: median 160 ms (containerd 1.7 with CNI bridge, 90 ms idle to 160 ms loaded).
    pub create_sandbox: Spread,
    /// How long taking a sandbox down takes. Default: median 60 ms (containerd 1.7, 27 to 107 ms).
    pub stop_sandbox: Spread,
    /// How long a listing of everything takes.
    pub list: Spread,
    /// True if only the first start of a container takes the time that its image's model says.
    pub restarts_at_once: bool,
}

impl RuntimeSettings {
    /// The defaults: an idle machine with 1 Gbit/s to the registry.
    pub fn new(seed: Seed, node: Name) -> Self {
        RuntimeSettings {
            seed,
            node,
            address: None,
            pod_range: None,
            bytes_per_second: 125_000_000,
            all_images_present: false,
            memory: 0,
            create_sandbox: Spread::log_normal_millis(160, 400),
            stop_sandbox: Spread::log_normal_millis(60, 200),
            list: Spread::millis(20),
            restarts_at_once: false,
        }
    }
}

/// The simulated runtime of one node.
#[derive(Debug)]
pub struct SimulatedRuntime {
    settings: Rc<RuntimeSettings>,
    models: Rc<ImageModels>,
    images: ImageStore,
    addresses: Option<Addresses>,
    sandboxes: BTreeMap<SandboxId, Sandbox>,
    containers: BTreeMap<ContainerId, Box<Instance>>,
    due: BTreeMap<u64, Due>,
    next_token: u64,
    next_pod: u32,
    image_timer: Option<TimerId>,
    /// Containers whose models say that they use something of the node.
    users: BTreeSet<ContainerId>,
    /// When the kernel has to kill for want of memory.
    memory_timer: Option<(u64, TimerId)>,
    failed_pulls: BTreeMap<Name, u32>,
    pulls: u64,
}

#[derive(Debug)]
struct Sandbox {
    pod: Rc<PodIdentity>,
    ready: bool,
    address: Option<IpAddr>,
    /// The load that the pod bears, in thousandths of a unit.
    load: u64,
}

/// What a timer stands for.
#[derive(Debug)]
enum Due {
    SandboxReady(SandboxId, bool),
    SandboxStopped(SandboxId),
    Created(ContainerId, Box<ContainerConfig>),
    Started(ContainerId),
    Exit(ContainerId),
    Tell(Event),
    Images,
    List,
    OutOfMemory,
}

impl SimulatedRuntime {
    /// The runtime of a fresh machine.
    pub fn new(settings: Rc<RuntimeSettings>, models: Rc<ImageModels>) -> Self {
        SimulatedRuntime {
            images: ImageStore::new(settings.bytes_per_second),
            addresses: settings.pod_range.as_deref().and_then(Addresses::of_range),
            settings,
            models,
            sandboxes: BTreeMap::new(),
            containers: BTreeMap::new(),
            due: BTreeMap::new(),
            next_token: 0,
            next_pod: 0,
            image_timer: None,
            users: BTreeSet::new(),
            memory_timer: None,
            failed_pulls: BTreeMap::new(),
            pulls: 0,
        }
    }

    /// Handles one input.
    pub fn handle(&mut self, input: RuntimeInput, ctx: &mut dyn RuntimeContext) {
        match input {
            RuntimeInput::Act(action) => self.act(action, ctx),
            RuntimeInput::Timer { token } => {
                if let Some(due) = self.due.remove(&token) {
                    self.fall_due(due, ctx);
                }
            }
            RuntimeInput::MachineRestarted => self.restart_machine(ctx),
            RuntimeInput::AddImage(name) => {
                let image = self.images.add(&name, &self.models.of(&name).clone());
                ctx.emit(Event::ImageAdded { image });
            }
            RuntimeInput::RemoveImage(name) => {
                if self.images.remove(&name) {
                    ctx.emit(Event::ImageRemoved { name });
                }
            }
            RuntimeInput::Load { pod, thousandths } => self.bear(pod, thousandths, ctx),
        }
    }

    /// How many sandboxes there are, up or down.
    pub fn sandboxes(&self) -> usize {
        self.sandboxes.len()
    }

    /// How many containers run.
    pub fn running(&self) -> usize {
        self.containers.values().filter(|instance| instance.is_running()).count()
    }

    /// Whether a container of a pod runs.
    pub fn runs(&self, pod: Uid) -> bool {
        let mut numbers = self.sandboxes.iter().filter(|(_, sandbox)| sandbox.pod.uid == pod).map(|(id, _)| id.pod);
        numbers.next_back().is_some_and(|number| {
            let instances = self.containers.range(first_of(number)..).take_while(|(id, _)| id.pod == number);
            instances.into_iter().any(|(_, instance)| instance.is_running())
        })
    }

    /// CPU in thousandths of a core and memory in bytes that a pod's containers use now.
    pub fn usage(&self, pod: PodNumber, now: SimTime) -> (u64, u64) {
        let instances = self.containers.range(first_of(pod)..).take_while(|(id, _)| id.pod == pod);
        let running =
            instances.filter_map(|(_, instance)| Some((instance, instance.started?))).filter(|(i, _)| i.exit.is_none());
        running.fold((0, 0), |(cpu, memory), (instance, _)| {
            (cpu.saturating_add(instance.milli_cpu(now)), memory.saturating_add(instance.memory(now)))
        })
    }

    /// A container.
    pub(super) fn instance(&self, id: ContainerId) -> Option<&Instance> {
        self.containers.get(&id).map(Box::as_ref)
    }

    /// Containers that use something of the node, by id.
    pub(super) fn users(&self) -> impl Iterator<Item = (ContainerId, &Instance)> {
        self.users.iter().filter_map(|id| Some((*id, self.containers.get(id)?.as_ref())))
    }

    /// The images in the store.
    pub(super) fn images(&self) -> Vec<&ImageRecord> {
        self.images.all().collect()
    }

    /// The node's memory; none if it is without limit.
    pub(super) fn memory_capacity(&self) -> Option<u64> {
        Some(self.settings.memory).filter(|memory| *memory > 0)
    }

    /// Lets the kernel run out of memory at a time.
    pub(super) fn memory_timer(&mut self, at: SimTime, ctx: &mut dyn RuntimeContext) {
        self.no_memory_timer(ctx);
        self.memory_timer = Some(self.at(at, Due::OutOfMemory, ctx));
    }

    /// The kernel does not run out of memory.
    pub(super) fn no_memory_timer(&mut self, ctx: &mut dyn RuntimeContext) {
        if let Some((token, timer)) = self.memory_timer.take() {
            ctx.cancel_timer(timer);
            self.due.remove(&token);
        }
    }

    fn act(&mut self, action: Action, ctx: &mut dyn RuntimeContext) {
        match action {
            Action::PullImage { ticket, image } => self.pull(ticket, image, ctx),
            Action::CreateSandbox { sandbox, pod, host_network } => {
                self.next_pod = self.next_pod.max(sandbox.pod.0.saturating_add(1));
                let mut stream = self.pod_stream(&pod, "sandbox", sandbox.attempt);
                let takes = self.settings.create_sandbox.0.sample(&mut stream);
                self.sandboxes.insert(sandbox, Sandbox { pod, ready: false, address: None, load: 0 });
                self.later(takes, Due::SandboxReady(sandbox, host_network), ctx);
            }
            Action::CreateContainer { container, config } => self.create(container, config, ctx),
            Action::StartContainer { container } => {
                let Some(instance) = self.containers.get(&container) else { return };
                let model = instance.model.clone();
                let takes = if self.settings.restarts_at_once && container.attempt > 0 {
                    SimDuration::ZERO
                } else {
                    model.start.0.sample(&mut self.container_stream(container, "start"))
                };
                self.later(takes, Due::Started(container), ctx);
            }
            Action::StopContainer { container, grace } => self.stop(container, grace, ctx),
            Action::RemoveContainer { container } => {
                if self.containers.get(&container).is_some_and(|instance| !instance.is_running()) {
                    self.forget(container);
                }
            }
            Action::StopSandbox { sandbox } => self.stop_sandbox(sandbox, ctx),
            Action::RemoveSandbox { sandbox } => {
                self.kill_all(sandbox.pod, ctx);
                let ids: Vec<ContainerId> = self.ids_of(sandbox.pod);
                ids.into_iter().for_each(|id| self.forget(id));
                self.disconnect(sandbox);
                self.sandboxes.remove(&sandbox);
            }
            Action::Probe { ticket, container, kind, handler, timeout } => {
                let address = self.address_of(container.pod);
                let question = Question { kind, handler: &handler, address, timeout };
                self.probe(ticket, container, &question, ctx);
            }
            Action::RunHook { ticket, container, kind, handler } => {
                self.run_hook(ticket, container, kind, &handler, ctx);
            }
            Action::ListState => {
                let mut stream = self.settings.seed.stream(&self.settings.node, "list state");
                let takes = self.settings.list.0.sample(&mut stream);
                // Whoever lists is a kubelet that has just begun: what the one before it waited for is of no use.
                self.images.abandon_pulls();
                self.later(takes, Due::List, ctx);
            }
            Action::RemoveImage { image } => {
                if self.images.remove(&image) {
                    ctx.emit(Event::ImageRemoved { name: image });
                }
            }
            Action::ReadUsage { volumes_at } => {
                ctx.emit(Event::Usage(Box::new(self.node_usage(ctx.now(), &volumes_at))));
            }
            Action::UpdateLimits { container, limits } => self.update_limits(container, limits, ctx),
        }
    }

    fn fall_due(&mut self, due: Due, ctx: &mut dyn RuntimeContext) {
        match due {
            Due::SandboxReady(sandbox, host_network) => self.sandbox_ready(sandbox, host_network, ctx),
            Due::SandboxStopped(sandbox) => {
                self.disconnect(sandbox);
                ctx.emit(Event::SandboxStopped { sandbox });
            }
            Due::Created(container, _) if !self.has_sandbox(container.pod) => {
                let message = "failed to create container: sandbox is gone".to_owned();
                ctx.emit(Event::CreateFailed { container, message });
            }
            Due::Created(container, config) => {
                let model = self.model_of(container, &config);
                self.containers.insert(container, Box::new(Instance::new(&config, &model)));
                ctx.emit(Event::Created { container });
            }
            Due::Started(container) => self.started(container, ctx),
            Due::Exit(container) => {
                let Some(instance) = self.containers.get_mut(&container) else { return };
                let Some((exit, ..)) = instance.due.take() else { return };
                instance.exit = Some(exit);
                ctx.emit(Event::Exited { container, exit });
                if self.users.contains(&container) {
                    self.watch_memory(ctx);
                }
            }
            Due::OutOfMemory => {
                self.memory_timer = None;
                self.out_of_memory(ctx);
            }
            Due::Tell(event) => ctx.emit(event),
            Due::Images => {
                self.image_timer = None;
                for (ticket, image) in self.images.finished(ctx.now()) {
                    ctx.emit(Event::Pulled { ticket, image });
                }
                self.await_images(ctx);
            }
            Due::List => ctx.emit(Event::State(Box::new(self.state()))),
        }
    }

    fn pull(&mut self, ticket: Ticket, image: Name, ctx: &mut dyn RuntimeContext) {
        let model = self.models.of(&image).clone();
        self.pulls += 1;
        let purpose = format!("pull {image} {}", self.pulls);
        let latency = model.pull.latency.0.sample(&mut self.settings.seed.stream(&self.settings.node, &purpose));
        let failures = self.failed_pulls.entry(image.clone()).or_default();
        if let Some(error) = &model.pull.error
            && model.pull.failures.is_none_or(|failing| *failures < failing)
        {
            *failures += 1;
            let message = pull_error(&image, error);
            self.later(latency, Due::Tell(Event::PullFailed { ticket, message }), ctx);
            return;
        }
        self.images.pull(ticket, &image, &model, ctx.now() + latency, ctx.now());
        self.await_images(ctx);
    }

    /// Sets the timer for the image store's next change.
    fn await_images(&mut self, ctx: &mut dyn RuntimeContext) {
        if let Some(timer) = self.image_timer.take() {
            ctx.cancel_timer(timer);
        }
        self.due.retain(|_, due| !matches!(due, Due::Images));
        if let Some(at) = self.images.next_change(ctx.now()) {
            let (_, timer) = self.at(at, Due::Images, ctx);
            self.image_timer = Some(timer);
        }
    }

    /// Everything ended with the machine. containerd finds its containers again and reports them as ended with code 255.
    fn restart_machine(&mut self, ctx: &mut dyn RuntimeContext) {
        let now = ctx.now();
        self.due.clear();
        self.image_timer = None;
        self.memory_timer = None;
        self.images.abandon_pulls();
        for instance in self.containers.values_mut() {
            instance.due = None;
            if instance.exit.is_none() {
                instance.exit = Some(Exit { code: 255, reason: ExitReason::Unknown, at: now });
            }
        }
        let ids: Vec<SandboxId> = self.sandboxes.keys().copied().collect();
        ids.into_iter().for_each(|id| self.disconnect(id));
    }

    fn state(&self) -> State {
        let sandboxes = self.sandboxes.iter().map(|(id, sandbox)| SandboxRecord {
            sandbox: *id,
            pod: sandbox.pod.clone(),
            ready: sandbox.ready,
            address: sandbox.address,
        });
        let containers = self.containers.iter().map(|(id, instance)| ContainerRecord {
            container: *id,
            image: instance.image.clone(),
            started: instance.started,
            exit: instance.exit,
        });
        State {
            sandboxes: sandboxes.collect(),
            containers: containers.collect(),
            images: self.images.all().cloned().collect(),
            next_pod: self.next_pod,
        }
    }

    /// The image of a name, if it is in the store.
    pub fn image(&self, name: &str) -> Option<&ImageRecord> {
        self.images.get(name)
    }

    fn later(&mut self, delay: SimDuration, due: Due, ctx: &mut dyn RuntimeContext) {
        let at = ctx.now() + delay;
        self.at(at, due, ctx);
    }

    fn at(&mut self, at: SimTime, due: Due, ctx: &mut dyn RuntimeContext) -> (u64, TimerId) {
        let token = self.next_token;
        self.next_token += 1;
        self.due.insert(token, due);
        (token, ctx.set_timer(at, token))
    }
}

/// The smallest id that a container of the pod can have.
fn first_of(pod: PodNumber) -> ContainerId {
    ContainerId { pod, index: 0, attempt: 0 }
}

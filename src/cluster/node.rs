//! A machine that runs pods: its kubelet and its container runtime.
//!
//! What the runtime tells reaches the kubelet in the same event, and what the kubelet asks reaches the runtime in the
//! same event: both are on one machine, and the runtime's own delays stand for all that happens between them.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use k8s_openapi::api::core::v1 as core;

use crate::api::meta::{Epoch, Labels, Uid};
use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::apiserver::heartbeats::Heartbeats;
use crate::apiserver::protocol::ApiMessage;
use crate::engine::process::{Cause, Context, Lane, ProcessId, TimerId, Token};
use crate::engine::random::Seed;
use crate::engine::time::{SimDuration, SimTime};
use crate::kubelet::clock::NodeClock;
use crate::kubelet::settings::{KubeletProfile, KubeletSettings, KubeletTimings, NodeSettings};
use crate::kubelet::{Command, Configuration, Kubelet, KubeletInput, NodeContext};
use crate::runtime::interface::{Action, Event as RuntimeEvent};
use crate::runtime::model::ImageModels;
use crate::runtime::simulated::{RuntimeContext, RuntimeInput, RuntimeSettings, SimulatedRuntime};
use crate::runtime::span::Spread;

use super::event::{Event, Scheduled};
use super::fabric::Wiring;
use super::faults::SERVICES_END;
use super::options::{KubeletKind, NodeOptions};

/// A machine that runs pods.
pub struct NodeMachine {
    /// Its place in the list of nodes.
    place: u32,
    /// The node's name.
    name: Name,
    /// The process number of its kubelet.
    process: ProcessId,
    settings: Rc<KubeletSettings>,
    kubelet: Option<Kubelet>,
    runtime: SimulatedRuntime,
    /// How often the machine has lost power: what the runtime waited for before is void.
    power_losses: u32,
    is_on: bool,
    /// What has happened to the kubelet since it hangs, if it does.
    held: Option<VecDeque<KubeletInput>>,
    /// Containers have begun or ended since somebody asked.
    stirred: bool,
    /// How long after it is switched off it comes back, if it is being rebooted.
    back_after: Option<SimDuration>,
    /// The files of static pods.
    static_pods: Vec<Rc<Pod>>,
}

/// What a machine is to do next.
enum Work {
    Kubelet(KubeletInput),
    Runtime(RuntimeInput),
}

/// What all nodes of a cluster have in common.
pub struct NodeCommons {
    /// The run's seed.
    pub seed: Seed,
    /// The date at which virtual time is zero.
    pub epoch: Epoch,
    /// The API servers.
    pub api_servers: Vec<ProcessId>,
    /// Where renewals of leases are noted while nobody needs to see them travel.
    pub heartbeats: Rc<Heartbeats>,
    /// What images do.
    pub images: Rc<ImageModels>,
}

impl NodeMachine {
    /// A machine that was just set up; its kubelet does not run yet.
    pub fn new(place: u32, process: ProcessId, options: &NodeOptions, commons: &NodeCommons) -> Self {
        let name = Name::from(&options.name);
        let address = node_address(place);
        let pod_range = Name::from(pod_range(place));
        let stand_in = options.kubelet == KubeletKind::StandIn;
        let (timings, profile) = if stand_in {
            (KubeletTimings::stand_in(), KubeletProfile::stand_in())
        } else {
            (KubeletTimings::default(), KubeletProfile::default())
        };
        let configuration = if stand_in {
            Configuration { parallel_pulls: 0, thresholds: Vec::new(), ..Configuration::default() }
        } else {
            options.configuration.clone()
        };
        let labels = options.labels.iter().map(|(key, value)| (Name::from(key), Name::from(value)));
        let node = NodeSettings {
            pod_range: Some(pod_range.clone()),
            capacity: options.capacity.clone(),
            allocatable: if stand_in {
                options.capacity.clone()
            } else {
                options.configuration.allocatable(&options.capacity)
            },
            labels: labels.collect::<Labels>(),
            taints: options.taints.clone().into(),
            info: Some(Rc::new(system_info(&name, commons.seed, 0))),
            ..NodeSettings::new(name.clone(), address)
        };
        let settings = KubeletSettings {
            seed: commons.seed,
            epoch: commons.epoch,
            api_servers: commons.api_servers.clone(),
            node,
            timings,
            profile,
            configuration,
            heartbeats: Rc::clone(&commons.heartbeats),
            clock: Rc::default(),
        };
        let mut runtime = RuntimeSettings {
            address: Some(address),
            pod_range: Some(pod_range),
            bytes_per_second: options.pull_bytes_per_second,
            all_images_present: stand_in,
            memory: if stand_in { 0 } else { u64::try_from(options.capacity.memory).unwrap_or(0) },
            ..RuntimeSettings::new(commons.seed, name.clone())
        };
        if stand_in {
            runtime.create_sandbox = Spread::millis(0);
            runtime.stop_sandbox = Spread::millis(0);
            runtime.list = Spread::millis(0);
            runtime.restarts_at_once = true;
        }
        NodeMachine {
            place,
            name,
            process,
            settings: Rc::new(settings),
            kubelet: None,
            runtime: SimulatedRuntime::new(Rc::new(runtime), Rc::clone(&commons.images)),
            power_losses: 0,
            is_on: true,
            held: None,
            stirred: false,
            back_after: None,
            static_pods: Vec::new(),
        }
    }

    /// The node's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The process number of its kubelet.
    pub fn process(&self) -> ProcessId {
        self.process
    }

    /// Its kubelet, if it runs.
    pub fn kubelet(&self) -> Option<&Kubelet> {
        self.kubelet.as_ref()
    }

    /// Its container runtime.
    pub fn runtime(&self) -> &SimulatedRuntime {
        &self.runtime
    }

    /// How often the machine has lost power.
    pub fn power_losses(&self) -> u32 {
        self.power_losses
    }

    /// Whether it has power.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Says whether it comes back when it is switched off next; what was said before.
    pub fn comes_back_after(&mut self, down: Option<SimDuration>) -> Option<SimDuration> {
        std::mem::replace(&mut self.back_after, down)
    }

    /// How long its kubelet may hold a shutdown up; none if it does not.
    pub fn shutdown_grace(&self) -> Option<SimDuration> {
        let grace = self.settings.configuration.shutdown;
        (!grace.is_off()).then_some(grace.total)
    }

    /// Its clock.
    pub fn clock(&self) -> &NodeClock {
        &self.settings.clock
    }

    /// Whether containers of a pod run on it.
    pub fn runs(&self, pod: Uid) -> bool {
        self.is_on && self.runtime.runs(pod)
    }

    /// Whether containers have begun or ended since this was asked last.
    pub fn take_stirred(&mut self) -> bool {
        std::mem::take(&mut self.stirred)
    }

    /// The kubelet does nothing any more, though its process is there.
    pub fn hang(&mut self) {
        if self.kubelet.is_some() && self.held.is_none() {
            self.held = Some(VecDeque::new());
        }
    }

    /// A kubelet that hangs goes on, with all that has happened to it meanwhile.
    pub fn go_on(&mut self, wiring: &mut Wiring<'_>) {
        for input in self.held.take().into_iter().flatten() {
            self.drive(Work::Kubelet(input), wiring);
        }
    }

    /// Sets the kubelet up; it begins with [`crate::engine::process::Input::Start`].
    pub fn create_kubelet(&mut self, now: SimTime) {
        self.kubelet = Some(Kubelet::new(Rc::clone(&self.settings), now, &self.static_pods));
    }

    /// A file of a static pod appears, in place of one of the same name.
    pub fn add_static_pod(&mut self, pod: Rc<Pod>, wiring: &mut Wiring<'_>) {
        self.remove_static_pod(&pod.meta.name.clone(), wiring);
        self.static_pods.push(Rc::clone(&pod));
        self.kubelet_input(KubeletInput::Command(Command::AddStaticPod(pod)), wiring);
    }

    /// The pods of the files that are there.
    pub fn static_pods(&self) -> impl Iterator<Item = &Rc<Pod>> {
        self.static_pods.iter()
    }

    /// The file of the static pod of this name goes. True if there was one.
    pub fn remove_static_pod(&mut self, name: &Name, wiring: &mut Wiring<'_>) -> bool {
        let before = self.static_pods.len();
        self.static_pods.retain(|pod| pod.meta.name != *name);
        if self.static_pods.len() == before {
            return false;
        }
        self.kubelet_input(KubeletInput::Command(Command::RemoveStaticPod(name.clone())), wiring);
        true
    }

    /// The kubelet dies; containers run on.
    pub fn crash_kubelet(&mut self) {
        self.kubelet = None;
        self.held = None;
    }

    /// The machine loses power.
    pub fn crash(&mut self) {
        self.crash_kubelet();
        self.is_on = false;
        self.stirred = true;
        self.power_losses += 1;
    }

    /// Puts images on the node by other means than pulls.
    pub fn preload(&mut self, images: &[String], wiring: &mut Wiring<'_>) {
        images.iter().for_each(|image| self.set_image(image, true, wiring));
    }

    /// Puts an image on the node by other means than a pull, or takes it away.
    pub fn set_image(&mut self, image: &str, present: bool, wiring: &mut Wiring<'_>) {
        let image = Name::from(image);
        let input = if present { RuntimeInput::AddImage(image) } else { RuntimeInput::RemoveImage(image) };
        self.drive(Work::Runtime(input), wiring);
    }

    /// The load that a pod bears has changed, in thousandths of a unit.
    pub fn set_load(&mut self, pod: Uid, thousandths: u64, wiring: &mut Wiring<'_>) {
        self.drive(Work::Runtime(RuntimeInput::Load { pod, thousandths }), wiring);
    }

    /// The machine has power again: no container runs any more.
    pub fn restart(&mut self, wiring: &mut Wiring<'_>) {
        if !self.is_on {
            self.is_on = true;
            let seed = self.settings.seed;
            let info = Some(Rc::new(system_info(&self.name, seed, self.power_losses)));
            let node = NodeSettings { info, ..self.settings.node.clone() };
            self.settings = Rc::new(KubeletSettings { node, ..KubeletSettings::clone(&self.settings) });
        }
        self.drive(Work::Runtime(RuntimeInput::MachineRestarted), wiring);
    }

    /// Hands the kubelet what happens to it.
    pub fn kubelet_input(&mut self, input: KubeletInput, wiring: &mut Wiring<'_>) {
        self.drive(Work::Kubelet(input), wiring);
    }

    /// Hands the runtime a timer, unless the machine has lost power since it was set.
    pub fn runtime_timer(&mut self, epoch: u32, token: Token, wiring: &mut Wiring<'_>) {
        if epoch == self.power_losses {
            self.drive(Work::Runtime(RuntimeInput::Timer { token }), wiring);
        }
    }

    /// Does one thing and all that follows from it at once. Mostly nothing does, and then nothing is allocated.
    fn drive(&mut self, first: Work, wiring: &mut Wiring<'_>) {
        let mut work = VecDeque::new();
        let mut next = Some(first);
        while let Some(item) = next {
            let (node, epoch) = (self.place, self.power_losses);
            let stirred = &mut self.stirred;
            let mut wiring = NodeWiring { wiring, node, epoch, work: &mut work, stirred };
            match (item, &mut self.kubelet, &mut self.held) {
                (Work::Kubelet(input), Some(_), Some(held)) => held.push_back(input),
                (Work::Kubelet(input), Some(kubelet), None) => kubelet.handle(input, &mut wiring),
                (Work::Kubelet(_), None, _) => {}
                (Work::Runtime(input), ..) => self.runtime.handle(input, &mut wiring),
            }
            next = work.pop_front();
        }
    }
}

/// What a node tells of its machine. Each boot has another id; the rest is what the recorded kubelets told.
fn system_info(name: &str, seed: Seed, boot: u32) -> core::NodeSystemInfo {
    let id = |purpose: &str| {
        let mut stream = seed.stream(name, purpose);
        Uid::from_random(stream.below(u64::MAX), stream.below(u64::MAX)).to_string()
    };
    let machine = id("machine");
    core::NodeSystemInfo {
        architecture: "amd64".to_owned(),
        boot_id: id(&format!("boot {boot}")),
        container_runtime_version: "containerd://1.7.24".to_owned(),
        kernel_version: "6.1.0".to_owned(),
        kubelet_version: "v1.36.2".to_owned(),
        machine_id: machine.replace('-', ""),
        operating_system: "linux".to_owned(),
        os_image: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        system_uuid: machine,
        ..core::NodeSystemInfo::default()
    }
}

/// The address of a node: 10.0.0.1, 10.0.0.2, ...
fn node_address(place: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0001 + place))
}

/// The range of a node's pods: 10.244.0.0/24, 10.244.1.0/24, ..., 10.245.0.0/24, ...
fn pod_range(place: u32) -> String {
    format!("{}/24", Ipv4Addr::from(0x0af4_0000u32.wrapping_add(place << 8)))
}

/// What a kubelet and its runtime see of the machine and the world beyond.
struct NodeWiring<'a, 'w> {
    wiring: &'a mut Wiring<'w>,
    node: u32,
    epoch: u32,
    work: &'a mut VecDeque<Work>,
    stirred: &'a mut bool,
}

impl Context<ApiMessage> for NodeWiring<'_, '_> {
    fn now(&self) -> SimTime {
        Context::<ApiMessage>::now(self.wiring)
    }

    fn send_after(&mut self, delay: SimDuration, to: ProcessId, lane: Lane, message: ApiMessage) {
        self.wiring.send_after(delay, to, lane, message);
    }

    fn set_timer(&mut self, at: SimTime, token: Token) -> TimerId {
        Context::<ApiMessage>::set_timer(self.wiring, at, token)
    }

    fn cancel_timer(&mut self, id: TimerId) {
        Context::<ApiMessage>::cancel_timer(self.wiring, id);
    }

    fn write_and_sync(&mut self, bytes: u64, token: Token) {
        Context::<ApiMessage>::write_and_sync(self.wiring, bytes, token);
    }

    fn cause(&self) -> Cause {
        Context::<ApiMessage>::cause(self.wiring)
    }

    fn set_cause(&mut self, cause: Cause) {
        Context::<ApiMessage>::set_cause(self.wiring, cause);
    }
}

impl NodeContext for NodeWiring<'_, '_> {
    fn power_off(&mut self) {
        let event = Event::Power { node: self.node, epoch: self.epoch, on: false };
        let at = self.wiring.queue.now() + SERVICES_END;
        self.wiring.queue.schedule(at, Scheduled { cause: self.wiring.cause, event });
    }

    fn act(&mut self, action: Action) {
        self.work.push_back(Work::Runtime(RuntimeInput::Act(action)));
    }
}

impl RuntimeContext for NodeWiring<'_, '_> {
    fn now(&self) -> SimTime {
        Context::<ApiMessage>::now(self.wiring)
    }

    fn set_timer(&mut self, at: SimTime, token: u64) -> TimerId {
        let event = Event::Runtime { node: self.node, epoch: self.epoch, token };
        let at = at.max(self.wiring.queue.now());
        self.wiring.queue.schedule(at, Scheduled { cause: self.wiring.cause, event })
    }

    fn cancel_timer(&mut self, id: TimerId) {
        self.wiring.queue.cancel(id);
    }

    fn emit(&mut self, event: RuntimeEvent) {
        *self.stirred |= matches!(event, RuntimeEvent::Started { .. } | RuntimeEvent::Exited { .. });
        self.work.push_back(Work::Kubelet(KubeletInput::Runtime(event)));
    }
}

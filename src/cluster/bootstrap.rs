//! Builds a cluster from its options: machines, processes, and who begins when.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::apiserver::metrics::Metrics;
use crate::apiserver::{self, ApiServer};
use crate::client::harness::{self, ControllerManager};
use crate::controllers;
use crate::engine::disk::DiskProfile;
use crate::engine::hash::Map;
use crate::engine::network::{Network, Patience};
use crate::engine::process::{Cause, ProcessId};
use crate::engine::queue::EventQueue;
use crate::engine::random::Seed;
use crate::engine::time::{SimDuration, SimTime};
use crate::engine::trace::Trace;
use crate::scheduler::{self, Scheduler};

use super::event::{Event, Scheduled};
use super::fabric::{Fabric, Wiring};
use super::incarnations::Incarnations;
use super::ledger::Ledger;
use super::members::Members;
use super::message::TRACE_KINDS;
use super::node::{NodeCommons, NodeMachine};
use super::operator::Operator;
use super::options::{ClusterOptions, History, NodeOptions};
use super::topology::{Role, Topology};
use super::truth::Truth;
use super::world::World;

/// When the API servers begin: etcd needs about a second to elect its first leader.
const SERVERS_BEGIN: SimTime = SimTime::from_nanos(1_500_000_000);
/// When everything else begins.
const COMPONENTS_BEGIN: SimTime = SimTime::from_nanos(2_000_000_000);
/// Between the beginnings of two kubelets, as machines do not come up at one instant.
const KUBELET_STAGGER: SimDuration = SimDuration::from_millis(3);

/// The etcd client of an API server sends pings after 30 s of silence and waits 10 s for an answer, and gives up what the other
/// end's machine does not acknowledge for 10 s (kube-apiserver, storagebackend/factory/etcd3.go; grpc, internal/transport:
/// `SetTCPUserTimeout`).
const ETCD_CLIENT: Patience =
    Patience { silence: SimDuration::from_secs(40), unacknowledged: SimDuration::from_secs(10) };

/// Machines and processes under construction.
struct Site {
    topology: Topology,
    fabric: Fabric,
    seed: Seed,
    disk: DiskProfile,
}

impl Site {
    fn process(&mut self, machine_name: &str, name: &str, role: Role) -> ProcessId {
        let machine = match self.topology.machine(machine_name) {
            Some(machine) => machine,
            None => {
                let machine = self.fabric.network.add_machine();
                self.topology.add_machine(machine, machine_name);
                machine
            }
        };
        let process = self.fabric.network.add_process(name, machine);
        self.topology.add_process(process, name, role, machine);
        self.fabric.add_disk(self.seed, name, self.disk.clone());
        process
    }
}

/// Builds the world and schedules the beginning of every process.
pub(super) fn build(options: ClusterOptions, seed: Seed, trace: bool) -> (World, EventQueue<Scheduled>) {
    let network = Network::new(seed, options.network.clone());
    let (topology, disk) = (Topology::default(), options.etcd_disk.clone());
    let mut site = Site { topology, fabric: Fabric::new(network), seed, disk };
    let names: Vec<String> = (0..options.etcd_members).map(|place| format!("etcd-{place}")).collect();
    let members = names.iter().zip(0..).map(|(name, place)| site.process(name, name, Role::Etcd(place)));
    let members: Vec<ProcessId> = members.collect();
    let server = |place: u32| (format!("control-plane-{place}"), format!("kube-apiserver-{place}"));
    let servers = (0..options.api_servers).map(|place| {
        let (machine, name) = server(place);
        site.process(&machine, &name, Role::ApiServer(place))
    });
    let servers: Vec<ProcessId> = servers.collect();
    for (server, member) in servers.iter().flat_map(|server| members.iter().map(move |member| (*server, *member))) {
        site.fabric.network.set_patience(server, member, ETCD_CLIENT);
    }
    site.process("control-plane-0", "kube-controller-manager", Role::ControllerManager);
    site.process("control-plane-0", "kube-scheduler", Role::Scheduler);
    site.process("operator", "kubectl", Role::Operator);
    if options.metrics_server {
        site.process("control-plane-0", "metrics-server", Role::MetricsServer);
    }

    let commons = NodeCommons {
        seed,
        epoch: options.epoch,
        api_servers: servers.clone(),
        heartbeats: Rc::default(),
        images: Rc::new(options.images.clone()),
    };
    let metrics = Rc::new(Metrics::new(commons.images.clone(), options.signals.clone(), options.metrics_server));
    let node_options = options.nodes.clone();
    let mut world = World {
        seed,
        commons,
        metrics,
        etcd: Members::new(&members, &names, seed),
        servers: servers.iter().map(|_| None).collect(),
        manager: None,
        scheduler: None,
        scheduler_mark: None,
        nodes: Vec::new(),
        places: Map::default(),
        operator: Operator::new(servers),
        ledger: Ledger::default(),
        truth: Truth::default(),
        news: VecDeque::new(),
        trace: if trace { Trace::recording(TRACE_KINDS) } else { Trace::off() },
        incarnations: Incarnations::default(),
        is_over: false,
        conflicts: 0,
        topology: site.topology,
        fabric: site.fabric,
        options,
    };
    if let Some(manager) = world.topology.process(Role::ControllerManager) {
        world.commons.heartbeats.set_monitor(manager);
    }
    let mut queue = EventQueue::new();
    for index in 0..world.topology.process_count() {
        let process = ProcessId(index as u32);
        let begin = match world.topology.role(process) {
            Role::Etcd(_) => SimTime::ZERO,
            Role::ApiServer(_) => SERVERS_BEGIN,
            _ => COMPONENTS_BEGIN,
        };
        schedule_start(&mut queue, process, begin, Cause::NONE);
    }
    for (place, node) in node_options.iter().enumerate() {
        let process = world.add_node_machine(node, &mut queue);
        schedule_start(&mut queue, process, COMPONENTS_BEGIN + KUBELET_STAGGER * place as u64, Cause::NONE);
    }
    for at in world.metrics.load_steps() {
        queue.schedule(at, Scheduled { cause: Cause::NONE, event: Event::Load });
    }
    (world, queue)
}

/// Schedules the beginning of a process.
pub(super) fn schedule_start(queue: &mut EventQueue<Scheduled>, process: ProcessId, at: SimTime, cause: Cause) {
    queue.schedule(at, Scheduled { cause, event: Event::Start { process } });
}

impl World {
    /// Sets up a machine that runs pods; its kubelet does not run yet.
    pub(super) fn add_node_machine(&mut self, options: &NodeOptions, queue: &mut EventQueue<Scheduled>) -> ProcessId {
        let place = self.nodes.len() as u32;
        let machine = self.fabric.network.add_machine();
        self.topology.add_machine(machine, &options.name);
        let name = format!("kubelet/{}", options.name);
        let process = self.fabric.network.add_process(&name, machine);
        self.topology.add_process(process, &name, Role::Kubelet(place), machine);
        self.fabric.add_disk(self.seed, &name, self.options.etcd_disk.clone());
        let mut node = NodeMachine::new(place, process, options, &self.commons);
        let mut wiring = Wiring { fabric: &mut self.fabric, queue, process, cause: Cause::NONE };
        node.preload(&options.images, &mut wiring);
        self.places.insert(node.name().clone(), place);
        self.nodes.push(node);
        process
    }

    fn process_name(&self, role: Role) -> String {
        self.topology.process(role).map(|process| self.topology.process_name(process).to_owned()).unwrap_or_default()
    }

    /// An API server without any state.
    pub(super) fn new_server(&self, place: u32) -> ApiServer {
        let members = (0..self.options.etcd_members).filter_map(|member| self.topology.process(Role::Etcd(member)));
        let name = self.process_name(Role::ApiServer(place));
        let config = apiserver::Config::new(name, members.collect(), self.options.epoch, self.seed);
        let heartbeats = Rc::clone(&self.commons.heartbeats);
        let metrics = Rc::clone(&self.metrics);
        ApiServer::new(apiserver::Config {
            accounts: apiserver::Accounts::MustExist,
            heartbeats,
            metrics,
            store: (self.options.history == History::WhileNeeded).then(|| self.etcd.store().clone()),
            request_timeout: self.options.request_timeout,
            ..config
        })
    }

    /// A controller manager without any state.
    pub(super) fn new_manager(&self) -> ControllerManager {
        let name = self.process_name(Role::ControllerManager);
        let mut config = harness::Config::new(name, self.commons.api_servers.clone(), self.options.epoch, self.seed);
        config.qps = self.options.controller_limits.per_second;
        config.burst = self.options.controller_limits.burst;
        let heartbeats = Rc::clone(&self.commons.heartbeats);
        let controllers = controllers::config::Config { heartbeats, ..self.options.controllers.clone() };
        ControllerManager::new(config, controllers::all(&controllers))
    }

    /// A scheduler without any state.
    pub(super) fn new_scheduler(&self) -> Scheduler {
        let name = self.process_name(Role::Scheduler);
        let mut config = scheduler::Config::new(name, self.commons.api_servers.clone(), self.options.epoch, self.seed);
        config.qps = self.options.scheduler_limits.per_second;
        config.burst = self.options.scheduler_limits.burst;
        config.configuration = self.options.scheduler.clone();
        config.registry = self.options.scheduler_plugins.clone();
        config.records_decisions = self.trace.is_on();
        Scheduler::new(config)
    }
}

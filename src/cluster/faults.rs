//! What can be done to a cluster from outside: power, processes, partitions, nodes that come and go.

use std::fmt;
use std::rc::Rc;

use crate::api::name::Name;
use crate::api::pod::Pod;
use crate::engine::distribution::Distribution;
use crate::engine::network::{Directions, MachineId, PartitionId};
use crate::engine::process::{Cause, ProcessId};
use crate::engine::queue::EventQueue;
use crate::engine::time::SimDuration;
use crate::kubelet::{Command, KubeletInput, clock};

use super::bootstrap::schedule_start;
use super::event::{Event, Scheduled};
use super::fabric::Wiring;
use super::options::NodeOptions;
use super::topology::Role;
use super::world::World;

/// How long the other services of a machine take to end once the kubelet no longer holds the shutdown up.
pub(super) const SERVICES_END: SimDuration = SimDuration::from_secs(1);

/// Something was named that is not there, or is there already.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FaultError {
    /// There is no machine, node or process of this name.
    Unknown {
        /// What was looked for, as `node`.
        what: &'static str,
        /// Its name.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// There is one of this name already.
    Exists {
        /// What was to be added.
        what: &'static str,
        /// Its name.
        name: String,
    },
}

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultError::Unknown { what, name, known } => {
                write!(f, "there is no {what} \"{name}\"")?;
                let shown: Vec<&str> = known.iter().take(8).map(String::as_str).collect();
                let more = if known.len() > shown.len() { ", ..." } else { "" };
                write!(f, " (there are: {}{more})", shown.join(", "))
            }
            FaultError::Exists { what, name } => write!(f, "there is a {what} \"{name}\" already"),
        }
    }
}

impl std::error::Error for FaultError {}

/// The event list, and the event to which what follows is ascribed.
pub(super) struct Moment<'a> {
    pub(super) queue: &'a mut EventQueue<Scheduled>,
    pub(super) cause: Cause,
}

impl World {
    fn node_place(&self, name: &str) -> Result<usize, FaultError> {
        self.places.get(name).map(|place| *place as usize).ok_or_else(|| FaultError::Unknown {
            what: "node",
            name: name.to_owned(),
            known: self.nodes.iter().map(|node| node.name().to_string()).collect(),
        })
    }

    pub(super) fn machine_named(&self, name: &str) -> Result<MachineId, FaultError> {
        self.topology.machine(name).ok_or_else(|| FaultError::Unknown {
            what: "machine",
            name: name.to_owned(),
            known: self.topology.machine_names().to_vec(),
        })
    }

    fn process_named(&self, name: &str) -> Result<ProcessId, FaultError> {
        let all = || (0..self.topology.process_count()).map(|index| ProcessId(index as u32));
        all().find(|process| self.topology.process_name(*process) == name).ok_or_else(|| FaultError::Unknown {
            what: "process",
            name: name.to_owned(),
            known: all().map(|process| self.topology.process_name(process).to_owned()).collect(),
        })
    }

    /// Cuts a machine's power: its processes die and nobody is told.
    pub(super) fn crash_machine(&mut self, name: &str, moment: &mut Moment<'_>) -> Result<(), FaultError> {
        let machine = self.machine_named(name)?;
        let now = moment.queue.now();
        let processes: Vec<ProcessId> = self.topology.processes_on(machine).collect();
        self.fabric.network.machine_down(now, machine);
        for process in processes {
            self.drop_state(process, now, moment.cause);
            self.fabric.crash_disk(now, process);
            if let Role::Kubelet(place) = self.topology.role(process) {
                self.nodes[place as usize].crash();
                self.look_at_lives(place, moment.cause);
            }
        }
        self.disturbed(moment.queue.now());
        self.fabric.settle(moment.queue, moment.cause);
        Ok(())
    }

    /// Gives a machine power again and starts its processes.
    pub(super) fn restart_machine(&mut self, name: &str, moment: &mut Moment<'_>) -> Result<(), FaultError> {
        let machine = self.machine_named(name)?;
        let now = moment.queue.now();
        self.fabric.network.machine_up(now, machine);
        let processes: Vec<ProcessId> = self.topology.processes_on(machine).collect();
        for process in processes {
            if self.fabric.network.is_alive(process) {
                continue;
            }
            self.fabric.network.restart(now, process);
            if let Role::Kubelet(place) = self.topology.role(process) {
                let mut wiring = Wiring { fabric: &mut self.fabric, queue: moment.queue, process, cause: moment.cause };
                self.nodes[place as usize].restart(&mut wiring);
            }
            schedule_start(moment.queue, process, now, moment.cause);
        }
        self.disturbed(moment.queue.now());
        self.fabric.settle(moment.queue, moment.cause);
        Ok(())
    }

    /// Kills one process; its machine lives and tells its peers.
    pub(super) fn crash_process(&mut self, name: &str, moment: &mut Moment<'_>) -> Result<(), FaultError> {
        let process = self.process_named(name)?;
        let now = moment.queue.now();
        if self.fabric.network.is_alive(process) {
            self.fabric.network.crash(now, process);
            self.drop_state(process, now, moment.cause);
            self.fabric.crash_disk(now, process);
        }
        self.disturbed(moment.queue.now());
        self.fabric.settle(moment.queue, moment.cause);
        Ok(())
    }

    /// Lets the disk of an etcd member take another time to make a write durable; without one, that of the options.
    pub(super) fn set_fsync(
        &mut self,
        member: &str,
        fsync: Option<Distribution>,
        moment: &mut Moment<'_>,
    ) -> Result<(), FaultError> {
        let processes = (0..self.topology.process_count()).map(|index| ProcessId(index as u32));
        let members: Vec<ProcessId> =
            processes.filter(|process| matches!(self.topology.role(*process), Role::Etcd(_))).collect();
        let name_of = |process: &ProcessId| self.topology.process_name(*process).to_owned();
        let Some(process) = members.iter().copied().find(|process| name_of(process) == member) else {
            let known = members.iter().map(name_of).collect();
            return Err(FaultError::Unknown { what: "etcd member", name: member.to_owned(), known });
        };
        let slow = fsync.is_some();
        let fsync = fsync.unwrap_or_else(|| self.options.etcd_disk.fsync.clone());
        self.fabric.set_fsync(process, fsync, slow);
        self.disturbed(moment.queue.now());
        Ok(())
    }

    /// Starts a process that was killed.
    pub(super) fn restart_process(&mut self, name: &str, moment: &mut Moment<'_>) -> Result<(), FaultError> {
        let process = self.process_named(name)?;
        let now = moment.queue.now();
        if !self.fabric.network.is_alive(process) {
            self.fabric.network.restart(now, process);
            schedule_start(moment.queue, process, now, moment.cause);
        }
        self.disturbed(moment.queue.now());
        self.fabric.settle(moment.queue, moment.cause);
        Ok(())
    }

    /// Makes a node's kubelet silent, or lets it speak again.
    pub(super) fn heartbeats(&mut self, node: &str, on: bool, moment: &mut Moment<'_>) -> Result<(), FaultError> {
        let place = self.node_place(node)?;
        let command = if on { Command::ResumeHeartbeats } else { Command::StopHeartbeats };
        let machine = &mut self.nodes[place];
        let process = machine.process();
        let mut wiring = Wiring { fabric: &mut self.fabric, queue: moment.queue, process, cause: moment.cause };
        machine.kubelet_input(KubeletInput::Command(command), &mut wiring);
        self.disturbed(moment.queue.now());
        self.fabric.settle(moment.queue, moment.cause);
        Ok(())
    }

    /// Puts the file of a static pod on a node.
    pub(super) fn add_static_pod(
        &mut self,
        node: &str,
        pod: Rc<Pod>,
        moment: &mut Moment<'_>,
    ) -> Result<(), FaultError> {
        let place = self.node_place(node)?;
        let machine = &mut self.nodes[place];
        let process = machine.process();
        let mut wiring = Wiring { fabric: &mut self.fabric, queue: moment.queue, process, cause: moment.cause };
        machine.add_static_pod(pod, &mut wiring);
        self.fabric.settle(moment.queue, moment.cause);
        Ok(())
    }

    /// Takes the file of a static pod from a node.
    pub(super) fn remove_static_pod(
        &mut self,
        node: &str,
        name: &str,
        moment: &mut Moment<'_>,
    ) -> Result<(), FaultError> {
        let place = self.node_place(node)?;
        let machine = &mut self.nodes[place];
        let process = machine.process();
        let mut wiring = Wiring { fabric: &mut self.fabric, queue: moment.queue, process, cause: moment.cause };
        let found = machine.remove_static_pod(&Name::from(name), &mut wiring);
        let known = machine.static_pods().map(|pod| pod.meta.name.to_string()).collect();
        self.fabric.settle(moment.queue, moment.cause);
        if found { Ok(()) } else { Err(FaultError::Unknown { what: "static pod", name: name.to_owned(), known }) }
    }

    /// Puts an image into a node's store, or takes it out.
    pub(super) fn set_image(
        &mut self,
        node: &str,
        image: &str,
        present: bool,
        moment: &mut Moment<'_>,
    ) -> Result<(), FaultError> {
        let place = self.node_place(node)?;
        let machine = &mut self.nodes[place];
        let process = machine.process();
        let mut wiring = Wiring { fabric: &mut self.fabric, queue: moment.queue, process, cause: moment.cause };
        machine.set_image(image, present, &mut wiring);
        self.fabric.settle(moment.queue, moment.cause);
        Ok(())
    }

    /// Stops a node's kubelet as `SIGSTOP` does, or lets it go on: what happens to it meanwhile waits for it.
    pub(super) fn hang(&mut self, node: &str, hangs: bool, moment: &mut Moment<'_>) -> Result<(), FaultError> {
        let place = self.node_place(node)?;
        let machine = &mut self.nodes[place];
        let process = machine.process();
        let mut wiring = Wiring { fabric: &mut self.fabric, queue: moment.queue, process, cause: moment.cause };
        if hangs {
            machine.hang();
        } else {
            machine.go_on(&mut wiring);
        }
        self.look_at_lives(place as u32, moment.cause);
        self.disturbed(moment.queue.now());
        self.fabric.settle(moment.queue, moment.cause);
        Ok(())
    }

    /// Makes the clock of a node's machine wrong, or right again.
    pub(super) fn set_clock(&mut self, node: &str, fault: clock::Fault, moment: &Moment<'_>) -> Result<(), FaultError> {
        let place = self.node_place(node)?;
        self.nodes[place].clock().set(clock::Fault { since: moment.queue.now(), ..fault });
        self.disturbed(moment.queue.now());
        Ok(())
    }

    /// Switches a node's machine off in good order, and on again after a while if it is a reboot. The kubelet may hold that up for
    /// as long as its configuration says (logind, `InhibitDelayMaxSec`, which the kubelet sets to that).
    pub(super) fn shut_down(
        &mut self,
        node: &str,
        reboot: Option<SimDuration>,
        moment: &mut Moment<'_>,
    ) -> Result<(), FaultError> {
        let place = self.node_place(node)?;
        let now = moment.queue.now();
        let machine = &mut self.nodes[place];
        if !machine.is_on() {
            return Ok(());
        }
        machine.comes_back_after(reboot);
        let held_up = machine.shutdown_grace().filter(|_| machine.kubelet().is_some());
        let (process, epoch) = (machine.process(), machine.power_losses());
        let Some(longest) = held_up else {
            self.power(place as u32, epoch, false, moment);
            return Ok(());
        };
        let event = Event::Power { node: place as u32, epoch, on: false };
        moment.queue.schedule(now + longest + SERVICES_END, Scheduled { cause: moment.cause, event });
        let mut wiring = Wiring { fabric: &mut self.fabric, queue: moment.queue, process, cause: moment.cause };
        machine.kubelet_input(KubeletInput::Command(Command::ShutDown), &mut wiring);
        self.disturbed(now);
        self.fabric.settle(moment.queue, moment.cause);
        Ok(())
    }

    /// Switches a machine off or on, unless it has lost power or got it back since that was decided.
    pub(super) fn power(&mut self, node: u32, epoch: u32, on: bool, moment: &mut Moment<'_>) {
        let machine = &mut self.nodes[node as usize];
        if machine.power_losses() != epoch || machine.is_on() == on {
            return;
        }
        let name = machine.name().clone();
        // The machine is one of this cluster's: neither can fail.
        if on {
            let _ = self.restart_machine(&name, moment);
            return;
        }
        let back = machine.comes_back_after(None);
        let _ = self.crash_machine(&name, moment);
        if let Some(down) = back {
            let event = Event::Power { node, epoch: self.nodes[node as usize].power_losses(), on: true };
            moment.queue.schedule(moment.queue.now() + down, Scheduled { cause: moment.cause, event });
        }
    }

    /// Adds a machine whose kubelet registers itself as a node.
    pub(super) fn add_node(&mut self, options: &NodeOptions, moment: &mut Moment<'_>) -> Result<(), FaultError> {
        if self.topology.machine(&options.name).is_some() {
            return Err(FaultError::Exists { what: "machine", name: options.name.clone() });
        }
        let process = self.add_node_machine(options, moment.queue);
        schedule_start(moment.queue, process, moment.queue.now(), moment.cause);
        self.disturbed(moment.queue.now());
        Ok(())
    }

    /// Stops packets between two groups of machines.
    pub(super) fn partition(
        &mut self,
        first: &[String],
        second: &[String],
        directions: Directions,
        moment: &mut Moment<'_>,
    ) -> Result<PartitionId, FaultError> {
        let machines = |names: &[String]| {
            names.iter().map(|name| self.machine_named(name)).collect::<Result<Vec<MachineId>, FaultError>>()
        };
        let (first, second) = (machines(first)?, machines(second)?);
        let id = self.fabric.network.partition(moment.queue.now(), first, second, directions);
        self.disturbed(moment.queue.now());
        self.fabric.settle(moment.queue, moment.cause);
        Ok(id)
    }

    /// Ends a partition.
    pub(super) fn heal(&mut self, id: PartitionId, moment: &mut Moment<'_>) {
        self.fabric.network.heal(moment.queue.now(), id);
        self.disturbed(moment.queue.now());
        self.fabric.settle(moment.queue, moment.cause);
    }
}

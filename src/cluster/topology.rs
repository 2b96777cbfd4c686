//! Which machines there are, and which processes run on them.

use std::collections::BTreeMap;

use crate::engine::network::MachineId;
use crate::engine::process::ProcessId;

/// What a process is, and its place in the list of its kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// An etcd member.
    Etcd(u32),
    /// An API server.
    ApiServer(u32),
    /// The controller manager.
    ControllerManager,
    /// The scheduler.
    Scheduler,
    /// A kubelet, by the place of its node.
    Kubelet(u32),
    /// Who types the scenario's commands.
    Operator,
    /// metrics-server.
    MetricsServer,
}

/// The machines and processes of a cluster, by number and by name.
#[derive(Debug, Default)]
pub struct Topology {
    machines: Vec<String>,
    machine_of_name: BTreeMap<String, MachineId>,
    processes: Vec<Placed>,
    process_of_role: BTreeMap<Role, ProcessId>,
}

#[derive(Debug)]
struct Placed {
    name: String,
    role: Role,
    machine: MachineId,
}

impl Topology {
    /// Notes a machine; machines come in the order in which the network numbers them.
    pub fn add_machine(&mut self, id: MachineId, name: &str) {
        debug_assert_eq!(id.0 as usize, self.machines.len(), "machines are added in order");
        self.machines.push(name.to_owned());
        self.machine_of_name.insert(name.to_owned(), id);
    }

    /// Notes a process; processes come in the order in which the network numbers them.
    pub fn add_process(&mut self, id: ProcessId, name: &str, role: Role, machine: MachineId) {
        debug_assert_eq!(id.0 as usize, self.processes.len(), "processes are added in order");
        self.processes.push(Placed { name: name.to_owned(), role, machine });
        self.process_of_role.insert(role, id);
    }

    /// The machine of a name.
    pub fn machine(&self, name: &str) -> Option<MachineId> {
        self.machine_of_name.get(name).copied()
    }

    /// A machine's name.
    pub fn machine_name(&self, id: MachineId) -> &str {
        &self.machines[id.0 as usize]
    }

    /// All machines' names, in their order.
    pub fn machine_names(&self) -> &[String] {
        &self.machines
    }

    /// What a process is.
    #[inline]
    pub fn role(&self, id: ProcessId) -> Role {
        self.processes[id.0 as usize].role
    }

    /// A process's name, as `etcd-0` or `kubelet/node-3`.
    pub fn process_name(&self, id: ProcessId) -> &str {
        &self.processes[id.0 as usize].name
    }

    /// The machine on which a process runs.
    pub fn machine_of(&self, id: ProcessId) -> MachineId {
        self.processes[id.0 as usize].machine
    }

    /// The process with a role.
    pub fn process(&self, role: Role) -> Option<ProcessId> {
        self.process_of_role.get(&role).copied()
    }

    /// All processes on a machine.
    pub fn processes_on(&self, machine: MachineId) -> impl Iterator<Item = ProcessId> + '_ {
        let all = self.processes.iter().enumerate();
        all.filter(move |(_, placed)| placed.machine == machine).map(|(index, _)| ProcessId(index as u32))
    }

    /// How many processes there are.
    pub fn process_count(&self) -> usize {
        self.processes.len()
    }
}

//! Everything that can happen in a run.

use crate::engine::network::{Loss, Ticket};
use crate::engine::process::{Cause, ProcessId, Token};

/// An event and what caused it.
#[derive(Clone, Copy, Debug)]
pub struct Scheduled {
    /// The event that asked for this one.
    pub cause: Cause,
    /// What happens.
    pub event: Event,
}

/// What happens at a point in virtual time. Small: ids, never objects.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A process begins, for the first time or anew.
    Start {
        /// The process.
        process: ProcessId,
    },
    /// A message reaches the machine of its receiver.
    Arrive {
        /// Where the message is kept meanwhile.
        slot: u32,
        /// What the network calls it.
        ticket: Ticket,
    },
    /// A timer of a process fires.
    Timer {
        /// The process.
        process: ProcessId,
        /// The incarnation that set it; a later one does not see it.
        epoch: u32,
        /// What the process wrote on it.
        token: Token,
    },
    /// A write of a process is durable.
    DiskDone {
        /// The process.
        process: ProcessId,
        /// The incarnation that wrote.
        epoch: u32,
        /// What the process wrote on it.
        token: Token,
    },
    /// A process learns that its connections to another one broke.
    ConnectionLost(Loss),
    /// Connections that have heard nothing for long are looked at.
    NetworkCheck,
    /// Something that the container runtime of a node waits for is due.
    Runtime {
        /// The node's place in the list of nodes.
        node: u32,
        /// How often the machine had lost power when it was asked for.
        epoch: u32,
        /// What the runtime wrote on it.
        token: Token,
    },
    /// A machine is switched off in good order, or has power again after a reboot.
    Power {
        /// The node's place in the list of nodes.
        node: u32,
        /// How often the machine had lost power when it was asked for.
        epoch: u32,
        /// Whether it is switched on.
        on: bool,
    },
    /// The load that pods bear changes.
    Load,
    /// Something that the scenario waits for is due.
    Alarm {
        /// What the scenario wrote on it.
        token: Token,
    },
}

/// The number of [`Event::Power`]; those between it and the others are kinds of messages.
const POWER: u16 = 19;
/// The number of [`Event::Load`].
const LOAD: u16 = 20;

impl Event {
    /// A number for the kind of event, and what it is about: for the trace and the digest.
    pub fn words(&self) -> (u16, [u64; 2]) {
        match *self {
            Event::Start { process } => (0, [u64::from(process.0), 0]),
            Event::Arrive { slot, .. } => (1, [u64::from(slot), 0]),
            Event::Timer { process, token, .. } => (2, [u64::from(process.0), token]),
            Event::DiskDone { process, token, .. } => (3, [u64::from(process.0), token]),
            Event::ConnectionLost(loss) => (4, [u64::from(loss.process.0), u64::from(loss.peer.0)]),
            Event::NetworkCheck => (5, [0, 0]),
            Event::Runtime { node, token, .. } => (6, [u64::from(node), token]),
            Event::Alarm { token } => (7, [0, token]),
            Event::Load => (LOAD, [0, 0]),
            Event::Power { node, on, .. } => (POWER, [u64::from(node), u64::from(on)]),
        }
    }
}

//! What lies between the processes: the network with the messages under way, and the disks.
//!
//! A component's handler sees of it only its [`Context`]; the world schedules what follows.

use crate::apiserver::protocol::ApiMessage;
use crate::engine::disk::{DiskProfile, DiskQueue};
use crate::engine::distribution::Distribution;
use crate::engine::network::{Arrival, Delivery, Network, Notice, Ticket};
use crate::engine::process::{Cause, Context, Lane, ProcessId, TimerId, Token};
use crate::engine::queue::EventQueue;
use crate::engine::random::Seed;
use crate::engine::time::{SimDuration, SimTime};

use super::event::{Event, Scheduled};
use super::message::{EtcdMessage, Message};
use crate::apiserver::ServerMessage;

/// The network, the messages under way and the disks.
pub struct Fabric {
    /// Who can talk to whom, and how long it takes.
    pub network: Network,
    messages: Vec<Option<UnderWay>>,
    vacant: Vec<u32>,
    held: Vec<(Ticket, u32)>,
    disks: Vec<ProcessDisk>,
    sent: u64,
}

/// A message on its way.
struct UnderWay {
    from: ProcessId,
    to: ProcessId,
    message: Message,
    cause: Cause,
}

/// The disk requests of one process.
struct ProcessDisk {
    profile: DiskProfile,
    queue: DiskQueue,
    /// It takes another time than at first to make a write durable.
    slow: bool,
}

impl Fabric {
    /// Nothing but a network.
    pub fn new(network: Network) -> Self {
        Fabric { network, messages: Vec::new(), vacant: Vec::new(), held: Vec::new(), disks: Vec::new(), sent: 0 }
    }

    /// Gives the next process its disk; to be called once for each process, in their order.
    pub fn add_disk(&mut self, seed: Seed, process: &str, profile: DiskProfile) {
        self.disks.push(ProcessDisk { profile, queue: DiskQueue::new(seed.stream(process, "disk")), slow: false });
    }

    /// How many messages were sent.
    pub fn messages_sent(&self) -> u64 {
        self.sent
    }

    /// From now on the disk of a process takes so long to make a write durable; `slow` unless that is as at first.
    pub fn set_fsync(&mut self, process: ProcessId, fsync: Distribution, slow: bool) {
        let disk = &mut self.disks[process.0 as usize];
        (disk.profile.fsync, disk.slow) = (fsync, slow);
    }

    /// True if nothing is cut off and every disk is as at first.
    pub fn is_whole(&self) -> bool {
        self.network.is_whole() && !self.disks.iter().any(|disk| disk.slow)
    }

    /// A process died: its disk requests no longer keep later ones waiting.
    pub fn crash_disk(&mut self, now: SimTime, process: ProcessId) {
        self.disks[process.0 as usize].queue.crash(now);
    }

    /// The message in a slot, with sender and receiver.
    pub fn message(&self, slot: u32) -> Option<(ProcessId, ProcessId, &Message)> {
        self.messages[slot as usize].as_ref().map(|parcel| (parcel.from, parcel.to, &parcel.message))
    }

    /// What becomes of a message at the time foreseen for its arrival: kept, or lost, or to be handed over. Then who gets it and what
    /// it is are returned, and [`Fabric::take`] must be called next: its slot is given away with the next message sent.
    pub fn arrive(
        &mut self,
        slot: u32,
        ticket: Ticket,
        queue: &mut EventQueue<Scheduled>,
    ) -> Option<(ProcessId, &Message)> {
        match self.network.arrive(queue.now(), ticket) {
            Arrival::Deliver => {
                let under_way = self.messages[slot as usize].as_ref()?;
                self.vacant.push(slot);
                Some((under_way.to, &under_way.message))
            }
            Arrival::Later(at) => {
                let cause = self.messages[slot as usize].as_ref().map_or(Cause::NONE, |message| message.cause);
                queue.schedule(at, Scheduled { cause, event: Event::Arrive { slot, ticket } });
                None
            }
            Arrival::Held => {
                self.held.push((ticket, slot));
                None
            }
            Arrival::Lost => {
                self.messages[slot as usize] = None;
                self.vacant.push(slot);
                None
            }
        }
    }

    /// Takes a message that has arrived out of its slot, with who sent it.
    #[inline]
    pub fn take(&mut self, slot: u32) -> Option<(ProcessId, Message)> {
        self.messages[slot as usize].take().map(|under_way| (under_way.from, under_way.message))
    }

    fn send(&mut self, queue: &mut EventQueue<Scheduled>, lane: Lane, delay: SimDuration, under_way: UnderWay) {
        let UnderWay { from, to, cause, .. } = under_way;
        let bytes = under_way.message.wire_bytes();
        self.sent += 1;
        match self.network.send(queue.now(), from, to, lane, bytes, delay) {
            Delivery::At { time, ticket } => {
                let slot = self.keep(under_way);
                queue.schedule(time, Scheduled { cause, event: Event::Arrive { slot, ticket } });
            }
            Delivery::Held { ticket } => {
                let slot = self.keep(under_way);
                self.held.push((ticket, slot));
            }
            Delivery::Dropped => {}
        }
    }

    #[inline]
    fn keep(&mut self, under_way: UnderWay) -> u32 {
        match self.vacant.pop() {
            Some(slot) => {
                self.messages[slot as usize] = Some(under_way);
                slot
            }
            None => {
                self.messages.push(Some(under_way));
                self.messages.len() as u32 - 1
            }
        }
    }

    /// Schedules what the network says must follow from the calls made on it. To be called after every event.
    #[inline]
    pub fn settle(&mut self, queue: &mut EventQueue<Scheduled>, cause: Cause) {
        if self.network.has_notices() {
            self.follow_notices(queue, cause);
        }
    }

    #[cold]
    fn follow_notices(&mut self, queue: &mut EventQueue<Scheduled>, cause: Cause) {
        for notice in self.network.take_notices() {
            match notice {
                Notice::Deliver { ticket, at } => {
                    if let Some(slot) = self.release(ticket) {
                        queue.schedule(at, Scheduled { cause, event: Event::Arrive { slot, ticket } });
                    }
                }
                Notice::Discard { ticket } => {
                    if let Some(slot) = self.release(ticket) {
                        self.messages[slot as usize] = None;
                        self.vacant.push(slot);
                    }
                }
                Notice::Lost(loss) => {
                    let at = loss.at.max(queue.now());
                    queue.schedule(at, Scheduled { cause, event: Event::ConnectionLost(loss) });
                }
                Notice::CheckAt(at) => {
                    queue.schedule(at.max(queue.now()), Scheduled { cause, event: Event::NetworkCheck });
                }
            }
        }
    }

    fn release(&mut self, ticket: Ticket) -> Option<u32> {
        let index = self.held.iter().position(|(held, _)| *held == ticket)?;
        Some(self.held.swap_remove(index).1)
    }

    fn write(&mut self, queue: &mut EventQueue<Scheduled>, process: ProcessId, bytes: u64, token: Token, cause: Cause) {
        let epoch = self.network.epoch(process);
        let ProcessDisk { profile, queue: disk, .. } = &mut self.disks[process.0 as usize];
        let done = disk.write_and_sync(queue.now(), profile, bytes);
        queue.schedule(done, Scheduled { cause, event: Event::DiskDone { process, epoch, token } });
    }
}

/// What one process sees of the fabric while it handles one input.
pub struct Wiring<'a> {
    /// The fabric.
    pub fabric: &'a mut Fabric,
    /// The event list.
    pub queue: &'a mut EventQueue<Scheduled>,
    /// The process.
    pub process: ProcessId,
    /// What its effects are ascribed to.
    pub cause: Cause,
}

impl Wiring<'_> {
    #[inline]
    fn dispatch(&mut self, delay: SimDuration, to: ProcessId, lane: Lane, message: Message) {
        let under_way = UnderWay { from: self.process, to, message, cause: self.cause };
        self.fabric.send(self.queue, lane, delay, under_way);
    }

    fn timer(&mut self, at: SimTime, token: Token) -> TimerId {
        let epoch = self.fabric.network.epoch(self.process);
        let event = Event::Timer { process: self.process, epoch, token };
        self.queue.schedule(at.max(self.queue.now()), Scheduled { cause: self.cause, event })
    }
}

macro_rules! contexts {
    ($($message:ty => $wrap:expr),* $(,)?) => {$(
        impl Context<$message> for Wiring<'_> {
            fn now(&self) -> SimTime {
                self.queue.now()
            }

            fn send_after(&mut self, delay: SimDuration, to: ProcessId, lane: Lane, message: $message) {
                self.dispatch(delay, to, lane, $wrap(message));
            }

            fn set_timer(&mut self, at: SimTime, token: Token) -> TimerId {
                self.timer(at, token)
            }

            fn cancel_timer(&mut self, id: TimerId) {
                self.queue.cancel(id);
            }

            fn write_and_sync(&mut self, bytes: u64, token: Token) {
                self.fabric.write(self.queue, self.process, bytes, token, self.cause);
            }

            fn cause(&self) -> Cause {
                self.cause
            }

            fn set_cause(&mut self, cause: Cause) {
                self.cause = cause;
            }
        }
    )*};
}

contexts!(
    ApiMessage => Message::Api,
    EtcdMessage => Message::Etcd,
    ServerMessage => Message::from,
);

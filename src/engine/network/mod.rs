//! The network between processes: how long a message takes, in which order messages arrive, and what breaks.
//!
//! [`Network`] is a pure structure. It keeps no messages and schedules nothing: [`Network::send`] says when a message
//! arrives, the caller schedules the arrival and asks [`Network::arrive`] then whether it really does. What follows
//! from faults for messages and processes that are not at hand comes as [`Notice`]s.
//!
//! Two processes talk over one connection, which opens with the first message and is reliable, as TCP is: within a lane
//! messages arrive in the order sent, a lost packet shows as the delay of its retransmission, a partition holds
//! messages back until it heals, and a connection that hears nothing for the keepalive timeout breaks at both ends.
//! A connection breaks at once when a process crashes and its machine is alive to say so.
//!
//! - this file: the options, what a network answers, the path of a message
//! - `connection`: what is remembered between two processes, created with the first message
//! - `faults`: crash, restart, machines going down and up, partition, heal, keepalive

mod connection;
mod faults;
#[cfg(test)]
mod tests;

use super::distribution::Distribution;
use super::hash::Map;
use super::process::{Lane, ProcessId};
use super::random::{Ratio, Seed};
use super::sampler::Sampler;
use super::time::{SimDuration, SimTime};
use connection::{Connection, Held, ROUTES, Route};
use faults::Partition;
pub use faults::{Directions, PartitionId};

/// Names one machine for a whole run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MachineId(pub u32);

/// What a link between two machines is like, in one direction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkProfile {
    /// From the last bit sent to the last bit received.
    pub latency: Distribution,
    /// Messages leave one after the other at this rate. Zero means at once.
    pub bytes_per_second: u64,
    /// The share of packets that get lost. On a connection they are sent again, a datagram is gone.
    pub loss: Ratio,
    /// The share of datagrams that arrive twice. A connection drops the second copy by itself.
    pub duplication: Ratio,
}

/// What a network is like where nothing else was said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetworkOptions {
    /// Between different machines.
    pub remote: LinkProfile,
    /// Between processes of one machine.
    pub local: LinkProfile,
    /// A connection that hears nothing for so long is given up at both ends, unless [`Network::set_patience`] says otherwise.
    pub keepalive_timeout: SimDuration,
    /// How long a sender waits for an acknowledgement before it sends again; doubles with every attempt.
    pub first_retransmission: SimDuration,
    /// The longest such wait.
    pub longest_retransmission: SimDuration,
}

/// How long two processes stay with a connection that does not work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// A connection that hears nothing for so long is given up at both ends.
    pub silence: SimDuration,
    /// So is one over which something was sent that was not acknowledged for so long (TCP's user timeout).
    pub unacknowledged: SimDuration,
}

/// Names a message under way. The caller keeps it with the message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket {
    /// The connection, and in the lowest bit which of its ends sent.
    path: u32,
    /// Counts the messages of one direction of a connection.
    number: u32,
    lane: Lane,
}

/// What becomes of a message that was just sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// Ask [`Network::arrive`] at this time.
    At {
        /// When it arrives, if nothing happens in between.
        time: SimTime,
        /// Names the message.
        ticket: Ticket,
    },
    /// It cannot get through at present. Keep it: a [`Notice`] will say when it arrives, or that it is lost.
    Held {
        /// Names the message.
        ticket: Ticket,
    },
    /// It never arrives. Unless the sender itself is dead, a [`Notice::Lost`] for it is on the way.
    Dropped,
}

/// Whether a message really arrives at the time foreseen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// Hand it over.
    Deliver,
    /// An earlier message of its lane is still to come: ask again at this time.
    Later(SimTime),
    /// The way was cut meanwhile: keep it, as with [`Delivery::Held`].
    Held,
    /// Its connection broke: drop it.
    Lost,
}

/// A process that learns at `at` that its connections to `peer` broke. Ask [`Network::learns`] then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Loss {
    /// Who learns it.
    pub process: ProcessId,
    /// The incarnation that learns it.
    pub epoch: u32,
    /// The other end.
    pub peer: ProcessId,
    /// When.
    pub at: SimTime,
}

/// What the caller has to do after a call, in this order. Fetch them with [`Network::take_notices`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// A message that was held arrives at a time, subject to [`Network::arrive`].
    Deliver {
        /// Names the message.
        ticket: Ticket,
        /// When it arrives.
        at: SimTime,
    },
    /// A message that was held will never arrive.
    Discard {
        /// Names the message.
        ticket: Ticket,
    },
    /// A process is going to learn that a connection broke.
    Lost(Loss),
    /// Call [`Network::expire`] at this time.
    CheckAt(SimTime),
}

/// The network of one run.
#[derive(Debug)]
pub struct Network {
    seed: Seed,
    options: NetworkOptions,
    machines: Vec<bool>,
    processes: Vec<Process>,
    profiles: Vec<Profile>,
    overrides: Map<(MachineId, MachineId), u32>,
    links: Vec<Link>,
    link_of: Map<(MachineId, MachineId), u32>,
    connections: Vec<Connection>,
    connection_of: Map<(ProcessId, ProcessId), u32>,
    patience_of: Map<(ProcessId, ProcessId), Patience>,
    partitions: Vec<Partition>,
    next_partition: u32,
    notices: Vec<Notice>,
}

#[derive(Debug)]
struct Process {
    name: Box<str>,
    machine: MachineId,
    epoch: u32,
    alive: bool,
    routes: [Route; ROUTES],
}

/// A [`LinkProfile`] made ready for use.
#[derive(Debug)]
struct Profile {
    given: LinkProfile,
    latency: Sampler,
    picoseconds_per_byte: u64,
}

/// One direction between two machines that have talked.
#[derive(Debug)]
struct Link {
    from: MachineId,
    to: MachineId,
    profile: u32,
    blocked: bool,
    /// When it was last blocked, even if it no longer is.
    blocked_since: SimTime,
    /// When the last message handed to it has left.
    busy_until: SimTime,
}

/// Places of the two profiles that every network has.
const REMOTE: u32 = 0;
const LOCAL: u32 = 1;

impl Default for NetworkOptions {
    /// A healthy data centre: 100 us in the median and 400 us at the 99th percentile between machines at 10 Gbit/s,
    /// 15 us on one machine. Connections are given up after 45 s, as Go's HTTP/2 client does (a ping after 30 s of silence,
    /// 15 s for its answer), and retransmission follows Linux TCP (200 ms, doubling up to 120 s).
    fn default() -> Self {
        let link = |median, percentile_99, bytes_per_second| LinkProfile {
            latency: Distribution::log_normal(
                SimDuration::from_micros(median),
                SimDuration::from_micros(percentile_99),
            ),
            bytes_per_second,
            loss: Ratio::NEVER,
            duplication: Ratio::NEVER,
        };
        NetworkOptions {
            remote: link(100, 400, 1_250_000_000),
            local: link(15, 60, 0),
            keepalive_timeout: SimDuration::from_secs(45),
            first_retransmission: SimDuration::from_millis(200),
            longest_retransmission: SimDuration::from_secs(120),
        }
    }
}

impl Network {
    /// A network without machines. Streams of chance are named after the processes, so that one more process
    /// changes nothing between the others.
    pub fn new(seed: Seed, options: NetworkOptions) -> Self {
        let profiles = vec![Profile::new(options.remote.clone()), Profile::new(options.local.clone())];
        Network {
            seed,
            options,
            machines: Vec::new(),
            processes: Vec::new(),
            profiles,
            overrides: Map::default(),
            links: Vec::new(),
            link_of: Map::default(),
            connections: Vec::new(),
            connection_of: Map::default(),
            patience_of: Map::default(),
            partitions: Vec::new(),
            next_partition: 0,
            notices: Vec::new(),
        }
    }

    /// Adds a machine that is up. Machines are numbered from 0 in the order added.
    pub fn add_machine(&mut self) -> MachineId {
        self.machines.push(true);
        MachineId(self.machines.len() as u32 - 1)
    }

    /// Adds a process that is alive. Processes are numbered from 0 in the order added. The name should be its own.
    pub fn add_process(&mut self, name: &str, machine: MachineId) -> ProcessId {
        let alive = self.machines[machine.0 as usize];
        let routes = [Route::default(); ROUTES];
        self.processes.push(Process { name: name.into(), machine, epoch: 0, alive, routes });
        ProcessId(self.processes.len() as u32 - 1)
    }

    /// Changes what the link from one machine to another is like from now on.
    pub fn set_link(&mut self, from: MachineId, to: MachineId, profile: LinkProfile) {
        let number = self.profiles.len() as u32;
        self.profiles.push(Profile::new(profile));
        self.overrides.insert((from, to), number);
        if let Some(&link) = self.link_of.get(&(from, to)) {
            self.links[link as usize].profile = number;
        }
    }

    /// How long two processes stay with a connection that does not work. To be said before they talk.
    pub fn set_patience(&mut self, one: ProcessId, other: ProcessId, patience: Patience) {
        self.patience_of.insert((one.min(other), one.max(other)), patience);
    }

    /// The machine on which a process runs.
    pub fn machine(&self, process: ProcessId) -> MachineId {
        self.processes[process.0 as usize].machine
    }

    /// Whether a process is alive.
    pub fn is_alive(&self, process: ProcessId) -> bool {
        self.processes[process.0 as usize].alive
    }

    /// Whether all machines and processes are up, nothing is cut off, and no link loses anything.
    pub fn is_whole(&self) -> bool {
        self.partitions.is_empty()
            && self.machines.iter().all(|up| *up)
            && self.processes.iter().all(|process| process.alive)
            && self.profiles.iter().all(|profile| profile.given.loss.is_never())
    }

    /// How often a process has died so far: timers and disk requests of an earlier incarnation are void.
    pub fn epoch(&self, process: ProcessId) -> u32 {
        self.processes[process.0 as usize].epoch
    }

    /// Sender and receiver of a message under way.
    pub fn ends(&self, ticket: Ticket) -> (ProcessId, ProcessId) {
        let (index, side) = ticket.place();
        let ends = self.connections[index].ends;
        (ends[side], ends[1 - side])
    }

    /// Whether there is anything to be fetched with [`Network::take_notices`]: look after every call that changes the network.
    #[inline]
    pub fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    /// What the caller has to do after its last calls.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Sends a message that leaves its process `delay` after `now`.
    ///
    /// Its place in the queue of the link is that of the moment of the call: a long preparation does not keep others waiting.
    #[inline]
    pub fn send(
        &mut self,
        now: SimTime,
        from: ProcessId,
        to: ProcessId,
        lane: Lane,
        bytes: u64,
        delay: SimDuration,
    ) -> Delivery {
        let (index, side) = self.connection(now, from, to);
        let receiver_alive = self.is_alive(to);
        let connection = &mut self.connections[index];
        let heard = connection.directions[1 - side].knows_at;
        let direction = &mut connection.directions[side];
        let link = &mut self.links[direction.link as usize];
        let profile = &self.profiles[link.profile as usize];
        // Drawn whatever happens, so that a fault now does not shift the delays of later messages.
        let latency = profile.latency.sample(&mut direction.latency);
        let healthy = connection.established && receiver_alive && !link.blocked && now >= direction.knows_at;
        if !healthy || !profile.given.loss.is_never() {
            return self.send_in_trouble(now, index, side, lane, bytes, delay + latency);
        }
        let travel = link.transmit(now, profile, bytes) + delay + latency;
        let (time, number) = direction.place(lane, (now + travel).max(heard));
        Delivery::At { time, ticket: Ticket::new(index, side, number, lane) }
    }

    /// The rest of [`Network::send`] where something may be wrong, or the connection is not yet open.
    #[cold]
    fn send_in_trouble(
        &mut self,
        now: SimTime,
        index: usize,
        side: usize,
        lane: Lane,
        bytes: u64,
        travel: SimDuration,
    ) -> Delivery {
        let [sender, receiver] = [side, 1 - side].map(|end| self.connections[index].ends[end]);
        if !self.is_alive(sender) || (now < self.knows_at(index, side) && !self.can_be_refused(index, side)) {
            return Delivery::Dropped;
        }
        if self.is_stuck(index, side) {
            return self.hold_back(now, index, side, lane);
        }
        if !self.is_alive(receiver) {
            self.refuse(now, index, side, travel);
            return Delivery::Dropped;
        }
        let loss = self.link(index, side).loss(&self.profiles);
        let retransmission = match loss.is_never() {
            true => SimDuration::ZERO,
            false => match self.retransmission_delay(index, side, loss) {
                Some(delay) => delay,
                None => {
                    let end = now + self.connections[index].patience.unacknowledged;
                    self.break_for_both(index, end);
                    return Delivery::Dropped;
                }
            },
        };
        self.connections[index].open(now);
        self.connections[index].established = true;
        let heard = self.knows_at(index, 1 - side);
        let direction = &mut self.connections[index].directions[side];
        let link = &mut self.links[direction.link as usize];
        let waiting = link.transmit(now, &self.profiles[link.profile as usize], bytes);
        let (time, number) = direction.place(lane, (now + (waiting + travel + retransmission)).max(heard));
        Delivery::At { time, ticket: Ticket::new(index, side, number, lane) }
    }

    /// Keeps the place of a message that cannot leave.
    fn hold_back(&mut self, now: SimTime, index: usize, side: usize, lane: Lane) -> Delivery {
        if self.connections[index].open(now) {
            self.notices.push(Notice::CheckAt(now + self.connections[index].patience.silence));
        }
        self.note_held(now, index, side);
        let direction = &mut self.connections[index].directions[side];
        let number = direction.next_number();
        direction.trouble().held.push(Held { lane, number, since: now, arrived: false });
        Delivery::Held { ticket: Ticket::new(index, side, number, lane) }
    }

    /// A message is about to be held back: the first one may end the connection before its silence does.
    fn note_held(&mut self, now: SimTime, index: usize, side: usize) {
        let Patience { silence, unacknowledged } = self.connections[index].patience;
        if unacknowledged < silence && self.connections[index].directions[side].held().is_empty() {
            self.notices.push(Notice::CheckAt(now + unacknowledged));
        }
    }

    /// Says at the time foreseen for a message whether it arrives.
    #[inline]
    pub fn arrive(&mut self, now: SimTime, ticket: Ticket) -> Arrival {
        let (index, side) = ticket.place();
        let direction = &mut self.connections[index].directions[side];
        if direction.is_void(ticket.number) {
            return Arrival::Lost;
        }
        let link = &self.links[direction.link as usize];
        if link.blocked {
            let (lane, number, since) = (ticket.lane, ticket.number, link.blocked_since);
            self.note_held(since.max(now), index, side);
            let trouble = self.connections[index].directions[side].trouble();
            trouble.held.push(Held { lane, number, since, arrived: true });
            return Arrival::Held;
        }
        match direction.resumption(ticket.lane) {
            Some(resumed) if resumed.keeps_waiting(now, ticket.number) => Arrival::Later(resumed.at),
            _ => Arrival::Deliver,
        }
    }

    /// Sends a datagram: no connection, no order, no retransmission, no notices. Returns when it arrives: never, once or twice.
    /// The caller drops it if the receiver is dead by then.
    pub fn send_datagram(
        &mut self,
        now: SimTime,
        from: ProcessId,
        to: ProcessId,
        bytes: u64,
        delay: SimDuration,
    ) -> [Option<SimTime>; 2] {
        let (index, side) = self.connection(now, from, to);
        let direction = &mut self.connections[index].directions[side];
        let link = &mut self.links[direction.link as usize];
        let profile = &self.profiles[link.profile as usize];
        let latency = profile.latency.sample(&mut direction.latency);
        let sent = now + link.transmit(now, profile, bytes) + delay;
        let blocked = link.blocked;
        let (loss, duplication) = (profile.given.loss, profile.given.duplication);
        let chance = connection::chance(self.seed, &self.processes, &mut self.connections[index], side);
        let lost = !loss.is_never() && chance.happens(loss);
        let twice = !duplication.is_never() && chance.happens(duplication);
        let second = twice.then(|| sent + profile.latency.sample(chance));
        if blocked || lost { [None, None] } else { [Some(sent + latency), second] }
    }
}

impl Ticket {
    fn new(index: usize, side: usize, number: u32, lane: Lane) -> Self {
        Ticket { path: (index as u32) << 1 | side as u32, number, lane }
    }

    /// The connection's index, and which of its ends sent.
    fn place(self) -> (usize, usize) {
        ((self.path >> 1) as usize, (self.path & 1) as usize)
    }
}

impl Profile {
    fn new(given: LinkProfile) -> Self {
        let picoseconds_per_byte = 1_000_000_000_000u64.checked_div(given.bytes_per_second).unwrap_or(0);
        Profile { latency: Sampler::new(given.latency.clone()), given, picoseconds_per_byte }
    }
}

impl Link {
    /// Hands over a message and returns how long it takes until the last byte has left.
    #[inline]
    fn transmit(&mut self, now: SimTime, profile: &Profile, bytes: u64) -> SimDuration {
        let duration = SimDuration::from_nanos(bytes.saturating_mul(profile.picoseconds_per_byte) / 1000);
        self.busy_until = self.busy_until.max(now) + duration;
        self.busy_until.since(now)
    }

    fn loss(&self, profiles: &[Profile]) -> Ratio {
        profiles[self.profile as usize].given.loss
    }
}

//! What the network remembers between two processes; created with the first message between them.

use super::{LOCAL, Link, MachineId, Network, Patience, Process, REMOTE};
use crate::engine::process::{Lane, ProcessId};
use crate::engine::random::{Seed, Stream};
use crate::engine::time::SimTime;
use smallvec::SmallVec;

/// How many routes a process knows by heart; a power of two. Whoever talks to few others, as most do, looks nothing up.
pub(super) const ROUTES: usize = 4;

/// The connection to a process that was sent something lately. Connections are never taken away.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Route {
    pub to: Option<ProcessId>,
    pub connection: u32,
}

/// All that two processes have to do with one another.
#[derive(Debug)]
pub(super) struct Connection {
    /// The two processes, the smaller number first.
    pub ends: [ProcessId; 2],
    /// What each end sends to the other.
    pub directions: [Direction; 2],
    /// A message got through since the connection last broke: until then it needs both directions, as a handshake does.
    pub established: bool,
    /// When the first message since the last break was sent; none if there was none.
    pub opened: Option<SimTime>,
    /// How long the ends stay with it when it does not work.
    pub patience: Patience,
}

/// One direction of a connection, and what its sender knows.
#[derive(Debug)]
pub(super) struct Direction {
    pub link: u32,
    pub latency: Stream,
    /// When the sender learns (or learnt) that the connection broke last. What it sends before is lost.
    pub knows_at: SimTime,
    /// The receiver's end is gone and nothing has told the sender yet.
    pub uninformed: bool,
    next: u32,
    /// Messages with smaller numbers were sent before the last break.
    first_valid: u32,
    lanes: SmallVec<[LaneState; 2]>,
    pub trouble: Option<Box<Trouble>>,
}

#[derive(Clone, Copy, Debug)]
struct LaneState {
    lane: Lane,
    /// When the message sent last arrives.
    last: SimTime,
}

/// What only a direction with faults needs.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Messages that could not get through.
    pub held: Vec<Held>,
    /// Lanes whose messages were sent again.
    pub resumed: SmallVec<[Resumption; 1]>,
    /// Decides on losses and duplicates and on delays that a healthy network would not have had.
    pub chance: Option<Stream>,
}

/// A message that could not get through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub lane: Lane,
    pub number: u32,
    /// When the attempts to get it through began.
    pub since: SimTime,
    /// It was already under way when the link was cut.
    pub arrived: bool,
}

/// After a lane was cut while messages were under way: the lost ones, up to a number, arrive at a time, and what was sent after
/// them and was never held must not overtake them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resumption {
    pub lane: Lane,
    pub through: u32,
    pub at: SimTime,
}

impl Resumption {
    pub fn keeps_waiting(&self, now: SimTime, number: u32) -> bool {
        now < self.at && is_after(number, self.through)
    }
}

/// Whether `number` was counted after `other`, also where the counter began anew in between.
fn is_after(number: u32, other: u32) -> bool {
    number.wrapping_sub(other).cast_signed() > 0
}

impl Connection {
    /// Notes that a message was sent; true if it is the first since the last break.
    pub fn open(&mut self, now: SimTime) -> bool {
        let first = self.opened.is_none();
        self.opened.get_or_insert(now);
        first
    }
}

impl Direction {
    fn new(link: u32, latency: Stream) -> Self {
        Direction {
            link,
            latency,
            knows_at: SimTime::ZERO,
            uninformed: false,
            next: 0,
            first_valid: 0,
            lanes: SmallVec::new(),
            trouble: None,
        }
    }

    /// The number of a message sent now.
    #[inline]
    pub fn next_number(&mut self) -> u32 {
        let number = self.next;
        self.next = number.wrapping_add(1);
        number
    }

    /// Puts a message behind those of its lane: returns when it arrives and its number.
    #[inline]
    pub fn place(&mut self, lane: Lane, earliest: SimTime) -> (SimTime, u32) {
        let number = self.next_number();
        (self.push_back(lane, earliest), number)
    }

    /// The earliest arrival on a lane that is neither before `earliest` nor before that of an earlier message.
    #[inline]
    pub fn push_back(&mut self, lane: Lane, earliest: SimTime) -> SimTime {
        for state in &mut self.lanes {
            if state.lane == lane {
                state.last = state.last.max(earliest);
                return state.last;
            }
        }
        self.lanes.push(LaneState { lane, last: earliest });
        earliest
    }

    /// Whether the message with this number was sent before the last break.
    #[inline]
    pub fn is_void(&self, number: u32) -> bool {
        is_after(self.first_valid, number)
    }

    /// Forgets all messages under way. Returns those that were held.
    pub fn cut(&mut self) -> Vec<Held> {
        self.first_valid = self.next;
        self.lanes.clear();
        let Some(trouble) = &mut self.trouble else { return Vec::new() };
        trouble.resumed.clear();
        std::mem::take(&mut trouble.held)
    }

    /// The messages that could not get through, in the order in which that was noticed.
    pub fn held(&self) -> &[Held] {
        self.trouble.as_ref().map_or(&[], |trouble| &trouble.held)
    }

    pub fn trouble(&mut self) -> &mut Trouble {
        self.trouble.get_or_insert_default()
    }

    /// How a lane was resumed after it was last cut while messages were under way.
    #[inline]
    pub fn resumption(&self, lane: Lane) -> Option<Resumption> {
        self.trouble.as_ref()?.resumed.iter().find(|resumed| resumed.lane == lane).copied()
    }
}

/// The stream that decides on faults of one direction.
pub(super) fn chance<'a>(
    seed: Seed,
    processes: &[Process],
    connection: &'a mut Connection,
    side: usize,
) -> &'a mut Stream {
    let [from, to] = [side, 1 - side].map(|end| &*processes[connection.ends[end].0 as usize].name);
    let trouble = connection.directions[side].trouble();
    trouble.chance.get_or_insert_with(|| seed.stream(&format!("{from}>{to}"), "network faults"))
}

impl Network {
    /// The connection between two processes and the end at which the first one is.
    #[inline]
    pub(super) fn connection(&mut self, now: SimTime, from: ProcessId, to: ProcessId) -> (usize, usize) {
        let side = usize::from(from > to);
        let route = &self.processes[from.0 as usize].routes[to.0 as usize % ROUTES];
        if route.to == Some(to) { (route.connection as usize, side) } else { (self.look_up(now, from, to), side) }
    }

    /// The connection between two processes, which becomes one of the routes of the first.
    #[inline(never)]
    fn look_up(&mut self, now: SimTime, from: ProcessId, to: ProcessId) -> usize {
        let ends = (from.min(to), from.max(to));
        let index = match self.connection_of.get(&ends) {
            Some(&index) => index as usize,
            None => self.create_connection(now, ends),
        };
        self.processes[from.0 as usize].routes[to.0 as usize % ROUTES] =
            Route { to: Some(to), connection: index as u32 };
        index
    }

    #[cold]
    fn create_connection(&mut self, now: SimTime, ends: (ProcessId, ProcessId)) -> usize {
        let index = self.connections.len();
        assert!(index < 1 << 31, "at most 2^31 pairs of processes may talk");
        let mut direction = |from: ProcessId, to: ProcessId| {
            let link = self.link_between(now, self.machine(from), self.machine(to));
            let [from, to] = [from, to].map(|process| &*self.processes[process.0 as usize].name);
            Direction::new(link, self.seed.stream(&format!("{from}>{to}"), "network latency"))
        };
        let directions = [direction(ends.0, ends.1), direction(ends.1, ends.0)];
        let given = self.patience_of.get(&ends).copied();
        let patience = given.unwrap_or_else(|| {
            let timeout = self.options.keepalive_timeout;
            Patience { silence: timeout, unacknowledged: timeout }
        });
        let ends = [ends.0, ends.1];
        self.connections.push(Connection { ends, directions, established: false, opened: None, patience });
        self.connection_of.insert((ends[0], ends[1]), index as u32);
        index
    }

    fn link_between(&mut self, now: SimTime, from: MachineId, to: MachineId) -> u32 {
        if let Some(&link) = self.link_of.get(&(from, to)) {
            return link;
        }
        let default = if from == to { LOCAL } else { REMOTE };
        let profile = self.overrides.get(&(from, to)).copied().unwrap_or(default);
        let blocked = self.is_cut(from, to);
        let blocked_since = if blocked { now } else { SimTime::ZERO };
        let link = Link { from, to, profile, blocked, blocked_since, busy_until: SimTime::ZERO };
        self.links.push(link);
        let number = self.links.len() as u32 - 1;
        self.link_of.insert((from, to), number);
        number
    }

    /// The link over which an end of a connection sends.
    pub(super) fn link(&self, index: usize, side: usize) -> &Link {
        &self.links[self.connections[index].directions[side].link as usize]
    }

    /// When an end of a connection learns that it broke last.
    pub(super) fn knows_at(&self, index: usize, side: usize) -> SimTime {
        self.connections[index].directions[side].knows_at
    }
}

//! The conversation with etcd: the client of the real API server (etcd, client/v3), which is connected with all members.
//!
//! - A request goes to the next member that is connected (gRPC's policy `round_robin`, from a random member on). While none is, it
//!   waits (`WaitForReady`).
//! - A connection that is lost is opened again at once, and if that fails after waits that grow (gRPC's connection back-off).
//! - The watch cache of each kind has a stream of its own, on the member whose turn it was when the stream was opened: the real
//!   server has a client for each resource. So have clients' watches of kinds without a watch cache.
//!
//! A connection counts as open once the member has answered a question about its state. What may be asked again when a
//! connection is lost, the server decides.

use std::collections::VecDeque;

use crate::api::kind::{Kind, REGISTRY};
use crate::engine::hash::Map;
use crate::engine::process::{Context, ProcessId, Token};
use crate::engine::random::Stream;
use crate::engine::time::{SimDuration, SimTime};
use crate::etcd::key::KeyRange;
use crate::etcd::message::{CLIENT_LANE, Message, Request, WatchCommand};
use crate::etcd::watch::WatchRequest;

use super::server::{ServerMessage, token};
use super::storage::{self, EtcdRequest};

/// The first wait before a connection is tried again (grpc, backoff.DefaultConfig: `BaseDelay`).
const FIRST_WAIT: SimDuration = SimDuration::from_secs(1);
/// The longest such wait (`MaxDelay`).
const LONGEST_WAIT: SimDuration = SimDuration::from_secs(120);

/// The way to etcd.
#[derive(Debug)]
pub struct Link {
    members: Vec<Endpoint>,
    chance: Stream,
    /// The member whose turn it is.
    turn: usize,
    /// The number of the next request, apart from what in it tells the member.
    next_id: u64,
    /// Requests that wait for a connection.
    waiting: VecDeque<Waiting>,
    /// Where those went that had waited.
    late: Map<u64, usize>,
    /// The watch stream of each kind.
    streams: Vec<Watching>,
    next_stream: u32,
    /// The members of the streams that belong to single clients.
    others: Map<u32, usize>,
}

/// A request that waits for a connection.
#[derive(Debug)]
struct Waiting {
    id: u64,
    request: EtcdRequest,
    until: SimTime,
}

/// A member, as the client sees it.
#[derive(Debug)]
struct Endpoint {
    process: ProcessId,
    connected: bool,
    /// How often in a row it could not be reached.
    failures: u32,
}

/// The watch of one kind.
#[derive(Clone, Copy, Debug)]
enum Watching {
    /// There is none.
    Nothing,
    /// It waits for a connection; from this revision on.
    Waits(u64),
    /// It runs on a stream of a member.
    Runs { stream: u32, member: usize },
}

impl Link {
    /// A link to these members. It does nothing before [`Link::connect`].
    pub fn new(members: Vec<ProcessId>, mut chance: Stream) -> Self {
        assert!(!members.is_empty(), "an API server needs etcd");
        assert!(members.len() < 32, "etcd has few members");
        let turn = chance.below(members.len() as u64) as usize;
        let endpoint = |process| Endpoint { process, connected: false, failures: 0 };
        Link {
            members: members.into_iter().map(endpoint).collect(),
            chance,
            turn,
            next_id: 0,
            waiting: VecDeque::new(),
            late: Map::default(),
            streams: vec![Watching::Nothing; REGISTRY.len()],
            next_stream: 0,
            others: Map::default(),
        }
    }

    /// Opens connections to all members.
    pub fn connect(&mut self, ctx: &mut dyn Context<ServerMessage>) {
        for member in 0..self.members.len() {
            self.try_member(member, ctx);
        }
    }

    /// Tries a member that could not be reached once more.
    pub fn try_member(&mut self, member: usize, ctx: &mut dyn Context<ServerMessage>) {
        if let Some(endpoint) = self.members.get(member)
            && !endpoint.connected
        {
            let message = Message::Request { id: member as u64, request: Request::Status, timeout: None };
            ctx.send(endpoint.process, CLIENT_LANE, ServerMessage::Etcd(message));
        }
    }

    /// Takes an answer if it is a member's first one on a connection: what has waited goes out. False for all other answers.
    pub fn is_greeting(&mut self, id: u64, ctx: &mut dyn Context<ServerMessage>) -> bool {
        let Some(endpoint) = usize::try_from(id).ok().and_then(|member| self.members.get_mut(member)) else {
            return false;
        };
        (endpoint.connected, endpoint.failures) = (true, 0);
        while let Some(Waiting { id, request, until }) = self.waiting.pop_front() {
            if let Some(member) = self.next_member() {
                self.late.insert(id, member);
                let timeout = timeout_of(until, ctx);
                self.send(member, SimDuration::ZERO, Message::Request { id, request, timeout }, ctx);
            }
        }
        for kind in Kind::all() {
            if let Watching::Waits(from) = self.streams[kind as usize] {
                self.watch(kind, from, ctx);
            }
        }
        true
    }

    /// The connection to a member is lost, or could not be opened. Returns the kinds whose watches ran over it.
    pub fn lost(&mut self, process: ProcessId, ctx: &mut dyn Context<ServerMessage>) -> Vec<Kind> {
        let Some(place) = self.members.iter().position(|endpoint| endpoint.process == process) else {
            return Vec::new();
        };
        if std::mem::replace(&mut self.members[place].connected, false) {
            self.try_member(place, ctx);
        } else {
            let wait = self.wait_after(self.members[place].failures);
            self.members[place].failures += 1;
            ctx.set_timer(ctx.now() + wait, token::CONNECT + place as Token);
        }
        let ran =
            |kind: &Kind| matches!(self.streams[*kind as usize], Watching::Runs { member, .. } if member == place);
        let kinds: Vec<Kind> = Kind::all().filter(ran).collect();
        for kind in &kinds {
            self.streams[*kind as usize] = Watching::Nothing;
        }
        self.others.retain(|_, member| *member != place);
        kinds
    }

    /// Waits grow by 1.6, a fifth more or less (grpc, internal/backoff: `Exponential.Backoff`).
    fn wait_after(&mut self, failures: u32) -> SimDuration {
        if failures == 0 {
            return FIRST_WAIT;
        }
        let mut wait = FIRST_WAIT;
        for _ in 0..failures {
            wait = SimDuration::from_nanos((wait.as_nanos() / 5 * 8).min(LONGEST_WAIT.as_nanos()));
        }
        let fifth = wait.as_nanos() / 5;
        SimDuration::from_nanos(wait.as_nanos() - fifth + self.chance.below(2 * fifth + 1))
    }

    /// True if this process is an etcd member.
    pub fn knows(&self, process: ProcessId) -> bool {
        self.members.iter().any(|endpoint| endpoint.process == process)
    }

    /// How many members are a quorum.
    pub fn quorum(&self) -> usize {
        self.members.len() / 2 + 1
    }

    /// How many members are connected.
    pub fn connected(&self) -> usize {
        self.members.iter().filter(|endpoint| endpoint.connected).count()
    }

    /// The next connected member.
    fn next_member(&mut self) -> Option<usize> {
        let count = self.members.len();
        let next = (0..count).map(|step| (self.turn + step) % count).find(|member| self.members[*member].connected)?;
        self.turn = (next + 1) % count;
        Some(next)
    }

    /// True if a request of this number went to a member: what went there is lost only with the connection to it.
    pub fn went_to(&self, id: u64, process: ProcessId) -> bool {
        let place = id % self.places();
        let member = if place + 1 == self.places() { self.late.get(&id).copied() } else { Some(place as usize) };
        member.is_some_and(|member| self.members[member].process == process)
    }

    /// Numbers of requests tell the member; one place more is for those that have to wait for one.
    fn places(&self) -> u64 {
        self.members.len() as u64 + 1
    }

    /// Sends a request after some work on it, which nobody waits for after a time; returns its number.
    pub fn request(
        &mut self,
        delay: SimDuration,
        request: EtcdRequest,
        until: SimTime,
        ctx: &mut dyn Context<ServerMessage>,
    ) -> u64 {
        self.next_id += 1;
        let member = self.next_member();
        let place = member.unwrap_or(self.members.len());
        let id = self.next_id * self.places() + place as u64;
        match member {
            Some(member) => {
                let timeout = timeout_of(until, ctx);
                self.send(member, delay, Message::Request { id, request, timeout }, ctx);
            }
            None => self.waiting.push_back(Waiting { id, request, until }),
        }
        id
    }

    /// Takes back a request that still waits for a connection; false if it does not.
    pub fn take_back(&mut self, id: u64) -> bool {
        let place = self.waiting.iter().position(|waiting| waiting.id == id);
        place.and_then(|place| self.waiting.remove(place)).is_some()
    }

    /// Forgets where a request went that has been answered.
    pub fn answered(&mut self, id: u64) {
        if !self.late.is_empty() {
            self.late.remove(&id);
        }
    }

    /// Watches all objects of a kind from a revision on, on a stream of its own.
    pub fn watch(&mut self, kind: Kind, from: u64, ctx: &mut dyn Context<ServerMessage>) {
        if let Watching::Runs { stream, member } = self.streams[kind as usize]
            && self.members[member].connected
        {
            self.send(member, SimDuration::ZERO, Message::Watch { stream, command: WatchCommand::Close }, ctx);
        }
        let Some(member) = self.next_member() else {
            self.streams[kind as usize] = Watching::Waits(from);
            return;
        };
        self.next_stream += 1;
        let stream = self.next_stream;
        self.streams[kind as usize] = Watching::Runs { stream, member };
        let range = KeyRange::Prefix(storage::prefix(kind));
        let mut request = WatchRequest::new(kind as u64, range, from);
        request.previous = true;
        let command = WatchCommand::Create { request, require_leader: true };
        self.send(member, SimDuration::ZERO, Message::Watch { stream, command }, ctx);
    }

    /// Watches a range from a revision on, on a stream of its own, whose number is returned; none while no member is connected.
    pub fn open(&mut self, range: KeyRange, from: u64, ctx: &mut dyn Context<ServerMessage>) -> Option<u32> {
        let member = self.next_member()?;
        self.next_stream += 1;
        let stream = self.next_stream;
        self.others.insert(stream, member);
        let request = WatchRequest { previous: true, ..WatchRequest::new(0, range, from) };
        let command = WatchCommand::Create { request, require_leader: true };
        self.send(member, SimDuration::ZERO, Message::Watch { stream, command }, ctx);
        Some(stream)
    }

    /// True if a stream that was opened still runs.
    pub fn is_open(&self, stream: u32) -> bool {
        self.others.contains_key(&stream)
    }

    /// Ends a stream that was opened.
    pub fn close(&mut self, stream: u32, ctx: &mut dyn Context<ServerMessage>) {
        if let Some(member) = self.others.remove(&stream) {
            self.send(member, SimDuration::ZERO, Message::Watch { stream, command: WatchCommand::Close }, ctx);
        }
    }

    /// The kind whose watch runs on a stream; what older streams still bring is void.
    pub fn kind_of(&self, stream: u32) -> Option<Kind> {
        Kind::all()
            .find(|kind| matches!(self.streams[*kind as usize], Watching::Runs { stream: own, .. } if own == stream))
    }

    /// True if the watch of a kind runs, or will as soon as a member is connected.
    pub fn watches(&self, kind: Kind) -> bool {
        !matches!(self.streams[kind as usize], Watching::Nothing)
    }

    /// The stream of a kind was ended by the member.
    pub fn closed(&mut self, kind: Kind) {
        self.streams[kind as usize] = Watching::Nothing;
    }

    /// Asks how far the watch of a kind has come.
    pub fn ask_progress(&self, kind: Kind, ctx: &mut dyn Context<ServerMessage>) {
        if let Watching::Runs { stream, member } = self.streams[kind as usize] {
            self.send(member, SimDuration::ZERO, Message::Watch { stream, command: WatchCommand::Progress }, ctx);
        }
    }

    fn send(
        &self,
        member: usize,
        delay: SimDuration,
        message: Message<storage::Stored>,
        ctx: &mut dyn Context<ServerMessage>,
    ) {
        ctx.send_after(delay, self.members[member].process, CLIENT_LANE, ServerMessage::Etcd(message));
    }
}

/// How long somebody still waits; none if there is no end to it.
fn timeout_of(until: SimTime, ctx: &dyn Context<ServerMessage>) -> Option<SimDuration> {
    (until != SimTime::MAX).then(|| until.since(ctx.now()))
}

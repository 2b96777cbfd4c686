//! A member of an etcd cluster as a process on a machine.
//!
//! It drives the consensus core and carries out what that decides, in the order of etcd's raft loop
//! (etcd: etcdserver/raft.go):
//!
//! 1. a change of leader is made known, confirmed reads are noted;
//! 2. committed entries are applied to the store, watchers are told, clients get their answers;
//! 3. a leader sends its messages;
//! 4. new entries, term and vote are written and synced;
//! 5. a follower sends its messages, and the next batch begins.
//!
//! While a sync is under way nothing of this happens: what arrives is gathered by the core and goes into the next batch
//! together, and ticks are missed, as one goroutine does both in etcd. So a leader with a hung disk goes silent.
//!
//! - `disk`: what survives a crash, starting, and snapshots
//! - `batch`: the batches of the consensus core, as above
//! - `apply`: committed entries
//! - `request`: requests that go through the log, and how long they wait
//! - `read`: linearizable reads
//! - `lease`: expiry and keep-alive
//! - `stream`: watch streams
//! - `membership`: adding, promoting and removing members, moving the leadership
//!
//! Not modelled: authentication, quota and its alarm, the time that applying takes. A promotion of a learner is refused by
//! followers, where a real one forwards it to the leader. A keep-alive that a follower forwards is sent again every half
//! second, where a real one tries every 50 ms after an error.

mod apply;
mod batch;
mod disk;
mod lease;
mod membership;
mod read;
mod request;
mod stream;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use self::disk::Disk;
use self::lease::Leases;
use self::membership::{Active, PendingChange};
use self::read::Reads;
use self::request::{Asker, Parked, Waiting};
use self::stream::Streams;
use super::error::Error;
use super::message::{
    APPEND_LANE, CLIENT_LANE, Logged, Message, PEER_LANE, Reply, Response, SNAPSHOT_LANE, StoreSnapshot,
};
use super::mvcc::{Diverged, SharedStore, View};
use super::raft::{self, Body, Corruption, Entry, MemberId, Payload, Raft, Ready, Role, StepError};
use super::value::Value;
use crate::engine::process::{Cause, Context, Input, ProcessId, Token};
use crate::engine::random::{Seed, Stream};
use crate::engine::time::{SimDuration, SimTime};

/// How a member behaves. The defaults are etcd's.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The unit of Raft's time.
    pub tick: SimDuration,
    /// Elections and replication.
    pub raft: raft::Settings,
    /// A snapshot is taken after so many applied entries.
    pub snapshot_entries: u64,
    /// Entries before the snapshot that stay in the log, for members that are only a little behind.
    pub catch_up_entries: u64,
    /// How long a member works on an answer or a watch response before it is sent.
    pub serve: SimDuration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            tick: SimDuration::from_millis(100),
            raft: raft::Settings::default(),
            snapshot_entries: 10_000,
            catch_up_entries: 5_000,
            serve: SimDuration::from_micros(50),
        }
    }
}

impl Settings {
    /// The base election timeout.
    pub fn election_timeout(&self) -> SimDuration {
        self.tick * self.raft.election_ticks
    }

    /// How long a request may wait for its entry to be applied: five seconds and two election timeouts.
    pub fn request_timeout(&self) -> SimDuration {
        SimDuration::from_secs(5) + self.election_timeout() * 2
    }
}

/// The id that a process has as a member.
pub fn member_id(process: ProcessId) -> MemberId {
    MemberId(u64::from(process.0))
}

/// The process of a member.
pub fn process_of(member: MemberId) -> ProcessId {
    // Ids are made from processes only.
    ProcessId(u32::try_from(member.0).unwrap_or(u32::MAX))
}

/// Why a member has ended by itself. A real one ends with a panic and does not start again on this disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The disk has lost what the member had acknowledged.
    Corrupted(Corruption),
    /// Raft is broken: another member has applied another entry in this place.
    Diverged(Diverged),
    /// The member was removed from the cluster.
    Removed,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Corrupted(corruption) => corruption.fmt(f),
            Failure::Diverged(diverged) => diverged.fmt(f),
            Failure::Removed => f.write_str("the member has been removed from the cluster"),
        }
    }
}

impl std::error::Error for Failure {}

/// What timers mean. A disk request carries [`SYNC`].
mod token {
    use super::Token;
    pub const TICK: Token = 1;
    pub const DEADLINE: Token = 2;
    pub const READ_RETRY: Token = 3;
    pub const WATCH_SYNC: Token = 4;
    pub const WATCH_PROGRESS: Token = 5;
    pub const LEASE_SCAN: Token = 6;
    pub const FAST_FORWARD: Token = 7;
    pub const LEADER_MONITOR: Token = 8;
    pub const KEEP_ALIVE: Token = 9;
    pub const TRANSFER: Token = 10;
    pub const READ_DEADLINE: Token = 11;
}

/// The token of the one sync that may be under way.
const SYNC: Token = 1;

/// How long after its start a member waits for connections before it lets go of the shortened first election timeout.
const CONNECT_WAIT: SimDuration = SimDuration::from_secs(5);
/// How often it looks.
const CONNECT_POLL: SimDuration = SimDuration::from_millis(50);
/// A snapshot that was not acknowledged for so long counts as lost.
const SNAPSHOT_TIMEOUT: SimDuration = SimDuration::from_secs(30);

type Core<V> = Raft<Logged<V>, StoreSnapshot>;

/// A member of an etcd cluster. It is created once; a crash takes its volatile state, a start builds it anew from its disk.
#[derive(Debug)]
pub struct Member<V> {
    own: ProcessId,
    settings: Settings,
    seed: Seed,
    name: String,
    disk: Disk<V>,
    view: View<V>,
    running: Option<Box<Running<V>>>,
    /// The membership as it was applied here before the last crash.
    left: raft::Configuration,
    failure: Option<Failure>,
}

/// The volatile state of a member.
#[derive(Debug)]
struct Running<V> {
    raft: Core<V>,
    /// The batch under way, or an empty one whose buffers are used again.
    ready: Option<Box<Ready<Logged<V>, StoreSnapshot>>>,
    syncing: bool,
    started: SimTime,
    next_tick: SimTime,
    last_tick: SimTime,
    /// A tick that fell into a sync; a ticker holds one and drops the others.
    missed_tick: bool,
    /// The leader that this process knows of: what the core said in its last batch. While the disk hangs it may be the
    /// process itself although the core has long heard of another.
    leader: Option<MemberId>,
    /// When this member last became leader.
    leader_since: SimTime,
    /// Since when each peer has been heard of without a break.
    active: Active,
    removed: BTreeSet<MemberId>,
    fast_forwarded: bool,
    snapshots_sent: Vec<(MemberId, SimTime)>,
    /// What the disk holds while a received snapshot has taken the log's place in memory but is not written yet.
    before_snapshot: Option<raft::Durable<Logged<V>, StoreSnapshot>>,
    chance: Stream,
    /// The last event that brought entries.
    entered: Cause,
    /// The last entry that was applied, and what its effects were ascribed to.
    committed: (u64, Cause),
    /// The entry to which the event being handled leads back: the last one of those that travelled together.
    named: Option<u64>,
    waiting: Waiting,
    parked: Parked<V>,
    reads: Reads<V>,
    leases: Leases,
    streams: Streams,
    changes: Vec<PendingChange>,
}

impl<V: Value> Member<V> {
    /// A member of the cluster that began with `voters`. A process that is not among them joins: it waits until a
    /// [`MemberAdd`](super::message::Request::MemberAdd) names it, and learns from the log who belongs to the cluster now.
    pub fn new(
        own: ProcessId,
        name: &str,
        voters: &[ProcessId],
        settings: Settings,
        seed: Seed,
        store: &SharedStore<V>,
    ) -> Member<V> {
        let first = raft::Configuration::new(voters.iter().copied().map(member_id), []);
        let disk = Disk::new(first.clone());
        let mut view = store.view();
        view.crash();
        Member { own, settings, seed, name: name.to_owned(), disk, view, running: None, left: first, failure: None }
    }

    /// Handles what happens to the member. Nothing but [`Input::Start`] reaches one that does not run.
    pub fn handle(&mut self, input: Input<Message<V>>, ctx: &mut dyn Context<Message<V>>) {
        if let Input::Start = input {
            self.start(ctx);
            return;
        }
        let Some(running) = &mut self.running else { return };
        let mut at = Act { settings: &self.settings, view: &mut self.view, disk: &mut self.disk, ctx };
        let result = running.handle(input, &mut at).and_then(|()| running.pump(&mut at));
        if let Err(failure) = result {
            self.fail(failure);
        }
    }

    /// The process is killed, or its machine loses power: what was not synced is lost.
    pub fn crash(&mut self, now: SimTime) {
        if let Some(running) = self.running.take() {
            self.left = running.raft.configuration().clone();
            running.leave_on_disk(&mut self.disk, &mut self.view, now);
            self.view.crash();
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.failure = Some(failure);
        self.running = None;
        self.view.crash();
    }

    /// Why the member has ended by itself, if it has.
    pub fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// Whether the member runs.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether the member's consensus core leads.
    pub fn is_leader(&self) -> bool {
        self.core().is_some_and(|raft| raft.role() == Role::Leader)
    }

    /// The consensus core of a running member, for those who watch over invariants.
    pub fn core(&self) -> Option<&Raft<Logged<V>, StoreSnapshot>> {
        self.running.as_ref().map(|running| &running.raft)
    }

    /// What the disk of a member that does not run holds, for those who watch over invariants.
    pub fn disk(&self) -> Option<&raft::Durable<Logged<V>, StoreSnapshot>> {
        self.running.is_none().then(|| self.disk.durable())
    }

    /// The membership as far as it has been applied here; of a member that does not run, as it was when it crashed.
    pub fn configuration(&self) -> &raft::Configuration {
        self.core().map_or(&self.left, Raft::configuration)
    }

    /// What the member sees of the store; of one that does not run, what it saw when it crashed.
    pub fn view(&self) -> &View<V> {
        &self.view
    }
}

/// What a handler works with beside the volatile state.
struct Act<'a, V> {
    settings: &'a Settings,
    view: &'a mut View<V>,
    disk: &'a mut Disk<V>,
    ctx: &'a mut dyn Context<Message<V>>,
}

impl<V: Value> Act<'_, V> {
    fn now(&self) -> SimTime {
        self.ctx.now()
    }

    /// Answers a client.
    fn respond(&mut self, client: ProcessId, id: u64, result: Result<Reply<V>, Error>) {
        let response = Response { id, revision: self.view.revision(), result };
        self.ctx.send_after(self.settings.serve, client, CLIENT_LANE, Message::Response(response));
    }
}

impl<V: Value> Running<V> {
    /// Whether this process takes itself for the leader.
    fn leads(&self) -> bool {
        self.leader == Some(self.raft.id())
    }

    fn handle(&mut self, input: Input<Message<V>>, at: &mut Act<'_, V>) -> Result<(), Failure> {
        self.named = None;
        match input {
            Input::Start => {}
            Input::Message { from, message } => self.receive(from, message, at)?,
            Input::Timer { token } => self.timer(token, at),
            Input::DiskDone { .. } => self.synced(at)?,
            Input::ConnectionLost { peer } => {
                let member = member_id(peer);
                self.active.lose(member);
                self.raft.report_unreachable(member);
                self.raft.report_snapshot(member, false);
                self.streams.drop_client(peer);
            }
        }
        Ok(())
    }

    fn receive(&mut self, from: ProcessId, message: Message<V>, at: &mut Act<'_, V>) -> Result<(), Failure> {
        match message {
            Message::Request { id, request, timeout } => {
                let deadline = timeout.map(|timeout| at.now() + timeout);
                let asker = Asker { client: from, id, deadline, cause: at.ctx.cause() };
                self.request(asker, request, at);
            }
            Message::Watch { stream, command } => self.watch(from, stream, command, at),
            Message::Raft(message) => {
                self.active.hear(member_id(from), at.now());
                if !self.removed.contains(&member_id(from)) {
                    self.note_cause(&message.body, at.ctx.cause());
                    self.step(message, at)?;
                }
            }
            Message::Hello { answer } => {
                self.active.hear(member_id(from), at.now());
                if !answer {
                    at.ctx.send(from, PEER_LANE, Message::Hello { answer: true });
                }
            }
            Message::KeepAlive { id, lease } => self.keep_alive_for(from, id, lease, at),
            Message::KeptAlive { id, ttl_s } => self.kept_alive(id, ttl_s, at),
            // A member asks nobody but members.
            Message::Response(_) | Message::Watched(_) => {}
        }
        Ok(())
    }

    /// Keeps what the effects of a message of the consensus core are to be ascribed to.
    fn note_cause(&mut self, body: &Body<Logged<V>, StoreSnapshot>, cause: Cause) {
        match body {
            Body::Append { entries, commit, .. } if entries.is_empty() => self.named = Some(*commit),
            Body::Append { .. } | Body::Propose { .. } => self.entered = cause,
            Body::Appended { index } => self.named = Some(*index),
            _ => {}
        }
    }

    /// What an entry's way from here on is ascribed to: the event that brought it, if it was the last that came.
    fn cause_of(&self, entry: &Entry<Logged<V>>) -> Cause {
        match &entry.data {
            Payload::Normal(logged) if entry.index != self.raft.log().last().index => logged.0.cause,
            _ => self.entered,
        }
    }

    /// What a message of the consensus core is ascribed to; none for the event being handled.
    fn cause_to_send(&self, body: &Body<Logged<V>, StoreSnapshot>) -> Option<Cause> {
        match body {
            Body::Propose { payloads } => payloads.iter().find_map(|payload| match payload {
                Payload::Normal(logged) => Some(logged.0.cause),
                _ => None,
            }),
            Body::Append { entries, commit, .. } => match entries.last() {
                Some(last) => Some(self.cause_of(last)),
                None => Some(self.committed).filter(|(index, _)| index == commit).map(|(_, cause)| cause),
            },
            _ => None,
        }
    }

    fn timer(&mut self, token: Token, at: &mut Act<'_, V>) {
        match token {
            token::TICK => self.tick(at),
            token::DEADLINE => self.expire(at),
            token::READ_RETRY => self.retry_read(at),
            token::READ_DEADLINE => self.give_up_reads(at),
            token::WATCH_SYNC => self.sync_watches(at),
            token::WATCH_PROGRESS => self.watch_progress(at),
            token::LEASE_SCAN => self.scan_leases(at),
            token::FAST_FORWARD => self.fast_forward(at),
            token::LEADER_MONITOR => self.monitor_leader(at),
            token::KEEP_ALIVE => self.retry_keep_alive(at),
            token::TRANSFER => self.check_transfer(at),
            _ => {}
        }
    }

    /// A message of the consensus core.
    fn step(&mut self, message: raft::Message<Logged<V>, StoreSnapshot>, at: &mut Act<'_, V>) -> Result<(), Failure> {
        let result = match message.body {
            Body::Snapshot(_) => self.step_snapshot(message, at),
            _ => self.raft.step(message),
        };
        match result {
            Ok(()) | Err(StepError::ProposalDropped) => Ok(()),
            Err(StepError::Corrupted(corruption)) => Err(Failure::Corrupted(corruption)),
        }
    }

    /// A snapshot has come. What it is about to replace in memory is kept until it is written.
    #[cold]
    fn step_snapshot(
        &mut self,
        message: raft::Message<Logged<V>, StoreSnapshot>,
        at: &mut Act<'_, V>,
    ) -> Result<(), StepError> {
        let before = self.before_snapshot.is_none().then(|| at.disk.content(&self.raft));
        let log_began = self.raft.log().compacted();
        let result = self.raft.step(message);
        if self.raft.log().compacted() != log_began && before.is_some() {
            self.before_snapshot = before;
        }
        result
    }

    /// One unit of Raft's time. A tick that falls into a sync waits for its end, and those after it are lost.
    fn tick(&mut self, at: &mut Act<'_, V>) {
        self.next_tick += at.settings.tick;
        at.ctx.set_timer(self.next_tick, token::TICK);
        if self.syncing {
            self.missed_tick = true;
            return;
        }
        self.raft_tick(at.now());
    }

    fn raft_tick(&mut self, now: SimTime) {
        self.last_tick = now;
        self.raft.tick();
        if let Some(&(member, since)) = self.snapshots_sent.first()
            && now.since(since) >= SNAPSHOT_TIMEOUT
        {
            self.snapshots_sent.remove(0);
            self.raft.report_snapshot(member, false);
        }
    }

    /// After a start, once two peers are connected, all but two ticks of the base election timeout are skipped: they
    /// would have been heard if they led. (etcd: server.go, adjustTicks.)
    fn fast_forward(&mut self, at: &mut Act<'_, V>) {
        if self.fast_forwarded {
            return;
        }
        if self.active.len() > 1 {
            self.fast_forwarded = true;
            for _ in 0..at.settings.raft.election_ticks.saturating_sub(2) {
                self.raft.tick();
            }
        } else if at.now().since(self.started) < CONNECT_WAIT {
            at.ctx.set_timer(at.now() + CONNECT_POLL, token::FAST_FORWARD);
        }
    }

    /// Sends messages of the consensus core, in order.
    fn send_all(&mut self, messages: &mut Vec<raft::Message<Logged<V>, StoreSnapshot>>, at: &mut Act<'_, V>) {
        if messages.is_empty() {
            return;
        }
        for message in messages.drain(..) {
            self.send(message, at);
        }
    }

    fn send(&mut self, message: raft::Message<Logged<V>, StoreSnapshot>, at: &mut Act<'_, V>) {
        let lane = match &message.body {
            Body::Append { .. } => APPEND_LANE,
            Body::Snapshot(_) => {
                self.snapshots_sent.push((message.to, at.now()));
                SNAPSHOT_LANE
            }
            _ => PEER_LANE,
        };
        let here = at.ctx.cause();
        if let Some(cause) = self.cause_to_send(&message.body) {
            at.ctx.set_cause(cause);
        }
        at.ctx.send_after(SimDuration::ZERO, process_of(message.to), lane, Message::Raft(message));
        at.ctx.set_cause(here);
    }
}

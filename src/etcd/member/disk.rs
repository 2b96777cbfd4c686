//! What survives a crash, and how a member starts from it.
//!
//! The write-ahead log is not kept twice: while the member runs, its synced part is what the log in memory says is durable.
//! The store's own file is written every 100 ms in etcd without anyone waiting for it; here the member notes, at the first
//! write after such a period, the position that it had before that write. Snapshots of the own store are taken to be
//! durable at once.

use std::rc::Rc;

use super::lease::Leases;
use super::read::Reads;
use super::request::Waiting;
use super::{Act, CONNECT_POLL, Core, Failure, Member, Running, process_of, token};
use crate::engine::process::{Cause, Context};
use crate::engine::time::{SimDuration, SimTime};
use crate::etcd::message::{Logged, Message, PEER_LANE, StoreSnapshot};
use crate::etcd::mvcc::View;
use crate::etcd::raft::{self, Configuration, Durable, Entry, HardState, ProgressState, Raft, Ready};
use crate::etcd::value::Value;

/// How often the store's file is written.
const BACKEND_PERIOD: SimDuration = SimDuration::from_millis(100);

/// What a member's disk holds. While the member runs, its entries are left out here: the log in memory has them.
#[derive(Debug)]
pub(super) struct Disk<V> {
    durable: Durable<Logged<V>, StoreSnapshot>,
    /// When the store's file was last written.
    backend_written: SimTime,
    /// How often the member has started.
    starts: u64,
}

impl<V: Value> Disk<V> {
    /// The disk of a member that has never run.
    pub fn new(configuration: Configuration) -> Disk<V> {
        let hard_state = HardState::default();
        let durable = Durable { hard_state, configuration, snapshot: None, entries: Vec::new() };
        Disk { durable, backend_written: SimTime::ZERO, starts: 0 }
    }

    /// What the disk holds, if the member does not run.
    pub fn durable(&self) -> &Durable<Logged<V>, StoreSnapshot> {
        &self.durable
    }

    /// All that a crash at this moment would leave.
    pub fn content(&self, raft: &Core<V>) -> Durable<Logged<V>, StoreSnapshot> {
        let first = self.durable.snapshot.as_ref().map_or(0, |snapshot| snapshot.last.index) + 1;
        let entries = raft.log().entries(first, raft.log().durable()).cloned().collect();
        Durable { entries, ..self.durable.clone() }
    }

    /// A batch has been written, and synced if it had to be.
    pub fn written(&mut self, ready: &Ready<Logged<V>, StoreSnapshot>) {
        if let Some(hard_state) = ready.hard_state.filter(|_| ready.must_sync) {
            self.durable.hard_state = hard_state;
        }
        if let Some(snapshot) = &ready.snapshot {
            self.durable.snapshot = Some(Rc::clone(snapshot));
        }
    }

    /// The index up to which the disk's snapshot reaches.
    fn snapshot_index(&self) -> u64 {
        self.durable.snapshot.as_ref().map_or(0, |snapshot| snapshot.last.index)
    }
}

impl<V: Value> Member<V> {
    /// Starts the process from what the disk holds.
    pub(super) fn start(&mut self, ctx: &mut dyn Context<Message<V>>) {
        let now = ctx.now();
        self.crash(now);
        if self.failure.is_some() {
            return;
        }
        self.disk.starts += 1;
        self.disk.backend_written = now;
        let life = self.disk.starts;
        let purpose = |what: &str| self.seed.stream(&self.name, &format!("{what}-{life}"));
        let durable = self.disk.durable.clone();
        self.disk.durable.entries = Vec::new();
        let id = super::member_id(self.own);
        let raft = match Raft::new(id, self.settings.raft.clone(), purpose("election"), durable) {
            Ok(raft) => raft,
            Err(corruption) => return self.fail(Failure::Corrupted(corruption)),
        };
        let mut chance = purpose("member");
        self.view.restart();
        let phase = SimDuration::from_nanos(chance.below(self.settings.tick.as_nanos().max(1)));
        let mut running = Running {
            raft,
            ready: None,
            syncing: false,
            started: now,
            next_tick: now + phase,
            last_tick: now,
            missed_tick: false,
            leader: None,
            leader_since: SimTime::ZERO,
            active: Default::default(),
            removed: Default::default(),
            fast_forwarded: false,
            snapshots_sent: Vec::new(),
            before_snapshot: None,
            chance,
            // Numbers of an earlier life may still be in the log, and answers to them on the way.
            entered: Cause::NONE,
            committed: (0, Cause::NONE),
            named: None,
            waiting: Waiting::beginning_at(life << 40),
            parked: Default::default(),
            reads: Reads::beginning_at(life << 40),
            leases: Leases::beginning_at(life << 40),
            streams: Default::default(),
            changes: Vec::new(),
        };
        let Member { settings, view, disk, .. } = self;
        let mut at = Act { settings, view, disk, ctx };
        running.begin(&mut at);
        let result = running.pump(&mut at);
        self.running = Some(Box::new(running));
        if let Err(failure) = result {
            self.fail(failure);
        }
    }
}

impl<V: Value> Running<V> {
    /// Sets the clock going and greets the other members.
    fn begin(&mut self, at: &mut Act<'_, V>) {
        at.ctx.set_timer(self.next_tick, token::TICK);
        let configuration = self.raft.configuration();
        let members: Vec<_> = configuration.voters().iter().chain(configuration.learners()).copied().collect();
        if members == [self.raft.id()] {
            for _ in 1..at.settings.raft.election_ticks {
                self.raft.tick();
            }
            return;
        }
        for member in members {
            if member != self.raft.id() {
                at.ctx.send(process_of(member), PEER_LANE, Message::Hello { answer: false });
            }
        }
        at.ctx.set_timer(at.now() + CONNECT_POLL, token::FAST_FORWARD);
    }

    /// Leaves behind what a crash leaves.
    pub(super) fn leave_on_disk(self, disk: &mut Disk<V>, view: &mut View<V>, now: SimTime) {
        self.note_backend(disk, view, now);
        disk.durable = match self.before_snapshot {
            Some(durable) => durable,
            None => disk.content(&self.raft),
        };
    }

    /// The store's file is written from time to time, never ahead of the log.
    pub(super) fn note_backend(&self, disk: &mut Disk<V>, view: &mut View<V>, now: SimTime) {
        let due = now.since(disk.backend_written) >= BACKEND_PERIOD;
        if due && view.applied_index() <= self.raft.log().durable() {
            view.persist();
            disk.backend_written = now;
        }
    }

    /// What was written while a received snapshot waited is on the disk that the snapshot will replace.
    pub(super) fn add_to_replaced_log(&mut self, written: &[Entry<Logged<V>>], hard_state: Option<HardState>) {
        let (Some(durable), Some(first)) = (&mut self.before_snapshot, written.first()) else { return };
        durable.entries.retain(|entry| entry.index < first.index);
        durable.entries.extend_from_slice(written);
        durable.hard_state = hard_state.unwrap_or(durable.hard_state);
    }

    /// Takes a snapshot when enough has been applied since the last one, and forgets the log well before it. While a
    /// snapshot is on its way to a member the log stays, so that the member can go on from it.
    pub(super) fn snapshot_if_due(&mut self, at: &mut Act<'_, V>) {
        let applied = at.view.applied_index();
        if applied < at.disk.snapshot_index() + at.settings.snapshot_entries || applied > self.raft.log().durable() {
            return;
        }
        let configuration = self.raft.configuration().clone();
        let snapshot = StoreSnapshot { at: at.view.position(), size_bytes: at.view.snapshot_bytes() };
        if self.raft.store_snapshot(applied, configuration, snapshot).is_err() {
            return;
        }
        at.view.persist();
        at.disk.backend_written = at.now();
        at.disk.durable.snapshot = self.raft.log().snapshot().cloned();
        let is_sent = |peer: &raft::Progress| matches!(peer.state, ProgressState::Snapshot { .. });
        if self.raft.progress().iter().any(is_sent) {
            return;
        }
        let upto = applied.saturating_sub(at.settings.catch_up_entries);
        if upto >= self.raft.log().first_index() && self.raft.compact(upto).is_ok() {
            at.view.forget_log(upto + 1);
        }
    }
}

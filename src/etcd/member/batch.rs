//! The batches of the consensus core, in the order of etcd's raft loop.

use super::{Act, Failure, Running, SYNC};
use crate::etcd::message::{Logged, StoreSnapshot};
use crate::etcd::raft::{self, Body, Entry, Payload, Ready, Role, SoftState, StepError};
use crate::etcd::value::Value;

/// Bytes of a hard state record in the write-ahead log.
const HARD_STATE_BYTES: u64 = 64;
/// Bytes around each entry in the write-ahead log.
const RECORD_BYTES: u64 = 16;

impl<V: Value> Running<V> {
    /// Carries out what the core wants, until there is nothing left or a sync is under way. Often there is nothing at all.
    #[inline]
    pub(super) fn pump(&mut self, at: &mut Act<'_, V>) -> Result<(), Failure> {
        self.release_parked(at);
        while !self.syncing && self.raft.has_ready() {
            self.carry_out_batch(at)?;
            self.release_parked(at);
        }
        Ok(())
    }

    #[inline(never)]
    fn carry_out_batch(&mut self, at: &mut Act<'_, V>) -> Result<(), Failure> {
        let mut ready = self.ready.take().unwrap_or_default();
        self.raft.ready(&mut ready);
        let here = at.ctx.cause();
        self.begin_batch(&mut ready, at)?;
        if !ready.must_sync {
            at.ctx.set_cause(here);
            return self.end_batch(ready, at);
        }
        let entries: u64 = ready.entries.iter().map(|entry| entry.size_bytes() + RECORD_BYTES).sum();
        let snapshot = ready.snapshot.as_ref().map_or(0, |snapshot| snapshot.data.size_bytes);
        if let Some(last) = ready.entries.iter().next_back() {
            at.ctx.set_cause(self.cause_of(last));
        }
        at.ctx.write_and_sync(HARD_STATE_BYTES + entries + snapshot, SYNC);
        self.syncing = true;
        self.ready = Some(ready);
        at.ctx.set_cause(here);
        Ok(())
    }

    /// The sync of a batch is done.
    pub(super) fn synced(&mut self, at: &mut Act<'_, V>) -> Result<(), Failure> {
        self.syncing = false;
        if let Some(ready) = self.ready.take() {
            self.named = ready.entries.iter().next_back().map(|entry| entry.index);
            self.end_batch(ready, at)?;
        }
        if std::mem::take(&mut self.missed_tick) {
            self.raft_tick(at.now());
        }
        Ok(())
    }

    /// What comes before the write: news, reads, applying, and the messages of a leader.
    ///
    /// Entries of several requests travel together, with one event leading to the next. Those events are ascribed to the last of
    /// the requests; what comes of the others is ascribed to their own requests, so that a chain of causes leaves the way
    /// through the log out rather than taking a neighbour's.
    fn begin_batch(&mut self, ready: &mut Ready<Logged<V>, StoreSnapshot>, at: &mut Act<'_, V>) -> Result<(), Failure> {
        if let Some(soft_state) = ready.soft_state {
            self.role_changed(soft_state, at);
        }
        for read in &ready.read_states {
            self.read_confirmed(read.context, read.index);
        }
        if !ready.committed.is_empty() {
            self.apply_all(&ready.committed, at)?;
        }
        self.serve_reads(at);
        self.send_all(&mut ready.messages_before_sync, at);
        Ok(())
    }

    #[inline(never)]
    fn apply_all(&mut self, committed: &[Entry<Logged<V>>], at: &mut Act<'_, V>) -> Result<(), Failure> {
        self.note_backend(at.disk, at.view, at.now());
        let here = at.ctx.cause();
        for entry in committed {
            if let Payload::Normal(logged) = &entry.data
                && self.named != Some(entry.index)
            {
                at.ctx.set_cause(logged.0.cause);
            }
            self.committed = (entry.index, at.ctx.cause());
            self.apply(entry, at)?;
            at.ctx.set_cause(here);
        }
        Ok(())
    }

    /// What comes after the write: the messages of a follower, and word to the core.
    fn end_batch(
        &mut self,
        mut ready: Box<Ready<Logged<V>, StoreSnapshot>>,
        at: &mut Act<'_, V>,
    ) -> Result<(), Failure> {
        at.disk.written(&ready);
        if let Some(snapshot) = &ready.snapshot {
            self.before_snapshot = None;
            at.view.restore(snapshot.data.at);
            self.streams.restore();
            self.arm_watch_sync(at);
        } else {
            self.add_to_replaced_log(&ready.entries, ready.hard_state);
        }
        drop_repeated_answers(&mut ready.messages_after_sync);
        self.send_all(&mut ready.messages_after_sync, at);
        let restored = ready.snapshot.is_some();
        match self.raft.advance(ready.receipt) {
            Ok(()) | Err(StepError::ProposalDropped) => {}
            Err(StepError::Corrupted(corruption)) => return Err(Failure::Corrupted(corruption)),
        }
        self.ready = Some(ready);
        if restored {
            self.serve_reads(at);
        }
        self.snapshot_if_due(at);
        Ok(())
    }

    /// The role or the leader has changed.
    fn role_changed(&mut self, now: SoftState, at: &mut Act<'_, V>) {
        let new_leader = now.leader.is_some() && now.leader != self.leader;
        self.leader = now.leader;
        if now.role != Role::Leader {
            self.leases.demote();
        } else if new_leader {
            self.leader_since = at.now();
        }
        if new_leader {
            self.leader_changed(at);
        }
        self.streams.leaderless_since = now.leader.is_none().then(|| at.now());
        self.arm_leader_monitor(at);
    }
}

/// Of several answers to appends in one batch only the last is sent: it says all that the others say.
fn drop_repeated_answers<V>(messages: &mut Vec<raft::Message<Logged<V>, StoreSnapshot>>) {
    if messages.len() < 2 {
        return;
    }
    let is_answer = |message: &raft::Message<Logged<V>, StoreSnapshot>| {
        matches!(message.body, Body::Appended { .. } | Body::AppendRejected { .. })
    };
    let answers = messages.iter().filter(|message| is_answer(message)).count();
    if answers > 1 {
        let mut seen = 0;
        messages.retain(|message| {
            seen += usize::from(is_answer(message));
            !is_answer(message) || seen == answers
        });
    }
}

//! Copying the log: what a leader sends, what a follower answers, and when an entry is committed.

use std::rc::Rc;

use super::entry::{Command, Entries, EntryId, Payload, Payloads};
use super::message::Body;
use super::node::Raft;
use super::progress::ProgressState;
use super::quorum;
use super::snapshot::Snapshot;
use super::{Index, MemberId, Role, StepError};

impl<P: Command, S: Clone> Raft<P, S> {
    /// A proposal of this member's application, or one that a follower forwarded.
    pub(super) fn handle_proposal(&mut self, payloads: Payloads<P>) -> Result<(), StepError> {
        match (self.role, self.leader) {
            (Role::Leader, _) => {}
            (Role::Follower, Some(leader)) => {
                self.send(leader, Body::Propose { payloads });
                return Ok(());
            }
            _ => return Err(StepError::ProposalDropped),
        }
        // A leader that has been removed takes nothing more; one that hands over waits for its successor.
        if self.position(self.id).is_none() || self.transferee.is_some() {
            return Err(StepError::ProposalDropped);
        }
        for payload in payloads {
            let payload = self.admit(payload);
            self.log.push(self.term, payload);
        }
        self.broadcast_append();
        Ok(())
    }

    /// Replaces a membership change by an empty entry while another one may not have been applied.
    fn admit(&mut self, payload: Payload<P>) -> Payload<P> {
        if !matches!(payload, Payload::Configuration(_)) {
            return payload;
        }
        if self.pending_configuration_index > self.log.applied() {
            return Payload::Empty;
        }
        self.pending_configuration_index = self.log.last_index() + 1;
        payload
    }

    /// Sends appends to all other members that can take one, empty ones too.
    pub(super) fn broadcast_append(&mut self) {
        for position in 0..self.peers.len() {
            if self.peers[position].id != self.id {
                self.send_append(position, true);
            }
        }
    }

    /// Sends an append, or the snapshot if the entries are gone. False if nothing was sent: the flow is paused, or there
    /// is nothing new and `even_if_empty` is not set.
    pub(super) fn send_append(&mut self, position: usize, even_if_empty: bool) -> bool {
        let window = self.settings.in_flight_messages;
        let peer = &self.peers[position];
        if peer.is_paused() {
            return false;
        }
        let (to, next) = (peer.id, peer.next);
        let Some(term) = self.log.term(next - 1) else { return self.send_snapshot(position) };
        // With a full window only empty appends are sent. If all that filled the window was lost, the answer to the empty
        // one tells so.
        let entries = if peer.state == ProgressState::Replicate && peer.is_window_full(window) {
            Entries::new()
        } else {
            self.log.slice(next, self.settings.message_limit_bytes)
        };
        if entries.is_empty() && !even_if_empty {
            return false;
        }
        let commit = self.log.committed();
        self.peers[position].sent_append(entries.len() as u64, commit, window);
        self.send(to, Body::Append { previous: EntryId { term, index: next - 1 }, entries, commit });
        true
    }

    /// Sends the snapshot to a member that is alive and needs entries which are gone.
    fn send_snapshot(&mut self, position: usize) -> bool {
        if !self.peers[position].recently_active {
            return false;
        }
        let Some(snapshot) = self.log.snapshot().cloned() else { return false };
        let peer = &mut self.peers[position];
        peer.become_snapshot(snapshot.last.index);
        let to = peer.id;
        self.send(to, Body::Snapshot(snapshot));
        true
    }

    /// Commits what a quorum has. True if that is more than before.
    pub(super) fn commit_what_a_quorum_has(&mut self) -> bool {
        let voters = self.peers.iter().filter(|peer| !peer.is_learner);
        let reached = quorum::reached_by_majority(voters.map(|peer| peer.matched));
        self.log.commit_in_term(reached, self.term)
    }

    /// A leader's own copy of an entry counts once it is durable.
    pub(super) fn acknowledge_own_log(&mut self) {
        if self.role != Role::Leader {
            return;
        }
        let durable = self.log.durable();
        let Some(own) = self.position(self.id) else { return };
        if self.peers[own].update(durable) && self.commit_what_a_quorum_has() {
            self.after_commit();
        }
    }

    /// Something has been committed by this leader: reads that waited for it go on, and everyone is told.
    pub(super) fn after_commit(&mut self) {
        self.release_postponed_reads();
        self.broadcast_append();
    }

    /// Takes over the leader's entries, or says where the logs may agree.
    pub(super) fn handle_append(
        &mut self,
        from: MemberId,
        previous: EntryId,
        entries: Entries<P>,
        commit: Index,
    ) -> Result<(), StepError> {
        if self.role == Role::Leader {
            return Ok(());
        }
        if previous.index < self.log.committed() {
            let index = self.log.committed();
            self.send(from, Body::Appended { index });
            return Ok(());
        }
        match self.log.append(previous, entries, commit)? {
            Some(index) => self.send(from, Body::Appended { index }),
            None => {
                // All entries of the leader before `previous` have a term of at most that, so none of this log's entries
                // of later terms can agree.
                let hint = self.log.last_not_above(previous.index.min(self.log.last_index()), previous.term);
                self.send(from, Body::AppendRejected { index: previous.index, hint });
            }
        }
        Ok(())
    }

    /// A follower has everything up to `index`.
    pub(super) fn handle_appended(&mut self, from: MemberId, index: Index) {
        let (Role::Leader, Some(position)) = (self.role, self.position(from)) else { return };
        let first = self.log.first_index();
        let peer = &mut self.peers[position];
        peer.recently_active = true;
        let probe_confirmed = peer.matched == index && peer.state == ProgressState::Probe;
        if index > self.log.last_index() || !(peer.update(index) || probe_confirmed) {
            return;
        }
        match peer.state {
            ProgressState::Probe => peer.become_replicate(),
            ProgressState::Snapshot { .. } if peer.matched + 1 >= first => {
                // However it got there: what it has connects to this log, so the snapshot is not needed any more.
                peer.become_probe();
                peer.become_replicate();
            }
            ProgressState::Snapshot { .. } => {}
            ProgressState::Replicate => peer.free_up_to(index),
        }
        if self.commit_what_a_quorum_has() {
            self.after_commit();
        } else if self.peers[position].can_bump_commit(self.log.committed()) {
            self.send_append(position, true);
        }
        // The answer may have made room for more than one message.
        while self.send_append(position, false) {}
        if self.transferee == Some(from) && self.peers[position].matched == self.log.last_index() {
            self.send(from, Body::TimeoutNow);
        }
    }

    /// A follower does not have the entry before an append. Each round skips all entries of a term on one side or other.
    pub(super) fn handle_append_rejected(&mut self, from: MemberId, rejected: Index, hint: EntryId) {
        let (Role::Leader, Some(position)) = (self.role, self.position(from)) else { return };
        let mut next = hint.index;
        if hint.term > 0 {
            next = self.log.last_not_above(hint.index, hint.term).index;
        }
        let peer = &mut self.peers[position];
        peer.recently_active = true;
        if peer.decrease(rejected, next) {
            if peer.state == ProgressState::Replicate {
                peer.become_probe();
            }
            self.send_append(position, true);
        }
    }

    /// Installs the leader's snapshot, unless this log holds as much already.
    pub(super) fn handle_snapshot(&mut self, from: MemberId, snapshot: Rc<Snapshot<S>>) -> Result<(), StepError> {
        if self.role == Role::Leader {
            return Ok(());
        }
        let index = if self.restore_from(snapshot)? { self.log.last_index() } else { self.log.committed() };
        self.send(from, Body::Appended { index });
        Ok(())
    }

    /// Replaces log and membership by the snapshot's. False if it is outdated, if the log holds its last entry (then it
    /// only tells how much is committed), or if this member is not part of it.
    fn restore_from(&mut self, snapshot: Rc<Snapshot<S>>) -> Result<bool, StepError> {
        if snapshot.last.index <= self.log.committed() || !snapshot.configuration.contains(self.id) {
            return Ok(false);
        }
        if self.log.contains(snapshot.last) {
            self.log.commit_to(snapshot.last.index)?;
            return Ok(false);
        }
        let configuration = snapshot.configuration.clone();
        self.log.install(snapshot);
        self.peers.clear();
        self.replace_configuration(configuration);
        Ok(true)
    }

    /// The transport could not deliver to a member; an append on the way is probably lost.
    pub fn report_unreachable(&mut self, member: MemberId) {
        let (Role::Leader, Some(position)) = (self.role, self.position(member)) else { return };
        let peer = &mut self.peers[position];
        if peer.state == ProgressState::Replicate {
            peer.become_probe();
        }
    }

    /// The transport has delivered a snapshot to a member, or given up. Appends go on when the member is next heard of.
    pub fn report_snapshot(&mut self, member: MemberId, delivered: bool) {
        let (Role::Leader, Some(position)) = (self.role, self.position(member)) else { return };
        let peer = &mut self.peers[position];
        if !matches!(peer.state, ProgressState::Snapshot { .. }) {
            return;
        }
        if delivered {
            peer.become_probe();
        } else {
            peer.snapshot_failed();
        }
        peer.paused = true;
    }
}

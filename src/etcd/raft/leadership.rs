//! What a leader does beside copying the log: heartbeats, checking its quorum, confirming reads, handing over.

use super::entry::Command;
use super::message::Body;
use super::node::Raft;
use super::progress::ProgressState;
use super::quorum;
use super::read_only::ReadRequest;
use super::ready::ReadState;
use super::{Index, MemberId, Role};

impl<P: Command, S: Clone> Raft<P, S> {
    /// One tick of a leader: every base election timeout it checks its quorum and gives up a handover that has not
    /// happened; every heartbeat period it sends heartbeats.
    pub(super) fn tick_leader(&mut self) {
        self.heartbeat_elapsed += 1;
        self.election_elapsed += 1;
        if self.election_elapsed >= self.settings.election_ticks {
            self.election_elapsed = 0;
            if self.settings.check_quorum {
                self.check_quorum();
            }
            if self.role != Role::Leader {
                return;
            }
            self.transferee = None;
        }
        if self.heartbeat_elapsed >= self.settings.heartbeat_ticks {
            self.heartbeat_elapsed = 0;
            self.broadcast_heartbeat();
        }
    }

    /// Steps down unless a quorum was heard of since the last check. The leader counts as heard of.
    fn check_quorum(&mut self) {
        let voters = self.peers.iter().filter(|peer| !peer.is_learner).count();
        let active = self.peers.iter().filter(|peer| !peer.is_learner && peer.recently_active).count();
        if active < quorum::majority(voters) {
            self.become_follower(self.term, None);
        }
        for peer in &mut self.peers {
            if peer.id != self.id {
                peer.recently_active = false;
            }
        }
    }

    /// Sends heartbeats, which carry the position of the last read that waits. A heartbeat never speaks of more committed
    /// entries than the member is known to have.
    fn broadcast_heartbeat(&mut self) {
        let read_position = self.reads.position();
        for position in 0..self.peers.len() {
            let peer = &mut self.peers[position];
            if peer.id == self.id {
                continue;
            }
            let commit = peer.matched.min(self.log.committed());
            peer.sent_heartbeat(commit);
            let to = peer.id;
            self.send(to, Body::Heartbeat { commit, read_position });
        }
    }

    /// A member lives. It is sent what it lacks; if its window is full, an empty append that shows what was lost.
    pub(super) fn handle_heartbeat_answer(&mut self, from: MemberId, read_position: u64) {
        let (Role::Leader, Some(position)) = (self.role, self.position(from)) else { return };
        let peer = &mut self.peers[position];
        peer.recently_active = true;
        peer.paused = false;
        if peer.matched < self.log.last_index() || peer.state == ProgressState::Probe {
            self.send_append(position, true);
        }
        if read_position > 0 {
            self.confirm_reads(position, read_position);
        }
    }

    /// Asks for the index that must be applied before a read that begins now is served; it appears, with the same context,
    /// in the read states of a batch. Without a leader the request is lost, as any may be: ask again after a while.
    pub fn read_index(&mut self, context: u64) {
        self.handle_read_index(self.id, context);
    }

    /// A read of this member or one that a follower forwarded.
    pub(super) fn handle_read_index(&mut self, from: MemberId, context: u64) {
        match (self.role, self.leader) {
            (Role::Leader, _) => {
                let request = ReadRequest { from, context };
                if self.configuration.voters() == [self.id] {
                    self.answer_read(request, self.log.committed());
                } else if self.has_committed_in_its_term() {
                    self.begin_read(request);
                } else {
                    self.reads.postpone(request);
                }
            }
            (Role::Follower, Some(leader)) => self.forward(from, leader, Body::ReadIndex { context }),
            _ => {}
        }
    }

    fn has_committed_in_its_term(&self) -> bool {
        self.log.term(self.log.committed()) == Some(self.term)
    }

    /// Asks everyone whether this is still the leader, and counts itself at once.
    fn begin_read(&mut self, request: ReadRequest) {
        self.reads.add(request, self.log.committed());
        if let Some(own) = self.position(self.id) {
            self.peers[own].confirmed_reads = self.reads.position();
        }
        self.broadcast_heartbeat();
    }

    /// The first commit of the term has happened: reads that waited for it begin.
    pub(super) fn release_postponed_reads(&mut self) {
        for request in self.reads.take_postponed() {
            self.begin_read(request);
        }
    }

    /// A member confirms reads up to `read_position`; those that a quorum has confirmed are answered.
    fn confirm_reads(&mut self, position: usize, read_position: u64) {
        let peer = &mut self.peers[position];
        peer.confirmed_reads = peer.confirmed_reads.max(read_position);
        let voters = self.peers.iter().filter(|peer| !peer.is_learner);
        let confirmed = quorum::reached_by_majority(voters.map(|peer| peer.confirmed_reads));
        while let Some((request, index)) = self.reads.next_confirmed(confirmed) {
            self.answer_read(request, index);
        }
    }

    fn answer_read(&mut self, request: ReadRequest, index: Index) {
        let context = request.context;
        if request.from == self.id {
            self.read_states.push(ReadState { index, context });
        } else {
            self.send(request.from, Body::ReadIndexAnswer { index, context });
        }
    }

    /// Asks the leader to hand over to a member. It happens as soon as that member has the whole log; until then, and for
    /// one base election timeout at most, proposals are dropped.
    pub fn transfer_leader(&mut self, transferee: MemberId) {
        match (self.role, self.leader) {
            (Role::Leader, _) => self.begin_transfer(transferee),
            (Role::Follower, Some(leader)) => self.send(leader, Body::TransferLeader { transferee }),
            _ => {}
        }
    }

    fn begin_transfer(&mut self, transferee: MemberId) {
        let Some(position) = self.position(transferee) else { return };
        if self.peers[position].is_learner || self.transferee == Some(transferee) {
            return;
        }
        self.transferee = None;
        if transferee == self.id {
            return;
        }
        self.election_elapsed = 0;
        self.transferee = Some(transferee);
        if self.peers[position].matched == self.log.last_index() {
            self.send(transferee, Body::TimeoutNow);
        } else {
            self.send_append(position, true);
        }
    }
}

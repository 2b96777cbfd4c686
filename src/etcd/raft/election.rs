//! Becoming leader and ceasing to be: campaigns, votes, and what changes with the role.

use super::entry::{Command, EntryId, Payload};
use super::message::Body;
use super::node::Raft;
use super::progress::Progress;
use super::quorum::{self, VoteResult};
use super::{MemberId, Role, StepError, Term};

/// The kinds of campaign.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Campaign {
    PreVote,
    Election,
    /// An election that the leader asked for.
    Transfer,
}

impl<P: Command, S: Clone> Raft<P, S> {
    /// Campaigns at once, as after an election timeout.
    pub fn campaign(&mut self) {
        self.campaign_if_able(false);
    }

    pub(super) fn become_follower(&mut self, term: Term, leader: Option<MemberId>) {
        self.reset(term);
        self.leader = leader;
        self.role = Role::Follower;
    }

    /// A pre-candidate keeps its term, its vote and its election timeout.
    fn become_pre_candidate(&mut self) {
        for peer in &mut self.peers {
            peer.vote = None;
        }
        self.leader = None;
        self.role = Role::PreCandidate;
    }

    fn become_candidate(&mut self) {
        self.reset(self.term + 1);
        self.vote = Some(self.id);
        self.role = Role::Candidate;
    }

    fn become_leader(&mut self) {
        self.reset(self.term);
        self.leader = Some(self.id);
        self.role = Role::Leader;
        let durable = self.log.durable();
        if let Some(own) = self.position(self.id) {
            let own = &mut self.peers[own];
            own.matched = durable;
            own.become_replicate();
            own.recently_active = true;
        }
        // There may be an unapplied membership change anywhere in the log; rather than look for it, wait for all of it.
        self.pending_configuration_index = self.log.last_index();
        self.log.push(self.term, Payload::Empty);
    }

    /// Forgets everything that belongs to a role or a term, and draws a new election timeout.
    fn reset(&mut self, term: Term) {
        if self.term != term {
            self.term = term;
            self.vote = None;
        }
        self.leader = None;
        self.election_elapsed = 0;
        self.heartbeat_elapsed = 0;
        self.election_timeout = self.settings.election_ticks + self.chance.below(self.settings.election_ticks.max(1));
        self.transferee = None;
        let next = self.log.last_index() + 1;
        for peer in &mut self.peers {
            peer.reset(next);
        }
        self.pending_configuration_index = 0;
        self.reads.reset();
    }

    /// Whether this member may become leader: it is a voter, and no snapshot waits to be written.
    pub(super) fn is_promotable(&self) -> bool {
        self.position(self.id).is_some_and(|own| !self.peers[own].is_learner) && !self.log.has_received_snapshot()
    }

    /// Campaigns unless something forbids it: leading already, not being a voter, or a committed membership change that
    /// has not been applied, with which the quorum might be another one.
    pub(super) fn campaign_if_able(&mut self, transfer: bool) {
        if self.role == Role::Leader || !self.is_promotable() || self.log.has_unapplied_configuration_change() {
            return;
        }
        self.start_campaign(match (transfer, self.settings.pre_vote) {
            // Nothing suggests a partition when the leader itself asks, so the round of pre-votes is left out.
            (true, _) => Campaign::Transfer,
            (false, true) => Campaign::PreVote,
            (false, false) => Campaign::Election,
        });
    }

    fn start_campaign(&mut self, campaign: Campaign) {
        let pre_vote = campaign == Campaign::PreVote;
        let term = if pre_vote {
            self.become_pre_candidate();
            self.term + 1
        } else {
            self.become_candidate();
            self.term
        };
        let last = self.log.last();
        for position in 0..self.peers.len() {
            let Progress { id, is_learner, .. } = self.peers[position];
            if is_learner {
                continue;
            }
            // The vote for itself is said to itself, once it is durable.
            let body = if id == self.id {
                Body::VoteAnswer { pre_vote, granted: true }
            } else {
                Body::Vote { pre_vote, last, transfer: campaign == Campaign::Transfer }
            };
            self.send_in_term(id, term, body);
        }
    }

    /// Someone asks for a vote. A learner votes too: it may have been promoted without having heard of it.
    pub(super) fn handle_vote_request(&mut self, from: MemberId, term: Term, pre_vote: bool, last: EntryId) {
        let free =
            self.vote == Some(from) || (self.vote.is_none() && self.leader.is_none()) || (pre_vote && term > self.term);
        let granted = free && last.is_up_to_date_with(self.log.last());
        if granted && !pre_vote {
            self.election_elapsed = 0;
            self.vote = Some(from);
        }
        // An approval carries the term asked for, because a pre-candidate whose term is later than this one's would
        // ignore an answer of an earlier term.
        let term = if granted { term } else { self.term };
        self.send_in_term(from, term, Body::VoteAnswer { pre_vote, granted });
    }

    /// Counts a vote, if it is for the campaign under way.
    pub(super) fn handle_vote_answer(
        &mut self,
        from: MemberId,
        pre_vote: bool,
        granted: bool,
    ) -> Result<(), StepError> {
        let awaited = if pre_vote { Role::PreCandidate } else { Role::Candidate };
        if self.role != awaited {
            return Ok(());
        }
        if let Some(position) = self.position(from) {
            self.peers[position].vote.get_or_insert(granted);
        }
        match quorum::tally(self.peers.iter().filter(|peer| !peer.is_learner).map(|peer| peer.vote)) {
            VoteResult::Pending => {}
            VoteResult::Won if pre_vote => self.start_campaign(Campaign::Election),
            VoteResult::Won => {
                self.become_leader();
                self.broadcast_append();
            }
            VoteResult::Lost => self.become_follower(self.term, None),
        }
        Ok(())
    }

    /// A message that only a leader of this term sends has arrived.
    pub(super) fn hear_leader(&mut self, from: MemberId) {
        if self.role == Role::Follower {
            self.election_elapsed = 0;
            self.leader = Some(from);
        } else if self.role != Role::Leader {
            self.become_follower(self.term, Some(from));
        }
    }

    /// The leader asks this member to campaign at once. Candidates are doing so already.
    pub(super) fn handle_timeout_now(&mut self) {
        if self.role == Role::Follower {
            self.campaign_if_able(true);
        }
    }
}

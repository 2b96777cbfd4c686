//! One member: its state, how messages meet its term, and the batches of work that it asks for.

use std::rc::Rc;

use super::configuration::Configuration;
use super::entry::{Command, Entry, Payload, Payloads};
use super::log::Log;
use super::message::{Body, Message};
use super::progress::Progress;
use super::read_only::ReadOnly;
use super::ready::{HardState, ReadState, Ready, Receipt, SoftState};
use super::snapshot::Snapshot;
use super::{Corruption, Index, MemberId, Role, StepError, Term};
use crate::engine::random::Stream;

/// How a member behaves. The defaults are etcd's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The base election timeout in ticks, also the time for which a follower stays with a leader and the period in which
    /// a leader must hear from a quorum. Each wait for a leader is drawn uniformly from this to one less than twice this.
    pub election_ticks: u64,
    /// The ticks between heartbeats.
    pub heartbeat_ticks: u64,
    /// Whether a candidate first asks whether it would win.
    pub pre_vote: bool,
    /// Whether a leader steps down when it hears from no quorum, and followers ignore candidates while they hear a leader.
    pub check_quorum: bool,
    /// The most bytes of entries in one append, and of committed entries handed out at once.
    pub message_limit_bytes: u64,
    /// The most appends on the way to one member.
    pub in_flight_messages: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            election_ticks: 10,
            heartbeat_ticks: 1,
            pre_vote: true,
            check_quorum: true,
            message_limit_bytes: 1024 * 1024,
            in_flight_messages: 512,
        }
    }
}

/// What a member's disk holds, from which it starts.
#[derive(Clone, Debug)]
pub struct Durable<P, S> {
    /// The latest hard state written.
    pub hard_state: HardState,
    /// The membership before the first entry: the group's founders, the same on every machine, also on those that join
    /// later. From there on the log tells. (etcd writes the founders into the log's first entries instead.)
    pub configuration: Configuration,
    /// The latest snapshot written.
    pub snapshot: Option<Rc<Snapshot<S>>>,
    /// The entries after the snapshot.
    pub entries: Vec<Entry<P>>,
}

/// One member of a group, carrying commands `P` and snapshots `S`.
#[derive(Clone, Debug)]
pub struct Raft<P, S> {
    pub(super) id: MemberId,
    pub(super) settings: Settings,
    pub(super) chance: Stream,
    pub(super) term: Term,
    pub(super) vote: Option<MemberId>,
    pub(super) role: Role,
    pub(super) leader: Option<MemberId>,
    pub(super) log: Log<P, S>,
    /// Shared with those who watch over invariants, so that they see at a glance that it is still the same.
    pub(super) configuration: Rc<Configuration>,
    /// One for each member of `configuration`, in id order.
    pub(super) peers: Vec<Progress>,
    pub(super) election_elapsed: u64,
    pub(super) heartbeat_elapsed: u64,
    /// The ticks after which this member campaigns unless it hears from a leader.
    pub(super) election_timeout: u64,
    /// To whom leadership is being handed over.
    pub(super) transferee: Option<MemberId>,
    /// No membership change is accepted until everything up to here is applied.
    pub(super) pending_configuration_index: Index,
    pub(super) reads: ReadOnly,
    /// Reads of this member that have been answered.
    pub(super) read_states: Vec<ReadState>,
    /// Messages that wait for nothing on a leader.
    outgoing: Vec<Message<P, S>>,
    /// Messages that wait for everything before them to be durable.
    outgoing_after_sync: Vec<Message<P, S>>,
    /// This member's vote for itself, which counts once it is durable.
    own_votes: Vec<Message<P, S>>,
    own_votes_under_way: Vec<Message<P, S>>,
    published_soft_state: SoftState,
    published_hard_state: HardState,
    /// The batch under way, if any, and how many there were.
    under_way: Option<Receipt>,
    batches: u64,
}

impl<P, S> Raft<P, S> {
    /// The member's id.
    pub fn id(&self) -> MemberId {
        self.id
    }

    /// The latest term it has seen.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Whom it has voted for in this term.
    pub fn vote(&self) -> Option<MemberId> {
        self.vote
    }

    /// What it is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The leader of this term, if known.
    pub fn leader(&self) -> Option<MemberId> {
        self.leader
    }

    /// Its log.
    pub fn log(&self) -> &Log<P, S> {
        &self.log
    }

    /// The membership as far as it has been applied here.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// What it knows about each member, in id order; meaningful on a leader.
    pub fn progress(&self) -> &[Progress] {
        &self.peers
    }

    /// To whom leadership is being handed over.
    pub fn transferee(&self) -> Option<MemberId> {
        self.transferee
    }

    /// The ticks without a leader after which it campaigns, as drawn for this wait.
    pub fn election_timeout(&self) -> u64 {
        self.election_timeout
    }

    /// What must be persisted beside log and snapshot, as of now.
    pub fn hard_state(&self) -> HardState {
        HardState { term: self.term, vote: self.vote, commit: self.log.committed() }
    }

    /// What it is and whom it follows, as of now.
    pub fn soft_state(&self) -> SoftState {
        SoftState { leader: self.leader, role: self.role }
    }

    /// Whether a batch of work is under way, so that no other is handed out.
    pub fn is_busy(&self) -> bool {
        self.under_way.is_some()
    }

    /// Whether `ready` would hand out work.
    pub fn has_ready(&self) -> bool {
        self.under_way.is_none()
            && (!self.outgoing.is_empty()
                || !self.outgoing_after_sync.is_empty()
                || !self.own_votes.is_empty()
                || self.log.has_work()
                || !self.read_states.is_empty()
                || self.hard_state() != self.published_hard_state
                || self.soft_state() != self.published_soft_state)
    }

    /// The position of a member in `peers`.
    pub(super) fn position(&self, id: MemberId) -> Option<usize> {
        self.peers.iter().position(|peer| peer.id == id)
    }

    /// Queues a message to another member. Requests that any term may serve carry none, everything else this term.
    /// Inlined, so that the message is built where it is queued and not moved: measured, a fifth of the time per message.
    #[inline(always)]
    pub(super) fn send(&mut self, to: MemberId, body: Body<P, S>) {
        let term = match body {
            Body::Propose { .. } | Body::ReadIndex { .. } => 0,
            _ => self.term,
        };
        self.send_in_term(to, term, body);
    }

    /// Queues a request of `from`, which may be another member, for the leader, who will answer to `from`.
    pub(super) fn forward(&mut self, from: MemberId, leader: MemberId, body: Body<P, S>) {
        self.outgoing.push(Message { from, to: leader, term: 0, body });
    }

    /// Queues a message that carries a term of its own: pre-votes and their answers.
    #[inline(always)]
    pub(super) fn send_in_term(&mut self, to: MemberId, term: Term, body: Body<P, S>) {
        let message = Message { from: self.id, to, term, body };
        if to == self.id {
            self.own_votes.push(message);
        } else if message.body.waits_for_sync() {
            self.outgoing_after_sync.push(message);
        } else {
            self.outgoing.push(message);
        }
    }
}

impl<P: Command, S: Clone> Raft<P, S> {
    /// A member that starts, for the first time or again, from what its disk holds. `chance` draws its election timeouts.
    pub fn new(
        id: MemberId,
        settings: Settings,
        chance: Stream,
        durable: Durable<P, S>,
    ) -> Result<Raft<P, S>, Corruption> {
        let configuration = match &durable.snapshot {
            Some(snapshot) => snapshot.configuration.clone(),
            None => durable.configuration,
        };
        let mut log = Log::restore(durable.snapshot, durable.entries);
        log.commit_to(durable.hard_state.commit)?;
        let mut raft = Raft {
            id,
            settings,
            chance,
            term: durable.hard_state.term,
            vote: durable.hard_state.vote,
            role: Role::Follower,
            leader: None,
            log,
            configuration: Rc::default(),
            peers: Vec::new(),
            election_elapsed: 0,
            heartbeat_elapsed: 0,
            election_timeout: 0,
            transferee: None,
            pending_configuration_index: 0,
            reads: ReadOnly::default(),
            read_states: Vec::new(),
            outgoing: Vec::new(),
            outgoing_after_sync: Vec::new(),
            own_votes: Vec::new(),
            own_votes_under_way: Vec::new(),
            published_soft_state: SoftState { leader: None, role: Role::Follower },
            published_hard_state: HardState::default(),
            under_way: None,
            batches: 0,
        };
        raft.replace_configuration(configuration);
        raft.become_follower(raft.term, None);
        raft.published_hard_state = raft.hard_state();
        Ok(raft)
    }

    /// Says that one unit of time has passed.
    pub fn tick(&mut self) {
        if self.role == Role::Leader {
            self.tick_leader();
        } else {
            self.election_elapsed += 1;
            if self.election_elapsed >= self.election_timeout && self.is_promotable() {
                self.election_elapsed = 0;
                self.campaign_if_able(false);
            }
        }
    }

    /// Proposes a command. On a follower it is forwarded to the leader, without any promise that it arrives.
    pub fn propose(&mut self, command: P) -> Result<(), StepError> {
        let mut payloads = Payloads::new();
        payloads.push(Payload::Normal(command));
        self.handle_proposal(payloads)
    }

    /// Says that a message has arrived. Messages for another receiver must not be given.
    pub fn step(&mut self, message: Message<P, S>) -> Result<(), StepError> {
        if message.term > self.term {
            if !self.meet_later_term(&message) {
                return Ok(());
            }
        } else if message.term != 0 && message.term < self.term {
            self.answer_earlier_term(&message);
            return Ok(());
        }
        let (from, term) = (message.from, message.term);
        match message.body {
            Body::Vote { pre_vote, last, .. } => self.handle_vote_request(from, term, pre_vote, last),
            Body::VoteAnswer { pre_vote, granted } => self.handle_vote_answer(from, pre_vote, granted)?,
            Body::Append { previous, entries, commit } => {
                self.hear_leader(from);
                self.handle_append(from, previous, entries, commit)?;
            }
            Body::Heartbeat { commit, read_position } => {
                self.hear_leader(from);
                self.log.commit_to(commit)?;
                self.send(from, Body::HeartbeatAnswer { read_position });
            }
            Body::Snapshot(snapshot) => {
                self.hear_leader(from);
                self.handle_snapshot(from, snapshot)?;
            }
            Body::Appended { index } => self.handle_appended(from, index),
            Body::AppendRejected { index, hint } => self.handle_append_rejected(from, index, hint),
            Body::HeartbeatAnswer { read_position } => self.handle_heartbeat_answer(from, read_position),
            Body::Propose { payloads } => return self.handle_proposal(payloads),
            Body::ReadIndex { context } => self.handle_read_index(from, context),
            Body::ReadIndexAnswer { index, context } => {
                if self.role == Role::Follower {
                    self.read_states.push(ReadState { index, context });
                }
            }
            Body::TransferLeader { transferee } => self.transfer_leader(transferee),
            Body::TimeoutNow => self.handle_timeout_now(),
        }
        Ok(())
    }

    /// Meets a message of a later term; false if it is to be ignored.
    fn meet_later_term(&mut self, message: &Message<P, S>) -> bool {
        match message.body {
            Body::Vote { pre_vote, transfer, .. } => {
                // etcd-io/raft, Step: a member that heard from a leader within the base election timeout neither takes
                // the term nor votes, unless the leader itself asked the candidate to take over.
                let in_lease = self.settings.check_quorum
                    && self.leader.is_some()
                    && self.election_elapsed < self.settings.election_ticks;
                if in_lease && !transfer {
                    return false;
                }
                if !pre_vote {
                    self.become_follower(message.term, None);
                }
            }
            // The term of an approved pre-vote is the one campaigned for, which nobody has taken yet.
            Body::VoteAnswer { pre_vote: true, granted: true } => {}
            Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot(_) => {
                self.become_follower(message.term, Some(message.from));
            }
            _ => self.become_follower(message.term, None),
        }
        true
    }

    /// Meets a message of an earlier term, which has no other effect than perhaps an answer.
    fn answer_earlier_term(&mut self, message: &Message<P, S>) {
        match message.body {
            // A leader of an earlier term must learn of this one, because with check-quorum or pre-vote this member's
            // own campaigns may be ignored, and it could never rejoin.
            Body::Append { .. } | Body::Heartbeat { .. } if self.settings.check_quorum || self.settings.pre_vote => {
                self.send(message.from, Body::Appended { index: 0 });
            }
            // Without an answer a group could deadlock in which one member has a later term and a shorter log.
            Body::Vote { pre_vote: true, .. } => {
                self.send(message.from, Body::VoteAnswer { pre_vote: true, granted: false });
            }
            _ => {}
        }
    }

    /// Fills `ready` with the next batch of work. False, and an empty batch, if there is none or one is under way.
    pub fn ready(&mut self, ready: &mut Ready<P, S>) -> bool {
        ready.clear();
        if !self.has_ready() {
            return false;
        }
        let soft_state = self.soft_state();
        if soft_state != self.published_soft_state {
            self.published_soft_state = soft_state;
            ready.soft_state = Some(soft_state);
        }
        hand_over(&mut self.read_states, &mut ready.read_states);
        ready.snapshot = self.log.offer_snapshot();
        self.log.offer_entries(&mut ready.entries);
        self.log.offer_committed(self.settings.message_limit_bytes, &mut ready.committed);
        let (before, now) = (self.published_hard_state, self.hard_state());
        if now != before {
            self.published_hard_state = now;
            ready.hard_state = Some(now);
        }
        // A snapshot is synced when it is saved, and the hard state with it.
        ready.must_sync =
            !ready.entries.is_empty() || ready.snapshot.is_some() || (now.term, now.vote) != (before.term, before.vote);
        // etcd, raftNode.start: a leader sends while its own disk is writing; the others only after.
        let is_leader = self.role == Role::Leader;
        let own = if is_leader { &mut ready.messages_before_sync } else { &mut ready.messages_after_sync };
        hand_over(&mut self.outgoing, own);
        hand_over(&mut self.outgoing_after_sync, &mut ready.messages_after_sync);
        hand_over(&mut self.own_votes, &mut self.own_votes_under_way);
        self.batches += 1;
        let snapshot = ready.snapshot.as_ref().map_or(0, |snapshot| snapshot.last.index);
        ready.receipt = Receipt {
            number: self.batches,
            last: ready.entries.last().map(Entry::id).unwrap_or_default(),
            snapshot,
            applied: ready.committed.last().map_or(snapshot, |entry| entry.index),
        };
        self.under_way = Some(ready.receipt);
        true
    }

    /// Says that the batch with this receipt is persisted, its messages are sent and its committed entries are with the
    /// application. A receipt of another batch is ignored.
    pub fn advance(&mut self, receipt: Receipt) -> Result<(), StepError> {
        if self.under_way != Some(receipt) {
            return Ok(());
        }
        self.under_way = None;
        if receipt.snapshot > 0 {
            self.log.snapshot_written(receipt.snapshot);
        }
        if receipt.last.index > 0 {
            self.log.written(receipt.last);
            self.acknowledge_own_log();
        }
        if receipt.applied > 0 {
            self.log.applied_to(receipt.applied);
        }
        if self.own_votes_under_way.is_empty() { Ok(()) } else { self.count_own_votes() }
    }

    /// This member's votes for itself are durable.
    #[cold]
    fn count_own_votes(&mut self) -> Result<(), StepError> {
        let mut votes = std::mem::take(&mut self.own_votes_under_way);
        for vote in votes.drain(..) {
            self.step(vote)?;
        }
        self.own_votes_under_way = votes;
        Ok(())
    }
}

/// Moves everything from one list to the end of another; where that is empty, the two change places and nothing is copied.
#[inline]
fn hand_over<T>(from: &mut Vec<T>, to: &mut Vec<T>) {
    if from.is_empty() {
        return;
    }
    if to.is_empty() { std::mem::swap(from, to) } else { to.append(from) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::random::Seed;
    use crate::etcd::raft::EntryId;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Text(&'static str);

    impl Command for Text {
        fn size_bytes(&self) -> u64 {
            self.0.len() as u64
        }
    }

    type Member = Raft<Text, ()>;

    fn group(size: u64) -> Vec<Member> {
        let configuration = Configuration::new((1..=size).map(MemberId), []);
        (1..=size)
            .map(|id| {
                let durable = Durable {
                    hard_state: HardState::default(),
                    configuration: configuration.clone(),
                    snapshot: None,
                    entries: Vec::new(),
                };
                let chance = Seed(7).stream(&format!("etcd-{id}"), "election");
                Raft::new(MemberId(id), Settings::default(), chance, durable).unwrap()
            })
            .collect()
    }

    /// Lets every disk write and every message arrive until nothing is left to do; answers what was applied by member.
    fn settle(members: &mut [Member]) -> Vec<Vec<Entry<Text>>> {
        let mut applied = vec![Vec::new(); members.len()];
        let mut ready = Ready::default();
        while let Some(busy) = members.iter().position(Raft::has_ready) {
            assert!(members[busy].ready(&mut ready));
            applied[busy].extend(ready.committed.iter().cloned());
            let mail: Vec<_> =
                ready.messages_before_sync.drain(..).chain(ready.messages_after_sync.drain(..)).collect();
            members[busy].advance(ready.receipt).unwrap();
            for message in mail {
                let to = message.to.0 as usize - 1;
                members[to].step(message).unwrap();
            }
        }
        applied
    }

    #[test]
    fn a_group_elects_a_leader_and_applies_what_is_proposed_anywhere() {
        let mut members = group(3);
        while members.iter().all(|member| member.role() != Role::Leader) {
            members.iter_mut().for_each(Raft::tick);
            settle(&mut members);
        }
        members[0].propose(Text("a")).unwrap();
        members[1].propose(Text("b")).unwrap();
        members[2].propose(Text("c")).unwrap();
        let applied = settle(&mut members);
        assert_eq!(applied[0].len(), 3);
        assert!(applied.iter().all(|entries| *entries == applied[0]));
        assert_eq!(members[0].log().last(), EntryId { term: 1, index: 4 });
    }

    #[test]
    fn a_receipt_of_another_batch_is_ignored() {
        let mut members = group(1);
        members[0].campaign();
        let mut ready = Ready::default();
        assert!(members[0].ready(&mut ready));
        members[0].advance(Receipt::default()).unwrap();
        assert!(members[0].is_busy());
        assert_eq!(members[0].role(), Role::PreCandidate, "its own vote does not count before it is durable");
        members[0].advance(ready.receipt).unwrap();
        assert_eq!(members[0].role(), Role::Candidate);
    }

    #[test]
    fn a_member_whose_disk_lost_acknowledged_entries_ends_with_an_error() {
        let durable = Durable::<Text, ()> {
            hard_state: HardState { term: 2, vote: None, commit: 5 },
            configuration: Configuration::new([MemberId(1)], []),
            snapshot: None,
            entries: Vec::new(),
        };
        let lost = Raft::new(MemberId(1), Settings::default(), Seed(1).stream("etcd-1", "election"), durable);
        assert_eq!(lost.err(), Some(Corruption::CommitBeyondLog { commit: 5, last: 0 }));
    }
}

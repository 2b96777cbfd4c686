//! What members say to each other.

use std::rc::Rc;

use super::entry::{Entries, EntryId, Payloads};
use super::snapshot::Snapshot;
use super::{Index, MemberId, Term};

/// A message from one member to another. Messages may be lost, repeated, delayed and reordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<P, S> {
    /// The sender.
    pub from: MemberId,
    /// The receiver.
    pub to: MemberId,
    /// The sender's term; the term campaigned for in pre-votes and their approvals; 0 for requests that any term may
    /// serve (proposals and reads that a follower forwards).
    pub term: Term,
    /// What is said.
    pub body: Body<P, S>,
}

/// What a message says. The tag is as wide as the fields, so that moving a message copies aligned words.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Body<P, S> {
    /// The leader's entries after `previous`, and how far the log is committed.
    Append {
        /// The entry just before the first of `entries`; the receiver must have it.
        previous: EntryId,
        /// The entries; none in a probe or when only the commit index is news.
        entries: Entries<P>,
        /// The leader's commit index.
        commit: Index,
    },
    /// The receiver's log agrees with the leader's up to `index`.
    Appended {
        /// The last entry known to agree and be durable.
        index: Index,
    },
    /// The receiver does not have the entry before `index + 1`.
    AppendRejected {
        /// The index of the `previous` that was not found.
        index: Index,
        /// The receiver's guess where the logs may agree: its last entry whose term is not above that of the refused
        /// `previous`. A term of 0 means unknown.
        hint: EntryId,
    },
    /// The leader is alive; with the highest commit index that the receiver is known to have the entries for.
    Heartbeat {
        /// The commit index.
        commit: Index,
        /// How many reads are confirmed when a quorum answers this; 0 when no read waits.
        read_position: u64,
    },
    /// The answer to a heartbeat.
    HeartbeatAnswer {
        /// What the heartbeat carried.
        read_position: u64,
    },
    /// Asks for a vote, or in a pre-vote asks whether a vote would be given.
    Vote {
        /// A pre-vote changes no one's term.
        pre_vote: bool,
        /// The last entry of the candidate's log.
        last: EntryId,
        /// The leader has asked the candidate to take over, so having heard from a leader is no reason to refuse.
        transfer: bool,
    },
    /// The answer to a `Vote`.
    VoteAnswer {
        /// Whether this answers a pre-vote.
        pre_vote: bool,
        /// Whether the vote is given.
        granted: bool,
    },
    /// The follower needs entries that the leader no longer has, so here is the whole state.
    Snapshot(Rc<Snapshot<S>>),
    /// A proposal that a follower forwards to the leader.
    Propose {
        /// What is proposed.
        payloads: Payloads<P>,
    },
    /// A read index request that a follower forwards to the leader.
    ReadIndex {
        /// The requester's own name for the request.
        context: u64,
    },
    /// The answer to a `ReadIndex`.
    ReadIndexAnswer {
        /// The index that must be applied before the read is served.
        index: Index,
        /// The context of the request.
        context: u64,
    },
    /// Asks the leader to hand over to a member.
    TransferLeader {
        /// Who shall lead.
        transferee: MemberId,
    },
    /// The leader asks the receiver to campaign at once.
    TimeoutNow,
}

impl<P, S> Body<P, S> {
    /// Answers that stand for something which must be durable first, even where messages may overtake the sync: votes
    /// and acknowledged (or refused) appends. etcd-io/raft holds refusals back as well, to be on the safe side.
    pub(super) fn waits_for_sync(&self) -> bool {
        matches!(self, Body::Appended { .. } | Body::AppendRejected { .. } | Body::VoteAnswer { .. })
    }
}

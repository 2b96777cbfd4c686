//! What a leader knows and assumes about each member: how far its log agrees and what is on the way to it.

use std::collections::VecDeque;

use super::{Index, MemberId};

/// How the leader sends entries to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressState {
    /// One append at a time, to find where the logs agree.
    Probe,
    /// Appends are sent ahead of their answers, up to the window.
    Replicate,
    /// A snapshot is on the way; nothing else is sent until it has arrived or failed.
    Snapshot {
        /// The index of that snapshot.
        pending: Index,
    },
}

/// One member as its leader sees it. Between `matched` and `next` lies what is on the way.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The member.
    pub id: MemberId,
    /// A learner receives the log and is never counted.
    pub is_learner: bool,
    /// The last entry known to agree with the leader's and to be durable there.
    pub matched: Index,
    /// The next entry to send.
    pub next: Index,
    /// How the leader sends.
    pub state: ProgressState,
    /// Whether the member was heard of since the last check of the quorum.
    pub recently_active: bool,
    /// No append is sent until the member is heard of: a probe is out, or the window is full.
    pub paused: bool,
    /// What the member said in the election under way.
    pub(super) vote: Option<bool>,
    /// How many reads the member has confirmed by answering heartbeats of this term.
    pub(super) confirmed_reads: u64,
    /// The highest commit index on the way to the member.
    sent_commit: Index,
    /// The last index of each append on the way, oldest first.
    in_flight: VecDeque<Index>,
}

impl Progress {
    /// A member that has just joined, about which nothing is known but where to begin. It counts as heard of, so that a
    /// leader does not step down before it could hear from it.
    pub(super) fn new(id: MemberId, next: Index) -> Progress {
        Progress {
            id,
            is_learner: false,
            matched: 0,
            next,
            state: ProgressState::Probe,
            recently_active: true,
            paused: false,
            vote: None,
            confirmed_reads: 0,
            sent_commit: 0,
            in_flight: VecDeque::new(),
        }
    }

    /// Forgets everything, for a new term; keeps the buffers.
    pub(super) fn reset(&mut self, next: Index) {
        let mut in_flight = std::mem::take(&mut self.in_flight);
        in_flight.clear();
        let is_learner = self.is_learner;
        *self = Progress { is_learner, recently_active: false, in_flight, ..Progress::new(self.id, next) };
    }

    /// How many appends are on the way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether nothing may be sent now.
    pub fn is_paused(&self) -> bool {
        match self.state {
            ProgressState::Probe | ProgressState::Replicate => self.paused,
            ProgressState::Snapshot { .. } => true,
        }
    }

    /// Whether as many appends are on the way as the window allows.
    pub(super) fn is_window_full(&self, window: usize) -> bool {
        self.in_flight.len() >= window
    }

    fn enter(&mut self, state: ProgressState) {
        self.paused = false;
        self.state = state;
        self.in_flight.clear();
    }

    /// Begins to look for the point of agreement: after the snapshot that was on the way, or after what is known to agree.
    pub(super) fn become_probe(&mut self) {
        self.next = match self.state {
            ProgressState::Snapshot { pending } => self.matched.max(pending) + 1,
            ProgressState::Probe | ProgressState::Replicate => self.matched + 1,
        };
        self.enter(ProgressState::Probe);
        self.sent_commit = self.sent_commit.min(self.next - 1);
    }

    /// Begins to send ahead of the answers.
    pub(super) fn become_replicate(&mut self) {
        self.enter(ProgressState::Replicate);
        self.next = self.matched + 1;
    }

    /// Waits for a snapshot to arrive.
    pub(super) fn become_snapshot(&mut self, pending: Index) {
        self.enter(ProgressState::Snapshot { pending });
        self.next = pending + 1;
        self.sent_commit = pending;
    }

    /// The snapshot did not arrive: what it would have brought must be sent again.
    pub(super) fn snapshot_failed(&mut self) {
        self.state = ProgressState::Snapshot { pending: 0 };
        self.become_probe();
    }

    /// Notes that an append with `entries` entries and this commit index is on the way. A probe pauses the flow only if
    /// it carries entries, as in etcd-io/raft.
    pub(super) fn sent_append(&mut self, entries: u64, commit: Index, window: usize) {
        match self.state {
            ProgressState::Replicate => {
                if entries > 0 {
                    self.next += entries;
                    self.in_flight.push_back(self.next - 1);
                }
                self.paused = self.is_window_full(window);
            }
            ProgressState::Probe => self.paused |= entries > 0,
            ProgressState::Snapshot { .. } => unreachable!("nothing is appended while a snapshot is on the way"),
        }
        self.sent_commit = commit;
    }

    /// Notes that a heartbeat with this commit index is on the way.
    pub(super) fn sent_heartbeat(&mut self, commit: Index) {
        self.sent_commit = commit;
    }

    /// Whether telling the member about `commit` would let it commit more than what is on the way already does.
    pub(super) fn can_bump_commit(&self, commit: Index) -> bool {
        commit > self.sent_commit && self.sent_commit < self.next - 1
    }

    /// The member has everything up to `index`. False if that was known.
    pub(super) fn update(&mut self, index: Index) -> bool {
        if index <= self.matched {
            return false;
        }
        self.matched = index;
        self.next = self.next.max(index + 1);
        self.paused = false;
        true
    }

    /// The appends up to `index` have arrived.
    pub(super) fn free_up_to(&mut self, index: Index) {
        while self.in_flight.front().is_some_and(|&last| last <= index) {
            self.in_flight.pop_front();
        }
    }

    /// The member refused an append after `rejected` and may agree at `hint`. False if the refusal is outdated.
    pub(super) fn decrease(&mut self, rejected: Index, hint: Index) -> bool {
        if self.state == ProgressState::Replicate {
            if rejected <= self.matched {
                return false;
            }
            self.next = self.matched + 1;
        } else {
            // A member that is probed has one append on the way; a refusal of any other is a late one.
            if self.next - 1 != rejected {
                return false;
            }
            self.next = rejected.min(hint.saturating_add(1)).max(self.matched + 1);
            self.paused = false;
        }
        self.sent_commit = self.sent_commit.min(self.next - 1);
        true
    }
}

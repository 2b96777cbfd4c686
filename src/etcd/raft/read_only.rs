//! Reads that wait until a quorum confirms that their leader was still the leader when they arrived.
//!
//! The leader counts the reads of its term. A heartbeat carries the position of the last read that waits; who answers it
//! confirms every read up to there. So one round of heartbeats confirms any number of reads.

use std::collections::VecDeque;

use super::{Index, MemberId};

/// One read of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadRequest {
    /// Who reads.
    pub from: MemberId,
    /// The reader's name for it.
    pub context: u64,
}

/// The reads of one leader in one term.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadOnly {
    /// Reads that arrived before the leader had committed anything in its term, when its commit index may lag behind what
    /// earlier leaders acknowledged.
    postponed: Vec<ReadRequest>,
    /// Reads that wait for a quorum, with the commit index at their arrival.
    unconfirmed: VecDeque<(ReadRequest, Index)>,
    /// How many reads of this term were confirmed.
    confirmed: u64,
}

impl ReadOnly {
    /// Forgets everything, for a new term.
    pub fn reset(&mut self) {
        self.postponed.clear();
        self.unconfirmed.clear();
        self.confirmed = 0;
    }

    /// Keeps the read for the first commit of the term.
    pub fn postpone(&mut self, request: ReadRequest) {
        self.postponed.push(request);
    }

    /// The reads that waited for the first commit of the term.
    pub fn take_postponed(&mut self) -> Vec<ReadRequest> {
        std::mem::take(&mut self.postponed)
    }

    /// Adds a read, to be served at `commit` once confirmed.
    pub fn add(&mut self, request: ReadRequest, commit: Index) {
        self.unconfirmed.push_back((request, commit));
    }

    /// The position of the last read that waits; 0 if none does.
    pub fn position(&self) -> u64 {
        if self.unconfirmed.is_empty() { 0 } else { self.confirmed + self.unconfirmed.len() as u64 }
    }

    /// The next read up to `position`, which a quorum has confirmed.
    pub fn next_confirmed(&mut self, position: u64) -> Option<(ReadRequest, Index)> {
        if self.confirmed >= position {
            return None;
        }
        let read = self.unconfirmed.pop_front()?;
        self.confirmed += 1;
        Some(read)
    }
}

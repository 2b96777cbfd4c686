//! Who belongs to the group, as one member sees it, and the snapshots that carry it.

use std::rc::Rc;

use super::configuration::{Configuration, ConfigurationChange, ConfigurationError};
use super::entry::{Command, EntryId, Payload, Payloads};
use super::node::Raft;
use super::progress::Progress;
use super::snapshot::{Snapshot, SnapshotError};
use super::{Index, Role, StepError};

impl<P: Command, S: Clone> Raft<P, S> {
    /// Proposes a membership change. While an earlier one may not have been applied, the leader puts an empty entry in its
    /// place, so the proposer sees an `Empty` payload committed instead.
    pub fn propose_configuration_change(&mut self, change: ConfigurationChange) -> Result<(), StepError> {
        let mut payloads = Payloads::new();
        payloads.push(Payload::Configuration(change));
        self.handle_proposal(payloads)
    }

    /// Puts a membership change into force. To be called when its entry is applied, before the batch's `advance`, unless
    /// the application refuses the change. It takes effect with its application, not with its arrival in the log.
    pub fn apply_configuration_change(
        &mut self,
        change: ConfigurationChange,
    ) -> Result<&Configuration, ConfigurationError> {
        let next = self.configuration.after(change)?;
        self.replace_configuration(next);
        if self.role == Role::Leader && self.position(self.id).is_some_and(|own| !self.peers[own].is_learner) {
            self.follow_up_on_change();
        }
        Ok(&self.configuration)
    }

    /// A quorum may be smaller now, and new members are sent the log at once rather than at the next heartbeat.
    fn follow_up_on_change(&mut self) {
        if self.commit_what_a_quorum_has() {
            self.after_commit();
        } else {
            for position in 0..self.peers.len() {
                if self.peers[position].id != self.id {
                    self.send_append(position, false);
                }
            }
        }
        if self.transferee.is_some_and(|transferee| self.configuration.voters().binary_search(&transferee).is_err()) {
            self.transferee = None;
        }
    }

    /// Takes over a membership; what is known about members that stay is kept. New members count as just heard of, so
    /// that a leader does not step down before it could hear from them.
    pub(super) fn replace_configuration(&mut self, configuration: Configuration) {
        let mut former = std::mem::take(&mut self.peers);
        let next = self.log.last_index().max(1);
        let members = configuration
            .voters()
            .iter()
            .map(|id| (*id, false))
            .chain(configuration.learners().iter().map(|id| (*id, true)));
        for (id, is_learner) in members {
            let mut peer = match former.iter().position(|peer| peer.id == id) {
                Some(position) => former.swap_remove(position),
                None => Progress::new(id, next),
            };
            peer.is_learner = is_learner;
            self.peers.push(peer);
        }
        self.peers.sort_unstable_by_key(|peer| peer.id);
        self.configuration = Rc::new(configuration);
    }

    /// Keeps a snapshot of the application's state after the entry `index`, for members that fall behind and for
    /// `compact`. `configuration` is the membership after that entry.
    pub fn store_snapshot(&mut self, index: Index, configuration: Configuration, data: S) -> Result<(), SnapshotError> {
        if index > self.log.applied() {
            return Err(SnapshotError::NotApplied);
        }
        let term = self.log.term(index).ok_or(SnapshotError::OutOfDate)?;
        self.log.store_snapshot(Snapshot { last: EntryId { term, index }, configuration, data })
    }

    /// Drops the entries up to `index`, which must be applied and covered by a stored snapshot. Members that need them are
    /// sent the snapshot. etcd keeps the last 5,000 for those that are only a little behind.
    pub fn compact(&mut self, index: Index) -> Result<(), SnapshotError> {
        self.log.compact(index)
    }
}

//! The log of one member in memory: which entries it holds, how far they are committed, applied and durable.

use std::collections::VecDeque;
use std::rc::Rc;

use super::entry::{Command, Entries, Entry, EntryId, Payload};
use super::snapshot::{Snapshot, SnapshotError};
use super::{Corruption, Index, Term};

/// The log. It begins after `compacted`, the last entry that only snapshots know. Always
/// `applied <= applying <= committed <= last`, and `durable <= last`.
#[derive(Clone, Debug)]
pub struct Log<P, S> {
    compacted: EntryId,
    entries: VecDeque<Entry<P>>,
    committed: Index,
    /// Handed out to be applied.
    applying: Index,
    applied: Index,
    /// Known to be on disk.
    durable: Index,
    /// Handed out to be written. What follows a truncation is handed out again.
    offered: Index,
    /// The latest snapshot, for members that need entries which are gone.
    snapshot: Option<Rc<Snapshot<S>>>,
    /// A snapshot received from the leader that is not on disk yet.
    received: Option<Rc<Snapshot<S>>>,
    /// Whether `received` has been handed out.
    received_offered: bool,
}

impl<P, S> Log<P, S> {
    /// The log as the disk holds it: a snapshot, if any, and the entries after it. Entries that the snapshot covers or that
    /// do not follow without a gap are left out.
    pub(super) fn restore(snapshot: Option<Rc<Snapshot<S>>>, entries: impl IntoIterator<Item = Entry<P>>) -> Log<P, S> {
        let compacted = snapshot.as_ref().map_or(EntryId::default(), |snapshot| snapshot.last);
        let mut kept = VecDeque::new();
        let mut last = compacted.index;
        for entry in entries {
            if entry.index == last + 1 {
                last += 1;
                kept.push_back(entry);
            }
        }
        Log {
            compacted,
            entries: kept,
            committed: compacted.index,
            applying: compacted.index,
            applied: compacted.index,
            durable: last,
            offered: last,
            snapshot,
            received: None,
            received_offered: false,
        }
    }

    /// The last entry that has been dropped because a snapshot covers it.
    pub fn compacted(&self) -> EntryId {
        self.compacted
    }

    /// The index of the first entry held; one above the last if none is.
    pub fn first_index(&self) -> Index {
        self.compacted.index + 1
    }

    /// The index of the last entry.
    pub fn last_index(&self) -> Index {
        self.compacted.index + self.entries.len() as u64
    }

    /// The last entry's name.
    pub fn last(&self) -> EntryId {
        self.entries.back().map_or(self.compacted, Entry::id)
    }

    /// The highest index known to be committed.
    pub fn committed(&self) -> Index {
        self.committed
    }

    /// The highest index that the application has applied.
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// The highest index known to be on disk.
    pub fn durable(&self) -> Index {
        self.durable
    }

    /// The term of the entry at `index`, if the log still (or already) knows it.
    pub fn term(&self, index: Index) -> Option<Term> {
        match index.checked_sub(self.compacted.index)? {
            0 => Some(self.compacted.term),
            offset => self.entries.get(usize::try_from(offset - 1).ok()?).map(|entry| entry.term),
        }
    }

    /// Whether the log contains this very entry.
    pub fn contains(&self, id: EntryId) -> bool {
        self.term(id.index) == Some(id.term)
    }

    /// The entries from `low` to `high`, both included, as far as they are held.
    pub fn entries(&self, low: Index, high: Index) -> impl Iterator<Item = &Entry<P>> {
        let end = self.offset_after(high).min(self.entries.len());
        let start = self.offset_after(low.saturating_sub(1)).min(end);
        self.entries.range(start..end)
    }

    /// The position in `entries` just after the entry `index`.
    fn offset_after(&self, index: Index) -> usize {
        index.saturating_sub(self.compacted.index) as usize
    }

    /// The latest snapshot, to be sent to a member that needs entries which are gone.
    pub fn snapshot(&self) -> Option<&Rc<Snapshot<S>>> {
        self.received.as_ref().or(self.snapshot.as_ref())
    }

    /// Whether a snapshot from the leader still has to be written and applied.
    pub(super) fn has_received_snapshot(&self) -> bool {
        self.received.is_some()
    }

    /// The last index at or below `index` whose term is not above `term`, with that term: the highest place where this log
    /// may agree with one whose term is `term` at `index`. The term is 0 where this log no longer knows it.
    pub(super) fn last_not_above(&self, index: Index, term: Term) -> EntryId {
        let mut index = index;
        while index > 0 {
            match self.term(index) {
                None => return EntryId { term: 0, index },
                Some(ours) if ours <= term => return EntryId { term: ours, index },
                Some(_) => index -= 1,
            }
        }
        EntryId::default()
    }

    /// Adds an entry of the leader's own at the end.
    pub(super) fn push(&mut self, term: Term, data: Payload<P>) {
        let index = self.last_index() + 1;
        self.entries.push_back(Entry { term, index, data });
    }

    /// Takes over the leader's entries after `previous`: skips those it has, replaces those that differ, and commits as
    /// far as the leader did. Answers the last index that now agrees, or `None` if `previous` is not in the log.
    pub(super) fn append(
        &mut self,
        previous: EntryId,
        entries: Entries<P>,
        leader_commit: Index,
    ) -> Result<Option<Index>, Corruption> {
        if !self.contains(previous) {
            return Ok(None);
        }
        let last_new = previous.index + entries.len() as u64;
        let known = if previous.index == self.last_index() {
            0
        } else {
            entries.iter().take_while(|entry| self.contains(entry.id())).count()
        };
        if known < entries.len() {
            let first = previous.index + 1 + known as u64;
            if first <= self.committed {
                return Err(Corruption::ConflictWithCommitted { index: first, committed: self.committed });
            }
            self.truncate_from(first);
            for entry in entries.into_iter().skip(known) {
                self.entries.push_back(entry);
            }
        }
        self.commit_to(leader_commit.min(last_new))?;
        Ok(Some(last_new))
    }

    /// Drops the entries from `index` on; what takes their place has to be written again.
    fn truncate_from(&mut self, index: Index) {
        self.entries.truncate(self.offset_after(index - 1));
        self.durable = self.durable.min(index - 1);
        self.offered = self.offered.min(index - 1);
    }

    /// Notes that the log is committed up to `index`. A log that does not reach so far has lost what it once acknowledged.
    pub(super) fn commit_to(&mut self, index: Index) -> Result<(), Corruption> {
        if index > self.committed {
            if index > self.last_index() {
                return Err(Corruption::CommitBeyondLog { commit: index, last: self.last_index() });
            }
            self.committed = index;
        }
        Ok(())
    }

    /// Commits up to `index` if the entry there is of `term`: a leader counts replicas only for entries of its own term.
    pub(super) fn commit_in_term(&mut self, index: Index, term: Term) -> bool {
        if index <= self.committed || self.term(index) != Some(term) {
            return false;
        }
        self.committed = index;
        true
    }

    /// Whether a committed entry that has not been applied changes the membership.
    pub(super) fn has_unapplied_configuration_change(&self) -> bool {
        self.applied < self.committed
            && self
                .entries(self.applied + 1, self.committed)
                .any(|entry| matches!(entry.data, Payload::Configuration(_)))
    }

    /// Replaces everything by a snapshot of the leader. What was durable and committed stays so until it is overwritten.
    pub(super) fn install(&mut self, snapshot: Rc<Snapshot<S>>) {
        self.durable = self.durable.min(self.committed);
        self.compacted = snapshot.last;
        self.entries.clear();
        self.committed = snapshot.last.index;
        self.offered = snapshot.last.index;
        self.received = Some(snapshot);
        self.received_offered = false;
    }

    /// Keeps a snapshot of the application's state after `snapshot.last`, for members that fall behind.
    pub(super) fn store_snapshot(&mut self, snapshot: Snapshot<S>) -> Result<(), SnapshotError> {
        if self.snapshot().is_some_and(|current| current.last.index >= snapshot.last.index) {
            return Err(SnapshotError::OutOfDate);
        }
        self.snapshot = Some(Rc::new(snapshot));
        Ok(())
    }

    /// Drops the entries up to `index`. They must be applied and covered by the stored snapshot.
    pub(super) fn compact(&mut self, index: Index) -> Result<(), SnapshotError> {
        if index > self.applied || self.snapshot.as_ref().is_none_or(|snapshot| snapshot.last.index < index) {
            return Err(SnapshotError::NotApplied);
        }
        let Some(term) = self.term(index) else { return Err(SnapshotError::OutOfDate) };
        self.entries.drain(..self.offset_after(index));
        self.compacted = EntryId { term, index };
        Ok(())
    }

    /// Whether there is anything to write or to apply.
    pub(super) fn has_work(&self) -> bool {
        self.offered < self.last_index()
            || (self.received.is_some() && !self.received_offered)
            || (self.applying < self.committed && self.received.is_none())
    }

    /// Hands out the snapshot to be written, once.
    pub(super) fn offer_snapshot(&mut self) -> Option<Rc<Snapshot<S>>> {
        if self.received_offered {
            return None;
        }
        self.received_offered = self.received.is_some();
        self.received.clone()
    }

    /// The snapshot up to `index` is on disk and with the application.
    pub(super) fn snapshot_written(&mut self, index: Index) {
        if self.received.as_ref().is_some_and(|received| received.last.index == index) {
            self.snapshot = self.received.take();
            self.durable = self.durable.max(index);
            self.applying = self.applying.max(index);
            self.applied = self.applied.max(index);
        }
    }

    /// The entries up to `last` are on disk, unless others have taken their place since.
    pub(super) fn written(&mut self, last: EntryId) {
        if last.index > self.durable && self.contains(last) && self.received.is_none() {
            self.durable = last.index;
            self.offered = self.offered.max(last.index);
        }
    }

    /// Everything committed up to `index` has been applied.
    pub(super) fn applied_to(&mut self, index: Index) {
        self.applied = self.applied.max(index.min(self.committed));
        self.applying = self.applying.max(self.applied);
    }
}

impl<P: Command, S> Log<P, S> {
    /// The entries from `low` on, at least one if there is one, and no more than fit into `limit_bytes`.
    pub(super) fn slice(&self, low: Index, limit_bytes: u64) -> Entries<P> {
        let mut size_bytes = 0;
        let mut slice = Entries::new();
        for entry in self.entries(low, Index::MAX) {
            size_bytes += entry.size_bytes();
            if size_bytes > limit_bytes && !slice.is_empty() {
                break;
            }
            slice.push(entry.clone());
        }
        slice
    }

    /// Hands out the entries that must be written.
    pub(super) fn offer_entries(&mut self, into: &mut Vec<Entry<P>>) {
        let last = self.last_index();
        if self.offered < last {
            into.extend(self.entries(self.offered + 1, last).cloned());
            self.offered = last;
        }
    }

    /// Hands out committed entries to be applied, at most `limit_bytes` of them but at least one. While a snapshot waits
    /// there is nothing to apply: it comes first.
    pub(super) fn offer_committed(&mut self, limit_bytes: u64, into: &mut Vec<Entry<P>>) {
        if self.received.is_some() || self.applying >= self.committed {
            return;
        }
        let (start, end) = (self.offset_after(self.applying), self.offset_after(self.committed));
        let mut size_bytes = 0;
        for entry in self.entries.range(start..end) {
            size_bytes += entry.size_bytes();
            if size_bytes > limit_bytes && !into.is_empty() {
                break;
            }
            into.push(entry.clone());
        }
        self.applying += into.len() as u64;
    }
}

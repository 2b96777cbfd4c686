//! The state that the log builds: keys with their versions, the order in which they changed, and leases.
//!
//! Reading is in `range`, writing in `txn`, forgetting in `compact`.

use super::changes::Changes;
use super::index::{KeyIndex, Slot};
use super::readers::Readers;
use super::version::Version;
use crate::etcd::key::Key;
use crate::etcd::lease::{LeaseId, LeaseTable};
use crate::etcd::value::Value;

/// The state after the last log entry that any member has applied.
#[derive(Debug)]
pub(super) struct State<V> {
    /// All keys.
    pub index: KeyIndex<V>,
    /// All changes at or after `floor`, in order. Between compactions it also serves watches that begin in the past.
    pub changes: Changes,
    /// The last revision. An empty store is at revision 1.
    pub revision: u64,
    /// Where the last compaction cut; zero: never.
    pub compacted: u64,
    /// What lies before this revision is being removed from memory; never above what any member that counts has compacted.
    pub floor: u64,
    /// Whether removal has caught up with `floor`.
    pub swept: bool,
    /// Who may still ask for what lies after `floor`.
    pub readers: Readers,
    /// How many of `changes` the readers have all been told of, so that what these changes replaced is gone.
    pub told: usize,
    /// The last revision up to which something that was replaced may be gone.
    pub gone: u64,
    /// Leases and what is attached to them.
    pub leases: LeaseTable,
    /// Bytes of all existing keys and values: what a snapshot has to carry.
    pub live_bytes: u64,
    /// Values that went with their leases, and at which revision, for those who look on from outside.
    pub lapsed: Vec<(V, u64)>,
}

/// A revision that is being written.
#[derive(Debug)]
pub(super) struct Revision {
    /// Its number: one more than the last.
    pub main: u64,
    /// How many changes it has so far.
    pub changes: u32,
}

impl<V: Value> State<V> {
    /// An empty store.
    pub fn new() -> Self {
        State {
            index: KeyIndex::new(),
            changes: Changes::default(),
            revision: 1,
            compacted: 0,
            floor: 0,
            swept: true,
            readers: Readers::default(),
            told: 0,
            gone: 0,
            leases: LeaseTable::default(),
            live_bytes: 0,
            lapsed: Vec::new(),
        }
    }

    /// Whether a member that has come to a revision and no further sees a state of which something has been removed.
    pub fn is_gone(&self, revision: u64) -> bool {
        revision < self.floor.max(self.gone)
    }

    /// Begins a revision. It comes into being only if something changes.
    pub fn begin(&self) -> Revision {
        Revision { main: self.revision + 1, changes: 0 }
    }

    /// Ends a revision; without changes the store stays where it was.
    pub fn end(&mut self, written: &Revision) {
        if written.changes > 0 {
            self.revision = written.main;
        }
    }

    /// Writes a value.
    pub fn put(&mut self, key: &Key, value: V, lease: Option<LeaseId>, revision: &mut Revision) {
        let main = revision.main;
        value.stamp(main);
        let size = value.size_bytes();
        let sub = revision.changes;
        let mut version = Version { main, created: main, lease, sub, version: 1, value: Some(value) };
        let slot = match self.index.find(key) {
            Some(slot) => {
                let history = self.index.history_mut(slot);
                let before = &history.newest;
                let old_lease = before.lease;
                if let Some(old) = &before.value {
                    version.created = before.created;
                    version.version = before.version.saturating_add(1);
                    self.live_bytes -= old.size_bytes();
                } else {
                    self.live_bytes += key.len() as u64;
                }
                history.push(version);
                if let Some(old_lease) = old_lease {
                    self.leases.detach(old_lease, slot);
                }
                slot
            }
            None => {
                self.live_bytes += key.len() as u64;
                self.index.insert(key, version)
            }
        };
        self.live_bytes += size;
        if let Some(lease) = lease {
            self.leases.attach(lease, slot);
        }
        self.note(slot, revision);
    }

    /// Deletes a key that exists.
    pub fn delete(&mut self, slot: Slot, revision: &mut Revision) {
        let history = self.index.history_mut(slot);
        let old_lease = history.newest.lease;
        if let Some(old) = &history.newest.value {
            self.live_bytes -= old.size_bytes() + history.key.len() as u64;
        }
        history.push(Version {
            main: revision.main,
            created: 0,
            lease: None,
            sub: revision.changes,
            version: 0,
            value: None,
        });
        if let Some(lease) = old_lease {
            self.leases.detach(lease, slot);
        }
        self.note(slot, revision);
    }

    fn note(&mut self, slot: Slot, revision: &mut Revision) {
        self.changes.push(revision.main, slot);
        revision.changes += 1;
    }
}

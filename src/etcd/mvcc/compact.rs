//! Forgetting history. A compaction takes effect for a member when that member applies it; memory is given back later,
//! a little with each write, and never what a member that counts may still read. What no reader can ask for any more goes
//! before that.

use super::store::{Change, State};
use crate::etcd::error::Error;
use crate::etcd::value::Value;

/// A compaction must lie after the last one and not in the future.
pub(super) fn check_compaction(revision: u64, present: u64, compacted: u64) -> Result<(), Error> {
    if revision <= compacted {
        return Err(Error::Compacted);
    }
    if revision > present {
        return Err(Error::FutureRevision);
    }
    Ok(())
}

impl<V: Value> State<V> {
    /// Allows to forget what no read at or after `floor` can see.
    pub(super) fn raise_floor(&mut self, floor: u64) {
        if floor > self.floor {
            self.floor = floor;
            self.swept = false;
        }
    }

    /// Forgets at most `batch` changes, and removes deleted keys of which nothing is left. Changes at the floor itself
    /// stay: one may watch from there.
    pub(super) fn sweep(&mut self, batch: usize) {
        if self.swept {
            return;
        }
        for _ in 0..batch {
            match self.changes.front() {
                Some(&change) if change.main < self.floor => {
                    self.changes.pop_front();
                    self.told = self.told.saturating_sub(1);
                    self.forget(change);
                }
                _ => {
                    self.sweep_floor();
                    return;
                }
            }
        }
    }

    /// Forgets what at most `batch` changes replaced and no reader can ask for any more. No member that counts reads before `bound`.
    /// The changes themselves stay until they are compacted, and so do deleted keys, without their values.
    pub(super) fn forget_what_was_told(&mut self, bound: u64, batch: usize) {
        for _ in 0..batch {
            let Some(&change) = self.changes.get(self.told) else { return };
            let history = self.index.history_mut(change.slot);
            match self.readers.told(&history.key, bound) {
                Some(told) if told < change.main => return,
                Some(told) => {
                    history.forget_before(told);
                    self.gone = self.gone.max(told);
                }
                None => {}
            }
            self.told += 1;
        }
    }

    /// The last step of a removal: what was overwritten at the floor itself.
    fn sweep_floor(&mut self) {
        let floor = self.floor;
        let at_floor = self.changes.partition_point(|change| change.main <= floor);
        for place in 0..at_floor {
            let change = self.changes[place];
            self.forget(change);
        }
        self.swept = true;
        if self.changes.capacity() > 4 * self.changes.len() + 1024 {
            self.changes.shrink_to(2 * self.changes.len());
        }
    }

    /// Forgets what the floor allows of the key of one change. The key itself goes with its last change, so that no
    /// other change still names its slot.
    fn forget(&mut self, change: Change) {
        let history = self.index.history_mut(change.slot);
        if history.forget_before(self.floor) && history.newest.main == change.main {
            self.index.remove(change.slot);
        }
    }
}

//! Forgetting history. A compaction takes effect for a member when that member applies it; memory is given back later,
//! a little with each write, and never what a member that counts may still read. What no reader can ask for any more goes
//! before that.

use super::index::Slot;
use super::store::State;
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
            match self.changes.get(0) {
                Some((main, slot)) if main < self.floor => {
                    self.changes.pop_first();
                    self.told = self.told.saturating_sub(1);
                    self.forget(main, slot);
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
            let Some((main, slot)) = self.changes.get(self.told) else { return };
            let history = self.index.history_mut(slot);
            match self.readers.told(&history.key, bound) {
                Some(told) if told < main => return,
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
        for place in 0..self.changes.place_of(self.floor + 1) {
            if let Some((main, slot)) = self.changes.get(place) {
                self.forget(main, slot);
            }
        }
        self.swept = true;
        self.changes.tidy();
    }

    /// Forgets what the floor allows of the key of one change. The key itself goes with its last change, so that no
    /// other change still names its slot.
    fn forget(&mut self, main: u64, slot: Slot) {
        let history = self.index.history_mut(slot);
        if history.forget_before(self.floor) && history.newest.main == main {
            self.index.remove(slot);
        }
    }
}

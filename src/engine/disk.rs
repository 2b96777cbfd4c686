//! Disks: when a write is durable, and what a crash leaves.
//!
//! Two things that a process needs separately: [`DiskQueue`] says when its requests complete, [`Disk`] keeps what it has
//! written apart from what is durable. Neither schedules anything, and neither merges requests: a process that wants
//! group commit, as a write-ahead log does, collects while a request runs and writes the collection at once.

use super::distribution::Distribution;
use super::random::Stream;
use super::time::{SimDuration, SimTime};
use std::collections::VecDeque;
use std::ops::Range;

/// What a machine's disk is like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiskProfile {
    /// How long a write takes to reach the operating system and the device's cache, without its length.
    pub write: Distribution,
    /// How long it takes until the device promises that what was written survives.
    pub fsync: Distribution,
    /// The rate at which bytes are written. Zero means at once.
    pub bytes_per_second: u64,
}

impl Default for DiskProfile {
    /// A good network-attached SSD: 20 us a write, an fsync of 1 ms in the median and 4 ms at the 99th percentile, 200 MB/s.
    fn default() -> Self {
        DiskProfile {
            write: Distribution::Constant(SimDuration::from_micros(20)),
            fsync: Distribution::log_normal(SimDuration::from_millis(1), SimDuration::from_millis(4)),
            bytes_per_second: 200_000_000,
        }
    }
}

/// The requests of one process to its machine's disk. They complete in the order in which they were made.
#[derive(Clone, Debug)]
pub struct DiskQueue {
    stream: Stream,
    busy_until: SimTime,
}

impl DiskQueue {
    /// A queue without requests that draws its latencies from a stream.
    pub fn new(stream: Stream) -> Self {
        DiskQueue { stream, busy_until: SimTime::ZERO }
    }

    /// Writes bytes and makes them durable. Returns when that is done.
    pub fn write_and_sync(&mut self, now: SimTime, profile: &DiskProfile, bytes: u64) -> SimTime {
        let transfer = match profile.bytes_per_second {
            0 => 0,
            rate => u128::from(bytes) * 1_000_000_000 / u128::from(rate),
        };
        let transfer = SimDuration::from_nanos(u64::try_from(transfer).unwrap_or(u64::MAX));
        let write = self.stream.sample(&profile.write);
        let fsync = self.stream.sample(&profile.fsync);
        self.busy_until = self.busy_until.max(now) + write + transfer + fsync;
        self.busy_until
    }

    /// The process died: its requests no longer keep later ones waiting.
    pub fn crash(&mut self, now: SimTime) {
        self.busy_until = now;
    }
}

/// Names one append to a [`Disk`]. Later appends are greater; no two are equal, whatever was cut off in between.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AppendId(u64);

/// A file to which items are appended: those at its beginning are durable, the rest would not survive a crash.
///
/// An item has a position, counted from zero. The oldest may be dropped (compaction) and the newest cut off, so that others
/// take their positions; a cut takes effect on the durable items at once.
#[derive(Clone, Debug)]
pub struct Disk<T> {
    items: VecDeque<(AppendId, T)>,
    /// The position of the oldest item kept.
    first: u64,
    /// How many items were ever appended.
    appended: u64,
    /// Items appended up to here are durable.
    synced: AppendId,
}

impl<T> Default for Disk<T> {
    fn default() -> Self {
        Disk { items: VecDeque::new(), first: 0, appended: 0, synced: AppendId(0) }
    }
}

impl<T> Disk<T> {
    /// Appends an item that is not durable yet. Pass what this returns to [`Disk::synced`] when the request that
    /// contained the item completes.
    pub fn append(&mut self, item: T) -> AppendId {
        self.appended += 1;
        let id = AppendId(self.appended);
        self.items.push_back((id, item));
        id
    }

    /// What was appended up to and including `last` is durable now, as far as it was not cut off.
    pub fn synced(&mut self, last: AppendId) {
        self.synced = self.synced.max(last);
    }

    /// The process or its machine dies: what is not durable is gone. Returns how many items that were.
    pub fn crash(&mut self) -> usize {
        let kept = self.durable_count();
        let lost = self.items.len() - kept;
        self.items.truncate(kept);
        lost
    }

    /// Cuts off all items from a position on, as a log does whose end is overwritten.
    pub fn truncate(&mut self, from: u64) {
        let kept = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.items.truncate(kept);
    }

    /// Drops durable items before a position. Items that are not durable stay.
    pub fn drop_before(&mut self, position: u64) {
        let wanted = usize::try_from(position.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let count = wanted.min(self.durable_count());
        self.items.drain(..count);
        self.first += count as u64;
    }

    fn durable_count(&self) -> usize {
        self.items.partition_point(|(id, _)| *id <= self.synced)
    }

    /// The position after the last item.
    pub fn end(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    /// The positions of the durable items.
    pub fn durable(&self) -> Range<u64> {
        self.first..self.first + self.durable_count() as u64
    }

    /// The item at a position, durable or not.
    pub fn get(&self, position: u64) -> Option<&T> {
        let (_, item) = self.items.get(usize::try_from(position.checked_sub(self.first)?).ok()?)?;
        Some(item)
    }

    /// All items from the oldest to the newest. After a crash these are the durable ones.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator {
        self.items.iter().map(|(_, item)| item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::random::Seed;
    use proptest::prelude::*;

    #[test]
    fn requests_of_a_process_wait_for_one_another() {
        let ms = SimDuration::from_millis;
        let profile = DiskProfile {
            write: Distribution::Constant(ms(1)),
            fsync: Distribution::Constant(ms(4)),
            bytes_per_second: 1_000,
        };
        let mut queue = DiskQueue::new(Seed(7).stream("etcd-0", "disk"));
        let mut done = |at, bytes| queue.write_and_sync(SimTime::ZERO + ms(at), &profile, bytes).as_millis();
        assert_eq!([done(0, 10), done(1, 0), done(100, 1)], [15, 20, 106]);
        queue.crash(SimTime::ZERO + ms(101));
        assert_eq!(queue.write_and_sync(SimTime::ZERO + ms(101), &profile, 0).as_millis(), 106);
    }

    #[test]
    fn a_crash_loses_exactly_what_was_not_synced() {
        let mut log = Disk::default();
        let ids = ["a", "b", "c"].map(|item| log.append(item));
        log.synced(ids[1]);
        assert_eq!(log.crash(), 1);
        assert_eq!(log.iter().copied().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_request_for_what_was_cut_off_does_not_make_its_replacement_durable() {
        let mut log = Disk::default();
        let old = ["a", "b"].map(|item| log.append(item))[1];
        log.truncate(1);
        let new = log.append("B");
        log.synced(old);
        assert_eq!((log.durable(), log.get(1)), (0..1, Some(&"B")));
        log.synced(new);
        assert_eq!(log.durable(), 0..2);
    }

    proptest! {
        #[test]
        fn what_was_promised_survives_every_crash(acts in prop::collection::vec((0u8..5, 0u64..20), 1..200)) {
            let mut disk = Disk::default();
            // The model: every item at its position with its promise, and how many were dropped.
            let (mut model, mut dropped): (Vec<(AppendId, bool)>, usize) = (Vec::new(), 0);
            for (act, position) in acts {
                match act {
                    0 => {
                        let number = disk.appended + 1;
                        model.push((disk.append(number), false));
                    }
                    1 => {
                        let last = AppendId(position.min(disk.appended));
                        disk.synced(last);
                        model.iter_mut().filter(|(id, _)| *id <= last).for_each(|(_, promised)| *promised = true);
                    }
                    2 => {
                        let before = model.len();
                        model.retain(|(_, promised)| *promised);
                        prop_assert_eq!(disk.crash(), before - model.len());
                    }
                    3 if position as usize >= dropped => {
                        disk.truncate(position);
                        model.truncate(position as usize);
                    }
                    3 => {}
                    _ => {
                        disk.drop_before(position);
                        let promised = model.iter().filter(|(_, promised)| *promised).count();
                        dropped = dropped.max(promised.min(position as usize));
                    }
                }
                let kept: Vec<u64> = model[dropped..].iter().map(|(id, _)| id.0).collect();
                prop_assert_eq!(disk.iter().copied().collect::<Vec<_>>(), &kept[..]);
                prop_assert!((0..kept.len()).all(|index| disk.get((dropped + index) as u64) == Some(&kept[index])));
                let promised = model.iter().filter(|(_, promised)| *promised).count() as u64;
                prop_assert_eq!(disk.durable(), dropped as u64..promised);
                prop_assert_eq!(disk.end(), model.len() as u64);
            }
        }
    }
}

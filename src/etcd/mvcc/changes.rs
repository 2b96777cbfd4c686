//! The order in which keys changed.
//!
//! Between compactions that is a million changes of a busy cluster, so that each takes eight bytes, and memory grows by little.

use std::collections::VecDeque;

use super::index::Slot;

/// One change: which key it was. The version itself lies with the key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Change {
    /// The revision.
    pub main: u64,
    /// The key.
    pub slot: Slot,
    /// The place within the revision.
    pub sub: u32,
}

/// Changes by revision, and in the order in which they were made within one.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Of each change how far its revision lies above `base`, and the key.
    list: VecDeque<(u32, Slot)>,
    base: u64,
}

impl Changes {
    /// Adds a change of a revision that is not below those before.
    pub fn push(&mut self, main: u64, slot: Slot) {
        if self.list.is_empty() {
            self.base = main;
        }
        let above = self.above(main);
        if self.list.len() == self.list.capacity() {
            self.list.reserve_exact(64 + self.list.len() / 4);
        }
        self.list.push_back((above, slot));
    }

    /// How far a revision lies above the base. When that gets too much the base moves up to the first change.
    fn above(&mut self, main: u64) -> u32 {
        if let Ok(above) = u32::try_from(main - self.base) {
            return above;
        }
        let first = self.list.front().map_or(0, |(above, _)| *above);
        self.base += u64::from(first);
        self.list.iter_mut().for_each(|(above, _)| *above -= first);
        u32::try_from(main - self.base).expect("fewer than 2^32 revisions are kept")
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The revision and the key of the change at a place.
    pub fn get(&self, place: usize) -> Option<(u64, Slot)> {
        self.list.get(place).map(|(above, slot)| (self.base + u64::from(*above), *slot))
    }

    /// Takes the first change out.
    pub fn pop_first(&mut self) {
        self.list.pop_front();
    }

    /// Gives back memory that is not used.
    pub fn tidy(&mut self) {
        if self.list.capacity() > 4 * self.list.len() + 1024 {
            self.list.shrink_to(2 * self.list.len());
        }
    }

    /// The place of the first change that was not made before a revision.
    pub fn place_of(&self, main: u64) -> usize {
        let above = main.saturating_sub(self.base);
        // The present revision is asked for at every write: look from the end before searching.
        match self.list.back() {
            Some((last, _)) if u64::from(*last) < above => self.list.len(),
            Some((last, _)) if u64::from(*last) == above => {
                self.list.len() - self.list.iter().rev().take_while(|(there, _)| there == last).count()
            }
            _ => self.list.partition_point(|(there, _)| u64::from(*there) < above),
        }
    }

    /// The changes from revision `first` to revision `last`, both included, in order.
    pub fn between(&self, first: u64, last: u64) -> impl Iterator<Item = Change> + '_ {
        let mut before: Option<Change> = None;
        let changes = self.list.range(self.place_of(first)..).map(move |(above, slot)| {
            let main = self.base + u64::from(*above);
            let sub = before.filter(|before| before.main == main).map_or(0, |before| before.sub + 1);
            let change = Change { main, slot: *slot, sub };
            before = Some(change);
            change
        });
        changes.take_while(move |change| change.main <= last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_with_their_revisions_and_places_however_far_apart_they_are() {
        let mut changes = Changes::default();
        let far = u64::from(u32::MAX) + 4;
        for (main, slot) in [(3, 30), (3, 31), (5, 50), (far, 60), (far, 61), (far, 62)] {
            if main == far && changes.get(0) == Some((3, 30)) {
                changes.pop_first();
                changes.pop_first();
            }
            changes.push(main, slot);
        }
        let between =
            |first, last| changes.between(first, last).map(|it| (it.main, it.slot, it.sub)).collect::<Vec<_>>();
        assert_eq!(between(0, far), [(5, 50, 0), (far, 60, 0), (far, 61, 1), (far, 62, 2)]);
        assert_eq!(between(6, far - 1), []);
        assert_eq!(between(far, far).len(), 3);
        assert_eq!(between(far + 1, far + 9), []);
        assert_eq!([0, 5, 6, far, far + 1].map(|main| changes.place_of(main)), [0, 0, 1, 1, 4]);
        assert_eq!((changes.len(), changes.get(1), changes.get(4)), (4, Some((far, 60)), None));
    }
}

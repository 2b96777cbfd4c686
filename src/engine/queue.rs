//! The future-event list: what is going to happen, ordered by (time, sequence).
//!
//! Two events of the same time happen in the order in which they were scheduled, so there are no ties and nothing
//! depends on the shape of the heap. It never looks into an event and never moves the clock backwards.

use super::process::TimerId;
use super::time::SimTime;
use super::wheel::KeyWheel;

/// Bits of a key that name the slot of the slab in which the event lies.
const SLOT_BITS: u32 = 24;
/// Bits of a key that hold the sequence number.
const SEQUENCE_BITS: u32 = 40;
/// Selects the slot of a key or an id; also the end of the list of vacant slots, so never a slot itself.
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;
/// Below this many dead keys the list is not rebuilt.
const COMPACTION_FLOOR: usize = 64;

/// A list of future events of type `E`.
///
/// Scheduling and taking cost O(log n) in the number of events due within a millisecond (`wheel`); cancelling costs O(1):
/// the event leaves its slot at once, and its key stays behind, dead, until it comes to the top or dead keys outnumber the
/// living.
#[derive(Debug)]
pub struct EventQueue<E> {
    keys: KeyWheel,
    slots: Vec<Slot<E>>,
    /// The first vacant slot, or `SLOT_MASK` if there is none.
    vacant: u64,
    live: usize,
    next_sequence: u64,
    now: SimTime,
}

/// A place for one event.
#[derive(Debug)]
struct Slot<E> {
    /// While occupied: the event's sequence and this slot's number, as in the key. While vacant: the next vacant slot.
    /// Sequences begin at 1, so that the two are never equal.
    id: u64,
    event: Option<E>,
}

impl TimerId {
    /// The sequence number of the event that was scheduled under this id.
    pub const fn sequence(self) -> u64 {
        self.0 >> SLOT_BITS
    }
}

impl<E> Default for EventQueue<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> EventQueue<E> {
    /// A list without events, at the beginning of virtual time. The first event will have sequence 1.
    pub fn new() -> Self {
        EventQueue {
            keys: KeyWheel::new(),
            slots: Vec::new(),
            vacant: SLOT_MASK,
            live: 0,
            next_sequence: 1,
            now: SimTime::ZERO,
        }
    }

    /// How many events are going to happen.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether nothing is going to happen.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// The present: the time of the event taken last, or a later one named to [`EventQueue::advance_to`].
    pub fn now(&self) -> SimTime {
        self.now
    }

    /// The sequence number that the next scheduled event will get.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Schedules an event.
    ///
    /// # Panics
    /// If `at` is in the past, if more than 2^24 - 2 events would be pending at once, or after 2^40 - 1 events
    /// of one run (at a million a second: twelve days). All three are bugs of the caller, not conditions of the input.
    #[inline]
    pub fn schedule(&mut self, at: SimTime, event: E) -> TimerId {
        assert!(at >= self.now, "an event is scheduled in the past: at {at}, now {}", self.now);
        let sequence = self.next_sequence;
        assert!(sequence < 1 << SEQUENCE_BITS, "a run has at most 2^{SEQUENCE_BITS} events");
        self.next_sequence += 1;
        let slot = self.take_vacant_slot();
        let id = sequence << SLOT_BITS | slot;
        self.slots[slot as usize] = Slot { id, event: Some(event) };
        self.keys.push(u128::from(at.as_nanos()) << 64 | u128::from(id));
        self.live += 1;
        TimerId(id)
    }

    /// Takes a scheduled event back. `None` if it has already happened or been cancelled.
    pub fn cancel(&mut self, id: TimerId) -> Option<E> {
        if id.sequence() == 0 {
            return None;
        }
        let event = self.vacate(id.0)?;
        let dead = self.keys.len() - self.live;
        if dead > self.live && dead > COMPACTION_FLOOR {
            let slots = &self.slots;
            self.keys.retain(|key| slots[(key as u64 & SLOT_MASK) as usize].id == key as u64);
        }
        Some(event)
    }

    /// Takes the next event, if it happens at `limit` or before, and moves the present to its time.
    /// Returns its time, its sequence number and the event.
    #[inline]
    pub fn pop_until(&mut self, limit: SimTime) -> Option<(SimTime, u64, E)> {
        // After each event this is asked for another one of the same moment, and mostly there is none.
        if self.keys.may_hold_until(limit) { self.pop_due(limit) } else { None }
    }

    fn pop_due(&mut self, limit: SimTime) -> Option<(SimTime, u64, E)> {
        while self.live > 0 {
            let key = self.keys.least();
            let (at, id) = (SimTime::from_nanos((key >> 64) as u64), key as u64);
            if at > limit {
                return None;
            }
            self.keys.pop();
            if let Some(event) = self.vacate(id) {
                self.now = at;
                return Some((at, id >> SLOT_BITS, event));
            }
        }
        None
    }

    /// When the next event happens; `None` if nothing is going to happen.
    pub fn peek_time(&mut self) -> Option<SimTime> {
        while self.live > 0 {
            let key = self.keys.least();
            if self.slots[(key as u64 & SLOT_MASK) as usize].id == key as u64 {
                return Some(SimTime::from_nanos((key >> 64) as u64));
            }
            self.keys.pop();
        }
        None
    }

    /// Moves the present to `time` without an event. A time before the present changes nothing.
    ///
    /// # Panics
    /// If an event is pending before `time`: it would be left in the past.
    pub fn advance_to(&mut self, time: SimTime) {
        if let Some(next) = self.peek_time() {
            assert!(next >= time, "time is advanced to {time} over an event at {next}");
        }
        self.now = self.now.max(time);
    }

    /// Takes the event out of its slot if the slot still belongs to `id`.
    #[inline]
    fn vacate(&mut self, id: u64) -> Option<E> {
        let number = id & SLOT_MASK;
        let slot = self.slots.get_mut(number as usize)?;
        if slot.id != id {
            return None;
        }
        slot.id = self.vacant;
        self.vacant = number;
        self.live -= 1;
        slot.event.take()
    }

    /// The number of a slot that may be overwritten.
    #[inline]
    fn take_vacant_slot(&mut self) -> u64 {
        if self.vacant == SLOT_MASK {
            let number = self.slots.len() as u64;
            assert!(number < SLOT_MASK, "at most {SLOT_MASK} events may be pending");
            self.slots.push(Slot { id: SLOT_MASK, event: None });
            return number;
        }
        let number = self.vacant;
        self.vacant = self.slots[number as usize].id;
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn at(ns: u64) -> SimTime {
        SimTime::from_nanos(ns)
    }

    #[test]
    fn events_of_one_time_happen_in_the_order_scheduled() {
        let mut queue = EventQueue::new();
        for name in ["first", "second", "third"] {
            queue.schedule(at(5), name);
        }
        queue.schedule(at(4), "earlier");
        let happened: Vec<_> = std::iter::from_fn(|| queue.pop_until(SimTime::MAX)).map(|(_, _, name)| name).collect();
        assert_eq!(happened, ["earlier", "first", "second", "third"]);
    }

    #[test]
    fn a_cancelled_event_does_not_happen_and_its_id_is_not_valid_again() {
        let mut queue = EventQueue::new();
        let id = queue.schedule(at(1), 'a');
        assert_eq!(queue.cancel(id), Some('a'));
        let reused = queue.schedule(at(1), 'b');
        assert_eq!(queue.cancel(id), None, "the slot now belongs to another event");
        assert_eq!(queue.pop_until(at(1)), Some((at(1), reused.sequence(), 'b')));
        assert_eq!(queue.cancel(reused), None, "it has already happened");
        assert_eq!(queue.cancel(TimerId(0)), None);
    }

    #[test]
    fn an_event_after_the_limit_stays() {
        let mut queue = EventQueue::new();
        queue.schedule(at(10), ());
        assert_eq!(queue.pop_until(at(9)), None);
        assert_eq!((queue.len(), queue.now()), (1, SimTime::ZERO));
        assert!(queue.pop_until(at(10)).is_some());
        assert_eq!(queue.now(), at(10));
    }

    #[test]
    #[should_panic(expected = "scheduled in the past")]
    fn nothing_can_be_scheduled_in_the_past() {
        let mut queue = EventQueue::new();
        queue.advance_to(at(2));
        queue.schedule(at(1), ());
    }

    #[test]
    #[should_panic(expected = "over an event")]
    fn time_does_not_pass_over_an_event() {
        let mut queue = EventQueue::new();
        queue.schedule(at(1), ());
        queue.advance_to(at(2));
    }

    #[test]
    fn timers_set_and_cancelled_for_ever_leave_no_heap_of_dead_keys() {
        let mut queue = EventQueue::new();
        queue.schedule(at(1_000_000), 0);
        for round in 1..100_000 {
            let id = queue.schedule(at(round), 1);
            queue.cancel(id);
        }
        assert!(queue.keys.len() <= 2 * COMPACTION_FLOOR, "{} keys for one event", queue.keys.len());
        assert!(queue.slots.len() <= 2);
        assert_eq!(queue.peek_time(), Some(at(1_000_000)));
    }

    /// What a test does to the list.
    #[derive(Clone, Debug)]
    enum Act {
        Schedule { delay: u64 },
        Cancel { which: usize },
        Pop { within: u64 },
        Peek,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => (0u64..50).prop_map(|delay| Act::Schedule { delay }),
            3 => (0usize..1000).prop_map(|which| Act::Cancel { which }),
            2 => (0u64..30).prop_map(|within| Act::Pop { within }),
            1 => Just(Act::Peek),
        ]
    }

    proptest! {
        #[test]
        fn the_list_behaves_as_an_ordered_map_of_time_and_sequence(acts in prop::collection::vec(act(), 1..1500)) {
            let mut queue = EventQueue::new();
            let mut model: BTreeMap<(SimTime, u64), u64> = BTreeMap::new();
            let mut issued: Vec<(TimerId, SimTime)> = Vec::new();
            for act in acts {
                match act {
                    Act::Schedule { delay } => {
                        let (time, sequence) = (at(queue.now().as_nanos() + delay), queue.next_sequence());
                        let id = queue.schedule(time, sequence * 7);
                        prop_assert_eq!(id.sequence(), sequence);
                        model.insert((time, sequence), sequence * 7);
                        issued.push((id, time));
                    }
                    Act::Cancel { which } if !issued.is_empty() => {
                        let (id, time) = issued[which % issued.len()];
                        prop_assert_eq!(queue.cancel(id), model.remove(&(time, id.sequence())));
                    }
                    Act::Cancel { .. } => {}
                    Act::Pop { within } => {
                        let limit = at(queue.now().as_nanos() + within);
                        let expected = model.first_key_value().filter(|(key, _)| key.0 <= limit).map(|(&key, _)| key);
                        let expected = expected.map(|key| (key.0, key.1, model.remove(&key).unwrap()));
                        prop_assert_eq!(queue.pop_until(limit), expected);
                    }
                    Act::Peek => prop_assert_eq!(queue.peek_time(), model.keys().next().map(|key| key.0)),
                }
                prop_assert_eq!(queue.len(), model.len());
            }
        }
    }
}

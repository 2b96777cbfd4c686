//! The trace: what happened, when, to whom, and because of what.
//!
//! Every event knows its cause, so the trace is a tree whose root is the beginning of the run, and from any event one can
//! walk back to the line of the scenario that brought it about. What an event's kind and operands mean is the cluster's
//! affair. A trace that is off records nothing and takes no memory; it never influences a run.

use super::hash::{Map, Set};
use super::process::{Cause, ProcessId};
use super::time::SimTime;

/// One event that happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceEvent {
    /// Its place in the order in which events were scheduled; also its name in a [`Cause`].
    pub sequence: u64,
    /// When it happened.
    pub time: SimTime,
    /// What brought it about.
    pub cause: Cause,
    /// To which process it happened.
    pub process: ProcessId,
    /// What happened: an index into the table of names with which the trace was made.
    pub kind: u16,
    /// What it happened with; the meaning depends on the kind.
    pub operands: [u64; 2],
}

/// Records events, or nothing.
#[derive(Debug, Default)]
pub struct Trace {
    store: Option<Box<Store>>,
}

/// Events one after the other, each as seven numbers of variable length: 15 to 25 bytes as a rule.
#[derive(Debug)]
struct Store {
    kinds: &'static [&'static str],
    /// The causes of what was scheduled and has not happened.
    pending: Map<u64, Cause>,
    bytes: Vec<u8>,
    events: usize,
}

impl Trace {
    /// A trace that records nothing.
    pub const fn off() -> Self {
        Trace { store: None }
    }

    /// A trace that records everything. Kind number `n` is called `kinds[n]`.
    pub fn recording(kinds: &'static [&'static str]) -> Self {
        Trace { store: Some(Box::new(Store { kinds, pending: Map::default(), bytes: Vec::new(), events: 0 })) }
    }

    /// Whether anything is recorded.
    #[inline]
    pub const fn is_on(&self) -> bool {
        self.store.is_some()
    }

    /// Notes why an event was scheduled.
    ///
    /// # Panics
    /// If the cause was not scheduled before its effect.
    #[inline]
    pub fn scheduled(&mut self, sequence: u64, cause: Cause) {
        if let Some(store) = &mut self.store {
            assert!(cause.0 < sequence, "event {sequence} is said to be caused by the later event {}", cause.0);
            store.pending.insert(sequence, cause);
        }
    }

    /// Notes that a scheduled event will not happen.
    #[inline]
    pub fn cancelled(&mut self, sequence: u64) {
        if let Some(store) = &mut self.store {
            store.pending.remove(&sequence);
        }
    }

    /// Records that a scheduled event happens. One of which nothing was noted has the beginning of the run as its cause.
    #[inline]
    pub fn happened(&mut self, sequence: u64, time: SimTime, process: ProcessId, kind: u16, operands: [u64; 2]) {
        if let Some(store) = &mut self.store {
            let cause = store.pending.remove(&sequence).unwrap_or(Cause::NONE);
            store.append(&TraceEvent { sequence, time, cause, process, kind, operands });
        }
    }

    /// How many events are kept.
    pub fn len(&self) -> usize {
        self.store.as_ref().map_or(0, |store| store.events)
    }

    /// Whether no event is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes the events take.
    pub fn bytes(&self) -> usize {
        self.store.as_ref().map_or(0, |store| store.bytes.len())
    }

    /// The name of a kind; empty if the table has none.
    pub fn kind_name(&self, kind: u16) -> &'static str {
        self.store.as_ref().and_then(|store| store.kinds.get(usize::from(kind))).copied().unwrap_or("")
    }

    /// The events in the order in which they happened.
    pub fn events(&self) -> impl Iterator<Item = TraceEvent> {
        self.located().map(|(_, event)| event)
    }

    /// Makes events findable by their sequence. Costs time and memory proportional to the trace, so it is for the end of a run.
    pub fn index(&self) -> TraceIndex<'_> {
        let mut places: Vec<(u64, usize)> = self.located().map(|(place, event)| (event.sequence, place)).collect();
        places.sort_unstable();
        TraceIndex { bytes: self.store.as_ref().map_or(&[], |store| &store.bytes), places }
    }

    /// Forgets all events but the given ones, those that led to them and those that led to what is still pending.
    pub fn retain_ancestors(&mut self, of: impl IntoIterator<Item = Cause>) {
        let Some(store) = &self.store else { return };
        let mut wanted: Set<u64> = of.into_iter().chain(store.pending.values().copied()).map(|cause| cause.0).collect();
        let index = self.index();
        // Causes have smaller sequences than their effects, so one pass from the end finds them all.
        for &(sequence, place) in index.places.iter().rev() {
            if wanted.contains(&sequence) {
                wanted.insert(index.read(place).cause.0);
            }
        }
        let kept: Vec<TraceEvent> = self.events().filter(|event| wanted.contains(&event.sequence)).collect();
        if let Some(store) = &mut self.store {
            (store.bytes, store.events) = (Vec::new(), 0);
            kept.iter().for_each(|event| store.append(event));
        }
    }

    /// The events with the places at which they are stored.
    fn located(&self) -> impl Iterator<Item = (usize, TraceEvent)> {
        let bytes: &[u8] = self.store.as_ref().map_or(&[], |store| &store.bytes);
        let mut place = 0;
        std::iter::from_fn(move || {
            let begin = place;
            (begin < bytes.len()).then(|| (begin, decode(bytes, &mut place)))
        })
    }
}

/// A trace whose events can be found by sequence.
#[derive(Debug)]
pub struct TraceIndex<'a> {
    bytes: &'a [u8],
    /// Sequence and place of every event, sorted.
    places: Vec<(u64, usize)>,
}

impl TraceIndex<'_> {
    /// The event with this sequence; none if it did not happen or was forgotten.
    pub fn get(&self, event: Cause) -> Option<TraceEvent> {
        let found = self.places.binary_search_by_key(&event.0, |&(sequence, _)| sequence).ok()?;
        Some(self.read(self.places[found].1))
    }

    /// An event, what caused it, what caused that, and so on to the beginning of the run, the latest first.
    pub fn chain(&self, event: Cause) -> impl Iterator<Item = TraceEvent> {
        std::iter::successors(self.get(event), |effect| self.get(effect.cause))
    }

    fn read(&self, mut place: usize) -> TraceEvent {
        decode(self.bytes, &mut place)
    }
}

impl Store {
    fn append(&mut self, event: &TraceEvent) {
        let numbers = [
            event.sequence,
            event.sequence - event.cause.0,
            event.time.as_nanos(),
            u64::from(event.process.0),
            u64::from(event.kind),
            event.operands[0],
            event.operands[1],
        ];
        for number in numbers {
            put(&mut self.bytes, number);
        }
        self.events += 1;
    }
}

/// Reads what [`Store::append`] wrote, and moves on to the next event.
fn decode(bytes: &[u8], place: &mut usize) -> TraceEvent {
    let mut next = || take(bytes, place);
    let sequence = next();
    TraceEvent {
        sequence,
        cause: Cause(sequence - next()),
        time: SimTime::from_nanos(next()),
        process: ProcessId(next() as u32),
        kind: next() as u16,
        operands: [next(), next()],
    }
}

/// Appends a number, seven bits a byte, the lowest first; the highest bit of a byte says that more follow.
#[inline]
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Takes a number off again.
#[inline]
fn take(bytes: &[u8], place: &mut usize) -> u64 {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = bytes[*place];
        *place += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return number;
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KINDS: &[&str] = &["begin", "message", "timer"];

    fn happen(trace: &mut Trace, sequence: u64, cause: u64, at: u64) {
        trace.scheduled(sequence, Cause(cause));
        trace.happened(sequence, SimTime::from_nanos(at), ProcessId(3), 1, [sequence * 100, 0]);
    }

    fn sequences(events: impl Iterator<Item = TraceEvent>) -> Vec<u64> {
        events.map(|event| event.sequence).collect()
    }

    /// Two chains, 1 <- 2 <- 4 <- 6 and 1 <- 3 <- 5, not in the order of their sequences.
    fn two_chains() -> Trace {
        let mut trace = Trace::recording(KINDS);
        for (sequence, cause, at) in [(1, 0, 0), (3, 1, 5), (2, 1, 9), (5, 3, 10), (4, 2, 12), (6, 4, 30)] {
            happen(&mut trace, sequence, cause, at);
        }
        trace
    }

    #[test]
    fn a_chain_leads_from_an_event_to_the_beginning() {
        let trace = two_chains();
        let index = trace.index();
        assert_eq!(sequences(index.chain(Cause(6))), [6, 4, 2, 1]);
        assert_eq!(sequences(index.chain(Cause(5))), [5, 3, 1]);
        assert_eq!(sequences(index.chain(Cause(7))), [0; 0]);
        assert_eq!(index.get(Cause(4)).map(|event| event.operands), Some([400, 0]));
        assert_eq!((trace.kind_name(1), trace.kind_name(9)), ("message", ""));
    }

    #[test]
    fn pruning_keeps_ancestors_of_what_is_asked_for_and_of_what_is_pending() {
        let mut trace = two_chains();
        trace.retain_ancestors([Cause(4)]);
        assert_eq!(sequences(trace.events()), [1, 2, 4]);
        let mut trace = two_chains();
        trace.scheduled(7, Cause(5));
        trace.scheduled(8, Cause(6));
        trace.cancelled(8);
        trace.retain_ancestors([]);
        assert_eq!(sequences(trace.events()), [1, 3, 5]);
        trace.happened(7, SimTime::from_nanos(40), ProcessId(0), 2, [0, 0]);
        assert_eq!(sequences(trace.index().chain(Cause(7))), [7, 5, 3, 1]);
    }

    #[test]
    fn a_trace_that_is_off_keeps_nothing() {
        let mut trace = Trace::off();
        happen(&mut trace, 1, 0, 0);
        trace.retain_ancestors([Cause(1)]);
        assert_eq!((trace.len(), trace.bytes(), trace.events().count()), (0, 0, 0));
        assert_eq!(trace.index().get(Cause(1)), None);
        assert_eq!(std::mem::size_of::<Trace>(), 8);
    }

    #[test]
    #[should_panic(expected = "caused by the later event")]
    fn an_effect_does_not_come_before_its_cause() {
        Trace::recording(KINDS).scheduled(5, Cause(5));
    }

    #[test]
    fn a_typical_event_takes_less_than_32_bytes() {
        let mut trace = Trace::recording(KINDS);
        for sequence in 1..=10_000 {
            trace.scheduled(sequence, Cause(sequence.saturating_sub(1_000)));
            let time = SimTime::from_nanos(3_600_000_000_000 + sequence * 1_000_003);
            trace.happened(sequence, time, ProcessId(900), 77, [sequence << 20, 1_000_000]);
        }
        assert!(trace.bytes() <= 24 * trace.len(), "{} bytes", trace.bytes());
    }

    proptest! {
        #[test]
        fn what_is_recorded_is_read_again(
            given in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>(), any::<u16>(), any::<[u64; 2]>()), 0..30),
        ) {
            let mut trace = Trace::recording(KINDS);
            let events: Vec<TraceEvent> = given.into_iter().map(|(sequence, cause, time, process, kind, operands)| {
                let sequence = sequence.max(1);
                let (time, cause) = (SimTime::from_nanos(time), Cause(cause % sequence));
                TraceEvent { sequence, time, cause, process: ProcessId(process), kind, operands }
            }).collect();
            for event in &events {
                trace.scheduled(event.sequence, event.cause);
                trace.happened(event.sequence, event.time, event.process, event.kind, event.operands);
            }
            prop_assert_eq!(trace.len(), events.len());
            prop_assert_eq!(trace.events().collect::<Vec<_>>(), events);
        }
    }
}

//! The queue between informers and workers (client-go, `workqueue`): each key once, never worked on twice at a time, back
//! after a delay or, after failures, with a back-off.
//!
//! It has no timer of its own: it says when it wants to be asked again.
//!
//! Each key carries the event because of which it was added. A key that is added again before anybody has taken it keeps the first
//! one: that is what made the work happen when it does, and work looks at the newest state, whatever it was that changed it. So a
//! chain of causes that passes through a queue names the first of several triggers, and never one that came later.

use std::collections::{BTreeMap, VecDeque};
use std::hash::Hash;

use super::rate_limit::RateLimit;
use crate::engine::hash::Map;
use crate::engine::process::Cause;
use crate::engine::time::{SimDuration, SimTime};

/// How long a failing key waits: `first` doubling to `last`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryDelays {
    /// After the first failure.
    pub first: SimDuration,
    /// At most.
    pub last: SimDuration,
    /// Never less than the key's place in the bucket of all failures: 100 at once and 10 a second.
    pub overall: bool,
}

/// client-go, `DefaultTypedControllerRateLimiter`.
impl Default for RetryDelays {
    fn default() -> Self {
        RetryDelays { first: SimDuration::from_millis(5), last: SimDuration::from_secs(1000), overall: true }
    }
}

/// How long after its work is done a key is taken again that was added meanwhile, if that is less than the reaction time. By then
/// informers have seen what the work has written: the watch event of a write and its answer leave a real API server at about
/// the same time. In the recordings of a real control plane slices of a Service were some twenty times written without a
/// change that had just happened; the next look, which takes a second if its cache is behind, corrected that within 7 to 60 ms
/// but once.
const AFTER_DONE: SimDuration = SimDuration::from_millis(2);

/// A work queue.
pub struct WorkQueue<K> {
    items: Map<K, Item>,
    /// Keys to be worked on, first come first served, and from when on.
    ready: VecDeque<(SimTime, K)>,
    /// Keys that will be added later, in the order of their times.
    later: BTreeMap<(SimTime, u64), K>,
    sequence: u64,
    processing: usize,
    delays: RetryDelays,
    failures: RateLimit,
    reaction: SimDuration,
}

#[derive(Default)]
struct Item {
    /// To be worked on, and because of what.
    dirty: Option<Cause>,
    /// A worker has it.
    processing: bool,
    /// Its place in `later`, and because of what.
    later: Option<((SimTime, u64), Cause)>,
    /// How often it failed in a row.
    failures: u32,
}

impl<K: Clone + Eq + Hash> WorkQueue<K> {
    /// An empty queue. A key that is added may be taken `reaction` later, the time that informer, queue and worker take
    /// to hand it on.
    pub fn new(delays: RetryDelays, reaction: SimDuration) -> Self {
        WorkQueue {
            items: Map::default(),
            ready: VecDeque::new(),
            later: BTreeMap::new(),
            sequence: 0,
            processing: 0,
            delays,
            failures: RateLimit::per_second(10, 100),
            reaction,
        }
    }

    /// Adds a key because of `cause`, unless it is there already. A key that is being worked on is added when that is done.
    pub fn add(&mut self, key: K, now: SimTime, cause: Cause) {
        self.add_ready(key, now + self.reaction, cause);
    }

    /// Adds a key after a delay, or earlier if it was to be added earlier already.
    pub fn add_after(&mut self, key: K, delay: SimDuration, now: SimTime, cause: Cause) {
        if delay == SimDuration::ZERO {
            return self.add(key, now, cause);
        }
        self.sequence += 1;
        let place = (now + delay, self.sequence);
        let item = self.items.entry(key.clone()).or_default();
        match item.later {
            Some((earlier, _)) if earlier.0 <= place.0 => return,
            Some((known, _)) => {
                self.later.remove(&known);
            }
            None => {}
        }
        item.later = Some((place, cause));
        self.later.insert(place, key);
    }

    /// Adds a key after a failure: with the key's own back-off, or when the bucket of all failures lets it.
    pub fn add_rate_limited(&mut self, key: K, now: SimTime, cause: Cause) {
        let item = self.items.entry(key.clone()).or_default();
        let doubled =
            1u64.checked_shl(item.failures).map_or(SimDuration::from_nanos(u64::MAX), |f| self.delays.first * f);
        item.failures += 1;
        let own = doubled.min(self.delays.last);
        let overall = if self.delays.overall { self.failures.reserve(now).since(now) } else { SimDuration::ZERO };
        self.add_after(key, own.max(overall), now, cause);
    }

    /// Forgets that a key failed.
    pub fn forget(&mut self, key: &K) {
        if let Some(item) = self.items.get_mut(key) {
            item.failures = 0;
        }
        self.drop_idle(key);
    }

    /// How often a key failed since it was last forgotten.
    pub fn num_requeues(&self, key: &K) -> u32 {
        self.items.get(key).map_or(0, |item| item.failures)
    }

    /// The next key to work on, if there is one now, and what put it there. Ends with [`WorkQueue::done`].
    pub fn take(&mut self, now: SimTime) -> Option<(K, Cause)> {
        self.bring_in(now);
        if self.ready.front()?.0 > now {
            return None;
        }
        let (_, key) = self.ready.pop_front()?;
        let item = self.items.get_mut(&key).expect("what is ready is known");
        item.processing = true;
        self.processing += 1;
        let cause = item.dirty.take().unwrap_or_default();
        Some((key, cause))
    }

    /// Ends the work on a key. If it was added meanwhile, it may soon be taken again.
    pub fn done(&mut self, key: &K, now: SimTime) {
        let Some(item) = self.items.get_mut(key) else { return };
        if std::mem::replace(&mut item.processing, false) {
            self.processing -= 1;
            if item.dirty.is_some() {
                self.ready.push_back((now + self.reaction.min(AFTER_DONE), key.clone()));
            }
        }
        self.drop_idle(key);
    }

    /// How many keys are being worked on.
    pub fn processing(&self) -> usize {
        self.processing
    }

    /// How many keys wait to be taken, those to be added later not counted.
    pub fn len(&self) -> usize {
        self.ready.len()
    }

    /// True if no key waits to be taken, now or later.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.later.is_empty()
    }

    /// When to ask again if a worker is free; none if that need not be before something is added.
    pub fn next_time(&self) -> Option<SimTime> {
        let ready = self.ready.front().map(|(at, _)| *at);
        let later = self.later.first_key_value().map(|((at, _), _)| *at);
        match (ready, later) {
            (Some(ready), Some(later)) => Some(ready.min(later)),
            (ready, later) => ready.or(later),
        }
    }

    fn add_ready(&mut self, key: K, at: SimTime, cause: Cause) {
        let Some(item) = self.items.get_mut(&key) else {
            self.items.insert(key.clone(), Item { dirty: Some(cause), ..Item::default() });
            self.ready.push_back((at, key));
            return;
        };
        if item.dirty.is_none() {
            item.dirty = Some(cause);
            if !item.processing {
                self.ready.push_back((at, key));
            }
        }
    }

    /// Adds the delayed keys whose time has come.
    fn bring_in(&mut self, now: SimTime) {
        while let Some((place, _)) = self.later.first_key_value()
            && place.0 <= now
        {
            let Some(((at, _), key)) = self.later.pop_first() else { return };
            let cause =
                self.items.get_mut(&key).and_then(|item| item.later.take()).map_or(Cause::NONE, |later| later.1);
            self.add_ready(key, at, cause);
        }
    }

    fn drop_idle(&mut self, key: &K) {
        let idle = |item: &Item| item.dirty.is_none() && !item.processing && item.later.is_none() && item.failures == 0;
        if self.items.get(key).is_some_and(idle) {
            self.items.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn millis(ms: u64) -> SimTime {
        SimTime::from_nanos(ms * 1_000_000)
    }

    fn queue() -> WorkQueue<u32> {
        WorkQueue::new(RetryDelays::default(), SimDuration::from_millis(5))
    }

    #[test]
    fn a_key_added_twice_is_taken_once_with_the_first_cause() {
        let mut queue = queue();
        queue.add(7, millis(0), Cause(1));
        queue.add(7, millis(1), Cause(2));
        assert_eq!(queue.take(millis(4)), None);
        assert_eq!(queue.next_time(), Some(millis(5)));
        assert_eq!(queue.take(millis(5)), Some((7, Cause(1))));
        assert_eq!(queue.take(millis(5)), None);
    }

    #[test]
    fn a_key_added_while_it_is_worked_on_comes_again_when_that_is_done() {
        let mut queue = queue();
        queue.add(7, millis(0), Cause(1));
        assert!(queue.take(millis(5)).is_some());
        queue.add(7, millis(6), Cause(2));
        assert_eq!(queue.take(millis(50)), None);
        queue.done(&7, millis(50));
        assert_eq!(queue.take(millis(51)), None, "informers may be behind its own writes");
        assert_eq!(queue.take(millis(52)), Some((7, Cause(2))));
        queue.done(&7, millis(53));
        assert!(queue.is_empty() && queue.items.is_empty(), "nothing is kept of an idle key");
    }

    #[test]
    fn a_failing_key_waits_five_milliseconds_doubling_to_a_thousand_seconds() {
        let mut queue = queue();
        let mut now = millis(0);
        let mut waits = Vec::new();
        for _ in 0..20 {
            queue.add_rate_limited(1, now, Cause(3));
            let at = queue.next_time().expect("it was added");
            waits.push(at.since(now).as_millis());
            now = at;
            assert_eq!(queue.take(now), Some((1, Cause(3))));
            queue.done(&1, now);
        }
        assert_eq!(waits[..8], [5, 10, 20, 40, 80, 160, 320, 640]);
        assert_eq!(waits[17..], [655_360, 1_000_000, 1_000_000]);
        assert_eq!(queue.num_requeues(&1), 20);
        queue.forget(&1);
        assert_eq!(queue.num_requeues(&1), 0);
    }

    #[test]
    fn many_failing_keys_share_ten_retries_a_second_after_a_hundred() {
        let mut queue = queue();
        for key in 0..110 {
            queue.add_rate_limited(key, millis(0), Cause::NONE);
        }
        let mut times = Vec::new();
        while let Some(at) = queue.next_time() {
            let (key, _) = queue.take(at).expect("the queue named the time");
            times.push((key, at.as_millis()));
            queue.done(&key, at);
        }
        assert!(times[..100].iter().all(|(_, at)| *at == 5));
        assert_eq!(times[100..103], [(100, 100), (101, 200), (102, 300)]);
    }

    #[test]
    fn of_two_delays_the_shorter_one_counts() {
        let mut queue = queue();
        queue.add_after(1, SimDuration::from_secs(10), millis(0), Cause(1));
        queue.add_after(1, SimDuration::from_secs(2), millis(0), Cause(2));
        queue.add_after(1, SimDuration::from_secs(5), millis(0), Cause(3));
        assert_eq!(queue.next_time(), Some(millis(2_000)));
        assert_eq!(queue.take(millis(2_000)), Some((1, Cause(2))));
        queue.done(&1, millis(2_000));
        assert!(queue.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Act {
        Add(u8),
        AddAfter(u8, u16),
        Fail(u8),
        Take,
        Done(u8),
        Wait(u16),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            3 => (0u8..6).prop_map(Act::Add),
            2 => (0u8..6, 0u16..50).prop_map(|(key, ms)| Act::AddAfter(key, ms)),
            1 => (0u8..6).prop_map(Act::Fail),
            4 => Just(Act::Take),
            3 => any::<u8>().prop_map(Act::Done),
            3 => (0u16..30).prop_map(Act::Wait),
        ]
    }

    proptest! {
        #[test]
        fn no_key_is_worked_on_twice_at_once_and_every_add_is_worked_on_afterwards(
            acts in proptest::collection::vec(act(), 0..200)
        ) {
            let mut queue: WorkQueue<u8> = WorkQueue::new(RetryDelays::default(), SimDuration::from_millis(5));
            let mut now = SimTime::ZERO;
            let mut working: BTreeSet<u8> = BTreeSet::new();
            // What was asked for and not yet begun after that.
            let mut owed: BTreeMap<u8, usize> = BTreeMap::new();
            for (step, act) in acts.into_iter().enumerate() {
                match act {
                    Act::Add(key) => {
                        queue.add(key, now, Cause(1));
                        owed.insert(key, step);
                    }
                    Act::AddAfter(key, ms) => {
                        queue.add_after(key, SimDuration::from_millis(u64::from(ms)), now, Cause(1));
                        owed.insert(key, step);
                    }
                    Act::Fail(key) => {
                        queue.add_rate_limited(key, now, Cause(1));
                        owed.insert(key, step);
                    }
                    Act::Take => {
                        if let Some((key, _)) = queue.take(now) {
                            prop_assert!(working.insert(key), "key {} twice at once", key);
                            // A delayed add may still come; it is owed until the queue is drained below.
                            if queue.items.get(&key).is_none_or(|item| item.later.is_none()) {
                                owed.remove(&key);
                            }
                        }
                    }
                    Act::Done(which) => {
                        if let Some(key) = working.iter().copied().nth(usize::from(which) % working.len().max(1)) {
                            working.remove(&key);
                            queue.done(&key, now);
                        }
                    }
                    Act::Wait(ms) => now += SimDuration::from_millis(u64::from(ms)),
                }
                prop_assert_eq!(queue.processing(), working.len());
            }
            for key in std::mem::take(&mut working) {
                queue.done(&key, now);
            }
            while let Some(at) = queue.next_time() {
                now = now.max(at);
                match queue.take(now) {
                    Some((key, _)) => {
                        owed.remove(&key);
                        queue.done(&key, now);
                    }
                    // A delayed key found itself behind another one's reaction time.
                    None => prop_assert!(queue.next_time().is_none_or(|next| next > now), "stuck at {}", now),
                }
            }
            prop_assert!(owed.is_empty(), "never worked on: {:?}", owed);
        }
    }
}

//! Which pod is scheduled next (kube-scheduler, `backend/queue`): active, back-off and unschedulable pods.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::event::ClusterEvent;
use crate::api::meta::Uid;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::engine::hash::Map;
use crate::engine::process::Cause;
use crate::engine::time::{SimDuration, SimTime};

/// The first back-off, doubled with every attempt up to the longest.
const FIRST_BACK_OFF: SimDuration = SimDuration::from_secs(1);
const LONGEST_BACK_OFF: SimDuration = SimDuration::from_secs(10);

/// A pod on its way through the queue.
#[derive(Clone, Debug)]
pub struct Queued {
    /// The pod as last seen.
    pub pod: Rc<Pod>,
    /// When it was last put into the queue.
    pub since: SimTime,
    /// How often it was tried.
    pub attempts: u32,
    /// The places of the plugins that rejected it.
    pub rejected_by: Vec<usize>,
    /// What put it into the queue.
    pub cause: Cause,
}

/// The queue.
#[derive(Default)]
pub struct Queue {
    active: BTreeMap<(Reverse<i64>, SimTime, u64), Queued>,
    back_off: BTreeMap<(SimTime, u64), Queued>,
    unschedulable: BTreeMap<u64, Queued>,
    places: Map<Uid, Place>,
    sequence: u64,
}

#[derive(Clone, Copy)]
enum Place {
    Active((Reverse<i64>, SimTime, u64)),
    BackOff((SimTime, u64)),
    Unschedulable(u64),
}

impl Queue {
    /// How many pods wait.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True if none waits.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Puts a pod into the active queue.
    pub fn add(&mut self, queued: Queued, rank: i64) {
        self.remove(queued.pod.meta.uid);
        self.sequence += 1;
        let key = (Reverse(rank), queued.since, self.sequence);
        self.places.insert(queued.pod.meta.uid, Place::Active(key));
        self.active.insert(key, queued);
    }

    /// Replaces what is known of a waiting pod; false if it does not wait.
    pub fn update(&mut self, pod: &Rc<Pod>) -> bool {
        let queued = match self.places.get(&pod.meta.uid) {
            Some(Place::Active(key)) => self.active.get_mut(key),
            Some(Place::BackOff(key)) => self.back_off.get_mut(key),
            Some(Place::Unschedulable(key)) => self.unschedulable.get_mut(key),
            None => None,
        };
        queued.map(|queued| queued.pod = pod.clone()).is_some()
    }

    /// Takes a pod out.
    pub fn remove(&mut self, pod: Uid) -> Option<Queued> {
        match self.places.remove(&pod)? {
            Place::Active(key) => self.active.remove(&key),
            Place::BackOff(key) => self.back_off.remove(&key),
            Place::Unschedulable(key) => self.unschedulable.remove(&key),
        }
    }

    /// The next pod to be scheduled.
    pub fn pop(&mut self, now: SimTime, rank: impl Fn(&Pod) -> i64) -> Option<Queued> {
        self.end_back_offs(now, rank);
        let (_, mut queued) = self.active.pop_first()?;
        self.places.remove(&queued.pod.meta.uid);
        queued.attempts += 1;
        Some(queued)
    }

    /// When the next back-off ends.
    pub fn next_time(&self) -> Option<SimTime> {
        self.back_off.first_key_value().map(|((at, _), _)| *at)
    }

    /// Puts a pod back that could not be scheduled.
    pub fn add_unschedulable(&mut self, mut queued: Queued, now: SimTime) {
        queued.since = now;
        self.sequence += 1;
        self.places.insert(queued.pod.meta.uid, Place::Unschedulable(self.sequence));
        self.unschedulable.insert(self.sequence, queued);
    }

    /// Puts a pod back that is to be tried again after its back-off.
    pub fn add_back_off(&mut self, mut queued: Queued, now: SimTime) {
        queued.since = now;
        self.sequence += 1;
        let key = (now + back_off(queued.attempts), self.sequence);
        self.places.insert(queued.pod.meta.uid, Place::BackOff(key));
        self.back_off.insert(key, queued);
    }

    /// Lets unschedulable pods be tried again for which an event may have changed something.
    pub fn move_all(
        &mut self,
        _event: ClusterEvent,
        _old: Option<&Object>,
        _new: Option<&Object>,
        now: SimTime,
        rank: impl Fn(&Pod) -> i64,
    ) {
        for (_, queued) in std::mem::take(&mut self.unschedulable) {
            let ends = queued.since + back_off(queued.attempts);
            if ends <= now {
                let rank = rank(&queued.pod);
                self.places.remove(&queued.pod.meta.uid);
                self.add(queued, rank);
            } else {
                self.sequence += 1;
                let key = (ends, self.sequence);
                self.places.insert(queued.pod.meta.uid, Place::BackOff(key));
                self.back_off.insert(key, queued);
            }
        }
    }

    fn end_back_offs(&mut self, now: SimTime, rank: impl Fn(&Pod) -> i64) {
        while let Some(entry) = self.back_off.first_entry()
            && entry.key().0 <= now
        {
            let queued = entry.remove();
            let rank = rank(&queued.pod);
            self.places.remove(&queued.pod.meta.uid);
            self.add(queued, rank);
        }
    }
}

fn back_off(attempts: u32) -> SimDuration {
    let doubled = FIRST_BACK_OFF.saturating_mul(1 << attempts.saturating_sub(1).min(10));
    doubled.min(LONGEST_BACK_OFF)
}

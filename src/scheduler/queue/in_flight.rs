//! What happens while pods are being scheduled (kube-scheduler, `activeQueue.inFlightEvents`).
//!
//! A pod that is rejected must be told of the events that came after its cycle began: the cycle cannot have seen them.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::api::meta::Uid;
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::engine::hash::Map;
use crate::scheduler::event::ClusterEvent;

/// Pods that are being scheduled, and the events since the first of them began.
#[derive(Default)]
pub struct InFlight {
    /// For each pod the number of events before it began.
    pods: Map<Uid, u64>,
    events: VecDeque<Recorded>,
    /// The number of the first of `events`.
    first: u64,
}

/// An event that was recorded.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// What happened; none for something that is worth another try whoever rejected a pod: of the pod `new`, or of all pods
    /// if there is no such.
    pub event: Option<ClusterEvent>,
    /// The object before.
    pub old: Option<Object>,
    /// The object after.
    pub new: Option<Object>,
}

impl InFlight {
    /// A pod's cycle begins.
    pub fn begin(&mut self, pod: Uid) {
        self.pods.insert(pod, self.first + self.events.len() as u64);
    }

    /// True while a pod is being scheduled.
    pub fn contains(&self, pod: Uid) -> bool {
        self.pods.contains_key(&pod)
    }

    /// Records an event, if any pod is being scheduled.
    pub fn record(&mut self, event: ClusterEvent, old: Option<&Object>, new: Option<&Object>) {
        if !self.pods.is_empty() {
            self.events.push_back(Recorded { event: Some(event), old: old.cloned(), new: new.cloned() });
        }
    }

    /// Records that one pod, or all pods that are being scheduled, are to be tried again whatever is said of them.
    pub fn record_force(&mut self, pod: Option<&Rc<Pod>>) {
        if pod.map_or(!self.pods.is_empty(), |pod| self.contains(pod.meta.uid)) {
            let new = pod.map(|pod| Object::Pod(pod.clone()));
            self.events.push_back(Recorded { event: None, old: None, new });
        }
    }

    /// The events since a pod's cycle began.
    pub fn events_since(&self, pod: Uid) -> impl Iterator<Item = &Recorded> {
        let began = self.pods.get(&pod).map_or(u64::MAX, |began| began - self.first);
        self.events.iter().skip(usize::try_from(began).unwrap_or(usize::MAX))
    }

    /// A pod's cycle is over; events that no other pod needs are forgotten.
    pub fn end(&mut self, pod: Uid) {
        if self.pods.remove(&pod).is_none() {
            return;
        }
        if self.events.is_empty() {
            return;
        }
        let end = self.first + self.events.len() as u64;
        let needed = self.pods.values().copied().min().unwrap_or(end);
        self.events.drain(..(needed - self.first) as usize);
        self.first = needed;
    }
}

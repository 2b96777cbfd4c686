//! Which pod is scheduled next (kube-scheduler, `backend/queue`).
//!
//! A pod waits in one of four places: the active queue, by rank and time; the back-off queue, after a failure; among the
//! unschedulable pods, until an event that a plugin which rejected it cares about; or behind a gate. While it is being
//! scheduled it is in flight, and what happens meanwhile is kept for it (`in_flight`).
//!
//! If the active queue is empty, a pod is taken out of the back-off queue before its time; one that failed by an error is not.

pub mod back_off;
pub mod in_flight;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::hash::BuildHasherDefault;
use std::rc::Rc;

use priority_queue::PriorityQueue;

use self::back_off::{BackOff, Windows};
use self::in_flight::InFlight;
use super::class::are_alike;
use super::cluster::Cluster;
use super::event::{ClusterEvent, Hint};
use super::framework::PluginSet;
use super::profile::{Profile, Profiles};
use crate::api::meta::{Epoch, Uid};
use crate::api::object::Object;
use crate::api::pod::Pod;
use crate::engine::hash::{FixedHasher, Map};
use crate::engine::process::Cause;
use crate::engine::time::{SimDuration, SimTime};

/// After how long an unschedulable pod is tried again whatever happened (`podMaxInUnschedulablePodsDuration`),
/// and how often it is looked for such pods.
const LONGEST_UNSCHEDULABLE: SimDuration = SimDuration::from_secs(5 * 60);
const FLUSH_PERIOD: SimDuration = SimDuration::from_secs(30);

/// A pod on its way through the queue (kube-scheduler, `QueuedPodInfo`).
#[derive(Clone, Debug)]
pub struct Queued {
    /// The pod as last seen.
    pub pod: Rc<Pod>,
    /// The place of its profile.
    pub profile: usize,
    /// When it came, or when its last attempt failed.
    pub since: SimTime,
    /// How often it was tried.
    pub attempts: u32,
    /// What put it into the queue.
    pub cause: Cause,
    /// The plugins that rejected it last.
    pub rejected_by: PluginSet,
    /// The plugins that did so and say that something is under way that will help.
    pub pending: PluginSet,
    /// How often it was rejected.
    rejections: u32,
    /// How often in a row it failed by an error.
    errors: u32,
    /// The second of the wall clock in which its back-off ends.
    back_off_ends: Option<i64>,
    rank: i64,
    /// The plugin that keeps it out of the queue.
    gate: Option<usize>,
}

/// By rank, then who has waited longer.
type ActiveKey = (i64, Reverse<(SimTime, u64)>);
/// By the end of the back-off, then as in the active queue.
type BackOffKey = (Reverse<i64>, i64, Reverse<(SimTime, u64)>);

type Heap<K> = PriorityQueue<Uid, K, BuildHasherDefault<FixedHasher>>;

/// The queue.
pub struct Queue {
    windows: Windows,
    back_offs: BackOff,
    /// When the looks for pods that are unschedulable for long began.
    began: SimTime,
    pods: Map<Uid, Entry>,
    active: Heap<ActiveKey>,
    back_off: Heap<BackOffKey>,
    error_back_off: Heap<BackOffKey>,
    unschedulable: BTreeSet<(SimTime, u64, Uid)>,
    gated: BTreeSet<(SimTime, u64, Uid)>,
    /// How many unschedulable or gated pods each plugin has rejected, by profile.
    rejected: Vec<[u32; PluginSet::CAPACITY]>,
    in_flight: InFlight,
    sequence: u64,
}

struct Entry {
    queued: Box<Queued>,
    place: Place,
    sequence: u64,
}

/// Where a pod waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In the active queue.
    Active,
    /// In the back-off queue.
    BackOff,
    /// In the back-off queue, after an error.
    ErrorBackOff,
    /// Among the unschedulable pods.
    Unschedulable,
    /// Behind a gate.
    Gated,
}

/// Who says whether an event is worth another try: the plugins of the profiles, which see the cluster as it is.
#[derive(Clone, Copy)]
pub struct Judges<'a> {
    /// The profiles.
    pub profiles: &'a Profiles,
    /// The cluster.
    pub cluster: &'a Cluster,
}

/// Whether and how a pod is put back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Requeue {
    Not,
    AfterBackOff,
    AtOnce,
}

impl Queue {
    /// An empty queue. Back-offs end at whole seconds of the date that `epoch` ties virtual time to.
    pub fn new(epoch: Epoch, back_offs: BackOff) -> Self {
        Queue {
            windows: Windows(epoch),
            back_offs,
            began: SimTime::ZERO,
            pods: Map::default(),
            active: Heap::default(),
            back_off: Heap::default(),
            error_back_off: Heap::default(),
            unschedulable: BTreeSet::new(),
            gated: BTreeSet::new(),
            rejected: Vec::new(),
            in_flight: InFlight::default(),
            sequence: 0,
        }
    }

    /// Begins the looks for pods that have been unschedulable for long.
    pub fn start(&mut self, now: SimTime) {
        self.began = now;
    }

    /// How many pods wait.
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// True if none waits.
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// Where a pod waits.
    pub fn place_of(&self, pod: Uid) -> Option<Place> {
        self.pods.get(&pod).map(|entry| entry.place)
    }

    /// How often a pod that waits was tried.
    pub fn attempts_of(&self, pod: Uid) -> u32 {
        self.pods.get(&pod).map_or(0, |entry| entry.queued.attempts)
    }

    /// True if a pod waits or is being scheduled.
    pub fn knows(&self, pod: Uid) -> bool {
        self.pods.contains_key(&pod) || self.in_flight.contains(pod)
    }

    /// True while a pod is being scheduled.
    pub fn is_in_flight(&self, pod: Uid) -> bool {
        self.in_flight.contains(pod)
    }

    /// Takes a new pod in; does nothing with one that no profile is for.
    pub fn add(&mut self, pod: Rc<Pod>, now: SimTime, cause: Cause, profiles: &Profiles) {
        self.take(pod.meta.uid);
        let Some(profile) = profiles.place_for(&pod) else { return };
        let queued = Queued {
            rank: profiles.at(profile).rank(&pod),
            pod,
            profile,
            since: now,
            attempts: 0,
            cause,
            rejected_by: PluginSet::NONE,
            pending: PluginSet::NONE,
            rejections: 0,
            errors: 0,
            back_off_ends: None,
            gate: None,
        };
        self.activate(Box::new(queued), profiles);
    }

    /// Takes in that a pending pod changed.
    pub fn update(
        &mut self,
        old: &Object,
        pod: &Rc<Pod>,
        events: &[ClusterEvent],
        now: SimTime,
        cause: Cause,
        judges: Judges<'_>,
    ) {
        let uid = pod.meta.uid;
        let new = Object::Pod(pod.clone());
        if self.in_flight.contains(uid) {
            events.iter().for_each(|event| self.in_flight.record(*event, Some(old), Some(&new)));
            return;
        }
        let Some(entry) = self.pods.get_mut(&uid) else { return self.add(pod.clone(), now, cause, judges.profiles) };
        entry.queued.pod = pod.clone();
        if !matches!(entry.place, Place::Unschedulable | Place::Gated) {
            return;
        }
        for event in events {
            let Some(entry) = self.pods.get(&uid) else { return };
            let requeue = is_worth_requeuing(&entry.queued, *event, Some(old), Some(&new), judges);
            if requeue > Requeue::Not
                && let Some(mut queued) = self.take(uid)
            {
                queued.cause = cause;
                self.requeue(queued, requeue, now, judges.profiles);
                if matches!(self.place_of(uid), Some(Place::Active | Place::BackOff)) {
                    return;
                }
            }
        }
    }

    /// Takes a pod out.
    pub fn delete(&mut self, pod: Uid) {
        self.take(pod);
    }

    /// The next pod to be scheduled; it is in flight until [`Queue::done`] or [`Queue::put_back`].
    pub fn pop(&mut self, now: SimTime, profiles: &Profiles) -> Option<Box<Queued>> {
        if self.pods.is_empty() {
            return None;
        }
        self.flush(now, profiles);
        let next = self.active.peek().map(|(uid, _)| *uid).or_else(|| self.back_off.peek().map(|(uid, _)| *uid));
        let mut queued = self.take(next?)?;
        queued.attempts = queued.attempts.saturating_add(1);
        self.in_flight.begin(queued.pod.meta.uid);
        Some(queued)
    }

    /// A pod is no longer being scheduled.
    pub fn done(&mut self, pod: Uid) {
        self.in_flight.end(pod);
    }

    /// Puts a pod back that could not be scheduled: because of what `rejected_by` and `pending` say, or of an error if they
    /// are empty (kube-scheduler, `AddUnschedulableIfNotPresent`).
    pub fn put_back(&mut self, mut queued: Box<Queued>, now: SimTime, judges: Judges<'_>) {
        let uid = queued.pod.meta.uid;
        if !self.pods.contains_key(&uid) {
            if queued.rejected_by.union(queued.pending).is_empty() {
                queued.errors = queued.errors.saturating_add(1);
            } else {
                queued.rejections = queued.rejections.saturating_add(1);
                queued.errors = 0;
            }
            queued.since = now;
            queued.back_off_ends = None;
            let requeue = self.missed(&queued, judges);
            self.requeue(queued, requeue, now, judges.profiles);
        }
        self.in_flight.end(uid);
    }

    /// Whether something happened during a pod's cycle that is worth another try.
    fn missed(&self, queued: &Queued, judges: Judges<'_>) -> Requeue {
        if queued.rejected_by.union(queued.pending).is_empty() {
            return Requeue::AfterBackOff;
        }
        let events = self.in_flight.events_since(queued.pod.meta.uid);
        let worth = events.map(|event| match (event.event, event.new.as_ref()) {
            (Some(known), new) => is_worth_requeuing(queued, known, event.old.as_ref(), new, judges),
            (None, Some(Object::Pod(pod))) if pod.meta.uid != queued.pod.meta.uid => Requeue::Not,
            (None, _) => Requeue::AfterBackOff,
        });
        worth.max().unwrap_or(Requeue::Not)
    }

    /// Puts unschedulable pods back for which an event may have changed something, those that `concerns` names
    /// (kube-scheduler, `MoveAllToActiveOrBackoffQueue`).
    pub fn move_all(
        &mut self,
        event: ClusterEvent,
        old: Option<&Object>,
        new: Option<&Object>,
        concerns: &dyn Fn(&Pod) -> bool,
        now: SimTime,
        judges: Judges<'_>,
    ) {
        let profiles = judges.profiles;
        if profiles.iter().all(|profile| profile.interested_in(event).is_empty()) {
            return;
        }
        let has_rejected = |(profile, rejected): (&Profile, &[u32; PluginSet::CAPACITY])| {
            profile.interested_in(event).iter().any(|plugin| rejected[plugin] > 0)
        };
        if profiles.iter().zip(&self.rejected).any(has_rejected) {
            let waiting = self.unschedulable.iter().chain(&self.gated).map(|(_, _, uid)| *uid);
            let waiting: Vec<Uid> = waiting.collect();
            let mut hints = Hints { event, old, new, last: None };
            for uid in waiting {
                let Some(Entry { queued, .. }) = self.pods.get(&uid) else { continue };
                let interested = profiles.at(queued.profile).interested_in(event);
                if !concerns(&queued.pod) || queued.gate.is_some_and(|gate| !interested.contains(gate)) {
                    continue;
                }
                let requeue = hints.about(queued, judges);
                if requeue > Requeue::Not
                    && let Some(queued) = self.take(uid)
                {
                    self.requeue(queued, requeue, now, profiles);
                }
            }
        }
        self.in_flight.record(event, old, new);
    }

    /// Puts a pod into the active queue that waits elsewhere; one that is being scheduled comes back to it whatever is said of
    /// it (kube-scheduler, `Activate`).
    pub fn force(&mut self, pod: &Rc<Pod>, profiles: &Profiles) {
        match self.place_of(pod.meta.uid) {
            Some(Place::Active) => {}
            // Gates were looked at when it came there.
            Some(Place::BackOff | Place::ErrorBackOff) => {
                if let Some(queued) = self.take(pod.meta.uid) {
                    self.insert(queued, Place::Active);
                }
            }
            Some(Place::Unschedulable | Place::Gated) => {
                if let Some(queued) = self.take(pod.meta.uid) {
                    self.activate(queued, profiles);
                }
            }
            None => self.in_flight.record_force(Some(pod)),
        }
    }

    /// When the queue wants to be looked at again, if nothing else happens.
    pub fn next_time(&self) -> Option<SimTime> {
        let ends =
            self.error_back_off.peek().map(|(_, (Reverse(ends), ..))| self.windows.begin(ends.saturating_add(1)));
        let flush = self.unschedulable.first().map(|(since, ..)| {
            let waited = (*since + LONGEST_UNSCHEDULABLE).since(self.began).as_nanos();
            self.began + FLUSH_PERIOD * (waited / FLUSH_PERIOD.as_nanos() + 1)
        });
        ends.into_iter().chain(flush).min()
    }

    /// Puts pods into the active queue whose back-off is over, and tries those again that have been unschedulable for long.
    fn flush(&mut self, now: SimTime, profiles: &Profiles) {
        let window = self.windows.of(now);
        for place in [Place::BackOff, Place::ErrorBackOff] {
            loop {
                let heap = if place == Place::BackOff { &self.back_off } else { &self.error_back_off };
                let Some((uid, (Reverse(ends), ..))) = heap.peek() else { break };
                let (uid, is_over) = (*uid, *ends < window);
                if !is_over {
                    break;
                }
                if let Some(queued) = self.take(uid) {
                    self.insert(queued, Place::Active);
                }
            }
        }
        let flushed_at = self.began + FLUSH_PERIOD * (now.since(self.began).as_nanos() / FLUSH_PERIOD.as_nanos());
        let mut flushed = false;
        while let Some((since, _, uid)) = self.unschedulable.first()
            && *since + LONGEST_UNSCHEDULABLE < flushed_at
            && let Some(queued) = self.take(*uid)
        {
            self.requeue(queued, Requeue::AfterBackOff, now, profiles);
            flushed = true;
        }
        if flushed {
            // The real one records this as an event that every plugin cares about.
            self.in_flight.record_force(None);
        }
    }

    fn requeue(&mut self, mut queued: Box<Queued>, requeue: Requeue, now: SimTime, profiles: &Profiles) {
        match requeue {
            Requeue::Not => self.insert_waiting(queued),
            Requeue::AfterBackOff if self.is_backing_off(&mut queued, now) => {
                if Self::is_gated(&mut queued, profiles) {
                    return self.insert_waiting(queued);
                }
                let failed = queued.rejected_by.union(queued.pending).is_empty();
                self.insert(queued, if failed { Place::ErrorBackOff } else { Place::BackOff });
            }
            Requeue::AfterBackOff | Requeue::AtOnce => self.activate(queued, profiles),
        }
    }

    fn activate(&mut self, mut queued: Box<Queued>, profiles: &Profiles) {
        if Self::is_gated(&mut queued, profiles) {
            return self.insert_waiting(queued);
        }
        self.insert(queued, Place::Active);
    }

    fn is_gated(queued: &mut Queued, profiles: &Profiles) -> bool {
        queued.gate = profiles.at(queued.profile).gate(&queued.pod, queued.gate);
        if let Some(gate) = queued.gate {
            queued.rejected_by.insert(gate);
        }
        queued.gate.is_some()
    }

    /// The back-off is counted from the failure, so it may be over when an event comes.
    fn is_backing_off(&self, queued: &mut Queued, now: SimTime) -> bool {
        let failures = if queued.errors > 0 { queued.errors } else { queued.rejections };
        if failures == 0 {
            return false;
        }
        let ends =
            *queued.back_off_ends.get_or_insert_with(|| self.windows.of(queued.since + self.back_offs.after(failures)));
        ends >= self.windows.of(now)
    }

    fn insert_waiting(&mut self, queued: Box<Queued>) {
        let place = if queued.gate.is_some() { Place::Gated } else { Place::Unschedulable };
        self.insert(queued, place);
    }

    fn insert(&mut self, queued: Box<Queued>, place: Place) {
        self.sequence += 1;
        let (uid, since, sequence) = (queued.pod.meta.uid, queued.since, self.sequence);
        let waits = Reverse((since, sequence));
        match place {
            Place::Active => {
                self.active.push(uid, (queued.rank, waits));
            }
            Place::BackOff | Place::ErrorBackOff => {
                let heap = if place == Place::BackOff { &mut self.back_off } else { &mut self.error_back_off };
                heap.push(uid, (Reverse(queued.back_off_ends.unwrap_or(i64::MIN)), queued.rank, waits));
            }
            Place::Unschedulable | Place::Gated => {
                let set = if place == Place::Gated { &mut self.gated } else { &mut self.unschedulable };
                set.insert((since, sequence, uid));
                if self.rejected.len() <= queued.profile {
                    self.rejected.resize(queued.profile + 1, [0; PluginSet::CAPACITY]);
                }
                let rejected = &mut self.rejected[queued.profile];
                queued.rejected_by.union(queued.pending).iter().for_each(|plugin| rejected[plugin] += 1);
            }
        }
        self.pods.insert(uid, Entry { queued, place, sequence });
    }

    fn take(&mut self, uid: Uid) -> Option<Box<Queued>> {
        let Entry { queued, place, sequence } = self.pods.remove(&uid)?;
        match place {
            Place::Active => {
                self.active.remove(&uid);
            }
            Place::BackOff => {
                self.back_off.remove(&uid);
            }
            Place::ErrorBackOff => {
                self.error_back_off.remove(&uid);
            }
            Place::Unschedulable | Place::Gated => {
                let set = if place == Place::Gated { &mut self.gated } else { &mut self.unschedulable };
                set.remove(&(queued.since, sequence, uid));
                let rejected = &mut self.rejected[queued.profile];
                queued.rejected_by.union(queued.pending).iter().for_each(|plugin| rejected[plugin] -= 1);
            }
        }
        Some(queued)
    }
}

/// What is said of one event for many pods. Of the replicas of a pod that the same plugins rejected all is said that was said of the
/// one before.
struct Hints<'a> {
    event: ClusterEvent,
    old: Option<&'a Object>,
    new: Option<&'a Object>,
    /// The pod of which something was said last, the plugins that rejected it, and what was said.
    last: Option<(Rc<Pod>, [PluginSet; 2], Requeue)>,
}

impl Hints<'_> {
    fn about(&mut self, queued: &Queued, judges: Judges<'_>) -> Requeue {
        let (pod, rejected) = (&queued.pod, [queued.rejected_by, queued.pending]);
        // Of a pod's own changes more is said than of others', and the claims of ephemeral volumes are named after the pod.
        let mut objects = self.old.into_iter().chain(self.new);
        let is_itself = objects.any(|object| object.meta().uid == pod.meta.uid);
        let mut volumes = pod.spec.full.volumes.iter().flatten();
        let is_like_others = !is_itself && volumes.all(|volume| volume.ephemeral.is_none());
        if let Some((last, by, said)) = &self.last
            && is_like_others
            && Rc::ptr_eq(&last.spec, &pod.spec)
            && *by == rejected
            && are_alike(last, pod, true)
        {
            return *said;
        }
        let said = is_worth_requeuing(queued, self.event, self.old, self.new, judges);
        self.last = is_like_others.then(|| (pod.clone(), rejected, said));
        said
    }
}

/// What the plugins that rejected a pod say of an event (kube-scheduler, `isPodWorthRequeuing`).
fn is_worth_requeuing(
    queued: &Queued,
    event: ClusterEvent,
    old: Option<&Object>,
    new: Option<&Object>,
    judges: Judges<'_>,
) -> Requeue {
    let rejectors = queued.rejected_by.union(queued.pending);
    if rejectors.is_empty() {
        return Requeue::AfterBackOff;
    }
    let profile = judges.profiles.at(queued.profile);
    let mut requeue = Requeue::Not;
    for place in profile.interested_in(event).intersection(rejectors).iter() {
        if profile.plugin(place).hint(&queued.pod, event, old, new, judges.cluster) == Hint::Skip {
            continue;
        }
        if queued.pending.contains(place) {
            return Requeue::AtOnce;
        }
        requeue = Requeue::AfterBackOff;
        if queued.pending.is_empty() {
            break;
        }
    }
    requeue
}
